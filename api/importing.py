"""One import as the operator sees it: the file, the bar, the issues, what became of every row."""

from __future__ import annotations

import io
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from api.intake.csvfile import unpacked
from api.intake.holding import Holding
from api.intake.imports import Import
from api.intake.jsonlines import BOM, JsonLines
from api.intake.mapping import Importing
from api.intake.quarantine import Quarantine
from api.intake.rehearsal import rehearse
from api.intake.rows import Row, Unread
from api.intake.source import recognised_file, table_of
from api.intake.tally import Account, Issue, State, Tally
from api.options import run
from api.terminal import USAGE, Meter, fail, tell, told, words
from ledger.errors import Words
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.store import Ledger

STANDARD_INPUT = Path("-")
NAMED_AS_LINES = re.compile(r"\.(jsonl|ndjson)(\.gz)?$", re.IGNORECASE)

BECAME: dict[State, Words] = {
    "repaired": Words("repaired", "已修补"),
    "proposed": Words("proposed", "已提请"),
    "quarantined": Words("to quarantine", "转入待核"),
    "quarantined-before": Words("in quarantine", "待核中"),
    "rejected-before": Words("quarantine", "待核"),
}
"""What became of a row that was neither recorded as it stands nor refused; its number follows."""


def take_in(
    path: Path,
    importing: Importing | JsonLines | None,
    ledger: Ledger,
    *,
    actor: Actor,
    digest: Callable[..., bytes],
    clock: Callable[[], datetime],
    dry_run: bool,
    report: Path | None,
) -> Tally:
    """Import a file (`-`: standard input); issues go to stderr and, as JSON Lines, to `report`.

    After a dry run the ledger writes nothing any more. Without a mapping the file must be in a
    known form, which brings its own.

    Raises MappingError, NoHeader, LedgerError, OSError.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(opened(path))
        whole = path.stat().st_size if path.is_file() else None
        if dry_run:
            rehearse(ledger, clock)
        importing, rows = rows_of(importing, raw, registered=ledger.registered)
        issues = stack.enter_context(_opened(report)) if report is not None else None
        meter = stack.enter_context(Meter(path.name, words("rows", "行")))

        def advance(tally: Tally) -> None:
            part = min(raw.tell(), whole) if whole else 0
            meter.advance(tally.rows, part=part, whole=whole)

        holding = Holding(
            Quarantine(ledger),
            actor,
            name=importing.name,
            file=path.name,
            recipe=importing.recipe,
            dry_run=dry_run,
        )
        work = Import(
            Desk(ledger),
            actor,
            name=importing.name,
            purpose=importing.purpose,
            digest=digest,
            account=Account(lambda issue: _report(issue, path.name, issues)),
            advance=advance,
            holding=holding,
        )
        tally = run(work.run(rows))
        tell(summary(tally, dry_run=dry_run) + meter.pace())
    return tally


def opened(path: Path) -> io.BufferedReader:
    """The bytes of a file; of standard input where its name is `-`."""
    if path == STANDARD_INPUT:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    return path.open("rb")


def rows_of(
    importing: Importing | JsonLines | None,
    raw: io.BufferedReader,
    *,
    registered: Callable[[], Iterable[tuple[str, str]]] = tuple,
) -> tuple[Importing | JsonLines, Iterator[Row | Unread]]:
    """The rows of a file, and how they are read; a file in a known form brings that along.

    `registered`: whom the ledger knows, for `Importing.rows`. Raises NoHeader, MappingError.
    """
    if isinstance(importing, JsonLines):
        return importing, importing.rows(unpacked(raw))
    if importing is None:
        importing, table = recognised_file(raw)
    else:
        table = table_of(raw, importing.source)
    rows = importing.rows(table, registered=registered)
    if importing.form is not None and (unread := ", ".join(importing.unused(table.columns))):
        tell(words(f"columns that are not read: {unread}", f"以下列不予读取：{unread}"))
    return importing, rows


def looks_like_lines(path: Path) -> bool:
    """Whether a file without a mapping holds JSON Lines: by its name, else by how it begins.

    Raises OSError.
    """
    if path == STANDARD_INPUT or NAMED_AS_LINES.search(path.name):
        return True
    with path.open("rb") as raw:
        try:
            return unpacked(raw).read(len(BOM) + 1).removeprefix(BOM).startswith(b"{")
        except (EOFError, zlib.error):
            # Damaged: whoever reads it as a table tells so.
            return False


def summary(tally: Tally, *, dry_run: bool) -> str:
    """What became of the rows, in words."""
    done = words("would be recorded", "行将记录") if dry_run else words("recorded", "行已记录")
    subjects = "subject" if tally.registered == 1 else "subjects"
    kept = words("to quarantine", "行将转入待核") if dry_run else words("quarantined", "行转入待核")
    parts = [
        f"{tally.rows:,} {words('row' if tally.rows == 1 else 'rows', '行')}",
        f"{tally.recorded:,} {done}",
        *_where_any(
            tally.proposed,
            words("of them proposed, awaiting a second officer", "行系提请，待另一名工作人员决定"),
        ),
        *_where_any(tally.repaired, words("of them repaired", "行系修补后记录")),
        f"{tally.registered:,} {words(f'{subjects} new', '个新主体')}",
        f"{tally.already_recorded:,} {words('recorded before', '行此前已记录')}",
        f"{tally.repeated:,} {words('repeated in the file', '行在文件中重复')}",
        f"{tally.skipped:,} {words('skipped', '行跳过')}",
        f"{tally.quarantined:,} {kept}",
        *_where_any(tally.already_quarantined, words("quarantined before", "行此前已转入待核")),
        *_where_any(tally.already_rejected, words("rejected before", "行此前已由人工退回")),
        f"{tally.refused:,} {words('refused', '行被拒绝')}",
    ]
    return words(", ", "，").join(parts)


def _where_any(count: int, what: str) -> list[str]:
    return [f"{count:,} {what}"] if count else []


def _became(issue: Issue) -> str:
    """What became of the row, in brackets, where it was not simply refused."""
    if issue.state not in BECAME:
        return ""
    number = "" if issue.quarantine is None else f" {issue.quarantine}"
    text = told(BECAME[issue.state])
    return words(f" ({text}{number})", f"（{text}{number}）")


def _opened(report: Path) -> BinaryIO:
    try:
        return report.open("wb")
    except OSError as error:
        fail(USAGE, f"--report {report}: {error.strerror}")


def _report(issue: Issue, name: str, file: BinaryIO | None) -> None:
    tell(f"{name}:{issue.line}: {issue.field}: {told(issue.reason)} [{issue.code}]{_became(issue)}")
    if file is not None:
        entry = {
            "line": issue.line,
            "field": issue.field,
            "code": issue.code,
            "reason": issue.reason.en,
            "reason_zh": issue.reason.zh,
            "state": issue.state,
            "quarantine": issue.quarantine,
        }
        file.write(orjson.dumps(entry) + b"\n")
        file.flush()
