"""The way into the log: one appender gathers concurrent requests into one transaction.

Life of a request: `submit` queues it → the appender thread takes everything queued → one call of
the database function locks the head row, judges each request on its own, inserts, bumps and
notifies → the function's transaction commits → each caller gets its own answer.

Why nothing acknowledged is lost: an answer is given only after the server reported the commit
(the call is a single statement in autocommit mode, so its result arrives after the commit).
Why nobody is told a lie: when the connection breaks in between, the appender connects again, ends
the old backend, waits on the head row's lock for whatever is still ending, and looks the events up
by id. What it finds is acknowledged, what it does not find was never committed and is sent again.
Only when the database stays away is the answer "outcome unknown".
Why nobody waits for ever: a call without an answer loses its connection (`ledger/watchdog.py`), and
SETTLE_SECONDS after its first try a batch is not sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time as monotonic
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

import psycopg

from ledger import errors
from ledger.database import Database
from ledger.figures import Appends
from ledger.parameters import Answer, outcomes, parameters
from ledger.sealing import Box
from ledger.watchdog import Watchdog

MAX_BATCH_REQUESTS = 256
MAX_BATCH_BYTES = 4 * 1024 * 1024
SETTLE_SECONDS = 8
BACK_OFF_SECONDS = 0.1
ENDING_MILLISECONDS = 5000
NOT_NOW = ("25006", "40", "53", "55", "57", "58")
"""SQLSTATEs of a server that cannot write now: read-only, no disk, no lock in time, cancelled …"""


class Entry(NamedTuple):
    """One event on its way in. `time_at`: where `time` stands in `state`, -1 for nowhere.

    `boxes`: its ciphertexts, which are recorded with it (`ledger/vault.py`).
    """

    stream: str
    version: int
    id: str
    topic: str
    state: bytes
    time_at: int
    boxes: tuple[Box, ...] = ()


class Key(NamedTuple):
    """An idempotency key of one issuer and subject, with the HMAC of the request."""

    issuer: str
    subject: str
    key: str
    digest: bytes


class Request:
    """A request waiting for its outcome."""

    __slots__ = ("deliver", "entries", "key", "loop", "outcome", "submitted_at")

    def __init__(
        self,
        entries: Sequence[Entry],
        key: Key | None,
        deliver: Callable[[], None],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.entries = entries
        self.key = key
        self.deliver = deliver
        self.loop = loop
        self.submitted_at = monotonic.perf_counter()
        self.outcome: Answer | Exception | None = None

    def result(self) -> Answer:
        """The answer, or raise what it ended in."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        assert self.outcome is not None
        return self.outcome


