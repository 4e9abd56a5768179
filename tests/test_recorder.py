"""The way into the log, on a real server: order, atomicity, truth about every request.

First the eventsourcing library's own test cases for recorders, then what they do not ask: many
writers in several processes' worth of appenders, faults on the wire, clocks that are wrong, roles.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from random import Random
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import IntegrityError, OperationalError, StoredEvent
from eventsourcing.tests import persistence as library

from ledger import appender as appending
from ledger import errors
from ledger.appender import Appender, Entry, Key, Request
from ledger.database import READER_ROLE, SERVICE_ROLE, Database, migrate
from ledger.envelope import TIME_PLACE, decode, format_time
from ledger.parameters import Answer
from ledger.recorder import Recorder
from ledger.store import Datastore, Ledger
from tests import given
from tests.conftest import Clock, Record, new_ledger
from tests.wire import Wire, wired

STATE = b'{"time":"' + TIME_PLACE.encode() + b'"}'
TIME_AT = 9


def entry(stream: str, version: int = 1, **changes: object) -> Entry:
    """A small event with a place for its time."""
    one = Entry(stream, version, str(uuid4()), "topic", STATE, TIME_AT)
    return one._replace(**changes)  # type: ignore[arg-type]


def key(name: str, digest: bytes = b"the request") -> Key:
    return Key("CN-REG-1", "91999999MA00TEXT0H", name, digest)


Row = tuple[int, str, int, str, datetime, bytes]
"""A stored row: position, stream, version, id, recorded_at, state."""


def rows(database: Database) -> list[Row]:
    """The whole log, by position."""
    with database.connect(role=None) as connection:
        found = connection.execute(
            database.fill(
                "SELECT notification_id, originator_id, originator_version, event_id::text,"
                " recorded_at, state FROM :schema.:app_events ORDER BY notification_id"
            ).encode()
        )
        return found.fetchall()


def assert_dense(database: Database) -> list[Row]:
    """Positions have no hole, streams have no hole, time never falls and stands in the bytes."""
    log = rows(database)
    assert [row[0] for row in log] == list(range(1, len(log) + 1))
    versions: dict[str, list[int]] = {}
    for row in log:
        versions.setdefault(row[1], []).append(row[2])
    for found in versions.values():
        assert found == list(range(found[0], found[0] + len(found)))
    times = [row[4] for row in log]
    assert times == sorted(times)
    for row in log:
        if row[5].startswith(STATE[:TIME_AT]):
            assert row[5] == STATE.replace(TIME_PLACE.encode(), format_time(row[4]).encode())
    with database.connect(role=None) as connection:
        head = connection.execute(database.fill("SELECT position FROM :schema.:app_head").encode())
        assert head.fetchone() == (len(log),)
    return log


@pytest.fixture
def appender(database: Database, clock: Clock) -> Iterator[Appender]:
    with running(database, clock) as appender:
        yield appender


@contextlib.contextmanager
def running(database: Database, clock: Callable[[], datetime]) -> Iterator[Appender]:
    """An appender as one process has it."""
    appender = Appender(database, clock=clock)
    try:
        yield appender
    finally:
        appender.close()


class Waiting:
    """A request that was submitted without waiting for it."""

    def __init__(self, appender: Appender, entries: Sequence[Entry], key: Key | None) -> None:
        self._done = threading.Event()
        self._request = Request(entries, key, self._done.set)
        appender.submit(self._request)

    def is_done(self) -> bool:
        """Whether its caller was told."""
        return self._done.is_set()

    def result(self) -> Answer:
        """Its answer, once it came, or raise what it ended in."""
        assert self._done.wait(30), "no answer"
        return self._request.result()


def submit(appender: Appender, *entries: Entry, key: Key | None = None) -> Waiting:
    return Waiting(appender, entries, key)


@contextlib.contextmanager
def head_locked(database: Database) -> Iterator[None]:
    """Nobody can append within the block; requests gather."""
    with database.connect(role=None) as connection, connection.transaction():
        connection.execute(database.fill("SELECT FROM :schema.:app_head FOR UPDATE").encode())
        yield


def wait_until_blocked(database: Database, calls: int = 1) -> None:
    """Return when so many calls of the append function wait for the head row."""
    with database.connect(role=None) as connection:
        for _ in range(1000):
            waiting = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database() AND query LIKE 'SELECT * FROM ledger.%'"
            ).fetchone()
            if waiting == (calls,):
                return
            time.sleep(0.005)
    raise AssertionError(f"never {calls} calls waiting for the head row")


# --- the library's own test cases -----------------------------------------------------------------


class RecorderCase(library.RecorderTestCase):
    """Runs a test case of the library on a database of its own, with stream names as ids."""

    @pytest.fixture(autouse=True)
    def _place(self, database: Database, clock: Clock) -> Iterator[None]:
        with running(database, clock) as appender:
            self.datastore = Datastore(database)
            self.appender = appender
            yield
            self.datastore.close()
        assert_dense(database)

    def new_originator_id(self) -> str:
        return f"stream-{uuid4()}"

    def create_recorder(self) -> Recorder:
        return Recorder(self.datastore, events_table_name="chengxin_events", appender=self.appender)


class TestApplicationRecorder(RecorderCase, library.ApplicationRecorderTestCase[Recorder]):
    """Everything the library asks of an application's recorder."""

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleavingPositions(RecorderCase, library.NonInterleavingNotificationIDsBaseCase):
    """Two writers of a thousand events each: the positions of one do not fall among the other's."""


