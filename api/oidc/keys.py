"""The public keys of one issuer: asked for when they are needed, and not more often.

Known keys are good for a while; then they are asked for anew beside the requests, none of which
waits. A token that names a key nobody knows yet has them asked for at once, and it alone waits. All
of that at most once in some seconds, so that nobody can make us hammer the issuer. While he is away
the keys last known stay good for a bounded time; after that nothing is known of his tokens, good or
bad, and that is said: 503, not 401. Keys that he no longer shows are forgotten, and with them what
they had signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from api.oidc.fetch import NO_OBJECT, Fetch, FetchFailed
from api.oidc.issuer import Issuer, check_address
from api.unadmitted import IssuerUnavailable, TokenKeyUnknown
from ledger.errors import Words

ASK_SECONDS = 5.0
"""How long after one request for keys the next may follow."""
MAX_KEYS = 100
RSA_CHARACTERS = range(342, 1367)
"""Of a modulus of 2,048 to 8,192 bits, in base64url."""
FAMILY = {
    "RS": ("RSA", None),
    "PS": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "Ed25519": ("OKP", "Ed25519"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Type and curve of the key of each algorithm; of RSA's by their first letters."""
NO_KEYS = Words("it shows no key that could be used", "没有可用的公钥")
OTHER_ISSUER = Words("its discovery document is another issuer's", "其发现文档属于另一签发方")
OTHER_HOST = Words(
    "its discovery document leads to another host; name the address in jwks",
    "其发现文档指向另一主机，请以 jwks 指明地址",
)

PublicKey = RSAKey | ECKey | OKPKey

log = structlog.get_logger("chengxin.oidc")


class KeysState(NamedTuple):
    """How long ago an issuer's keys were last fetched, and since when they cannot be; None: not.

    In whole seconds.
    """

    fetched_seconds_ago: int | None
    failing_for_seconds: int | None


