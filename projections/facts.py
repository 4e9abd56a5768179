"""What an event means for the score: every event type and the fact or act it gives.

The table is complete: a type that stands in no row stops the projection (`docs/events.md` shows
the same table, and a test holds the two together). It works on parsed envelopes, so that a
replay of a million events costs no model building; the events were validated when recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ledger.acts import ACT_OF_EVENT
from ledger.calendar import local_day
from ledger.envelope import TYPE_PREFIX, parse_time
from ledger.errors import UnknownEventType
from ledger.events import Later
from ledger.provider import COMPLETED_CONTRACT

Envelope = Mapping[str, Any]
FactObject = dict[str, Any]
"""A fact as scoring.md's "Input: facts" writes it."""

DEMERIT_FIELDS = (
    "incident",
    "category",
    "family",
    "severity",
    "occurred_on",
    "ended_on",
    "decided_on",
    "served_on",
    "mitigation",
    "obligation",
)


def _nothing(_: Envelope) -> list[FactObject]:
    return []


def _demerit(envelope: Envelope) -> list[FactObject]:
    return [_demerit_of(envelope, envelope["data"])]


def _demerit_of(envelope: Envelope, data: Mapping[str, Any]) -> FactObject:
    fact: FactObject = {name: data[name] for name in DEMERIT_FIELDS}
    return fact | {"kind": "demerit", "id": envelope["id"], "issuer": data["issuer"]["kind"]}


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


MEANINGS: dict[str, Callable[[Envelope], list[FactObject]]] = {
    "ledger.opened.v1": _nothing,
    "rulebook.published.v1": _nothing,
    "provider.registered.v1": _nothing,
    "provider.admitted.v1": _nothing,
    "provider.suspended.v1": _nothing,
    "provider.resumed.v1": _nothing,
    "provider.exited.v1": _nothing,
    "publicity.ended.v1": _nothing,
    "penalty.imposed.v1": _demerit,
    "complaint_outcome.recorded.v1": _complaint,
    "contract_breach.confirmed.v1": _demerit,
    "reward.granted.v1": _reward,
    "contract.completed.v1": _contract,
    "inspection.recorded.v1": _inspection,
    "severe_list.entered.v1": _listing,
} | {event.type: _act(act) for event, act in ACT_OF_EVENT.items() if issubclass(event, Later)}


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
        recorded_on = local_day(parse_time(envelope["time"])).isoformat()
        for fact in facts:
            fact["recorded_on"] = recorded_on
    return facts
