"""What one answer gives out of the log, and what of it the public does not see.

Only the judgement (`projections/disclosure.py`) makes one; the doors give it out and record it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Opened(NamedTuple):
    """An event that a reader gets and the public does not see today.

    `file`: the provider in whose file it stands, where that provider may see it itself.
    """

    position: int
    file: str | None


class Look(NamedTuple):
    """What a reader gets of the log: positions and lines, in order.

    `opened`: what among them the public does not see today, records of access aside.
    """

    lines: list[tuple[int, bytes]]
    opened: Sequence[Opened] = ()
