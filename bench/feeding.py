"""The feed read from the beginning by one reader: pages of JSON Lines over HTTP.

Ours is the product, a process of its own; each line is what its reader may see. Peer: the library's
notification log, which hands over objects in the same process and asks nobody what may be seen.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from http.client import HTTPConnection
from typing import Any

from eventsourcing.application import Application

from bench.catchup import Record, fill
from bench.place import Place, Row, opened
from bench.served import Served

PROVIDERS = 2_000
LIMIT = 10_000
BAR = 50_000
ROUNDS = 3
PEER_EVENTS = 2_000
NEXT = re.compile(r"after=([0-9]+)")


def rows(place: Place) -> Iterable[Row]:
    """Lines per second."""
    with opened(place.database("feeding")) as desk, Served(desk.ledger.database) as served:
        asyncio.run(fill(desk, PROVIDERS))
        head = desk.ledger.head()
        served.caught_up(head)
        registrar, subscriber = (
            max(read_all(served.port, token, head) for _ in range(ROUNDS))
            for token in (served.token, served.subscriber)
        )
    peer = _peer(place.library_environment(place.database("feeding_peer")))
    what = "feed from the beginning to one reader, JSON Lines"
    note = f"{head:,} lines, best of {ROUNDS}; who may see all"
    yield Row(what, registrar, "the bar", BAR, note)
    yield Row(what, subscriber, "the bar", BAR, "who sees what the public may")
    yield Row(what, registrar, "library's select_notifications(), in process", peer)


def read_all(port: int, token: str, head: int) -> float:
    """Lines per second of one reader, from the first position to the last."""
    connection = HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/x-ndjson"}
    after = lines = 0
    started = time.perf_counter()
    while after < head:
        connection.request("GET", f"/v1/feed?after={after}&limit={LIMIT}", headers=headers)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        found = NEXT.search(response.headers["Link"])
        assert found is not None
        after = int(found[1])
        lines += body.count(b"\n")
    seconds = time.perf_counter() - started
    connection.close()
    assert lines == head
    return lines / seconds


def _peer(environment: dict[str, str]) -> float:
    application = Application[Any](environment)
    record = Record()
    for number in range(PEER_EVENTS):
        record.note(what=str(number))
    application.save(record)
    read, start = 0, 1
    started = time.perf_counter()
    while page := application.recorder.select_notifications(start, LIMIT):
        read += len(page)
        start = page[-1].id + 1
    seconds = time.perf_counter() - started
    application.close()
    return read / seconds
