"""One cell of a form: how it is read, what is mended, what a person must look at.

Each reader gives the canonical text and what it did, as problems without a field: the caller knows
the column. Nothing here knows a form's columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from api.intake.column import shown
from api.intake.rows import Problem
from ledger.errors import Words
from ledger.identity import FULL_WIDTH

NOTHING = frozenset(
    {
        *(
            "暂无",
            "无",
            "无处罚期限",
            "不详",
            "空",
            "NULL",
            "null",
            "N/A",
            "/",
            "\\",
            "-",
            "--",
            "——",
        ),
        *("1900-01-01", "1900/1/1", "1900/01/01"),
    }
)
"""What real rows write where there is nothing; a time of day after the date does not matter."""
MIDNIGHT = re.compile(r"[ T]0{1,2}:00(:00(\.0+)?)?$")
DAY = re.compile(
    r"([0-9]{4})(?:-([0-9]{1,2})-([0-9]{1,2})|/([0-9]{1,2})/([0-9]{1,2})"
    r"|年([0-9]{1,2})月([0-9]{1,2})日|([0-9]{2})([0-9]{2}))"
    r"(?:[ T][0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)?"
)
SERIAL = re.compile(r"([0-9]{5})(?:\.0+)?")
SERIAL_FIRST, SERIAL_LAST = 36_526, 73_050
"""1 January 2000 and 31 December 2099 as a spreadsheet counts days."""
SERIAL_EPOCH = date(1899, 12, 30)
SEPARATORS = re.compile(r"[;；,，、/|+\s]+")
NUMBER = "[一二三四五六七八九十百千零〇0-9０-９]"
ARTICLE = rf"第{NUMBER}+条(?:之{NUMBER}+)?(?:第{NUMBER}+款)?(?:第?[(（]?{NUMBER}+[)）]?项)?"
CITATION = re.compile(
    rf"《[^《》]{{2,60}}》(?:\s*{ARTICLE}(?:[、，,和及与]\s*(?:{ARTICLE}|第{NUMBER}+[款项]))*)?"
)
FILLING = re.compile(
    r"^(?:根据|依据|依照|按照)?(?:[、，,;；\s和及与]|以及)*(?:(?:之|的)?规定)?[。.]?$"
)
MAX_CITATION_CHARACTERS = 120


class Read(NamedTuple):
    """A cell as it was understood; `problems` that are not doubtful are notes or reasons."""

    text: str
    notes: tuple[Problem, ...] = ()
    doubts: tuple[Problem, ...] = ()


def note(code: str, en: str, zh: str) -> tuple[Problem, ...]:
    """What was mended."""
    return (Problem("", code, Words(en, zh)),)


def doubt(code: str, en: str, zh: str) -> tuple[Problem, ...]:
    """What a person must look at."""
    return (Problem("", code, Words(en, zh), doubtful=True),)


def is_nothing(text: str) -> bool:
    """Whether a cell only says that there is nothing."""
    return MIDNIGHT.sub("", text) in NOTHING


def read_day(text: str) -> Read:
    """A day, however real rows write it, as YYYY-MM-DD."""
    day = _day(text)
    if day is None:
        en, zh = f"{shown(text)} is no day", f"{shown(text)} 不是日期"
        return Read(text, doubts=doubt("bad-day", en, zh))
    if text == day.isoformat() or MIDNIGHT.sub("", text) == day.isoformat():
        return Read(day.isoformat())
    en, zh = f"{shown(text)} read as {day}", f"{shown(text)} 读作 {day}"
    return Read(day.isoformat(), note("day-rewritten", en, zh))


def _day(text: str) -> date | None:
    plain = text.translate(FULL_WIDTH)
    serial = SERIAL.fullmatch(plain)
    if serial is not None and SERIAL_FIRST <= int(serial[1]) <= SERIAL_LAST:
        return SERIAL_EPOCH + timedelta(days=int(serial[1]))
    match = DAY.fullmatch(plain)
    if match is None:
        return None
    parts = [int(one) for one in match.groups() if one is not None]
    try:
        return datetime(*parts).date()  # type: ignore[arg-type]  # noqa: DTZ001 a day has no zone
    except ValueError:
        return None


def read_code(text: str) -> Read:
    """A code in half width and capitals, without spaces; not yet whether it is right."""
    plain = "".join(text.translate(FULL_WIDTH).split())
    plain = plain.upper() if plain.isascii() else plain
    if plain == text:
        return Read(text)
    en, zh = f"{shown(text)} read as {plain}", f"{shown(text)} 读作 {plain}"
    return Read(plain, note("code-rewritten", en, zh))


def read_kinds(text: str, known: Sequence[str]) -> Read:
    """Kinds out of a list, however they are joined; joined by a semicolon afterwards."""
    parts = list(dict.fromkeys(part for part in SEPARATORS.split(text) if part))
    strange = [part for part in parts if part not in known]
    if strange:
        en = f"{shown(strange[0])} is none of the kinds {', '.join(known)}"
        zh = f"{shown(strange[0])} 不在类别之列：{'、'.join(known)}"
        return Read(text, doubts=doubt("unknown-kind", en, zh))
    return Read(";".join(parts))


def read_law(text: str) -> Read:
    """The articles that a decision rests on, without the words around them.

    What stands there may be pages of quoted law; an event takes the citation and no free text.
    """
    found = list(dict.fromkeys("".join(one.split()) for one in CITATION.findall(text)))
    law = "、".join(found)
    if not found or len(law) > MAX_CITATION_CHARACTERS:
        en = f"{shown(text)} names no article like 《广告法》第五十五条, or too many"
        zh = f"{shown(text)} 中没有形如《广告法》第五十五条的条文，或条文过多"
        return Read(text, doubts=doubt("no-citation", en, zh))
    if law == text or FILLING.fullmatch(CITATION.sub("", text)):
        return Read(law)
    en, zh = f"only the articles are taken: {law}", f"只取条文：{law}"
    return Read(law, note("law-shortened", en, zh))
