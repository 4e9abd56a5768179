"""This server as a protected resource (RFC 9728): who vouches for its bearers, and for what.

A client that is refused finds the address of this document in `WWW-Authenticate` and learns from
it where to get a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response

from api import openapi
from api.callers import SCOPES
from api.problems import RESOURCE, address_of
from api.query import Operation
from api.replies import public


def route(issuers: Sequence[str]) -> Operation:
    """The route of the document."""

    async def answer(request: Request) -> Response:
        """Where a token for this server comes from."""
        address = address_of(request.scope)
        content: dict[str, Any] = {
            "resource": address,
            "authorization_servers": list(issuers),
            "scopes_supported": list(SCOPES),
            "bearer_methods_supported": ["header"],
            "resource_documentation": f"{address}/docs",
        }
        return public(request, content)

    return Operation(RESOURCE, answer, methods=["GET"], **openapi.of_read(RESOURCE))
