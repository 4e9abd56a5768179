"""Random histories of providers, and a world in which the projections follow them.

An `Author` proposes commands as offices might send them: mostly acceptable, sometimes not; what
the ledger refuses is left out. Codes come out of the rulebook of the day, incidents and families
are few, so that they meet. The source of chance is a parameter: a seeded one for a test on a real
database, Hypothesis's own for a test that should shrink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from importlib.resources import files
from random import Random
from typing import Any

import orjson
import psycopg
from psycopg import sql

from ledger.calendar import local_day
from ledger.database import Database, migrate
from ledger.envelope import decode
from ledger.errors import LedgerError
from ledger.events import Data, provider_stream
from ledger.handle import Desk, Receipt
from ledger.identity import Actor
from ledger.provider import Provider, evolve
from ledger.rulebook import Rulebooks
from ledger.store import Ledger
from projections.disclosure import Disclosure
from projections.rights import File, Reader
from projections.runner import Projection, advance, migrate_projections
from projections.scores import Scores
from projections.sheet import Sheets
from tests import given
from tests.conftest import Clock, Run
from tests.officers import decided

INCIDENTS_PER_CATEGORY = 3
CLIENTS = (given.CLIENT, given.OTHER_CLIENT, "0198c7a0-0000-4000-8000-0000000000c3")
PAIRS: dict[str, tuple[Callable[..., Data], Callable[..., Data]]] = {
    "suspended": (given.suspend, given.resume),
    "fulfilled": (given.fulfil, given.revoke_fulfilment),
    "repaired": (given.repair, given.revoke_repair),
}
"""The acts on a demerit that enter and leave."""
ENDS: dict[str, Sequence[Callable[..., Data]]] = {
    "demerit": (given.overturn,),
    "merit": (given.revoke_reward, given.overturn),
    "inspection": (given.overturn,),
    "listing": (given.delist, given.delist, given.overturn),
    "referral": (given.overturn,),
    "qualification": (given.revoke_qualification, given.overturn),
}


class Author:
    """Proposes one command after another for one provider."""

    def __init__(self, random: Random, rulebooks: Rulebooks) -> None:
        self._random = random
        self.rulebooks = rulebooks

    def propose(self, state: Provider, today: date) -> Data:
        """A command for a provider in this state, dated on or before `today`."""
        if state.status == "unknown":
            return given.register(name=f"示例{state.identifier[10:14]}文化传媒有限公司")
        kind = self._random.choice(
            ("penalty",) * 5
            + ("complaint", "complaint", "breach", "reward", "reward", "contract", "contract")
            + ("inspection", "inspection", "status")
            + ("act",) * 12
            + ("end", "listing", "referral", "qualification")
        )
        if kind in ("act", "end") and not state.facts:
            kind = "penalty"
        proposal: Data = getattr(self, f"_{kind}")(state, today)
        return proposal

    def _day(self, today: date, *, back_days: int) -> date:
        return today - timedelta(days=self._random.randint(0, back_days))

    def _finding(self, today: date) -> dict[str, Any]:
        random, book = self._random, self.rulebooks.of(today)
        family = random.choice(list(book.items.families)[::4])
        rule = book.items.families[family]
        severity = random.choice((rule.default, rule.default, rule.least, rule.gravest))
        decided_on = self._day(today, back_days=random.choice((3, 40, 400)))
        occurred_on = self._day(decided_on, back_days=random.choice((5, 90, 700)))
        served_on = decided_on + timedelta(days=random.choice((0, 0, 7, 20)))
        earliest, latest = book.publicity_ends(severity, decided_on)
        public_until = random.choice((None, None, earliest, latest))
        lasted = random.choice((None, None, 0, 30))
        return {
            "issuer": given.issuer(random.choice(("REGULATOR", "REGULATOR", "COURT", "PLATFORM"))),
            "incident": f"{rule.category}-{random.randint(1, INCIDENTS_PER_CATEGORY)}",
            "category": rule.category,
            "family": family,
            "severity": severity,
            "severity_reason": None if severity == rule.default else given.evidence(),
            "occurred_on": occurred_on,
            "ended_on": None if lasted is None else occurred_on + timedelta(days=lasted),
            "decided_on": decided_on,
            "served_on": served_on,
            "mitigation": random.sample(
                list(book.items.mitigations), random.choice((0, 0, 0, 1, 2))
            ),
            "obligation": random.choice((False, True)),
            "public_until": public_until,
        }

    def _penalty(self, _: Provider, today: date) -> Data:
        return given.penalty(**self._finding(today))

    def _complaint(self, _: Provider, today: date) -> Data:
        if self._random.random() < 0.3:
            return given.complaint(outcome="UNSUBSTANTIATED", decided_on=today)
        return given.complaint(decided_on=today, finding=given.finding(**self._finding(today)))

    def _breach(self, _: Provider, today: date) -> Data:
        ground, issuer = self._random.choice((("JUDGMENT", "COURT"), ("ADMISSION", "CONFIRMED")))
        fields = self._finding(today) | {"issuer": given.issuer(issuer), "ground": ground}
        return given.breach(**fields)

    def _reward(self, _: Provider, today: date) -> Data:
        random = self._random
        item = random.choice(list(self.rulebooks.of(today).items.merits))
        return given.reward(
            item=item,
            on=self._day(today, back_days=300),
            counterparty=random.choice(CLIENTS) if item == "CONTRACT_COMPLETED" else None,
            consent=random.choice((True, False)),
        )

    def _contract(self, _: Provider, today: date) -> Data:
        client = self._random.choice(CLIENTS)
        return given.contract(counterparty=client, on=self._day(today, back_days=300))

    def _inspection(self, _: Provider, today: date) -> Data:
        result = self._random.choice(("CLEAN", "CLEAN", "MINOR", "FINDING"))
        return given.inspection(result=result, on=self._day(today, back_days=300))

    def _listing(self, _: Provider, today: date) -> Data:
        return given.listing(listed_on=self._day(today, back_days=30))

    def _referral(self, _: Provider, today: date) -> Data:
        shown_from = self._day(today, back_days=200)
        until = shown_from + timedelta(days=self._random.choice((1, 30, 200, 365)))
        referred_on = self._random.choice((None, self._day(shown_from, back_days=9)))
        return given.referral(referred_on=referred_on, shown_from=shown_from, public_until=until)

    def _qualification(self, _: Provider, today: date) -> Data:
        decided_on = self._day(today, back_days=200)
        last = decided_on + timedelta(days=self._random.randint(0, 400))
        until = self._random.choice((None, last))
        return given.qualification(decided_on=decided_on, valid_from=decided_on, valid_until=until)

    def _status(self, _: Provider, today: date) -> Data:
        one = self._random.choice((given.admit, given.suspend_provider, given.resume_provider))
        return one(decided_on=today)

    def _end(self, state: Provider, _: date) -> Data:
        return given.end_publicity(self._random.choice(list(state.facts)))

    def _act(self, state: Provider, today: date) -> Data:
        random = self._random
        fact = state.facts[random.choice(list(state.facts))]
        make = random.choice(ENDS[fact.kind])
        repaired = [one for one in state.facts.values() if one.in_force("repaired")]
        if repaired and random.random() < 0.3:
            fact = random.choice(repaired)
            make = given.revoke_repair
        elif fact.kind == "demerit" and random.random() < 0.9:
            pair = random.choice(("suspended", "fulfilled", "repaired", "repaired"))
            fits = random.random() < 0.9
            make = PAIRS[pair][fact.in_force(pair) is fits]
        on = max(fact.since, self._day(today, back_days=random.choice((0, 0, 25))))
        return make(fact.id, on=on)


class World:
    """An open ledger whose two projections are moved by the test, one day after another."""

    def __init__(
        self, ledger: Ledger, desk: Desk, run: Run, *, clock: Clock, connection: psycopg.Connection
    ) -> None:
        self.ledger, self.desk, self.run, self.clock = ledger, desk, run, clock
        self.connection = connection
        self._states: dict[str, Provider] = {}
        self.scores = Scores(ledger)
        self.disclosure = Disclosure(ledger)
        self.sheets = Sheets(ledger, self.scores, self.disclosure)

    @property
    def today(self) -> date:
        """The day of the ledger's clock."""
        return local_day(self.clock())

    def record(
        self, command: Data, provider: str = given.PROVIDER, actor: Actor = given.REGISTRAR
    ) -> Receipt:
        """Record a command (of two officers, if need be), and let the projections follow."""
        receipt = self.run(decided(self.desk, provider, command, actor))
        self.follow()
        return receipt

    def follow(self, *projections: Projection, today: date | None = None) -> None:
        """Let projections (both, if none is named) take in everything, and settle the day."""
        for one in projections or (self.scores, self.disclosure):
            while advance(self.connection, self.ledger, one, today=today or self.today):
                pass

    def attempt(self, author: Author, provider: str) -> Receipt | None:
        """Record what the author proposes for a provider; None if the ledger refuses it."""
        command = author.propose(self.state(provider), self.today)
        try:
            return self.run(decided(self.desk, provider, command))
        except LedgerError:
            return None

    def state(self, provider: str) -> Provider:
        """The state of a provider's stream, by what the log holds now."""
        state = self._states.setdefault(provider, Provider(provider))
        stream = provider_stream(provider)
        for stored in self.ledger.read_stream(stream, after_version=state.version):
            evolve(state, decode(stored.state))
        return state

    def sheet(self, provider: str = given.PROVIDER) -> dict[str, Any]:
        """The public sheet of today; there must be one."""
        sheet = self.sheets.sheet(provider, today=self.today)
        assert sheet is not None
        return sheet

    def table(self, name: str, *, schema: str = "scores_1") -> list[tuple[Any, ...]]:
        """All rows of a projection's table, sorted."""
        rows = self.connection.execute(f"SELECT * FROM {schema}.{name}".encode()).fetchall()
        return sorted(rows, key=repr)


