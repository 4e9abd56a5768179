"""Whatever the ledger accepts can be scored, for every day, and is read back as it was decided.

A clumsy clerk sends commands with codes, days, incidents and targets drawn at random from small
pools, so that they collide, while rulebooks with other codes are published and time goes on. What
the ledger refuses is gone; what it accepts must be a valid case (scoring.md, "No valid case").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from ledger import events, provider, rulebook
from ledger.envelope import Event, decode, new_id
from ledger.errors import LedgerError
from ledger.events import Data
from ledger.findings import Bench
from ledger.identity import Actor
from ledger.proposal import Verdict
from ledger.provider import Provider
from ledger.rulebook import Rulebooks, first_rulebook
from ledger.second_officer import EVENTS_OF_TWO, breaches
from ledger.vocabulary import EVENT_TYPES
from projections.case import check, parse_fact
from projections.facts import facts_of
from projections.scoring import score
from tests import given

DAY = timedelta(days=1)
FIRST = first_rulebook()
CODES: dict[str, tuple[str, str]] = {
    "PLATFORM": ("issuer_weight", "issuers"),
    "ASSOCIATION": ("issuer_weight", "issuers"),
    "COMPENSATED": ("mitigation", "mitigations"),
    "SOCIAL": ("merit", "merits"),
    "INSPECTION_CLEAN": ("merit", "merits"),
    "CONTRACT_COMPLETED": ("merit", "merits"),
}
"""Codes that a later rulebook may retire, and the two tables in which each stands."""
NEW = {"MARKETPLACE": "PLATFORM", "APOLOGISED": "COMPENSATED", "MENTORING": "SOCIAL"}
"""Codes that a later rulebook may bring, and the code each is modelled on."""
FAMILIES = ("AD_FALSE_CLAIM", "FAKE_TRAFFIC", "DATA_SALE", "LATE_DELIVERY", "OTHER_LAW_BREACH")
CATEGORIES = ("ADVERT", "PRIVACY", "CONTRACT", "COMPLIANCE")
PERSONS = (given.REGISTRAR, given.SECOND, given.THIRD, given.OFFICER)
"""Who records: three officers, and somebody who may not decide what needs two."""
ISSUERS = (*FIRST["items"]["issuers"], "MARKETPLACE")
ACTS: Sequence[Callable[..., Data]] = (
    *(given.suspend, given.resume, given.fulfil, given.revoke_fulfilment),
    *(
        given.repair,
        given.repair,
        given.revoke_repair,
        given.revoke_repair,
        given.overturn,
        given.revoke_reward,
        given.delist,
    ),
)
FITTING: dict[str, Sequence[Callable[..., Data]]] = {
    "demerit": ACTS[:-2],
    "merit": (given.overturn, given.revoke_reward),
    "inspection": (given.overturn,),
    "listing": (given.delist, given.delist, given.overturn),
    "referral": (given.overturn,),
    "qualification": (given.revoke_qualification,),
}
LEAVING: dict[str, Callable[..., Data]] = {
    "suspended": given.resume,
    "repaired": given.revoke_repair,
    "fulfilled": given.revoke_fulfilment,
}


def some_rulebook(random: Random, version: str, in_force_from: date) -> dict[str, Any]:
    """A valid rulebook without some codes and with some new ones."""
    book = given.rulebook(version, in_force_from.isoformat())
    scoring, items = book["scoring"], book["items"]
    for code, (scored, named) in CODES.items():
        fate = random.choice(("keep", "keep", "retire"))
        for new in [new for new, old in NEW.items() if old == code and random.random() < 0.5]:
            scoring[scored][new] = scoring[scored][code]
            items[named][new] = items[named][code]
        if fate == "retire":
            del scoring[scored][code], items[named][code]
    if random.random() < 0.3:
        items["families"]["LATE_DELIVERY"]["category"] = "COMPLIANCE"
    if random.random() < 0.3:
        del items["families"]["FAKE_TRAFFIC"]
    if random.random() < 0.3:
        severities = ("severity_points", "weights")
        for family in [f for f, rule in items["families"].items() if rule["gravest"] == "S4"]:
            del items["families"][family]
        for issuer in items["issuers"].values():
            issuer["gravest"] = min(issuer["gravest"], "S3")
        for table in severities:
            del scoring[table]["S4"]
        del items["severities"]["S4"]
    book["clocks"]["rulebook_notice"]["count"] = random.choice((0, 1, 7))
    if random.random() < 0.7:
        book["clocks"]["proposal"] = {"count": random.choice((1, 5, 30)), "unit": "days"}
    return book


class Clerk:
    """Sends anything. `days`: days around which something once happened."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def day(self, today: date) -> date:
        near = self.random.choice((0, 0, 1, 1, 2, 3, 20, 31, 40, 100, 300, 500, -1, -50))
        return today - near * DAY

    def command(self, state: Provider, today: date) -> Data:
        makes = (
            self.finding,
            self.finding,
            self.merit,
            self.evidence,
            self.act,
            self.act,
            self.act,
        )
        make = self.random.choice(
            (*makes, self.verdict, self.verdict) if state.proposals else makes
        )
        return make(state, today)

    def finding(self, _: Provider, today: date) -> Data:
        random = self.random
        days = [self.day(today) for _ in range(4)]
        if random.random() < 0.9:
            days.sort()
        family = random.choice(FAMILIES)
        rule = FIRST["items"]["families"][family]
        fields: dict[str, Any] = {
            "incident": random.choice(("INC-1", "INC-2", "INC-3", "INC-4")),
            "document_no": random.choice(("1号", "2号", "3号")),
            "family": family,
            "category": random.choice((rule["category"],) * 6 + CATEGORIES),
            "severity": random.choice((rule["default"],) * 3 + ("S1", "S2", "S3", "S4")),
            "severity_reason": given.evidence(),
            "issuer": given.issuer(random.choice(ISSUERS)),
            "occurred_on": days[0],
            "ended_on": random.choice((None, days[0], days[1], days[3])),
            "decided_on": days[1],
            "served_on": days[2],
            "mitigation": random.sample(("SELF_REPORTED", "COMPENSATED", "APOLOGISED"), 1) * 2
            if random.random() < 0.3
            else [],
            "obligation": random.random() < 0.5,
        }
        kind = random.choice((given.penalty, given.penalty, given.breach, given.finding))
        if kind is given.finding:
            return given.complaint(decided_on=days[1], finding=given.finding(**fields))
        if kind is given.breach:
            ground = random.choice(("JUDGMENT", "AWARD", "ADMISSION"))
            wanted = FIRST["items"]["breach_issuers"][ground]
            return given.breach(**fields | {"ground": ground, "issuer": given.issuer(wanted)})
        return given.penalty(**fields)

    def merit(self, _: Provider, today: date) -> Data:
        random = self.random
        client = random.choice((None, given.CLIENT, given.OTHER_CLIENT))
        if random.random() < 0.4:
            return given.contract(
                contract=f"HT-{random.randrange(9)}",
                counterparty=client or given.CLIENT,
                on=self.day(today),
            )
        return given.reward(
            item=random.choice((*FIRST["scoring"]["merit"], "MENTORING", "NOTHING")),
            issuer=given.issuer(random.choice(("REGULATOR", *ISSUERS))),
            on=self.day(today),
            counterparty=client,
        )

    def evidence(self, _: Provider, today: date) -> Data:
        on = self.day(today)
        if self.random.random() < 0.3:
            return given.listing(listed_on=on, issuer=given.issuer(self.random.choice(ISSUERS)))
        if self.random.random() < 0.2:
            return given.referral(
                referral=f"YS-{self.random.randrange(9)}",
                issuer=given.issuer(self.random.choice(ISSUERS)),
                referred_on=on,
                shown_from=self.day(today),
                public_until=self.day(today),
            )
        if self.random.random() < 0.2:
            return given.qualification(
                document_no=f"{self.random.randrange(9)}号",
                issuer=given.issuer(self.random.choice(ISSUERS)),
                decided_on=on,
                valid_from=self.day(today),
                valid_until=self.random.choice((None, self.day(today))),
            )
        return given.inspection(
            inspection=f"JC-{self.random.randrange(20)}",
            on=on,
            result=self.random.choice(("CLEAN", "FINDING")),
            issuer=given.issuer(self.random.choice(ISSUERS)),
        )

    def verdict(self, state: Provider, _: date) -> Data:
        makes = (given.approve, given.approve, given.approve, given.refuse, given.take_back)
        undecided = [id for id, one in state.proposals.items() if one.verdict is None]
        asked = undecided if undecided and self.random.random() < 0.8 else [*state.proposals]
        return self.random.choice(makes)(self.random.choice([*asked, *asked, given.CLIENT]))

    def act(self, state: Provider, today: date) -> Data:
        leaving = [
            (fact.id, leave)
            for fact in state.facts.values()
            for entering, leave in LEAVING.items()
            if fact.in_force(entering)
        ]
        if leaving and self.random.random() < 0.2:
            target, leave = self.random.choice(leaving)
            return leave(target, on=self.day(today))
        target = self.random.choice([*state.facts, given.CLIENT])
        if self.random.random() < 0.1:
            return given.end_publicity(target)
        if target in state.facts and self.random.random() < 0.5:
            fitting = FITTING[state.facts[target].kind]
            return self.random.choice(fitting)(target, on=self.day(today))
        return self.random.choice(ACTS)(target, on=self.day(today))


