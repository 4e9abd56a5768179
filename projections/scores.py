"""Facts and current scores as tables, following the log; the explained score of any day.

A row of `scores` is a pure function of the provider's facts, the rulebooks and the day, whatever
order or batches it was computed in: it is computed anew when the provider gets a fact, when a
rulebook is published, and by the time sweep on the day that `next_change_on` names. Property
(tested): for every day between two events the row equals `score(day)`; a replay from position 1
gives the same rows. An explanation is always computed from the facts, never read from a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import orjson
from psycopg import Cursor

from ledger.calendar import SHANGHAI
from ledger.envelope import TYPE_PREFIX, from_envelope
from ledger.errors import LedgerNotOpened
from ledger.events import RULEBOOK_STREAM, provider_stream
from ledger.rulebook import Rulebooks, evolve
from ledger.scale import Scales
from ledger.store import Ledger, Parsed, Stored
from projections.case import Fact
from projections.facts import facts_of, read_fact
from projections.forecast import score_until, summarise
from projections.rights import File
from projections.rows import copying
from projections.runner import progress_of
from projections.together import Take

SETTLE_PROVIDERS = 2_000
STREAM_PROVIDERS = 20
RULEBOOK_SOURCE = f"/streams/{RULEBOOK_STREAM}"
PROVIDER_SOURCE = f"/streams/{provider_stream('')}"
REGISTERED = "provider.registered.v1"
STATUS = {
    REGISTERED: "registered",
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
CURRENT = ("subject", "name", "entity_kind", "status", "public_status", "last_position")
"""`public_status` is what the public events say: that an investigation goes on is none of them."""
COMPUTED = (*SUMMARY, "facts", "next_change_on")
"""The columns that settling writes."""


def about_event(stored: Stored) -> dict[str, Any]:
    """Where a fact comes from: its event, and what the event says of its authority."""
    envelope = orjson.loads(stored.state)
    data = envelope["data"]
    found = {name: data[name] for name in ABOUT if data.get(name) is not None}
    if data.get("finding"):
        found |= {name: data["finding"][name] for name in ABOUT if name in data["finding"]}
    return found | {
        "position": stored.position,
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
        self._rules: dict[int, Rulebooks] = {}
        database = ledger.database
        up_to = "(%s::bigint IS NULL OR {} <= %s)"
        self._rules_version = (
            f"SELECT coalesce(max(originator_version), 0) FROM {database.schema}."
            f"{database.application}_events WHERE originator_id = '{RULEBOOK_STREAM}'"
            f" AND {up_to.format('notification_id')}"
        ).encode()
        known = f"WHERE subject = %s AND {up_to.format('position')} ORDER BY position, id"
        self._facts = f"SELECT fact FROM {schema}.facts {known}".encode()
        self._told = f"SELECT id, position FROM {schema}.facts {known}".encode()

    @contextmanager
    def folding(self, cursor: Cursor[tuple[Any, ...]]) -> Iterator[Take]:
        """Write the facts of a batch and mark whom they concern."""
        told = _Told()
        with copying(cursor, f"{self.schema}.facts (subject, position, id, fact)") as write:
            yield lambda events: write(told.facts(events))
        if told.rules:
            cursor.execute(f"UPDATE {self.schema}.scores SET stale = true".encode())
        if told.subjects:
            self._touch(cursor, told.subjects.values())

    def _touch(self, cursor: Cursor[tuple[Any, ...]], touched: Iterable[Mapping[str, Any]]) -> None:
        cursor.execute(
            f"INSERT INTO {self.schema}.scores AS s"
            " (subject, name, entity_kind, status, public_status, last_position, stale)"
            " SELECT subject, coalesce(name, ''), coalesce(entity_kind, ''), coalesce(status, ''),"
            " coalesce(public_status, ''), last_position, true FROM json_to_recordset(%s)"
            " AS new (subject text, name text, entity_kind text, status text, public_status text,"
            " last_position bigint)"
            " ON CONFLICT (subject) DO UPDATE SET stale = true,"
            " last_position = excluded.last_position,"
            " name = coalesce(nullif(excluded.name, ''), s.name),"
            " entity_kind = coalesce(nullif(excluded.entity_kind, ''), s.entity_kind),"
            " status = coalesce(nullif(excluded.status, ''), s.status),"
            " public_status = coalesce(nullif(excluded.public_status, ''), s.public_status)"
            "".encode(),
            [orjson.dumps(list(touched)).decode()],
        )

    def settle(self, cursor: Cursor[tuple[Any, ...]], today: date, position: int) -> bool:
        """Compute up to 2,000 rows that are stale and 2,000 that are due; True while more are left.

        The rulebooks are those published up to `position`, as the facts are.
        """
        today = self._day(cursor, today)
        subjects = [
            row[0]
            for row in cursor.execute(
                f"(SELECT subject FROM {self.schema}.scores WHERE stale LIMIT %s)"
                f" UNION (SELECT subject FROM {self.schema}.scores"
                " WHERE next_change_on <= %s LIMIT %s)".encode(),
                [SETTLE_PROVIDERS, today, SETTLE_PROVIDERS],
            ).fetchall()
        ]
        if subjects:
            self._compute(cursor, subjects, today, position)
        if len(subjects) >= SETTLE_PROVIDERS:
            return True
        cursor.execute(
            f"UPDATE {self.schema}.progress SET day = %s WHERE day < %s".encode(), [today, today]
        )
        return False

    def _day(self, cursor: Cursor[tuple[Any, ...]], today: date) -> date:
        """The day to settle: `today`, but not before the day that stands nor after the database's.

        Where the database's own clock was ahead, no row of a coming day stays.
        """
        row = cursor.execute(
            f"SELECT day, (clock_timestamp() AT TIME ZONE '{SHANGHAI}')::date"
            f" FROM {self.schema}.progress".encode()
        ).fetchone()
        assert row is not None
        stands, latest = row
        if stands > latest:
            cursor.execute(f"UPDATE {self.schema}.scores SET stale = true".encode())
            cursor.execute(f"UPDATE {self.schema}.progress SET day = %s".encode(), [latest])
        day: date = min(max(today, stands), latest)
        return day

    def _compute(
        self, cursor: Cursor[tuple[Any, ...]], subjects: list[str], today: date, position: int
    ) -> None:
        scales = self.scales(position)
        rows: list[dict[str, Any]] = []
        without_facts = set(subjects)
        # The server sends while we compute, and what is in memory is the facts of a few providers.
        for subject, facts in cursor.stream(
            "SELECT subject, string_agg(fact, ',' ORDER BY position, id)"
            f" FROM {self.schema}.facts WHERE subject = ANY(%s) GROUP BY subject".encode(),
            [subjects],
            size=STREAM_PROVIDERS,
        ):
            known = [read_fact(one) for one in orjson.loads(f"[{facts}]")]
            rows.append(score_row(subject, known, scales, today))
            without_facts.remove(subject)
        rows += [score_row(subject, [], scales, today) for subject in without_facts]
        table = f"{self.schema}.scores"
        columns = ", ".join(f"{name} = new.{name}" for name in COMPUTED)
        cursor.execute(
            f"UPDATE {table} AS s SET stale = false, {columns}"
            f" FROM json_populate_recordset(NULL::{table}, %s) AS new"
            " WHERE s.subject = new.subject".encode(),
            [orjson.dumps(rows).decode()],
        )

    def rulebooks(self, up_to: int | None = None) -> Rulebooks:
        """The rulebooks published up to a position (None: so far); read when the stream grows."""
        version: int = self._ledger.rows(self._rules_version, [up_to, up_to])[0][0]
        if version not in self._rules:
            state = Rulebooks()
            for stored in self._ledger.read_stream(RULEBOOK_STREAM)[:version]:
                state = evolve(state, from_envelope(orjson.loads(stored.state)))
            self._rules[version] = state
        return self._rules[version]

    def scales(self, up_to: int | None = None) -> Scales:
        """The scales of those rulebooks. Raises LedgerNotOpened."""
        scales = self.rulebooks(up_to).scales
        if scales is None:
            raise LedgerNotOpened
        return scales

    def facts(self, subject: str, up_to: int | None = None) -> list[Fact]:
        """A provider's facts up to a position (None: all), in the order of the log."""
        rows = self._ledger.rows(self._facts, [subject, up_to, up_to])
        return [read_fact(orjson.loads(row[0])) for row in rows]

    def explain(self, subject: str, *, as_of: date, today: date) -> dict[str, Any] | None:
        """The explained score of a day, every contribution with where it comes from.

        `today` bounds nothing: it only says on which day the question is asked. None for a
        provider that is unknown up to `position`. Nothing beyond `position` enters, although the
        tables may already hold it: whoever asks again with that position gets the same.
        """
        current = self.current(subject)
        if current is None or current["score"] is None:
            return None
        position = self.position()
        scales = self.scales(position)
        facts = self.facts(subject, position)
        result, change = score_until(facts, scales, as_of=as_of, position=position)
        return {
            "subject": subject,
            "name": current["name"],
            "status": current["status"],
            "position": position,
            "asked_on": today.isoformat(),
            **result,
            "next_change_on": change.isoformat() if change else None,
            "facts": self.sources(subject, position),
        }

    def sources(self, subject: str, up_to: int) -> dict[str, dict[str, Any]]:
        """Where each fact up to a position comes from, by its id, in the order of the log."""
        told = self._ledger.rows(self._told, [subject, up_to, up_to])
        stored = self._ledger.read_at([at for _, at in told])
        about = {one.position: about_event(one) for one in stored}
        return {id: about[at] for id, at in told}

    def case(self, file: File, *, as_of: date, known_at: date) -> tuple[int, dict[str, Any]] | None:
        """What the score of a day is computed from, as the offline command reads it.

        With the position up to which it is; None for an unknown provider.
        """
        subject = file.subject
        current = self.current(subject)
        if current is None or current["score"] is None:
            return None
        position = self.position()
        rows = self._ledger.rows(self._facts, [subject, position, position])
        return position, {
            "facts": [orjson.loads(row[0]) for row in rows],
            "rulebooks": [book.scoring for book in self.rulebooks(position).books],
            "as_of": as_of.isoformat(),
            "known_at": known_at.isoformat(),
        }

    def current(self, subject: str) -> dict[str, Any] | None:
        """The row as it stands, or None for an unknown provider."""
        columns = (*CURRENT, *SUMMARY)
        rows = self._ledger.rows(
            f"SELECT {', '.join(columns)} FROM {self.schema}.scores WHERE subject = %s".encode(),
            [subject],
        )
        return dict(zip(columns, rows[0], strict=True)) if rows else None

    def position(self) -> int:
        """All events up to here are in the answers."""
        return progress_of(self._ledger, self.schema).position


