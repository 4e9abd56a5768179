"""A long body on its way in: in parts, as they come, with a limit on the whole and on waiting.

What ends a body before its end is kept, not raised: whoever reads finishes what has arrived first.
Knows no line and no ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.body import BODY_SECONDS, UNREAD
from api.refusals import BodyTimeout, BodyTooLarge, Stopping
from ledger.errors import LedgerError

RENEWING_BYTES = 4 * 1024
"""So many bytes renew the time a sender has: one byte now and then holds no place for long."""


class Torn(Exception):
    """The rest of the body will not come."""


class Arrival:
    """The body of one request. `ended_by`: why it was not read to its end."""

    def __init__(self, request: Request, *, limit: int, stopping: asyncio.Event) -> None:
        self.ended_by: LedgerError | ClientDisconnect | None = None
        self._request = request
        self._limit = limit
        self._stopping = stopping
        self._received = 0
        self._more = True

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The parts in their order. Raises Torn."""
        left, fresh = float(BODY_SECONDS), 0
        stopped: asyncio.Task[Any] = asyncio.ensure_future(self._stopping.wait())
        try:
            while self._more:
                began = asyncio.get_running_loop().time()
                part = await self._next(stopped, left)
                left -= asyncio.get_running_loop().time() - began
                fresh += len(part)
                if fresh >= RENEWING_BYTES:
                    left, fresh = float(BODY_SECONDS), 0
                if self._received > self._limit:
                    self.ended_by = BodyTooLarge(limit=self._limit)
                    raise Torn
                if part:
                    yield part
        finally:
            stopped.cancel()

    async def _next(self, stopped: asyncio.Task[Any], seconds: float) -> bytes:
        receiving: asyncio.Task[Any] = asyncio.ensure_future(self._request.receive())
        try:
            await asyncio.wait(
                {receiving, stopped}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not receiving.done():
                self.ended_by = Stopping() if stopped.done() else BodyTimeout(seconds=BODY_SECONDS)
                raise Torn
        finally:
            receiving.cancel()
        message = receiving.result()
        if message["type"] == "http.disconnect":
            self.ended_by = ClientDisconnect()
            raise Torn
        part: bytes = message["body"]
        self._received += len(part)
        self._more = message["more_body"]
        return part

    async def drain(self) -> None:
        """Read and drop the rest of a body of which enough is known.

        Who sends before he reads would else wait for us to read while we wait for him. As much as
        the limit is read once more, for half a minute at the most; then the connection is closed.
        """
        self._limit += self._received
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for _ in self.parts():
                    pass
        except (Torn, TimeoutError):
            self._request.scope[UNREAD] = True
