"""Following the log in batches: read, fold, settle, track, in one transaction.

Each projection has tables in a schema of its own with one `progress` row. Taking that row's lock
makes a second process a hot spare: it finds the row locked, waits, and later goes on from the
position it finds. A crash anywhere leaves the last committed batch and its position together, so
the next start continues as if nothing had happened. Catching up, events are folded first and the
result is settled at the end, so that a provider with a hundred events is computed once.

A poison event (an unknown type, a broken fold) stops its projection only: the position before it
is kept, and type, position and reason are in `progress.error`, in `/readyz` and in the log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from importlib.resources import files
from typing import Any, NamedTuple, Protocol

import orjson
import psycopg
import structlog
from psycopg import sql
from psycopg_pool import PoolTimeout

from ledger.database import Database, migrate
from ledger.store import Ledger
from ledger.tail import Tail

BATCH_EVENTS = 5_000
IDLE_SECONDS = 1.0
BACK_OFF_SECONDS = 0.5

log = structlog.get_logger()


class Row(NamedTuple):
    """An event to fold: its position and its parsed envelope."""

    position: int
    envelope: Mapping[str, Any]


class Projection(Protocol):
    """What the runner drives. Both methods work in the transaction of `cursor`."""

    schema: str

    def fold(self, cursor: psycopg.Cursor[tuple[Any, ...]], rows: Sequence[Row]) -> None:
        """Take in a batch of events, in order."""

    def settle(self, cursor: psycopg.Cursor[tuple[Any, ...]], today: date) -> bool:
        """Compute what the folded events and the day changed; True while more is left to do."""


class Status(NamedTuple):
    """How far a projection is: all events up to `position` are in its answers."""

    position: int
    error: str | None


def migrate_projections(database: Database) -> None:
    """Create or upgrade the tables of all projections."""
    for name in ("scores", "disclosure"):
        place = Database(database.conninfo, schema=f"{name}_1", application=name)
        migrate(place, files("projections") / "sql" / name)


def progress_of(ledger: Ledger, schema: str) -> Status:
    """Where a projection stands. Raises psycopg.Error."""
    rows = ledger.rows(f"SELECT settled, error FROM {schema}.progress".encode())
    return Status(*rows[0])


def advance(
    connection: psycopg.Connection,
    ledger: Ledger,
    projection: Projection,
    *,
    today: date,
    limit: int = BATCH_EVENTS,
) -> bool:
    """One batch in one transaction; False when there is nothing left to do (or a spare waits)."""
    progress = sql.Identifier(projection.schema, "progress")
    with connection.transaction(), connection.cursor() as cursor:
        taken = cursor.execute(
            sql.SQL("SELECT position, settled FROM {} FOR UPDATE SKIP LOCKED").format(progress)
        ).fetchone()
        if taken is None:
            return False
        position, settled = taken
        stored = ledger.read(position, limit)
        if stored:
            rows = [Row(one.position, orjson.loads(one.state)) for one in stored]
            projection.fold(cursor, rows)
            position = rows[-1].position
        more = len(stored) == limit
        if not more:
            more = projection.settle(cursor, today)
            settled = settled if more else position
        cursor.execute(
            sql.SQL("UPDATE {} SET position = %s, settled = %s, error = NULL").format(progress),
            [position, settled],
        )
    return more or bool(stored)


class Follower:
    """One thread for each projection."""

    def __init__(
        self,
        ledger: Ledger,
        tail: Tail,
        projections: Sequence[Projection],
        *,
        today: Callable[[], date],
    ) -> None:
        self._ledger = ledger
        self._tail = tail
        self._projections = projections
        self._today = today
        self._stopping = threading.Event()
        self._moved = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(one,), name=one.schema, daemon=True)
            for one in projections
        ]

    def start(self) -> None:
        """Begin to follow."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the batches under way and stop."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def status(self) -> dict[str, Status]:
        """Where each projection stands. Raises psycopg.Error."""
        return {one.schema: progress_of(self._ledger, one.schema) for one in self._projections}

    def wait_for(self, position: int, timeout_seconds: float) -> bool:
        """Block until every projection answers for `position`; False when the time is over."""

        def arrived() -> bool:
            return all(one.position >= position for one in self.status().values())

        with self._moved:
            return self._moved.wait_for(arrived, timeout_seconds)

    def _run(self, projection: Projection) -> None:
        position = 0
        while not self._stopping.is_set():
            try:
                with self._ledger.database.connect() as connection:
                    position = self._follow(connection, projection, position)
            except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout) as error:
                log.warning("projection waits", projection=projection.schema, reason=str(error))
                self._stopping.wait(BACK_OFF_SECONDS)

    def _follow(self, connection: psycopg.Connection, projection: Projection, position: int) -> int:
        while not self._stopping.is_set():
            # Read before the batch: whatever is committed later moves the tail beyond it.
            position = self._tail.position
            try:
                busy = advance(connection, self._ledger, projection, today=self._today())
            except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout):
                raise
            except Exception as error:
                self._poisoned(connection, projection, error)
                self._stopping.wait(IDLE_SECONDS)
                continue
            with self._moved:
                self._moved.notify_all()
            if not busy:
                self._tail.wait(position, IDLE_SECONDS)
        return position

    def _poisoned(
        self, connection: psycopg.Connection, projection: Projection, error: Exception
    ) -> None:
        """Go on to the event before the broken one, event by event, and say what is broken."""
        with suppress(Exception):
            while advance(connection, self._ledger, projection, today=self._today(), limit=1):
                pass
        progress = sql.Identifier(projection.schema, "progress")
        row = connection.execute(sql.SQL("SELECT position FROM {}").format(progress)).fetchone()
        assert row is not None
        broken = self._ledger.read(row[0], 1)
        what = orjson.loads(broken[0].state)["type"] if broken else "no event"
        reason = f"position {row[0] + 1}, {what}: {type(error).__name__}: {error}"
        log.error("projection stopped", projection=projection.schema, reason=reason)
        connection.execute(sql.SQL("UPDATE {} SET error = %s").format(progress), [reason])
