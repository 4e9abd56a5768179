"""Reads: scores, events, disclosure, schemas, and the ledger itself.

What a reader may see is decided by the projections (`Reader`); here it is only asked for. Reads
block and therefore run in threads (`ledger.database.reading`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any

import orjson
from fastapi import Query, Request, Response

from api import lines, openapi
from api.accesses import Accesses
from api.callers import Callers, claims_of, file_of, reader_of
from api.parameters import AsOf, EventType, Identifier, MinPosition, day_of
from api.query import Operation
from api.refusals import (
    Behind,
    DayNotPublic,
    Flaw,
    SchemaBroken,
    UnknownType,
)
from api.replies import is_fresh, public, reply, unchanged, weak_tag
from ledger.calendar import local_day
from ledger.database import reading
from ledger.errors import LedgerNotOpened, UnknownProvider, Words
from ledger.fields import PRINTABLE, UNPRINTABLE
from ledger.identity import parse_identifier
from ledger.store import Ledger, Stored
from ledger.tail import Tail
from ledger.vocabulary import EVENT_TYPES, json_schema
from projections.disclosure import Disclosure
from projections.explained import Explanations
from projections.rights import File
from projections.scores import Scores
from projections.sheet import Sheets

CATCH_UP_SECONDS = 2.0
CATCH_UP_PAUSE_SECONDS = 0.02
PUBLIC_SCORE = (
    "name",
    "status",
    "position",
    "as_of",
    "rulebook",
    "score",
    "grade",
    "confidence",
    "evidence_count",
    "explanation",
    "reasons",
)
UNPRINTABLE_TEXT = Words(
    "control and format characters are not allowed", "不允许控制字符和格式字符"
)

READ_THE_FACTS = Words("read the facts of this provider", "查阅该服务商的记录")


class Reads:
    """Answers everything that is read, but the feed."""

    def __init__(
        self,
        ledger: Ledger,
        tail: Tail,
        *,
        scores: Scores,
        disclosure: Disclosure,
        sheets: Sheets,
        accesses: Accesses,
        callers: Callers | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._tail = tail
        self._scores = scores
        self._explanations = Explanations(scores)
        self._disclosure = disclosure
        self._sheets = sheets
        self._accesses = accesses
        self._callers = callers
        self._clock = clock

    def routes(self) -> list[Operation]:
        """The routes of all reads."""
        return [
            Operation(path, endpoint, methods=["GET"], **openapi.of_read(path))
            for path, endpoint in (
                ("/v1/providers/{identifier}/score", self.score),
                ("/v1/providers/{identifier}/case", self.case),
                ("/v1/disclosure/providers", self.search),
                ("/v1/disclosure/providers/{identifier}", self.sheet),
                ("/v1/schemas", self.schemas),
                ("/v1/schemas/{type}", self.schema),
                ("/v1/ledger", self.ledger),
            )
        ]

    async def score(
        self,
        request: Request,
        identifier: Identifier,
        as_of: AsOf = None,
        min_position: MinPosition = None,
    ) -> Response:
        """The explained score of a day: in full for whom it concerns, else the public one."""
        claims = await claims_of(request, self._callers, "read")
        reader = reader_of(claims)
        subject = parse_identifier(identifier)
        today = local_day(self._clock())
        day = today if as_of is None else day_of(as_of)
        file = reader.file(subject)
        if file is None and day != today:
            raise DayNotPublic(today=today, asked=day)
        await self._catch_up(min_position)
        if file is None or claims is None:
            return public(request, await reading(self._public_score, subject, day), reader)
        tag = await reading(self._tag, subject, day)
        if tag is not None and is_fresh(request, tag.removeprefix("W/")):
            return unchanged(tag, reader)
        position, text = await reading(self._full_score, file, day)
        await self._accesses.record(claims, "SCORE", 1, position, file=subject, as_of=day)
        return reply(text, reader, tag=tag)

    async def case(self, request: Request, identifier: Identifier, as_of: AsOf = None) -> Response:
        """What the score of a day is computed from, as `chengxin score` reads it."""
        claims, file = await file_of(request, self._callers, identifier, READ_THE_FACTS)
        today = local_day(self._clock())
        day = today if as_of is None else day_of(as_of)
        found = await reading(self._scores.case, file, as_of=day, known_at=today)
        if found is None:
            raise UnknownProvider(provider=file.subject)
        position, case = found
        await self._accesses.record(claims, "CASE", 1, position, file=file.subject, as_of=day)
        return reply(case, claims.reader)

    def _full_score(self, file: File, day: date) -> tuple[int, bytes]:
        found = self._explanations.json(file, as_of=day, today=local_day(self._clock()))
        if found is None:
            raise UnknownProvider(provider=file.subject)
        return found

    def _public_score(self, subject: str, day: date) -> dict[str, Any]:
        sheet = self._sheet(subject, day)
        return {"audience": "public", "subject": subject} | {n: sheet[n] for n in PUBLIC_SCORE}

    def _sheet(self, subject: str, day: date) -> dict[str, Any]:
        sheet = self._sheets.sheet(subject, today=day)
        if sheet is None:
            raise UnknownProvider(provider=subject)
        return sheet

    def _tag(self, subject: str, day: date) -> str | None:
        """The entity tag of the full score about to be read: it is made first, so that what changes
        meanwhile changes the next one. None while the answers are behind the tables.

        It tells who tries where the last event of this provider is; whoever gets it may know.
        """
        current = self._scores.current(subject)
        if current is None:
            raise UnknownProvider(provider=subject)
        last = current["last_position"]
        position = self._scores.position()
        if position < last:
            return None
        rules = self._scores.rulebooks(position)
        today = local_day(self._clock())
        return weak_tag(repr((subject, last, day, today, rules.version, rules.of(day).version)))

    async def search(
        self,
        q: Annotated[
            str,
            Query(
                max_length=100,
                json_schema_extra={"pattern": f"^{PRINTABLE}*$"},
                description="Part of the name, or start of the code.",
            ),
        ] = "",
        grade: Annotated[str | None, Query(pattern="^[A-Z]{1,8}$")] = None,
        after: Annotated[
            str, Query(pattern="^[A-Z0-9-]{0,60}$", description="Identifiers after this one.")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        """Providers by name, code and grade, in the order of their identifiers."""
        if UNPRINTABLE.search(q):
            raise SchemaBroken([Flaw(("query", "q"), UNPRINTABLE_TEXT)])
        today = local_day(self._clock())
        rows = await reading(self._sheets.search, q, grade, after, limit + 1, today=today)
        found = reply({"providers": rows[:limit]})
        if len(rows) > limit:
            query = {"q": q, "grade": grade, "after": rows[limit - 1]["provider"], "limit": limit}
            given = {name: value for name, value in query.items() if value}
            found.headers["Link"] = lines.next_link("/v1/disclosure/providers", **given)
        return found

    async def sheet(
        self, request: Request, identifier: Identifier, min_position: MinPosition = None
    ) -> Response:
        """The public sheet of a provider, today; the same for every reader."""
        subject = parse_identifier(identifier)
        today = local_day(self._clock())
        await self._catch_up(min_position)
        return public(request, await reading(self._sheet, subject, today))

    async def schemas(self, request: Request) -> Response:
        """Every event type."""
        entries = [{"type": name, "href": f"/v1/schemas/{name}"} for name in EVENT_TYPES]
        return public(request, {"schemas": entries})

    async def schema(self, request: Request, type: EventType) -> Response:
        """The JSON Schema (2020-12) of one event type's data."""
        if type not in EVENT_TYPES:
            raise UnknownType(type=type)
        return public(request, json_schema(type))

    async def ledger(self, request: Request) -> Response:
        """Which ledger this is, how far it goes, and its rulebooks."""
        return public(request, await reading(self._facts))

    def _facts(self) -> dict[str, Any]:
        rules = self._scores.rulebooks()
        if rules.opening is None:
            raise LedgerNotOpened
        return {
            "name": rules.opening.name,
            "origin": rules.opening.origin,
            "purpose": rules.opening.purpose,
            "head": self._ledger.head(),
            "rulebooks": sorted(
                map(rulebook_in, self._disclosure.rulebooks()),
                key=lambda one: str(one["in_force_from"]),
            ),
        }

    async def _catch_up(self, wanted: int | None) -> None:
        """Wait until both projections have reached a position. Raises Behind."""
        if wanted is None:
            return
        now = asyncio.get_running_loop().time
        deadline = now() + CATCH_UP_SECONDS
        await self._tail.wait_async(wanted - 1, CATCH_UP_SECONDS)
        while True:
            position = await reading(self._position)
            if position >= wanted:
                return
            if now() > deadline:
                raise Behind(wanted=wanted, position=position, lag=wanted - position)
            await asyncio.sleep(CATCH_UP_PAUSE_SECONDS)

    def _position(self) -> int:
        return min(self._scores.position(), self._disclosure.position())


def rulebook_in(stored: Stored) -> dict[str, object]:
    """Which rulebook an event of their stream holds, and where the event is."""
    book = orjson.loads(stored.state)["data"]["rulebook"]
    named = {name: book[name] for name in ("version", "in_force_from")}
    return {**named, "position": stored.position}
