"""The quarantine as one import uses it: what to pass over, what to keep, what it has settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg

from api.block import Block
from api.patience import patiently
from api.quarantine import Known, Quarantine
from api.recipe import Recipe
from api.rows import Problem, Row, Unread, proof_of
from api.tally import Account
from api.underway import Waiting
from ledger.database import reading
from ledger.errors import Unavailable, Words
from ledger.identity import Actor

IN_HAND = Problem(
    "row", "in-hand", Words("a person is correcting the row", "该行正由人工更正，尚未办结")
)


@dataclass(frozen=True, slots=True)
class Holding:
    """Where the doubtful rows of one run go. In a dry run nothing is kept and nothing settled."""

    quarantine: Quarantine
    actor: Actor
    name: str
    file: str
    recipe: Recipe
    dry_run: bool = False

    async def known(self, rows: Sequence[Row | Unread]) -> dict[int, Known]:
        """By line, those of the rows that were in quarantine before. Raises Unavailable."""
        keys = [row.key for row in rows]
        try:
            found = await reading(self.quarantine.known, self.actor.organisation, self.name, keys)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Unavailable from error
        if not found:
            return {}
        # Only here is the digest of a row that was understood needed, and nearly never.
        under = {key for key, _ in found}
        told = {row.line: (row.key, proof_of(row.raw).sha256) for row in rows if row.key in under}
        return {line: found[one] for line, one in told.items() if one in found}

    async def keep(self, rows: Sequence[Unread]) -> dict[int, Known]:
        """Keep rows for a person; by line, their numbers (none in a dry run)."""
        if self.dry_run or not rows:
            return {}
        await self.quarantine.keep(
            rows, self.actor, name=self.name, file=self.file, recipe=self.recipe
        )
        return await self.known(rows)

    async def settle(self, recorded: Mapping[int, Sequence[int]]) -> None:
        """What waited under these numbers is recorded at these positions."""
        if not self.dry_run and recorded:
            await self.quarantine.settle(recorded, self.actor)


async def set_apart(block: Block, holding: Holding, account: Account) -> list[Waiting]:
    """Keep what is doubtful for a person; the rows to record, of which none is settled."""
    rows: list[Row | Unread] = [*(one.row for one in block.rows), *block.doubtful]
    known = await patiently(lambda: holding.known(rows))
    left: list[Waiting] = []
    for waiting in block.rows:
        one = known.get(waiting.row.line)
        if one is not None and one.state in ("accepted", "rejected"):
            _pass_over(waiting.row, one, account)
            continue
        if one is not None and one.state == "waiting":
            if one.corrected:
                # What a person says of it may be another thing than what the mapping says by now.
                account.quarantined_before(waiting.row, [IN_HAND], one.id)
                continue
            waiting.held = one.id
        left.append(waiting)
    new = [row for row in block.doubtful if row.line not in known]
    kept = await patiently(lambda: holding.keep(new))
    for row in block.doubtful:
        one = known.get(row.line)
        if one is None:
            number = kept[row.line].id if row.line in kept else None
            account.quarantined(row, number)
        elif one.state == "waiting":
            account.quarantined_before(row, row.problems, one.id)
        else:
            _pass_over(row, one, account)
    return left


def _pass_over(row: Row | Unread, known: Known, account: Account) -> None:
    """Count a row that is settled."""
    if known.state == "rejected":
        account.rejected_before(row, known.id)
    else:
        account.recorded_before(row)
