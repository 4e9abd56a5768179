"""`POST /v1/imports` on a real server over real sockets: every line answered once, in its order."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from api import arrival
from api.examples import EXAMPLES, LINE_EXAMPLE
from api.intake.jsonlines import MAX_LINE_BYTES
from api.intake.quarantine import Quarantine
from api.lineanswers import ImportSummary, LineAnswer
from ledger.database import Database
from ledger.envelope import decode
from ledger.events import InspectionRecorded
from ledger.store import Ledger
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving, wait_until
from tests.test_jsonlines import REGISTRATION, WRONG_CHECK, line
from tests.wire import wired

PATH = "/v1/imports"
JSON_LINES = {"Content-Type": "application/x-ndjson"}
ENGLISH = {"Accept-Language": "en"}
LIMIT = 8 * 1024 * 1024


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served(database: Database, tmp_path: Path, clock: Clock) -> Iterator[Served]:
    with serving(
        database,
        tmp_path / "keys",
        clock,
        new_ledger=new_ledger,
        max_import_bytes=LIMIT,
        max_imports=4,
    ) as served:
        yield served


@pytest.fixture(scope="module")
def standing(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A server for all that records nothing."""
    keys = tmp_path_factory.mktemp("standing") / "keys"
    with serving(
        databases(), keys, Clock(), new_ledger=new_ledger, max_import_bytes=LIMIT
    ) as served:
        yield served
        assert served.head() == 1


def inspection(number: int, subject: str = "HK-CR-1", **changes: Any) -> bytes:
    """A line that registers its subject where needed."""
    data = given.inspection(inspection=f"JC-{number}")
    return line(data, key=f"k{number}", identifier=subject, registration=REGISTRATION, **changes)


def deliver(
    served: Served,
    body: bytes | Iterable[bytes],
    role: str = "registrar",
    **headers: str,
) -> httpx2.Response:
    """Send a body; a list of parts is sent chunked."""
    sent = served.bearer(role) | JSON_LINES | ENGLISH | headers
    return served.client.post(PATH, content=body, headers=sent, timeout=120)


def answers_of(response: httpx2.Response) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The answers, each held against its published shape, and the last line."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["cache-control"] == "no-store"
    return parsed(response.content)


