"""What became of the rows of an import, one by one and in all.

Every row ends in exactly one state. Knows no file, no HTTP and no terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from api.rows import Problem
from ledger.errors import Words
from ledger.handle import Receipt

State = Literal["recorded", "recorded-before", "repeated", "skipped", "quarantined", "refused"]


class Outcome(NamedTuple):
    """What became of a row. `receipts`: one for each command that is recorded now or was before.

    Of a refused row `problems` are all reasons; of a repeated one the line that came first.
    """

    line: int
    key: str
    state: State
    receipts: Sequence[Receipt] = ()
    problems: Sequence[Problem] = ()


class Issue(NamedTuple):
    """Something to report about a line: where in it, a stable code, the reason in words."""

    line: int
    field: str
    code: str
    reason: Words


@dataclass(slots=True)
class Tally:
    """What became of the rows of a file: each is counted in one of the last five."""

    rows: int = 0
    registered: int = 0
    recorded: int = 0
    already_recorded: int = 0
    repeated: int = 0
    skipped: int = 0
    refused: int = 0
