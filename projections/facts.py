"""What an event means for the score: every event type and the fact or act it gives.

The table is complete: a type that stands in no row stops the projection (`docs/events.md` shows
the same table, and a test holds the two together). It works on parsed envelopes, so that a
replay of a million events costs no model building; the events were validated when recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any

from ledger.acts import ACT_OF_EVENT
from ledger.calendar import local_day
from ledger.envelope import TYPE_PREFIX, parse_time
from ledger.errors import UnknownEventType
from ledger.events import Later
from ledger.provider import COMPLETED_CONTRACT
from ledger.qualification import QualificationRevoked
from projections.case import Act, Demerit, Fact, Inspection, Listing, Merit

Envelope = Mapping[str, Any]
FactObject = dict[str, Any]
"""A fact as scoring.md's "Input: facts" writes it."""
HOUR_CHARACTERS = len("YYYY-MM-DDTHH")

_day = date.fromisoformat


def _nothing(_: Envelope) -> list[FactObject]:
    return []


def _demerit(envelope: Envelope) -> list[FactObject]:
    return [_demerit_of(envelope, envelope["data"])]


def _demerit_of(envelope: Envelope, data: Mapping[str, Any]) -> FactObject:
    return {
        "kind": "demerit",
        "id": envelope["id"],
        "incident": data["incident"],
        "category": data["category"],
        "family": data["family"],
        "severity": data["severity"],
        "issuer": data["issuer"]["kind"],
        "occurred_on": data["occurred_on"],
        "ended_on": data["ended_on"],
        "decided_on": data["decided_on"],
        "served_on": data["served_on"],
        "mitigation": data["mitigation"],
        "obligation": data["obligation"],
    }


def _complaint(envelope: Envelope) -> list[FactObject]:
    finding = envelope["data"]["finding"]
    return [] if finding is None else [_demerit_of(envelope, finding)]


def _reward(envelope: Envelope) -> list[FactObject]:
    data = envelope["data"]
    return [_merit(envelope["id"], data["item"], data["on"], data["counterparty"])]


def _contract(envelope: Envelope) -> list[FactObject]:
    data = envelope["data"]
    return [_merit(envelope["id"], COMPLETED_CONTRACT, data["on"], data["counterparty"])]


def _inspection(envelope: Envelope) -> list[FactObject]:
    data, id = envelope["data"], envelope["id"]
    facts: list[FactObject] = [{"kind": "inspection", "id": id, "on": data["on"]}]
    if data["merit"] is not None:
        facts.append(_merit(f"{id}/merit", data["merit"], data["on"], None))
    return facts


def _merit(id: str, item: str, on: str, counterparty: str | None) -> FactObject:
    return {"kind": "merit", "id": id, "item": item, "on": on, "counterparty": counterparty}


def _listing(envelope: Envelope) -> list[FactObject]:
    data = envelope["data"]
    return [{"kind": "listing", "id": envelope["id"], "listed_on": data["listed_on"]}]


def _act(act: str) -> Callable[[Envelope], list[FactObject]]:
    def facts(envelope: Envelope) -> list[FactObject]:
        data, id = envelope["data"], envelope["id"]
        return [
            {
                "kind": "act",
                # The act on a fact's second part is that part's own.
                "id": id + target.removeprefix(data["target"]),
                "target": target,
                "act": act,
                "on": data["on"],
            }
            for target in data["target_facts"]
        ]

    return facts


