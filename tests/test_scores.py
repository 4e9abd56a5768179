"""The projection `scores`: facts and rows follow the log, and no way of following it matters."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given as drawn
from hypothesis import settings

from ledger.database import Database
from ledger.envelope import decode
from ledger.events import Data
from ledger.rulebook import Rulebooks, evolve
from ledger.scale import Scales
from ledger.store import Ledger
from projections import scores as scores_module
from projections.case import Act, Demerit, Fact, check, parse_fact
from projections.facts import facts_of
from projections.forecast import next_change, score_and_falls
from projections.runner import advance, progress_of
from projections.scores import SUMMARY, Scores
from projections.scoring import score
from tests import given
from tests.conftest import Clock, Run
from tests.histories import Author, World, envelopes_of, second_tables, world_of
from tests.strategies import History, histories, parse, score_days

ROOT = Path(__file__).resolve().parent.parent
THREE = given.PROVIDERS[:3]
CATCH_UP = """
import sys, time
from contextlib import contextmanager
from datetime import date
from ledger.database import Database
from ledger.store import Ledger
from projections.runner import advance
from projections.scores import Scores

conninfo, where, times, today = sys.argv[1:]
passed = 0

def stand(here):
    # Stands still inside the transaction, where the parent kills it.
    global passed
    passed += here == where
    if passed == int(times):
        print(here, flush=True)
        time.sleep(60)

class Slow(Scores):
    @contextmanager
    def folding(self, cursor):
        with super().folding(cursor) as take:
            yield take
        stand("folded")

    def settle(self, cursor, today, position):
        more = super().settle(cursor, today, position)
        stand("settled")
        return more

with Ledger(Database(conninfo)) as ledger, ledger.database.connect() as connection:
    scores = Slow(ledger)
    print("ready", flush=True)
    while advance(connection, ledger, scores, today=date.fromisoformat(today), limit=7):
        pass
"""


@pytest.fixture
def world(ledger: Ledger, run: Run, clock: Clock) -> Iterator[World]:
    """An open ledger on 1 June 2024, with projections that stand still until they are moved."""
    with world_of(ledger, run, clock, 2024, 6, 1, 2) as world:
        yield world


def other_book() -> dict[str, Any]:
    """A later rulebook: another baseline, other points, quicker forgetting."""
    book = given.rulebook("RB-2025.1", "2025-01-15")
    scoring = book["scoring"]
    scoring["baseline"] = "71.50"
    scoring["severity_points"] |= {"S1": "3", "S2": "7"}
    scoring["weights"]["S2"] = [[2, "1"], [5, "0.5"]]
    scoring["merit"]["TRAINING"] = ["2", 3, "4"]
    scoring["evidence_window_months"] = 6
    return book


class Oracle:
    """Every provider's facts out of the log itself, and the row that they should give."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._position = 0
        self.rulebooks = Rulebooks()
        self.facts: defaultdict[str, list[Fact]] = defaultdict(list)

    @property
    def scales(self) -> Scales:
        """The scales of all rulebooks in the log."""
        assert self.rulebooks.scales is not None
        return self.rulebooks.scales

    def read(self) -> None:
        """Take in what was recorded since."""
        for stored in self._world.ledger.read(self._position, 100_000):
            envelope = orjson.loads(stored.state)
            self._position = stored.position
            if "subject" in envelope:
                facts = [parse_fact(fact) for fact in facts_of(envelope)]
                self.facts[envelope["subject"]].extend(facts)
            else:
                self.rulebooks = evolve(self.rulebooks, decode(stored.state))

    def assert_rows_are_scores(self, day: date) -> None:
        """Every row equals the score of the day."""
        rows = self._world.connection.execute(
            f"SELECT subject, stale, {', '.join(SUMMARY)} FROM scores_1.scores".encode()
        ).fetchall()
        assert {row[0] for row in rows} == set(self.facts)
        for subject, stale, *summary in rows:
            result: Any = score(self.facts[subject], self.scales, as_of=day, known_at=0)
            wanted = {name: result[name] for name in SUMMARY}
            assert dict(zip(SUMMARY, summary, strict=True)) == wanted, (subject, day)
            assert not stale


def write(world: World, *, seed: int, days: int) -> None:
    """Random commands for three providers, none of them followed yet."""
    random = Random(seed)
    author = Author(random, world.run(world.desk.rulebooks()))
    for _ in range(days):
        world.clock.advance(days=1)
        for provider in THREE:
            world.attempt(author, provider)


def tables(world: World, schema: str = "scores_1") -> dict[str, list[tuple[Any, ...]]]:
    """All rows of both tables."""
    return {name: world.table(name, schema=schema) for name in ("facts", "scores")}


