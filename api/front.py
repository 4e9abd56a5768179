"""What stands between the server and its callers: names it answers for, proxies, addresses.

A request is answered where its `Host` is a name that the operator gave or that only this machine
has: a page of another site that let its own name lead here (DNS rebinding) is refused. Who calls
is the peer of the connection; what a header says of it is believed of a named proxy only, and only
in the one header that this proxy writes: any other may come from the caller himself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple

from starlette.types import Scope

from api.doorrefusals import HostMissing, Misdirected
from ledger.errors import LedgerError

Networks = Sequence[IPv4Network | IPv6Network]

HOST = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
THIS_MACHINE = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
PASSED_ON = frozenset({b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"})
"""Headers of a request that a proxy passed on."""
MAX_HOPS = 20
MAX_KNOWN_PEERS = 10_000
NOBODY = "unknown"


class Caller(NamedTuple):
    """Who calls: the address that is counted (IPv6 by its /64), and whether it came by TLS.

    `free`: a machine whose requests are not counted.
    """

    address: str
    secure: bool
    free: bool


class Front:
    """The names and networks that the settings tell."""

    def __init__(
        self,
        *,
        hosts: Sequence[str] = (),
        proxies: Networks = (),
        proxy_header: str = "x-forwarded-for",
        unlimited: Networks = (),
    ) -> None:
        self._names = THIS_MACHINE | {name.lower().encode() for name in hosts}
        self._proxies = proxies
        self._header = proxy_header.lower().encode()
        self._unlimited = unlimited
        self._peer = lru_cache(MAX_KNOWN_PEERS)(self._of_peer)

    def only_here(self) -> None:
        """From now on answer for the names of this machine alone, whatever the settings say."""
        self._names = THIS_MACHINE

    def refused(self, hosts: Sequence[bytes], scope: Scope) -> LedgerError | None:
        """Why a request with these values of `Host` is not answered; None where it is."""
        if len(hosts) != 1 or (found := HOST.fullmatch(hosts[0])) is None:
            return HostMissing()
        name = found[1].lower()
        if name in self._names or name == self._local(scope):
            return None
        return Misdirected(host=name.decode())

    def _local(self, scope: Scope) -> bytes | None:
        """The address by which the connection came; no name leads here by it."""
        if self._names is THIS_MACHINE or not scope.get("server"):
            return None
        return literal(scope["server"][0]).encode()

    def caller(self, scope: Scope, *, passed_on: bool) -> Caller:
        """Who sent a request; `passed_on`: it has one of the headers of a proxy."""
        client = scope.get("client")
        address, trusted, free = self._peer(client[0] if client else NOBODY)
        secure = scope.get("scheme") == "https"
        if trusted:
            secure = secure or self._came_by_tls(scope)
            said = [v.decode("latin-1") for name, v in scope["headers"] if name == self._header]
            address = self._said(said) or address
        # What another machine sends through a proxy on this one is not this machine's own.
        return Caller(address, secure, free and not passed_on)

    def address(self, peer: str) -> str:
        """What is counted of a peer, whatever it passes on."""
        return self._peer(peer)[0]

    def is_proxy(self, peer: str) -> bool:
        """Whether a peer is a named proxy, or a machine whose requests are not counted."""
        _, trusted, free = self._peer(peer)
        return trusted or free

    def _of_peer(self, peer: str) -> tuple[str, bool, bool]:
        found = address_of(peer)
        if found is None:
            return NOBODY, False, False
        trusted = any(found in network for network in self._proxies)
        return counted(found), trusted, any(found in network for network in self._unlimited)

    def _said(self, values: Sequence[str]) -> str | None:
        """The last address of a chain of proxies that is no named proxy itself."""
        parts = [part for value in values for part in value.split(",")][-MAX_HOPS:]
        known = None
        for part in reversed(parts):
            text = part.strip() if self._header == b"x-forwarded-for" else node_of(part)
            found = address_of(text)
            if found is None:
                break
            known = counted(found)
            if not any(found in network for network in self._proxies):
                break
        return known

    def _came_by_tls(self, scope: Scope) -> bool:
        """What the nearest proxy says of the connection to it."""
        for name, value in reversed(scope["headers"]):
            if name == b"x-forwarded-proto" and self._header == b"x-forwarded-for":
                return bool(value.rpartition(b",")[2].strip().lower() == b"https")
            if name == b"forwarded" and self._header == b"forwarded":
                return "proto=https" in value.rpartition(b",")[2].decode("latin-1").lower()
        return False


def node_of(element: str) -> str:
    """The `for` of one element of `Forwarded` (RFC 7239), without quotes."""
    for pair in element.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.lower() == "for":
            return value.strip().strip('"')
    return ""


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """An address with or without a port; IPv4 in the coat of IPv6 is IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def counted(address: IPv4Address | IPv6Address) -> str:
    """What is counted as one caller: whoever has one address of IPv6 has its /64."""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))


def literal(address: str) -> str:
    """An address as it stands in `Host`."""
    return f"[{address}]" if ":" in address else address


def networks_of(text: str) -> list[IPv4Network | IPv6Network]:
    """Networks separated by commas; none of an empty text. Raises ValueError."""
    return [ip_network(one.strip()) for one in text.split(",")] if text.strip() else []
