"""What sealing costs: durable appends through the desk with six sealed texts, and without.

64 callers on one event loop record completed contracts, one provider each. Sealed are the client,
the title, the terms and the price of the contract, and the descriptions of two pieces of evidence:
all under the counterparty's key, or each description under a new person's (three keys an event,
two of them made for it). All sides run in turns on one ledger, so that a slow moment of the machine
slows all of them.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from uuid import UUID

from bench.place import ACTOR, EVIDENCE, Place, Row, opening, registration
from ledger.events import ContractCompleted
from ledger.handle import Desk
from ledger.keyring import FileKeyring
from ledger.private import Agreement, Description
from ledger.sealing import PlainText
from ledger.store import Ledger

CALLERS = 64
CLIENTS = 500
ROUNDS = 6
CONTRACTS = 100
TERMS = "第一条 服务期限三个月，按月结算。\n第二条 佣金按成交额的百分之五计。" * 4

numbers = itertools.count(2 * CLIENTS)


def rows(place: Place) -> Iterable[Row]:
    """One row: with sealed texts, and the same contracts without."""
    folder = Path(tempfile.mkdtemp(prefix="chengxin-bench-keys-"))
    try:
        keyring = FileKeyring(folder)
        with Ledger(place.database("sealing"), keyring=keyring) as ledger, asyncio.Runner() as loop:
            one, three, clear = loop.run(_measured(Desk(ledger)))
    finally:
        shutil.rmtree(folder)
    for what, rate in (("one person", one), ("three persons", three)):
        name = f"appends with six sealed texts of {what}, {CALLERS} callers"
        yield Row(name, rate, "the same without", clear)


async def _measured(desk: Desk) -> Sequence[float]:
    await desk.open_ledger(opening(), ACTOR)
    for number in range(CALLERS):
        await desk.record(_provider(number), registration(number), ACTOR)
    # Every client is known before: making a client's key is the price of the first contract alone.
    for client in range(CLIENTS):
        await desk.record(_provider(0), contract(client + CLIENTS, persons=1), ACTOR)
    rates: dict[int, list[float]] = {1: [], 3: [], 0: []}
    for warming in rates:
        await _rate(desk, warming)
    for _ in range(ROUNDS):
        for persons, found in rates.items():
            found.append(await _rate(desk, persons))
    return [statistics.median(found) for found in rates.values()]


async def _rate(desk: Desk, persons: int) -> float:
    """Contracts a second."""
    # Made before the clock starts: what is asked is the cost of an append, not of its command.
    commands = [
        [contract(next(numbers), persons=persons) for _ in range(CONTRACTS)] for _ in range(CALLERS)
    ]
    started = time.perf_counter()

    async def call(number: int) -> None:
        for command in commands[number]:
            await desk.record(_provider(number), command, ACTOR)

    await asyncio.gather(*map(call, range(CALLERS)))
    return CALLERS * CONTRACTS / (time.perf_counter() - started)


def contract(number: int, *, persons: int) -> ContractCompleted:
    """A contract with one of five hundred clients, and how many persons' keys it takes."""
    client = str(UUID(int=number % CLIENTS, version=4))
    agreement, evidence = None, [EVIDENCE, EVIDENCE]
    if persons:
        agreement = Agreement(
            client=PlainText(f"示例第{number % CLIENTS}餐饮店"),
            title=PlainText("抖音店铺代运营服务合同"),
            terms=PlainText(TERMS),
            price_fen=PlainText(str(1_000_000 + number)),
        )
        described = Description(
            person=client if persons == 1 else None,
            text=PlainText("履约确认单，双方盖章，共三页"),
        )
        evidence = [EVIDENCE.model_copy(update={"described": described})] * 2
    return ContractCompleted(
        contract=f"HT-{number}",
        counterparty=client,
        on=date(2026, 2, 10),
        evidence=evidence,
        agreement=agreement,
    )


def _provider(number: int) -> str:
    return f"HK-BENCH-{number}"
