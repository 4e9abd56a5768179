"""Importing rows: every row is recorded once, kept for a person, or reported with every reason.

Life of a row: read and understood by its source (`rows.py`) → compared with the rows before it
→ looked up in the quarantine and among the idempotency keys → recorded. Rows of one subject are
recorded in the order of the file, rows of different subjects at the same time. Memory is bounded: a
fixed number of rows is on its way, and what was seen is kept in a temporary file.

A row that only a person could answer goes into quarantine before it is counted. What a person
has settled there is passed over, understood by now or not. What still waits there and is understood
by now is recorded and settled, with the row held so that no person decides it meanwhile.

Killed at any moment, the next run completes the work: each command goes in under a key made of the
mapping's name and the row's key columns, in the same transaction as its event. What has a key is
passed over; what was committed but never acknowledged is found by its key too, and settles what
waits for it in quarantine then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import closing
from hmac import compare_digest

from api.intake.block import Block
from api.intake.holding import Holding, Kept, leave, set_apart
from api.intake.patience import patiently
from api.intake.rows import Entry, Row, Unread, size_of
from api.intake.seen import Seen
from api.intake.tally import Account, Tally
from api.intake.underway import Chain, Known, Waiting, Wanted, bytes_of
from ledger.appender import Key
from ledger.errors import PURPOSES, KeyReused, LedgerError, ProviderExists, Words, WrongPurpose
from ledger.events import Data, Purpose
from ledger.handle import Desk, Receipt
from ledger.identity import Actor

BLOCK_ROWS = 500
BLOCK_BYTES = 4 * 1024 * 1024
"""Rows of a mebibyte each are looked up a few at once: what is on its way is held in memory."""
MAX_BLOCKS_UNDER_WAY = 6


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
        account: Account,
        advance: Callable[[Tally], None] = lambda tally: None,
        holding: Holding | None = None,
    ) -> None:
        """`name`: the import's own; `purpose`: the only kind of ledger it goes into, if any.

        `digest`: the keyed digest of a request (`Tokens.digest`); the same in every run. `account`
        is told of every row once, of rows of different subjects in any order. `holding`: where
        doubtful rows are kept; without it they are refused.
        """
        self._account = account
        self.tally = account.tally
        self.block_rows = BLOCK_ROWS
        """So many rows are looked up at once; the fewer, the less others have to wait."""
        self._desk = desk
        self._name = name
        self._purpose = purpose
        self._actor = actor
        self._digest = digest
        self._advance = advance
        self._holding = holding
        self._chains: dict[str, Chain] = {}

    async def run(self, rows: Iterable[Row | Unread] | AsyncIterable[Row | Unread]) -> Tally:
        """Import the rows; what the source of rows raises is raised.

        Raises WrongPurpose, LedgerNotOpened before the first row; Unavailable or OutcomeUnknown if
        the database stays away for a minute. Running again completes the work.
        """
        opening = (await patiently(self._desk.rulebooks)).opening
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

    async def _blocks(self, rows: AsyncIterable[Row | Unread], seen: Seen) -> AsyncIterator[Block]:
        block, begun, size = Block(), 0, 0
        async for row in rows:
            self.tally.rows += 1
            begun, size = begun + 1, size + size_of(row)
            if isinstance(row, Unread):
                if row.doubtful and self._holding is not None:
                    block.doubtful.append(row)
                else:
                    self._account.refuse(row, row.problems)
            elif not row.entries and row.registration is None:
                self._account.skipped(row)
            else:
                block.rows.append(Waiting(row, [self._wanted(row, one) for one in row.entries]))
            # By rows read, not by those understood: however many are refused, none waits for long.
            if begun >= self.block_rows or size >= BLOCK_BYTES:
                yield block.without_repeated(seen, self._account)
                block, begun, size = Block(), 0, 0
        yield block.without_repeated(seen, self._account)

    def keys_of(self, row: Row) -> list[Key]:
        """The idempotency keys under which a row is recorded."""
        return [self._wanted(row, one).key for one in row.entries]

    def _wanted(self, row: Row, entry: Entry) -> Wanted:
        kind = type(entry.data).__name__.encode()
        digest = self._digest(row.subject.encode(), kind, bytes_of(entry.data))
        key = Key(self._actor.organisation, row.subject, entry.key, digest)
        return Wanted(entry.data, key)

    async def _start(self, block: Block, group: asyncio.TaskGroup) -> dict[str, asyncio.Task[None]]:
        """Look a block's rows up, and set those that are left on their way."""
        if not (block.rows or block.doubtful):
            return {}
        rows = block.rows
        if self._holding is not None:
            rows = await set_apart(block, self._holding, self._account)
        asked = [one.key[1:3] for waiting in rows for one in waiting.commands]
        issuer = self._actor.organisation
        keys = await patiently(lambda: self._desk.find_keys(issuer, asked))
        rows = [waiting for waiting in rows if self._is_known(waiting, keys)]
        await self._find_receipts(rows)
        left: dict[str, list[Waiting]] = {}
        for waiting in rows:
            # What waits in quarantine is settled as all others are: with the row held.
            if waiting.commands or not waiting.recorded_at or waiting.held is not None:
                left.setdefault(waiting.row.subject, []).append(waiting)
            else:
                self._account.recorded(waiting.row, waiting.receipts, new=False)
        known = await patiently(lambda: self._desk.preload(left))
        tasks: dict[str, asyncio.Task[None]] = {}
        for subject, some in left.items():
            chain = self._chains.setdefault(subject, Chain(subject in known))
            chain.last = tasks[subject] = group.create_task(self._rows(chain, chain.last, some))
        return tasks

    def _is_known(self, waiting: Waiting, keys: Known) -> bool:
        """Sort out what of a row is recorded; False if that says something else."""
        left = []
        for one in waiting.commands:
            digest, position = keys.get((one.key.subject, one.key.key), (b"", 0))
            if not digest:
                left.append(one)
            elif compare_digest(digest, one.key.digest):
                waiting.recorded_at[position] = one.data
            else:
                self._account.refuse_by(waiting.row, KeyReused(key=one.key.key))
                return False
        waiting.commands = left
        return True

    async def _find_receipts(self, rows: Sequence[Waiting]) -> None:
        """The receipts of what an earlier run recorded, where somebody wants to know."""
        found: Mapping[int, Receipt] = {}
        asked = {at: type(data) for one in rows for at, data in one.recorded_at.items()}
        if asked and (self._account.answers or any(one.held is not None for one in rows)):
            found = await patiently(lambda: self._desk.first_answers(asked))
        for waiting in rows:
            waiting.receipts += [found[at] for at in waiting.recorded_at if at in found]

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
                new = await self._settled_row(chain, waiting)
            except LedgerError as error:
                if error.status == 503:
                    raise
                self._account.refuse_by(waiting.row, error)
                continue
            if isinstance(new, Kept):
                leave(waiting.row, new, self._account)
            else:
                self._account.recorded(waiting.row, waiting.receipts, new=new)

    async def _settled_row(self, chain: Chain, waiting: Waiting) -> bool | Kept:
        """As `_row`; what waits in quarantine is settled with it, alone, so that no person decides
        it at the same time. If one was faster: how it stands there.
        """
        holding, held = self._holding, waiting.held
        if holding is None or held is None or holding.dry_run:
            return await self._row(chain, waiting)
        before = list(waiting.receipts)

        async def alone() -> bool | Kept:
            async with holding.alone(held) as (connection, kept):
                if kept.is_for_a_person:
                    return kept
                waiting.receipts = list(before)
                new = await self._row(chain, waiting)
                await holding.settle(connection, held, _positions(waiting))
                return new

        return await patiently(alone)

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
                await patiently(lambda: self._desk.rehearse(row.subject, together, self._actor))
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
        return await patiently(
            lambda: self._desk.record(
                subject, data, self._actor, key=key, registration=registration
            )
        )


def _positions(waiting: Waiting) -> list[int]:
    return sorted(one.position for one in waiting.receipts)


async def _each(
    rows: Iterable[Row | Unread] | AsyncIterable[Row | Unread],
) -> AsyncIterator[Row | Unread]:
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row