class AggregateRecorder(Recorder):
    """Gives no positions, as the library's cases for aggregates want it."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: object) -> None:
        super().insert_events(stored_events, **kwargs)


class TestAggregateRecorder(RecorderCase, library.AggregateRecorderTestCase):
    """Everything the library asks of reading and writing single streams."""

    def create_recorder(self) -> AggregateRecorder:
        return AggregateRecorder(
            self.datastore, events_table_name="chengxin_events", appender=self.appender
        )


def test_the_library_is_told_in_its_own_errors(database: Database, clock: Clock) -> None:
    with running(database, clock) as appender:
        datastore = Datastore(database)
        recorder = Recorder(datastore, events_table_name="chengxin_events", appender=appender)
        event = StoredEvent("s", 1, "topic", b"")
        assert recorder.insert_events([event]) == [1]
        with pytest.raises(IntegrityError, match=r"Wrong expected version: 0 .*stream version 1"):
            recorder.insert_events([event])
        datastore.close()
    with pytest.raises(OperationalError, match="cannot be reached"):
        recorder.insert_events([StoredEvent("s", 2, "topic", b"")])


# --- order ----------------------------------------------------------------------------------------


def test_sixteen_writers_and_a_tailing_reader(database: Database) -> None:
    """Two processes' worth of appenders; what a reader sees is never again different."""
    written: dict[int, str] = {}
    seen: list[tuple[int, str]] = []
    done = threading.Event()
    ledger = new_ledger(database, lambda: datetime.now(UTC))

    def tail() -> None:
        while True:
            finished = done.is_set()
            after = seen[-1][0] if seen else 0
            found = ledger.rows(
                b"SELECT notification_id, event_id::text FROM ledger.chengxin_events"
                b" WHERE notification_id > %s ORDER BY notification_id LIMIT 50",
                [after],
            )
            seen.extend((position, id) for position, id in found)
            if finished and not found:
                return

    def write(number: int, appender: Appender) -> None:
        random, version = Random(number), 0
        for _ in range(60):
            entries = [entry(f"s{number}", version + n) for n in range(1, random.randint(2, 4))]
            version += len(entries)
            first = appender.append(entries).first_position
            written.update({first + n: one.id for n, one in enumerate(entries)})

    with ledger, running(database, ledger.clock) as other:
        reader = threading.Thread(target=tail)
        reader.start()
        with ThreadPoolExecutor(16) as writers:
            jobs = [writers.submit(write, n, (ledger.appender, other)[n % 2]) for n in range(16)]
            for job in jobs:
                job.result()
        done.set()
        reader.join()
    assert seen == sorted(written.items())
    assert [position for position, _ in seen] == list(range(1, len(written) + 1))
    assert len(written) == len(set(written.values())) > 16 * 60
    assert_dense(database)


def test_two_applications_in_one_schema_do_not_mix(database: Database, clock: Clock) -> None:
    other = Database(database.conninfo, application="other")
    migrate(other, files("ledger") / "sql")
    with (
        running(database, clock) as ours,
        running(other, clock) as theirs,
        database.connect() as listener,
        ThreadPoolExecutor(8) as writers,
    ):
        listener.execute(f'LISTEN "{database.channel}"'.encode())
        jobs = [
            writers.submit(appender.append, [entry(f"same-{n}")], key(f"k{n}"))
            for n in range(50)
            for appender in (ours, theirs)
        ]
        for job in jobs:
            assert not job.result().repeated
        notices = list(listener.notifies(timeout=1))
    for one in (database, other):
        log = assert_dense(one)
        assert sorted(row[1] for row in log) == sorted(f"same-{n}" for n in range(50))
        datastore = Datastore(one)
        events_table_name = f"{one.application}_events"
        recorder = Recorder(datastore, events_table_name=events_table_name, appender=ours)
        found = recorder.select_notifications(start=None, limit=1000)
        assert [(n.id, n.originator_id) for n in found] == [(row[0], row[1]) for row in log]
        datastore.close()
    ids = {row[3] for row in rows(database)}
    assert ids.isdisjoint(row[3] for row in rows(other))
    assert notices
    assert {notice.channel for notice in notices} == {"ledger.chengxin"}
    assert max(int(notice.payload) for notice in notices) == 50


