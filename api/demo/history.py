"""The history of a demonstration, written down provider by provider and read in the order of time.

Stories are told one after the other, and recorded all at the same time: in between they lie in a
temporary file, so that what is in memory does not grow with the number of providers. The file also
remembers the ids of recorded events, which later steps name. It goes away with its connection;
whoever fills a demonstration after an interruption writes it anew. Knows nothing of the ledger.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

from api.demo.step import COMMANDS
from ledger.events import Data
from ledger.private import groups
from ledger.proposal import Verdict

CACHE_KIB = 32 * 1024
COMMANDS_AT_ONCE = 1_000


class Told(NamedTuple):
    """One command of a provider, when it is recorded, its name, and which earlier one it is about.

    Where there is such a `target`, the command's own stands for it until its event is recorded.
    `second`: the second officer gives it.
    """

    at: datetime
    provider: str
    name: str
    command: Data
    target: str
    second: bool


class Command(NamedTuple):
    """One command that is due, with its number in the plan, and its event's id if recorded."""

    provider: str
    name: str
    data: Data
    number: int
    recorded: str | None
    second: bool


class Moment(NamedTuple):
    """What is recorded at one moment, or a part of it: one command of a provider at most."""

    at: datetime
    commands: list[Command]


class History:
    """All commands of a plan, in a temporary file. Close it when done."""

    def __init__(self, told: Iterable[Told]) -> None:
        # An empty name makes a private file that goes away with the connection.
        self._file = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", f"cache_size = -{CACHE_KIB}"):
            self._file.execute(f"PRAGMA {pragma}")
        for table in (
            "told (at TEXT, provider TEXT, name TEXT, kind TEXT, command BLOB, target TEXT,"
            " second INT, people TEXT)",
            "ids (provider TEXT, name TEXT, id TEXT, PRIMARY KEY (provider, name)) WITHOUT ROWID",
            "recorded (number INTEGER PRIMARY KEY, id TEXT)",
        ):
            self._file.execute(f"CREATE TABLE {table}")
        self._file.execute("BEGIN")
        self._file.executemany("INSERT INTO told VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_row, told))
        self._file.execute("CREATE INDEX told_at ON told (at)")
        [(self.total,)] = self._file.execute("SELECT count(*) FROM told")

    def resume(self, recorded: Iterable[tuple[int, str]]) -> None:
        """Take over the numbers of recorded commands, each with the id of its event."""
        self._file.executemany("INSERT INTO recorded VALUES (?, ?)", recorded)

    def moments(self) -> Iterator[Moment]:
        """Every moment in the order of time; one with very many commands comes in parts.

        The ids of the commands of a part are noted (`note`) before the next one is taken.
        """
        rows = self._file.execute(
            "SELECT at, provider, name, kind, command, target, second FROM told ORDER BY at, rowid"
        )
        first = 1
        for at, of_moment in groupby(rows, itemgetter(0)):
            while part := list(islice(of_moment, COMMANDS_AT_ONCE)):
                recorded: dict[int, str] = dict(
                    self._file.execute(
                        "SELECT number, id FROM recorded WHERE number BETWEEN ? AND ?",
                        (first, first + len(part) - 1),
                    )
                )
                commands = [
                    self._command(row, number, recorded.get(number))
                    for number, row in enumerate(part, first)
                ]
                yield Moment(datetime.fromisoformat(at), commands)
                first += len(part)

    def people(self) -> Iterator[str]:
        """Who is referred to in sealed groups, in the order of time."""
        rows = self._file.execute("SELECT people FROM told WHERE people <> '' ORDER BY at, rowid")
        for (people,) in rows:
            yield from people.split()

    def note(self, ids: Iterable[tuple[str, str, str]]) -> None:
        """Remember the event ids of recorded commands, each by its provider and its name."""
        self._file.executemany("INSERT INTO ids VALUES (?, ?, ?)", ids)

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()

    def _command(self, row: tuple[Any, ...], number: int, recorded: str | None) -> Command:
        _, provider, name, kind, text, target, second = row
        data = COMMANDS[kind].model_validate_json(text)
        if target:
            [(id,)] = self._file.execute(
                "SELECT id FROM ids WHERE provider = ? AND name = ?", (provider, target)
            )
            named = "proposal" if isinstance(data, Verdict) else "target"
            data = data.model_copy(update={named: id})
        return Command(provider, name, data, number, recorded, bool(second))


def _row(told: Told) -> tuple[str | bool, ...]:
    at, provider, name, command, target, second = told
    moment = at.astimezone(UTC).isoformat(timespec="seconds")
    kind, text = type(command).__name__, command.model_dump_json()
    people = " ".join(place.group.person or "" for place in groups(command))
    return moment, provider, name, kind, text, target, second, people
