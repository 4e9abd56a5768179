"""The quarantine: rows that only a person can answer, kept until somebody has settled them.

Two kinds of tables (`sql/`): what a row is now, and every step that was taken with it,
which nobody can change. What a row says lies in a box that only the vault's keys open
(`content.py`), until the row is settled. An import brings rows in and settles them (`holding.py`),
a person decides them (`verdict.py`); nothing here judges a row or reads a file. What is kept is for
the officers of the organisation and for auditors only, and stands in no log.

Reads block. Writes are coroutines on connections of their own: no thread waits while somebody else
has a row to himself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

import orjson
import psycopg

from api.intake.content import (
    Content,
    box_of,
    opened,
    plain_names,
    plain_problems,
    problem_of,
)
from api.intake.recipe import Recipe
from api.intake.rows import Problem, Proof
from api.refusals import UnknownRow
from ledger.database import reading
from ledger.errors import OutcomeUnknown, Unavailable, Words
from ledger.identity import Actor
from ledger.sealing import NONCE_BYTES, PersonKey
from ledger.store import Ledger
from ledger.vault_errors import SealBroken

SCHEMA = "intake"
MAX_CONNECTIONS = 8

State = Literal["waiting", "accepted", "rejected", "recorded"]
"""`recorded`: by a later import, which understood the row."""
What = Literal[
    "quarantined",
    "reread",
    "corrected",
    "accepting",
    "accepted",
    "declined",
    "rejected",
    "recorded",
]
STATES: dict[State, Words] = {
    "waiting": Words("waiting", "待核"),
    "accepted": Words("accepted", "已核准入账"),
    "rejected": Words("rejected", "已退回"),
    "recorded": Words("recorded by a later import", "已由其后的导入入账"),
}
STEPS: dict[What, Words] = {
    "quarantined": Words("quarantined", "转入待核"),
    "reread": Words("read by another mapping", "按新映射重读"),
    "corrected": Words("corrected", "更正"),
    "accepting": Words("acceptance begun", "开始核准"),
    "accepted": Words("accepted", "核准入账"),
    "declined": Words("declined by the ledger", "账本未予入账"),
    "rejected": Words("rejected", "退回"),
    "recorded": Words("recorded by a later import", "由其后的导入入账"),
}
PERSON = 11
"""Which column of COLUMNS says whose key opens a row."""
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

COLUMNS = (
    "id, organisation, import, file, line, subject, state, problems, quarantined_at, positions,"
    " content, person, box"
)
ONE = (
    f"SELECT {COLUMNS}, size_bytes, kind, text"
    f" FROM {SCHEMA}.rows JOIN {SCHEMA}.recipes ON digest = recipe WHERE id = %s"
    " AND organisation = coalesce(%s, organisation)"
).encode()
OWNED = f"SELECT FROM {SCHEMA}.rows WHERE id = %s AND organisation = %s".encode()
HISTORY = (
    "SELECT at, what, organisation, role, ref, why, corrections, positions"
    f" FROM {SCHEMA}.steps WHERE row_id = %s ORDER BY number"
).encode()
LAST_STEP = (
    f"SELECT what FROM {SCHEMA}.steps WHERE row_id = %s AND what <> 'reread'"
    " ORDER BY number DESC LIMIT 1"
).encode()
LOCK = b"SELECT pg_advisory_lock(hashtextextended('chengxin quarantine ' || %s::bigint, 0))"
"""Whoever changes a row has it to himself, as long as his session lasts."""
CHANGE = (
    f"UPDATE {SCHEMA}.rows"
    " SET state = %s, problems = %s::json, corrections = %s::json, positions = %s::bigint[],"
    " box = %s WHERE id = %s AND state = 'waiting'"
).encode()
STEP = (
    f"INSERT INTO {SCHEMA}.steps"
    " SELECT %s, count(*) + 1, %s, %s, %s, %s, %s, %s, %s::json, %s::bigint[]"
    f" FROM {SCHEMA}.steps WHERE row_id = %s"
).encode()


@dataclass(frozen=True, slots=True)
class Entry:
    """A row in quarantine, as a list shows it."""

    id: int
    organisation: str
    name: str
    file: str
    line: int
    subject: str
    state: State
    problems: Sequence[Problem]
    quarantined_at: datetime
    positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class Held(Entry):
    """A row in quarantine with all that reading it again needs.

    `person` is whose key opens it, `answers` are the corrections of each step that made some. Of a
    settled row there are neither these nor cells and corrections.
    """

    proof: Proof
    cells: Mapping[str, str]
    corrections: Mapping[str, str]
    recipe: Recipe
    person: str | None
    answers: Sequence[Mapping[str, str]]

    def corrected(self, more: Mapping[str, str]) -> Held:
        """The row with more corrections, or other ones."""
        return replace(self, corrections=dict(self.corrections) | dict(more))


class Step(NamedTuple):
    """What somebody did with a row, and why; `corrections` and `positions` are of this step.

    Of the corrections of a settled row only the names are left.
    """

    at: datetime
    what: What
    actor: Actor
    why: str
    corrections: Mapping[str, str | None]
    positions: Sequence[int]

    @property
    def who(self) -> tuple[str, str, str]:
        """Who took it: organisation, role and reference."""
        return self.actor.organisation, self.actor.role, self.actor.ref


class Quarantine:
    """The quarantine of one ledger. Its writes belong to one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)

    def listed(
        self,
        organisation: str | None,
        *,
        state: str | None = None,
        name: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Entry]:
        """Up to `limit` rows with a number above `after`; of all organisations where None."""
        wanted = {"organisation": organisation, "state": state, "import": name}
        given = {column: value for column, value in wanted.items() if value is not None}
        conditions = "".join(f"{column} = %s AND " for column in given)
        query = (
            f"SELECT {COLUMNS} FROM {SCHEMA}.rows WHERE {conditions} id > %s ORDER BY id LIMIT %s"
        )
        found = self.ledger.rows(query.encode(), [*given.values(), after, limit])
        keys = self._keys(found)
        return [_entry(row, _content(row, keys)) for row in found]

    def held(self, id: int, organisation: str | None = None) -> Held | None:
        """A row, of one organisation or of any; another's takes the same work as none.

        Raises SealingOff, VaultKeyMissing or Unavailable.
        """
        rows = self.ledger.rows(ONE, [id, organisation])
        return _held(rows[0], self._keys(rows)) if rows else None

    def steps(self, id: int) -> list[Step]:
        """What was done with a row, in order. Raises as `held`."""
        rows = self.ledger.rows(HISTORY, [id])
        held = self.held(id) if any(row[-2] for row in rows) else None
        answers = iter(held.answers if held else ())
        steps: list[Step] = []
        for at, what, *who, why, names, positions in rows:
            given = next(answers, names) if names else {}
            steps.append(Step(at, what, Actor(*who), why, given, positions))
        return steps

    def _keys(self, rows: Sequence[Sequence[Any]]) -> dict[str, PersonKey]:
        persons = [str(row[PERSON]) for row in rows if row[PERSON] is not None]
        return self.ledger.vault.persons.living(persons)

    @asynccontextmanager
    async def alone(self, id: int, of: str) -> AsyncIterator[Connection]:
        """A connection that has an organisation's row to itself, whichever process others are in.

        It is free again when the block ends, and when this process does. Raises UnknownRow before
        it waits for another's row or keeps it from its officers; Unavailable after ten seconds.
        """
        async with self.connected() as connection:
            if await (await connection.execute(OWNED, [id, of])).fetchone() is None:
                raise UnknownRow(row=id)
            await connection.execute(LOCK, [id])
            yield connection

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """A connection in autocommit. Raises Unavailable, or OutcomeUnknown once it was there."""
        database = self.ledger.database
        async with self._free:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    database.service_conninfo(),
                    autocommit=True,
                    application_name="chengxin quarantine",
                )
            except psycopg.OperationalError as error:
                raise Unavailable from error
            try:
                async with connection:
                    yield connection
            except psycopg.errors.LockNotAvailable as error:
                raise Unavailable from error
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                raise OutcomeUnknown from error

    async def reread(self, connection: Connection, id: int, of: str | None = None) -> Held | None:
        """A row as `held`, as whoever has it to himself sees it."""
        found = await (await connection.execute(ONE, [id, of])).fetchone()
        return None if found is None else _held(found, await reading(self._keys, [found]))

    async def last_step(self, connection: Connection, id: int) -> What:
        """What was done last with a row; another mapping that read it has done nothing."""
        found = await (await connection.execute(LAST_STEP, [id])).fetchone()
        assert found is not None, "every row has the step with which it came"
        what: What = found[0]
        return what

    async def take(
        self,
        connection: Connection,
        held: Held,
        step: Step,
        *,
        state: State = "waiting",
        problems: Sequence[Problem] | None = None,
    ) -> Held:
        """Record a step, and what the row is from now on, in one transaction; the row then.

        Raises as `held`.
        """
        given = {name: text for name, text in step.corrections.items() if text is not None}
        then = replace(
            held.corrected(given),
            state=state,
            problems=held.problems if problems is None else problems,
            positions=list(step.positions),
            answers=[*held.answers, given] if given else held.answers,
        )
        row = [state, plain_problems(then.problems), plain_names(then.corrections), then.positions]
        box = await reading(self._box, then) if state == "waiting" else None
        async with connection.transaction():
            changed = await connection.execute(CHANGE, [*row, box, held.id])
            assert changed.rowcount == 1, "whoever takes a step has the row to himself"
            told = [step.at, step.what, *step.who, step.why, plain_names(given), then.positions]
            await connection.execute(STEP, [held.id, *told, held.id])
        if state == "waiting":
            return then
        left = list(map(problem_of, orjson.loads(plain_problems(then.problems))))
        return replace(then, person=None, cells={}, corrections={}, answers=[], problems=left)

    def _box(self, held: Held) -> bytes | None:
        """The box of a row as it is now; None where its key is gone, and with it what it said."""
        keys = self.ledger.vault.persons.living([held.person] if held.person else [])
        if held.person is None or held.person not in keys:
            return None
        content = Content(held.subject, held.cells, held.problems, held.corrections, held.answers)
        return box_of(
            content,
            keys[held.person],
            person=held.person,
            digest=held.proof.sha256,
            nonce=self.ledger.random(NONCE_BYTES),
        )


