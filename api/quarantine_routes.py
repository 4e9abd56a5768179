"""The quarantine over HTTP: what waits for a person, a row with all that is known of it, verdicts.

Officers of the organisation whose import brought a row in (role `registrar`) see it and decide it;
auditors see all rows. For everybody else there is nothing here. Verdicts need no Idempotency-Key: a
row can be decided once, and whoever decides it again the same way gets the first answer.
"""

from __future__ import annotations

from pathlib import Path as FolderPath
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, ValidationError
from structlog.contextvars import bind_contextvars

from api import lines, openapi, problems
from api.accesses import Accesses
from api.answers import Answer
from api.body import REFERENCE, read_json
from api.callers import Callers, claims_of
from api.examples import EXAMPLES
from api.intake.quarantine import Held, Quarantine, State
from api.intake.rejections import Rejections
from api.intake.verdict import Verdicts
from api.openapi import BEARER, LINK, Read, json_answer
from api.quarantine_json import (
    QuarantinedRow,
    QuarantinedRowInFull,
    QuarantinedRows,
    RowAccepted,
    RowCorrection,
    RowVerdict,
    receipts_of,
    shown,
    shown_in_full,
)
from api.query import Operation
from api.refusals import TokenMissing, UnknownRow
from api.replies import reply
from api.security import Claims, not_allowed
from ledger.database import reading
from ledger.errors import Words
from ledger.handle import Desk
from ledger.store import Ledger
from projections.rights import Whose

ROWS = "/v1/quarantine"
ROW = ROWS + "/{id}"
SEE = Words("see the quarantine", "查阅待核区")
DECIDE = Words("decide rows in quarantine", "办理待核行")
OFFICER = "registrar"
Id = Annotated[int, Path(ge=1, le=2**53 - 1, description="The row's number.")]
MODELS: tuple[type[BaseModel], ...] = (
    RowVerdict,
    RowCorrection,
    QuarantinedRow,
    QuarantinedRowInFull,
    QuarantinedRows,
    RowAccepted,
)
"""What these routes take and give, for the published schema."""


class Act(NamedTuple):
    """One verdict: its address, what it takes and gives, and with which status."""

    path: str
    body: type[RowVerdict]
    answer: type[Answer]
    does: Words
    status: int = 200


CORRECTION = Act(
    ROW + "/correction",
    RowCorrection,
    QuarantinedRowInFull,
    Words("correct a row in quarantine", "更正待核行"),
)
ACCEPTANCE = Act(
    ROW + "/acceptance",
    RowVerdict,
    RowAccepted,
    Words("accept a row: record it as corrected", "核准待核行入账"),
    201,
)
REJECTION = Act(
    ROW + "/rejection",
    RowVerdict,
    QuarantinedRowInFull,
    Words("reject a row for good", "退回待核行"),
)
ACTS = (CORRECTION, ACCEPTANCE, REJECTION)
READS = {
    ROWS: Read(
        "quarantine",
        "待核行 · The rows in quarantine",
        json_answer(QuarantinedRows, headers=LINK),
        (401, 403, 422, 500, 503),
        [BEARER],
    ),
    ROW: Read(
        "quarantine",
        "一条待核行 · One row in quarantine",
        json_answer(QuarantinedRowInFull),
        (401, 403, 404, 422, 500, 503),
        [BEARER],
    ),
}


