"""A referral to prosecutors is shown for its issuer's days and never counts."""

from __future__ import annotations

import asyncio
import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson
import pytest

from api.intake import quarantine
from api.intake.backlog import waiting_of
from api.intake.csvfile import CsvFile
from api.intake.holding import Holding
from api.intake.imports import Import
from api.intake.mapping import load_mapping
from api.intake.quarantine import Quarantine
from api.intake.tally import Account, Issue, Tally
from api.intake.verdict import Verdicts
from api.refusals import RowNotUnderstood
from api.worker import end_publicity
from ledger.errors import WrongPurpose
from ledger.handle import Desk
from ledger.store import Ledger
from projections.disclosure import Disclosure
from projections.rights import PUBLIC
from tests import given
from tests.conftest import Clock, Run
from tests.histories import Author, World, envelopes_of, line_of, lines_of, whole_file, world_of
from tests.test_imports import csv_file, digest

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
    case = world.scores.case(whole_file(given.PROVIDER), as_of=world.today, known_at=world.today)
    sheet = world.sheet()
    current = world.scores.current(given.PROVIDER) or {}
    for one in (explained, sheet):
        del one["position"]
    assert case is not None
    del explained["known_at"], sheet["referrals"], current["last_position"]
    return orjson.dumps([explained, case[1], sheet, current], option=orjson.OPT_SORT_KEYS)


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
    *_, (_, last) = lines_of(world.disclosure, 0, 99, PUBLIC, today=world.today)
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
    line: Any = line_of(world.disclosure, overturned.position, PUBLIC, today=world.today)
    assert orjson.loads(line)["retracts"] == f"{item.position:020d}"


# --- the real register, and time that passes ------------------------------------------------------

MHLW = Path(__file__).resolve().parent.parent / "docs" / "imports" / "mhlw.toml"
LAST_EDITION = "2025-05-30"
"""The day of the last edition in the file: what it still held has no last day."""


class Entry(NamedTuple):
    """A row of the register by itself: the bytes of its line, and the days it was shown."""

    line: bytes
    first: str
    last: str

    @property
    def digest(self) -> str:
        """What the evidence of its referral says."""
        return sha256(self.line).hexdigest()


class Register(NamedTuple):
    """The register, read by nothing of ours."""

    header: bytes
    entries: Sequence[Entry]

    def file(self, after: str = "", until: str = "9999-12-31") -> CsvFile:
        """The rows that first appeared within these days, as a file."""
        arrived = [one.line for one in self.entries if after < one.first <= until]
        return csv_file(b"\n".join([self.header, *arrived]) + b"\n")

    def shown(self, on: date) -> set[str]:
        """What was on display on a day."""
        day = on.isoformat()
        return {one.digest for one in self.entries if one.first <= day <= one.last}


@pytest.fixture(scope="module")
def register(shared: Path) -> Register:
    """Firms sent to prosecutors, as the Ministry's register showed them from 2017 to 2025."""
    path = shared / "data" / "jp_mhlw_appearances_2016_2025.csv.gz"
    if not path.is_file():
        pytest.skip(f"there is no file {path}")
    header, *lines = gzip.decompress(path.read_bytes()).rstrip(b"\n").split(b"\n")
    columns = header.decode().split(",")
    at = [columns.index(name) for name in ("first_appeared", "last_appeared")]
    cells = csv.reader([line.decode() for line in lines])
    entries = [
        Entry(line, row[at[0]], row[at[1]] or LAST_EDITION)
        for line, row in zip(lines, cells, strict=True)
    ]
    assert len({one.digest for one in entries}) == len(entries) == 3_366
    return Register(header, entries)


def months(first: date, last: date) -> Iterator[date]:
    """The first day of every month."""
    while first <= last:
        yield first
        first = (first + 31 * DAY).replace(day=1)


class Clerk:
    """Imports what arrives, and answers what waits in quarantine."""

    def __init__(self, world: World) -> None:
        self.importing = load_mapping(MHLW)
        self.issues: list[Issue] = []
        self._world = world
        self._quarantine = Quarantine(world.ledger)

    def take(self, file: CsvFile) -> Tally:
        """Import a file."""
        world, importing, actor = self._world, self.importing, given.REGISTRAR
        holding = Holding(self._quarantine, actor, importing.name, "register.csv", importing.recipe)
        work = Import(
            Desk(world.ledger),
            actor,
            name=importing.name,
            purpose=importing.purpose,
            digest=digest,
            account=Account(self.issues.append),
            holding=holding,
        )
        return world.run(work.run(importing.rows(file, registered=world.ledger.registered)))

    def answer(self) -> int:
        """Answer all that waits, and let the ledger record it; how many rows that were."""
        waiting = self._quarantine.listed(None, state="waiting", limit=1000)
        self._world.run(self._answer(waiting))
        assert waiting_of(self._world.ledger).rows == 0
        return len(waiting)

    async def _answer(self, waiting: Sequence[quarantine.Entry]) -> None:
        """What a person does: a day that contradicts another is emptied, a double is accepted."""
        verdicts = Verdicts(self._quarantine, Desk(self._world.ledger), digest=digest)

        async def settle(entry: quarantine.Entry) -> None:
            if "date-order" in [problem.code for problem in entry.problems]:
                with pytest.raises(RowNotUnderstood):
                    await verdicts.accept(entry.id, given.REGISTRAR, "as it stands")
                emptied = {"prosecution_date": ""}
                await verdicts.correct(entry.id, given.REGISTRAR, emptied, "the register knows")
            accepted = await verdicts.accept(entry.id, given.REGISTRAR, "somebody else")
            assert len(accepted.receipts) == 1

        await asyncio.gather(*map(settle, waiting))


