"""Who is asking: signed tokens, their roles, and the keys of one process.

A token is a JWT signed with Ed25519 (RFC 9864; the deprecated name EdDSA is not accepted) that says
in which role, for which organisation, and under which random reference its bearer acts. It names
no person. Keys are files that only this user may read; two processes on one folder share them.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from fastapi import Request
from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey

from api import unadmitted
from api.bearer import flaw_of
from api.roles import ROLES
from ledger.errors import NotAllowed, Words
from ledger.identity import Actor, nobody
from ledger.keyfile import KeyFileError, key_file, private_folder
from projections.rights import Reader

ALGORITHM = "Ed25519"
SIGNING_KEY = "token-signing-key.pem"
IDEMPOTENCY_KEY = "idempotency.key"
IDEMPOTENCY_KEY_BYTES = 32
MAX_TOKEN_CHARACTERS = 4096
MAX_CACHED_TOKENS = 10_000


class NoToken(ValueError):
    """No token may carry this role, organisation or reference, for this reason."""

    def __init__(self, reason: Words) -> None:
        super().__init__(reason.en)
        self.reason = reason


class Term(NamedTuple):
    """From when until when somebody is who he is; seconds since 1970.

    `leeway_seconds`: by how much the clocks of those who say so may differ from ours.
    """

    not_before: int
    expires: int
    leeway_seconds: int = 0

    def covers(self, now: float) -> bool:
        """Whether a moment is within, by our own clock."""
        return self.not_before <= now < self.expires

    def check(self, now: float) -> None:
        """Raises TokenExpired or TokenNotYetValid."""
        if now >= self.expires + self.leeway_seconds:
            raise unadmitted.TokenExpired
        if now < self.not_before - self.leeway_seconds:
            raise unadmitted.TokenNotYetValid


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says of its bearer, as one who records and as one who reads.

    `scopes`: what the bearer is held to whatever his role; None: to nothing.
    """

    issuer: str
    actor: Actor
    reader: Reader
    token_id: str
    term: Term
    scopes: frozenset[str] | None = None

    @property
    def organisation(self) -> str:
        """The organisation for which the bearer acts."""
        return self.actor.organisation

    @property
    def role(self) -> str:
        """The role in which the bearer acts."""
        return self.actor.role

    @property
    def ref(self) -> str:
        """The random reference that stands for the bearer."""
        return self.actor.ref

    @property
    def expires(self) -> int:
        """When the bearer's time is over."""
        return self.term.expires


