"""Random bytes from the system, drawn in large pieces.

`os.urandom` gives up the interpreter's lock, and to get it back while the appender's thread is busy
costs more than all the rest of an event. What was given out is never given again, nor kept.
"""

from __future__ import annotations

import os
import threading

PIECE_BYTES = 16 * 1024


class Entropy:
    """`os.urandom` for many small draws. Safe to use from threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._left = bytearray()
        self._owner = os.getpid()

    def __call__(self, size: int) -> bytes:
        """`size` random bytes that nobody else gets, not even a process forked from this one."""
        if size > PIECE_BYTES:
            return os.urandom(size)
        with self._guard:
            if len(self._left) < size or self._owner != os.getpid():
                self._left, self._owner = bytearray(os.urandom(PIECE_BYTES)), os.getpid()
            drawn = bytes(self._left[-size:])
            del self._left[len(self._left) - size :]
            return drawn
