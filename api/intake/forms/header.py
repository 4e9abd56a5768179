"""The header of a file in a form: which form, which version, and which column is which.

Names are compared without regard to case, width and spaces; the Chinese titles are names too. A
column that the form does not have is not read, since nobody knows whether it tells of a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from stdnum.cn import uscc
from stdnum.iso7064 import mod_11_2

from api.intake.forms.form import NAMES, Form, form_of
from ledger.identity import FULL_WIDTH

OLDER, NEWER = "older", "newer"
VERSION = "form_version"
"""The cell that tells a row's version of the form: `older` or `newer`."""
PERSON = "about_a_person"
"""The cell that holds `yes` where a dropped column says that the row is about a natural person."""


ID_NUMBER = re.compile(
    r"(?<![0-9A-Za-z])[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
    r"[0-9]{3}[0-9Xx](?=(?:[0-9]{2})?(?![0-9A-Za-z]))"
)
"""A resident's identity number (GB 11643), also with two figures after it: the tax number of an
individual business is made of its operator's."""
MANY_FIGURES = re.compile(r"[0-9０-９]{17}")
REMOVED = "〔公民身份号码已删去〕"


def without_id_numbers(text: str) -> str:
    """The text without residents' identity numbers, wherever they stand in it."""

    if MANY_FIGURES.search(text) is None:
        return text
    # Full width and half width have one character each: what is found stands at the same place.
    for match in reversed(list(ID_NUMBER.finditer(text.translate(FULL_WIDTH)))):
        number = match[0].upper()
        if mod_11_2.is_valid(number) and not uscc.is_valid(number):
            text = text[: match.start()] + REMOVED + text[match.end() :]
    return text


def plain(name: str) -> str:
    """A column's name as names are compared."""
    return "".join(name.translate(FULL_WIDTH).upper().split())


@cache
def _names(name: str) -> Mapping[str, str]:
    """Every name a column of a form goes by, with its canonical one; the canonical one wins."""
    form, found = form_of(name), dict[str, str]()
    for column in form.column:
        found |= {plain(one): column.name for one in (*column.aliases, column.title)}
    return found | {plain(column.name): column.name for column in form.column}


@dataclass(frozen=True, slots=True)
class Header:
    """A file's columns in a form: where each canonical column stands in the file.

    `unread`: the file's columns that the form does not have. `twice`: canonical columns that two of
    the file's columns claim to be.
    """

    form: Form
    version: str
    places: Mapping[str, int]
    unread: Sequence[str]
    twice: Sequence[str]

    def stands_in(self, cells: Sequence[str]) -> bool:
        """Whether a row is a header once more: titles in the first, names in the second."""
        # The document's number is no column's name; else every row would be compared whole.
        document = cells[self.places[self.form.roles.document]]
        again = plain(document) in _names(self.form.name)
        return again and read_header(cells, self.form) is not None

    def cells(self, cells: Sequence[str]) -> dict[str, str]:
        """A row by canonical columns, trimmed, without what tells of persons."""
        found = {VERSION: self.version}
        person = False
        for name, place in self.places.items():
            column, text = self.form.by_name[name], cells[place].strip()
            if column.kind == "person":
                person = person or (column.tells_a_person and bool(text))
                continue
            found[name] = without_id_numbers(text) if name != self.form.roles.document else text
            if column.kind == "code" and REMOVED in found[name]:
                found[name], person = "", True
        return found | ({PERSON: "yes"} if person else {})


def read_header(columns: Sequence[str], form: Form) -> Header | None:
    """The header, where it is one of this form; else None."""
    names = _names(form.name)
    places: dict[str, int] = {}
    unread, twice = [], []
    for place, written in enumerate(columns):
        name = names.get(plain(written))
        if name is None:
            unread.append(written)
        elif name in places:
            twice.append(name)
        else:
            places[name] = place
    if not set(form.marks) <= set(places):
        return None
    written_so = {plain(one) for one in columns}
    older = any(plain(one) in written_so for one in form.older)
    return Header(form, OLDER if older else NEWER, places, unread, twice)


def recognised(columns: Sequence[str]) -> Header | None:
    """The header in whichever form it is."""
    found = (read_header(columns, form_of(name)) for name in NAMES)
    return next((one for one in found if one is not None), None)
