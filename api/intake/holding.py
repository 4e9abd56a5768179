"""The quarantine as one import uses it: what to pass over, what to keep, what it has settled.

A row is told from every other by the organisation, the import's name, its key and its bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import psycopg

from api.intake.block import Block
from api.intake.content import Content, box_of, opened, plain_problems, plain_subject
from api.intake.patience import patiently
from api.intake.quarantine import SCHEMA, Connection, Quarantine, State
from api.intake.recipe import Recipe
from api.intake.rows import Problem, Proof, Row, Unread, proof_of
from api.intake.tally import Account
from api.intake.underway import Waiting
from ledger.database import reading
from ledger.errors import Unavailable, Words
from ledger.identity import Actor
from ledger.sealing import NONCE_BYTES

SHOWN_SUBJECT_CHARACTERS = 240
IN_HAND = Problem(
    "row", "in-hand", Words("a person is correcting the row", "该行正由人工更正，尚未办结")
)
FOUND = (
    f"SELECT row_key, content, id, state, corrections::text <> '{{}}', recipe FROM {SCHEMA}.rows"
    " WHERE organisation = %s AND import = %s AND row_key = ANY (%s)"
).encode()
KEEP_RECIPE = f"INSERT INTO {SCHEMA}.recipes VALUES (%s, %s, %s) ON CONFLICT DO NOTHING".encode()
KEEP = f"""
    WITH kept AS (
        INSERT INTO {SCHEMA}.rows (organisation, import, file, recipe, quarantined_at, line,
            row_key, content, size_bytes, subject, problems, person, box)
        SELECT %s, %s, %s, %s, %s, r.* FROM unnest(%s::bigint[], %s::text[],
            %s::text[], %s::bigint[], %s::text[], %s::json[], %s::uuid[], %s::bytea[]) AS r
        ON CONFLICT (organisation, import, row_key, content) DO NOTHING
        RETURNING id, quarantined_at)
    INSERT INTO {SCHEMA}.steps (row_id, number, at, what, organisation, role, ref, why)
    SELECT id, 1, quarantined_at, 'quarantined', %s, %s, %s, '' FROM kept
""".encode()
LAST_STEP = f"(SELECT what FROM {SCHEMA}.steps WHERE row_id = id ORDER BY number DESC LIMIT 1)"
REREAD = f"""
    WITH reread AS (
        UPDATE {SCHEMA}.rows SET recipe = %s, problems = p.problems, box = p.box
            FROM unnest(%s::bigint[], %s::json[], %s::bytea[]) AS p (row_id, problems, box)
            WHERE id = p.row_id AND state = 'waiting' AND corrections::text = '{{}}'
                AND recipe <> %s AND {LAST_STEP} <> 'accepting'
            RETURNING id)
    INSERT INTO {SCHEMA}.steps (row_id, number, at, what, organisation, role, ref, why)
    SELECT id, (SELECT count(*) + 1 FROM {SCHEMA}.steps WHERE row_id = id), %s, 'reread', %s, %s,
        %s, '' FROM reread
""".encode()
BOXES = (
    f"SELECT id, content, person::text, box FROM {SCHEMA}.rows WHERE id = ANY (%s)"
    " AND state = 'waiting' AND box IS NOT NULL"
).encode()
STANDING = (
    f"SELECT id, state, corrections::text <> '{{}}', recipe FROM {SCHEMA}.rows WHERE id = %s"
).encode()
SETTLE = f"""
    WITH settled AS (
        UPDATE {SCHEMA}.rows SET state = 'recorded', positions = %s::bigint[]
            WHERE id = %s AND state = 'waiting' RETURNING id, positions)
    INSERT INTO {SCHEMA}.steps (row_id, number, at, what, organisation, role, ref, why, positions)
    SELECT id, (SELECT count(*) + 1 FROM {SCHEMA}.steps WHERE row_id = id), %s, 'recorded', %s, %s,
        %s, '', positions FROM settled
