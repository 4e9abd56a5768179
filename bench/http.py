"""Writes over HTTP with authentication, against a trivial `async` GET of the same framework.

Both run as one uvicorn process (uvloop, httptools) and get the same 32 keep-alive connections from
the same client, in turns, since what else the machine does changes from second to second. Ours is
the product itself (`chengxin serve --no-worker`): it checks the token and the role, parses and
validates the body, decides, and answers after the durable commit. The peer answers two bytes.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, repeat

import orjson
import uvloop

from bench.place import ACTOR, Place, Row, opened, penalty, registration
from bench.served import Served, server
from ledger.handle import Desk

CONNECTIONS = 32
TURNS = 5
TURN_SECONDS = 0.8
PEER = """
import asyncio, socket, sys, uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.responses import Response
async def answer() -> Response:
    return Response(b"ok")
app = FastAPI(routes=[APIRoute("/", answer)], openapi_url=None)
listener = socket.create_server(("127.0.0.1", 0))
print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
config = uvicorn.Config(app, http="httptools", loop="uvloop", access_log=False, log_level="error")
uvicorn.Server(config).run(sockets=[listener])
"""


def rows(place: Place) -> Iterable[Row]:
    """Requests per second."""
    database = place.database("http")
    with opened(database) as desk:
        asyncio.run(_register(desk))
    with (
        Served(database, worker=False) as served,
        server([sys.executable, "-c", PEER], os.environ) as peer_port,
    ):
        writes = [_writes(served.token, number) for number in range(CONNECTIONS)]
        reads = [repeat(GET) for _ in range(CONNECTIONS)]
        turns = [
            (uvloop.run(load(served.port, writes)), uvloop.run(load(peer_port, reads)))
            for _ in range(TURNS)
        ]
    ours, peer = (sum(rates) / TURNS for rates in zip(*turns, strict=True))
    yield Row(
        "durable writes over HTTP with authentication",
        ours,
        "a trivial async GET",
        peer,
        f"{CONNECTIONS} connections",
    )


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def _register(desk: Desk) -> None:
    for number in range(CONNECTIONS):
        await desk.record(f"HK-CR-{number}", registration(number), ACTOR)


def _writes(token: str, connection: int) -> Iterator[bytes]:
    for number in count():
        body = orjson.dumps(penalty(number).model_dump(mode="json"))
        yield (
            f"POST /v1/providers/HK-CR-{connection}/penalties HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body


async def load(port: int, requests: Sequence[Iterator[bytes]]) -> float:
    """Answers per second; any status but 200 and 201 is a failure of the benchmark."""
    done = 0
    end = time.perf_counter() + TURN_SECONDS

    async def connection(requests: Iterator[bytes]) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            assert length is not None
            body = await reader.readexactly(int(length[1]))
            assert head[9:12] in (b"200", b"201"), head + body
            done += 1
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*map(connection, requests))
    return done / (time.perf_counter() - started)
