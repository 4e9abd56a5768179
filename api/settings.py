"""Everything an operator may set, from the environment (`CHENGXIN_…`) or given by the command line.

Knows names, defaults and limits; reads no file and opens nothing. Every setting is described in
`docs/settings.md` (a test holds the two together).
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.budgets import budgets_of
from api.front import Front, literal, networks_of
from ledger.embedded import default_data_dir

PREFIX = "CHENGXIN_"


class Settings(BaseSettings):
    """The settings of one process. Raises pydantic.ValidationError for what makes no sense."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    database_url: SecretStr | None = Field(
        default=None,
        description="A PostgreSQL server to use, as a URL or libpq keywords; unset: the embedded"
        " server in `data_dir`.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Where the embedded server, and the keys unless `key_dir` is set, are kept.",
    )
    key_dir: Path | None = Field(
        default=None,
        description="The folder of the token key and the idempotency key, private to this user;"
        " unset: `keys` in `data_dir`, and with `database_url` none: tokens are then refused.",
    )
    keyring: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
        description="What keeps the vault's keys instead of the file in the key folder, as"
        " `package.module:factory`; the factory is given that folder.",
    )
    key_epoch_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        default=90,
        description="How many days a vault key wraps the keys of persons before the next one does.",
    )
    backup_days: Annotated[int, Field(ge=0, le=3650)] = Field(
        default=30,
        description="How many days backups of the database and of the keys are kept: so long a"
        " vault key that is no longer used is kept for them, and then destroyed.",
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The address to listen on. Other than loopback needs a `key_dir` on purpose.",
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=8000, description="The port to listen on; 0 takes a free one."
    )
    token_issuer: str = Field(
        default="chengxin",
        min_length=1,
        max_length=120,
        description="The `iss` of issued tokens, and the only one accepted.",
    )
    token_audience: str = Field(
        default="chengxin-ledger",
        min_length=1,
        max_length=120,
        description="The `aud` of issued tokens, and the only one accepted.",
    )
    token_hours: Annotated[int, Field(ge=1, le=24 * 31)] = Field(
        default=12, description="How long an issued token is good for, in hours."
    )
    token_leeway_seconds: Annotated[int, Field(ge=0, le=300)] = Field(
        default=30,
        description="How far the clocks of issuer and server may differ, in seconds.",
    )
    issuers: str | None = Field(
        default=None,
        description="The issuers of access tokens besides our own, as a JSON list or the path of a"
        " file that holds one (`docs/authentication.md`).",
    )
    api_key_days: Annotated[int, Field(ge=1, le=3660)] = Field(
        default=366, description="For how many days an API key may be made at most."
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[!-~]{1,200}$",
        description="The URL under which others reach this server, for the answers that name it;"
        " unset: the address on which it was asked.",
    )
    max_body_bytes: Annotated[int, Field(ge=128 * 1024, le=1024 * 1024)] = Field(
        default=256 * 1024, description="The largest body of a request, in bytes."
    )
    max_import_bytes: Annotated[int, Field(ge=1024 * 1024, le=64 * 1024**3)] = Field(
        default=256 * 1024 * 1024,
        description="The largest body of `POST /v1/imports`, in bytes; its answers may take as"
        " many.",
    )
    max_imports: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=4, description="How many `POST /v1/imports` may be under way at once."
    )
    max_streams: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=500, description="How many event streams and long polls may be open at once."
    )
    ready_lag_events: Annotated[int, Field(ge=0)] = Field(
        default=10_000,
        description="By how many events a projection may be behind before `/readyz` says so.",
    )
    metrics_from: str = Field(
        default="127.0.0.0/8, ::1/128",
        description="The networks whose machines may read `/metrics`, separated by commas; never"
        " through a proxy.",
    )
    hosts: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9.:,\[\]_ -]*$",
        description="The names, without port, under which the server is reached besides those of"
        " this machine and of `public_url`, separated by commas; a request for another `Host` is"
        " refused.",
    )
    trusted_proxies: str = Field(
        default="",
        description="The networks of the proxies whose word on the caller's address is taken,"
        " separated by commas.",
    )
    proxy_header: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for",
        description="The one header in which those proxies say it.",
    )
    budgets: str = Field(
        default="",
        description="How many requests one caller may make, as `NAME=REQUESTS/SECONDS, …`; what is"
        " not named stays.",
    )
    unlimited_from: str = Field(
        default="127.0.0.0/8, ::1/128",
        description="The networks whose machines are held to no budget and no number of"
        " connections, separated by commas; never through a proxy.",
    )
    max_connections: Annotated[int, Field(ge=10, le=100_000)] = Field(
        default=900, description="How many connections may be open at once."
    )
    max_connections_per_address: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=100, description="How many of them one address may hold."
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="The certificate chain (PEM) to serve TLS with; unset: plain HTTP.",
    )
    tls_key: Path | None = Field(default=None, description="The key (PEM) of that certificate.")
    hsts_seconds: Annotated[int, Field(ge=0, le=63_072_000)] = Field(
        default=0,
        description="For so long browsers come by TLS only (`Strict-Transport-Security`, sent where"
        " the request came by TLS); 0: not said.",
    )
    access_log: bool = Field(
        default=True, description="Whether each request is logged (never its token or body)."
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="Log lines for a person or for a machine, on stderr."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level that is logged."
    )

    @field_validator("metrics_from", "trusted_proxies", "unlimited_from")
    @classmethod
    def _networks(cls, given: str) -> str:
        networks_of(given)
        return given

    @field_validator("budgets")
    @classmethod
    def _budgets(cls, given: str) -> str:
        budgets_of(given)
        return given

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError(f"{PREFIX}TLS_CERTIFICATE and {PREFIX}TLS_KEY go together")
        return self

    @model_validator(mode="after")
    def _key_on_purpose(self) -> Self:
        if self.key_dir is None and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines; the built-in token key is"
                f" for this machine only: set {PREFIX}KEY_DIR to a folder with the key to use"
            )
        return self

    @model_validator(mode="after")
    def _issuers_need_keys(self) -> Self:
        if self.issuers is not None and self.keys() is None:
            raise ValueError(f"issuers need the keys of this server: set {PREFIX}KEY_DIR")
        return self

    def conninfo(self) -> str | None:
        """The connection string of the server to use; None for the embedded one."""
        return self.database_url.get_secret_value() if self.database_url else None

    def metrics_networks(self) -> list[IPv4Network | IPv6Network]:
        """The networks of `metrics_from`."""
        return networks_of(self.metrics_from)

    def front(self) -> Front:
        """What stands before the server."""
        return Front(
            hosts=[
                literal(self.host),
                *([urlsplit(self.public_url).hostname or ""] if self.public_url else []),
                *(one.strip() for one in self.hosts.split(",") if one.strip()),
            ],
            proxies=networks_of(self.trusted_proxies),
            proxy_header=self.proxy_header,
            unlimited=networks_of(self.unlimited_from),
        )

    def keys(self) -> Path | None:
        """The folder of the keys; None where tokens are off (another server, no key given)."""
        if self.key_dir is not None:
            return self.key_dir
        return None if self.database_url else self.data_dir / "keys"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; a name other than localhost is not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
