"""One import as the operator sees it: the file, the bar, the issues, what became of every row."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import orjson

from api.csvfile import CsvFile, unpacked
from api.imports import Import
from api.mapping import Importing
from api.options import run
from api.outcome import Issue, Tally
from api.rehearsal import Rehearsal
from api.terminal import USAGE, Meter, fail, tell, told, words
from ledger.database import Database
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.store import Ledger


def take_in(
    path: Path,
    importing: Importing,
    database: Database,
    *,
    actor: Actor,
    digest: Callable[..., bytes],
    clock: Callable[[], datetime],
    dry_run: bool,
    report: Path | None,
) -> Tally:
    """Import a file; issues go to stderr and, as JSON Lines, to `report`.

    Raises MappingError, NoHeader, LedgerError, OSError.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        whole = path.stat().st_size if path.is_file() else None
        file = CsvFile(
            unpacked(raw),
            encoding=importing.source.encoding,
            delimiter=importing.source.delimiter,
        )
        rows = importing.rows(file)
        ledger = stack.enter_context(Ledger(database, clock=clock))
        if dry_run:
            ledger.appender.close()
            ledger.appender = Rehearsal(clock)
        issues = stack.enter_context(_opened(report)) if report is not None else None
        meter = stack.enter_context(Meter(path.name, words("rows", "行")))

        def advance(tally: Tally) -> None:
            part = min(raw.tell(), whole) if whole else 0
            meter.advance(tally.rows, part=part, whole=whole)

        work = Import(
            Desk(ledger),
            actor,
            name=importing.name,
            purpose=importing.purpose,
            digest=digest,
            tell=lambda issue: _report(issue, path.name, issues),
            advance=advance,
        )
        tally = run(work.run(rows))
        tell(summary(tally, dry_run=dry_run) + meter.pace())
    return tally


def summary(tally: Tally, *, dry_run: bool) -> str:
    """What became of the rows, in words."""
    done = words("would be recorded", "行将记录") if dry_run else words("recorded", "行已记录")
    subjects = "subject" if tally.registered == 1 else "subjects"
    parts = [
        f"{tally.rows:,} {words('row' if tally.rows == 1 else 'rows', '行')}",
        f"{tally.recorded:,} {done}",
        f"{tally.registered:,} {words(f'{subjects} new', '个新主体')}",
        f"{tally.already_recorded:,} {words('recorded before', '行此前已记录')}",
        f"{tally.repeated:,} {words('repeated in the file', '行在文件中重复')}",
        f"{tally.skipped:,} {words('skipped', '行跳过')}",
        f"{tally.refused:,} {words('refused', '行被拒绝')}",
    ]
    return words(", ", "，").join(parts)


def _opened(report: Path) -> BinaryIO:
    try:
        return report.open("wb")
    except OSError as error:
        fail(USAGE, f"--report {report}: {error.strerror}")


def _report(issue: Issue, name: str, file: BinaryIO | None) -> None:
    tell(f"{name}:{issue.line}: {issue.field}: {told(issue.reason)} [{issue.code}]")
    if file is not None:
        entry = {
            "line": issue.line,
            "field": issue.field,
            "code": issue.code,
            "reason": issue.reason.en,
            "reason_zh": issue.reason.zh,
        }
        file.write(orjson.dumps(entry) + b"\n")
        file.flush()
