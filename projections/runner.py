"""Following the log in batches: read, fold, settle, track, in one transaction.

Each projection has tables in a schema of its own with one `progress` row. Taking that row's lock
makes a second process a hot spare: it finds the row locked, waits, and later goes on from the
position it finds. A crash anywhere leaves the last committed batch and its position together, so
the next start continues as if nothing had happened. Catching up, events are folded first and the
result is settled at the end, so that a provider with a hundred events is computed once. Who is far
behind reads together with the others (`together.py`), before any poison; all else each does alone.

A poison event (an unknown type, a broken fold) stops its projection only: everything before it is
folded, settled and served, time goes on changing what is served. Its position, its type and the
kind of error are in `progress.error` and in `/readyz`; what the error says of whom is only in the
process's own log. It is tried again every second: a new version of the program goes on by itself.
"""

from __future__ import annotations

import threading
import time as monotonic
from collections.abc import Callable, Sequence
from datetime import date
from importlib.resources import files
from typing import Any, NamedTuple, Protocol

import orjson
import psycopg
import structlog
from psycopg import sql

from ledger.database import Database, migrate
from ledger.figures import Folds
from ledger.store import Ledger
from ledger.tail import Tail
from projections.together import BATCH_EVENTS, FAR_EVENTS, Folding, catch_up_together, parts_of

IDLE_SECONDS = 1.0
BACK_OFF_SECONDS = 0.5
SPARE_POLL_SECONDS = 0.1

log = structlog.get_logger()


class Projection(Folding, Protocol):
    """What the runner drives. Both methods work in the transaction of `cursor`."""

    def settle(self, cursor: psycopg.Cursor[tuple[Any, ...]], today: date, position: int) -> bool:
        """Compute what the day and the events up to `position` changed; True while more is left."""


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


def follower_name(schema: str) -> str:
    """What the session of a projection's follower is called in the server's list."""
    return f"chengxin {schema}"


