"""The shape of what `/healthz` and `/readyz` answer, for the published schema."""

from __future__ import annotations

from typing import Literal

from api.answers import Answer, DayText, Position


class Health(Answer):
    """The process answers."""

    status: Literal["alive"]


class Follow(Answer):
    """How far one projection is."""

    position: Position
    lag: int
    error: str | None


class IssuerState(Answer):
    """How it stands with the keys of an issuer; null: never fetched yet, not failing."""

    fetched_seconds_ago: int | None
    failing_for_seconds: int | None


class Readiness(Answer):
    """Whether everything needed to answer is there; `reasons` lists what is not."""

    ready: bool
    reasons: list[str]
    head: Position | None
    tail: dict[str, bool | int]
    projections: dict[str, Follow]
    quarantine: dict[str, int | DayText | None] | None
    issuers: dict[str, IssuerState]
