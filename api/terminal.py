"""What the command line shows: data on stdout, everything else on stderr, in the user's language.

Exit codes are stable and in `docs/cli.md`: 0 done, 1 refused or invalid data, 2 wrong usage,
3 unavailable; 130 and 141 as in every shell (interrupted, the reader of the pipe went away).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import NoReturn, Self
from unicodedata import category

import orjson
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ledger.errors import Words

REFUSED = 1
USAGE = 2
UNAVAILABLE = 3
INTERRUPTED = 130
PIPE_CLOSED = 141
OBEYED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that are not read but obeyed, or not seen at all."""
QUIET_SECONDS = 5.0
"""How often progress is told where stderr is no terminal."""


def chinese() -> bool:
    """Whether the user's locale is Chinese: LC_ALL, else LC_MESSAGES, else LANG."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return value.lower().startswith("zh")
    return False


def words(en: str, zh: str) -> str:
    """The text in the user's language."""
    return zh if chinese() else en


def told(reason: Words) -> str:
    """A reason in the user's language."""
    return words(*reason)


def readable(text: str) -> str:
    """The text with what a terminal would obey written out (`\\x1b`); lines and tabs stay.

    What is shown comes from rows and file names of others: it must not move the cursor, hide or
    turn around what stands beside it.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one in "\n\t" or category(one) not in OBEYED else escaped(one) for one in text
    )


def escaped(character: str) -> str:
    """A character as Python writes it."""
    return character.encode("unicode_escape").decode("ascii")


def in_json(character: str) -> str:
    """A character as JSON escapes it."""
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def tell(text: str) -> None:
    """Write a message on stderr."""
    sys.stderr.write(f"{readable(text)}\n")
    sys.stderr.flush()


def put(data: str | bytes) -> None:
    """Write one line of data on stdout. Ends the command where nobody reads any more."""
    line = readable(data).encode() if isinstance(data, str) else data
    try:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Or the interpreter would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None


def put_json(data: object) -> None:
    """Write an object as one line of JSON on stdout."""
    text = orjson.dumps(data)
    if not text.isascii() or b"\x7f" in text:
        # The same JSON, with escapes for what orjson leaves as it is.
        text = "".join(
            in_json(one) if category(one) in OBEYED else one for one in text.decode()
        ).encode()
    put(text)


def fail(code: int, text: str) -> NoReturn:
    """End the command with a message and an exit code."""
    tell(f"chengxin: {text}")
    raise typer.Exit(code)


class Meter:
    """How far long work is: a bar with its rate on a terminal, a line now and then elsewhere."""

    def __init__(self, what: str, unit: str) -> None:
        self._what, self._unit = what, unit
        self._began = self._told = time.monotonic()
        self._done = 0
        self._progress: Progress | None = None
        console = Console(stderr=True)
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            self._task = self._progress.add_task(what, total=None, rate="")

    def turn_to(self, what: str, unit: str) -> None:
        """Other work begins; nothing of it is done."""
        self._what, self._unit, self._done = what, unit, 0
        self._began = self._told = time.monotonic()
        if self._progress is not None:
            self._progress.reset(self._task, description=what, total=None, rate="")

    def advance(self, done: int, *, part: int, whole: int | None) -> None:
        """So many units are done, which is `part` of `whole`."""
        self._done = done
        now = time.monotonic()
        if self._progress is not None:
            self._progress.update(self._task, completed=part, total=whole, rate=self.rate())
        elif now - self._told >= QUIET_SECONDS:
            self._told = now
            share = [f"{100 * part // whole} %"] if whole else []
            parts = [*share, f"{done:,} {self._unit}", self.rate()]
            tell(words(f"{self._what}: ", f"{self._what}：") + words(", ", "，").join(parts))

    def rate(self) -> str:
        """Units a second so far."""
        seconds = max(time.monotonic() - self._began, 0.001)
        return f"{self._done / seconds:,.0f} {self._unit}/{words('s', '秒')}"

    def pace(self) -> str:
        """How long it has taken so far, and how fast that was: in brackets, after a message."""
        seconds, rate = time.monotonic() - self._began, self.rate()
        return words(f" ({seconds:.1f} s, {rate})", f"（{seconds:.1f} 秒，{rate}）")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
