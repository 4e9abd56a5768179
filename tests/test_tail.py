"""Whoever waits for the log is woken when it has grown, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import psycopg
import pytest

from ledger import tail as tail_module
from ledger.database import Database, migrate
from ledger.errors import Unavailable
from ledger.handle import Desk
from ledger.store import Ledger
from ledger.tail import MAX_BEHIND, POLL_SECONDS, Tail
from tests import given
from tests.conftest import Clock, Record, Run, new_ledger
from tests.serving import STANDING

SOON_SECONDS = 10.0
"""No wait of these tests ends by this time-out, unless it fails."""


@pytest.fixture
def tail(opened: Ledger) -> Iterator[Tail]:
    """A tail that follows the opened ledger and knows its head, 1."""
    tail = Tail(opened.database)
    tail.start()
    assert tail.wait(0, SOON_SECONDS) == 1
    yield tail
    tail.stop()


def listeners(database: Database) -> list[int]:
    """The server's processes that serve a tail of this database."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND query ~ '^(LISTEN|SELECT position, )'"
        ).fetchall()
    return [row[0] for row in rows]


def end_listeners(database: Database) -> int:
    """End the tail's connections from the server's side; how many there were."""
    pids = listeners(database)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for pid in pids:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    return len(pids)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come soon."""
    deadline = time.monotonic() + SOON_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_threads(call: Callable[[], object], count: int) -> list[threading.Thread]:
    """Call something in many threads at once."""
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_a_new_event_wakes_a_waiting_thread_at_once(tail: Tail, record: Record) -> None:
    woken: list[tuple[int, float]] = []
    (waiting,) = in_threads(lambda: woken.append((tail.wait(1, SOON_SECONDS), time.monotonic())), 1)
    # Just after a poll, so that the next one is far away.
    time.sleep(POLL_SECONDS * 1.1)
    record(given.register())
    committed = time.monotonic()
    waiting.join()
    assert woken[0][0] == 2
    assert woken[0][1] - committed < POLL_SECONDS * 0.7, "the notification woke it, not the poll"


def test_a_wait_without_news_ends_at_its_time_out(tail: Tail, run: Run) -> None:
    waits: list[Callable[[], int]] = [
        lambda: tail.wait(1, 0.3),
        lambda: run(tail.wait_async(1, 0.3)),
    ]
    for wait in waits:
        began = time.monotonic()
        assert wait() == 1
        assert 0.25 < time.monotonic() - began < 3


def test_what_is_already_there_is_not_waited_for(tail: Tail, run: Run) -> None:
    began = time.monotonic()
    assert tail.wait(0, 60) == run(tail.wait_async(0, 60)) == 1
    assert tail.wait(5, 0) == run(tail.wait_async(5, 0)) == 1
    assert time.monotonic() - began < 3


def test_two_hundred_tasks_and_twenty_threads_are_woken_by_one_event(
    tail: Tail, desk: Desk, run: Run
) -> None:
    heads: list[int] = []
    threads = in_threads(lambda: heads.append(tail.wait(1, SOON_SECONDS)), 20)

    async def wait_all() -> list[int]:
        waiting = [asyncio.create_task(tail.wait_async(1, SOON_SECONDS)) for _ in range(200)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        await desk.record(given.PROVIDER, given.register(), given.REGISTRAR)
        return list(await asyncio.gather(*waiting))

    assert run(wait_all()) == [2] * 200
    for thread in threads:
        thread.join()
    assert heads == [2] * 20


def test_a_task_waits_until_the_log_is_beyond_its_position(
    tail: Tail, desk: Desk, run: Run
) -> None:
    async def wait() -> int:
        waiting = asyncio.create_task(tail.wait_async(3, SOON_SECONDS))
        for beyond, provider in enumerate(given.PROVIDERS[:3], 1):
            assert not waiting.done()
            await desk.record(provider, given.register(), given.REGISTRAR)
            await asyncio.to_thread(tail.wait, beyond, SOON_SECONDS)
        return await waiting

    assert run(wait()) == 4


def test_who_gives_up_waiting_leaves_nothing_behind(tail: Tail, run: Run) -> None:
    async def give_up() -> None:
        impatient = [tail.wait_async(1, 0.01) for _ in range(50)]
        cancelled = [asyncio.create_task(tail.wait_async(1, 60)) for _ in range(50)]
        await asyncio.gather(*impatient)
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)

    run(give_up())
    assert tail._waiting == []


def test_a_loop_that_has_gone_does_not_hinder_the_others(tail: Tail, record: Record) -> None:
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(tail.wait_async(1, 60))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert len(tail._waiting) == 1
    loop.close()
    assert record(given.register()).position == 2
    assert tail.wait(1, SOON_SECONDS) == 2
    assert tail.healthy
    assert not waiting.done()
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    waiting.get_coro().close()


def test_stopping_wakes_everybody(opened: Ledger, run: Run) -> None:
    tail = Tail(opened.database)
    tail.start()
    assert tail.wait(0, SOON_SECONDS) == 1
    began = time.monotonic()
    heads: list[int] = []
    threads = in_threads(lambda: heads.append(tail.wait(1, 60)), 20)

    async def wait_all() -> list[int]:
        waiting = [asyncio.create_task(tail.wait_async(1, 60)) for _ in range(200)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(tail.stop)
        return list(await asyncio.gather(*waiting))

    assert run(wait_all()) == [1] * 200
    for thread in threads:
        thread.join()
    assert heads == [1] * 20
    assert tail.wait(1, 60) == run(tail.wait_async(1, 60)) == 1
    assert time.monotonic() - began < SOON_SECONDS
    assert not tail.healthy
    assert listeners(opened.database) == []


def test_a_lost_connection_is_made_anew_and_nothing_is_missed(
    tail: Tail, opened: Ledger, record: Record
) -> None:
    for provider in given.PROVIDERS[:3]:
        assert end_listeners(opened.database) == 1
        receipt = record(given.register(), provider=provider)
        assert tail.wait(receipt.position - 1, SOON_SECONDS) == receipt.position
        until(lambda: tail.healthy and len(listeners(opened.database)) == 1)


def test_an_event_between_two_connections_is_found_without_a_notification(
    opened: Ledger, record: Record
) -> None:
    record(given.register())
    tail = Tail(opened.database)
    tail.start()
    assert tail.wait(0, SOON_SECONDS) == 2
    tail.stop()


def test_a_tail_may_start_before_its_schema_and_stop_without_any(
    opened: Ledger, clock: Clock, run: Run
) -> None:
    later = Database(opened.database.conninfo, schema="later")
    tail, lost = Tail(later), Tail(Database("host=/nonexistent dbname=x"))
    for one in (tail, lost):
        one.start()
    time.sleep(0.3)
    assert not tail.healthy
    migrate(later, files("ledger") / "sql")
    until(lambda: tail.healthy)
    with new_ledger(later, clock) as ledger:
        run(Desk(ledger).open_ledger(given.opening(), given.REGISTRAR))
        assert tail.wait(0, SOON_SECONDS) == 1
    began = time.monotonic()
    for one in (tail, lost):
        one.stop()
    assert time.monotonic() - began < 3
    assert not lost.healthy


def test_a_lost_notification_delays_nobody_for_long(
    tail: Tail, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(connection: psycopg.Connection, *, timeout: float, stop_after: int) -> Iterator[Any]:
        time.sleep(timeout)
        return iter(())

    monkeypatch.setattr(psycopg.Connection, "notifies", deaf)
    # What it listened to before is over.
    time.sleep(POLL_SECONDS / 2)
    record(given.register())
    assert tail.wait(1, 3 * POLL_SECONDS) == 2


def test_a_clock_that_is_ahead_is_held_to_the_databases(tail: Tail, clock: Clock) -> None:
    bounded = tail.bounded(clock, behind=STANDING)
    assert bounded() == clock()
    clock.now = datetime.now(UTC) + timedelta(days=3)
    assert abs(bounded() - datetime.now(UTC)) < timedelta(seconds=POLL_SECONDS)
    assert abs(tail.ahead(clock()) - timedelta(days=3)) < timedelta(seconds=POLL_SECONDS)


def test_a_clock_that_is_behind_is_held_to_the_last_event(
    tail: Tail, opened: Ledger, record: Record, clock: Clock
) -> None:
    bounded, recorded_at = tail.bounded(clock, behind=STANDING), clock()
    clock.advance(days=-3)
    assert bounded() == recorded_at
    clock.advance(days=5)
    record(given.register())
    assert tail.wait(1, SOON_SECONDS) == 2
    recorded_at = clock()
    clock.advance(days=-5)
    assert bounded() == recorded_at


def test_a_clock_that_is_behind_is_held_to_the_databases(
    tail: Tail, record: Record, clock: Clock
) -> None:
    """Also where nothing is recorded meanwhile: what has ended today must not be shown."""
    record(given.register())
    clock.now = datetime.now(UTC) - timedelta(days=3)
    real, bounded = clock(), tail.bounded(clock)
    assert timedelta(days=2) < bounded() - real
    assert datetime.now(UTC) - bounded() <= MAX_BEHIND + timedelta(seconds=POLL_SECONDS)
    clock.now = datetime.now(UTC) - MAX_BEHIND / 2
    assert bounded() == clock(), "a clock that is a little behind is the clock"


def test_a_clock_says_nothing_before_the_database_is_seen(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "FIRST_LOOK_SECONDS", 0.1)
    with pytest.raises(Unavailable):
        Tail(Database("host=/nonexistent dbname=x")).bounded(clock)()
    assert Tail(Database("host=/nonexistent dbname=x")).ahead(clock()) == timedelta()


def test_another_application_wakes_nobody(
    tail: Tail, opened: Ledger, clock: Clock, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    wakes: list[int] = []
    monkeypatch.setattr(tail, "_wake", wakes.append)
    other = Database(opened.database.conninfo, application="other")
    migrate(other, files("ledger") / "sql")
    tail_of_other = Tail(other)
    tail_of_other.start()
    with new_ledger(other, clock) as ledger:
        desk = Desk(ledger)
        run(desk.open_ledger(given.opening(), given.REGISTRAR))
        run(desk.record(given.PROVIDER, given.register(), given.REGISTRAR))
    assert tail_of_other.wait(1, SOON_SECONDS) == 2
    tail_of_other.stop()
    with psycopg.connect(opened.database.conninfo, autocommit=True) as connection:
        for channel in ("ledger.other", "ledger", "chengxin", "ledger2.chengxin"):
            connection.execute("SELECT pg_notify(%s, '77')", [channel])
    time.sleep(POLL_SECONDS / 2)
    assert wakes == []
    assert tail.position == 1


@pytest.mark.parametrize("payload", ["999999", "0", "-1", "", "no number", "1" * 400])
def test_a_forged_notification_is_believed_by_nobody(
    tail: Tail, opened: Ledger, record: Record, payload: str
) -> None:
    with psycopg.connect(opened.database.conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_notify(%s, %s)", [opened.database.channel, payload])
    assert tail.wait(1, 0.2) == 1
    record(given.register())
    assert tail.wait(1, SOON_SECONDS) == 2
    assert tail.healthy
