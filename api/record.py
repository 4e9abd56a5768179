"""Events as they stand in the log: of one provider, one by its position, and who looked at a file.

What a reader may see of them is decided by the projections; what goes beyond the public view is
recorded before it is given out (`api/accesses.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated

from fastapi import Path, Query, Request, Response

from api import lines, openapi
from api.accesses import Accesses
from api.callers import Callers, claims_of, file_of, reader_of
from api.parameters import After, Identifier
from api.query import Operation
from api.refusals import Behind, UnknownPosition
from api.replies import reply
from ledger.calendar import local_day
from ledger.database import reading
from ledger.errors import UnknownProvider, Words
from ledger.identity import parse_identifier
from ledger.store import Ledger
from projections.disclosure import Disclosure
from projections.look import Look
from projections.looks import Looks
from projections.rights import Reader
from projections.scores import Scores

READ_THE_ACCESSES = Words(
    "read who looked at the file of this provider", "查阅该服务商档案的查询记录"
)


async def line_at(
    ledger: Ledger, disclosure: Disclosure, position: int, reader: Reader, *, today: date
) -> Look:
    """The event at a position as a reader may see it. Raises Behind or UnknownPosition."""
    look = await reading(disclosure.line, position, reader, today=today)
    if not look.lines:
        head = await reading(ledger.head)
        if position <= head:
            raise Behind(wanted=position, position=position - 1, lag=head - position + 1)
        raise UnknownPosition(position=position, head=head)
    return look


class Record:
    """Answers what is read of single events."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        scores: Scores,
        disclosure: Disclosure,
        looks: Looks,
        accesses: Accesses,
        callers: Callers | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._scores = scores
        self._disclosure = disclosure
        self._looks = looks
        self._accesses = accesses
        self._callers = callers
        self._clock = clock

    def routes(self) -> list[Operation]:
        """The routes."""
        return [
            Operation(path, endpoint, methods=["GET"], **openapi.of_read(path))
            for path, endpoint in (
                ("/v1/providers/{identifier}/events", self.events),
                ("/v1/providers/{identifier}/accesses", self.accesses),
                ("/v1/events/{position}", self.event),
            )
        ]

    async def events(
        self,
        request: Request,
        identifier: Identifier,
        after: After = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """A provider's events in the order of the log, each as this reader may see it."""
        claims = await claims_of(request, self._callers, "read")
        subject = parse_identifier(identifier)
        media_type = lines.negotiate(request.headers.get("accept"), lines.PULLED)
        look = await reading(self._events, subject, after, limit, reader_of(claims))
        await self._accesses.of_lines(claims, "EVENTS", look)
        path = f"/v1/providers/{subject}/events"
        return lines.page(look.lines, media_type, path=path, limit=limit)

    async def accesses(
        self,
        request: Request,
        identifier: Identifier,
        after: After = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Who looked at a provider's file, for itself and for whoever may see all of it."""
        claims, file = await file_of(request, self._callers, identifier, READ_THE_ACCESSES)
        found = await reading(self._looks.at, file, after=after, limit=limit + 1)
        if not found:
            await reading(self._known, file.subject, after)
        answer = reply({"accesses": [one._asdict() for one in found[:limit]]}, claims.reader)
        if len(found) > limit:
            path = f"/v1/providers/{file.subject}/accesses"
            last = found[limit - 1].position
            answer.headers["Link"] = lines.next_link(path, after=last, limit=limit)
        return answer

    def _events(self, subject: str, after: int, limit: int, reader: Reader) -> Look:
        today = local_day(self._clock())
        look = self._disclosure.look(after, limit, reader, today=today, subject=subject)
        if not look.lines:
            self._known(subject, after)
        return look

    def _known(self, subject: str, after: int) -> None:
        """Raises UnknownProvider or UnknownPosition."""
        if self._scores.current(subject) is None:
            raise UnknownProvider(provider=subject)
        if after > (head := self._ledger.head()):
            raise UnknownPosition(position=after, head=head)

    async def event(
        self, request: Request, position: Annotated[int, Path(ge=1, le=2**53 - 1)]
    ) -> Response:
        """One event as this reader may see it."""
        claims = await claims_of(request, self._callers, "read")
        reader = reader_of(claims)
        today = local_day(self._clock())
        look = await line_at(self._ledger, self._disclosure, position, reader, today=today)
        await self._accesses.of_lines(claims, "EVENT", look)
        return reply(look.lines[0][1], reader)
