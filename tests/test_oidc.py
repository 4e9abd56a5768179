"""Access tokens of other issuers, on a real server, from a real provider, over real sockets."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from structlog.testing import capture_logs

from api.callers import Callers, callers_of
from api.oidc import keys
from api.oidc.issuer import Issuer
from api.security import Tokens
from ledger.database import Database
from ledger.envelope import decode
from ledger.store import Ledger
from tests import given
from tests.conftest import Clock, new_ledger
from tests.provider import (
    AUDIENCE,
    CLIENTS,
    Json,
    Provider,
    authorised,
    compact,
    part,
    providing,
)
from tests.serving import Served, problem, serving

PEOPLE: dict[str, Json] = {
    "zhang.san": {"groups": ["staff", "ledger-registrar"], "unit": {"code": "north"}},
    "li.si": {"groups": ["ledger-audit"], "unit": {"code": "CN-AUDIT-1"}},
    "platform-adapter": {"groups": ["ledger-registrar"], "unit": {"code": "north"}},
}
MAPPING: Json = {
    "role": {
        "claim": "groups",
        "values": {
            "ledger-registrar": "registrar",
            "ledger-audit": "auditor",
            "reader": "subscriber",
        },
    },
    "organisation": {
        "claim": ["unit", "code"],
        "values": {"north": "CN-REG-1", "CN-AUDIT-1": "CN-AUDIT-1", "south": "CN-REG-2"},
    },
    "roles": ["registrar", "auditor", "subscriber"],
    "organisations": ["CN-REG-1", "CN-AUDIT-1"],
    "algorithms": ["RS256", "PS256", "ES256", "ES384", "Ed25519", "EdDSA"],
}


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Scene:
    """A server, its providers, the clock of its key caches, and who was given a reference."""

    served: Served
    provider: Provider
    other: Provider
    ticks: Ticks
    drawn: list[tuple[str, str]]


def described(provider: Provider, **changes: Any) -> Issuer:
    """The provider as an operator would describe it."""
    fields = {"issuer": provider.issuer, "audience": AUDIENCE} | MAPPING | changes
    return Issuer.model_validate(fields)


PLATFORM: Json = {
    "role": {"claim": "groups"},
    "organisation": {"fixed": "CN-DOUYIN"},
    "roles": ["platform"],
    "organisations": ["CN-DOUYIN"],
    "algorithms": ["RS256"],
    "scoped": True,
}


@contextmanager
def staged(database: Database, folder: Path, clock: Clock, **changes: Any) -> Iterator[Scene]:
    """A server that knows two providers: one of an authority, one of a platform."""
    ticks = Ticks()
    drawn: list[tuple[str, str]] = []

    def called(tokens: Tokens, ledger: Ledger, clock: Callable[[], datetime]) -> Callers:
        refer = ledger.vault.reference

        def reference(kind: str, scope: str, text: str) -> str:
            drawn.append((scope, text))
            return refer(kind, scope, text)

        ledger.vault.reference = reference  # type: ignore[method-assign]
        issuers = [described(provider, **changes), described(other, **PLATFORM)]
        return callers_of(issuers, tokens, ledger, clock=clock, monotonic=ticks)

    with (
        providing(PEOPLE, clock=clock) as provider,
        providing({"adapter": {"groups": "platform"}}, clock=clock) as other,
        serving(
            database, folder, clock, new_ledger=new_ledger, called=called, access_log=True
        ) as served,
    ):
        served.provide()
        served.follow()
        yield Scene(served, provider, other, ticks, drawn)


@pytest.fixture(scope="module")
def standing(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """A scene for all that leaves its issuers as they are."""
    with staged(databases(), tmp_path_factory.mktemp("oidc") / "keys", Clock()) as scene:
        yield scene


@pytest.fixture
def scene(databases: Callable[[], Database], tmp_path: Path, clock: Clock) -> Iterator[Scene]:
    with staged(databases(), tmp_path / "keys", clock) as scene:
        yield scene


def ask(scene: Scene, token: str, path: str = "/v1/events/2") -> httpx2.Response:
    """GET with a token."""
    return scene.served.client.get(path, headers={"Authorization": f"Bearer {token}"})


def is_let_in(scene: Scene, token: str) -> bool:
    """Whether a token opens the case of a provider, which only an officer or auditor may read."""
    response = ask(scene, token, f"/v1/providers/{given.PROVIDER}/case")
    assert response.status_code in (200, 401, 403, 503), response.text
    return response.status_code == 200


def penalise(scene: Scene, token: str, document: str) -> httpx2.Response:
    """Record a penalty with a token."""
    return scene.served.client.post(
        f"/v1/providers/{given.PROVIDER}/penalties",
        json=given.penalty(document_no=document).model_dump(mode="json"),
        headers={"Authorization": f"Bearer {token}"},
    )


# --- what is good --------------------------------------------------------------------------------


def test_tokens_of_every_allowed_algorithm_are_good(scene: Scene) -> None:
    for algorithm in MAPPING["algorithms"]:
        scene.ticks.now += keys.ASK_SECONDS
        scene.provider.rotate(algorithm)
        assert is_let_in(scene, scene.provider.token()), algorithm


def test_a_program_gets_in_by_client_credentials(standing: Scene) -> None:
    ((client, secret),) = CLIENTS.items()
    form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
    got = httpx2.post(f"{standing.provider.issuer}/token", data=form).json()
    assert is_let_in(standing, got["access_token"])


def test_a_person_gets_in_by_authorization_code_and_not_by_his_id_token(standing: Scene) -> None:
    got = authorised(standing.provider, "li.si", httpx2.get, httpx2.post)
    assert is_let_in(standing, got["access_token"])
    problem(ask(standing, got["id_token"]), 401, "token-wrong-type")


def test_one_person_is_one_random_reference_in_every_token(scene: Scene) -> None:
    refs = []
    for number, subject in enumerate(["zhang.san", "platform-adapter", "zhang.san"]):
        response = penalise(scene, scene.provider.token(subject), f"D-{number}")
        assert response.status_code == 201, response.text
        event = decode(scene.served.ledger.read(response.json()["position"] - 1, 1)[0].state)
        assert (event.actor.organisation, event.actor.role) == ("CN-REG-1", "registrar")
        refs.append(event.actor.ref)
    assert refs[0] == refs[2] != refs[1]
    assert set(scene.drawn) == {
        (scene.provider.issuer, "zhang.san"),
        (scene.provider.issuer, "platform-adapter"),
    }


def test_who_was_erased_is_another_person_within_five_minutes_everywhere(scene: Scene) -> None:
    token = scene.provider.token()

    def ref(document: str) -> str:
        response = penalise(scene, token, document)
        assert response.status_code == 201, response.text
        event = decode(scene.served.ledger.read(response.json()["position"] - 1, 1)[0].state)
        return event.actor.ref

    first = ref("D-1")
    scene.served.ledger.vault.forget(first)
    assert ref("D-2") == first, "another process did it: nobody has told this one"
    scene.ticks.now += 299
    assert ref("D-3") == first
    scene.ticks.now += 1
    second = ref("D-4")
    assert second != first
    scene.served.ledger.vault.forget(second)
    assert scene.served.callers is not None
    scene.served.callers.forget()
    assert ref("D-5") not in (first, second)


def test_who_asks_to_be_erased_does_not_come_back_as_a_second_officer(scene: Scene) -> None:
    served, path = scene.served, f"/v1/providers/{given.PROVIDER}"
    callers = served.callers
    assert callers is not None

    def post(path: str, body: Any = None) -> httpx2.Response:
        # Another login each time, and nothing remembered of the one before.
        callers.forget()
        bearer = {"Authorization": f"Bearer {scene.provider.token('zhang.san')}"}
        return served.client.post(path, json=body or {}, headers=bearer)

    def asked(what: str, ground: str) -> httpx2.Response:
        return served.post(f"/v1/persons/{ref}/{what}", {"ground": ground}, "privacy_officer")

    made = post(f"{path}/listings", given.listing().model_dump(mode="json"))
    fact = penalise(scene, scene.provider.token("zhang.san"), "D-1").json()
    overturning = given.overturn(fact["id"]).model_dump(mode="json", exclude={"target"})
    other = served.post(f"{path}/decisions/{fact['id']}/overturning", overturning)
    assert (made.status_code, other.status_code) == (202, 202)
    ref = served.get(f"/v1/events/{made.json()['position']}", "auditor").json()["actorref"]
    # As soon as he has logged in, whatever he does: who never acted can have acted by then.
    held = asked("erasure", "CONSENT_WITHDRAWN")
    assert held.status_code == 202, held.text
    assert (held.json()["basis"]["code"], held.json()["until"]) == (
        "OFFICIAL_RECORDS",
        "2056-03-02",
    )
    for ground in ("DUTY_ENDED", "DUTY_DID_NOT_APPLY"):
        problem(asked("release", ground), 409, "officer-on-record")
    problem(post(f"{made.headers['location']}/approval"), 409, "same-officer")
    problem(post(f"{other.headers['location']}/approval"), 409, "own-record")
    assert asked("release", "REQUEST_WITHDRAWN").json()["state"] == "kept"
    problem(post(f"{made.headers['location']}/approval"), 409, "same-officer")


def test_who_logged_in_and_never_acted_is_held_too(scene: Scene) -> None:
    assert is_let_in(scene, scene.provider.token("li.si"))
    ledger = scene.served.ledger
    ref = ledger.vault.reference("actor", scene.provider.issuer, "li.si")
    asked = scene.served.post(
        f"/v1/persons/{ref}/erasure", {"ground": "SERVICE_ENDED"}, "privacy_officer"
    )
    assert (asked.status_code, asked.json()["until"]) == (202, "2056-03-02")


def test_no_subject_stands_in_an_event_an_answer_or_a_log_line(scene: Scene) -> None:
    with capture_logs() as logs:
        answers = [
            penalise(scene, scene.provider.token(), "D-1"),
            ask(scene, scene.provider.token(groups=["nobody"])),
            ask(scene, scene.provider.token(exp=1)),
            ask(scene, scene.provider.token(aud="zhang")),
        ]
    assert [one.status_code for one in answers] == [201, 403, 401, 401]
    log = [stored.state.decode() for stored in scene.served.ledger.read(0, 100)]
    for text in [*log, *(one.text for one in answers), *map(str, logs)]:
        assert "zhang" not in text


def test_a_token_verified_before_asks_nobody_again(standing: Scene) -> None:
    token = standing.provider.token()
    assert is_let_in(standing, token)
    asked, drawn = standing.provider.asked.copy(), len(standing.drawn)
    for _ in range(20):
        assert is_let_in(standing, token)
    assert (standing.provider.asked, len(standing.drawn)) == (asked, drawn)


def test_our_own_tokens_are_good_beside_them(standing: Scene) -> None:
    assert is_let_in(standing, standing.served.token("auditor"))
    for token in ("x", "a.b.c", f"{standing.served.token()}x"):
        assert ask(standing, token).status_code == 401


def test_a_token_is_held_to_its_scopes_where_the_issuer_says_so(standing: Scene) -> None:
    feed, none = (
        standing.other.token("adapter", **more) for more in ({"scope": "openid feed"}, {})
    )
    assert ask(standing, feed, "/v1/feed").status_code == 200
    problem(ask(standing, feed), 403, "scope-missing")
    problem(ask(standing, none, "/v1/feed"), 403, "scope-missing")


# --- forgeries -----------------------------------------------------------------------------------


Forgery = tuple[str, str, int, str]
"""What is tried, the token, and the status and code of its refusal."""


def of_signatures(scene: Scene) -> Iterator[Forgery]:
    """Algorithms and keys that are not the issuer's."""
    provider = scene.provider
    good = provider.token()
    header, claims, signature = good.split(".")
    key = provider.keys[provider.signing]
    stranger = RSAKey.generate_key(2048)
    ec, okp = ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519")

    def headed(**changes: Any) -> str:
        fields = {"alg": "RS256", "typ": "at+jwt", "kid": provider.signing} | changes
        kept = {name: value for name, value in fields.items() if value is not ...}
        return part(orjson.dumps(kept)).decode()

    yield "none", f"{headed(alg='none')}.{claims}.", 401, "token-malformed"
    yield "none, signed", f"{headed(alg='none')}.{claims}.{signature}", 401, "token-algorithm"
    yield "NonE", f"{headed(alg='NonE')}.{claims}.{signature}", 401, "token-algorithm"
    yield "no alg", f"{headed(alg=...)}.{claims}.{signature}", 401, "token-algorithm"
    yield "alg a list", f"{headed(alg=['RS256'])}.{claims}.{signature}", 401, "token-algorithm"
    for algorithm, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
        for what, secret in (
            ("PEM", key.as_pem(private=False)),
            ("DER", key.as_der(private=False)),
            ("JWK", orjson.dumps(key.as_dict(private=False))),
        ):
            signed = f"{headed(alg=algorithm)}.{claims}"
            mac = part(hmac.digest(secret, signed.encode(), digest)).decode()
            yield f"{algorithm} keyed with our {what}", f"{signed}.{mac}", 401, "token-algorithm"
    yield (
        "RS512, not allowed",
        provider.sign(provider.claims(), alg="RS512"),
        401,
        "token-algorithm",
    )
    yield (
        "ES256 over an RSA key's name",
        compact({"alg": "ES256", "typ": "at+jwt", "kid": provider.signing}, claims_of(good), ec),
        401,
        "token-key-unknown",
    )
    yield (
        "Ed25519 over an RSA key's name",
        compact({"alg": "Ed25519", "typ": "at+jwt", "kid": provider.signing}, claims_of(good), okp),
        401,
        "token-key-unknown",
    )
    yield "a stranger's key", provider.sign(provider.claims(), key=stranger), 401, "token-forged"
    yield (
        "a key of another issuer",
        provider.sign(
            provider.claims(), key=scene.other.keys[scene.other.signing], kid=scene.other.signing
        ),
        401,
        "token-key-unknown",
    )
    yield "no such key", provider.sign(provider.claims(), kid="key-0"), 401, "token-key-unknown"
    yield "a key by number", provider.sign(provider.claims(), kid=7), 401, "token-malformed"
    changed = orjson.dumps(orjson.loads(claims_of(good)) | {"sub": "li.si"})
    yield "another's claims", f"{header}.{part(changed).decode()}.{signature}", 401, "token-forged"
    yield "cut", good[:-6], 401, "token-forged"


