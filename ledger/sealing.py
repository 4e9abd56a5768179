"""What sealing is: the clear commitment in an event, and the key of a person that opens the text.

An event holds of a sealed text only who it concerns (a random reference) and a salted digest; the
ciphertext lies in the vault under a key of that person. Once the key is gone, so are text and salt,
and the digest says nothing any more (verifiable.md §4). From one random key of 32 bytes 64 are
derived (HKDF-Expand with SHA-512, RFC 5869: the key is random already and needs no extraction),
the first half for AES-256-GCM and the second for the salts. All texts of one person in one event
lie in one box, a JSON object of path → text, which opens as a whole and in that event only; a path
is authenticated with its text, so that neither can be put in another's place:

    encryption key ‖ salt key = HKDF-Expand(key, "chengxin sealing", 64 bytes)
    salt = HMAC-SHA-256(salt key, event id ‖ 0 ‖ path)    digest = SHA-256(salt ‖ text in UTF-8)
    box = nonce ‖ AES-256-GCM(encryption key, nonce, {path: text, …}; associated data: event id)

`path` is the JSON Pointer (RFC 6901) of the text in the event's `data`. Pure: no I/O, and
randomness is a parameter.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
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
    """All texts of one event under the key of one person, as ciphertext."""

    person: str
    content: bytes


Salts: TypeAlias = Callable[[str], bytes]
"""The salts of the digests in one event, by their paths."""


class PersonKey:
    """The key of one person, ready for use."""

    __slots__ = ("_cipher", "_salts")

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        both = hmac.new(key, b"chengxin sealing\x01", "sha512").digest()
        self._cipher = AESGCM(both[:32])
        # Copied for each salt: in half the time that the standard library's takes.
        self._salts = HMAC(both[32:], SHA256())

    def salts(self, event_id: str) -> Salts:
        """The salts in an event, by their paths; what they share is computed once."""
        event = self._salts.copy()
        event.update(f"{event_id}\0".encode())

        def salt(path: str) -> bytes:
            mac = event.copy()
            mac.update(path.encode())
            return mac.finalize()

        return salt

    def box(self, texts: Mapping[str, str], *, event_id: str, nonce: bytes) -> bytes:
        """The box of texts by their paths; `nonce` is twelve fresh random bytes."""
        return nonce + self._cipher.encrypt(nonce, orjson.dumps(texts), event_id.encode())

    def open(self, box: bytes, *, event_id: str) -> dict[str, str]:
        """The texts by their paths.

        Raises ValueError where the box was altered, moved, or sealed by another key.
        """
        nonce, rest = box[:NONCE_BYTES], box[NONCE_BYTES:]
        try:
            texts = self._cipher.decrypt(nonce, rest, event_id.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: not even a whole nonce
            raise ValueError("not what was sealed here") from error
        opened: dict[str, str] = orjson.loads(texts)
        return opened


def digest_of(text: str, salt: bytes) -> str:
    """The digest that an event commits to, for whoever was given text and salt."""
    return sha256(salt + text.encode()).hexdigest()