def test_one_notification_for_a_batch_and_none_for_a_refusal(
    database: Database, appender: Appender
) -> None:
    with database.connect() as listener:
        listener.execute(f'LISTEN "{database.channel}"'.encode())
        with head_locked(database):
            plug = submit(appender, entry("plug"))
            wait_until_blocked(database)
            batch = [submit(appender, entry(f"s{n}")) for n in range(20)]
        for one in (plug, *batch):
            one.result()
        with pytest.raises(errors.WrongVersion):
            appender.append([entry("plug", 7)])
        assert appender.append([entry("last")]).first_position == 22
        assert [notice.payload for notice in listener.notifies(timeout=1)] == ["1", "21", "22"]


# --- each request for itself ----------------------------------------------------------------------


@pytest.mark.parametrize("text", ['{"a\\b", c}', "NULL", "", "\\", '"', "a\n\x1f 字"])
def test_any_text_names_a_stream_a_topic_and_a_key(
    database: Database, appender: Appender, text: str
) -> None:
    first = appender.append([entry(text, topic=text), entry("other")], key(text))
    assert appender.append([entry("unused")], key(text)) == replace(first, repeated=True)
    assert [row[1] for row in assert_dense(database)] == [text, "other"]
    datastore = Datastore(database)
    recorder = Recorder(datastore, events_table_name="chengxin_events", appender=appender)
    assert [one.topic for one in recorder.select_events(text)] == [text]
    datastore.close()


def test_a_refused_request_in_a_batch_fails_alone(database: Database, appender: Appender) -> None:
    taken = entry("old")
    appender.append([taken], key("used"))
    with head_locked(database):
        plug = submit(appender, entry("plug"))
        wait_until_blocked(database)
        good = submit(appender, entry("a", 1), entry("a", 2), entry("b", 1))
        wrong_version = submit(appender, entry("c", 1), entry("old", 3))
        reused = submit(appender, entry("d"), key=key("used", b"another request"))
        repeated = submit(appender, entry("e"), key=key("used"))
        same_id = submit(appender, entry("f"), entry("g", id=taken.id))
        twice = submit(appender, entry("h"), key=key("new"))
        twice_again = submit(appender, entry("h"), key=key("new"))
        follower = submit(appender, entry("a", 3))
        last = submit(appender, entry("z"))
    assert plug.result().first_position == 2
    assert good.result().first_position == 3
    with pytest.raises(errors.WrongVersion) as refused:
        wrong_version.result()
    assert str(refused.value) == "Wrong expected version: 2 (stream old, stream version 1)."
    with pytest.raises(errors.KeyReused, match="'used'"):
        reused.result()
    assert repeated.result() == Answer(1, repeated.result().recorded_at, repeated=True)
    with pytest.raises(RuntimeError, match="event id taken"):
        same_id.result()
    assert (twice.result().first_position, twice.result().repeated) == (6, False)
    assert (twice_again.result().first_position, twice_again.result().repeated) == (6, True)
    assert follower.result().first_position == 7
    assert last.result().first_position == 8
    log = assert_dense(database)
    assert [row[1] for row in log] == ["old", "plug", "a", "a", "b", "h", "a", "z"]
    with database.connect() as connection:
        together = connection.execute(
            "SELECT count(DISTINCT xmin::text) FROM ledger.chengxin_events"
            " WHERE notification_id > 2"
        ).fetchone()
    assert together == (1,), "all of it was one transaction"


@pytest.mark.parametrize(
    "poison",
    [
        entry("nul\x00"),
        entry("lone surrogate \ud800"),
        entry("s", 2**63),
        entry("s", id="no uuid"),
        entry("s", time_at=2**31),
        entry(Random(1).randbytes(3000).hex()),
        entry("s", topic="\x00"),
    ],
    ids=["NUL", "surrogate", "version", "id", "place of time", "too long for the index", "topic"],
)
def test_a_request_that_the_server_cannot_even_read_fails_alone(
    database: Database, appender: Appender, poison: Entry
) -> None:
    with head_locked(database):
        plug = submit(appender, entry("plug"))
        wait_until_blocked(database)
        before = submit(appender, entry("before"))
        bad = submit(appender, entry("beside"), poison)
        after = submit(appender, entry("after"), key=key("k"))
    assert plug.result().first_position == 1
    assert before.result().first_position == 2
    with pytest.raises((psycopg.Error, UnicodeEncodeError, errors.WrongVersion)):
        bad.result()
    assert after.result().first_position == 3
    assert appender.append([entry("later")]).first_position == 4
    assert [row[1] for row in assert_dense(database)] == ["plug", "before", "after", "later"]


def test_a_request_is_all_or_nothing(database: Database, appender: Appender) -> None:
    with pytest.raises(errors.WrongVersion):
        appender.append([entry("a", 1), entry("a", 2), entry("a", 4)])
    assert rows(database) == []


def test_a_request_may_go_back_and_forth_between_streams(
    database: Database, appender: Appender
) -> None:
    appender.append([entry("a", 1), entry("b", 1), entry("a", 2), entry("b", 2), entry("a", 3)])
    with pytest.raises(errors.WrongVersion):
        appender.append([entry("a", 4), entry("b", 3), entry("a", 4)])
    assert [(row[1], row[2]) for row in assert_dense(database)] == [
        ("a", 1),
        ("b", 1),
        ("a", 2),
        ("b", 2),
        ("a", 3),
    ]


