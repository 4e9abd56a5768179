"""Many rows in one COPY: they arrive as they are, in order, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import orjson
import psycopg
import pytest

from ledger.database import Database
from projections.rows import copying

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


@pytest.mark.parametrize("parts", [[], [0], [1], [3, 0, 2], [0, 400]])
def test_rows_arrive_part_by_part(cursor: psycopg.Cursor, parts: list[int]) -> None:
    numbers = iter(range(sum(parts)))
    with copying(cursor, TARGET) as write:
        for part in parts:
            write((str(n), f"number {n}") for n in islice(numbers, part))
    assert taken(cursor) == [(n, f"number {n}") for n in range(sum(parts))]


def test_of_what_was_given_up_nothing_arrives(cursor: psycopg.Cursor) -> None:
    def give_up() -> None:
        with copying(cursor, TARGET) as write:
            write([("1", "number 1")])
            raise KeyError

    with pytest.raises(KeyError):
        give_up()
    assert taken(cursor) == []


def test_what_the_format_would_read_otherwise_arrives_as_it_is(cursor: psycopg.Cursor) -> None:
    told = ["\\N", "\\.", "\\", "", "诚信", "\x7f", *map(chr, range(32))]
    rows = [(n, orjson.dumps(text).decode()) for n, text in enumerate(told)]
    rows += [(100 + n, text) for n, text in enumerate(told[:6])]
    with copying(cursor, TARGET) as write:
        write([(str(n), text) for n, text in rows])
    assert taken(cursor) == rows


@pytest.mark.parametrize("raw", ["a\tb", "a\nb", "a\rb"])
def test_what_cannot_be_sent_raw_is_never_sent(cursor: psycopg.Cursor, raw: str) -> None:
    with pytest.raises(AssertionError), copying(cursor, TARGET) as write:
        write([("1", raw)])
    assert taken(cursor) == []
