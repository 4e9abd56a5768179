"""Persons over HTTP: found, copied, erased, held, released. For privacy officers alone.

What is asked blocks (a file's lock, the database) and runs in a thread; nothing that was asked is
logged. A request done again gets the first answer, so that none needs an Idempotency-Key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, TypeVar

from anyio import to_thread
from fastapi import Path, Request, Response
from pydantic import BaseModel, ValidationError

from api import openapi, problems
from api.accesses import Accesses
from api.answers import Answer
from api.body import REFERENCE, read_json
from api.callers import Callers, Scope, claims_of
from api.intake.sought import SoughtRows
from api.openapi import BEARER, json_answer
from api.person_copy import Copies, PersonCopy
from api.person_json import (
    PersonRequest,
    PersonSearch,
    PersonsFound,
    PersonStanding,
    shown,
)
from api.query import Operation
from api.refusals import Flaw, SchemaBroken, TokenMissing
from api.replies import reply
from api.security import Claims, not_allowed
from ledger import marks
from ledger.database import reading
from ledger.erasing import Erasures, Standing
from ledger.errors import OutcomeUnknown, Words
from ledger.marks import Marks
from ledger.rotation import Terms

SEARCH = "/v1/persons/search"
COPY = "/v1/persons/{person}/copy"
ERASURE = "/v1/persons/{person}/erasure"
RELEASE = "/v1/persons/{person}/release"
WRITE_SECONDS = 25
FIND = Words("look for persons", "查找人员")
READ = Words("make a copy of what is sealed of a person", "制作人员资料副本")
ERASE = Words("erase persons", "删除人员资料")
ROLE = "privacy_officer"
NO_FIELD = Words(f"one of {', '.join(marks.fields())}", f"应为 {'、'.join(marks.fields())} 之一")
Person = Annotated[
    str,
    Path(
        pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        description="The random reference that stands for the person in sealed fields.",
        json_schema_extra={"format": "person-reference"},
    ),
]

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)
Endpoint = Callable[..., Any]


class Act(NamedTuple):
    """One thing that is asked by POST: what it takes and gives."""

    path: str
    body: type[BaseModel]
    answer: type[Answer]
    does: Words
    example: dict[str, str]
    statuses: tuple[int, ...] = (200,)


ACTS = (
    Act(
        SEARCH,
        PersonSearch,
        PersonsFound,
        Words("find a person by a sealed text", "按封存内容查找人员"),
        {"text": "138 0000 0000", "field": "contact"},
    ),
    Act(
        ERASURE,
        PersonRequest,
        PersonStanding,
        Words(
            "erase a person, or hold where a duty to retain runs",
            "删除人员资料，保存义务未届满的暂缓",
        ),
        {"ground": "CONSENT_WITHDRAWN", "document": "PIPL-2026-17"},
        (200, 202),
    ),
    Act(
        RELEASE,
        PersonRequest,
        PersonStanding,
        Words("end the hold of an erasure early", "提前解除暂缓删除"),
        {"ground": "DUTY_ENDED", "document": "PIPL-2026-18"},
    ),
)
COPY_READ = openapi.Read(
    "persons",
    "本人资料副本 · A copy of somebody's own data",
    json_answer(PersonCopy),
    (401, 403, 404, 500, 503),
    [BEARER],
)


class PersonRoutes:
    """Answers everything that concerns persons."""

    def __init__(
        self,
        erasures: Erasures,
        copies: Copies,
        found: Marks,
        rows: SoughtRows,
        *,
        terms: Terms,
        accesses: Accesses,
        callers: Callers | None,
        max_body_bytes: int,
    ) -> None:
        self._erasures, self._copies, self._marks = erasures, copies, found
        self._rows = rows
        self._terms, self._accesses = terms, accesses
        self._callers, self._max_body_bytes = callers, max_body_bytes

    def routes(self) -> list[Operation]:
        """The routes."""
        ends: tuple[Endpoint, ...] = (self.find, self.erase, self.release)
        return [
            Operation(COPY, self.copy, methods=["GET"], **_of_copy()),
        ] + [
            Operation(act.path, end, methods=["POST"], **_of_act(act))
            for act, end in zip(ACTS, ends, strict=True)
        ]

    async def find(self, request: Request) -> Response:
        """References only; whether there are any takes the same work and leaves the same record."""
        claims, body = await self._asked(request, PersonSearch, FIND, "read")
        names = marks.fields()
        if body.field is not None:
            if body.field not in names:
                raise SchemaBroken([Flaw(("body", "field"), NO_FIELD)])
            names = [body.field]
        found = await reading(self._marks.find, body.text, names)
        if body.field is None:
            rows = await reading(self._rows.find, body.text)
            found = found.with_more(rows)
        await self._accesses.record(claims, "PERSON", 1, max(found.position, 1))
        return reply(found._asdict(), claims.reader)

    async def copy(self, request: Request, person: Person) -> Response:
        """A JSON document for the person itself; whoever makes it is recorded."""
        claims = await self._officer(request, READ, "read")
        found = await reading(self._copies.of, person)
        positions = [one["position"] for one in found["texts"]] or [1]
        await self._accesses.record(claims, "PERSON", positions[0], positions[-1])
        answer = reply(found, claims.reader)
        answer.headers["Content-Disposition"] = f'attachment; filename="{person}.json"'
        return answer

    async def erase(self, request: Request, person: Person) -> Response:
        """Erased: 200. Held until a day: 202, and then erased without being asked again."""
        claims, body = await self._asked(request, PersonRequest, ERASE, "write")
        return await self._answer(
            claims,
            lambda: self._erasures.erase(person, body.ground, claims.actor, document=body.document),
        )

    async def release(self, request: Request, person: Person) -> Response:
        """How it stands then: the ground says whether the text is erased or stays."""
        claims, body = await self._asked(request, PersonRequest, ERASE, "write")
        return await self._answer(
            claims,
            lambda: self._erasures.release(
                person, body.ground, claims.actor, document=body.document
            ),
        )

    async def _answer(self, claims: Claims, act: Callable[[], Standing]) -> Response:
        def done() -> tuple[Standing, dict[str, Any]]:
            standing = act()
            epochs = self._erasures.epochs()
            book = self._erasures.book()
            today = self._erasures.today()
            return standing, shown(
                standing, book=book, epochs=epochs, terms=self._terms, today=today
            )

        standing, content = await _writing(done)
        answer = reply(content, claims.reader)
        answer.status_code = 202 if standing.state == "held" else 200
        return answer

    async def _officer(self, request: Request, what: Words, scope: Scope) -> Claims:
        claims = await claims_of(request, self._callers, scope)
        if claims is None:
            raise TokenMissing
        if not claims.reader.rights.persons:
            raise not_allowed(claims, what)
        return claims

    async def _asked(
        self, request: Request, model: type[B], what: Words, scope: Scope
    ) -> tuple[Claims, B]:
        claims = await self._officer(request, what, scope)
        try:
            return claims, model.model_validate(
                await read_json(request, limit=self._max_body_bytes)
            )
        except ValidationError as error:
            raise problems.broken(error) from error


async def _writing(act: Callable[[], T]) -> T:
    """Run it in a thread; who waits too long is told that nobody knows. Raises OutcomeUnknown."""
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            return await to_thread.run_sync(act, abandon_on_cancel=True)
    except TimeoutError as error:
        raise OutcomeUnknown from error


def _of_copy() -> dict[str, Any]:
    """The arguments of the route of the copy that document it."""
    found = openapi.of_read(COPY, COPY_READ)
    found["openapi_extra"] |= {"x-roles": [ROLE]}
    return found


def _of_act(act: Act) -> dict[str, Any]:
    """The arguments of a route that document it."""
    name = act.body.__name__
    media = {"schema": {"$ref": f"{REFERENCE}{name}"}, "example": act.example}
    return {
        "response_class": Response,
        "tags": ["persons"],
        "summary": f"{act.does.zh} · {act.does.en.capitalize()}",
        "description": f"Roles: `{ROLE}`.",
        "operation_id": f"post_persons_{act.path.rpartition('/')[2]}",
        "responses": {
            **{status: json_answer(act.answer) for status in act.statuses},
            **openapi.problems(*openapi.WRITE_PROBLEMS),
        },
        "openapi_extra": {
            "x-roles": [ROLE],
            "security": [BEARER],
            "requestBody": {"required": True, "content": {"application/json": media}},
        },
    }
