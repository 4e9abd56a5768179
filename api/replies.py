"""A JSON reply, and who may keep it for how long.

A reply to a token is private and not stored; a public one may be kept but is asked for anew each
time, so that nobody serves a withdrawn item.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from fastapi import Request, Response

from projections.rights import PUBLIC, Reader


def reply(content: object, reader: Reader = PUBLIC, *, tag: str | None = None) -> Response:
    """A JSON answer (bytes are one already) with the caching that fits its reader."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return Response(body, headers=caching(reader, tag), media_type="application/json")


def unchanged(tag: str, reader: Reader = PUBLIC) -> Response:
    """The reader's copy is still good."""
    return Response(status_code=304, headers=caching(reader, tag))


def caching(reader: Reader, tag: str | None) -> dict[str, str]:
    """The headers that say so, and how to ask again."""
    headers = {
        # What is withdrawn must not live on in a search engine.
        "X-Robots-Tag": "noindex",
        "Cache-Control": "no-cache" if reader == PUBLIC else "private, no-store",
        "Vary": "Authorization",
    }
    return headers if tag is None else headers | {"ETag": tag}


def weak_tag(what: str | bytes) -> str:
    """A weak entity tag: an answer also names the log's position, which moves without it."""
    text = what.encode() if isinstance(what, str) else what
    return f'W/"{hashlib.sha256(text).hexdigest()[:32]}"'


def public(request: Request, content: dict[str, Any], reader: Reader = PUBLIC) -> Response:
    """What everybody may see; its tag tells nothing that it does not say itself."""
    tag = weak_tag(orjson.dumps(content | {"position": 0}))
    if is_fresh(request, tag.removeprefix("W/")):
        return unchanged(tag, reader)
    return reply(content, reader, tag=tag)


def is_fresh(request: Request, etag: str) -> bool:
    """Whether the reader's copy is the same (RFC 9110 §13.1.2: a weak comparison)."""
    known = ",".join(request.headers.getlist("if-none-match"))
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    return bool(tags & {etag, "*"})
