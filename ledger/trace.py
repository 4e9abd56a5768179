"""Traces: by which a text is found again that the database does not hold.

A trace is two things of one epoch of the vault's keys (`ledger/keyring.py`): a digest that is
looked for, and a box from which a rotation makes the trace of the next epoch, since nobody has the
text then. Both come from an inner digest, which no database is ever told:

    inner = HMAC-SHA-256(key of all epochs, each text with its length)
    search key ‖ box key = HMAC-SHA-512(the epoch's key, "chengxin trace" ‖ 1)
    digest = HMAC-SHA-256(search key, inner)
    box = nonce ‖ AES-256-GCM(box key, nonce, inner; associated data: "trace" and the epoch)

Once the epoch's key is destroyed, an old copy of the database can neither be searched with a text
that somebody knows nor opened, whoever has the other keys. Pure.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


class Trace(NamedTuple):
    """What the database holds of a text: see the module."""

    digest: bytes
    box: bytes


class Tracer:
    """Makes and opens the traces of one epoch."""

    __slots__ = ("_cipher", "_epoch", "_search")

    def __init__(self, epoch: int, key: bytes) -> None:
        both = hmac.digest(key, b"chengxin trace\x01", "sha512")
        self._search, self._cipher = both[:32], AESGCM(both[32:])
        self._epoch = b"trace|%d" % epoch

    def digest(self, inner: bytes) -> bytes:
        """What is looked for."""
        return hmac.digest(self._search, inner, "sha256")

    def trace(self, inner: bytes, nonce: bytes) -> Trace:
        """The trace. `nonce` is twelve fresh random bytes."""
        box = nonce + self._cipher.encrypt(nonce, inner, self._epoch)
        return Trace(self.digest(inner), box)

    def open(self, box: bytes) -> bytes:
        """The inner digest of a box. Raises ValueError where it is none of this epoch."""
        try:
            return self._cipher.decrypt(box[:NONCE_BYTES], box[NONCE_BYTES:], self._epoch)
        except (InvalidTag, ValueError) as error:
            raise ValueError("not a box of this epoch") from error


def inner_digest(key: bytes, texts: Sequence[str]) -> bytes:
    """The same for the same texts in every epoch, and another for every other division of them."""
    mac = hmac.new(key, digestmod="sha256")
    for text in texts:
        plain = text.encode()
        mac.update(b"%d:" % len(plain) + plain)
    return mac.digest()
