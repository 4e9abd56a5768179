"""The public sheet of a provider (domain.md §7), and the search before it.

Everything here is for everybody's eyes: it holds only what `Disclosure` shows today. The public
explanation names each public item and puts all the rest into one line without count, date or
authority, so that it closes and tells nothing else. A provider that is not registered has none.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from ledger.calendar import local_day
from ledger.clauses import Named
from ledger.fields import UNPRINTABLE
from ledger.rulebook import Rulebook, Rulebooks
from ledger.store import Ledger
from projections.disclosure import Disclosure
from projections.forecast import score_and_falls
from projections.item import Item, said_by
from projections.scores import Scores
from projections.scoring import Result

MAX_REASONS = 4
SEARCH_SECONDS = 3
"""A part of a name is looked for in every name: whoever asks much of it waits for nobody's loss."""
OWN_REASONS = frozenset(
    {"EXPIRED", "SUSPENDED_BY_REVIEW", "MERIT_EXPIRED", "MERIT_BEFORE_DELISTING"}
)
"""Reasons (scoring.md) that lie in the item itself and tell of nothing else."""
SEARCH_COLUMNS = ("provider", "name", "grade", "score", "status")


class Said(NamedTuple):
    """What an event says of its item, and the day on which it was recorded."""

    data: Mapping[str, Any]
    recorded_on: date


class Sheets:
    """What the public may see of providers, now."""

    def __init__(self, ledger: Ledger, scores: Scores, disclosure: Disclosure) -> None:
        self._ledger = ledger
        self._scores = scores
        self._disclosure = disclosure

    def sheet(self, identifier: str, *, today: date) -> dict[str, Any] | None:
        """The sheet as plain data, or None where there is no page."""
        current = self._scores.current(identifier)
        if current is None or current["score"] is None:
            return None
        # One projection may be ahead of the other, and both move on while we read: nothing beyond
        # this position enters. What is withdrawn beyond it is already gone.
        position = min(self._scores.position(), self._disclosure.position())
        rules = self._scores.rulebooks(position)
        if rules.opening is None or rules.scales is None:
            return None
        facts = self._scores.facts(identifier, position)
        result, falls = score_and_falls(facts, rules.scales, as_of=today, position=position)
        every = self._disclosure.shown(identifier, position, today=today)
        said = self._said(every)
        # Neither a referral nor a licence is a finding: no line of the explanation, and no count.
        shown = [item for item in every if item.kind not in ("REFERRAL", "QUALIFICATION")]
        points = _points(result, shown)
        adverse = [item for item in shown if item.kind != "REWARD"]
        view = _View(rules, points, falls, _not_counted(result, shown, said))
        reasons = sorted(
            (item for item in adverse if Decimal(points[str(item.id)]) < 0),
            key=lambda item: (Decimal(points[str(item.id)]), str(item.id)),
        )
        return {
            "provider": identifier,
            "name": current["name"],
            "entity_kind": current["entity_kind"],
            "status": current["public_status"],
            "ledger": rules.opening.name,
            "purpose": rules.opening.purpose,
            "as_of": today.isoformat(),
            "position": position,
            "rulebook": result["rulebook"],
            "score": result["score"],
            "grade": result["grade"],
            "confidence": result["confidence"],
            "evidence_count": result["evidence_count"],
            "listed": any(line["reason"] == "VETO" for line in result["adjustments"]),
            "items": [view.item(one, said[one.position]) for one in adverse],
            "merits": [
                view.merit(one, said[one.position]) for one in shown if one.kind == "REWARD"
            ],
            "referrals": [
                view.referral(one, said[one.position]) for one in every if one.kind == "REFERRAL"
            ],
            "qualifications": [
                view.qualification(one, said[one.position], today)
                for one in every
                if one.kind == "QUALIFICATION"
            ],
            "explanation": _explanation(result, shown, points),
            "reasons": [str(item.id) for item in reasons[:MAX_REASONS]],
        }

    def _said(self, items: Sequence[Item]) -> dict[int, Said]:
        """What the log says of items, by position."""
        stored = self._ledger.read_at([item.position for item in items])
        envelopes = ((one.position, orjson.loads(one.state)) for one in stored)
        return {
            position: Said(said_by(one), local_day(datetime.fromisoformat(one["time"])))
            for position, one in envelopes
        }

    def sample(self) -> str | None:
        """A company with something to explain: the one whose penalty is shown the longest.

        The same from day to day as long as nothing graver is recorded; None where there is none.
        """
        rows = self._ledger.rows(
            f"SELECT subject FROM {self._disclosure.schema}.items WHERE kind = 'PENALTY'"
            " AND NOT (overturned OR repaired OR ended) AND starts_with(subject, '91')"
            " ORDER BY shown_until DESC, position LIMIT 1".encode()
        )
        return str(rows[0][0]) if rows else None

    def search(
        self, q: str, grade: str | None, after: str, limit: int, *, today: date
    ) -> list[dict[str, Any]]:
        """Up to `limit` providers after an identifier, by part of the name or start of the code.

        Case, full width and the spaces of a grouped code do not matter; nothing is a wildcard.
        The grade is the one of `today`: rows that time has changed since are settled within the
        second, and the sheet itself is always computed.
        """
        wanted = unicodedata.normalize("NFKC", q).strip()
        if UNPRINTABLE.search(f"{wanted}{grade}{after}"):
            return []
        code = "".join(wanted.split()).upper()
        rows = self._ledger.rows(
            f"SELECT subject, name, grade, score, public_status FROM {self._scores.schema}.scores"
            " WHERE subject > %s AND grade IS NOT NULL AND (%s::text IS NULL OR grade = %s)"
            " AND (%s = '' OR starts_with(subject, %s)"
            " OR position(lower(%s) IN lower(normalize(name, NFKC))) > 0)"
            " ORDER BY subject LIMIT %s".encode(),
            [after, grade, grade, wanted, code, wanted, limit],
            seconds=SEARCH_SECONDS,
        )
        return [dict(zip(SEARCH_COLUMNS, row, strict=True)) for row in rows]