class Appender:
    """One thread, one connection, one transaction at a time; callers may be threads or tasks."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._queue: deque[Request] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self.figures = Appends(self._queue)
        self._connection: psycopg.Connection | None = None
        self._session = ""
        name = f"{database.schema}.{database.application}_"
        # The literals are the checked names of schema and application.
        self._append = (
            f"SELECT * FROM {name}append(%s, %s::text::int[], %s::text::text[], %s::text::bigint[],"
            " %s::text::uuid[], %s::text::text[], %b::bytea[], %s::text::int[],"
            " %s::text::text[], %s::text::text[], %s::text::text[], %b::bytea[],"
            " %s::text::int[], %s::text::uuid[], %s::text::uuid[], %b::bytea[])"
        ).encode()
        self._outcome = f"SELECT * FROM {name}outcome(%s::uuid[])".encode()
        self._watchdog = Watchdog("appender's watchdog")
        self._thread = threading.Thread(target=self._run, name="appender", daemon=True)
        self._thread.start()

    def append(self, entries: Sequence[Entry], key: Key | None = None) -> Answer:
        """Append atomically; blocks until committed.

        Raises WrongVersion, KeyReused, PersonErased, ClockAhead, Unavailable (nothing recorded)
        or OutcomeUnknown.
        """
        latch = threading.Lock()
        latch.acquire()
        request = Request(entries, key, latch.release)
        self.submit(request)
        latch.acquire()
        return request.result()

    async def append_async(self, entries: Sequence[Entry], key: Key | None = None) -> Answer:
        """`append` for a task; the event loop goes on meanwhile."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def deliver() -> None:
            if not future.done():
                future.set_result(None)

        request = Request(entries, key, deliver, loop)
        # At once, not at the end of this round of the loop: while the thread commits what came
        # first, the loop makes ready what goes into the next transaction.
        self.submit(request)
        await future
        return request.result()

    def submit(self, request: Request) -> None:
        """Queue a request; its `deliver` is called when its outcome is set. Raises Unavailable."""
        with self._wake:
            if self._closing:
                raise errors.Unavailable
            self._queue.append(request)
            self._wake.notify()

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    break
                batch = self._take()
            try:
                self._commit(batch)
            except Exception as error:
                # Nothing may end this thread: whoever waits would wait for ever.
                _settle(batch, error)
            _deliver(batch)
            _count(batch, self.figures)
        if self._connection is not None:
            self._connection.close()
        self._watchdog.stop()

    def _take(self) -> list[Request]:
        batch: list[Request] = []
        size = 0
        while self._queue and len(batch) < MAX_BATCH_REQUESTS and size < MAX_BATCH_BYTES:
            request = self._queue.popleft()
            size += sum(len(entry.state) for entry in request.entries)
            batch.append(request)
        return batch

    def _commit(self, batch: Sequence[Request]) -> None:
        deadline = monotonic.monotonic() + SETTLE_SECONDS
        while True:
            try:
                connection = self._connection or self._connect()
            except psycopg.Error:
                monotonic.sleep(BACK_OFF_SECONDS)
                return _settle(batch, errors.Unavailable())
            try:
                return self._execute(connection, batch)
            except (psycopg.Error, UnicodeEncodeError) as error:
                # UnicodeEncodeError: a lone surrogate, which cannot even be sent.
                if not connection.closed:
                    return self._refused(batch, error, deadline)
            # The connection is lost, and with it the answer.
            batch = self._learn_outcome(batch, deadline)
            if not batch or monotonic.monotonic() > deadline:
                # What is left was certainly not recorded.
                return _settle(batch, errors.Unavailable())

    def _connect(self) -> psycopg.Connection:
        self._session = f"chengxin appender {uuid4().hex}"
        self._connection = self._database.connect(name=self._session)
        self._connection.prepare_threshold = 1
        return self._connection

    def _execute(self, connection: psycopg.Connection, batch: Sequence[Request]) -> None:
        given = parameters(batch, self._clock())
        cursor = self._watchdog.execute(connection, self._append, given)
        row = cursor.fetchone()
        assert row is not None
        for request, outcome in zip(batch, outcomes(batch, row), strict=True):
            request.outcome = outcome

    def _refused(self, batch: Sequence[Request], error: Exception, deadline: float) -> None:
        """The server refused the whole call and rolled it back; nothing of it is recorded."""
        state = getattr(error, "sqlstate", None) or ""
        if state == "CX001":
            return _settle(batch, errors.ClockAhead(now=self._clock(), limit="5 min"))
        if state.startswith(NOT_NOW):
            return _settle(batch, errors.Unavailable())
        if len(batch) == 1:
            return _settle(batch, error)
        # One request is poison; find it by giving each a call of its own.
        for request in batch:
            if monotonic.monotonic() > deadline:
                return _settle(batch, errors.Unavailable())
            self._commit([request])
        return None

    def _learn_outcome(self, batch: Sequence[Request], deadline: float) -> list[Request]:
        """Answer what was committed; returns what certainly was not."""
        lost, self._connection = self._session, None
        self.figures.lost_calls += 1
        ids = [entry.id for request in batch for entry in request.entries]
        while (rows := self._ask(ids, lost)) is None:
            if monotonic.monotonic() > deadline or self._closing:
                _settle(batch, errors.OutcomeUnknown())
                return []
            monotonic.sleep(BACK_OFF_SECONDS)
        found = {str(event_id): (position, at) for event_id, position, at in rows}
        missing: list[Request] = []
        for request in batch:
            if request.entries and request.entries[0].id in found:
                request.outcome = Answer(*found[request.entries[0].id])
            else:
                missing.append(request)
        return missing

    def _ask(self, ids: Sequence[str], lost: str) -> list[tuple[UUID, int, datetime]] | None:
        try:
            if not self._end_session(lost):
                return None
            return self._watchdog.execute(self._connect(), self._outcome, [ids]).fetchall()
        except psycopg.Error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return None

    def _end_session(self, session: str) -> bool:
        """End the lost backend, lest it run a call it has only buffered; whether it is gone."""
        with self._database.connect(role=None) as connection:
            ended = self._watchdog.execute(
                connection,
                b"SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity"
                b" WHERE application_name = %s",
                [ENDING_MILLISECONDS, session],
            ).fetchall()
        return all(gone for (gone,) in ended)


def _settle(batch: Sequence[Request], outcome: Exception) -> None:
    for request in batch:
        if request.outcome is None:
            request.outcome = outcome


def _deliver(batch: Sequence[Request]) -> None:
    """Tell every caller; one wake-up for each event loop, not one for each request."""
    loops: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
    for request in batch:
        if request.loop is None:
            request.deliver()
        else:
            loops.setdefault(request.loop, []).append(request.deliver)
    for loop, deliveries in loops.items():
        # A loop that was closed meanwhile has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_call_all, deliveries)


def _count(batch: Sequence[Request], figures: Appends) -> None:
    """Add a batch to the figures; nobody waits for that any more."""
    figures.requests.add(len(batch))
    now = monotonic.perf_counter()
    for request in batch:
        figures.seconds.add(now - request.submitted_at)
        outcome = request.outcome
        if isinstance(outcome, Answer):
            ending = "repeated" if outcome.repeated else "appended"
            figures.events += 0 if outcome.repeated else len(request.entries)
        else:
            ending = getattr(outcome, "code", "failed")
        figures.outcomes[ending] = figures.outcomes.get(ending, 0) + 1


def _call_all(deliveries: Sequence[Callable[[], None]]) -> None:
    for deliver in deliveries:
        deliver()