def advance(
    connection: psycopg.Connection,
    ledger: Ledger,
    projection: Projection,
    *,
    today: date,
    limit: int = BATCH_EVENTS,
    figures: Folds | None = None,
) -> bool:
    """One batch in one transaction; False when there is nothing left to do (or a spare waits).

    With a `limit` of 0 nothing is read: what is folded is settled. `figures` count the batch.
    """
    began = monotonic.perf_counter()
    progress = sql.Identifier(projection.schema, "progress")
    with connection.transaction(), connection.cursor() as cursor:
        taken = cursor.execute(
            sql.SQL("SELECT position, settled, error FROM {} FOR UPDATE SKIP LOCKED").format(
                progress
            )
        ).fetchone()
        if taken is None:
            return False
        position, settled, error = taken
        events = 0
        if limit:
            with projection.folding(cursor) as take:
                for part in parts_of(ledger, position, limit):
                    take(part)
                    events += len(part)
                    position = part[-1].position
        more = 0 < events == limit
        if not more:
            more = projection.settle(cursor, today, position)
            settled = settled if more else position
        reached = (position, settled, None if limit else error)
        if reached != taken:
            cursor.execute(
                sql.SQL("UPDATE {} SET position = %s, settled = %s, error = %s").format(progress),
                reached,
            )
    if figures is not None:
        figures.position = settled
        if events:
            figures.batch(events, monotonic.perf_counter() - began)
    return more or bool(events)


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
        self.figures = {one.schema: Folds() for one in projections}
        self._stopping = threading.Event()
        self._moved = threading.Condition()
        self._batches = 0
        self._catching_up = threading.Lock()
        self._apart_until = 0
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

    def wait_for(
        self, position: int, timeout_seconds: float, *, unless: Callable[[], bool] = lambda: False
    ) -> bool:
        """Block until every projection answers for `position`.

        False when the time is over, or `unless` says so. Raises psycopg.Error.
        """
        deadline = monotonic.monotonic() + timeout_seconds
        while True:
            # Read before the status: a batch that ends meanwhile is not waited for in vain.
            batches = self._batches
            if all(one.position >= position for one in self.status().values()):
                return True
            left = deadline - monotonic.monotonic()
            if left <= 0 or unless():
                return False
            # Where another process follows the log, nothing here tells when it has moved.
            self._wait_for_batch(batches, min(left, SPARE_POLL_SECONDS))

    def _wait_for_batch(self, seen: int, seconds: float) -> None:
        with self._moved:
            self._moved.wait_for(lambda: self._batches != seen, seconds)

    def _run(self, projection: Projection) -> None:
        while not self._stopping.is_set():
            try:
                # Whoever asks the server whether anybody follows looks for this name.
                name = follower_name(projection.schema)
                with self._ledger.database.connect(name=name) as connection:
                    self._follow(connection, projection)
            except Exception as error:
                # Nothing may end this thread: a projection would stand still and say nothing.
                log.warning(
                    "projection waits",
                    projection=projection.schema,
                    position=self.figures[projection.schema].position,
                    reason=str(error),
                )
                self._stopping.wait(BACK_OFF_SECONDS)

    def _follow(self, connection: psycopg.Connection, projection: Projection) -> None:
        reached = -FAR_EVENTS
        while not self._stopping.is_set():
            # Read before the batch: whatever is committed later moves the tail beyond it.
            position = self._tail.position
            if position - reached >= FAR_EVENTS:
                self._together()
            try:
                busy = advance(
                    connection,
                    self._ledger,
                    projection,
                    today=self._today(),
                    figures=self.figures[projection.schema],
                )
            except (psycopg.OperationalError, psycopg.InterfaceError):
                raise
            except Exception:
                self._poisoned(connection, projection)
                # Going together would break at the same event every second.
                reached = position
                self._tell()
                self._stopping.wait(IDLE_SECONDS)
                continue
            self._tell()
            if not busy:
                reached = position
                self._tail.wait(position, IDLE_SECONDS)

    def _together(self) -> None:
        """Catch up all that are far behind, unless each must go by itself.

        One thread at a time: what another one reads meanwhile is read for this one too.
        """
        with self._catching_up:
            try:
                catch_up_together(
                    self._ledger,
                    self._projections,
                    beyond=self._apart_until,
                    going=lambda: not self._stopping.is_set(),
                    far=FAR_EVENTS,
                    figures=self.figures,
                )
            except (psycopg.OperationalError, psycopg.InterfaceError):
                raise
            except Exception:
                # It is poison for one of them; by itself each goes as far as it can.
                self._apart_until = self._ledger.head()

    def _tell(self) -> None:
        with self._moved:
            self._batches += 1
            self._moved.notify_all()

    def _poisoned(self, connection: psycopg.Connection, projection: Projection) -> None:
        """Go on to the event before the broken one, event by event, and say what is broken."""
        reason, detail, position = None, "", 0
        for limit in (1, 0):
            try:
                while advance(
                    connection, self._ledger, projection, today=self._today(), limit=limit
                ):
                    pass
            except (psycopg.OperationalError, psycopg.InterfaceError):
                raise
            except Exception as error:
                if reason is None:
                    position, what = self._broken(projection)
                    reason = f"position {position}, {what}: {type(error).__name__}"
                    detail = str(error)
        if reason is None:
            return
        told = connection.execute(
            sql.SQL("UPDATE {} SET error = %s WHERE error IS DISTINCT FROM %s").format(
                sql.Identifier(projection.schema, "progress")
            ),
            [reason, reason],
        )
        if told.rowcount:
            log.error(
                "projection stopped",
                projection=projection.schema,
                position=position,
                reason=reason,
                detail=detail,
            )

    def _broken(self, projection: Projection) -> tuple[int, str]:
        """Position and type of the event that could not be folded, or where settling broke."""
        query = f"SELECT position FROM {projection.schema}.progress".encode()
        position = self._ledger.rows(query)[0][0]
        after = self._ledger.read(position, 1)
        if not after:
            return position, "settling"
        return position + 1, orjson.loads(after[0].state)["type"]
