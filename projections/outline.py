"""What is judged of an event, read from its stored bytes without parsing them.

Stored bytes are canonical (`ledger/envelope.py`): sorted keys, and before and after `data` only
texts that hold no quote. So the head and the tail of an event are found by their fixed order, in a
tenth of the time that parsing takes; a test holds the two against each other for every type.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD = re.compile(rb'\{(?:"sequence":"\d{20}",)?"actororg":"([^"]*)"')
TAIL = re.compile(
    rb'"source":"/streams/[^"]*","specversion":"1\.0","streamversion":\d+,'
    rb'(?:"subject":"([^"]*)",)?"time":"[^"]*","type":"cn\.chengxin\.([^"]*)",'
    rb'"visibility":"([a-z]*)"\}\Z'
)
TARGET = b'"target":"'
ID_CHARACTERS = 36
TAIL_BYTES = 512
"""More than the tail of any event: a stream's name and an identifier are bounded."""


class Outline(NamedTuple):
    """Who recorded an event, of which type, about whom, for how wide an audience.

    `target`: the id of the event that it works on, or proposes to work on; `on`: that event's
    own outline, where known.
    """

    type: str
    visibility: str
    subject: str | None
    recorder: str
    target: str | None = None
    on: Outline | None = None


def outline_of(state: bytes) -> Outline:
    """The outline of stored bytes, or of their line.

    What is no event of this shape gets one that nobody but who sees everything has a right to.
    """
    head, tail = HEAD.match(state), TAIL.search(state, max(0, len(state) - TAIL_BYTES))
    if head is None or tail is None:
        return Outline("", "", None, "")
    subject, type, visibility = tail.groups()
    target = None
    if (at := state.find(TARGET, 0, tail.start())) >= 0:
        at += len(TARGET)
        target = state[at : at + ID_CHARACTERS].decode()
    return Outline(
        type.decode(),
        visibility.decode(),
        None if subject is None else subject.decode(),
        head[1].decode(),
        target,
    )
