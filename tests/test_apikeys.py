"""API keys: what one looks like, what is kept of it, what it opens, and how it ends."""

from __future__ import annotations

import os
import random
import string
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx2
import orjson
import psycopg
import pytest
from structlog.testing import capture_logs

from api.apikeys import store
from api.apikeys.secret import (
    PREFIX,
    SECRET_CHARACTERS,
    digest_of,
    is_whole,
    new_secret,
    shown_of,
)
from api.apikeys.store import KEYMAKER_ROLE, ApiKey, Keymaker
from ledger.database import READER_ROLE, SERVICE_ROLE, Database
from ledger.store import system_clock
from projections.runner import migrate_projections
from tests import given
from tests.conftest import Clock, new_ledger
from tests.provider import AUDIENCE, providing
from tests.serving import Served, problem, serving, wait_until
from tests.test_serve import Process

DENIED = psycopg.errors.InsufficientPrivilege


def made(clock: Callable[[], object], **changes: object) -> tuple[str, ApiKey]:
    """A key, and what is kept of it."""
    secret = new_secret(os.urandom)
    now = clock()
    fields: dict[str, object] = {
        "id": UUID(bytes=os.urandom(16), version=4),
        "shown": shown_of(secret),
        "digest": digest_of(secret),
        "organisation": "CN-READER",
        "ref": "0198c7a0-0000-4000-8000-00000000000a",
        "scopes": ["feed"],
        "made_at": now,
        "expires_at": now + timedelta(days=30),  # type: ignore[operator]
    }
    return secret, ApiKey(**fields | changes)  # type: ignore[arg-type]


@pytest.fixture
def served(databases: Callable[[], Database], tmp_path: Path, clock: Clock) -> Iterator[Served]:
    with serving(
        databases(), tmp_path / "keys", clock, new_ledger=new_ledger, access_log=True
    ) as served:
        yield served


def keep(served: Served, clock: Clock, **changes: object) -> str:
    """Make a key known to a server."""
    secret, key = made(clock, **changes)
    Keymaker(served.ledger.database).add(key)
    return secret


def ask(served: Served, secret: str, path: str = "/v1/feed", **headers: str) -> httpx2.Response:
    """GET with a key."""
    return served.client.get(path, headers={"Authorization": f"Bearer {secret}"} | headers)


# --- what one looks like -------------------------------------------------------------------------


def test_a_key_holds_256_bits_and_is_known_by_its_beginning() -> None:
    assert 62**SECRET_CHARACTERS > 2**256
    lowest, highest = new_secret(bytes), new_secret(lambda n: b"\xff" * n)
    assert len(lowest) == len(highest) == 53
    keys = {new_secret(os.urandom) for _ in range(200)}
    assert len(keys) == 200
    for key in (*keys, lowest, highest):
        assert is_whole(key)
        assert key.startswith(PREFIX)
        assert set(key[4:]) <= set(string.ascii_letters + string.digits)


def test_every_slip_of_the_hand_is_found_without_asking_anybody() -> None:
    chance = random.Random(1)
    key = new_secret(chance.randbytes)
    for place in range(4, len(key)):
        other = chance.choice(sorted(set(string.ascii_letters + string.digits) - {key[place]}))
        assert not is_whole(key[:place] + other + key[place + 1 :])
        assert not is_whole(key[:place] + key[place + 1 :])
        if place + 1 < len(key) and key[place] != key[place + 1]:
            assert not is_whole(key[:place] + key[place + 1] + key[place] + key[place + 2 :])
    for text in ("", PREFIX, key + "0", key + "\n", key.lower(), key.replace("cxk_", "cxk-")):
        assert not is_whole(text)


# --- what is kept --------------------------------------------------------------------------------


