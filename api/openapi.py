"""The published schema (OpenAPI 3.1): what each operation takes and every way it may answer.

Routes name their answers and problems here; `api/document.py` puts the parts together. The schema
is documentation: what a request must be is judged by the models it is made from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from fastapi import Response
from pydantic import BaseModel

from api import answers, published, readiness
from api.body import REFERENCE
from api.examples import EXAMPLES, PROVIDER, TARGET
from api.problems import refusals_by_code

if TYPE_CHECKING:
    from api.writes import Write

Json = dict[str, Any]

ON_FACT = "DecisionOnFact"
DESCRIPTION = """\
An event-sourced credit ledger for service providers that run Douyin accounts for others.

* **Writes** record decisions made elsewhere; each becomes one immutable event and answers where it
  stands. What needs two officers becomes a proposal, which another person decides. Send an
  `Idempotency-Key`, and repeat the same request as often as needed.
* **Reads** are public as far as the public may see; a token of an officer, an auditor or the
  provider itself shows more.
* **The feed** is the log itself, event by event: pull it, wait on it, or let it stream.
* **Problems** are RFC 9457 documents in Chinese or English (`Accept-Language`).
"""
TAGS = [
    {"name": "writes", "description": "记录 · Record what was decided."},
    {"name": "proposals", "description": "提请 · What awaits a second officer."},
    {"name": "reads", "description": "查询 · Scores, events and the ledger itself."},
    {"name": "disclosure", "description": "公示 · What the public may see now."},
    {"name": "feed", "description": "事件流 · Follow the log."},
    {"name": "quarantine", "description": "待核 · Rows that only a person can answer."},
    {"name": "persons", "description": "个人信息 · Found, copied, erased: for privacy officers."},
    {"name": "operations", "description": "运行状况 · Is it well?"},
]
BEARER: dict[str, list[str]] = {"bearer": []}
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of this server (`chengxin token`), an access token (RFC 9068) of an"
        " issuer that its operator configured, or an API key of a subscriber (`cxk_…`). Who"
        " vouches for bearers: `/.well-known/oauth-protected-resource`.",
    }
}
IDENTIFIER_FORMAT = "provider-identifier"
"""The `format` of a text that `ledger.identity.parse_identifier` reads."""
IDENTIFIER = {
    "name": "identifier",
    "in": "path",
    "required": True,
    "description": "The provider's unified social credit code (GB 32100-2015), or COUNTRY-REGISTER-"
    "NUMBER. Lower case and full width are mended.",
    "schema": {"type": "string", "format": IDENTIFIER_FORMAT, "minLength": 1, "maxLength": 240},
    "example": PROVIDER,
}
FACT = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The id of the recorded fact, from its receipt.",
    "schema": {"type": "string", "format": "uuid"},
    "example": TARGET,
}
PROPOSED = FACT | {"description": "The id of the proposal, from its receipt."}
TEXT = {"type": "string"}
ACCEPTED = 202
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Unique per organisation; the same request again gives the first answer.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
RECEIPT_HEADERS = {
    "Location": {"description": "The event.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "`true` where this is the first answer to a repeated request.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
LINK = {"Link": {"description": "The next page, rel=next.", "schema": {"type": "string"}}}
ETAG = {"ETag": {"description": "For If-None-Match.", "schema": {"type": "string"}}}
LINE = {"anyOf": [{"$ref": f"{REFERENCE}{one}"} for one in ("CloudEvent", "Stub")]}
LINES: dict[str, Any] = {
    "application/x-ndjson": {"schema": {"type": "string", "description": "One line an event."}},
    "application/jsonl": {"schema": {"type": "string", "description": "The same."}},
    "application/cloudevents-batch+json": {"schema": {"type": "array", "items": LINE}},
}
STREAM = {"text/event-stream": {"schema": {"type": "string", "description": "id, event, data."}}}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the copy that is there already.",
    "schema": {"type": "string"},
}
ANYBODY: list[Json] = [{}, BEARER]
"""A token may be sent, and shows more to whom it concerns."""
WRITE_PROBLEMS = (400, 401, 403, 404, 408, 409, 413, 415, 422, 500, 503)

AT_THE_DOOR = (400, 414, 421, 429, 431)
"""What any address may answer before it is asked (`api/door.py`)."""


def problems(*statuses: int) -> dict[int | str, Json]:
    """The documented problems of an operation, by status, with the codes that have it."""
    return {status: _problem(status) for status in sorted({*AT_THE_DOOR, *statuses})}


def _problem(status: int) -> Json:
    codes = [code for code, kind in refusals_by_code().items() if kind.status == status]
    found: Json = {
        "description": f"A problem: {', '.join(codes)}.",
        "content": {"application/problem+json": {"schema": {"$ref": f"{REFERENCE}Problem"}}},
    }
    if status in (429, 503):
        found["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    if status == 429:
        found["headers"] |= {
            name: {"schema": {"type": "string"}} for name in ("RateLimit", "RateLimit-Policy")
        }
    if status in (401, 403):
        found["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return found


def json_answer(model: type[BaseModel], **more: Any) -> Json:
    """An answer in JSON of the shape of a model."""
    schema = {"$ref": f"{REFERENCE}{model.__name__}"}
    description = " ".join((model.__doc__ or "").split())
    return {"description": description, "content": {"application/json": {"schema": schema}}} | more


def of_write(write: Write) -> Json:
    """The arguments of the route of a write that document it."""
    schema = ON_FACT if write.is_act else write.command.__name__
    status = ACCEPTED if write.is_proposed else 201
    what = "Becomes a proposal, which another officer decides. " if write.is_proposed else ""
    headers = RECEIPT_HEADERS
    if write.is_proposed:
        headers = headers | {"Location": {"description": "The proposal.", "schema": TEXT}}
    media: Json = {"schema": {"$ref": f"{REFERENCE}{schema}"}}
    if schema in EXAMPLES:
        media["example"] = EXAMPLES[schema]
    # One of its own: whoever tries one example after the other must not be refused for it.
    key = str(uuid5(NAMESPACE_URL, write.path))
    parameters = [IDENTIFIER] if "{identifier}" in write.path else []
    parameters += [FACT] if write.is_act else []
    parameters += [PROPOSED] if write.is_verdict else []
    return {
        "status_code": status,
        "response_class": Response,
        "tags": ["writes"],
        "summary": f"{write.does.zh} · {write.does.en.capitalize()}",
        "description": f"{what}Roles: {', '.join(f'`{role}`' for role in write.roles)}.",
        "operation_id": "_".join(re.findall(r"[a-z]+", f"post {write.path[4:]}")),
        "responses": {
            status: json_answer(answers.Receipt, headers=headers),
            **problems(*WRITE_PROBLEMS),
        },
        "openapi_extra": {
            "x-roles": list(write.roles),
            "security": [BEARER],
            "parameters": [*parameters, IDEMPOTENCY_KEY | {"example": key}],
            "requestBody": {"required": True, "content": {"application/json": media}},
        },
    }


class Read(NamedTuple):
    """How one address that is read is documented."""

    tag: str
    summary: str
    answer: Json
    problems: tuple[int, ...]
    security: Sequence[Json] = ()
    may_be_unchanged: bool = False
    shared: bool = False
    """Whether it is the same for every reader, so that pages of other origins may read it."""


def of_read(path: str, read: Read | None = None) -> Json:
    """The arguments of the route of a read that document it; of READS where none is given."""
    read = read or READS[path]
    responses: dict[int | str, Json] = {200: read.answer, **problems(422, *read.problems)}
    extra: Json = {"security": list(read.security)}
    if read.may_be_unchanged:
        responses[200] = read.answer | {"headers": read.answer.get("headers", {}) | ETAG}
        responses[304] = {"description": "The copy is still good.", "headers": ETAG}
        extra["parameters"] = [IF_NONE_MATCH]
    if path == "/readyz":
        responses[503] = json_answer(readiness.Readiness)
    return {
        "response_class": Response,
        "tags": [read.tag],
        "summary": read.summary,
        "operation_id": "_".join(re.findall(r"[a-z]+", f"get {path.removeprefix('/v1')}")),
        "responses": responses,
        "openapi_extra": extra,
    }


def _either(*models: type[BaseModel], **more: Any) -> Json:
    schema = {"anyOf": [{"$ref": f"{REFERENCE}{model.__name__}"} for model in models]}
    description = "By who asks: " + " Or: ".join((model.__doc__ or "") for model in models)
    return {"description": description, "content": {"application/json": {"schema": schema}}} | more


READS = {
    "/v1/providers/{identifier}/score": Read(
        "reads",
        "评分及其说明 · The explained score",
        _either(answers.FullScore, answers.PublicScore),
        (401, 403, 404, 409, 500, 503),
        ANYBODY,
        may_be_unchanged=True,
    ),
    "/v1/providers/{identifier}/case": Read(
        "reads",
        "评分所依据的记录与规则 · What the score is computed from",
        json_answer(answers.Case),
        (401, 403, 404, 409, 500, 503),
        [BEARER],
    ),
    "/v1/providers/{identifier}/events": Read(
        "reads",
        "服务商的事件 · The events of a provider",
        {"description": "Lines, in the order of the log.", "content": LINES, "headers": LINK},
        (401, 404, 406, 409, 500, 503),
        ANYBODY,
    ),
    "/v1/providers/{identifier}/accesses": Read(
        "reads",
        "谁查阅过该服务商的档案 · Who looked at the file of a provider",
        json_answer(answers.FileAccesses, headers=LINK),
        (401, 403, 404, 409, 500, 503),
        [BEARER],
    ),
    "/v1/events/{position}": Read(
        "reads",
        "一个事件 · One event",
        {"description": "The event's line.", "content": {"application/json": {"schema": LINE}}},
        (401, 404, 409, 500, 503),
        ANYBODY,
    ),
    "/v1/events/{position}/sealed": Read(
        "reads",
        "一个事件的封存内容 · The sealed text of one event",
        json_answer(answers.SealedTexts),
        (401, 403, 404, 409, 500, 503),
        [BEARER],
    ),
    "/v1/disclosure/providers": Read(
        "disclosure",
        "查询服务商 · Search for providers",
        json_answer(answers.Rows, headers=LINK),
        (500, 503),
        shared=True,
    ),
    "/v1/disclosure/providers/{identifier}": Read(
        "disclosure",
        "服务商公示信息 · The public sheet of a provider",
        json_answer(published.Sheet),
        (404, 409, 500, 503),
        may_be_unchanged=True,
        shared=True,
    ),
    "/v1/schemas": Read(
        "reads",
        "事件类型 · The event types",
        json_answer(answers.SchemaList),
        (500,),
        may_be_unchanged=True,
        shared=True,
    ),
    "/v1/schemas/{type}": Read(
        "reads",
        "事件类型的模式 · The JSON Schema of an event type",
        {
            "description": "JSON Schema 2020-12.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        (404, 500),
        may_be_unchanged=True,
        shared=True,
    ),
    "/v1/ledger": Read(
        "reads",
        "本账本 · This ledger",
        json_answer(answers.LedgerFacts),
        (500, 503),
        may_be_unchanged=True,
        shared=True,
    ),
    "/v1/feed": Read(
        "feed",
        "事件流 · The feed",
        {"description": "Lines, by Accept.", "content": {**LINES, **STREAM}, "headers": LINK},
        (401, 404, 406, 500, 503),
        [BEARER],
    ),
    "/.well-known/oauth-protected-resource": Read(
        "operations",
        "如何取得令牌 · Where tokens come from (RFC 9728)",
        json_answer(answers.ProtectedResource),
        (500,),
        may_be_unchanged=True,
        shared=True,
    ),
    "/problems/{code}": Read(
        "operations",
        "问题类型 · A problem type",
        json_answer(answers.ProblemType),
        (404, 406, 500),
        may_be_unchanged=True,
        shared=True,
    ),
    "/healthz": Read("operations", "存活 · Alive", json_answer(readiness.Health), (500,)),
    "/readyz": Read("operations", "就绪 · Ready", json_answer(readiness.Readiness), (500,)),
    "/metrics": Read(
        "operations",
        "运行指标 · Figures for Prometheus",
        {
            "description": "The Prometheus text format; only for machines that may read it.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        (404, 500),
    ),
}
"""Every address that is read."""
