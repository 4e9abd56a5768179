"""The demonstration: invented, whole, the same for a seed, and only where it belongs."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from datetime import date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from api.demo import history
from api.demo import ledger as demo
from api.demo.history import History, Moment
from api.demo.invented import DIVISION, ORGANISATION_WEIGHTS, companies
from api.demo.ledger import (
    REGISTRAR,
    SECOND,
    Plan,
    SimulatedClock,
    demonstrate,
    opening,
    told,
)
from api.demo.plots import PENALTIES, PLOTS, VARIANTS
from ledger.access import AccessRecorded
from ledger.calendar import local_day
from ledger.database import Database
from ledger.envelope import Event, decode
from ledger.erasure import PersonErasure, PersonHold, PersonRelease
from ledger.errors import DateOrder, LedgerNotEmpty, WrongPurpose
from ledger.events import (
    ComplaintOutcomeRecorded,
    ContractBreachConfirmed,
    Finding,
    InspectionRecorded,
    LedgerOpened,
    PenaltyImposed,
    ProviderExited,
    ProviderRegistered,
    ProviderSuspended,
    RulebookPublished,
)
from ledger.handle import Desk
from ledger.identity import parse_identifier
from ledger.keyring import Epoch, FileKeyring
from ledger.private import groups, texts
from ledger.proposal import ProposalMade
from ledger.qualification import QualificationRevoked, QualificationVerified
from ledger.referral import ReferralRecorded
from ledger.rulebook import first_rulebook, parse_rulebook
from ledger.sealing import Sealed
from ledger.second_officer import EVENTS_OF_TWO, breaches
from ledger.store import Ledger
from ledger.vocabulary import EVENT_TYPES
from projections.disclosure import Disclosure
from projections.runner import advance, migrate_projections
from projections.scores import Scores
from tests import given
from tests.conftest import Record, Run, drop

ROOT = Path(__file__).resolve().parent.parent
LAST = date(2026, 11, 20)
IDS: dict[str, Any] = {
    **dict.fromkeys(("target", "target_facts", "proposal"), True),
    "proposed": {"data": {"target"}},
}
"""Where events name others by their ids."""
WHOLE = len(PLOTS) * VARIANTS
"""So many providers show every plot in every variant."""


def states(database: Database) -> list[bytes]:
    """All stored bytes, in order."""
    with Ledger(database) as ledger:
        return [row.state for row in ledger.read(0, 1_000_000)]


def digest(database: Database) -> str:
    """The digest of all stored bytes."""
    return sha256(b"\n".join(states(database))).hexdigest()


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> FileKeyring:
    """The vault's keys of `filled`."""
    return FileKeyring(tmp_path_factory.mktemp("demo") / "keys")


@pytest.fixture(scope="module")
def filled(databases: Callable[[], Database], keyring: FileKeyring) -> Iterator[Database]:
    """A demonstration of the smallest whole size; not to be written to."""
    database = databases()
    with asyncio.Runner() as runner:
        runner.run(demonstrate(database, Plan(LAST, WHOLE), keyring=keyring))
    yield database
    drop(database)


@pytest.fixture(scope="module")
def events(filled: Database) -> list[Event]:
    """Its events."""
    return [decode(state) for state in states(filled)]


def moments(plan: Plan) -> list[Moment]:
    """All that a plan records, of steps that concern no other."""
    with closing(History(told(plan, parse_rulebook(first_rulebook())))) as written:
        found = []
        for moment in written.moments():
            written.note((one.provider, one.name, one.name) for one in moment.commands if one.name)
            found.append(moment)
        return found


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event.data for event in events if isinstance(event.data, kind)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    filled: Database, databases: Callable[[], Database], run: Run, tmp_path: Path
) -> None:
    """Whatever keys the vault has."""
    again, other = databases(), databases()
    run(demonstrate(again, Plan(LAST, WHOLE), keyring=FileKeyring(tmp_path / "others")))
    run(demonstrate(other, Plan(LAST, WHOLE, seed=2)))
    assert digest(again) == digest(filled)
    assert digest(other) != digest(filled)
    drop(again)
    drop(other)


