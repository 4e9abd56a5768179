"""What a read costs for being judged and recorded: the share of the judgement, and the record.

The judgement is measured where it is made: what the projection gives a reader, less what the same
events take to read without asking who reads, as a share of the same read over HTTP (without any
record). The record is the difference between two reads of the same role at 32 connections: of an
event that everybody sees, and of one that is for the parties and is recorded, durably, first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import repeat
from statistics import median
from typing import Any, NamedTuple

import orjson
import uvloop

from bench.catchup import fill
from bench.http import CONNECTIONS, TURNS, load
from bench.place import ACTOR, Place, Row, opened, penalty
from bench.served import Served
from ledger.calendar import local_day
from ledger.events import provider_stream
from ledger.store import Ledger
from projections.disclosure import Disclosure
from projections.rights import PUBLIC, Reader

PROVIDERS = 300
ROUNDS = 60
BAR_PERCENT = 5.0
PAGE = 1_000
MINOR = penalty(1_000_000).model_copy(
    update={"category": "COMPLAINT", "family": "LATE_RESPONSE", "severity": "S1"}
)
"""A penalty that is never shown singly."""


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
        asyncio.run(desk.record("HK-CR-0", MINOR, ACTOR))
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
    for one in asked:
        plain = _milliseconds(one.plain)
        readers = (
            ("who may see all", registrar),
            ("the provider itself", provider),
            ("the public", PUBLIC),
        )
        judged = {who: _milliseconds(partial(one.judged, reader)) for who, reader in readers}
        http = served.milliseconds(one.path, served.subscriber, ROUNDS)
        whole = http - (judged["the public"] - plain)
        for who, took in judged.items():
            more = took - plain
            note = f"percent of {whole:.2f} ms; {more * 1000:,.0f} µs more than {plain:.2f} ms"
            share = max(0.0, more / whole * 100)
            yield Row(f"judging {one.what}: {who}", share, "the bar", BAR_PERCENT, note)


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
    public = next(one for one in events if one["type"].endswith("provider.registered.v1"))
    return public, next(one for one in events if one["visibility"] == "party")


def _line(stored: Any) -> bytes:
    return b'{"sequence":"%020d",%b' % (stored.position, stored.state[1:])


def _get(position: int, token: str) -> bytes:
    head = f"GET /v1/events/{position} HTTP/1.1\r\nHost: localhost\r\n"
    return f"{head}Authorization: Bearer {token}\r\n\r\n".encode()


def _milliseconds(call: Callable[[], object]) -> float:
    """The median of how long a call takes."""
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        call()
        took.append((time.perf_counter() - started) * 1000)
    return median(took)
