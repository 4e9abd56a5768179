"""What may be shown to whom, now: the one place that every door asks.

The public sees an item on a day when it is served, singly publishable, within its publicity
period, and neither overturned, repaired nor removed. That is decided from the items table and the
day, so that an item goes out of sight on its last day even if no worker runs. Who sees more is in
`rights.py`, with the judgement itself; here is what it needs to know. For what is not shown there
is a stub in the whole feed. In the stream of one provider even a stub would tell whose it is and
how often, so there everyone gets only what is shown. Lines end before the first event whose item
this projection has not taken in yet, unless the reader has a right to it.

How a copy of the feed stays equal to the public view, and what a line is: `docs/events.md`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, NamedTuple

import orjson
from psycopg import Cursor

from ledger.envelope import TYPE_PREFIX
from ledger.events import RULEBOOK_STREAM, provider_stream
from ledger.store import Ledger, Parsed, Stored
from projections.facts import meaning_of
from projections.item import ITEM_COLUMNS, Item, item_of
from projections.look import Look, Opened
from projections.looks import Noticed
from projections.outline import Outline, outline_of
from projections.proposals import Noted
from projections.rights import (
    ACCESS_RECORDED,
    NO_ITEM,
    NOTHING_MORE,
    WITHDRAWALS,
    Reader,
    Stub,
    filed_under,
    has_item,
    judge,
)
from projections.rows import copying
from projections.runner import progress_of
from projections.together import Take
from projections.view import UNSURE, View, Viewed, withheld

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
BATCH_EVENTS = 500
"""How many events of a stream are read at once for those who see only some of them."""
PUBLIC_END = b'"visibility":"public"}'
"""How stored bytes end: `visibility` is the last of their sorted keys."""


class Disclosure:
    """The projection `disclosure`, and the events as a reader may see them."""

    def __init__(self, ledger: Ledger, schema: str = "disclosure_1") -> None:
        self.schema = schema
        self._ledger = ledger
        self._items = f"SELECT {ITEM_COLUMNS} FROM {schema}.items"
        columns = ", ".join(f"i.{name}" for name in Item._fields)
        self._view = View(ledger, schema, tuple(CHANGES))
        head = ledger.database.fill(":schema.:app_head")
        self._look_up = (
            f"SELECT p.settled, h.position, {columns} FROM {schema}.progress p CROSS JOIN {head} h"
            f" LEFT JOIN {schema}.items i ON i.position = ANY(%s) OR i.id = ANY(%s::uuid[])"
        ).encode()

    @contextmanager
    def folding(self, cursor: Cursor[tuple[Any, ...]]) -> Iterator[Take]:
        """Take in a batch: new items in one COPY, then what happened to items, in order."""
        # For each column, the last value wins: what happened to an item in between is past.
        changes: defaultdict[str, dict[str, bool]] = defaultdict(dict)
        proposals, looks = Noted(), Noticed()
        target = f"{self.schema}.items (position, id, subject, kind, shown_from, shown_until)"
        with copying(cursor, target) as write:
            yield lambda events: write(_items(events, changes, (proposals, looks)))
        proposals.write(cursor, self.schema)
        looks.write(cursor, self.schema)
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

    def look(
        self,
        after: int,
        limit: int,
        reader: Reader,
        *,
        today: date,
        subject: str | None = None,
    ) -> Look:
        """Up to `limit` lines after a position, each as this reader may see it.

        Of all events, or of a provider's stream.
        """

        stream = None if subject is None else provider_stream(subject)
        if stream is None or reader.sees_everything:
            viewed = self._view.read(after, limit, today=today, stream=stream)
            count, apart = self._judge(viewed, reader, today)
            return _look(viewed[:count], apart)
        shown: list[Viewed] = []
        opened: dict[int, Apart] = {}
        batch, more = max(limit, BATCH_EVENTS), True
        while more and len(shown) < limit:
            viewed = self._view.read(after, batch, today=today, stream=stream)
            count, apart = self._judge(viewed, reader, today)
            for n, one in enumerate(viewed[:count]):
                if n not in apart or apart[n].stub is None:
                    if n in apart:
                        opened[len(shown)] = apart[n]
                    shown.append(one)
            # Short of what was read: the end of the stream, or of what is judged.
            more = count == batch
            after = viewed[-1].position if viewed else after
        return _look(shown[:limit], {n: one for n, one in opened.items() if n < limit})

    def line(self, position: int, reader: Reader, *, today: date) -> Look:
        """The line of one position; none beyond the end."""
        look = self.look(position - 1, 1, reader, today=today)
        return look if look.lines and look.lines[0][0] == position else Look([])

    def rulebooks(self) -> list[Stored]:
        """The events that hold the rulebooks, which are everybody's."""
        return self._ledger.read_stream(RULEBOOK_STREAM)

    def may_open(self, line: tuple[int, bytes], reader: Reader) -> Opened | None:
        """The event of a line, if this reader may have the text that is sealed in it."""
        position, text = line
        outline = outline_of(text)
        if reader.rights.looks_at_target:
            [outline] = self._with_targets([outline])
        if not reader.may_open(outline):
            return None
        return Opened(position, filed_under(outline))

    def _judge(
        self, viewed: Sequence[Viewed], reader: Reader, today: date
    ) -> tuple[int, dict[int, Apart]]:
        """How many of them have been judged, or need no judging for this reader; and by its number
        each that the public does not see, which is found out without a look into the others.
        """
        rest = [
            n for n, one in enumerate(viewed) if one.withheld or not one.state.endswith(PUBLIC_END)
        ]
        apart: dict[int, Apart] = {}
        if reader.rights is NOTHING_MORE:
            apart = {n: NOT_PUBLIC for n in rest if not viewed[n].state.endswith(PUBLIC_END)}
            rest = [n for n in rest if n not in apart]
        if not rest:
            return len(viewed), apart
        outlines = [outline_of(viewed[n].state) for n in rest]
        if reader.rights.looks_at_target:
            outlines = self._with_targets(outlines)
        now = self._ascertained(
            {
                viewed[n].position: outline
                for n, outline in zip(rest, outlines, strict=True)
                if viewed[n].withheld == UNSURE and has_item(outline)
            },
            today,
        )
        for n, outline in zip(rest, outlines, strict=True):
            one = viewed[n]
            why, _, item = now.get(one.position, one.withheld or "").partition(" ")
            stub = judge(outline, reader, why, item)
            if stub is not None and why == UNSURE and has_item(outline):
                return n, {m: known for m, known in apart.items() if m < n}
            if outline.visibility != "public" or (why and has_item(outline)):
                apart[n] = Apart(stub, outline)
        return len(viewed), apart

    def _ascertained(self, unsure: Mapping[int, Outline], today: date) -> dict[int, str]:
        """What is withheld of events, by position, found in a look of its own; without those that
        are not taken in yet."""
        if not unsure:
            return {}
        position, items = self._items_of([one.target or at for at, one in unsure.items()])
        return {
            at: withheld(items.get(outline.target or at), today)
            for at, outline in unsure.items()
            if at <= position
        }

    def _items_of(self, keys: Sequence[int | str]) -> tuple[int, dict[int | str, Item]]:
        """Our own position, and items by both their keys: position or id of their event."""
        positions = [one for one in keys if isinstance(one, int)]
        ids = [one for one in keys if isinstance(one, str)]
        # In one look, so that nothing moves between position, head and items.
        rows = self._ledger.rows(self._look_up, [positions, ids])
        position, head = rows[0][:2]
        found = [Item._make(row[2:]) for row in rows if row[2] is not None]
        if head > position:
            found = self._as_withdrawn(found, position)
        items: dict[int | str, Item] = {}
        for item in found:
            items[item.position] = item
            if ids:
                items[str(item.id)] = item
        return position, items

    def _with_targets(self, outlines: Sequence[Outline]) -> list[Outline]:
        """The outlines, each with that of the event it works on."""
        wanted = {one.target for one in outlines if one.target is not None}
        on = self._ledger.read_ids(wanted) if wanted else {}
        return [
            one._replace(on=outline_of(on[one.target])) if one.target in on else one
            for one in outlines
        ]


