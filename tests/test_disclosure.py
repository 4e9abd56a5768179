"""Who may see what, now, by every door: a table against the code, and a copy that stays equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from random import Random
from typing import Any, NamedTuple, Protocol

import orjson
import pytest

from api.worker import end_publicity
from ledger.database import Database
from ledger.events import Data, provider_stream
from ledger.handle import Desk, Receipt
from ledger.store import Ledger
from ledger.vocabulary import EVENT_TYPES
from projections import disclosure, rights, view
from projections.disclosure import CHANGES, Disclosure
from projections.item import KINDS
from projections.rights import OPEN, PUBLIC, Reader
from projections.runner import advance
from tests import given
from tests.conftest import Clock, Run
from tests.histories import Author, World, line_of, lines_of, second_tables, world_of
from tests.officers import decided

DAY_ENDED = date(2026, 3, 5)
"""`public_until` of what ends here: the first day on which it is no longer shown."""
STREAM = provider_stream(given.PROVIDER)

# --- The second implementation: a table -----------------------------------------------------------

SHOWN_SINGLY = {
    "S2 penalty": True,
    "S3 penalty": True,
    "S1 penalty": False,
    "S0 penalty": False,
    "complaint with finding": True,
    "complaint with minor finding": False,
    "complaint without finding": False,
    "breach": True,
    "minor breach": False,
    "listing": True,
    "referral": True,
    "qualification": True,
    "reward with consent": True,
    "reward without consent": False,
    "contract": False,
    "inspection": False,
}
SHOWN_IN_STATE = {
    "as recorded": True,
    "not served yet": False,
    "suspended": True,
    "resumed": True,
    "fulfilled": True,
    "fulfilment revoked": True,
    "overturned": False,
    "overturned before service": False,
    "repaired": False,
    "repair revoked": True,
    "publicity ended by event": False,
    "publicity ended by date": False,
    "removed": False,
    "revoked": False,
    "licence revoked": False,
}
STATES: dict[str, tuple[str, ...]] = dict.fromkeys(SHOWN_SINGLY, ("as recorded", "overturned"))
STATES["complaint without finding"] = ("as recorded",)
STATES["listing"] += ("removed",)
STATES["qualification"] = ("as recorded", "licence revoked")
STATES["referral"] += ("publicity ended by event", "publicity ended by date")
STATES["reward with consent"] += ("revoked",)
STATES["reward without consent"] += ("revoked",)
for _kind, _shown in SHOWN_SINGLY.items():
    if _kind.endswith(("penalty", "finding", "breach")) and "without" not in _kind:
        STATES[_kind] += ("not served yet", "overturned before service", "suspended", "resumed")
        STATES[_kind] += ("fulfilled", "fulfilment revoked", "repaired", "repair revoked")
        if _shown:
            STATES[_kind] += ("publicity ended by event", "publicity ended by date")

OFFICERS = (
    *("registrar", "inspector", "case_officer", "legal_reviewer", "decision_maker", "auditor"),
)
OTHERS = (
    *("public", "subscriber", "client", "platform", "association", "trainer", "Registrar", ""),
    *("privacy_officer", "rulebook_editor"),
)
READERS: dict[Reader, bool] = {
    **{Reader(role, "CN-REG-1"): True for role in OFFICERS},
    **{Reader(role, given.PROVIDER): False for role in OTHERS},
    Reader("provider", given.PROVIDER): True,
    Reader("provider", given.OTHER): False,
    Reader("provider", given.PROVIDER.lower()): False,
    Reader("provider", ""): False,
    PUBLIC: False,
}
"""Whether a reader sees everything of PROVIDER."""
ONE_BY_ONE = (PUBLIC, Reader("provider", given.PROVIDER), Reader("provider", given.OTHER))


class Case(NamedTuple):
    """One item in one state: where its events stand, and the words that would betray it."""

    name: str
    shown: bool
    position: int
    acts: list[int]
    words: list[str]


FINDING_OF: dict[str, dict[str, Any]] = {
    "S2 penalty": {},
    "S3 penalty": {"severity": "S3", "severity_reason": given.evidence()},
    "S1 penalty": {"category": "COMPLAINT", "family": "LATE_RESPONSE", "severity": "S1"},
    "S0 penalty": {
        "category": "COMPLAINT",
        "family": "LATE_RESPONSE",
        "severity": "S0",
        "severity_reason": given.evidence(),
    },
    "complaint with finding": {"family": "IGNORED_COMPLAINT", "severity": "S2"},
    "complaint with minor finding": {},
    "breach": {},
    "minor breach": {"severity": "S1", "severity_reason": given.evidence()},
}


def dates(kind: str, state: str) -> dict[str, Any]:
    """The days that bring a finding into a state on 5 March 2026."""
    decided_on = date(2026, 2, 10)
    if state.startswith("repair"):
        decided_on = date(2024, 10, 1) if kind == "S3 penalty" else date(2025, 6, 1)
    days: dict[str, Any] = {"obligation": state.startswith("fulfil")}
    if state.startswith("publicity ended"):
        decided_on = date(2025, 3, 5)
        days["public_until"] = DAY_ENDED
    served_on = date(2026, 3, 20) if state in LATER_SERVICE else decided_on
    return (
        days
        | {"occurred_on": date(2024, 9, 1), "decided_on": decided_on}
        | {"served_on": served_on}
    )


LATER_SERVICE = ("not served yet", "overturned before service")


def command_for(kind: str, state: str, number: int) -> tuple[Data, list[str]]:
    """The command that records an item, and the words of it that must not be seen."""
    document_no, incident, reference = f"号外〔2026〕{number}号", f"INC-{number}-", f"REF-{number}-"
    decision: dict[str, Any] = {"document_no": document_no}
    if kind in FINDING_OF:
        found = FINDING_OF[kind] | dates(kind, state) | decision | {"incident": incident}
    else:
        found = {}
    commands: dict[str, Callable[[], Data]] = {
        "penalty": lambda: given.penalty(**found),
        "finding": lambda: given.complaint(complaint=reference, finding=given.finding(**found)),
        "breach": lambda: given.breach(contract=reference, **found),
        "listing": lambda: given.listing(**decision),
        "referral": lambda: given.referral(
            referral=reference,
            **({"public_until": DAY_ENDED} if state.startswith("publicity ended") else {}),
        ),
        "qualification": lambda: given.qualification(**decision, certificate_no=reference),
        "consent": lambda: given.reward(**decision, consent=kind == "reward with consent"),
        "contract": lambda: given.contract(contract=reference),
        "inspection": lambda: given.inspection(inspection=reference),
    }
    if kind == "complaint without finding":
        return given.complaint(complaint=reference, outcome="UNSUBSTANTIATED"), [reference]
    return commands[kind.rpartition(" ")[2]](), [document_no, incident, reference]


ACTS: dict[str, tuple[tuple[Callable[..., Data], date], ...]] = {
    "overturned": ((given.overturn, date(2026, 3, 2)),),
    "overturned before service": ((given.overturn, date(2026, 3, 2)),),
    "suspended": ((given.suspend, date(2026, 3, 2)),),
    "resumed": ((given.suspend, date(2026, 3, 1)), (given.resume, date(2026, 3, 2))),
    "fulfilled": ((given.fulfil, date(2026, 3, 2)),),
    "fulfilment revoked": (
        (given.fulfil, date(2026, 3, 1)),
        (given.revoke_fulfilment, date(2026, 3, 2)),
    ),
    "repaired": ((given.repair, date(2026, 3, 2)),),
    "repair revoked": ((given.repair, date(2026, 3, 1)), (given.revoke_repair, date(2026, 3, 2))),
    "removed": ((given.delist, date(2026, 3, 2)),),
    "revoked": ((given.revoke_reward, date(2026, 3, 2)),),
    "licence revoked": ((given.revoke_qualification, date(2026, 3, 2)),),
}


class Recording(Protocol):
    """Where a case is recorded."""

    run: Run
    desk: Desk


def record_case(world: Recording, kind: str, state: str, number: int) -> Case:
    """Record an item and bring it into a state, all but what ends on 5 March."""

    def record(command: Data) -> Receipt:
        return world.run(decided(world.desk, given.PROVIDER, command))

    command, words = command_for(kind, state, number)
    item = record(command)
    words.append(item.id)
    acts = []
    for step, (act, on) in enumerate(ACTS.get(state, ())):
        document_no = f"后续〔2026〕{number}-{step}号"
        receipt = record(act(item.id, on=on, document_no=document_no))
        acts.append(receipt.position)
        words += [document_no, receipt.id]
    shown = SHOWN_SINGLY[kind] and SHOWN_IN_STATE[state]
    return Case(f"{kind}, {state}", shown, item.position, acts, words)


@pytest.fixture
def world(ledger: Ledger, run: Run, clock: Clock) -> Iterator[World]:
    """An open ledger on 2 March 2026 with two providers. A late response may be a mere warning."""
    book = given.rulebook("RB-2026.1", "2024-01-01")
    book["items"]["families"]["LATE_RESPONSE"]["least"] = "S0"
    with world_of(ledger, run, clock, 2026, 3, 2, 2, rulebook=book) as world:
        for provider in (given.PROVIDER, given.OTHER):
            world.record(given.register(), provider)
        yield world


@pytest.fixture
def cases(world: World) -> list[Case]:
    """Every kind of item in every state, on 5 March 2026, followed by both projections."""
    every = [(kind, state) for kind, states in STATES.items() for state in states]
    found = [record_case(world, *one, number) for number, one in enumerate(every, 1)]
    world.clock.set(2026, 3, 5, 2)
    for one in found:
        if one.name.endswith("publicity ended by event"):
            receipt = world.record(given.end_publicity(one.words[-1]))
            one.acts.append(receipt.position)
            one.words.append(receipt.id)
    world.follow()
    return found


def pages(
    world: World, reader: Reader, *, limit: int, subject: str | None = None
) -> list[tuple[int, bytes]]:
    """All lines of a feed, page by page."""
    lines: list[tuple[int, bytes]] = []
    while page := lines_of(
        world.disclosure,
        lines[-1][0] if lines else 0,
        limit,
        reader,
        today=world.today,
        subject=subject,
    ):
        assert len(page) <= limit
        lines += page
    return lines


def as_stored(world: World) -> dict[int, bytes]:
    """The line of every event in full."""
    return {
        one.position: b'{"sequence":"%020d",' % one.position + one.state[1:]
        for one in world.ledger.read(0, 100_000)
    }


# --- The doors ------------------------------------------------------------------------------------


def test_every_item_in_every_state_by_every_door(
    world: World, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disclosure, "BATCH_EVENTS", 9)
    assert len(cases) > 80
    full = as_stored(world)
    written = b"".join(full.values()).decode()
    # What is about the provider itself and its rules is everybody's.
    open_to_all = {1, 2, 3}
    for_officers = {at for at, line in full.items() if b'"visibility":"officers"' in line}
    assert for_officers
    for reader, sees_all in READERS.items():
        visible = set(full) if sees_all else set(open_to_all)
        if reader.role == "provider":
            visible -= for_officers
        visible |= {at for one in cases if one.shown for at in (one.position, *one.acts)}
        feed = dict(pages(world, reader, limit=40))
        assert list(feed) == sorted(full)
        for position, line in feed.items():
            assert (line == full[position]) == (position in visible), (reader, position, line)
        of_provider = {at for at, line in full.items() if f'"/streams/{STREAM}"'.encode() in line}
        stream = dict(pages(world, reader, limit=7, subject=given.PROVIDER))
        assert list(stream) == sorted(visible & of_provider), reader
        assert all(line == full[position] for position, line in stream.items())
        if reader in ONE_BY_ONE:
            for position, line in feed.items():
                assert line_of(world.disclosure, position, reader, today=world.today) == line
        everything = b"".join([*feed.values(), *stream.values()]).decode()
        for one in cases:
            for word in one.words:
                told = word in everything
                wanted = (one.shown or sees_all) and word in written
                assert told == wanted, (reader, one.name, word)


def test_one_look_tells_what_two_would(
    world: World, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's word for what is withheld, against Python's, on the days that matter."""
    # So nothing is sure, and every item is looked up by itself.
    monkeypatch.setattr(view, "NEAR_EVENTS", -1)
    slow = Disclosure(world.ledger)
    items = world.disclosure.items(given.PROVIDER)
    edges = {day for item in items for day in (item.shown_from, item.shown_until)}
    told: set[str | None] = set()
    for day in sorted(edges | {one - timedelta(1) for one in edges}):
        for reader in (PUBLIC, Reader("provider", given.PROVIDER)):
            assert (look := world.disclosure.look(0, 10_000, reader, today=day)).lines
            assert look == slow.look(0, 10_000, reader, today=day)
        lines = dict(world.disclosure.look(0, 10_000, PUBLIC, today=day).lines)
        for item in items:
            said = orjson.loads(lines[item.position]).get("withheld")
            assert said == item.withheld(day), (item, day)
            told.add(said)
    assert told == {None, "overturned", "repaired", "removed", "publicity-ended", "not-yet-served"}


