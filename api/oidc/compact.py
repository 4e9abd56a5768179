"""A signed token taken apart: three parts of base64url, two of them JSON, and nothing clever.

Stricter than the standards where they let two readers see two things: a name twice in one object,
another spelling of the same bytes, numbers that are none, a header that brings its own key or asks
for what we do not do (RFC 8725 §3). Nothing here is believed yet: no signature was looked at.
"""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn

from api.unadmitted import TokenMalformed

MAX_TOKEN_CHARACTERS = 8192
MAX_NUMBER_CHARACTERS = 40
PART = re.compile(r"[A-Za-z0-9_-]+")
FORBIDDEN = frozenset(
    {"jwk", "jku", "x5u", "x5c", "crit", "b64", "cty", "enc", "zip", "epk", "p2c"}
)
"""Header parameters that bring a key, name where one is, or change what the token is."""


class Compact(NamedTuple):
    """A token taken apart. `signed`: the bytes under the signature."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


def take_apart(token: str) -> Compact:
    """The parts of a token. Raises TokenMalformed."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise TokenMalformed
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenMalformed
    header, claims, signature = (_bytes_of(part) for part in parts)
    found = Compact(
        _object_of(header),
        _object_of(claims),
        token.rpartition(".")[0].encode("ascii"),
        signature,
    )
    if FORBIDDEN & found.header.keys():
        raise TokenMalformed
    return found


def _bytes_of(part: str) -> bytes:
    if PART.fullmatch(part) is None or len(part) % 4 == 1:
        raise TokenMalformed
    found = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(found).rstrip(b"=") != part.encode("ascii"):
        raise TokenMalformed
    return found


def _object_of(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_number,
            parse_float=_exact,
            parse_int=_whole,
        )
    except (ValueError, RecursionError) as error:
        raise TokenMalformed from error
    if not isinstance(found, dict):
        raise TokenMalformed
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _exact(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise ValueError("a number is too long")
    return Decimal(text)


def _whole(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise ValueError("a number is too long")
    return int(text)
