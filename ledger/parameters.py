"""A batch of requests as the append function takes it, and what it answers to each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ledger import errors
from ledger.vault_errors import PersonErased

if TYPE_CHECKING:
    from ledger.appender import Request


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: its first position and the time its events were stamped with.

    `repeated`: the key was used before; the positions are those of the first answer.
    """

    first_position: int
    recorded_at: datetime
    repeated: bool = False


def parameters(batch: Sequence[Request], now: datetime) -> list[Any]:
    """The parameters of `append()`, in its order (`ledger/sql/0002_append.sql`)."""
    entries = [entry for request in batch for entry in request.entries]
    keys = [request.key or (None, None, None, None) for request in batch]
    issuers, subjects, names, digests = zip(*keys, strict=True)
    boxes = [
        (n, entry.id, *box)
        for n, request in enumerate(batch, 1)
        for entry in request.entries
        for box in entry.boxes
    ]
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
        *(_array(box[column] for box in boxes) for column in range(3)),
        [box[3] for box in boxes],
    ]


def outcomes(batch: Sequence[Request], row: Sequence[Any]) -> Iterator[Answer | Exception]:
    """What became of each request, from the row that the function returned."""
    recorded_at, statuses, positions, streams, versions = row
    for index, (request, status) in enumerate(zip(batch, statuses, strict=True)):
        if status in ("appended", "repeated"):
            yield Answer(positions[index], recorded_at, status == "repeated")
        elif status == "key-reused":
            assert request.key is not None
            yield errors.KeyReused(key=request.key.key)
        elif status == "erased":
            sealed = {box.person for entry in request.entries for box in entry.boxes}
            yield PersonErased(person=", ".join(sorted(sealed)))
        elif status == "wrong-version":
            expected = next(e.version - 1 for e in request.entries if e.stream == streams[index])
            yield errors.WrongVersion(
                expected=expected, stream=streams[index], actual=versions[index]
            )
        else:
            yield RuntimeError(f"event id taken: {request.entries[0].id}")


def _array(items: Iterable[object]) -> str:
    """An array as PostgreSQL reads it; psycopg takes three times as long to write one."""
    return "{" + ",".join(map(str, items)) + "}"


def _text(text: str | None) -> str:
    if text is None:
        return "NULL"
    # Between quotes only these two have a meaning of their own.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