def test_the_public_page_holds_what_the_table_shows_and_nothing_else(
    world: World, cases: list[Case]
) -> None:
    sheet = world.sheet()
    shown = {one.words[-1 - 2 * len(one.acts)] for one in cases if one.shown}
    lists = ("items", "merits", "referrals", "qualifications")
    assert {item["id"] for name in lists for item in sheet[name]} == shown
    found = world.sheets.search("", None, "", 100, today=world.today)
    assert [row["provider"] for row in found] == sorted([given.PROVIDER, given.OTHER])
    text = orjson.dumps([sheet, found]).decode()
    for one in cases:
        for word in one.words:
            assert one.shown or word not in text, (one.name, word)


def test_the_states_are_those_that_the_sheet_names(world: World, cases: list[Case]) -> None:
    status = {item["id"]: item["status"] for item in world.sheet()["items"]}
    named = {"suspended": "SUSPENDED", "fulfilled": "FULFILLED"}
    for one in cases:
        if one.shown and not one.name.startswith(("reward", "referral", "qualification")):
            state = one.name.partition(", ")[2]
            item = one.words[-1 - 2 * len(one.acts)]
            assert status[item] == named.get(state, "EFFECTIVE"), one.name


def test_a_stub_tells_a_position_and_a_reason_and_not_whose_it_is(
    world: World, cases: list[Case]
) -> None:
    reasons = set()
    full = as_stored(world)
    for position, line in pages(world, PUBLIC, limit=1_000):
        if line == full[position]:
            continue
        stub = orjson.loads(line)
        assert set(stub) - {"retracts"} == {"sequence", "withheld"}
        assert stub["sequence"] == f"{position:020d}"
        reasons.add(stub["withheld"])
        if "retracts" in stub:
            retracted = line_of(world.disclosure, int(stub["retracts"]), PUBLIC, today=world.today)
            assert retracted is not None
            assert "withheld" in orjson.loads(retracted)
    assert reasons == {
        *("not-public", "not-yet-served", "overturned", "repaired", "removed", "publicity-ended"),
        *("decision.overturned.v1", "reward.revoked.v1", "severe_list.removed.v1"),
        *("repair.granted.v1", "publicity.ended.v1", "qualification.revoked.v1"),
    }


