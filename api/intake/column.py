"""Where one field of a command comes from: a column, a constant, a template; and how it is read.

A cell is trimmed, then looked up in a value table, or read as what the field is: text, an integer,
a day, a list. What cannot be read is refused with the cell shown; nothing is guessed.
"""

from __future__ import annotations

import re
import string
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Final, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from api.intake.complaint import Unfit
from api.intake.rows import Proof, proof_of
from ledger.calendar import read_day
from ledger.errors import Words
from ledger.evidence import EvidenceDigest
from ledger.identity import coined_number
from ledger.sealing import PlainText

Cells = Mapping[str, str]
"""The cells of a record by column, trimmed."""
INTEGER = re.compile(r"-?[0-9]{1,15}")
SHOWN_CHARACTERS = 40
SHOWN_VALUES = 12
ORIGINS = ("column", "constant", "template", "coined", "digest_of_row")


class Absent:
    """What a getter gives for a field that is to be left out."""


ABSENT: Final = Absent()
Raw = bytes | Proof
"""The bytes of a record, or what is left of them."""
Getter = Callable[[Cells, Raw], object]
"""From the cells and the bytes of a record to a field's value. Raises BadCell."""


class BadCell(Exception):
    """The cell cannot be read as the field; where `doubtful`, a person could say how.

    `value` is the text that a value table lacks.
    """

    def __init__(
        self, code: str, reason: Words, *, doubtful: bool = False, value: str = ""
    ) -> None:
        super().__init__(reason.en)
        self.code = code
        self.reason = reason
        self.doubtful = doubtful
        self.value = value


class Coined(BaseModel):
    """A number made of cells, for what its register gives none; some of them may be empty."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prefix: str
    of: Annotated[list[str], Field(min_length=1)]
    may_be_empty: list[str] = []


class Source(BaseModel):
    """One field's source as the mapping writes it: exactly one of the first five."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    column: str | None = None
    constant: Any = None
    template: str | None = None
    coined: Coined | None = None
    digest_of_row: str | None = None
    values: dict[str, Any] | None = None
    unknown: Literal["refuse", "quarantine"] = "refuse"
    date: str | list[str] | None = None
    plus_days: Annotated[int, Field(ge=-3660, le=3660)] = 0
    split: str | None = None
    missing: list[str] = []
    when_missing: Literal["reject", "omit"] = "reject"
    default: Any = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        named = [name for name in ORIGINS if name in self.model_fields_set]
        if len(named) != 1:
            raise Unfit(
                f"name exactly one of {', '.join(ORIGINS)}",
                f"须且只能写明其中一项：{'、'.join(ORIGINS)}",
            )
        if "default" in self.model_fields_set and self.when_missing == "omit":
            raise Unfit(
                '`default` and `when_missing = "omit"` exclude each other',
                '`default` 与 `when_missing = "omit"` 不能并用',
            )
        if self.values is not None and self.date is not None:
            raise Unfit("`values` and `date` exclude each other", "`values` 与 `date` 不能并用")
        if self.values is None and "unknown" in self.model_fields_set:
            raise Unfit("`unknown` belongs to `values`", "`unknown` 只与 `values` 并用")
        placeholders(self.template or "")
        return self

    def columns(self) -> list[str]:
        """The columns it reads."""
        if self.column is not None:
            return [self.column]
        if self.coined is not None:
            return self.coined.of
        return placeholders(self.template or "")


def placeholders(template: str) -> list[str]:
    """The columns named in `{braces}`. Raises Unfit for anything but plain names."""
    found = []
    for _, name, form, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name or form or conversion:
            raise Unfit(
                f"{template!r}: braces hold the name of a column and nothing else",
                f"{template!r}：花括号内只能是列名",
            )
        found.append(name)
    return found


def shape_of(info: FieldInfo) -> Any:
    """What a field is: `str`, `int`, `bool`, `date`, `list`, or a model's class."""
    return _shape(info.annotation)