def replay(world: World, schema: str, *, limit: int) -> dict[str, list[tuple[Any, ...]]]:
    """The tables after following the whole log anew into an emptied schema."""
    with world.ledger.database.connect(role=None) as owner:
        owner.execute(f"TRUNCATE {schema}.facts, {schema}.scores".encode())
        owner.execute(f"UPDATE {schema}.progress SET position = 0, settled = 0".encode())
    scores = Scores(world.ledger, schema)
    while advance(world.connection, world.ledger, scores, today=world.today, limit=limit):
        pass
    assert progress_of(world.ledger, schema) == (world.ledger.head(), None)
    return tables(world, schema)


def test_on_every_day_the_row_is_the_score_and_a_replay_gives_the_same_tables(
    world: World, database: Database
) -> None:
    random = Random(1)
    author = Author(random, world.run(world.desk.rulebooks()))
    oracle = Oracle(world)
    for provider in THREE:
        world.attempt(author, provider)
    for day in range(720):
        world.clock.advance(days=1)
        if day == 60:
            world.run(world.desk.publish_rulebook(given.publish(other_book()), given.OFFICER))
        while day < 400 and random.random() < 0.5:
            world.attempt(author, random.choice(THREE))
        oracle.read()
        world.follow(world.scores)
        oracle.assert_rows_are_scores(world.today)
    assert world.ledger.head() > 250
    for facts in oracle.facts.values():
        check(facts, oracle.scales)
    wanted = tables(world)
    schema = second_tables(database, "scores")
    for limit in (1, 7, 5_000):
        assert replay(world, schema, limit=limit) == wanted, limit


def test_a_rulebook_changes_the_rows_on_its_day_and_not_before(world: World) -> None:
    world.clock.set(2025, 1, 1, 2)
    for provider in THREE:
        world.record(given.register(), provider)
    found = given.penalty(
        occurred_on=date(2024, 12, 1), decided_on=date(2024, 12, 9), served_on=date(2024, 12, 9)
    )
    world.record(found)
    world.run(world.desk.publish_rulebook(given.publish(other_book()), given.OFFICER))
    expected = {
        date(2025, 1, 1): ("75.00", "80.00", "RB-2026.1"),
        date(2025, 1, 14): ("75.00", "80.00", "RB-2026.1"),
        date(2025, 1, 15): ("66.50", "71.50", "RB-2025.1"),
        # The finding itself stays under the rules of its own days: 0.75 from 9 March on.
        date(2025, 3, 8): ("66.50", "71.50", "RB-2025.1"),
        date(2025, 3, 9): ("67.75", "71.50", "RB-2025.1"),
    }
    for day, (found_score, clean_score, version) in expected.items():
        world.follow(today=day)
        rows = [world.scores.current(provider) for provider in THREE]
        assert [row and row["score"] for row in rows] == [found_score, clean_score, clean_score]
        assert {row and row["rulebook"] for row in rows} == {version}


def test_the_sweep_writes_only_the_rows_that_are_due(world: World) -> None:
    world.clock.set(2025, 1, 1, 2)
    for provider in THREE:
        world.record(given.register(), provider)
    days = {"occurred_on": date(2024, 12, 1), "decided_on": date(2024, 12, 9)}
    world.record(given.penalty(**days, served_on=date(2024, 12, 9)))
    versions = "SELECT subject, xmin::text FROM scores_1.scores"

    def written(day: date) -> set[str]:
        before = set(world.connection.execute(versions).fetchall())
        world.follow(today=day)
        return {row[0] for row in set(world.connection.execute(versions).fetchall()) - before}

    assert written(date(2025, 3, 8)) == set()
    assert written(date(2025, 3, 9)) == {given.PROVIDER}
    assert written(date(2025, 3, 9)) == set()


def test_more_providers_than_one_round_settles(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores_module, "SETTLE_PROVIDERS", 2)
    for provider in given.PROVIDERS:
        world.run(world.desk.record(provider, given.register(), given.REGISTRAR))
    positions = []
    while advance(world.connection, world.ledger, world.scores, today=world.today):
        positions.append(world.scores.position())
    assert positions == [0, 0, 0], "nothing is answered for before all of it is computed"
    assert world.scores.position() == world.ledger.head() == 7
    rows = [world.scores.current(provider) for provider in given.PROVIDERS]
    assert [row and row["grade"] for row in rows] == ["N"] * 6


