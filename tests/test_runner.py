"""Followers: two of them, killed ones, poisoned ones, and a database that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from psycopg_pool import PoolTimeout

from ledger import store
from ledger.appender import Entry
from ledger.calendar import local_day
from ledger.database import Database, migrate
from ledger.embedded import Embedded
from ledger.envelope import TYPE_PREFIX, new_id
from ledger.errors import OutcomeUnknown, Unavailable
from ledger.events import provider_stream
from ledger.handle import Desk
from ledger.store import Ledger, Parsed, system_clock
from ledger.tail import Tail
from projections import facts
from projections.disclosure import Disclosure
from projections.rights import PUBLIC
from projections.runner import (
    Follower,
    Projection,
    Status,
    advance,
    migrate_projections,
)
from projections.scores import Scores
from projections.together import Take
from tests import given
from tests.conftest import Clock, Record, Run, new_ledger
from tests.histories import line_of

ROOT = Path(__file__).resolve().parent.parent
SOON_SECONDS = 20.0
"""No wait of these tests ends by this time-out, unless it fails."""
FOLLOWER = """
import sys, time
from contextlib import contextmanager
from datetime import date, timedelta
from ledger.database import Database
from ledger.store import Ledger
from ledger.tail import Tail
from projections.disclosure import Disclosure
from projections.runner import Follower
from projections.scores import Scores

conninfo, stop_at = sys.argv[1], int(sys.argv[2])

class Slow(Scores):
    # Takes in the batch with one position and stands still, its transaction open.
    @contextmanager
    def folding(self, cursor):
        taken = []
        with super().folding(cursor) as take:
            yield lambda events: (take(events), taken.extend(events))
        if taken and taken[-1].position >= stop_at:
            print("folded", flush=True)
            time.sleep(60)

ledger = Ledger(Database(conninfo))
tail = Tail(ledger.database)
tail.start()
projections = [Slow(ledger), Disclosure(ledger)]
Follower(ledger, tail, projections, today=lambda: date(2026, 3, 2)).start()
print("ready", flush=True)
time.sleep(60)
"""


class Counting(Scores):
    """Scores that remember which positions were folded."""

    def __init__(self, ledger: Ledger, folded: list[int]) -> None:
        super().__init__(ledger)
        self._folded = folded

    @contextmanager
    def folding(self, cursor: psycopg.Cursor[tuple[Any, ...]]) -> Iterator[Take]:
        taken: list[int] = []
        with super().folding(cursor) as take:

            def both(events: Sequence[Parsed]) -> None:
                take(events)
                taken.extend(one.position for one in events)

            yield both
        self._folded.extend(taken)


@contextmanager
def following(
    ledger: Ledger,
    *,
    today: Callable[[], date] | None = None,
    projections: Sequence[Projection] | None = None,
) -> Iterator[Follower]:
    """A running follower with its own tail, as one process has it."""
    tail = Tail(ledger.database)
    tail.start()
    follower = Follower(
        ledger,
        tail,
        projections or [Scores(ledger), Disclosure(ledger)],
        today=today or (lambda: local_day(ledger.clock())),
    )
    follower.start()
    try:
        yield follower
    finally:
        follower.stop()
        tail.stop()


@pytest.fixture
def migrated(opened: Ledger) -> Ledger:
    """The opened ledger, with the projections' tables."""
    migrate_projections(opened.database)
    return opened


