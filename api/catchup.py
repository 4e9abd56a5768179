"""A projection brought to the head of the log for one answer of the command line.

On a server that nobody serves from, nobody else follows the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from ledger.calendar import local_day
from ledger.errors import Unavailable
from ledger.store import Ledger
from projections.runner import Projection, advance, progress_of

PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.1


def catch_up(ledger: Ledger, projection: Projection, *, clock: Callable[[], datetime]) -> None:
    """Bring a projection to the head of the log, or wait for the process that does.

    Raises Unavailable where an event stops it, or the process takes too long.
    """
    head, deadline = ledger.head(), time.monotonic() + PATIENCE_SECONDS
    with ledger.database.connect() as connection:
        while (status := progress_of(ledger, projection.schema)).position < head:
            if status.error is not None or time.monotonic() > deadline:
                raise Unavailable
            if not advance(connection, ledger, projection, today=local_day(clock())):
                time.sleep(POLL_SECONDS)
