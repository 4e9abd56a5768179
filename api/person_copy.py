"""The copy of somebody's own data (PIPL 45): every sealed text, where it stands and why it is kept.

One JSON document, in words of both languages, to be handed to the person. Described in
`docs/privacy.md`. Reads the vault and the log; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from api.answers import Answer, Both, DayText, Position
from api.intake.sought import SoughtRows
from api.labels import field_words
from ledger.calendar import local_day
from ledger.dossier import Dossiers
from ledger.envelope import Event
from ledger.erasing import Erasures
from ledger.errors import Words
from ledger.identity import Ref
from ledger.person_log import PersonLog
from ledger.private import groups
from ledger.rulebook import Rulebook
from ledger.store import Ledger
from ledger.vault import Opened

FORMAT = "chengxin.person-copy.v1"
LAW = "《个人信息保护法》第四十五条"
WHY: dict[str, Words] = {
    "Complainant": Words(
        "to tell you what became of your complaint, and to check it with you",
        "用于向您告知投诉处理结果并与您核实情况",
    ),
    "Contact": Words("to reach the provider through you", "用于通过您联系服务商"),
    "Operator": Words("to identify who runs an individual business", "用于识别个体工商户的经营者"),
    "Agreement": Words(
        "to prove what was agreed, and to count your contract once",
        "用于证明合同约定的内容，并确保同一相对方的合同只计一次",
    ),
    "Description": Words("to say what can be seen on a piece of evidence", "用于说明证据所载内容"),
    "Remark": Words("to give the reasons of a finding", "用于说明认定的理由"),
}
"""Why a group of sealed fields is kept, by its name."""
ABOUT = Words(
    "All that this ledger holds of you in sealed form. It is shown to whoever may see the event and"
    " is entitled to its sealed fields, never to the public. You may ask to have it corrected or"
    " erased.",
    "本账本以封存形式保存的与您有关的全部内容。仅有权查阅相应事件封存内容的人员可见，不向公众展示。"
    "您可以请求更正或者删除。",
)


class CopiedText(Answer):
    """One text: in which event and field, why it is kept, and until when it must be."""

    event: Ref
    position: Position
    type: str
    recorded_on: DayText
    provider: str | None
    path: str
    field: Both
    text: str
    why: Both
    kept_until: DayText | None
    basis: str | None


class CopiedRow(Answer):
    """A row of an import that waits in quarantine: where it stood, and what it says."""

    row: Annotated[int, Field(ge=1)]
    organisation: str
    import_: Annotated[str, Field(alias="import")]
    file: str
    line: int
    quarantined_on: DayText
    cells: dict[str, str]


class PersonCopy(Answer):
    """Everything that is sealed of a person, for that person."""

    format: Literal["chengxin.person-copy.v1"]
    person: Ref
    state: Literal["kept", "held", "erased"]
    made_on: DayText
    position: Position
    law: str
    about: Both
    texts: Annotated[list[CopiedText], Field(description="In the order of the log.")]
    rows: Annotated[list[CopiedRow], Field(description="Of a row in quarantine, itself.")]


MODELS = (CopiedText, CopiedRow, PersonCopy)


class Copies:
    """Makes copies."""

    def __init__(
        self, ledger: Ledger, erasures: Erasures, *, clock: Callable[[], datetime]
    ) -> None:
        self._vault, self._erasures = ledger.vault, erasures
        self._log = PersonLog(ledger, clock=clock)
        self._dossiers = Dossiers(ledger.vault)
        self._rows = SoughtRows(ledger)

    def of(self, person: str) -> dict[str, Any]:
        """The copy of one person, as `PersonCopy` describes it.

        Raises UnknownPerson, SealingOff, VaultKeyMissing, SealBroken or Unavailable.
        """
        standing = self._erasures.standing(person)
        ids = self._dossiers.events(person)
        opened = self._vault.open(ids, held=True)
        book = self._log.book()
        texts: list[dict[str, Any]] = []
        for position, event in self._log.of_ids(ids):
            mine = [one for one in opened.get(event.id, []) if one.person == person]
            texts += _texts(event, position, mine, book)
        return {
            "format": FORMAT,
            "person": person,
            "state": standing.state,
            "made_on": self._log.today().isoformat(),
            "position": self._log.head(),
            "law": LAW,
            "about": {"zh": ABOUT.zh, "en": ABOUT.en},
            "texts": texts,
            "rows": self._rows.copied(person),
        }


def _texts(
    event: Event, position: int, opened: list[Opened], book: Rulebook
) -> Iterator[dict[str, Any]]:
    assert event.time is not None
    why = {place.path: WHY[type(place.group).__name__] for place in groups(event.data)}
    duty = book.privacy.duty([event]) if book.privacy else None
    for one in opened:
        field, reason = (
            field_words(one.path[1:].replace("/", ".")),
            why[one.path.rpartition("/")[0]],
        )
        yield {
            "event": event.id,
            "position": position,
            "type": event.type,
            "recorded_on": local_day(event.time).isoformat(),
            "provider": event.subject,
            "path": one.path,
            "field": {"zh": field.zh, "en": field.en},
            "text": one.text,
            "why": {"zh": reason.zh, "en": reason.en},
            "kept_until": None if duty is None else duty.until.isoformat(),
            "basis": None if duty is None else duty.basis,
        }
