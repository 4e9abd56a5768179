"""Who looked at what: one event for each answer that gave out more than the public sees.

Each record has a stream of its own, `access-<id>`, so that no two readers, in one process or in
several, ever wait for each other's version. It is for officers: its range says which positions were
given out, and where one of them is for officers, a provider that read it would learn that something
about it is there. Whose file was opened stands in `files`, as far as the provider itself may see
what was opened; a provider is told from these (`projections/looks.py`), never shown the record.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

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
    "EXPORT",
]
"""Which door gave it out: one event, the events of a provider, the feed (pulled, or as a stream
without end), the full score, the case it is computed from, rows in quarantine, the sealed text of
one event, proposals (which are in nobody's file), what is sealed of one person (sought, or
copied), decisions in an exchange form with what is not public."""
Number = Annotated[int, Field(ge=1, le=2**53 - 1)]
ProviderIdentifier = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]{1,60}$")]
"""A provider as `ledger/identity.py` has parsed it."""
MAX_FILES = 200
"""Files that one record may name: their identifiers stay well within the size of an event."""


class AccessRecorded(Data):
    """Somebody was given more than the public sees; the actor of the envelope is who.

    `first` and `last` are the positions of what was given out (in quarantine the numbers of rows);
    `last` is None for a stream without end. `as_of`: the day of a score or a case. `files`: the
    providers in whose file something was opened that they may see themselves.
    """

    type: ClassVar[str] = "access.recorded.v1"
    door: AccessDoor
    first: Number
    last: Number | None
    as_of: Day | None = None
    files: Annotated[list[ProviderIdentifier], Field(max_length=MAX_FILES)] = Field(
        default_factory=list
    )

    def visibility(self) -> Visibility:
        """A range may tell of events that only officers know of."""
        return "officers"


def access_stream(id: str) -> str:
    """The stream of one record of access."""
    return f"access-{id}"
