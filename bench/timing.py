"""Whether time tells what an answer does not: lookups of what is there and what is not, in turns.

2,000 of each, a present one and an absent one right after the other, the order of both drawn
anew each time, so that a slow moment of the machine falls on both. A row: the median of the
present ones, of the absent ones, and by how many percent they differ.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from bench.place import ACTOR, Place, Row, opening, registration
from bench.sealing import contract
from bench.served import Served
from ledger.handle import Desk
from ledger.keyring import FileKeyring
from ledger.marks import Marks, fields
from ledger.store import Ledger
from ledger.vault import Opened

LOOKUPS = 2_000
CLIENTS = 500
BAR_PERCENT = 5.0
KIND, SCOPE = "timing", "bench"

Lookup = Callable[[str], object]


def rows(place: Place) -> Iterable[Row]:
    """Microseconds of each side, and the difference."""
    folder = Path(tempfile.mkdtemp(prefix="chengxin-bench-keys-"))
    database = place.database("timing")
    try:
        with Ledger(database, keyring=FileKeyring(folder)) as ledger:
            asyncio.run(_record(Desk(ledger)))
            marks, names = Marks(ledger), fields()
            while marks.follow():
                pass
            there = [one.text for one in _texts(ledger) if one.path.endswith("client")]
            absent = [f"无此委托方{n}" for n in range(LOOKUPS)]
            yield _compared(
                "search by a sealed text", there, absent, lambda t: marks.find(t, names)
            )
            refer = ledger.vault.reference
            known = [f"known {n}" for n in range(CLIENTS)]
            for text in known:
                refer(KIND, SCOPE, text)
            new = [f"other {n}" for n in range(LOOKUPS)]
            yield _compared("reference of a name", known, new, lambda t: refer(KIND, SCOPE, t))
            head = ledger.head()
        with Served(database) as served:
            served.caught_up(head)
            yield from _over_http(served, head)
    finally:
        shutil.rmtree(folder)


def _over_http(served: Served, head: int) -> Iterable[Row]:
    connection = HTTPConnection("127.0.0.1", served.port)
    headers = {"Authorization": f"Bearer {served.subscriber}"}

    def ask(path: str) -> bytes:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().read()

    sealed = [f"/v1/events/{at}/sealed" for at in range(3, head)]
    nowhere = [f"/v1/events/{10**6 + at}/sealed" for at in range(LOOKUPS)]
    yield _compared("sealed text, refused, over HTTP", sealed, nowhere, ask)
    cases = ["/v1/providers/HK-CR-0/case"]
    yield _compared("a case, refused, over HTTP", cases, ["/v1/providers/HK-CR-9/case"], ask)
    connection.close()


async def _record(desk: Desk) -> None:
    await desk.open_ledger(opening(), ACTOR)
    await desk.record("HK-CR-0", registration(0), ACTOR)
    for number in range(CLIENTS):
        await desk.record("HK-CR-0", contract(number, persons=1), ACTOR)


def _texts(ledger: Ledger) -> list[Opened]:
    events = ledger.read(0, 10 * CLIENTS)
    ids = [one.state.partition(b'"id":"')[2][:36].decode() for one in events]
    return [text for found in ledger.vault.open(ids).values() for text in found]


def _compared(what: str, there: list[str], absent: list[str], look: Lookup) -> Row:
    chance = random.Random(1)
    took: dict[bool, list[int]] = {True: [], False: []}
    for n in range(-100, LOOKUPS):
        for present in chance.sample((True, False), 2):
            texts = there if present else absent
            text = texts[n % len(texts)]
            started = time.perf_counter_ns()
            look(text)
            if n >= 0:
                took[present].append(time.perf_counter_ns() - started)
    found, missed = (median(took[one]) / 1000 for one in (True, False))
    apart = 100 * abs(found - missed) / max(found, missed)
    note = f"µs, medians of {LOOKUPS:,}; {apart:.2f} % apart, bar {BAR_PERCENT:.0f} %"
    return Row(f"{what}: there", found, "not there", missed, note)
