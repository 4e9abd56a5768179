"""Whatever goes wrong is a problem document in the reader's language; nothing of ours leaks."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx2
import psycopg
import pytest
import structlog
from fastapi import Response
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from api import answers, journal, problems
from api.health import BUSY
from api.problems import language_of, refusals_by_code
from api.refusals import Flaw, SchemaBroken
from api.settings import Settings
from api.titles import TITLES
from ledger.database import READ_SECONDS, Database
from ledger.errors import LedgerError, Words, family
from ledger.store import POOL_SIZE, STATEMENT_SECONDS
from projections.sheet import Sheets
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving

CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        served.provide()
        served.follow()
        yield served


# --- languages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        (None, "zh"),
        ("", "zh"),
        ("*", "zh"),
        ("fr", "zh"),
        ("en", "en"),
        ("en-GB", "en"),
        ("EN", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("fr,en;q=0.3", "en"),
        ("fr, *;q=0.5", "zh"),
        ("zh;q=0, *", "en"),
        ("zh;q=0.4, en;q=0.4", "zh"),
        ("en;q=nonsense", "zh"),
        ("en;q=0", "zh"),
        (";;;,,,q=", "zh"),
        ("x" * 10_000, "zh"),
    ],
)
def test_the_language_is_the_readers(accept: str | None, language: str) -> None:
    assert language_of(accept) == language


def test_a_problem_is_told_in_both_languages(served: Served) -> None:
    for accept, tag in (("zh-CN", "zh-CN"), ("en-US", "en")):
        response = served.get("/v1/providers/HK-CR-NONE/score", accept_language=accept)
        told = problem(response, 404, "unknown-provider")
        answers.Problem.model_validate(told)
        assert response.headers["content-language"] == tag
        assert "accept-language" in response.headers["vary"].lower()
        assert response.headers["cache-control"] == "no-store"
        texts = [told[name] for name in ("title", "detail", "advice")]
        assert all(bool(CHINESE.search(text)) == (tag == "zh-CN") for text in texts)


@pytest.mark.parametrize("code", TITLES)
def test_every_problem_is_whole_in_both_languages(code: str) -> None:
    kind = refusals_by_code()[code]
    names = set(re.findall(r"\{(\w+)", f"{kind.__doc__} {kind.zh}"))
    error: LedgerError
    if kind is SchemaBroken:
        error = SchemaBroken([Flaw(("body", "x", 0), Words("missing", "缺少"))])
    else:
        error = kind(**dict.fromkeys(names, Words("fact", "事实")))
    for language in ("zh", "en"):
        told = problems.document(error, language)
        answers.Problem.model_validate(told)
        for name in ("title", "detail", "advice"):
            assert told[name].strip()
            assert bool(CHINESE.search(told[name])) == (language == "zh"), told[name]
        assert "{" not in told["detail"]
        assert "\n" not in told["detail"]


KNOWN = {400, 401, 403, 404, 405, 406, 408, 409, 413, 414, 415, 421, 422, 429, 431, 500, 503}


def test_every_refusal_has_its_title() -> None:
    assert set(TITLES) == set(family())
    statuses = {kind.status for kind in family().values()}
    assert statuses <= KNOWN


# --- addresses and methods -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/nix", "/v1", "/v1/", "/v1/ledger/", "/v1/providers/x", "/v1/feed/1", "/%00"]
)
def test_an_unknown_address_is_a_problem(served: Served, path: str) -> None:
    problem(served.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v1/ledger", "GET, HEAD, OPTIONS"),
        ("DELETE", f"/v1/providers/{given.PROVIDER}/penalties", "OPTIONS, POST"),
        ("GET", "/v1/providers", "OPTIONS, POST"),
        ("HEAD", "/v1/providers", "OPTIONS, POST"),
        ("PUT", "/v1/feed", "GET, HEAD, OPTIONS"),
        ("PATCH", "/healthz", "GET, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("DELETE", "/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
def test_another_method_is_told_what_is_allowed(
    served: Served, method: str, path: str, allow: str
) -> None:
    response = served.client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    if method != "HEAD":
        problem(response, 405, "method-not-allowed")


def test_a_request_keeps_its_own_id_where_it_is_a_word(served: Served) -> None:
    assert (
        served.get("/healthz", x_request_id="trace-1.b_2").headers["x-request-id"] == "trace-1.b_2"
    )
    for strange in ("a b", "x" * 65, '"', "a;b"):
        assert served.get("/healthz", x_request_id=strange).headers["x-request-id"] != strange
    ids = {served.get("/healthz").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


# --- our own mistakes ----------------------------------------------------------------------------


def test_an_unexpected_failure_tells_only_its_number(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the password is 12345")

    monkeypatch.setattr(type(served.scores), "rulebooks", fail)
    with capture_logs([merge_contextvars]) as logged:
        response = served.get("/v1/ledger", accept_language="en")
    told = problem(response, 500, "internal")
    assert "12345" not in response.text
    assert "RuntimeError" not in response.text
    incident = told["facts"]["incident"]
    assert incident == response.headers["x-request-id"] == told["request_id"]
    assert incident in told["detail"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert [(one["event"], one["request_id"]) for one in logged] == [("incident", incident)]


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("connection refused at 10.0.0.7"),
        psycopg.errors.AdminShutdown("going down"),
        psycopg.InterfaceError("the connection is closed"),
    ],
)
def test_a_database_that_is_away_is_503(
    served: Served, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(type(served.scores), "rulebooks", fail)
    response = served.get("/v1/ledger")
    problem(response, 503, "unavailable")
    assert int(response.headers["retry-after"]) > 0
    assert str(error) not in response.text
    ready = served.get("/readyz")
    assert ready.status_code == 503
    assert "database: cannot be reached" in ready.json()["reasons"]


def test_a_pool_without_a_free_connection_is_no_database_that_is_away(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.ledger.datastore.pool, "timeout", 0.2)
    with ExitStack() as held:
        for _ in range(POOL_SIZE):
            held.enter_context(served.ledger.datastore.reading())
        response = served.get("/v1/ledger", accept_language="en")
        told = problem(response, 503, "busy")
        assert told["detail"].startswith("Every connection to the database is in use")
        assert int(response.headers["retry-after"]) > 0
        assert served.get("/readyz").json()["reasons"] == [BUSY]
        # Whatever the tail's own thread finds meanwhile.
        away = property(lambda _: False, lambda *_: None)
        monkeypatch.setattr(type(served.tail), "healthy", away, raising=False)
        problem(served.get("/v1/ledger"), 503, "unavailable")
    monkeypatch.undo()
    assert served.get("/v1/ledger").status_code == 200


def test_a_search_that_takes_too_long_is_stopped_and_told(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(self: Sheets, *_: object, **__: object) -> object:
        return served.ledger.rows(b"SELECT pg_sleep(60)", seconds=1)

    monkeypatch.setattr(Sheets, "search", search)
    problem(served.get("/v1/disclosure/providers?q=x"), 503, "too-slow")
    page = served.get("/?q=x")
    assert page.status_code == 503
    assert "查询耗时过长" in page.text


def test_every_read_has_an_end_at_the_database(served: Served) -> None:
    ((limit,),) = served.ledger.rows(b"SELECT current_setting('statement_timeout')")
    assert limit == f"{STATEMENT_SECONDS}s"
    assert STATEMENT_SECONDS < READ_SECONDS
    with closing(served.ledger.stream(0, 1)) as events:
        assert next(events).position == 1


def test_a_failure_in_the_middle_of_an_answer_cuts_it_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an answer must not look like a whole one."""

    async def half(self: Response, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("broken")

    monkeypatch.setattr(Response, "__call__", half)
    with capture_logs() as logged, pytest.raises(httpx2.RemoteProtocolError):
        served.get("/healthz")
    assert "incident" in {one["event"] for one in logged}


# --- what is written into the log ----------------------------------------------------------------


def test_the_access_log_names_no_address_no_token_no_query_and_no_body(
    databases: Callable[[], Database], tmp_path: Path
) -> None:
    with serving(
        databases(), tmp_path / "keys", Clock(), new_ledger=new_ledger, access_log=True
    ) as served:
        served.provide()
        secret = "某某秘密公司"
        token = served.token("auditor")
        with capture_logs([merge_contextvars]) as logged:
            headers = {"Authorization": f"Bearer {token}"}
            served.client.get(f"/v1/disclosure/providers?q={secret}", headers=headers)
            served.client.post("/v1/providers", json={"name": secret}, headers=headers)
            served.client.get("/%0Aevil%1B%5B31m", headers=headers)
    lines = [one for one in logged if one["event"] == "request"]
    assert [(one["method"], one["route"], one["status"]) for one in lines] == [
        ("GET", "/v1/disclosure/providers", 200),
        ("POST", "/v1/providers", 403),
        ("GET", None, 404),
    ]
    assert "evil" not in str(lines)
    assert all(one["request_id"] and one["milliseconds"] >= 0 for one in lines)
    assert token not in str(lines)
    assert secret not in str(lines)


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_line_of_the_log_holds_what_happened(format: str) -> None:
    before = structlog.get_config()
    stream = io.BytesIO()
    try:
        journal.configure(Settings(log_format=format, log_level="info"), stream)  # type: ignore[arg-type]
        log = structlog.get_logger()
        log.debug("not shown")
        log.info("request", path="/x", name="张三 和 李四")
        secret = "a local variable"
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            log.exception("incident")
    finally:
        structlog.configure(**before)
    text = stream.getvalue().decode()
    assert "not shown" not in text
    assert "张三 和 李四" in text
    assert "RuntimeError: broken" in text
    assert secret not in text.replace('secret = "a local variable"', "")


# --- what a problem means ------------------------------------------------------------------------


@pytest.mark.parametrize("code", TITLES)
def test_the_type_of_every_problem_leads_to_its_description(served: Served, code: str) -> None:
    response = served.get(f"/problems/{code}")
    answers.ProblemType.model_validate(response.json())
    page = served.get(f"/problems/{code}", accept="text/html,*/*;q=0.8")
    assert page.headers["content-type"].startswith("text/html")
    assert TITLES[code].name.zh in page.text
    assert TITLES[code].name.en in page.text
    assert "【演示数据】" in page.text
    assert page.headers["x-robots-tag"] == response.headers["x-robots-tag"] == "noindex"


def test_the_document_of_errors_the_schema_and_the_server_know_the_same_codes(
    served: Served,
) -> None:
    text = (Path(__file__).parent.parent / "docs" / "errors.md").read_text(encoding="utf-8")
    anchors = re.findall(r'<a id="([^"]+)">', text)
    schema = served.get("/openapi.json").json()
    (parameter,) = schema["paths"]["/problems/{code}"]["get"]["parameters"][:1]
    assert sorted(anchors) == sorted(parameter["schema"]["enum"]) == sorted(refusals_by_code())
    for code in anchors:
        assert served.get(f"/problems/{code}").json()["type"] == f"/problems/{code}"


def test_no_problem_of_ours_is_not_found(served: Served) -> None:
    for path in ("/problems/nix", "/problems/<script>", "/problems/"):
        problem(served.get(path), 404, "not-found")


# --- the published schema and its page -----------------------------------------------------------


def test_the_schema_names_every_operation_and_how_it_may_answer(served: Served) -> None:
    schema = served.get("/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    assert "bearer" in schema["components"]["securitySchemes"]
    references = set(re.findall(r"#/components/schemas/([\w-]+)", str(schema)))
    assert references <= set(schema["components"]["schemas"])
    ids = []
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            ids.append(operation["operationId"])
            assert operation["summary"], where
            assert operation["tags"], where
            responses = operation["responses"]
            assert {"200", "201", "202"} & set(responses), where
            assert "500" in responses, where
            for status, answer in responses.items():
                assert answer["description"], where
                if status[0] in "45" and path != "/readyz":
                    assert "application/problem+json" in answer["content"], where
            if method == "post":
                assert operation["security"] == [{"bearer": []}], where
                assert operation["requestBody"]["required"], where
                wanted = {"400", "401", "403", "413", "415", "503"}
                # What concerns one provider or one body is told of a line there.
                wanted |= {"408"} if path == "/v1/imports" else {"404", "409", "422"}
                assert wanted <= set(responses), where
    assert len(ids) == len(set(ids))


def test_the_page_of_the_api_shows_every_operation_and_loads_nothing(served: Served) -> None:
    schema = served.get("/openapi.json").json()
    page = served.get("/docs").text
    for path, methods in schema["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in page
    assert "演示数据" in page
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page)
    assert "<script" not in page


def test_the_page_of_the_api_is_there_without_a_database(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise psycopg.OperationalError

    monkeypatch.setattr("api.pages.Pages.rules", fail)
    assert served.get("/docs").status_code == 200


# --- settings ------------------------------------------------------------------------------------


def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHENGXIN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CHENGXIN_PORT", "9999")
    monkeypatch.setenv("CHENGXIN_HOST", "")
    settings = Settings()
    assert (settings.port, settings.host) == (9999, "127.0.0.1")
    assert settings.keys() == tmp_path / "keys"
    assert settings.conninfo() is None


def test_another_database_has_no_keys_unless_they_are_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHENGXIN_DATABASE_URL", "postgresql://u:secret@db/x")
    settings = Settings()
    assert settings.conninfo() == "postgresql://u:secret@db/x"
    assert "secret" not in repr(settings)
    assert settings.keys() is None
    assert Settings(key_dir=tmp_path).keys() == tmp_path


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "ledger.example"])
def test_other_machines_need_a_key_on_purpose(host: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="CHENGXIN_KEY_DIR"):
        Settings(host=host)
    assert Settings(host=host, key_dir=tmp_path).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_the_loopback_is_open_to_nobody_else(host: str) -> None:
    assert Settings(host=host).host == host


def test_what_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHENGXIN_PORT", "70000")
    with pytest.raises(ValidationError):
        Settings()
