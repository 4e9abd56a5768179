"""Writes: how a request to an address of `api/writes.py` becomes a receipt.

The parsed body is the command. On the way: token → role → body → schema → issuer → the desk, which
decides and appends. `async` from end to end: nothing blocks the loop and no thread is needed.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from api import openapi, problems
from api.body import check_exact, read_json
from api.callers import Callers, claims_of
from api.openapi import ACCEPTED
from api.query import check_query
from api.refusals import Flaw, InvalidKey, SchemaBroken, TokenMissing
from api.security import Claims, Tokens, header_values, not_allowed
from api.writes import PROPOSAL, WRITES, RegisterProvider, Write
from ledger import events
from ledger.appender import Key
from ledger.errors import DuplicateFact, OutcomeUnknown, Words
from ledger.events import Data, provider_stream
from ledger.handle import Desk, Receipt
from ledger.identity import parse_identifier
from ledger.provider import RecordComplaintOutcome
from ledger.rulebook import PublishRulebook

MAX_KEY_CHARACTERS = 255
WRITE_SECONDS = 25
KEY = re.compile(rf"[!-~]{{1,{MAX_KEY_CHARACTERS}}}")
TARGET = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

STREAM_PREFIX = provider_stream("")
ISSUER_KIND = {"platform": "PLATFORM", "association": "ASSOCIATION"}
"""Roles that may only record what a body of their own kind decided."""


class Order(NamedTuple):
    """A command as it was understood: on which stream, and what its repetition must repeat.

    `identifier` is None for what concerns no provider, `target` empty for what is no act.
    """

    command: Data
    path: str
    identifier: str | None
    target: str
    written: Any

    def parts(self) -> tuple[bytes, ...]:
        """What the digest of its idempotency key is made of."""
        canonical = orjson.dumps(self.written, option=orjson.OPT_SORT_KEYS)
        return self.path.encode(), (self.identifier or "").encode(), self.target.encode(), canonical


class WriteRoute(APIRoute):
    """A published route that hands the request straight to its endpoint.

    FastAPI's way to an endpoint (dependencies, exit stacks) would take as long as all the rest of
    a write. What an endpoint raises is told by the application's handlers (`api/problems.py`).
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; another method than POST is refused as everywhere."""
        if scope["method"] != "POST":
            await super().handle(scope, receive, send)
            return
        check_query(scope)
        receipt: Receipt = await self.endpoint(Request(scope, receive, send))
        bind_contextvars(position=receipt.position)
        assert self.status_code is not None
        for message in created(receipt, self.status_code):
            await send(message)


def routes(*, callers: Callers | None, max_body_bytes: int) -> list[APIRoute]:
    """The routes of all writes."""
    return [_route(write, callers, max_body_bytes) for write in WRITES]


def _route(write: Write, callers: Callers | None, max_body_bytes: int) -> APIRoute:
    async def endpoint(request: Request) -> Receipt:
        claims = await claims_of(request, callers, "write")
        if claims is None or callers is None:
            raise TokenMissing
        if claims.role not in write.roles:
            raise not_allowed(claims, write.does)
        order = understand(
            write, request.path_params, await read_json(request, limit=max_body_bytes)
        )
        check_issuer(order.command, claims)
        key = key_of(request, claims, callers.tokens, order)
        try:
            return await hand_in(request.app.state.desk, order, claims, key)
        except DuplicateFact as refusal:
            if claims.reader.file(order.identifier) is None:
                # An id tells when the earlier event was recorded.
                del refusal.facts["target"]
            raise

    return WriteRoute(write.path, endpoint, methods=["POST"], **openapi.of_write(write))


def understand(write: Write, path: dict[str, Any], written: Any) -> Order:
    """The order in a parsed body. Raises SchemaBroken or InvalidIdentifier."""
    target, given = "", written
    if write.is_act or write.is_verdict:
        name = "target" if write.is_act else "proposal"
        target = path["id"].lower()
        if TARGET.fullmatch(target) is None:
            raise SchemaBroken([Flaw(("path", "id"), NO_ID)])
        if isinstance(written, dict):
            if name in written:
                raise SchemaBroken([Flaw(("body", name), IN_ADDRESS)])
            given = {**written, name: target}
    try:
        command = write.command.model_validate(given)
    except ValidationError as error:
        raise problems.broken(error) from error
    identifier: str | None = None
    if isinstance(command, RegisterProvider):
        identifier = parse_identifier(command.identifier)
        written = {**written, "identifier": identifier}
        fields = events.ProviderRegistered.model_fields
        command = events.ProviderRegistered(**{name: getattr(command, name) for name in fields})
    elif isinstance(command, PublishRulebook):
        check_exact(command.rulebook, ("body", "rulebook"))
    else:
        identifier = parse_identifier(path["identifier"])
    return Order(command, write.path, identifier, target, written)


NO_ID = Words("the id of an event, a UUID", "应为事件编号（UUID）")
IN_ADDRESS = Words("the address names the target", "对象已由地址指明")


def check_issuer(command: Data, claims: Claims) -> None:
    """Raises NotAllowed where a role records what another kind of body decided."""
    kind = ISSUER_KIND.get(claims.role)
    if kind is None:
        return
    decision = command.finding if isinstance(command, RecordComplaintOutcome) else command
    issuer = decision.issuer if isinstance(decision, events.Decision) else None
    if issuer is not None and issuer.kind != kind:
        what = Words(
            f"record what a body of kind {issuer.kind} decided, only of kind {kind}",
            f"记录 {issuer.kind} 类机构的决定（只可记录 {kind} 类）",
        )
        raise not_allowed(claims, what)


def key_of(request: Request, claims: Claims, tokens: Tokens, order: Order) -> Key | None:
    """The request's Idempotency-Key with its digest. Raises InvalidKey.

    Keys belong to the organisation, not to the bearer's reference: whoever renews a token between
    two tries must still get the first answer, and never a second event.
    """
    given = header_values(request, b"idempotency-key")
    if not given:
        return None
    if len(given) > 1 or KEY.fullmatch(given[0]) is None:
        raise InvalidKey(limit=MAX_KEY_CHARACTERS)
    return Key(claims.issuer, claims.organisation, given[0], tokens.digest(*order.parts()))


async def hand_in(desk: Desk, order: Order, claims: Claims, key: Key | None) -> Receipt:
    """Let the desk handle an order. Raises LedgerError.

    Each step ends in time by itself; who stands behind others in a queue may wait for many of them.
    """
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            if isinstance(order.command, PublishRulebook):
                return await desk.publish_rulebook(order.command, claims.actor, key=key)
            assert order.identifier is not None
            return await desk.record(order.identifier, order.command, claims.actor, key=key)
    except TimeoutError as error:
        raise OutcomeUnknown from error


def created(receipt: Receipt, status: int) -> tuple[Message, Message]:
    """The receipt; a repeated request gets the first one again, and is told so.

    Of what a second officer must decide (202) the proposal is what the receipt leads to.
    """
    position, id, stream, version, repeated = receipt
    if status == ACCEPTED:
        location = PROPOSAL.format(identifier=stream.removeprefix(STREAM_PREFIX), id=id)
    else:
        location = f"/v1/events/{position}"
    body = orjson.dumps({"position": position, "id": id, "stream": stream, "version": version})
    headers = [
        (b"location", location.encode()),
        (b"cache-control", b"no-store"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    if repeated:
        headers.append((b"idempotent-replayed", b"true"))
    start = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": body}
