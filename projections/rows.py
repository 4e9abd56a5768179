"""Many rows on their way into a table: one COPY, sent while the next rows are still being made.

Knows PostgreSQL's text format and nothing of what the rows mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from psycopg import Copy, Cursor


@contextmanager
def copying(
    cursor: Cursor[tuple[Any, ...]], target: str
) -> Iterator[Callable[[Iterable[Sequence[str]]], None]]:
    """What appends rows to `target`, which is written `table (column, …)`; no row, no statement.

    The server takes in some rows while the next ones are made: both work at the same time.
    """
    copies: list[Copy] = []
    with ExitStack() as stack:

        def write(rows: Iterable[Sequence[str]]) -> None:
            if block := _block(list(rows)):
                if not copies:
                    statement = f"COPY {target} FROM STDIN".encode()
                    copies.append(stack.enter_context(cursor.copy(statement)))
                copies[0].write(block)

        yield write


def _block(rows: Sequence[Sequence[str]]) -> str:
    """Rows in the text format.

    Values are identifiers, numbers, days and JSON, where a tab or the end of a line never stands
    raw; so one replacement for the whole block escapes them all.
    """
    block = "".join([f"{line}\n" for line in map("\t".join, rows)])
    tabs = sum(map(len, rows)) - len(rows)
    assert (block.count("\n"), block.count("\t")) == (len(rows), tabs)
    assert "\r" not in block
    return block.replace("\\", "\\\\")
