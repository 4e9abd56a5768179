"""What a row in quarantine says, and the box in which it lies until it is settled.

Cells, corrections, the words of the reasons (which quote cells) and what stands in place of an
identifier may be anybody's personal data, and text that belongs into sealed fields. Each row has a
key of its own in the vault; one box under it holds all of this. The key goes with the settling of
the row (`sql/0004_sealed.sql`), and then nobody anywhere reads the content again. Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from api.intake.rows import Problem
from ledger.errors import LedgerError, Words
from ledger.identity import parse_identifier
from ledger.sealing import PersonKey

GONE = Words(
    "the words quoted the row; with its settling they are gone",
    "原因引用了该行内容，已随该行办结删除",
)
OUR_FIELD = re.compile(r"[a-z][a-z_]{0,59}(\.[a-z_]{1,60}){0,4}")


@dataclass(frozen=True, slots=True)
class Content:
    """What a row says, what is wrong with it, and what persons said of it.

    `corrections` are all that hold, `answers` those of each correcting step in order.
    """

    subject: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[Problem] = ()
    corrections: Mapping[str, str] = field(default_factory=dict)
    answers: Sequence[Mapping[str, str]] = ()


def box_of(content: Content, key: PersonKey, *, person: str, digest: str, nonce: bytes) -> bytes:
    """The box; it opens only with this key, and only for the row with this digest."""
    written = {
        "subject": content.subject,
        "cells": dict(content.cells),
        "problems": [_whole(one) for one in content.problems],
        "corrections": dict(content.corrections),
        "answers": [dict(one) for one in content.answers],
    }
    text = orjson.dumps(written).decode()
    return key.box({digest: text}, event_id=person, nonce=nonce)


def opened(box: bytes, key: PersonKey, *, person: str, digest: str) -> Content:
    """The inverse of `box_of`. Raises ValueError where the box is not the one that was made."""
    texts = key.open(box, event_id=person)
    if digest not in texts:
        raise ValueError("the box of another row")
    return content_of(orjson.loads(texts[digest]))


def content_of(stored: Mapping[str, Any]) -> Content:
    """A content from its members."""
    return Content(**dict(stored) | {"problems": [problem_of(one) for one in stored["problems"]]})


def problem_of(stored: Mapping[str, Any]) -> Problem:
    """A problem from its members; of one that is stored in clear the words are gone."""
    reason = Words(stored["en"], stored["zh"]) if "zh" in stored else GONE
    return Problem(stored["field"], stored["code"], reason, stored["doubtful"])


def plain_problems(problems: Sequence[Problem]) -> str:
    """What of problems stands in clear: fields, unless their names are the row's own, and codes."""
    return orjson.dumps([_plain(one) for one in problems]).decode()


def plain_subject(text: str) -> str:
    """What of a subject stands in clear: a proper identifier of an organisation."""
    try:
        parse_identifier(text)
    except LedgerError:
        return ""
    return text


def plain_names(corrections: Mapping[str, str]) -> str:
    """What of corrections stands in clear: what they name."""
    return orjson.dumps(dict.fromkeys(corrections)).decode()


def _plain(one: Problem) -> dict[str, Any]:
    name = one.field if OUR_FIELD.fullmatch(one.field) else "row"
    return {"field": name, "code": one.code, "doubtful": one.doubtful}


def _whole(one: Problem) -> dict[str, Any]:
    reason = one.reason._asdict()
    return {"field": one.field, "code": one.code, **reason, "doubtful": one.doubtful}