def of_headers(scene: Scene) -> Iterator[Forgery]:
    """Headers that bring a key, or change what the token is."""
    provider, stranger = scene.provider, RSAKey.generate_key(2048)
    for name, value in (
        ("jwk", stranger.as_dict(private=False)),
        ("jku", "http://127.0.0.1:1/jwks"),
        ("x5u", "http://127.0.0.1:1/x5u"),
        ("x5c", ["MIIB"]),
        ("crit", ["exp"]),
        ("b64", False),
        ("cty", "JWT"),
        ("zip", "DEF"),
    ):
        for signer in (stranger, None):
            token = provider.sign(provider.claims(), key=signer, **{name: value})
            yield f"{name} in the header", token, 401, "token-malformed"
    for typ in ("JWT", ..., "dpop+jwt", "logout+jwt", "at+jwt2", "", 1, None):
        yield f"typ {typ}", provider.sign(provider.claims(), typ=typ), 401, "token-wrong-type"


def of_claims(scene: Scene) -> Iterator[Forgery]:
    """Claims that are missing, another's, or out of their time."""
    provider, now = scene.provider, int(scene.provider.clock().timestamp())
    for what, changes, code in (
        ("no issuer", {"iss": ...}, "token-wrong-issuer"),
        ("another issuer", {"iss": "https://elsewhere.example"}, "token-wrong-issuer"),
        ("an issuer with a slash", {"iss": provider.issuer + "/"}, "token-wrong-issuer"),
        ("our own issuer", {"iss": "chengxin"}, "token-algorithm"),
        ("the other issuer", {"iss": scene.other.issuer}, "token-key-unknown"),
        ("an issuer in a list", {"iss": [provider.issuer]}, "token-wrong-issuer"),
        ("no audience", {"aud": ...}, "token-wrong-audience"),
        ("another audience", {"aud": "https://shop.example"}, "token-wrong-audience"),
        ("other audiences", {"aud": ["a", "b"]}, "token-wrong-audience"),
        ("an audience inside", {"aud": {AUDIENCE: 1}}, "token-wrong-audience"),
        ("an audience to begin with", {"aud": AUDIENCE + ".evil"}, "token-wrong-audience"),
        ("no subject", {"sub": ...}, "token-malformed"),
        ("an empty subject", {"sub": ""}, "token-malformed"),
        ("a long subject", {"sub": "x" * 256}, "token-malformed"),
        ("a subject in a list", {"sub": ["zhang.san"]}, "token-malformed"),
        ("no end", {"exp": ...}, "token-malformed"),
        ("no beginning", {"iat": ...}, "token-malformed"),
        ("an end in words", {"exp": "tomorrow"}, "token-malformed"),
        ("an end that is true", {"exp": True}, "token-malformed"),
        ("an end before time", {"exp": -1}, "token-malformed"),
        ("expired", {"exp": now - 31}, "token-expired"),
        ("nbf in the future", {"nbf": now + 31}, "token-not-yet-valid"),
        ("iat in the future", {"iat": now + 31}, "token-not-yet-valid"),
        ("a long life", {"exp": now + 24 * 3600 + 1}, "token-lives-too-long"),
        ("bound to a key", {"cnf": {"jkt": "x"}}, "token-wrong-type"),
    ):
        yield what, provider.token(**changes), 401, code


