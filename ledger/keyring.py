"""The keys that wrap the keys of persons. They are never in the database.

Each epoch has one key. New persons are wrapped under the newest; a rotation begins an epoch and
wraps the living anew. So it goes with the traces by which a text is found (`ledger/trace.py`). When
nothing is of an older epoch, and the last backup from its time is gone, its key is destroyed: with
it goes what an old backup still held of the erased, and any way to look for them in it.

`Keyring` is all the vault asks for, so that a key service can take the place of the file
(`CHENGXIN_KEYRING`). The file
(`vault-keys.json` in the key folder, mode 0600) is replaced whole; several processes may share it:
each reads it again when it has changed.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.keyfile import (
    KeyFileError,
    locked,
    private_folder,
    read_private,
    replace_key_file,
    sweep,
)
from ledger.trace import NONCE_BYTES, Trace, Tracer, inner_digest
from ledger.vault_errors import VaultKeyMissing

KEY_FILE = "vault-keys.json"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch: since when its key wraps, and when it was destroyed.

    `retired_on`: since when nothing is wrapped under it any more; backups from before need it.
    """

    number: int
    made_on: date
    retired_on: date | None = None
    destroyed_on: date | None = None


@runtime_checkable
class Keyring(Protocol):
    """Wraps and unwraps the keys of persons, and makes traces of what must be found again.

    Used by many threads. What it must promise is in `docs/operations.md`. Everything here may raise
    Unavailable; nothing is lost then.
    """

    def epochs(self) -> Sequence[Epoch]:
        """Every epoch there ever was, in order; the last one is in use. Empty: none was begun.

        Whoever is asked this lets go of the keys that were destroyed elsewhere.
        """

    def begin(self, after: int, on: date) -> None:
        """Begin the epoch after `after` (0: the first); nothing if that was done already."""

    def retire(self, number: int, on: date) -> None:
        """Note that nothing is wrapped under an older epoch any more."""

    def destroy(self, number: int, on: date) -> None:
        """Destroy the key of a retired epoch, for ever."""

    def wrap(self, persons: Sequence[tuple[str, bytes]]) -> tuple[int, list[bytes]]:
        """The keys of persons wrapped for the database, and under which epoch."""

    def unwrap(self, person: str, epoch: int, wrapped: bytes) -> bytes:
        """A person's key. Raises VaultKeyMissing where the key of its epoch is not the one here."""

    def trace(self, found: Sequence[Sequence[str]]) -> tuple[int, list[Trace]]:
        """The traces of texts under the newest epoch, and which that is. See `ledger/trace.py`."""

    def lookup(self, sought: Sequence[Sequence[str]]) -> tuple[int, list[bytes]]:
        """The digests of texts in every epoch whose key is there; the newest of all epochs, or 0.

        As many for each text, whichever it is.
        """

    def retrace(self, boxes: Sequence[tuple[int, bytes]]) -> tuple[int, list[Trace]]:
        """The traces under the newest epoch from the boxes of traces and their epochs.

        Of epoch 0 it is the inner digest. Raises VaultKeyMissing as `unwrap` does.
        """


