"""Every threat that is told of has a defence and a test, and the test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The cells of the table of threats."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    part = text.partition("| Threat | Defence | Test |")[2].partition("\n\n")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names_in(name: str) -> set[str]:
    """The tests of a file."""
    tree = ast.parse((ROOT / "tests" / name).read_text(encoding="utf-8"))
    return {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}


def test_every_threat_names_tests_that_exist() -> None:
    found = rows()
    assert len(found) > 25
    for threat, defence, tests in found:
        named = NAMED.findall(tests)
        assert threat, tests
        assert defence, threat
        assert named, f"{threat}: no test"
        assert len(named) == tests.count("::"), f"{threat}: a test that cannot be read"
        for file, name in named:
            assert name in names_in(file), f"{threat}: there is no {file}::{name}"


def test_the_check_can_fail() -> None:
    assert "test_the_check_can_fail" in names_in("test_threats.py")
    assert "test_that_is_not_there" not in names_in("test_threats.py")
