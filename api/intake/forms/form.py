"""What a form is: its columns, what they are also called, and how each is read. Data, no rules.

Read from `<name>.form.toml` beside this module. Knows no file and no row.
"""

from __future__ import annotations

import tomllib
from functools import cache, cached_property
from importlib.resources import files
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

FORM_SUFFIX = ".form.toml"


class Part(BaseModel):
    """A part of a form's file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Column(Part):
    """One column. `missing`: what becomes of a row where nothing stands in it.

    A column of kind `person` is dropped on reading; where `tells_a_person`, something in it in a
    row without a code means that the row is about a natural person. `older`: not part of the form
    as it is written today. `endless`: how “without end” is written.
    """

    name: str
    title: str
    aliases: list[str] = []
    kind: Literal["text", "code", "day", "amount", "kinds", "person"]
    length: Annotated[int, Field(ge=1)] | None = None
    missing: Literal["nothing", "note", "doubt", "refuse"] = "nothing"
    values: list[str] = []
    endless: list[str] = []
    tells_a_person: bool = False
    older: bool = False


class Roles(Part):
    """Which columns the rules speak of. `codes`: other registers' numbers, by the register.

    `subject`: what the decision is about; `source`: who sent the row; `updated`: the row's own day;
    `row`: what tells the rows of one document apart; `certificates`: where the name of what was
    licensed stands, `valid_from`: from when it holds; each the best place first.
    """

    name: str
    party: str
    code: str
    codes: dict[str, str]
    authority: str
    document: str
    status: str
    remark: str
    decided: str
    subject: str
    source: str
    updated: str
    law: str | None = None
    row: list[str]
    certificates: list[str] = []
    valid_from: list[str] = []


class Amount(Part):
    """A column in 万元, the words that name its amount in the text, the kinds it belongs to."""

    column: str
    words: list[str]
    kinds: list[str]


class Money(Part):
    """Where amounts stand: the text that names them in yuan, and the columns in 万元."""

    text: str
    kinds: str
    amounts: list[Amount]


class Status(Part):
    """What the status column may say; a digit means one thing in the older form only."""

    normal: list[str]
    withdrawn: list[str]
    older_normal: list[str]
    older_withdrawn: list[str]
    newer_normal: list[str]


class Form(Part):
    """One form. `marks` tell it from other files, `older` its older version from today's.

    `swaps`: pairs of a name and its code that are mixed up; `joins`: second columns whose text
    belongs to the first.
    """

    name: str
    prefix: str
    marks: list[str]
    older: list[str]
    swaps: list[tuple[str, str]]
    joins: list[tuple[str, str]]
    roles: Roles
    money: Money | None = None
    status: Status
    column: list[Column]

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """The columns by their canonical names."""
        return {one.name: one for one in self.column}

    @cached_property
    def kept(self) -> list[Column]:
        """The columns that a row keeps: all but persons'."""
        return [one for one in self.column if one.kind != "person"]

    @cached_property
    def today(self) -> list[Column]:
        """The columns of the form as it is written today, persons' included, in its order."""
        return [one for one in self.column if not one.older]


FormName = Literal["shuanggongshi-penalty", "shuanggongshi-licence"]
"""The forms there are."""
NAMES: tuple[str, ...] = get_args(FormName)


@cache
def form_of(name: str) -> Form:
    """A form by its name. Raises KeyError."""
    if name not in NAMES:
        raise KeyError(name)
    text = (files("api.intake.forms") / f"{name}{FORM_SUFFIX}").read_text(encoding="utf-8")
    # TOML has lists only; a form's pairs are as strict as the rest in JSON's mode.
    return Form.model_validate(tomllib.loads(text), strict=False)