class World:
    """One ledger with one provider, in memory, through the bytes of every event."""

    def __init__(self, random: Random, opening: date) -> None:
        self.random = random
        self.today = opening
        self.books = Rulebooks()
        self.state = Provider(given.PROVIDER)
        self.envelopes: list[dict[str, Any]] = []
        first = opening + self.random.choice((-500, -100, 0, 200)) * DAY
        book = some_rulebook(random, "RB-0", first)
        self._store(rulebook.decide_opening(self.books, given.opening(rulebook=book)))
        self._store(provider.decide(self.state, given.register(), self._bench()))

    def _bench(self, actor: Actor = given.REGISTRAR) -> Bench:
        return Bench(self.today, self.books, actor)

    def _store(
        self, data: Sequence[Data], actor: Actor = given.REGISTRAR, causation: str | None = None
    ) -> None:
        for one in data:
            rules = isinstance(one, events.LedgerOpened | events.RulebookPublished)
            now = datetime(self.today.year, self.today.month, self.today.day, 4, tzinfo=UTC)
            event = Event(
                id=new_id(now, len(self.envelopes).to_bytes(10)),
                stream="rulebook" if rules else events.provider_stream(given.PROVIDER),
                version=(self.books.version if rules else self.state.version) + 1,
                data=one,
                actor=actor,
                nonce="AAECAwQFBgcICQoLDA0ODw",
                subject=None if rules else given.PROVIDER,
                time=now,
                causation=causation,
            )
            state, _ = event.encode()
            self.envelopes.append(orjson.loads(state))
            if rules:
                self.books = rulebook.evolve(self.books, decode(state))
            else:
                self.state = provider.evolve(self.state, decode(state))

    def step(self, clerk: Clerk) -> str:
        """One more try; the type of what was accepted, or the code of the refusal."""
        try:
            if self.random.random() < 0.06:
                ahead = self.random.choice((-300, 0, 1, 2, 7, 30)) * DAY
                version = f"RB-{self.random.randrange(20)}"
                book = some_rulebook(self.random, version, self.today + ahead)
                self._store(rulebook.decide(self.books, given.publish(book), today=self.today))
            else:
                command = clerk.command(self.state, self.today)
                actor = self.random.choice(PERSONS)
                cause = command.proposal if isinstance(command, Verdict) else None
                self._store(provider.decide(self.state, command, self._bench(actor)), actor, cause)
        except LedgerError as error:
            return error.code
        return str(self.envelopes[-1]["type"].removeprefix("cn.chengxin."))

    def assert_scorable(self) -> None:
        """Everything accepted is a valid case and has a score on every day that matters."""
        facts = [parse_fact(fact) for envelope in self.envelopes for fact in facts_of(envelope)]
        assert self.books.scales is not None
        check(facts, self.books.scales)
        for days in (-400, 0, 1, 400):
            score(facts, self.books.scales, as_of=self.today + days * DAY, known_at=0)

    def events(self) -> list[Event]:
        """The log as an auditor reads it."""
        return [decode(orjson.dumps(envelope)) for envelope in self.envelopes]


