"""What happens to every request and answer alike, as one plain ASGI middleware.

A request gets an id (the client's own, where it is one); every answer carries it and the security
headers, every problem names it, and every line logged meanwhile; what fails unexpectedly becomes an
incident with that id in the log and nothing of it in the answer; a body that is too long is refused
before it is read; HEAD is GET without the body (RFC 9110 §9.3.2), also where the body has no end.
What went through is counted.
The access log names the route, not the address: no identifier, token, query or body.
"""

from __future__ import annotations

import asyncio
import itertools
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
from api.refusals import BodyTooLarge, Internal
from api.traffic import Traffic

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HEADERS: list[tuple[bytes, bytes]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
"""Set on every answer that does not set them itself."""
LINGER_SECONDS = 2
LINGER_BYTES = 1024 * 1024

log = structlog.get_logger("chengxin.api")


class Door:
    """The outermost layer of ours around the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        longer: Mapping[str, int],
        access_log: bool,
        random: Callable[[int], bytes],
        routes: Mapping[Hashable, str],
        traffic: Traffic,
    ) -> None:
        """`longer`: the addresses whose bodies may be longer than others, and how long.

        `routes` tells the template of each endpoint; `traffic` counts what went through.
        """
        self._app = app
        self._routes = routes
        self._traffic = traffic
        self._max_body_bytes = max_body_bytes
        self._longer = longer
        self._access_log = access_log
        self._prefix = random(6).hex()
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        id = request_id(scope) or f"{self._prefix}-{next(self._count):x}"
        # Cleared first: a request pipelined behind another one inherits its context.
        clear_contextvars()
        bind_contextvars(request_id=id)
        scope[problems.REQUEST_ID] = id
        visit = Visit(scope, receive, send, id)
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}
        limit = self._longer.get(scope["path"], self._max_body_bytes)
        try:
            if content_length(scope) > limit:
                scope[UNREAD] = visit.scope[UNREAD] = True
                refusal = problems.answer(Request(scope), BodyTooLarge(limit=limit))
                await refusal(scope, receive, visit.send)
            else:
                await self._app(scope, receive, visit.send)
        except ClientDisconnect:
            visit.status = visit.status or 499
        except Exception:
            log.exception("incident", method=method, route=self._route(scope))
            if visit.status:
                raise
            failed = problems.answer(Request(scope), Internal(incident=visit.id))
            await failed(scope, receive, visit.send)
        finally:
            seconds = time.perf_counter() - started
            route = self._route(scope)
            self._traffic.passed(method, route, visit.status, seconds)
            if self._access_log:
                log.info(
                    "request",
                    method=method,
                    route=route,
                    status=visit.status,
                    milliseconds=round(seconds * 1000, 1),
                )

    def _route(self, scope: Scope) -> str | None:
        """The template of the address; None where there is nothing."""
        return self._routes.get(scope.get("endpoint"))


class Visit:
    """One request on its way through the door. `status` is 0 until the answer has begun."""

    __slots__ = ("_headers", "_receive", "_send", "id", "scope", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, id: str) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.id = id
        self.status = 0
        self._headers = HEADERS + origins.headers_of(scope["path"], scope["method"])

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on, with our headers in its head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            named = {name for name, _ in headers}
            headers = [*headers, (b"x-request-id", self.id.encode())]
            headers += [header for header in self._headers if header[0] not in named]
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


def request_id(scope: Scope) -> str | None:
    """The client's own `X-Request-Id` where it is a plain word."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return None


def content_length(scope: Scope) -> int:
    """The announced length of the body in bytes; 0 where none is announced."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0
