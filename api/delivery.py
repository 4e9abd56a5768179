"""`POST /v1/imports`: JSON Lines recorded while they arrive, and answered line by line.

Order: token, role, media type, announced length, a free place → the body in parts → lines → the
same import as that of a file, at the desk of all writes → the answers, in the order of the lines.
The answers are sent when the body has ended (`api/lineanswers.py` says why). A line is judged by
the token when it is read: one that expires midway gets every later line refused.

Failure: before the first line, whatever it is, a problem as everywhere. After it the status is
200, and the last line says that the body was not read to its end and why: too long or too slow,
the database away for a minute, the server stopping. Its client gone, the import finishes what has
arrived whole. What is recorded stays recorded; sent again it is answered, by the lines' keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from api import openapi
from api.arrival import Arrival
from api.body import UNREAD, media_type_of
from api.callers import Callers, claims_of
from api.commands import check_issuer
from api.examples import LINE_EXAMPLE
from api.intake.holding import Holding
from api.intake.imports import Import
from api.intake.jsonlines import ACTS, FACTS, MAX_LINE_BYTES, ImportLine, JsonLines
from api.intake.quarantine import Quarantine
from api.intake.tally import Account
from api.lineanswers import ImportSummary, LineAnswer, LineAnswers
from api.lines import JSON_LINES, JSON_LINES_TOO
from api.problems import TAGS, UNSTORED, language_of
from api.query import Operation
from api.refusals import (
    AnswersTooLarge,
    BodyTooLarge,
    ImportIncomplete,
    NotJsonLines,
    Stopping,
    TokenMissing,
    TooManyImports,
)
from api.security import Claims, Tokens, header_values, not_allowed
from api.settings import Settings
from api.writes import Write
from ledger.errors import LedgerError, Words
from ledger.events import Data
from ledger.handle import Desk

PATH = "/v1/imports"
DOES = Words("import records", "导入记录")
WRITERS = {role for write in (*FACTS.values(), *ACTS.values()) for role in write.roles}
BLOCK_ROWS = 25
"""Fewer than of a file: others who write at the same time wait for a part of a block only."""
STOP_SECONDS = 5
SEND_SECONDS = 30


MODELS: list[type[BaseModel]] = [ImportLine, LineAnswer, ImportSummary]
"""The shapes of lines, for the published schema."""
MEDIA: openapi.Json = {
    "schema": {
        "type": "string",
        "description": f"Each line an ImportLine, at most {MAX_LINE_BYTES // 1024} KiB; blank ones"
        " are passed over.",
    },
    "example": LINE_EXAMPLE,
}
ANSWER = "Each line a LineAnswer, in the order of the lines; the last one an ImportSummary."
DOCUMENTED: openapi.Json = {
    "response_class": Response,
    "tags": ["writes"],
    "summary": f"{DOES.zh} · {DOES.en.capitalize()}",
    "description": "Many writes at once: each line is recorded, refused and answered by itself, and"
    " needs the role that its own address does. Sent again, a line is answered by its key.",
    "operation_id": "post_imports",
    "responses": {
        200: {
            "description": ANSWER,
            "content": {JSON_LINES: {"schema": {"type": "string", "description": ANSWER}}},
        },
        **openapi.problems(400, 401, 403, 408, 413, 415, 422, 500, 503),
    },
    "openapi_extra": {
        "security": [openapi.BEARER],
        "requestBody": {"required": True, "content": {JSON_LINES: MEDIA, JSON_LINES_TOO: MEDIA}},
    },
}


class Deliveries:
    """Takes in what is delivered; so many at once, and each so long."""

    def __init__(self, settings: Settings, *, callers: Callers | None) -> None:
        self._callers = callers
        self._max_bytes = settings.max_import_bytes
        self._max_at_once = settings.max_imports
        self.under_way = 0

    def route(self) -> Operation:
        """The route."""
        return Operation(PATH, self.answer, methods=["POST"], **DOCUMENTED)

    async def answer(self, request: Request) -> Response:
        """Take in one body."""
        claims = await claims_of(request, self._callers, "write")
        if claims is None or self._callers is None:
            raise TokenMissing
        if claims.role not in WRITERS:
            raise not_allowed(claims, DOES)
        check_media_type(request)
        with ExitStack() as stack:
            stack.enter_context(self._place())
            language = language_of(request.headers.get("accept-language"))
            answers = LineAnswers(language, limit=self._max_bytes)
            stack.callback(answers.close)
            tokens = self._callers.tokens
            await Delivery(request, claims, tokens, answers, self._max_bytes).take_in()
            headers = {"Content-Language": TAGS[language], **UNSTORED}
            return Answered(answers, headers, stack.pop_all())

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places there are. Raises TooManyImports."""
        if self.under_way >= self._max_at_once:
            raise TooManyImports(limit=self._max_at_once)
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


