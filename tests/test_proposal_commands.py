"""`chengxin proposals`: imports propose; another person approves all of it, one, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from ledger.envelope import decode
from ledger.events import SevereListEntered, provider_stream
from ledger.handle import Desk
from ledger.proposal import ProposalMade, ProposalRefused, ProposalWithdrawn
from ledger.second_officer import breaches
from ledger.store import Ledger
from projections.runner import migrate_projections
from tests import given
from tests.conftest import Run
from tests.test_cli import Chengxin, chengxin, on

__all__ = ["chengxin", "on"]
FIRST = "0198c7a0-0000-4000-8000-000000000001"
SECOND = "0198c7a0-0000-4000-8000-000000000002"


@pytest.fixture
def listings(tmp_path: Path, ledger: Ledger, desk: Desk, run: Run) -> Path:
    """A file that lists three providers, one of them with an inspection too."""
    migrate_projections(ledger.database)
    run(desk.open_ledger(given.opening(), given.REGISTRAR))
    rows: list[dict[str, Any]] = []
    for number, provider in enumerate(given.PROVIDERS[:3]):
        body = given.listing(document_no=f"示市监严列〔2026〕{number}号").model_dump(mode="json")
        names = {"name": f"示例{number}文化传媒有限公司", "entity_kind": "ENTERPRISE"}
        line = {"key": f"l-{number}", "identifier": provider, "command": "listing"}
        rows.append({**line, "data": body, "registration": names})
    inspection = given.inspection().model_dump(mode="json")
    line = {"key": "i-0", "identifier": given.PROVIDERS[0], "command": "inspection"}
    rows.append({**line, "data": inspection})
    file = tmp_path / "listings.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return file


def events(ledger: Ledger, kind: type[Any]) -> list[Any]:
    log = [decode(one.state) for one in ledger.read(0, 1_000)]
    return [one for one in log if isinstance(one.data, kind)]


def test_an_import_proposes_and_another_person_approves_all_of_it(
    chengxin: Chengxin, on: dict[str, str], ledger: Ledger, listings: Path
) -> None:
    alone = chengxin("import", listings, **on)
    assert alone.returncode == 1
    assert alone.stderr.count("[no-person]") == 3
    assert [one.data.result for one in events(ledger, object) if hasattr(one.data, "result")] == []
    assert events(ledger, ProposalMade) == []

    done = chengxin("import", listings, "--ref", FIRST, **on)
    assert done.returncode == 0, done.stderr
    assert "3 of them proposed, awaiting a second officer" in done.stderr
    assert len(events(ledger, ProposalMade)) == 3
    assert events(ledger, SevereListEntered) == []
    again = chengxin("import", listings, "--ref", FIRST, "--json", **on)
    tally = orjson.loads(again.stdout)
    assert (tally["recorded"], tally["proposed"], tally["already_recorded"]) == (0, 0, 4)

    listed = chengxin("proposals", "list", **on)
    assert len(listed.stdout.splitlines()) == 3
    assert all("enter in the severe list" in one for one in listed.stdout.splitlines())
    assert "3 to decide" in listed.stderr
    asked = orjson.loads(chengxin("proposals", "list", "--json", **on).stdout)["proposals"]
    shown = chengxin("proposals", "show", asked[0]["id"], **on, LC_ALL="zh_CN.UTF-8").stdout
    for told in ("待另一名工作人员决定", "列入严重失信名单", "示市监严列〔2026〕0号", FIRST):
        assert told in shown

    everything = ("proposals", "approve", "--import", "json-lines")
    same = chengxin(*everything, "--ref", FIRST, **on)
    assert (same.returncode, same.stderr.count("[same-officer]")) == (1, 3)
    other = chengxin(
        "proposals", "approve", "--import", "shuanggongshi-penalty", "--ref", SECOND, **on
    )
    assert "0 approved" in other.stderr
    approved = chengxin(*everything, "--ref", SECOND, "--json", **on)
    assert approved.returncode == 0, approved.stderr
    assert orjson.loads(approved.stdout)["refused"] == 0
    entered = events(ledger, SevereListEntered)
    assert [one.actor.ref for one in entered] == [SECOND] * 3
    assert list(breaches(events(ledger, object))) == []
    assert chengxin("proposals", "list", **on).stdout == ""
    head = ledger.head()
    assert "0 approved" in chengxin(*everything, "--ref", SECOND, **on).stderr
    assert chengxin("import", listings, "--ref", FIRST, **on).returncode == 0
    assert ledger.head() == head, "imported again, whatever became of the proposals"


def test_one_is_approved_one_refused_one_taken_back(
    chengxin: Chengxin, on: dict[str, str], ledger: Ledger, listings: Path
) -> None:
    chengxin("import", listings, "--ref", FIRST, **on)
    ids = [one.id for one in events(ledger, ProposalMade)]
    approved = chengxin("proposals", "approve", ids[0], "--ref", SECOND, **on)
    assert (approved.returncode, "approved" in approved.stdout) == (0, True)
    refused = chengxin(
        "proposals", "refuse", ids[1], "--reason", "NOT_PROVEN", "--ref", SECOND, "--json", **on
    )
    told = orjson.loads(refused.stdout)
    assert (told["state"], told["verdict"]["reason"]) == ("refused", "NOT_PROVEN")
    not_his = chengxin("proposals", "withdraw", ids[2], "--ref", SECOND, **on)
    assert (not_his.returncode, "[not-the-proposer]" in not_his.stderr) == (1, True)
    assert chengxin("proposals", "withdraw", ids[2], "--ref", FIRST, **on).returncode == 0
    kinds = (SevereListEntered, ProposalRefused, ProposalWithdrawn)
    assert [len(events(ledger, kind)) for kind in kinds] == [1, 1, 1]
    late = chengxin("proposals", "approve", ids[1], "--ref", SECOND, **on)
    assert (late.returncode, "[proposal-settled]" in late.stderr) == (1, True)
    head = ledger.head()
    again = chengxin("import", listings, "--ref", FIRST, "--json", **on)
    assert orjson.loads(again.stdout)["already_recorded"] == 4
    assert ledger.head() == head


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["approve", "--ref", SECOND], 2, "give an ID, or --import NAME"),
        (["approve", FIRST, "--import", "x", "--ref", SECOND], 2, "give an ID"),
        (["approve", FIRST, "--ref", "me"], 2, "ref 'me'"),
        (["approve", FIRST, "--ref", SECOND], 1, "[unknown-proposal]"),
        (["show", "nonsense"], 1, "[unknown-proposal]"),
        (["refuse", FIRST, "--ref", SECOND], 2, "--reason"),
    ],
)
def test_what_it_cannot_do_is_told(
    chengxin: Chengxin,
    on: dict[str, str],
    listings: Path,
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    assert listings.exists()
    done = chengxin("proposals", *arguments, **on)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr


def test_the_stream_of_a_provider_has_proposal_and_entry(
    chengxin: Chengxin, on: dict[str, str], ledger: Ledger, listings: Path
) -> None:
    chengxin("import", listings, "--ref", FIRST, **on)
    chengxin("proposals", "approve", "--import", "json-lines", "--ref", SECOND, **on)
    stream = provider_stream(given.PROVIDERS[1])
    types = [decode(one.state).type for one in ledger.read_stream(stream)]
    assert types == ["provider.registered.v1", "proposal.made.v1", "severe_list.entered.v1"]
