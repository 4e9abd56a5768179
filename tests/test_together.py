"""Catching up together gives the same tables as each by itself, reads once, and holds nobody up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import psycopg
import pytest

from ledger.figures import Folds
from ledger.store import Ledger, Parsed
from projections import runner, together
from projections.disclosure import Disclosure
from projections.runner import advance, progress_of
from projections.together import Take, catch_up_together
from tests import given
from tests.conftest import Clock, Run
from tests.histories import Author, World, world_of
from tests.test_runner import SOON_SECONDS, append_raw, following, record_behind_poison, until

THREE = given.PROVIDERS[:3]
TABLES = {"scores_1": ("facts", "scores"), "disclosure_1": ("items", "proposals")}


@pytest.fixture
def world(ledger: Ledger, run: Run, clock: Clock) -> Iterator[World]:
    """A ledger with a history of three providers that nobody has followed yet."""
    with world_of(ledger, run, clock, 2026, 3, 1) as world:
        author = Author(Random(5), run(world.desk.rulebooks()))
        for _ in range(40):
            clock.advance(days=1)
            for provider in THREE:
                world.attempt(author, provider)
        yield world


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions of all events that are read from now on, a few at a time."""
    read: list[int] = []
    real = together.parts_of

    def counted(ledger: Ledger, after: int, limit: int) -> Iterator[list[Parsed]]:
        for part in real(ledger, after, limit):
            read.extend(one.position for one in part)
            yield part

    monkeypatch.setattr(together, "parts_of", counted)
    monkeypatch.setattr(together, "PART_EVENTS", 4)
    monkeypatch.setattr(together, "FAR_BATCH_EVENTS", 10)
    return read


def catch_up(world: World, *projections: Any, far: int = 1, beyond: int = 0) -> list[float]:
    """Catch up together, both unless others are named; how many events each was given."""
    figures = {"scores_1": Folds(), "disclosure_1": Folds()}
    catch_up_together(
        world.ledger,
        projections or (world.scores, world.disclosure),
        beyond=beyond,
        going=lambda: True,
        far=far,
        figures=figures,
    )
    return [one.events.total for one in figures.values()]


def rows(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of both projections, settled."""
    world.follow()
    return {
        f"{schema}.{name}": world.table(name, schema=schema)
        for schema, names in TABLES.items()
        for name in names
    }


def anew(world: World) -> None:
    """Empty both projections."""
    with world.ledger.database.connect(role=None) as owner:
        for schema, names in TABLES.items():
            for name in names:
                owner.execute(f"TRUNCATE {schema}.{name}".encode())
            owner.execute(f"UPDATE {schema}.progress SET position = 0, settled = 0".encode())


def positions(world: World) -> tuple[int, int]:
    """Where the scores and the disclosure stand."""
    query = "SELECT s.position, d.position FROM scores_1.progress s, disclosure_1.progress d"
    [(scores, disclosure)] = world.connection.execute(query).fetchall()
    return scores, disclosure


@pytest.mark.parametrize("ahead", [(0, 0), (7, 0), (0, 13), (3, 25)])
def test_the_same_tables_as_each_by_itself_and_every_event_is_read_once(
    world: World, parts: list[int], ahead: tuple[int, int]
) -> None:
    apart = rows(world)
    anew(world)
    if ahead[0]:
        advance(world.connection, world.ledger, world.scores, today=world.today, limit=ahead[0])
    if ahead[1]:
        advance(world.connection, world.ledger, world.disclosure, today=world.today, limit=ahead[1])
    parts.clear()
    given_each = catch_up(world)
    head = world.ledger.head()
    assert given_each == [head - one for one in ahead]
    assert head > 60
    # Those at different places meet, and go on as one.
    assert parts == list(range(min(ahead) + 1, head + 1))
    assert positions(world) == (head, head)
    assert rows(world) == apart


def test_who_is_near_or_alone_or_before_the_bound_goes_by_itself(world: World) -> None:
    head = world.ledger.head()
    catch_up(world, far=head + 1)
    catch_up(world, beyond=1)
    catch_up(world, world.scores)
    assert positions(world) == (0, 0)
    world.follow(world.disclosure)
    catch_up(world)
    assert positions(world) == (0, head)


def test_what_somebody_else_holds_is_left_to_him(world: World) -> None:
    head = world.ledger.head()
    with world.ledger.database.connect() as other, other.transaction():
        other.execute("SELECT FROM scores_1.progress FOR UPDATE")
        catch_up(world)
        assert positions(world) == (0, head)
    anew(world)
    with world.ledger.database.connect() as other, other.transaction():
        for schema in TABLES:
            other.execute(f"SELECT FROM {schema}.progress FOR UPDATE".encode())
        catch_up(world)
        assert positions(world) == (0, 0), "who holds both does the work"


class Breaking(Disclosure):
    """A disclosure that breaks at a position."""

    at = 23

    @contextmanager
    def folding(self, cursor: psycopg.Cursor[tuple[Any, ...]]) -> Iterator[Take]:
        with super().folding(cursor) as take:

            def breaking(events: Sequence[Parsed]) -> None:
                take(events)
                if events[-1].position >= self.at:
                    raise KeyError(self.at)

            yield breaking


def test_of_a_batch_that_breaks_nobody_keeps_anything(world: World, parts: list[int]) -> None:
    with pytest.raises(KeyError):
        catch_up(world, world.scores, Breaking(world.ledger))
    assert parts[-1] == 24
    assert positions(world) == (20, 20), "two batches of ten had gone in"
    kept = world.connection.execute(
        "SELECT max(position) <= 20, (SELECT max(position) <= 20 FROM disclosure_1.items)"
        " FROM scores_1.facts"
    ).fetchone()
    assert kept == (True, True)
    catch_up(world)
    caught_up = rows(world)
    anew(world)
    assert rows(world) == caught_up


def test_poison_stops_who_cannot_read_it_and_nobody_else(
    world: World, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FAR_EVENTS", 5)
    # The score needs an item and a counterparty, disclosure only the day and the consent.
    world.run(world.desk.record(given.PROVIDERS[5], given.register(), given.REGISTRAR))
    poison = append_raw(world.ledger, "reward.granted.v1", {"on": "2026-02-01", "consent": True})
    behind = record_behind_poison(world.ledger)
    with following(world.ledger, today=lambda: world.today) as follower:
        until(lambda: follower.status()["scores_1"].error is not None)
        until(lambda: follower.status()["disclosure_1"].position == behind)
        position, error = follower.status()["scores_1"]
        assert position == poison - 1
        assert error == f"position {poison}, cn.chengxin.reward.granted.v1: KeyError"
        assert parts, "the first batches were taken in together"


def test_a_follower_far_behind_catches_up(
    world: World, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FAR_EVENTS", 5)
    head = world.ledger.head()
    with following(world.ledger, today=lambda: world.today) as follower:
        assert follower.wait_for(head, SOON_SECONDS)
        assert {one.error for one in follower.status().values()} == {None}
    assert progress_of(world.ledger, "scores_1") == (head, None)
    assert sorted(set(parts)) == parts, "read once"
    caught_up = rows(world)
    anew(world)
    assert rows(world) == caught_up
