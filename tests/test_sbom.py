"""The list of what the product is made of: that of the lock, always the same, without GPL."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sbom import ROOT, Locked, UnknownLicence, document, licence_of, locked
from tests.test_architecture import ALLOWED_LICENCES, MPL, MPL_PACKAGES, locked_names

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
GPL = re.compile(r"(?<!L)GPL")


@pytest.fixture(scope="module")
def bom() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document())
    return found


def test_it_lists_the_lock_and_nothing_else(bom: dict[str, Any]) -> None:
    listed = {one["name"]: one for one in bom["components"]}
    assert sorted(listed) == sorted(locked_names("requirements.lock"))
    for name, one in listed.items():
        assert f"\n{name}=={one['version']}" in f"\n{LOCK}"
        assert one["purl"] == one["bom-ref"] == f"pkg:pypi/{name}@{one['version']}"
    hashes = [entry["content"] for one in bom["components"] for entry in one["hashes"]]
    assert sorted(set(hashes)) == sorted(set(re.findall(r"sha256:([0-9a-f]{64})", LOCK)))
    assert all(one["hashes"] for one in bom["components"])
    assert set(bom["dependencies"][0]["dependsOn"]) == {one["purl"] for one in listed.values()}


def test_every_licence_is_one_we_may_use(bom: dict[str, Any]) -> None:
    for one in bom["components"]:
        (licence,) = one["licenses"]
        terms = set(re.findall(r"[\w.+-]+", licence["expression"])) - {"AND", "OR", "WITH"}
        assert not GPL.search(licence["expression"]), one["name"]
        allowed = ALLOWED_LICENCES | (MPL if one["name"] in MPL_PACKAGES else set())
        assert terms <= allowed, one["name"]


def test_the_search_for_gpl_can_find() -> None:
    assert GPL.search("GPL-3.0-only")
    assert GPL.search("MIT OR AGPL-3.0-only")
    assert not GPL.search("LGPL-3.0-only")


def test_the_same_lock_gives_the_same_bytes(tmp_path: Path) -> None:
    assert document() == document()
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    assert document(tmp_path) == document()
    (tmp_path / "requirements.lock").write_text(f"{LOCK}\n", encoding="utf-8")
    other, own = json.loads(document(tmp_path)), json.loads(document())
    assert other["serialNumber"] != own["serialNumber"]


def test_a_licence_is_never_guessed() -> None:
    with pytest.raises(UnknownLicence, match="nowhere is not installed"):
        licence_of(Locked("nowhere", "1", "", ()))


def test_a_lock_is_read_whole() -> None:
    text = (
        "# made by\none==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:" + "a" * 64 + " \\\n"
        "    --hash=sha256:"
        + "b" * 64
        + "\n    # via x\ntwo-b==2.1 \\\n    --hash=sha256:"
        + "c" * 64
        + "\n"
    )
    assert list(locked(text)) == [
        Locked("one", "1.0", "sys_platform == 'win32'", ("a" * 64, "b" * 64)),
        Locked("two-b", "2.1", "", ("c" * 64,)),
    ]
