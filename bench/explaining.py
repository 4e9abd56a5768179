"""The explained score of providers with 10, 1,000 and 10,000 facts, over HTTP, against its bars.

`chengxin serve` answers one request after the other, with the token of somebody who may see all.
`today` is remembered once it was asked for; every other day is computed anew, a different one each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import date, timedelta
from http.client import HTTPConnection

from bench.place import ACTOR, Place, Row, opened, penalty, percentile, registration
from bench.served import Served
from ledger.handle import Desk

FACTS = (10, 1_000, 10_000)
REQUESTS = 40
TODAY_BAR, OTHER_DAY_BAR = 50.0, 200.0


def rows(place: Place) -> Iterable[Row]:
    """Milliseconds: ours over the bar."""
    with opened(place.database("explaining")) as desk, Served(desk.ledger.database) as served:
        asyncio.run(_fill(desk))
        served.caught_up(desk.ledger.head())
        for facts in FACTS:
            path = f"/v1/providers/HK-CR-{facts}/score"
            today = _ask(served, [path] * (REQUESTS + 1))
            first, again = today[0], percentile(today[1:], 95)
            days = (date(2026, 3, 1) + timedelta(days=n) for n in range(REQUESTS))
            other = percentile(_ask(served, [f"{path}?as_of={day}" for day in days]), 95)
            what = f"explained score of {facts:,} facts"
            note = f"milliseconds, p95; the first time {first:.0f}"
            yield Row(f"{what}, today", again, "the bar", TODAY_BAR, note)
            yield Row(f"{what}, another day", other, "the bar", OTHER_DAY_BAR, "milliseconds, p95")


async def _fill(desk: Desk) -> None:
    for facts in FACTS:
        identifier = f"HK-CR-{facts}"
        await desk.record(identifier, registration(facts), ACTOR)
        for start in range(0, facts, 250):
            numbers = range(start, min(start + 250, facts))
            await asyncio.gather(*(desk.record(identifier, penalty(n), ACTOR) for n in numbers))


def _ask(served: Served, paths: list[str]) -> list[float]:
    """Milliseconds of each request, one after the other on one connection."""
    took = []
    connection = HTTPConnection("127.0.0.1", served.port)
    headers = {"Authorization": f"Bearer {served.token}"}
    for path in paths:
        started = time.perf_counter()
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        took.append((time.perf_counter() - started) * 1000)
        assert response.status == 200, body
    connection.close()
    return took