def _shape(annotation: Any) -> Any:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _shape(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return next(_shape(one) for one in get_args(annotation) if one is not type(None))
    if origin is Literal:
        return str
    if origin is list:
        inner = _shape(get_args(annotation)[0])
        return EvidenceDigest if inner is EvidenceDigest else list
    # Sealed when it is recorded; in a file it is text.
    return str if annotation is PlainText else annotation


def getter_of(source: Source, info: FieldInfo, *, missing: Sequence[str]) -> Getter:
    """The getter of a field. Raises ValueError where the source does not suit the field."""
    shape = shape_of(info)
    if source.digest_of_row is not None:
        return _digest_getter(source.digest_of_row, shape, many=get_origin(info.annotation) is list)
    if shape is EvidenceDigest:
        raise Unfit(
            'evidence from a file is `digest_of_row = "<custodian>"`',
            '来自文件的证据写作 `digest_of_row = "<保管机构>"`',
        )
    if "constant" in source.model_fields_set:
        constant = _checked(source.constant, info)
        return lambda cells, raw: constant
    convert = _conversion(source, shape, info)
    none_there = {"", *missing, *source.missing}
    absent: object = ABSENT
    if "default" in source.model_fields_set:
        absent = _checked(source.default, info)
    elif source.when_missing == "reject":
        absent = BadCell("missing", Words("there is no value", "没有取值"))
    if source.column is not None:
        return _column_getter(source.column, none_there, absent, convert)
    if source.coined is not None:
        return _coined_getter(source.coined, none_there, absent, convert)
    return _template_getter(source.template or "", none_there, absent, convert)


def _column_getter(
    column: str, none_there: set[str], absent: object, convert: Callable[[str], object]
) -> Getter:
    def get(cells: Cells, raw: Raw) -> object:
        text = cells[column]
        if text not in none_there:
            return convert(text)
        if isinstance(absent, BadCell):
            raise absent
        return absent

    return get


def _template_getter(
    template: str, none_there: set[str], absent: object, convert: Callable[[str], object]
) -> Getter:
    names = placeholders(template)
    pieces = [(text, name) for text, name, _, _ in string.Formatter().parse(template)]
    if not names:
        raise Unfit(
            f"the template {template!r} names no column; write it as a constant",
            f"模板 {template!r} 未引用任何列，请改写为常量",
        )

    def get(cells: Cells, raw: Raw) -> object:
        if none_there.isdisjoint([cells[name] for name in names]):
            return convert("".join(text + (cells[name] if name else "") for text, name in pieces))
        if isinstance(absent, BadCell):
            raise absent
        return absent

    return get


def _coined_getter(
    coined: Coined, none_there: set[str], absent: object, convert: Callable[[str], object]
) -> Getter:
    needed = [name for name in coined.of if name not in coined.may_be_empty]

    def get(cells: Cells, raw: Raw) -> object:
        if none_there.isdisjoint([cells[name] for name in needed]):
            return convert(coined.prefix + coined_number([cells[name] for name in coined.of]))
        if isinstance(absent, BadCell):
            raise absent
        return absent

    return get


def _digest_getter(custodian: str, shape: Any, *, many: bool) -> Getter:
    if shape is not EvidenceDigest:
        raise Unfit("`digest_of_row` is for evidence only", "`digest_of_row` 只用于证据字段")
    EvidenceDigest(sha256="0" * 64, media_type="text/csv", size_bytes=0, custodian=custodian)

    def digest(cells: Cells, raw: Raw) -> object:
        proof = proof_of(raw)
        one = EvidenceDigest(
            sha256=proof.sha256,
            media_type="text/csv",
            size_bytes=proof.size_bytes,
            custodian=custodian,
        )
        return [one] if many else one

    return digest


def _conversion(source: Source, shape: Any, info: FieldInfo) -> Callable[[str], object]:
    if shape is not date and (source.date is not None or source.plus_days):
        raise Unfit(
            "`date` and `plus_days` are for days only", "`date` 与 `plus_days` 只用于日期字段"
        )
    if (source.split is not None) != (shape is list):
        raise Unfit(
            "`split` belongs to a list, and a list needs it",
            "`split` 只用于列表字段，列表字段必须写明 `split`",
        )
    if shape is list:
        return _list_reader(source)
    if source.values is not None:
        table = {key: _checked(one, info) for key, one in source.values.items()}
        return _table_reader(table, doubtful=source.unknown == "quarantine")
    if shape is date:
        formats = [source.date] if isinstance(source.date, str) else source.date or ["%Y-%m-%d"]
        return _day_reader(formats, timedelta(days=source.plus_days))
    if shape is bool:
        raise Unfit(
            "a yes or no needs `values`, a table that gives true and false",
            "是非字段须以 `values` 写明何者为 true、何者为 false",
        )
    if shape is int:
        return _read_integer
    if shape is str:
        return str
    raise Unfit(
        "it has fields of its own: write it as a table of them",
        "该字段下还有字段，请写成由其组成的表",
    )


def _list_reader(source: Source) -> Callable[[str], object]:
    separator = source.split or ""
    if not separator:
        raise Unfit("`split` is empty", "`split` 不得为空")
    convert: Callable[[str], object] = str
    if source.values is not None:
        convert = _table_reader(source.values, doubtful=source.unknown == "quarantine")
    return lambda text: [convert(part.strip()) for part in text.split(separator) if part.strip()]


def _table_reader(table: Mapping[str, object], *, doubtful: bool) -> Callable[[str], object]:
    def read(text: str) -> object:
        try:
            return table[text]
        except KeyError:
            known = ", ".join(repr(one) for one in islice(table, SHOWN_VALUES))
            known += ", …" if len(table) > SHOWN_VALUES else ""
            why = Words(
                f"{shown(text)} is not in the value table, which has {known}",
                f"{shown(text)} 不在取值表中，表中有：{known}",
            )
            raise BadCell("not-in-table", why, doubtful=doubtful, value=text) from None

    return read


def _day_reader(formats: Sequence[str], later: timedelta) -> Callable[[str], object]:
    def read(text: str) -> object:
        for form in formats:
            try:
                # Fifty times faster than strptime, and the usual case.
                if form == "%Y-%m-%d" and (day := read_day(text)) is not None:
                    return day + later
                return datetime.strptime(text, form).date() + later  # noqa: DTZ007 a day has no zone
            except (ValueError, OverflowError):
                continue
        why = Words(
            f"{shown(text)} is no day written as {' or '.join(formats)}",
            f"{shown(text)} 不是按 {' 或 '.join(formats)} 书写的日期",
        )
        raise BadCell("bad-day", why)

    return read


def _read_integer(text: str) -> object:
    if INTEGER.fullmatch(text) is None:
        why = Words(f"{shown(text)} is no integer", f"{shown(text)} 不是整数")
        raise BadCell("bad-integer", why)
    return int(text)


def _checked(value: object, info: FieldInfo) -> object:
    """A value that the mapping itself gives, as the field takes it. Raises ValueError."""
    kind: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    try:
        return TypeAdapter(kind, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{shown(str(value))}: {error.errors()[0]['msg']}") from None


def shown(text: str) -> str:
    """A cell's text for a message, cut to forty characters."""
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")
