"""The load that `test_chaos` kills: `python -m tests.chaos_load` reads jobs, one JSON line each.

Each job runs in a process forked for it, so that a round costs no interpreter start. It says the
process's pid when it has begun and its wait status when it has ended. What a command is follows
from its idempotency key alone: whoever knows a key can repeat the request.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from stdnum.cn import uscc

from ledger import errors
from ledger.appender import Key
from ledger.database import Database
from ledger.events import Data
from ledger.handle import Desk
from ledger.store import Ledger
from tests import given

TASKS = 8
PROVIDERS_AT_ONCE = 4
ROUNDS_PER_GROUP = 8
"""So many rounds write to the same providers: a fresh process has no long streams to read."""

REFUSED_EVERY = 8
RETRY_SECONDS = 0.02


@dataclass(frozen=True)
class Job:
    """Repeat the keys, then write on until killed; tell every answer in a file."""

    conninfo: str
    file: str
    round: int
    repeat: list[str]

    def line(self) -> str:
        """As the process reads it."""
        return json.dumps(asdict(self)) + "\n"


def key_of(round: int, task: int, number: int) -> str:
    """The idempotency key of a task's command."""
    return f"R{round}-T{task}-N{number}"


def providers_of(round: int) -> list[str]:
    """The providers that a round writes to, of a division that does not exist."""
    first = round // ROUNDS_PER_GROUP * PROVIDERS_AT_ONCE
    bare = [f"91999999MA{number:07}" for number in range(first, first + PROVIDERS_AT_ONCE)]
    return [one + uscc.calc_check_digit(one) for one in bare]


def command_of(key: str) -> tuple[str, Data]:
    """Provider and command of a key. Every so many is one that the domain refuses."""
    random_of_key = random.Random(key)
    round, _, number = (int(part[1:]) for part in key.split("-"))
    provider = random_of_key.choice(providers_of(round))
    if number % REFUSED_EVERY == REFUSED_EVERY - 1:
        return provider, given.register()
    commands: list[Data] = [
        given.penalty(incident=key, document_no=key),
        given.complaint(complaint=key, finding=given.finding(incident=key, document_no=key)),
        given.contract(contract=key),
        given.inspection(inspection=key),
        given.reward(document_no=key),
    ]
    return provider, random_of_key.choice(commands)


def key_of_event(data: Any) -> str:
    """The key of the command that led to an event."""
    names = ("complaint", "contract", "inspection", "incident", "document_no")
    return next(str(getattr(data, name)) for name in names if hasattr(data, name))


async def ask(desk: Desk, key: str, file: int) -> None:
    """Give the key's command, as often as it takes, and tell what came of it."""
    provider, command = command_of(key)
    digest = hashlib.sha256(f"{provider} {command.model_dump_json()}".encode()).digest()
    actor = given.REGISTRAR
    idempotency = Key(actor.organisation, actor.ref, key, digest)
    while True:
        asked_at = time.monotonic()
        told: dict[str, Any]
        try:
            receipt = await desk.record(provider, command, actor, key=idempotency)
            told = {"receipt": receipt._asdict()}
        except (errors.Unavailable, errors.OutcomeUnknown) as error:
            told = {"again": error.code}
        except errors.LedgerError as error:
            told = {"refused": error.code}
        except Exception as error:
            told = {"failed": repr(error)}
        told |= {"key": key, "asked_at": asked_at, "told_at": time.monotonic()}
        line = json.dumps(told).encode() + b"\n"
        # One write: a line is in the file whole or not at all, whenever the process is killed.
        assert os.write(file, line) == len(line)
        if "again" not in told:
            return
        await asyncio.sleep(RETRY_SECONDS)


async def write_on(desk: Desk, job: Job, task: int, file: int) -> None:
    """One task: its share of the repeats, each asked twice at once; then its own, for ever."""
    for key in job.repeat[task::TASKS]:
        await asyncio.gather(ask(desk, key, file), ask(desk, key, file))
    number = 0
    while True:
        await ask(desk, key_of(job.round, task, number), file)
        number += 1


async def load(job: Job) -> None:
    """All tasks on one desk."""
    file = os.open(job.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with Ledger(Database(job.conninfo)) as ledger:
        desk = Desk(ledger)
        await asyncio.gather(*(write_on(desk, job, task, file) for task in range(TASKS)))


def serve(jobs: Iterable[str]) -> None:
    """Fork a process for each job, one after the other."""
    for line in jobs:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(load(Job(**json.loads(line))))
            finally:
                os._exit(1)
        os.write(1, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    serve(sys.stdin)
