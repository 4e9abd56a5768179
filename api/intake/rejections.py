"""Rejections of rows, in a file beside the keys: what a restored backup brings back goes again.

With a row's settling goes what it said. A database put back to a backup from before has it again.
Of a row that was recorded that is right: its events are gone from the log as well, and it waits
again. A rejected row would have come back for nothing, and with it whatever it said of somebody.
So one line is on disk (fsync) before a row is rejected; it holds the random reference of the row's
key, when, and who. Applied again it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson
import psycopg

from api.intake.quarantine import LOCK, SCHEMA, Step
from ledger.docket import Docket, append, lines_of
from ledger.errors import Unavailable
from ledger.keyfile import KeyFileError, locked, private_folder
from ledger.store import Ledger

REJECTIONS_FILE = "rejections.jsonl"
WHY = "恢复备份后重新退回 · rejected again after a restore"
BACK = (
    f"SELECT id FROM {SCHEMA}.rows WHERE person = ANY (%s::uuid[]) AND state = 'waiting'"
    " ORDER BY id"
).encode()
AGAIN = f"""
    WITH rejected AS (
        UPDATE {SCHEMA}.rows r SET state = 'rejected'
            FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[])
                AS g (whose, at, organisation, role, ref)
            WHERE r.person = g.whose AND r.state = 'waiting'
            RETURNING r.id, g.at, g.organisation, g.role, g.ref)
    INSERT INTO {SCHEMA}.steps (row_id, number, at, what, organisation, role, ref, why)
    SELECT id, (SELECT count(*) + 1 FROM {SCHEMA}.steps WHERE row_id = id), at, 'rejected',
        organisation, role, ref, %s FROM rejected
""".encode()


class Rejection(NamedTuple):
    """One rejection: whose key opened the row, when it was rejected, and by whom."""

    person: str
    at: str
    organisation: str
    role: str
    ref: str

    @classmethod
    def read(cls, line: bytes) -> Self:
        """The rejection of a line. Raises ValueError or TypeError for what is no such line."""
        found: Any = orjson.loads(line)
        return cls(**found)


class Rejections:
    """The file. Raises KeyFileError where others may read or change it."""

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        self._path = folder / REJECTIONS_FILE

    def add(self, person: str, step: Step) -> None:
        """Write down, durably, that a row is rejected in this step."""
        one = Rejection(person, step.at.isoformat(), *step.who)
        with locked(self._path):
            append(self._path, orjson.dumps(one._asdict()) + b"\n")

    def apply(self, ledger: Ledger) -> int:
        """Reject again what waits though it was rejected; how many rows. Raises Unavailable."""
        found: list[Rejection] = []
        for number, line in enumerate(lines_of(self._path), 1):
            try:
                found.append(Rejection.read(line))
            except (ValueError, TypeError) as error:
                raise KeyFileError(f"{self._path}: line {number} is no rejection") from error
        if not found:
            return 0
        return reject(ledger, found, WHY)


def reject(ledger: Ledger, rejections: Sequence[Rejection], why: str) -> int:
    """Reject those of these rows that wait; how many. Raises Unavailable.

    Where somebody is accepting one, when that is done: what is recorded is not rejected.
    """
    columns = [list(column) for column in zip(*rejections, strict=True)]
    try:
        back = ledger.rows(BACK, [columns[0]])
        if not back:
            return 0
        with ledger.database.connect() as connection:
            for (id,) in back:
                connection.execute(LOCK, [id])
            return connection.execute(AGAIN, [*columns, why]).rowcount
    except psycopg.OperationalError as error:
        raise Unavailable from error


def reject_again(ledger: Ledger, docket: Docket | None) -> int:
    """What the file beside a docket says is rejected; nothing where this process has no keys."""
    return 0 if docket is None else Rejections(docket.folder).apply(ledger)