@pytest.mark.parametrize("version", [-1, 2, 7])
def test_a_stream_begins_at_its_beginning(
    database: Database, appender: Appender, version: int
) -> None:
    with pytest.raises(errors.WrongVersion, match=f"version: {version - 1} .*stream version 0"):
        appender.append([entry("new", version)])
    assert rows(database) == []


def test_an_empty_request_does_nothing(database: Database, appender: Appender) -> None:
    recorder = Recorder(Datastore(database), events_table_name="chengxin_events", appender=appender)
    assert recorder.insert_events([]) is None
    recorder.datastore.close()
    assert rows(database) == []


# --- idempotency ----------------------------------------------------------------------------------


def test_a_repeated_request_gets_the_first_answer(database: Database, appender: Appender) -> None:
    first = appender.append([entry("a", 1), entry("a", 2)], key("k"))
    appender.append([entry("b")])
    again = appender.append([entry("a", 1), entry("a", 2)], key("k"))
    assert (again.first_position, again.repeated) == (first.first_position, True)
    with pytest.raises(errors.KeyReused, match="Idempotency-Key 'k' was already used"):
        appender.append([entry("c")], key("k", b"another request"))
    assert len(assert_dense(database)) == 3


def test_a_key_belongs_to_its_issuer_and_subject(database: Database, appender: Appender) -> None:
    keys = [Key(issuer, subject, "k", b"d") for issuer in ("A", "B") for subject in ("x", "y")]
    answers = [appender.append([entry(f"s{n}")], one) for n, one in enumerate(keys)]
    assert [answer.first_position for answer in answers] == [1, 2, 3, 4]
    assert not any(answer.repeated for answer in answers)
    assert len(assert_dense(database)) == 4


def test_a_refusal_uses_up_no_key(database: Database, appender: Appender) -> None:
    with pytest.raises(errors.WrongVersion):
        appender.append([entry("a", 5)], key("k"))
    answer = appender.append([entry("a", 1)], key("k", b"another request"))
    assert (answer.first_position, answer.repeated) == (1, False)


def test_a_repeat_after_a_restart(database: Database, clock: Clock) -> None:
    with running(database, clock) as appender:
        appender.append([entry("a")], key("k"))
    with running(database, clock) as appender:
        assert appender.append([entry("a")], key("k")) == Answer(1, clock.now, repeated=True)
        with pytest.raises(errors.KeyReused):
            appender.append([entry("b")], key("k", b"other"))
    assert len(assert_dense(database)) == 1


@pytest.mark.parametrize("same_body", [True, False])
def test_one_key_in_flight_in_two_processes(
    database: Database, clock: Clock, *, same_body: bool
) -> None:
    with running(database, clock) as one, running(database, clock) as two:
        with head_locked(database):
            first = submit(one, entry("a"), key=key("k"))
            wait_until_blocked(database, 1)
            second = submit(two, entry("a"), key=key("k", b"the request" if same_body else b"x"))
            wait_until_blocked(database, 2)
        assert (first.result().first_position, first.result().repeated) == (1, False)
        if same_body:
            assert (second.result().first_position, second.result().repeated) == (1, True)
        else:
            with pytest.raises(errors.KeyReused):
                second.result()
    assert len(assert_dense(database)) == 1


