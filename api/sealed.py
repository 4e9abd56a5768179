"""The door to sealed text: what one event says of persons, for those whose work needs it.

Who may is decided with all other rights (`projections/rights.py`). Who may not is told so, whether
or not something is sealed there, and whether or not there is such an event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import Path, Request, Response

from api import openapi
from api.accesses import Accesses
from api.callers import Callers, claims_of
from api.query import Operation
from api.record import line_at
from api.refusals import TokenMissing
from api.replies import reply
from api.security import not_allowed
from ledger.calendar import local_day
from ledger.database import reading
from ledger.errors import Words
from ledger.store import Ledger
from ledger.vault import Opened
from ledger.vault_errors import SealBroken
from projections.disclosure import Disclosure
from projections.rights import NONE

PATH = "/v1/events/{position}/sealed"
OPEN_IT = Words("open the sealed text of this event", "查阅该事件的封存内容")


class SealedDoor:
    """Answers what is sealed in one event."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        disclosure: Disclosure,
        accesses: Accesses,
        callers: Callers | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._disclosure = disclosure
        self._accesses = accesses
        self._callers = callers
        self._clock = clock

    def route(self) -> Operation:
        """The route."""
        return Operation(PATH, self.sealed, methods=["GET"], **openapi.of_read(PATH))

    async def sealed(
        self, request: Request, position: Annotated[int, Path(ge=1, le=2**53 - 1)]
    ) -> Response:
        """The sealed texts of one event, each with the salt that proves it."""
        claims = await claims_of(request, self._callers, "read")
        if claims is None:
            raise TokenMissing
        reader = claims.reader
        if reader.rights.sealed == NONE:
            raise not_allowed(claims, OPEN_IT)
        today = local_day(self._clock())
        look = await line_at(self._ledger, self._disclosure, position, reader, today=today)
        opened = await reading(self._disclosure.may_open, look.lines[0], reader)
        if opened is None:
            raise not_allowed(claims, OPEN_IT)
        event = orjson.loads(look.lines[0][1])
        texts = (await reading(self._ledger.vault.open, [event["id"]])).get(event["id"], [])
        for one in texts:
            _prove(one, event)
        if texts:
            await self._accesses.record(claims, "SEALED", position, position, file=opened.file)
        told = [one._asdict() | {"salt": one.salt.hex(), "digest": one.digest} for one in texts]
        return reply({"position": position, "id": event["id"], "texts": told}, reader)


def _prove(opened: Opened, event: Mapping[str, Any]) -> None:
    """Raises SealBroken where a text is not what its event committed to."""
    found: Any = event["data"]
    for part in opened.path.split("/")[1:]:
        found = found[int(part)] if isinstance(found, list) else found.get(part, {})
    if found != {"sealed": {"person": opened.person, "digest": opened.digest}}:
        raise SealBroken(path=opened.path, event=event["id"])
