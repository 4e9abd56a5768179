"""Keys that only their owner may read; tokens that cannot be forged, bent, or used too long."""

from __future__ import annotations

import base64
import hmac
import json
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jws, jwt
from joserfc.jwk import OKPKey, RSAKey

from api import unadmitted
from api.callers import Callers
from api.roles import ROLES
from api.security import (
    IDEMPOTENCY_KEY,
    MAX_CACHED_TOKENS,
    SIGNING_KEY,
    Claims,
    Tokens,
)
from ledger.database import Database
from ledger.keyfile import KeyFileError
from tests import given
from tests.conftest import Clock, new_ledger
from tests.serving import Served, problem, serving

REF = "0198c7a0-0000-4000-8000-000000000001"
ISSUER, AUDIENCE = "chengxin", "chengxin-ledger"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def tokens(keys: Path, clock: Clock) -> Tokens:
    return Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("served") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        served.provide()
        yield served


def claims(clock: Clock, **changes: Any) -> dict[str, Any]:
    now = int(clock().timestamp())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "jti": REF,
        "role": "registrar",
        "org": "CN-REG-1",
        "ref": REF,
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


def signed(keys: Path, clock: Clock, **changes: Any) -> str:
    """A token signed with the system's own key, whatever it claims."""
    key = OKPKey.import_key((keys / SIGNING_KEY).read_bytes())
    return jwt.encode({"alg": "Ed25519"}, claims(clock, **changes), key, algorithms=["Ed25519"])


def part(data: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


# --- keys ----------------------------------------------------------------------------------------


def test_keys_are_made_private(tokens: Tokens, keys: Path) -> None:
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    names = {file.name for file in keys.iterdir() if file.suffix != ".lock"}
    assert names == {SIGNING_KEY, IDEMPOTENCY_KEY}
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys.iterdir()} == {0o600}


@pytest.mark.parametrize("name", [SIGNING_KEY, IDEMPOTENCY_KEY])
def test_a_key_that_others_can_read_is_refused(
    tokens: Tokens, keys: Path, clock: Clock, name: str
) -> None:
    (keys / name).chmod(0o640)
    with pytest.raises(KeyFileError, match=f"{name} must be a file .* it has mode 640"):
        Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)


def test_a_folder_that_others_can_enter_is_refused(keys: Path, clock: Clock) -> None:
    keys.mkdir(mode=0o755)
    with pytest.raises(KeyFileError, match="closed to others"):
        Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)
    assert not list(keys.iterdir())


def test_a_link_in_place_of_a_key_is_refused(tokens: Tokens, keys: Path, clock: Clock) -> None:
    (keys / SIGNING_KEY).rename(keys / "elsewhere")
    (keys / SIGNING_KEY).symlink_to(keys / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (SIGNING_KEY, b""),
        (SIGNING_KEY, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        (IDEMPOTENCY_KEY, b"short"),
    ],
)
def test_a_damaged_key_is_told(
    tokens: Tokens, keys: Path, clock: Clock, name: str, content: bytes
) -> None:
    (keys / name).write_bytes(content)
    with pytest.raises(KeyFileError, match=name):
        Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)


def test_a_public_or_foreign_key_does_not_sign(tokens: Tokens, keys: Path, clock: Clock) -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = OKPKey.import_key((keys / SIGNING_KEY).read_bytes()).as_pem(private=False)
    for content in (pem, public):
        (keys / SIGNING_KEY).write_bytes(content)
        with pytest.raises(KeyFileError, match="Ed25519"):
            Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)


def test_many_starts_at_once_agree_on_one_key(keys: Path, clock: Clock) -> None:
    made: list[Tokens] = []

    def start() -> None:
        made.append(Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    token = made[0].issue(role="auditor", organisation="CN-AUDIT")
    assert len({one.verify(token) for one in made}) == 1
    assert len({one.digest(b"request") for one in made}) == 1
    names = {file.name for file in keys.iterdir() if file.suffix != ".lock"}
    assert names == {SIGNING_KEY, IDEMPOTENCY_KEY}


def test_the_digest_tells_requests_apart(tokens: Tokens) -> None:
    digests = {
        tokens.digest(*parts)
        for parts in [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"", b"abc"), (b"1:a",), (b"a",)]
    }
    assert len(digests) == 6
    assert tokens.digest(b"a") in digests


# --- tokens --------------------------------------------------------------------------------------


