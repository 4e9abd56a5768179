"""Taking in the log: batches in transactions, read and parsed once for all who are far behind.

Most of the work of catching up is to fetch and to parse, and threads of one process only hinder
each other at it. So whoever is far behind takes along all that stand at the same place. Order: see
where each stands → take the last ones' `progress` rows, each in a transaction of its own → read a
batch, no further than where the next one stands, so that they meet → every part of it goes to each
of them, whose server works on it meanwhile → positions move and all commit.

Failure: whoever has not committed keeps nothing of the batch, and the caller lets each projection
go by itself; who has committed stands further on. A row that somebody else holds is left to him.
What is folded here is settled by each projection's own `advance`, as ever.
"""

from __future__ import annotations

import time as monotonic
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeAlias

import orjson
import psycopg
from psycopg import sql

from ledger.figures import Folds
from ledger.store import Ledger, Parsed

FAR_EVENTS = 1_000
"""Who is behind by less goes by itself: it is soon there, and waits for nobody."""
BATCH_EVENTS = 5_000
FAR_BATCH_EVENTS = 50_000
"""Ten times as many where much is to be done: a provider met often is written once a batch."""
PART_EVENTS = 250
"""So many are parsed in one call, and in memory at once: parsed they are six times their bytes."""

Take: TypeAlias = Callable[[Sequence[Parsed]], None]
"""Takes in the next events, in order; none is kept or changed."""


class Folding(Protocol):
    """What takes in the log, into the tables of `schema`."""

    schema: str

    def folding(self, cursor: psycopg.Cursor[tuple[Any, ...]]) -> AbstractContextManager[Take]:
        """Take in a batch in the transaction of `cursor`; all of it is written when it is left."""


class _Runner(NamedTuple):
    """A projection with its connection, and where it stands."""

    projection: Folding
    connection: psycopg.Connection
    position: int


def parts_of(ledger: Ledger, after: int, limit: int) -> Iterator[list[Parsed]]:
    """Up to `limit` events beyond a position, parsed a part at a time.

    Raises psycopg.Error; orjson.JSONDecodeError or ValueError for bytes that are no event.
    """
    with closing(ledger.stream(after, limit)) as events:
        while part := list(islice(events, PART_EVENTS)):
            envelopes = orjson.loads(b"[%b]" % b",".join([one.state for one in part]))
            yield [
                Parsed(one.position, envelope)
                for one, envelope in zip(part, envelopes, strict=True)
            ]


def catch_up_together(
    ledger: Ledger,
    projections: Sequence[Folding],
    *,
    beyond: int,
    going: Callable[[], bool],
    far: int,
    figures: Mapping[str, Folds],
) -> None:
    """Batch after batch, until at most one is `far` behind and free, or `going` says no more.

    Nobody who stands before `beyond` is taken along. `figures` count the batches of each schema.
    Raises psycopg.Error and whatever a fold does.
    """
    with ExitStack() as stack:
        pairs = [(one, stack.enter_context(ledger.database.connect())) for one in projections]
        while going():
            head = ledger.head()
            behind = [
                runner
                for runner in (_Runner(*pair, _standing(*pair)) for pair in pairs)
                if beyond <= runner.position <= head - far
            ]
            if len(behind) < 2 or not _batch(ledger, behind, figures):
                return


def _batch(ledger: Ledger, behind: Sequence[_Runner], figures: Mapping[str, Folds]) -> bool:
    """One batch for those that are last; False where somebody else has them all."""
    began = monotonic.perf_counter()
    last, *further = sorted({one.position for one in behind})
    limit = min([FAR_BATCH_EVENTS, *(position - last for position in further)])
    position = last
    with ExitStack() as transactions:
        taken: list[tuple[psycopg.Cursor[tuple[Any, ...]], Folding]] = []
        for one in behind:
            if one.position == last:
                transactions.enter_context(one.connection.transaction())
                cursor = transactions.enter_context(one.connection.cursor())
                if _locked(cursor, one.projection) == last:
                    taken.append((cursor, one.projection))
        if not taken:
            return False
        with ExitStack() as folds:
            takes = [folds.enter_context(one.folding(cursor)) for cursor, one in taken]
            for part in parts_of(ledger, last, limit):
                for take in takes:
                    take(part)
                position = part[-1].position
        for cursor, projection in taken:
            cursor.execute(
                sql.SQL("UPDATE {} SET position = %s").format(_progress(projection)), [position]
            )
    if position > last:
        seconds = monotonic.perf_counter() - began
        for _, projection in taken:
            figures[projection.schema].batch(position - last, seconds)
    return True


def _progress(projection: Folding) -> sql.Identifier:
    return sql.Identifier(projection.schema, "progress")


def _standing(projection: Folding, connection: psycopg.Connection) -> int:
    """The position of a projection; -1 for one that an event has stopped."""
    query = sql.SQL("SELECT position FROM {} WHERE error IS NULL").format(_progress(projection))
    row = connection.execute(query).fetchone()
    return -1 if row is None else int(row[0])


def _locked(cursor: psycopg.Cursor[tuple[Any, ...]], projection: Folding) -> int | None:
    """Lock a projection's row; where it stands, or None if somebody else has it."""
    query = sql.SQL("SELECT position FROM {} FOR UPDATE SKIP LOCKED").format(_progress(projection))
    row = cursor.execute(query).fetchone()
    return None if row is None else int(row[0])
