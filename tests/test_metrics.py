"""`/metrics`: what is counted, who may read it, and what is told without a database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from api.families import cumulated, of_issuers
from api.oidc.keys import KeysState
from api.settings import Settings
from api.survey import survey
from api.traffic import Kind, Traffic
from ledger.database import Database, migrate
from ledger.embedded import Embedded
from ledger.figures import Distribution
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving, wait_until
from tests.test_api_faults import frozen
from tests.test_runner import append_raw

DOCUMENT = Path(__file__).parent.parent / "docs" / "operations.md"
PROJECTIONS = ("scores_1", "disclosure_1")


@pytest.fixture
def served(databases: Callable[[], Database], tmp_path: Path) -> Iterator[Served]:
    with serving(databases(), tmp_path / "keys", Clock(), new_ledger=new_ledger) as served:
        yield served


def scrape(served: Served) -> dict[str, Metric]:
    """The families of one scrape, by name as it is written in queries."""
    response = served.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    families = {}
    for family in text_string_to_metric_families(response.text):
        families[family.name + ("_total" if family.type == "counter" else "")] = family
    return families


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    """The value of the one sample of this name with these labels."""
    (found,) = [
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == sample and labels.items() <= one.labels.items()
    ]
    return float(found)


def hold(database: Database, line: int) -> None:
    """Put an imported row into quarantine, of which nobody will ask what it says."""
    with database.connect(role=None) as owner:
        owner.execute("SET session_replication_role = replica")  # it has neither box nor key
        owner.execute(
            "INSERT INTO intake.recipes (digest, kind, text) VALUES ('d', 'mapping', '')"
            " ON CONFLICT DO NOTHING"
        )
        owner.execute(
            "INSERT INTO intake.rows (organisation, import, file, line, row_key, content,"
            " size_bytes, subject, recipe, quarantined_at, problems)"
            " VALUES ('CN-REG-1', 'penalties', '处罚.csv', %s, 'k', %s, 9, '', 'd',"
            " '2026-03-01T00:00:00Z', '[]')",
            [line, f"c{line}"],
        )


def stop_following(served: Served) -> None:
    """Stop the projections, and wait until the database too knows that nobody follows."""
    served.follower.stop()
    wait_until(lambda: not any(survey(served.ledger, PROJECTIONS).followers.values()))


# --- what is there -------------------------------------------------------------------------------


def of_one_issuer() -> dict[str, Metric]:
    """What is told of issuers."""
    return {one.name: one for one in of_issuers({"https://id.example": KeysState(1, 2)})}


def test_every_metric_stands_in_the_document_as_it_is_and_nothing_else_does(served: Served) -> None:
    served.provide()
    served.follow()
    rows = re.findall(
        r"^\| `(chengxin_\w+)` \| (\w+) \| ([^|]+) \| (.+) \|$",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    documented = {
        name: (type, {one.strip(" `") for one in labels.split(",")} - {"–"}, meaning)
        for name, type, labels, meaning in rows
    }
    served.get("/healthz")  # the second scrape has a request to tell of
    wait_until(lambda: value(scrape(served), "chengxin_events_appended_total") == 2)
    found = {
        name: (
            family.type,
            {label for one in family.samples for label in one.labels} - {"le"},
            family.documentation,
        )
        # Of issuers there are none here.
        for name, family in (scrape(served) | of_one_issuer()).items()
        if not name.startswith("process_")
    }
    assert len(found) == len(rows) >= 25
    assert found == documented


def test_names_are_as_prometheus_has_them(served: Served) -> None:
    families = scrape(served)
    assert "process_resident_memory_bytes" in families
    for name, family in families.items():
        assert re.fullmatch("(chengxin|process)_[a-z_]+", name)
        assert name.endswith("_total") == (family.type == "counter")
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_events", "_requests"))


def test_an_alert_names_only_metrics_that_there_are(served: Served) -> None:
    _, alerts = DOCUMENT.read_text(encoding="utf-8").split("### Alerts worth a night")
    named = set(re.findall(r"chengxin_[a-z_]+", alerts)) - {
        "chengxin_service",
        "chengxin_reader",
        "chengxin_vault",
        "chengxin_keymaker",
    }
    assert len(named) >= 7
    known = set(scrape(served)) | {f"{one}_bucket" for one in scrape(served)}
    assert named <= known


# --- what is counted -----------------------------------------------------------------------------


def test_writes_are_counted_by_how_they_ended(served: Served) -> None:
    served.provide()
    key = {"idempotency_key": "once"}
    body = given.penalty(incident="INC-ONCE").model_dump(mode="json")
    path = f"/v1/providers/{given.PROVIDER}/penalties"
    answers = [served.post(path, body, **key).status_code for _ in range(3)]
    assert answers == [201, 201, 201]
    assert served.post(path, body | {"incident": "INC-2"}, **key).status_code == 409
    assert served.post("/v1/providers", {}).status_code == 422

    def counted() -> bool:
        return value(scrape(served), "chengxin_append_seconds_count") >= 3

    wait_until(counted)
    families = scrape(served)
    # The opening, the provider, the penalty. What is known to be a repetition is not appended.
    assert value(families, "chengxin_events_appended_total") == 3
    outcomes = families["chengxin_append_requests_total"].samples
    assert {one.labels["outcome"] for one in outcomes} <= {"appended", "repeated", "key-reused"}
    assert value(families, "chengxin_append_requests_total", outcome="appended") == 3
    total = sum(one.value for one in outcomes)
    for name in ("append_seconds_count", "append_batch_requests_sum"):
        assert value(families, f"chengxin_{name}") == total, name
    assert 0 < value(families, "chengxin_append_seconds_sum") < 10 * total
    assert value(families, "chengxin_append_queue_requests") == 0
    assert value(families, "chengxin_append_lost_calls_total") == 0

    labels = {"method": "POST", "route": "/v1/providers/{identifier}/penalties"}
    count = "chengxin_http_request_seconds_count"
    assert value(families, count, status="2xx", **labels) == 3
    assert value(families, count, status="4xx", **labels) == 1
    assert value(families, count, method="POST", route="/v1/providers", status="4xx") == 1


def test_how_far_log_and_projections_are(served: Served) -> None:
    served.provide()
    served.follow()
    families = scrape(served)
    assert value(families, "chengxin_database_up") == 1
    assert value(families, "chengxin_tail_healthy") == 1
    head = served.head()
    recorded = served.ledger.rows(b"SELECT recorded_at FROM ledger.chengxin_head")[0][0]
    assert value(families, "chengxin_ledger_recorded_timestamp_seconds") == recorded.timestamp()
    assert value(families, "chengxin_ledger_head_position") == head == 2
    assert value(families, "chengxin_database_size_bytes") > 1024**2
    assert value(families, "chengxin_quarantine_waiting_rows") == 0
    assert value(families, "chengxin_holds_overdue") == 0
    for name in PROJECTIONS:
        labels = {"projection": name}
        assert value(families, "chengxin_projection_position", **labels) == head
        assert value(families, "chengxin_projection_lag_events", **labels) == 0
        assert value(families, "chengxin_projection_stopped", **labels) == 0
        assert value(families, "chengxin_projection_followers", **labels) == 1
        assert value(families, "chengxin_projection_batch_events_sum", **labels) == head
        assert value(families, "chengxin_projection_batch_seconds_count", **labels) > 0

    poison = append_raw(served.ledger, "pledge.made.v1", {"on": "2026-03-02"})
    wait_until(lambda: all(one.error for one in served.follower.status().values()))
    families = scrape(served)
    for name in PROJECTIONS:
        assert value(families, "chengxin_projection_stopped", projection=name) == 1
        assert value(families, "chengxin_projection_lag_events", projection=name) == 1
        assert value(families, "chengxin_projection_position", projection=name) == poison - 1

    for line in (2, 3):
        hold(served.ledger.database, line)
    stop_following(served)
    families = scrape(served)
    assert value(families, "chengxin_quarantine_waiting_rows") == 2
    for name in PROJECTIONS:
        assert value(families, "chengxin_projection_followers", projection=name) == 0


def test_no_number_names_anybody(served: Served) -> None:
    served.provide(given.OTHER, name="某某秘密公司")
    served.penalise(given.OTHER)
    served.get(f"/providers/{given.OTHER}")
    served.get("/v1/disclosure/providers?q=secret")
    served.client.request("PURGE", "/v1/ledger")
    text = served.get("/metrics").text
    for hidden in (given.OTHER, "某某秘密公司", "CN-REG-1", "secret", "PURGE"):
        assert hidden not in text
    # What a client chooses freely makes no new rows.
    before = text.count("\n")
    for number in range(5):
        served.get(f"/nowhere/{number}")
        served.client.request("PURGE", f"/v1/ledger/{number}")
    rows = [one for one in served.get("/metrics").text.splitlines() if 'route="none"' in one]
    assert len([one for one in rows if "_count" in one]) == 2, rows
    assert served.get("/metrics").text.count("\n") < before + 80


def test_how_traffic_and_distributions_count() -> None:
    traffic = Traffic()
    for method, route, status in (
        ("GET", "/", 200),
        ("GET", "/", 204),
        ("BREW", None, 404),
        ("GET", "/", 0),
    ):
        traffic.passed(method, route, status, 0.001)
    assert {kind: sum(one.counts) for kind, one in traffic.seconds.items()} == {
        Kind("GET", "/", "2xx"): 2,
        Kind("other", "none", "4xx"): 1,
        Kind("GET", "/", "none"): 1,
    }
    found = Distribution((1, 2.5, 10))
    for number in (0, 1, 1.01, 10, 11):
        found.add(number)
    # A bound belongs to its bucket, and each bucket holds those before it.
    assert cumulated(found) == [("1", 2), ("2.5", 3), ("10", 4), ("+Inf", 5)]
    assert found.total == pytest.approx(23.01)


# --- who may read it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP"]
)
def test_nobody_reads_it_through_a_proxy(served: Served, header: str) -> None:
    problem(served.client.get("/metrics", headers={header: "127.0.0.1"}), 404, "not-found")


def test_only_machines_of_the_networks_read_it(
    databases: Callable[[], Database], tmp_path: Path
) -> None:
    for networks, status in (
        ("10.0.0.0/8", 404),
        ("::1/128", 404),
        ("10.0.0.0/8,127.0.0.1", 200),
        ("0.0.0.0/0", 200),
    ):
        database = databases()
        with serving(
            database, tmp_path / "keys", Clock(), new_ledger=new_ledger, metrics_from=networks
        ) as served:
            assert served.get("/metrics").status_code == status, networks


@pytest.mark.parametrize("networks", ["here", "127.0.0.1/99", "127.0.0.1,,", "10.0.0.1/8"])
def test_what_is_no_network_is_refused(networks: str) -> None:
    with pytest.raises(ValidationError, match="metrics_from"):
        Settings(metrics_from=networks)


# --- without a database --------------------------------------------------------------------------


def test_with_a_frozen_database_it_tells_what_the_process_knows(
    own_server: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.metrics.LOOK_SECONDS", 0.3)
    monkeypatch.setattr("ledger.database.READ_SECONDS", 0.5)
    database = Database(own_server.conninfo())
    migrate(database, files("ledger") / "sql")
    with serving(database, tmp_path / "keys", Clock(), new_ledger=new_ledger) as served:
        served.provide()
        served.follow()
        wait_until(lambda: value(scrape(served), "chengxin_events_appended_total") == 2)
        with frozen(own_server):
            # The client itself gives up after ten seconds.
            scrapes = [scrape(served) for _ in range(12)]
            pool = served.ledger.pool()
        for families in scrapes:
            assert value(families, "chengxin_database_up") == 0
            assert value(families, "chengxin_tail_position") == 2
            assert value(families, "chengxin_events_appended_total") == 2
            assert "chengxin_ledger_head_position" not in families
            assert "chengxin_projection_lag_events" not in families
        # Twelve scrapes, more than the pool has connections, hold one between them.
        assert pool["pool_size"] - pool["pool_available"] <= 1, pool
        wait_until(lambda: value(scrape(served), "chengxin_database_up") == 1)
        assert value(scrape(served), "chengxin_ledger_head_position") == 2
