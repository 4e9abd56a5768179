"""Invented providers, officers and commands with sensible defaults: what the tests are given.

Every builder takes the fields to change: `penalty(severity="S3", family="FAKE_TRAFFIC")`. What may
be recorded only once (incident, document number, inspection, contract) is new in every call. The
defaults are valid under the shipped rulebook when recorded on 2026-03-02, the day on which the
tests' clock stands.
"""

from __future__ import annotations

import itertools
from datetime import date
from typing import Any

from ledger import events
from ledger.acts import (
    FulfilObligation,
    GrantRepair,
    OverturnDecision,
    RemoveFromSevereList,
    ResumeDecision,
    RevokeFulfilment,
    RevokeQualification,
    RevokeRepair,
    RevokeReward,
    SuspendDecision,
)
from ledger.events import Data, Issuer, LedgerOpened, TargetFields
from ledger.evidence import EvidenceDigest
from ledger.findings import ComplaintFinding, ConfirmBreach, ImposePenalty
from ledger.identity import Actor
from ledger.proposal import ApproveProposal, Ground, RefuseProposal, WithdrawProposal
from ledger.provider import EndPublicity, RecordComplaintOutcome, RecordInspection
from ledger.qualification import QualificationVerified
from ledger.referral import ReferralRecorded
from ledger.rulebook import PublishRulebook, first_rulebook
from ledger.status import ResumeProvider
from ledger.withdrawals import NamedDecision, WithdrawDecision

TODAY = date(2026, 3, 2)
"""The day on which the tests' clock stands."""

PROVIDER = "91999999MA00TEXT0H"
OTHER = "91999999MA0DYCRD5Y"
PROVIDERS = (
    PROVIDER,
    OTHER,
    "91999999MA1AGENC8N",
    "91999999MA2BMCNXXA",
    "91999999MA3CPRUR5E",
    "91999999MA4DTE5X43",
)
"""Codes of division 999999, which does not exist: nobody bears them."""

REGISTRAR = Actor("CN-REG-1", "registrar", "0198c7a0-0000-7000-8000-000000000001")
OFFICER = Actor("CN-REG-1", "case_officer", "0198c7a0-0000-7000-8000-000000000002")
SECOND = Actor("CN-REG-1", "decision_maker", "0198c7a0-0000-7000-8000-000000000004")
THIRD = Actor("CN-REG-1", "registrar", "0198c7a0-0000-7000-8000-000000000005")
"""Other persons than who records: the second approves list entries, the third overturnings, since
nobody decides on the overturning of what they recorded."""
PLATFORM = Actor("CN-DOUYIN", "platform", "0198c7a0-0000-7000-8000-000000000003")

CLIENT = "0198c7a0-0000-4000-8000-0000000000c1"
OTHER_CLIENT = "0198c7a0-0000-4000-8000-0000000000c2"

_numbers = itertools.count(1)


def evidence(**changes: Any) -> EvidenceDigest:
    """The digest of a document that an office keeps."""
    fields: dict[str, Any] = {
        "sha256": "ab" * 32,
        "media_type": "application/pdf",
        "size_bytes": 24_816,
        "custodian": "CN-REG-1",
    }
    return EvidenceDigest(**fields | changes)


def regulator(name: str = "某市市场监督管理局") -> Issuer:
    """A regulator."""
    return Issuer(kind="REGULATOR", name=name)


def issuer(kind: str, name: str | None = None) -> Issuer:
    """A body of any kind."""
    return Issuer(kind=kind, name=name or f"某{kind}")


def opening(**changes: Any) -> LedgerOpened:
    """Opens a demonstration with the shipped rulebook."""
    fields: dict[str, Any] = {
        "name": "示例省诚信账本",
        "origin": "ledger.example/demo",
        "purpose": "demonstration",
        "rulebook": first_rulebook(),
    }
    return LedgerOpened(**fields | changes)


def rulebook(version: str = "RB-2026.2", in_force_from: str = "2026-04-01") -> dict[str, Any]:
    """The shipped rulebook under another version, to be changed by the caller."""
    book = first_rulebook()
    for part in (book, book["scoring"]):
        part["version"], part["in_force_from"] = version, in_force_from
    return book


def publish(book: dict[str, Any] | None = None) -> PublishRulebook:
    """Publishes a rulebook."""
    return PublishRulebook(rulebook=rulebook() if book is None else book)


def register(**changes: Any) -> events.ProviderRegistered:
    """Registers a provider."""
    fields: dict[str, Any] = {
        "name": "示例文化传媒有限公司",
        "entity_kind": "ENTERPRISE",
        "origin": "APPLICATION",
    }
    return events.ProviderRegistered(**fields | changes)


