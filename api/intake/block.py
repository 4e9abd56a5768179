"""Rows of an import on their way together, and which of them the file did not hold before."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.intake.rows import Problem, Unread, proof_of
from api.intake.seen import Seen
from api.intake.tally import Account
from api.intake.underway import Waiting
from ledger.errors import Words


@dataclass(slots=True)
class Block:
    """Rows to record, and rows that a person must look at; both in the order of the file."""

    rows: list[Waiting] = field(default_factory=list)
    doubtful: list[Unread] = field(default_factory=list)

    def without_repeated(self, seen: Seen, account: Account) -> Block:
        """The rows whose key no row before them in the file has; the others are told."""
        new = Block()
        rows = [(one.row.subject, one.row.key) for one in self.rows]
        # A row that only registers is told from others by its key alone.
        contents = [b"".join(one.key.digest for one in waiting.commands) for waiting in self.rows]
        firsts = seen.first_of(rows, contents, [one.row.line for one in self.rows])
        for waiting, (line, same) in zip(self.rows, firsts, strict=True):
            row = waiting.row
            if line == row.line:
                new.rows.append(waiting)
            elif same:
                account.repeated(row, line)
            else:
                why = Words(
                    f"the same key as line {line}, but other content",
                    f"关键列与第 {line} 行相同，内容却不同",
                )
                account.refuse(row, [Problem("row.key", "key-taken", why)])
        # Of doubtful rows with one key and other content a person may see which is right.
        doubts = [("", f"{row.key} {proof_of(row.raw).sha256}") for row in self.doubtful]
        firsts = seen.first_of(doubts, [b""] * len(doubts), [row.line for row in self.doubtful])
        for doubtful, (line, _) in zip(self.doubtful, firsts, strict=True):
            if line == doubtful.line:
                new.doubtful.append(doubtful)
            else:
                account.repeated(doubtful, line)
        return new