def lived(random: Random, steps: int) -> tuple[World, Counter[str]]:
    """A world after so many steps, checked after each day, and what became of the commands."""
    world = World(random, date(2026, 1, 10))
    clerk = Clerk(random)
    outcomes: Counter[str] = Counter()
    for _ in range(steps):
        outcomes[world.step(clerk)] += 1
        if random.random() < 0.15:
            world.assert_scorable()
            world.today += random.choice((1, 1, 7, 30, 100)) * DAY
    world.assert_scorable()
    return world, outcomes


@settings(max_examples=40)
@for_all(st.randoms(use_true_random=False), st.integers(10, 60))
def test_whatever_is_accepted_can_be_scored(random: Any, steps: int) -> None:
    lived(random, steps)


@pytest.mark.parametrize("seed", range(5))
def test_a_long_life_can_be_scored(seed: int) -> None:
    lived(Random(seed), 400)


def test_the_clerk_tries_everything() -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(60):
        outcomes += lived(Random(1000 + seed), 120)[1]
    accepted = {name for name in outcomes if name.endswith(".v1")}
    statuses = {"provider.admitted.v1", "provider.suspended.v1", "provider.resumed.v1"}
    others = {"ledger.opened.v1", "provider.registered.v1", "provider.exited.v1"}
    others |= {one for one in EVENT_TYPES if one.startswith(("access.", "person."))}
    assert accepted == set(EVENT_TYPES) - statuses - others
    assert set(outcomes) - accepted >= {
        *("date-order", "date-in-future", "backdated", "code-not-in-force", "wrong-category"),
        *("severity-out-of-range", "issuer-not-entitled", "counterparty-missing"),
        *("duplicate-fact", "unknown-target", "wrong-target", "act-conflict"),
        *("repair-too-early", "obligation-open", "rulebook-taken", "rulebook-notice"),
        *("proposal-open", "proposal-settled", "proposal-lapsed", "unknown-proposal"),
        *("same-officer", "not-the-proposer", "own-record", "not-allowed"),
    }


