"""What others wrote, shown on the operator's terminal: it must do nothing there but be read.

A row of another register, a file's name, an argument: each may hold sequences that clear the
screen, set the title, write where something else stands, or turn the reading direction around.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledger.database import Database
from ledger.store import Ledger
from tests import given
from tests.attack import attacks
from tests.test_cli import Chengxin, chengxin  # noqa: F401  a fixture
from tests.test_quarantine import HEADER, PENALTIES

SEQUENCES = {
    "clear the screen": "\x1b[2J\x1b[H",
    "set the title": "\x1b]0;owned\x07",
    "hide": "\x1b[8m",
    "one byte CSI": "\x9b2J",
    "one byte OSC": "\x9d0;owned\x9c",
    "write over": "ok\rbad",
    "go back": "bad\b\b\bok",
    "bell": "\x07",
    "turn around": "\u202egnp.exe",
    "isolate": "\u2066x\u2069",
    "hidden tag": "\U000e0041\U000e0042",
    "delete": "\x7f\x7f",
    "device control": "\x1bP+q\x1b\\",
    "hyperlink": "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "a line of its own": "x\u2028y\u2029z",
    "zero width": "a\u200bb\ufeffc",
}
HARMFUL = frozenset("".join(SEQUENCES.values())) - frozenset(
    map(chr, (*range(0x20, 0x7F), 0x0A, 0x0D))
)


def harmful(*texts: str) -> list[str]:
    """What of it a terminal would obey."""
    return sorted({one for text in texts for one in text if one in HARMFUL or one == "\r"})


@pytest.fixture
def on(database: Database, opened: Ledger) -> dict[str, str]:
    """The setting that names an opened ledger."""
    return {"CHENGXIN_DATABASE_URL": database.conninfo}


def test_nothing_that_is_shown_works_on_the_terminal(
    chengxin: Chengxin,  # noqa: F811
    on: dict[str, str],
    tmp_path: Path,
) -> None:
    mapping = tmp_path / "m.toml"
    mapping.write_text(PENALTIES, encoding="utf-8")
    rows = tmp_path / "rows\x1b[2J\u202e.csv"
    wrong = given.PROVIDER[:-1] + "J"
    cells = [
        f'{n},{wrong},示例公司,"{text}",,2026-01-06\n'
        for n, text in enumerate(SEQUENCES.values(), 1)
    ]
    rows.write_text(HEADER + "".join(cells), encoding="utf-8", newline="")
    with attacks("terminal") as tally:
        shown = [
            chengxin("import", "check", mapping, rows, "--rows", "20", **on),
            chengxin("import", rows, "--mapping", mapping, **on),
            chengxin("quarantine", "list", "--json", **on),
            chengxin("quarantine", "list", **on),
            chengxin("quarantine", "list", **on, LC_ALL="zh_CN.UTF-8"),
        ]
        shown += [chengxin("quarantine", "show", n, **on) for n in range(1, len(SEQUENCES) + 1, 4)]
        for done in shown:
            out = harmful(done.stdout, done.stderr)
            tally.attack(done.args[3:6], (out, done.stderr[-300:]), good=not out)
        assert all("\\x1b[2J" in done.stdout for done in shown[3:]), "told, and not left out"
        assert len(shown[3].stdout.splitlines()) >= len(SEQUENCES)
        for what, text in SEQUENCES.items():
            for arguments in (
                ("import", f"{text}.csv"),
                ("import", rows, "--org", text),
                ("quarantine", "list", "--import", text),
                ("token", "--role", text, "--org", "CN-REG-1"),
            ):
                if what in ("clear the screen", "one byte CSI", "turn around", "write over"):
                    done = chengxin(*arguments, **on)
                    out = harmful(done.stdout, done.stderr)
                    tally.attack((what, arguments[0]), (out, done.stderr), good=not out)


def test_a_name_that_the_system_cannot_decode_is_told_and_harmless(
    chengxin: Chengxin,  # noqa: F811
    on: dict[str, str],
    tmp_path: Path,
) -> None:
    path = os.fsencode(tmp_path) + b"/\x1b[2J\xff\xfe.csv"
    with attacks("terminal-names") as tally:
        done = chengxin("import", os.fsdecode(path), **on)
        out = harmful(done.stdout, done.stderr)
        good = not out and done.returncode in (1, 2) and "Traceback" not in done.stderr
        tally.attack("a name of other bytes", done.stderr, good=good)
