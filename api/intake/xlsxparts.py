"""The parts of a workbook, measured before the library unpacks them: it holds a sheet dense, with
every cell's own copy of its text, so that a few kilobytes could ask for all the memory there is.

What a part unpacks to is counted and not believed. Knows no cell's value.
"""

from __future__ import annotations

import zipfile
import zlib
from typing import BinaryIO
from xml.parsers import expat

from ledger.errors import Words

MAX_UNPACKED_BYTES = 256 * 1024 * 1024
"""Of all parts together; of the text of all cells of a sheet as well."""
MAX_CELLS = 10_000_000
"""Of the rectangle between a sheet's outermost cells, empty ones too."""
MAX_LETTERS = 4
OTHERS = {"xl/workbook.bin", "content.xml"}
"""Parts that make an archive a workbook of another kind (.xlsb, .ods)."""
TELLING = (b"sheetData", b"<sst", b":sst")
"""What stands in a part with cells or texts; whatever else cannot be read, such as a picture, is
nobody's concern."""


class TooLarge(Exception):
    """The workbook asks for more than it may, for this reason."""

    def __init__(self, reason: Words) -> None:
        super().__init__(reason.en)
        self.reason = reason


def measure(stream: BinaryIO) -> None:
    """Raises TooLarge, zipfile.BadZipFile or ValueError where the library must not see it."""
    with zipfile.ZipFile(stream) as parts:
        named = parts.infolist()
        if OTHERS & {one.filename.lower() for one in named}:
            raise ValueError("not .xlsx")
        _check_bytes(sum(one.file_size for one in named))
        texts: list[int] = []
        sheets: list[_Part] = []
        total = 0
        for one in named:
            # The library reads on to the end of what is packed, whatever length is announced.
            one.file_size = MAX_UNPACKED_BYTES - total + 1
            try:
                content = parts.read(one)
            except (zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise ValueError(str(error)) from error
            total += len(content)
            _check_bytes(total)
            part = _Part()
            try:
                part.read(content)
            except (expat.ExpatError, UnicodeError) as error:
                if any(mark in content for mark in TELLING):
                    raise ValueError(str(error)) from error
                continue
            texts += part.texts
            sheets.append(part)
    for part in sheets:
        part.check(texts)


def _check_bytes(unpacked: int) -> None:
    if unpacked > MAX_UNPACKED_BYTES:
        en = f"the workbook unpacks to {unpacked:,} bytes, at most {MAX_UNPACKED_BYTES:,}"
        zh = f"工作簿解压后为 {unpacked:,} 字节，最多 {MAX_UNPACKED_BYTES:,} 字节"
        raise TooLarge(Words(f"{en}; save it as CSV", f"{zh}，请另存为 CSV"))


class _Part:
    """One part: of a sheet the outermost cells and which shared texts it names, of the table of
    shared texts their lengths.
    """

    def __init__(self) -> None:
        self.texts: list[int] = []
        self._named: dict[int, int] = {}
        self._letters: dict[str, int] = {}
        self._row = self._column = 0
        self._rows: tuple[int, int] | None = None
        self._columns = (0, 0)
        self._shared = self._in_value = False
        self._value = ""

    def read(self, content: bytes) -> None:
        """Raises ExpatError, ValueError."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._text
        parser.Parse(content, True)
        if self._in_value:
            self._take_value()

    def check(self, texts: list[int]) -> None:
        """Raises TooLarge. `texts`: the lengths of the shared texts."""
        if self._rows is None:
            return
        (top, bottom), (left, right) = self._rows, self._columns
        cells = (bottom - top + 1) * (right - left + 1)
        if cells > MAX_CELLS:
            en = f"the cells of the sheet span {cells:,} places, at most {MAX_CELLS:,}"
            zh = f"工作表的单元格跨越 {cells:,} 个位置，最多 {MAX_CELLS:,} 个"
            raise TooLarge(Words(f"{en}; save it as CSV", f"{zh}，请另存为 CSV"))
        _check_bytes(sum(texts[at] * often for at, often in self._named.items() if at < len(texts)))

    def _start(self, name: str, given: dict[str, str]) -> None:
        # Called for every cell: no handler of ends, since a value ends where the next thing begins.
        if self._in_value:
            self._take_value()
        kind = name.rpartition(":")[2] if ":" in name else name
        if kind == "c":
            self._shared = given.get("t") == "s"
            place = given.get("r", "")
            letters = place.rstrip("0123456789")
            if not letters or letters == place:
                self._column += 1
                return
            self._row = int(place[len(letters) :])
            column = self._letters.get(letters)
            if column is None:
                column = self._letters[letters] = _column(letters)
            self._column = column
        elif kind in ("v", "is"):
            # A cell that only has a format is none to the library.
            self._widen()
            self._in_value, self._value = self._shared and kind == "v", ""
        elif kind == "row":
            row = given.get("r", "")
            self._row, self._column = int(row) if row.isdecimal() else self._row + 1, 0
        elif kind == "si":
            self.texts.append(0)

    def _widen(self) -> None:
        row, column = self._row, self._column
        if self._rows is None:
            self._rows, self._columns = (row, row), (column, column)
            return
        (top, bottom), (left, right) = self._rows, self._columns
        if not top <= row <= bottom:
            self._rows = min(top, row), max(bottom, row)
        if not left <= column <= right:
            self._columns = min(left, column), max(right, column)

    def _take_value(self) -> None:
        self._in_value = False
        at = int(self._value) if self._value.strip().isdecimal() else -1
        self._named[at] = self._named.get(at, 0) + 1

    def _text(self, text: str) -> None:
        if self._in_value:
            self._value += text
        elif self.texts:
            self.texts[-1] += len(text)


def _column(letters: str) -> int:
    """The number of a column: A is 1, AA 27. Raises ValueError."""
    number = 0
    for letter in letters.upper():
        if not "A" <= letter <= "Z" or len(letters) > MAX_LETTERS:
            raise ValueError(f"{letters[:MAX_LETTERS]!r} is no column")
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def _refuse_doctype(*declared: object) -> None:
    raise ValueError("a document type is declared")