def of_shapes(scene: Scene) -> Iterator[Forgery]:
    """What is no token, or could be read in two ways."""
    provider = scene.provider
    good = provider.token()
    header, claims, signature = good.split(".")
    for text in (
        b'{"iss":"x",' + claims_of(good)[1:],
        claims_of(good)[:-1] + b',"exp":9999999999}',
        claims_of(good)[:-1] + b',"x":{"a":1,"a":2}}',
        claims_of(good)[:-1] + b',"x":NaN}',
        claims_of(good)[:-1] + b',"x":1' + b"0" * 5000 + b"}",
        claims_of(good)[:-1] + b',"x":"\xff"}',
        b"[" * 5000,
        b"[]",
        b'"x"',
        b"",
        b"{",
    ):
        yield f"claims {text[:40]!r}…", provider.sign(text), 401, "token-malformed"
    twice = part(b'{"alg":"RS256","alg":"RS256","typ":"at+jwt"}').decode()
    yield "a header parameter twice", f"{twice}.{claims}.{signature}", 401, "token-malformed"
    yield "huge", provider.token(x="x" * 9000), 401, "token-malformed"
    sealed = jwe.encrypt_compact(
        {"alg": "dir", "enc": "A256GCM", "cty": "JWT"}, good, OctKey.generate_key(256)
    )
    yield "nested in a JWE", sealed, 401, "token-malformed"
    inner = provider.sign(good.encode(), typ="JWT")
    yield "a token in a token", inner, 401, "token-malformed"
    yield "padded", f"{header}.{claims}.{signature}==", 401, "token-malformed"
    last = signature[-1]
    for twin in spellings(last):
        yield "another spelling of the bytes", f"{good[:-1]}{twin}", 401, "token-malformed"
    yield "plain base64", f"{header}.{claims}.{'+' * len(signature)}", 401, "token-malformed"
    yield (
        "a line break",
        f"{header}.{claims}.{signature[:9]}%0A{signature[9:]}",
        401,
        "token-malformed",
    )
    yield "no signature", f"{header}.{claims}.", 401, "token-malformed"


