"""A mapping file as it is written: its tables, each member with what it may hold.

What a member means: `docs/imports/README.md`. Whether the parts fit together, and the commands, is
found out by `api/intake/mapping.py`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.intake.column import Cells, Source
from api.intake.doubts import DoublesTable
from api.intake.forms.form import FormName
from ledger.events import Purpose


class Part(BaseModel):
    """A table of the mapping file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SourceTable(Part):
    """How the file is written. `sheet`: of a workbook, the first one where none is named."""

    encoding: str = "utf-8"
    sheet: str | None = None
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    missing: list[str] = []


class RowTable(Part):
    """What makes a row the row it is, and what becomes of rows that no record applies to."""

    key: Annotated[list[str], Field(min_length=1)]
    may_be_empty: list[str] = []
    in_order: list[str] = []
    unmatched: Literal["reject", "skip"] = "reject"


class When(Part):
    """A condition on a cell."""

    column: str
    one_of: Annotated[list[str], Field(min_length=1)]

    def holds(self, cells: Cells) -> bool:
        """Whether the cell is one of the values."""
        return cells[self.column] in self.one_of


class RecordTable(Part):
    """One command that a row leads to."""

    command: str
    when: When | None = None
    fields: dict[str, Any]


class NoteTable(Part):
    """What is to be told of some rows, which are recorded all the same."""

    field: str
    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]{0,39}$")]
    when: When
    en: str
    zh: str


class MappingFile(Part):
    """The mapping file as it is written."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,59}$")]
    purpose: Purpose | None = None
    form: FormName | None = None
    source: SourceTable = SourceTable()
    identifier: Source
    row: RowTable
    doubles: DoublesTable = DoublesTable()
    note: list[NoteTable] = []
    record: Annotated[list[RecordTable], Field(min_length=1)]
