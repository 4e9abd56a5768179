"""Event lines on their way out: which media type a reader gets, and the bytes of an answer.

A line is never changed: each type only puts something between lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from fastapi import Response

from api.refusals import NotAcceptable

JSON_LINES = "application/x-ndjson"
JSON_LINES_TOO = "application/jsonl"
BATCH = "application/cloudevents-batch+json"
STREAM = "text/event-stream"
PULLED = (JSON_LINES, JSON_LINES_TOO, BATCH)
MAX_RANGES = 20

Line = tuple[int, bytes]
"""A position and its complete JSON line."""


def negotiate(accept: str | None, offered: Sequence[str]) -> str:
    """The offered type the reader likes best (RFC 9110 §12.5.1); on a tie the first of `offered`.

    Raises NotAcceptable.
    """
    ranges = [_range(text) for text in (accept or "*/*").split(",")[:MAX_RANGES]]
    weights = [_weight(media_type, ranges) for media_type in offered]
    best = max(weights)
    if best == 0:
        raise NotAcceptable(offered=", ".join(offered))
    return offered[weights.index(best)]


def _range(text: str) -> tuple[str, float]:
    media_range, *parameters = (part.strip() for part in text.split(";"))
    weight = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return media_range.lower(), weight


def _weight(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The weight of the most specific range that fits; 0 where none does."""
    given = dict(ranges)
    for wanted in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if wanted in given:
            return given[wanted]
    return 0.0


def answer(
    lines: Sequence[Line], media_type: str, *, path: str, limit: int, after: int | None
) -> Response:
    """Lines as one answer. `after`: where the next one begins, None where there is none."""
    texts = [text for _, text in lines]
    if media_type == BATCH:
        body = b"[" + b",".join(texts) + b"]"
    else:
        body = b"".join([text + b"\n" for text in texts])
    headers = {"Cache-Control": "private, no-store", "Vary": "Accept, Authorization"}
    if after is not None:
        headers["Link"] = next_link(path, after=after, limit=limit)
    return Response(body, headers=headers, media_type=media_type)


def page(lines: Sequence[Line], media_type: str, *, path: str, limit: int) -> Response:
    """A page of lines, with the way to the next one where it is full."""
    after = lines[-1][0] if len(lines) == limit else None
    return answer(lines, media_type, path=path, limit=limit, after=after)


def next_link(path: str, **query: str | int) -> str:
    """The `Link` header to the next page (RFC 8288)."""
    return f'<{path}?{urlencode(query)}>; rel="next"'
