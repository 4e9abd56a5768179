"""What may be shown to whom, now: the one place that every door asks.

The public sees an item on a day when it is served, singly publishable, within its publicity
period, and neither overturned, repaired nor removed. That is decided here from the items table
and the day, so that an item goes out of sight on its last day even if no worker runs. Officers
and auditors see every event, a provider every event of its own stream. For what is not shown
everyone else gets a stub in the whole feed: its position and a reason, nothing that tells whose it
is. In the stream of one provider even a stub would tell that and how often, so there everyone else
gets only what is shown. Lines end at the projection's own position: an event that has not been
judged yet is not served to anybody who is not entitled to all.

How a copy of the feed stays equal to the public view, and what a line is: `docs/events.md`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from psycopg import Cursor

from ledger.envelope import TYPE_PREFIX
from ledger.events import provider_stream
from ledger.store import Ledger, Parsed, Stored
from projections.facts import meaning_of
from projections.item import ITEM_COLUMNS, Item, item_of
from projections.rows import copying
from projections.runner import progress_of
from projections.together import Take

ALL_ROLES = frozenset(
    {
        "registrar",
        "inspector",
        "case_officer",
        "legal_reviewer",
        "decision_maker",
        "mediator",
        "auditor",
        "privacy_officer",
        "rulebook_editor",
    }
)
"""Officers and auditors: they see every event."""
REPAIR_REVOKED = "repair.revoked.v1"
CHANGES = {
    "decision.suspended.v1": ("suspended", True),
    "decision.resumed.v1": ("suspended", False),
    "obligation.fulfilled.v1": ("fulfilled", True),
    "obligation.fulfilment_revoked.v1": ("fulfilled", False),
    "repair.granted.v1": ("repaired", True),
    REPAIR_REVOKED: ("repaired", False),
    "decision.overturned.v1": ("overturned", True),
    "reward.revoked.v1": ("overturned", True),
    "severe_list.removed.v1": ("removed", True),
    "qualification.revoked.v1": ("removed", True),
    "publicity.ended.v1": ("ended", True),
}
"""What each act does to the item: the column and its new value."""
OPEN = frozenset(
    {
        "ledger.opened.v1",
        "rulebook.published.v1",
        "provider.registered.v1",
        "provider.admitted.v1",
        "provider.suspended.v1",
        "provider.resumed.v1",
        "provider.exited.v1",
    }
)
"""What is no item and no act on one, and shown where the event itself is public.

A type that stands in none of these tables is withheld until somebody has decided.
"""
WITHDRAWALS = frozenset(
    {
        "repair.granted.v1",
        "decision.overturned.v1",
        "reward.revoked.v1",
        "severe_list.removed.v1",
        "qualification.revoked.v1",
        "publicity.ended.v1",
    }
)
"""The acts that take an item out of the public view (a revoked repair no longer does)."""
BATCH_EVENTS = 500
"""How many events of a stream are read at once for those who see only some of them."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: the role, and the organisation (for a provider its identifier)."""

    role: str
    organisation: str

    def sees_all_of(self, subject: str | None) -> bool:
        """Whether this reader may see every event of a provider (None: of everything)."""
        if self.role in ALL_ROLES:
            return True
        return self.role == "provider" and subject is not None and subject == self.organisation


PUBLIC = Reader("public", "")


