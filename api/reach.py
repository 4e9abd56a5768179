"""Who can reach a server: a ledger of test data is served on this machine only.

Test data are real sets about real firms, imported to try the system; published from here they
would be an accusation by nobody. Asked before the first answer, and, where the ledger is not
opened yet, at the moment it is. There is no exception.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import psycopg

from api.settings import is_loopback
from api.terminal import words
from ledger.database import reading
from ledger.errors import LedgerError
from ledger.tail import Tail
from projections.scores import Scores

LOOK_SECONDS = 5.0


class OnThisMachineOnly(Exception):
    """The server could be reached from other machines: which address is in the message."""


class Reach:
    """The address of a listening socket, and whether the ledger may be served there.

    `only_here` is called once it may be asked for under the names of this machine only.
    """

    def __init__(
        self,
        scores: Scores,
        tail: Tail,
        listener: socket.socket,
        *,
        only_here: Callable[[], None],
    ) -> None:
        self.refused = False
        self._only_here = only_here
        self._scores = scores
        self._tail = tail
        self._host = str(listener.getsockname()[0])

    def opened(self) -> bool:
        """Whether the ledger is opened. Raises psycopg.Error."""
        opening = self._scores.rulebooks().opening
        if opening is not None and opening.purpose == "test-data":
            self.refused = not is_loopback(self._host)
            # On this machine too, no proxy and no name of a stranger may lead here.
            self._only_here()
        return opening is not None

    def check(self) -> None:
        """Raises OnThisMachineOnly, psycopg.Error."""
        self.opened()
        self.complain()

    def complain(self) -> None:
        """Raises OnThisMachineOnly if the ledger may not be served here."""
        if self.refused:
            raise OnThisMachineOnly(
                words(
                    f"this ledger holds test data and is served on this machine only, not on"
                    f" {self._host}; use --host 127.0.0.1",
                    f"本账本为测试数据账本，只可在本机提供服务，不得在 {self._host} 监听；"
                    "请用 --host 127.0.0.1",
                )
            )

    async def watch(self, end: Callable[[], None]) -> None:
        """Call `end` if the ledger is opened as one that may not be served here."""
        while not self.refused:
            position = self._tail.position
            # Where the database is away, nothing can be opened and nothing is served.
            with suppress(LedgerError, psycopg.Error):
                if await reading(self.opened):
                    break
            await self._tail.wait_async(position, LOOK_SECONDS)
        if self.refused:
            end()
