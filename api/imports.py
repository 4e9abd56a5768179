"""Importing rows: every row is recorded once, or reported with its line and every reason.

Life of a row: read and understood by its source (`api/rows.py`) → compared with the rows before it
→ looked up among the idempotency keys → recorded. Rows of one subject are recorded in the order of
the file, rows of different subjects at the same time. Memory is bounded: a fixed number of rows is
on its way, and what was seen is kept in a temporary file.

Killed at any moment, the next run completes the work: each command goes in under a key made of the
mapping's name and the row's key columns, in the same transaction as its event. What has a key is
passed over; what was committed but never acknowledged is found by its key too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import closing
from typing import TypeVar

from api.outcome import Issue, Outcome, Tally
from api.rows import Entry, Problem, Row, Unread
from api.seen import Seen
from api.underway import Chain, Known, Waiting, Wanted, bytes_of
from ledger.appender import Key
from ledger.errors import PURPOSES, KeyReused, LedgerError, ProviderExists, Words, WrongPurpose
from ledger.events import Data, Purpose
from ledger.handle import Desk, Receipt
from ledger.identity import Actor

BLOCK_ROWS = 500
MAX_BLOCKS_UNDER_WAY = 6
PATIENCE_SECONDS = 60.0
BACK_OFF_SECONDS = 0.25
RECORDED_OTHERWISE = Words(
    "the row was recorded before, with other content", "该行此前已有记录，但内容不同"
)

T = TypeVar("T")


class Import:
    """One run over the rows of one source. Belongs to one event loop."""

    def __init__(
        self,
        desk: Desk,
        actor: Actor,
        *,
        name: str,
        purpose: Purpose | None,
        digest: Callable[..., bytes],
        tell: Callable[[Issue], None],
        advance: Callable[[Tally], None] = lambda tally: None,
        answer: Callable[[Outcome], None] | None = None,
    ) -> None:
        """`name`: the import's own; `purpose`: the only kind of ledger it goes into, if any.

        `digest`: the keyed digest of a request (`Tokens.digest`); the same in every run. `answer`
        is told of every row once, of rows of different subjects in any order.
        """
        self.tally = Tally()
        self.block_rows = BLOCK_ROWS
        """So many rows are looked up at once; the fewer, the less others have to wait."""
        self._desk = desk
        self._name = name
        self._purpose = purpose
        self._actor = actor
        self._digest = digest
        self._tell = tell
        self._advance = advance
        self._answer = answer
        self._chains: dict[str, Chain] = {}

    async def run(self, rows: Iterable[Row | Unread] | AsyncIterable[Row | Unread]) -> Tally:
        """Import the rows; what the source of rows raises is raised.

        Raises WrongPurpose, LedgerNotOpened before the first row; Unavailable or OutcomeUnknown if
        the database stays away for a minute. Running again completes the work.
        """
        opening = (await self._patiently(self._desk.rulebooks)).opening
        wanted = self._purpose
        if opening is not None and wanted is not None and opening.purpose != wanted:
            what = Words(f"the import {self._name}", f"导入 {self._name} 的数据")
            raise WrongPurpose(
                what=what, needed=PURPOSES[wanted], purpose=PURPOSES[opening.purpose]
            )
        try:
            with closing(Seen()) as seen:
                async with asyncio.TaskGroup() as group:
                    await self._all(rows, seen, group)
        except BaseExceptionGroup as failures:
            # One cause stops all; the other tasks were only cancelled.
            raise failures.exceptions[0] from failures
        self._advance(self.tally)
        return self.tally

    async def _all(
        self,
        rows: Iterable[Row | Unread] | AsyncIterable[Row | Unread],
        seen: Seen,
        group: asyncio.TaskGroup,
    ) -> None:
        under_way: deque[dict[str, asyncio.Task[None]]] = deque()
        async for block in self._blocks(_each(rows), seen):
            under_way.append(await self._start(block, group))
            if len(under_way) >= MAX_BLOCKS_UNDER_WAY:
                await self._finish(under_way.popleft())
        while under_way:
            await self._finish(under_way.popleft())

    async def _blocks(
        self, rows: AsyncIterable[Row | Unread], seen: Seen
    ) -> AsyncIterator[list[Waiting]]:
        block: list[Waiting] = []
        async for row in rows:
            self.tally.rows += 1
            if isinstance(row, Unread):
                self._refuse(row, row.problems)
            elif not row.entries and row.registration is None:
                self.tally.skipped += 1
                self._settle(Outcome(row.line, row.key, "skipped"))
            else:
                block.append(Waiting(row, [self._wanted(row, entry) for entry in row.entries]))
            # By rows read, not by those understood: however many are refused, none waits for long.
            if self.tally.rows % self.block_rows == 0:
                yield self._new_ones(block, seen)
                block = []
        yield self._new_ones(block, seen)

    def _wanted(self, row: Row, entry: Entry) -> Wanted:
        data, key = entry
        digest = self._digest(row.subject.encode(), type(data).__name__.encode(), bytes_of(data))
        return Wanted(data, Key(self._actor.organisation, row.subject, key, digest))

    def _new_ones(self, block: Sequence[Waiting], seen: Seen) -> list[Waiting]:
        """The rows whose key no row before them in the file has; the others are reported."""
        new: list[Waiting] = []
        rows = [(one.row.subject, one.row.key) for one in block]
        # A row that only registers is told from others by its key alone.
        contents = [b"".join(one.key.digest for one in waiting.commands) for waiting in block]
        firsts = seen.first_of(rows, contents, [one.row.line for one in block])
        for waiting, (line, same) in zip(block, firsts, strict=True):
            row = waiting.row
            if line == row.line:
                new.append(waiting)
            elif same:
                self.tally.repeated += 1
                why = Words(f"the same row as line {line}", f"与第 {line} 行相同")
                self._tell(Issue(row.line, "row", "repeated", why))
                first = Problem("row", "repeated", why)
                self._settle(Outcome(row.line, row.key, "repeated", problems=[first]))
            else:
                why = Words(
                    f"the same key as line {line}, but other content",
                    f"关键列与第 {line} 行相同，内容却不同",
                )
                self._refuse(row, [Problem("row.key", "key-taken", why)])
        return new

    async def _start(
        self, block: Sequence[Waiting], group: asyncio.TaskGroup
    ) -> dict[str, asyncio.Task[None]]:
        """Look a block's rows up, and set those that are left on their way."""
        if not block:
            return {}
        asked = [one.key[1:3] for waiting in block for one in waiting.commands]
        issuer = self._actor.organisation
        keys = await self._patiently(lambda: self._desk.find_keys(issuer, asked))
        left: dict[str, list[Waiting]] = {}
        done: list[Waiting] = []
        for waiting in block:
            if not self._is_known(waiting, keys):
                continue
            if waiting.commands or not waiting.recorded_at:
                left.setdefault(waiting.row.subject, []).append(waiting)
            else:
                done.append(waiting)
        await self._recorded_before(done)
        known = await self._patiently(lambda: self._desk.preload(left))
        tasks: dict[str, asyncio.Task[None]] = {}
        for subject, rows in left.items():
            chain = self._chains.setdefault(subject, Chain(subject in known))
            chain.last = tasks[subject] = group.create_task(self._rows(chain, chain.last, rows))
        return tasks

    def _is_known(self, waiting: Waiting, keys: Known) -> bool:
        """Sort out what of a row is recorded; False if that says something else."""
        left = []
        for one in waiting.commands:
            digest, position = keys.get((one.key.subject, one.key.key), (b"", 0))
            if not digest:
                left.append(one)
            elif digest == one.key.digest:
                waiting.recorded_at[position] = one.data
            else:
                self._refuse_by(waiting.row, KeyReused(key=one.key.key))
                return False
        waiting.commands = left
        return True

    async def _recorded_before(self, rows: Sequence[Waiting]) -> None:
        """Tell of rows that the keys know whole."""
        self.tally.already_recorded += len(rows)
        if self._answer is None:
            return
        asked = {at: type(data) for one in rows for at, data in one.recorded_at.items()}
        found = await self._patiently(lambda: self._desk.first_answers(asked)) if asked else {}
        for waiting in rows:
            waiting.receipts += [found[position] for position in waiting.recorded_at]
            self._settle(waiting.outcome("recorded-before"))

    async def _finish(self, tasks: dict[str, asyncio.Task[None]]) -> None:
        if tasks:
            await asyncio.wait(tasks.values())
        for subject, task in tasks.items():
            chain = self._chains[subject]
            if chain.last is task:
                del self._chains[subject]
        self._advance(self.tally)

    async def _rows(
        self, chain: Chain, before: asyncio.Task[None] | None, rows: Sequence[Waiting]
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        for waiting in rows:
            try:
                new = await self._row(chain, waiting)
            except LedgerError as error:
                if error.status == 503:
                    raise
                self._refuse_by(waiting.row, error)
            else:
                self.tally.recorded += new
                self.tally.already_recorded += not new
                self._settle(waiting.outcome("recorded" if new else "recorded-before"))

    async def _row(self, chain: Chain, waiting: Waiting) -> bool:
        """Record what is left of a row; False if all of it turned out to be recorded.

        A row is recorded whole or refused whole: what belongs together is tried first.
        """
        row, new = waiting.row, False
        registration = None if chain.known else row.registration
        commands = [one.data for one in waiting.commands]
        try:
            if len(commands) > 1:
                first = [] if registration is None else [registration]
                together = [*first, *commands]
                await self._patiently(
                    lambda: self._desk.rehearse(row.subject, together, self._actor)
                )
            if registration is not None and not commands:
                waiting.receipts.append(await self._record(row.subject, registration, None))
                self.tally.registered += 1
                chain.known = new = True
            for one in waiting.commands:
                # With the first one: a subject is registered if something is recorded of it.
                receipt = await self._record(row.subject, one.data, one.key, registration)
                waiting.receipts.append(receipt)
                self.tally.registered += registration is not None and not receipt.repeated
                chain.known = chain.known or registration is not None
                registration = None
                new = new or not receipt.repeated
        except ProviderExists:
            if registration is None:
                # What the row itself asks for.
                raise
            # Somebody else was faster, or our own registration was not acknowledged.
            chain.known = True
            return await self._row(chain, waiting)
        return new

    async def _record(
        self, subject: str, data: Data, key: Key | None, registration: Data | None = None
    ) -> Receipt:
        return await self._patiently(
            lambda: self._desk.record(
                subject, data, self._actor, key=key, registration=registration
            )
        )

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again while the database is away: a key makes that harmless."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + PATIENCE_SECONDS
        while True:
            try:
                return await ask()
            except LedgerError as error:
                if error.status != 503 or error.code == "ledger-not-opened" or clock() > deadline:
                    raise
            await asyncio.sleep(BACK_OFF_SECONDS)

    def _refuse_by(self, row: Row, error: LedgerError) -> None:
        field = str(error.facts.get("field", "record"))
        # A row's key is of our own making: nobody who imports has seen it.
        ours = isinstance(error, KeyReused)
        reason = RECORDED_OTHERWISE if ours else Words(str(error), error.chinese())
        self._refuse(row, [Problem(field, error.code, reason)])

    def _refuse(self, row: Row | Unread, problems: Sequence[Problem]) -> None:
        self.tally.refused += 1
        for problem in problems:
            self._tell(Issue(row.line, *problem[:3]))
        self._settle(Outcome(row.line, row.key, "refused", problems=problems))

    def _settle(self, outcome: Outcome) -> None:
        if self._answer is not None:
            self._answer(outcome)


async def _each(
    rows: Iterable[Row | Unread] | AsyncIterable[Row | Unread],
) -> AsyncIterator[Row | Unread]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row
