"""A preview as a person reads it, in the user's language, and as one JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from api.importing import BECAME, summary
from api.intake.rows import Problem, Row, Unread
from api.intake.tally import Outcome
from api.labels import code_words, field_words
from api.preview import Counted, Preview
from api.terminal import told, words
from api.writes import WRITES, RegisterProvider
from ledger import events
from ledger.errors import Words
from ledger.events import Data
from ledger.rulebook import Rulebook

DOES = {write.command: write.does for write in WRITES}
REGISTRATION = Words(
    "register the provider, where the ledger does not know it", "登记服务商（账本中尚无时）"
)
WOULD = {
    **BECAME,
    "recorded": Words("would be recorded", "将记录"),
    "proposed": Words("would be proposed to a second officer", "将提请另一名工作人员决定"),
    "repaired": Words("would be recorded as repaired", "将修补后记录"),
    "recorded-before": Words("recorded before", "此前已记录"),
    "repeated": Words("repeated in the file", "在文件中重复"),
    "skipped": Words("would be skipped", "将跳过"),
    "refused": Words("would be refused", "将被拒绝"),
}
OF_LEDGER = Words("the ledger's rulebook", "本账本的规则")
SHIPPED = Words("the shipped rulebook (there is no ledger here),", "自带的规则（此处没有账本）")
SHOWN_DIGEST_CHARACTERS = 12


def text_of(preview: Preview, name: str, *, on_ledger: bool) -> Iterator[str]:
    """The preview in lines."""
    rulebook = preview.rulebook
    assert rulebook is not None
    on = told(OF_LEDGER if on_ledger else SHIPPED)
    yield words(
        f"{name}: judged by {on} {rulebook.version}; nothing is written",
        f"{name}：按{on} {rulebook.version} 检查，不写入",
    )
    for line, row in preview.rows.items():
        yield ""
        yield from _row(row, preview.outcomes[line], rulebook)
    yield from _table(
        words("Values that a table does not have", "取值表中没有的值"),
        [
            (words(f"{field}: ", f"{field}：") + repr(value), one)
            for (field, value), one in preview.unknown.items()
        ],
    )
    yield from _table(
        words("Other reasons and repairs", "其他原因与修补"),
        [(_reason(one.example), one) for one in preview.reasons.values()],
    )
    if preview.untold:
        yield words(f"  … and {preview.untold:,} more", f"  ……另有 {preview.untold:,} 处")
    if preview.unused:
        names = words(", ", "、").join(preview.unused)
        yield ""
        yield words(f"Columns that nothing uses: {names}", f"未使用的列：{names}")
    yield ""
    yield summary(preview.tally, dry_run=True)


def _row(row: Row | Unread, outcome: Outcome, rulebook: Rulebook) -> Iterator[str]:
    became = told(WOULD[outcome.state])
    yield words(f"line {row.line}", f"第 {row.line} 行") + f" · {row.subject or '?'} · {became}"
    if isinstance(row, Row):
        if row.registration is not None:
            yield f"  {told(REGISTRATION)}"
            yield from fields_in_words(row.registration, rulebook)
        for data, _ in row.entries:
            yield f"  {told(_does(data))}"
            yield from fields_in_words(data, rulebook)
    for one in outcome.problems:
        yield f"  ! {_reason(one)}"


def _reason(one: Problem) -> str:
    return words(f"{one.field}: ", f"{one.field}：") + f"{told(one.reason)} [{one.code}]"


def _does(data: Data) -> Words:
    model = RegisterProvider if isinstance(data, events.ProviderRegistered) else type(data)
    return DOES[model]


def fields_in_words(data: Data, rulebook: Rulebook) -> Iterator[str]:
    """The fields of a command with their values, a line each."""
    for path, value in leaves(data.model_dump(mode="json", exclude_none=True)):
        name = told(field_words(path)) + _in_brackets(path)
        yield f"    {name}{words(': ', '：')}{_value(path, value, rulebook)}"


def leaves(written: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a command with their values, those of its parts by their paths."""
    for name, value in written.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and "sha256" not in value:
            yield from leaves(value, f"{path}.")
        elif value != []:
            yield path, value


def _value(path: str, value: Any, rulebook: Rulebook) -> str:
    if isinstance(value, list):
        return words(", ", "、").join(_value(path, one, rulebook) for one in value)
    if isinstance(value, dict):
        short = value["sha256"][:SHOWN_DIGEST_CHARACTERS]
        size = f"{value['size_bytes']:,} {words('bytes', '字节')}"
        about = words(", ", "，").join([value["media_type"], size, value["custodian"]])
        return f"SHA-256 {short}…{_in_brackets(about)}"
    if isinstance(value, bool):
        return words("yes", "是") if value else words("no", "否")
    meaning = code_words(path, str(value), rulebook)
    return str(value) if meaning is None else f"{value}{_in_brackets(told(meaning))}"


def _in_brackets(text: str) -> str:
    return words(f" ({text})", f"（{text}）")


def _table(title: str, rows: list[tuple[str, Counted]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield title + words(":", "：")
    for text, one in sorted(rows, key=lambda row: -row[1].rows):
        count = words(
            f"{one.rows:,} {'row' if one.rows == 1 else 'rows'}, first in line {one.first_line}",
            f"{one.rows:,} 行，首见于第 {one.first_line} 行",
        )
        yield f"  {text}{_in_brackets(count)}"


def json_of(preview: Preview, *, on_ledger: bool) -> dict[str, Any]:
    """The preview as plain data; reasons are in both languages."""
    assert preview.rulebook is not None
    return {
        "rulebook": preview.rulebook.version,
        "ledger": on_ledger,
        "rows": [_json_row(row, preview.outcomes[line]) for line, row in preview.rows.items()],
        "unknown_values": [
            {"field": field, "value": value, "rows": one.rows, "first_line": one.first_line}
            for (field, value), one in preview.unknown.items()
        ],
        "problems": [
            {"field": field, "code": code, "rows": one.rows, "first_line": one.first_line}
            | _both(one.example.reason)
            for (field, code), one in preview.reasons.items()
        ],
        "not_told_apart": preview.untold,
        "unused_columns": preview.unused,
        "tally": asdict(preview.tally),
    }


def _json_row(row: Row | Unread, outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {
        "line": row.line,
        "identifier": row.subject,
        "state": outcome.state,
        "registration": None,
        "commands": [],
        "problems": [
            {"field": one.field, "code": one.code} | _both(one.reason) for one in outcome.problems
        ],
    }
    if isinstance(row, Row):
        if row.registration is not None:
            told["registration"] = row.registration.model_dump(mode="json", exclude_none=True)
        told["commands"] = [
            {"does": _does(data).en, "data": data.model_dump(mode="json")}
            for data, _ in row.entries
        ]
    return told


def _both(reason: Words) -> dict[str, str]:
    return {"reason": reason.en, "reason_zh": reason.zh}