def test_another_providers_party_events_and_ends_are_not_a_providers_business(
    world: World,
) -> None:
    world.record(given.contract(), given.OTHER)
    item = world.record(
        given.penalty(**dates("S2 penalty", "publicity ended by date"), incident="I")
    )
    world.clock.set(2026, 3, 5, 2)
    end = world.record(given.end_publicity(item.id))
    own, other = Reader("provider", given.PROVIDER), Reader("provider", given.OTHER)
    lines = {
        reader: line_of(world.disclosure, end.position, reader, today=world.today)
        for reader in (own, other, PUBLIC)
    }
    assert lines[own] == as_stored(world)[end.position]
    stub = {
        "sequence": f"{end.position:020d}",
        "withheld": "publicity.ended.v1",
        "retracts": f"{item.position:020d}",
    }
    assert orjson.loads(lines[other] or b"") == orjson.loads(lines[PUBLIC] or b"") == stub


def test_an_item_goes_out_of_sight_on_its_day_though_no_worker_runs(world: World) -> None:
    days = dates("S2 penalty", "publicity ended by date")
    item = world.record(given.penalty(**days, document_no="号外〔2026〕7号"))
    head = world.ledger.head()

    def seen() -> list[bool]:
        today = world.today
        doors = [
            orjson.dumps(world.sheet()),
            line_of(world.disclosure, item.position, PUBLIC, today=today) or b"",
            b"".join(line for _, line in pages(world, PUBLIC, limit=10)),
            b"".join(line for _, line in pages(world, PUBLIC, limit=10, subject=given.PROVIDER)),
        ]
        return ["号外〔2026〕7号".encode() in door for door in doors]

    for day, wanted in ((2, True), (4, True), (5, False), (6, False)):
        # The days change at midnight in Shanghai, 16:00 UTC of the day before.
        for moment in ((day - 1, 16), (day, 15, 59)):
            world.clock.set(2026, 3, *moment)
            assert seen() == [wanted] * 4, (day, moment)
    assert world.ledger.head() == head


