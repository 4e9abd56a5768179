"""One row of a form: every cell read, what was mended, what is doubtful, what is against it.

Order: a natural person's row is refused before anything is kept → what only says “nothing” is
emptied → codes in their usual width, name and code in their right places → whom it is about →
given or withdrawn → what a row of that status needs → days, kinds, articles, amounts. Reading
cells that were read before changes nothing, so a row that a person corrected is simply read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from api.intake.column import shown
from api.intake.csvfile import line_of
from api.intake.forms.cells import (
    Read,
    is_nothing,
    note,
    read_code,
    read_day,
    read_kinds,
    read_law,
)
from api.intake.forms.form import Column, Form
from api.intake.forms.header import REMOVED, VERSION
from api.intake.forms.money import check_amount
from api.intake.forms.party import is_code, person_in, read_party
from api.intake.forms.status import WITHDRAWN, read_status
from api.intake.rows import Problem
from ledger.errors import Words
from ledger.identity import parse_identifier

COMPUTED = (
    "identifier",
    "entity_kind",
    "status",
    "incident",
    "row",
    "certificate",
    "valid_from",
    "withdrawn_on",
)
"""What reading adds to a row's columns, for the mapping to use."""


@dataclass(slots=True)
class Reading:
    """A row as it was read: clean cells for a mapping, notes, and what is against the row.

    `personal`: it is about a natural person, and nothing but `problems` may be kept. `unnamed`: the
    name must not be kept.
    """

    cells: dict[str, str]
    notes: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    personal: bool = False
    unnamed: bool = False

    def take(self, column: str, read: Read) -> None:
        """Put a cell as it was read in its place."""
        self.cells[column] = read.text
        self.notes += [one._replace(field=one.field or column) for one in read.notes]
        self.problems += [one._replace(field=one.field or column) for one in read.doubts]


def bytes_of(form: Form, cells: Mapping[str, str]) -> bytes:
    """A row as evidence: its cells as they were read, persons' columns left out.

    One line of CSV (RFC 4180, UTF-8, no line end) with the form's kept columns in the form's order;
    the same from a file in UTF-8, in GB18030 and from a spreadsheet.
    """
    return line_of([cells.get(one.name, "") for one in form.kept])


def read_row(form: Form, given: Mapping[str, str]) -> Reading:
    """Read a row by its canonical columns (`Header.cells`)."""
    person = person_in(form, given)
    if person is not None:
        return Reading({}, problems=[person], personal=True)
    row = Reading({one.name: given.get(one.name, "").strip() for one in form.kept})
    _tell_removed(form, row)
    _join(form, row)
    _empty_nothing(form, row)
    for column in form.kept:
        if column.kind == "code" and row.cells[column.name]:
            row.take(column.name, read_code(row.cells[column.name]))
    _swap(form, row)
    party = read_party(form, row.cells)
    row.notes += party.notes
    row.problems += party.doubts
    row.unnamed = party.unnamed
    row.cells |= {"identifier": party.identifier, "entity_kind": party.entity_kind}
    at, status = read_status(form, {**row.cells, VERSION: given.get(VERSION, "")})
    row.cells["status"] = status.text
    row.notes += [one._replace(field=at) for one in status.notes]
    row.problems += [one._replace(field=at) for one in status.doubts]
    _need(form, row, given)
    _read_days(form, row)
    if status.text != WITHDRAWN:
        _read_decision(form, row, given)
    _add_computed(form, row)
    return row


def _tell_removed(form: Form, row: Reading) -> None:
    for column in form.kept:
        if REMOVED in row.cells[column.name]:
            en, zh = "a resident's identity number was taken out", "已删去公民身份号码"
            row.take(column.name, Read(row.cells[column.name], note("id-number-removed", en, zh)))


def _join(form: Form, row: Reading) -> None:
    for first, second in form.joins:
        parts = [row.cells[name] for name in (first, second) if row.cells[name]]
        row.cells[first] = ";".join(parts)
        row.cells[second] = ""


