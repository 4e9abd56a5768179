"""Who sends a request: one door for every way in which somebody can show who he is.

Each door of the interface names the scope it belongs to. Who is held to certain scopes gets in
only where his own stands; a door that named none could be opened by nobody.
"""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from structlog.contextvars import bind_contextvars

from api import refusals
from api.security import Claims, Tokens, header_values, not_allowed
from ledger.errors import Words
from ledger.identity import parse_identifier
from projections.rights import PUBLIC, File, Reader

Scope = Literal["feed", "read", "write"]
SCOPES: dict[Scope, Words] = {
    "feed": Words("follow the feed", "订阅事件流"),
    "read": Words("read everything but the feed", "查阅事件流以外的内容"),
    "write": Words("record and decide", "记录与办理"),
}
"""What a bearer may be held to, whatever his role."""


class Callers:
    """Knows a bearer by what he shows."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    async def verify(self, token: str) -> Claims:
        """The claims of whatever was shown. Raises a refusal of status 401."""
        return self.tokens.verify(token)


async def claims_of(request: Request, callers: Callers | None, scope: Scope) -> Claims | None:
    """Who sent a request; None for somebody without a token. The log is told for whom he acts.

    Raises a refusal of status 401 (a token that is not good is never taken for none), and
    ScopeMissing.
    """
    given = header_values(request, b"authorization")
    if not given:
        return None
    if callers is None:
        raise refusals.TokensOff
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer":
        raise refusals.TokenMalformed
    claims = await callers.verify(token.strip())
    bind_contextvars(organisation=claims.organisation, role=claims.role)
    if claims.scopes is not None and scope not in claims.scopes:
        raise refusals.ScopeMissing(scope=scope, does=SCOPES[scope])
    return claims


def reader_of(claims: Claims | None) -> Reader:
    """Who reads: the bearer of a token, or the public."""
    return PUBLIC if claims is None else claims.reader


async def file_of(
    request: Request, callers: Callers | None, identifier: str, what: Words
) -> tuple[Claims, File]:
    """Who asks to read all of a provider's file. Raises TokenMissing or NotAllowed."""
    claims = await claims_of(request, callers, "read")
    if claims is None:
        raise refusals.TokenMissing
    file = claims.reader.file(parse_identifier(identifier))
    if file is None:
        raise not_allowed(claims, what)
    return claims, file
