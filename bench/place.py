"""Where a benchmark runs: a fresh database on the run's server, and what a row says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict

from api.security import Tokens
from api.settings import Settings
from api.storage import migrate_all
from ledger.database import Database
from ledger.embedded import Embedded
from ledger.events import Issuer, LedgerOpened, ProviderRegistered, Purpose
from ledger.evidence import EvidenceDigest
from ledger.findings import ImposePenalty
from ledger.handle import Desk
from ledger.identity import Actor
from ledger.rulebook import first_rulebook
from ledger.store import Ledger, system_clock

ACTOR = Actor("CN-BENCH", "registrar", "0198c7a0-0000-7000-8000-000000000001")
EVIDENCE = EvidenceDigest(
    sha256="ab" * 32, media_type="application/pdf", size_bytes=48_213, custodian="CN-BENCH"
)
REGULATOR = Issuer(kind="REGULATOR", name="示范省市场监督管理局")


class Row(NamedTuple):
    """One line of the table. Figures are per second unless the note says otherwise."""

    what: str
    ours: float
    peer: str = ""
    peers: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's, where there is one."""
        return None if self.peers is None else self.ours / self.peers

    def told(self) -> dict[str, object]:
        """As the record of a run has it."""
        ratio = self.ratio
        return self._asdict() | {"ratio": None if ratio is None else round(ratio, 3)}


class Place:
    """The server of the run."""

    def __init__(self, server: Embedded) -> None:
        self._server = server

    def database(self, name: str) -> Database:
        """A fresh, migrated database."""
        with psycopg.connect(self._server.conninfo(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        database = Database(self._server.conninfo(dbname=name))
        migrate_all(database)
        return database

    def library_environment(self, database: Database) -> dict[str, str]:
        """The eventsourcing library's settings for the same database, as its manual says."""
        given = conninfo_to_dict(database.conninfo)
        return {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": str(given["dbname"]),
            "POSTGRES_HOST": str(given["host"]),
            "POSTGRES_PORT": str(given.get("port") or "5432"),
            "POSTGRES_USER": str(given["user"]),
            "POSTGRES_PASSWORD": "",
            "POSTGRES_POOL_SIZE": "64",
            "POSTGRES_MAX_OVERFLOW": "0",
            "POSTGRES_SCHEMA": "public",
        }


def tokens_of(settings: Settings) -> Tokens:
    """The keys of the run, made in the folder that the settings name."""
    assert settings.key_dir is not None
    return Tokens(
        settings.key_dir,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        clock=system_clock,
    )


def opening(purpose: Purpose = "demonstration") -> LedgerOpened:
    """The first event of a ledger of the run."""
    return LedgerOpened(
        name="bench", origin="localhost/bench", purpose=purpose, rulebook=first_rulebook()
    )


@contextmanager
def opened(database: Database, *, purpose: Purpose = "demonstration") -> Iterator[Desk]:
    """The desk of a ledger that has just been opened there."""
    with Ledger(database) as ledger:
        # A desk belongs to one loop; this one's ends here.
        asyncio.run(Desk(ledger).open_ledger(opening(purpose), ACTOR))
        yield Desk(ledger)


def registration(number: int) -> ProviderRegistered:
    """The registration of a provider, different for each number."""
    return ProviderRegistered(
        name=f"第{number}号示例公司", entity_kind="ENTERPRISE", origin="IMPORT"
    )


def percentile(figures: Iterable[float], percent: int) -> float:
    """What so many percent of the figures do not exceed."""
    ordered = sorted(figures)
    return ordered[(len(ordered) * percent - 1) // 100]


def penalty(number: int) -> ImposePenalty:
    """A penalty like any other, different for each number."""
    return ImposePenalty(
        issuer=REGULATOR,
        document_no=f"示市监处〔2026〕{number}号",
        evidence=[EVIDENCE],
        incident=f"INC-{number}",
        category="ADVERT",
        family="AD_FALSE_CLAIM",
        severity="S2",
        law_article="《中华人民共和国广告法》第五十五条",
        occurred_on=date(2026, 1, 5),
        decided_on=date(2026, 2, 10),
        served_on=date(2026, 2, 12),
        obligation=False,
    )
