"""A small OpenID provider on a real socket, which conforms until a test has it misbehave.

Discovery, JWK set, client credentials (RFC 6749 §4.4) and authorization code with PKCE (RFC 7636);
its access tokens are those of RFC 9068. It can rotate its keys, go away and come back on the same
port, answer slowly, drip, redirect, and answer nonsense.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import orjson
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

Json = dict[str, Any]
PrivateKey = RSAKey | ECKey | OKPKey

AUDIENCE = "https://ledger.example"
CLIENTS = {"platform-adapter": "open-sesame"}
REDIRECT = "http://127.0.0.1/back"
RSA_KEYS = [RSAKey.generate_key(2048) for _ in range(2)]
"""Made once: they are slow to make."""


def new_key(algorithm: str) -> PrivateKey:
    """A fresh key for an algorithm; one of two of RSA's."""
    if algorithm[:2] in ("RS", "PS"):
        return secrets.choice(RSA_KEYS)
    if algorithm.startswith("ES"):
        return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm])
    return OKPKey.generate_key("Ed25519")


class Provider:
    """One provider. `people`: by subject, what its tokens say besides."""

    def __init__(
        self, people: Mapping[str, Json], *, clock: Callable[[], datetime], algorithm: str = "RS256"
    ) -> None:
        self.people = dict(people)
        self.clock = clock
        self.algorithm = algorithm
        self.keys: dict[str, PrivateKey] = {}
        self.signing = ""
        self.asked: Counter[str] = Counter()
        self.misbehaviour: str | None = None
        self.seconds_slow = 0.0
        self.discovery: Json = {}
        """What its discovery document says otherwise."""
        self.codes: dict[str, tuple[str, str]] = {}
        self.rotate()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def issuer(self) -> str:
        """Its name."""
        return f"http://127.0.0.1:{self.port}/realms/test"

    def start(self) -> None:
        """Be there, on the same port as before."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                """Answer."""
                provider.answer(self, b"")

            def do_POST(self) -> None:
                """Answer."""
                provider.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def speak_tls(self, chain: Path, private: Path) -> None:
        """Be there by TLS only, with this certificate."""
        assert self._server is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, private)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    def stop(self) -> None:
        """Be gone."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def rotate(self, algorithm: str | None = None) -> str:
        """Sign with a new key from now on and show no other; its name."""
        self.keys.clear()
        return self.add(algorithm)

    def add(self, algorithm: str | None = None) -> str:
        """Sign with a new key from now on, and go on showing the others."""
        self.algorithm = algorithm or self.algorithm
        self.signing = f"key-{secrets.token_hex(4)}"
        self.keys[self.signing] = new_key(self.algorithm)
        return self.signing

    def jwks(self) -> Json:
        """Its public keys."""
        return {
            "keys": [
                key.as_dict(private=False) | {"kid": kid, "use": "sig"}
                for kid, key in self.keys.items()
            ]
        }

    def claims(self, subject: str = "zhang.san", **changes: Any) -> Json:
        """The claims of an access token (RFC 9068 §2.2); `...` leaves one out."""
        now = int(self.clock().timestamp())
        good = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "client_id": "workbench",
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_hex(8),
            **self.people.get(subject, {}),
        }
        return {name: value for name, value in (good | changes).items() if value is not ...}

    def sign(self, claims: Json | bytes, *, key: PrivateKey | None = None, **header: Any) -> str:
        """A token with any claims and header; `...` leaves a header parameter out."""
        good = {"alg": self.algorithm, "typ": "at+jwt", "kid": self.signing} | header
        good = {name: value for name, value in good.items() if value is not ...}
        body = claims if isinstance(claims, bytes) else orjson.dumps(claims)
        return compact(good, body, key or self.keys[self.signing])

    def token(self, subject: str = "zhang.san", **changes: Any) -> str:
        """An access token."""
        return self.sign(self.claims(subject, **changes))

    def answer(self, to: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request, as the provider is disposed."""
        path = urlsplit(to.path).path.removeprefix("/realms/test")
        self.asked[path] += 1
        time.sleep(self.seconds_slow)
        if self.misbehaviour is not None and path in ("/jwks", "/.well-known/openid-configuration"):
            misbehave(to, self.misbehaviour)
            return
        form = {name: value[0] for name, value in parse_qs(body.decode()).items()}
        query = {name: value[0] for name, value in parse_qs(urlsplit(to.path).query).items()}
        match path:
            case "/.well-known/openid-configuration":
                send(to, 200, self._discovery())
            case "/jwks":
                send(to, 200, self.jwks())
            case "/token":
                status, answer = self._grant(form)
                send(to, status, answer)
            case "/authorize":
                code = secrets.token_urlsafe(16)
                self.codes[code] = (query["login_hint"], query["code_challenge"])
                back = (
                    f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
                )
                to.send_response(302)
                to.send_header("Location", back)
                to.send_header("Content-Length", "0")
                to.end_headers()
            case _:
                send(to, 404, {"error": "not_found"})

    def _discovery(self) -> Json:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint": f"{self.issuer}/token",
            "authorization_endpoint": f"{self.issuer}/authorize",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.algorithm],
            "code_challenge_methods_supported": ["S256"],
        } | self.discovery

    def _grant(self, form: Mapping[str, str]) -> tuple[int, Json]:
        if form.get("grant_type") == "client_credentials":
            if CLIENTS.get(form["client_id"]) != form["client_secret"]:
                return 401, {"error": "invalid_client"}
            return 200, self._tokens(form["client_id"])
        subject, challenge = self.codes.pop(form.get("code", ""), ("", ""))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if not subject or base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != challenge:
            return 400, {"error": "invalid_grant"}
        identity = {"nonce": "n", "aud": "workbench", "azp": "workbench"}
        id_token = self.sign(self.claims(subject, **identity), typ="JWT")
        return 200, self._tokens(subject) | {"id_token": id_token}

    def _tokens(self, subject: str) -> Json:
        return {"access_token": self.token(subject), "token_type": "Bearer", "expires_in": 300}


def compact(header: Json, body: bytes, key: Any) -> str:
    """A JWS of any header and body, signed as the header says and the key can."""
    algorithm = "Ed25519" if header["alg"] == "EdDSA" else header["alg"]
    signed = b".".join(part(one) for one in (orjson.dumps(header), body))
    signature = jws.JWSRegistry.algorithms[algorithm].sign(signed, key)
    return (signed + b"." + part(signature)).decode()


def part(data: bytes) -> bytes:
    """A part of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def send(to: BaseHTTPRequestHandler, status: int, content: Json) -> None:
    """Send a JSON object."""
    body = orjson.dumps(content)
    to.send_response(status)
    to.send_header("Content-Type", "application/json")
    to.send_header("Content-Length", str(len(body)))
    to.end_headers()
    to.wfile.write(body)


def misbehave(to: BaseHTTPRequestHandler, how: str) -> None:
    """Answer as one should not."""
    match how:
        case "redirect":
            to.send_response(302)
            to.send_header("Location", "http://127.0.0.1:1/elsewhere")
            to.end_headers()
        case "not json":
            to.send_response(200)
            to.end_headers()
            to.wfile.write(b"<html>Login</html>")
        case "no object":
            to.send_response(200)
            to.end_headers()
            to.wfile.write(b"[]")
        case "no keys":
            send(to, 200, {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "x"}]})
        case "huge":
            to.send_response(200)
            to.end_headers()
            to.wfile.write(b'{"keys": "' + b"x" * 1_000_000)
        case "cut":
            to.send_response(200)
            to.send_header("Content-Length", "1000")
            to.end_headers()
            to.wfile.write(b'{"keys": []}')
        case "no http":
            to.wfile.write(b"SSH-2.0-OpenSSH_9.7\r\n" * 4)
        case "drip":
            to.send_response(200)
            to.end_headers()
            for _ in range(600):
                try:
                    to.wfile.write(b" ")
                    to.wfile.flush()
                except OSError:
                    return
                time.sleep(0.05)
        case "error":
            send(to, 500, {"error": "server_error"})
        case _:
            raise AssertionError(how)


@contextmanager
def providing(people: Mapping[str, Json], *, clock: Callable[[], datetime]) -> Iterator[Provider]:
    """A provider that is there meanwhile."""
    provider = Provider(people, clock=clock)
    try:
        yield provider
    finally:
        provider.stop()


def authorised(provider: Provider, subject: str, get: Any, post: Any) -> Json:
    """What a browser and its application get by the authorization code flow with PKCE."""
    verifier = secrets.token_urlsafe(32)
    challenge = part(hashlib.sha256(verifier.encode()).digest()).decode()
    asked = {
        "response_type": "code",
        "client_id": "workbench",
        "redirect_uri": REDIRECT,
        "state": "s",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "login_hint": subject,
    }
    back = get(f"{provider.issuer}/authorize", params=asked).headers["location"]
    code = parse_qs(urlsplit(back).query)["code"][0]
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
    found: Json = post(f"{provider.issuer}/token", data=form).json()
    return found
