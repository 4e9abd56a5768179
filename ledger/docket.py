"""The docket: decisions on requests to erase, in a file beside the keys, before they are recorded.

A database may be put back to a backup from before an erasure; this file is not in it, so that what
was erased is erased again before anything is served. It holds random references, codes and numbers.
One decision is one line, on disk (fsync) before its events are appended; a line cut short is that
of a decision of which nobody was told, and is dropped. Each line names the ledger it is of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson

from ledger.envelope import Event
from ledger.identity import Actor
from ledger.keyfile import KeyFileError, locked, private_folder, read_private
from ledger.vocabulary import EVENT_TYPES

DOCKET_FILE = "erasures.jsonl"


class Decision(NamedTuple):
    """One decision about one person: the events that say it, which go in together or not at all."""

    ledger: str
    person: str
    events: tuple[Event, ...]
    document: str | None = None

    def written(self) -> bytes:
        """The decision as its line."""
        first = self.events[0]
        line = {
            "ledger": self.ledger,
            "person": self.person,
            "document": self.document,
            "actor": [first.actor.organisation, first.actor.role, first.actor.ref],
            "causation": first.causation,
            "events": [
                {
                    "id": one.id,
                    "nonce": one.nonce,
                    "type": one.type,
                    "data": one.data.model_dump(mode="json"),
                }
                for one in self.events
            ],
        }
        return orjson.dumps(line) + b"\n"

    @classmethod
    def read(cls, line: bytes, stream: str) -> Self:
        """The decision of a line; its events stand in a stream `stream` + person, nowhere yet.

        Raises ValueError, KeyError or TypeError for what is no such line.
        """
        found: dict[str, Any] = orjson.loads(line)
        actor = Actor(*found["actor"])
        events = tuple(
            Event(
                id=one["id"],
                stream=stream + found["person"],
                version=0,
                data=EVENT_TYPES[one["type"]].model_validate_json(orjson.dumps(one["data"])),
                actor=actor,
                nonce=one["nonce"],
                causation=found["causation"],
            )
            for one in found["events"]
        )
        return cls(found["ledger"], found["person"], events, found["document"])


class Docket:
    """The file. Raises KeyFileError where others may read or change it."""

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        self.folder, self._path = folder, folder / DOCKET_FILE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Meanwhile nobody else decides about anybody, in this process or in another."""
        with locked(self._path):
            yield

    def state(self) -> tuple[int, int, int]:
        """Something that changes when the file does."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (status.st_ino, status.st_size, status.st_mtime_ns)

    def decisions(self, stream: str) -> list[Decision]:
        """Every decision, in order. Raises KeyFileError for a line that is none."""
        found = []
        for number, line in enumerate(lines_of(self._path), 1):
            try:
                found.append(Decision.read(line, stream))
            except (ValueError, KeyError, TypeError) as error:
                raise KeyFileError(f"{self._path}: line {number} is no decision") from error
        return found

    def add(self, decisions: Sequence[Decision]) -> None:
        """Write decisions down, durably."""
        append(self._path, b"".join(one.written() for one in decisions))


def append(path: Path, lines: bytes) -> None:
    """Add whole lines to a file, durably; a last line that was cut short goes. One at a time."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        whole = os.pread(file, os.fstat(file).st_size, 0).rfind(b"\n") + 1
        os.ftruncate(file, whole)
        os.pwrite(file, lines, whole)
        os.fsync(file)
    finally:
        os.close(file)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def lines_of(path: Path) -> list[bytes]:
    """The whole lines of such a file. Raises KeyFileError where others may read or change it."""
    try:
        return read_private(path).split(b"\n")[:-1]
    except FileNotFoundError:
        return []
