"""What is recorded of a request to erase: the erasure, a hold in its place, the end of a hold.

Each person has a stream of its own, named by the random reference that stands for it everywhere.
Nothing here says who that is. Events only: the vocabulary rests on this module.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from ledger.events import Data, Visibility
from ledger.fields import Code, Day, Reference
from ledger.identity import Ref

Position = Annotated[int, Field(ge=0, le=2**53 - 1)]


class PersonErasure(Data):
    """All sealed text of a person is gone, for ever (PIPL 47).

    Public, so that whoever keeps a copy is told. `through`: the last position when it was recorded;
    no event after it holds anything of this person that could be opened.
    """

    type: ClassVar[str] = "person.erased.v1"
    person: Ref
    ground: Code
    through: Position


class PersonHold(Data):
    """Erasure was asked for, and a duty to retain runs: up to and with the day `until`.

    `ground` is why it was asked for, `basis` the duty (both codes of the rulebook), `document` the
    number under which the request is filed.
    """

    type: ClassVar[str] = "person.held.v1"
    person: Ref
    ground: Code
    until: Day
    basis: Code
    document: Reference | None = None

    def visibility(self) -> Visibility:
        """Who asked for what is between the person and the officers."""
        return "officers"


class PersonRelease(Data):
    """A hold ended before its day: `erased` says whether the text goes now, or stays."""

    type: ClassVar[str] = "person.released.v1"
    person: Ref
    ground: Code
    erased: bool
    document: Reference | None = None

    def visibility(self) -> Visibility:
        """As the hold that it ends."""
        return "officers"


STREAM_PREFIX = "person-"


def person_stream(person: str) -> str:
    """The stream of what became of a person's sealed text."""
    return STREAM_PREFIX + person
