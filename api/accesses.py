"""Who opened what: an answer that gives out more than the public sees is recorded before it leaves.

The record is an event like any other (`ledger/access.py`), durable before the first byte of the
answer is sent. Where it cannot be recorded nothing is given out: the answer is 503, and asking
again is safe. Requests that ask at the same time share one transaction, as writes do
(`ledger/appender.py`). An answer that holds records of access and nothing else beyond the public
view is not recorded: whoever follows the log would run after himself for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import psycopg

from api.security import Claims
from ledger.access import MAX_FILES, AccessDoor, AccessRecorded, access_stream
from ledger.envelope import Event, new_id, new_nonce
from ledger.errors import LedgerError, Unavailable
from ledger.handle import entry_of
from ledger.identity import Actor
from ledger.store import Ledger
from projections.look import Look


@dataclass(slots=True)
class Told:
    """What the records of one stream without end have said already, on one day."""

    day: date | None = None
    files: set[str] = field(default_factory=set)


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
        said = [
            AccessRecorded(door=door, first=first, last=last, files=files)
            for first, last, files in parts_of(look)
        ]
        await self._append(claims.actor, said)

    async def of_stream(self, claims: Claims, look: Look, told: Told, *, today: date) -> None:
        """Record what a stream is about to give out, from here without an end: once a day, and
        again where it comes to files that were not named yet. Raises Unavailable.
        """
        if not look.opened:
            return
        named = told.files if told.day == today else set()
        files = {one.file for one in look.opened if one.file is not None} - named
        if told.day == today and not files:
            return
        first, names = look.lines[0][0], sorted(files)
        said = [
            AccessRecorded(
                door="STREAM", first=first, last=None, files=names[begin : begin + MAX_FILES]
            )
            for begin in range(0, max(len(names), 1), MAX_FILES)
        ]
        await self._append(claims.actor, said)
        told.day, told.files = today, named | files

    async def record(
        self,
        claims: Claims,
        door: AccessDoor,
        first: int,
        last: int,
        *,
        file: str | None = None,
        as_of: date | None = None,
    ) -> None:
        """Record that a range is about to be given out. Raises Unavailable."""
        await self.of_actor(claims.actor, door, first, last, file=file, as_of=as_of)

    async def of_actor(
        self,
        actor: Actor,
        door: AccessDoor,
        first: int,
        last: int,
        *,
        file: str | None = None,
        as_of: date | None = None,
    ) -> None:
        """The same for somebody who is at the machine itself. Raises Unavailable."""
        files = [] if file is None else [file]
        said = AccessRecorded(door=door, first=first, last=last, as_of=as_of, files=files)
        await self._append(actor, [said])

    async def _append(self, actor: Actor, said: Sequence[AccessRecorded]) -> None:
        """Each record is a stream; all go in, or nothing is given out."""
        now, random = self._ledger.clock(), self._ledger.random
        entries = []
        for one in said:
            id = new_id(now, random(10))
            nonce = new_nonce(random(16))
            event = Event(
                id=id, stream=access_stream(id), version=1, data=one, actor=actor, nonce=nonce
            )
            entries.append(entry_of(event))
        try:
            await self._ledger.appender.append_async(entries)
        except (LedgerError, psycopg.Error) as error:
            # Also where the outcome is unknown: a record too many harms nobody.
            raise Unavailable from error


def parts_of(look: Look) -> list[tuple[int, int, list[str]]]:
    """The range of an answer with the files opened in it, in parts that one record can name.

    Nearly always one: a page has to open more files than a record has room for.
    """
    first, files = look.lines[0][0], dict[str, None]()
    parts = []
    for position, file in look.opened:
        if file is not None and file not in files and len(files) == MAX_FILES:
            parts.append((first, position - 1, list(files)))
            first, files = position, {}
        if file is not None:
            files[file] = None
    return [*parts, (first, look.lines[-1][0], list(files))]
