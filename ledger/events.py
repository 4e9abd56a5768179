"""The whole vocabulary: every event type as a frozen model with a stable, versioned name.

What is once clear in an immutable log can never be sealed. So free text, amounts and persons stand
in groups of sealed fields (`ledger/private.py`), and every other string field is of a type, and in
a place, that `tests/test_events.py` lists with its reason. A field whose value depends on the
rulebook is a code. Meaning of each type: `docs/events.md`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ledger.evidence import EvidenceDigest
from ledger.fields import (
    Citation,
    Code,
    Count,
    Day,
    EventId,
    FactId,
    LegalName,
    Origin,
    Reference,
    Version,
)
from ledger.identity import Ref
from ledger.private import Agreement, Complainant, Contact, Operator, Remark

Purpose = Literal["production", "demonstration", "test-data"]
Visibility = Literal["public", "party", "officers"]


class Data(BaseModel):
    """The `data` of one event type. A subclass with a `type` is part of the vocabulary."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    type: ClassVar[str] = ""

    def visibility(self) -> Visibility:
        """The widest audience this event may ever have."""
        return "public"


class Issuer(Data):
    """The body that decided: its kind (a rulebook code) and its official name."""

    kind: Code
    name: LegalName


class Decision(Data):
    """What every decision made elsewhere carries: who decided, under which number, proven how."""

    issuer: Issuer
    document_no: Citation
    evidence: Annotated[list[EvidenceDigest], Field(min_length=1, max_length=20)]


class LedgerOpened(Data):
    """The first event of every ledger. `rulebook` is the one exception to the notice period."""

    type: ClassVar[str] = "ledger.opened.v1"
    name: LegalName
    origin: Origin
    purpose: Purpose
    rulebook: dict[str, Any]


class RulebookPublished(Data):
    """A rulebook becomes law of the ledger from `in_force_from` on; it never reaches back."""

    type: ClassVar[str] = "rulebook.published.v1"
    version: Version
    in_force_from: Day
    rulebook: dict[str, Any]


class ProviderRegistered(Data):
    """A provider is known to the ledger. For 个体工商户 `name` is the trade name, and who runs it
    stands in `operator`, sealed."""

    type: ClassVar[str] = "provider.registered.v1"
    name: LegalName
    entity_kind: Literal["ENTERPRISE", "INDIVIDUAL_BUSINESS", "INSTITUTION", "SOCIAL_ORGANISATION"]
    origin: Literal["APPLICATION", "IMPORT"]
    contact: Contact | None = None
    operator: Operator | None = None


class ProviderAdmitted(Decision):
    """The provider was admitted to the trade."""

    type: ClassVar[str] = "provider.admitted.v1"
    decided_on: Day


class Suspension(Decision):
    """What the beginning and the end of a suspension say."""

    decided_on: Day
    reason: Literal["QUALIFICATION_EXPIRED", "INVESTIGATION", "PENALTY", "OWN_REQUEST"]

    def visibility(self) -> Visibility:
        """That somebody is, or was, being investigated is never public (domain.md §7)."""
        return "party" if self.reason == "INVESTIGATION" else "public"


class ProviderSuspended(Suspension):
    """The provider's admission is suspended."""

    type: ClassVar[str] = "provider.suspended.v1"


class ProviderResumed(Suspension):
    """The suspension of the admission ended; `reason` is the one it began with."""

    type: ClassVar[str] = "provider.resumed.v1"


class ProviderExited(Decision):
    """The provider left the trade; its record stays."""

    type: ClassVar[str] = "provider.exited.v1"
    decided_on: Day
    reason: Literal["VOLUNTARY", "DEREGISTERED", "EXPELLED"]


class RewardGranted(Decision):
    """A merit fact. `consent`: the provider agrees that it is shown."""

    type: ClassVar[str] = "reward.granted.v1"
    item: Code
    on: Day
    counterparty: Ref | None = None
    consent: bool

    def visibility(self) -> Visibility:
        """A reward is shown with the provider's consent only."""
        return "public" if self.consent else "party"


class FindingFields(Decision):
    """The fields of a scoring fact (domain.md §3), as its issuer decided it."""

    incident: Reference
    category: Code
    family: Code
    severity: Code
    severity_reason: EvidenceDigest | None = None
    law_article: Citation
    occurred_on: Day
    ended_on: Day | None = None
    decided_on: Day
    served_on: Day
    mitigation: Annotated[list[Code], Field(max_length=20)] = []
    obligation: bool
    remark: Remark | None = None


class Finding(FindingFields):
    """A finding as recorded: what the ledger itself adds is computed from the rulebook."""

    publicity: Literal["NEVER", "AGGREGATE", "SINGLY"]
    public_until: Day
    late_entry: bool

    def visibility(self) -> Visibility:
        """Findings that are never shown singly stay between the parties."""
        return "public" if self.publicity == "SINGLY" else "party"


