"""Many rows in one COPY: they arrive as they are, in order, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import psycopg
import pytest

from ledger.database import Database
from projections.rows import PART_ROWS, copy_rows

TARGET = "pg_temp.taken (position, told)"


@pytest.fixture
def cursor(database: Database) -> Iterator[psycopg.Cursor]:
    """A cursor that sees an empty table."""
    with database.connect(role=None) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE taken (position bigint, told text)")
        yield cursor


def taken(cursor: psycopg.Cursor) -> list[tuple[int, str]]:
    """What the table holds."""
    return cursor.execute("SELECT * FROM taken ORDER BY position").fetchall()


@pytest.mark.parametrize("number", [0, 1, PART_ROWS, 2 * PART_ROWS + 1])
def test_rows_arrive(cursor: psycopg.Cursor, number: int) -> None:
    copy_rows(cursor, TARGET, ((str(n), f"number {n}") for n in range(number)))
    assert taken(cursor) == [(n, f"number {n}") for n in range(number)]


def test_what_the_format_would_read_otherwise_arrives_as_it_is(cursor: psycopg.Cursor) -> None:
    told = ["\\N", "\\.", "\\", "", "诚信", "\x7f", *map(chr, range(32))]
    rows = [(n, orjson.dumps(text).decode()) for n, text in enumerate(told)]
    rows += [(100 + n, text) for n, text in enumerate(told[:6])]
    copy_rows(cursor, TARGET, [(str(n), text) for n, text in rows])
    assert taken(cursor) == rows


@pytest.mark.parametrize("raw", ["a\tb", "a\nb", "a\rb"])
def test_what_cannot_be_sent_raw_is_never_sent(cursor: psycopg.Cursor, raw: str) -> None:
    with pytest.raises(AssertionError):
        copy_rows(cursor, TARGET, [("1", raw)])
    assert taken(cursor) == []
