"""A million events: `python -m bench load` (`make bench-load`), some ten minutes and 6 GB of disk.

Two ledgers stand on one server, one of about 10,000 and one of about 1,000,000 events, both filled
by `chengxin demo`. What must not grow is measured on both, in turns; what is done once for a whole
ledger, on both, with the memory it takes in a process of its own. Events are counted as they come:
a provider of the demonstration has 27.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from http.client import HTTPConnection
from multiprocessing import get_context
from uuid import uuid4

from eventsourcing.persistence import StoredEvent

from api.options import collect_rarely
from bench import appends, catchup, feeding
from bench.place import Place, Row
from bench.served import Served
from ledger.calendar import local_day
from ledger.database import Database
from ledger.events import provider_stream
from ledger.store import Ledger, system_clock
from projections.runner import advance
from projections.scores import Scores

SIZES = {"10⁴": 370, "10⁶": 37_000}
"""So many providers make about so many events."""
GROWTH_BAR = 1.3
HISTORY_ENDS_DAYS_AGO = 10
SWEPT_DAYS = 5
TURNS = 5
PROVIDERS_ASKED = 40
APPENDERS = 64
KIB = 1024


@dataclass(slots=True)
class Filled:
    """A filled ledger."""

    size: str
    database: Database
    events: int
    providers: list[str]


def rows(place: Place) -> Iterable[Row]:
    """What is done to a whole ledger, small and large; then what must not grow."""
    last = local_day(system_clock()) - timedelta(days=HISTORY_ENDS_DAYS_AGO)
    filled: list[Filled] = []
    for number, (size, providers) in enumerate(SIZES.items()):
        database = place.database(f"load{number}")
        seconds, megabytes = _demo(database, providers, last)
        one = _look(size, database)
        filled.append(one)
        note = f"{one.events:,} events of {providers:,} providers; peak memory {megabytes:,.0f} MB"
        yield Row(f"chengxin demo, {size}", one.events / seconds, note=note)
        yield from _whole(one, last)
    yield from _growth(filled)


def _demo(database: Database, providers: int, last: date) -> tuple[float, float]:
    """Fill by the command; seconds, and the peak memory of its process in MB."""
    main = "from api.cli import main; main()"
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", main, "demo", "--providers", str(providers), "--last", str(last)],
        env=os.environ | {"CHENGXIN_DATABASE_URL": database.conninfo},
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.perf_counter() - started, usage.ru_maxrss / KIB


def _look(size: str, database: Database) -> Filled:
    with Ledger(database) as ledger:
        providers = ledger.rows(
            b"SELECT DISTINCT originator_id FROM ledger.chengxin_events"
            b" WHERE originator_version = 20 ORDER BY 1 LIMIT %s",
            [PROVIDERS_ASKED],
        )
        return Filled(
            size,
            database,
            ledger.head(),
            [one.removeprefix(provider_stream("")) for (one,) in providers],
        )


def _whole(filled: Filled, last: date) -> Iterator[Row]:
    """Catching up, a day's step, and the feed."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        seconds, megabytes = process.submit(_follow, filled.database, last).result()
    note = f"scores and disclosure from position 1; peak memory {megabytes:,.0f} MB"
    yield Row(f"catch-up, {filled.size}", filled.events / seconds, note=note)
    with Ledger(filled.database) as ledger:
        days = [last + timedelta(days=n) for n in range(1, SWEPT_DAYS + 1)]
        swept = [_sweep(ledger, day) for day in days]
    note = f"milliseconds for a day, median of {SWEPT_DAYS}; rows that were due: " + ", ".join(
        str(due) for _, due in swept
    )
    took = statistics.median(seconds for seconds, _ in swept) * 1000
    yield Row(f"a day's step of the scores, {filled.size}", took, note=note)
    with Served(filled.database, worker=False) as served:
        served.caught_up(filled.events)
        for who, token in (("who may see all", served.token), ("subscriber", served.subscriber)):
            rate = feeding.read_all(served.port, token, filled.events)
            yield Row(f"feed to one reader, {filled.size}", rate, "the bar", feeding.BAR, who)


def _follow(database: Database, today: date) -> tuple[float, float]:
    """Catch up as a worker does; seconds, and the peak memory of this process in MB."""
    collect_rarely()
    with Ledger(database) as ledger:
        seconds = catchup.follow(ledger, ledger.head(), today=today)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB


def _sweep(ledger: Ledger, day: date) -> tuple[float, int]:
    """Step to a day; seconds, and how many rows were due."""
    query = b"SELECT count(*) FROM scores_1.scores WHERE next_change_on <= %s"
    [(due,)] = ledger.rows(query, [day])
    with ledger.database.connect() as connection:
        started = time.perf_counter()
        while advance(connection, ledger, Scores(ledger), today=day):
            pass
        return time.perf_counter() - started, due


def _growth(filled: list[Filled]) -> Iterator[Row]:
    """Append, page and score on both ledgers, in turns."""
    with ExitStack() as stack:
        served = [stack.enter_context(Served(one.database, worker=False)) for one in filled]
        pairs = list(zip(filled, served, strict=True))
        for one, server in pairs:
            server.caught_up(one.events)
        day = local_day(system_clock()) - timedelta(days=1)
        paths: dict[str, Callable[[str], str]] = {
            "page of a provider": lambda provider: f"/providers/{provider}",
            "explained score of another day": lambda provider: (
                f"/v1/providers/{provider}/score?as_of={day}"
            ),
        }
        for what, path in paths.items():
            took = [
                [
                    _ask(server, [path(provider) for provider in one.providers])
                    for one, server in pairs
                ]
                for _ in range(TURNS)
            ]
            yield _compared(what, filled, took, f"milliseconds, median; bar {GROWTH_BAR}")
    took = [[1000 / _append(one.database) for one in filled] for _ in range(TURNS)]
    note = f"milliseconds of all {APPENDERS} callers together; bar {GROWTH_BAR}"
    yield _compared("a durable append", filled, took, note)


def _compared(what: str, filled: list[Filled], took: list[list[float]], note: str) -> Row:
    small, large = (statistics.median(turns) for turns in zip(*took, strict=True))
    sizes = [f"{one.size} events" for one in filled]
    return Row(f"{what}, {sizes[1]}", large, sizes[0], small, note)


def _ask(served: Served, paths: list[str]) -> float:
    """The median of milliseconds of requests, one after the other."""
    connection = HTTPConnection("127.0.0.1", served.port)
    took = []
    for path in paths:
        headers = {"Authorization": f"Bearer {served.token}"} if path.startswith("/v1") else {}
        started = time.perf_counter()
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        took.append((time.perf_counter() - started) * 1000)
        assert response.status == 200, (path, body[:200])
    connection.close()
    return statistics.median(took)


def _append(database: Database) -> float:
    with Ledger(database) as ledger:

        def caller() -> Callable[[], object]:
            return lambda: ledger.recorder.insert_events(
                [StoredEvent(str(uuid4()), 1, "bench", appends.STATE)]
            )

        return appends.load(APPENDERS, caller)[0]
