"""The page of figures: each class is counted by a test, nothing was let through, the sum holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import attack


def of_one(name: str, *good: bool) -> None:
    """Some attacks of a class, of which each was answered well or not."""
    with attack.attacks(name) as tally:
        for number, one in enumerate(good):
            tally.attack(number, "what came", good=one)


def test_every_class_in_the_document_is_counted_by_one_test_and_no_other_is() -> None:
    suites = [
        path.read_text(encoding="utf-8")
        for path in Path(__file__).parent.glob("test_attack_*.py")
        if path != Path(__file__)
    ]
    counted = re.findall(r'attacks\("([a-z-]+)"\)', "\n".join(suites))
    assert sorted(counted) == sorted(attack.figures())
    assert len(counted) >= 25


def test_the_sum_is_the_sum_and_nothing_was_let_through() -> None:
    [(tried, through)] = attack.TOTAL.findall(attack.DOCUMENT.read_text(encoding="utf-8"))
    figures = attack.figures()
    assert attack.number(tried) == sum(one for one, _ in figures.values())
    assert attack.number(through) == sum(one for _, one in figures.values()) == 0
    assert all(one > 0 for one, _ in figures.values())


def test_one_attack_that_gets_through_fails_its_class() -> None:
    with pytest.raises(AssertionError, match="1 let through:\n1: what came"):
        of_one("json", True, False, True)


def test_a_figure_that_nobody_counted_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(attack.WRITE, raising=False)
    with pytest.raises(AssertionError, match="another figure than 1"):
        of_one("json", True)
