"""A key service: another process that keeps the vault's keys, and a keyring that talks to it.

One JSON line a question and one an answer, over a socket in the key folder; a connection each. The
keys are in the process (`python -m tests.keyservice FOLDER`), under `service` in the folder.
"""

from __future__ import annotations

import base64
import socket
import socketserver
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from ledger.errors import Unavailable
from ledger.keyring import Epoch, FileKeyring
from ledger.trace import Trace
from ledger.vault_errors import VaultKeyMissing

SOCKET = "service.sock"
SECONDS = 5


def connect(folder: Path) -> ServiceKeyring:
    """What `CHENGXIN_KEYRING=tests.keyservice:connect` names."""
    return ServiceKeyring(folder)


def nothing(folder: Path) -> object:
    """What is no keyring."""
    return folder


class ServiceKeyring:
    """A keyring whose keys are in another process."""

    def __init__(self, folder: Path) -> None:
        self._address = f"{folder / SOCKET}"

    def epochs(self) -> Sequence[Epoch]:
        """See `Keyring`."""
        return [
            Epoch(number, date.fromisoformat(made), _day(retired), _day(destroyed))
            for number, made, retired, destroyed in self._ask("epochs")
        ]

    def begin(self, after: int, on: date) -> None:
        """See `Keyring`."""
        self._ask("begin", after, on)

    def retire(self, number: int, on: date) -> None:
        """See `Keyring`."""
        self._ask("retire", number, on)

    def destroy(self, number: int, on: date) -> None:
        """See `Keyring`."""
        self._ask("destroy", number, on)

    def wrap(self, persons: Sequence[tuple[str, bytes]]) -> tuple[int, list[bytes]]:
        """See `Keyring`."""
        epoch, wrapped = self._ask("wrap", [(who, _text(key)) for who, key in persons])
        return epoch, [_bytes(one) for one in wrapped]

    def unwrap(self, person: str, epoch: int, wrapped: bytes) -> bytes:
        """See `Keyring`."""
        return _bytes(self._ask("unwrap", person, epoch, _text(wrapped)))

    def trace(self, found: Sequence[Sequence[str]]) -> tuple[int, list[Trace]]:
        """See `Keyring`."""
        epoch, traces = self._ask("trace", found)
        return epoch, [Trace(_bytes(digest), _bytes(box)) for digest, box in traces]

    def lookup(self, sought: Sequence[Sequence[str]]) -> tuple[int, list[bytes]]:
        """See `Keyring`."""
        newest, digests = self._ask("lookup", sought)
        return newest, [_bytes(one) for one in digests]

    def retrace(self, boxes: Sequence[tuple[int, bytes]]) -> tuple[int, list[Trace]]:
        """See `Keyring`."""
        epoch, traces = self._ask("retrace", [(number, _text(box)) for number, box in boxes])
        return epoch, [Trace(_bytes(digest), _bytes(box)) for digest, box in traces]

    def _ask(self, *question: Any) -> Any:
        try:
            with socket.socket(socket.AF_UNIX) as service:
                service.settimeout(SECONDS)
                service.connect(self._address)
                with service.makefile("rwb") as lines:
                    lines.write(orjson.dumps(question) + b"\n")
                    lines.flush()
                    answer = orjson.loads(lines.readline())
        except (OSError, orjson.JSONDecodeError) as error:
            raise Unavailable from error
        if "missing" in answer:
            raise VaultKeyMissing(epoch=answer["missing"])
        return answer["is"]


class Answers(socketserver.StreamRequestHandler):
    """Answers a question, in the process that has the keys."""

    keyring: FileKeyring

    def handle(self) -> None:
        """One line."""
        what, *given = orjson.loads(self.rfile.readline())
        if what in ("begin", "retire", "destroy"):
            given[1] = date.fromisoformat(given[1])
        elif what == "wrap":
            given = [[(who, _bytes(key)) for who, key in given[0]]]
        elif what == "unwrap":
            given[2] = _bytes(given[2])
        elif what == "retrace":
            given = [[(number, _bytes(box)) for number, box in given[0]]]
        try:
            found = getattr(self.keyring, what)(*given)
        except VaultKeyMissing as error:
            self.wfile.write(orjson.dumps({"missing": error.facts["epoch"]}))
            return
        self.wfile.write(orjson.dumps({"is": _written(found)}))


def _written(found: Any) -> Any:
    match found:
        case bytes():
            return _text(found)
        case Epoch(number, made_on, retired_on, destroyed_on):
            return [number, made_on, retired_on, destroyed_on]
        case list() | tuple():
            return [_written(one) for one in found]
        case _:
            return found


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)


def main(folder: Path) -> None:
    """Serve until killed."""
    Answers.keyring = FileKeyring(folder / "service")
    with suppress(FileNotFoundError):
        (folder / SOCKET).unlink()
    with socketserver.ThreadingUnixStreamServer(f"{folder / SOCKET}", Answers) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