def test_many_repeat_the_same_keys_at_once(database: Database, clock: Clock) -> None:
    """Eight callers in two processes send the same forty requests: each is recorded once."""
    positions: list[dict[str, int]] = []

    def send(appender: Appender, number: int) -> None:
        names = [f"k{n}" for n in range(40)]
        Random(number).shuffle(names)
        found = {n: appender.append([entry(n)], key(n)).first_position for n in names}
        positions.append(found)

    with (
        running(database, clock) as one,
        running(database, clock) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        for job in [pool.submit(send, (one, two)[n % 2], n) for n in range(8)]:
            job.result()
    assert all(found == positions[0] for found in positions)
    assert sorted(positions[0].values()) == list(range(1, 41))
    assert len(assert_dense(database)) == 40


# --- clocks ---------------------------------------------------------------------------------------


def test_time_never_falls_though_one_clock_is_an_hour_behind(database: Database) -> None:
    clock, slow = Clock(), Clock()
    slow.advance(hours=-1)
    recorded: dict[int, datetime] = {}
    with running(database, clock) as right, running(database, slow) as behind:
        for n in range(1, 41):
            clock.advance(seconds=3)
            slow.advance(seconds=3)
            answer = (right, behind)[n % 2].append([entry(f"s{n}")])
            recorded[answer.first_position] = answer.recorded_at
    with running(database, slow) as restarted:
        answer = restarted.append([entry("restarted")])
        recorded[answer.first_position] = answer.recorded_at
    log = assert_dense(database)
    assert [row[4] for row in log] == [recorded[position] for position in sorted(recorded)]
    assert log[-1][4] == clock.now, "the last time of the other process, not the slow clock's"
    assert len({row[4] for row in log}) == 20 + 1, "the slow clock never moved it"
    slow.set(2026, 3, 3)
    with running(database, slow) as later:
        assert later.append([entry("next day")]).recorded_at == slow.now


def test_time_never_falls_with_many_writers_on_two_clocks(database: Database) -> None:
    ticks = itertools.count()
    start = datetime(2026, 3, 2, tzinfo=UTC)

    def right() -> datetime:
        return start + timedelta(milliseconds=next(ticks))

    def behind() -> datetime:
        return right() - timedelta(hours=1)

    with (
        running(database, right) as one,
        running(database, behind) as two,
        ThreadPoolExecutor(16) as pool,
    ):
        jobs = [pool.submit((one, two)[n % 2].append, [entry(f"s{n}")]) for n in range(300)]
        for job in jobs:
            job.result()
    assert len(assert_dense(database)) == 300


def test_a_clock_that_is_ahead_is_refused_and_nothing_stored(database: Database) -> None:
    def near() -> datetime:
        return datetime.now(UTC) + timedelta(minutes=4)

    def far() -> datetime:
        return datetime.now(UTC) + timedelta(hours=1)

    with running(database, far) as appender:
        with pytest.raises(errors.ClockAhead, match=r"ahead of the database server's by more"):
            appender.append([entry("a")], key("k"))
        with head_locked(database):
            batch = [submit(appender, entry(f"s{n}")) for n in range(5)]
        for one in batch:
            with pytest.raises(errors.ClockAhead):
                one.result()
    assert rows(database) == []
    with running(database, near) as appender:
        assert appender.append([entry("a")], key("k")) == Answer(1, rows(database)[0][4])
    assert_dense(database)


# --- faults on the wire ---------------------------------------------------------------------------


@pytest.fixture
def wire(database: Database) -> Iterator[Wire]:
    with wired(database.conninfo) as wire:
        yield wire


@pytest.fixture
def remote(wire: Wire, clock: Clock) -> Iterator[Appender]:
    """An appender at the other end of the wire."""
    with running(Database(wire.conninfo), clock) as appender:
        yield appender


def test_a_reply_that_is_lost_after_the_commit(
    database: Database, wire: Wire, remote: Appender
) -> None:
    remote.append([entry("before")])
    wire.plan("marked", "lose the reply")
    answer = remote.append([entry("marked", 1), entry("marked", 2)], key("k"))
    assert (answer.first_position, answer.repeated) == (2, False)
    assert wire.happened == [b"marked"]
    assert remote.append([entry("after")]).first_position == 4
    assert remote.append([entry("again")], key("k")).first_position == 2
    assert len(assert_dense(database)) == 4


def test_a_request_that_is_lost_before_the_server(
    database: Database, wire: Wire, remote: Appender
) -> None:
    remote.append([entry("before")])
    wire.plan("marked", "lose the request")
    assert remote.append([entry("marked")], key("k")).first_position == 2
    assert wire.happened == [b"marked"]
    assert len(assert_dense(database)) == 2


@pytest.mark.parametrize("fault", ["lose the reply", "lose the request"])
def test_in_a_batch_cut_off_everyone_is_told_the_truth(
    database: Database, wire: Wire, remote: Appender, fault: str
) -> None:
    remote.append([entry("old")], key("old"))
    wire.plan("marked", fault)  # type: ignore[arg-type]
    with head_locked(database):
        plug = submit(remote, entry("plug"))
        wait_until_blocked(database)
        good = submit(remote, entry("marked"))
        wrong = submit(remote, entry("old", 9))
        repeated = submit(remote, entry("old", 2), key=key("old"))
        reused = submit(remote, entry("old", 2), key=key("old", b"other"))
        keyed = submit(remote, entry("keyed"), key=key("new"))
    assert plug.result().first_position == 2
    assert (good.result().first_position, keyed.result().first_position) == (3, 4)
    assert not keyed.result().repeated
    assert (repeated.result().first_position, repeated.result().repeated) == (1, True)
    with pytest.raises(errors.WrongVersion):
        wrong.result()
    with pytest.raises(errors.KeyReused):
        reused.result()
    assert wire.happened == [b"marked"]
    assert [row[1] for row in assert_dense(database)] == ["old", "plug", "marked", "keyed"]


def test_cut_off_while_the_server_still_works(
    database: Database, wire: Wire, remote: Appender
) -> None:
    """The old backend waits for the head row: it is ended before anybody is told anything."""
    remote.append([entry("before")])
    wire.plan("marked", "leave the server at work")
    with head_locked(database):
        waiting = submit(remote, entry("marked"), key=key("k"))
        wire.wait("marked")
        # The appender has reconnected when a lookup, no append, waits for the head row.
        wait_until_lookup(database)
    answer = waiting.result()
    assert (answer.first_position, answer.repeated) == (2, False)
    assert len(assert_dense(database)) == 2


@pytest.mark.parametrize("milliseconds", [5000, 50], ids=["patient", "impatient"])
def test_nobody_is_told_anything_while_the_lost_backend_lives(
    database: Database,
    wire: Wire,
    remote: Appender,
    monkeypatch: pytest.MonkeyPatch,
    milliseconds: int,
) -> None:
    """It has the request in its buffer and may yet commit it."""
    monkeypatch.setattr(appending, "ENDING_MILLISECONDS", milliseconds)
    for n in range(2):
        remote.append([entry(f"before {n}")])  # the second call prepares the statement
    wire.plan("marked", "leave the server at work")
    with stopped(backend_of_appender(database)):
        waiting = submit(remote, entry("marked"))
        wire.wait("marked")
        time.sleep(0.5)
        assert not waiting.is_done()
    assert waiting.result().first_position == 3
    assert len(assert_dense(database)) == 3


@pytest.mark.parametrize("size", [10, 8 * 1024 * 1024], ids=["sent", "still being sent"])
def test_a_server_that_falls_silent_is_not_waited_for(
    database: Database, appender: Appender, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Its process stands still with the request in its socket, and may commit it later."""
    monkeypatch.setattr("ledger.watchdog.ANSWER_SECONDS", 0.5)
    monkeypatch.setattr("ledger.watchdog.LOOK_SECONDS", 0.05)
    monkeypatch.setattr(appending, "ENDING_MILLISECONDS", 50)
    monkeypatch.setattr(appending, "SETTLE_SECONDS", 1)
    appender.append([entry("before")])
    large = entry("silent", state=b"x" * size, time_at=-1)
    with stopped(backend_of_appender(database)):
        began = time.monotonic()
        with pytest.raises(errors.OutcomeUnknown):
            appender.append([large], key("k"))
        assert time.monotonic() - began < 5
        # The next ones have a connection of their own.
        assert appender.append([entry("meanwhile")]).first_position == 2
    assert appender.append([large], key("k")).first_position == 3
    assert [row[1] for row in assert_dense(database)] == ["before", "meanwhile", "silent"]


def test_what_took_too_long_and_was_not_recorded_is_not_tried_without_end(
    database: Database, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.watchdog.ANSWER_SECONDS", 0.5)
    monkeypatch.setattr("ledger.watchdog.LOOK_SECONDS", 0.05)
    monkeypatch.setattr(appending, "SETTLE_SECONDS", 0.1)
    appender.append([entry("before")])
    with database.connect(role=None) as connection:
        for statement in (
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$",
            "CREATE TRIGGER slow BEFORE INSERT ON :schema.:app_events"
            " FOR EACH ROW EXECUTE FUNCTION slow()",
        ):
            connection.execute(database.fill(statement).encode())
        with pytest.raises(errors.Unavailable, match="nothing was recorded"):
            appender.append([entry("slow")])
        connection.execute(database.fill("DROP TRIGGER slow ON :schema.:app_events").encode())
    assert appender.append([entry("slow")]).first_position == 2
    assert len(assert_dense(database)) == 2


def backend_of_appender(database: Database) -> int:
    """The server's process that serves the appender."""
    with database.connect(role=None) as connection:
        ((pid,),) = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'chengxin appender %'"
        ).fetchall()
    return int(pid)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process stands still within the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def wait_until_lookup(database: Database) -> None:
    with database.connect(role=None) as connection:
        for _ in range(2000):
            found = connection.execute(
                "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database() AND query LIKE 'SELECT * FROM ledger.%'"
            ).fetchall()
            if [query.partition("(")[0] for (query,) in found] == [
                "SELECT * FROM ledger.chengxin_outcome"
            ]:
                return
            time.sleep(0.005)
    raise AssertionError("the appender never looked its batch up")


def test_the_outcome_is_unknown_only_while_the_database_stays_away(
    database: Database, wire: Wire, remote: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "SETTLE_SECONDS", 0.3)
    remote.append([entry("before")])
    for name, fault, position in (("one", "lose the reply", 2), ("two", "lose the request", 3)):
        wire.plan(name, fault)  # type: ignore[arg-type]
        wire.refuse()
        with pytest.raises(errors.OutcomeUnknown, match="same Idempotency-Key"):
            remote.append([entry(name)], key(name))
        assert wire.happened[-1] == name.encode()
        with pytest.raises(errors.Unavailable, match="nothing was recorded"):
            remote.append([entry("while away")])
        wire.bring_up()
        again = remote.append([entry(name)], key(name))
        assert (again.first_position, again.repeated) == (position, fault == "lose the reply")
    assert [row[1] for row in assert_dense(database)] == ["before", "one", "two"]


def test_cut_at_random_moments_under_load(database: Database, wire: Wire, clock: Clock) -> None:
    """Every acknowledged event stands where its caller was told, and nothing stands twice."""
    random = Random(7)
    faults = ("lose the reply", "lose the request")
    for n in range(8):
        for at in random.sample(range(30), 4):
            wire.plan(f"w{n}-{at}.", random.choice(faults))  # type: ignore[arg-type]
    told: dict[str, int] = {}

    def write(number: int, appender: Appender) -> None:
        for n in range(30):
            name = f"w{number}-{n}."
            told[name] = appender.append([entry(name)]).first_position

    with running(Database(wire.conninfo), clock) as appender, ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(write, n, appender) for n in range(8)]:
            job.result()
    assert len(wire.happened) > 10
    assert {row[1]: row[0] for row in assert_dense(database)} == told
    assert len(told) == 240