def _decision(number: int) -> dict[str, Any]:
    return {
        "issuer": regulator(),
        "document_no": f"市监处〔2026〕{number}号",
        "evidence": [evidence()],
    }


def admit(**changes: Any) -> events.ProviderAdmitted:
    """Admits a registered provider."""
    fields = _decision(next(_numbers)) | {"decided_on": TODAY}
    return events.ProviderAdmitted(**fields | changes)


def suspend_provider(**changes: Any) -> events.ProviderSuspended:
    """Suspends a provider's admission."""
    fields = _decision(next(_numbers)) | {"decided_on": TODAY, "reason": "INVESTIGATION"}
    return events.ProviderSuspended(**fields | changes)


def resume_provider(**changes: Any) -> ResumeProvider:
    """Resumes a provider's admission."""
    fields = _decision(next(_numbers)) | {"decided_on": TODAY}
    return ResumeProvider(**fields | changes)


def exit_provider(**changes: Any) -> events.ProviderExited:
    """Lets a provider leave the trade."""
    fields = _decision(next(_numbers)) | {"decided_on": TODAY, "reason": "VOLUNTARY"}
    return events.ProviderExited(**fields | changes)


def _finding(number: int) -> dict[str, Any]:
    return _decision(number) | {
        "incident": f"INC-{number}",
        "category": "ADVERT",
        "family": "AD_FALSE_CLAIM",
        "severity": "S2",
        "law_article": "《广告法》第五十五条",
        "occurred_on": date(2026, 1, 5),
        "decided_on": date(2026, 2, 10),
        "served_on": date(2026, 2, 12),
        "obligation": False,
    }


def penalty(**changes: Any) -> ImposePenalty:
    """A regulator's S2 penalty for a false claim; of 5 January, decided 10 February 2026."""
    return ImposePenalty(**_finding(next(_numbers)) | changes)


def finding(**changes: Any) -> ComplaintFinding:
    """The finding of a complaint: an association's S1 for a late response."""
    fields = _finding(next(_numbers)) | {
        "issuer": issuer("ASSOCIATION", "某直播电商协会"),
        "category": "COMPLAINT",
        "family": "LATE_RESPONSE",
        "severity": "S1",
        "law_article": "《协会自律公约》第八条",
    }
    return ComplaintFinding(**fields | changes)


def complaint(**changes: Any) -> RecordComplaintOutcome:
    """The outcome of a substantiated complaint, with its finding; decided with it, if later."""
    fields: dict[str, Any] = {
        "complaint": f"TS-{next(_numbers)}",
        "outcome": "SUBSTANTIATED",
        "decided_on": date(2026, 2, 10),
        "evidence": [evidence()],
    }
    if changes.get("outcome") != "UNSUBSTANTIATED":
        fields["finding"] = finding()
    if changes.get("finding") is not None:
        fields["decided_on"] = max(fields["decided_on"], changes["finding"].decided_on)
    return RecordComplaintOutcome(**fields | changes)


def breach(**changes: Any) -> ConfirmBreach:
    """A late delivery (S2) confirmed by a judgment."""
    number = next(_numbers)
    fields = _finding(number) | {
        "issuer": issuer("COURT", "某市人民法院"),
        "document_no": f"(2026)某0199民初{number}号",
        "category": "CONTRACT",
        "family": "LATE_DELIVERY",
        "law_article": "《民法典》第五百七十七条",
        "contract": f"HT-{number}",
        "ground": "JUDGMENT",
    }
    return ConfirmBreach(**fields | changes)


def reward(**changes: Any) -> events.RewardGranted:
    """An award by a regulator on 1 February 2026, shown with consent."""
    fields = _decision(next(_numbers)) | {
        "item": "REGULATOR_HONOUR",
        "on": date(2026, 2, 1),
        "consent": True,
    }
    return events.RewardGranted(**fields | changes)


def contract(**changes: Any) -> events.ContractCompleted:
    """A contract performed to its end on 1 February 2026."""
    fields: dict[str, Any] = {
        "contract": f"HT-{next(_numbers)}",
        "counterparty": CLIENT,
        "on": date(2026, 2, 1),
        "evidence": [evidence()],
    }
    return events.ContractCompleted(**fields | changes)


def inspection(**changes: Any) -> RecordInspection:
    """A clean inspection on 1 February 2026."""
    fields: dict[str, Any] = {
        "inspection": f"JC-{next(_numbers)}",
        "on": date(2026, 2, 1),
        "result": "CLEAN",
        "issuer": regulator(),
    }
    return RecordInspection(**fields | changes)


