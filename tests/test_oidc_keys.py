"""The keys of an issuer that rotates them, goes away, is slow, or answers what it should not."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from api.oidc import fetch
from api.oidc.fetch import FetchFailed, fetch_json
from api.oidc.issuer import ANY, IssuersError, issuers_of
from api.oidc.keys import ASK_SECONDS, MAX_KEYS, keys_in
from ledger.database import Database
from tests import provider as providers
from tests.conftest import Clock, Run
from tests.provider import AUDIENCE, part, providing
from tests.serving import problem, wait_until
from tests.test_oidc import MAPPING, Scene, ask, is_let_in, staged

JWKS = "/jwks"


@pytest.fixture
def scene(databases: Callable[[], Database], tmp_path: Path, clock: Clock) -> Iterator[Scene]:
    with staged(databases(), tmp_path / "keys", clock) as scene:
        yield scene


# --- rotation ------------------------------------------------------------------------------------


def test_a_key_that_is_new_is_asked_for_at_once(scene: Scene) -> None:
    old = scene.provider.token()
    assert is_let_in(scene, old)
    scene.ticks.now += ASK_SECONDS
    scene.provider.add()
    assert is_let_in(scene, scene.provider.token())
    # Both are shown: the old one is still good.
    assert is_let_in(scene, old)
    assert scene.provider.asked[JWKS] == 2


def test_what_a_retired_key_signed_is_refused_even_if_it_was_verified_before(scene: Scene) -> None:
    old = scene.provider.token()
    another = scene.provider.token()
    assert is_let_in(scene, old)
    scene.ticks.now += ASK_SECONDS
    scene.provider.rotate("ES256")
    assert is_let_in(scene, scene.provider.token())
    for token in (old, another):
        problem(ask(scene, token), 401, "token-key-unknown")


def test_keys_are_renewed_beside_the_requests_while_tokens_come(scene: Scene) -> None:
    token = scene.provider.token()
    assert is_let_in(scene, token)
    scene.provider.rotate("ES256")
    scene.ticks.now += 299
    assert is_let_in(scene, token)
    scene.ticks.now += 1
    scene.provider.seconds_slow = 0.3
    began = time.monotonic()
    assert is_let_in(scene, token), "nobody waits for keys that are not needed"
    assert time.monotonic() - began < 0.3
    wait_until(lambda: not is_let_in(scene, token))


def test_nobody_can_make_us_hammer_an_issuer(scene: Scene) -> None:
    assert is_let_in(scene, scene.provider.token())
    scene.ticks.now += ASK_SECONDS
    token = scene.provider.sign(scene.provider.claims(), kid="nobody's")
    for _ in range(30):
        problem(ask(scene, token), 401, "token-key-unknown")
    assert scene.provider.asked[JWKS] == 2
    scene.ticks.now += ASK_SECONDS - 0.1
    problem(ask(scene, token), 401, "token-key-unknown")
    assert scene.provider.asked[JWKS] == 2


def test_many_at_once_ask_once(scene: Scene) -> None:
    scene.provider.seconds_slow = 0.3
    tokens = [scene.provider.token() for _ in range(8)]
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda one=one: found.append(is_let_in(scene, one)))
        for one in tokens
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert scene.provider.asked[JWKS] == 1


# --- an issuer that is away ----------------------------------------------------------------------


def test_how_it_stands_with_an_issuer_is_told(scene: Scene) -> None:
    def told() -> tuple[Any, dict[str, float]]:
        ready = scene.served.get("/readyz")
        assert ready.status_code == 200
        figures = scene.served.get("/metrics").text
        name = re.escape(scene.provider.issuer)
        found = re.findall(
            rf'^chengxin_(issuer_\w+)\{{issuer="{name}"\}} (\S+)$', figures, re.MULTILINE
        )
        return ready.json()["issuers"][scene.provider.issuer], {n: float(v) for n, v in found}

    failing, fetched = "issuer_failing_seconds", "issuer_keys_fetched_seconds_ago"
    never = {"fetched_seconds_ago": None, "failing_for_seconds": None}
    assert told() == (never, {failing: 0})
    token = scene.provider.token()
    assert is_let_in(scene, token)
    scene.ticks.now += 300
    assert told() == (never | {"fetched_seconds_ago": 300}, {failing: 0, fetched: 300})
    scene.provider.stop()
    assert is_let_in(scene, token)
    wait_until(lambda: told()[0]["failing_for_seconds"] is not None)
    scene.ticks.now += 60
    now = {"fetched_seconds_ago": 360, "failing_for_seconds": 60}
    assert told() == (now, {failing: 60, fetched: 360})
    scene.provider.start()
    assert is_let_in(scene, token)
    wait_until(lambda: told()[0]["failing_for_seconds"] is None)
    assert told() == (never | {"fetched_seconds_ago": 0}, {failing: 0, fetched: 0})


def test_known_keys_stay_good_for_a_while_and_then_it_is_said(scene: Scene) -> None:
    token, fresh = scene.provider.token(), scene.provider.token()
    assert is_let_in(scene, token)
    scene.provider.stop()
    scene.ticks.now += 3599
    assert is_let_in(scene, token)
    assert is_let_in(scene, fresh)
    scene.ticks.now += 1
    for one in (token, fresh, scene.provider.token()):
        response = ask(scene, one)
        told = problem(response, 503, "issuer-unavailable")
        assert told["facts"]["issuer"] == scene.provider.issuer
        assert response.headers["retry-after"]
    # Whoever is not its bearer is served as ever.
    assert scene.served.get("/v1/events/2", "auditor").status_code == 200
    assert is_let_in(scene, scene.other.token("adapter", groups="platform", scope="read")) is False
    scene.provider.start()
    scene.ticks.now += ASK_SECONDS
    wait_until(lambda: is_let_in(scene, token))


def test_an_issuer_that_was_never_there_is_503_and_not_401(scene: Scene) -> None:
    token = scene.provider.token()
    scene.provider.stop()
    problem(ask(scene, token), 503, "issuer-unavailable")
    scene.provider.start()
    problem(ask(scene, token), 503, "issuer-unavailable")
    scene.ticks.now += ASK_SECONDS
    assert is_let_in(scene, token)


def test_an_unknown_key_of_an_issuer_that_is_away_is_503(scene: Scene) -> None:
    assert is_let_in(scene, scene.provider.token())
    scene.provider.stop()
    scene.ticks.now += ASK_SECONDS
    token = scene.provider.sign(scene.provider.claims(), kid="new")
    problem(ask(scene, token), 503, "issuer-unavailable")


def test_a_slow_issuer_holds_up_nobody_else(scene: Scene) -> None:
    scene.provider.seconds_slow = 1.0
    slow = threading.Thread(target=is_let_in, args=(scene, scene.provider.token()))
    slow.start()
    wait_until(lambda: scene.provider.asked.total() > 0)
    began = time.monotonic()
    for _ in range(10):
        assert scene.served.get("/v1/events/2", "auditor").status_code == 200
        assert not is_let_in(scene, scene.other.token("adapter", groups="platform"))
    assert time.monotonic() - began < 1.0
    slow.join()


NONSENSE = {
    "redirect": "status 302",
    "error": "status 500",
    "not json": "no JSON object",
    "no object": "no JSON object",
    "no keys": "another issuer's",
    "huge": "too large",
    "cut": "cut off",
    "no http": "no HTTP",
    "drip": "in time",
}


def why_unavailable(scene: Scene) -> str:
    """What the bearer of a good token is told of an issuer that is no use."""
    scene.ticks.now += ASK_SECONDS
    token = scene.provider.token()
    headers = {"Authorization": f"Bearer {token}", "Accept-Language": "en"}
    response = scene.served.client.get("/v1/events/2", headers=headers)
    return str(problem(response, 503, "issuer-unavailable")["detail"])


def test_nonsense_from_an_issuer_is_a_clear_503(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "FETCH_SECONDS", 0.5)
    for how, why in NONSENSE.items():
        scene.provider.misbehaviour = how
        assert why in why_unavailable(scene), how
    scene.provider.misbehaviour = None
    scene.ticks.now += ASK_SECONDS
    assert is_let_in(scene, scene.provider.token())


def test_a_discovery_document_leads_nowhere_else(scene: Scene) -> None:
    for says, why in (
        ({"issuer": "https://elsewhere.example"}, "another issuer's"),
        ({"jwks_uri": "https://keys.example/jwks"}, "another host"),
        ({"jwks_uri": "http://127.0.0.1:1/jwks"}, "another host"),
        ({"jwks_uri": "http://keys.example/jwks"}, "another host"),
        ({"jwks_uri": "file:///etc/passwd"}, "another host"),
        ({"jwks_uri": None}, "no JSON object"),
    ):
        scene.provider.discovery = says
        assert why in why_unavailable(scene), says
    assert scene.provider.asked[JWKS] == 0


def test_keys_at_an_address_of_their_own_need_no_discovery(
    databases: Callable[[], Database], tmp_path: Path, clock: Clock
) -> None:
    with (
        providing({}, clock=clock) as elsewhere,
        staged(databases(), tmp_path / "keys", clock, jwks=f"{elsewhere.issuer}/jwks") as scene,
    ):
        problem(ask(scene, scene.provider.token()), 401, "token-key-unknown")
        key = elsewhere.keys[elsewhere.signing]
        token = scene.provider.sign(scene.provider.claims(), key=key, kid=elsewhere.signing)
        assert is_let_in(scene, token)
        assert not scene.provider.asked


# --- what a set of keys may hold -----------------------------------------------------------------


def test_only_public_keys_for_signatures_are_taken(clock: Clock) -> None:
    key = providers.new_key("ES256")
    good = key.as_dict(private=False) | {"kid": "good"}
    weak = {"kty": "RSA", "e": "AQAB", "n": part(b"\xc3" * 128).decode()}
    refused = [
        good | {"kid": "for encryption", "use": "enc"},
        good | {"kid": "for signing only", "key_ops": ["sign"]},
        key.as_dict(private=True) | {"kid": "private"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        weak | {"kid": "weak"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "tiny"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off the curve"},
        {"kty": ["EC"], "kid": "odd"},
        "key",
        None,
    ]
    assert [one.kid for one in keys_in({"keys": [*refused, good]}).values()] == ["good"]
    bad: list[dict[str, Any]] = [
        {},
        {"keys": {}},
        {"keys": refused},
        {"keys": [good] * (MAX_KEYS + 1)},
    ]
    for one in bad:
        with pytest.raises(FetchFailed):
            keys_in(one)


def test_a_token_without_a_key_s_name_is_good_only_where_one_key_fits(scene: Scene) -> None:
    unnamed = scene.provider.sign(scene.provider.claims(), kid=...)
    assert is_let_in(scene, unnamed)
    scene.ticks.now += ASK_SECONDS
    scene.provider.add("ES256")
    assert is_let_in(scene, scene.provider.sign(scene.provider.claims(), kid=...))
    scene.ticks.now += ASK_SECONDS
    scene.provider.add("ES256")
    assert is_let_in(scene, scene.provider.token())
    token = scene.provider.sign(scene.provider.claims(), kid=...)
    problem(ask(scene, token), 401, "token-key-unknown")


def test_a_key_is_good_for_its_own_algorithm_only(scene: Scene) -> None:
    own = scene.provider.jwks

    def jwks() -> dict[str, Any]:
        return {"keys": [one | {"alg": "PS256"} for one in own()["keys"]]}

    scene.provider.jwks = jwks  # type: ignore[method-assign]
    problem(ask(scene, scene.provider.token()), 401, "token-key-unknown")
    assert is_let_in(scene, scene.provider.sign(scene.provider.claims(), alg="PS256"))


def test_https_is_asked_with_a_certificate_that_is_good(run: Run) -> None:
    with providing({}, clock=Clock()) as provider, pytest.raises(FetchFailed) as told:
        run(fetch_json(f"https://127.0.0.1:{provider.port}/jwks"))
    assert told.value.reason == fetch.NO_CERTIFICATE


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, which nobody else vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain, private


def test_https_is_spoken_with_whom_an_authority_of_this_machine_vouches_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, private = certified(tmp_path)
    with providing({}, clock=Clock()) as provider:
        provider.speak_tls(chain, private)
        address = f"https://127.0.0.1:{provider.port}/realms/test/jwks"
        with pytest.raises(FetchFailed) as told:
            run(fetch_json(address))
        assert told.value.reason == fetch.NO_CERTIFICATE
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        assert run(fetch_json(address)) == provider.jwks()
        with pytest.raises(FetchFailed) as told:
            run(fetch_json(address.replace("127.0.0.1", "localhost")))
        assert told.value.reason == fetch.NO_CERTIFICATE, "the certificate is for another name"


# --- what an operator may write ------------------------------------------------------------------

GOOD = {"issuer": "https://id.example/realms/a", "audience": AUDIENCE} | MAPPING


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuer": "http://id.example"}, "use https"),
        ({"issuer": "id.example"}, "no https address"),
        ({"issuer": "https://u:p@id.example"}, "no user and no password"),
        ({"issuer": "https://id.example/#a"}, "no https address"),
        ({"issuer": "https://id.example/?a=b"}, "give jwks"),
        ({"jwks": "ftp://id.example/jwks"}, "no https address"),
        ({"jwks": "https://id.example:99999/"}, "0-65535"),
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"types": ["dpop+jwt"]}, "types"),
        ({"roles": ["root"]}, "no role of this system: root"),
        ({"roles": []}, "roles"),
        ({"roles": ["registrar"]}, "gives what roles does not allow"),
        ({"organisations": []}, "organisations"),
        ({"organisations": ["张三"]}, "no organisation"),
        ({"organisations": ...}, "Field required"),
        ({"role": {}}, "either fixed or claim"),
        ({"role": {"fixed": "registrar", "claim": "role"}}, "either fixed or claim"),
        ({"role": {"fixed": "registrar", "values": {}}}, "translate a claim"),
        ({"stale_seconds": 60}, "not be less"),
        ({"leeway_seconds": 301}, "leeway_seconds"),
        ({"client_secret": "x"}, "client_secret"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(changes: dict[str, Any], why: str) -> None:
    import orjson

    fields = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    with pytest.raises(IssuersError, match=why):
        issuers_of(orjson.dumps([fields]).decode(), embedded="chengxin")


def test_issuers_are_a_list_or_a_file_with_names_of_their_own(tmp_path: Path) -> None:
    import orjson

    text = orjson.dumps([GOOD]).decode()
    file = tmp_path / "issuers.json"
    file.write_text(text, encoding="utf-8")
    assert issuers_of(text, embedded="chengxin") == issuers_of(str(file), embedded="chengxin")
    assert issuers_of(None, embedded="chengxin") == []
    for given, embedded in ((text, GOOD["issuer"]), (f"[{text[1:-1]},{text[1:-1]}]", "chengxin")):
        with pytest.raises(IssuersError, match="same name"):
            issuers_of(given, embedded=str(embedded))
    for given in ("[", "[1]", str(tmp_path / "missing.json")):
        with pytest.raises(IssuersError):
            issuers_of(given, embedded="chengxin")


def test_any_organisation_is_written_with_a_star() -> None:
    issuer = described_any()
    claims = {"groups": "ledger-registrar", "unit": {"code": "south"}}
    assert issuer.bearer(claims) == ("registrar", "CN-REG-2")


def described_any() -> Any:
    from api.oidc.issuer import Issuer

    return Issuer.model_validate(GOOD | {"organisations": [ANY]})
