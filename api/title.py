"""What a problem is called, and the way out of it."""

from __future__ import annotations

from typing import NamedTuple

from ledger.errors import Words


class Title(NamedTuple):
    """A problem in a few words, and the way out of it."""

    name: Words
    advice: Words


NOTHING = Words("Nothing is to be done: the record stands as it is.", "无需处理：记录保持原状。")
