"""Rows on their way into the ledger: understood, or not, and then why.

What every source of rows (a file through a mapping or a form, JSON Lines) gives to
`imports.py`. A row is understood whole, or refused with every reason, or, where a person who
looks at it could answer each of them, quarantined. Knows no file and no ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from ledger.errors import Words
from ledger.events import Data


class Problem(NamedTuple):
    """What is wrong with a row, or was repaired: the field of the command, a code, words.

    `doubtful`: a person who looks at the row can say what is right. `value` is what stands there,
    where a table lacks it.
    """

    field: str
    code: str
    reason: Words
    doubtful: bool = False
    value: str = ""


class Proof(NamedTuple):
    """What a row's bytes are proven by, once they themselves are gone."""

    sha256: str
    size_bytes: int


def proof_of(raw: bytes | Proof) -> Proof:
    """The proof of a row as it stands in its file, without the line end."""
    if isinstance(raw, Proof):
        return raw
    row = raw.rstrip(b"\r\n")
    return Proof(sha256(row).hexdigest(), len(row))


class Entry(NamedTuple):
    """One command of a row. `key` tells it from every other command of this import."""

    data: Data
    key: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row understood: whom it is about, how to register them, what to record.

    `key` tells it from all other rows of the same subject; `notes` say what was repaired; `raw` is
    the row as it was read.
    """

    line: int
    key: str
    subject: str
    registration: Data | None
    entries: Sequence[Entry]
    notes: Sequence[Problem] = ()
    raw: bytes | Proof = b""


@dataclass(frozen=True, slots=True)
class Unread:
    """A row that was not understood, for these reasons; `subject` is what stands there.

    `cells` and `raw` are the row as it was read, without what must not be kept.
    """

    line: int
    problems: Sequence[Problem]
    key: str = ""
    subject: str = ""
    cells: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | Proof = b""

    @property
    def doubtful(self) -> bool:
        """Whether a person could answer everything that is wrong with it."""
        return all(one.doubtful for one in self.problems)


def size_of(row: Row | Unread) -> int:
    """About how many bytes of its file a row holds."""
    return len(row.raw) if isinstance(row.raw, bytes) else 0
