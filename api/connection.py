"""One connection, before there is a request: how many, how slow, how long a head, and what is none.

uvicorn reads HTTP with llhttp, which knows no limits of size, and waits for ever for a head or for
a reader. Here every wait ends: for the head, for the rest of a body that nobody wants, for a client
that does not read its answer. What cannot be read in one way only (two lengths, a length and parts)
is refused by llhttp; it is told as every refusal of ours, with the headers of every answer.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api.door import MAX_HEAD_BYTES, MAX_HEAD_FIELDS
from api.doorrefusals import HeadTimeout, HeadTooLarge, Malformed, TooManyConnections
from api.front import NOBODY, Front
from api.headers import ALWAYS
from api.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS, TAGS, document
from ledger.errors import LedgerError

HEAD_SECONDS = 10
REST_SECONDS = 5
"""For the rest of a body, once its answer has been sent."""
READ_SECONDS = 30
MIN_READ_BYTES = 16 * 1024
"""Whoever reads less of a waiting answer in so long is let go."""
CLOSING_SECONDS = 2

log = structlog.get_logger("chengxin.api")


@dataclass
class Room:
    """How many connections there may be, and which there are."""

    front: Front
    limit: int
    limit_per_address: int
    random: Callable[[int], bytes] = os.urandom
    held: Counter[str] = field(default_factory=Counter)

    def full_for(self, peer: str, open_connections: int) -> int | None:
        """The limit that a new connection from a peer would break."""
        if open_connections > self.limit:
            return self.limit
        if (
            self.front.is_proxy(peer)
            or self.held[self.front.address(peer)] < self.limit_per_address
        ):
            return None
        return self.limit_per_address


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with an end to every wait."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        room: Room,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._room = room
        self._address: str | None = None
        self._head = True
        """Whether the next bytes belong to a head."""
        self._head_bytes = 0
        self._refused = False
        self._deadline: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._unread = 0

    # ------------------------------------------------------------------------------- beginning, end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, or be told that there is none."""
        super().connection_made(transport)
        peer = self.client[0] if self.client else NOBODY
        limit = self._room.full_for(peer, len(self.connections))
        if limit is not None:
            self._refuse(TooManyConnections(limit=limit))
            return
        self._address = self._room.front.address(peer)
        self._room.held[self._address] += 1
        self._wait(HEAD_SECONDS, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        for timer in (self._deadline, self._reading):
            if timer is not None:
                timer.cancel()
        if self._address is not None:
            self._room.held[self._address] -= 1
            if self._room.held[self._address] <= 0:
                del self._room.held[self._address]
            self._address = None
        super().connection_lost(exc)

    # ------------------------------------------------------------------------------------ receiving

    def data_received(self, data: bytes) -> None:
        """Take bytes in; a head has an end in time and in size."""
        if self._refused:
            return
        if self._head:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._wait(HEAD_SECONDS, self._head_is_late)
        super().data_received(data)
        if self._head and self._head_bytes > MAX_HEAD_BYTES and not self._refused:
            self._refuse(HeadTooLarge(fields=MAX_HEAD_FIELDS, limit=MAX_HEAD_BYTES))

    def on_headers_complete(self) -> None:
        """The head is there: what it asks is for the application to judge."""
        self._head = False
        self._head_bytes = 0
        self._stop_waiting()
        if not self.url.startswith(b"/") and b"://" in self.url:
            self._host_of_address()
        super().on_headers_complete()

    def _host_of_address(self) -> None:
        """An address with a host overrules the header (RFC 9112 §3.2.2)."""
        _, _, rest = self.url.partition(b"://")
        host = rest.partition(b"/")[0].partition(b"?")[0]
        others = [one for one in self.headers if one[0] != b"host"]
        self.headers[:] = [*others, (b"host", host)]

    def on_message_complete(self) -> None:
        """The body is there; what comes next is the head of another request."""
        self._head = True
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out; who still sends its request has a moment left."""
        super().on_response_complete()
        if not self._head and not self.transport.is_closing():
            self._wait(REST_SECONDS, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        self._refuse(Malformed())

    # -------------------------------------------------------------------------------------- sending

    def pause_writing(self) -> None:
        """The client does not keep up: it must read on, if slowly."""
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _look_again(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(READ_SECONDS, self._has_it_read)

    def _has_it_read(self) -> None:
        if self._unread - self.transport.get_write_buffer_size() < MIN_READ_BYTES:
            self._say("reader too slow")
            self.transport.abort()
        else:
            self._look_again()

    # --------------------------------------------------------------------------------------- ending

    def _wait(self, seconds: float, then: Callable[[], object]) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _head_is_late(self) -> None:
        self._deadline = None
        if self._answering():
            # Bytes of a next request came while this one is answered: that may take its time.
            self._wait(HEAD_SECONDS, self._head_is_late)
        elif self._head_bytes:
            self._refuse(HeadTimeout(seconds=HEAD_SECONDS))
        else:
            self.transport.close()

    def _refuse(self, error: LedgerError) -> None:
        """Answer instead of the application, and close."""
        self._refused = True
        self._stop_waiting()
        if self._answering():
            if self.cycle.response_started:
                # Nothing may be written into another answer.
                self.transport.close()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._unset_keepalive_if_required()
        self._say(error.code)
        self.transport.write(answer(error, self._room.random(6).hex()))
        if self.transport.can_write_eof():
            # Closing with bytes unread would reset the connection before the answer is read.
            self.transport.write_eof()
            self._wait(CLOSING_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def _say(self, reason: str) -> None:
        log.info("connection refused", reason=reason)


def answer(error: LedgerError, id: str) -> bytes:
    """A problem document as it stands on the wire, where nobody said which language is wanted."""
    body = orjson.dumps(document(error, "zh") | {"request_id": id})
    headers = [
        *ALWAYS,
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-language", TAGS["zh"].encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", id.encode()),
        (b"connection", b"close"),
    ]
    if error.status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    line = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()
    return b"\r\n".join([line, *(b"%b: %b" % one for one in headers), b"", body])


def connections(room: Room) -> Callable[..., Connection]:
    """What makes the connections of one server."""
    return partial(Connection, room=room)
