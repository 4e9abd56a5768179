"""The log itself, event by event, as each reader may see it: pulled, waited for, or streamed.

A line is `{"sequence":"<20 digits>",` and the stored bytes without their first brace; by every
way the reader gets the same bytes. A stream survives a database that goes away; it ends when its
client goes, reads nothing for half a minute, its token expires or is taken back, or the server
stops. Whoever goes on after a position that was never given follows another log, or one set back to
a backup: waiting here he would miss what comes, and is told instead.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import anyio
from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from api import lines, openapi
from api.accesses import Accesses, Told
from api.callers import Callers, claims_of
from api.lines import PULLED, STREAM, Line
from api.problems import AWAY
from api.query import Operation
from api.refusals import (
    Flaw,
    SchemaBroken,
    TokenMissing,
    TokenRefused,
    TooManyStreams,
    UnknownPosition,
)
from api.security import Claims
from api.unadmitted import BearerNotAdmitted, IssuerUnavailable
from ledger.calendar import local_day
from ledger.database import reading
from ledger.errors import Unavailable, Words
from ledger.tail import Tail
from projections.disclosure import Disclosure
from projections.look import Look

PATH = "/v1/feed"
MAX_LINES = 10_000
MAX_WAIT_SECONDS = 30
HEARTBEAT_SECONDS = 15
SEND_SECONDS = 30
STREAM_LINES = 500
FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 1.0
RETRY = b"retry: 2000\n\n"
HEARTBEAT = b": heartbeat\n\n"
WAIT = re.compile(r"(?:^|[,;\s])wait=([0-9]{1,6})(?:[,;\s]|$)")
POSITION = re.compile(r"[0-9]{1,16}")
PREFIX_BYTES = len(b'{"sequence":"",') + 20
AFTER = "Lines after this position; 0 is the beginning."
LIMIT = "How many lines at most (a stream has no end)."
LAST = "Where a stream goes on; wins over `after`."
PREFER = "`wait=N` waits up to N seconds (at most 30) where there is nothing new."
NO_POSITION = Words("the id of an event of this feed", "应为本事件流中的事件编号")


class Page(NamedTuple):
    """Which lines a pull asks for."""

    after: int
    limit: int


class Feed:
    """Answers the one address of the feed."""

    def __init__(
        self,
        disclosure: Disclosure,
        tail: Tail,
        *,
        accesses: Accesses,
        callers: Callers | None,
        clock: Callable[[], datetime],
        head: Callable[[], int],
        limit: int,
    ) -> None:
        self._disclosure = disclosure
        self._tail = tail
        self._accesses = accesses
        self._callers = callers
        self._clock = clock
        self._head = head
        self.open = 0
        """How many streams and long polls are held open now."""
        self.limit = limit

    def route(self) -> Operation:
        """The route."""
        return Operation(PATH, self.answer, methods=["GET"], **openapi.of_read(PATH))

    async def answer(
        self,
        request: Request,
        after: Annotated[int, Query(ge=0, le=2**53 - 1, description=AFTER)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_LINES, description=LIMIT)] = 1000,
        last_event_id: Annotated[str | None, Header(description=LAST)] = None,
        prefer: Annotated[str | None, Header(description=PREFER)] = None,
    ) -> Response:
        """One page of lines, or the stream."""
        claims = await claims_of(request, self._callers, "feed")
        if claims is None:
            raise TokenMissing
        media_type = lines.negotiate(request.headers.get("accept"), (*PULLED, STREAM))
        if media_type == STREAM and last_event_id is not None:
            after = position_of(last_event_id)
        if after > self._tail.position and after > (head := await reading(self._head)):
            raise UnknownPosition(position=after, head=head)
        if media_type == STREAM:
            return EventStream(self.held(), self.events(request, claims, after))
        found = await self._lines(after, limit, claims)
        wait = WAIT.search(prefer or "")
        if wait is not None and not found:
            seconds = min(int(wait[1]), MAX_WAIT_SECONDS, self._left(claims.expires))
            with self.held():
                found = await self._wait(request, claims, Page(after, limit), seconds)
        reached = found[-1][0] if found else after
        response = lines.answer(found, media_type, path=PATH, limit=limit, after=reached)
        if wait is not None:
            response.headers["Preference-Applied"] = f"wait={wait[1]}"
        return response

    @contextmanager
    def held(self) -> Iterator[None]:
        """Counts one answer that is held open. Raises TooManyStreams."""
        if self.open >= self.limit:
            raise TooManyStreams(limit=self.limit)
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def events(
        self, request: Request, claims: Claims, position: int
    ) -> AsyncGenerator[bytes, None]:
        """The stream beyond a position, until its bearer is no longer let in or the server stops.

        What it opens is recorded before it is given, from there without an end (`api/accesses.py`).
        """
        stopping: asyncio.Event = request.app.state.stopping
        expires, told = claims.expires, Told()
        pause = FIRST_PAUSE_SECONDS
        yield RETRY
        while not stopping.is_set() and (left := self._left(expires)) > 0:
            try:
                await claims_of(request, self._callers, "feed")
                look = await self._look(position, STREAM_LINES, claims)
                today = local_day(self._clock())
                await self._accesses.of_stream(claims, look, told, today=today)
                found = look.lines
            except (TokenRefused, BearerNotAdmitted):
                # What it showed is no longer good: a key was revoked, an issuer's key retired.
                break
            except (Unavailable, IssuerUnavailable, *AWAY):
                # The client learns that we are still here; the lines come when they can.
                yield HEARTBEAT
                pause = LONGEST_PAUSE_SECONDS
                found = []
            if found and self._left(expires) <= 0:
                # The token expired while they were read.
                break
            if found:
                position = found[-1][0]
                pause = FIRST_PAUSE_SECONDS
                yield b"".join([event_of(line) for line in found])
            elif pause < LONGEST_PAUSE_SECONDS and self._tail.position > position:
                # Written, but not judged for this reader yet.
                await rest(pause, stopping)
                pause *= 2
            elif self._tail.position > position:
                await rest(LONGEST_PAUSE_SECONDS, stopping)
                yield HEARTBEAT
            elif (
                await self._news(position, min(HEARTBEAT_SECONDS, left), stopping.wait())
                <= position
                and not stopping.is_set()
            ):
                yield HEARTBEAT

    async def _wait(
        self, request: Request, claims: Claims, page: Page, seconds: float
    ) -> list[Line]:
        """Lines as soon as there are any, none when the time is over or the server stops.

        Raises ClientDisconnect, and what `claims_of` does where the token was taken back meanwhile.
        """
        stopping: asyncio.Event = request.app.state.stopping
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        pause = FIRST_PAUSE_SECONDS
        found: list[Line] = []
        while not found and not stopping.is_set() and (left := deadline - now()) > 0:
            if self._tail.position > page.after:
                await rest(min(left, pause), stopping)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                await self._news(page.after, left, stopping.wait(), disconnect(request))
                await claims_of(request, self._callers, "feed")
            found = await self._lines(page.after, page.limit, claims)
        return found

    def _left(self, expires: int) -> float:
        """How many seconds a token is still good for."""
        return expires - self._clock().timestamp()

    async def _lines(self, after: int, limit: int, claims: Claims) -> list[Line]:
        """Lines to be given out at once. Raises Unavailable where that cannot be recorded."""
        look = await self._look(after, limit, claims)
        await self._accesses.of_lines(claims, "FEED", look)
        return look.lines

    async def _look(self, after: int, limit: int, claims: Claims) -> Look:
        today = local_day(self._clock())
        return await reading(self._disclosure.look, after, limit, claims.reader, today=today)

    async def _news(self, beyond: int, seconds: float, *or_else: Coroutine[Any, Any, Any]) -> int:
        """The known head, once it is beyond a position, or the time is over, or else.

        Raises what one of `or_else` raised.
        """
        waits = [
            asyncio.ensure_future(one) for one in (self._tail.wait_async(beyond, seconds), *or_else)
        ]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        for one in done:
            one.result()
        return self._tail.position


async def rest(seconds: float, stopping: asyncio.Event) -> None:
    """Wait a moment; the server's stop ends it."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


