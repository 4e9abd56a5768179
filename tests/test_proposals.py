"""What needs two officers, as rules: who proposes, who decides, by when, and that once is enough.

Everything runs without a database; the desk, several processes and HTTP are in
`tests/test_second_officer.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, get_args

import pytest

from ledger import errors, events, proposal_errors, provider
from ledger.acts import OverturnDecision
from ledger.envelope import Event, decode, new_id
from ledger.errors import LedgerError
from ledger.events import Data, DecisionOverturned, SevereListEntered, provider_stream
from ledger.findings import Bench
from ledger.identity import OPERATOR_REF, WORKER_REF, Actor
from ledger.proposal import (
    NEEDS_TWO,
    ProposalMade,
    ProposalRefused,
    ProposalWithdrawn,
    Proposed,
    Verdict,
)
from ledger.provider import Provider
from ledger.rulebook import Rulebooks
from ledger.second_officer import EVENTS_OF_TWO, breaches
from ledger.vocabulary import EVENT_TYPES
from tests import given
from tests.conftest import Clock
from tests.test_provider import rules

DAY = timedelta(days=1)
PERIOD_DAYS = 10


def with_period() -> Rulebooks:
    book = given.rulebook("RB-2026.1", "2024-01-01")
    book["clocks"]["proposal"] = {"count": PERIOD_DAYS, "unit": "days"}
    return rules(book)


class Office:
    """One provider's stream, several officers, and the log that they write."""

    def __init__(self, books: Rulebooks) -> None:
        self.books = books
        self.today = given.TODAY
        self.state = Provider(given.PROVIDER)
        self.clock = Clock()
        self.log: list[Event] = []

    def decide(self, command: Data, actor: Actor) -> list[Data]:
        """The events of a command. Raises LedgerError."""
        return list(provider.decide(self.state, command, Bench(self.today, self.books, actor)))

    def record(self, command: Data, actor: Actor = given.REGISTRAR) -> str:
        """Record a command as the desk does; the last event's id."""
        for data in self.decide(command, actor):
            event = Event(
                id=new_id(self.clock(), len(self.log).to_bytes(10)),
                stream=provider_stream(given.PROVIDER),
                version=self.state.version + 1,
                data=data,
                actor=actor,
                nonce="AAECAwQFBgcICQoLDA0ODw",
                subject=given.PROVIDER,
                time=self.clock(),
                causation=command.proposal if isinstance(command, Verdict) else None,
            )
            self.log.append(decode(event.encode()[0]))
            self.state = provider.evolve(self.state, self.log[-1])
        return self.log[-1].id

    def refuses(self, error: type[LedgerError], command: Data, actor: Actor) -> LedgerError:
        """The command is refused with this error."""
        with pytest.raises(error) as caught:
            self.decide(command, actor)
        assert "{" not in f"{caught.value}{caught.value.chinese()}"
        return caught.value

    def later(self, days: int) -> None:
        """Days go by."""
        self.today += days * DAY
        self.clock.advance(days=days)


@pytest.fixture
def office() -> Office:
    """A registered provider with a penalty; a proposal lapses after ten days."""
    office = Office(with_period())
    office.record(given.register())
    office.record(given.penalty())
    return office


def penalty_of(office: Office) -> str:
    return office.log[1].id


MAKES: dict[type[Data], Callable[[Office], Data]] = {
    OverturnDecision: lambda office: given.overturn(penalty_of(office)),
    SevereListEntered: lambda _: given.listing(),
}


@pytest.fixture(params=MAKES, ids=lambda one: one.__name__)
def command(office: Office, request: pytest.FixtureRequest) -> Data:
    """Each command that needs a second officer."""
    return MAKES[request.param](office)


def test_every_command_that_needs_two_is_tried_here() -> None:
    assert set(NEEDS_TWO) == set(MAKES)
    assert set(NEEDS_TWO.values()) == set(get_args(Proposed))
    assert {one.type for one in EVENTS_OF_TWO} == {
        "decision.overturned.v1",
        "severe_list.entered.v1",
    }


# --- the first officer proposes -------------------------------------------------------------------


