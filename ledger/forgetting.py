"""Forgetting in every process: whoever is erased anywhere is dropped from memory everywhere.

A process remembers the keys of persons for whom it sealed (`ledger/persons.py`). Such a key opens
nothing by itself, since what it opened is gone; it goes all the same, a moment after the event. So
does the key of an epoch that was destroyed by another process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import structlog

from ledger.erasure import PersonErasure
from ledger.errors import LedgerError
from ledger.keyfile import KeyFileError
from ledger.person_log import PersonLog
from ledger.store import Ledger
from ledger.tail import Tail

WAIT_SECONDS = 1.0

log = structlog.get_logger()


class Forgetting:
    """Follows the log in a thread of its own, from where it is now."""

    def __init__(self, ledger: Ledger, tail: Tail, *, clock: Callable[[], datetime]) -> None:
        self._ledger, self._tail = ledger, tail
        self._log = PersonLog(ledger, clock=clock)
        self.told: list[Callable[[], None]] = []
        """What else remembers something of persons, and is called when one of them is erased."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forgetting", daemon=True)

    def start(self) -> None:
        """Begin to follow. What was erased before is in no memory of a process that starts."""
        self._seen = self._log.head()
        self._thread.start()

    def stop(self) -> None:
        """Stop following, within a second."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            head = self._tail.wait(self._seen, WAIT_SECONDS)
            self._let_go()
            if head <= self._seen:
                # A tail that stops wakes everybody at once.
                self._stopping.wait(WAIT_SECONDS / 10)
                continue
            try:
                for _, event in self._log.after(self._seen):
                    if isinstance(event.data, PersonErasure):
                        self._ledger.vault.persons.drop(event.data.person)
                        for forget in self.told:
                            forget()
            except LedgerError as error:
                log.warning("forgetting waits", reason=str(error))
                self._stopping.wait(WAIT_SECONDS)
            else:
                self._seen = head

    def _let_go(self) -> None:
        try:
            self._ledger.vault.persons.let_go()
        except (OSError, KeyFileError, LedgerError) as error:
            log.warning("vault keys cannot be read", reason=str(error))
            self._stopping.wait(WAIT_SECONDS)
