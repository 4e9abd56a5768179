"""Bearers that are none: tokens cut, grown, mixed; keys guessed, cut, ended, misused.

The forgeries that take a provider or a signing key to make (algorithms, key confusion, claims,
shapes) are in `tests/test_oidc.py` and `tests/test_api_security.py`; here is what anybody can do
to a token or a key that he has seen, and what a bearer of one kind tries at doors of another.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx2
import orjson
import pytest

from api.apikeys.secret import new_secret
from api.apikeys.store import Keymaker
from ledger.database import Database
from tests import given
from tests.attack import alike, attacks, is_a_problem
from tests.conftest import Clock, new_ledger
from tests.serving import Served, serving
from tests.test_apikeys import made

DOORS = (
    *("/v1/feed", "/v1/events/1", "/v1/events/1/sealed", "/v1/quarantine", "/v1/proposals"),
    *(f"/v1/providers/{given.PROVIDER}/case", f"/v1/providers/{given.PROVIDER}/accesses"),
    f"/v1/providers/{given.PROVIDER}/score",
)


@pytest.fixture(scope="module")
def served(
    databases: Callable[[], Database], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    keys = tmp_path_factory.mktemp("attack") / "keys"
    with serving(databases(), keys, Clock(), new_ledger=new_ledger) as served:
        served.provide()
        served.follow()
        yield served


def asked(served: Served, header: str | bytes, path: str = "/v1/feed") -> httpx2.Response:
    """GET with an Authorization header as it is."""
    value = header if isinstance(header, bytes) else header.encode("latin-1")
    return served.client.get(path, headers=[(b"Authorization", value)])


def encoded(data: object) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(orjson.dumps(data)).rstrip(b"=").decode()


def twisted(token: str, other: str) -> Iterator[tuple[str, str]]:
    """What anybody makes of two good tokens."""
    header, claims, signature = token.split(".")
    for n in (1, 2, 10, len(signature) - 1, len(signature)):
        yield f"{n} off the end", token[:-n]
        yield f"{n} off the beginning", token[n:]
    for at in range(0, len(token), 9):
        swapped = "A" if token[at] != "A" else "B"
        if at != len(token) - 1:
            yield f"another character at {at}", token[:at] + swapped + token[at + 1 :]
    yield "another's signature", f"{header}.{claims}.{other.split('.')[2]}"
    yield "another's claims", f"{header}.{other.split('.')[1]}.{signature}"
    yield "the claims first", f"{claims}.{header}.{signature}"
    yield "twice", f"{token}.{token}"
    yield "with another behind it", f"{token},{other}"
    yield "with a space", f"{token} {other}"
    yield "upper case", token.upper()
    yield "lower case", token.lower()
    yield "padded", token + "="
    yield "with a line", token + "\tx"
    body = orjson.loads(base64.urlsafe_b64decode(claims + "=="))
    for change in (
        *(
            {"role": "auditor"},
            {"role": ["auditor"]},
            {"role": "registrar\u0000"},
            {"scopes": None},
        ),
        *({"organisation": given.PROVIDER}, {"exp": 2**53}, {"sub": "x"}, {"iss": "", "aud": ""}),
    ):
        yield f"claims {change}", f"{header}.{encoded(body | change)}.{signature}"
    for head in ({"alg": "none"}, {"alg": ""}, {"alg": "HS256"}, {"alg": "Ed25519", "kid": "../x"}):
        for end in ("", signature, "AA"):
            yield f"header {head}, {end[:2]}", f"{encoded(head)}.{claims}.{end}"
    for text in (
        ".",
        "..",
        "...",
        "a.b.c",
        "null",
        "undefined",
        "true",
        "{}",
        "%00",
        "\xff\xfe",
    ):
        yield f"no token: {text!r}", text


def test_nothing_that_is_made_of_good_tokens_is_one(served: Served) -> None:
    subscriber, auditor = served.token("subscriber"), served.token("auditor")
    head = served.head()
    with attacks("tokens") as tally:
        for what, token in twisted(subscriber, auditor):
            for path in DOORS:
                answer = asked(served, f"Bearer {token}", path)
                good = is_a_problem(answer, 401) and (len(token) < 40 or token not in answer.text)
                tally.attack((what, path), answer.text, good=good)
        assert served.head() == head
        assert asked(served, f"Bearer {subscriber}").status_code == 200


def test_a_token_is_shown_in_one_place_only(served: Served) -> None:
    token = served.token("auditor")
    path = f"/v1/providers/{given.PROVIDER}/case"
    with attacks("token-places") as tally:
        for headers in (
            {"Cookie": f"Authorization={token}"},
            {"Cookie": f"access_token={token}"},
            {"X-Authorization": f"Bearer {token}"},
            {"Proxy-Authorization": f"Bearer {token}"},
            {"X-Access-Token": token},
            {"Authorization": token},
            {"Authorization": f"Token {token}"},
            {"Authorization": f"Basic {token}"},
            {"Authorization": f"DPoP {token}"},
            {"Authorization": f"Bearer: {token}"},
            {"Authorization": f'Bearer "{token}"'},
            {"Authorization": f"Bearer realm=x, {token}"},
            {"Authorization": f"Bearer Bearer {token}"},
            {"Sec-WebSocket-Protocol": f"bearer, {token}"},
        ):
            answer = served.client.get(path, headers=headers)
            tally.attack(headers, answer.text, good=is_a_problem(answer, 401))
        for name in ("access_token", "token", "jwt", "Authorization", "api_key"):
            answer = served.client.get(f"{path}?{name}={token}")
            good = is_a_problem(answer, 400, 401, 422) and token not in answer.text
            tally.attack(name, answer.text, good=good)


def test_no_key_is_guessed_and_none_opens_more_than_its_own(served: Served) -> None:
    clock = Clock()
    maker = Keymaker(served.ledger.database)
    kept = {}
    tried: dict[str, dict[str, object]] = {
        "feed": {},
        "read": {"scopes": ["read"]},
        "ended": {"expires_at": clock() - timedelta(seconds=1), "made_at": clock() - timedelta(1)},
        "revoked": {"revoked_at": clock()},
    }
    for name, changes in tried.items():
        kept[name], key = made(clock, **changes)
        maker.add(key)
    good = kept["feed"]
    with attacks("api-keys") as tally:
        for what, secret in (
            *((f"{n} off the end", good[:-n]) for n in range(1, len(good), 4)),
            *((f"one more: {one!r}", good + one) for one in ("0", "=", "\t0", ".x", "%00", "a.b")),
            *((f"guessed {n}", new_secret(os.urandom)) for n in range(50)),
            *(
                (f"wildcard {one}", f"cxk_{one}")
                for one in ("%", "*", "_" * 49, "'" * 49, "0" * 49)
            ),
            *((f"case {n}", one) for n, one in enumerate((good.upper(), good.lower(), good[::-1]))),
            ("what is shown of it", good[:12]),
            ("ended", kept["ended"]),
            ("revoked", kept["revoked"]),
            ("its digest", made(clock)[1].digest.hex()),
        ):
            for path in ("/v1/feed", "/v1/events/1"):
                answer = asked(served, f"Bearer {secret}", path)
                fine = is_a_problem(answer, 401) and secret not in answer.text
                tally.attack((what, path), answer.text, good=fine)
        for scope, open_door in (("feed", "/v1/feed"), ("read", "/v1/events/1")):
            for path in DOORS:
                if path in (open_door, "/v1/events/1", DOORS[-1]) and (
                    path == open_door or scope == "read"
                ):
                    continue
                answer = asked(served, f"Bearer {kept[scope]}", path)
                tally.attack((scope, path), answer.text, good=is_a_problem(answer, 403))
            for path in ("/v1/providers", "/v1/imports", "/v1/quarantine/1/rejection"):
                headers = {"Authorization": f"Bearer {kept[scope]}"}
                answer = served.client.post(path, json={}, headers=headers)
                tally.attack((scope, path), answer.text, good=is_a_problem(answer, 403))
            assert asked(served, f"Bearer {kept[scope]}", open_door).status_code == 200


def test_a_key_that_never_was_and_the_neighbour_of_one_that_is_read_the_same(
    served: Served,
) -> None:
    """A guess that shares its beginning with a key in use is told nothing for it."""
    secret, key = made(Clock())
    Keymaker(served.ledger.database).add(key)
    with attacks("api-key-neighbours") as tally:
        for _ in range(20):
            guess = new_secret(os.urandom)
            near = guess
            while near[:5] != secret[:5]:
                near = new_secret(os.urandom)
            pair = [asked(served, f"Bearer {one}") for one in (near, guess)]
            same = alike(pair[0], {}) == alike(pair[1], {})
            tally.attack(near[:5], [one.text for one in pair], good=same)