def test_killed_at_any_moment_it_goes_on_as_if_nothing_had_happened(
    world: World, database: Database
) -> None:
    write(world, seed=2, days=60)
    head = world.ledger.head()
    assert head > 100
    random = Random(3)
    moments = [("folded", 1), ("folded", 3), ("", 0), ("settled", 1), ("", 0)]
    reached = [0]
    for where, times in moments:
        kill_catching_up(world, where, times, wait_seconds=random.uniform(0.0, 0.03))
        position = wait_until_free(world)
        assert position >= reached[-1]
        reached.append(position)
        facts = [
            (envelope["subject"], at, fact["id"])
            for at, envelope in enumerate(envelopes_of(world.ledger)[:position], 1)
            for fact in facts_of(envelope)
        ]
        stored = world.connection.execute("SELECT subject, position, id FROM scores_1.facts")
        assert sorted(stored.fetchall()) == sorted(facts)
    assert reached[1] == 0, "the first batch was killed before its commit"
    world.follow(world.scores)
    assert world.scores.position() == head
    assert tables(world) == replay(world, second_tables(database, "scores"), limit=5_000)


def kill_catching_up(world: World, where: str, times: int, *, wait_seconds: float) -> None:
    """Let another process catch up, and kill it: where it stands, or after a while."""
    command = [sys.executable, "-c", CATCH_UP, world.ledger.database.conninfo, where]
    command += [str(times), world.today.isoformat()]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        if where:
            assert child.stdout.readline() == f"{where}\n"
        else:
            time.sleep(wait_seconds)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def wait_until_free(world: World) -> int:
    """Wait until the server has ended the killed process's transaction; the position."""
    deadline = time.monotonic() + 10
    while True:
        with world.connection.transaction():
            row = world.connection.execute(
                "SELECT position FROM scores_1.progress FOR UPDATE SKIP LOCKED"
            ).fetchone()
        if row is not None:
            return int(row[0])
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- The explanation -----------------------------------------------------------------------------


def test_the_explanation_names_where_every_contribution_comes_from(world: World) -> None:
    world.clock.set(2026, 3, 2, 2)
    world.record(given.register())
    penalty, finding = given.penalty(), given.finding()
    commands: dict[str, Data] = {
        "penalty": penalty,
        "complaint": given.complaint(complaint="TS-9001", finding=finding),
        "breach": given.breach(),
        "reward": given.reward(),
        "contract": given.contract(),
        "inspection": given.inspection(),
    }
    receipts = {name: world.record(command) for name, command in commands.items()}
    overturned = world.record(given.overturn(receipts["breach"].id, document_no="撤销〔2026〕1号"))
    explained = world.scores.explain(given.PROVIDER, as_of=world.today, today=world.today)
    assert explained is not None
    assert explained["position"] == explained["known_at"] == overturned.position
    lines = {line["fact"]: line for line in explained["contributions"]}
    told = explained["facts"]
    for name, receipt in receipts.items():
        fact = f"{receipt.id}/merit" if name == "inspection" else receipt.id
        assert fact in lines
        assert (told[fact]["event"], told[fact]["position"]) == (receipt.id, receipt.position)
    assert told[receipts["penalty"].id]["document_no"] == penalty.document_no
    assert told[receipts["penalty"].id]["issuer"] == penalty.issuer.model_dump()
    assert told[receipts["complaint"].id]["document_no"] == finding.document_no
    assert told[receipts["complaint"].id]["complaint"] == "TS-9001"
    assert told[receipts["contract"].id]["counterparty"] == given.CLIENT
    assert told[overturned.id]["document_no"] == "撤销〔2026〕1号"
    amounts = [*explained["contributions"], *explained["adjustments"]]
    total = Decimal(explained["baseline"]) + sum(Decimal(line["points"]) for line in amounts)
    assert str(total) == explained["score"]
    # An association's S1 weighs half; the merits are 4.00, 0.50 and 1.00.
    assert explained["score"] == str(Decimal("80.00") - 5 - 1 + 4 + Decimal("0.5") + 1)


def test_the_explanation_of_another_day(world: World) -> None:
    world.clock.set(2026, 3, 2, 2)
    world.record(given.register())
    world.record(given.penalty())
    days = {
        date(2026, 2, 11): ("80.00", "2026-02-12"),
        date(2026, 2, 12): ("75.00", "2026-05-12"),
        date(2026, 5, 12): ("76.25", "2026-08-12"),
        date(2027, 2, 12): ("80.00", None),
    }
    for as_of, (points, change) in days.items():
        explained = world.scores.explain(given.PROVIDER, as_of=as_of, today=world.today)
        assert explained is not None
        assert (explained["score"], explained["next_change_on"]) == (points, change)
        assert (explained["as_of"], explained["asked_on"]) == (as_of.isoformat(), "2026-03-02")