class FileKeyring:
    """A keyring in one file of the key folder. Raises KeyFileError where others may read it."""

    def __init__(self, folder: Path, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._path, self._random = folder / KEY_FILE, random
        private_folder(folder)
        sweep(self._path)
        self._guard = threading.RLock()
        self._read_at: tuple[int, int] | None = None
        self._epochs: list[Epoch] = []
        self._keys: dict[int, bytes] = {}
        self._digests = b""

    def epochs(self) -> Sequence[Epoch]:
        """See `Keyring`."""
        with self._guard:
            self._refresh()
            return tuple(self._epochs)

    def begin(self, after: int, on: date) -> None:
        """See `Keyring`."""
        with self._changing():
            if (self._epochs[-1].number if self._epochs else 0) != after:
                return
            self._epochs.append(Epoch(after + 1, on))
            self._keys[after + 1] = self._random(KEY_BYTES)
            self._digests = self._digests or self._random(KEY_BYTES)

    def retire(self, number: int, on: date) -> None:
        """See `Keyring`."""
        with self._changing():
            at = self._at(number)
            assert number != self._epochs[-1].number, "the epoch in use"
            if self._epochs[at].retired_on is None:
                self._epochs[at] = replace(self._epochs[at], retired_on=on)

    def destroy(self, number: int, on: date) -> None:
        """See `Keyring`."""
        with self._changing():
            at = self._at(number)
            assert self._epochs[at].retired_on is not None, "something may be wrapped under it"
            if self._epochs[at].destroyed_on is None:
                self._epochs[at] = replace(self._epochs[at], destroyed_on=on)
            self._keys.pop(number, None)

    def _at(self, number: int) -> int:
        return next(n for n, one in enumerate(self._epochs) if one.number == number)

    def wrap(self, persons: Sequence[tuple[str, bytes]]) -> tuple[int, list[bytes]]:
        """See `Keyring`. Wrapped: the key's name ‖ nonce ‖ AES-256-GCM over person and epoch."""
        with self._guard:
            self._refresh()
            epoch = self._epochs[-1].number
            key = self._keys[epoch]
        cipher, name = AESGCM(key), _name(key)
        nonces = self._random(NONCE_BYTES * len(persons))
        wrapped: list[bytes] = []
        for at, (person, secret) in enumerate(persons):
            nonce = nonces[at * NONCE_BYTES :][:NONCE_BYTES]
            sealed = cipher.encrypt(nonce, secret, _whose(person, epoch))
            wrapped.append(name + nonce + sealed)
        return epoch, wrapped

    def unwrap(self, person: str, epoch: int, wrapped: bytes) -> bytes:
        """See `Keyring`."""
        with self._guard:
            # Each time, so that a key that another process destroyed opens nothing here either.
            self._refresh()
            key = self._keys.get(epoch)
        if key is None or not wrapped.startswith(_name(key)):
            raise VaultKeyMissing(epoch=epoch)
        rest = wrapped[len(_name(key)) :]
        nonce, sealed = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, sealed, _whose(person, epoch))
        except InvalidTag as error:
            raise VaultKeyMissing(epoch=epoch) from error

    def trace(self, found: Sequence[Sequence[str]]) -> tuple[int, list[Trace]]:
        """See `Keyring`."""
        with self._guard:
            self._refresh()
            digests = self._digests
        return self._traces([inner_digest(digests, one) for one in found])

    def lookup(self, sought: Sequence[Sequence[str]]) -> tuple[int, list[bytes]]:
        """See `Keyring`."""
        with self._guard:
            self._refresh()
            newest, keys = self._epochs[-1].number if self._epochs else 0, dict(self._keys)
            digests = self._digests
        tracers = [Tracer(number, key) for number, key in sorted(keys.items())]
        inner = [inner_digest(digests, one) for one in sought] if tracers else []
        return newest, [tracer.digest(one) for tracer in tracers for one in inner]

    def retrace(self, boxes: Sequence[tuple[int, bytes]]) -> tuple[int, list[Trace]]:
        """See `Keyring`."""
        with self._guard:
            self._refresh()
            tracers = {number: Tracer(number, key) for number, key in self._keys.items()}
        inner = []
        for epoch, box in boxes:
            try:
                inner.append(tracers[epoch].open(box) if epoch else box)
            except (KeyError, ValueError) as error:
                raise VaultKeyMissing(epoch=epoch) from error
        return self._traces(inner)

    def _traces(self, inner: Sequence[bytes]) -> tuple[int, list[Trace]]:
        with self._guard:
            self._refresh()
            epoch = self._epochs[-1].number
            tracer = Tracer(epoch, self._keys[epoch])
        nonces = self._random(NONCE_BYTES * len(inner))
        each = [nonces[at : at + NONCE_BYTES] for at in range(0, len(nonces), NONCE_BYTES)]
        return epoch, [tracer.trace(one, nonce) for one, nonce in zip(inner, each, strict=True)]

    def _refresh(self) -> None:
        """Read the file if it is another one than that which was read."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return
        # Replaced whole, it is a new file each time.
        now = (status.st_ino, status.st_mtime_ns)
        if now == self._read_at:
            return
        try:
            content = orjson.loads(read_private(self._path))
            self._epochs = [_epoch(one) for one in content["epochs"]]
            self._keys = {
                int(number): base64.b64decode(key, validate=True)
                for number, key in content["keys"].items()
            }
            self._digests = base64.b64decode(content["digests"], validate=True)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise KeyFileError(f"{self._path} holds no vault keys") from error
        self._read_at = now

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The file as it is now, and written anew in the end; one process at a time."""
        with self._guard, locked(self._path):
            self._refresh()
            kept = list(self._epochs), dict(self._keys), self._digests
            try:
                yield
                replace_key_file(self._path, self._written())
            except BaseException:
                # Nothing may ever be wrapped under a key that is in no file.
                self._epochs, self._keys, self._digests = kept
                raise
            self._refresh()

    def _written(self) -> bytes:
        content = {
            "epochs": [asdict(one) for one in self._epochs],
            "keys": {str(n): base64.b64encode(key).decode() for n, key in self._keys.items()},
            "digests": base64.b64encode(self._digests).decode(),
        }
        return orjson.dumps(content, option=orjson.OPT_INDENT_2)


def _epoch(written: dict[str, Any]) -> Epoch:
    days = (written["made_on"], written["retired_on"], written["destroyed_on"])
    made, retired, destroyed = (None if day is None else date.fromisoformat(day) for day in days)
    if made is None:
        raise ValueError("an epoch without a beginning")
    return Epoch(int(written["number"]), made, retired, destroyed)


def _name(key: bytes) -> bytes:
    """Eight bytes that tell one key from another and nothing else of it."""
    return sha256(b"chengxin vault key name" + key).digest()[:8]


def _whose(person: str, epoch: int) -> bytes:
    return f"{person}|{epoch}".encode()
