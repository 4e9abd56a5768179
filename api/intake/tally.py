"""What became of the rows of an import: counted, told as issues, answered one by one.

Every row ends in exactly one state. Knows nothing of how rows are recorded or kept, and no file,
no HTTP and no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from api.intake.recordable import awaits_second
from api.intake.rows import Problem, Row, Unread
from ledger.errors import KeyReused, LedgerError, Words
from ledger.handle import Receipt

RECORDED_OTHERWISE = Words(
    "the row was recorded before, with other content", "该行此前已有记录，但内容不同"
)
REJECTED = Words("a person rejected the row in quarantine", "该行此前已在待核区由人工退回")

State = Literal[
    "recorded",
    "repaired",
    "proposed",
    "recorded-before",
    "repeated",
    "skipped",
    "quarantined",
    "quarantined-before",
    "rejected-before",
    "refused",
]
"""What a row came to; a repaired or proposed one is recorded too."""


class Outcome(NamedTuple):
    """What became of a row. `receipts`: one for each command that is recorded now or was before.

    `problems`: all reasons against it, or all that was repaired. `quarantine` is the number under
    which it is kept for a person; `first_line` of a repeated row is the one that came first.
    """

    line: int
    key: str
    state: State
    receipts: Sequence[Receipt] = ()
    problems: Sequence[Problem] = ()
    quarantine: int | None = None
    first_line: int | None = None


class Issue(NamedTuple):
    """Something to report about a line: where in it, a stable code, the reason in words.

    `quarantine` is the number under which the row is kept for a person.
    """

    line: int
    field: str
    code: str
    reason: Words
    state: State = "refused"
    quarantine: int | None = None


@dataclass(slots=True)
class Tally:
    """What became of the rows of a file: each is counted in one of the last eight.

    `registered` subjects are new; `repaired` rows are among those `recorded`, and so are those
    `proposed`, which await a second officer.
    """

    rows: int = 0
    registered: int = 0
    repaired: int = 0
    proposed: int = 0
    recorded: int = 0
    already_recorded: int = 0
    repeated: int = 0
    skipped: int = 0
    quarantined: int = 0
    already_quarantined: int = 0
    already_rejected: int = 0
    refused: int = 0

    @property
    def unsettled(self) -> int:
        """The rows that somebody still has to do something about."""
        return self.refused + self.quarantined + self.already_quarantined


class Account:
    """Counts every row in its tally, tells what is to be told of it, and answers it once."""

    def __init__(
        self,
        tell: Callable[[Issue], None] = lambda issue: None,
        *,
        answer: Callable[[Outcome], None] | None = None,
    ) -> None:
        self.tally = Tally()
        self.answers = answer is not None
        """Whether somebody wants to know of every row, and not of issues alone."""
        self._tell = tell
        self._answer = answer

    def refuse(self, row: Row | Unread, problems: Sequence[Problem]) -> None:
        """The row is refused, for these reasons."""
        self.tally.refused += 1
        self._close(Outcome(row.line, row.key, "refused", problems=problems))

    def refuse_by(self, row: Row, error: LedgerError) -> None:
        """The ledger refused the row."""
        # A row's key is of our own making: nobody who imports has seen it.
        ours = isinstance(error, KeyReused)
        reason = RECORDED_OTHERWISE if ours else Words(str(error), error.chinese())
        field = str(error.facts.get("field", "record"))
        self.refuse(row, [Problem(field, error.code, reason)])

    def recorded(self, row: Row, receipts: Sequence[Receipt], *, new: bool) -> None:
        """The row is recorded: now, or before."""
        self.tally.recorded += new
        self.tally.already_recorded += not new
        proposed = new and any(awaits_second(one.data) for one in row.entries)
        notes = row.notes if new else ()
        self.tally.proposed += proposed
        self.tally.repaired += bool(notes)
        state: State = "recorded" if new else "recorded-before"
        if proposed:
            state = "proposed"
        elif notes:
            state = "repaired"
        self._close(Outcome(row.line, row.key, state, receipts, notes))

    def recorded_before(self, row: Row | Unread) -> None:
        """A person accepted the row in quarantine."""
        self.tally.already_recorded += 1
        self._close(Outcome(row.line, row.key, "recorded-before"))

    def skipped(self, row: Row) -> None:
        """Nothing of the row is to be recorded."""
        self.tally.skipped += 1
        self._close(Outcome(row.line, row.key, "skipped"))

    def repeated(self, row: Row | Unread, first: int) -> None:
        """The row is the same as an earlier one of the file."""
        self.tally.repeated += 1
        why = Words(f"the same row as line {first}", f"与第 {first} 行相同")
        outcome = Outcome(row.line, row.key, "repeated", problems=[Problem("row", "repeated", why)])
        self._close(outcome._replace(first_line=first))

    def quarantined(self, row: Unread, number: int | None) -> None:
        """The row is kept for a person under a number (None in a dry run)."""
        self.tally.quarantined += 1
        outcome = Outcome(row.line, row.key, "quarantined", problems=row.problems)
        self._close(outcome._replace(quarantine=number))

    def quarantined_before(
        self, row: Row | Unread, problems: Sequence[Problem], number: int
    ) -> None:
        """The row waits in quarantine since an earlier run, for these reasons."""
        self.tally.already_quarantined += 1
        outcome = Outcome(row.line, row.key, "quarantined-before", problems=problems)
        self._close(outcome._replace(quarantine=number))

    def rejected_before(self, row: Row | Unread, number: int) -> None:
        """A person rejected the row."""
        self.tally.already_rejected += 1
        problems = [Problem("row", "rejected", REJECTED)]
        outcome = Outcome(row.line, row.key, "rejected-before", problems=problems)
        self._close(outcome._replace(quarantine=number))

    def _close(self, outcome: Outcome) -> None:
        for one in outcome.problems:
            self._tell(
                Issue(
                    outcome.line, one.field, one.code, one.reason, outcome.state, outcome.quarantine
                )
            )
        if self._answer is not None:
            self._answer(outcome)