class Disclosure:
    """The projection `disclosure`, and the events as a reader may see them."""

    def __init__(self, ledger: Ledger, schema: str = "disclosure_1") -> None:
        self.schema = schema
        self._ledger = ledger
        self._items = f"SELECT {ITEM_COLUMNS} FROM {schema}.items"

    @contextmanager
    def folding(self, cursor: Cursor[tuple[Any, ...]]) -> Iterator[Take]:
        """Take in a batch: new items in one COPY, then what happened to items, in order."""
        # For each column, the last value wins: what happened to an item in between is past.
        changes: defaultdict[str, dict[str, bool]] = defaultdict(dict)
        target = f"{self.schema}.items (position, id, subject, kind, shown_from, shown_until)"
        with copying(cursor, target) as write:
            yield lambda events: write(_items(events, changes))
        for column, values in changes.items():
            cursor.execute(
                f"UPDATE {self.schema}.items i SET {column} = n.value"
                " FROM unnest(%s::uuid[], %s::bool[]) AS n (id, value) WHERE i.id = n.id".encode(),
                [list(values), list(values.values())],
            )

    def settle(self, cursor: Cursor[tuple[Any, ...]], today: date, position: int) -> bool:
        """Nothing is left to compute after folding."""
        return False

    def position(self) -> int:
        """All events up to here are judged."""
        return progress_of(self._ledger, self.schema).position

    def items(self, subject: str) -> list[Item]:
        """Every item of a provider, shown or not, in the order of the log."""
        query = f"{self._items} WHERE subject = %s ORDER BY position"
        return list(map(Item._make, self._ledger.rows(query.encode(), [subject])))

    def items_now(self, subject: str) -> list[Item]:
        """Every item of a provider, with what the log withdraws beyond our own position."""
        # First the position: a withdrawal judged after it is read from the log, whatever we see.
        position = self.position()
        return self._as_withdrawn(self.items(subject), position)

    def shown(self, subject: str, position: int, *, today: date) -> list[Item]:
        """The items of a provider up to a position that the public sees today."""
        items = self.items_now(subject)
        return [
            item for item in items if item.position <= position and item.withheld(today) is None
        ]

    def _as_withdrawn(self, items: Sequence[Item], position: int) -> list[Item]:
        """The items, and what the log withdraws beyond the projection's own position.

        A projection that stands still must not keep an overturned item in sight.
        """
        streams = {provider_stream(item.subject) for item in items}
        types = (*WITHDRAWALS, REPAIR_REVOKED)
        beyond = self._ledger.read_types_after(streams, position, types) if streams else []
        withdrawn: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for one in beyond:
            envelope = orjson.loads(one.state)
            column, value = CHANGES[envelope["type"].removeprefix(TYPE_PREFIX)]
            changed = withdrawn[envelope["data"]["target"]]
            if value:
                changed[column] = value
            else:
                # What a revoked repair shows again is shown when the projection says so.
                changed.pop(column, None)
        if not withdrawn:
            return list(items)
        return [item._replace(**withdrawn[str(item.id)]) for item in items]

    def ending(self, today: date, limit: int) -> list[Item]:
        """Items whose period is over and whose end is not recorded yet (for the worker)."""
        query = (
            f"{self._items} WHERE shown_until <= %s AND NOT ended AND NOT overturned"
            " AND NOT repaired AND NOT removed ORDER BY shown_until, position LIMIT %s"
        )
        return list(map(Item._make, self._ledger.rows(query.encode(), [today, limit])))

    def lines(
        self,
        after: int,
        limit: int,
        reader: Reader,
        *,
        today: date,
        subject: str | None = None,
    ) -> list[tuple[int, bytes]]:
        """Up to `limit` lines after a position, each as this reader may see it."""
        stream = None if subject is None else provider_stream(subject)
        if reader.sees_all_of(subject):
            return [(one.position, _line(one)) for one in self._read(stream, after, limit)]
        if stream is None:
            judged = self._judge(self._read(None, after, limit), reader, today)
            return [
                (one.position, _line(one) if stub is None else _stub_line(one, stub))
                for one, stub in judged
            ]
        lines: list[tuple[int, bytes]] = []
        batch, more = max(limit, BATCH_EVENTS), True
        while more and len(lines) < limit:
            stored = self._read(stream, after, batch)
            judged = self._judge(stored, reader, today)
            lines += [(one.position, _line(one)) for one, stub in judged if stub is None]
            # Short of what was read: the end of the stream, or of what is judged.
            more = len(judged) == batch
            after = stored[-1].position if stored else after
        return lines[:limit]

    def _read(self, stream: str | None, after: int, limit: int) -> list[Stored]:
        if stream is None:
            return self._ledger.read(after, limit)
        return self._ledger.read_stream_after(stream, after, limit)

    def line(self, position: int, reader: Reader, *, today: date) -> bytes | None:
        """The line of one position, or None beyond the end."""
        lines = self.lines(position - 1, 1, reader, today=today)
        return lines[0][1] if lines and lines[0][0] == position else None

    def _judge(
        self, stored: Sequence[Stored], reader: Reader, today: date
    ) -> list[tuple[Stored, dict[str, str] | None]]:
        """What has been judged of `stored`, each with the stub to give instead, if any."""
        position = self.position()
        stored = [one for one in stored if one.position <= position]
        about = [_about(one) for one in stored]
        query = f"{self._items} WHERE position = ANY(%s) OR id = ANY(%s)"
        asked = [[one.key for one in about if isinstance(one.key, kind)] for kind in (int, UUID)]
        rows = self._ledger.rows(query.encode(), asked) if stored else []
        items: dict[int | UUID, Item] = {}
        for item in self._as_withdrawn(list(map(Item._make, rows)), position):
            items[item.position] = items[item.id] = item
        return [
            (
                one,
                None
                if reader.sees_all_of(what.subject)
                else _stub(what, items.get(what.key), today),
            )
            for one, what in zip(stored, about, strict=True)
        ]


class _About(NamedTuple):
    """What is judged of an event; the rest of it is let go, since there may be thousands.

    `key`: the item it is about, an earlier one by its id, or its own by its position.
    """

    type: str
    visibility: str
    subject: str | None
    key: int | UUID


def _about(stored: Stored) -> _About:
    envelope = orjson.loads(stored.state)
    target = envelope["data"].get("target")
    return _About(
        envelope["type"].removeprefix(TYPE_PREFIX),
        envelope["visibility"],
        envelope.get("subject"),
        UUID(target) if target else stored.position,
    )


def _items(
    batch: Iterable[Parsed], changes: Mapping[str, dict[str, bool]]
) -> Iterator[tuple[str, ...]]:
    """A row for each new item; what happens to items is noted in `changes` on the way."""
    for position, envelope in batch:
        meaning_of(envelope)
        item = item_of(envelope)
        if item is not None:
            kind, first, last = item
            yield str(position), envelope["id"], envelope["subject"], kind, first, last
            continue
        change = CHANGES.get(envelope["type"].removeprefix(TYPE_PREFIX))
        if change is not None:
            column, value = change
            changes[column][envelope["data"]["target"]] = value


def _stub(what: _About, item: Item | None, today: date) -> dict[str, str] | None:
    """What the public gets in place of an event; None where it gets the event itself."""
    if what.visibility != "public":
        return {"withheld": "not-public"}
    if what.type in OPEN:
        return None
    if item is None:
        return {"withheld": "not-public"}
    reason = item.withheld(today)
    if reason is None:
        return None
    if what.type in WITHDRAWALS:
        return {"withheld": what.type, "retracts": f"{item.position:020d}"}
    return {"withheld": reason}


def _line(stored: Stored) -> bytes:
    return b'{"sequence":"%020d",%b' % (stored.position, stored.state[1:])


def _stub_line(stored: Stored, stub: Mapping[str, str]) -> bytes:
    return orjson.dumps({"sequence": f"{stored.position:020d}", **stub})
