"""Who looked at a provider's file, as the provider may know it: when, which institution, by what.

Which records of access name a provider is a table of the projection `disclosure`, a moment behind
the log. The record itself is shown to officers and auditors only (`ledger/access.py`): its range
would tell a provider where events stand that it may not know of, and its other files whose else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from psycopg import Cursor

from ledger.envelope import TYPE_PREFIX
from ledger.store import Ledger
from projections.rights import ACCESS_RECORDED, File

RECORDED = TYPE_PREFIX + ACCESS_RECORDED


@dataclass(slots=True)
class Noticed:
    """What a batch of events says of looks at files."""

    rows: list[tuple[str, int]] = field(default_factory=list)

    def note(self, position: int, envelope: Mapping[str, Any]) -> None:
        """Take in one event."""
        if envelope["type"] == RECORDED:
            self.rows += [(one, position) for one in envelope["data"].get("files", ())]

    def write(self, cursor: Cursor[tuple[Any, ...]], schema: str) -> None:
        """Write it down."""
        if self.rows:
            subjects, positions = zip(*self.rows, strict=True)
            cursor.execute(
                f"INSERT INTO {schema}.looks (subject, position)"
                " SELECT * FROM unnest(%s::text[], %s::bigint[])".encode(),
                [list(subjects), list(positions)],
            )


class Seen(NamedTuple):
    """One look at a file. `position` is of its record; `as_of` of a score or a case."""

    position: int
    time: str
    door: str
    as_of: str | None
    organisation: str
    role: str
    ref: str


class Looks:
    """The looks at each provider's file."""

    def __init__(self, ledger: Ledger, schema: str = "disclosure_1") -> None:
        self._ledger = ledger
        self._after = (
            f"SELECT position FROM {schema}.looks WHERE subject = %s AND position > %s"
            " ORDER BY position LIMIT %s"
        ).encode()

    def at(self, file: File, *, after: int, limit: int) -> list[Seen]:
        """Up to `limit` looks whose records stand beyond a position, in the order of the log."""
        rows = self._ledger.rows(self._after, [file.subject, after, limit])
        stored = self._ledger.read_at([row[0] for row in rows])
        return [_seen(one.position, orjson.loads(one.state)) for one in stored]


def _seen(position: int, envelope: Mapping[str, Any]) -> Seen:
    data = envelope["data"]
    return Seen(
        position,
        envelope["time"],
        data["door"],
        data["as_of"],
        envelope["actororg"],
        envelope["actorrole"],
        envelope["actorref"],
    )