def _points(result: Result, shown: Sequence[Item]) -> dict[str, str]:
    """The points of each shown item; a listing in force bears the veto."""
    lines = {str(line["fact"]): str(line["points"]) for line in result["contributions"]}
    points = {str(item.id): lines.get(str(item.id), "0.00") for item in shown}
    listings = [str(item.id) for item in shown if item.kind == "LISTING"]
    veto = [line for line in result["adjustments"] if line["reason"] == "VETO"]
    if veto and listings:
        points[listings[0]] = str(veto[0]["points"])
    return points


def _not_counted(result: Result, shown: Sequence[Item], said: Mapping[int, Said]) -> dict[str, str]:
    """Why an item costs or brings nothing, by id.

    That another finding of its incident counts instead is said only where that one is shown too.
    """
    lines = {str(line["fact"]): line for line in result["contributions"]}
    incidents: defaultdict[str, list[str]] = defaultdict(list)
    for item in shown:
        if incident := said[item.position].data.get("incident"):
            incidents[incident].append(str(item.id))
    found: dict[str, str] = {}
    for item in shown:
        id = str(item.id)
        reason = str(lines[id]["reason"]) if id in lines else ""
        others = incidents[said[item.position].data.get("incident", "")]
        counts = any(str(lines[one]["points"]).startswith("-") for one in others if one in lines)
        if reason in OWN_REASONS or (reason == "SAME_INCIDENT" and counts):
            found[id] = reason
    return found


def _explanation(
    result: Result, shown: Sequence[Item], points: Mapping[str, str]
) -> dict[str, Any]:
    lines = [{"id": str(item.id), "points": points[str(item.id)]} for item in shown]
    named = sum((Decimal(line["points"]) for line in lines), Decimal("0.00"))
    other = Decimal(result["score"]) - Decimal(result["baseline"]) - named
    return {
        "baseline": result["baseline"],
        "lines": lines,
        "other": str(other + Decimal("0.00")),
        "score": result["score"],
    }