def test_two_officers_did_all_that_needs_two(events: list[Event]) -> None:
    assert list(breaches(events)) == []
    decided = [one for one in events if type(one.data) in EVENTS_OF_TWO]
    assert {type(one.data) for one in decided} == set(EVENTS_OF_TWO)
    made = {one.id: one for one in events if isinstance(one.data, ProposalMade)}
    pairs = {(made[one.causation or ""].actor, one.actor) for one in decided}
    assert pairs == {(REGISTRAR, SECOND), (SECOND, REGISTRAR)}


def test_all_kinds_of_facts_and_acts_occur(events: list[Event]) -> None:
    types = {type(event.data) for event in events}
    assert {cls for cls in EVENT_TYPES.values() if cls not in types} == {
        RulebookPublished,
        ReferralRecorded,
        QualificationVerified,
        QualificationRevoked,
        AccessRecorded,
        PersonErasure,
        PersonHold,
        PersonRelease,
    }
    assert {(one.issuer.kind, one.severity) for one in of(events, PenaltyImposed)} == set(PENALTIES)
    breaches = of(events, ContractBreachConfirmed)
    assert len({one.ground for one in breaches}) == 5
    assert {one.outcome for one in of(events, ComplaintOutcomeRecorded)} == {
        "SUBSTANTIATED",
        "PARTLY",
        "UNSUBSTANTIATED",
    }
    assert len({one.result for one in of(events, InspectionRecorded)}) == 4
    assert len({one.reason for one in of(events, ProviderSuspended)}) == 4
    assert len({one.reason for one in of(events, ProviderExited)}) == 3
    assert len({one.entity_kind for one in of(events, ProviderRegistered)}) == 4
    findings: list[Finding] = of(events, Finding)
    assert {one.late_entry for one in findings} == {True, False}
    assert {one.obligation for one in findings} == {True, False}
    assert {code for one in findings for code in one.mitigation} == set(
        parse_rulebook(first_rulebook()).items.mitigations
    )
    incidents = Counter(one.incident for one in findings)
    assert max(incidents.values()) == 2, "two bodies never decided on one incident"


def test_time_walks_through_three_years_and_ends_on_the_last_day(events: list[Event]) -> None:
    times = [event.time for event in events if event.time is not None]
    assert len(times) == len(events)
    assert times == sorted(times)
    days = [local_day(one) for one in times]
    assert days[0] == Plan(LAST).first
    assert days[-1] == LAST
    assert timedelta(days=3 * 365) < days[-1] - days[0] < timedelta(days=3 * 367)
    gaps = [after - before for before, after in itertools.pairwise(days[1:])]
    assert max(gaps) < timedelta(days=15)
    assert len(set(days)) > 200


@pytest.mark.parametrize("last", [date(2026, 11, 22), date(2024, 2, 29), date(2027, 1, 1)])
def test_any_last_day_will_do(databases: Callable[[], Database], run: Run, last: date) -> None:
    # A Sunday, a leap day, a day that is still to come when tests run: the clock is simulated,
    # but the server refuses the future, so only the plan of the third is made.
    plan = Plan(last, 12)
    planned = moments(plan)
    assert local_day(planned[-1].at) <= last
    if last.year < 2027:
        database = databases()
        head = run(demonstrate(database, plan))
        assert head == 1 + sum(len(moment.commands) for moment in planned)
        drop(database)


def test_companies_are_invented_and_their_codes_right() -> None:
    found = list(companies(Random(7), 20_000))
    assert len({one.identifier for one in found}) == len({one.name for one in found}) == 20_000
    for one in found:
        assert parse_identifier(one.identifier) == one.identifier
        assert one.identifier[2:8] == DIVISION
        assert "某" in one.name
        organisation = one.identifier[8:17]
        total = sum(
            int(c, 36) * w for c, w in zip(organisation, ORGANISATION_WEIGHTS, strict=False)
        )
        wanted = (11 - total % 11) % 11
        assert organisation[-1] == ("X" if wanted == 10 else str(wanted))


def test_in_one_moment_a_provider_gets_one_command() -> None:
    providers: defaultdict[datetime, list[str]] = defaultdict(list)
    for moment in moments(Plan(LAST, 200)):
        providers[moment.at] += [one.provider for one in moment.commands]
    assert all(len(set(given)) == len(given) for given in providers.values())


def test_names_and_codes_last_for_two_hundred_thousand() -> None:
    identifiers, names = set(), set()
    for one in companies(Random(3), 200_000):
        identifiers.add(one.identifier)
        names.add(one.name)
    assert len(identifiers) == len(names) == 200_000


