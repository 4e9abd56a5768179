"""Proposals as officers and auditors see them: what awaits a second officer, what became of one.

Which are open is a table of the projection `disclosure`; what a proposal says, and what became of
it, is read from the log itself, so that the answer about one is never behind. A proposal lapses by
the day alone. Nobody else may be shown any of it: it is not decided.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, NamedTuple

import orjson
from psycopg import Cursor

from ledger.envelope import TYPE_PREFIX
from ledger.events import provider_stream
from ledger.proposal import ProposalMade, ProposalRefused, ProposalWithdrawn
from ledger.second_officer import EVENTS_OF_TWO
from ledger.store import Ledger

MADE = TYPE_PREFIX + ProposalMade.type
State = Literal["open", "approved", "refused", "withdrawn", "lapsed"]
STATES: dict[str, State] = {
    **{one.type: "approved" for one in EVENTS_OF_TWO},
    ProposalRefused.type: "refused",
    ProposalWithdrawn.type: "withdrawn",
}
"""What each event that names a proposal as its cause makes of it."""
CAUSE = "causationid"
ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(slots=True)
class Noted:
    """What a batch of events says of proposals."""

    made: list[tuple[int, str, str, str | None]] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    def note(self, position: int, envelope: Mapping[str, Any]) -> None:
        """Take in one event."""
        if envelope["type"] == MADE:
            lapses_on = envelope["data"]["lapses_on"]
            self.made.append((position, envelope["id"], envelope["subject"], lapses_on))
        elif CAUSE in envelope:
            self.causes.append(envelope[CAUSE])

    def write(self, cursor: Cursor[tuple[Any, ...]], schema: str) -> None:
        """Write it down: first what was proposed, then what was decided."""
        if self.made:
            cursor.executemany(
                f"INSERT INTO {schema}.proposals (position, id, subject, lapses_on)"
                " VALUES (%s, %s, %s, %s)".encode(),
                self.made,
            )
        if self.causes:
            query = f"UPDATE {schema}.proposals SET decided = true WHERE id = ANY (%s::uuid[])"
            cursor.execute(query.encode(), [self.causes])


class Asked(NamedTuple):
    """A proposal and what became of it; `verdict` is the event that decided it, if any."""

    position: int
    envelope: Mapping[str, Any]
    state: State
    verdict: tuple[int, Mapping[str, Any]] | None

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.envelope["id"])

    @property
    def subject(self) -> str:
        """Whom it concerns."""
        return str(self.envelope["subject"])


class Proposals:
    """The proposals of a ledger."""

    def __init__(self, ledger: Ledger, schema: str = "disclosure_1") -> None:
        self._ledger = ledger
        undecided = "NOT decided AND (lapses_on IS NULL OR lapses_on > %s)"
        self._open = (
            f"SELECT position FROM {schema}.proposals WHERE {undecided} AND position > %s"
            " ORDER BY position LIMIT %s"
        ).encode()
        name = f"{ledger.database.schema}.{ledger.database.application}_"
        self._made = (
            f"SELECT notification_id, state FROM {name}events"
            f" WHERE event_id = %s AND topic = '{ProposalMade.type}'"
        ).encode()
        self._imported = (
            f"SELECT position FROM {schema}.proposals p JOIN {name}keys k ON k.subject = p.subject"
            " AND p.position BETWEEN k.first_position AND k.first_position + k.events - 1"
            f" WHERE {undecided} AND k.issuer = %s AND starts_with(k.key, %s)"
            " ORDER BY position"
        ).encode()

    def open(self, *, after: int, limit: int, today: date) -> list[Asked]:
        """Up to `limit` proposals beyond a position that somebody may still decide."""
        return self._undecided(self._ledger.rows(self._open, [today, after, limit]), today)

    def imported(self, organisation: str, prefix: str, *, today: date) -> list[Asked]:
        """Every open proposal that an import brought; `prefix`: how its keys begin."""
        rows = self._ledger.rows(self._imported, [today, organisation, prefix])
        return self._undecided(rows, today)

    def one(self, subject: str, id: str, *, today: date) -> Asked | None:
        """The proposal of a provider, whatever became of it."""
        found = self.find(id, today=today)
        return found if found is not None and found.subject == subject else None

    def find(self, id: str, *, today: date) -> Asked | None:
        """The proposal of an id, whomever it concerns."""
        rows = self._ledger.rows(self._made, [id]) if ID.fullmatch(id) else []
        if not rows:
            return None
        position, state = rows[0]
        return self._became(position, orjson.loads(state), today)

    def _undecided(self, rows: Sequence[tuple[Any, ...]], today: date) -> list[Asked]:
        stored = self._ledger.read_at([row[0] for row in rows])
        found = [self._became(one.position, orjson.loads(one.state), today) for one in stored]
        # The table may be a moment behind the log.
        return [one for one in found if one.state == "open"]

    def _became(self, position: int, envelope: Mapping[str, Any], today: date) -> Asked:
        stream = provider_stream(envelope["subject"])
        for stored in self._ledger.read_types_after([stream], position, list(STATES)):
            verdict = orjson.loads(stored.state)
            if verdict.get(CAUSE) == envelope["id"]:
                state = STATES[verdict["type"].removeprefix(TYPE_PREFIX)]
                return Asked(position, envelope, state, (stored.position, verdict))
        lapses_on = envelope["data"]["lapses_on"]
        lapsed = lapses_on is not None and today >= date.fromisoformat(lapses_on)
        return Asked(position, envelope, "lapsed" if lapsed else "open", None)
