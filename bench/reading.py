"""What a read costs for being judged and recorded: the share of the judgement, and the record.

The judgement is measured where it is made: what the projection gives a reader, less what the same
events take to read without asking who reads, as a share of the same read over HTTP (without any
record). The record is the difference between two reads of the same role at 32 connections: of an
event that everybody sees, and of one that is for the parties and is recorded, durably, first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from statistics import median
from typing import Any, NamedTuple

import orjson
import uvloop

from bench.catchup import fill
from bench.http import CONNECTIONS, TURNS, load
from bench.place import ACTOR, Place, Row, opened
from bench.sealing import contract
from bench.served import Served
from ledger.calendar import local_day
from ledger.events import provider_stream
from ledger.handle import Desk
from ledger.store import Ledger
from projections.disclosure import Disclosure
from projections.rights import PUBLIC, Reader

PROVIDERS = 300
ROUNDS = 60
WARMING = 50
"""On each of the pool's eight connections the server plans a query anew five times."""
BAR_PERCENT = 5.0
PAGE = 1_000


class Asked(NamedTuple):
    """One read: its address, and the same lines with and without asking who reads."""

    what: str
    path: str
    judged: Callable[[Reader], object]
    plain: Callable[[], object]


def rows(place: Place) -> Iterable[Row]:
    """Percent of a read, and requests per second."""
    with opened(place.database("reading")) as desk, Served(desk.ledger.database) as served:
        asyncio.run(fill(desk, PROVIDERS))
        asyncio.run(_add_contracts(desk))
        served.caught_up(desk.ledger.head())
        yield from _judgements(desk.ledger, served)
        yield _records(desk.ledger, served)


def _judgements(ledger: Ledger, served: Served) -> Iterator[Row]:
    disclosure, today = Disclosure(ledger), local_day(ledger.clock())
    public, _ = _one_of_each(ledger)
    subject = str(public["subject"])
    at = int(public["position"])
    asked = [
        Asked(
            "one event",
            f"/v1/events/{at}",
            lambda reader: disclosure.line(at, reader, today=today),
            lambda: [_line(one) for one in ledger.read(at - 1, 1)],
        ),
        Asked(
            "the events of a provider",
            f"/v1/providers/{subject}/events",
            lambda reader: disclosure.look(0, 100, reader, today=today, subject=subject),
            lambda: [_line(o) for o in ledger.read_stream_after(provider_stream(subject), 0, 500)],
        ),
        Asked(
            f"a page of {PAGE:,} lines of the feed",
            f"/v1/feed?limit={PAGE}",
            lambda reader: disclosure.look(0, PAGE, reader, today=today),
            lambda: [_line(one) for one in ledger.read(0, PAGE)],
        ),
    ]
    registrar = Reader(ACTOR.role, ACTOR.organisation)
    provider = Reader("provider", subject)
    readers = {"who may see all": registrar, "the provider itself": provider, "the public": PUBLIC}
    for one in asked:
        calls: list[Callable[[], object]] = [one.plain]
        calls += [partial(one.judged, reader) for reader in readers.values()]
        plain, *judged = _milliseconds(calls)
        served.milliseconds(one.path, served.subscriber, WARMING)
        http = served.milliseconds(one.path, served.subscriber, ROUNDS)
        whole = http - (judged[-1] - plain)
        for who, took in zip(readers, judged, strict=True):
            more = took - plain
            note = f"percent of {whole:.2f} ms; {more * 1000:,.0f} µs more than {plain:.2f} ms"
            share = max(0.0, more / whole * 100)
            yield Row(f"judging {one.what}: {who}", share, "the bar", BAR_PERCENT, note)


async def _add_contracts(desk: Desk) -> None:
    """One event in eleven is for the parties only."""
    for number in range(PROVIDERS):
        await desk.record(f"HK-CR-{number}", contract(number, persons=0), ACTOR)


def _records(ledger: Ledger, served: Served) -> Row:
    public, party = (int(one["position"]) for one in _one_of_each(ledger))
    rates = [
        [
            uvloop.run(load(served.port, [repeat(_get(at, served.token))] * CONNECTIONS))
            for at in (party, public)
        ]
        for _ in range(TURNS)
    ]
    recorded, plain = (sum(figures) / TURNS for figures in zip(*rates, strict=True))
    return Row(
        "reads of one event that are recorded first",
        recorded,
        "the same read of what is public",
        plain,
        f"{CONNECTIONS} connections, who may see all",
    )


def _one_of_each(ledger: Ledger) -> tuple[dict[str, Any], dict[str, Any]]:
    """An event that is shown to everybody, and one for the parties."""
    events = [
        orjson.loads(_line(one)) | {"position": one.position} for one in ledger.read(1, 5_000)
    ]
    public = next(one for one in events if one["type"].endswith("penalty.imposed.v1"))
    return public, next(one for one in events if one["visibility"] == "party")


def _line(stored: Any) -> bytes:
    return b'{"sequence":"%020d",%b' % (stored.position, stored.state[1:])


def _get(position: int, token: str) -> bytes:
    head = f"GET /v1/events/{position} HTTP/1.1\r\nHost: localhost\r\n"
    return f"{head}Authorization: Bearer {token}\r\n\r\n".encode()


def _milliseconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The median of how long each call takes, in turns, each time another one first."""
    took: list[list[float]] = [[] for _ in calls]
    for round in range(WARMING + ROUNDS):
        for n in range(len(calls)):
            at = (round + n) % len(calls)
            started = time.perf_counter()
            calls[at]()
            took[at].append((time.perf_counter() - started) * 1000)
    return [median(mine[WARMING:]) for mine in took]
