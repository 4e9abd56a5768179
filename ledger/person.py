"""The stream of a person: asked to erase, what follows; pure.

Whoever acts here must stay known (`acts`) as long as acts are kept: with the reference of an erased
officer gone, the next login would draw another, and one officer could pass for two.

A request is decided on what the stream says already, on the duties to retain that run for the
person's sealed texts (`ledger/privacy.py`), and on the day. Given twice it is decided once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from ledger import errors
from ledger.envelope import Event
from ledger.erasure import PersonErasure, PersonHold, PersonRelease
from ledger.events import Data
from ledger.fields import Reference
from ledger.privacy import Duty
from ledger.rulebook import Rulebook
from ledger.vault_errors import OfficerOnRecord, PersonNotHeld


@dataclass(frozen=True, slots=True)
class Person:
    """What became of the requests about one person: the event that holds it, or erased it."""

    version: int = 0
    held: Event | None = None
    erased: Event | None = None

    @property
    def hold(self) -> PersonHold | None:
        """The hold that runs."""
        if self.held is None:
            return None
        assert isinstance(self.held.data, PersonHold)
        return self.held.data


def evolve(state: Person, event: Event) -> Person:
    """The state after an event of the stream."""
    state = replace(state, version=event.version)
    match event.data:
        case PersonHold():
            return replace(state, held=event)
        case PersonRelease():
            return replace(state, held=None)
        case PersonErasure():
            return replace(state, held=None, erased=event)
    return state


def decide_erasure(
    state: Person,
    *,
    person: str,
    ground: str,
    document: Reference | None,
    duty: Duty | None,
    acts: bool,
    book: Rulebook,
    today: date,
) -> Sequence[Data]:
    """Erase, or hold where a duty to retain runs; nothing where that was decided before.

    Raises CodeNotInForce or OfficerOnRecord.
    """
    if state.erased is not None or state.hold is not None:
        return []
    if book.privacy is None or ground not in book.privacy.grounds:
        raise errors.CodeNotInForce(
            field="ground", value=ground, rulebook=book.version, on=today.isoformat()
        )
    if acts and not _runs(duty, today):
        raise OfficerOnRecord(person=person)
    return [_outcome(person, ground, document, duty, today)]


def decide_due(
    state: Person, *, person: str, duty: Duty | None, acts: bool, today: date
) -> Sequence[Data]:
    """What follows when the day of a hold is over: erasure; another hold where a duty still runs.

    That is so where more was sealed for the person meanwhile. Nothing before the day is over.
    """
    hold = state.hold
    if state.erased is not None or hold is None or today <= hold.until:
        return []
    if acts and not _runs(duty, today):
        return []
    return [_outcome(person, hold.ground, hold.document, duty, today)]


def decide_release(
    state: Person,
    *,
    person: str,
    ground: str,
    document: Reference | None,
    acts: bool,
    book: Rulebook,
    day: date,
) -> Sequence[Data]:
    """End a hold early; where its ground says so, erase in the same breath.

    Raises PersonNotHeld, CodeNotInForce or OfficerOnRecord.
    """
    hold = state.hold
    if hold is None:
        raise PersonNotHeld(person=person)
    releases = book.privacy.releases if book.privacy else {}
    if ground not in releases:
        raise errors.CodeNotInForce(
            field="ground", value=ground, rulebook=book.version, on=day.isoformat()
        )
    erases = releases[ground].erases
    if erases and acts:
        raise OfficerOnRecord(person=person)
    release = PersonRelease(person=person, ground=ground, erased=erases, document=document)
    if not erases:
        return [release]
    return [release, PersonErasure(person=person, ground=hold.ground, through=0)]


def _outcome(
    person: str, ground: str, document: Reference | None, duty: Duty | None, today: date
) -> Data:
    """An erasure's `through` is stamped by whoever records it."""
    if duty is None or not _runs(duty, today):
        return PersonErasure(person=person, ground=ground, through=0)
    return PersonHold(
        person=person, ground=ground, until=duty.until, basis=duty.basis, document=document
    )


def _runs(duty: Duty | None, today: date) -> bool:
    return duty is not None and duty.until >= today