class PenaltyImposed(Finding):
    """A demerit fact: an administrative, platform or association penalty."""

    type: ClassVar[str] = "penalty.imposed.v1"


class ComplaintOutcomeRecorded(Data):
    """What became of a complaint. Only a (partly) substantiated one carries a finding."""

    type: ClassVar[str] = "complaint_outcome.recorded.v1"
    complaint: Reference
    outcome: Literal["SUBSTANTIATED", "PARTLY", "UNSUBSTANTIATED"]
    decided_on: Day
    evidence: Annotated[list[EvidenceDigest], Field(min_length=1, max_length=20)]
    finding: Finding | None
    complainant: Complainant | None = None

    def visibility(self) -> Visibility:
        """A complaint without a finding never leaves the parties."""
        return self.finding.visibility() if self.finding else "party"


class ContractBreachConfirmed(Finding):
    """A demerit fact: a breach confirmed on one of the five grounds."""

    type: ClassVar[str] = "contract_breach.confirmed.v1"
    contract: Reference
    ground: Literal["JUDGMENT", "AWARD", "SIGNED_MEDIATION", "ADMISSION", "UNANSWERED_NOTICE"]


class ContractCompleted(Data):
    """A merit fact: a contract performed to its end; one counterparty counts once.

    In a command `counterparty` may be left out where `agreement` names the client: the vault then
    gives the client's reference. As recorded it is never None.
    """

    type: ClassVar[str] = "contract.completed.v1"
    contract: Reference
    counterparty: Ref | None = None
    on: Day
    evidence: Annotated[list[EvidenceDigest], Field(min_length=1, max_length=20)]
    agreement: Agreement | None = None

    def visibility(self) -> Visibility:
        """Who contracts with whom is the parties' business."""
        return "party"


class InspectionFields(Data):
    """A finished inspection: its result and the counts of findings by gravity."""

    inspection: Reference
    on: Day
    result: Literal["CLEAN", "MINOR", "FINDING", "OBSTRUCTED"]
    critical_count: Count = 0
    serious_count: Count = 0
    minor_count: Count = 0
    issuer: Issuer
    evidence: Annotated[list[EvidenceDigest], Field(max_length=20)] = []


class InspectionRecorded(InspectionFields):
    """An inspection fact; a clean one is also the merit `merit`, where the rulebook has it."""

    type: ClassVar[str] = "inspection.recorded.v1"
    merit: Code | None

    def visibility(self) -> Visibility:
        """An inspection is evidence; only what is decided on it becomes public."""
        return "party"


class SevereListEntered(Decision):
    """A listing fact: entry in the authority's list of seriously dishonest entities."""

    type: ClassVar[str] = "severe_list.entered.v1"
    listed_on: Day
    law_article: Citation


class TargetFields(Decision):
    """A later decision about a recorded fact."""

    target: EventId
    on: Day


class Later(TargetFields):
    """An act fact as recorded: `target_facts` are the scoring facts it works on (a
    referral gives none)."""

    target_facts: Annotated[list[FactId], Field(max_length=2)]
    target_public: bool

    def visibility(self) -> Visibility:
        """An act says no more than its target may."""
        return "public" if self.target_public else "party"


class RewardRevoked(Later):
    """The reward is void from the start."""

    type: ClassVar[str] = "reward.revoked.v1"


class SevereListRemoved(Later):
    """The entity left the severe list on `on`."""

    type: ClassVar[str] = "severe_list.removed.v1"


class DecisionSuspended(Later):
    """The decision's effect is suspended during review."""

    type: ClassVar[str] = "decision.suspended.v1"


class DecisionResumed(Later):
    """The suspension of the decision ended."""

    type: ClassVar[str] = "decision.resumed.v1"


class DecisionOverturned(Later):
    """The decision is void from the start; it leaves the public view."""

    type: ClassVar[str] = "decision.overturned.v1"


class ObligationFulfilled(Later):
    """The duty that came with the decision is done."""

    type: ClassVar[str] = "obligation.fulfilled.v1"


class FulfilmentRevoked(Later):
    """The duty turned out not to be done."""

    type: ClassVar[str] = "obligation.fulfilment_revoked.v1"


class RepairGranted(Later):
    """Credit repair (信用修复): the item is no longer shown, shared or used."""

    type: ClassVar[str] = "repair.granted.v1"


class RepairRevoked(Later):
    """The repair was withdrawn; the item counts again."""

    type: ClassVar[str] = "repair.revoked.v1"


class PublicityEnded(Data):
    """The item's publicity period is over; recorded by the worker, so that a feed retracts it."""

    type: ClassVar[str] = "publicity.ended.v1"
    target: EventId
    on: Day


def provider_stream(identifier: str) -> str:
    """The stream of a provider's credit record."""
    return f"provider-{identifier}"


RULEBOOK_STREAM = "rulebook"