def test_one_officer_alone_only_proposes(office: Office, command: Data) -> None:
    (made,) = office.decide(command, given.REGISTRAR)
    assert isinstance(made, ProposalMade)
    assert made.proposed.data == command
    assert made.lapses_on == given.TODAY + PERIOD_DAYS * DAY
    assert made.visibility() == "officers"
    before = {id: dict(fact.acts) for id, fact in office.state.facts.items()}
    office.record(command)
    assert {id: fact.acts for id, fact in office.state.facts.items()} == before
    assert not [one for one in office.log if type(one.data) in EVENTS_OF_TWO]


def test_what_cannot_be_is_refused_to_who_proposes_it(office: Office) -> None:
    office.refuses(errors.UnknownTarget, given.overturn(given.CLIENT), given.REGISTRAR)
    tomorrow = given.listing(listed_on=given.TODAY + DAY)
    office.refuses(errors.DateInFuture, tomorrow, given.REGISTRAR)


def test_the_same_is_proposed_once_at_a_time(office: Office, command: Data) -> None:
    first = office.record(command)
    for actor in (given.REGISTRAR, given.SECOND):
        refusal = office.refuses(proposal_errors.ProposalOpen, command, actor)
        assert refusal.facts == {"proposal": first}
    office.record(given.refuse(first), given.THIRD)
    second = office.record(command)
    office.record(given.take_back(second))
    office.record(command)
    office.later(PERIOD_DAYS)
    office.record(command)


# --- another person decides ----------------------------------------------------------------------


def test_another_person_approves_and_only_then_it_is_so(office: Office, command: Data) -> None:
    proposal = office.record(command)
    id = office.record(given.approve(proposal), given.THIRD)
    event = office.log[-1]
    assert (event.id, event.causation, event.actor) == (id, proposal, given.THIRD)
    assert EVENTS_OF_TWO[type(event.data)] is type(command)
    said = dict(event.data)
    assert {name: said[name] for name, _ in command} == dict(command)
    assert list(breaches(office.log)) == []


def test_the_same_person_decides_nothing_in_whatever_role(office: Office, command: Data) -> None:
    proposal = office.record(command)
    for role in ("registrar", "decision_maker"):
        again = replace(given.REGISTRAR, role=role, organisation="CN-REG-2")
        for verdict in (given.approve(proposal), given.refuse(proposal)):
            office.refuses(proposal_errors.SameOfficer, verdict, again)


@pytest.mark.parametrize(
    "actor",
    [
        *(replace(given.THIRD, role=role) for role in ("inspector", "auditor", "provider")),
        replace(given.THIRD, role="subscriber"),
        Actor("CHENGXIN", "system", WORKER_REF),
    ],
    ids=lambda actor: actor.role,
)
def test_other_roles_neither_propose_nor_decide(
    office: Office, command: Data, actor: Actor
) -> None:
    office.refuses(errors.NotAllowed, command, actor)
    proposal = office.record(command)
    for verdict in (given.approve(proposal), given.refuse(proposal), given.take_back(proposal)):
        office.refuses(errors.NotAllowed, verdict, actor)


@pytest.mark.parametrize("ref", [OPERATOR_REF, WORKER_REF])
def test_the_operator_and_the_worker_are_no_persons(
    office: Office, command: Data, ref: str
) -> None:
    nobody = replace(given.THIRD, ref=ref)
    office.refuses(proposal_errors.NoPerson, command, nobody)
    proposal = office.record(command)
    for verdict in (given.approve(proposal), given.refuse(proposal)):
        office.refuses(proposal_errors.NoPerson, verdict, nobody)


def test_nobody_decides_on_the_overturning_of_their_own_record(office: Office) -> None:
    proposal = office.record(given.overturn(penalty_of(office)), given.SECOND)
    for verdict in (given.approve(proposal), given.refuse(proposal)):
        refusal = office.refuses(proposal_errors.OwnRecord, verdict, given.REGISTRAR)
        assert refusal.facts["target"] == penalty_of(office)
    office.record(given.approve(proposal), given.THIRD)


