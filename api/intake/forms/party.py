"""Whom a row of a form is about: an organisation and its code, or a natural person.

A row about a natural person is refused and leaves no trace, its name least of all; so is one that
may be about a person as far as anybody can tell. An individual business (个体工商户) without a
trade name bears its operator's: the name is taken out before a person looks at the row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from api.intake.column import shown
from api.intake.forms.cells import doubt, is_nothing, note
from api.intake.forms.form import Form
from api.intake.forms.header import ID_NUMBER, PERSON
from api.intake.rows import Problem
from ledger.errors import InvalidIdentifier, Words
from ledger.identity import FULL_WIDTH, parse_identifier

NATURAL_PERSON = "natural-person"
PLACEHOLDER = re.compile(r"0{15,}X?")
"""Seventeen noughts and an X, or the like: the standard's way to say that there is no code."""
MASKED = re.compile(r"[*＊●x×]{2,}|[*＊]")
NUMBER = re.compile(r"[A-Z0-9]{4,50}")
USCC_CHARACTERS = 18
ORGANISATIONS = frozenset(
    {"法人及非法人组织", "法人和非法人组织", "法人", "非法人组织", "企业", "法人及其他组织"}
)
INDIVIDUALS = frozenset({"个体工商户", "个体户", "个体"})
PERSONS = frozenset({"自然人", "公民", "个人"})
KIND_OF_PREFIX = {
    **dict.fromkeys(("91", "93"), "ENTERPRISE"),
    "92": "INDIVIDUAL_BUSINESS",
    **dict.fromkeys(("11", "12", "13", "19", "A1", "G1", "N1"), "INSTITUTION"),
    **dict.fromkeys(("51", "52", "53", "54", "59"), "SOCIAL_ORGANISATION"),
}
"""The first two characters of a USCC (GB 32100-2015): who registers it, and as what."""
PERHAPS_A_RESIDENT = re.compile(r"[1-8*＊●×X][0-9*＊●×X]*")
"""A masked code that may be a resident's identity number: figures alone, and not of a company."""
MASKS = re.compile(r"[*＊●×]|XX")
PERSONAL_NAME = re.compile(
    r"[\u3400-\u9fff]{2,4}(?<![店馆部行厂坊社铺屋室所站吧城院场庄园轩阁斋堂楼])"
    r"|[\u3400-\u9fff]{1,10}[·•][\u3400-\u9fff]{1,10}"
)
"""What may be a person's name: short, and without the word that ends the name of a business."""
WHY_PERSON = Words(
    "the row is about a natural person, and nothing of it is kept",
    "该行涉及自然人，不予接收，内容不留存",
)
WHY_PERHAPS = Words(
    "no code and no kind of party: it may be about a natural person, and nothing of it is kept",
    "既无代码，又未写明相对人类别，可能涉及自然人，不予接收，内容不留存",
)


class Party(NamedTuple):
    """Whom the row is about; `identifier` is what stands there where it is no valid one."""

    identifier: str
    entity_kind: str
    notes: tuple[Problem, ...]
    doubts: tuple[Problem, ...]
    unnamed: bool = False
    """Whether the name may be a person's and must be taken out of the row."""


def says_person(form: Form, cells: Mapping[str, str]) -> bool:
    """Whether the kind of party is a natural person."""
    party = squeezed(cells.get(form.roles.party, ""))
    return party in PERSONS or party.startswith("公民") or "自然人" in party.replace("非自然人", "")


def may_tell_a_person(form: Form, cells: Mapping[str, str]) -> bool:
    """Whether a row names somebody who is, or may be, a natural person."""
    named = bool(cells.get(form.roles.name) or cells.get(PERSON))
    return says_person(form, cells) or (named and person_in(form, cells) is not None)


def squeezed(text: str) -> str:
    """The text without any space: 张 三 is 张三."""
    return "".join(text.split())


def is_personal(name: str) -> bool:
    """Whether a name may be a person's."""
    return PERSONAL_NAME.fullmatch(squeezed(name)) is not None


def person_in(form: Form, cells: Mapping[str, str]) -> Problem | None:
    """Why the row is refused as one about a natural person; None where it is not."""
    roles = form.roles
    party = cells.get(roles.party, "")
    if says_person(form, cells):
        return Problem(roles.party, NATURAL_PERSON, WHY_PERSON)
    if party in ORGANISATIONS or party in INDIVIDUALS:
        return None
    codes = [cells.get(name, "") for name in (roles.code, *roles.codes.values())]
    if any(map(_tells_an_organisation, codes)) or is_code(cells.get(roles.name, "")):
        return None
    if cells.get(PERSON):
        return Problem(roles.party, NATURAL_PERSON, WHY_PERSON)
    return Problem(roles.code, NATURAL_PERSON, WHY_PERHAPS)


def is_code(text: str) -> bool:
    """Whether it is a USCC, its check character proving it."""
    try:
        return len(parse_identifier(text)) == USCC_CHARACTERS and "-" not in text
    except InvalidIdentifier:
        return False


def _tells_an_organisation(text: str) -> bool:
    """Whether a code, right or wrong, is one that no natural person has."""
    plain = squeezed(text.translate(FULL_WIDTH)).upper()
    if not plain or is_nothing(text) or PLACEHOLDER.fullmatch(plain) is not None:
        return False
    if is_code(plain):
        return True
    # A name stands in the place of the code, or a number that is a resident's but for its check.
    if not any(map(str.isdigit, plain)) or ID_NUMBER.fullmatch(plain) is not None:
        return False
    return MASKS.search(plain) is None or PERHAPS_A_RESIDENT.fullmatch(plain) is None


