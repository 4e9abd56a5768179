"""Proposals over HTTP: what awaits a second officer, and one proposal with what became of it.

Officers and auditors see them, whoever made them; for everybody else there is nothing here, and
nothing tells whether there would be. How one is decided is a write like others (`api/writes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response
from pydantic import Field

from api import lines, openapi
from api.accesses import Accesses
from api.answers import Answer, DayText
from api.callers import Callers, claims_of
from api.openapi import BEARER, LINK, Read, json_answer
from api.parameters import Identifier
from api.query import Operation
from api.refusals import TokenMissing
from api.replies import reply
from api.security import Claims, not_allowed
from api.writes import PROPOSAL
from ledger.calendar import local_day
from ledger.database import reading
from ledger.errors import Words
from ledger.identity import Ref, parse_identifier
from ledger.proposal_errors import UnknownProposal
from projections.proposals import Asked, Proposals, State

LISTED = "/v1/proposals"
SEE = Words("see proposals", "查阅提请")
Id = Annotated[
    str,
    Path(
        description="The id of the proposal, from its receipt.",
        json_schema_extra={"format": "uuid"},
    ),
]


class Officer(Answer):
    """Who acted: for which organisation, in which role, under which random reference."""

    organisation: str
    role: str
    ref: Ref


class ProposalVerdict(Answer):
    """What decided a proposal, where and when, by whom; `reason` of a refusal."""

    position: Annotated[int, Field(ge=1)]
    id: Ref
    time: str
    by: Officer
    reason: str | None


class ProposalInFull(Answer):
    """A proposal: what it asks for, since when, by whom, and what became of it."""

    id: Ref
    position: Annotated[int, Field(ge=1)]
    provider: str
    command: str
    data: dict[str, Any] = Field(description="As the address of the command takes it.")
    time: str
    by: Officer
    lapses_on: DayText | None = Field(description="From this day on nobody can decide it.")
    state: State
    verdict: ProposalVerdict | None


class OpenProposals(Answer):
    """What awaits a second officer, in the order of the log."""

    proposals: list[ProposalInFull]


MODELS = (ProposalInFull, OpenProposals)
"""What these routes give, for the published schema."""
READS = {
    LISTED: Read(
        "proposals",
        "待另一名工作人员决定的提请 · What awaits a second officer",
        json_answer(OpenProposals, headers=LINK),
        (401, 403, 500, 503),
        [BEARER],
    ),
    PROPOSAL: Read(
        "proposals",
        "一件提请 · One proposal",
        json_answer(ProposalInFull),
        (401, 403, 404, 409, 500, 503),
        [BEARER],
    ),
}


class ProposalRoutes:
    """Answers what is read of proposals."""

    def __init__(
        self,
        proposals: Proposals,
        *,
        accesses: Accesses,
        callers: Callers | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._proposals = proposals
        self._accesses = accesses
        self._callers = callers
        self._clock = clock

    def routes(self) -> list[Operation]:
        """The routes."""
        return [
            Operation(path, endpoint, methods=["GET"], **openapi.of_read(path, READS[path]))
            for path, endpoint in ((LISTED, self.listed), (PROPOSAL, self.one))
        ]

    async def listed(
        self,
        request: Request,
        after: Annotated[
            int, Query(ge=0, le=2**53 - 1, description="Proposals beyond this position.")
        ] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Those that somebody may still decide."""
        claims = await self._reader(request)
        today = local_day(self._clock())
        found = await reading(self._proposals.open, after=after, limit=limit + 1, today=today)
        await self._recorded(claims, found[:limit])
        answer = reply({"proposals": [shown(one) for one in found[:limit]]}, claims.reader)
        if len(found) > limit:
            last = found[limit - 1].position
            answer.headers["Link"] = lines.next_link(LISTED, after=last, limit=limit)
        return answer

    async def one(self, request: Request, identifier: Identifier, id: Id) -> Response:
        """A proposal, decided or not."""
        claims = await self._reader(request)
        subject, id = parse_identifier(identifier), id.lower()
        found = await reading(self._proposals.one, subject, id, today=local_day(self._clock()))
        if found is None:
            raise UnknownProposal(proposal=id)
        await self._recorded(claims, [found])
        return reply(shown(found), claims.reader)

    async def _recorded(self, claims: Claims, found: Sequence[Asked]) -> None:
        """Record that these are about to be given out. Raises Unavailable.

        Without a subject: in the record of its file a provider would find that there is a proposal.
        """
        if found:
            first, last = found[0].position, found[-1].position
            await self._accesses.record(claims, "PROPOSALS", first, last)

    async def _reader(self, request: Request) -> Claims:
        claims = await claims_of(request, self._callers, "read")
        if claims is None:
            raise TokenMissing
        if not claims.reader.sees_everything:
            raise not_allowed(claims, SEE)
        return claims


def shown(asked: Asked) -> dict[str, Any]:
    """A proposal as JSON has it."""
    envelope, verdict = asked.envelope, asked.verdict
    proposed = envelope["data"]["proposed"]
    return {
        "id": asked.id,
        "position": asked.position,
        "provider": asked.subject,
        "command": proposed["command"],
        "data": proposed["data"],
        "time": envelope["time"],
        "by": _officer(envelope),
        "lapses_on": envelope["data"]["lapses_on"],
        "state": asked.state,
        "verdict": None if verdict is None else _verdict(*verdict),
    }


def _verdict(position: int, envelope: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "position": position,
        "id": envelope["id"],
        "time": envelope["time"],
        "by": _officer(envelope),
        "reason": envelope["data"].get("reason"),
    }


def _officer(envelope: Mapping[str, Any]) -> dict[str, str]:
    return {
        "organisation": envelope["actororg"],
        "role": envelope["actorrole"],
        "ref": envelope["actorref"],
    }
