"""Decisions of authorities as an exchange form gives them on: what was decided, what was withdrawn.

Either everything, for the authority itself; or what the public sees today through `Disclosure`, and
withdrawals of what it has seen, so that whoever copied a decision takes it back. What is repaired,
or no longer shown because its time is over, is in neither. Order: by the code of whom they concern,
then by authority, document and what else names a decision; so it depends on what was decided alone
and not on when which ledger learned of it. Knows no form.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

import orjson

from ledger.calendar import local_day
from ledger.envelope import TYPE_PREFIX
from ledger.events import provider_stream
from ledger.store import Ledger, Stored
from projections.disclosure import Disclosure
from projections.item import Item

BATCH_SUBJECTS = 500
ADMINISTRATIVE = "REGULATOR"
"""The kind of issuer whose decisions are administrative ones (行政决定)."""
STREAM_PREFIX = provider_stream("")


class Kind(NamedTuple):
    """A kind of decision: its event, the event that ends it, and what tells it from others."""

    event: str
    end: str
    name: Sequence[str]


PENALTY = Kind("penalty.imposed.v1", "decision.overturned.v1", ("incident", "family"))
LICENCE = Kind(
    "qualification.verified.v1", "qualification.revoked.v1", ("certificate", "certificate_no")
)


class Subject(NamedTuple):
    """Whom a decision concerns."""

    identifier: str
    name: str
    entity_kind: str


@dataclass(frozen=True, slots=True)
class Told:
    """A decision, or its withdrawal.

    `number`: the how many-th of this name the decision is. `alone`: other decisions of its document
    stand. `act`: what withdrew it, where that may be told.
    """

    subject: Subject
    data: Mapping[str, Any]
    number: int
    withdrawn: bool = False
    alone: bool = False
    act: Mapping[str, Any] | None = None


class Decisions:
    """The decisions of one kind in a ledger."""

    def __init__(self, ledger: Ledger, disclosure: Disclosure, kind: Kind) -> None:
        self._ledger = ledger
        self._disclosure = disclosure
        self._kind = kind
        database = ledger.database
        self._subjects = (
            f"SELECT DISTINCT originator_id FROM {database.schema}.{database.application}_events"
            " WHERE topic = %s"
        ).encode()

    def every(self) -> Iterator[Told]:
        """Every decision, with every withdrawal as its authority decided it."""
        for subject, found in self._by_subject():
            yield from _every(subject, found)

    def public(self, *, today: date) -> Iterator[Told]:
        """What the public sees today, and what it has seen and must be taken back."""
        for subject, found in self._by_subject():
            items = {str(one.id): one for one in self._disclosure.items_now(subject.identifier)}
            yield from _public(subject, found, items, today)

    def _by_subject(self) -> Iterator[tuple[Subject, list[_Found]]]:
        rows = self._ledger.rows(self._subjects, [self._kind.event])
        streams = sorted(str(row[0]) for row in rows)
        for start in range(0, len(streams), BATCH_SUBJECTS):
            batch = streams[start : start + BATCH_SUBJECTS]
            firsts = self._ledger.read_streams(batch, up_to_version=1)
            subjects = {one.identifier: one for one in map(_registered, firsts)}
            found = self._found(batch)
            for stream in batch:
                identifier = stream.removeprefix(STREAM_PREFIX)
                yield subjects[identifier], sorted(found[identifier], key=self._place)

    def _place(self, one: _Found) -> tuple[str, ...]:
        """Where a decision stands among its subject's; its end just after it, before the next."""
        data = one.data
        named = (data["issuer"]["name"], data["document_no"], *(data[n] for n in self._kind.name))
        ends = "" if one.ends is None else "ends"
        return (*(name or "" for name in named), f"{one.number:09}", ends)

    def _found(self, streams: Sequence[str]) -> dict[str, list[_Found]]:
        types = (self._kind.event, self._kind.end)
        found: defaultdict[str, list[_Found]] = defaultdict(list)
        by_id: dict[str, _Found] = {}
        numbers: Counter[tuple[object, ...]] = Counter()
        for stored in self._ledger.read_types_after(streams, 0, types):
            envelope = orjson.loads(stored.state)
            subject, data = envelope["subject"], envelope["data"]
            if envelope["type"] == TYPE_PREFIX + self._kind.end:
                if (ended := by_id.get(data["target"])) is not None:
                    ended.act, ended.ended_on = data, _day_of(envelope)
                    found[subject].append(_Found(data["target"], ended.data, ended.number, ended))
                continue
            if data["issuer"]["kind"] != ADMINISTRATIVE:
                continue
            document = (data["issuer"]["name"], data["document_no"])
            name = (subject, *document, *(data[one] for one in self._kind.name))
            numbers[name] += 1
            one = _Found(envelope["id"], data, numbers[name])
            found[subject].append(one)
            by_id[one.id] = one
        return found


@dataclass(slots=True, eq=False)
class _Found:
    """A decision in the log, or (`ends`) the end of one."""

    id: str
    data: Mapping[str, Any]
    number: int
    ends: _Found | None = None
    act: Mapping[str, Any] | None = None
    ended_on: date = date.max


def _every(subject: Subject, found: Sequence[_Found]) -> Iterator[Told]:
    for one in found:
        if one.ends is None:
            yield Told(subject, one.data, one.number)
        else:
            yield Told(subject, one.data, one.number, withdrawn=True, alone=True, act=one.ends.act)


def _public(
    subject: Subject, found: Sequence[_Found], items: Mapping[str, Item], today: date
) -> Iterator[Told]:
    standing = Counter(
        _document(one) for one in found if one.id in items and one.ends is None and one.act is None
    )
    for one in found:
        item = items.get(one.id)
        if item is None or one.ends is not None:
            continue
        if item.withheld(today) is None:
            yield Told(subject, one.data, one.number)
        elif one.act is not None and _was_seen(item, one.ended_on, today):
            alone = standing[_document(one)] > 0
            yield Told(subject, one.data, one.number, withdrawn=True, alone=alone)


def _document(one: _Found) -> tuple[str, str]:
    return one.data["issuer"]["name"], one.data["document_no"]


def _was_seen(item: Item, ended_on: date, today: date) -> bool:
    """Whether somebody may hold a copy: the public saw it until it was withdrawn.

    What was repaired is spoken of no more, and what has had its time is dropped by itself.
    """
    over = item.repaired or item.ended or today >= item.shown_until
    return item.shown_from <= ended_on and not over


def _registered(stored: Stored) -> Subject:
    envelope = orjson.loads(stored.state)
    data = envelope["data"]
    return Subject(envelope["subject"], data["name"], data["entity_kind"])


def _day_of(envelope: Mapping[str, Any]) -> date:
    return local_day(datetime.fromisoformat(envelope["time"]))
