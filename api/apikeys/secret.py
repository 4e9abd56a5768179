"""What an API key looks like: `cxk_`, 256 random bits, and a checksum, in letters and digits.

The prefix lets scanners find a key that was published by mistake, and the checksum tells a typing
mistake, or what only looks like a key, without asking anybody. Kept is the SHA-256 of a key: of so
much randomness nothing is to be guessed, so that no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable

PREFIX = "cxk_"
SECRET_BYTES = 32
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_CHARACTERS = 43
"""That many hold 256 bits: 62**43 > 2**256."""
CHECK_CHARACTERS = 6
SHOWN_CHARACTERS = 8
WRITTEN = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{SECRET_CHARACTERS + CHECK_CHARACTERS}}}")


def new_secret(random: Callable[[int], bytes]) -> str:
    """A new key."""
    secret = _written(int.from_bytes(random(SECRET_BYTES), "big"), SECRET_CHARACTERS)
    return f"{PREFIX}{secret}{_check(secret)}"


def is_whole(text: str) -> bool:
    """Whether a text is written as a key is, checksum included."""
    if WRITTEN.fullmatch(text) is None:
        return False
    secret = text[len(PREFIX) :]
    return _check(secret[:SECRET_CHARACTERS]) == secret[SECRET_CHARACTERS:]


def shown_of(key: str) -> str:
    """The beginning of a key, by which people tell it from others; 208 bits of it stay secret."""
    return key[: len(PREFIX) + SHOWN_CHARACTERS]


def digest_of(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


def _check(secret: str) -> str:
    return _written(zlib.crc32(secret.encode()), CHECK_CHARACTERS)


def _written(number: int, characters: int) -> str:
    found = ""
    for _ in range(characters):
        number, digit = divmod(number, len(ALPHABET))
        found = ALPHABET[digit] + found
    return found