def test_backends_killed_at_random_moments_under_load(database: Database, clock: Clock) -> None:
    told: dict[str, int] = {}
    refused: set[str] = set()
    enough = threading.Event()

    def kill() -> None:
        random, killed = Random(11), 0
        with database.connect(role=None) as connection:
            while killed < 12:
                time.sleep(random.uniform(0, 0.1))
                killed += connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                    " AND backend_type = 'client backend' AND state = 'active'"
                ).rowcount

    def write(number: int, appender: Appender) -> None:
        for n in itertools.count():
            if enough.is_set():
                break
            name = f"w{number}-{n}"
            try:
                told[name] = appender.append([entry(name)], key(name)).first_position
            except errors.Unavailable:
                refused.add(name)

    with running(database, clock) as appender, ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(write, n, appender) for n in range(8)]
        try:
            kill()
        finally:
            enough.set()
        for job in jobs:
            job.result()
    log = {row[1]: row[0] for row in assert_dense(database)}
    assert log == told, "acknowledged and stored are the same"
    assert refused.isdisjoint(log), "unavailable means: not recorded"
    assert len(told) >= 8, "every writer got through"


def test_a_server_that_cannot_write_now_is_no_fault_of_the_request(
    database: Database, clock: Clock
) -> None:
    read_only = Database(f"{database.conninfo} options='-c default_transaction_read_only=on'")
    with running(read_only, clock) as appender, pytest.raises(errors.Unavailable):
        appender.append([entry("a")])
    assert rows(database) == []


