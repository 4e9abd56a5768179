"""The shape of a provider's public sheet, for the published schema; as `api/answers.py`."""

from __future__ import annotations

from typing import Literal

from api.answers import Amount, Answer, Both, DayText, Explanation, Position
from ledger.identity import Ref


class IssuerName(Answer):
    """A body that decided."""

    kind: str
    name: str


class Step(Answer):
    """When the points of an item next change by time alone, and to what."""

    on: DayText
    points: Amount


NotCounted = Literal[
    "EXPIRED",
    "SUSPENDED_BY_REVIEW",
    "SAME_INCIDENT",
    "MERIT_EXPIRED",
    "MERIT_BEFORE_DELISTING",
]
"""Why an item that is shown costs or brings nothing."""


class PublicItem(Answer):
    """One adverse item as the public sees it today."""

    id: Ref
    position: Position
    kind: Literal["PENALTY", "BREACH", "COMPLAINT", "LISTING"]
    family: str | None
    category: str | None
    severity: str | None
    names: dict[str, Both]
    issuer: IssuerName
    document_no: str
    law_article: str
    occurred_on: DayText | None
    decided_on: DayText
    served_on: DayText | None
    public_until: DayText | None
    status: Literal["EFFECTIVE", "SUSPENDED", "FULFILLED"]
    late_entry: bool
    points: Amount
    not_counted: NotCounted | None
    next_step: Step | None


class PublicMerit(Answer):
    """One merit that is shown with the provider's consent."""

    id: Ref
    item: str
    names: dict[str, Both]
    issuer: IssuerName
    document_no: str
    on: DayText
    late_entry: bool
    points: Amount
    not_counted: NotCounted | None


class PublicReferral(Answer):
    """A referral to prosecutors that its issuer shows today: no finding, and never in a score."""

    id: Ref
    position: Position
    names: dict[str, Both]
    issuer: IssuerName
    referral: str
    law_article: str
    referred_on: DayText | None
    shown_from: DayText
    public_until: DayText


class PublicQualification(Answer):
    """A licence that was not revoked; `valid_until` is its last day, null where it has no end."""

    id: Ref
    position: Position
    names: dict[str, Both]
    certificate: str
    certificate_no: str | None
    issuer: IssuerName
    document_no: str
    decided_on: DayText
    valid_from: DayText
    valid_until: DayText | None
    status: Literal["VALID", "NOT_YET", "EXPIRED"]


class Sheet(Answer):
    """The public sheet of a provider, today."""

    provider: str
    name: str
    entity_kind: str
    status: str
    ledger: str
    purpose: str
    as_of: DayText
    position: Position
    rulebook: str
    score: Amount
    grade: str
    confidence: str
    evidence_count: int
    listed: bool
    items: list[PublicItem]
    merits: list[PublicMerit]
    referrals: list[PublicReferral]
    qualifications: list[PublicQualification]
    explanation: Explanation
    reasons: list[Ref]
