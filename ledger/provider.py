"""The provider's stream: its credit record. Commands, state, evolve, decide.

`decide` refuses when it is recorded everything that `docs/scoring.md` calls no valid case, so
that no provider ever becomes unscorable, and everything that the rulebook forbids. In this
version the ledger records decisions that were made elsewhere; the procedures that lead to them
are streams of their own. Nothing here reads a clock or a database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field

from ledger import errors, events
from ledger.acts import ACT_OF_EVENT, ACTS, Fact, decide_act, decide_end_of_publicity
from ledger.counterparty import with_counterparty
from ledger.envelope import Event
from ledger.errors import Words
from ledger.events import Data, InspectionFields, TargetFields
from ledger.evidence import EvidenceDigest
from ledger.fields import Day, EventId, Reference
from ledger.findings import Bench, ComplaintFinding, ConfirmBreach, ImposePenalty, finding_fields
from ledger.private import Complainant
from ledger.proposal import (
    NEEDS_TWO,
    ProposalRefused,
    ProposalWithdrawn,
    RefuseProposal,
    Verdict,
    WithdrawProposal,
)
from ledger.qualification import QualificationVerified
from ledger.recorded import qualification_name, recorded
from ledger.referral import ReferralRecorded, check_referral
from ledger.rulebook import Rulebook
from ledger.second_officer import Proposal, check_verdict, propose, take_in, without_sealed
from ledger.status import (
    STATUS_AFTER,
    STATUS_NAMES,
    ResumeProvider,
    StatusDecision,
    decide_status,
)
from ledger.withdrawals import Withdrawal, acts_of

WITH_FINDING = Words("with its finding", "附认定事实")
WITHOUT_FINDING = Words("without a finding", "不附认定事实")
CLEAN_INSPECTION = "INSPECTION_CLEAN"
COMPLETED_CONTRACT = "CONTRACT_COMPLETED"


class RecordComplaintOutcome(Data):
    """Record what became of a complaint; a finding where it was (partly) substantiated."""

    complaint: Reference
    outcome: Literal["SUBSTANTIATED", "PARTLY", "UNSUBSTANTIATED"]
    decided_on: Day
    evidence: Annotated[list[EvidenceDigest], Field(min_length=1, max_length=20)]
    finding: ComplaintFinding | None = None
    complainant: Complainant | None = None


class RecordInspection(InspectionFields):
    """Record a finished inspection."""


class EndPublicity(Data):
    """End the display of an item whose period is over (the worker's command)."""

    target: EventId


@dataclass(slots=True)
class Provider:
    """State of one provider's stream. `seen` maps what may be recorded once to its event."""

    identifier: str
    version: int = 0
    status: str = "unknown"
    status_since: date = date.min
    suspended_for: Any = None
    facts: dict[str, Fact] = field(default_factory=dict)
    incidents: dict[str, str] = field(default_factory=dict)
    seen: dict[tuple[str, ...], str] = field(default_factory=dict)
    proposals: dict[str, Proposal] = field(default_factory=dict)


def without_record(state: Provider) -> Provider:
    """The provider as if nothing that may be recorded once had been."""
    return replace(state, seen={}, incidents={})


def evolve(state: Provider, event: Event) -> Provider:
    """The state after `event`. The given state is used up."""
    state.version = event.version
    if take_in(state.proposals, event):
        return state
    data = event.data
    if isinstance(data, events.ComplaintOutcomeRecorded):
        state.seen["complaint", data.complaint] = event.id
        if data.finding is not None:
            _evolve_finding(state, event.id, data.finding)
    elif isinstance(data, events.Finding):
        _evolve_finding(state, event.id, data)
        if isinstance(data, events.ContractBreachConfirmed):
            state.seen["breach", data.contract, data.incident, data.family] = event.id
    elif isinstance(data, events.Later | events.PublicityEnded):
        state.facts[data.target].acts[ACT_OF_EVENT[type(data)]] = data.on
    elif isinstance(data, events.ProviderRegistered):
        state.status = "registered"
    elif isinstance(data, StatusDecision):
        state.status, state.status_since = STATUS_AFTER[type(data)], data.decided_on
        if isinstance(data, events.ProviderSuspended):
            state.suspended_for = data.reason
    else:
        name, fact = recorded(event.id, data)
        state.seen[name], state.facts[event.id] = event.id, fact
    if event.id in state.facts:
        state.facts[event.id].by = event.actor.ref
    return state


def _evolve_finding(state: Provider, id: str, data: events.Finding) -> None:
    state.incidents[data.incident] = data.category
    state.seen["finding", data.issuer.name, data.document_no, data.incident, data.family] = id
    state.facts[id] = Fact(
        id,
        "demerit",
        data.decided_on,
        data.publicity == "SINGLY",
        [id],
        severity=data.severity,
        decided_on=data.decided_on,
        public_until=data.public_until,
        obligation=data.obligation,
    )


def decide(state: Provider, command: Data, bench: Bench) -> Sequence[Data]:
    """The events that `command` leads to. Raises LedgerError; the state stays as it is."""
    if isinstance(command, events.ProviderRegistered):
        if state.status != "unknown":
            status = STATUS_NAMES[state.status]
            raise errors.ProviderExists(provider=state.identifier, status=status)
        return [command]
    if state.status == "unknown":
        raise errors.UnknownProvider(provider=state.identifier)
    if isinstance(command, Verdict):
        return [_decide_proposal(state, command, bench)]
    commands: Sequence[Data] = [command]
    if isinstance(command, Withdrawal):
        commands = acts_of(command, state.seen, state.facts, today=bench.today)
    return [_decide_or_propose(state, one, bench) for one in commands]


def _decide_or_propose(state: Provider, command: Data, bench: Bench) -> Data:
    """The event of a command; of one that needs a second officer the proposal, if it could be."""
    data = _decide_alone(state, command, bench)
    return propose(state.proposals, command, bench) if type(command) in NEEDS_TWO else data


def _decide_alone(state: Provider, command: Data, bench: Bench) -> Data:
    if isinstance(command, TargetFields | EndPublicity):
        return _decide_later(state, command, bench)
    return DECIDERS[type(command)](state, command, bench)


def _decide_proposal(state: Provider, command: Verdict, bench: Bench) -> Data:
    asked = check_verdict(state.proposals, state.facts, command, bench)
    if isinstance(command, WithdrawProposal):
        return ProposalWithdrawn(proposal=command.proposal)
    if isinstance(command, RefuseProposal):
        return ProposalRefused(proposal=command.proposal, reason=command.reason)
    return _decide_alone(state, without_sealed(asked.proposed.data), bench)


def _decide_later(state: Provider, command: TargetFields | EndPublicity, bench: Bench) -> Data:
    fact = state.facts.get(command.target)
    if fact is None:
        raise errors.UnknownTarget(provider=state.identifier, target=command.target)
    if isinstance(command, EndPublicity):
        return decide_end_of_publicity(fact, today=bench.today)
    assert type(command) in ACTS
    return decide_act(
        fact,
        command,
        rulebook_of_decision=bench.rulebooks.of(fact.decided_on),
        today=bench.today,
        days=bench.now().clocks.days("backdating").days,
    )


def _decide_penalty(state: Provider, command: ImposePenalty, bench: Bench) -> Data:
    return events.PenaltyImposed(**_finding(state, command, bench))


def _decide_complaint(state: Provider, command: RecordComplaintOutcome, bench: Bench) -> Data:
    _once(state, "complaint", command.complaint)
    bench.check_past("decided_on", command.decided_on)
    if (command.finding is None) != (command.outcome == "UNSUBSTANTIATED"):
        how = WITHOUT_FINDING if command.finding is not None else WITH_FINDING
        raise errors.FindingMismatch(outcome=command.outcome, how=how)
    finding = None
    if command.finding is not None:
        finding = events.Finding(**_finding(state, command.finding, bench))
        if command.decided_on < finding.decided_on:
            raise errors.DateOrder(
                later="decided_on",
                later_on=command.decided_on,
                earlier="finding.decided_on",
                earlier_on=finding.decided_on,
            )
    return events.ComplaintOutcomeRecorded(
        complaint=command.complaint,
        outcome=command.outcome,
        decided_on=command.decided_on,
        evidence=command.evidence,
        finding=finding,
        complainant=command.complainant,
    )


def _decide_breach(state: Provider, command: ConfirmBreach, bench: Bench) -> Data:
    _once(state, "breach", command.contract, command.incident, command.family)
    wanted = bench.rulebooks.of(command.decided_on).items.breach_issuers.get(command.ground)
    if command.issuer.kind != wanted:
        raise errors.IssuerNotEntitled(issuer=command.issuer.kind, what=command.ground)
    return events.ContractBreachConfirmed(**_finding(state, command, bench))


def _finding(
    state: Provider, command: ImposePenalty | ComplaintFinding | ConfirmBreach, bench: Bench
) -> dict[str, Any]:
    """The fields of the finding event; what only the stream can tell is checked here."""
    fields = finding_fields(command, bench)
    _once(
        state,
        "finding",
        command.issuer.name,
        command.document_no,
        command.incident,
        command.family,
    )
    if state.incidents.get(command.incident, command.category) != command.category:
        raise errors.IncidentCategory(incident=command.incident, given=command.category)
    return fields


def _once(state: Provider, *what: str) -> None:
    """Raises DuplicateFact where the same thing was recorded and has not been withdrawn."""
    earlier = state.seen.get(what)
    if earlier is None:
        return
    fact = state.facts.get(earlier)
    if fact is None or fact.acts.keys().isdisjoint(("overturned", "revoked")):
        raise errors.DuplicateFact(target=earlier, what=" · ".join(what[1:]))


def _decide_reward(state: Provider, command: events.RewardGranted, bench: Bench) -> Data:
    rulebook = bench.rulebooks.of(command.on)
    _check_merit(command.item, rulebook, command.on)
    bench.check_past("on", command.on)
    if command.item == COMPLETED_CONTRACT and command.counterparty is None:
        raise errors.CounterpartyMissing(item=command.item)
    bench.issuer_kind(command.issuer.kind, command.on)
    entitled = rulebook.items.merits[command.item].issuers
    if entitled and command.issuer.kind not in entitled:
        raise errors.IssuerNotEntitled(issuer=command.issuer.kind, what=command.item)
    _once(state, "reward", command.issuer.name, command.document_no, command.item)
    return command


def _check_merit(item: str, rulebook: Rulebook, on: date) -> None:
    if item not in rulebook.scale.merit:
        raise errors.CodeNotInForce(field="item", value=item, rulebook=rulebook.version, on=on)


def _decide_contract(state: Provider, command: events.ContractCompleted, bench: Bench) -> Data:
    bench.check_past("on", command.on)
    _check_merit(COMPLETED_CONTRACT, bench.rulebooks.of(command.on), command.on)
    _once(state, "contract", command.contract)
    return with_counterparty(command)


def _decide_inspection(state: Provider, command: RecordInspection, bench: Bench) -> Data:
    bench.check_past("on", command.on)
    _once(state, "inspection", command.inspection)
    bench.issuer_kind(command.issuer.kind, command.on)
    rulebook = bench.rulebooks.of(command.on)
    clean = command.result == "CLEAN" and CLEAN_INSPECTION in rulebook.scale.merit
    return events.InspectionRecorded(**vars(command), merit=CLEAN_INSPECTION if clean else None)


def _decide_listing(state: Provider, command: events.SevereListEntered, bench: Bench) -> Data:
    bench.check_past("listed_on", command.listed_on)
    rule = bench.rulebooks.of(command.listed_on).items.issuers.get(command.issuer.kind)
    if rule is None or not rule.listings:
        raise errors.IssuerNotEntitled(issuer=command.issuer.kind, what="severe list")
    _once(state, "listing", command.issuer.name, command.document_no)
    return command


def _decide_referral(state: Provider, command: ReferralRecorded, bench: Bench) -> Data:
    check_referral(command, bench)
    _once(state, "referral", command.issuer.name, command.referral)
    return command


def _decide_qualification(state: Provider, command: QualificationVerified, bench: Bench) -> Data:
    bench.check_past("decided_on", command.decided_on)
    bench.issuer_kind(command.issuer.kind, command.decided_on)
    if command.valid_until is not None and command.valid_until < command.valid_from:
        raise errors.DateOrder(
            later="valid_until",
            later_on=command.valid_until,
            earlier="valid_from",
            earlier_on=command.valid_from,
        )
    _once(state, *qualification_name(command))
    return command


DECIDERS: dict[type[Data], Callable[[Provider, Any, Bench], Data]] = {
    events.ProviderAdmitted: decide_status,
    events.ProviderSuspended: decide_status,
    ResumeProvider: decide_status,
    events.ProviderExited: decide_status,
    ImposePenalty: _decide_penalty,
    RecordComplaintOutcome: _decide_complaint,
    ConfirmBreach: _decide_breach,
    events.RewardGranted: _decide_reward,
    events.ContractCompleted: _decide_contract,
    RecordInspection: _decide_inspection,
    events.SevereListEntered: _decide_listing,
    ReferralRecorded: _decide_referral,
    QualificationVerified: _decide_qualification,
}
