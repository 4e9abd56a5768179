"""A proposal: what one officer asks for and only another may decide. Events and commands only.

An overturning and a list entry need two different officers (domain.md §2). The first one's command
is kept in the log whole, as it was given; nothing follows from it until another person approves
it. What a command that needs two becomes here is one class and one place in `Proposed`. The rules
are in `ledger/second_officer.py`; the vocabulary rests on this module.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from ledger.acts import OverturnDecision
from ledger.events import Data, SevereListEntered, Visibility
from ledger.fields import Day, EventId


class ProposedOverturning(Data):
    """A decision is to be overturned."""

    command: Literal["OVERTURNING"] = "OVERTURNING"
    data: OverturnDecision


class ProposedListing(Data):
    """The provider is to be entered in the severe list."""

    command: Literal["LISTING"] = "LISTING"
    data: SevereListEntered


Proposed = ProposedOverturning | ProposedListing
NEEDS_TWO: dict[type[Data], type[Proposed]] = {
    one.model_fields["data"].annotation: one for one in get_args(Proposed)
}
"""Every command that needs a second officer, and what holds it in a proposal."""

Ground = Literal["NOT_PROVEN", "WRONG_TARGET", "NO_LEGAL_BASIS", "PROCEDURE", "DUPLICATE"]


class Restricted(Data):
    """What only officers and auditors ever see."""

    def visibility(self) -> Visibility:
        """What is not decided is never public, and not the provider's either (domain.md §7)."""
        return "officers"


class ProposalMade(Restricted):
    """An officer asks for what needs a second one. From `lapses_on` on it cannot be decided."""

    type: ClassVar[str] = "proposal.made.v1"
    proposed: Proposed
    lapses_on: Day | None = None


class ProposalRefused(Restricted):
    """A second officer refused it."""

    type: ClassVar[str] = "proposal.refused.v1"
    proposal: EventId
    reason: Ground


class ProposalWithdrawn(Restricted):
    """Who made it takes it back."""

    type: ClassVar[str] = "proposal.withdrawn.v1"
    proposal: EventId


class Verdict(Data):
    """What becomes of a proposal; the event it leads to names the proposal as its cause."""

    proposal: EventId


class ApproveProposal(Verdict):
    """Decide what was proposed, anew and on the state of this moment."""


class RefuseProposal(Verdict):
    """Refuse what was proposed."""

    reason: Ground


class WithdrawProposal(Verdict):
    """Take one's own proposal back."""
