"""What was promised to persons and what they are found by: kept by the worker, for ever.

Every few seconds: what was begun is finished, whoever's hold is over is erased, what is new in the
log is marked. Each is safe in any number of processes and at any time again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import psycopg
import structlog
from anyio import to_thread

from api.worker import IDLE_SECONDS, SYSTEM
from ledger.calendar import local_day
from ledger.erasing import Erasures
from ledger.errors import LedgerError
from ledger.keyfile import KeyFileError
from ledger.marks import Marks

log = structlog.get_logger()


async def keep_promises(
    erasures: Erasures, marks: Marks | None, *, clock: Callable[[], datetime]
) -> None:
    """Do it for ever; ends by cancellation. A database away is waited for."""
    while True:
        try:
            await to_thread.run_sync(keep_once, erasures, marks, clock())
        except (LedgerError, psycopg.Error, KeyFileError) as error:
            log.warning("erasing waits", reason=str(error))
        except Exception:
            # Nothing may end this task: what was promised would not be kept, and nobody told.
            log.exception("erasing waits")
        await asyncio.sleep(IDLE_SECONDS)


def keep_once(erasures: Erasures, marks: Marks | None, now: datetime) -> None:
    """One round. Raises LedgerError or KeyFileError."""
    if resumed := erasures.resume():
        log.info("erasures finished", persons=resumed)
    for person in erasures.over(local_day(now)):
        standing = erasures.end_hold(person, SYSTEM)
        if standing.state == "held":
            log.warning("hold goes on", until=standing.until, position=standing.position)
        else:
            log.info("hold over", state=standing.state, position=standing.position)
    while marks is not None and marks.follow():
        pass
