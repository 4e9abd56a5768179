"""Who may read what: the table of rights, and the one judgement of an event for a reader on a day.

Everybody sees what the public sees: an event with visibility `public` while its item is shown
(domain.md §7). A right adds to that, by role, visibility, and whose event it is; within its reach
it holds whatever became of the item. Whoever has none gets a stub: a position and a reason, nothing
that tells whose it is. A role that stands in no row has no right, and an event type that stands in
no table is shown by right only.

Every door asks here (`projections/disclosure.py` for events, `Reader.file` for what is computed
from them); nothing in here reads anything. In words, with the reasons: `docs/access.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from projections.outline import Outline

ACCESS_RECORDED = "access.recorded.v1"


class Whose(StrEnum):
    """Of which events a right speaks, seen from the organisation of the reader."""

    NOBODYS = "none"
    EVERYBODYS = "all"
    OWN_FILE = "own file"
    """Those about the provider that the reader is."""
    OWN_RECORD = "own record"
    """Those that the reader's organisation recorded, and what was decided on them since."""


class Reach(NamedTuple):
    """How far a right goes: of whose events, and those of which matters (`()`: of all)."""

    whose: Whose
    matters: tuple[str, ...] = ()
    """How the types begin, of the event itself or of the one that it works on."""

    def covers(self, event: Outline, organisation: str) -> bool:
        """Whether an event is within the reach of a reader of this organisation."""
        match self.whose:
            case Whose.NOBODYS:
                return False
            case Whose.OWN_FILE if event.subject != organisation:
                return False
            case Whose.OWN_RECORD if organisation not in (
                event.recorder,
                event.on.recorder if event.on else "",
            ):
                return False
        if not self.matters or event.type.startswith(self.matters):
            return True
        return event.on is not None and event.on.type.startswith(self.matters)

    @property
    def looks_at_target(self) -> bool:
        """Whether it depends on the event that an event works on."""
        return self.whose is Whose.OWN_RECORD or bool(self.matters)


NONE = Reach(Whose.NOBODYS)
ALL = Reach(Whose.EVERYBODYS)
OWN_FILE = Reach(Whose.OWN_FILE)
OWN_RECORD = Reach(Whose.OWN_RECORD)
DISPUTES = Reach(Whose.EVERYBODYS, ("complaint", "contract"))
PERSONS = Reach(Whose.EVERYBODYS, ("person.", "access."))


class Rights(NamedTuple):
    """What a role may see beyond the public view."""

    public: Reach = NONE
    """Events of this visibility though their item is not shown: not served yet, repaired, ended."""
    party: Reach = NONE
    officers: Reach = NONE
    sealed: Reach = NONE
    """The events whose sealed text it may open."""
    quarantine: Whose = Whose.NOBODYS
    persons: bool = False
    """Whether it decides on erasure, hold and copy of what is known of a person."""

    @property
    def looks_at_target(self) -> bool:
        """Whether one of them depends on the event that an event works on."""
        return any(one.looks_at_target for one in (self.public, self.party, self.officers))


NOTHING_MORE = Rights()
CASEWORK = Rights(public=ALL, party=ALL, officers=ALL, sealed=ALL)
RIGHTS: Mapping[str, Rights] = {
    "registrar": CASEWORK._replace(quarantine=Whose.OWN_RECORD),
    "inspector": CASEWORK._replace(sealed=NONE),
    "case_officer": CASEWORK,
    "legal_reviewer": CASEWORK,
    "decision_maker": CASEWORK,
    "mediator": Rights(public=DISPUTES, party=DISPUTES, sealed=DISPUTES),
    "platform": Rights(public=OWN_RECORD, party=OWN_RECORD),
    "association": Rights(public=OWN_RECORD, party=OWN_RECORD),
    "trainer": NOTHING_MORE,
    "client": NOTHING_MORE,
    "public": NOTHING_MORE,
    "provider": Rights(public=OWN_FILE, party=OWN_FILE),
    "auditor": CASEWORK._replace(quarantine=Whose.EVERYBODYS),
    "privacy_officer": Rights(public=PERSONS, party=PERSONS, officers=PERSONS, persons=True),
    "subscriber": NOTHING_MORE,
    "rulebook_editor": NOTHING_MORE,
}
"""Every role's rights. `system`, the worker's own, reads through no door and stands in no row."""
FILED = frozenset(
    visibility
    for visibility in ("public", "party", "officers")
    if getattr(RIGHTS["provider"], visibility) is OWN_FILE
)
"""The visibilities of what stands in a provider's file as the provider itself sees it."""

