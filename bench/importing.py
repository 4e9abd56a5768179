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

import psycopg
import uvloop
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate

from api.intake.csvfile import CsvFile
from api.intake.imports import Import
from api.intake.mapping import load_mapping
from api.intake.tally import Account, Tally
from api.security import Tokens
from api.settings import Settings
from bench.place import ACTOR, Place, Row, opened, tokens_of
from ledger.database import Database
from ledger.handle import Desk

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
    database = place.database("importing")
    with (
        tempfile.TemporaryDirectory() as folder,
        opened(database, purpose="test-data") as desk,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        tokens = tokens_of(Settings(key_dir=Path(folder) / "keys"))
        events, seconds = runner.run(_import(desk, tokens))
    ours = events / seconds
    peer = _peer(place.library_environment(place.database("importing_peer")))
    note = f"{ROWS:,} rows of {SUBJECTS:,} subjects, {ROWS / seconds:,.0f} rows/s"
    yield Row("bulk import of CSV", ours, "library's save() of single events", peer, note)
    yield Row("bulk import of CSV", ours, "plain COPY of the same rows", _copy(database))


async def _import(desk: Desk, tokens: Tokens) -> tuple[int, float]:
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
    tally: Tally = await run.run(importing.rows(CsvFile(_file(), encoding="utf-8", delimiter=",")))
    seconds = time.perf_counter() - started
    assert tally.recorded == ROWS, tally
    return tally.recorded + tally.registered, seconds


def _refuse(issue: object) -> None:
    raise AssertionError(issue)


def _copy(database: Database) -> float:
    """Rows per second into a table like ours, with its indexes, in one transaction."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE copied (LIKE ledger.chengxin_events INCLUDING ALL)")
        with connection.cursor().copy(
            "COPY ledger.chengxin_events TO STDOUT (FORMAT binary)"
        ) as it:
            blocks = [bytes(block) for block in it]
        started = time.perf_counter()
        with connection.cursor().copy("COPY copied FROM STDIN (FORMAT binary)") as copy:
            for block in blocks:
                copy.write(block)
        seconds = time.perf_counter() - started
        [(copied,)] = connection.execute("SELECT count(*) FROM copied").fetchall()
    return int(copied) / seconds


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
