"""One item of the public view: what an event gives to be shown, from when to when, and why not.

Knows one row of the items table and the event it comes from; who asks, and what happens to the
rows, is the business of `disclosure.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID

from ledger.envelope import TYPE_PREFIX

KINDS = {
    "penalty.imposed.v1": "PENALTY",
    "complaint_outcome.recorded.v1": "COMPLAINT",
    "contract_breach.confirmed.v1": "BREACH",
    "severe_list.entered.v1": "LISTING",
    "referral.recorded.v1": "REFERRAL",
    "qualification.verified.v1": "QUALIFICATION",
    "reward.granted.v1": "REWARD",
}
FOREVER = date(9999, 12, 31)
ITEM_COLUMNS = (
    "position, id, subject, kind, shown_from, shown_until,"
    " suspended, fulfilled, repaired, overturned, removed, ended"
)


class Item(NamedTuple):
    """One row of the items table; what it says stands in the event at its position."""

    position: int
    id: UUID
    subject: str
    kind: str
    shown_from: date
    shown_until: date
    suspended: bool
    fulfilled: bool
    repaired: bool
    overturned: bool
    removed: bool
    ended: bool

    def withheld(self, today: date) -> str | None:
        """Why the public does not see it today; None where it does."""
        if self.overturned:
            return "overturned"
        if self.repaired:
            return "repaired"
        if self.removed:
            return "removed"
        if self.ended or today >= self.shown_until:
            return "publicity-ended"
        return "not-yet-served" if today < self.shown_from else None


def said_by(envelope: Mapping[str, Any]) -> Any:
    """What an event says of its item: its data, of a complaint the finding (there may be none)."""
    data = envelope["data"]
    return data.get("finding", data)


def item_of(envelope: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The item an event gives: its kind, the first day it is shown and the first day no longer.

    None where it may never be shown singly.
    """
    kind = KINDS.get(envelope["type"].removeprefix(TYPE_PREFIX))
    if kind is None:
        return None
    data = said_by(envelope)
    if kind == "LISTING":
        return kind, data["listed_on"], FOREVER.isoformat()
    if kind == "QUALIFICATION":
        return kind, data["decided_on"], FOREVER.isoformat()
    if kind == "REFERRAL":
        return kind, data["shown_from"], data["public_until"]
    if kind == "REWARD":
        return (kind, data["on"], FOREVER.isoformat()) if data["consent"] else None
    if data is None or data["publicity"] != "SINGLY":
        return None
    return kind, data["served_on"], data["public_until"]
