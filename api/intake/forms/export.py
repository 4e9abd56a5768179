"""Our own decisions as a file in a form, row by row: header, then one line for each decision.

The columns are those of today's form. What the ledger does not hold (facts, amounts, kinds of
penalty, the authority's code) stays empty: nothing is invented. UTF-8 is written with a byte-order
mark, without which spreadsheets take it for something else.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Literal

from api.intake.csvfile import line_of
from api.intake.forms.form import form_of
from api.intake.forms.remark import row_of
from ledger.rulebook import Rulebooks
from projections.decisions import LICENCE, PENALTY, Kind, Told

Encoding = Literal["utf-8", "gb18030"]
FORM_OF: dict[Kind, str] = {PENALTY: "shuanggongshi-penalty", LICENCE: "shuanggongshi-licence"}


def lines_of(
    kind: Kind, decisions: Iterable[Told], rulebooks: Rulebooks, *, encoding: Encoding
) -> Iterator[bytes]:
    """The lines of a file, each with its end."""
    form = form_of(FORM_OF[kind])
    names = [one.name for one in form.today]
    yield (codecs.BOM_UTF8 if encoding == "utf-8" else b"") + _line(names, encoding)
    for told in decisions:
        cells = row_of(form, told, title=_title(told, rulebooks))
        yield _line([cells.get(name, "") for name in names], encoding)


def _title(told: Told, rulebooks: Rulebooks) -> str:
    """What a decision is about: of a penalty its family, in the words of its day's rulebook."""
    data = told.data
    if "certificate" in data:
        return str(data["certificate"])
    book = rulebooks.of(date.fromisoformat(data["decided_on"]))
    return book.items.families[data["family"]].zh


def _line(cells: list[str], encoding: Encoding) -> bytes:
    return line_of(cells).decode().encode(encoding) + b"\r\n"