def _content(row: Sequence[Any], keys: Mapping[str, PersonKey]) -> Content | None:
    """What is in the box of a row; None where the key is gone."""
    digest, person, box = row[PERSON - 1 : PERSON + 2]
    key = keys.get(str(person))
    if key is None or box is None:
        return None
    try:
        return opened(box, key, person=str(person), digest=digest)
    except ValueError as error:
        raise SealBroken(path=f"quarantine/{row[0]}", event=str(person)) from error


def _entry(row: Sequence[Any], content: Content | None) -> Entry:
    id, organisation, name, file, line, subject, state, problems, at, positions = row[: PERSON - 1]
    told = list(map(problem_of, problems)) if content is None else content.problems
    shown = subject if content is None else content.subject
    return Entry(id, organisation, name, file, line, shown, state, told, at, positions)


def _held(row: Sequence[Any], keys: Mapping[str, PersonKey]) -> Held:
    size_bytes, kind, text = row[PERSON + 2 :]
    content = _content(row, keys)
    entry = _entry(row, content)
    shown = {field.name: getattr(entry, field.name) for field in fields(entry)}
    said = content or Content()
    return Held(
        **shown,
        proof=Proof(row[PERSON - 1], size_bytes),
        cells=said.cells,
        corrections=said.corrections,
        recipe=Recipe(kind, text),
        person=str(row[PERSON]) if content else None,
        answers=said.answers,
    )