class IssuerKeys:
    """The keys of one issuer, in one process on one event loop."""

    def __init__(
        self,
        issuer: Issuer,
        *,
        fetch: Fetch,
        monotonic: Callable[[], float],
        forget: Callable[[], None],
    ) -> None:
        """`forget` is called when a key is gone: what it had signed is no longer good."""
        self._issuer = issuer
        self._fetch = fetch
        self._now = monotonic
        self._forget = forget
        self._keys: dict[str, PublicKey] = {}
        self._fetched: float | None = None
        self._asked: float | None = None
        self._why: Words | None = None
        self._failing: float | None = None
        self._asking: asyncio.Task[None] | None = None

    def state(self) -> KeysState:
        """How it stands with them. Keys are asked for when a token comes: a long time ago alone is
        no fault."""
        now = self._now()
        fetched, failing = (
            None if since is None else int(now - since) for since in (self._fetched, self._failing)
        )
        return KeysState(fetched, failing)

    async def find(self, kid: str | None, algorithm: str) -> PublicKey:
        """The key that a token names. Raises IssuerUnavailable or TokenKeyUnknown."""
        if not self._usable():
            await self._ask()
        self.check()
        found = self._fitting(kid, algorithm)
        if found is None:
            await self._ask()
            found = self._fitting(kid, algorithm)
        if found is None:
            if self._why is not None:
                raise IssuerUnavailable(issuer=self._issuer.issuer, why=self._why)
            raise TokenKeyUnknown(issuer=self._issuer.issuer)
        return found

    def check(self) -> None:
        """Raises IssuerUnavailable where too little is known; has keys renewed where it is time.

        Takes no time: what a token costs that was verified before.
        """
        if self._fetched is None or (age := self._now() - self._fetched) >= (
            self._issuer.stale_seconds
        ):
            if self._may_ask():
                self._begin()
            raise IssuerUnavailable(issuer=self._issuer.issuer, why=self._why or NO_KEYS)
        if age >= self._issuer.refresh_seconds and self._may_ask():
            self._begin()

    def _usable(self) -> bool:
        return (
            self._fetched is not None and self._now() - self._fetched < self._issuer.stale_seconds
        )

    def _fitting(self, kid: str | None, algorithm: str) -> PublicKey | None:
        found = [
            key
            for key in self._keys.values()
            if key.kid == kid or kid is None
            if fits(key, algorithm)
        ]
        # Without a name, or with one that two bear, it would be a guess.
        return found[0] if len(found) == 1 else None

    def _may_ask(self) -> bool:
        return self._asking is None and (
            self._asked is None or self._now() - self._asked >= ASK_SECONDS
        )

    def _begin(self) -> asyncio.Task[None]:
        self._asked = self._now()
        self._asking = asyncio.get_running_loop().create_task(self._renew())
        return self._asking

    async def _ask(self) -> None:
        """Ask for the keys, or wait for whoever is asking; not at all where it is too early."""
        task = self._asking
        if task is None and self._may_ask():
            task = self._begin()
        if task is not None:
            # Whoever goes away must not take the answer from the others.
            await asyncio.shield(task)

    async def _renew(self) -> None:
        try:
            found = keys_in(await self._fetch(await self._address()))
        except FetchFailed as error:
            if self._why != error.reason:
                log.warning("issuer's keys", issuer=self._issuer.issuer, reason=error.reason.en)
            self._why = error.reason
            self._failing = self._now() if self._failing is None else self._failing
        else:
            if self._why is not None:
                log.info("issuer's keys are there again", issuer=self._issuer.issuer)
            self._why = self._failing = None
            gone = self._keys.keys() - found.keys()
            self._keys, self._fetched = found, self._now()
            if gone:
                self._forget()
        finally:
            self._asking = None

    async def _address(self) -> str:
        """Where the keys are. Raises FetchFailed."""
        if self._issuer.jwks is not None:
            return self._issuer.jwks
        known = await self._fetch(self._issuer.discovery())
        if known.get("issuer") != self._issuer.issuer:
            raise FetchFailed(OTHER_ISSUER)
        address = known.get("jwks_uri")
        if not isinstance(address, str):
            raise FetchFailed(NO_OBJECT)
        try:
            parts, own = check_address(address), urlsplit(self._issuer.issuer)
        except ValueError as error:
            raise FetchFailed(OTHER_HOST) from error
        if (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
            raise FetchFailed(OTHER_HOST)
        return address


def fits(key: PublicKey, algorithm: str) -> bool:
    """Whether a key is of the type and curve of an algorithm, and meant for no other one."""
    kind, curve = FAMILY[algorithm] if algorithm in FAMILY else FAMILY[algorithm[:2]]
    if key.key_type != kind or (curve is not None and key.curve_name != curve):  # type: ignore[union-attr]
        return False
    names = {algorithm, "Ed25519", "EdDSA"} if kind == "OKP" else {algorithm}
    return key.alg is None or key.alg in names


def keys_in(document: dict[str, Any]) -> dict[str, PublicKey]:
    """The keys of a JWK set that can verify tokens, by thumbprint and name.

    Raises FetchFailed where there is none. What we do not know is passed over (RFC 7517 §5); a
    private key shown to the world is no key, and a secret one never is.
    """
    given = document.get("keys")
    if not isinstance(given, list) or len(given) > MAX_KEYS:
        raise FetchFailed(NO_KEYS)
    found = {}
    for one in given:
        key = _key_of(one)
        if key is not None:
            found[f"{key.thumbprint()} {key.kid}"] = key
    if not found:
        raise FetchFailed(NO_KEYS)
    return found


def _key_of(given: Any) -> PublicKey | None:
    if not isinstance(given, dict) or given.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    if given.get("use", "sig") != "sig" or "d" in given:
        return None
    if given["kty"] == "RSA" and not (
        isinstance(given.get("n"), str) and len(given["n"]) in RSA_CHARACTERS
    ):
        return None
    operations = given.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = import_key(given)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if not isinstance(key, RSAKey | ECKey | OKPKey):
        return None
    return key
