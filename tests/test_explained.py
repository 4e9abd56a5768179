"""A remembered explanation is the one that would be computed now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random
from typing import Any

import orjson
import pytest

from ledger.store import Ledger
from projections.explained import Explanations, Memory
from projections.runner import advance
from tests import given
from tests.conftest import Clock, Run
from tests.histories import Author, World, whole_file, world_of

THREE = given.PROVIDERS[:3]


@pytest.fixture
def world(ledger: Ledger, run: Run, clock: Clock) -> Iterator[World]:
    with world_of(ledger, run, clock, 2026, 3, 1) as world:
        yield world


def told(explanations: Explanations, world: World, provider: str, as_of: date) -> Any:
    """What is answered, parsed."""
    found = explanations.json(whole_file(provider), as_of=as_of, today=world.today)
    return None if found is None else orjson.loads(found[1])


def computed(world: World, provider: str, as_of: date) -> Any:
    """What is computed anew."""
    found = world.scores.explain(provider, as_of=as_of, today=world.today)
    return None if found is None else {"audience": "full", **found}


def test_what_is_remembered_is_what_would_be_computed(world: World) -> None:
    """Over a random history with a new rulebook, settled or not, on any day."""
    random = Random(3)
    author = Author(random, world.run(world.desk.rulebooks()))
    explanations = Explanations(world.scores)
    for day in range(45):
        world.clock.advance(days=1)
        if day == 5:
            world.run(world.desk.publish_rulebook(given.publish(), given.OFFICER))
        for provider in THREE:
            world.attempt(author, provider)
        if random.random() < 0.5:
            # Folded, not settled: the tables hold more than can be answered for.
            advance(world.connection, world.ledger, world.scores, today=world.today, limit=1)
        else:
            world.follow()
        days = (world.today, world.today - timedelta(days=5), date(2026, 3, 20), date(2026, 6, 1))
        for provider in THREE:
            for as_of in random.sample(days, 2):
                wanted = computed(world, provider, as_of)
                for _ in range(2):
                    assert told(explanations, world, provider, as_of) == wanted


def test_what_is_asked_again_is_not_computed_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    explanations = Explanations(world.scores)
    world.record(given.register())
    world.record(given.penalty())
    first = told(explanations, world, given.PROVIDER, world.today)
    # The log goes on without this provider: only the position is another one.
    moved = world.record(given.register(), provider=given.OTHER)
    wanted = computed(world, given.PROVIDER, world.today)
    monkeypatch.setattr(world.scores, "facts", None)
    monkeypatch.setattr(world.scores, "sources", None)
    again = told(explanations, world, given.PROVIDER, world.today)
    assert again == wanted
    assert again["position"] == again["known_at"] == moved.position > first["position"]
    with pytest.raises(TypeError):
        told(explanations, world, given.PROVIDER, world.today - timedelta(days=1))


def test_of_what_nobody_knows_nothing_is_told(world: World) -> None:
    world.follow()
    assert told(Explanations(world.scores), world, given.PROVIDER, world.today) is None


def test_a_fact_that_comes_in_while_it_is_computed_is_not_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    explanations = Explanations(world.scores)
    world.record(given.register())
    world.record(given.penalty())
    real = world.scores.facts

    def late(subject: str, up_to: int | None = None) -> Any:
        monkeypatch.setattr(world.scores, "facts", real)
        world.record(given.penalty())
        return real(subject, up_to)

    monkeypatch.setattr(world.scores, "facts", late)
    before = told(explanations, world, given.PROVIDER, world.today)
    after = told(explanations, world, given.PROVIDER, world.today)
    assert len(before["contributions"]) == 1
    assert after == computed(world, given.PROVIDER, world.today)
    assert len(after["contributions"]) == 2


@pytest.mark.parametrize("between", ["current", "position"])
def test_an_answer_holds_all_that_its_position_names(
    world: World, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """Also where it is remembered, and a fact comes in between two looks."""
    explanations = Explanations(world.scores)
    world.record(given.register())
    world.record(given.penalty())
    told(explanations, world, given.PROVIDER, world.today)
    real = getattr(world.scores, between)

    def late(*asked: str) -> Any:
        monkeypatch.setattr(world.scores, between, real)
        world.record(given.penalty())
        return real(*asked)

    monkeypatch.setattr(world.scores, between, late)
    answer = told(explanations, world, given.PROVIDER, world.today)
    known = list(world.scores.sources(given.PROVIDER, answer["position"]))
    assert list(answer["facts"]) == known
    assert {line["fact"] for line in answer["contributions"]} == set(known)


def test_memory_is_bounded_by_bytes_and_forgets_the_oldest() -> None:
    memory = Memory(100)
    for key in "abc":
        memory.put(key, key.encode() * 40)
    assert [memory.get(key) is None for key in "abc"] == [True, False, False]
    assert memory.get("b") == b"b" * 40
    memory.put("c", b"C" * 30)
    memory.put("d", b"d" * 40)
    assert [memory.get(key) is None for key in "bcd"] == [True, False, False]
    memory.put("e", b"e" * 101)
    assert [memory.get(key) is None for key in "cde"] == [False, False, True], "too large by itself"