SCORING_ACTS = {
    event: act
    for event, act in ACT_OF_EVENT.items()
    if issubclass(event, Later) and event is not QualificationRevoked
}
MEANINGS: dict[str, Callable[[Envelope], list[FactObject]]] = {
    "access.recorded.v1": _nothing,
    "ledger.opened.v1": _nothing,
    "rulebook.published.v1": _nothing,
    "provider.registered.v1": _nothing,
    "provider.admitted.v1": _nothing,
    "provider.suspended.v1": _nothing,
    "provider.resumed.v1": _nothing,
    "provider.exited.v1": _nothing,
    "publicity.ended.v1": _nothing,
    "proposal.made.v1": _nothing,
    "proposal.refused.v1": _nothing,
    "proposal.withdrawn.v1": _nothing,
    "person.erased.v1": _nothing,
    "person.held.v1": _nothing,
    "person.released.v1": _nothing,
    "penalty.imposed.v1": _demerit,
    "complaint_outcome.recorded.v1": _complaint,
    "contract_breach.confirmed.v1": _demerit,
    "reward.granted.v1": _reward,
    "contract.completed.v1": _contract,
    "inspection.recorded.v1": _inspection,
    "severe_list.entered.v1": _listing,
    "referral.recorded.v1": _nothing,
    "qualification.verified.v1": _nothing,
    "qualification.revoked.v1": _nothing,
} | {event.type: _act(act) for event, act in SCORING_ACTS.items()}


@lru_cache(maxsize=1024)
def _day_of_hour(hour: str) -> str:
    """The day in Asia/Shanghai of an hour of UTC; the two differ by whole hours."""
    return local_day(parse_time(f"{hour}:00:00.000000Z")).isoformat()


def meaning_of(envelope: Envelope) -> Callable[[Envelope], list[FactObject]]:
    """What an event's type gives. Raises UnknownEventType."""
    meaning = MEANINGS.get(envelope["type"].removeprefix(TYPE_PREFIX))
    if meaning is None:
        stream = envelope["source"].removeprefix("/streams/")
        raise UnknownEventType(id=envelope["id"], stream=stream, type=envelope["type"])
    return meaning


def facts_of(envelope: Envelope) -> list[FactObject]:
    """The facts and acts of one event. Raises UnknownEventType."""
    facts = meaning_of(envelope)(envelope)
    if facts:
        recorded_on = _day_of_hour(envelope["time"][:HOUR_CHARACTERS])
        for fact in facts:
            fact["recorded_on"] = recorded_on
    return facts


def read_fact(obj: FactObject) -> Fact:
    """The fact that `facts_of` wrote: what `parse_fact` gives, for whom need not be on guard."""
    return _READERS[obj["kind"]](obj)


def _read_demerit(obj: FactObject) -> Demerit:
    occurred_on, ended_on, mitigation = obj["occurred_on"], obj["ended_on"], obj["mitigation"]
    # By place, not by name: by name takes twice as long, and there are millions.
    return Demerit(
        obj["id"],
        _day(obj["recorded_on"]),
        obj["incident"],
        obj["category"],
        obj["family"],
        obj["severity"],
        obj["issuer"],
        _day(occurred_on),
        _day(ended_on or occurred_on),
        _day(obj["decided_on"]),
        _day(obj["served_on"]),
        tuple(dict.fromkeys(mitigation)) if mitigation else (),
        obj["obligation"],
    )


def _read_merit(obj: FactObject) -> Merit:
    days = _day(obj["recorded_on"]), _day(obj["on"])
    return Merit(obj["id"], days[0], obj["item"], days[1], obj["counterparty"])


def _read_listing(obj: FactObject) -> Listing:
    return Listing(obj["id"], _day(obj["recorded_on"]), _day(obj["listed_on"]))


def _read_inspection(obj: FactObject) -> Inspection:
    return Inspection(obj["id"], _day(obj["recorded_on"]), _day(obj["on"]))


def _read_act(obj: FactObject) -> Act:
    days = _day(obj["recorded_on"]), _day(obj["on"])
    return Act(obj["id"], days[0], obj["target"], obj["act"], days[1])


_READERS: dict[str, Callable[[FactObject], Fact]] = {
    "demerit": _read_demerit,
    "merit": _read_merit,
    "listing": _read_listing,
    "inspection": _read_inspection,
    "act": _read_act,
}
