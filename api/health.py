"""Is the process alive, and is everything there that it needs to answer?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import psycopg
from fastapi import Response
from psycopg_pool import PoolTimeout

from api import openapi
from api.intake.backlog import Waiting, waiting_of
from api.oidc.keys import KeysState
from api.problems import AWAY
from api.query import Operation
from api.replies import reply
from ledger.database import reading
from ledger.errors import Unavailable
from ledger.store import Ledger
from ledger.tail import Tail
from projections.disclosure import Disclosure
from projections.runner import Status, progress_of
from projections.scores import Scores

READY_SECONDS = 3.0
CLOCK_AHEAD_MINUTES = 5
"""A clock further ahead writes nothing: `ledger/sql/0002_append.sql` refuses it."""
CLOCK_AHEAD = f"clock: more than {CLOCK_AHEAD_MINUTES} minutes ahead of the database's"
"""What `/readyz` says then."""
READ_ONLY = "database: read-only"
"""What `/readyz` says of a standby, or of a server that was told to write nothing."""

CANNOT_BE_REACHED = "database: cannot be reached"
BUSY = "database: every connection is in use, or an answer takes too long"
"""What `/readyz` says where the database answers the listening connection and no other."""
NOT_MIGRATED = "database: no schema of this version"
"""What `/readyz` says where `chengxin migrate` was forgotten."""
NO_SCHEMA = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)


class Health:
    """Answers `/healthz` and `/readyz`."""

    def __init__(
        self,
        ledger: Ledger,
        tail: Tail,
        *,
        scores: Scores,
        disclosure: Disclosure,
        ready_lag_events: int,
        issuers: Callable[[], Mapping[str, KeysState]],
    ) -> None:
        self._ledger = ledger
        self._tail = tail
        self._scores = scores
        self._disclosure = disclosure
        self._ready_lag_events = ready_lag_events
        self._issuers = issuers

    def routes(self) -> list[Operation]:
        """The routes."""
        return [
            Operation("/healthz", self.alive, methods=["GET"], **openapi.of_read("/healthz")),
            Operation("/readyz", self.ready, methods=["GET"], **openapi.of_read("/readyz")),
        ]

    async def alive(self) -> Response:
        """The process answers; nothing else is asked."""
        return reply({"status": "alive"})

    async def ready(self) -> Response:
        """Whether everything needed to answer is there, and what is not."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                found = await reading(self._look)
        except (TimeoutError, Unavailable, *AWAY) as error:
            busy = self._tail.reached() and isinstance(error, PoolTimeout | TimeoutError)
            found = self._report(None, {}, [BUSY if busy else CANNOT_BE_REACHED], None)
        except NO_SCHEMA:
            found = self._report(None, {}, [NOT_MIGRATED], None)
        response = reply(found)
        response.status_code = 200 if found["ready"] else 503
        return response

    def _look(self) -> dict[str, Any]:
        head = self._ledger.head()
        follows = {
            one.schema: progress_of(self._ledger, one.schema)
            for one in (self._scores, self._disclosure)
        }
        reasons = []
        if self._scores.rulebooks().opening is None:
            reasons.append("ledger: not opened")
        for name, status in follows.items():
            if status.error is not None:
                reasons.append(f"{name}: stopped at {place_of(status.error)}")
            elif head - status.position > self._ready_lag_events:
                reasons.append(f"{name}: {head - status.position} events behind")
        if is_read_only(self._ledger):
            reasons.append(READ_ONLY)
        if self._tail.ahead(self._ledger.clock()) > timedelta(minutes=CLOCK_AHEAD_MINUTES):
            reasons.append(CLOCK_AHEAD)
        return self._report(head, follows, reasons, waiting_of(self._ledger))

    def _report(
        self,
        head: int | None,
        follows: Mapping[str, Status],
        reasons: Sequence[str],
        waiting: Waiting | None,
    ) -> dict[str, Any]:
        if not self._tail.healthy:
            reasons = [*reasons, "tail: not listening to the database"]
        return {
            "ready": not reasons,
            "reasons": reasons,
            "head": head,
            "tail": {"healthy": self._tail.healthy, "position": self._tail.position},
            "projections": {
                name: {
                    "position": status.position,
                    "lag": max((head or 0) - status.position, 0),
                    "error": status.error and place_of(status.error),
                }
                for name, status in follows.items()
            },
            # Work for a person, which makes nothing less ready.
            "quarantine": waiting and {"waiting": waiting.rows, "oldest_on": waiting.oldest_on},
            # Away, they keep out their own bearers only, whichever process is asked.
            "issuers": {name: one._asdict() for name, one in self._issuers().items()},
        }


def place_of(error: str) -> str:
    """Where a projection stopped. Everybody may ask, and of an event that is hidden nobody is told
    the type: that stands in the log, and in `chengxin status` beside the database.
    """
    return error.partition(",")[0]


def is_read_only(ledger: Ledger) -> bool:
    """Whether the database refuses every write. Raises psycopg.Error."""
    ((setting,),) = ledger.rows(b"SELECT current_setting('transaction_read_only')")
    return bool(setting == "on")