def append_raw(ledger: Ledger, type_name: str, data: dict[str, Any]) -> int:
    """Put an event into the log that no version of the program would write; its position."""
    stream = provider_stream(given.PROVIDER)
    version = len(ledger.read_stream(stream)) + 1
    id = new_id(ledger.clock(), ledger.random(10))
    envelope = {
        "actororg": given.REGISTRAR.organisation,
        "actorref": given.REGISTRAR.ref,
        "actorrole": given.REGISTRAR.role,
        "data": data,
        "id": id,
        "source": f"/streams/{stream}",
        "specversion": "1.0",
        "streamversion": version,
        "subject": given.PROVIDER,
        "time": "2026-03-02T01:30:00.000000Z",
        "type": TYPE_PREFIX + type_name,
        "visibility": "public",
    }
    state = orjson.dumps(envelope, option=orjson.OPT_SORT_KEYS)
    entry = Entry(stream, version, id, TYPE_PREFIX + type_name, state, -1)
    return ledger.appender.append([entry]).first_position


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come soon."""
    deadline = time.monotonic() + SOON_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- One follower ---------------------------------------------------------------------------------


def test_it_follows_and_says_how_far_it_is(migrated: Ledger, record: Record) -> None:
    with following(migrated) as follower:
        record(given.register())
        receipt = record(given.penalty())
        assert follower.wait_for(receipt.position, SOON_SECONDS)
        wanted = Status(receipt.position, None)
        assert follower.status() == {"scores_1": wanted, "disclosure_1": wanted}
        row = Scores(migrated).current(given.PROVIDER)
        assert row is not None
        assert row["score"] == "75.00"
        began = time.monotonic()
        assert follower.wait_for(receipt.position, 60), "what is there is not waited for"
        assert not follower.wait_for(receipt.position + 1, 0.2)
        assert time.monotonic() - began < 3


def test_time_goes_on_without_events(migrated: Ledger, record: Record) -> None:
    days = [given.TODAY]
    with following(migrated, today=lambda: days[-1]) as follower:
        record(given.register())
        assert follower.wait_for(record(given.penalty()).position, SOON_SECONDS)
        scores = Scores(migrated)
        days.append(date(2026, 5, 12))
        until(lambda: (scores.current(given.PROVIDER) or {})["score"] == "76.25")


def test_no_day_is_settled_that_the_database_has_not_reached(
    migrated: Ledger, record: Record
) -> None:
    """Neither by a follower whose clock is ahead, nor for ever once the database's was."""
    today = local_day(system_clock())
    coming = today + timedelta(days=3)
    scores = Scores(migrated)
    with following(migrated, today=lambda: date(2031, 1, 1)) as follower:
        record(given.register())
        penalty = given.penalty(decided_on=given.TODAY, served_on=given.TODAY)
        assert follower.wait_for(record(penalty).position, SOON_SECONDS)
        now = scores.current(given.PROVIDER)
    with migrated.database.connect(role=None) as owner:
        [day] = owner.execute("SELECT day FROM scores_1.progress").fetchone() or ()
        assert today <= day <= local_day(system_clock())
        owner.execute("UPDATE scores_1.progress SET day = %s", [coming])
        owner.execute("UPDATE scores_1.scores SET score = '80.00', next_change_on = %s", [coming])
    with following(migrated, today=lambda: date(2031, 1, 1)):
        until(lambda: scores.current(given.PROVIDER) == now)


def test_many_may_wait_while_it_works(migrated: Ledger, record: Record) -> None:
    answers: list[bool] = []
    with following(migrated) as follower:
        threads = [
            threading.Thread(target=lambda: answers.append(follower.wait_for(4, SOON_SECONDS)))
            for _ in range(30)
        ]
        for thread in threads:
            thread.start()
        for command in (given.register(), given.penalty(), given.penalty()):
            record(command)
        for thread in threads:
            thread.join()
    assert answers == [True] * 30


def test_it_may_start_before_its_tables(opened: Ledger, record: Record) -> None:
    record(given.register())
    with following(opened) as follower:
        time.sleep(0.3)
        with pytest.raises(psycopg.errors.UndefinedTable):
            follower.status()
        migrate_projections(opened.database)
        until(lambda: set(follower.status().values()) == {Status(2, None)})


def test_from_commit_to_row(migrated: Ledger, run: Run, desk: Desk) -> None:
    """Prints the latency; `make bench` holds it to the bar."""
    scores, disclosure = Scores(migrated), Disclosure(migrated)
    latencies = []
    with following(migrated):
        run(desk.record(given.PROVIDER, given.register(), given.REGISTRAR))
        for _ in range(60):
            receipt = run(desk.record(given.PROVIDER, given.penalty(), given.REGISTRAR))
            committed = time.perf_counter()
            while min(scores.position(), disclosure.position()) < receipt.position:
                time.sleep(0.0005)
            latencies.append(time.perf_counter() - committed)
    latencies.sort()
    told = [f"{seconds * 1e3:.1f} ms" for seconds in (latencies[30], latencies[-1])]
    sys.stdout.write(f"commit to row: median {told[0]}, worst {told[1]}\n")
    assert latencies[30] < 1.0, "woken by the notification, not by the poll"


