"""Erasing: from a request to nothing left, in steps of which each may be the last before a crash.

    decide → a line in the docket, on disk → the event → key, ciphertexts, references gone

Before the line nothing has happened. After it everything follows by itself: `resume` runs at every
start before anything is served, and in the worker; it records what the docket says and the log does
not, and forgets whoever the log says is erased and the vault still knows. So a process killed
between any two steps, and a database put back to a backup from before, end in the same state. Each
step done again changes nothing: events are told by their ids, and the forgotten stay forgotten.

One decision at a time is made, in all processes that share the docket's folder; where two do not
share one, the version of the person's stream lets one through. Blocking, and for threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Literal, TypedDict

from ledger import person as stream
from ledger.calendar import local_day
from ledger.docket import Decision, Docket
from ledger.dossier import Dossiers, Tombstone
from ledger.envelope import Event, new_id, new_nonce
from ledger.erasure import STREAM_PREFIX, PersonErasure, PersonHold, PersonRelease, person_stream
from ledger.errors import WrongVersion
from ledger.events import Data
from ledger.handle import entry_of
from ledger.identity import Actor
from ledger.keyring import Epoch
from ledger.person import Person
from ledger.person_log import PersonLog, Placed
from ledger.privacy import Duty
from ledger.rulebook import Rulebook
from ledger.store import Ledger
from ledger.vault_errors import SealingOff, UnknownPerson

TRIES = 5


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with one person.

    `on`: the day of the event that made it so, at `position`. Held: kept up to and with `until`, on
    the `basis`. Erased: what the tombstone says.
    """

    person: str
    state: Literal["kept", "held", "erased"]
    position: int = 0
    on: date | None = None
    ground: str | None = None
    until: date | None = None
    basis: str | None = None
    tombstone: Tombstone | None = None


class _Duties(TypedDict):
    duty: Duty | None
    acts: bool


Decide = Callable[[Person, Rulebook, date], Sequence[Data]]
Settle = Callable[[Sequence[Event]], None]


