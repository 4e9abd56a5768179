"""The published schema: /openapi.json for a program and, made from it, the page /docs for a person.

The page loads nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from api.origins import DOCUMENT
from api.pages import Pages
from api.replies import public
from ledger.database import reading


def add(app: FastAPI, pages: Pages) -> None:
    """Add the document and the page to the application."""
    app.add_route(DOCUMENT, document_of(app), include_in_schema=False)
    app.add_route("/docs", page_of(app, pages), include_in_schema=False)


def document_of(app: FastAPI) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of the document."""

    async def answer(request: Request) -> Response:
        return public(request, app.openapi())

    return answer


def page_of(app: FastAPI, pages: Pages) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of the page."""

    def render() -> Response:
        pages.learn_name()
        schema = app.openapi()
        groups = [(tag, list(operations(schema, tag["name"]))) for tag in schema["tags"]]
        return pages.render(
            "reference.html", indexable=False, here="docs", info=schema["info"], groups=groups
        )

    async def answer(_: Request) -> Response:
        return await reading(render)

    return answer


def operations(schema: dict[str, Any], tag: str) -> Iterator[dict[str, Any]]:
    """The operations of one tag, as the template shows them."""
    for path, methods in schema["paths"].items():
        for method, one in methods.items():
            if tag in one["tags"]:
                body = one.get("requestBody", {}).get("content", {}).get("application/json", {})
                yield {
                    "id": one["operationId"],
                    "method": method.upper(),
                    "path": path,
                    "summary": one["summary"],
                    "description": one.get("description", "").replace("`", ""),
                    "parameters": one.get("parameters", []),
                    "example": pretty(body["example"]) if "example" in body else None,
                    "answers": sorted(one["responses"].items()),
                }


def pretty(example: object) -> str:
    """An example as JSON that a person can read and copy."""
    return orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()
