"""Random bytes from the system, drawn in large pieces.

`os.urandom` gives up the interpreter's lock, and to get it back while the appender's thread is busy
costs more than all the rest of an event. What was given out is never given again, nor kept.
"""

from __future__ import annotations

import os
import threading
from weakref import WeakSet

PIECE_BYTES = 16 * 1024


class Entropy:
    """`os.urandom` for many small draws. Safe to use from threads, and in a forked process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._left = bytearray()
        _living.add(self)

    def __call__(self, size: int) -> bytes:
        """`size` random bytes that nobody else gets."""
        if size > PIECE_BYTES:
            return os.urandom(size)
        with self._guard:
            if len(self._left) < size:
                self._left = bytearray(os.urandom(PIECE_BYTES))
            drawn = bytes(self._left[-size:])
            del self._left[len(self._left) - size :]
            return drawn

    def forget(self) -> None:
        """Drop what is left: after a fork the parent has the same."""
        self._guard = threading.Lock()
        self._left = bytearray()


_living: WeakSet[Entropy] = WeakSet()


def _forget_all() -> None:
    for one in _living:
        one.forget()


os.register_at_fork(after_in_child=_forget_all)
