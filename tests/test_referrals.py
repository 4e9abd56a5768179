"""A referral to prosecutors is shown for its issuer's days and never counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random
from typing import Any

import orjson
import pytest

from api.worker import end_publicity
from ledger.store import Ledger
from projections.disclosure import PUBLIC
from tests import given
from tests.conftest import Clock, Run
from tests.histories import Author, World, world_of

DAY = timedelta(days=1)


@pytest.fixture
def world(ledger: Ledger, run: Run, clock: Clock) -> Iterator[World]:
    """An open ledger on 2 March 2026 with one provider."""
    with world_of(ledger, run, clock, 2026, 3, 2, 2) as world:
        world.record(given.register())
        yield world


# --- it never counts ------------------------------------------------------------------------------


def told(world: World) -> bytes:
    """All that is told of the score, by every door; without how far the log goes."""
    on = {"as_of": world.today, "today": world.today}
    explained = world.scores.explain(given.PROVIDER, **on) or {}
    case = world.scores.case(given.PROVIDER, as_of=world.today, known_at=world.today)
    sheet = world.sheet()
    current = world.scores.current(given.PROVIDER) or {}
    for one in (explained, sheet):
        del one["position"]
    del explained["known_at"], sheet["referrals"], current["last_position"]
    return orjson.dumps([explained, case, sheet, current], option=orjson.OPT_SORT_KEYS)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_whatever_happens_to_referrals_no_byte_of_a_score_changes(
    ledger: Ledger, run: Run, clock: Clock, seed: int
) -> None:
    random, compared = Random(seed), 0
    with world_of(ledger, run, clock, 2024, 6, 1, 2) as world:
        author = Author(random, run(world.desk.rulebooks()))
        for _ in range(40):
            clock.advance(days=random.choice((0, 1, 9)))
            world.attempt(author, given.PROVIDER)
            world.follow()
            if world.sheets.sheet(given.PROVIDER, today=world.today) is None:
                continue
            before, facts = told(world), world.table("facts")
            until = world.today + random.choice((0, 30)) * DAY
            referral = world.record(
                given.referral(
                    referred_on=random.choice((None, world.today - 9 * DAY)),
                    shown_from=world.today - 5 * DAY,
                    public_until=until,
                )
            )
            assert told(world) == before
            if until == world.today:
                world.record(given.end_publicity(referral.id))
            if random.random() < 0.5:
                world.record(given.overturn(referral.id, on=world.today))
            assert told(world) == before
            assert world.table("facts") == facts
            compared += 1
    assert compared > 25


# --- it is shown as long as its issuer shows it ---------------------------------------------------


def shown(world: World) -> list[str]:
    """The referrals on the public sheet of today."""
    return [one["id"] for one in world.sheet()["referrals"]]


def test_it_is_shown_apart_from_what_was_found_and_says_so(world: World) -> None:
    receipt = world.record(given.referral(referral="YS-1", referred_on=None))
    sheet = world.sheet()
    assert sheet["referrals"] == [
        {
            "id": receipt.id,
            "position": receipt.position,
            "names": {"issuer_kind": {"zh": "监管机关", "en": "regulator"}},
            "issuer": {"kind": "REGULATOR", "name": "某市市场监督管理局"},
            "referral": "YS-1",
            "law_article": "《广告法》第五十五条",
            "referred_on": None,
            "shown_from": "2026-02-24",
            "public_until": "2027-02-24",
        }
    ]
    assert (sheet["items"], sheet["reasons"], sheet["explanation"]["lines"]) == ([], [], [])
    assert (sheet["score"], sheet["grade"]) == ("80.00", "N")


def test_it_goes_on_its_day_even_without_a_worker_and_then_from_every_copy(world: World) -> None:
    item = world.record(given.referral(public_until=date(2026, 3, 10)))
    world.clock.set(2026, 3, 9, 2)
    assert shown(world) == [item.id]
    world.clock.set(2026, 3, 9, 16)
    assert world.today == date(2026, 3, 10)
    assert shown(world) == []
    assert world.run(end_publicity(world.desk, world.disclosure, now=world.clock())) == 1
    world.follow()
    *_, (_, last) = world.disclosure.lines(0, 99, PUBLIC, today=world.today)
    assert orjson.loads(last) == {
        "sequence": f"{world.ledger.head():020d}",
        "withheld": "publicity.ended.v1",
        "retracts": f"{item.position:020d}",
    }


def test_a_case_that_was_dropped_leaves_the_public_view(world: World) -> None:
    item = world.record(given.referral())
    assert shown(world) == [item.id]
    overturned = world.record(given.overturn(item.id))
    assert shown(world) == []
    line: Any = world.disclosure.line(overturned.position, PUBLIC, today=world.today)
    assert orjson.loads(line)["retracts"] == f"{item.position:020d}"