def test_a_head_row_that_stays_locked_is_unavailable(database: Database, clock: Clock) -> None:
    hurried = Database(f"{database.conninfo} options='-c statement_timeout=200ms'")
    with running(hurried, clock) as appender:
        with head_locked(database), pytest.raises(errors.Unavailable):
            appender.append([entry("a")])
        assert appender.append([entry("a")]).first_position == 1


def test_a_closed_appender_finishes_what_it_has_and_takes_nothing_more(
    database: Database, clock: Clock
) -> None:
    with running(database, clock) as appender:
        with head_locked(database):
            waiting = [submit(appender, entry(f"s{n}")) for n in range(300)]
            closing = threading.Thread(target=appender.close)
            closing.start()
        closing.join()
        assert [one.result().first_position for one in waiting] == list(range(1, 301))
        with pytest.raises(errors.Unavailable):
            appender.append([entry("late")])
    assert len(assert_dense(database)) == 300


# --- the database itself keeps the rules ----------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE :schema.:app_events SET topic = 'x'",
        "UPDATE :schema.:app_events SET notification_id = 7 WHERE notification_id = 1",
        "DELETE FROM :schema.:app_events",
        "TRUNCATE :schema.:app_events",
        "TRUNCATE :schema.:app_events CASCADE",
        "UPDATE :schema.:app_keys SET first_position = 7",
        "UPDATE :schema.:app_keys SET first_position = 7, digest = ''",
        "UPDATE :schema.:app_keys SET digest = 'another'",
        "DELETE FROM :schema.:app_keys",
        "TRUNCATE :schema.:app_keys",
        "DELETE FROM :schema.:app_head",
        "TRUNCATE :schema.:app_head",
        "MERGE INTO :schema.:app_events e USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_not_even_the_owner_changes_the_log(
    database: Database, appender: Appender, statement: str
) -> None:
    appender.append([entry("a")], key("k"))
    refused = pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="immutable")
    with database.connect(role=None) as owner, refused:
        owner.execute(database.fill(statement).encode())
    assert len(assert_dense(database)) == 1


def test_there_is_one_head_row(database: Database) -> None:
    with database.connect(role=None) as owner:
        for value in ("true", "false"):
            with pytest.raises(psycopg.errors.IntegrityError):
                owner.execute(
                    f"INSERT INTO ledger.chengxin_head VALUES ({value}, 0, now())".encode()
                )


