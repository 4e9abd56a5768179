"""What sealing costs: durable appends through the desk with six sealed texts, against two peers.

64 callers on one event loop record completed contracts, one provider each. Sealed are the client,
the title, the terms and the price of the contract, and the descriptions of two pieces of evidence:
all under the counterparty's key, or each description under a new person's (three keys an event,
two of them made for it). The peers: the very same texts stored in clear, as this ledger would do
without sealing; and contracts without these texts, whose events are half as long. All sides run in
turns on one ledger, each time another one first, so that a slow moment of the machine slows all.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from pydantic import BaseModel

from bench.place import ACTOR, EVIDENCE, Place, Row, opening, registration
from ledger.events import ContractCompleted
from ledger.handle import Desk
from ledger.keyring import FileKeyring
from ledger.private import Agreement, Description, Private, changed, texts
from ledger.sealing import PlainText
from ledger.store import Ledger

CALLERS = 64
CLIENTS = 500
ROUNDS = 8
CONTRACTS = 60
TERMS = "第一条 服务期限三个月，按月结算。\n第二条 佣金按成交额的百分之五计。" * 4

numbers = itertools.count(2 * CLIENTS)


class ClearTexts(BaseModel):
    """What a group of sealed fields would be without sealing."""

    person: str | None = None
    client: str | None = None
    title: str | None = None
    terms: str | None = None
    price_fen: str | None = None
    text: str | None = None


class Side(NamedTuple):
    """How contracts are recorded on one side."""

    texts: str
    persons: int = 0


SIDES = ONE, THREE, CLEAR, NONE = Side("sealed", 1), Side("sealed", 3), Side("clear"), Side("none")


def rows(place: Place) -> Iterable[Row]:
    """Sealed texts of one person and of three, against the same in clear and against none."""
    folder = Path(tempfile.mkdtemp(prefix="chengxin-bench-keys-"))
    try:
        keyring = FileKeyring(folder)
        with Ledger(place.database("sealing"), keyring=keyring) as ledger, asyncio.Runner() as loop:
            rates = loop.run(_measured(Desk(ledger)))
    finally:
        shutil.rmtree(folder)
    for what, side in (("one person", ONE), ("three persons", THREE)):
        name = f"appends with six sealed texts of {what}, {CALLERS} callers"
        yield Row(name, rates[side], "the same texts in clear", rates[CLEAR], "bar 0.75")
        yield Row(name, rates[side], "contracts without texts", rates[NONE])


async def _measured(desk: Desk) -> dict[Side, float]:
    await desk.open_ledger(opening(), ACTOR)
    for number in range(CALLERS):
        await desk.record(_provider(number), registration(number), ACTOR)
    # Every client is known before: making a client's key is the price of the first contract alone.
    for client in range(CLIENTS):
        await desk.record(_provider(0), contract(client + CLIENTS, persons=1), ACTOR)
    rates: dict[Side, list[float]] = {side: [] for side in SIDES}
    for warming in rates:
        await _rate(desk, warming)
    for round in range(ROUNDS):
        for n in range(len(SIDES)):
            side = SIDES[(round + n) % len(SIDES)]
            rates[side].append(await _rate(desk, side))
    return {side: statistics.median(found) for side, found in rates.items()}


async def _rate(desk: Desk, side: Side) -> float:
    """Contracts a second."""
    # Made before the clock starts: what is asked is the cost of an append, not of its command.
    commands = [[_command(next(numbers), side) for _ in range(CONTRACTS)] for _ in range(CALLERS)]
    started = time.perf_counter()

    async def call(number: int) -> None:
        for command in commands[number]:
            await desk.record(_provider(number), command, ACTOR)

    await asyncio.gather(*map(call, range(CALLERS)))
    return CALLERS * CONTRACTS / (time.perf_counter() - started)


def _command(number: int, side: Side) -> ContractCompleted:
    sealed = contract(number, persons=side.persons or (side is CLEAR))
    if side is not CLEAR:
        return sealed
    assert sealed.agreement is not None
    evidence = [changed(one, described=_cleared(one.described)) for one in sealed.evidence]
    return changed(sealed, agreement=_cleared(sealed.agreement), evidence=evidence)


def _cleared(group: Private | None) -> ClearTexts:
    assert group is not None
    return ClearTexts(person=group.person).model_copy(
        update={name: one.text for name, one in texts(group) if isinstance(one, PlainText)}
    )


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