class Apart(NamedTuple):
    """An event that the public does not see: what the reader gets instead, or else its outline."""

    stub: Stub | None
    outline: Outline | None


NOT_PUBLIC = Apart({"withheld": NO_ITEM}, None)
"""Where no right could show it, nothing else has to be known of it."""


def _look(viewed: Sequence[Viewed], apart: Mapping[int, Apart]) -> Look:
    lines = [(one.position, _line(one)) for one in viewed]
    opened: list[Opened] = []
    for n, (stub, outline) in apart.items():
        one = viewed[n]
        if stub is not None:
            lines[n] = one.position, _stub_line(one, stub)
        elif outline is not None and outline.type != ACCESS_RECORDED:
            opened.append(Opened(one.position, filed_under(outline)))
    return Look(lines, opened)


def _items(
    batch: Iterable[Parsed],
    changes: Mapping[str, dict[str, bool]],
    more: Sequence[Noted | Noticed],
) -> Iterator[tuple[str, ...]]:
    """A row for each new item; what happens to items is noted in `changes` on the way, and what
    else there is by `more`."""
    for position, envelope in batch:
        meaning_of(envelope)
        for one in more:
            one.note(position, envelope)
        item = item_of(envelope)
        if item is not None:
            kind, first, last = item
            yield str(position), envelope["id"], envelope["subject"], kind, first, last
            continue
        change = CHANGES.get(envelope["type"].removeprefix(TYPE_PREFIX))
        if change is not None:
            column, value = change
            changes[column][envelope["data"]["target"]] = value


def _line(stored: Viewed) -> bytes:
    return b'{"sequence":"%020d",%b' % (stored.position, stored.state[1:])


def _stub_line(stored: Viewed, stub: Mapping[str, str]) -> bytes:
    return orjson.dumps({"sequence": f"{stored.position:020d}", **stub})
