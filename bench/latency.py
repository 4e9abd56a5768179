"""From commit to view and to a reader of the stream, at 200 events a second.

The writer is this process, the product (`chengxin serve`) another one: it follows the log, and one
client reads its server-sent events. A commit counts from when the writer has its answer; a view,
from when both projections answer for the position, as another connection sees it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import psycopg

from bench.place import ACTOR, Place, Row, opened, penalty, percentile, registration
from bench.served import SETTLED, Served
from ledger.database import Database
from ledger.handle import Desk

EVENTS_PER_SECOND = 200
SECONDS = 8
PROVIDERS = 50
BAR_MILLISECONDS = 100.0
POLL_SECONDS = 0.001
TIMEOUT_SECONDS = 30

Moments = dict[int, float]
"""When something was seen of a position."""


def rows(place: Place) -> Iterable[Row]:
    """Milliseconds: ours over the bar."""
    with opened(place.database("latency")) as desk, Served(desk.ledger.database) as served:
        committed, viewed, streamed = asyncio.run(_measure(desk, served))
    for what, seen in (("view", viewed), ("SSE client", streamed)):
        took = [(seen[position] - at) * 1000 for position, at in committed.items()]
        rate = f"{len(took):,} events at {EVENTS_PER_SECOND}/s"
        note = f"milliseconds, p99; p50 {percentile(took, 50):.1f}; {rate}"
        yield Row(f"commit to {what}", percentile(took, 99), "the bar", BAR_MILLISECONDS, note)


async def _measure(desk: Desk, served: Served) -> tuple[Moments, Moments, Moments]:
    for number in range(PROVIDERS):
        await desk.record(f"HK-CR-{number}", registration(number), ACTOR)
    first = desk.ledger.head()
    last = first + EVENTS_PER_SECOND * SECONDS
    served.caught_up(first)
    async with asyncio.timeout(SECONDS + TIMEOUT_SECONDS), asyncio.TaskGroup() as group:
        streamed = group.create_task(_stream(served, first, last))
        viewed = group.create_task(_view(desk.ledger.database, first, last))
        committed = group.create_task(_write(desk, last - first))
    return committed.result(), viewed.result(), streamed.result()


async def _write(desk: Desk, events: int) -> Moments:
    committed: Moments = {}

    async def one(number: int) -> None:
        receipt = await desk.record(f"HK-CR-{number % PROVIDERS}", penalty(number), ACTOR)
        committed[receipt.position] = time.perf_counter()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(events):
            await asyncio.sleep(started + number / EVENTS_PER_SECOND - time.perf_counter())
            group.create_task(one(number))
    return committed


async def _view(database: Database, first: int, last: int) -> Moments:
    viewed: Moments = {}
    seen = first
    async with await psycopg.AsyncConnection.connect(
        database.conninfo, autocommit=True
    ) as connection:
        while seen < last:
            row = await (await connection.execute(SETTLED, prepare=True)).fetchone()
            assert row is not None
            now = time.perf_counter()
            viewed |= dict.fromkeys(range(seen + 1, row[0] + 1), now)
            seen = row[0]
            await asyncio.sleep(POLL_SECONDS)
    return viewed


async def _stream(served: Served, first: int, last: int) -> Moments:
    streamed: Moments = {}
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=2**20)
    writer.write(
        f"GET /v1/feed?after={first} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        f"Authorization: Bearer {served.subscriber}\r\n\r\n".encode()
    )
    while last not in streamed:
        line = await reader.readline()
        if line.startswith(b"id: "):
            streamed[int(line[4:])] = time.perf_counter()
    writer.close()
    return streamed