def test_the_database_holds_nothing_that_opens_anything(served: Served, clock: Clock) -> None:
    secret = keep(served, clock)
    assert ask(served, secret).status_code == 200
    with served.ledger.database.connect(role=None) as connection:
        rows = connection.execute("SELECT keys::text FROM apikeys.keys").fetchall()
    assert len(rows) == 1
    assert secret[4:12] in rows[0][0]
    assert secret[12:24] not in rows[0][0]


def test_a_key_stays_as_it_was_made(served: Served, clock: Clock) -> None:
    keep(served, clock, revoked_at=clock())
    with served.ledger.database.connect(role=None) as owner:
        for statement in (
            "UPDATE apikeys.keys SET revoked_at = NULL",
            "UPDATE apikeys.keys SET scopes = '{feed,read}'",
            "UPDATE apikeys.keys SET expires_at = expires_at + interval '1 day'",
            "UPDATE apikeys.keys SET organisation = 'CN-OTHER'",
            "DELETE FROM apikeys.keys",
            "TRUNCATE apikeys.keys",
        ):
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
                owner.execute(statement.encode())
        with pytest.raises(psycopg.errors.CheckViolation):
            Keymaker(served.ledger.database).add(made(clock, scopes=["write"])[1])


def test_each_role_may_do_its_own_and_no_more(served: Served, clock: Clock) -> None:
    keep(served, clock)
    use = "UPDATE apikeys.keys SET last_used = '2026-03-02'"
    revoke = "UPDATE apikeys.keys SET revoked_at = now()"
    insert = "INSERT INTO apikeys.keys SELECT * FROM apikeys.keys LIMIT 0"
    delete = "DELETE FROM apikeys.keys WHERE false"
    read = "SELECT count(*) FROM apikeys.keys"
    for role, allowed in {
        SERVICE_ROLE: {read, use},
        KEYMAKER_ROLE: {read, revoke, insert},
        READER_ROLE: set(),
    }.items():
        with served.ledger.database.connect(role=role) as connection:
            for statement in (read, use, revoke, insert, delete):
                if statement in allowed:
                    connection.execute(statement.encode())
                else:
                    with pytest.raises(DENIED):
                        connection.execute(statement.encode())


# --- what it opens -------------------------------------------------------------------------------


def test_a_key_opens_what_its_scopes_say_and_writes_nothing(served: Served, clock: Clock) -> None:
    feed, read = keep(served, clock), keep(served, clock, scopes=["read"])
    assert ask(served, feed).status_code == 200
    problem(ask(served, feed, "/v1/events/1"), 403, "scope-missing")
    problem(ask(served, read), 403, "scope-missing")
    assert ask(served, read, "/v1/events/1").status_code == 200
    problem(ask(served, read, "/v1/quarantine"), 403, "not-allowed")
    for path in ("/v1/providers", "/v1/imports", "/v1/quarantine/1/rejection"):
        headers = {"Authorization": f"Bearer {read}"}
        response = served.client.post(path, json={}, headers=headers)
        problem(response, 403, "scope-missing")


def test_a_reader_by_key_sees_what_a_subscriber_sees(served: Served, clock: Clock) -> None:
    served.provide()
    served.penalise()
    served.follow()
    secret = keep(served, clock)
    assert ask(served, secret).content == served.get("/v1/feed", "subscriber").content


def test_whatever_is_no_key_is_told_so_and_repeated_nowhere(served: Served, clock: Clock) -> None:
    revoked = keep(served, clock, revoked_at=clock())
    good = keep(served, clock)
    tried = {
        "api-key-malformed": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "api-key-unknown": new_secret(os.urandom),
        "api-key-revoked": revoked,
    }
    with capture_logs() as logs:
        for code, secret in tried.items():
            response = ask(served, secret)
            problem(response, 401, code)
            assert secret[12:] not in response.text + str(response.headers)
        assert ask(served, good).status_code == 200
    assert logs
    assert not [one for one in logs if any(key[12:] in str(one) for key in (*tried.values(), good))]