def _empty_nothing(form: Form, row: Reading) -> None:
    for column in form.kept:
        text = row.cells[column.name]
        if text in column.endless or (column.endless and read_day(text).text in column.endless):
            en, zh = f"{shown(text)}: without end", f"{shown(text)}：长期有效"
            row.take(column.name, Read("", note("without-end", en, zh)))
        elif text and is_nothing(text) and column.name != form.roles.status:
            en, zh = f"{shown(text)}: nothing", f"{shown(text)}：视为空"
            row.take(column.name, Read("", note("nothing-there", en, zh)))


def _swap(form: Form, row: Reading) -> None:
    """A name where the code belongs and the code where the name does; the check digit proves it."""
    for name, code in form.swaps:
        in_name, in_code = row.cells[name], row.cells[code]
        if is_code(in_name) and in_code and not any(one.isdigit() for one in in_code):
            row.cells[name], row.cells[code] = in_code, parse_identifier(in_name)
            en, zh = f"exchanged with {code}, where it stood", f"与 {code} 填反，已对调"
            row.notes += [one._replace(field=name) for one in note("exchanged", en, zh)]


def _need(form: Form, row: Reading, given: Mapping[str, str]) -> None:
    """What must stand in the row. A withdrawal needs only what names the decision."""
    roles = form.roles
    withdrawn = row.cells["status"] == WITHDRAWN
    for column in form.kept:
        text = row.cells[column.name]
        if column.length is not None and len(text) > column.length:
            en = f"{len(text)} characters, at most {column.length}"
            why = Words(en, f"有 {len(text)} 个字符，最多 {column.length} 个")
            row.problems.append(Problem(column.name, "too-long", why))
        named = column.name in (roles.document, roles.authority)
        if not text and column.name in given and not (withdrawn and not named):
            _tell_missing(row, column)


def _tell_missing(row: Reading, column: Column) -> None:
    why = Words("nothing stands here", "未填写")
    if column.missing == "note":
        why = Words("nothing stands here; it is not needed", "未填写，本账本不需要此项")
        row.notes.append(Problem(column.name, "missing", why))
    elif column.missing != "nothing":
        row.problems.append(Problem(column.name, "missing", why, column.missing == "doubt"))


def _read_days(form: Form, row: Reading) -> None:
    for column in form.kept:
        if column.kind == "day" and row.cells[column.name]:
            row.take(column.name, read_day(row.cells[column.name]))


def _read_decision(form: Form, row: Reading, given: Mapping[str, str]) -> None:
    roles, money = form.roles, form.money
    if roles.law is not None and row.cells[roles.law]:
        row.take(roles.law, read_law(row.cells[roles.law]))
    if money is None:
        return
    known = form.by_name[money.kinds].values
    kinds = read_kinds(row.cells[money.kinds], known)
    row.take(money.kinds, kinds)
    if kinds.doubts or not kinds.text:
        return
    for amount in money.amounts:
        if amount.column in given:
            written, text = row.cells[amount.column], row.cells[money.text]
            row.take(amount.column, check_amount(written, amount, text, kinds.text.split(";")))


def _add_computed(form: Form, row: Reading) -> None:
    """What a mapping may use besides the columns.

    `incident`: one decision is one incident; its name is made of authority and document number,
    which is what the standard calls the key of a decision.
    """
    cells, roles = row.cells, form.roles
    named = f"{cells[roles.authority]}\n{cells[roles.document]}"
    cells["incident"] = f"SGS-{sha256(named.encode()).hexdigest()[:24]}"
    withdrawn = cells["status"] == WITHDRAWN
    told = [] if withdrawn else [cells[one] for one in roles.row if cells[one]]
    cells["row"] = " ".join([cells["status"], *told])
    cells["certificate"] = next((cells[one] for one in roles.certificates if cells[one]), "")
    cells["valid_from"] = next((cells[one] for one in roles.valid_from if cells[one]), "")
    cells["withdrawn_on"] = cells[roles.updated] if withdrawn else ""