def test_an_item_comes_into_sight_on_the_day_of_its_service(world: World) -> None:
    item = world.record(given.penalty(served_on=date(2026, 3, 20)))
    world.clock.set(2026, 3, 19, 15, 59)
    assert world.sheet()["items"] == []
    world.clock.set(2026, 3, 19, 16)
    assert [one["id"] for one in world.sheet()["items"]] == [item.id]
    line = line_of(world.disclosure, item.position, PUBLIC, today=world.today)
    assert line == as_stored(world)[item.position]


def test_nothing_is_told_before_it_has_been_judged(world: World) -> None:
    before = world.disclosure.position()
    receipt = world.run(world.desk.record(given.PROVIDER, given.penalty(), given.REGISTRAR))
    today = world.today
    for reader in (PUBLIC, Reader("provider", given.OTHER)):
        assert line_of(world.disclosure, receipt.position, reader, today=today) is None
        assert [at for at, _ in pages(world, reader, limit=2)] == [1, 2, 3]
        assert [at for at, _ in pages(world, reader, limit=2, subject=given.PROVIDER)] == [2]
    for reader in (Reader("auditor", "X"), Reader("provider", given.PROVIDER)):
        stream = pages(world, reader, limit=2, subject=given.PROVIDER)
        assert [at for at, _ in stream] == [2, receipt.position]
    assert world.disclosure.position() == before
    world.follow(world.disclosure)
    assert line_of(world.disclosure, receipt.position, PUBLIC, today=today) is not None


