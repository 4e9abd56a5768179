"""The types that the fields of events may have: days, codes, citations, names, references.

Every string that may stand in an event is of one of these, so that free text has no way in.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StringConstraints

from ledger.identity import Ref


def _parse_day(value: object) -> object:
    if isinstance(value, str):
        # fromisoformat also reads 20260302 and the week date 2026-W10-1.
        if len(value) != 10 or value[7] != "-":
            raise ValueError("a day is written YYYY-MM-DD")
        return date.fromisoformat(value)
    return value


INVISIBLE = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    r"\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff0-\uffff"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""What nobody sees: control and format characters (Cc, Cf) and Default_Ignorable_Code_Point."""
UNPRINTABLE = re.compile(f"[{INVISIBLE}\ud800-\udfff]")
"""With lone surrogates. One of them could turn a name around (U+202E), or make two look alike."""


def clean(text: str) -> str:
    """The text as it is. Raises ValueError for what a reader could not see or copy."""
    if UNPRINTABLE.search(text):
        raise ValueError("control and format characters and lone surrogates are not allowed")
    if text != text.strip():
        raise ValueError("no space at either end")
    return text


def clean_lines(text: str) -> str:
    """The same for text in lines, which may break them."""
    clean(text.replace("\n", "x"))
    if text != text.strip():
        raise ValueError("no space or line break at either end")
    return text


Day = Annotated[date, BeforeValidator(_parse_day), PlainSerializer(date.isoformat)]
"""A calendar day in Asia/Shanghai, `YYYY-MM-DD`."""
Code = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
"""A code that the rulebook defines."""
PRINTABLE = f"[^{INVISIBLE}]"
PUBLISHED = {"pattern": rf"^(?!\s){PRINTABLE}*(?<!\s)$"}
"""`clean` as JSON Schema says it (ECMA-262), for those who check before they send."""

Citation = Annotated[
    str, Field(min_length=1, max_length=120, json_schema_extra=PUBLISHED), AfterValidator(clean)
]
"""A document number or a law article as the authority writes it."""
LegalName = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra=PUBLISHED), AfterValidator(clean)
]
"""The name of an organisation, never of a person."""
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,79}$")]
"""An identifier that another register gave: an incident, an inspection, a contract."""
EventId = Ref
FactId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}(/merit)?$")]
Version = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9._-]{0,39}$")]
"""A rulebook version such as `RB-2026.1`."""
Origin = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*(/[a-z0-9._-]+)*$", max_length=120)
]
"""The log's origin: a scheme-less URL (C2SP tlog-checkpoint)."""
Count = Annotated[int, Field(ge=0, le=9999)]
