"""How much work the quarantine holds for a person: numbers of the whole, and nothing of any row."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from api.intake.quarantine import SCHEMA
from ledger.calendar import local_day
from ledger.store import Ledger

WAITING = (
    f"SELECT count(*), min(quarantined_at) FROM {SCHEMA}.rows WHERE state = 'waiting'"
).encode()


class Waiting(NamedTuple):
    """How many rows wait for a person, and since which day (Asia/Shanghai) the oldest does."""

    rows: int
    oldest_on: date | None


def waiting_of(ledger: Ledger) -> Waiting:
    """What waits in the ledger's quarantine. Raises psycopg.Error."""
    [(rows, oldest)] = ledger.rows(WAITING)
    return Waiting(rows, None if oldest is None else local_day(oldest))