""".encode()


class Kept(NamedTuple):
    """A row that is in quarantine already: its number, what became of it, whether a person has
    begun to correct it, and the digest of the recipe by which it was read.
    """

    id: int
    state: State
    corrected: bool
    recipe: str

    @property
    def is_for_a_person(self) -> bool:
        """Whether it is not an import's to record: a person has decided it, or is about to."""
        return self.state in ("accepted", "rejected") or (
            self.state == "waiting" and self.corrected
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

    async def known(self, rows: Sequence[Row | Unread]) -> dict[int, Kept]:
        """By line, those of the rows that are in quarantine already. Raises Unavailable."""
        asked = [self.actor.organisation, self.name, [row.key for row in rows]]
        try:
            stored = await reading(self.quarantine.ledger.rows, FOUND, asked)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Unavailable from error
        found = {(key, content): Kept(*kept) for key, content, *kept in stored}
        # Only here is the digest of a row that was understood needed, and nearly never.
        under = {key for key, _ in found}
        told = {row.line: (row.key, proof_of(row.raw).sha256) for row in rows if row.key in under}
        return {line: found[one] for line, one in told.items() if one in found}

    async def keep(self, rows: Sequence[Unread]) -> dict[int, Kept]:
        """Keep rows for a person; by line, their numbers (none in a dry run).

        All of them or none go in; what is there already stays as it is. Raises SealingOff,
        VaultKeyMissing; Unavailable, OutcomeUnknown.
        """
        if self.dry_run or not rows:
            return {}
        proofs = [proof_of(row.raw) for row in rows]
        persons, boxes = await reading(self._sealed, rows, proofs)
        columns = (
            [row.line for row in rows],
            [row.key for row in rows],
            [proof.sha256 for proof in proofs],
            [proof.size_bytes for proof in proofs],
            [plain_subject(row.subject) for row in rows],
            [plain_problems(row.problems) for row in rows],
            persons,
            boxes,
        )
        organisation, now = self.actor.organisation, self.quarantine.ledger.clock()
        shared = (organisation, self.name, self.file, self.recipe.digest, now)
        async with self.quarantine.connected() as connection, connection.transaction():
            await connection.execute(KEEP_RECIPE, [self.recipe.digest, *self.recipe])
            await connection.execute(KEEP, [*shared, *columns, *self._who()])
        return await self.known(rows)

    async def reread(self, rows: Iterable[tuple[Unread, Kept]]) -> None:
        """What waits is from now on read by this run's recipe, unless a person has corrected it.

        Nor what somebody has begun to accept: it may be recorded as it was read then.
        """
        others = [
            (row, kept)
            for row, kept in rows
            if kept.recipe != self.recipe.digest and not kept.corrected
        ]
        if self.dry_run or not others:
            return
        told = {kept.id: row.problems for row, kept in others}
        boxes = await reading(self._sealed_anew, told)
        if not boxes:
            return
        numbers = list(boxes)
        problems = [plain_problems(told[id]) for id in numbers]
        digest, now = self.recipe.digest, self.quarantine.ledger.clock()
        async with self.quarantine.connected() as connection, connection.transaction():
            await connection.execute(KEEP_RECIPE, [digest, *self.recipe])
            given = [digest, numbers, problems, list(boxes.values()), digest, now]
            await connection.execute(REREAD, [*given, *self._who()])

    @asynccontextmanager
    async def alone(self, id: int) -> AsyncIterator[tuple[Connection, Kept]]:
        """A row to oneself, and how it stands: no person decides it meanwhile."""
        async with self.quarantine.alone(id, self.actor.organisation) as connection:
            found = await (await connection.execute(STANDING, [id])).fetchone()
            assert found is not None, "no row ever goes away"
            yield connection, Kept(*found)

    async def settle(self, connection: Connection, id: int, positions: Sequence[int]) -> None:
        """The row, which its caller has to himself, is recorded at these positions."""
        given = [list(positions), id, self.quarantine.ledger.clock(), *self._who()]
        await connection.execute(SETTLE, given)

    def _sealed(
        self, rows: Sequence[Unread], proofs: Sequence[Proof]
    ) -> tuple[list[str], list[bytes]]:
        """New persons whose keys are these rows', and the boxes of the rows."""
        new = self.quarantine.ledger.vault.persons.new(len(rows))
        boxes = [
            box_of(
                Content(row.subject[:SHOWN_SUBJECT_CHARACTERS], row.cells, row.problems),
                key,
                person=person,
                digest=proof.sha256,
                nonce=self.quarantine.ledger.random(NONCE_BYTES),
            )
            for row, proof, (person, key) in zip(rows, proofs, new, strict=True)
        ]
        return [person for person, _ in new], boxes

    def _sealed_anew(self, told: Mapping[int, Sequence[Problem]]) -> dict[int, bytes]:
        """By number, the boxes of waiting rows with other problems."""
        ledger = self.quarantine.ledger
        try:
            found = ledger.rows(BOXES, [list(told)])
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Unavailable from error
        keys = ledger.vault.persons.living([person for _, _, person, _ in found])
        boxes: dict[int, bytes] = {}
        for id, digest, person, box in found:
            if person in keys:
                key = keys[person]
                content = opened(box, key, person=person, digest=digest)
                boxes[id] = box_of(
                    replace(content, problems=told[id]),
                    key,
                    person=person,
                    digest=digest,
                    nonce=ledger.random(NONCE_BYTES),
                )
        return boxes

    def _who(self) -> tuple[str, str, str]:
        return self.actor.organisation, self.actor.role, self.actor.ref


async def set_apart(block: Block, holding: Holding, account: Account) -> list[Waiting]:
    """Keep what is doubtful for a person; the rows to record, of which none is settled."""
    rows: list[Row | Unread] = [*(one.row for one in block.rows), *block.doubtful]
    known = await patiently(lambda: holding.known(rows))
    left: list[Waiting] = []
    for waiting in block.rows:
        one = known.get(waiting.row.line)
        if one is not None and one.is_for_a_person:
            leave(waiting.row, one, account)
            continue
        if one is not None and one.state == "waiting":
            waiting.held = one.id
        left.append(waiting)
    there = [(row, known[row.line]) for row in block.doubtful if row.line in known]
    new = [row for row in block.doubtful if row.line not in known]
    await patiently(lambda: holding.reread(one for one in there if one[1].state == "waiting"))
    kept = await patiently(lambda: holding.keep(new))
    for row, one in there:
        if one.state == "waiting":
            account.quarantined_before(row, row.problems, one.id)
        else:
            _pass_over(row, one, account)
    for row in new:
        account.quarantined(row, kept[row.line].id if row.line in kept else None)
    return left


def leave(row: Row, kept: Kept, account: Account) -> None:
    """Count a row that is understood and yet a person's to decide."""
    if kept.state == "waiting":
        # What a person says of it may be another thing than what the mapping says by now.
        account.quarantined_before(row, [IN_HAND], kept.id)
    else:
        _pass_over(row, kept, account)


def _pass_over(row: Row | Unread, kept: Kept, account: Account) -> None:
    """Count a row that is settled."""
    if kept.state == "rejected":
        account.rejected_before(row, kept.id)
    else:
        account.recorded_before(row)