@settings(max_examples=40)
@for_all(st.randoms(use_true_random=False), st.integers(30, 90))
def test_the_log_alone_shows_that_two_persons_did_what_needs_two(random: Any, steps: int) -> None:
    world, _ = lived(random, steps)
    log = world.events()
    assert list(breaches(log)) == []
    decided = [one for one in log if type(one.data) in EVENTS_OF_TWO]
    for one in decided:
        (proposal,) = [other for other in log if other.id == one.causation]
        assert proposal.actor.ref != one.actor.ref
        alone = [replace(o, actor=proposal.actor) if o is one else o for o in log]
        unasked = [replace(o, causation=None) if o is one else o for o in log]
        for forged in (alone, unasked):
            assert [breach.id for breach in breaches(forged)] == [one.id]


def test_the_clerk_has_decisions_of_two() -> None:
    decided: Counter[str] = Counter()
    for seed in range(20):
        world, _ = lived(Random(2000 + seed), 120)
        decided += Counter(one.type for one in world.events() if type(one.data) in EVENTS_OF_TWO)
    assert min(decided[one.type] for one in EVENTS_OF_TWO) >= 3


@settings(max_examples=10)
@for_all(st.randoms(use_true_random=False), st.integers(10, 60))
def test_a_cold_process_comes_to_the_same_state(random: Any, steps: int) -> None:
    world, _ = lived(random, steps)
    books, state = Rulebooks(), Provider(given.PROVIDER)
    for envelope in world.envelopes:
        event = decode(orjson.dumps(envelope))
        if event.stream == "rulebook":
            books = rulebook.evolve(books, event)
        else:
            state = provider.evolve(state, event)
    assert state == world.state
    assert [book.version for book in books.books] == [book.version for book in world.books.books]
