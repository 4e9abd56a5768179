"""A sheet of a workbook (XLSX) as records: typed cells become the text a person would have typed.

Numbers are written with the fifteen figures that a spreadsheet keeps, so that no binary noise
appears (0.2, not 0.2000000000000000111); a number too long to be kept exactly, such as a code of 18
figures, stays in exponent form and so is never taken for a code. Days are YYYY-MM-DD. The library
holds one sheet in memory; one that asks for too much is refused before that (`xlsxparts.py`).
Knows nothing of providers.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any, BinaryIO

import python_calamine

from api.intake.csvfile import NUL, Fault, NoHeader, Record, line_of
from api.intake.xlsxparts import TooLarge, measure
from ledger.errors import Words

ZIP_MAGIC = b"PK\x03\x04"
OLE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
HEADER_WITHIN_ROWS = 20
FIGURES = 15
"""Significant figures that a spreadsheet keeps of a number."""
EXACT_BELOW = Decimal(10) ** FIGURES

OLD_OR_LOCKED = Words(
    "an .xls workbook, or one with a password: save it as .xlsx without one",
    "文件是旧式 .xls 工作簿，或设有密码，请另存为不加密的 .xlsx",
)


class XlsxFile:
    """The records of a sheet after its header. Iterate once.

    The header is the first row that `is_header` knows among the first twenty with anything in them
    (there may be a title above it), else the first of these.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        sheet: str | None = None,
        is_header: Callable[[Sequence[str]], bool] = lambda cells: False,
    ) -> None:
        """Reads the sheet (the first one where none is named). Raises NoHeader."""
        rows = _sheet_rows(stream, sheet)
        first = list(islice(rows, HEADER_WITHIN_ROWS))
        if not first:
            raise NoHeader(Words("the sheet is empty", "工作表为空"))
        place = next((n for n, (_, cells) in enumerate(first) if is_header(cells)), 0)
        cells = first[place][1]
        width = max(n for n, cell in enumerate(cells, 1) if cell)
        self.columns = [cell or f"#{n}" for n, cell in enumerate(cells[:width], 1)]
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            names = ", ".join(map(repr, twice))
            line = first[place][0]
            en = f"row {line}: a column's name stands there twice: {names}"
            raise NoHeader(Words(en, f"第 {line} 行：列名重复：{names}"))
        self._first, self._rows = first[place + 1 :], rows

    def __iter__(self) -> Iterator[Record | Fault]:
        width = len(self.columns)
        for rows in (self._first, self._rows):
            for line, cells in rows:
                beyond = [n for n, cell in enumerate(cells[width:], width + 1) if cell]
                if beyond:
                    why = f"something stands in column {beyond[0]}, beyond the header"
                    zh = f"第 {beyond[0]} 列有内容，超出表头"
                    yield Fault(line, Words(why, zh))
                    continue
                if any("\0" in cell for cell in cells):
                    yield Fault(line, NUL)
                    continue
                row = [*cells[:width], *[""] * (width - len(cells))]
                yield Record(line, row, line_of(row))


def _sheet_rows(stream: BinaryIO, sheet: str | None) -> Iterator[tuple[int, list[str]]]:
    """Every row with anything in it: its number in the sheet, from 1, and its cells as text."""
    _check_size(stream)
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(stream)
        names = book.sheet_names
        if not names or (sheet is not None and sheet not in names):
            there = ", ".join(map(repr, names))
            en = f"there is no sheet {sheet!r}, only {there}" if names else "there is no sheet"
            raise NoHeader(Words(en, f"没有工作表 {sheet!r}，只有：{there}"))
        found = book.get_sheet_by_name(names[0] if sheet is None else sheet)
        typed = found.iter_rows()
    except python_calamine.PasswordError as error:
        raise NoHeader(OLD_OR_LOCKED) from error
    except (python_calamine.CalamineError, ValueError, OSError) as error:
        if isinstance(error, NoHeader):
            raise
        raise NoHeader(_damaged(error)) from error
    return (
        (line, cells)
        for line, row in enumerate(typed, 1)
        if any(cells := [text_of(one).strip() for one in row])
    )


def _check_size(stream: BinaryIO) -> None:
    magic = stream.read(len(OLE_MAGIC))
    stream.seek(0)
    if magic == OLE_MAGIC:
        raise NoHeader(OLD_OR_LOCKED)
    try:
        measure(stream)
    except TooLarge as error:
        raise NoHeader(error.reason) from error
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise NoHeader(_damaged(error)) from error
    stream.seek(0)


def _damaged(error: Exception) -> Words:
    return Words(f"the workbook cannot be read: {error}", f"无法读取该工作簿：{error}")


def text_of(value: Any) -> str:
    """A typed cell as text."""
    match value:
        case str():
            return value
        case bool():
            return "TRUE" if value else "FALSE"
        case int() | float():
            return _number(value)
        case datetime.datetime() if value.time() == datetime.time():
            return value.date().isoformat()
        case datetime.datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case _:
            return str(value)


def _number(value: float) -> str:
    written = Decimal(f"{value:.{FIGURES}g}")
    return f"{written:f}" if abs(written) < EXACT_BELOW else f"{value:.{FIGURES - 1}E}"
