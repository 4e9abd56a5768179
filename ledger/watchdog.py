"""No call to the server is waited for without end: one that takes too long loses its connection.

A server may stop answering without going away: its machine is paused, its disk hangs, somebody
stopped its processes. Nothing in the driver notices. Here a thread looks at the clock once a second
and shuts the socket down, so that the call ends as it does when the network breaks.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time as monotonic
from collections.abc import Sequence
from typing import Any

import psycopg
import structlog

ANSWER_SECONDS = 12
"""More than `lock_timeout` (`ledger/database.py`): who waits for a lock gets the better answer."""
LOOK_SECONDS = 1.0

log = structlog.get_logger()


class Watchdog:
    """Watches the calls of one thread, one at a time."""

    def __init__(self, name: str) -> None:
        self._connection: psycopg.Connection | None = None
        self._socket: socket.socket | None = None
        self._began: float | None = None
        # A call that has just ended must not be cut, nor a socket that somebody else has got since.
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def execute(
        self, connection: psycopg.Connection, query: bytes, parameters: Sequence[Any]
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        """Run a query; cut off it raises psycopg.OperationalError, and the connection is closed."""
        with self._guard:
            if connection is not self._connection:
                self._watch(connection)
            self._began = monotonic.monotonic()
        try:
            return connection.execute(query, parameters)
        finally:
            with self._guard:
                self._began = None

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()
        self._let_go()

    def _watch(self, connection: psycopg.Connection) -> None:
        """Have the connection's socket under a number that the driver does not close."""
        self._let_go()
        # Which family it is of makes no difference to a shutdown.
        self._socket = socket.fromfd(connection.fileno(), socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection = connection

    def _let_go(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = self._connection = None

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            with self._guard:
                began = self._began
                if began is None or monotonic.monotonic() - began < ANSWER_SECONDS:
                    continue
                self._began = None
                assert self._socket is not None
                # OSError: the other side has shut it down meanwhile.
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            log.warning("connection cut", by=self._thread.name, after_seconds=ANSWER_SECONDS)
