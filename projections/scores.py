"""Facts and current scores as tables, following the log; the explained score of any day.

A row of `scores` is a pure function of the provider's facts, the rulebooks and the day, whatever
order or batches it was computed in: it is computed anew when the provider gets a fact, when a
rulebook is published, and by the time sweep on the day that `next_change_on` names. Property
(tested): for every day between two events the row equals `score(day)`; a replay from position 1
gives the same rows. An explanation is always computed from the facts, never read from a row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import orjson
from psycopg import Cursor, sql

from ledger.envelope import TYPE_PREFIX, from_envelope
from ledger.errors import LedgerNotOpened
from ledger.events import RULEBOOK_STREAM
from ledger.rulebook import Rulebooks, evolve
from ledger.scale import Scales
from ledger.store import Ledger
from projections.facts import facts_of
from projections.runner import Row, progress_of
from projections.scoring import Fact, next_change, parse_fact, score

SETTLE_PROVIDERS = 2_000
RULEBOOK_SOURCE = f"/streams/{RULEBOOK_STREAM}"
STATUS = {
    "provider.registered.v1": "registered",
    "provider.admitted.v1": "admitted",
    "provider.suspended.v1": "suspended",
    "provider.resumed.v1": "admitted",
    "provider.exited.v1": "exited",
}
ABOUT = ("issuer", "document_no", "law_article", "counterparty", "contract", "complaint")
SUMMARY = (
    "score",
    "grade",
    "band_of_number",
    "underlying_score",
    "evidence_count",
    "confidence",
    "top_reasons",
    "rulebook",
)


def about(row: Row) -> dict[str, Any]:
    """Where a fact comes from: its event, and what the event says of its authority."""
    envelope, data = row.envelope, row.envelope["data"]
    found = {name: data[name] for name in ABOUT if data.get(name) is not None}
    if data.get("finding"):
        found |= {name: data["finding"][name] for name in ABOUT if name in data["finding"]}
    return found | {
        "position": row.position,
        "event": envelope["id"],
        "type": envelope["type"].removeprefix(TYPE_PREFIX),
        "recorded": envelope["time"],
        "recorded_by": envelope["actororg"],
    }


class Scores:
    """The projection `scores`, and what is read from it."""

    def __init__(self, ledger: Ledger, schema: str = "scores_1") -> None:
        self.schema = schema
        self._ledger = ledger
        self._rules = Rulebooks()
        database = ledger.database
        self._rules_version = (
            f"SELECT coalesce(max(originator_version), 0) FROM {database.schema}."
            f"{database.application}_events WHERE originator_id = '{RULEBOOK_STREAM}'"
        ).encode()
        self._facts = f"SELECT fact FROM {schema}.facts WHERE subject = %s ORDER BY position, id"
        self._told = (
            f"SELECT id, about FROM {schema}.facts WHERE subject = %s ORDER BY position, id"
        )

    def fold(self, cursor: Cursor[tuple[Any, ...]], rows: Sequence[Row]) -> None:
        """Write the facts of a batch and mark whom they concern."""
        facts: list[tuple[str, int, str, str, str]] = []
        touched: dict[str, dict[str, Any]] = {}
        for row in rows:
            envelope = row.envelope
            subject = envelope.get("subject")
            found = facts_of(envelope)
            if envelope["source"] == RULEBOOK_SOURCE:
                cursor.execute(f"UPDATE {self.schema}.scores SET stale = true".encode())
            if subject is None:
                continue
            _touch(touched, subject, row)
            if found:
                told = orjson.dumps(about(row)).decode()
                facts.extend(
                    (subject, row.position, fact["id"], orjson.dumps(fact).decode(), told)
                    for fact in found
                )
        if facts:
            target = sql.SQL("COPY {} (subject, position, id, fact, about) FROM STDIN").format(
                sql.Identifier(self.schema, "facts")
            )
            with cursor.copy(target) as copy:
                for fact_row in facts:
                    copy.write_row(fact_row)
        self._write_touched(cursor, touched)

    def _write_touched(
        self, cursor: Cursor[tuple[Any, ...]], touched: Mapping[str, Mapping[str, Any]]
    ) -> None:
        if not touched:
            return
        columns = ("subject", "name", "entity_kind", "status", "last_position")
        values = [[one.get(column) for one in touched.values()] for column in columns]
        cursor.execute(
            f"INSERT INTO {self.schema}.scores AS s"
            " (subject, name, entity_kind, status, last_position, stale)"
            " SELECT subject, coalesce(name, ''), coalesce(kind, ''), coalesce(status, ''),"
            " position, true FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[],"
            " %s::bigint[]) AS new (subject, name, kind, status, position)"
            " ON CONFLICT (subject) DO UPDATE SET stale = true,"
            " last_position = excluded.last_position,"
            " name = coalesce(nullif(excluded.name, ''), s.name),"
            " entity_kind = coalesce(nullif(excluded.entity_kind, ''), s.entity_kind),"
            " status = coalesce(nullif(excluded.status, ''), s.status)".encode(),
            values,
        )

    def settle(self, cursor: Cursor[tuple[Any, ...]], today: date) -> bool:
        """Compute up to 2,000 rows that are stale or due; True while more are left."""
        subjects = [
            row[0]
            for row in cursor.execute(
                f"(SELECT subject FROM {self.schema}.scores WHERE stale LIMIT %s) UNION"
                f" (SELECT subject FROM {self.schema}.scores WHERE next_change_on <= %s LIMIT %s)".encode(),
                [SETTLE_PROVIDERS, today, SETTLE_PROVIDERS],
            ).fetchall()
        ]
        if not subjects:
            cursor.execute(
                f"UPDATE {self.schema}.progress SET day = %s WHERE day < %s".encode(),
                [today, today],
            )
            return False
        scales = self.scales()
        facts: defaultdict[str, list[Fact]] = defaultdict(list)
        for subject, fact in cursor.execute(
            f"SELECT subject, fact FROM {self.schema}.facts WHERE subject = ANY(%s)"
            " ORDER BY subject, position, id".encode(),
            [subjects],
        ):
            facts[subject].append(parse_fact(orjson.loads(fact)))
        rows = [score_row(subject, facts[subject], scales, today) for subject in subjects]
        cursor.execute(
            f"UPDATE {self.schema}.scores s SET stale = false, score = n.score, grade = n.grade,"
            " band_of_number = n.band, underlying_score = n.underlying,"
            " evidence_count = n.evidence, confidence = n.confidence,"
            " top_reasons = string_to_array(n.reasons, ' '), rulebook = n.rulebook,"
            " facts = n.facts, next_change_on = n.change"
            " FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::int[],"
            " %s::text[], %s::text[], %s::text[], %s::int[], %s::date[]) AS n (subject, score,"
            " grade, band, underlying, evidence, confidence, reasons, rulebook, facts, change)"
            " WHERE s.subject = n.subject".encode(),
            [list(column) for column in zip(*rows, strict=True)],
        )
        return True

    def rulebooks(self) -> Rulebooks:
        """The rulebooks published so far; read again only when the stream has grown."""
        rows = self._ledger.rows(self._rules_version)
        if self._rules.version != rows[0][0]:
            state = Rulebooks()
            for stored in self._ledger.read_stream(RULEBOOK_STREAM):
                state = evolve(state, from_envelope(orjson.loads(stored.state)))
            self._rules = state
        return self._rules

    def scales(self) -> Scales:
        """The scales of all rulebooks. Raises LedgerNotOpened."""
        scales = self.rulebooks().scales
        if scales is None:
            raise LedgerNotOpened
        return scales

    def facts(self, subject: str) -> list[Fact]:
        """A provider's facts, in the order of the log."""
        rows = self._ledger.rows(self._facts.encode(), [subject])
        return [parse_fact(orjson.loads(row[0])) for row in rows]

    def explain(self, subject: str, *, as_of: date, today: date) -> dict[str, Any] | None:
        """The explained score of a day, every contribution with where it comes from.

        `today` bounds nothing: it only says on which day the question is asked. None for an
        unknown provider.
        """
        current = self.current(subject)
        if current is None:
            return None
        position = self.position()
        scales = self.scales()
        facts = self.facts(subject)
        result = score(facts, scales, as_of=as_of, known_at=position)
        told = self._ledger.rows(self._told.encode(), [subject])
        change = next_change(facts, scales, as_of=as_of)
        return {
            "subject": subject,
            "name": current["name"],
            "status": current["status"],
            "position": position,
            "asked_on": today.isoformat(),
            **result,
            "next_change_on": change.isoformat() if change else None,
            "facts": {id: orjson.loads(text) for id, text in told},
        }

    def current(self, subject: str) -> dict[str, Any] | None:
        """The row as it stands, or None for an unknown provider."""
        columns = ("subject", "name", "entity_kind", "status", "last_position", *SUMMARY)
        rows = self._ledger.rows(
            f"SELECT {', '.join(columns)} FROM {self.schema}.scores WHERE subject = %s".encode(),
            [subject],
        )
        return dict(zip(columns, rows[0], strict=True)) if rows else None

    def position(self) -> int:
        """All events up to here are in the answers."""
        return progress_of(self._ledger, self.schema).position


