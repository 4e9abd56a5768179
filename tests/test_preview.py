"""`chengxin import check`: rows as they would be recorded, and what a mapping does not cover."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import orjson
import pytest
from pydantic import BaseModel

from api.intake.recordable import COMMANDS
from api.labels import CODES, FIELDS, code_words
from api.preview import MAX_DISTINCT, Preview, _desk_without_ledger, plain_digest, preview
from ledger.database import Database
from ledger.evidence import EvidenceDigest
from ledger.rulebook import first_rulebook, parse_rulebook
from ledger.sealing import Sealed
from ledger.store import Ledger
from tests import given
from tests.conftest import Clock, Run
from tests.test_imports import CHICAGO, HEADER, ROOT, chengxin, csv_file, many, mapping
from tests.test_jsonlines import REGISTRATION, WRONG_CHECK, line

MAIN = "from api.start import main; main()"
ROWS = (
    "inspection_id,license,legal_name,inspection_date,results,critical_count,serious_count,"
    "minor_count,weather\n"
    "1,7,INN,2013-01-01,Pass,0,0,1,fine\n"
    "2,7,INN,2013-02-01,Closed,0,0,1,\n"
    "3,0,INN,2013-02-01,Fail,0,1,1,\n"
    "4,8,BAR,2013-02-01,Closed,0,1,1,\n"
    "5,8,BAR,2033-02-01,Pass,0,1,1,\n"
    "6,8,BAR,2013-02-01,Gone,0,1,1,\n"
)


def look(content: str, *, rows: int = 3, **changes: Any) -> Preview:
    """A preview without a ledger."""
    importing = mapping(**changes)
    return preview(
        importing,
        importing.rows(csv_file(content)),
        _desk_without_ledger(importing, given.REGISTRAR, clock=Clock()),
        actor=given.REGISTRAR,
        digest=plain_digest,
        shown=rows,
        advance=lambda tally: None,
    )


def check(*arguments: object, database: Database | None = None, keys: Path, locale: str) -> Any:
    """The command as a process, on a database or on a data directory that is not there."""
    command = ["import", "check", *arguments]
    if database is not None:
        process = chengxin(database, keys, *command)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode(), err.decode()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CHENGXIN_")}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, command), "--data-dir", keys],
        env=environment | {"LC_ALL": locale},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def test_without_a_ledger_the_shipped_rulebook_judges_and_nothing_is_made(
    file: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    code, out, _ = check(CHICAGO, file, keys=nowhere, locale="C.UTF-8")
    assert code == 1
    assert not nowhere.exists()
    lines = out.splitlines()
    assert lines[0] == (
        "rows.csv: judged by the shipped rulebook (there is no ledger here), RB-2026.1;"
        " nothing is written"
    )
    for wanted in (
        "line 2 · US-CHI-7 · would be recorded",
        "  register the provider, where the ledger does not know it",
        "  record an inspection",
        "    inspection no. (inspection): CHI-1",
        "    on (on): 2013-01-01",
        "    result (result): CLEAN (clean)",
        "    issuer, kind (issuer.kind): REGULATOR (regulator)",
        "line 3 · US-CHI-7 · would be refused",
        "  ! result: 'Closed' is not in the value table, which has 'Pass', 'Pass w/ Conditions',"
        " 'Fail' [not-in-table]",
        "Values that a table does not have:",
        "  result: 'Closed' (2 rows, first in line 3)",
        "  result: 'Gone' (1 row, first in line 7)",
        "Columns that nothing uses: weather",
    ):
        assert wanted in lines, wanted
    assert any("[date-in-future] (1 row, first in line 6)" in line for line in lines)
    assert lines[-1].startswith("6 rows, 1 would be recorded, 1 subject new, ")


def test_in_chinese(file: Path, tmp_path: Path) -> None:
    _, out, _ = check(CHICAGO, file, "--rows", 1, keys=tmp_path / "nowhere", locale="zh_CN.UTF-8")
    lines = out.splitlines()
    for wanted in (
        "rows.csv：按自带的规则（此处没有账本） RB-2026.1 检查，不写入",
        "第 2 行 · US-CHI-7 · 将记录",
        "  记录检查",
        "    检查结果（result）：CLEAN（未发现问题）",
        "取值表中没有的值：",
        "  result：'Closed'（2 行，首见于第 3 行）",
        "未使用的列：weather",
    ):
        assert wanted in lines, wanted
    assert not [line for line in lines if line.startswith("第 3 行")]


def test_on_a_ledger_its_own_rows_and_rules_count_and_nothing_is_written(
    file: Path, tmp_path: Path, database: Database, ledger: Ledger, desk: Any, run: Run
) -> None:
    run(desk.open_ledger(given.opening(purpose="test-data"), given.REGISTRAR))
    process = chengxin(database, tmp_path / "keys", "import", file, "--mapping", CHICAGO)
    process.communicate(timeout=60)
    head = ledger.head()
    assert head == 3
    code, out, _ = check(
        CHICAGO, file, "--json", database=database, keys=tmp_path / "keys", locale="C"
    )
    assert code == 1
    assert ledger.head() == head
    told = orjson.loads(out)
    assert (told["ledger"], told["rulebook"]) == (True, "RB-2026.1")
    assert [(one["line"], one["state"]) for one in told["rows"]] == [
        (2, "recorded-before"),
        (3, "refused"),
        (4, "refused"),
    ]
    [command] = told["rows"][0]["commands"]
    assert command["does"] == "record an inspection"
    assert command["data"]["result"] == "CLEAN"
    assert told["rows"][0]["registration"] == {
        "name": "INN", "entity_kind": "ENTERPRISE", "origin": "IMPORT",
    }  # fmt: skip
    assert told["unknown_values"] == [
        {"field": "result", "value": "Closed", "rows": 2, "first_line": 3},
        {"field": "result", "value": "Gone", "rows": 1, "first_line": 7},
    ]
    assert {(one["field"], one["code"]) for one in told["problems"]} == {
        ("identifier", "missing"),
        ("on", "date-in-future"),
    }
    assert told["unused_columns"] == ["weather"]
    assert (told["tally"]["already_recorded"], told["tally"]["refused"]) == (1, 5)


def test_whoever_has_the_name_of_somebody_in_the_ledger_is_for_a_person(
    file: Path, tmp_path: Path, database: Database, desk: Any, run: Run
) -> None:
    run(desk.open_ledger(given.opening(purpose="test-data"), given.REGISTRAR))
    run(desk.record(given.PROVIDER, given.register(name="Inn"), given.REGISTRAR))
    doubtful = tmp_path / "doubtful.toml"
    doubtful.write_text(f'{CHICAGO.read_text()}\n[doubles]\nname = "legal_name"\n')
    _, out, _ = check(
        doubtful, file, "--json", database=database, keys=tmp_path / "keys", locale="C"
    )
    told = orjson.loads(out)
    assert told["rows"][0]["state"] == "quarantined"
    assert told["tally"]["quarantined"] == 1
    assert ("identifier", "possible-double") in {
        (one["field"], one["code"]) for one in told["problems"]
    }


def test_a_ledger_of_another_purpose_is_told(
    file: Path, tmp_path: Path, opened: Ledger, database: Database
) -> None:
    code, out, err = check(CHICAGO, file, database=database, keys=tmp_path / "keys", locale="C")
    assert (code, out) == (1, "")
    assert "[wrong-purpose]" in err


def test_a_database_without_a_ledger_is_judged_by_the_shipped_rulebook(
    file: Path, tmp_path: Path, ledger: Ledger, database: Database
) -> None:
    _, out, _ = check(
        CHICAGO, file, "--json", database=database, keys=tmp_path / "keys", locale="C"
    )
    assert orjson.loads(out)["ledger"] is False
    assert ledger.head() == 0


def test_a_file_that_does_not_fit_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    code, out, err = check(CHICAGO, path, keys=tmp_path / "nowhere", locale="C.UTF-8")
    assert (code, out) == (2, "")
    assert "the file has no column 'inspection_date'" in err


def test_a_file_in_a_known_form_and_json_lines_need_no_mapping(tmp_path: Path) -> None:
    form = ROOT / "tests" / "data" / "shuanggongshi-penalty.csv"
    code, out, _ = check(form, keys=tmp_path / "nowhere", locale="zh_CN.UTF-8")
    assert code == 1
    assert "第 3 行 · 91999999MA00FRM02R · 将修补后记录" in out
    assert "    违法失信事项（family）：AD_FALSE_CLAIM（虚假宣传）" in out
    assert "取值表中没有的值：\n  category：'未按规定办理备案'（1 行，" in out
    lines = tmp_path / "rows.jsonl"
    lines.write_bytes(line(registration=REGISTRATION) + b"\n{\n")
    code, out, _ = check(lines, "--json", keys=tmp_path / "nowhere", locale="C.UTF-8")
    told = orjson.loads(out)
    assert (code, told["unused_columns"]) == (1, [])
    assert [one["state"] for one in told["rows"]] == ["recorded", "refused"]
    assert [(one["field"], one["code"]) for one in told["problems"]] == [("line", "unparsable")]
    unknown = tmp_path / "rows.csv"
    unknown.write_text("a,b\n1,2\n")
    code, _, err = check(unknown, keys=tmp_path / "nowhere", locale="C.UTF-8")
    assert code == 2
    assert "name its --mapping" in err


# --- Over the whole file -------------------------------------------------------------------------


def test_every_unknown_value_is_counted_over_the_whole_file() -> None:
    rows = many(2_500, 40).splitlines()
    for at, value in ((1_200, "new"), (1_201, "new"), (2_400, "newer"), (2_500, "new")):
        rows[at] = rows[at].replace(",ok,", f",{value},")
    found = look("\n".join(rows))
    assert {key: (one.rows, one.first_line) for key, one in found.unknown.items()} == {
        ("result", "new"): (3, 1_201),
        ("result", "newer"): (1, 2_401),
    }
    assert found.reasons == {}
    assert (found.tally.recorded, found.tally.refused, found.tally.registered) == (2_496, 4, 40)
    assert list(found.rows) == list(found.outcomes) == [2, 3, 4]


def test_each_part_of_a_list_is_looked_up_by_itself() -> None:
    penalty = {
        "command": "penalty",
        "fields": {
            "issuer": {"kind": "REGULATOR", "name": "City"},
            "document_no": {"column": "no"},
            "evidence": {"digest_of_row": "CITY"},
            "incident": {"column": "no"},
            "category": "ADVERT",
            "family": {"column": "name", "values": {"假广告": "AD_FALSE_CLAIM"}},
            "severity": "S2",
            "law_article": "第五十五条",
            "occurred_on": {"column": "day"},
            "decided_on": {"column": "day"},
            "served_on": {"column": "day"},
            "mitigation": {
                "column": "result", "split": "、", "values": {"自首": "SELF_REPORTED"},
            },
            "obligation": False,
        },
    }  # fmt: skip
    register = {"command": "register", "fields": {"name": "示例", "entity_kind": "ENTERPRISE"}}
    content = f"{HEADER}\n1,7,假广告,2026-01-01,自首、赔偿,0\n2,7,新事项,2026-01-01,自首,0\n"
    found = look(content, record=[register, penalty])
    # A kind of finding that no item of the rulebook stands for is told, never guessed.
    assert set(found.unknown) == {("mitigation", "赔偿"), ("family", "新事项")}
    assert found.tally.refused == 2


def test_what_a_person_would_have_to_judge_is_told_so() -> None:
    rows = f"{HEADER}\n1,{WRONG_CHECK},Inn,2013-01-01,ok,0\n"
    found = look(rows, identifier={"column": "firm"})
    assert (found.tally.quarantined, found.tally.refused) == (1, 0)
    assert found.outcomes[2].state == "quarantined"
    assert set(found.reasons) == {("identifier", "invalid-identifier")}


def test_what_is_told_apart_is_bounded() -> None:
    rows = [f"{n},7,Inn,2013-01-01,v{n},0" for n in range(MAX_DISTINCT + 200)]
    found = look("\n".join([HEADER, *rows]), rows=0)
    assert (len(found.unknown), found.untold) == (MAX_DISTINCT, 200)
    assert found.tally.refused == MAX_DISTINCT + 200
    assert not found.rows


def test_rows_before_it_count_for_a_row_that_is_judged() -> None:
    rows = f"{HEADER}\n1,7,Inn,2013-01-01,ok,0\n1,7,Inn,2013-01-02,ok,0\n"
    found = look(rows, row={"key": ["no", "day"]})
    assert set(found.reasons) == {("record", "duplicate-fact")}
    assert found.outcomes[3].state == "refused"


# --- Words ---------------------------------------------------------------------------------------


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a command, those of its parts by their paths."""
    for name, info in model.model_fields.items():
        inner = [
            one
            for one in (info.annotation, *get_args(info.annotation))
            if isinstance(one, type)
            and issubclass(one, BaseModel)
            and one not in (EvidenceDigest, Sealed)
        ]
        if inner:
            yield from fields_of(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info.annotation


def test_every_field_of_every_command_has_a_name_and_every_code_its_words() -> None:
    book = parse_rulebook(first_rulebook())
    seen = set()
    for model in COMMANDS.values():
        for path, annotation in fields_of(model):
            seen.update(path.split("."))
            if get_origin(annotation) is Literal:
                for code in get_args(annotation):
                    assert code_words(path, code, book), f"{path}: {code}"
    assert seen - set(FIELDS) == set()
    assert all(one.en and one.zh for one in FIELDS.values())
    assert all(one.en and one.zh for codes in CODES.values() for one in codes.values())


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("family", "AD_FALSE_CLAIM"),
        ("severity", "S2"),
        ("category", "ADVERT"),
        ("finding.issuer.kind", "PLATFORM"),
        ("mitigation", "SELF_REPORTED"),
        ("item", "REGULATOR_HONOUR"),
    ],
)
def test_what_the_rulebook_defines_it_names(path: str, code: str) -> None:
    told = code_words(path, code, parse_rulebook(first_rulebook()))
    assert told is not None
    assert told.zh != told.en != code
    assert code_words(path, "NO_SUCH_CODE", parse_rulebook(first_rulebook())) is None
