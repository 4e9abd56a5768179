"""Other origins: a page of any host may read what is the same for every reader.

The Fetch standard's CORS protocol in constant headers. Never with credentials, hence `*` and no
`Authorization`: what a token opens, and every write, stays closed to the pages of others.

Starlette's middleware is not used: it refuses a preflight with plain text where every refusal of
ours is a problem document, knows one set of addresses only (all), and leaves the headers out for a
reader without `Origin`, whose copy a shared cache would then give to everybody.
"""

from __future__ import annotations

import re

from api.openapi import READS

Headers = list[tuple[bytes, bytes]]

DOCUMENT = "/openapi.json"
PREFLIGHT_SECONDS = 86_400
SHARED: Headers = [
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"Allow, Content-Language, ETag, Link, RateLimit, RateLimit-Policy, Retry-After,"
        b" X-Request-Id",
    ),
]
PREFLIGHT: Headers = [
    *SHARED,
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-headers", b"Accept, Accept-Language, If-None-Match, X-Request-Id"),
    (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
]


def addresses() -> list[str]:
    """The addresses, as templates, that pages of other origins may read."""
    return [DOCUMENT, *(path for path, read in READS.items() if read.shared)]


def headers_of(path: str, method: str) -> Headers:
    """The headers that an answer of this path carries for pages of other origins."""
    if PATHS.fullmatch(path) is None:
        return []
    return PREFLIGHT if method == "OPTIONS" else SHARED


PATHS = re.compile(
    "|".join(
        "[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", path)) for path in addresses()
    )
)