def test_a_token_says_who_its_bearer_is(tokens: Tokens, clock: Clock) -> None:
    found = tokens.verify(tokens.issue(role="registrar", organisation="CN-REG-1", ref=REF))
    assert (found.role, found.organisation, found.ref) == ("registrar", "CN-REG-1", REF)
    assert found.expires - int(clock().timestamp()) == 12 * 3600
    assert found.actor.ref == REF
    assert found.reader.role == "registrar"


def test_each_token_draws_its_own_reference(tokens: Tokens) -> None:
    first, second = (
        tokens.verify(tokens.issue(role="client", organisation="CN-X")) for _ in range(2)
    )
    assert first.ref != second.ref
    assert first.token_id != second.token_id


@pytest.mark.parametrize(
    ("role", "organisation", "ref"),
    [
        ("system", "CN-REG-1", REF),
        ("root", "CN-REG-1", REF),
        ("", "CN-REG-1", REF),
        ("registrar", "张三", REF),
        ("registrar", "x", REF),
        ("registrar", "CN-REG-1\n", REF),
        ("registrar", "CN-REG-1", "1"),
        ("registrar", "CN-REG-1", REF.upper().replace("0198C7A0", "0198C7AF")),
        ("provider", "91999999MA00TEXT00", REF),
        ("provider", "91999999ma00text0h", REF),
    ],
)
def test_no_token_is_issued_for_what_no_token_may_carry(
    tokens: Tokens, role: str, organisation: str, ref: str
) -> None:
    with pytest.raises(ValueError, match="no token for"):
        tokens.issue(role=role, organisation=organisation, ref=ref)


def test_every_role_gets_tokens(tokens: Tokens) -> None:
    for role in ROLES:
        issued = tokens.issue(role=role, organisation=given.PROVIDER)
        assert tokens.verify(issued).role == role


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"iss": "somebody"}, unadmitted.TokenWrongIssuer),
        ({"iss": ...}, unadmitted.TokenWrongIssuer),
        ({"aud": "another"}, unadmitted.TokenWrongAudience),
        ({"aud": [AUDIENCE, "another"]}, unadmitted.TokenWrongAudience),
        ({"aud": ...}, unadmitted.TokenWrongAudience),
        ({"role": "system"}, unadmitted.TokenMalformed),
        ({"role": ["registrar"]}, unadmitted.TokenMalformed),
        ({"org": "张三"}, unadmitted.TokenMalformed),
        ({"org": ...}, unadmitted.TokenMalformed),
        ({"ref": "nobody"}, unadmitted.TokenMalformed),
        ({"jti": 7}, unadmitted.TokenMalformed),
        ({"exp": ...}, unadmitted.TokenMalformed),
        ({"exp": "never"}, unadmitted.TokenMalformed),
        ({"exp": 1e300}, unadmitted.TokenMalformed),
        ({"exp": True}, unadmitted.TokenMalformed),
        ({"nbf": ...}, unadmitted.TokenMalformed),
    ],
)
def test_claims_that_are_not_ours_are_refused(
    tokens: Tokens, keys: Path, clock: Clock, changes: dict[str, Any], refusal: type[Exception]
) -> None:
    tokens.verify(signed(keys, clock))
    with pytest.raises(refusal):
        tokens.verify(signed(keys, clock, **changes))


def test_time_ends_a_token_that_was_verified_before(tokens: Tokens, clock: Clock) -> None:
    token = tokens.issue(role="auditor", organisation="CN-AUDIT", hours=1)
    assert tokens.verify(token) is tokens.verify(token)
    clock.advance(minutes=59, seconds=59)
    tokens.verify(token)
    clock.advance(seconds=1)
    for _ in range(2):
        with pytest.raises(unadmitted.TokenExpired):
            tokens.verify(token)
    clock.advance(hours=-2)
    with pytest.raises(unadmitted.TokenNotYetValid):
        tokens.verify(token)


def test_leeway_bears_clocks_that_differ(keys: Path, clock: Clock) -> None:
    tokens = Tokens(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock, leeway_seconds=30)
    token = tokens.issue(role="auditor", organisation="CN-AUDIT", hours=1)
    clock.advance(seconds=-30)
    tokens.verify(token)
    clock.advance(seconds=-1)
    with pytest.raises(unadmitted.TokenNotYetValid):
        tokens.verify(token)
    clock.advance(seconds=31 + 3600 + 29)
    tokens.verify(token)
    clock.advance(seconds=1)
    with pytest.raises(unadmitted.TokenExpired):
        tokens.verify(token)


