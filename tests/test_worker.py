"""The end of each item's publicity is recorded exactly once, whoever works and whoever slept."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import worker
from api.worker import SYSTEM, end_publicity, work
from ledger.calendar import local_day
from ledger.database import Database
from ledger.errors import ActConflict
from ledger.handle import Desk
from ledger.store import Ledger
from ledger.tail import Tail
from projections.disclosure import Disclosure
from projections.item import Item
from projections.rights import PUBLIC
from projections.runner import Follower, Projection
from tests import given
from tests.conftest import Clock, Run, new_ledger
from tests.histories import World, envelopes_of, line_of, world_of
from tests.officers import decided

END = date(2026, 5, 10)
"""`public_until` of the items here: S2 of 10 February, shown for the shortest period."""


@pytest.fixture
def world(ledger: Ledger, run: Run, clock: Clock) -> Iterator[World]:
    """An open ledger on 2 March 2026 with three providers."""
    with world_of(ledger, run, clock, 2026, 3, 2, 2) as world:
        for provider in given.PROVIDERS[:3]:
            world.record(given.register(), provider)
        yield world


def once_shown(**changes: Any) -> Any:
    """A penalty that is shown until 10 May."""
    return given.penalty(public_until=END, **changes)


def work_once(world: World) -> int:
    """One round of one worker; what it recorded is followed."""
    recorded = world.run(end_publicity(world.desk, world.disclosure, now=world.clock()))
    world.follow()
    return recorded


def ends(world: World) -> list[tuple[str, str]]:
    """Target and day of every end in the log."""
    return [
        (envelope["data"]["target"], envelope["data"]["on"])
        for envelope in envelopes_of(world.ledger)
        if envelope["type"].endswith("publicity.ended.v1")
    ]


def test_it_ends_on_its_day_and_not_before_and_once(world: World) -> None:
    item = world.record(once_shown())
    world.clock.set(2026, 5, 9, 15, 59)
    assert work_once(world) == 0
    world.clock.set(2026, 5, 9, 16)
    assert local_day(world.clock()) == END
    assert work_once(world) == 1
    assert work_once(world) == 0
    assert ends(world) == [(item.id, "2026-05-10")]
    envelope = envelopes_of(world.ledger)[-1]
    assert envelope["causationid"] == item.id
    assert (envelope["actororg"], envelope["actorrole"]) == (SYSTEM.organisation, "system")
    assert envelope["subject"] == given.PROVIDER


def test_three_workers_after_a_month_of_sleep_record_each_end_once(
    world: World, database: Database, clock: Clock
) -> None:
    items = {
        world.record(once_shown(), provider).id
        for provider in given.PROVIDERS[:3]
        for _ in range(8)
    }
    world.clock.set(2026, 6, 10, 2)
    with new_ledger(database, clock) as second, new_ledger(database, clock) as third:

        async def work_at_once() -> list[int]:
            return list(
                await asyncio.gather(
                    *(
                        end_publicity(Desk(one), Disclosure(one), now=clock())
                        for one in (world.ledger, second, third)
                    )
                )
            )

        head = world.ledger.head()
        # Before the projection follows, each of them finds every item due.
        with capture_logs() as logs:
            assert sum(world.run(work_at_once())) == len(items)
            assert world.run(work_at_once()) == [0, 0, 0]
        assert {one["event"] for one in logs} == {"publicity ended"}, "to be late is no failure"
        assert sorted(one["position"] for one in logs) == [
            one.position for one in world.ledger.read(head, 1_000)
        ]
        world.follow()
        assert world.run(work_at_once()) == [0, 0, 0]
    assert sorted(ends(world)) == sorted((item, "2026-05-10") for item in items)


def test_what_is_not_shown_any_more_does_not_end(world: World) -> None:
    overturned = world.record(once_shown())
    world.record(given.overturn(overturned.id))
    removed = world.record(given.listing())
    world.record(given.delist(removed.id))
    world.record(given.listing())
    world.record(given.reward())
    world.record(
        given.penalty(family="AD_UNMARKED", severity="S1", severity_reason=given.evidence())
    )
    repaired = world.record(once_shown())
    world.clock.set(2026, 5, 10, 2)
    world.record(given.repair(repaired.id, on=END))
    world.clock.set(2026, 11, 1, 2)
    assert world.disclosure.ending(world.today, 10) == []
    assert work_once(world) == 0
    assert ends(world) == []


def test_a_projection_that_is_behind_makes_no_end_of_what_was_withdrawn(world: World) -> None:
    overturned, repaired = world.record(once_shown()), world.record(once_shown())
    world.clock.set(2026, 5, 10, 2)
    for command in (given.overturn(overturned.id, on=END), given.repair(repaired.id, on=END)):
        world.run(decided(world.desk, given.PROVIDER, command))
    assert len(world.disclosure.ending(world.today, 10)) == 2
    assert work_once(world) == 0
    assert ends(world) == []


def test_after_a_revoked_repair_it_still_ends_in_time(world: World) -> None:
    before, after = world.record(once_shown()), world.record(once_shown())
    # Shown for a year; repaired after three months.
    long = world.record(given.penalty(public_until=date(2026, 6, 10)))
    world.clock.set(2026, 5, 10, 2)
    for item in (before, after, long):
        world.record(given.repair(item.id, on=END))
    assert work_once(world) == 0
    world.clock.set(2026, 5, 20, 2)
    for item in (before, long):
        world.record(given.revoke_repair(item.id, on=date(2026, 5, 20)))
    shown = [item["id"] for item in world.sheet()["items"]]
    assert shown == [long.id], "the other's period is over, repaired or not"
    assert work_once(world) == 1
    assert ends(world) == [(before.id, "2026-05-10")]
    world.clock.set(2026, 6, 10, 2)
    assert work_once(world) == 1
    assert ends(world)[1:] == [(long.id, "2026-06-10")]
    world.record(given.revoke_repair(after.id, on=date(2026, 6, 10)))
    assert world.sheet()["items"] == []
    assert work_once(world) == 1
    assert {target for target, _ in ends(world)} == {before.id, after.id, long.id}


def test_an_end_is_refused_where_nothing_ends(world: World) -> None:
    item = world.record(once_shown())
    world.clock.set(2026, 5, 10, 2)
    world.record(given.repair(item.id, on=END))
    with pytest.raises(ActConflict):
        world.record(given.end_publicity(item.id))


def test_more_than_one_batch_is_worked_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BATCH_ITEMS", 2)
    items = [world.record(once_shown()).id for _ in range(5)]
    world.clock.set(2026, 5, 10, 2)
    assert [work_once(world) for _ in range(4)] == [2, 2, 1, 0]
    assert [target for target, _ in ends(world)] == items


def test_the_worker_goes_on_for_ever_and_waits_for_a_database_that_is_away(
    world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.02)
    item = world.record(once_shown())
    world.clock.set(2026, 5, 10, 2)
    tail = Tail(database)
    projections: list[Projection] = [world.scores, world.disclosure]
    follower = Follower(world.ledger, tail, projections, today=lambda: world.today)

    async def live() -> None:
        with database.connect(role=None) as owner:
            owner.execute("ALTER TABLE disclosure_1.items RENAME TO away")
            task = asyncio.create_task(
                work(world.desk, world.disclosure, clock=world.clock), name="worker"
            )
            await asyncio.sleep(0.2)
            assert not task.done()
            owner.execute("ALTER TABLE disclosure_1.away RENAME TO items")
        head = world.ledger.head()
        assert await tail.wait_async(head, 20) == head + 1
        # It finds nothing more to do, again and again.
        await asyncio.sleep(0.2)
        assert not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    tail.start()
    follower.start()
    try:
        world.run(live())
        assert follower.wait_for(world.ledger.head(), 20)
    finally:
        follower.stop()
        tail.stop()
    assert ends(world) == [(item.id, "2026-05-10")]
    line = line_of(world.disclosure, world.ledger.head(), PUBLIC, today=world.today)
    assert line is not None
    assert b'"retracts":"%020d"' % item.position in line


def test_an_error_of_its_own_is_told_and_ends_no_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "IDLE_SECONDS", 0.02)
    item = world.record(once_shown())
    world.clock.set(2026, 5, 10, 2)
    look, looks = world.disclosure.ending, itertools.count()

    def broken_once(today: date, limit: int) -> list[Item]:
        if next(looks) == 0:
            raise ValueError("broken")
        return look(today, limit)

    monkeypatch.setattr(world.disclosure, "ending", broken_once)

    async def live() -> None:
        head = world.ledger.head()
        task = asyncio.create_task(work(world.desk, world.disclosure, clock=world.clock))
        while world.ledger.head() == head:
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with capture_logs() as logs:
        world.run(live())
    assert [one["log_level"] for one in logs if one["event"] == "worker waits"] == ["error"]
    world.follow()
    assert ends(world) == [(item.id, "2026-05-10")]