def score_row(subject: str, facts: Sequence[Fact], scales: Scales, day: date) -> dict[str, Any]:
    """What is computed of one provider for one day, by column."""
    summary, change = summarise(facts, scales, as_of=day)
    return {
        "subject": subject,
        **summary,
        "rulebook": scales.of(day).version,
        "facts": len(facts),
        "next_change_on": change,
    }


class _Told:
    """What a batch of events tells besides facts: of each subject, and whether rules changed."""

    def __init__(self) -> None:
        self.subjects: dict[str, dict[str, Any]] = {}
        self.rules = False

    def facts(self, batch: Iterable[Parsed]) -> Iterator[tuple[str, ...]]:
        """A row for each fact; the rest is noted on the way."""
        for position, envelope in batch:
            found = facts_of(envelope)
            if envelope["source"] == RULEBOOK_SOURCE:
                self.rules = True
            subject = envelope.get("subject")
            if subject is None or envelope["source"] != f"{PROVIDER_SOURCE}{subject}":
                # What is no part of the provider's own record, as who looked at it, moves nothing.
                continue
            if envelope["visibility"] == "officers":
                # It gives no fact, and nothing that moves may tell the provider that it is there.
                continue
            self._note(subject, position, envelope)
            for fact in found:
                yield subject, str(position), fact["id"], orjson.dumps(fact).decode()

    def _note(self, subject: str, position: int, envelope: Mapping[str, Any]) -> None:
        one = self.subjects.get(subject)
        if one is None:
            one = self.subjects[subject] = {"subject": subject}
        one["last_position"] = position
        kind = envelope["type"].removeprefix(TYPE_PREFIX)
        if kind in STATUS:
            one["status"] = STATUS[kind]
            if envelope["visibility"] == "public":
                one["public_status"] = STATUS[kind]
        if kind == REGISTERED:
            data = envelope["data"]
            one["name"], one["entity_kind"] = data["name"], data["entity_kind"]
