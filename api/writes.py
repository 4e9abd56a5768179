"""What is written over HTTP: which command each address takes, and which roles may give it.

One table; the published schema, the endpoints, our own JSON Lines and the documents follow it.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field

from api.openapi import IDENTIFIER_FORMAT
from ledger import acts, events
from ledger.errors import Words
from ledger.events import Data
from ledger.findings import ConfirmBreach, ImposePenalty
from ledger.identity import MAX_IDENTIFIER_CHARACTERS
from ledger.proposal import NEEDS_TWO, ApproveProposal, RefuseProposal, WithdrawProposal
from ledger.provider import RecordComplaintOutcome, RecordInspection
from ledger.qualification import QualificationVerified
from ledger.referral import ReferralRecorded
from ledger.rulebook import PublishRulebook
from ledger.status import ResumeProvider

PROVIDERS = "/v1/providers"
PROVIDER = PROVIDERS + "/{identifier}"
DECISION = PROVIDER + "/decisions/{id}"
PROPOSAL = PROVIDER + "/proposals/{id}"


class RegisterProvider(events.ProviderRegistered):
    """Register a provider under its identifier."""

    type: ClassVar[str] = ""
    identifier: str = Field(
        min_length=1,
        max_length=4 * MAX_IDENTIFIER_CHARACTERS,
        json_schema_extra={"format": IDENTIFIER_FORMAT},
    )


class Write(NamedTuple):
    """One address that is written to: what it takes, what that does, and who may."""

    path: str
    command: type[Data]
    does: Words
    roles: tuple[str, ...] = ("registrar",)

    @property
    def is_act(self) -> bool:
        """Whether it works on a recorded fact, which the address then names."""
        return self.path.startswith(DECISION)

    @property
    def is_verdict(self) -> bool:
        """Whether it decides a proposal, which the address then names."""
        return self.path.startswith(PROPOSAL)

    @property
    def is_proposed(self) -> bool:
        """Whether it becomes a proposal, for a second officer to decide."""
        return self.command in NEEDS_TWO


DECIDERS = ("registrar", "decision_maker")
WRITES = (
    Write(
        PROVIDER + "/penalties",
        ImposePenalty,
        Words("record a penalty", "记录处罚"),
        ("registrar", "platform", "association"),
    ),
    Write(PROVIDERS, RegisterProvider, Words("register a provider", "登记服务商")),
    Write(
        PROVIDER + "/complaint-outcomes",
        RecordComplaintOutcome,
        Words("record the outcome of a complaint", "记录投诉处理结果"),
        ("registrar", "platform"),
    ),
    Write(
        PROVIDER + "/breaches",
        ConfirmBreach,
        Words("record a confirmed breach of contract", "记录已确认的违约"),
    ),
    Write(
        PROVIDER + "/inspections",
        RecordInspection,
        Words("record an inspection", "记录检查"),
        ("registrar", "inspector"),
    ),
    Write(
        PROVIDER + "/rewards",
        events.RewardGranted,
        Words("record a reward", "记录奖励"),
        ("registrar", "association"),
    ),
    Write(
        PROVIDER + "/contracts",
        events.ContractCompleted,
        Words("record a completed contract", "记录履行完毕的合同"),
    ),
    Write(
        PROVIDER + "/listings",
        events.SevereListEntered,
        Words("record an entry in the severe list", "记录列入严重失信名单"),
    ),
    Write(
        PROVIDER + "/referrals",
        ReferralRecorded,
        Words("record a referral to prosecutors", "记录移送司法机关"),
    ),
    Write(
        PROVIDER + "/admission", events.ProviderAdmitted, Words("record an admission", "记录准入")
    ),
    Write(
        PROVIDER + "/suspension",
        events.ProviderSuspended,
        Words("record a suspension of the admission", "记录暂停准入"),
    ),
    Write(
        PROVIDER + "/resumption",
        ResumeProvider,
        Words("record the end of a suspension", "记录恢复准入"),
    ),
    Write(PROVIDER + "/exit", events.ProviderExited, Words("record an exit", "记录退出")),
    Write(
        DECISION + "/suspension",
        acts.SuspendDecision,
        Words("suspend a decision during review", "审查期间暂停执行决定"),
        DECIDERS,
    ),
    Write(
        DECISION + "/resumption",
        acts.ResumeDecision,
        Words("end the suspension of a decision", "恢复执行决定"),
        DECIDERS,
    ),
    Write(
        DECISION + "/overturning",
        acts.OverturnDecision,
        Words("overturn a decision", "撤销决定"),
        DECIDERS,
    ),
    Write(
        DECISION + "/fulfilment",
        acts.FulfilObligation,
        Words("record that an obligation is fulfilled", "记录义务已履行"),
        DECIDERS,
    ),
    Write(
        DECISION + "/fulfilment-revocation",
        acts.RevokeFulfilment,
        Words("revoke a recorded fulfilment", "撤回义务已履行的记录"),
        DECIDERS,
    ),
    Write(
        DECISION + "/repair",
        acts.GrantRepair,
        Words("grant credit repair", "准予信用修复"),
        DECIDERS,
    ),
    Write(
        DECISION + "/repair-revocation",
        acts.RevokeRepair,
        Words("revoke a credit repair", "撤销信用修复"),
        DECIDERS,
    ),
    Write(
        DECISION + "/removal",
        acts.RemoveFromSevereList,
        Words("record the removal from the severe list", "记录移出严重失信名单"),
        DECIDERS,
    ),
    Write(
        DECISION + "/revocation", acts.RevokeReward, Words("revoke a reward", "撤销奖励"), DECIDERS
    ),
    Write(
        PROVIDER + "/qualifications",
        QualificationVerified,
        Words("record a licence", "记录资质与许可"),
    ),
    Write(
        DECISION + "/qualification-revocation",
        acts.RevokeQualification,
        Words("record that a licence was withdrawn", "记录许可被撤回、撤销或注销"),
        DECIDERS,
    ),
    Write(
        PROPOSAL + "/approval",
        ApproveProposal,
        Words("approve a proposal of another officer", "批准他人提请"),
        DECIDERS,
    ),
    Write(
        PROPOSAL + "/refusal",
        RefuseProposal,
        Words("refuse a proposal of another officer", "不予批准他人提请"),
        DECIDERS,
    ),
    Write(
        PROPOSAL + "/withdrawal",
        WithdrawProposal,
        Words("withdraw one's own proposal", "撤回本人提请"),
        DECIDERS,
    ),
    Write(
        "/v1/rulebooks",
        PublishRulebook,
        Words("publish a rulebook", "公布规则"),
        ("rulebook_editor",),
    ),
)
"""Every write there is, the busiest first. Roles that stand in no row write nothing."""
