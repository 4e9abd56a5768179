"""Explained scores as JSON, remembered as bytes: ten thousand facts are explained once, not always.

What an explanation says follows from the provider's facts, the day and the rulebooks, and where its
facts come from follows from the facts alone; so the two are remembered by just these, and an answer
is put together with what else moves: the position, the day of asking, the name and the status. A
new fact, another day, another rulebook is another key, hence nothing has to be thrown away in time.
What is remembered is bounded by its bytes; it is for those only who may see all of a provider.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import date
from typing import Any

import orjson

from projections.forecast import score_until
from projections.rights import File
from projections.scores import Scores

MAX_BYTES = 64 * 1024 * 1024


class Memory:
    """JSON by what it follows from; what was asked for longest ago goes first. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        """What is remembered."""
        with self._guard:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, text: bytes) -> None:
        """Remember, and forget what is too much."""
        if len(text) > self._max_bytes:
            return
        with self._guard:
            self._size += len(text) - len(self._kept.pop(key, b""))
            self._kept[key] = text
            while self._size > self._max_bytes:
                self._size -= len(self._kept.popitem(last=False)[1])


class Explanations:
    """The explained scores of one process."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self._memory = Memory(MAX_BYTES)

    def json(self, file: File, *, as_of: date, today: date) -> tuple[int, bytes] | None:
        """What `Scores.explain` gives, for its `audience`, as JSON, and up to which position.

        None for an unknown provider. Raises psycopg.Error.
        """
        scores, subject = self._scores, file.subject
        # First the position: a fact that came in before it moves the row on, and the key with it.
        position = scores.position()
        current = scores.current(subject)
        if current is None or current["score"] is None:
            return None
        last = current["last_position"]
        head = {
            "audience": "full",
            "subject": subject,
            "name": current["name"],
            "status": current["status"],
            "position": position,
            "asked_on": today.isoformat(),
            "known_at": position,
        }
        rules = scores.rulebooks(position).version

        def score() -> bytes:
            facts, scales = scores.facts(subject, position), scores.scales(position)
            result, change = score_until(facts, scales, as_of=as_of, position=position)
            members = {name: value for name, value in result.items() if name != "known_at"}
            return orjson.dumps(members | {"next_change_on": change})

        def sources() -> bytes:
            return orjson.dumps(scores.sources(subject, position))

        # Before that the tables are ahead of the position, and what is read fits no key.
        fits = last <= position
        return position, b'%b,%b,"facts":%b}' % (
            orjson.dumps(head)[:-1],
            self._remembered((subject, last, as_of, rules), score, fits=fits)[1:-1],
            self._remembered((subject, last), sources, fits=fits),
        )

    def _remembered(
        self, key: tuple[str, int, *tuple[Any, ...]], make: Callable[[], bytes], *, fits: bool
    ) -> bytes:
        """What is remembered of a provider up to its last event, or made now."""
        text = self._memory.get(key) if fits else None
        if text is None:
            text = make()
            # A fact that came in meanwhile has moved the row on too, in one transaction.
            if fits and (self._scores.current(key[0]) or {}).get("last_position") == key[1]:
                self._memory.put(key, text)
        return text
