"""Writes over HTTP with authentication, against a trivial `async` GET of the same framework.

Both run as one uvicorn process (uvloop, httptools) and get the same 32 keep-alive connections from
the same client. Ours checks the token and the role, parses and validates the body, decides, and
answers after the durable commit; the peer answers two bytes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count

import uvicorn
import uvloop
from fastapi import FastAPI, Response

from bench.place import ACTOR, Place, Row, penalty
from ledger.database import Database
from ledger.envelope import new_id
from ledger.events import LedgerOpened, ProviderRegistered
from ledger.handle import Desk
from ledger.rulebook import first_rulebook
from ledger.store import Ledger, system_clock

CONNECTIONS = 32
SECONDS = 4.0
HOST = "127.0.0.1"
