"""Two officers on one decision: who may propose, who may decide, and what the log proves of it.

A second officer is another person, not another token: persons are told apart by `actorref` alone.
Neither the operator nor the worker is a person,
nor is who bears a token that names nobody. Nobody decides on the overturning of what they
recorded themselves (domain.md §2: nobody decides an objection to their own record). The rules are
applied by `provider.decide`, so that they bind whoever calls the desk; `breaches` finds in any log
what they forbid, and needs nothing but the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, TypeVar

from ledger.acts import ACTS, Fact
from ledger.calendar import local_day
from ledger.envelope import Event
from ledger.errors import NotAllowed, Words
from ledger.events import Data, Decision, TargetFields
from ledger.findings import Bench
from ledger.identity import Actor
from ledger.private import without_groups
from ledger.proposal import (
    NEEDS_TWO,
    ProposalMade,
    ProposalRefused,
    ProposalWithdrawn,
    Proposed,
    Verdict,
    WithdrawProposal,
)
from ledger.proposal_errors import (
    NoPerson,
    NotTheProposer,
    OwnRecord,
    ProposalLapsed,
    ProposalOpen,
    ProposalSettled,
    SameOfficer,
    UnknownProposal,
)

D = TypeVar("D", bound=Data)
DECIDING = frozenset({"registrar", "decision_maker"})
"""The roles that decide; whoever proposes or approves acts in one of them."""
APPROVED = Words("approved", "已批准")
REFUSED = Words("refused", "未获批准")
WITHDRAWN = Words("withdrawn", "已撤回")
VERDICTS: dict[type[Data], Words] = {ProposalRefused: REFUSED, ProposalWithdrawn: WITHDRAWN}


@dataclass(slots=True)
class Proposal:
    """What a stream's state keeps of a proposal; `verdict` is None while it is undecided."""

    proposed: Proposed
    by: str
    lapses_on: date | None
    verdict: Words | None = None

    def lapsed(self, today: date) -> bool:
        """Whether its time is over."""
        return self.lapses_on is not None and today >= self.lapses_on


def take_in(proposals: dict[str, Proposal], event: Event) -> bool:
    """Keep what an event says of proposals; whether it says nothing else."""
    data = event.data
    if isinstance(data, ProposalMade):
        proposals[event.id] = Proposal(data.proposed, event.actor.ref, data.lapses_on)
        return True
    decided = proposals.get(event.causation or "")
    if decided is not None:
        decided.verdict = VERDICTS.get(type(data), APPROVED)
    return type(data) in VERDICTS


def propose(proposals: Mapping[str, Proposal], command: Data, bench: Bench) -> ProposalMade:
    """The proposal of a command that the rules allow. Raises NotAllowed, NoPerson, ProposalOpen."""
    _check_officer(bench.actor, command)
    for id, other in proposals.items():
        open_now = other.verdict is None and not other.lapsed(bench.today)
        if open_now and _matter(other.proposed.data) == _matter(command):
            raise ProposalOpen(proposal=id)
    days = bench.now().clocks.proposal
    lapses_on = None if days is None else bench.today + bench.now().clocks.days("proposal")
    made = NEEDS_TWO[type(command)].model_validate({"data": command})
    return ProposalMade(proposed=made, lapses_on=lapses_on)


def check_verdict(
    proposals: Mapping[str, Proposal], facts: Mapping[str, Fact], command: Verdict, bench: Bench
) -> Proposal:
    """The proposal that a verdict is about, which `bench.actor` may give.

    Raises NotAllowed, NoPerson, UnknownProposal, ProposalSettled, ProposalLapsed, SameOfficer,
    NotTheProposer, OwnRecord.
    """
    _check_officer(bench.actor, command)
    asked = proposals.get(command.proposal)
    if asked is None:
        raise UnknownProposal(proposal=command.proposal)
    if asked.verdict is not None:
        raise ProposalSettled(proposal=command.proposal, how=asked.verdict)
    if asked.lapsed(bench.today):
        raise ProposalLapsed(proposal=command.proposal, on=asked.lapses_on)
    own = asked.by == bench.actor.ref
    if isinstance(command, WithdrawProposal):
        if not own:
            raise NotTheProposer(proposal=command.proposal)
        return asked
    if own:
        raise SameOfficer(proposal=command.proposal)
    about = asked.proposed.data
    if isinstance(about, TargetFields) and facts[about.target].by == bench.actor.ref:
        raise OwnRecord(proposal=command.proposal, target=about.target)
    return asked


