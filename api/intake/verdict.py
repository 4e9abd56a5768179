"""What a person decides of a row in quarantine: correct it, accept it, or reject it.

Whoever decides has the row to himself, among all processes, until the decision is committed. Of
another organisation's rows nobody learns even that they are there.

To accept: the row is read again with its corrections → the step `accepting` is committed → an
import of this one row records it, under the keys under which any import would → positions, the
state and the step `accepted` are committed together → the answer. Cut off before the last commit,
the row waits, its last step being `accepting`: accepted once more, it is found by its keys and
settled. Who would correct or reject it instead could lead away from what is recorded, and is told
to accept it.

What was decided is answered again when it is asked again. `why` is kept with the step and enters no
event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import psycopg

from api.intake.correction import correctable, purpose_of, read_again
from api.intake.imports import Import
from api.intake.quarantine import STATES, Connection, Held, Quarantine, Step, What
from api.intake.rejections import Rejections
from api.intake.rows import Problem, Row, Unread
from api.intake.tally import Account, Outcome
from api.refusals import (
    AcceptanceBegun,
    Flaw,
    RowNotUnderstood,
    RowSettled,
    UnknownColumn,
    UnknownRow,
)
from ledger.database import reading
from ledger.envelope import decode
from ledger.errors import OutcomeUnknown, Unavailable, Words
from ledger.events import provider_stream
from ledger.handle import Desk, Receipt
from ledger.identity import Actor
from ledger.store import Stored

DECIDE_SECONDS = 25
T = TypeVar("T")


class Accepted(NamedTuple):
    """An accepted row: where its events stand. `repeated`: it was accepted before."""

    receipts: list[Receipt]
    repeated: bool


class Verdicts:
    """Decides rows in quarantine. Belongs to one event loop."""

    def __init__(
        self,
        quarantine: Quarantine,
        desk: Desk,
        *,
        digest: Callable[..., bytes],
        rejections: Rejections | None = None,
    ) -> None:
        """`digest`: the keyed digest that imports use (`Tokens.digest`)."""
        self._rejections = rejections
        self._quarantine = quarantine
        self._desk = desk
        self._digest = digest
        self._unanswered: set[asyncio.Task[Any]] = set()

    async def correct(
        self, id: int, actor: Actor, corrections: Mapping[str, str], why: str
    ) -> Held:
        """The row with these corrections and what is wrong with it now.

        Raises UnknownRow, RowSettled, AcceptanceBegun, UnknownColumn; Unavailable, OutcomeUnknown.
        """
        return await self._in_time(self._correct(id, actor, corrections, why))

    async def accept(self, id: int, actor: Actor, why: str) -> Accepted:
        """Record the row as it is corrected, with `actor` as who records.

        Raises UnknownRow, RowSettled, RowNotUnderstood; WrongPurpose, LedgerNotOpened; Unavailable,
        OutcomeUnknown.
        """
        return await self._in_time(self._accept(id, actor, why))

    async def reject(self, id: int, actor: Actor, why: str) -> Held:
        """The row, which is never to be recorded.

        Raises UnknownRow, RowSettled, AcceptanceBegun; Unavailable, OutcomeUnknown.
        """
        return await self._in_time(self._reject(id, actor, why))

    async def _correct(
        self, id: int, actor: Actor, corrections: Mapping[str, str], why: str
    ) -> Held:
        async with self._quarantine.alone(id, actor.organisation) as connection:
            held = await self._open(connection, id, actor)
            unknown = [name for name in corrections if name not in held.cells]
            known = correctable(held) if unknown else []
            unknown = [name for name in unknown if name not in known]
            if unknown:
                names = ", ".join([*held.cells, *known])
                raise UnknownColumn(unknown=", ".join(unknown), known=names)
            trimmed = {name: text.strip() for name, text in corrections.items()}
            if trimmed.items() <= held.corrections.items():
                return held
            row = read_again(held.corrected(trimmed))
            left = row.problems if isinstance(row, Unread) else []
            step = self._step("corrected", actor, why, corrections=trimmed)
            return await self._quarantine.take(connection, held, step, problems=left)

    async def _accept(self, id: int, actor: Actor, why: str) -> Accepted:
        async with self._quarantine.alone(id, actor.organisation) as connection:
            held = await self._mine(connection, id, actor)
            if held.state == "accepted":
                return Accepted(await self._receipts(held.positions), repeated=True)
            if held.state != "waiting":
                raise RowSettled(row=id, how=STATES[held.state])
            row = read_again(held)
            if isinstance(row, Unread):
                raise _not_understood(id, row.problems)
            await self._quarantine.take(connection, held, self._step("accepting", actor, why))
            outcomes: list[Outcome] = []
            account = Account(answer=outcomes.append)
            await self._import(held, actor, account).run([row])
            [outcome] = outcomes
            if outcome.state == "refused":
                step = self._step("declined", actor, "")
                await self._quarantine.take(connection, held, step, problems=outcome.problems)
                raise _not_understood(id, outcome.problems)
            receipts = outcome.receipts or await self._registration(row)
            positions = sorted(one.position for one in receipts)
            step = self._step("accepted", actor, why, positions=positions)
            await self._quarantine.take(connection, held, step, state="accepted", problems=[])
            return Accepted(await self._receipts(positions), repeated=False)

    async def _reject(self, id: int, actor: Actor, why: str) -> Held:
        async with self._quarantine.alone(id, actor.organisation) as connection:
            held = await self._mine(connection, id, actor)
            if held.state == "rejected":
                return held
            held = await self._open(connection, id, actor)
            step = self._step("rejected", actor, why)
            if self._rejections is not None and held.person is not None:
                await reading(self._rejections.add, held.person, step)
            return await self._quarantine.take(connection, held, step, state="rejected")

    async def _mine(self, connection: Connection, id: int, actor: Actor) -> Held:
        """The row, if it is of the actor's organisation."""
        held = await self._quarantine.reread(connection, id, actor.organisation)
        if held is None:
            raise UnknownRow(row=id)
        return held

    async def _open(self, connection: Connection, id: int, actor: Actor) -> Held:
        """The actor's row, which waits and is recorded in no way."""
        held = await self._mine(connection, id, actor)
        if held.state != "waiting":
            raise RowSettled(row=id, how=STATES[held.state])
        last = await self._quarantine.last_step(connection, id)
        if last == "accepting":
            row = read_again(held)
            work = self._import(held, actor, Account())
            keys = work.keys_of(row) if isinstance(row, Row) else []
            asked = [key[1:3] for key in keys]
            if await _read(lambda: self._desk.ledger.find_keys(actor.organisation, asked)):
                raise AcceptanceBegun(row=id)
        return held

    def _import(self, held: Held, actor: Actor, account: Account) -> Import:
        return Import(
            self._desk,
            actor,
            name=held.name,
            purpose=purpose_of(held.recipe),
            digest=self._digest,
            account=account,
        )

    def _step(
        self,
        what: What,
        actor: Actor,
        why: str,
        *,
        corrections: Mapping[str, str] | None = None,
        positions: Sequence[int] = (),
    ) -> Step:
        now = self._desk.ledger.clock()
        return Step(now, what, actor, why, corrections or {}, positions)

    async def _registration(self, row: Row) -> list[Stored]:
        """Where a provider begins that was registered before, of a row that only registers it."""
        stream = provider_stream(row.subject)
        return await _read(lambda: self._desk.ledger.read_stream_after(stream, 0, 1))

    async def _receipts(self, positions: Sequence[int]) -> list[Receipt]:
        rows = await _read(lambda: self._desk.ledger.read_at(positions))
        events = [(row.position, decode(row.state)) for row in rows]
        return [
            Receipt(position, event.id, event.stream, event.version, repeated=False)
            for position, event in events
        ]

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of it within 25 seconds; later it is unknown. Raises OutcomeUnknown."""
        task = asyncio.ensure_future(work)
        # What a frozen database holds up does not end at once when it is cancelled.
        self._unanswered.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait([task], timeout=DECIDE_SECONDS)
        if not done:
            task.cancel()
            raise OutcomeUnknown
        return task.result()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._unanswered.discard(task)
        if not task.cancelled():
            task.exception()


def _not_understood(id: int, problems: Sequence[Problem]) -> RowNotUnderstood:
    reasons = Words(
        "; ".join(f"{one.field}: {one.reason.en.rstrip('.')}" for one in problems),
        "；".join(f"{one.field}：{one.reason.zh.rstrip('。')}" for one in problems),
    )
    flaws = [Flaw(("row", one.field), one.reason) for one in problems]
    return RowNotUnderstood(row=id, reasons=reasons, flaws=flaws)


async def _read(read: Callable[[], T]) -> T:
    try:
        return await reading(read)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise Unavailable from error
