"""Groups of sealed fields: what an event says of a person, and that only the vault can read.

All texts of a group are under the key of its person. In a command `person` may be left out; then a
new reference is drawn. Which event has which group: `docs/events.md`. This module knows how models
hold groups, and neither keys nor events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from operator import is_
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from ledger.fields import PRINTABLE, PUBLISHED, clean, clean_lines
from ledger.identity import Ref
from ledger.sealing import PlainText, Sealed, SealedAs

_Line = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra=PUBLISHED), AfterValidator(clean)
]
_IN_LINES = {"pattern": rf"^(?!\s)({PRINTABLE}|\n)*(?<!\s)$"}
_Passage = Annotated[
    str,
    Field(min_length=1, max_length=2000, json_schema_extra=_IN_LINES),
    AfterValidator(clean_lines),
]
_Terms = Annotated[
    str,
    Field(min_length=1, max_length=8000, json_schema_extra=_IN_LINES),
    AfterValidator(clean_lines),
]
_Fen = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,14})$")]
SealedLine = Annotated[PlainText | Sealed, SealedAs(_Line)]
"""A name, an address, a title: one line of at most 200 characters."""


M = TypeVar("M", bound=BaseModel)


SealedPassage = Annotated[PlainText | Sealed, SealedAs(_Passage)]
"""Free text of at most 2,000 characters, in lines."""
SealedTerms = Annotated[PlainText | Sealed, SealedAs(_Terms)]
"""The text of a contract, at most 8,000 characters, in lines."""
SealedFen = Annotated[PlainText | Sealed, SealedAs(_Fen)]
"""An amount of money: fen as a whole number in decimal digits."""


class Private(BaseModel):
    """A group of sealed fields, all of one person."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    person: Ref | None = None


class Complainant(Private):
    """Who complained. Never shown to whom the complaint is about."""

    name: SealedLine | None = None
    contact: SealedLine | None = None


class Contact(Private):
    """Whom to ask at the provider."""

    name: SealedLine | None = None
    phone: SealedLine | None = None
    email: SealedLine | None = None


class Operator(Private):
    """Who runs an individual business (个体工商户经营者)."""

    name: SealedLine


class Agreement(Private):
    """What a contract says, and with whom it was made: all under the counterparty's reference."""

    client: SealedLine | None = None
    title: SealedLine | None = None
    terms: SealedTerms | None = None
    price_fen: SealedFen | None = None


class Description(Private):
    """What can be seen on a piece of evidence."""

    text: SealedPassage


class Remark(Private):
    """What else there is to say of a finding."""

    text: SealedPassage


class Way(NamedTuple):
    """A field by which one gets from a model to a group, and whether it holds many."""

    name: str
    many: bool


@cache
def ways(model: type[BaseModel]) -> tuple[Way, ...]:
    """The fields of a model that may hold groups, or models that do."""
    found: list[Way] = []
    for name, field in model.model_fields.items():
        models = [one for one in _models(field.annotation) if issubclass(one, Private) or ways(one)]
        if models:
            found.append(Way(name, _is_list(field.annotation)))
    return tuple(found)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _models(one)


def _is_list(annotation: Any) -> bool:
    return any(
        getattr(one, "__origin__", one) is list for one in (annotation, *get_args(annotation))
    )


class Place(NamedTuple):
    """A group in an event's data, and the JSON Pointer that leads to it."""

    path: str
    group: Private


def groups(data: BaseModel, path: str = "") -> Iterator[Place]:
    """The groups in an event's data, in the order of its fields."""
    for name, many in ways(type(data)):
        value = vars(data)[name]
        if value is None:
            continue
        for at, one in enumerate(value) if many else ((-1, value),):
            here = f"{path}/{name}/{at}" if many else f"{path}/{name}"
            if isinstance(one, Private):
                yield Place(here, one)
            else:
                yield from groups(one, here)


def without_groups(data: M) -> M:
    """The data without any group; the very same where they have none."""
    new: dict[str, Any] = {}
    for name, many in ways(type(data)):
        before = vars(data)[name]
        if before is None:
            continue
        after = [_without(one) for one in before] if many else _without(before)
        if not (all(map(is_, before, after)) if many else after is before):
            new[name] = after
    return changed(data, **new) if new else data


def changed(model: M, **fields: Any) -> M:
    """The model with other values in some fields, as `model_copy` in a quarter of the time."""
    one = model.__class__.__new__(model.__class__)
    object.__setattr__(one, "__dict__", vars(model) | fields)
    object.__setattr__(one, "__pydantic_fields_set__", model.model_fields_set | fields.keys())
    object.__setattr__(one, "__pydantic_extra__", None)
    object.__setattr__(one, "__pydantic_private__", None)
    return one


def _without(value: BaseModel) -> Any:
    return None if isinstance(value, Private) else without_groups(value)


def written(data: BaseModel, fill: Callable[[Place], Any], path: str = "") -> Any:
    """What is written of data, with each group as `fill` gives it; None leaves it out.

    Data without groups are given back as they are: to make and fill models would take as long as
    all the rest of the sealing.
    """
    found: dict[str, Any] | None = None
    for name, many in ways(type(data)):
        value = vars(data)[name]
        if not value:
            continue
        here = f"{path}/{name}"
        if many:
            filled: Any = [_filled(one, fill, f"{here}/{at}") for at, one in enumerate(value)]
            if all(map(is_, value, filled)):
                continue
        elif (filled := _filled(value, fill, here)) is value:
            continue
        if found is None:
            found = members(data).copy()
        if filled is None:
            del found[name]
        else:
            found[name] = filled
    return data if found is None else found


def _filled(value: BaseModel, fill: Callable[[Place], Any], path: str) -> Any:
    if isinstance(value, Private):
        return fill(Place(path, value))
    return written(value, fill, path)


def texts(group: Private) -> Iterator[tuple[str, PlainText | Sealed]]:
    """The fields of a group that are there, with their texts."""
    for name, value in vars(group).items():
        if value is not None and name != "person":
            yield name, value


_NONE: Final[frozenset[str]] = frozenset()


@cache
def _unwritten(model: type) -> frozenset[str]:
    """The fields that are not written where they are None: groups, and what is in them.

    Raises TypeError for what is no model: text that was not sealed.
    """
    if not issubclass(model, BaseModel):
        raise TypeError(f"{model.__name__} is no part of an event")
    if issubclass(model, Private):
        return frozenset(model.model_fields)
    return frozenset(
        way.name
        for way in ways(model)
        if any(issubclass(one, Private) for one in _models(model.model_fields[way.name].annotation))
    )


def members(model: BaseModel) -> dict[str, Any]:
    """What is written of a model. Raises TypeError for text that was not sealed."""
    fields = vars(model)
    optional = _unwritten(type(model))
    for name in optional:
        if fields[name] is None:
            return {k: v for k, v in fields.items() if v is not None or k not in optional}
    return fields
