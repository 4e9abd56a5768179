"""A row in quarantine read again, with what a person says of it.

A correction names a column of the row (of a JSON line a member) and what its cell should be; or,
for what no column says rightly, `identifier` or a field of a command (`penalty.family`), whose
value is then read as a cell of that field would be. Bytes stay what they were: evidence is the
digest of the row as it came.
Knows no storage and no ledger.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from api.intake.column import Getter, Source, getter_of, shape_of
from api.intake.complaint import MappingError, joined, reason_of, reasons_of
from api.intake.jsonlines import JsonLines
from api.intake.mapping import Importing, Plan, Recording, mapping_of
from api.intake.quarantine import Held
from api.intake.recipe import Recipe
from api.intake.recordable import GIVEN
from api.intake.rows import Problem, Row, Unread
from ledger.errors import Words
from ledger.events import Purpose

LINES = JsonLines.recipe.kind
IDENTIFIER = "identifier"
EVIDENCE = "evidence"
"""The row itself: no person gives it."""
SEPARATOR = ";"
"""Between the parts of a list that a person gives."""


def read_again(held: Held) -> Row | Unread:
    """The row as it is now corrected, understood or with every reason why not."""
    if held.recipe.kind == LINES:
        return JsonLines().read_again(held.line, {**held.cells, **held.corrections}, held.proof)
    try:
        importing = importing_of(held.recipe)
    except (MappingError, ValidationError, tomllib.TOMLDecodeError) as error:
        # A later version of the program may take a mapping no more that an earlier one took.
        reason = joined(
            reasons_of(error) if isinstance(error, ValidationError) else [reason_of(error)]
        )
        return Unread(held.line, [Problem("mapping", "unusable-mapping", reason)])
    cells = dict(held.cells)
    answers: dict[str, str] = {}
    for name, text in held.corrections.items():
        (cells if name in cells else answers)[name] = text
    row = corrected(importing, answers).read(held.line, cells, held.proof)
    if isinstance(row, Row) and not row.entries and row.registration is None:
        why = Words(
            "as it is corrected, the mapping passes the row over", "按现有更正，该行为映射所跳过"
        )
        return Unread(held.line, [Problem("row", "no-record-applies", why)])
    return row


def correctable(held: Held) -> list[str]:
    """What a correction may name besides the columns of the row."""
    if held.recipe.kind == LINES:
        return []
    try:
        return [IDENTIFIER, *_fields(importing_of(held.recipe))]
    except (MappingError, ValidationError, tomllib.TOMLDecodeError):
        return []


def purpose_of(recipe: Recipe) -> Purpose | None:
    """The only kind of ledger that rows of a recipe go into, if any. Raises as `mapping_of`."""
    return None if recipe.kind == LINES else importing_of(recipe).purpose


@lru_cache(maxsize=16)
def importing_of(recipe: Recipe) -> Importing:
    """The mapping of a recipe, ready to read. Raises what `mapping_of` does."""
    return mapping_of(recipe.text)


def corrected(importing: Importing, answers: Mapping[str, str]) -> Importing:
    """A mapping in which a person's answers stand where columns did not say."""
    other = copy(importing)
    if IDENTIFIER in answers:
        other.identifier = lambda cells, raw: answers[IDENTIFIER]
    other.recordings = [_answered(one, answers) for one in importing.recordings]
    return other


def _answered(recording: Recording, answers: Mapping[str, str]) -> Recording:
    plan = recording.plan
    for name, info in _fields_of(recording):
        if name in answers:
            path = name.split(".")[1:]
            plan = _with(plan, path, _getter(name, info, answers))
    return recording._replace(plan=plan)


def _with(plan: Plan, path: Sequence[str], getter: Getter) -> Plan:
    first, *rest = path
    if not rest:
        return plan | {first: getter}
    inner = plan.get(first)
    return plan | {first: _with(inner if isinstance(inner, dict) else {}, rest, getter)}


def _fields(importing: Importing) -> dict[str, FieldInfo]:
    return {name: info for one in importing.recordings for name, info in _fields_of(one)}


def _fields_of(recording: Recording) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a command that a person may give, under the command's name."""
    given = GIVEN.get(recording.command, {})
    for name, info in _leaves(recording.model):
        if name not in given:
            yield f"{recording.command}.{name}", info


def _leaves(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        shape = shape_of(info)
        if not (isinstance(shape, type) and issubclass(shape, BaseModel)):
            yield name, info
        elif name != EVIDENCE:
            yield from ((f"{name}.{inner}", one) for inner, one in _leaves(shape))


def _getter(name: str, info: FieldInfo, answers: Mapping[str, str]) -> Getter:
    """Reads an answer as a cell of its field would be; nothing leaves the field out."""
    source: dict[str, Any] = {"column": name, "when_missing": "omit"}
    shape = shape_of(info)
    if shape is list:
        source["split"] = SEPARATOR
    elif shape is bool:
        source["values"] = {"true": True, "false": False}
    read = getter_of(Source.model_validate(source), info, missing=())
    return lambda cells, raw: read(answers, raw)
