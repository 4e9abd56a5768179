"""A hostile session, and then a search through every log: nothing of what was sent stands there."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import structlog
from pydantic import BaseModel, ValidationError

from api import journal
from api.settings import Settings
from tests import given
from tests.test_serve import Process, data_dir, started

MARK = "hush"
"""Stands in everything that was sent and must be found nowhere."""


__all__ = ["data_dir", "started"]


def ask(
    url: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        return connection.getresponse().status
    finally:
        connection.close()


def raw(url: str, sent: bytes) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port), timeout=10) as one:
        one.sendall(sent)
        one.settimeout(5)
        while one.recv(65536):
            pass


def attack(url: str, token: str, provider: str) -> set[int]:
    """What a hostile caller sends; the statuses it got."""
    bearer = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    place = f"/v1/providers/{provider}"
    penalty = given.penalty().model_dump(mode="json")
    statuses = {
        ask(url, "GET", f"{place}/score?as_of={MARK}", headers=bearer),
        ask(url, "GET", f"/{MARK}/../{MARK}", headers=bearer),
        ask(url, "GET", f"/?q={MARK}"),
        ask(url, "GET", "/", headers={"Host": f"{MARK}.example"}),
        ask(url, "GET", "/v1/feed", headers={"Authorization": f"Bearer {MARK}.{MARK}.{MARK}"}),
        ask(url, "GET", "/v1/feed", headers={"Authorization": f"Basic {MARK}"}),
        ask(url, "GET", "/healthz", headers={"X-Request-Id": f"{MARK} {MARK}"}),
        ask(url, "GET", "/healthz", headers={"Cookie": MARK, "User-Agent": MARK, "Referer": MARK}),
        ask(url, "GET", "/healthz", headers={"X-Forwarded-For": MARK, "Forwarded": f"for={MARK}"}),
        ask(url, "POST", f"{place}/penalties", b'{"name": "' + MARK.encode(), bearer),
        ask(url, "POST", f"{place}/penalties", json.dumps({MARK: MARK}).encode(), bearer),
        ask(
            url,
            "POST",
            f"{place}/penalties",
            json.dumps(penalty | {"document": f"{MARK}\0号"}).encode(),
            bearer,
        ),
        ask(
            url,
            "POST",
            f"{place}/penalties",
            json.dumps(penalty).encode(),
            bearer | {"Idempotency-Key": f"{MARK}-key"},
        ),
        ask(
            url,
            "POST",
            f"{place}/penalties",
            json.dumps(penalty | {"incident": "INC-OTHER"}).encode(),
            bearer | {"Idempotency-Key": f"{MARK}-key"},
        ),
        ask(
            url,
            "POST",
            "/v1/imports",
            b'{"key": "hush-1", "provider": "hush", "hush": 1}\nhush\n',
            bearer | {"Content-Type": "application/x-ndjson"},
        ),
        ask(url, "POST", "/v1/providers", b"x" * 400_000, bearer),
    }
    raw(url, f"GET /{MARK} HTTP/9.9\r\nX: {MARK}\r\n\r\n".encode())
    raw(url, MARK.encode() * 20_000)
    raw(url, f"POST / HTTP/1.1\r\nHost: {MARK}\r\nContent-Length: {MARK}\r\n\r\n".encode())
    return statuses


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_log_repeats_what_was_sent(
    data_dir: Path,
    started: list[Process],
    form: str,
) -> None:
    filling = Process("demo", "--providers", 5, "--data-dir", data_dir)
    started.append(filling)
    assert filling.ended()[0] == 0
    serving = Process(
        "serve",
        *("--port", 0, "--data-dir", data_dir),
        CHENGXIN_LOG_FORMAT=form,
        CHENGXIN_LOG_LEVEL="debug",
    )
    started.append(serving)
    url, provider = serving.exported("URL"), serving.exported("PROVIDER")
    token = serving.exported("TOKEN")
    assert {200, 400, 401, 404, 409, 413, 421, 422} <= attack(url, token, provider)
    serving.signal(signal.SIGTERM)
    assert serving.ended()[0] == 0

    logs = {"stderr": "".join(serving.err)}
    for path in data_dir.rglob("*log*"):
        if path.is_file() and path.suffix in (".log", ".txt", ""):
            logs[path.name] = path.read_text(encoding="utf-8", errors="replace")
    assert {"stderr", "server.log"} <= set(logs)
    assert "request" in logs["stderr"]
    secrets = {MARK, token, *token.split("."), provider}
    for key in (data_dir / "keys").rglob("*"):
        if key.is_file() and (content := key.read_bytes()):
            secrets |= {
                content.hex(),
                *re.findall(r"[A-Za-z0-9+/=]{24,}", content.decode("latin-1")),
            }
    for name, text in logs.items():
        for secret in secrets:
            assert secret.lower() not in text.lower(), (name, secret[:8])


def test_an_exception_is_logged_without_the_values_it_repeats() -> None:
    """Models and the database put what they refuse into their messages."""

    class Strict(BaseModel):
        number: int

    def fail() -> None:
        try:
            Strict.model_validate({"number": MARK})
        except ValidationError as error:
            raise psycopg.errors.UniqueViolation(f"DETAIL: Key (name)=({MARK})") from error

    stream = io.BytesIO()
    before = structlog.get_config()
    try:
        journal.configure(Settings(log_format="json"), stream)
        try:
            fail()
        except psycopg.Error:
            structlog.get_logger().exception("incident")
    finally:
        structlog.configure(**before)
    text = stream.getvalue().decode()
    assert MARK not in text
    assert "UniqueViolation" in text
    assert "ValidationError" in text
    assert "test_secrets.py" in text, "where it happened is told"


def test_no_setting_that_is_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"postgresql://chengxin:{MARK}@db/chengxin"
    monkeypatch.setenv("CHENGXIN_DATABASE_URL", url)
    settings = Settings()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{settings!r}"):
        assert MARK not in shown
    assert settings.conninfo() == url
    monkeypatch.setenv("CHENGXIN_PORT", MARK)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert os.environ["CHENGXIN_DATABASE_URL"] not in str(refused.value)