@dataclass(frozen=True, slots=True)
class _View:
    """How the items of one sheet are told: the rules, and each demerit's points and next fall."""

    rules: Rulebooks
    points: Mapping[str, str]
    falls: Mapping[str, tuple[date, Decimal]]
    not_counted: Mapping[str, str]

    def item(self, item: Item, said: Said) -> dict[str, Any]:
        """An adverse item."""
        data = said.data
        decided_on = data.get("decided_on") or data["listed_on"]
        book = self.rules.of(date.fromisoformat(decided_on))
        until = None if item.kind == "LISTING" else item.shown_until.isoformat()
        status = "SUSPENDED" if item.suspended else "FULFILLED" if item.fulfilled else "EFFECTIVE"
        return {
            "id": str(item.id),
            "position": item.position,
            "kind": item.kind,
            "family": data.get("family"),
            "category": data.get("category"),
            "severity": data.get("severity"),
            "names": _names(book, data),
            "issuer": data["issuer"],
            "document_no": data["document_no"],
            "law_article": data["law_article"],
            "occurred_on": data.get("occurred_on"),
            "decided_on": decided_on,
            "served_on": data.get("served_on"),
            "public_until": until,
            "status": status,
            "late_entry": self.late(said, decided_on),
            "points": self.points[str(item.id)],
            "not_counted": self.not_counted.get(str(item.id)),
            "next_step": self.next_step(item),
        }

    def merit(self, item: Item, said: Said) -> dict[str, Any]:
        """A reward."""
        data = said.data
        book = self.rules.of(date.fromisoformat(data["on"]))
        return {
            "id": str(item.id),
            "item": data["item"],
            "names": {"item": _name(book.items.merits, data["item"])},
            "issuer": data["issuer"],
            "document_no": data["document_no"],
            "on": data["on"],
            "late_entry": self.late(said, data["on"]),
            "points": self.points[str(item.id)],
            "not_counted": self.not_counted.get(str(item.id)),
        }

    def referral(self, item: Item, said: Said) -> dict[str, Any]:
        """A referral to prosecutors, as its issuer shows it."""
        data = said.data
        return {
            "id": str(item.id),
            "position": item.position,
            "names": _names(self.rules.of(item.shown_from), data),
            "issuer": data["issuer"],
            "referral": data["referral"],
            "law_article": data["law_article"],
            "referred_on": data["referred_on"],
            "shown_from": data["shown_from"],
            "public_until": data["public_until"],
        }

    def qualification(self, item: Item, said: Said, today: date) -> dict[str, Any]:
        """A licence, and whether it holds today; its last day is still one of its days."""
        data, day = said.data, today.isoformat()
        status = "VALID" if data["valid_from"] <= day else "NOT_YET"
        if data["valid_until"] is not None and data["valid_until"] < day:
            status = "EXPIRED"
        names = ("certificate", "certificate_no", "issuer", "document_no", "decided_on")
        return {
            "id": str(item.id),
            "position": item.position,
            "names": _names(self.rules.of(item.shown_from), data),
            **{name: data[name] for name in (*names, "valid_from", "valid_until")},
            "status": status,
        }

    def late(self, said: Said, decided_on: str) -> bool:
        """Whether it was recorded long after the decision (scoring.md, at its end).

        A finding says so itself.
        """
        if "late_entry" in said.data:
            return bool(said.data["late_entry"])
        late = self.rules.of(said.recorded_on).clocks.days("late_entry")
        return said.recorded_on - date.fromisoformat(decided_on) > late

    def next_step(self, item: Item) -> dict[str, str] | None:
        """When, and to what, its points next fall by time alone."""
        fall = self.falls.get(str(item.id))
        if fall is None:
            return None
        on, points = fall
        return {"on": on.isoformat(), "points": f"-{points}" if points else "0.00"}


def _names(book: Rulebook, data: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The words for every code of an item, from the rulebook it was decided under."""
    names = {"issuer_kind": _name(book.items.issuers, data["issuer"]["kind"])}
    if "family" in data:
        names["family"] = _name(book.items.families, data["family"])
        names["category"] = _name(book.items.categories, data["category"])
        names["severity"] = _name(book.items.severities, data["severity"])
    return names


def _name(table: Mapping[str, Named], code: str) -> dict[str, str]:
    named = table[code]
    return {"zh": named.zh, "en": named.en}