class QuarantineRoutes:
    """Answers everything that concerns the quarantine."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        accesses: Accesses,
        callers: Callers | None,
        keys: FolderPath | None,
        max_body_bytes: int,
    ) -> None:
        self._quarantine = Quarantine(ledger)
        self._accesses = accesses
        self._verdicts: Verdicts | None = None
        self._callers = callers
        self._rejections = None if keys is None else Rejections(keys)
        self._max_body_bytes = max_body_bytes

    def decide_at(self, desk: Desk) -> None:
        """Where accepted rows are recorded: the desk of the event loop that serves."""
        if self._callers is not None:
            self._verdicts = Verdicts(
                self._quarantine,
                desk,
                digest=self._callers.tokens.digest,
                rejections=self._rejections,
            )

    def routes(self) -> list[Operation]:
        """The routes."""
        reads = ((ROWS, self.listed), (ROW, self.row))
        acts = ((CORRECTION, self.correct), (ACCEPTANCE, self.accept), (REJECTION, self.reject))
        return [
            Operation(path, endpoint, methods=["GET"], **openapi.of_read(path, READS[path]))
            for path, endpoint in reads
        ] + [
            Operation(act.path, endpoint, methods=["POST"], **_of_act(act))
            for act, endpoint in acts
        ]

    async def listed(
        self,
        request: Request,
        state: Annotated[
            State | Literal["all"], Query(description="What became of it.")
        ] = "waiting",
        name: Annotated[
            str | None,
            Query(alias="import", pattern="^[a-z0-9][a-z0-9-]{0,59}$", description="Its import."),
        ] = None,
        after: Annotated[int, Query(ge=0, le=2**53 - 1, description="Rows after this one.")] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Rows in the order in which they came, those that wait where nothing else is asked."""
        claims = await self._reader(request)
        found = await reading(
            self._quarantine.listed,
            _whose(claims),
            state=None if state == "all" else state,
            name=name,
            after=after,
            limit=limit + 1,
        )
        if given_out := found[:limit]:
            numbers = given_out[0].id, given_out[-1].id
            await self._accesses.record(claims, "QUARANTINE", *numbers)
        answer = reply({"rows": [shown(one) for one in given_out]}, claims.reader)
        if len(found) > limit:
            asked = {"state": state, "import": name, "after": found[limit - 1].id, "limit": limit}
            given = {name: value for name, value in asked.items() if value}
            answer.headers["Link"] = lines.next_link(ROWS, **given)
        return answer

    async def row(self, request: Request, id: Id) -> Response:
        """A row with its cells, its corrections and every step that was taken with it."""
        claims = await self._reader(request)
        held = await reading(self._quarantine.held, id, _whose(claims))
        if held is None or not claims.reader.sees_rows_of(held.organisation):
            raise UnknownRow(row=id)
        return await self._in_full(held, claims)

    async def correct(self, request: Request, id: Id) -> Response:
        """The row as it is then."""
        claims, verdicts, body = await self._asked(request, CORRECTION)
        assert isinstance(body, RowCorrection)
        return await self._in_full(
            await verdicts.correct(id, claims.actor, body.set, body.why), claims
        )

    async def accept(self, request: Request, id: Id) -> Response:
        """Where its events stand; accepted again, the same."""
        claims, verdicts, body = await self._asked(request, ACCEPTANCE)
        accepted = await verdicts.accept(id, claims.actor, body.why)
        receipts = receipts_of(accepted)
        bind_contextvars(positions=[one["position"] for one in receipts])
        answer = reply({"row": id, "receipts": receipts}, claims.reader)
        answer.status_code = ACCEPTANCE.status
        answer.headers["Location"] = f"/v1/events/{receipts[0]['position']}"
        if accepted.repeated:
            answer.headers["Idempotent-Replayed"] = "true"
        return answer

    async def reject(self, request: Request, id: Id) -> Response:
        """The row as it is then."""
        claims, verdicts, body = await self._asked(request, REJECTION)
        return await self._in_full(await verdicts.reject(id, claims.actor, body.why), claims)

    async def _reader(self, request: Request) -> Claims:
        claims = await claims_of(request, self._callers, "read")
        if claims is None:
            raise TokenMissing
        if claims.reader.rights.quarantine is Whose.NOBODYS:
            raise not_allowed(claims, SEE)
        return claims

    async def _asked(self, request: Request, act: Act) -> tuple[Claims, Verdicts, RowVerdict]:
        """Who decides, at which desk, and what."""
        claims = await claims_of(request, self._callers, "write")
        if claims is None:
            raise TokenMissing
        if claims.role != OFFICER:
            raise not_allowed(claims, DECIDE)
        try:
            body = act.body.model_validate(await read_json(request, limit=self._max_body_bytes))
        except ValidationError as error:
            raise problems.broken(error) from error
        assert self._verdicts is not None, "a token was verified, so there are keys"
        return claims, self._verdicts, body

    async def _in_full(self, held: Held, claims: Claims) -> Response:
        steps = await reading(self._quarantine.steps, held.id)
        await self._accesses.record(claims, "QUARANTINE", held.id, held.id)
        return reply(shown_in_full(held, steps), claims.reader)


def _whose(claims: Claims) -> str | None:
    """The organisation whose rows are looked at; None for everybody's."""
    return None if claims.reader.rights.quarantine is Whose.EVERYBODYS else claims.organisation


def _of_act(act: Act) -> dict[str, Any]:
    """The arguments of the route of a verdict that document it."""
    what = act.path.rpartition("/")[2]
    body = act.body.__name__
    media = {"schema": {"$ref": f"{REFERENCE}{body}"}, "example": EXAMPLES[body]}
    headers = openapi.RECEIPT_HEADERS if act is ACCEPTANCE else {}
    return {
        "status_code": act.status,
        "response_class": Response,
        "tags": ["quarantine"],
        "summary": f"{act.does.zh} · {act.does.en.capitalize()}",
        "description": f"Roles: `{OFFICER}`, of the organisation whose import brought the row in.",
        "operation_id": f"post_quarantine_id_{what}",
        "responses": {
            act.status: json_answer(act.answer, headers=headers),
            **openapi.problems(*openapi.WRITE_PROBLEMS),
        },
        "openapi_extra": {
            "security": [BEARER],
            "requestBody": {"required": True, "content": {"application/json": media}},
        },
    }