@contextmanager
def world_of(
    ledger: Ledger,
    run: Run,
    clock: Clock,
    *opened_at: int,
    rulebook: dict[str, Any] | None = None,
    purpose: str = "demonstration",
) -> Iterator[World]:
    """The world of a ledger that is opened at a moment (UTC), with the tables of both projections.

    Its database does not wait for the disk: these tests kill clients, never the server.
    """
    clock.set(*opened_at)
    migrate_projections(ledger.database)
    with ledger.database.connect(role=None) as owner:
        owner.execute(
            sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(
                sql.Identifier(owner.info.dbname)
            )
        )
    desk = Desk(ledger)
    book = {} if rulebook is None else {"rulebook": rulebook}
    opening = given.opening(purpose=purpose, **book)
    run(desk.open_ledger(opening, given.REGISTRAR))
    with ledger.database.connect() as connection:
        yield World(ledger, desk, run, clock=clock, connection=connection)


def second_tables(database: Database, name: str) -> str:
    """Tables of a projection in a second schema, as `rebuild` would make them; its name."""
    schema = f"{name}_2"
    place = Database(database.conninfo, schema=schema, application=name)
    migrate(place, files("projections") / "sql" / name)
    return schema


def envelopes_of(ledger: Ledger) -> list[dict[str, Any]]:
    """Every stored event, parsed, in order."""
    return [orjson.loads(one.state) for one in ledger.read(0, 1_000_000)]


def whole_file(subject: str) -> File:
    """The file of a provider, as an auditor opens it."""
    file = Reader("auditor", "CN-AUDIT-1").file(subject)
    assert file is not None
    return file


def lines_of(
    disclosure: Disclosure, after: int, limit: int, reader: Reader, **asked: Any
) -> list[tuple[int, bytes]]:
    """The lines that a reader gets."""
    return disclosure.look(after, limit, reader, **asked).lines


def line_of(disclosure: Disclosure, position: int, reader: Reader, *, today: date) -> bytes | None:
    """The line of one position that a reader gets; None where there is none."""
    found = disclosure.line(position, reader, today=today).lines
    return found[0][1] if found else None
