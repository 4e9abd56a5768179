"""The published document put together once: routes, the models they name, and where they lead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api import answers, links, published, readiness
from api.body import EXACT, REFERENCE
from api.openapi import ON_FACT, SECURITY_SCHEMES, TAGS
from ledger.events import TargetFields
from ledger.proposal import ApproveProposal, RefuseProposal, WithdrawProposal

Json = dict[str, Any]
VERDICTS = (ApproveProposal, RefuseProposal, WithdrawProposal)
"""Their addresses name the proposal."""


def publish(app: FastAPI, bodies: Iterable[type[BaseModel]]) -> Callable[[], Json]:
    """What `app.openapi` is to be: the schema of all routes, made on first use.

    `bodies`: what requests bring, and answers that are not in `api/answers.py`.
    """
    models: list[type[BaseModel]] = [TargetFields, *_answers()]
    models += [one for one in bodies if not issubclass(one, TargetFields)]

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
            components["schemas"] = components.get("schemas", {}) | _schemas(models)
            links.connect(made)
            app.openapi_schema = made
        return app.openapi_schema

    return schema


def _answers() -> Iterator[type[BaseModel]]:
    for one in (vars(answers) | vars(published) | vars(readiness)).values():
        if isinstance(one, type) and issubclass(one, BaseModel) and one is not BaseModel:
            yield one


def _schemas(models: Iterable[type[BaseModel]]) -> Json:
    inputs: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (model, "validation") for model in models
    ]
    _, made = models_json_schema(
        inputs,
        ref_template=f"{REFERENCE}{{model}}",
    )
    schemas: Json = made["$defs"]
    schemas |= EXACT
    schemas["PublishRulebook"]["properties"]["rulebook"] = {"$ref": f"{REFERENCE}ExactObject"}
    on_fact = schemas.pop(TargetFields.__name__)
    del on_fact["properties"]["target"]
    on_fact["required"].remove("target")
    for verdict in VERDICTS:
        of_proposal = schemas[verdict.__name__]
        del of_proposal["properties"]["proposal"]
        of_proposal["required"].remove("proposal")
    schemas[ON_FACT] = on_fact | {"title": ON_FACT}
    return schemas