def test_the_cache_of_verified_tokens_is_bounded(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.security.MAX_CACHED_TOKENS", 3)
    for _ in range(10):
        tokens.verify(tokens.issue(role="auditor", organisation="CN-AUDIT"))
    assert len(tokens._verified) == 3
    assert MAX_CACHED_TOKENS > 3


# --- attacks, over HTTP --------------------------------------------------------------------------


def attacks(keys: Path, clock: Clock) -> Iterator[tuple[str, str, str]]:
    """What is tried, the token, and the code of its refusal."""
    good = signed(keys, clock)
    header, payload, signature = good.split(".")
    public = OKPKey.import_key((keys / SIGNING_KEY).read_bytes()).as_pem(private=False)
    confused = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{payload}"
    mac = hmac.digest(public, confused.encode(), "sha256")
    rsa_key = RSAKey.generate_key(2048)
    body = claims(clock)
    stranger = OKPKey.generate_key("Ed25519")
    ours = OKPKey.import_key((keys / SIGNING_KEY).read_bytes())
    yield "none", f"{part({'alg': 'none'})}.{payload}.", "token-algorithm"
    yield "None", f"{part({'alg': 'None'})}.{payload}.{signature}", "token-algorithm"
    yield "no alg", f"{part({'typ': 'JWT'})}.{payload}.{signature}", "token-malformed"
    yield (
        "HS256 keyed with the public key",
        f"{confused}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}",
        "token-algorithm",
    )
    yield (
        "RS256",
        jwt.encode({"alg": "RS256"}, body, rsa_key, algorithms=["RS256"]),
        "token-algorithm",
    )
    yield "EdDSA", f"{part({'alg': 'EdDSA'})}.{payload}.{signature}", "token-algorithm"
    yield (
        "a stranger's key",
        jwt.encode({"alg": "Ed25519"}, body, stranger, algorithms=["Ed25519"]),
        "token-forged",
    )
    yield (
        "a stranger's key in the header",
        jws.serialize_compact(
            {"alg": "Ed25519", "jwk": stranger.as_dict(private=False)},
            json.dumps(body),
            stranger,
            algorithms=["Ed25519"],
        ),
        "token-forged",
    )
    yield "another role", f"{header}.{part(body | {'role': 'auditor'})}.{signature}", "token-forged"
    yield "no signature", f"{header}.{payload}.", "token-forged"
    yield "cut", good[:-4], "token-forged"
    yield "not JSON", f"{header}.{part('x')}.{signature}", "token-forged"
    yield "two parts", f"{header}.{payload}", "token-malformed"
    yield "five parts", f"{good}.{payload}.{signature}", "token-malformed"
    yield "not base64", f"{header}.{payload}.%%%", "token-forged"
    yield "empty parts", "..", "token-malformed"
    yield "long", f"{header}.{payload}.{'A' * 8000}", "token-malformed"
    deep = jws.serialize_compact({"alg": "Ed25519"}, "[" * 3000, ours, algorithms=["Ed25519"])
    yield "claims that are no object", deep, "token-malformed"
    yield (
        "critical extension",
        f"{part({'alg': 'Ed25519', 'crit': ['b64'], 'b64': False})}.{payload}.{signature}",
        "token-forged",
    )
    yield "expired", signed(keys, clock, exp=int(clock().timestamp()) - 60), "token-expired"
    yield (
        "not valid yet",
        signed(keys, clock, nbf=int(clock().timestamp()) + 60),
        "token-not-yet-valid",
    )
    yield "another issuer", signed(keys, clock, iss="elsewhere"), "token-wrong-issuer"
    yield "another audience", signed(keys, clock, aud="elsewhere"), "token-wrong-audience"
    yield "the worker's role", signed(keys, clock, role="system"), "token-malformed"


def test_every_attack_on_a_token_is_a_clear_401(served: Served) -> None:
    head = served.head()
    tried = list(attacks(served.keys, Clock()))
    assert len(tried) > 20
    for what, token, code in tried:
        for path in ("/v1/feed", f"/v1/providers/{given.PROVIDER}/score", "/v1/events/1"):
            headers = {"Authorization": f"Bearer {token}"}
            told = problem(served.client.get(path, headers=headers), 401, code)
            assert token not in json.dumps(told), what
        response = served.client.post(
            f"/v1/providers/{given.PROVIDER}/penalties",
            json=given.penalty().model_dump(mode="json"),
            headers={"Authorization": f"Bearer {token}"},
        )
        problem(response, 401, code)
        assert response.headers["www-authenticate"].startswith(
            'Bearer realm="chengxin", error="invalid_token"'
        )
    assert served.head() == head


@pytest.mark.parametrize("header", ["Basic eDp5", "Bearer", "bearer", "x", "Token abc"])
def test_another_header_is_no_token(served: Served, header: str) -> None:
    response = served.client.get("/v1/feed", headers={"Authorization": header})
    problem(response, 401, "token-malformed")


def test_two_tokens_are_none(served: Served) -> None:
    token = f"Bearer {served.token()}"
    response = served.client.get(
        "/v1/feed", headers=[("Authorization", token), ("Authorization", token)]
    )
    problem(response, 401, "token-malformed")


def test_without_a_token_the_answer_tells_how_to_show_one(served: Served) -> None:
    for response in (
        served.client.get("/v1/feed"),
        served.client.post(f"/v1/providers/{given.PROVIDER}/penalties", json={}),
    ):
        problem(response, 401, "token-missing")
        assert response.headers["www-authenticate"] == (
            f'Bearer realm="chengxin", resource_metadata="http://127.0.0.1:{served.port}'
            '/.well-known/oauth-protected-resource"'
        )


def test_the_scheme_is_written_in_any_case(served: Served) -> None:
    headers = {"Authorization": f"bEaReR {served.token('subscriber')}"}
    assert served.client.get("/v1/feed", headers=headers).status_code == 200


def test_a_server_without_keys_refuses_every_token(
    databases: Callable[[], Database], tmp_path: Path
) -> None:
    with serving(
        databases(), tmp_path / "keys", Clock(), new_ledger=new_ledger, with_tokens=False
    ) as served:
        token = Tokens(tmp_path / "own", issuer=ISSUER, audience=AUDIENCE, clock=Clock()).issue(
            role="registrar", organisation="CN-REG-1"
        )
        headers = {"Authorization": f"Bearer {token}"}
        body = {"identifier": given.PROVIDER, **given.register().model_dump(mode="json")}
        problem(served.client.post("/v1/providers", json=body, headers=headers), 401, "tokens-off")
        problem(served.client.post("/v1/providers", json=body), 401, "token-missing")
        assert served.client.get("/v1/ledger").status_code == 200
        assert served.head() == 1


# --- scopes --------------------------------------------------------------------------------------


class Held(Callers):
    """Holds every bearer to certain scopes, whatever he shows."""

    def __init__(self, tokens: Tokens, *scopes: str) -> None:
        super().__init__(tokens)
        self._scopes = frozenset(scopes)

    def known(self, token: str) -> None:
        return None

    async def verify(self, token: str) -> Claims:
        return replace(await super().verify(token), scopes=self._scopes)


@pytest.mark.parametrize(
    ("held_to", "allowed"),
    [
        ((), set()),
        (("feed",), {"feed"}),
        (("read",), {"read"}),
        (("write", "feed"), {"write", "feed"}),
    ],
)
def test_who_is_held_to_a_scope_gets_in_only_there(
    databases: Callable[[], Database],
    tmp_path: Path,
    held_to: tuple[str, ...],
    allowed: set[str],
) -> None:
    with serving(
        databases(),
        tmp_path / "keys",
        Clock(),
        new_ledger=new_ledger,
        called=lambda tokens, *_: Held(tokens, *held_to),
    ) as served:
        doors = [
            ("feed", served.get("/v1/feed", "registrar")),
            ("read", served.get("/v1/events/1", "registrar")),
            ("read", served.get("/v1/quarantine", "registrar")),
            ("write", served.post("/v1/providers", {})),
            ("write", served.post("/v1/imports", {})),
            ("write", served.post("/v1/quarantine/1/rejection", {})),
        ]
        for scope, response in doors:
            if scope in allowed:
                assert response.status_code in (200, 415, 422), response.text
            else:
                assert problem(response, 403, "scope-missing")["facts"]["scope"] == scope
        # What is open to everybody asks nobody.
        assert served.get("/v1/ledger", "registrar").status_code == 200


def test_a_token_that_names_nobody_is_no_officer(tokens: Tokens) -> None:
    """Two tokens of one person would otherwise be two people (`chengxin token` without a name)."""
    drawn = [
        tokens.verify(tokens.issue(role="registrar", organisation="CN-REG-1")).actor for _ in "12"
    ]
    assert drawn[0] != drawn[1]
    assert not any(one.is_person for one in drawn)
    named = tokens.verify(tokens.issue(role="registrar", organisation="CN-REG-1", ref=REF)).actor
    assert named.is_person
