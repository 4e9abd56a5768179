"""What an import of a file would do, without doing it: `chengxin import check`.

The whole file goes through the very import (`api/intake/imports.py`) at a desk that writes nothing,
on the ledger if there is one, else on a ledger that holds the shipped rulebook and lies in no
database. The first rows are kept to be shown as they would be recorded; of all rows is kept what a
person who edits the mapping has to know: each value that a table does not have, each other reason
for which rows would not be recorded, each column that nothing uses. Memory is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from api.importing import opened
from api.intake.csvfile import unpacked
from api.intake.holding import Holding
from api.intake.imports import Import
from api.intake.jsonlines import JsonLines
from api.intake.mapping import Importing
from api.intake.quarantine import Quarantine
from api.intake.rehearsal import ShippedRules, rehearse
from api.intake.rows import Problem, Row, Unread
from api.intake.source import recognised_file, table_of
from api.intake.tally import Account, Outcome, Tally
from api.options import run, tokens_of
from api.settings import Settings
from api.storage import database_of
from api.terminal import Meter, words
from ledger.calendar import local_day
from ledger.database import Database
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.rulebook import Rulebook
from ledger.store import Ledger

MAX_DISTINCT = 1000
"""So many unknown values, and so many reasons, are told apart; the rest is counted."""
EMBEDDED = "pg"
"""The folder of an embedded server that was ever started."""
UNKNOWN_VALUE = "not-in-table"


@dataclass(slots=True)
class Counted:
    """How often something was met, and where first."""

    first_line: int
    example: Problem
    rows: int = 0


@dataclass(slots=True)
class Preview:
    """What an import would do."""

    rows: dict[int, Row | Unread] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    """Both of the first rows, by line."""
    unknown: dict[tuple[str, str], Counted] = field(default_factory=dict)
    """Values that a table does not have, by field and value."""
    reasons: dict[tuple[str, str], Counted] = field(default_factory=dict)
    """Why else rows would not be recorded as they stand, by field and code."""
    untold: int = 0
    """How many of both are not told apart."""
    unused: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    rulebook: Rulebook | None = None

    def take(self, outcome: Outcome) -> None:
        """Note what would become of a row."""
        if outcome.line in self.rows:
            self.outcomes[outcome.line] = outcome
        if outcome.state == "repeated":
            return
        for one in outcome.problems:
            of_value = one.code == UNKNOWN_VALUE
            table = self.unknown if of_value else self.reasons
            key = (one.field, one.value if of_value else one.code)
            if key not in table and len(table) >= MAX_DISTINCT:
                self.untold += 1
                continue
            counted = table.setdefault(key, Counted(outcome.line, one))
            counted.first_line = min(counted.first_line, outcome.line)
            counted.rows += 1


def preview(
    importing: Importing | JsonLines,
    rows: Iterable[Row | Unread],
    desk: Desk,
    *,
    actor: Actor,
    digest: Callable[..., bytes],
    shown: int,
    advance: Callable[[Tally], None],
) -> Preview:
    """Preview rows, of which the first `shown` are kept to be shown.

    `desk` is one that writes nothing. Raises LedgerError.
    """
    found = Preview()
    work = Import(
        desk,
        actor,
        name=importing.name,
        purpose=importing.purpose,
        digest=digest,
        account=Account(answer=found.take),
        advance=advance,
        holding=Holding(
            Quarantine(desk.ledger),
            actor,
            name=importing.name,
            file="",
            recipe=importing.recipe,
            dry_run=True,
        ),
    )

    async def judge() -> None:
        rulebooks = await desk.rulebooks()
        found.rulebook = rulebooks.of(local_day(desk.ledger.clock()))
        found.tally = await work.run(_kept(rows, found.rows, shown))

    run(judge())
    return found


def _kept(
    rows: Iterable[Row | Unread], first: dict[int, Row | Unread], count: int
) -> Iterator[Row | Unread]:
    for row in rows:
        if len(first) < count:
            first[row.line] = row
        yield row


def previewed(
    path: Path,
    importing: Importing | JsonLines | None,
    settings: Settings,
    *,
    actor: Actor,
    shown: int,
    clock: Callable[[], datetime],
) -> tuple[Preview, bool]:
    """Preview a file on the ledger of these settings, and whether there is one; starts none.

    Without a mapping the file must be in a known form, which brings its own. Raises MappingError,
    NoHeader, LedgerError, OSError.
    """
    there = settings.conninfo() is not None or (settings.data_dir / EMBEDDED).exists()
    with ExitStack() as stack:
        raw = stack.enter_context(opened(path))
        table = None
        if importing is None:
            importing, table = recognised_file(raw)
        elif isinstance(importing, Importing):
            table = table_of(raw, importing.source)
        desk, digest = None, plain_digest
        if there:
            database = stack.enter_context(database_of(settings))
            desk = stack.enter_context(_desk_on(database, clock=clock))
        on_ledger = desk is not None
        if desk is None:
            desk = _desk_without_ledger(importing, actor, clock=clock)
        else:
            digest = tokens_of(settings).digest
        if isinstance(importing, JsonLines):
            rows, unused = importing.rows(unpacked(raw)), list[str]()
        else:
            assert table is not None
            rows = importing.rows(table, registered=desk.ledger.registered)
            unused = list(importing.unused(table.columns))
        meter = stack.enter_context(Meter(path.name, words("rows", "行")))
        found = preview(
            importing,
            rows,
            desk,
            actor=actor,
            digest=digest,
            shown=shown,
            advance=lambda tally: meter.advance(tally.rows, part=0, whole=None),
        )
    found.unused = unused
    return found, on_ledger


@contextmanager
def _desk_on(database: Database, *, clock: Callable[[], datetime]) -> Iterator[Desk | None]:
    """A desk on a ledger that writes nothing; None where none was opened. Raises LedgerError."""
    with Ledger(database, clock=clock) as ledger:
        rehearse(ledger, clock)
        yield Desk(ledger) if ledger.head() else None


def _desk_without_ledger(
    importing: Importing | JsonLines, actor: Actor, *, clock: Callable[[], datetime]
) -> Desk:
    """A desk on the shipped rulebook alone."""
    return Desk(ShippedRules(actor, purpose=importing.purpose or "production", clock=clock))


def plain_digest(*parts: bytes) -> bytes:
    """The digest of a request where nothing is ever compared with what is recorded."""
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()
