"""Many rows on their way into a table: one COPY, sent while the next rows are still being made.

Knows PostgreSQL's text format and nothing of what the rows mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from psycopg import Cursor

PART_ROWS = 500


def copy_rows(cursor: Cursor[tuple[Any, ...]], target: str, rows: Iterable[Sequence[str]]) -> None:
    """Append rows to `target`, which is written `table (column, …)`; no row, no statement.

    The server takes in a part while `rows` makes the next one: both work at the same time.
    """
    remaining = iter(rows)
    part = list(islice(remaining, PART_ROWS))
    if not part:
        return
    with cursor.copy(f"COPY {target} FROM STDIN".encode()) as copy:
        while part:
            copy.write(_block(part))
            part = list(islice(remaining, PART_ROWS))


def _block(rows: Sequence[Sequence[str]]) -> str:
    """Rows in the text format.

    Values are identifiers, numbers, days and JSON, where a tab or the end of a line never stands
    raw; so one replacement for the whole block escapes them all.
    """
    block = "\n".join(map("\t".join, rows)) + "\n"
    tabs = sum(map(len, rows)) - len(rows)
    assert (block.count("\n"), block.count("\t")) == (len(rows), tabs)
    assert "\r" not in block
    return block.replace("\\", "\\\\")