def test_memory_does_not_grow_with_the_number_of_providers(
    databases: Callable[[], Database], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each provider's history of 50 KiB and more next to nothing is kept, once it is told.

    (Pydantic keeps the last 16,384 short strings it has met.)
    """
    monkeypatch.setattr(demo, "KEPT_PROVIDERS", 3)
    monkeypatch.setattr(history, "COMMANDS_AT_ONCE", 3)

    def peak(providers: int) -> int:
        database = databases()
        gc.collect()
        tracemalloc.start()
        try:
            head = run(demonstrate(database, Plan(LAST, providers)))
            used = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert head > 15 * providers
        drop(database)
        return used

    few = peak(30)
    assert (peak(120) - few) / 90 < 10_000


def test_grades_are_a_believable_mix_and_nothing_is_left_to_the_worker(
    databases: Callable[[], Database], run: Run
) -> None:
    database = databases()
    run(demonstrate(database, Plan(LAST, 300)))
    migrate_projections(database)
    with Ledger(database) as ledger, database.connect() as connection:
        disclosure = Disclosure(ledger)
        for projection in (Scores(ledger), disclosure):
            while advance(connection, ledger, projection, today=LAST):
                pass
        rows = connection.execute("SELECT grade, count(*) FROM scores_1.scores GROUP BY 1")
        shares = {grade: count / 300 for grade, count in rows.fetchall()}
        assert disclosure.ending(LAST, 10) == []
        assert disclosure.ending(LAST + timedelta(days=60), 10) != []
    assert shares.keys() == {"A", "B", "C", "D", "N", "X"}
    assert 0.10 < shares["A"] < 0.30
    assert 0.30 < shares["B"] < 0.60
    assert 0.05 < shares["C"] < 0.20
    assert 0.03 < shares["D"] < 0.12
    assert 0.08 < shares["N"] < 0.25
    assert 0.01 < shares["X"] < 0.05
    drop(database)


# --- Whom it knows ------------------------------------------------------------------------------

SEALED = {
    "contact": {"name", "phone", "email"},
    "operator": {"name"},
    "agreement": {"client", "title", "terms", "price_fen"},
    "complainant": {"name", "contact"},
    "described": {"text"},
    "remark": {"text"},
}
"""Every group of sealed fields, and its fields."""


def without(data: Any, names: Collection[str]) -> Any:
    """What was dumped of an event without the members of these names, wherever they are."""
    if isinstance(data, dict):
        return {name: without(one, names) for name, one in data.items() if name not in names}
    return [without(one, names) for one in data] if isinstance(data, list) else data


def groups_of(event: Event) -> Iterator[Sealed]:
    """Every sealed text of an event."""
    for _, group in groups(event.data):
        for _, text in texts(group):
            assert isinstance(text, Sealed)
            yield text


def test_everybody_in_it_is_invented_and_every_kind_of_text_is_there(
    filled: Database, keyring: FileKeyring, events: list[Event]
) -> None:
    with Ledger(filled, keyring=keyring) as ledger:
        opened = ledger.vault.open([event.id for event in events])
        assert list(ledger.vault.persons.keyring.epochs()) == [Epoch(1, LAST)]
    found: dict[str, set[str]] = defaultdict(set)
    for one in itertools.chain.from_iterable(opened.values()):
        group, field = one.path.split("/")[-2:]
        found[f"{group}.{field}"].add(one.text)
    assert found.keys() == {f"{group}.{field}" for group in SEALED for field in SEALED[group]}
    for field, said in found.items():
        for text in said:
            match field.partition(".")[2]:
                case "name" | "client":
                    assert "某" in text
                case "phone" | "contact":
                    assert re.fullmatch(r"000-\d{4}-0000|..市(示范|样例|演示|例溪).+\d号", text)
                case "email":
                    assert text.endswith("@demo.example")
                case "price_fen":
                    assert int(text) % 100_000 == 0
                case _:
                    assert "演示" in text
    assert len(found["contact.name"]) > 20


def test_without_keys_all_the_rest_is_the_same(
    filled: Database, databases: Callable[[], Database], run: Run, events: list[Event]
) -> None:
    database = databases()
    run(demonstrate(database, Plan(LAST, WHOLE)))
    assert [without(orjson.loads(one), SEALED) for one in states(filled)] == [
        orjson.loads(one) for one in states(database)
    ]
    drop(database)


# --- Where it belongs ----------------------------------------------------------------------------


def test_a_ledger_opened_for_it_is_filled(ledger: Ledger, database: Database, run: Run) -> None:
    plan = Plan(LAST, 5)
    with Ledger(database, clock=SimulatedClock(plan.opens())) as early:
        run(Desk(early).open_ledger(opening(), REGISTRAR))
    assert run(demonstrate(database, plan)) > 50
    with pytest.raises(LedgerNotEmpty) as refused:
        run(demonstrate(database, plan))
    assert str(ledger.head()) in str(refused.value)
    assert str(ledger.head()) in refused.value.chinese()


def test_a_ledger_of_another_purpose_is_not_filled(
    ledger: Ledger, desk: Desk, database: Database, run: Run
) -> None:
    run(desk.open_ledger(given.opening(purpose="test-data"), given.REGISTRAR))
    with pytest.raises(WrongPurpose):
        run(demonstrate(database, Plan(LAST, 5)))
    assert ledger.head() == 1


def test_a_ledger_that_holds_anything_else_is_not_filled(
    opened: Ledger, record: Record, database: Database, run: Run
) -> None:
    record(given.register())
    with pytest.raises((LedgerNotEmpty, DateOrder)):
        run(demonstrate(database, Plan(LAST, 5)))
    # The same where it was opened early enough for the history.
    with pytest.raises(LedgerNotEmpty):
        run(demonstrate(database, Plan(date(2030, 1, 1), 5)))
    assert opened.head() == 2


def test_a_ledger_opened_after_history_begins_is_not_filled(
    opened: Ledger, database: Database, run: Run
) -> None:
    with pytest.raises(DateOrder, match="2026-03-02"):
        run(demonstrate(database, Plan(LAST, 5)))
    assert opened.head() == 1


def test_too_many_or_no_providers(database: Database, run: Run) -> None:
    for providers in (0, 200_001):
        with pytest.raises(ValueError, match="1 to 200,000"):
            run(demonstrate(database, Plan(LAST, providers)))


def test_killed_in_the_middle_the_next_filling_completes_it(
    databases: Callable[[], Database], filled: Database, tmp_path: Path
) -> None:
    database = databases()
    command = ["demo", "--providers", str(WHOLE), "--last", str(LAST)]
    environment = {
        "CHENGXIN_DATABASE_URL": database.conninfo,
        "CHENGXIN_KEY_DIR": str(tmp_path / "keys"),
    }

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", "from api.cli import main; main()", *command],
            cwd=ROOT,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
        )

    wanted = states(filled)
    with Ledger(database) as ledger:
        for share in (0.15, 0.6):
            killed = start()
            deadline = time.monotonic() + 60
            while ledger.head() < share * len(wanted) and killed.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            killed.send_signal(signal.SIGKILL)
            killed.communicate()
            assert killed.returncode == -signal.SIGKILL, "it ended before it could be killed"
            assert ledger.head() < len(wanted)
    # The parameters of the interrupted filling hold, whatever the next one asks for.
    command[2], command[4] = "7", "2026-11-21"
    last = start()
    _, err = last.communicate(timeout=60)
    assert last.returncode == 0, err.decode()
    ours = [decode(state) for state in states(database)]
    theirs = [decode(state) for state in wanted]
    assert len(ours) == len(theirs)
    assert len({event.id for event in ours}) == len({event.nonce for event in ours}) == len(ours)

    def told(events: list[Event]) -> dict[str, list[tuple[str, Any]]]:
        """Each stream's events with their times, but for what an interruption changes.

        That is ids, and so the digests of what is sealed in an event.
        """
        streams: dict[str, list[tuple[str, Any]]] = {}
        for event in events:
            data = without(event.data.model_dump(mode="json", exclude=IDS), {"digest"})
            if not isinstance(event.data, LedgerOpened):
                streams.setdefault(event.stream, []).append((str(event.time), data))
        return streams

    assert told(ours) == told(theirs)
    with Ledger(database, keyring=FileKeyring(tmp_path / "keys")) as ledger:
        open_texts = ledger.vault.open([one.id for one in ours]).values()
        assert sum(map(len, open_texts)) == sum(len(list(groups_of(one))) for one in ours) > 100