def score_row(subject: str, facts: Sequence[Fact], scales: Scales, day: date) -> tuple[Any, ...]:
    """The row of one provider on one day, in the order of the UPDATE."""
    result = score(facts, scales, as_of=day, known_at=0)
    return (
        subject,
        result["score"],
        result["grade"],
        result["band_of_number"],
        result["underlying_score"],
        result["evidence_count"],
        result["confidence"],
        " ".join(result["top_reasons"]),
        result["rulebook"],
        len(facts),
        next_change(facts, scales, as_of=day),
    )


def restoring(
    facts: Iterable[Fact], scales: Scales, *, as_of: date, fact_id: str
) -> tuple[date, str] | None:
    """When and to what the points of one demerit next change if nothing new happens.

    Only what belongs to the demerit is looked at: its family, its incident, their acts.
    """
    ours = _related(list(facts), fact_id)
    day: date | None = as_of
    now = _points(ours, scales, as_of, fact_id)
    for _ in range(100):
        assert day is not None
        day = next_change(ours, scales, as_of=day)
        if day is None:
            return None
        points = _points(ours, scales, day, fact_id)
        if points != now:
            return day, points
    return None


def _points(facts: Sequence[Fact], scales: Scales, day: date, fact_id: str) -> str:
    lines = score(facts, scales, as_of=day, known_at=0)["contributions"]
    return next(str(line["points"]) for line in lines if line["fact"] == fact_id)


def _related(facts: Sequence[Fact], fact_id: str) -> list[Fact]:
    wanted = next(fact for fact in facts if fact.id == fact_id)
    family, incident = getattr(wanted, "family", None), getattr(wanted, "incident", None)
    near = {
        fact.id
        for fact in facts
        if getattr(fact, "incident", None) == incident or getattr(fact, "family", None) == family
    } | {fact_id}
    return [fact for fact in facts if fact.id in near or getattr(fact, "target", None) in near]


def _touch(touched: dict[str, dict[str, Any]], subject: str, row: Row) -> None:
    one = touched.setdefault(subject, {"subject": subject})
    one["last_position"] = row.position
    kind = row.envelope["type"].removeprefix(TYPE_PREFIX)
    if kind in STATUS:
        one["status"] = STATUS[kind]
    if kind == "provider.registered.v1":
        data = row.envelope["data"]
        one["name"], one["entity_kind"] = data["name"], data["entity_kind"]