async def disconnect(request: Request) -> None:
    """Raises ClientDisconnect when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise ClientDisconnect


class EventStream(StreamingResponse):
    """Server-sent events. Counted while it is open; a client that reads nothing is let go."""

    media_type = STREAM

    def __init__(
        self, held: AbstractContextManager[None], events: AsyncGenerator[bytes, None]
    ) -> None:
        headers = {"Cache-Control": "private, no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers | {"Vary": "Accept, Authorization"})
        self._held = held
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until either side ends it."""
        with self._held:
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self._events.aclose()

    async def stream_response(self, send: Send) -> None:
        """The stream; each part must be taken within half a minute."""

        async def send_soon(message: Message) -> None:
            with anyio.fail_after(SEND_SECONDS):
                await send(message)

        try:
            await super().stream_response(send_soon)
        except TimeoutError as error:
            raise ClientDisconnect from error


def event_of(line: Line) -> bytes:
    """One server-sent event; `data` is the line as it is, which holds no line break."""
    position, text = line
    if text.startswith(b'"withheld"', PREFIX_BYTES):
        kind = b"withheld"
    else:
        # `type` and `visibility` are the last keys of a stored event, and neither holds a quote.
        kind = text[text.rindex(b'"type":"') + 8 :].partition(b'"')[0]
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (position, kind, text)


def position_of(last_event_id: str) -> int:
    """The position in a `Last-Event-ID`. Raises SchemaBroken."""
    if POSITION.fullmatch(last_event_id) is None:
        raise SchemaBroken([Flaw(("header", "Last-Event-ID"), NO_POSITION)])
    return int(last_event_id)