def listing(**changes: Any) -> events.SevereListEntered:
    """An entry in the severe list on 1 February 2026."""
    fields = _decision(next(_numbers)) | {
        "listed_on": date(2026, 2, 1),
        "law_article": "《市场监督管理严重违法失信名单管理办法》第五条",
    }
    return events.SevereListEntered(**fields | changes)


def referral(**changes: Any) -> ReferralRecorded:
    """A referral to prosecutors on 20 February 2026, shown from the 24th on for a year."""
    fields: dict[str, Any] = {
        "issuer": regulator(),
        "referral": f"YS-{next(_numbers)}",
        "evidence": [evidence()],
        "law_article": "《广告法》第五十五条",
        "referred_on": date(2026, 2, 20),
        "shown_from": date(2026, 2, 24),
        "public_until": date(2027, 2, 24),
    }
    return ReferralRecorded(**fields | changes)


def qualification(**changes: Any) -> QualificationVerified:
    """A licence of 1 February 2026 that holds for two years."""
    number = next(_numbers)
    fields = _decision(number) | {
        "document_no": f"市监许〔2026〕{number}号",
        "certificate": "增值电信业务经营许可证",
        "certificate_no": f"X2-2026{number:04}",
        "decided_on": date(2026, 2, 1),
        "valid_from": date(2026, 2, 1),
        "valid_until": date(2028, 1, 31),
    }
    return QualificationVerified(**fields | changes)


def withdraw(command: Data, **changes: Any) -> WithdrawDecision:
    """Withdraws a recorded decision by its authority and number, without a day."""
    fields = {name: getattr(command, name) for name in events.Decision.model_fields}
    named = NamedDecision(issuer_name=fields["issuer"].name, document_no=fields["document_no"])
    return WithdrawDecision(**fields | {"withdrawn": named} | changes)


def revoke_qualification(target: str, **changes: Any) -> RevokeQualification:
    """Records a licence as revoked today."""
    return RevokeQualification(**_act(RevokeQualification, target, changes))


def _act(command: type[TargetFields], target: str, changes: dict[str, Any]) -> dict[str, Any]:
    return _decision(next(_numbers)) | {"target": target, "on": TODAY} | changes


def suspend(target: str, **changes: Any) -> SuspendDecision:
    """Suspends a decision's effect today."""
    return SuspendDecision(**_act(SuspendDecision, target, changes))


def resume(target: str, **changes: Any) -> ResumeDecision:
    """Ends a decision's suspension today."""
    return ResumeDecision(**_act(ResumeDecision, target, changes))


def overturn(target: str, **changes: Any) -> OverturnDecision:
    """Overturns a decision today."""
    return OverturnDecision(**_act(OverturnDecision, target, changes))


def fulfil(target: str, **changes: Any) -> FulfilObligation:
    """Records an obligation as fulfilled today."""
    return FulfilObligation(**_act(FulfilObligation, target, changes))


def revoke_fulfilment(target: str, **changes: Any) -> RevokeFulfilment:
    """Revokes a fulfilment today."""
    return RevokeFulfilment(**_act(RevokeFulfilment, target, changes))


def repair(target: str, **changes: Any) -> GrantRepair:
    """Grants a repair today."""
    return GrantRepair(**_act(GrantRepair, target, changes))


def revoke_repair(target: str, **changes: Any) -> RevokeRepair:
    """Revokes a repair today."""
    return RevokeRepair(**_act(RevokeRepair, target, changes))


def revoke_reward(target: str, **changes: Any) -> RevokeReward:
    """Revokes a reward today."""
    return RevokeReward(**_act(RevokeReward, target, changes))


def delist(target: str, **changes: Any) -> RemoveFromSevereList:
    """Removes an entry from the severe list today."""
    return RemoveFromSevereList(**_act(RemoveFromSevereList, target, changes))


def approve(proposal: str) -> ApproveProposal:
    """Approves a proposal."""
    return ApproveProposal(proposal=proposal)


def refuse(proposal: str, reason: Ground = "NOT_PROVEN") -> RefuseProposal:
    """Refuses a proposal."""
    return RefuseProposal(proposal=proposal, reason=reason)


def take_back(proposal: str) -> WithdrawProposal:
    """Withdraws a proposal."""
    return WithdrawProposal(proposal=proposal)


def end_publicity(target: str) -> EndPublicity:
    """Ends the display of an item."""
    return EndPublicity(target=target)