class Tokens:
    """Issues and verifies tokens with the key of one folder, which is made on first use.

    Raises KeyFileError where the folder or a key in it may be read or changed by others.
    """

    def __init__(
        self,
        folder: Path,
        *,
        issuer: str,
        audience: str,
        clock: Callable[[], datetime],
        leeway_seconds: int = 0,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        private_folder(folder)
        pem = key_file(folder / SIGNING_KEY, _new_signing_key)
        try:
            self._key = OKPKey.import_key(pem)
        except (JoseError, ValueError) as error:
            raise KeyFileError(f"{folder / SIGNING_KEY} holds no Ed25519 key in PEM") from error
        if not self._key.is_private or self._key.curve_name != ALGORITHM:
            raise KeyFileError(f"{folder / SIGNING_KEY} holds no private Ed25519 key")
        path = folder / IDEMPOTENCY_KEY
        secret = key_file(path, lambda: random(IDEMPOTENCY_KEY_BYTES))
        if len(secret) != IDEMPOTENCY_KEY_BYTES:
            raise KeyFileError(f"{path} does not hold {IDEMPOTENCY_KEY_BYTES} bytes")
        # Copied for each request: unlike hmac.digest, an update of so few bytes keeps the GIL.
        self._mac = hmac.new(secret, digestmod="sha256")
        self.issuer, self._audience = issuer, audience
        self._clock, self._random, self._leeway = clock, random, leeway_seconds
        self._verified: OrderedDict[str, Claims] = OrderedDict()

    def issue(
        self, *, role: str, organisation: str, ref: str | None = None, hours: int = 12
    ) -> str:
        """A token good from now on for `hours`; without `ref` it names nobody (`nobody`).

        Raises NoToken for a role, organisation or reference that no token may carry.
        """
        now = self._clock().replace(microsecond=0)
        claims = {
            "iss": self.issuer,
            "aud": self._audience,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int((now + timedelta(hours=hours)).timestamp()),
            "jti": str(_uuid(self._random)),
            "role": role,
            "org": organisation,
            "ref": ref or nobody(self._random(16)),
        }
        why = _flaw(claims)
        if why is not None:
            en = f"no token for {role!r} of {organisation!r}: {why.en}"
            zh = f"无法为角色 {role!r}、机构 {organisation!r} 签发令牌：{why.zh}"
            raise NoToken(Words(en, zh))
        header = {"alg": ALGORITHM, "kid": self._key.thumbprint()}
        return jwt.encode(header, claims, self._key, algorithms=[ALGORITHM])

    def verify(self, token: str) -> Claims:
        """The claims of a token. Raises a refusal of status 401 that says what is wrong with it.

        A token already verified is only checked against the clock again.
        """
        claims = self.known(token)
        if claims is not None:
            return claims
        claims = self._verified.get(token) or self._verify_anew(token)
        try:
            self.check_time(claims)
        except unadmitted.TokenExpired:
            self._verified.pop(token, None)
            raise
        self._verified[token] = claims
        if len(self._verified) > MAX_CACHED_TOKENS:
            self._verified.popitem(last=False)
        return claims

    def known(self, token: str) -> Claims | None:
        """The claims of a token that was verified before and is still good; else None."""
        claims = self._verified.get(token)
        if claims is None:
            return None
        begun, expires, _ = claims.term
        return claims if begun <= self._clock().timestamp() < expires else None

    def check_time(self, claims: Claims) -> None:
        """Raises TokenExpired for a bearer whose time has passed since he came."""
        claims.term.check(int(self._clock().timestamp()))

    def digest(self, *parts: bytes) -> bytes:
        """The keyed digest (HMAC-SHA-256) of a request, kept with its Idempotency-Key."""
        mac = self._mac.copy()
        for part in parts:
            mac.update(b"%d:" % len(part))
            mac.update(part)
        return mac.digest()

    def _verify_anew(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_CHARACTERS or token.count(".") != 2 or not token.isascii():
            raise unadmitted.TokenMalformed
        try:
            content = jwt.decode(token, self._key, algorithms=[ALGORITHM])
        except UnsupportedAlgorithmError as error:
            raise unadmitted.TokenAlgorithm(algorithm=ALGORITHM) from error
        except BadSignatureError as error:
            raise unadmitted.TokenForged from error
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise unadmitted.TokenMalformed from error
        given = content.claims
        # In this order: what another issuer or audience says in its claims is not ours to judge.
        if given.get("iss") != self.issuer:
            raise unadmitted.TokenWrongIssuer(issuer=self.issuer)
        if given.get("aud") not in (self._audience, [self._audience]):
            raise unadmitted.TokenWrongAudience(audience=self._audience)
        if _flaw(given) is not None:
            raise unadmitted.TokenMalformed
        return Claims(
            issuer=given["iss"],
            actor=Actor(given["org"], given["role"], given["ref"]),
            reader=Reader(given["role"], given["org"]),
            token_id=given["jti"],
            term=Term(max(given["nbf"], given["iat"]), given["exp"], self._leeway),
        )


def not_allowed(claims: Claims, what: Words) -> NotAllowed:
    """The refusal of what a role may not do."""
    role = Words(claims.role, ROLES[claims.role])
    return NotAllowed(role=role, organisation=claims.organisation, what=what)


def header_values(request: Request, name: bytes) -> list[str]:
    """The values of every header of a name, which is given in lower case.

    As `request.headers.getlist`, in a tenth of its time.
    """
    return [value.decode("latin-1") for key, value in request.scope["headers"] if key == name]


def _flaw(claims: dict[str, Any]) -> Words | None:
    """What is wrong with the claims of a token whatever the time; None where nothing is."""
    times = [claims.get(name) for name in ("iat", "nbf", "exp")]
    if not all(type(time) is int and 0 <= time < 2**40 for time in times):
        return Words("iat, nbf and exp are whole seconds", "iat、nbf、exp 须为整数秒")
    role, organisation, ref, token_id = (claims.get(name) for name in ("role", "org", "ref", "jti"))
    if not (
        isinstance(role, str)
        and isinstance(organisation, str)
        and isinstance(ref, str)
        and isinstance(token_id, str)
    ):
        return Words("role, org, ref and jti are texts", "role、org、ref、jti 须为文本")
    if not (_is_uuid(ref) and _is_uuid(token_id)):
        return Words("a reference is a UUID in lower case", "人员编号须为小写的 UUID")
    return flaw_of(role, organisation)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _uuid(random: Callable[[int], bytes]) -> UUID:
    return UUID(bytes=random(16), version=4)


def _new_signing_key() -> bytes:
    return OKPKey.generate_key("Ed25519", private=True).as_pem(private=True)