class Erasures:
    """Where requests to erase are decided and carried out."""

    def __init__(
        self,
        ledger: Ledger,
        docket: Docket | None,
        *,
        clock: Callable[[], datetime],
        settle: Settle | None = None,
    ) -> None:
        """`docket` None: this process has no keys, and nothing can be decided or carried out.

        `settle` ends what waits of the erased elsewhere; it may be given an erasure any time again.
        """
        self._ledger, self._docket_or_none = ledger, docket
        self._settle_rows = settle
        self._log = PersonLog(ledger, clock=clock)
        self._dossiers = Dossiers(ledger.vault)
        self._holds: dict[str, date] = {}
        self._looked_to = 0
        self._settled: tuple[tuple[int, int, int], int] | None = None

    @property
    def _docket(self) -> Docket:
        if self._docket_or_none is None:
            raise SealingOff
        return self._docket_or_none

    # --- what is asked ---------------------------------------------------------------------------

    def erase(self, person: str, ground: str, actor: Actor, *, document: str | None) -> Standing:
        """Erase a person, or hold it where a duty to retain runs; done again the same answer.

        Raises UnknownPerson, CodeNotInForce, OfficerOnRecord, SealingOff, Unavailable,
        OutcomeUnknown.
        """

        def decide(state: Person, book: Rulebook, today: date) -> Sequence[Data]:
            return stream.decide_erasure(
                state,
                person=person,
                ground=ground,
                document=document,
                **self._duties(person, state, book, today),
                book=book,
                today=today,
            )

        return self._settle(person, decide, actor, document=document)

    def release(self, person: str, ground: str, actor: Actor, *, document: str | None) -> Standing:
        """End a hold early. Raises what `erase` does, and PersonNotHeld."""

        def decide(state: Person, book: Rulebook, today: date) -> Sequence[Data]:
            return stream.decide_release(
                state,
                person=person,
                ground=ground,
                document=document,
                acts=self._duties(person, state, book, today)["acts"],
                book=book,
                day=today,
            )

        return self._settle(person, decide, actor, document=document)

    def end_hold(self, person: str, actor: Actor) -> Standing:
        """What follows when the day of a hold is over; nothing before. Raises what `erase` does."""

        def decide(state: Person, book: Rulebook, today: date) -> Sequence[Data]:
            duties = self._duties(person, state, book, today)
            return stream.decide_due(state, person=person, **duties, today=today)

        standing = self._settle(person, decide, actor, document=None)
        if standing.until is not None:  # Of what is held on without a day, more tomorrow.
            self._holds[person] = max(standing.until, self.today())
        return standing

    def standing(self, person: str) -> Standing:
        """How it stands with a person. Raises UnknownPerson, Unavailable."""
        state, positions = self._log.state(person)
        if state.version == 0 and not self._dossiers.known(person):
            raise UnknownPerson(person=person)
        at = max(positions.values(), default=0)
        if state.erased is not None:
            assert isinstance(state.erased.data, PersonErasure)
            return Standing(
                person,
                "erased",
                positions[state.erased.id],
                _day(state.erased),
                state.erased.data.ground,
                tombstone=self._dossiers.tombstone(person),
            )
        if (hold := state.hold) is not None:
            assert state.held is not None
            on = _day(state.held)
            return Standing(person, "held", at, on, hold.ground, hold.until, hold.basis)
        return Standing(person, "kept", at)

    def book(self) -> Rulebook:
        """The rulebook of today. Raises LedgerNotOpened or Unavailable."""
        return self._log.book()

    def today(self) -> date:
        """The day that counts."""
        return self._log.today()

    def epochs(self) -> Sequence[Epoch]:
        """The epochs of the vault's keys. Raises SealingOff."""
        return self._ledger.vault.persons.keyring.epochs()

    # --- what follows by itself ------------------------------------------------------------------

    def resume(self) -> int:
        """Finish what was begun, and do again what a restored backup has undone; how many persons.

        Raises Unavailable or KeyFileError.
        """
        if self._docket_or_none is None:
            return 0
        now = (self._docket.state(), self._log.last())
        if now == self._settled:
            return 0
        with self._docket.locked():
            requests = self._log.after(0)
            self._copy_into_docket(requests)
            changed = self._record_what_is_missing(self._decisions())
            erased = {
                event.data.person: event
                for _, event in self._log.after(0)
                if isinstance(event.data, PersonErasure)
            }
            left = self._dossiers.not_forgotten(erased)
            for person in left:
                self._ledger.vault.forget(person)
            if erased and self._settle_rows is not None:
                self._settle_rows(list(erased.values()))
            self._settled = (self._docket.state(), self._log.last())
        return len(changed | set(left))

    def over(self, today: date) -> list[str]:
        """Whose hold was over before today. Of one thread. Raises Unavailable."""
        for position, event in self._log.after(self._looked_to):
            match event.data:
                case PersonHold() as hold:
                    self._holds[hold.person] = hold.until
                case PersonErasure() | PersonRelease() as end:
                    self._holds.pop(end.person, None)
            self._looked_to = position
        return [person for person, until in self._holds.items() if until < today]

    # --- the steps -------------------------------------------------------------------------------

    def _settle(
        self, person: str, decide: Decide, actor: Actor, *, document: str | None
    ) -> Standing:
        book = self.book()
        with self._docket.locked():
            # What an earlier try has left is finished first, so that it is decided on all of it.
            self._record_what_is_missing(one for one in self._decisions() if one.person == person)
            state, _ = self._log.state(person)
            if state.version == 0 and not self._dossiers.known(person):
                raise UnknownPerson(person=person)
            decided = decide(state, book, self._log.today())
            if decided:
                decision = self._written(state, person, decided, actor, document)
                self._docket.add([decision])
                self._record(decision)
            self._carry_out(person)
            return self.standing(person)

    def _written(
        self,
        state: Person,
        person: str,
        decided: Sequence[Data],
        actor: Actor,
        document: str | None,
    ) -> Decision:
        now, random = self._ledger.clock(), self._ledger.random
        events = tuple(
            Event(
                id=new_id(now, random(10)),
                stream=person_stream(person),
                version=0,
                data=data,
                actor=actor,
                nonce=new_nonce(random(16)),
                causation=None if state.held is None else state.held.id,
            )
            for data in decided
        )
        return Decision(self._log.ledger_id(), person, events, document)

    def _record_what_is_missing(self, decisions: Iterable[Decision]) -> set[str]:
        """Record the decisions of the docket that are not in the log; about whom they are."""
        ours = list(decisions)
        there = self._log.read(lambda: self._ledger.read_ids([one.events[0].id for one in ours]))
        missing = [one for one in ours if one.events[0].id not in there]
        for one in missing:
            self._record(one)
        return {one.person for one in missing}

    def _record(self, decision: Decision) -> None:
        """Append a decision's events, unless the person is erased already. Raises Unavailable."""
        for attempt in range(TRIES):
            state, _ = self._log.state(decision.person)
            if state.erased is not None:
                return
            through = self._log.head()
            entries = [
                entry_of(replace(event, version=state.version + n, data=_through(event, through)))
                for n, event in enumerate(decision.events, 1)
            ]
            try:
                self._ledger.appender.append(entries)
            except WrongVersion:
                if attempt == TRIES - 1:
                    raise
            else:
                return

    def _carry_out(self, person: str) -> None:
        state, _ = self._log.state(person)
        if state.erased is None:
            return
        if self._dossiers.tombstone(person) is None:
            self._ledger.vault.forget(person)
        if self._settle_rows is not None:
            self._settle_rows([state.erased])

    def _copy_into_docket(self, requests: Sequence[Placed]) -> None:
        """What the log says and the docket does not: the file was lost, or is an older one."""
        known = {event.id for one in self._decisions() for event in one.events}
        mine = self._log.ledger_id() if requests else ""
        lost = [
            Decision(mine, event.data.person, (event,))
            for _, event in requests
            if event.id not in known
            and isinstance(event.data, PersonErasure | PersonHold | PersonRelease)
        ]
        if lost:
            self._docket.add(lost)

    # --- reads -----------------------------------------------------------------------------------

    def _decisions(self) -> list[Decision]:
        """The docket's decisions about persons of this ledger."""
        found = self._docket.decisions(STREAM_PREFIX)
        if not found:
            return []
        mine = self._log.ledger_id()
        # Files of several times may have been put one behind the other.
        ours = {one.events[0].id: one for one in found if one.ledger == mine}
        return list(ours.values())

    def _duties(self, person: str, state: Person, book: Rulebook, today: date) -> _Duties:
        """Which duty keeps what is sealed of a person, and whether it must stay known who acted."""
        acted = None
        if self._dossiers.acts(person):
            asked = today if state.held is None else _day(state.held)
            acted = self._log.last_act(person) or asked
        if book.privacy is None:
            return {"duty": None, "acts": acted is not None}
        found = self._log.of_ids(self._dossiers.events(person))
        return {
            "duty": book.privacy.duty((one.event for one in found), acted=acted),
            "acts": acted is not None and book.privacy.must_be_known(acted, today),
        }


def _through(event: Event, head: int) -> Data:
    data = event.data
    return data.model_copy(update={"through": head}) if isinstance(data, PersonErasure) else data


def _day(event: Event) -> date:
    assert event.time is not None
    return local_day(event.time)
