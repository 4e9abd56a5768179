"""An issuer of access tokens, as the operator describes it, and whom it may speak for.

A description is JSON (`docs/authentication.md`). It names what its tokens must be, where its keys
are, in which claims role and organisation stand, and the roles and organisations it may give:
nothing it says beyond that is believed. Knows no network, no token and no HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from api.bearer import flaw_of
from api.roles import ROLES
from api.settings import is_loopback
from ledger.errors import Words

MAX_ISSUERS = 32
MAX_FILE_BYTES = 256 * 1024
ANY = "*"
DISCOVERY = "/.well-known/openid-configuration"
PRINTABLE_ASCII = re.compile(r"[!-~]{1,500}")

Algorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class IssuersError(ValueError):
    """The description of the issuers makes no sense: what and where are in the message."""


class Strict(BaseModel):
    """A part of a description: nothing unknown, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Strict):
    """Where a role or an organisation comes from: fixed, or a claim, with its values translated."""

    fixed: Text | None = None
    claim: Text | list[Text] | None = None
    """The claim's name; several are the way into nested objects."""
    values: dict[Text, Text] | None = None
    """What each value of the claim means here; without it a value means itself."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.fixed is None) == (self.claim is None):
            raise ValueError("give either fixed or claim")
        if self.values is not None and self.claim is None:
            raise ValueError("values translate a claim")
        return self

    def meanings(self, claims: Mapping[str, Any]) -> set[str]:
        """What the claims say, in our words: nothing, one thing, or several."""
        if self.fixed is not None:
            return {self.fixed}
        found: Any = claims
        for name in [self.claim] if isinstance(self.claim, str) else self.claim or ():
            found = found.get(name) if isinstance(found, dict) else None
        given = found if isinstance(found, list) else [found]
        texts = [one for one in given if isinstance(one, str)]
        if self.values is None:
            return set(texts)
        return {self.values[one] for one in texts if one in self.values}

    def named(self) -> Sequence[str]:
        """What it can give, as far as the description tells."""
        return [self.fixed] if self.fixed is not None else list((self.values or {}).values())


class Issuer(Strict):
    """One issuer of access tokens (OAuth 2.0, RFC 9068)."""

    issuer: Text
    """Exactly what stands in `iss`; an https URL, or http on loopback."""
    audience: Text
    """What must stand in `aud`, alone or among others."""
    jwks: Text | None = None
    """Where its keys are; without it, what its discovery document says, on the same host."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256"]
    types: Annotated[list[Literal["at+jwt", "JWT"]], Field(min_length=1)] = ["at+jwt"]
    """Which `typ` a token may have; `JWT` also admits one without."""
    role: Source
    organisation: Source
    roles: Annotated[list[Text], Field(min_length=1)]
    """The roles this issuer may give."""
    organisations: Annotated[list[Text], Field(min_length=1)]
    """The organisations it may speak for; `*` is any."""
    scoped: bool = False
    """Whether a token is held to our scopes among those of its claim `scope`."""
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 30
    longest_hours: Annotated[int, Field(ge=1, le=24 * 31)] = 24
    """Tokens that live longer are refused: nobody can take them back."""
    refresh_seconds: Annotated[int, Field(ge=5, le=86_400)] = 300
    """How often its keys are asked for while tokens come."""
    stale_seconds: Annotated[int, Field(ge=60, le=7 * 86_400)] = 3600
    """How long known keys are good for while the issuer cannot be reached."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        for url in (self.issuer, self.jwks):
            if url is not None:
                check_address(url)
        if self.jwks is None and urlsplit(self.issuer).query:
            raise ValueError("an issuer with a query has no discovery document: give jwks")
        if self.stale_seconds < self.refresh_seconds:
            raise ValueError("stale_seconds must not be less than refresh_seconds")
        unknown = [role for role in (*self.roles, *self.role.named()) if role not in ROLES]
        if unknown:
            raise ValueError(f"no role of this system: {', '.join(unknown)}")
        beyond = [role for role in self.role.named() if role not in self.roles]
        if beyond:
            raise ValueError(f"role gives what roles does not allow: {', '.join(beyond)}")
        for organisation in (*self.organisations, *self.organisation.named()):
            flaws = [flaw_of(role, organisation) for role in self.roles]
            if organisation != ANY and all(flaws):
                raise ValueError(f"no organisation: {organisation}")
        return self

    def discovery(self) -> str:
        """The address of its discovery document (OpenID Connect Discovery 1.0, §4.1)."""
        return self.issuer.rstrip("/") + DISCOVERY

    def bearer(self, claims: Mapping[str, Any]) -> tuple[str, str] | Words:
        """Role and organisation of a token's bearer, or why it admits nobody here."""
        roles = {role for role in self.role.meanings(claims) if role in ROLES}
        if not roles:
            return NO_ROLE
        if len(roles) > 1:
            return MANY_ROLES
        organisations = self.organisation.meanings(claims)
        if len(organisations) != 1:
            return MANY_ORGANISATIONS if organisations else NO_ORGANISATION
        (role,), (organisation,) = roles, organisations
        if role not in self.roles:
            return Words(
                f"the role {role} is not this issuer's to give",
                f"该签发方无权授予角色「{ROLES[role]}」",
            )
        if ANY not in self.organisations and organisation not in self.organisations:
            return Words(
                "the organisation is not one this issuer may speak for",
                "该签发方无权代表所称机构",
            )
        return flaw_of(role, organisation) or (role, organisation)

    def scopes(self, claims: Mapping[str, Any]) -> frozenset[str] | None:
        """What the bearer is held to; None: to nothing."""
        if not self.scoped:
            return None
        given = claims.get("scope")
        return frozenset(given.split(" ")) if isinstance(given, str) else frozenset()


NO_ROLE = Words("it gives no role of this system", "其中没有本系统的角色")
MANY_ROLES = Words(
    "it gives several roles; one token is one role", "其中有多个角色，而一个令牌只对应一个角色"
)
NO_ORGANISATION = Words("it names no organisation", "其中没有机构")
MANY_ORGANISATIONS = Words("it names several organisations", "其中有多个机构")
ISSUERS: TypeAdapter[list[Issuer]] = TypeAdapter(
    Annotated[list[Issuer], Field(max_length=MAX_ISSUERS)]
)


def check_address(url: str) -> SplitResult:
    """The parts of an address that may be asked. Raises ValueError."""
    if PRINTABLE_ASCII.fullmatch(url) is None:
        raise ValueError("an address is written in visible ASCII characters")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError(f"no https address: {url}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address holds no user and no password")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"http is for this machine only, use https: {url}")
    parts.port  # noqa: B018 raises ValueError for no port
    return parts


def issuers_of(given: str | None, *, embedded: str) -> list[Issuer]:
    """The issuers of a setting, which is a JSON list or the path of a file that holds one.

    `embedded` is the issuer of our own tokens, whom nobody may bear the name of. Raises
    IssuersError.
    """
    if given is None:
        return []
    text = given.strip()
    try:
        if not text.startswith("["):
            with Path(text).open(encoding="utf-8") as file:
                text = file.read(MAX_FILE_BYTES)
        found = ISSUERS.validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise IssuersError(f"{given}: {error}") from error
    except ValidationError as error:
        reasons = [
            ": ".join([".".join(map(str, one["loc"])) or "issuers", one["msg"]])
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise IssuersError("; ".join(reasons)) from error
    names = [one.issuer for one in found] + [embedded]
    if len(set(names)) < len(names):
        raise IssuersError("two issuers have the same name")
    return found
