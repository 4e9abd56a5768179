"""A batch of requests as the append function takes it: one array for each of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.appender import Request


def parameters(batch: Sequence[Request], now: datetime) -> list[Any]:
    """The parameters of `append()`, in its order (`ledger/sql/0002_append.sql`)."""
    entries = [entry for request in batch for entry in request.entries]
    keys = [request.key or (None, None, None, None) for request in batch]
    issuers, subjects, names, digests = zip(*keys, strict=True)
    return [
        now,
        _array(n for n, request in enumerate(batch, 1) for _ in request.entries),
        _array(_text(entry.stream) for entry in entries),
        _array(entry.version for entry in entries),
        _array(entry.id for entry in entries),
        _array(_text(entry.topic) for entry in entries),
        [entry.state for entry in entries],
        _array(entry.time_at for entry in entries),
        *(_array(map(_text, column)) for column in (issuers, subjects, names)),
        list(digests),
    ]


def _array(items: Iterable[object]) -> str:
    """An array as PostgreSQL reads it; psycopg takes three times as long to write one."""
    return "{" + ",".join(map(str, items)) + "}"


def _text(text: str | None) -> str:
    if text is None:
        return "NULL"
    # Between quotes only these two have a meaning of their own.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