def test_time_ends_a_key_and_its_streams(served: Served, clock: Clock) -> None:
    secret = keep(served, clock)
    clock.advance(days=29, hours=23, minutes=59, seconds=59)
    assert ask(served, secret).status_code == 200
    clock.advance(seconds=1)
    problem(ask(served, secret), 401, "api-key-expired")


def test_a_digest_of_another_key_opens_nothing(
    served: Served, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the look-up ever find the wrong row, the comparison still refuses it."""
    keep(served, clock)
    monkeypatch.setattr(store, "FIND", store.FIND.replace(b"digest = %s", b"%s IS NOT NULL"))
    problem(ask(served, new_secret(os.urandom)), 401, "api-key-unknown")


def test_the_day_of_use_is_noted_once_a_day(served: Served, clock: Clock) -> None:
    secret = keep(served, clock)
    maker = Keymaker(served.ledger.database)
    days = []
    for _ in range(2):
        for _ in range(5):
            assert ask(served, secret).status_code == 200
        days.append(maker.all()[0].last_used)
        clock.advance(days=1)
        time.sleep(store.KNOWN_SECONDS)
    assert [str(day) for day in days] == ["2026-03-02", "2026-03-03"]


def test_known_keys_and_unknown_ones_are_remembered_within_bounds(
    served: Served, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_KNOWN", 3)
    secret = keep(served, clock)
    for _ in range(10):
        problem(ask(served, new_secret(os.urandom)), 401, "api-key-unknown")
        assert ask(served, secret).status_code == 200
    callers = served.callers
    assert callers is not None
    assert callers._keys is not None
    assert len(callers._keys._known) == 3


# --- two servers, and the command line -----------------------------------------------------------


def told(environment: dict[str, str], *words: str, exit_code: int = 0) -> list[str]:
    """What a command printed, once it has ended with this exit code."""
    process = Process(*words, **environment)
    code, _ = process.ended()
    assert code == exit_code, process.err
    return process.out


@pytest.fixture
def environment(databases: Callable[[], Database], tmp_path: Path) -> dict[str, str]:
    """What every process of one installation is told."""
    database = databases()
    migrate_projections(database)
    return {
        "CHENGXIN_DATABASE_URL": database.conninfo,
        "CHENGXIN_KEY_DIR": str(tmp_path / "keys"),
    }


def opened(environment: dict[str, str]) -> None:
    """Open the ledger."""
    names = ("--name", "Test", "--origin", "ledger.example", "--purpose", "production")
    told(environment, "open", *names)


def test_a_key_revoked_at_the_command_line_is_refused_by_every_server_and_ends_its_streams(
    environment: dict[str, str],
) -> None:
    opened(environment)
    asked = ("apikey", "create", "--org", "CN-READER", "--scope", "feed", "--days", "30")
    (line,) = told(environment, *asked)
    secret = line.strip()
    assert is_whole(secret)
    headers = {"Authorization": f"Bearer {secret}"}
    with ExitStack() as stack:
        servers = [Process("serve", "--port", "0", **environment) for _ in range(2)]
        for server in servers:
            stack.callback(server.kill)
        clients = [
            stack.enter_context(
                httpx2.Client(base_url=server.exported("URL"), headers=headers, timeout=30)
            )
            for server in servers
        ]
        for client in clients:
            assert client.get("/v1/feed").status_code == 200
        accept = {"Accept": "text/event-stream"}
        stream = stack.enter_context(clients[0].stream("GET", "/v1/feed?after=1", headers=accept))
        parts = stream.iter_text()
        assert next(parts).startswith("retry")
        (line,) = told(environment, "apikey", "list", "--json")
        assert orjson.loads(line)["last_used"] is not None
        assert secret[12:] not in line
        told(environment, "apikey", "revoke", shown_of(secret))
        deadline = time.monotonic() + store.KNOWN_SECONDS + 1
        for client in clients:
            wait_until(lambda one=client: one.get("/v1/feed").status_code == 401)  # type: ignore[misc]
            problem(client.get("/v1/feed"), 401, "api-key-revoked")
        assert time.monotonic() < deadline
        registrar = ("token", "--role", "registrar", "--org", "CN-REG-1", "--person", "zhang.san")
        (token,) = told(environment, *registrar)
        body = {"identifier": given.PROVIDER, **given.register().model_dump(mode="json")}
        bearer = {"Authorization": f"Bearer {token.strip()}"}
        assert clients[1].post("/v1/providers", json=body, headers=bearer).status_code == 201
        # What is new wakes the stream, which gives nothing of it and ends.
        assert "id:" not in "".join(parts)


def test_one_person_is_one_reference_in_every_process(environment: dict[str, str]) -> None:
    opened(environment)
    people = {"zhang.san": {"role": "registrar"}}
    with ExitStack() as stack:
        provider = stack.enter_context(providing(people, clock=system_clock))
        issuer = {
            "issuer": provider.issuer,
            "audience": AUDIENCE,
            "role": {"claim": "role"},
            "organisation": {"fixed": "CN-REG-1"},
            "roles": ["registrar"],
            "organisations": ["CN-REG-1"],
        }
        issuers = {"CHENGXIN_ISSUERS": orjson.dumps([issuer]).decode()}
        servers = [Process("serve", "--port", "0", **environment | issuers) for _ in range(2)]
        for server in servers:
            stack.callback(server.kill)
        for server, identifier in zip(servers, given.PROVIDERS, strict=False):
            response = httpx2.post(
                f"{server.exported('URL')}/v1/providers",
                json={"identifier": identifier, **given.register().model_dump(mode="json")},
                headers={"Authorization": f"Bearer {provider.token()}"},
                timeout=30,
            )
            assert response.status_code == 201, response.text
    with new_ledger(Database(environment["CHENGXIN_DATABASE_URL"]), system_clock) as ledger:
        log = [orjson.loads(stored.state) for stored in ledger.read(1, 10)]
    assert len({event["actorref"] for event in log}) == 1
    assert "zhang" not in str(log)


def test_a_name_keeps_its_reference_and_no_name_is_a_new_person(
    environment: dict[str, str],
) -> None:
    asked = ("token", "--role", "decision_maker", "--org", "CN-REG-1", "--json")
    refs = [
        orjson.loads(told(environment, *asked, *more)[0])["ref"]
        for more in (("--person", "张三"), ("--person", "李四"), ("--person", "张三"), (), ())
    ]
    assert refs[0] == refs[2]
    assert len(set(refs)) == 4
    unnamed = Process(*asked, **environment)
    unnamed.ended()
    assert "--person" in "".join(unnamed.err)
    told(environment, *asked, "--person", "a", "--ref", refs[0], exit_code=2)
    with psycopg.connect(environment["CHENGXIN_DATABASE_URL"]) as connection:
        rows = connection.execute("SELECT r::text FROM ledger_vault.chengxin_references r")
        assert "张三" not in str(rows.fetchall())


def test_the_command_line_makes_no_key_that_lives_too_long_or_for_nobody(
    environment: dict[str, str],
) -> None:
    limited = environment | {"CHENGXIN_API_KEY_DAYS": "90"}
    good = {"--org": "CN-READER", "--scope": "feed", "--days": "90"}
    for option, value in (("--days", "91"), ("--org", "张三"), ("--scope", "write")):
        words = [word for pair in (good | {option: value}).items() for word in pair]
        told(limited, "apikey", "create", *words, exit_code=2)
    told(limited, "apikey", "revoke", "cxk_00000000", exit_code=1)


def test_issuers_that_make_no_sense_end_the_server_at_once(environment: dict[str, str]) -> None:
    process = Process("serve", "--port", "0", **environment, CHENGXIN_ISSUERS='[{"issuer": "x"}]')
    code, _ = process.ended()
    assert code == 2
    assert "no https address" in "".join(process.err) or "audience" in "".join(process.err)