def test_beyond_the_end_there_is_no_line(world: World) -> None:
    for reader in (PUBLIC, Reader("auditor", "X")):
        assert line_of(world.disclosure, world.ledger.head() + 1, reader, today=world.today) is None
        assert line_of(world.disclosure, 0, reader, today=world.today) is None
    assert lines_of(world.disclosure, 0, 10, PUBLIC, today=world.today, subject="X") == []


def test_every_type_is_an_item_a_change_or_has_its_audience() -> None:
    about_the_provider = {
        *("ledger.opened.v1", "rulebook.published.v1", "provider.registered.v1"),
        *("provider.admitted.v1", "provider.suspended.v1", "provider.resumed.v1"),
        *("provider.exited.v1", "person.erased.v1"),
    }
    between_the_parties = {
        *("contract.completed.v1", "inspection.recorded.v1"),
    }
    between_officers = {
        *("proposal.made.v1", "proposal.refused.v1", "proposal.withdrawn.v1"),
        *("person.held.v1", "person.released.v1", "access.recorded.v1"),
    }
    judged = set(KINDS) | set(CHANGES)
    decided = about_the_provider | between_the_parties | between_officers
    assert about_the_provider == OPEN
    assert set(EVENT_TYPES) == judged | decided
    assert not judged & decided