def check_media_type(request: Request) -> None:
    """Raises NotJsonLines."""
    types = header_values(request, b"content-type")
    plain = {media_type_of(value) for value in types}
    if not plain & {JSON_LINES, JSON_LINES_TOO} or header_values(request, b"content-encoding"):
        raise NotJsonLines


class Delivery:
    """One body on its way into the ledger."""

    def __init__(
        self,
        request: Request,
        claims: Claims,
        tokens: Tokens,
        answers: LineAnswers,
        max_bytes: int,
    ) -> None:
        self._request, self._claims, self._tokens = request, claims, tokens
        self._answers, self._max_bytes = answers, max_bytes
        self._stopping: asyncio.Event = request.app.state.stopping
        self._arrival = Arrival(request, limit=max_bytes, stopping=self._stopping)

    async def take_in(self) -> None:
        """Record the lines; then `answers` has what became of them.

        Raises ClientDisconnect, and what ended it before the first line.
        """
        lines = JsonLines(self._permit)
        desk: Desk = self._request.app.state.desk
        work = Import(
            desk,
            self._claims.actor,
            name=lines.name,
            purpose=lines.purpose,
            digest=self._tokens.digest,
            account=Account(answer=self._answers.settle),
            holding=Holding(
                Quarantine(desk.ledger),
                self._claims.actor,
                name=lines.name,
                file=PATH,
                recipe=lines.recipe,
            ),
        )
        work.block_rows = BLOCK_ROWS
        rows = self._answers.expected(lines.arriving(self._arrival.parts()))
        ended_by = await self._run(work.run(rows))
        bind_contextvars(lines=work.tally.rows, positions=self._answers.positions)
        if isinstance(ended_by, BodyTooLarge | AnswersTooLarge):
            await self._arrival.drain()
        elif ended_by is not None:
            self._request.scope[UNREAD] = True
        if isinstance(ended_by, ClientDisconnect) or (ended_by and not self._answers.last_line):
            raise ended_by
        if isinstance(ended_by, LedgerError):
            why = Words(str(ended_by), ended_by.chinese())
            ended_by = ImportIncomplete(line=self._answers.last_line, why=why, cause=ended_by.code)
        self._answers.end(work.tally, ended_by)

    async def _run(self, work: Coroutine[Any, Any, Any]) -> LedgerError | ClientDisconnect | None:
        """Let the import do its work; what ended it before the body did."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                # It reads no more; what has arrived may yet be recorded.
                await asyncio.wait({task}, timeout=STOP_SECONDS)
            if not task.done():
                return Stopping()
            task.result()
        except LedgerError as error:
            return error
        finally:
            stopped.cancel()
            task.cancel()
            with suppress(asyncio.CancelledError, LedgerError):
                await task
        if self._answers.full:
            return AnswersTooLarge(limit=self._max_bytes)
        return self._arrival.ended_by

    def _permit(self, write: Write, data: Data) -> None:
        self._tokens.check_time(self._claims)
        if self._claims.role not in write.roles:
            raise not_allowed(self._claims, write.does)
        check_issuer(data, self._claims)


class Answered(Response):
    """The answers; the place is held until they are sent. A client that reads nothing is let go."""

    media_type = JSON_LINES

    def __init__(self, answers: LineAnswers, headers: dict[str, str], held: ExitStack) -> None:
        super().__init__(headers=headers | {"Content-Length": str(answers.size)})
        self._answers = answers
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        if scope.get(UNREAD):
            self.raw_headers.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        with self._held:
            try:
                await send(start)
                for part in self._answers.parts():
                    async with asyncio.timeout(SEND_SECONDS):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
            except TimeoutError as error:
                raise ClientDisconnect from error
            await send({"type": "http.response.body", "body": b"", "more_body": False})
