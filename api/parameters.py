"""The parameters that reads have in common: what each means, and what may be written in it."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from typing import Annotated

from fastapi import Path, Query

from api import openapi
from api.refusals import Flaw, SchemaBroken
from ledger.errors import Words
from ledger.vocabulary import EVENT_TYPES

DAY = "^(19[0-9]{2}|2[01][0-9]{2}|2200)-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
"""From 1900 to 2200: beyond lie only slips of the pen."""
NO_DAY = Words(
    "a day that exists, from 1900 to 2200, written YYYY-MM-DD",
    "应为 1900 年至 2200 年之间存在的日期，写作 YYYY-MM-DD",
)

Identifier = Annotated[
    str,
    Path(
        min_length=1,
        max_length=240,
        description=openapi.IDENTIFIER["description"],
        json_schema_extra={"format": openapi.IDENTIFIER_FORMAT},
    ),
]
EventType = Annotated[str, Path(max_length=80, json_schema_extra={"enum": list(EVENT_TYPES)})]
MinPosition = Annotated[
    int | None,
    Query(ge=1, le=2**53 - 1, description="Answer only once this position is in the answer."),
]
AsOf = Annotated[
    str | None,
    Query(pattern=DAY, json_schema_extra={"format": "date"}, description="Today if none."),
]
After = Annotated[
    int, Query(ge=0, le=2**53 - 1, description="Only what comes after this position.")
]


def day_of(text: str) -> date:
    """The day of a query. Raises SchemaBroken."""
    if re.fullmatch(DAY, text):
        with suppress(ValueError):
            return date.fromisoformat(text)
    raise SchemaBroken([Flaw(("query", "as_of"), NO_DAY)])
