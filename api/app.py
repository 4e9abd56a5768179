"""The HTTP application put together: routes, problems, the door; and the server it runs on.

`create_app` takes everything it uses and starts nothing but the desk, which belongs to the event
loop. Whoever made the ledger and the tail starts and stops them, around the server.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Path, Request, Response
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from pydantic import BaseModel
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Route

from api import commands, delivery, document, lines, openapi, problems, reference, resource
from api.accesses import Accesses
from api.budgets import budgets_of, purses_of
from api.callers import Callers
from api.connection import Room, connections
from api.delivery import Deliveries
from api.door import Door
from api.feed import Feed
from api.intake.sought import SoughtRows, erasures_of
from api.metrics import status_routes
from api.pages import Pages
from api.pages import routes as page_routes
from api.person_copy import MODELS as COPY_MODELS
from api.person_copy import Copies
from api.person_json import MODELS as PERSON_MODELS
from api.person_routes import PersonRoutes
from api.proposals import MODELS as PROPOSAL_MODELS
from api.proposals import ProposalRoutes
from api.quarantine_routes import MODELS as QUARANTINE_MODELS
from api.quarantine_routes import QuarantineRoutes
from api.query import Operation
from api.reads import Reads
from api.record import Record
from api.refusals import NotFound
from api.release import VERSION
from api.replies import public
from api.sealed import SealedDoor
from api.settings import Settings
from api.titles import TITLES
from api.traffic import Traffic
from api.writes import WRITES
from ledger.database import reading
from ledger.docket import Docket
from ledger.figures import Folds
from ledger.handle import Desk
from ledger.marks import Marks
from ledger.rotation import Terms
from ledger.store import Ledger
from ledger.tail import Tail
from projections.disclosure import Disclosure
from projections.looks import Looks
from projections.proposals import Proposals
from projections.scores import Scores
from projections.sheet import Sheets

ABOUT: dict[str, Any] = {
    "title": "Chengxin Ledger 诚信账本",
    "version": VERSION,
    "summary": "An event-sourced credit ledger for service providers.",
    "description": openapi.DESCRIPTION,
    "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    # FastAPI's own document has no ETag, and its pages would load their parts from elsewhere: ours
    # are in `api/reference.py`.
    "openapi_url": None,
    "docs_url": None,
    "redoc_url": None,
    "redirect_slashes": False,
    "telemetry": {"tracing": False, "metrics": False, "logs": False},
}
"""What the application is to FastAPI, whatever it serves."""
MODELS: Sequence[type[BaseModel]] = (
    *(write.command for write in WRITES),
    *delivery.MODELS,
    *QUARANTINE_MODELS,
    *PROPOSAL_MODELS,
    *PERSON_MODELS,
    *COPY_MODELS,
)
"""What requests bring and routes answer, but for what is in `api/answers.py`."""
GRACE_SECONDS = 10


def create_app(
    *,
    ledger: Ledger,
    tail: Tail,
    scores: Scores,
    disclosure: Disclosure,
    callers: Callers | None,
    settings: Settings,
    clock: Callable[[], datetime],
    folds: Mapping[str, Folds],
) -> FastAPI:
    """The application over one ledger. `callers` None: nobody can show who he is.

    `folds` are the figures of the projections' followers in this process.
    """
    sheets = Sheets(ledger, scores, disclosure)
    pages = Pages(sheets, rulebooks=scores.rulebooks, clock=clock)
    accesses = Accesses(ledger)
    quarantine = QuarantineRoutes(
        ledger,
        accesses=accesses,
        callers=callers,
        keys=settings.keys(),
        max_body_bytes=settings.max_body_bytes,
    )
    feed = Feed(
        disclosure,
        tail,
        accesses=accesses,
        callers=callers,
        clock=clock,
        head=ledger.head,
        limit=settings.max_streams,
    )
    traffic = Traffic()
    app = FastAPI(
        # In this order: FastAPI tries one after the other, and writes are the busiest.
        routes=[
            *commands.routes(callers=callers, max_body_bytes=settings.max_body_bytes),
            *read_routes(
                ledger, tail, scores, disclosure, sheets, accesses, callers=callers, clock=clock
            ),
            feed.route(),
            Deliveries(settings, callers=callers).route(),
            *quarantine.routes(),
            *person_routes(ledger, settings, accesses, callers=callers, clock=clock),
            *status_routes(
                ledger,
                tail,
                (scores, disclosure),
                settings,
                feed=feed,
                traffic=traffic,
                folds=folds,
                issuers=dict if callers is None else callers.issuer_states,
            ),
            resource.route([] if callers is None else callers.issuers),
            problem_types(pages),
            *page_routes(pages),
        ],
        lifespan=partial(lifespan, ledger=ledger, quarantine=quarantine),
        **ABOUT,
    )
    app.openapi = document.publish(app, MODELS)  # type: ignore[method-assign]
    reference.add(app, pages)
    app.state.public_url = settings.public_url
    problems.install(app, reached=tail.reached)
    app.state.front = settings.front()
    app.middleware_stack = door_of(app, settings, traffic)
    return app


def read_routes(
    ledger: Ledger,
    tail: Tail,
    scores: Scores,
    disclosure: Disclosure,
    sheets: Sheets,
    accesses: Accesses,
    *,
    callers: Callers | None,
    clock: Callable[[], datetime],
) -> list[Operation]:
    """The routes of everything that is read, but the feed and the quarantine."""
    reads = Reads(
        ledger,
        tail,
        scores=scores,
        disclosure=disclosure,
        sheets=sheets,
        accesses=accesses,
        callers=callers,
        clock=clock,
    )
    record = Record(
        ledger,
        scores=scores,
        disclosure=disclosure,
        looks=Looks(ledger),
        accesses=accesses,
        callers=callers,
        clock=clock,
    )
    sealed = SealedDoor(
        ledger, disclosure=disclosure, accesses=accesses, callers=callers, clock=clock
    )
    proposals = ProposalRoutes(Proposals(ledger), accesses=accesses, callers=callers, clock=clock)
    return [*reads.routes(), *record.routes(), sealed.route(), *proposals.routes()]


def person_routes(
    ledger: Ledger,
    settings: Settings,
    accesses: Accesses,
    *,
    callers: Callers | None,
    clock: Callable[[], datetime],
) -> list[Operation]:
    """The routes of persons."""
    keys = settings.keys()
    erasures = erasures_of(ledger, None if keys is None else Docket(keys), clock=clock)
    persons = PersonRoutes(
        erasures,
        Copies(ledger, erasures, clock=clock),
        Marks(ledger),
        SoughtRows(ledger),
        terms=Terms(settings.key_epoch_days, settings.backup_days),
        accesses=accesses,
        callers=callers,
        max_body_bytes=settings.max_body_bytes,
    )
    return persons.routes()


@asynccontextmanager
async def lifespan(
    app: FastAPI, *, ledger: Ledger, quarantine: QuarantineRoutes
) -> AsyncIterator[None]:
    """What belongs to the event loop: the desk, and the sign that the process stops."""
    app.state.desk = Desk(ledger)
    quarantine.decide_at(app.state.desk)
    app.state.stopping = asyncio.Event()
    yield
    app.state.stopping.set()


def door_of(app: FastAPI, settings: Settings, traffic: Traffic) -> Door:
    """The door before an application that has all its routes.

    It is the outermost: what the framework would put around it (a second catcher of errors,
    telemetry, a limit for bodies) is either done there or not in use.
    """
    inside = AsyncExitStackMiddleware(app.router)
    return Door(
        ExceptionMiddleware(inside, handlers=app.exception_handlers),
        settings=settings,
        longer={delivery.PATH: settings.max_import_bytes},
        random=os.urandom,
        routes={one.endpoint: one.path for one in app.routes if isinstance(one, Route)},
        traffic=traffic,
        front=app.state.front,
        purses=purses_of(budgets_of(settings.budgets), time.monotonic),
    )


def problem_types(pages: Pages) -> Operation:
    """The route that tells what a problem type means."""

    async def answer(
        request: Request, code: Annotated[str, Path(json_schema_extra={"enum": list(TITLES)})]
    ) -> Response:
        """For a person (`Accept: text/html`) or a program."""
        description = problems.describe(code)
        if description is None:
            raise NotFound(path=request.url.path)
        accept = request.headers.get("accept")
        if accept and lines.negotiate(accept, ("application/json", "text/html")) == "text/html":
            found = await reading(pages.problem, description)
        else:
            found = public(request, description)
        found.headers["Vary"] = "Accept"
        return found

    path = "/problems/{code}"
    return Operation(path, answer, methods=["GET"], **openapi.of_read(path))


class Server(uvicorn.Server):
    """uvicorn, which tells the application that it stops before it waits for open answers."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: event streams end by themselves, everything else is answered."""
        app = self.config.app
        assert isinstance(app, FastAPI)
        app.state.stopping.set()
        await super().shutdown(sockets)


def make_server(app: FastAPI, settings: Settings) -> Server:
    """The server of this process; `run()` blocks until SIGINT or SIGTERM."""
    room = Room(
        app.state.front,
        limit=settings.max_connections,
        limit_per_address=settings.max_connections_per_address,
    )
    return Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=connections(room),  # type: ignore[arg-type]
            ws="none",
            # What a proxy says of the caller is judged by `api/front.py`.
            proxy_headers=False,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
