"""What the database says of the ledger, in one look: for `/metrics`, and for `chengxin status`.

Numbers of the whole only; nothing here names a provider.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from api.intake.backlog import Waiting, waiting_of
from ledger.person_log import overdue
from ledger.store import Ledger
from projections.runner import Status, follower_name, progress_of


class Survey(NamedTuple):
    """The ledger as it was found. Mappings are by projection."""

    head: int
    recorded_at: datetime | None
    """When the last event was recorded; None in an empty log."""
    size_bytes: int
    follows: Mapping[str, Status]
    followers: Mapping[str, int]
    """How many processes follow the log into a projection: one works, the others are hot spares."""
    quarantined: Waiting
    overdue: int
    """Holds that last though their day is over."""

    def lag(self, projection: str) -> int:
        """How many events a projection is behind."""
        return max(self.head - self.follows[projection].position, 0)


def survey(ledger: Ledger, projections: Iterable[str]) -> Survey:
    """Look at the database. Raises psycopg.Error."""
    place = ledger.database
    head = place.fill("SELECT position, nullif(recorded_at, '-infinity') FROM :schema.:app_head")
    ((position, recorded_at),) = ledger.rows(head.encode())
    ((size_bytes,),) = ledger.rows(b"SELECT pg_database_size(current_database())")
    names = {follower_name(one): one for one in projections}
    sessions = ledger.rows(
        b"SELECT application_name, count(*) FROM pg_stat_activity"
        b" WHERE datname = current_database() AND application_name = ANY (%s) GROUP BY 1",
        [list(names)],
    )
    return Survey(
        head=position,
        recorded_at=recorded_at,
        size_bytes=size_bytes,
        follows={one: progress_of(ledger, one) for one in names.values()},
        followers=dict.fromkeys(names.values(), 0) | {names[name]: n for name, n in sessions},
        quarantined=waiting_of(ledger),
        overdue=overdue(ledger),
    )
