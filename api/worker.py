"""What the passing of time must leave in the log: the end of each item's publicity.

The item itself goes out of sight by its date, whether or not a worker runs
(`projections/disclosure.py`); the event recorded here tells subscribers to retract it. It is
recorded exactly once however many workers run and whenever they were down: the provider's stream
refuses a second end, and what was missed is found by the same query later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, datetime
from http import HTTPStatus

import psycopg
import structlog

from ledger.calendar import local_day
from ledger.database import reading
from ledger.errors import ActConflict, LedgerError
from ledger.handle import Desk
from ledger.identity import WORKER_REF, Actor
from ledger.keyfile import KeyFileError
from ledger.provider import EndPublicity
from ledger.rotation import Terms, steps_due
from ledger.vault import Vault
from projections.disclosure import Disclosure

BATCH_ITEMS = 500
IDLE_SECONDS = 5.0
KEYS_SECONDS = 3600.0
SYSTEM = Actor("CHENGXIN", "system", WORKER_REF)

log = structlog.get_logger()


async def end_publicity(desk: Desk, disclosure: Disclosure, *, now: datetime) -> int:
    """Record the end of every item whose period is over; how many were recorded."""
    recorded = 0
    ending = await reading(disclosure.ending, local_day(now), BATCH_ITEMS)
    for item in ending:
        try:
            receipt = await desk.record(
                item.subject, EndPublicity(target=str(item.id)), SYSTEM, causation=str(item.id)
            )
            recorded += 1
            log.info("publicity ended", position=receipt.position)
        except ActConflict:
            # Another worker was faster; the projection has not followed yet.
            continue
        except LedgerError as error:
            if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            log.error("publicity not ended", item=str(item.id), reason=str(error))
    return recorded


async def look_after_keys(vault: Vault, terms: Terms, today: date) -> int:
    """Rotate the vault's keys where an epoch is over, destroy what no backup needs; the steps done.

    Raises LedgerError; the next time goes on where this one ended.
    """
    done = 0
    steps = steps_due(vault, terms, today)
    while (step := await reading(next, steps, None)) is not None:
        await reading(step)
        done += 1
    return done


async def keep_keys(vault: Vault, terms: Terms | None, *, clock: Callable[[], datetime]) -> None:
    """Look after the keys once an hour, for ever; nothing where this process has none."""
    while terms is not None:
        try:
            await look_after_keys(vault, terms, local_day(clock()))
        except (LedgerError, psycopg.Error, OSError, KeyFileError) as error:
            log.warning("vault keys wait", reason=str(error))
        await asyncio.sleep(KEYS_SECONDS)


async def work(
    desk: Desk,
    disclosure: Disclosure,
    *,
    clock: Callable[[], datetime],
    terms: Terms | None = None,
) -> None:
    """Do it for ever; ends by cancellation. A database away is waited for.

    `terms`: how long vault keys are kept; None where this process has none.
    """
    async with asyncio.TaskGroup() as duties:
        duties.create_task(keep_publicity(desk, disclosure, clock=clock))
        duties.create_task(keep_keys(desk.ledger.vault, terms, clock=clock))


async def keep_publicity(
    desk: Desk, disclosure: Disclosure, *, clock: Callable[[], datetime]
) -> None:
    """Record the ends of publicity, for ever."""
    while True:
        try:
            recorded = await end_publicity(desk, disclosure, now=clock())
        except (LedgerError, psycopg.Error) as error:
            log.warning("worker waits", reason=str(error))
            recorded = 0
        except Exception:
            # Nothing may end this task: periods would end in no log, and nobody would be told.
            log.exception("worker waits")
            recorded = 0
        # A full batch means that more is due; the projection needs a moment to follow.
        await asyncio.sleep(0.2 if recorded == BATCH_ITEMS else IDLE_SECONDS)
