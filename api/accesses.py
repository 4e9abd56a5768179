"""Who opened what: an answer that gives out more than the public sees is recorded before it leaves.

The record is an event like any other (`ledger/access.py`), durable before the first byte of the
answer is sent. Where it cannot be recorded nothing is given out: the answer is 503, and asking
again is safe. Requests that ask at the same time share one transaction, as writes do
(`ledger/appender.py`). An answer that holds records of access and nothing else beyond the public
view is not recorded: whoever follows the log would run after himself for ever.
"""

from __future__ import annotations

from datetime import date

import psycopg

from api.security import Claims
from ledger.access import AccessDoor, AccessRecorded, access_stream
from ledger.envelope import Event, new_id, new_nonce
from ledger.errors import LedgerError, Unavailable
from ledger.handle import entry_of
from ledger.identity import Actor
from ledger.store import Ledger
from projections.disclosure import Look


class Accesses:
    """Records what was opened, by whom."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def of_lines(self, claims: Claims | None, door: AccessDoor, look: Look) -> None:
        """Record that these lines are about to be given out, where that is called for.

        Raises Unavailable.
        """
        if not look.opened:
            return
        assert claims is not None, "without a token there is nothing beyond the public view"
        last = None if door == "STREAM" else look.lines[-1][0]
        await self.record(claims, door, look.lines[0][0], last, subject=look.subject)

    async def record(
        self,
        claims: Claims,
        door: AccessDoor,
        first: int,
        last: int | None,
        *,
        subject: str | None = None,
        as_of: date | None = None,
    ) -> None:
        """Record that a range is about to be given out. Raises Unavailable."""
        await self.of_actor(claims.actor, door, first, last, subject=subject, as_of=as_of)

    async def of_actor(
        self,
        actor: Actor,
        door: AccessDoor,
        first: int,
        last: int | None,
        *,
        subject: str | None = None,
        as_of: date | None = None,
    ) -> None:
        """The same for somebody who is at the machine itself. Raises Unavailable."""
        now, random = self._ledger.clock(), self._ledger.random
        id = new_id(now, random(10))
        event = Event(
            id=id,
            stream=access_stream(subject, id),
            version=1,
            data=AccessRecorded(door=door, first=first, last=last, as_of=as_of),
            actor=actor,
            nonce=new_nonce(random(16)),
            subject=subject,
        )
        try:
            await self._ledger.appender.append_async([entry_of(event)])
        except (LedgerError, psycopg.Error) as error:
            # Also where the outcome is unknown: a record too many harms nobody.
            raise Unavailable from error
