"""Who looked at what: one event for each answer that gave out more than the public sees.

Each record has a stream of its own, `access-<identifier>-<id>` (`access-<id>` where it concerns no
single provider). So no two readers, in one process or in several, ever wait for each other's
version, and `streamversion` tells a provider nothing of how often others were looked at, as the
numbers of one common stream would. The records about one provider are found by an index over the
stream's name (`ledger/sql/0005_access.sql`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ledger.events import Data, Visibility
from ledger.fields import Day

AccessDoor = Literal[
    "EVENT",
    "EVENTS",
    "FEED",
    "STREAM",
    "SCORE",
    "CASE",
    "QUARANTINE",
    "SEALED",
    "PROPOSALS",
    "PERSON",
]
"""Which door gave it out: one event, the events of a provider, the feed (pulled, or as a stream
without end), the full score, the case it is computed from, rows in quarantine, the sealed text of
one event, proposals (of no single provider: in the record of its file it would find them), what is
sealed of one person (sought, or copied)."""
Number = Annotated[int, Field(ge=1, le=2**53 - 1)]


class AccessRecorded(Data):
    """Somebody was given more than the public sees; the actor of the envelope is who.

    `first` and `last` are the positions of what was given out (in quarantine the numbers of rows);
    `last` is None for a stream without end. `as_of`: the day of a score or a case.
    """

    type: ClassVar[str] = "access.recorded.v1"
    door: AccessDoor
    first: Number
    last: Number | None
    as_of: Day | None = None

    def visibility(self) -> Visibility:
        """The provider whose file it was may know who looked."""
        return "party"


def access_stream(subject: str | None, id: str | None = None) -> str:
    """The stream of one record of access; without an id, what those about a provider begin with."""
    return "-".join(part for part in ("access", subject, id) if part is not None)
