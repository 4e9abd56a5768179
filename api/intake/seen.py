"""The rows of a file seen so far, by key: in a temporary file, so that memory stays bounded."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from hashlib import sha256

CACHE_KIB = 32 * 1024


class Seen:
    """Remembers of each key the first line and what stood there. Close it when done."""

    def __init__(self) -> None:
        # An empty name makes a private file that goes away with the connection.
        self._rows = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", f"cache_size = -{CACHE_KIB}"):
            self._rows.execute(f"PRAGMA {pragma}")
        self._rows.execute(
            "CREATE TABLE seen (key BLOB PRIMARY KEY, content BLOB, line INTEGER) WITHOUT ROWID"
        )
        self._rows.execute("BEGIN")

    def first_of(
        self, rows: Sequence[tuple[str, str]], contents: Sequence[bytes], lines: Sequence[int]
    ) -> list[tuple[int, bool]]:
        """For each row (subject, key) the first line with its key, and whether it says the same.

        A row seen for the first time is its own first. Up to a thousand rows at once.
        """
        keys = [_digest("\n".join(row).encode()) for row in rows]
        digests = [_digest(content) for content in contents]
        self._rows.executemany(
            "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", zip(keys, digests, lines, strict=True)
        )
        # Every key of the block is there: inserted just now, or before.
        places = ",".join("?" * len(keys))
        found = {
            key: (line, content)
            for key, line, content in self._rows.execute(
                f"SELECT key, line, content FROM seen WHERE key IN ({places})", keys
            )
        }
        return [
            (found[key][0], found[key][1] == digest)
            for key, digest in zip(keys, digests, strict=True)
        ]

    def close(self) -> None:
        """Remove the temporary file."""
        self._rows.close()


def _digest(text: bytes) -> bytes:
    return sha256(text).digest()[:16]
