"""The answers to the lines of one import, in the order of the lines, kept until all are there.

Lines are settled in any order. An answer is written as soon as all before it are: into memory, and
beyond a mebibyte into a temporary file, so that memory is bounded however many lines there are.
Nothing is sent while the body still comes: a client that sends all before it reads would wait for
us to read while we wait for it. Knows no ledger and no connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, StringConstraints

from api import problems
from api.answers import Answer, Problem
from api.intake.rows import Row, Unread
from api.intake.tally import Outcome, Tally
from api.problems import Language
from ledger.errors import LedgerError
from ledger.identity import Ref

Rows = AsyncGenerator[Row | Unread, None]

PROBLEMATIC = ("refused", "quarantined", "quarantined-before")
IN_MEMORY_BYTES = 1024 * 1024
PART_BYTES = 64 * 1024


class LineProblem(Answer):
    """What is wrong with a line: `field` says where, `errors` has all where there are several."""

    type: Annotated[str, StringConstraints(pattern=r"^/problems/[a-z-]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    code: Annotated[str, StringConstraints(pattern=r"^[a-z-]+$")]
    field: str
    detail: str
    advice: str
    errors: list[dict[Literal["field", "code", "detail"], str]] = Field(default=[])


class LineAnswer(Answer):
    """What became of one line: of each that is not blank there is one, in their order."""

    line: Annotated[int, Field(ge=1)]
    key: str | None = Field(description="None where the line has none that could be read.")
    state: Literal[
        "recorded",
        "proposed",
        "recorded-before",
        "repeated",
        "quarantined",
        "quarantined-before",
        "rejected-before",
        "refused",
        "unknown",
    ] = Field(description="`unknown` only where the import ended early: send the line again.")
    position: Annotated[int | None, Field(ge=1)] = Field(
        default=None, description="Where its event stands, and"
    )
    id: Ref | None = Field(default=None, description="the event's id: of what is recorded.")
    first_line: int | None = Field(default=None, description="The line that this one repeats.")
    quarantine: int | None = Field(
        default=None, description="The number under which it waits for a person, or waited."
    )
    problem: LineProblem | None = None


class ImportSummary(Answer):
    """The last line: how many lines ended how, and whether the body was read to its end."""

    complete: bool
    lines: int
    registered: int
    recorded: int
    proposed: int = Field(description="Of those recorded: what awaits a second officer.")
    recorded_before: int
    repeated: int
    quarantined: int
    quarantined_before: int
    rejected_before: int
    refused: int
    unknown: int
    problem: Problem | None = Field(default=None, description="Why it is not complete.")


class LineAnswers:
    """Answers in the order of the lines. Close it when done."""

    def __init__(self, language: Language, *, limit: int) -> None:
        """`limit`: how many bytes the answers may take; then no more lines are taken on."""
        self.last_line = 0
        self.unknown = 0
        self.positions: list[int] = []
        """The first and the last that a line has got now; nothing before one has."""
        self._language = language
        self._limit = limit
        self._size = 0
        self._expected: deque[tuple[int, str]] = deque()
        self._settled: dict[int, bytes] = {}
        self._written = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 see close

    @property
    def full(self) -> bool:
        """Whether the answers take as much as they may."""
        return self._size > self._limit

    async def expected(self, rows: Rows) -> Rows:
        """The rows, each of them noted as one that must be answered, until there is no room."""
        async with aclosing(rows):
            async for row in rows:
                self.last_line = row.line
                self._expected.append((row.line, row.key))
                yield row
                if self.full:
                    return

    def settle(self, outcome: Outcome) -> None:
        """What became of a line."""
        got = [one.position for one in outcome.receipts if not one.repeated]
        if got:
            known = [*self.positions, *got]
            self.positions = [min(known), max(known)]
        self._settled[outcome.line] = self._told(outcome)
        while self._expected and (text := self._settled.pop(self._expected[0][0], None)):
            self._expected.popleft()
            self._write(text)

    def end(self, tally: Tally, ended_by: LedgerError | None) -> None:
        """The last line; before it, the lines of which nobody knows what became of them."""
        for line, key in self._expected:
            text = self._settled.get(line)
            self.unknown += text is None
            self._write(text or _line({"line": line, "key": key or None, "state": "unknown"}))
        self._expected.clear()
        summary: dict[str, Any] = {
            "complete": ended_by is None,
            "lines": tally.rows,
            "registered": tally.registered,
            "recorded": tally.recorded,
            "proposed": tally.proposed,
            "recorded_before": tally.already_recorded,
            "repeated": tally.repeated,
            "quarantined": tally.quarantined,
            "quarantined_before": tally.already_quarantined,
            "rejected_before": tally.already_rejected,
            "refused": tally.refused,
            "unknown": self.unknown,
        }
        if ended_by is not None:
            summary["problem"] = problems.document(ended_by, self._language)
        self._write(_line(summary))

    @property
    def size(self) -> int:
        """The length of all answers in bytes."""
        return self._size

    def parts(self) -> Iterator[bytes]:
        """All that was written."""
        self._written.seek(0)
        while part := self._written.read(PART_BYTES):
            yield part

    def close(self) -> None:
        """Remove what was kept."""
        self._written.close()

    def _write(self, text: bytes) -> None:
        self._size += len(text)
        self._written.write(text)

    def _told(self, outcome: Outcome) -> bytes:
        told: dict[str, Any] = {
            "line": outcome.line,
            "key": outcome.key or None,
            "state": outcome.state,
        }
        for receipt in outcome.receipts:
            told |= {"position": receipt.position, "id": receipt.id}
        if outcome.first_line is not None:
            told["first_line"] = outcome.first_line
        if outcome.quarantine is not None:
            told["quarantine"] = outcome.quarantine
        if outcome.state in PROBLEMATIC:
            told["problem"] = problems.of_line(outcome.problems, self._language)
        return _line(told)


def _line(content: dict[str, Any]) -> bytes:
    return orjson.dumps(content) + b"\n"
