"""Durable single appends by 8, 32 and 64 blocking callers.

Ours: the recorder's `insert_events`, the very interface the library's default recorder has.
Peers: that default recorder, and one plain INSERT a row on a connection of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from uuid import uuid4

import psycopg
from eventsourcing.persistence import InfrastructureFactory, StoredEvent
from eventsourcing.utils import Environment

from bench.place import Place, Row
from ledger.database import Database
from ledger.store import Ledger

STATE = b'{"x":"' + b"y" * 1_000 + b'"}'
SECONDS = 1.5


def rows(place: Place) -> Iterable[Row]:
    """One row for each number of callers and each peer."""
    database = place.database("appends")
    with Ledger(database) as ledger:
        for callers in (8, 32, 64):
            ours, p99 = load(callers, lambda: _append(ledger.recorder.insert_events))
            library = _library(place, database, callers)
            plain = _plain(database, callers)
            what = f"durable single appends, {callers} callers"
            yield Row(what, ours, "library's default recorder", library, f"our p99 {p99:.1f} ms")
            yield Row(what, ours, "one-row inserts", plain)


def load(callers: int, caller: Callable[[], Callable[[], object]]) -> tuple[float, float]:
    """Operations per second over all callers, and the 99th percentile in milliseconds."""
    took: list[float] = []
    stop = threading.Event()

    def run() -> None:
        once = caller()
        mine = []
        while not stop.is_set():
            started = time.perf_counter()
            once()
            mine.append(time.perf_counter() - started)
        took.extend(mine)

    threads = [threading.Thread(target=run) for _ in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    took.sort()
    return len(took) / seconds, took[int(len(took) * 0.99)] * 1000


def _append(insert: Callable[[list[StoredEvent]], object]) -> Callable[[], object]:
    return lambda: insert([StoredEvent(str(uuid4()), 1, "bench", STATE)])


def _library(place: Place, database: Database, callers: int) -> float:
    environment = place.library_environment(database) | {"ORIGINATOR_ID_TYPE": "text"}
    factory = InfrastructureFactory.construct(Environment(f"peer{callers}", environment))
    recorder = factory.application_recorder()
    rate, _ = load(callers, lambda: _append(recorder.insert_events))
    factory.close()
    return rate


def _plain(database: Database, callers: int) -> float:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(
            f"CREATE TABLE plain{callers} (id text PRIMARY KEY, state bytea,"
            " position bigserial UNIQUE)".encode()
        )

    def caller() -> Callable[[], object]:
        connection = psycopg.connect(database.conninfo, autocommit=True)
        statement = f"INSERT INTO plain{callers} (id, state) VALUES (%s, %b)".encode()
        return lambda: connection.execute(statement, [str(uuid4()), STATE])

    rate, _ = load(callers, caller)
    return rate
