"""What sealing is: the clear commitment in an event, and the key of a person that opens the text.

An event holds of a sealed text only who it concerns (a random reference) and a salted digest; the
ciphertext lies in the vault under a key of that person. Once the key is gone, so are text and salt,
and the digest says nothing any more (verifiable.md §4). From one random key of 32 bytes 64 are
derived (HKDF-Expand with SHA-512, RFC 5869: the key is random already and needs no extraction),
the first half for AES-256-GCM and the second for the salts; `place` is event id ‖ 0 ‖ path, so
that no ciphertext opens anywhere but where it was sealed:

    encryption key ‖ salt key = HKDF-Expand(key, "chengxin sealing", 64 bytes)
    salt = HMAC-SHA-256(salt key, place)        digest = SHA-256(salt ‖ text in UTF-8)
    ciphertext = nonce ‖ AES-256-GCM(encryption key, nonce, text; associated data: place)

`path` is the JSON Pointer (RFC 6901) of the text in the event's `data`. Pure: no I/O, and
randomness is a parameter.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated, Any, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, StringConstraints, ValidationInfo
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic_core import core_schema

from ledger.identity import Ref

KEY_BYTES = 32
NONCE_BYTES = 12
STORED: Final = {"stored": True}
"""The validation context of stored events: sealed fields hold commitments there, and no text."""


class Commitment(BaseModel):
    """Whose text it is and its salted SHA-256, which nobody can test guesses against."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    person: Ref
    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Sealed(BaseModel):
    """What an event holds of a sealed text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sealed: Commitment


class PlainText:
    """A text on its way to be sealed.

    No text to Python and to JSON: whatever shows or encodes a command shows no more than that there
    is one, and to encode it as part of an event is an error.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "PlainText(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlainText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class SealedAs:
    """The note that makes a field sealed, over the type that its text has in a command.

    A command gives text and never a commitment; a stored event (context `STORED`) holds a
    commitment and never text. The JSON Schema says the same: text in what is validated, a
    commitment in what is stored.
    """

    def __init__(self, text: Any) -> None:
        self.text = text

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_wrap_validator_function(
            _validated,
            handler.generate_schema(self.text),
            serialization=core_schema.plain_serializer_function_ser_schema(_plain),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if handler.mode == "serialization":
            return handler(Sealed.__pydantic_core_schema__)
        assert schema["type"] == "function-wrap"
        return handler(schema["schema"])


def _validated(
    value: Any, text: core_schema.ValidatorFunctionWrapHandler, info: ValidationInfo
) -> PlainText | Sealed:
    if isinstance(value, Sealed):
        return value
    if info.context is STORED:
        return Sealed.model_validate(value)
    return PlainText(text(value.text if isinstance(value, PlainText) else value))


def _plain(value: PlainText | Sealed) -> Any:
    """A command as it was given, or a commitment as it is stored."""
    return value.text if isinstance(value, PlainText) else value.model_dump()


class Box(NamedTuple):
    """All ciphertexts of one event under the key of one person."""

    person: str
    content: bytes


class PersonKey:
    """The key of one person, ready for use."""

    __slots__ = ("_cipher", "_salts")

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        both = hmac.new(key, b"chengxin sealing\x01", "sha512").digest()
        self._cipher = AESGCM(both[:32])
        # Copied for each salt: unlike hmac.digest, an update of so few bytes keeps the GIL.
        self._salts = hmac.new(both[32:], digestmod="sha256")

    def salt(self, event_id: str, path: str) -> bytes:
        """The salt of the digest at a place."""
        mac = self._salts.copy()
        mac.update(_place(event_id, path))
        return mac.digest()

    def seal(self, text: str, *, event_id: str, path: str, nonce: bytes) -> tuple[str, bytes]:
        """The digest (hex) and the ciphertext of a text; `nonce` is twelve fresh random bytes."""
        place, plain = _place(event_id, path), text.encode()
        mac = self._salts.copy()
        mac.update(place)
        digest = sha256(mac.digest() + plain).hexdigest()
        return digest, nonce + self._cipher.encrypt(nonce, plain, place)

    def open(self, ciphertext: bytes, *, event_id: str, path: str) -> str:
        """The text. Raises ValueError where it was altered, moved, or sealed by another key."""
        nonce, rest = ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, rest, _place(event_id, path)).decode()
        except InvalidTag as error:
            raise ValueError("not what was sealed here") from error


def digest_of(text: str, salt: bytes) -> str:
    """The digest that an event commits to, for whoever was given text and salt."""
    return sha256(salt + text.encode()).hexdigest()


def _place(event_id: str, path: str) -> bytes:
    return f"{event_id}\0{path}".encode()


def pack(fields: Iterable[tuple[str, bytes]]) -> bytes:
    """Paths and ciphertexts as one byte string.

    For each: length of the path, path, length of the ciphertext, ciphertext; lengths in two bytes,
    big-endian.
    """
    parts: list[bytes] = []
    for path, ciphertext in fields:
        name = path.encode()
        parts += (
            len(name).to_bytes(2, "big"),
            name,
            len(ciphertext).to_bytes(2, "big"),
            ciphertext,
        )
    return b"".join(parts)


def unpack(box: bytes) -> list[tuple[str, bytes]]:
    """The inverse of `pack`. Raises ValueError for what it never gives."""
    at = 0

    def piece() -> bytes:
        nonlocal at
        size = int.from_bytes(box[at : at + 2], "big")
        found = box[at + 2 : at + 2 + size]
        at += 2 + size
        if len(found) != size or at > len(box):
            raise ValueError("cut short")
        return found

    fields: list[tuple[str, bytes]] = []
    while at < len(box):
        path = piece().decode()
        fields.append((path, piece()))
    return fields
