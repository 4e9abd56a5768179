"""The shape of every JSON answer, for the published schema.

Answers are made where they are read and sent as they are; nothing passes through these models but
in tests, which hold every answer against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from ledger.access import AccessDoor
from ledger.identity import Ref

Amount = Annotated[str, StringConstraints(pattern=r"^-?[0-9]+\.[0-9]{2}$")]
DayText = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Position = Annotated[int, Field(ge=0)]
Sequence = Annotated[str, StringConstraints(pattern=r"^[0-9]{20}$")]


class Answer(BaseModel):
    """An answer of the API; a member it does not name is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Receipt(Answer):
    """Where the event stands that a write became."""

    position: Annotated[int, Field(ge=1)]
    id: Ref
    stream: str
    version: Annotated[int, Field(ge=1)]


class Flaw(Answer):
    """One place where a request breaks the schema."""

    loc: list[str | int]
    msg: str


class ProtectedResource(Answer):
    """Who vouches for bearers here, and for what (RFC 9728)."""

    resource: str
    authorization_servers: list[str]
    scopes_supported: list[Literal["feed", "read", "write"]]
    bearer_methods_supported: list[Literal["header"]]
    resource_documentation: str


class Problem(Answer):
    """Why a request was not answered (RFC 9457), in the language of `Content-Language`."""

    type: Annotated[str, StringConstraints(pattern=r"^/problems/[a-z-]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    advice: str
    code: Annotated[str, StringConstraints(pattern=r"^[a-z-]+$")]
    facts: dict[str, str | int] = Field(default={}, description="What the message is about.")
    errors: list[Flaw] = Field(default=[], description="Each flaw, where there may be several.")
    request_id: str | SkipJsonSchema[None] = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="As in the header X-Request-Id, and in the server's log.",
    )


class Both(Answer):
    """A text in both languages."""

    en: str
    zh: str


class ProblemType(Answer):
    """What a problem type means."""

    type: str
    status: int
    title: Both
    message: Both
    advice: Both


class ScoreLine(BaseModel):
    """One contribution or adjustment (`scoring.md`); which members it has depends on its reason."""

    model_config = ConfigDict(extra="allow", strict=True)

    reason: str
    points: Amount


class Case(Answer):
    """A case of the offline command: `chengxin score` computes the same result from it."""

    facts: list[dict[str, Any]]
    rulebooks: list[dict[str, Any]]
    as_of: DayText
    known_at: DayText


class FullScore(Answer):
    """The explained score with every contribution, for officers, auditors and the provider."""

    audience: Literal["full"]
    subject: str
    name: str
    status: str
    position: Position
    asked_on: DayText
    as_of: DayText
    known_at: DayText | int
    rulebook: str
    baseline: Amount
    contributions: list[ScoreLine]
    adjustments: list[ScoreLine]
    score: Amount
    grade: str
    band_of_number: str
    underlying_score: Amount
    evidence_count: int
    confidence: str
    top_reasons: list[str]
    next_change_on: DayText | None
    facts: dict[str, dict[str, Any]] = Field(
        description="By the id of the fact: its event, position, authority and document."
    )


class PublicLine(Answer):
    """One public item in the explanation."""

    id: Ref
    points: Amount


class Explanation(Answer):
    """baseline + lines + other = score; `other` (其他事项合计) is all that is not shown singly."""

    baseline: Amount
    lines: list[PublicLine]
    other: Amount
    score: Amount


class PublicScore(Answer):
    """The score of today with the public explanation."""

    audience: Literal["public"]
    subject: str
    name: str
    status: str
    position: Position
    as_of: DayText
    rulebook: str
    score: Amount
    grade: str
    confidence: str
    evidence_count: int
    explanation: Explanation
    reasons: list[Ref]


class Row(Answer):
    """One provider in a search."""

    provider: str
    name: str
    grade: str
    score: Amount
    status: str


class Rows(Answer):
    """A page of a search, in the order of the identifiers."""

    providers: list[Row]


class SealedText(Answer):
    """A text, where in `data` it stands (JSON Pointer), whose it is, and what proves it.

    The SHA-256 of salt (hexadecimal here) and text is the digest that the event holds.
    """

    path: str
    person: str
    text: str
    salt: str
    digest: str


class SealedTexts(Answer):
    """What is sealed in one event; nothing where nothing was, or where it was erased."""

    position: Position
    id: str
    texts: list[SealedText]


class FileAccess(Answer):
    """One look at a file: when, by which door, who; `as_of` of a score or a case."""

    position: Position
    time: str
    door: AccessDoor
    as_of: DayText | None
    organisation: str
    role: str
    ref: Ref


class FileAccesses(Answer):
    """Who looked at the file of a provider, in the order of the log."""

    accesses: list[FileAccess]


class SchemaEntry(Answer):
    """One event type."""

    type: str
    href: str


class SchemaList(Answer):
    """Every event type."""

    schemas: list[SchemaEntry]


class RulebookEntry(Answer):
    """A published rulebook, and the first day on which it is in force."""

    version: str
    in_force_from: DayText
    position: Position


class LedgerFacts(Answer):
    """Which ledger this is, and how far it goes."""

    name: str
    origin: str
    purpose: Literal["production", "demonstration", "test-data"]
    head: Position
    rulebooks: list[RulebookEntry]


class Stub(Answer):
    """What stands in the place of an event that this reader may not see."""

    sequence: Sequence
    withheld: str
    retracts: Sequence | None = None


class CloudEvent(BaseModel):
    """A stored event (docs/events.md) with its position before it."""

    model_config = ConfigDict(extra="allow", strict=True)

    sequence: Sequence
    specversion: Literal["1.0"]
    id: Ref
    source: str
    type: str
    time: str
    dataschema: str
    data: dict[str, Any]
