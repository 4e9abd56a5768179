"""Knowing that the log has grown: one LISTEN connection a process, whoever waits is woken.

NOTIFY is only a hint to read the head, which is also read at every connect and at least once a
second: a lost connection or a lost notification delays a reader, but can never make it miss an
event, and a notification that somebody forged wakes nobody.
"""

from __future__ import annotations

import asyncio
import threading
import time as monotonic
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg
import structlog
from psycopg import sql

from ledger.database import Database
from ledger.errors import Unavailable

POLL_SECONDS = 1.0
REACHED_SECONDS = 2.5 * POLL_SECONDS
LOOK_SECONDS = 0.01
FIRST_LOOK_SECONDS = 5.0
MAX_BEHIND = timedelta(minutes=5)
"""As far as a clock may be ahead (`sql/0002_append.sql`)."""
BACK_OFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)

log = structlog.get_logger()


class Look(NamedTuple):
    """What the database said of time: of the last event, its own, and when that was read here."""

    recorded_at: datetime | None
    now: datetime
    read_at: float


class Tail:
    """Follows the head of one log in a thread of its own."""

    def __init__(self, database: Database) -> None:
        self.position = 0
        self.healthy = False
        self._database = database
        self._moved = threading.Condition()
        self._waiting: list[asyncio.Future[None]] = []
        self._stopping = threading.Event()
        self._look: Look | None = None
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following and wake everybody."""
        self._stopping.set()
        self._wake(self.position)
        if self._thread.is_alive():
            self._thread.join()

    def bounded(
        self, clock: Callable[[], datetime], *, behind: timedelta = MAX_BEHIND
    ) -> Callable[[], datetime]:
        """`clock`, but never before the last recorded event, nor after the database's own clock,
        nor `behind` it by more than that.

        What is shown, and what time has changed, depends on the day: a machine whose clock is days
        off must neither show what had to go nor settle days that have not come, whether or not
        anything is recorded meanwhile. The clock raises Unavailable until the database has been
        seen.
        """

        def now() -> datetime:
            self._looked.wait(FIRST_LOOK_SECONDS)
            if (look := self._look) is None:
                raise Unavailable
            latest = look.now + timedelta(seconds=monotonic.monotonic() - look.read_at)
            bounded = max(min(clock(), latest), latest - behind)
            return bounded if look.recorded_at is None else max(bounded, look.recorded_at)

        return now

    def ahead(self, now: datetime) -> timedelta:
        """By how much `now` is ahead of the database's clock; negative where it is behind.

        Nothing where the database has not been seen.
        """
        if (look := self._look) is None:
            return timedelta()
        return now - look.now - timedelta(seconds=monotonic.monotonic() - look.read_at)

    def reached(self) -> bool:
        """Whether the database has answered within the last moments."""
        look = self._look
        return (
            self.healthy
            and look is not None
            and monotonic.monotonic() - look.read_at < REACHED_SECONDS
        )

    def wait(self, beyond: int, timeout_seconds: float) -> int:
        """Block until the head is greater than `beyond`, or the time is over; the known head."""
        with self._moved:
            self._moved.wait_for(
                lambda: self.position > beyond or self._stopping.is_set(), timeout_seconds
            )
            return self.position

    async def wait_async(self, beyond: int, timeout_seconds: float) -> int:
        """`wait` for a task."""
        with self._moved:
            if self.position > beyond or self._stopping.is_set():
                return self.position
            moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(moved)
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.position <= beyond and not self._stopping.is_set():
                    await moved
                    with self._moved:
                        moved = asyncio.get_running_loop().create_future()
                        self._waiting.append(moved)
        except TimeoutError:
            pass
        finally:
            with self._moved, suppress(ValueError):
                self._waiting.remove(moved)
        return self.position

    def _wake(self, position: int) -> None:
        with self._moved:
            self.position = max(self.position, position)
            self._moved.notify_all()
            waiting, self._waiting = self._waiting, []
        for moved in waiting:
            # A loop that has closed meanwhile has nobody left to wake.
            with suppress(RuntimeError):
                moved.get_loop().call_soon_threadsafe(_finish, moved)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                with self._database.connect() as connection:
                    self._follow(connection)
            except Exception as error:
                # Nothing may end this thread: every reader would wait for ever.
                failures = 0 if self.healthy else failures + 1
                self.healthy = False
                log.warning("tail waits", channel=self._database.channel, reason=str(error))
                self._stopping.wait(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
        self.healthy = False

    def _follow(self, connection: psycopg.Connection) -> None:
        database = self._database
        head = sql.SQL(
            "SELECT position, nullif(recorded_at, '-infinity'), clock_timestamp() FROM {}"
        ).format(sql.Identifier(database.schema, f"{database.application}_head"))
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(database.channel)))
        read_at = float("-inf")
        notices: list[psycopg.Notify] = []
        while not self._stopping.is_set():
            if notices or monotonic.monotonic() - read_at >= POLL_SECONDS:
                row = connection.execute(head).fetchone()
                assert row is not None
                read_at = monotonic.monotonic()
                self._look = Look(row[1], row[2], read_at)
                self._looked.set()
                self.healthy = True
                if row[0] > self.position:
                    self._wake(row[0])
            notices = list(connection.notifies(timeout=POLL_SECONDS / 4, stop_after=1))
            if notices:
                # One look for all that is committed in a few milliseconds; the first is not late.
                self._stopping.wait(max(0.0, read_at + LOOK_SECONDS - monotonic.monotonic()))


def _finish(moved: asyncio.Future[None]) -> None:
    if not moved.done():
        moved.set_result(None)