def test_a_stream_of_events_is_what_is_read_and_may_be_left(
    opened: Ledger, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "STREAM_EVENTS", 2)
    for command in (given.register(), given.penalty(), given.penalty(), given.inspection()):
        record(command)
    for after, limit in ((0, 100), (1, 3), (4, 100), (5, 100)):
        assert list(opened.stream(after, limit)) == opened.read(after, limit)
    for _ in range(2 * store.POOL_SIZE):
        with closing(opened.stream(0, 100)) as events:
            assert next(events).position == 1
    assert len(opened.read(0, 100)) == 5, "every connection went back to the pool"


# --- Two followers --------------------------------------------------------------------------------


def test_two_followers_do_the_work_once(
    migrated: Ledger, database: Database, clock: Clock, record: Record
) -> None:
    folded: list[int] = []
    with new_ledger(database, clock) as second:
        projections = [Counting(migrated, folded)], [Counting(second, folded)]
        with (
            following(migrated, projections=projections[0]) as one,
            following(second, projections=projections[1]) as other,
        ):
            for provider in given.PROVIDERS:
                for command in (given.register(), given.penalty(), given.inspection()):
                    receipt = record(command, provider=provider)
                    assert one.wait_for(receipt.position, SOON_SECONDS)
                    assert other.wait_for(receipt.position, SOON_SECONDS)
    assert folded == list(range(1, 20))


def test_a_spare_that_finds_the_work_taken_does_nothing(migrated: Ledger, record: Record) -> None:
    record(given.register())
    scores = Scores(migrated)
    with migrated.database.connect() as first, migrated.database.connect() as spare:
        with first.transaction():
            first.execute("SELECT FROM scores_1.progress FOR UPDATE")
            assert not advance(spare, migrated, scores, today=given.TODAY)
            assert scores.position() == 0
        assert advance(spare, migrated, scores, today=given.TODAY)
        assert scores.position() == 2


def test_a_spare_takes_over_when_the_first_is_killed(migrated: Ledger, record: Record) -> None:
    record(given.register())
    command = [sys.executable, "-c", FOLLOWER, migrated.database.conninfo, "3"]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        until(lambda: Scores(migrated).position() == 2)
        receipt = record(given.penalty())
        assert child.stdout.readline() == "folded\n"
        with following(migrated) as spare:
            assert not spare.wait_for(receipt.position, 1.0), "the first one holds the scores"
            assert spare.status() == {
                "scores_1": Status(2, None),
                "disclosure_1": Status(receipt.position, None),
            }
            child.kill()
            killed = time.monotonic()
            assert spare.wait_for(receipt.position, SOON_SECONDS)
            assert time.monotonic() - killed < 5
            row = Scores(migrated).current(given.PROVIDER)
            assert row is not None
            assert row["score"] == "75.00"
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


# --- Poison ---------------------------------------------------------------------------------------


