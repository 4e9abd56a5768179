"""Bulk import of a CSV file against the library's `save()` of single events.

Ours does everything an import does: parse, map, validate, decide, idempotency key, append. The peer
saves one new event of a plain aggregate at a time, as the library's manual does.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import uvloop
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate

from api.csvfile import CsvFile
from api.imports import Import
from api.mapping import load_mapping
from api.options import collect_rarely
from api.security import Tokens
from api.settings import Settings
from api.tally import Account, Tally
from bench.place import ACTOR, Place, Row, tokens_of
from ledger.database import Database
from ledger.events import LedgerOpened
from ledger.handle import Desk
from ledger.rulebook import first_rulebook
from ledger.store import Ledger

ROWS = 20_000
SUBJECTS = 8_000
PEER_EVENTS = 1_000
MAPPING = Path("docs/imports/chicago.toml")
COLUMNS = (
    "inspection_id,license,legal_name,inspection_date,results,"
    "critical_count,serious_count,minor_count"
)


def rows(place: Place) -> Iterable[Row]:
    """Events per second."""
    collect_rarely()  # as the command does
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        tokens = tokens_of(Settings(key_dir=Path(folder) / "keys"))
        events, seconds = runner.run(_import(place.database("importing"), tokens))
    peer = _peer(place.library_environment(place.database("importing_peer")))
    yield Row(
        "bulk import of CSV",
        events / seconds,
        "library's save() of single events",
        peer,
        f"{ROWS:,} rows of {SUBJECTS:,} subjects, {ROWS / seconds:,.0f} rows/s",
    )


async def _import(database: Database, tokens: Tokens) -> tuple[int, float]:
    with Ledger(database) as ledger:
        desk = Desk(ledger)
        opening = LedgerOpened(
            name="bench", origin="localhost/bench", purpose="test-data", rulebook=first_rulebook()
        )
        await desk.open_ledger(opening, ACTOR)
        importing = load_mapping(MAPPING)
        run = Import(
            desk,
            ACTOR,
            name=importing.name,
            purpose=importing.purpose,
            digest=tokens.digest,
            account=Account(_refuse),
        )
        started = time.perf_counter()
        tally: Tally = await run.run(
            importing.rows(CsvFile(_file(), encoding="utf-8", delimiter=","))
        )
        seconds = time.perf_counter() - started
        assert tally.recorded == ROWS, tally
        return tally.recorded + tally.registered, seconds


def _refuse(issue: object) -> None:
    raise AssertionError(issue)


def _file() -> io.BytesIO:
    lines = [COLUMNS]
    results = ("Pass", "Fail", "Pass w/ Conditions")
    for number in range(ROWS):
        subject = number * 7919 % SUBJECTS
        day = f"2014-{number % 12 + 1:02d}-{number % 28 + 1:02d}"
        lines.append(
            f"{number},{subject + 1},COMPANY {subject} INC,{day},{results[number % 3]},0,1,2"
        )
    return io.BytesIO("\n".join(lines).encode())


def _peer(environment: dict[str, str]) -> float:
    application = Application[Any](environment)
    started = time.perf_counter()
    for _ in range(PEER_EVENTS):
        application.save(Aggregate())
    seconds = time.perf_counter() - started
    application.close()
    return PEER_EVENTS / seconds
