"""A row on its way into the ledger: what it asks for, under which keys, what is there already.

Knows no ledger and decides nothing; `api/intake/imports.py` is the one user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from api.intake.rows import Row
from ledger.appender import Key
from ledger.events import Data
from ledger.handle import Receipt

Known = Mapping[tuple[str, str], tuple[bytes, int]]
"""The keys that are recorded: (subject, key) → request digest, first position."""


class Wanted(NamedTuple):
    """A command with its key."""

    data: Data
    key: Key


@dataclass(slots=True)
class Waiting:
    """A row on its way: its commands that are left, the receipts of those that are recorded.

    `recorded_at`: what an earlier run recorded, by first position. `held`: the number under which
    it waits in quarantine.
    """

    row: Row
    commands: list[Wanted]
    receipts: list[Receipt] = field(default_factory=list)
    recorded_at: dict[int, Data] = field(default_factory=dict)
    held: int | None = None


@dataclass(slots=True)
class Chain:
    """The rows of one subject under way, in the order of the file."""

    known: bool
    last: asyncio.Task[None] | None = None


def bytes_of(data: Data) -> bytes:
    """What the digest of a command's idempotency key is made of."""
    # Without defaults: a field that a later version adds does not make an old row a new one.
    return data.__pydantic_serializer__.to_json(data, exclude_defaults=True)
