"""A CSV file as records, each with the line it stands on; what is malformed is told and passed by.

RFC 4180 as far as files keep to it: any delimiter, any encoding in which a line feed is the byte
0x0A, plain or gzip. A fault concerns its own line: after a quote that is never closed, reading
goes on at the next line. Memory is bounded whatever the file holds. Knows nothing of providers.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, Protocol

from ledger.errors import Words

MAX_LINE_BYTES = 1024 * 1024
MAX_RECORD_LINES = 64
GZIP_MAGIC = b"\x1f\x8b"
NUL = Words("contains a NUL character", "含有 NUL 字符")
UNCLOSED = Words("a quoted field is not closed on this line", "该行的引号没有闭合")


class Record(NamedTuple):
    """The cells of a record, the number of its first line (from 1), and its bytes."""

    line: int
    cells: list[str]
    raw: bytes


class Fault(NamedTuple):
    """A line that is no record, and why not."""

    line: int
    reason: Words


class Table(Protocol):
    """Records under a header: a CSV file, a sheet of a workbook. Iterate once."""

    columns: list[str]

    def __iter__(self) -> Iterator[Record | Fault]: ...


class NoHeader(ValueError):
    """The file has no usable first record, for this reason."""

    def __init__(self, reason: Words) -> None:
        super().__init__(reason.en)
        self.reason = reason


def unpacked(stream: io.BufferedReader) -> io.BufferedReader:
    """The stream itself, or what a gzip file holds; told by its first bytes, not by its name."""
    if stream.peek(2)[:2] == GZIP_MAGIC:
        return io.BufferedReader(gzip.GzipFile(fileobj=stream), 256 * 1024)
    return stream


def line_of(cells: Sequence[str]) -> bytes:
    """A record as one line of CSV (RFC 4180) in UTF-8, without the line end."""
    line = io.StringIO(newline="")
    # The writer quotes what stands in its line end, and cells may hold either half of it.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n").encode()


class CsvFile:
    """The records of a CSV file after its header. Iterate once."""

    def __init__(self, stream: BinaryIO, *, encoding: str, delimiter: str) -> None:
        """Reads the header. Raises NoHeader."""
        self._encoding = encoding
        self._delimiter = delimiter
        self._lines = _physical_lines(stream)
        self._ahead: deque[tuple[int, bytes] | Fault] = deque()
        first = next(self._read(), None)
        if first is None:
            raise NoHeader(Words("the file is empty", "文件为空"))
        if isinstance(first, Fault):
            why = first.reason
            raise NoHeader(Words(f"line {first.line}: {why.en}", f"第 {first.line} 行：{why.zh}"))
        self.columns = [cell.strip() for cell in first.cells]
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            names = ", ".join(map(repr, twice))
            en = f"line {first.line}: a column's name stands there twice: {names}"
            raise NoHeader(Words(en, f"第 {first.line} 行：列名重复：{names}"))

    def __iter__(self) -> Iterator[Record | Fault]:
        wanted = len(self.columns)
        for one in self._read():
            if isinstance(one, Fault) or len(one.cells) == wanted:
                yield one
                continue
            lines = io.BytesIO(one.raw).readlines()
            if len(lines) > 1:
                # A stray quote may have swallowed good lines: give back all but the first.
                self._ahead.extendleft(
                    reversed([(one.line + n, line) for n, line in enumerate(lines[1:], 1)])
                )
                yield Fault(one.line, UNCLOSED)
                continue
            count = len(one.cells)
            why = f"{count} fields where the header has {wanted}"
            yield Fault(one.line, Words(why, f"有 {count} 个字段，表头有 {wanted} 个"))

    def _next(self) -> tuple[int, bytes] | Fault | None:
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def _read(self) -> Iterator[Record | Fault]:
        while (line := self._next()) is not None:
            if isinstance(line, Fault):
                yield line
            elif line[1].strip():
                yield self._record(*line)

    def _record(self, number: int, raw: bytes) -> Record | Fault:
        parsed = self._parse(raw)
        if parsed == UNCLOSED:
            return self._continued(number, raw)
        if isinstance(parsed, Words):
            return Fault(number, parsed)
        return Record(number, parsed, raw)

    def _continued(self, number: int, raw: bytes) -> Record | Fault:
        """A record of several lines; if none comes of it, only its first line is lost."""
        taken: list[tuple[int, bytes] | Fault] = []
        whole = raw
        while len(taken) < MAX_RECORD_LINES and len(whole) < MAX_LINE_BYTES:
            line = self._next()
            if line is None:
                break
            taken.append(line)
            if isinstance(line, Fault):
                break
            whole += line[1]
            if b'"' in line[1]:
                parsed = self._parse(whole)
                if isinstance(parsed, list):
                    return Record(number, parsed, whole)
                if parsed != UNCLOSED:
                    break
        self._ahead.extendleft(reversed(taken))
        return Fault(number, UNCLOSED)

    def _parse(self, raw: bytes) -> list[str] | Words:
        """The cells of one record, or why it is none."""
        try:
            # A byte-order mark is no part of the first column's name, whoever wrote it there.
            text = raw.decode(self._encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            where, bad = error.start + 1, raw[error.start : error.start + 4].hex(" ")
            return Words(
                f"not {self._encoding} at byte {where} of the line ({bad})",
                f"第 {where} 个字节起不是 {self._encoding} 编码（{bad}）",
            )
        if "\0" in text:
            return NUL
        try:
            lines = io.StringIO(text, newline="\n")
            rows = list(csv.reader(lines, delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return UNCLOSED
            return Words(f"malformed: {error}", f"格式错误：{error}")
        return rows[0]


def _physical_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes] | Fault]:
    number = 0
    while True:
        try:
            line = stream.readline(MAX_LINE_BYTES + 1)
            number += 1
            if len(line) > MAX_LINE_BYTES:
                why = Words(f"longer than {MAX_LINE_BYTES} bytes", f"超过 {MAX_LINE_BYTES} 字节")
                yield Fault(number, why)
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_LINE_BYTES)
                continue
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            why = Words(
                f"the compressed file is damaged from here on: {error}",
                f"压缩文件自此处起损坏：{error}",
            )
            yield Fault(number + 1, why)
            return
        if not line:
            return
        yield number, line
