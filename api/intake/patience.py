"""Asking the ledger again while its database is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ledger.errors import LedgerError

PATIENCE_SECONDS = 60.0
BACK_OFF_SECONDS = 0.25
STANDING = frozenset({"ledger-not-opened", "sealing-off"})
"""What no waiting mends."""

T = TypeVar("T")


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` answers; it is asked again for a minute, so asking twice must do no harm.

    Raises what it raises, Unavailable and OutcomeUnknown only after that minute.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + PATIENCE_SECONDS
    while True:
        try:
            return await ask()
        except LedgerError as error:
            if error.status != 503 or error.code in STANDING or clock() > deadline:
                raise
        await asyncio.sleep(BACK_OFF_SECONDS)
