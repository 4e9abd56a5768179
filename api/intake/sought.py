"""Rows in quarantine as data of persons: found by a text that stands in them, copied, erased.

Nobody knows yet of whom a row speaks: so each row that waits stands for itself, under the random
reference of its key. Whoever looks for a text reads all that waits, whether or not it is there;
what is settled says nothing any more. Blocking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from api.intake.content import Content, opened
from api.intake.quarantine import SCHEMA
from api.intake.rejections import Rejection, reject
from ledger.calendar import local_day
from ledger.docket import Docket
from ledger.envelope import Event
from ledger.erasing import Erasures
from ledger.erasure import PersonErasure
from ledger.errors import Unavailable
from ledger.marks import MAX_FOUND, alike
from ledger.store import Ledger
from ledger.vault_errors import SealBroken

SOME = 500
FIRST = "00000000-0000-0000-0000-000000000000"
COLUMNS = "person::text, content, box, id, organisation, import, file, line, quarantined_at"
WAITING = (
    f"SELECT {COLUMNS} FROM {SCHEMA}.rows WHERE state = 'waiting' AND person > %s"
    f" ORDER BY person LIMIT {SOME}"
).encode()
ONE = f"SELECT {COLUMNS} FROM {SCHEMA}.rows WHERE state = 'waiting' AND person = %s".encode()
WHY = "经本人请求删除 · erased at the person's request"


class RowOf(NamedTuple):
    """A row that waits, and what it says."""

    person: str
    where: dict[str, Any]
    content: Content


class SoughtRows:
    """Reads the rows that wait in one ledger's quarantine, whichever organisation's."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def find(self, text: str) -> list[str]:
        """The references of up to a hundred rows in which a text stands, whole, in a cell.

        Raises SealingOff, VaultKeyMissing, SealBroken or Unavailable.
        """
        sought, found, after = alike(text), list[str](), FIRST
        while rows := self._rows(WAITING, after):
            after = str(rows[-1][0])
            for row in self._opened(rows):
                said = [*row.content.cells.values(), *row.content.corrections.values()]
                if sought in {alike(one) for one in said}:
                    found.append(row.person)
        return found[:MAX_FOUND]

    def copied(self, person: str) -> list[dict[str, Any]]:
        """What a row says, for a copy; none where the reference is no waiting row's."""
        return [
            row.where | {"cells": {**row.content.cells, **row.content.corrections}}
            for row in self._opened(self._rows(ONE, person))
        ]

    def reject(self, erasures: Sequence[Event]) -> None:
        """Settle the rows of the erased, whose content is gone. Raises Unavailable."""
        reject(self._ledger, [_rejection(one) for one in erasures], WHY)

    def _opened(self, rows: list[tuple[Any, ...]]) -> Iterator[RowOf]:
        keys = self._ledger.vault.persons.living([row[0] for row in rows])
        for person, digest, box, id, organisation, name, file, line, at in rows:
            if person not in keys:
                continue
            try:
                content = opened(box, keys[person], person=person, digest=digest)
            except ValueError as error:
                raise SealBroken(path=f"quarantine/{id}", event=person) from error
            where = {"row": id, "organisation": organisation, "import": name, "file": file}
            day = local_day(at).isoformat()
            yield RowOf(person, where | {"line": line, "quarantined_on": day}, content)

    def _rows(self, query: bytes, parameter: str) -> list[tuple[Any, ...]]:
        try:
            return self._ledger.rows(query, [parameter])
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Unavailable from error


def _rejection(erasure: Event) -> Rejection:
    """By whom and when it was erased, so that a restored backup comes to say the same."""
    assert isinstance(erasure.data, PersonErasure)
    assert erasure.time is not None
    actor = erasure.actor
    who = (actor.organisation, actor.role, actor.ref)
    return Rejection(erasure.data.person, erasure.time.isoformat(), *who)


def erasures_of(
    ledger: Ledger, docket: Docket | None, *, clock: Callable[[], datetime]
) -> Erasures:
    """The erasures of a ledger with a quarantine: with whoever is erased goes their row."""
    return Erasures(ledger, docket, clock=clock, settle=SoughtRows(ledger).reject)