def referrals_of(lines: Iterable[tuple[int, bytes]]) -> dict[int, str]:
    """By position, the evidence of each referral that these lines tell of."""
    found = {}
    for position, line in lines:
        if b'"cn.chengxin.referral.recorded.v1"' in line:
            found[position] = orjson.loads(line)["data"]["evidence"][0]["sha256"]
    return found


class Subscriber:
    """A copy of the feed that knows no calendar: it drops what is retracted, and nothing else."""

    def __init__(self) -> None:
        self.after = 0
        self.held: dict[int, str] = {}

    def read(self, disclosure: Disclosure, today: date) -> set[str]:
        """Read what is new; what it holds then."""
        lines = lines_of(disclosure, self.after, 100_000, PUBLIC, today=today)
        self.held |= referrals_of(lines)
        for _, line in lines:
            if b'"retracts"' in line:
                self.held.pop(int(orjson.loads(line)["retracts"]), None)
        self.after = lines[-1][0] if lines else self.after
        return set(self.held.values())


def test_on_the_first_of_every_month_exactly_what_the_register_shows_is_disclosed(
    ledger: Ledger, run: Run, clock: Clock, register: Register
) -> None:
    """The rows come month by month, the worker works, doubts are answered, the feed is read."""
    subscriber, before, doubts, most = Subscriber(), "", 0, 0
    with world_of(ledger, run, clock, 2015, 12, 31, purpose="test-data") as world:
        clerk = Clerk(world)
        for day in months(date(2016, 1, 1), date(2025, 12, 1)):
            clock.set(day.year, day.month, day.day, 2)
            assert clerk.take(register.file(before, day.isoformat())).refused == 0
            before, doubts = day.isoformat(), doubts + clerk.answer()
            world.follow(world.disclosure)
            while run(end_publicity(world.desk, world.disclosure, now=clock())):
                world.follow(world.disclosure)
            shown = register.shown(day)
            lines = lines_of(world.disclosure, 0, 100_000, PUBLIC, today=day)
            assert set(referrals_of(lines).values()) == shown, day
            assert subscriber.read(world.disclosure, day) == shown, day
            if day in (date(2017, 6, 1), date(2020, 12, 1), date(2025, 5, 1)):
                assert_sheets(world, lines)
            most = max(most, len(shown))
        assert (register.shown(day), doubts) == (set(), 227)
        assert most > 600
        ends = Counter(one["type"] for one in envelopes_of(ledger))
        assert ends["cn.chengxin.referral.recorded.v1"] == 3_366
        assert ends["cn.chengxin.publicity.ended.v1"] == 3_366


def assert_sheets(world: World, lines: Iterable[tuple[int, bytes]]) -> None:
    """The sheet of a firm holds what the feed shows of it, apart from a score of nothing."""
    world.follow()
    told: defaultdict[str, set[int]] = defaultdict(set)
    for position, line in lines:
        if b'"subject"' in line:
            told[orjson.loads(line)["subject"]] |= set(referrals_of([(position, line)]))
    with_any = [subject for subject, positions in told.items() if positions]
    for subject in Random(7).sample(with_any, 40) + Random(7).sample(sorted(told), 40):
        sheet = world.sheet(subject)
        assert {one["position"] for one in sheet["referrals"]} == told[subject]
        for one in sheet["referrals"]:
            assert one["shown_from"] <= world.today.isoformat() < one["public_until"]
        assert (sheet["score"], sheet["grade"], sheet["items"]) == ("80.00", "N", [])
        assert sheet["explanation"]["lines"] == []


def test_read_at_once_years_later_nothing_of_it_is_shown_and_every_past_day_is_still_right(
    ledger: Ledger, run: Run, clock: Clock, register: Register
) -> None:
    with world_of(ledger, run, clock, 2026, 3, 2, 2, purpose="test-data") as world:
        clerk = Clerk(world)
        tally = clerk.take(register.file())
        assert tally == Tally(
            rows=3_366, registered=3_087, recorded=3_139, repaired=756, quarantined=227
        )
        told = Counter(one.code for one in clerk.issues)
        assert told == {
            "possible-double": 259,
            "date-order": 5,
            "still-shown": 335,
            "gap-in-editions": 358,
            "day-not-told": 99,
        }
        again = clerk.take(register.file())
        assert (again.already_recorded, again.already_quarantined) == (3_139, 227)
        assert clerk.answer() == 227
        world.follow()
        assert shown_on(world, world.today) == set()
        assert world.sheets.sample() is None
        for day in [*months(date(2016, 1, 1), date(2025, 12, 1))][::7]:
            assert shown_on(world, day) == register.shown(day), day


def shown_on(world: World, day: date) -> set[str]:
    """What the public feed would show on a day."""
    return set(referrals_of(lines_of(world.disclosure, 0, 100_000, PUBLIC, today=day)).values())


def test_the_register_goes_into_no_ledger_but_one_for_test_data(
    world: World, register: Register
) -> None:
    with pytest.raises(WrongPurpose, match="jp-mhlw-2016-2025") as refused:
        Clerk(world).take(register.file())
    assert "测试数据" in refused.value.chinese()
    assert world.ledger.head() == 2