def parsed(body: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The same of the bytes of an answer."""
    *lines, last = [orjson.loads(text) for text in body.splitlines()]
    for one in lines:
        LineAnswer.model_validate(one)
    summary = ImportSummary.model_validate(last)
    assert summary.lines == len(lines)
    states = Counter(one["state"] for one in lines)
    assert states["recorded"] == summary.recorded
    assert states["recorded-before"] == summary.recorded_before
    assert states["repeated"] == summary.repeated
    assert states["quarantined"] == summary.quarantined
    assert states["refused"] == summary.refused
    assert states["unknown"] == summary.unknown
    assert [one["line"] for one in lines] == sorted({one["line"] for one in lines})
    return lines, last


def inspections(ledger: Ledger) -> list[str]:
    """The inspections of a ledger, in its order."""
    events = [decode(row.state).data for row in ledger.read(1, 1_000_000)]
    return [one.inspection for one in events if isinstance(one, InspectionRecorded)]


class Raw:
    """A client that writes and reads when it likes."""

    def __init__(self, served: Served, head: str = "Transfer-Encoding: chunked\r\n") -> None:
        self.socket = socket.create_connection(("127.0.0.1", served.port))
        self.socket.settimeout(60)
        self.send(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n"
            f"Accept-Language: en\r\nAuthorization: Bearer {served.token()}\r\n{head}\r\n".encode()
        )

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def chunk(self, content: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(content), content))

    def answer(self) -> tuple[bytes, bytes]:
        """Head and body of the answer, read to the end of the connection or of its length."""
        found = b""
        while b"\r\n\r\n" not in found:
            found += self._read()
        head, _, body = found.partition(b"\r\n\r\n")
        length = next(
            int(one.partition(b":")[2])
            for one in head.splitlines()
            if one.lower().startswith(b"content-length:")
        )
        while len(body) < length:
            body += self._read()
        return head, body

    def _read(self) -> bytes:
        piece = self.socket.recv(1024 * 1024)
        assert piece, "the connection ended before the answer did"
        return piece

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def raw(served: Served) -> Iterator[Callable[..., Raw]]:
    """Makes raw clients."""
    made: list[Raw] = []

    def make(*args: Any) -> Raw:
        made.append(Raw(served, *args))
        return made[-1]

    yield make
    for one in made:
        one.close()


# --- Every line is answered ----------------------------------------------------------------------


def test_each_line_is_answered_in_its_order_and_again_when_it_is_sent_again(
    served: Served,
) -> None:
    body = b"\r\n".join(
        [
            b"\xef\xbb\xbf" + inspection(1),
            b"",
            inspection(2, "HK-CR-2"),
            b'{"key": "x",',
            inspection(3, "X"),
            inspection(1),
            inspection(4, data={}),
            inspection(5),
        ]
    )
    lines, last = answers_of(deliver(served, body))
    assert [(one["line"], one["key"], one["state"]) for one in lines] == [
        (1, "k1", "recorded"),
        (3, "k2", "recorded"),
        (4, None, "refused"),
        (5, "k3", "refused"),
        (6, "k1", "repeated"),
        (7, "k4", "refused"),
        (8, "k5", "recorded"),
    ]
    assert last == {
        "complete": True, "lines": 7, "registered": 2, "recorded": 3, "proposed": 0,
        "recorded_before": 0,
        "repeated": 1, "quarantined": 0, "quarantined_before": 0, "rejected_before": 0,
        "refused": 3, "unknown": 0,
    }  # fmt: skip
    for one in lines:
        if one["state"] == "recorded":
            event = served.get(f"/v1/events/{one['position']}", "auditor").json()
            assert (event["id"], event["type"]) == (one["id"], "cn.chengxin.inspection.recorded.v1")
            assert (event["actororg"], event["actorrole"]) == ("CN-REG-1", "registrar")
    assert lines[4]["first_line"] == 1
    assert {one["problem"]["code"] for one in lines if one["state"] == "refused"} == {
        "unparsable",
        "invalid-identifier",
        "schema-broken",
    }
    several = lines[5]["problem"]
    assert (several["status"], several["field"]) == (422, "data.inspection")
    assert [one["field"] for one in several["errors"]] == [
        f"data.{name}" for name in ("inspection", "on", "result", "issuer")
    ]
    again, last = answers_of(deliver(served, body))
    assert last["recorded_before"] == 3
    for before, after in zip(lines, again, strict=True):
        assert after == before | (
            {"state": "recorded-before"} if before["state"] == "recorded" else {}
        )


def test_the_words_are_in_the_language_asked_for(standing: Served) -> None:
    response = deliver(standing, inspection(1, "X"), **{"Accept-Language": "zh"})
    lines, _ = answers_of(response)
    assert response.headers["content-language"] == "zh-CN"
    assert lines[0]["problem"]["title"] == "主体代码无效"
    assert lines[0]["problem"]["detail"].startswith("主体代码 'X' 无效")
    assert standing.client.get(lines[0]["problem"]["type"]).status_code == 200


@pytest.mark.parametrize("body", [b"", b"\n \r\n\n"])
def test_nothing_is_answered_with_a_last_line_only(standing: Served, body: bytes) -> None:
    assert answers_of(deliver(standing, body)) == (
        [],
        {
            "complete": True, "lines": 0, "registered": 0, "recorded": 0, "proposed": 0,
            "recorded_before": 0,
            "repeated": 0, "quarantined": 0, "quarantined_before": 0, "rejected_before": 0,
            "refused": 0, "unknown": 0,
        },
    )  # fmt: skip


def test_the_published_example_is_recorded(served: Served) -> None:
    lines, _ = answers_of(deliver(served, LINE_EXAMPLE.encode()))
    assert [one["state"] for one in lines] == ["recorded"]


def test_invalid_bytes_cost_their_own_line(served: Served) -> None:
    body = b"\n".join(
        [inspection(1), b'{"key":"\xff\xfe"}', b"\x00", b"\x1f\x8b\x08", inspection(2)]
    )
    lines, _ = answers_of(deliver(served, body))
    assert [one["state"] for one in lines] == ["recorded", *["refused"] * 3, "recorded"]
    assert {one["problem"]["code"] for one in lines[1:4]} == {"unparsable"}


@pytest.mark.parametrize("chunk_bytes", [1, 1_000, 70_000])
def test_the_parts_in_which_it_comes_do_not_matter(
    served: Served, raw: Callable[..., Raw], chunk_bytes: int
) -> None:
    body = b"\n".join(
        inspection(n, f"HK-CR-{n % 7}") for n in range(6 if chunk_bytes == 1 else 200)
    )
    client = raw()
    for at in range(0, len(body), chunk_bytes):
        client.chunk(body[at : at + chunk_bytes])
    client.send(b"0\r\n\r\n")
    lines, last = parsed(client.answer()[1])
    assert {one["state"] for one in lines} == {"recorded"}
    assert last["complete"]


def test_a_wrong_check_character_is_kept_for_a_person(served: Served) -> None:
    lines, last = answers_of(deliver(served, inspection(1, WRONG_CHECK)))
    assert (lines[0]["state"], last["quarantined"]) == ("quarantined", 1)
    assert lines[0]["problem"]["code"] == "invalid-identifier"
    assert "the check character should be" in lines[0]["problem"]["detail"]
    held = Quarantine(served.ledger).held(lines[0]["quarantine"])
    assert held is not None
    assert (held.organisation, held.recipe.kind, held.subject) == (
        "CN-REG-1",
        "json-lines",
        WRONG_CHECK,
    )
    assert held.cells["identifier"] == WRONG_CHECK
    assert held.cells["data"].startswith('{"inspection":"JC-1"')
    again, last = answers_of(deliver(served, inspection(1, WRONG_CHECK)))
    assert last["quarantined_before"] == 1
    assert again == [lines[0] | {"state": "quarantined-before"}]


def test_a_line_kept_for_a_person_is_accepted_as_corrected_and_then_known(served: Served) -> None:
    delivered = inspection(1, WRONG_CHECK)
    lines, _ = answers_of(deliver(served, delivered))
    address = f"/v1/quarantine/{lines[0]['quarantine']}"
    early = served.post(f"{address}/acceptance", {"why": "已核对"})
    problem(early, 409, "row-not-understood")
    corrected = served.post(
        f"{address}/correction",
        {"why": "与营业执照核对", "set": {"identifier": given.PROVIDER}},
    )
    assert corrected.json()["problems"] == [], corrected.text
    accepted = served.post(f"{address}/acceptance", {"why": "已核对"})
    assert accepted.status_code in (200, 201), accepted.text
    assert inspections(served.ledger) == ["JC-1"]
    # Whoever sends it again, as it was or as it should have been, is told that it is recorded.
    again, _ = answers_of(deliver(served, delivered))
    assert [one["state"] for one in again] == ["recorded-before"]
    right, _ = answers_of(deliver(served, inspection(1, given.PROVIDER)))
    assert [one["state"] for one in right] == ["recorded-before"]
    assert inspections(served.ledger) == ["JC-1"]


# --- Limits --------------------------------------------------------------------------------------


def test_a_line_that_is_too_long_is_left_out_and_the_rest_goes_on(served: Served) -> None:
    filler = b" " * (MAX_LINE_BYTES - len(inspection(2)))
    longest, too_long = inspection(2) + filler, inspection(3) + b" " * 3 * MAX_LINE_BYTES
    body = b"\n".join([inspection(1), longest, too_long, longest + b" ", inspection(4)])
    lines, last = answers_of(deliver(served, body))
    assert [one["state"] for one in lines] == ["recorded", "recorded", "refused", "refused",
                                               "recorded"]  # fmt: skip
    assert {one["problem"]["code"] for one in lines[2:4]} == {"line-too-large"}
    assert lines[2]["problem"]["status"] == 413
    assert last["complete"]
    assert inspections(served.ledger) == ["JC-1", "JC-2", "JC-4"]


def test_a_body_that_is_announced_too_long_is_refused_before_it_is_read(
    standing: Served,
) -> None:
    client = Raw(standing, f"Content-Length: {LIMIT + 1}\r\n")
    head, body = client.answer()
    client.close()
    assert b" 413 " in head
    assert orjson.loads(body)["facts"] == {"limit": LIMIT}
    # The limit of other bodies is another.
    other = standing.post("/v1/providers", {"name": "x" * 300_000})
    problem(other, 413, "body-too-large")


def test_a_body_that_becomes_too_long_is_answered_as_far_as_it_was_read(served: Served) -> None:
    def parts() -> Iterator[bytes]:
        for number in range(40):
            yield inspection(number) + b"\n"
        for _ in range(2 * LIMIT // 65_536 - 8):
            yield b" " * 65_536

    lines, last = answers_of(deliver(served, parts()))
    assert [one["state"] for one in lines] == ["recorded"] * 40
    assert not last["complete"]
    assert last["problem"]["code"] == "import-incomplete"
    assert last["problem"]["facts"]["cause"] == "body-too-large"
    assert last["problem"]["facts"]["line"] == 40
    assert served.head() == 1 + 1 + 40


def test_a_body_too_long_without_a_line_is_a_problem(standing: Served) -> None:
    parts = (b" " * 65_536 for _ in range(LIMIT // 65_536 + 1))
    problem(deliver(standing, parts), 413, "body-too-large")


def test_answers_are_bounded_too(standing: Served) -> None:
    """Two bytes of a line must not become a file of any length on the server."""
    lines, last = answers_of(deliver(standing, b"x\n" * (LIMIT // 2)))
    assert last["problem"]["facts"]["cause"] == "answers-too-large"
    assert len(lines) < LIMIT / 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "text/plain"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_another_form_is_refused(standing: Served, headers: dict[str, str]) -> None:
    problem(deliver(standing, inspection(1), **headers), 415, "not-json-lines")


@pytest.mark.parametrize("media_type", ["application/jsonl", "Application/X-NDJSON; charset=utf-8"])
def test_both_names_of_the_form_are_taken(served: Served, media_type: str) -> None:
    answers_of(deliver(served, inspection(1), **{"Content-Type": media_type}))
    assert served.head() == 3


def test_another_method_is_refused(standing: Served) -> None:
    response = standing.client.get(PATH)
    assert problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "OPTIONS, POST"


# --- Who may -------------------------------------------------------------------------------------


def test_without_a_token_nothing_is_read(standing: Served) -> None:
    response = standing.client.post(PATH, content=inspection(1), headers=JSON_LINES)
    problem(response, 401, "token-missing")


@pytest.mark.parametrize("role", ["auditor", "public", "provider", "rulebook_editor"])
def test_a_role_that_records_nothing_is_refused(standing: Served, role: str) -> None:
    problem(deliver(standing, inspection(1), role), 403, "not-allowed")


def test_each_line_needs_the_role_of_its_own_address(served: Served) -> None:
    deliver(served, inspection(1))
    plain = line(given.inspection(), key="a", identifier="HK-CR-1")
    act = line(EXAMPLES["DecisionOnFact"], key="b", identifier="HK-CR-1", command="repair",
               target="0198c7a0-0000-7000-8000-00000000002a")  # fmt: skip
    body = b"\n".join([inspection(2, "HK-CR-2"), plain, act])
    lines, _ = answers_of(deliver(served, body, "inspector"))
    # An inspector registers nobody, not even on the way.
    assert [one["state"] for one in lines] == ["refused", "recorded", "refused"]
    assert {lines[0]["problem"]["code"], lines[2]["problem"]["code"]} == {"not-allowed"}
    assert "register a provider" in lines[0]["problem"]["detail"]
    assert "grant credit repair" in lines[2]["problem"]["detail"]
    decided, _ = answers_of(deliver(served, body, "decision_maker"))
    assert [one["problem"]["code"] for one in decided] == [
        "not-allowed",
        "not-allowed",
        "unknown-target",
    ]


def test_a_platform_records_what_a_platform_decided(served: Served) -> None:
    deliver(served, inspection(1))
    ours = given.penalty(issuer=given.issuer("PLATFORM"))
    lines, _ = answers_of(
        deliver(
            served,
            b"\n".join(
                line(data, key=key, identifier="HK-CR-1", command="penalty")
                for key, data in (("a", given.penalty()), ("b", ours))
            ),
            "platform",
        )
    )
    assert lines[0]["problem"]["code"] == "not-allowed"
    assert "REGULATOR" in lines[0]["problem"]["detail"]
    assert lines[1]["state"] == "recorded"


def test_from_the_line_on_at_which_the_token_expires_every_line_is_refused(
    served: Served, raw: Callable[..., Raw], clock: Clock
) -> None:
    client = raw()
    client.chunk(b"".join(inspection(n) + b"\n" for n in range(60)))
    wait_until(lambda: served.head() >= 1 + 1 + 50)
    clock.advance(hours=13)
    client.chunk(b"".join(inspection(n) + b"\n" for n in range(60, 80)))
    client.send(b"0\r\n\r\n")
    lines, last = parsed(client.answer()[1])
    assert [one["state"] for one in lines] == ["recorded"] * 60 + ["refused"] * 20
    assert {one["problem"]["code"] for one in lines[60:]} == {"token-expired"}
    assert last["complete"]


def test_keys_of_lines_and_of_single_requests_are_apart(served: Served) -> None:
    """One is the organisation's, the other the organisation's for this subject."""
    served.provide("HK-CR-1")
    data = given.inspection()
    lines, _ = answers_of(deliver(served, line(data, key="same", identifier="HK-CR-1")))
    single = served.post(
        "/v1/providers/HK-CR-1/inspections", given.inspection().model_dump(mode="json"),
        idempotency_key="same",
    )  # fmt: skip
    assert single.status_code == 201
    assert single.json()["id"] != lines[0]["id"]
    twice = served.post("/v1/providers/HK-CR-1/inspections", data.model_dump(mode="json"))
    problem(twice, 409, "duplicate-fact")


# --- At once, and broken off ---------------------------------------------------------------------


def test_a_client_that_sends_fifty_megabytes_before_it_reads_a_byte(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    """Its answers are longer than any buffer between: had we sent them, both would wait."""
    bad = b'{"key":"%06d","identifier":"X","command":"exit","data":{},"x":"%b"}\n'
    with serving(database, tmp_path / "keys", clock, new_ledger=new_ledger) as served:
        client = Raw(served)
        part = b"".join(bad % (number, b"y" * 450) for number in range(2_000))
        for _ in range(50):
            client.chunk(part)
        client.send(b"0\r\n\r\n")
        _, body = client.answer()
        client.close()
    lines, last = parsed(body)
    assert 50 * len(part) > 50_000_000
    assert len(body) > 20_000_000
    assert last["complete"]
    assert len(lines) == last["refused"] == 100_000


def test_sixteen_clients_on_one_subject(served: Served) -> None:
    """Four at once; the others are told to come again, and do."""

    def send(number: int) -> list[dict[str, Any]]:
        body = b"\n".join(inspection(100 * number + n) for n in range(40))
        while (response := deliver(served, body)).status_code == 503:
            assert response.json()["code"] == "too-many-imports"
            assert response.headers["retry-after"] == "2"
            time.sleep(0.05)
        return answers_of(response)[0]

    with ThreadPoolExecutor(16) as pool:
        answered = list(pool.map(send, range(16)))
    assert {one["state"] for lines in answered for one in lines} == {"recorded"}
    positions = [one["position"] for lines in answered for one in lines]
    assert len(set(positions)) == 640
    assert served.head() == 1 + 1 + 640
    for number, lines in enumerate(answered):
        ours = [one for one in inspections(served.ledger) if int(one[3:]) // 100 == number]
        assert ours == [f"JC-{100 * number + n}" for n in range(40)]
        assert [one["position"] for one in lines] == sorted(one["position"] for one in lines)


def test_a_place_is_free_again_when_the_answers_are_sent_or_the_client_is_gone(
    served: Served, raw: Callable[..., Raw]
) -> None:
    held = [raw() for _ in range(4)]
    for client in held:
        client.chunk(b"\n")
    wait_until(lambda: deliver(served, b"").status_code == 503)
    for client in held:
        client.close()
    wait_until(lambda: deliver(served, b"").status_code == 200)


def test_a_client_that_goes_in_the_middle_finds_its_lines_answered_next_time(
    served: Served, raw: Callable[..., Raw]
) -> None:
    body = b"".join(inspection(n, f"HK-CR-{n % 9}") + b"\n" for n in range(500))
    client = raw()
    client.chunk(body[: len(body) // 2])
    wait_until(lambda: served.head() > 100)
    client.close()
    wait_until(lambda: deliver(served, b"").json()["lines"] == 0)
    whole = body[: len(body) // 2].count(b"\n")
    wait_until(lambda: len(inspections(served.ledger)) == whole)
    _, last = answers_of(deliver(served, body))
    assert (last["recorded_before"], last["recorded"]) == (whole, 500 - whole)
    assert sorted(inspections(served.ledger)) == sorted(f"JC-{n}" for n in range(500))


def test_a_body_that_stops_coming_is_answered_as_far_as_it_came(
    served: Served, raw: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "BODY_SECONDS", 1)
    client = raw()
    client.chunk(inspection(1) + b"\n" + inspection(2))
    head, body = client.answer()
    lines, last = parsed(body)
    assert [one["state"] for one in lines] == ["recorded"]
    assert last["problem"]["facts"]["cause"] == "body-timeout"
    assert b"connection: close" in head.lower()
    silent = raw()
    head, body = silent.answer()
    assert b" 408 " in head


def test_a_byte_now_and_then_does_not_hold_a_place(
    served: Served, raw: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "BODY_SECONDS", 1)
    client = raw()
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 1_000:
            client.chunk(b"\n")
            sent += 1
            time.sleep(0.1)
    assert 1 < sent < 1_000


def test_a_server_that_stops_answers_what_it_has_read(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(
            serving(database, tmp_path / "keys", clock, new_ledger=new_ledger)
        )
        client = Raw(served)
        client.chunk(b"".join(inspection(n) + b"\n" for n in range(70)) + b'{"key"')
        wait_until(lambda: served.head() >= 1 + 1 + 50)
        stopping = threading.Thread(target=stack.close)
        stopping.start()
        lines, last = parsed(client.answer()[1])
        stopping.join()
        client.close()
    assert [one["state"] for one in lines] == ["recorded"] * 70
    assert last["problem"]["facts"]["cause"] == "stopping"
    assert last["problem"]["facts"]["line"] == 70


def test_a_database_that_goes_away_and_comes_back_costs_no_line(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    with (
        wired(database.conninfo) as wire,
        serving(Database(wire.conninfo), tmp_path / "keys", clock, new_ledger=new_ledger) as served,
    ):
        client = Raw(served)
        client.chunk(b"".join(inspection(n, f"HK-CR-{n % 5}") + b"\n" for n in range(400)))
        wait_until(lambda: served.head() > 50)
        wire.take_down()
        client.chunk(b"".join(inspection(n, f"HK-CR-{n % 5}") + b"\n" for n in range(400, 700)))
        client.send(b"0\r\n\r\n")
        time.sleep(1)
        wire.bring_up()
        lines, last = parsed(client.answer()[1])
        client.close()
    assert last["complete"]
    assert len(lines) == 700
    assert {one["state"] for one in lines} <= {"recorded", "recorded-before"}
    with new_ledger(database, clock) as ledger:
        assert sorted(inspections(ledger)) == sorted(f"JC-{n}" for n in range(700))


def test_a_database_that_stays_away_is_told_in_the_last_line(
    database: Database, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.intake.patience.PATIENCE_SECONDS", 0.5)
    with (
        wired(database.conninfo) as wire,
        serving(Database(wire.conninfo), tmp_path / "keys", clock, new_ledger=new_ledger) as served,
    ):
        body = [inspection(n, f"HK-CR-{n % 5}") + b"\n" for n in range(700)]
        client = Raw(served)
        client.chunk(b"".join(body[:400]))
        wait_until(lambda: served.head() > 200)
        wire.take_down()
        client.chunk(b"".join(body[400:]))
        client.send(b"0\r\n\r\n")
        lines, last = parsed(client.answer()[1])
        assert not last["complete"]
        assert last["problem"]["facts"]["cause"] in ("unavailable", "outcome-unknown")
        recorded = {one["line"]: one["id"] for one in lines if one["state"] == "recorded"}
        assert len(recorded) > 100
        assert {one["state"] for one in lines} <= {"recorded", "unknown"}
        client.close()
        wire.bring_up()
        wait_until(lambda: deliver(served, b"").status_code == 200, 30)
        again, last = answers_of(deliver(served, b"".join(body)))
        # Nothing that was acknowledged is lost, and nothing is there twice.
        assert {one["line"]: one["id"] for one in again}.items() >= recorded.items()
        assert last["recorded_before"] >= len(recorded)
        assert sorted(inspections(served.ledger)) == sorted(f"JC-{n}" for n in range(700))


def test_a_database_that_is_away_from_the_beginning_is_a_problem(
    database: Database, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.intake.patience.PATIENCE_SECONDS", 0.2)
    with (
        wired(database.conninfo) as wire,
        serving(Database(wire.conninfo), tmp_path / "keys", clock, new_ledger=new_ledger) as served,
    ):
        wire.take_down()
        response = deliver(served, inspection(1))
        problem(response, 503, "unavailable")
        assert response.headers["retry-after"] == "2"


def test_a_ledger_that_is_not_opened_is_a_problem(
    database: Database, tmp_path: Path, clock: Clock
) -> None:
    with serving(database, tmp_path / "keys", clock, new_ledger=new_ledger, opened=False) as served:
        problem(deliver(served, inspection(1)), 503, "ledger-not-opened")


def test_single_writes_go_on_during_an_import(served: Served) -> None:
    """They stand behind a part of a block only, never behind the whole of an import."""
    served.provide("HK-CR-9")
    over = threading.Event()

    def imports(number: int) -> None:
        body = b"".join(
            inspection(10_000 * number + n, f"HK-CR-1{n % 50}") + b"\n" for n in range(3_000)
        )
        answers_of(deliver(served, body))
        over.set()

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(imports, number) for number in (1, 2)]
        wait_until(lambda: served.head() > 100)
        written = 0
        while not over.is_set():
            body = given.inspection().model_dump(mode="json")
            response = served.post("/v1/providers/HK-CR-9/inspections", body)
            assert response.status_code == 201
            written += 1
        for one in running:
            one.result()
    assert written >= 10
