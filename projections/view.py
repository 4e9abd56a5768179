"""The log with what the public is told of each event: both read in one look, so that nothing moves
between them, and in one round trip, since a read must cost little more for being judged.

Facts only: who is shown what for them is judged in `rights.py`. What is said here of an item is
what `Item.withheld` says of it; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from ledger.store import Ledger
from projections import rights
from projections.item import Item
from projections.outline import ID_CHARACTERS, TARGET

UNSURE = "unsure"
"""Not taken in yet, or the log withdraws something that is not taken in yet."""
NEAR_EVENTS = 500
"""Who is further behind than this is not asked what he missed: a query that looks is as long."""


class Viewed(NamedTuple):
    """A stored event, and why the public is not shown it where its visibility is `public`.

    `withheld` is empty or None where it is shown; of an act on an item that is not, the item's
    position follows the reason after a space.
    """

    position: int
    state: bytes
    withheld: str | None = None


class View:
    """Reads events with what the projection `disclosure` knows of them."""

    def __init__(self, ledger: Ledger, schema: str, changes: Sequence[str]) -> None:
        """`changes`: the types that work on items."""
        self._ledger = ledger
        events = ledger.database.fill(":schema.:app_events")
        missed = (
            f"SELECT count(*) > {NEAR_EVENTS} OR bool_or(topic IN ({_listed(changes)}))"
            f" FROM (SELECT topic FROM {events} WHERE notification_id > p.settled"
            f" ORDER BY notification_id LIMIT {NEAR_EVENTS + 1}) m"
        )
        sure = (
            f"(SELECT CASE WHEN ({missed}) THEN 0 ELSE p.settled END"
            f" FROM {schema}.progress p LIMIT 1)"
        )
        target = (
            f" FROM {schema}.items t WHERE t.id = convert_from(substring(e.state"
            f" FROM position('{TARGET.decode()}'::bytea IN e.state) + {len(TARGET)}"
            f" FOR {ID_CHARACTERS}), 'UTF8')::uuid"
        )
        acts = _listed(changes)
        of_act = f"SELECT coalesce({_withheld('t')} || ' ' || t.position, ''){target}"
        is_open = "e.topic = ANY (%(open)s::text[])"
        select = (
            f"SELECT e.notification_id, e.state, CASE WHEN e.notification_id <= {sure} THEN"
            f" CASE WHEN i.position IS NOT NULL THEN {_withheld('i')}"
            f" WHEN e.topic IN ({acts}) THEN coalesce(({of_act}), '{rights.NO_ITEM}')"
            f" WHEN {is_open} THEN NULL ELSE '{rights.NO_ITEM}' END"
            f" WHEN {is_open} THEN NULL ELSE '{UNSURE}' END"
            f" FROM {events} e LEFT JOIN"
        )
        self._at = (
            f"{select} {schema}.items i ON i.position = e.notification_id"
            " WHERE e.notification_id = %(after)s + 1"
        ).encode()
        # The bound is there twice, or a join in the order of positions would begin at the first.
        self._beyond = (
            f"{select} {schema}.items i ON i.position = e.notification_id"
            " AND i.position > %(after)s WHERE e.notification_id > %(after)s"
            " ORDER BY e.notification_id"
        ).encode()
        # OFFSET 0: one by one, by their index.
        self._of = (
            f"{select} LATERAL (SELECT * FROM {schema}.items o"
            " WHERE o.position = e.notification_id OFFSET 0) i ON true"
            " WHERE e.originator_id = %(stream)s AND e.notification_id > %(after)s"
            " ORDER BY e.originator_version"
        ).encode()

    def read(
        self, after: int, limit: int, *, today: date, stream: str | None = None
    ) -> list[Viewed]:
        """Up to `limit` events after a position, of all or of a stream, in order."""
        asked = {
            "after": after,
            "limit": limit,
            "today": today,
            "stream": stream,
            "open": f"{{{','.join(rights.OPEN)}}}",
        }
        if limit == 1 and stream is None:
            # Positions are dense.
            query = self._at
        else:
            query = _limited(self._beyond if stream is None else self._of, limit)
        return list(map(Viewed._make, self._ledger.rows(query, asked)))


def _limited(query: bytes, limit: int) -> bytes:
    """The query with its limit.

    Of a limit that is a parameter the server believes the worst, and would rather plan anew for
    each call, which takes as long as reading a hundred events.
    """
    return b"SELECT * FROM (%b LIMIT %d) v LIMIT %%(limit)s" % (query, 10 ** len(str(limit - 1)))


def withheld(item: Item | None, today: date) -> str:
    """What `Viewed.withheld` is of an act on an item, or of one on nothing that is one."""
    if item is None:
        return rights.NO_ITEM
    reason = item.withheld(today)
    return "" if reason is None else f"{reason} {item.position}"


def _withheld(item: str) -> str:
    """`Item.withheld` as the database says it; most items are shown, so that comes first."""
    return (
        f"CASE WHEN {item}.shown_from <= %(today)s AND %(today)s < {item}.shown_until AND NOT"
        f" ({item}.overturned OR {item}.repaired OR {item}.removed OR {item}.ended) THEN NULL"
        f" WHEN {item}.overturned THEN 'overturned' WHEN {item}.repaired THEN 'repaired'"
        f" WHEN {item}.removed THEN 'removed'"
        f" WHEN {item}.ended OR %(today)s >= {item}.shown_until THEN 'publicity-ended'"
        " ELSE 'not-yet-served' END"
    )


def _listed(types: Sequence[str] | frozenset[str]) -> str:
    return ", ".join(f"'{one}'" for one in sorted(types))
