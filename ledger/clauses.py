"""What the parts of a rulebook are written in: words in both languages, and periods."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ledger.fields import clean

Phrase = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(clean)]


class Part(BaseModel):
    """A part of a rulebook."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Named(Part):
    """Something a reader sees by name, never by code."""

    zh: Phrase
    en: Phrase


class Clock(Part):
    """A period: a count of days, working days, or months."""

    count: Annotated[int, Field(ge=0, le=3660)]
    unit: Literal["days", "working_days", "months"]
