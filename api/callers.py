"""Who sends a request: one door for every way in which somebody can show who he is.

Our own tokens, access tokens of configured issuers, API keys. Each door of the interface names the
scope it belongs to: who is held to certain scopes gets in only where his own stands, and a door
that named none could be opened by nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

from fastapi import Request
from structlog.contextvars import bind_contextvars

from api import refusals, unadmitted
from api.apikeys.secret import PREFIX
from api.apikeys.store import ApiKeys
from api.budgets import SPEND
from api.oidc.access import Access
from api.oidc.compact import take_apart
from api.oidc.fetch import fetch_json
from api.oidc.issuer import Issuer
from api.oidc.keys import KeysState
from api.security import Claims, Tokens, header_values, not_allowed
from ledger.database import reading
from ledger.dossier import ACTOR
from ledger.errors import Words
from ledger.identity import parse_identifier
from ledger.store import Ledger
from projections.rights import PUBLIC, File, Reader

Scope = Literal["feed", "read", "write"]
SCOPES: dict[Scope, Words] = {
    "feed": Words("follow the feed", "订阅事件流"),
    "read": Words("read anything but the feed", "查阅事件流以外的内容"),
    "write": Words("record and decide", "记录与办理"),
}
"""What a bearer may be held to, whatever his role."""


class Callers:
    """Knows a bearer by what he shows."""

    def __init__(
        self, tokens: Tokens, access: Access | None = None, keys: ApiKeys | None = None
    ) -> None:
        self.tokens = tokens
        self._access = access
        self._keys = keys

    @property
    def issuers(self) -> list[str]:
        """The issuers of others whose tokens are taken."""
        return self._access.names if self._access is not None else []

    def issuer_states(self) -> dict[str, KeysState]:
        """How it stands with the keys of each of them."""
        return self._access.states() if self._access is not None else {}

    def known(self, token: str) -> Claims | None:
        """The claims of a token that was verified before and is still good; else None.

        What most requests need, and all that they cost. Raises IssuerUnavailable.
        """
        claims = self.tokens.known(token)
        if claims is None and self._access is not None:
            claims = self._access.known(token)
        return claims

    async def verify(self, token: str) -> Claims:
        """The claims of whatever was shown. Raises a refusal of status 401, 403 or 503."""
        if token.startswith(PREFIX) and self._keys is not None:
            return await self._keys.verify(token)
        access = self._access
        if access is None:
            return self.tokens.verify(token)
        parts = take_apart(token)
        issuer = parts.claims.get("iss")
        if issuer == self.tokens.issuer:
            return self.tokens.verify(token)
        if issuer not in access.names:
            names = ", ".join([self.tokens.issuer, *access.names])
            raise unadmitted.TokenWrongIssuer(issuer=names)
        return await access.verify(token, parts)

    def forget(self) -> None:
        """Forget whom references stand for: one of them was erased."""
        if self._access is not None:
            self._access.forget()


def callers_of(
    issuers: Sequence[Issuer],
    tokens: Tokens,
    ledger: Ledger,
    *,
    clock: Callable[[], datetime],
    monotonic: Callable[[], float] = time.monotonic,
) -> Callers:
    """The callers of one process: people get their references from the ledger's vault."""

    async def person(issuer: str, subject: str) -> str:
        return await reading(ledger.vault.reference, ACTOR, issuer, subject)

    keys = ApiKeys(ledger, clock=clock, monotonic=monotonic)
    if not issuers:
        return Callers(tokens, keys=keys)
    access = Access(issuers, person=person, clock=clock, monotonic=monotonic, fetch=fetch_json)
    return Callers(tokens, access, keys)


async def claims_of(request: Request, callers: Callers | None, scope: Scope) -> Claims | None:
    """Who sent a request; None for somebody without a token. The log is told for whom he acts.

    Raises a refusal of status 401 (a token that is not good is never taken for none), 403 where he
    is not admitted or lacks the scope, and 503 where that cannot be known now;
    TooManyRequests where he asks too often.
    """
    given = header_values(request, b"authorization")
    if not given:
        return None
    if callers is None:
        raise refusals.TokensOff
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer":
        raise unadmitted.TokenMalformed
    token = token.strip()
    claims = callers.known(token) or await callers.verify(token)
    actor = claims.actor
    bind_contextvars(organisation=actor.organisation, role=actor.role)
    if (spend := request.scope.get(SPEND)) is not None:
        spend(actor.ref)
    if claims.scopes is not None and scope not in claims.scopes:
        raise unadmitted.ScopeMissing(scope=scope, does=SCOPES[scope])
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
