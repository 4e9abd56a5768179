"""What happens to every request and answer alike, as one plain ASGI middleware.

A request gets an id (the client's own, where it is one); every answer carries it and the security
headers, every problem names it, and every line logged meanwhile; what fails unexpectedly becomes an
incident with that id in the log and nothing of it in the answer. Turned away before anybody looks
at it is what is too long, is meant for another host, or comes too often (`api/budgets.py`). HEAD is
GET without the body (RFC 9110 §9.3.2), also where the body has no end. What went through is
counted. The access log names the route, not the address: no identifier, token, query or body.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Hashable, Mapping

import structlog
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from api import origins, problems
from api.body import UNREAD
from api.budgets import SPEND, Account, Purse, kind_of
from api.doorrefusals import AddressTooLong, HeadTooLarge, TooManyParameters
from api.front import PASSED_ON, Caller, Front
from api.headers import Headers, always
from api.refusals import BodyTooLarge, Internal, NotFound
from api.settings import Settings
from api.traffic import Traffic
from ledger.errors import LedgerError

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
ID_BYTES = 10
LINGER_SECONDS = 2
LINGER_BYTES = 1024 * 1024
MAX_ADDRESS_BYTES = 8 * 1024
MAX_PARAMETERS = 50
SLASH = re.compile(rb"%2f|%5c", re.IGNORECASE)
"""A separator that is written as a character is none (RFC 3986 §2.2): a proxy that lets some
addresses through only would take the address for another one than we."""
MAX_HEAD_FIELDS = 100
MAX_HEAD_BYTES = 32 * 1024
"""Of all header fields together; a bearer token takes up to 4 KiB of it."""

log = structlog.get_logger("chengxin.api")


class Door:
    """The outermost layer of ours around the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        longer: Mapping[str, int],
        random: Callable[[int], bytes],
        routes: Mapping[Hashable, str],
        traffic: Traffic,
        front: Front,
        purses: Mapping[str, Purse],
    ) -> None:
        """`longer`: the addresses whose bodies may be longer than others, and how long.

        `routes` tells the template of each endpoint; `traffic` counts what went through.
        """
        self._app = app
        self._routes = routes
        self._traffic = traffic
        self._max_body_bytes = settings.max_body_bytes
        self._longer = longer
        self._access_log = settings.access_log
        self._random = random
        self._front = front
        self._purses = purses
        self._headers = {
            (shared, secure): always(
                shared=shared, hsts_seconds=settings.hsts_seconds if secure else 0
            )
            for shared in (False, True)
            for secure in (False, True)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        head = Head(scope)
        # Not counted up: whoever asked twice would know how many others asked meanwhile.
        id = head.id or self._random(ID_BYTES).hex()
        # Cleared first: a request pipelined behind another one inherits its context.
        clear_contextvars()
        bind_contextvars(request_id=id)
        scope[problems.REQUEST_ID] = id
        method = scope["method"]
        shown = origins.headers_of(scope["path"], method)
        caller = self._front.caller(scope, passed_on=head.passed_on)
        visit = Visit(scope, receive, send, id, self._headers[bool(shown), caller.secure] + shown)
        if method == "HEAD":
            scope = {**scope, "method": "GET"}
        account = visit.account = self._account(scope, head, caller)
        try:
            refusal = self._turned_away(scope, head)
            if refusal is None and account is not None:
                refusal = account.open()
            if refusal is None:
                await self._app(scope, receive, visit.send)
            else:
                scope[UNREAD] = visit.scope[UNREAD] = isinstance(refusal, BodyTooLarge)
                await problems.answer(Request(scope), refusal)(scope, receive, visit.send)
        except ClientDisconnect:
            visit.status = visit.status or 499
        except Exception:
            log.exception("incident", method=method, route=self._route(scope))
            if visit.status:
                raise
            failed = problems.answer(Request(scope), Internal(incident=visit.id))
            await failed(scope, receive, visit.send)
        finally:
            if account is not None:
                account.closed(visit.status)
            self._passed(scope, method, visit.status, time.perf_counter() - started)

    def _account(self, scope: Scope, head: Head, caller: Caller) -> Account | None:
        """What counts this request; None for a machine that is not counted."""
        if caller.free:
            return None
        kind = kind_of(scope["method"], scope["path"])
        account = Account(self._purses, kind, caller.address, shown=head.shows_token)
        scope[SPEND] = account.known
        return account

    def _turned_away(self, scope: Scope, head: Head) -> LedgerError | None:
        """Why a request is refused by its head alone; None where it is not."""
        if head.fields > MAX_HEAD_FIELDS or head.bytes > MAX_HEAD_BYTES:
            return HeadTooLarge(fields=MAX_HEAD_FIELDS, limit=MAX_HEAD_BYTES)
        query, raw_path = scope["query_string"], scope.get("raw_path") or b""
        if len(raw_path) + len(query) > MAX_ADDRESS_BYTES:
            return AddressTooLong(limit=MAX_ADDRESS_BYTES)
        if query.count(b"&") >= MAX_PARAMETERS:
            return TooManyParameters(limit=MAX_PARAMETERS)
        if SLASH.search(raw_path):
            return NotFound(path=scope["path"])
        limit = self._longer.get(scope["path"], self._max_body_bytes)
        if (refusal := self._front.refused(head.hosts, scope)) is not None:
            return refusal
        return BodyTooLarge(limit=limit) if head.content_length > limit else None

    def _passed(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        route = self._route(scope)
        self._traffic.passed(method, route, status, seconds)
        if self._access_log:
            log.info(
                "request",
                method=method,
                route=route,
                status=status,
                milliseconds=round(seconds * 1000, 1),
            )

    def _route(self, scope: Scope) -> str | None:
        """The template of the address; None where there is nothing."""
        return self._routes.get(scope.get("endpoint"))


class Head:
    """What the door reads of the header fields of a request, in one pass."""

    __slots__ = ("bytes", "content_length", "fields", "hosts", "id", "passed_on", "shows_token")

    def __init__(self, scope: Scope) -> None:
        self.fields = len(scope["headers"])
        self.bytes = self.content_length = 0
        self.hosts: list[bytes] = []
        self.id: str | None = None
        self.shows_token = self.passed_on = False
        for name, value in scope["headers"]:
            self.bytes += len(name) + len(value)
            if name == b"host":
                self.hosts.append(value)
            elif name == b"content-length":
                self.content_length = int(value) if value.isdigit() else 0
            elif name == b"authorization":
                self.shows_token = True
            elif name in PASSED_ON:
                self.passed_on = True
            elif name == b"x-request-id" and self.id is None and REQUEST_ID.fullmatch(value):
                self.id = value.decode("ascii")


class Visit:
    """One request on its way through the door. `status` is 0 until the answer has begun."""

    __slots__ = ("_headers", "_receive", "_send", "account", "id", "scope", "status")

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, id: str, headers: Headers
    ) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.id = id
        self.status = 0
        self.account: Account | None = None
        self._headers = headers

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on, with our headers in its head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            named = {name for name, _ in headers}
            headers = [*headers, (b"x-request-id", self.id.encode())]
            ours = self._headers if self.account is None else self._headers + self.account.headers()
            headers += [header for header in ours if header[0] not in named]
            message = {**message, "headers": headers}
        elif self.scope["method"] == "HEAD" and message.get("more_body", False):
            # The head is all there is to say; whoever makes the rest is told that nobody listens.
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            raise ClientDisconnect
        elif self.scope.get(UNREAD) and not message.get("more_body", False):
            await self._linger(message)
            return
        await self._send(message)

    async def _linger(self, message: Message) -> None:
        """Read on for a moment after a refusal.

        Closing with bytes unread would reset the connection, and a client that is still sending
        might lose the answer.
        """
        await self._send({**message, "more_body": True})
        left = LINGER_BYTES
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0:
                    rest = await self._receive()
                    if not rest.get("more_body", False):
                        break
                    left -= len(rest["body"])
        except TimeoutError:
            pass
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
