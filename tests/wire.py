"""A wire between a client and PostgreSQL that a test can cut at a chosen moment: real sockets.

`Wire` listens on a unix socket of its own and passes bytes on. When a client sends a marked text,
it does to that one call what the test asked for: the request is lost, the reply is lost, or the
client is cut off while the server still works on the request.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Fault = Literal["lose the request", "lose the reply", "leave the server at work"]
SOCKET_NAME = ".s.PGSQL.5432"
CHUNK_BYTES = 1024 * 1024
WAIT_SECONDS = 10


class Wire:
    """Passes connections on to the server of `conninfo`; use it through `Wire.conninfo`."""

    def __init__(self, conninfo: str) -> None:
        given = conninfo_to_dict(conninfo)
        self._server = f"{given['host']}/.s.PGSQL.{given.get('port') or 5432}"
        self._folder = Path(tempfile.mkdtemp(prefix="wire-", dir="/tmp"))
        self.conninfo = make_conninfo(conninfo, host=str(self._folder), port=5432)
        self._plan: dict[bytes, Fault] = {}
        self._down = threading.Event()
        self._closing = False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.happened: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._folder / SOCKET_NAME))
        self._listener.listen(64)
        self._start(self._accept)

    def plan(self, mark: str, fault: Fault) -> None:
        """The next request that contains `mark` meets this fault, once."""
        self._plan[mark.encode()] = fault

    def wait(self, mark: str) -> None:
        """Return when the planned fault has happened."""
        deadline = time.monotonic() + WAIT_SECONDS
        while mark.encode() not in self.happened:
            assert time.monotonic() < deadline, f"no request with {mark} came along"
            time.sleep(0.005)

    def refuse(self) -> None:
        """Let existing connections be; refuse new ones until `bring_up`."""
        self._down.set()

    def take_down(self) -> None:
        """Cut every connection; refuse new ones until `bring_up`."""
        self.refuse()
        for one in self._sockets:
            _cut(one)

    def bring_up(self) -> None:
        """Accept connections again."""
        self._down.clear()

    def close(self) -> None:
        """Cut everything and go away."""
        self._closing = True
        self.take_down()
        _cut(self._listener)
        for thread in self._threads:
            thread.join()
        for one in (self._listener, *self._sockets):
            one.close()
        shutil.rmtree(self._folder)

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._down.is_set():
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sockets += [client, server]
            try:
                server.connect(self._server)
            except OSError:
                _cut(client)
                continue
            losing = threading.Event()
            self._start(self._pass_requests, client, server, losing)
            self._start(self._pass_replies, client, server, losing)

    def _pass_requests(
        self, client: socket.socket, server: socket.socket, losing: threading.Event
    ) -> None:
        seen = b""
        while piece := _read(client):
            seen = (seen + piece)[-2 * CHUNK_BYTES :]
            mark = next((mark for mark in self._plan if mark in seen), None)
            fault = None if mark is None else self._plan.pop(mark)
            if mark is not None:
                self.happened.append(mark)
                seen = b""
            if fault == "lose the request":
                break
            if fault == "lose the reply":
                losing.set()
            with contextlib.suppress(OSError):
                server.sendall(piece)
            if fault == "leave the server at work":
                losing.set()
                _cut(client)
                return  # the server's side stays open
        if not losing.is_set():
            _cut(server)
        _cut(client)

    def _pass_replies(
        self, client: socket.socket, server: socket.socket, losing: threading.Event
    ) -> None:
        while piece := _read(server):
            if losing.is_set():
                break  # it came, therefore the server is done; nobody will know
            with contextlib.suppress(OSError):
                client.sendall(piece)
        for one in (client, server):
            _cut(one)


def _read(one: socket.socket) -> bytes:
    try:
        return one.recv(CHUNK_BYTES)
    except OSError:
        return b""


def _cut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def wired(conninfo: str) -> Iterator[Wire]:
    """A wire for the length of a block."""
    wire = Wire(conninfo)
    try:
        yield wire
    finally:
        wire.close()
