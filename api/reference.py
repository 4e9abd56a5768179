"""The page /docs: every operation of the published schema, for a person.

Rendered here from the same document that /openapi.json gives; it loads nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from api.pages import Pages
from ledger.database import reading


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
