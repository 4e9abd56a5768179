"""What is wrong with a mapping file, in words: each reason with its place, English and Chinese.

What pydantic finds is in its own words, which are English; all else is ours and in both languages.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from ledger.errors import Words


class Unfit(ValueError):
    """Something the mapping says cannot be used, for this reason."""

    def __init__(self, en: str, zh: str) -> None:
        super().__init__(en)
        self.reason = Words(en, zh)


class MappingError(Unfit):
    """The mapping cannot be used; the message has every reason."""


def reason_of(error: Exception) -> Words:
    """The reason that an error brings along; else its message, whatever its language."""
    return error.reason if isinstance(error, Unfit) else Words(str(error), str(error))


def placed(where: str, en: str, zh: str) -> Words:
    """A reason with its place before it."""
    return Words(f"{where}: {en}", f"{where.replace(': ', '：')}：{zh}")


def joined(reasons: Iterable[Words]) -> Words:
    """All reasons as one."""
    each = list(reasons)
    return Words("; ".join(one.en for one in each), "；".join(one.zh for one in each))


def reasons_of(error: ValidationError) -> list[Words]:
    """Each of a model's complaints with its place."""
    found = []
    for one in error.errors():
        cause = one.get("ctx", {}).get("error")
        zh = cause.reason.zh if isinstance(cause, Unfit) else one["msg"]
        # Of a complaint about the whole there is no place.
        where = ".".join(map(str, one["loc"]))
        found.append(placed(where, one["msg"], zh) if where else Words(one["msg"], zh))
    return found
