"""What the log says of requests about persons, and what these reads need beside it. Blocking.

All raise Unavailable where the database cannot be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import date, datetime
from typing import Any, NamedTuple, TypeVar

import orjson
import psycopg

from ledger import person as stream
from ledger import rulebook
from ledger.access import AccessRecorded
from ledger.calendar import local_day
from ledger.envelope import Event, decode
from ledger.erasure import PersonErasure, PersonHold, PersonRelease, person_stream
from ledger.errors import LedgerNotOpened, Unavailable
from ledger.events import RULEBOOK_STREAM
from ledger.person import Person
from ledger.store import Ledger

SCAN_SECONDS = 3600
"""The whole log may have to be looked through for an act of somebody who never acted."""
KINDS = (PersonErasure.type, PersonHold.type, PersonRelease.type)

OVERDUE = f"""
    SELECT count(*) FROM (
        SELECT DISTINCT ON (originator_id) topic, state FROM :schema.:app_events
        WHERE topic IN ({", ".join(f"'{kind}'" for kind in KINDS)})
        ORDER BY originator_id, notification_id DESC) AS last
    WHERE topic = '{PersonHold.type}'
        AND convert_from(state, 'UTF8')::json #>> '{{data,until}}' < %s
"""

T = TypeVar("T")


class Placed(NamedTuple):
    """An event, and the position at which it stands."""

    position: int
    event: Event


class PersonLog:
    """Reads one ledger's log."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], datetime]) -> None:
        self._ledger, self._clock = ledger, clock
        name = f"{ledger.database.schema}.{ledger.database.application}_events"
        kinds = ", ".join(f"'{kind}'" for kind in KINDS)
        self._after = (
            f"SELECT notification_id, state FROM {name}"
            f" WHERE topic IN ({kinds}) AND notification_id > %s ORDER BY notification_id"
        ).encode()
        self._last = f"SELECT max(notification_id) FROM {name} WHERE topic IN ({kinds})".encode()
        self._last_act = (
            f"SELECT state FROM {name} WHERE topic <> '{AccessRecorded.type}'"
            " AND position(%s::bytea IN state) > 0 ORDER BY notification_id DESC LIMIT 1"
        ).encode()
        self._by_id = (
            f"SELECT notification_id, state FROM {name} WHERE event_id = ANY (%s::uuid[])"
            " ORDER BY notification_id"
        ).encode()

    def today(self) -> date:
        """The day that counts."""
        return local_day(self._clock())

    def after(self, position: int) -> list[Placed]:
        """The events about requests beyond a position, in order."""
        return self._placed(self._after, [position])

    def last(self) -> int:
        """The position of the last of them; 0 where there is none."""
        return int(self.read(lambda: self._ledger.rows(self._last))[0][0] or 0)

    def of_ids(self, ids: Collection[str]) -> list[Placed]:
        """The events with these ids, in order."""
        return self._placed(self._by_id, [list(ids)])

    def last_act(self, actor: str) -> date | None:
        """The day on which somebody last recorded anything."""
        written = b'"actorref":"%s"' % actor.encode()
        rows = self.read(lambda: self._ledger.rows(self._last_act, [written], seconds=SCAN_SECONDS))
        if not rows:
            return None
        time = decode(rows[0][0]).time
        assert time is not None
        return local_day(time)

    def head(self) -> int:
        """The last position of the log."""
        return self.read(self._ledger.head)

    def state(self, person: str) -> tuple[Person, dict[str, int]]:
        """A person's state, and the positions of its events by their ids."""
        rows = self.read(lambda: self._ledger.read_stream(person_stream(person)))
        state, positions = Person(), {}
        for row in rows:
            event = decode(row.state)
            state = stream.evolve(state, event)
            positions[event.id] = row.position
        return state, positions

    def book(self) -> rulebook.Rulebook:
        """The rulebook of today. Raises LedgerNotOpened."""
        rows = self.read(lambda: self._ledger.read_stream(RULEBOOK_STREAM))
        if not rows:
            raise LedgerNotOpened
        state = rulebook.Rulebooks()
        for row in rows:
            state = rulebook.evolve(state, decode(row.state))
        return state.of(self.today())

    def ledger_id(self) -> str:
        """What tells this ledger from any other: the id of its first event; empty before that."""
        rows = self.read(lambda: self._ledger.read_at([1]))
        return str(orjson.loads(rows[0].state)["id"]) if rows else ""

    def read(self, read: Callable[[], T]) -> T:
        """What a read gives. Raises Unavailable."""
        try:
            return read()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Unavailable from error

    def _placed(self, query: bytes, parameters: list[Any]) -> list[Placed]:
        rows = self.read(lambda: self._ledger.rows(query, parameters))
        return [Placed(position, decode(state)) for position, state in rows]


def overdue(ledger: Ledger) -> int:
    """How many holds last though their day is over. Raises psycopg.Error."""
    query = ledger.database.fill(OVERDUE).encode()
    return int(ledger.rows(query, [local_day(ledger.clock()).isoformat()])[0][0])
