"""What makes a row doubtful besides its own cells: days out of order, and a row too much like it.

A row may be a double in two ways: it has the name of a subject that is known under another
identifier, in the ledger or earlier in the file; or it says what an earlier row of the same file
says, in other words. Only a person can tell. Texts are compared by their letters and digits alone
(NFKC, no case, no spaces, no punctuation), so that width, line breaks and abbreviations do not
matter. Reading a row by itself (`Importing.read`) asks for no double: whoever accepts a doubtful
row has answered that. Knows the names it is given and no ledger.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from api.intake.rows import Problem, Row
from api.intake.seen import CACHE_KIB
from ledger.calendar import read_day
from ledger.errors import Words


class DoublesTable(BaseModel):
    """What a mapping says of doubles: the column of the name, the columns that say all of a row.

    `same_words`: what is written in two ways, each with the one it is compared as.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str | None = None
    row: list[str] = []
    same_words: dict[str, str] = {}

    def columns(self) -> list[str]:
        """The columns it reads."""
        return [*self.row, *([] if self.name is None else [self.name])]


class Doubles:
    """The names and rows of one run so far, in a temporary file. Close it when done."""

    def __init__(self, table: DoublesTable, registered: Iterable[tuple[str, str]]) -> None:
        """`registered`: identifier and name of everybody whom the ledger knows."""
        self._table = table
        self._words = {_plain(one): _plain(other) for one, other in table.same_words.items()}
        # An empty name makes a private file that goes away with the connection.
        self._seen = sqlite3.connect("", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = OFF",
            f"PRAGMA cache_size = -{CACHE_KIB}",
            "CREATE TABLE names (name BLOB, subject TEXT, PRIMARY KEY (name, subject))"
            " WITHOUT ROWID",
            "CREATE TABLE rows (content BLOB PRIMARY KEY, line INTEGER, row TEXT) WITHOUT ROWID",
            "BEGIN",
        ):
            self._seen.execute(statement)
        if table.name is not None:
            self._seen.executemany(
                "INSERT OR IGNORE INTO names VALUES (?, ?)",
                ((self._digest([name]), subject) for subject, name in registered),
            )

    def problems(self, row: Row, cells: Mapping[str, str]) -> list[Problem]:
        """Whose double a row may be. A row without a doubt is remembered for those after it."""
        found = [*self._namesake(row, cells), *self._same_words(row, cells)]
        if not found and self._table.name is not None:
            name = self._digest([cells[self._table.name]])
            self._seen.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", [name, row.subject])
        return found

    def _namesake(self, row: Row, cells: Mapping[str, str]) -> list[Problem]:
        if self._table.name is None:
            return []
        name = self._digest([cells[self._table.name]])
        known = self._seen.execute(
            "SELECT subject FROM names WHERE name = ? ORDER BY subject = ? DESC, subject LIMIT 1",
            [name, row.subject],
        ).fetchone()
        if known is None or known[0] == row.subject:
            return []
        why = Words(
            f"{known[0]} has the same name; accept the row if this is somebody else",
            f"{known[0]} 名称相同；确为不同主体的，请予接受",
        )
        return [Problem("identifier", "possible-double", why, doubtful=True)]

    def _same_words(self, row: Row, cells: Mapping[str, str]) -> list[Problem]:
        if not self._table.row:
            return []
        content = self._digest([cells[column] for column in self._table.row])
        own = f"{row.subject}\n{row.key}"
        self._seen.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", [content, row.line, own])
        line, first = self._seen.execute(
            "SELECT line, row FROM rows WHERE content = ?", [content]
        ).fetchone()
        if first == own:
            return []
        why = Words(
            f"line {line} says the same; accept the row if this is another matter",
            f"与第 {line} 行所述相同；确为另一事项的，请予接受",
        )
        return [Problem("row", "possible-double", why, doubtful=True)]

    def _digest(self, texts: Sequence[str]) -> bytes:
        plain = [_plain(text) for text in texts]
        for one, other in self._words.items():
            plain = [text.replace(one, other) for text in plain]
        return sha256("\n".join(plain).encode()).digest()[:16]

    def close(self) -> None:
        """Remove the temporary file."""
        self._seen.close()


def out_of_order(cells: Mapping[str, str], columns: Sequence[str]) -> list[Problem]:
    """What days (`YYYY-MM-DD`) in these columns, earliest first, contradict each other."""
    days = [(column, day) for column in columns if (day := read_day(cells[column])) is not None]
    return [
        Problem(
            "row",
            "date-order",
            Words(
                f"{later} ({second}) is before {earlier} ({first}); correct or empty one of them",
                f"{later}（{second}）早于 {earlier}（{first}），请更正或清空其一",
            ),
            doubtful=True,
        )
        for (earlier, first), (later, second) in pairwise(days)
        if second < first
    ]


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(filter(str.isalnum, folded))