def _check_officer(actor: Actor, command: Data) -> None:
    if actor.role not in DECIDING:
        what = Words(
            "propose or decide what needs two officers", "提请或决定须由两名工作人员办理的事项"
        )
        raise NotAllowed(role=actor.role, organisation=actor.organisation, what=what)
    if not actor.is_person:
        raise NoPerson(organisation=actor.organisation)


def _matter(command: Data) -> tuple[object, ...]:
    """What a command is about: two open proposals of the same would be one too many."""
    if isinstance(command, TargetFields):
        return type(command), command.target
    assert isinstance(command, Decision)
    return type(command), command.issuer.name, command.document_no


def without_sealed(data: D) -> D:
    """The data as a decision has them: what the proposal holds sealed stays with the proposal.

    A commitment holds in its own event only, and the decision names that event as its cause.
    """
    return without_groups(data)


class Breach(NamedTuple):
    """An event of the log that two officers should have made and did not, and why not."""

    id: str
    reason: Words


Made = tuple[Event, ProposalMade]


@dataclass(slots=True)
class _Replay:
    """What the events so far say: what was proposed, what is decided, and who recorded what."""

    made: dict[str, Made] = field(default_factory=dict)
    decided: set[str] = field(default_factory=set)
    recorded: dict[str, str] = field(default_factory=dict)


def breaches(log: Iterable[Event]) -> Iterator[Breach]:
    """What in a log was not done by two persons, from the log alone, in the order of positions.

    For an auditor: every proposal is a deciding officer's; every event that needs two, and every
    refusal, names as its cause a proposal of the same stream, by another person, undecided and not
    lapsed, and is a deciding officer's who did not record what it is about; what was approved is
    what was proposed; and only who proposed withdraws.
    """
    so_far = _Replay()
    for event in log:
        cause = so_far.made.get(event.causation or "")
        if isinstance(event.data, ProposalMade):
            reason = _unfit(event)
            so_far.made[event.id] = event, event.data
        elif type(event.data) in EVENTS_OF_TWO or type(event.data) in VERDICTS:
            reason = _fault(event, cause, so_far)
        else:
            reason = None
        if reason is not None:
            yield Breach(event.id, reason)
        if cause is not None:
            so_far.decided.add(cause[0].id)
        if event.subject is not None and type(event.data) not in VERDICTS:
            so_far.recorded[event.id] = event.actor.ref


def _event_of(command: type[Data]) -> type[Data]:
    rule = ACTS.get(command) if issubclass(command, TargetFields) else None
    return command if rule is None else rule.event


EVENTS_OF_TWO: dict[type[Data], type[Data]] = {_event_of(one): one for one in NEEDS_TWO}
"""The events that need two officers, and the command each follows from."""


def _unfit(event: Event) -> Words | None:
    """Why its actor may neither propose nor decide."""
    if not event.actor.is_person:
        return Words("who proposed or decided it is no person", "提请者或决定者并非具体人员")
    if event.actor.role not in DECIDING:
        return Words("who proposed or decided it has no such role", "提请者或决定者无此权限")
    return None


def _fault(event: Event, cause: Made | None, so_far: _Replay) -> Words | None:
    if cause is None or cause[0].stream != event.stream:
        return Words("it names no proposal of its stream", "未指明本记录流中的提请")
    proposal, made = cause
    if type(event.data) in EVENTS_OF_TWO and not _is_as_asked(made, event.data):
        return Words("its proposal asks for something else", "与所提请的事项不同")
    reason = _not_theirs(event, proposal, made, so_far) or _unfit(proposal) or _unfit(event)
    if reason is not None:
        return reason
    if proposal.id in so_far.decided:
        return Words("its proposal was decided before", "该提请此前已有结论")
    if (
        made.lapses_on is not None
        and event.time is not None
        and local_day(event.time) >= made.lapses_on
    ):
        return Words("its proposal had lapsed", "该提请已失效")
    return None


def _not_theirs(event: Event, proposal: Event, made: ProposalMade, so_far: _Replay) -> Words | None:
    own = proposal.actor.ref == event.actor.ref
    if isinstance(event.data, ProposalWithdrawn):
        return None if own else Words("another person withdrew it", "撤回者并非提请人")
    if own:
        return Words("one person proposed and decided it", "提请与决定为同一人")
    about = made.proposed.data
    if isinstance(about, TargetFields) and event.actor.ref == so_far.recorded.get(about.target):
        return Words("who decided it recorded what it is about", "决定者即所涉记录的登记人")
    return None


def _is_as_asked(made: ProposalMade, decided: Data) -> bool:
    asked, decided = without_sealed(made.proposed.data), without_sealed(decided)
    return type(asked) is EVENTS_OF_TWO[type(decided)] and all(
        getattr(decided, name) == value for name, value in asked
    )