def read_party(form: Form, cells: Mapping[str, str]) -> Party:
    """The party of a row that is not about a natural person; codes are in half width already."""
    identifier, notes, doubts = _identify(form, cells)
    kind, more = _kind_of(form, cells, identifier)
    notes += more if kind else ()
    doubts += () if kind or doubts else more
    # Where the kind cannot be told it may be an individual business as well.
    unnamed = kind in ("", "INDIVIDUAL_BUSINESS") and is_personal(cells[form.roles.name])
    if unnamed:
        en = "an individual business without a trade name: this may be its operator's"
        zh = "个体工商户未见字号，此处可能是经营者姓名"
        if not kind:
            en, zh = "this may be a person's name", "此处可能是自然人姓名"
        doubts += tuple(
            p._replace(field=form.roles.name) for p in doubt("perhaps-a-person", en, zh)
        )
    return Party(identifier, kind, notes, doubts, unnamed)


Found = tuple[str, tuple[Problem, ...], tuple[Problem, ...]]


def _identify(form: Form, cells: Mapping[str, str]) -> Found:
    roles = form.roles
    code = cells.get(roles.code, "")
    notes: tuple[Problem, ...] = ()
    if PLACEHOLDER.fullmatch(code) is not None:
        notes = _at(roles.code, note("placeholder-code", f"{code}: no code", f"{code}：无代码"))
        code = ""
    if code:
        return (code, notes, _at(roles.code, _wrong_with(code)))
    for register, column in roles.codes.items():
        number = cells.get(column, "")
        if not number or PLACEHOLDER.fullmatch(number) is not None:
            continue
        return _by_register(register, column, number, notes)
    en, zh = "no code tells which organisation this is", "没有可以确定主体的代码"
    return "", notes, _at(roles.code, doubt("no-code", en, zh))


def _wrong_with(code: str) -> tuple[Problem, ...]:
    if MASKED.search(code):
        en, zh = f"{shown(code)} is masked", f"{shown(code)} 经过遮盖"
        return doubt("masked-code", en, zh)
    if len(code) != USCC_CHARACTERS or "-" in code:
        en = f"{shown(code)} has not the {USCC_CHARACTERS} characters of a USCC"
        return doubt(
            "invalid-identifier", en, f"{shown(code)} 不是 {USCC_CHARACTERS} 位统一社会信用代码"
        )
    try:
        parse_identifier(code)
    except InvalidIdentifier as error:
        return doubt(error.code, str(error), error.chinese())
    return ()


def _by_register(register: str, column: str, number: str, notes: tuple[Problem, ...]) -> Found:
    if len(number) == USCC_CHARACTERS and not _wrong_with(number):
        en, zh = "the USCC stands here", "统一社会信用代码填在此列"
        return number, (*notes, *_at(column, note("code-elsewhere", en, zh))), ()
    if register == "ZZJG":
        # GB 11714: the hyphen before the check character is for the eye.
        number = number.replace("-", "")
    if NUMBER.fullmatch(number) is None:
        wrong = MASKED.search(number)
        code = "masked-code" if wrong else "invalid-identifier"
        en = f"{shown(number)} is not of A-Z and 0-9 only"
        found = doubt(code, en, f"{shown(number)} 含有 A-Z、0-9 之外的字符")
        return number, notes, _at(column, found)
    identifier = f"CN-{register}-{number}"
    en, zh = f"known as {identifier}", f"以 {identifier} 标识"
    return identifier, (*notes, *_at(column, note("other-register", en, zh))), ()


def _kind_of(
    form: Form, cells: Mapping[str, str], identifier: str
) -> tuple[str, tuple[Problem, ...]]:
    """The kind of entity, with a note; or nothing, with what is doubtful."""
    party = cells.get(form.roles.party, "")
    by_code = KIND_OF_PREFIX.get(identifier[:2]) if len(identifier) == USCC_CHARACTERS else ""
    if by_code is None:
        en = f"a code that begins with {identifier[:2]}: what kind of entity is that?"
        zh = f"代码以 {identifier[:2]} 开头，无法确定主体类型"
        return "", _at(form.roles.code, doubt("unknown-entity-kind", en, zh))
    said = "INDIVIDUAL_BUSINESS" if party in INDIVIDUALS else ""
    if party in ORGANISATIONS:
        said = "ENTERPRISE" if by_code in ("", "INDIVIDUAL_BUSINESS") else by_code
    if party and not said:
        en = f"{shown(party)} is no kind of party"
        return "", _at(
            form.roles.party, doubt("unknown-entity-kind", en, f"无此相对人类别：{shown(party)}")
        )
    if by_code and said and by_code != said:
        en = f"{shown(party)}, but the code begins with {identifier[:2]}"
        zh = f"填写为 {shown(party)}，但代码以 {identifier[:2]} 开头"
        return "", _at(form.roles.party, doubt("kind-contradicts-code", en, zh))
    if not said and not by_code:
        en, zh = (
            "neither a kind of party nor a USCC that tells it",
            "未写明相对人类别，代码也无从判断",
        )
        return "", _at(form.roles.party, doubt("unknown-entity-kind", en, zh))
    return said or by_code, ()


def _at(column: str, problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    return tuple(one._replace(field=column) for one in problems)
