"""This server as a protected resource (RFC 9728): who vouches for its bearers, and for what.

A client that is refused finds the address of this document in `WWW-Authenticate` and learns from
it where to get a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response
from starlette.types import Scope

from api import openapi
from api.callers import SCOPES
from api.query import Operation
from api.replies import public

PATH = "/.well-known/oauth-protected-resource"


def address_of(scope: Scope) -> str:
    """The address of this server: as the operator says, else the socket's own.

    Never what the client calls us: whoever could choose that could name his own server.
    """
    app = scope.get("app")
    given = getattr(app.state, "public_url", None) if app is not None else None
    if given is not None:
        return str(given).rstrip("/")
    host, port = scope.get("server") or ("127.0.0.1", None)
    host = f"[{host}]" if ":" in host else host
    return f"{scope['scheme']}://{host}" + (f":{port}" if port else "")


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

    return Operation(PATH, answer, methods=["GET"], **openapi.of_read(PATH))
