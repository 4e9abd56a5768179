"""The published schema (OpenAPI 3.1): what each operation takes and every way it may answer.

Routes name their answers and problems here; `publish` puts the parts together once. The schema is
documentation: what a request must be is judged by the models it is made from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api import answers
from api.examples import EXAMPLES, PROVIDER, TARGET
from api.titles import refusals_by_code
from ledger.events import TargetFields

if TYPE_CHECKING:
    from api.commands import Write

Json = dict[str, Any]

REFERENCE = "#/components/schemas/"
ON_FACT = "DecisionOnFact"
DESCRIPTION = """\
An event-sourced credit ledger for service providers that run Douyin accounts for others.

* **Writes** record decisions made elsewhere; each becomes one immutable event and answers where it
  stands. Send an `Idempotency-Key`, and repeat the same request as often as needed.
* **Reads** are public as far as the public may see; a token of an officer, an auditor or the
  provider itself shows more.
* **The feed** is the log itself, event by event: pull it, wait on it, or let it stream.
* **Problems** are RFC 9457 documents in Chinese or English (`Accept-Language`).
"""
TAGS = [
    {"name": "writes", "description": "Record what was decided. · 记录"},
    {"name": "reads", "description": "Scores, events and the ledger itself. · 查询"},
    {"name": "disclosure", "description": "What the public may see now. · 公示"},
    {"name": "feed", "description": "Follow the log. · 事件流"},
    {"name": "operations", "description": "Is it well? · 运行状况"},
]
BEARER = {"bearer": []}
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A JWT signed with Ed25519: `chengxin token`. Good for twelve hours.",
    }
}
IDENTIFIER = {
    "name": "identifier",
    "in": "path",
    "required": True,
    "description": "The provider's unified social credit code (GB 32100-2015), or COUNTRY-REGISTER-"
    "NUMBER. Lower case and full width are mended.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 240},
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
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Unique per organisation; the same request again gives the first answer.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "example": "5f1c9a52-6a0e-4f0b-9a52-0d7f2b1c9a52",
}
RECEIPT_HEADERS = {
    "Location": {"description": "The event.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "`true` where this is the first answer to a repeated request.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
WRITE_PROBLEMS = (400, 401, 403, 404, 408, 409, 413, 415, 422, 500, 503)


def problems(*statuses: int) -> dict[int | str, Json]:
    """The documented problems of an operation, by status, with the codes that have it."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> Json:
    codes = [code for code, kind in refusals_by_code().items() if kind.status == status]
    found: Json = {
        "description": f"A problem: {', '.join(codes)}.",
        "content": {"application/problem+json": {"schema": {"$ref": f"{REFERENCE}Problem"}}},
    }
    if status == 503:
        found["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    if status == 401:
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
    media: Json = {"schema": {"$ref": f"{REFERENCE}{schema}"}}
    if schema in EXAMPLES:
        media["example"] = EXAMPLES[schema]
    parameters = [IDENTIFIER] if "{identifier}" in write.path else []
    parameters += [FACT] if write.is_act else []
    return {
        "status_code": 201,
        "response_class": Response,
        "tags": ["writes"],
        "summary": f"{write.does.zh} · {write.does.en.capitalize()}",
        "description": f"Roles: {', '.join(f'`{role}`' for role in write.roles)}.",
        "operation_id": "_".join(re.findall(r"[a-z]+", f"post {write.path[4:]}")),
        "responses": {
            201: json_answer(answers.Receipt, headers=RECEIPT_HEADERS),
            **problems(*WRITE_PROBLEMS),
        },
        "openapi_extra": {
            "security": [BEARER],
            "parameters": [*parameters, IDEMPOTENCY_KEY],
            "requestBody": {"required": True, "content": {"application/json": media}},
        },
    }


def publish(app: FastAPI, commands: Iterable[type[BaseModel]]) -> Callable[[], Json]:
    """What `app.openapi` is to be: the schema of all routes, made on first use."""
    models = {model.__name__: model for model in _answers()} | {
        command.__name__: command for command in commands if not issubclass(command, TargetFields)
    }

    def schema() -> Json:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                license_info=app.license_info,
                tags=TAGS,
                routes=app.routes,
                servers=[{"url": "/"}],
            )
            components = made.setdefault("components", {})
            components["securitySchemes"] = SECURITY_SCHEMES
            components["schemas"] = components.get("schemas", {}) | _schemas(models.values())
            app.openapi_schema = made
        return app.openapi_schema

    return schema


def _answers() -> list[type[BaseModel]]:
    return [
        one
        for one in vars(answers).values()
        if isinstance(one, type) and issubclass(one, BaseModel) and one.__module__ == answers.__name__
    ]


def _schemas(models: Iterable[type[BaseModel]]) -> Json:
    _, made = models_json_schema(
        [(model, "validation") for model in (*models, TargetFields)],
        ref_template=f"{REFERENCE}{{model}}",
    )
    schemas: Json = made["$defs"]
    on_fact = schemas.pop(TargetFields.__name__)
    del on_fact["properties"]["target"]
    on_fact["required"].remove("target")
    schemas[ON_FACT] = on_fact | {"title": ON_FACT}
    return schemas