def test_a_type_that_nobody_has_judged_is_withheld(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = 2
    world.follow(world.disclosure)
    registered = line_of(world.disclosure, position, PUBLIC, today=world.today)
    assert b"provider.registered.v1" in (registered or b"")
    monkeypatch.setattr(rights, "OPEN", frozenset())
    line = line_of(world.disclosure, position, PUBLIC, today=world.today)
    assert orjson.loads(line or b"") == {"sequence": f"{position:020d}", "withheld": "not-public"}


# --- A copy of the feed ---------------------------------------------------------------------------

SUBSCRIBER = Reader("subscriber", "CN-NEWS-1")


class Copy:
    """What a subscriber holds who follows the four rules of `docs/events.md`."""

    def __init__(self, disclosure: Disclosure) -> None:
        self._disclosure = disclosure
        self._after = 0
        self._later: set[int] = set()
        self.lines: dict[int, dict[str, Any]] = {}

    def read(self, today: date) -> None:
        """Read what is new, ask again for what was not served yet, drop what has ended."""
        for position in sorted(self._later):
            line = line_of(self._disclosure, position, SUBSCRIBER, today=today)
            assert line is not None
            self._take(position, line, today)
        while page := lines_of(self._disclosure, self._after, 7, SUBSCRIBER, today=today):
            for position, line in page:
                self._take(position, line, today)
            self._after = page[-1][0]
        for position, held in list(self.lines.items()):
            data = held["data"].get("finding") or held["data"]
            if date.fromisoformat(data.get("public_until", "9999-12-31")) <= today:
                del self.lines[position]

    def _take(self, position: int, line: bytes, today: date) -> None:
        told = orjson.loads(line)
        self._later.discard(position)
        if "retracts" in told:
            self.lines.pop(int(told["retracts"]), None)
        elif told.get("withheld") == "not-yet-served":
            self._later.add(position)
        elif "withheld" not in told and told["type"].removeprefix("cn.chengxin.") in KINDS:
            self.lines[position] = told
        elif "withheld" not in told and "target" in told["data"]:
            held = {one["id"] for one in self.lines.values()}
            if told["data"]["target"] not in held:
                self._read_again(told["subject"], today)

    def _read_again(self, subject: str, today: date) -> None:
        for position, line in lines_of(
            self._disclosure, 0, 10_000, SUBSCRIBER, today=today, subject=subject
        ):
            told = orjson.loads(line)
            if told["type"].removeprefix("cn.chengxin.") in KINDS:
                self.lines[position] = told

    @property
    def ids(self) -> set[str]:
        """The ids of all items held."""
        return {line["id"] for line in self.lines.values()}


@pytest.mark.parametrize("seed", [3, 5])
def test_a_copy_of_the_feed_is_the_public_view_after_every_event(
    ledger: Ledger, run: Run, clock: Clock, seed: int
) -> None:
    random = Random(seed)
    providers = given.PROVIDERS[:3]
    seen: set[str] = set()
    before: set[str] = set()
    with world_of(ledger, run, clock, 2024, 1, 2, 2) as world:
        author = Author(random, run(world.desk.rulebooks()))
        copy, retracted, restored = Copy(world.disclosure), 0, 0
        for step in range(170):
            clock.advance(days=random.choice((0, 1, 5, 12)))
            receipt = world.attempt(author, random.choice(providers))
            if random.random() < 0.2:
                world.follow()
                run(end_publicity(world.desk, world.disclosure, now=clock()))
            world.follow()
            sheets = [world.sheets.sheet(one, today=world.today) for one in providers]
            shown = {
                item["id"]
                for sheet in sheets
                if sheet is not None
                for name in ("items", "merits", "referrals", "qualifications")
                for item in sheet[name]
            }
            copy.read(world.today)
            assert copy.ids == shown, receipt
            if step % 4 == 0:
                fresh = Copy(world.disclosure)
                fresh.read(world.today)
                assert fresh.ids == shown, receipt
            retracted += len(before - shown)
            restored += len((shown - before) & seen)
            before = shown
            seen |= shown
        assert len(seen) > 20
        assert retracted > 10
        assert restored > 0


def test_a_repair_that_was_revoked_is_no_retraction(world: World) -> None:
    case = record_case(world, "S2 penalty", "repair revoked", 1)
    world.follow()
    lines = [orjson.loads(line) for _, line in pages(world, PUBLIC, limit=100)]
    assert not [line for line in lines if "retracts" in line]
    assert {line["sequence"] for line in lines if "target" in line.get("data", {})} == {
        f"{position:020d}" for position in case.acts
    }


def test_a_replay_gives_the_same_tables(
    world: World, cases: list[Case], database: Database
) -> None:
    assert cases
    wanted = world.table("items", schema="disclosure_1")
    assert len(wanted) > 40
    schema = second_tables(database, "disclosure")
    for limit in (1, 7, 5_000):
        with database.connect(role=None) as owner:
            owner.execute(f"TRUNCATE {schema}.items, {schema}.proposals".encode())
            owner.execute(f"UPDATE {schema}.progress SET position = 0, settled = 0".encode())
        replayed = Disclosure(world.ledger, schema)
        while advance(world.connection, world.ledger, replayed, today=world.today, limit=limit):
            pass
        assert replayed.position() == world.ledger.head()
        assert world.table("items", schema=schema) == wanted, limit
