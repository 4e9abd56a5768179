"""How many requests came, by method, route and kind of status, and how long each took.

Counted by the door on the event loop. What a client may choose freely (a method, an address that
is none) is counted under one name, so that nobody can make the table grow.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.figures import SECONDS, Distribution

METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
OTHER = "other"
NOWHERE = "none"


class Kind(NamedTuple):
    """What is counted together. `status` is `2xx` and so on, `none` where no answer began."""

    method: str
    route: str
    status: str


class Traffic:
    """The requests of one process."""

    def __init__(self) -> None:
        self.seconds: dict[Kind, Distribution] = {}

    def passed(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request. `route` None: no such address; `status` 0: no answer began."""
        kind = Kind(
            method if method in METHODS else OTHER,
            route or NOWHERE,
            f"{status // 100}xx" if status else NOWHERE,
        )
        found = self.seconds.get(kind)
        if found is None:
            found = self.seconds[kind] = Distribution(SECONDS)
        found.add(seconds)
