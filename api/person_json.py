"""What is asked and answered about persons, over HTTP and on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.answers import Answer, Both, DayText, Position
from ledger import marks
from ledger.erasing import Standing
from ledger.errors import Words
from ledger.fields import PUBLISHED, Code, Reference, clean
from ledger.identity import Ref
from ledger.keyring import Epoch
from ledger.privacy import Ground
from ledger.rotation import Terms, last_key_dies_on
from ledger.rulebook import Rulebook

MAX_SOUGHT_CHARACTERS = 200
Sought = Annotated[
    str,
    Field(min_length=1, max_length=MAX_SOUGHT_CHARACTERS, json_schema_extra=PUBLISHED),
    AfterValidator(clean),
]


class PersonRequest(BaseModel):
    """On which ground (a code of the rulebook), and under which number the request is filed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ground: Code
    document: Reference | None = None


class PersonSearch(BaseModel):
    """A text as the person gives it, and the sealed fields to look in; none: all of them.

    Width, case, spaces and hyphens make no difference; anything else does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    text: Sought
    field: Annotated[str, Field(json_schema_extra={"enum": marks.fields()})] | None = None


class PersonsFound(Answer):
    """In whose sealed fields the text stands; complete up to a position of the log."""

    persons: Annotated[list[Ref], Field(max_length=marks.MAX_FOUND)]
    position: Position


class LegalGround(Answer):
    """A code of the rulebook in words, and its article of law."""

    code: str
    zh: str
    en: str
    article: str


class PersonStanding(Answer):
    """How it stands with what is sealed of a person.

    `position` and `on`: of the event that made it so. Held: kept up to and with `until`, on the
    `basis`. Erased: `erased` counts by type the events that held something; the last backup that
    could still be opened cannot any more from the day `backups_end_on`.
    """

    person: Ref
    state: Literal["kept", "held", "erased"]
    position: Position
    on: DayText | None
    ground: LegalGround | None
    until: DayText | None
    basis: LegalGround | None
    erased: dict[str, int] | None
    backups_end_on: DayText | None
    words: Both


MODELS: tuple[type[BaseModel], ...] = (PersonRequest, PersonSearch, PersonsFound, PersonStanding)
"""What the routes of persons take and give, for the published schema."""


def shown(
    standing: Standing, *, book: Rulebook, epochs: Sequence[Epoch], terms: Terms, today: date
) -> dict[str, Any]:
    """A standing as it is answered."""
    tombstone, ends = standing.tombstone, None
    if tombstone is not None and standing.on is not None:
        ends = last_key_dies_on(epochs, terms, erased_on=standing.on, today=today)
    privacy = book.privacy
    ground = _ground(standing.ground, privacy.grounds if privacy else {})
    basis = _ground(standing.basis, privacy.retentions if privacy else {})
    words = _words(standing, basis, ends)
    return {
        "person": standing.person,
        "state": standing.state,
        "position": standing.position,
        "on": _text(standing.on),
        "ground": ground,
        "until": _text(standing.until),
        "basis": basis,
        "erased": None if tombstone is None else dict(tombstone.held),
        "backups_end_on": _text(ends),
        "words": {"zh": words.zh, "en": words.en},
    }


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _ground(code: str | None, named: Mapping[str, Ground]) -> dict[str, str] | None:
    if code is None:
        return None
    # A later rulebook may have dropped the code; then it stands for itself.
    found = named.get(code)
    zh, en, article = (found.zh, found.en, found.article) if found else (code, code, "")
    return {"code": code, "zh": zh, "en": en, "article": article}


def _words(standing: Standing, basis: dict[str, str] | None, ends: date | None) -> Words:
    if standing.state == "held":
        assert basis is not None
        assert standing.until is not None
        return Words(
            f"Not erased yet: {basis['en']} ({basis['article']}). So it is kept until"
            f" {standing.until}, and erased on the day after without being asked for again.",
            f"暂不删除：依据{basis['article']}（{basis['zh']}），须保存至 {standing.until}。"
            "期满次日自动删除，无须再次申请。",
        )
    if standing.state == "erased":
        count = sum(standing.tombstone.held.values()) if standing.tombstone else 0
        backups_en = f" Backups can no longer be opened from {ends} on." if ends else ""
        backups_zh = f"自 {ends} 起，任何备份中的相关内容也无法再解密。" if ends else ""
        return Words(
            f"Erased on {standing.on}: what was sealed in {count} event(s).{backups_en}",
            f"已于 {standing.on} 删除：涉及 {count} 个事件中封存的内容。{backups_zh}",
        )
    return Words("Nothing was erased; no request is open.", "未作删除，亦无待办的删除请求。")
