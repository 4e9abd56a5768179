"""The query of an address: nothing twice, and nothing that the address does not know.

Were a misspelt `limit` or `as_of` passed over, the answer would be to another question, and nobody
would learn of it. Pages (`api/pages.py`) take any query: what a mail program adds to a link must
not make it a dead one.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from api.refusals import Flaw, SchemaBroken
from ledger.errors import Words

MAX_NAME_CHARACTERS = 80
UNKNOWN = Words("this address knows no such parameter", "该地址没有此参数")
TWICE = Words("a parameter may be given once", "参数只可出现一次")


def check_query(scope: Scope, known: Collection[str] = ()) -> None:
    """Raises SchemaBroken for a parameter that is not `known`, or is there twice."""
    if not scope["query_string"]:
        return
    given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    names = [name for name, _ in given]
    flaws = [
        Flaw(("query", name[:MAX_NAME_CHARACTERS]), TWICE if name in known else UNKNOWN)
        for name in dict.fromkeys(names)
        if name not in known or names.count(name) > 1
    ]
    if flaws:
        raise SchemaBroken(flaws)


class Operation(APIRoute):
    """A published route, whose query is judged before anything else."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; a method that is not its own is refused as everywhere."""
        if scope["method"] in (self.methods or ()):
            check_query(scope, [one.alias for one in self.dependant.query_params])
        await super().handle(scope, receive, send)