def test_an_unknown_type_stops_a_projection_behind_the_event_before_it(
    migrated: Ledger, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(given.register())
    record(given.penalty())
    poison = append_raw(migrated, "pledge.made.v1", {"on": "2026-03-02"})
    days = [given.TODAY]
    with following(migrated, today=lambda: days[-1]) as follower:
        until(lambda: all(one.error for one in follower.status().values()))
        for position, error in follower.status().values():
            assert position == poison - 1
            assert error is not None
            assert error.startswith(f"position {poison}, cn.chengxin.pledge.made.v1: UnknownEvent")
        scores = Scores(migrated)
        explained = scores.explain(given.PROVIDER, as_of=given.TODAY, today=given.TODAY)
        assert explained is not None
        assert (explained["score"], explained["position"]) == ("75.00", poison - 1)
        line = line_of(Disclosure(migrated), poison - 1, PUBLIC, today=given.TODAY)
        assert line is not None
        assert line_of(Disclosure(migrated), poison, PUBLIC, today=given.TODAY) is None
        # What is recorded behind it waits; what time alone changes does not.
        later = record_behind_poison(migrated)
        assert not follower.wait_for(later, 1.5)
        days.append(date(2026, 5, 12))
        until(lambda: (scores.current(given.PROVIDER) or {})["score"] == "76.25")
        assert {one.position for one in follower.status().values()} == {poison - 1}
        # A version that knows the type goes on by itself.
        monkeypatch.setitem(facts.MEANINGS, "pledge.made.v1", lambda _: [])
        assert follower.wait_for(later, SOON_SECONDS)
        wanted = Status(later, None)
        assert follower.status() == {"scores_1": wanted, "disclosure_1": wanted}


def record_behind_poison(ledger: Ledger) -> int:
    """A well-formed event behind one that nobody can read; its position."""
    return append_raw(
        ledger,
        "provider.admitted.v1",
        {"decided_on": "2026-03-02", "document_no": "1", "issuer": {}, "evidence": []},
    )


def test_poison_for_one_projection_is_none_for_the_other(migrated: Ledger, record: Record) -> None:
    record(given.register())
    # The score needs an item and a counterparty, disclosure only the day and the consent.
    poison = append_raw(migrated, "reward.granted.v1", {"on": "2026-02-01", "consent": True})
    behind = record_behind_poison(migrated)
    with following(migrated) as follower:
        until(lambda: follower.status()["scores_1"].error is not None)
        until(lambda: follower.status()["disclosure_1"] == Status(behind, None))
        assert not follower.wait_for(behind, 0.1)
        position, error = follower.status()["scores_1"]
        assert position == poison - 1
        assert error == f"position {poison}, cn.chengxin.reward.granted.v1: KeyError"
        line = line_of(Disclosure(migrated), poison, PUBLIC, today=given.TODAY)
        assert line is not None
        assert b"reward.granted.v1" in line


def test_a_fact_that_cannot_be_scored_stops_the_scores_and_says_so(
    migrated: Ledger, record: Record
) -> None:
    before = record(given.register()).position
    data = {"on": "2026-02-01", "consent": True, "item": "NO_SUCH_ITEM", "counterparty": None}
    poison = append_raw(migrated, "reward.granted.v1", data)
    with following(migrated) as follower:
        until(lambda: follower.status()["scores_1"].error is not None)
        error = follower.status()["scores_1"].error
        assert error == f"position {poison}, settling: KeyError"
        assert follower.status()["scores_1"].position < poison
        assert (
            Scores(migrated).explain(given.PROVIDER, as_of=given.TODAY, today=given.TODAY) is None
        )
        assert follower.status()["disclosure_1"] == Status(poison, None)
        assert before == poison - 1


# --- The database goes away -----------------------------------------------------------------------


@pytest.fixture
def private_server() -> Iterator[Embedded]:
    """A server that this test may kill."""
    with tempfile.TemporaryDirectory(prefix="chengxin-test-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Embedded(folder / "server") as server:
            yield server


def test_after_a_crash_of_the_database_it_goes_on_by_itself(
    private_server: Embedded, run: Run
) -> None:
    database = Database(private_server.conninfo())
    migrate(database, files("ledger") / "sql")
    migrate_projections(database)
    with Ledger(database, clock=system_clock) as ledger, following(ledger) as follower:
        desk = Desk(ledger)
        run(desk.open_ledger(given.opening(), given.REGISTRAR))
        run(desk.record(given.PROVIDER, given.register(), given.REGISTRAR))
        assert follower.wait_for(2, SOON_SECONDS)
        for _ in range(2):
            pid_file = private_server.data_dir / "pg" / "postmaster.pid"
            os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
            position = record_when_back(desk, run)
            back = time.monotonic()
            until(lambda: follows(follower, position))  # noqa: B023
            took = time.monotonic() - back
            sys.stdout.write(f"projections alive {took:.2f} s after the first commit\n")
            assert took < 5
            assert {one.error for one in follower.status().values()} == {None}


def record_when_back(desk: Desk, run: Run) -> int:
    """Record a penalty as soon as the database takes it; its position."""
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        try:
            return run(desk.record(given.PROVIDER, given.penalty(), given.REGISTRAR)).position
        except (Unavailable, OutcomeUnknown):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def follows(follower: Follower, position: int) -> bool:
    """Whether the projections answer for a position; a database away answers for none."""
    try:
        return follower.wait_for(position, 0.1)
    except (psycopg.Error, PoolTimeout):
        return False