def test_nothing_beyond_the_position_enters_an_explanation(world: World) -> None:
    world.clock.set(2026, 3, 2, 2)
    world.record(given.register())
    first = world.record(given.penalty())
    for _ in range(2):
        world.run(world.desk.record(given.PROVIDER, given.penalty(), given.REGISTRAR))
    world.run(world.desk.record(given.OTHER, given.register(), given.REGISTRAR))
    world.run(world.desk.publish_rulebook(given.publish(), given.OFFICER))
    before = world.scores.explain(given.PROVIDER, as_of=date(2026, 5, 1), today=world.today)
    for _ in range(4):
        assert advance(world.connection, world.ledger, world.scores, today=world.today, limit=1)
        # Folded, not settled: the tables already hold more than can be answered for.
        explained = world.scores.explain(given.PROVIDER, as_of=date(2026, 5, 1), today=world.today)
        assert explained == before
        assert explained is not None
        assert explained["position"] == first.position
        assert explained["rulebook"] == "RB-2026.1"
        assert world.scores.explain(given.OTHER, as_of=world.today, today=world.today) is None
    world.follow(world.scores)
    explained = world.scores.explain(given.PROVIDER, as_of=date(2026, 5, 1), today=world.today)
    assert explained is not None
    assert (explained["score"], explained["rulebook"]) == ("65.00", "RB-2026.2")
    assert world.scores.explain(given.OTHER, as_of=world.today, today=world.today) is not None


def test_an_unknown_provider_has_no_score(world: World) -> None:
    world.follow()
    assert world.scores.current(given.PROVIDER) is None
    assert world.scores.explain(given.PROVIDER, as_of=world.today, today=world.today) is None


# --- When an item's points next change ------------------------------------------------------------


def tried_day_by_day(
    facts: list[Fact], scales: Scales, as_of: date, wanted: Demerit
) -> tuple[date, str] | None:
    """`score_and_falls` without its shortcuts: on every day on which the score may change.

    By itself: without what else belongs to its incident, and without what comes into effect later.
    """
    alone = [
        fact
        for fact in facts
        if not isinstance(fact, Demerit)
        or fact is wanted
        or (fact.incident != wanted.incident and fact.served_on <= as_of)
    ]
    ids = {fact.id for fact in alone}
    alone = [
        fact
        for fact in alone
        if not isinstance(fact, Act) or (fact.target in ids and fact.on <= as_of)
    ]

    def points(day: date) -> str:
        lines = score(alone, scales, as_of=day, known_at=0)["contributions"]
        return next(str(line["points"]) for line in lines if line["fact"] == wanted.id)

    now, day = points(as_of), next_change(alone, scales, as_of=as_of)
    while day is not None and points(day) == now:
        day = next_change(alone, scales, as_of=day)
    return None if day is None else (day, points(day))


@settings(max_examples=120)
@drawn(histories(), score_days)
def test_the_next_fall_of_a_demerit(history: History, as_of: date) -> None:
    facts, scales = parse(history.facts, history.rulebooks)
    _, found = score_and_falls(facts, scales, as_of=as_of, position=0)
    lines = score(facts, scales, as_of=as_of, known_at=0)["contributions"]
    costing = {line["fact"] for line in lines if str(line["points"]).startswith("-")}
    for fact in facts:
        if (
            not isinstance(fact, Demerit)
            or fact.id not in costing
            or (wanted := tried_day_by_day(facts, scales, as_of, fact)) is None
        ):
            assert fact.id not in found
        else:
            on, d = found[fact.id]
            assert (on, f"-{d}" if d else "0.00") == wanted


def finding(id: str, served_on: date, **changes: str) -> dict[str, Any]:
    """An S2 of a regulator, done and served on one day."""
    days = ("occurred_on", "decided_on", "served_on", "recorded_on")
    return {
        "kind": "demerit",
        "id": id,
        "incident": f"i-{id}",
        "category": "ADVERT",
        "family": "AD_FALSE_CLAIM",
        "severity": "S2",
        "issuer": "REGULATOR",
        **dict.fromkeys(days, served_on.isoformat()),
        "mitigation": [],
        "obligation": False,
        **changes,
    }


def test_the_next_step_waits_for_however_many_of_the_same_family() -> None:
    day = date(2026, 1, 1)
    written = [finding("d-000", day, severity="S3")]
    written += [finding(f"d-{n:03d}", day + timedelta(days=n)) for n in range(1, 120)]
    facts, scales = parse(written, [given.rulebook()["scoring"]])
    _, falls = score_and_falls(facts, scales, as_of=day, position=0)
    assert falls == {"d-000": (date(2027, 1, 1), Decimal("15.00"))}


def test_the_next_step_knows_the_priors_of_the_whole_incident() -> None:
    day = date(2026, 1, 10)
    written = [
        finding("a", day, incident="i"),
        finding("b", day, incident="i", family="AD_UNMARKED"),
        # The second of its family weighs more, and so the other one of its incident nothing.
        finding("c", date(2026, 1, 1), family="AD_UNMARKED"),
    ]
    facts, scales = parse(written, [given.rulebook()["scoring"]])
    _, falls = score_and_falls(facts, scales, as_of=day, position=0)
    assert "a" not in falls
    assert falls["b"] == (date(2026, 4, 10), Decimal("5.63"))