def test_who_approved_a_list_entry_does_not_decide_on_its_overturning(office: Office) -> None:
    entry = office.record(given.approve(office.record(given.listing())), given.SECOND)
    proposal = office.record(given.overturn(entry), given.THIRD)
    office.refuses(proposal_errors.OwnRecord, given.approve(proposal), given.SECOND)
    office.record(given.approve(proposal), given.REGISTRAR)
    assert list(breaches(office.log)) == []
    (breach,) = breaches(forged(office.log, len(office.log) - 1, actor=given.SECOND))
    assert "recorded what it is about" in breach.reason.en


def test_a_refusal_ends_it_with_its_reason(office: Office, command: Data) -> None:
    proposal = office.record(command)
    office.record(given.refuse(proposal, "PROCEDURE"), given.THIRD)
    assert office.log[-1].data == ProposalRefused(proposal=proposal, reason="PROCEDURE")
    assert office.log[-1].causation == proposal
    assert not [one for one in office.log if type(one.data) in EVENTS_OF_TWO]


def test_only_who_made_it_withdraws_it(office: Office, command: Data) -> None:
    proposal = office.record(command)
    office.refuses(proposal_errors.NotTheProposer, given.take_back(proposal), given.THIRD)
    office.record(given.take_back(proposal))
    assert office.log[-1].data == ProposalWithdrawn(proposal=proposal)


VERDICTS: dict[str, tuple[Callable[[str], Data], Actor]] = {
    "approve": (given.approve, given.THIRD),
    "refuse": (given.refuse, given.THIRD),
    "withdraw": (given.take_back, given.REGISTRAR),
}


@pytest.mark.parametrize("second", VERDICTS)
@pytest.mark.parametrize("first", VERDICTS)
def test_it_is_decided_once(office: Office, command: Data, first: str, second: str) -> None:
    proposal = office.record(command)
    make, actor = VERDICTS[first]
    office.record(make(proposal), actor)
    make, actor = VERDICTS[second]
    refusal = office.refuses(proposal_errors.ProposalSettled, make(proposal), actor)
    assert (
        refusal.facts["how"]
        == {
            "approve": ("approved", "已批准"),
            "refuse": ("refused", "未获批准"),
            "withdraw": ("withdrawn", "已撤回"),
        }[first]
    )


@pytest.mark.parametrize("verdict", VERDICTS)
def test_from_its_last_day_on_nobody_decides_it(
    office: Office, command: Data, verdict: str
) -> None:
    proposal = office.record(command)
    make, actor = VERDICTS[verdict]
    office.later(PERIOD_DAYS - 1)
    office.decide(make(proposal), actor)
    office.later(1)
    refusal = office.refuses(proposal_errors.ProposalLapsed, make(proposal), actor)
    assert refusal.facts["on"] == given.TODAY + PERIOD_DAYS * DAY


def test_without_a_period_it_never_lapses() -> None:
    book = given.rulebook("RB-2026.1", "2024-01-01")
    book["clocks"].pop("proposal", None)
    office = Office(rules(book))
    office.record(given.register())
    proposal = office.record(given.listing())
    office.later(4000)
    office.record(given.approve(proposal), given.SECOND)


def test_a_period_is_counted_in_days() -> None:
    book = given.rulebook("RB-2026.1", "2024-01-01")
    book["clocks"]["proposal"] = {"count": 3, "unit": "working_days"}
    with pytest.raises(errors.InvalidRulebook, match=r"clocks\.proposal: is counted in days"):
        rules(book)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_there_must_be_a_proposal(office: Office, verdict: str) -> None:
    make, actor = VERDICTS[verdict]
    for id in (given.CLIENT, penalty_of(office)):
        refusal = office.refuses(proposal_errors.UnknownProposal, make(id), actor)
        assert (refusal.status, refusal.facts) == (404, {"proposal": id})


def test_it_is_decided_on_the_state_of_the_moment(office: Office) -> None:
    target = penalty_of(office)
    first = office.record(given.overturn(target))
    office.later(PERIOD_DAYS)
    second = office.record(given.overturn(target))
    office.record(given.approve(second), given.THIRD)
    entry = office.record(given.listing(document_no="号1"))
    office.record(given.approve(entry), given.SECOND)
    office.refuses(errors.DuplicateFact, given.listing(document_no="号1"), given.REGISTRAR)
    office.refuses(errors.ActConflict, given.overturn(target), given.REGISTRAR)
    office.refuses(proposal_errors.ProposalLapsed, given.approve(first), given.THIRD)


