"""What the quarantine takes and shows, over HTTP and on the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from api import answers
from api.answers import Answer, Both
from api.intake.correction import correctable
from api.intake.quarantine import Entry, Held, State, Step, What
from api.intake.rows import Problem
from api.intake.verdict import Accepted
from ledger.fields import PUBLISHED, clean

MAX_CORRECTIONS = 100
MAX_CELL_CHARACTERS = 4000

Why = Annotated[
    str, Field(min_length=1, max_length=500, json_schema_extra=PUBLISHED), AfterValidator(clean)
]
Text = Annotated[str, StringConstraints(max_length=MAX_CELL_CHARACTERS, pattern=r"^[^\x00]*$")]


class RowVerdict(BaseModel):
    """Why a row is accepted or rejected; kept with the row, and entering no event."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    why: Why


class RowCorrection(RowVerdict):
    """What the cells of some columns, or some fields of the row's commands, should be.

    A column by its name; else `identifier`, or a field as `<command>.<field>`. An empty text leaves
    a field out; the parts of a list are parted by `;`.
    """

    set: Annotated[dict[str, Text], Field(min_length=1, max_length=MAX_CORRECTIONS)]


class RowProblem(Answer):
    """Something that is wrong with a row; `doubtful`: a person could answer it."""

    field: str
    code: str
    reason: Both
    doubtful: bool


class QuarantinedRow(Answer):
    """A row in quarantine, with what is wrong with it as it is corrected now."""

    id: Annotated[int, Field(ge=1)]
    organisation: str
    import_: Annotated[str, Field(alias="import")]
    file: str
    line: int
    subject: str
    state: State
    problems: list[RowProblem]
    quarantined_at: datetime
    positions: list[int]


class RowStep(Answer):
    """What somebody did with a row, and why; of a settled row's corrections only the names."""

    at: datetime
    what: What
    organisation: str
    role: str
    ref: str
    why: str
    corrections: dict[str, str | None]
    positions: list[int]


class QuarantinedRowInFull(QuarantinedRow):
    """A row in quarantine with its cells, what may be corrected besides them, and its history."""

    cells: dict[str, str]
    corrections: dict[str, str]
    fields: list[str]
    steps: list[RowStep]


class QuarantinedRows(Answer):
    """A page of the quarantine, in the order in which the rows came."""

    rows: list[QuarantinedRow]


class RowAccepted(Answer):
    """Where the events stand that an accepted row became."""

    row: int
    receipts: list[answers.Receipt]


def shown(entry: Entry) -> dict[str, Any]:
    """A row as a list shows it."""
    return {
        "id": entry.id,
        "organisation": entry.organisation,
        "import": entry.name,
        "file": entry.file,
        "line": entry.line,
        "subject": entry.subject,
        "state": entry.state,
        "problems": [_problem(one) for one in entry.problems],
        "quarantined_at": entry.quarantined_at,
        "positions": list(entry.positions),
    }


def shown_in_full(held: Held, steps: list[Step]) -> dict[str, Any]:
    """A row with all that is known of it."""
    return shown(held) | {
        "cells": dict(held.cells),
        "corrections": dict(held.corrections),
        "fields": correctable(held),
        "steps": [
            {
                "at": step.at,
                "what": step.what,
                "organisation": step.actor.organisation,
                "role": step.actor.role,
                "ref": step.actor.ref,
                "why": step.why,
                "corrections": dict(step.corrections),
                "positions": list(step.positions),
            }
            for step in steps
        ],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "field": problem.field,
        "code": problem.code,
        "reason": problem.reason._asdict(),
        "doubtful": problem.doubtful,
    }


def receipts_of(accepted: Accepted) -> list[dict[str, Any]]:
    """Where the events of an accepted row stand."""
    return [
        {"position": one.position, "id": one.id, "stream": one.stream, "version": one.version}
        for one in accepted.receipts
    ]