def of_bearers(scene: Scene) -> Iterator[Forgery]:
    """Good tokens that give a role or an organisation which is not theirs to give."""
    provider = scene.provider
    for what, changes in (
        ("no role", {"groups": ["staff"]}),
        ("roles of no list", {"groups": {"ledger-registrar": True}}),
        ("the role without its translation", {"groups": ["registrar"]}),
        ("several roles", {"groups": ["ledger-registrar", "ledger-audit"]}),
        ("no organisation", {"unit": "north"}),
        ("an unknown organisation", {"unit": {"code": "west"}}),
        ("an organisation that is not its own", {"unit": {"code": "south"}}),
        ("several organisations", {"unit": {"code": ["north", "CN-AUDIT-1"]}}),
    ):
        yield what, provider.token(**changes), 403, "bearer-not-admitted"
    for role in ("registrar", "auditor", "decision_maker", "system", "root"):
        token = scene.other.token("adapter", groups=role, scope="read write feed")
        yield f"a platform's issuer makes a {role}", token, 403, "bearer-not-admitted"


def claims_of(token: str) -> bytes:
    """The claims of a token, as bytes."""
    text = token.split(".")[1]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def spellings(last: str) -> list[str]:
    """Other last characters for which a lenient decoder gives the same bytes (256 of them)."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = alphabet.index(last)
    return [alphabet[place + more] for more in range(1, 4) if (place + more) % 4]


def test_every_forgery_is_refused_and_told(standing: Scene) -> None:
    kinds = (of_signatures, of_headers, of_claims, of_shapes, of_bearers)
    tried = [one for kind in kinds for one in kind(standing)]
    assert len(tried) > 90
    assert is_let_in(standing, standing.provider.token())
    # What was opened is recorded; what is refused must not be.
    head = standing.served.head()
    wrong = []
    for what, token, status, code in tried:
        for response in (ask(standing, token), penalise(standing, token, "D-9")):
            told = response.json()
            if (response.status_code, told.get("code")) != (status, code) or token in str(told):
                wrong.append(f"{what}: {response.text}")
    assert not wrong, "\n".join(wrong)
    assert standing.served.head() == head


# --- what a client learns ------------------------------------------------------------------------


def test_whoever_is_refused_learns_where_tokens_come_from(standing: Scene) -> None:
    refused = standing.served.get("/v1/feed")
    found = re.search(r'resource_metadata="([^"]+)"', refused.headers["www-authenticate"])
    assert found is not None
    document = httpx2.get(found[1]).json()
    assert document["resource"] == f"http://127.0.0.1:{standing.served.port}"
    assert document["authorization_servers"] == [standing.provider.issuer, standing.other.issuer]
    assert document["scopes_supported"] == ["feed", "read", "write"]
    configuration = f"{document['authorization_servers'][0]}/.well-known/openid-configuration"
    assert httpx2.get(configuration).json()["token_endpoint"]


def test_nobody_can_make_us_name_another_server(standing: Scene) -> None:
    """Another `Host` is refused before anything else; were it let in, the socket's own counts."""
    for path in ("/v1/feed", "/.well-known/oauth-protected-resource"):
        response = standing.served.client.get(path, headers={"Host": "evil.example"})
        assert response.status_code >= 400
        assert "evil" not in str(response.headers)
    named = standing.served.client.get(
        "/.well-known/oauth-protected-resource", headers={"Host": "localhost:1"}
    )
    assert named.json()["resource"] == f"http://127.0.0.1:{standing.served.port}"


def test_a_challenge_says_what_is_missing(standing: Scene) -> None:
    def challenge(token: str, path: str = "/v1/events/2") -> str:
        return str(ask(standing, token, path).headers["www-authenticate"])

    assert 'error="invalid_token"' in challenge(standing.provider.token(exp=1))
    assert 'error="insufficient_scope", scope="read"' in challenge(
        standing.other.token("adapter", scope="feed")
    )
    assert 'error="insufficient_scope"' in challenge(standing.provider.token(groups=[]))
    response = penalise(standing, standing.served.token("auditor"), "D-7")
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
    assert "error=" not in standing.served.get("/v1/feed").headers["www-authenticate"]