def test_a_proposal_that_has_become_impossible_is_refused_and_stays_open(office: Office) -> None:
    reward = office.record(given.reward())
    proposal = office.record(given.overturn(reward))
    office.record(given.revoke_reward(reward))
    refusal = office.refuses(errors.ActConflict, given.approve(proposal), given.THIRD)
    assert "final" in str(refusal)
    office.record(given.refuse(proposal, "DUPLICATE"), given.THIRD)


# --- what the log proves -------------------------------------------------------------------------


def forged(log: list[Event], number: int, **changes: Any) -> list[Event]:
    return [replace(one, **changes) if n == number else one for n, one in enumerate(log)]


def test_the_log_shows_what_two_officers_did_not_do(office: Office) -> None:
    proposal = office.record(given.overturn(penalty_of(office)))
    office.record(given.approve(proposal), given.THIRD)
    log, last = office.log, len(office.log) - 1
    assert list(breaches(log)) == []
    data = log[last].data
    assert isinstance(data, DecisionOverturned)
    late = office.clock() + PERIOD_DAYS * DAY
    other = SevereListEntered(**dict(given.listing()))
    nobody = replace(given.THIRD, ref=OPERATOR_REF)
    decided = [*log, replace(log[last], id=given.CLIENT)]
    inspector = replace(given.THIRD, role="inspector")
    (proposed,) = breaches(forged(log, last - 1, actor=inspector)[:last])
    assert (proposed.id, "no such role" in proposed.reason.en) == (proposal, True)
    for wrong, why in (
        (forged(log, last, actor=given.REGISTRAR), "one person"),
        (forged(log, last, actor=inspector), "no such role"),
        (forged(log, 1, actor=given.THIRD), "recorded what it is about"),
        (forged(log, last, actor=nobody), "no person"),
        (forged(log, last, causation=None), "names no proposal"),
        (forged(log, last, causation=given.CLIENT), "names no proposal"),
        (forged(log, last, stream=provider_stream(given.OTHER)), "names no proposal"),
        (forged(log, last, time=late), "had lapsed"),
        (
            forged(log, last, data=data.model_copy(update={"target": given.CLIENT})),
            "something else",
        ),
        (forged(log, last, data=other), "something else"),
        (decided, "decided before"),
        ([log[last], *log[:last]], "names no proposal"),
    ):
        (breach,) = breaches(wrong)
        assert why in breach.reason.en
        assert breach.reason.zh


def test_the_log_shows_a_refusal_or_withdrawal_that_was_not_theirs_to_give(office: Office) -> None:
    refused = office.record(given.overturn(penalty_of(office)), given.SECOND)
    office.record(given.refuse(refused), given.THIRD)
    withdrawn = office.record(given.listing())
    office.record(given.take_back(withdrawn))
    log = office.log
    assert list(breaches(log)) == []
    for number, actor, why in (
        (3, given.SECOND, "one person"),
        (3, given.REGISTRAR, "recorded what it is about"),
        (3, replace(given.THIRD, role="auditor"), "no such role"),
        (3, replace(given.THIRD, ref=WORKER_REF), "no person"),
        (5, given.THIRD, "another person withdrew"),
    ):
        (breach,) = breaches(forged(log, number, actor=actor))
        assert (breach.id, why in breach.reason.en) == (log[number].id, True)


def test_no_command_and_no_event_sets_a_score() -> None:
    """domain.md §2: no role may set a score; only facts change it."""
    telling = ("score", "points", "grade", "band", "weight")
    models = [*EVENT_TYPES.values(), *provider.DECIDERS, *NEEDS_TWO]
    fields = {name for one in models for name in one.model_fields}
    assert not [name for name in fields for word in telling if word in name]
    assert not issubclass(events.RulebookPublished, Verdict)


def test_the_first_day_of_lapse_is_a_day_of_the_log(office: Office, command: Data) -> None:
    proposal = office.record(command)
    asked = office.state.proposals[proposal]
    assert asked.lapses_on == date(2026, 3, 12)
    assert asked.by == given.REGISTRAR.ref