OPEN = frozenset(
    {
        "ledger.opened.v1",
        "rulebook.published.v1",
        "provider.registered.v1",
        "provider.admitted.v1",
        "provider.suspended.v1",
        "provider.resumed.v1",
        "provider.exited.v1",
        "person.erased.v1",
    }
)
"""What is no item and no act on one, and shown where the event itself is public."""
WITHDRAWALS = frozenset(
    {
        "repair.granted.v1",
        "decision.overturned.v1",
        "reward.revoked.v1",
        "severe_list.removed.v1",
        "qualification.revoked.v1",
        "publicity.ended.v1",
    }
)
"""The acts that take an item out of the public view (a revoked repair no longer does)."""

NO_ITEM = "not-public"
"""Why an event is withheld that is not public, or has no item that could be shown."""
Stub = dict[str, str]
"""What stands in the place of an event: `withheld` says why, `retracts` which line is to go."""


@dataclass(frozen=True, slots=True)
class File:
    """The whole record of one provider, for a reader who may see all of it.

    Only `Reader.file` makes one; whatever is computed from all events of a provider asks for it.
    """

    subject: str
    reader: Reader


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: the role, and the organisation (for a provider its identifier)."""

    role: str
    organisation: str

    @property
    def rights(self) -> Rights:
        """What this reader may see beyond the public view."""
        return RIGHTS.get(self.role, NOTHING_MORE)

    def may_see(self, event: Outline) -> bool:
        """Whether this reader has a right to an event, whatever is shown to the public."""
        rights = self.rights
        match audience(event):
            case "public":
                reach = rights.public
            case "party":
                reach = rights.party
            case "officers":
                reach = rights.officers
            case _:
                return False
        return reach.covers(event, self.organisation)

    def may_open(self, event: Outline) -> bool:
        """Whether this reader may have the sealed text of an event."""
        return self.may_see(event) and self.rights.sealed.covers(event, self.organisation)

    @property
    def sees_everything(self) -> bool:
        """Whether there is no event that this reader may not see."""
        rights = self.rights
        return rights.public == rights.party == rights.officers == ALL

    def file(self, subject: str | None) -> File | None:
        """The whole record of a provider (which gives its score), if this reader may see it.

        Events for officers are not needed for it: they give no fact.
        """
        if subject is None:
            return None
        whole = (ALL, OWN_FILE) if subject == self.organisation else (ALL,)
        if self.rights.public in whole and self.rights.party in whole:
            return File(subject, self)
        return None

    def sees_rows_of(self, organisation: str) -> bool:
        """Whether this reader may see the rows in quarantine that an organisation brought in."""
        match self.rights.quarantine:
            case Whose.EVERYBODYS:
                return True
            case Whose.OWN_RECORD:
                return organisation == self.organisation
        return False


PUBLIC = Reader("public", "")


def judge(event: Outline, reader: Reader, withheld: str, item: str) -> Stub | None:
    """What a reader gets in place of an event on a day; None where it gets the event itself.

    `withheld`: why its item is not shown today, empty where it is, NO_ITEM where there is none;
    `item`: the position of the item that an act works on.
    """
    if reader.may_see(event):
        return None
    if event.visibility != "public":
        return {"withheld": NO_ITEM}
    if event.type in OPEN or not withheld:
        return None
    if event.type in WITHDRAWALS and item:
        return {"withheld": event.type, "retracts": item.zfill(20)}
    return {"withheld": withheld}


def filed_under(event: Outline) -> str | None:
    """The provider in whose file an event stands, where that provider may see it itself."""
    return event.subject if audience(event) in FILED else None


def audience(event: Outline) -> str:
    """For how wide an audience an event is: its own visibility, but for records of access.

    Early ones call themselves the provider's, and their range tells what is for officers.
    """
    return "officers" if event.type == ACCESS_RECORDED else event.visibility


def has_item(event: Outline) -> bool:
    """Whether the public sees an event or not by what has become of an item."""
    return event.visibility == "public" and event.type not in OPEN
