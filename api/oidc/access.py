"""An access token of a configured issuer: is it good, and who bears it (RFC 9068, RFC 8725).

In this order: the issuer it names → algorithm and type, as its description allows → the key it
names, of that issuer's and of the algorithm's type → the signature → audience and times → the
bearer. A person is (issuer, subject), and becomes one random reference; the subject stands in no
answer and no log line.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from api import unadmitted
from api.oidc.compact import Compact
from api.oidc.fetch import Fetch
from api.oidc.issuer import Issuer
from api.oidc.keys import IssuerKeys, KeysState, PublicKey
from api.security import Claims, Term
from ledger.errors import Words
from ledger.identity import Actor
from projections.rights import Reader

MAX_SUBJECT_CHARACTERS = 255
MAX_CACHED_TOKENS = 10_000
KNOWN_SECONDS = 300.0
"""How long a verified token is believed unseen: its bearer's reference may be erased meanwhile."""
OF_ID_TOKENS = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
"""Claims of ID and logout tokens, which say who logged in and open nothing."""
ALGORITHMS = JWSRegistry.algorithms

Person = Callable[[str, str], Awaitable[str]]
"""The one random reference of (issuer, subject)."""


class Access:
    """The configured issuers, in one process on one event loop."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        person: Person,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        fetch: Fetch,
    ) -> None:
        self._issuers = {one.issuer: one for one in issuers}
        self._keys = {
            one.issuer: IssuerKeys(
                one,
                fetch=fetch,
                monotonic=monotonic,
                forget=partial(self._drop, one.issuer),
            )
            for one in issuers
        }
        self._person = person
        self._clock = clock
        self._now = monotonic
        self._verified: OrderedDict[str, tuple[Claims, float]] = OrderedDict()
        # Who is erased is told by another thread.
        self._changing = threading.Lock()
        self._changes = 0

    @property
    def names(self) -> list[str]:
        """The issuers, as they are named in `iss`."""
        return list(self._issuers)

    def states(self) -> dict[str, KeysState]:
        """How it stands with the keys of each issuer."""
        return {name: keys.state() for name, keys in self._keys.items()}

    def known(self, token: str) -> Claims | None:
        """The claims of a token that was verified before and is still good; else None.

        Raises IssuerUnavailable.
        """
        found = self._verified.get(token)
        if found is None or self._now() >= found[1]:
            return None
        claims = found[0]
        self._keys[claims.issuer].check()
        return claims if claims.term.covers(self._clock().timestamp()) else None

    async def verify(self, token: str, parts: Compact) -> Claims:
        """The claims of a token of one of the issuers. Raises a refusal of status 401, 403, 503."""
        issuer = self._issuers[parts.claims["iss"]]
        algorithm = _algorithm(issuer, parts)
        kid = parts.header.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise unadmitted.TokenMalformed
        while True:
            changes = self._changes
            key = await self._keys[issuer.issuer].find(kid, algorithm)
            check_signature(parts, algorithm, key)
            claims = await self._claims(issuer, parts.claims)
            if self._remember(token, claims, changes):
                return claims

    def _remember(self, token: str, claims: Claims, changes: int) -> bool:
        """Believe a token from now on; not where its key or its bearer's reference may be gone
        since it was looked up."""
        with self._changing:
            if changes != self._changes:
                return False
            self._verified[token] = claims, self._now() + KNOWN_SECONDS
            if len(self._verified) > MAX_CACHED_TOKENS:
                self._verified.popitem(last=False)
            return True

    def forget(self) -> None:
        """Forget all bearers: a reference was erased. From any thread."""
        with self._changing:
            self._changes += 1
            self._verified = OrderedDict()

    def _drop(self, issuer: str) -> None:
        """Forget what an issuer's keys had signed."""
        with self._changing:
            self._changes += 1
            self._verified = OrderedDict(
                (token, known)
                for token, known in self._verified.items()
                if known[0].issuer != issuer
            )

    async def _claims(self, issuer: Issuer, given: dict[str, Any]) -> Claims:
        audience = given.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if issuer.audience not in audiences:
            raise unadmitted.TokenWrongAudience(audience=issuer.audience)
        subject = given.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARACTERS:
            raise unadmitted.TokenMalformed
        begun, until = _time(given, "iat"), _time(given, "exp")
        not_before = max(begun, _time(given, "nbf")) if "nbf" in given else begun
        if until - begun > issuer.longest_hours * 3600:
            raise unadmitted.TokenLivesTooLong(hours=issuer.longest_hours)
        term = Term(not_before, until, issuer.leeway_seconds)
        term.check(self._clock().timestamp())
        bearer = issuer.bearer(given)
        if isinstance(bearer, Words):
            raise unadmitted.BearerNotAdmitted(issuer=issuer.issuer, why=bearer)
        role, organisation = bearer
        token_id = given.get("jti")
        return Claims(
            issuer=issuer.issuer,
            actor=Actor(organisation, role, await self._person(issuer.issuer, subject)),
            reader=Reader(role, organisation),
            token_id=token_id if isinstance(token_id, str) else "",
            term=term,
            scopes=issuer.scopes(given),
        )


def _algorithm(issuer: Issuer, parts: Compact) -> str:
    """The algorithm of a token that may be one. Raises TokenAlgorithm or TokenWrongType."""
    algorithm = parts.header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise unadmitted.TokenAlgorithm(algorithm=", ".join(issuer.algorithms))
    kind = parts.header.get("typ", "JWT")
    kind = kind.lower().removeprefix("application/") if isinstance(kind, str) else ""
    if kind not in [one.lower() for one in issuer.types]:
        raise unadmitted.TokenWrongType(types=", ".join(issuer.types))
    claims = parts.claims
    # What is bound to a key of its bearer's is not to be taken from whoever bears it (RFC 9449).
    if "cnf" in claims:
        raise unadmitted.TokenWrongType(types=", ".join(issuer.types))
    # Keycloak tells its kinds of tokens apart by a claim of the same name.
    if kind == "jwt" and (OF_ID_TOKENS & claims.keys() or claims.get("typ", "Bearer") != "Bearer"):
        raise unadmitted.TokenWrongType(types=", ".join(issuer.types))
    return algorithm


def check_signature(parts: Compact, algorithm: str, key: PublicKey) -> None:
    """Raises TokenForged where the key did not make the signature."""
    # One algorithm under two names (RFC 9864).
    model = ALGORITHMS["Ed25519" if algorithm == "EdDSA" else algorithm]
    try:
        model.check_key(key)
        good = model.verify(parts.signed, parts.signature, key)
    except (JoseError, ValueError) as error:
        raise unadmitted.TokenForged from error
    if not good:
        raise unadmitted.TokenForged


def _time(claims: dict[str, Any], name: str) -> int:
    """A NumericDate in whole seconds. Raises TokenMalformed."""
    time = claims.get(name)
    if isinstance(time, int | Decimal) and not isinstance(time, bool) and 0 <= time < 2**40:
        return int(time)
    raise unadmitted.TokenMalformed
