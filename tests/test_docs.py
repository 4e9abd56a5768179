"""The documents name all there is: routes, roles, settings, errors, commands, event types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import typer

from api import delivery
from api.cli import app as commands
from api.intake.jsonlines import ACTS, FACTS, ImportLine
from api.lineanswers import ImportSummary, LineAnswer
from api.openapi import READS
from api.problems import refusals_by_code
from api.quarantine_routes import ACTS as QUARANTINE_ACTS
from api.quarantine_routes import READS as QUARANTINE_READS
from api.quarantine_routes import Act
from api.settings import PREFIX, Settings
from api.titles import TITLES
from api.writes import WRITES, Write
from ledger.vocabulary import EVENT_TYPES
from projections.facts import MEANINGS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.path)
def test_every_write_stands_in_the_api_document_with_its_roles(write: Write) -> None:
    (row,) = [line for line in text_of("api.md").splitlines() if f"`POST {write.path}`" in line]
    assert row.endswith(f"| {', '.join(write.roles)} |")


def test_the_import_stands_in_the_api_document_with_every_state_and_member() -> None:
    text = text_of("api.md")
    assert f"| `POST {delivery.PATH}` |" in text
    for state in get_args(LineAnswer.model_fields["state"].annotation):
        assert f"`{state}`" in text, state
    for name in (*LineAnswer.model_fields, *ImportSummary.model_fields):
        assert f'"{name}"' in text or f"`{name}`" in text, name
    lines = text_of("imports/jsonlines.md")
    missing = [
        name for name in (*FACTS, *ACTS, *ImportLine.model_fields) if f"`{name}`" not in lines
    ]
    assert not missing


def test_every_read_stands_in_the_api_document() -> None:
    assert len(READS) >= 10
    missing = [path for path in READS if f"GET {path}" not in text_of("api.md")]
    assert not missing


@pytest.mark.parametrize("act", QUARANTINE_ACTS, ids=lambda act: act.path)
def test_every_verdict_stands_in_the_api_document(act: Act) -> None:
    assert f"| `POST {act.path}` |" in text_of("api.md")


@pytest.mark.parametrize("path", QUARANTINE_READS)
def test_what_is_read_of_the_quarantine_stands_in_the_api_document(path: str) -> None:
    assert f"| `GET {path}` |" in text_of("api.md")


def test_every_setting_stands_in_the_settings_document_with_its_default() -> None:
    text = text_of("settings.md")
    for name, info in Settings.model_fields.items():
        (row,) = [
            line for line in text.splitlines() if line.startswith(f"| `{PREFIX}{name.upper()}` |")
        ]
        if info.default not in (None, "") and info.default_factory is None:
            assert f"| `{info.default}` |" in row
        assert " ".join((info.description or "").split()) in row


def test_every_problem_stands_in_the_errors_document_and_nothing_else() -> None:
    text = text_of("errors.md")
    rows = re.findall(r'<a id="([a-z-]+)"></a>`([a-z-]+)` \| (\d+) \|', text)
    listed = {code: int(status) for _, code, status in rows}
    known = {code: error.status for code, error in refusals_by_code().items()}
    assert listed == known
    assert all(anchor == code for anchor, code, _ in rows)
    assert len(rows) == len(listed) == text.count("<a id="), "one anchor a code"
    for code, title in TITLES.items():
        assert f"| {known[code]} | {title.name.en} | {title.name.zh} |" in text, code


def test_every_command_stands_in_the_cli_document() -> None:
    group = typer.main.get_command(commands)
    names = sorted(group.commands)  # type: ignore[attr-defined]
    assert len(names) >= 9
    text = text_of("cli.md")
    missing = [name for name in names if f"\n## {name}\n" not in text]
    assert not missing


def test_every_event_type_stands_in_the_events_document_with_its_meaning() -> None:
    rows = dict(
        re.findall(
            r"^\| `([a-z_.0-9]+)` \| [^|]+ \| ([^|]+) \|", text_of("events.md"), re.MULTILINE
        )
    )
    types = {name for name in rows if name.endswith(".v1")}
    assert types == set(EVENT_TYPES) == set(MEANINGS)
    for name in types:
        nothing = MEANINGS[name]({"data": {}}) if "_nothing" in MEANINGS[name].__name__ else None
        assert (nothing == []) == rows[name].startswith("–"), name


def test_the_links_between_the_documents_lead_somewhere() -> None:
    for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_picture_is_of_invented_data_and_says_so() -> None:
    """Real sets are no material for pictures, not even to show the system (docs/imports)."""
    pages = [path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"))]
    shown = [found for text in pages for found in re.findall(r"!\[(.*?)\]\((.*?)\)", text)]
    assert shown
    assert all("invented" in caption for caption, _ in shown)
    assert {path.name for path in DOCS.rglob("*.png")} == {Path(target).name for _, target in shown}