APPEND = (
    "SELECT * FROM :schema.:app_append(now(), '{1}', '{s}', '{1}',"
    " ARRAY[gen_random_uuid()], '{t}', '{x}', '{-1}', '{null}', '{null}', '{null}', '{null}',"
    " '{}', '{}', '{}', '{}')"
)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        *(
            (role, statement)
            for role in (SERVICE_ROLE, READER_ROLE)
            for statement in (
                "INSERT INTO :schema.:app_events VALUES"
                " (1, 's', 1, gen_random_uuid(), 't', now(), 'x')",
                "INSERT INTO :schema.:app_keys VALUES ('i', 's', 'k', 'd', 1, 1)",
                "UPDATE :schema.:app_head SET position = 7",
                "UPDATE :schema.:app_events SET topic = 'x'",
                "DELETE FROM :schema.:app_events",
                "TRUNCATE :schema.:app_events",
                "ALTER TABLE :schema.:app_events DISABLE TRIGGER ALL",
                "DROP TABLE :schema.:app_events",
                "CREATE TABLE :schema.more (a int)",
                "CREATE OR REPLACE FUNCTION :schema.:app_refuse_change() RETURNS trigger"
                " LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
                "INSERT INTO :schema.migrations VALUES ('a', 'b', 'c')",
            )
        ),
        (READER_ROLE, APPEND),
        (READER_ROLE, "SELECT * FROM :schema.:app_outcome('{}')"),
        (READER_ROLE, "SELECT * FROM :schema.:app_keys"),
    ],
)
def test_what_a_role_may_not(database: Database, role: str, statement: str) -> None:
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with database.connect(role=role) as connection, refused:
        connection.execute(database.fill(statement).encode())


def test_the_service_appends_through_the_function_and_both_read(database: Database) -> None:
    with database.connect(role=SERVICE_ROLE) as service:
        answer = service.execute(database.fill(APPEND).encode()).fetchone()
        assert answer is not None
        assert (answer[1], answer[2]) == (["appended"], [1])
    for role in (SERVICE_ROLE, READER_ROLE):
        with database.connect(role=role) as connection:
            for table in ("events", "head"):
                found = connection.execute(f"SELECT * FROM ledger.chengxin_{table}".encode())
                assert len(found.fetchall()) == 1


def test_a_table_of_the_callers_own_does_not_stand_in_for_the_logs(database: Database) -> None:
    """The function runs with its owner's rights: it must not look where its caller may write."""
    with database.connect(role=SERVICE_ROLE) as service:
        service.execute(
            "CREATE TEMP TABLE chengxin_head (position bigint, recorded_at timestamptz)"
        )
        service.execute("CREATE TEMP TABLE chengxin_events (LIKE ledger.chengxin_events)")
        service.execute(database.fill(APPEND).encode())
        assert service.execute("SELECT count(*) FROM chengxin_events").fetchone() == (0,)
    assert len(assert_dense(database)) == 1


# --- reads ----------------------------------------------------------------------------------------


def test_reading_by_position_stream_id_and_key(database: Database, clock: Clock) -> None:
    with new_ledger(database, clock) as ledger:
        ids = [str(uuid4()) for _ in range(6)]
        for n, id in enumerate(ids):
            one = entry(f"s{n % 2}", n // 2 + 1, id=id, state=f"state {n + 1}".encode(), time_at=-1)
            ledger.appender.append([one], key(f"k{n}"))
        assert [tuple(one) for one in ledger.read(2, 3)] == [
            (3, b"state 3"),
            (4, b"state 4"),
            (5, b"state 5"),
        ]
        assert ledger.read(6, 10) == []
        assert [one.position for one in ledger.read_stream("s1")] == [2, 4, 6]
        assert [one.position for one in ledger.read_stream("s1", after_version=2)] == [6]
        assert ledger.read_stream("nobody") == []
        assert ledger.find_key("CN-REG-1", "91999999MA00TEXT0H", "k4") == (b"the request", 5)
        assert ledger.find_key("CN-REG-1", "91999999MA00TEXT0H", "k9") is None
        assert ledger.head() == 6


def test_an_empty_log(ledger: Ledger) -> None:
    assert ledger.head() == 0
    assert ledger.read(0, 10) == []


def test_a_cold_process_reads_the_log_through_the_library(
    database: Database, clock: Clock, record: Record
) -> None:
    record(given.register())
    record(given.penalty())
    with new_ledger(database, clock) as cold:
        notifications = cold.notification_log.select(start=1, limit=10)
        assert [(one.id, one.topic) for one in notifications] == [
            (1, "ledger.opened.v1"),
            (2, "provider.registered.v1"),
            (3, "penalty.imposed.v1"),
        ]
        events = list(cold.events.get(f"provider-{given.PROVIDER}"))
        assert events == [decode(stored.state) for stored in cold.read(1, 10)]
        for notification in notifications:
            assert cold.mapper.to_domain_event(notification) == decode(notification.state)
            for trace in (b"ledger.events", b"eventsourcing", b"python", b"__"):
                assert trace not in notification.state, "a stranger reads it without our code"


def test_what_the_library_puts_in_is_stored_as_it_is(
    ledger: Ledger, clock: Clock, record: Record
) -> None:
    record(given.register())
    last = decode(ledger.read(1, 1)[0].state)
    event = replace(last, id=str(uuid4()), version=2, time=clock.now)
    assert [one.notification.id for one in ledger.events.put([event])] == [3]
    assert decode(ledger.read(2, 1)[0].state) == event


def test_reads_go_on_after_their_connections_were_ended(ledger: Ledger, database: Database) -> None:
    for _ in range(3):
        assert ledger.head() == 0
        with database.connect(role=None) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
