"""`chengxin proposals`: what awaits a second officer, and what another person decides.

What a command alone needs is imported when it runs, so that the small ones answer at once.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from api.office import Office, Org, Ref, actor_of, looking, office_of
from api.options import OPERATOR, DataDir, Json, run
from api.terminal import REFUSED, USAGE, fail, put, put_json, tell, told, words
from ledger.calendar import local_day
from ledger.errors import LedgerError
from ledger.identity import OPERATOR_REF, Actor
from ledger.store import Ledger, system_clock

if TYPE_CHECKING:
    from ledger.proposal import Verdict
    from projections.proposals import Asked, Proposals

app = typer.Typer(no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help=words("Its id (UUID).", "提请编号。"))]
ROLE = "registrar"


class Ground(StrEnum):
    """Why a proposal is refused."""

    NOT_PROVEN = "NOT_PROVEN"
    WRONG_TARGET = "WRONG_TARGET"
    NO_LEGAL_BASIS = "NO_LEGAL_BASIS"
    PROCEDURE = "PROCEDURE"
    DUPLICATE = "DUPLICATE"


@app.command("list", help=words("What awaits a second officer.", "列出待决定的提请。"))
def list_open(
    after: Annotated[
        int, typer.Option(min=0, help=words("Beyond this position.", "自此位置之后。"))
    ] = 0,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help=words("At most.", "最多件数。"))
    ] = 100,
    ref: Ref = OPERATOR_REF,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin proposals list`."""
    looker = looking(ROLE, ref)
    with office_of(data_dir) as office:
        found = _proposals(office.ledger).open(after=after, limit=limit, today=_today())
        if found:
            office.record(looker, "PROPOSALS", found[0].position, found[-1].position)
        if as_json:
            from api.proposals import shown

            put_json({"proposals": [shown(one) for one in found]})
            return
        for one in found:
            put(_line(one))
        tell(words(f"{len(found):,} to decide.", f"待决定 {len(found):,} 件。"))


@app.command(help=words("One proposal with all it says.", "查看一件提请。"))
def show(id: Id, ref: Ref = OPERATOR_REF, data_dir: DataDir = None, as_json: Json = False) -> None:
    """`chengxin proposals show`."""
    looker = looking(ROLE, ref)
    with office_of(data_dir) as office:
        _show(office, looker, _asked(office.ledger, id), as_json=as_json)


@app.command(help=words("Approve it, or all of an import.", "批准一件提请，或某次导入的全部提请。"))
def approve(
    ref: Ref,
    id: Annotated[
        str | None, typer.Argument(metavar="ID", help=words("Its id (UUID).", "提请编号。"))
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--import",
            help=words(
                "All that this import brought (json-lines: those of JSON Lines).",
                "该导入（映射名称；JSON Lines 为 json-lines）的全部提请。",
            ),
        ),
    ] = None,
    importer: Annotated[
        str | None,
        typer.Option(
            "--imported-by",
            help=words(
                "With --import: the organisation that imported.", "与 --import 合用：导入机构代码。"
            ),
        ),
    ] = None,
    org: Org = OPERATOR,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin proposals approve`."""
    from ledger.proposal import ApproveProposal

    if (id is None) == (name is None):
        fail(USAGE, words("give an ID, or --import NAME", "请写明提请编号，或 --import 名称"))
    actor = actor_of(org, ROLE, ref)
    with office_of(data_dir) as office:
        ledger = office.ledger
        if id is not None:
            asked = _asked(ledger, id)
            _decide(office, asked, ApproveProposal(proposal=asked.id), actor, as_json=as_json)
            return
        assert name is not None
        prefix = "line/" if name == "json-lines" else f"import/{name}/"
        found = _proposals(ledger).imported(importer or org, prefix, today=_today())
        positions, refused = _approve_all(ledger, found, actor)
    if as_json:
        put_json({"approved": positions, "refused": refused})
    else:
        done = f"{len(positions):,}"
        tell(
            words(
                f"{done} approved, {refused:,} refused.", f"批准 {done} 件，{refused:,} 件被拒绝。"
            )
        )
    if refused:
        raise typer.Exit(REFUSED)


@app.command(help=words("Refuse it.", "不予批准。"))
def refuse(
    id: Id,
    reason: Annotated[Ground, typer.Option(help=words("Why.", "理由。"))],
    ref: Ref,
    org: Org = OPERATOR,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin proposals refuse`."""
    from ledger.proposal import RefuseProposal

    actor = actor_of(org, ROLE, ref)
    with office_of(data_dir) as office:
        asked = _asked(office.ledger, id)
        command = RefuseProposal.model_validate({"proposal": asked.id, "reason": reason.value})
        _decide(office, asked, command, actor, as_json=as_json)


@app.command(help=words("Take one's own proposal back.", "撤回本人提请。"))
def withdraw(
    id: Id, ref: Ref, org: Org = OPERATOR, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """`chengxin proposals withdraw`."""
    from ledger.proposal import WithdrawProposal

    actor = actor_of(org, ROLE, ref)
    with office_of(data_dir) as office:
        asked = _asked(office.ledger, id)
        command = WithdrawProposal(proposal=asked.id)
        _decide(office, asked, command, actor, as_json=as_json)


def _approve_all(ledger: Ledger, found: list[Asked], actor: Actor) -> tuple[list[int], int]:
    """Approve one after the other; where the events stand, and how many the ledger refused."""
    from ledger.handle import Desk
    from ledger.proposal import ApproveProposal

    async def give() -> tuple[list[int], int]:
        desk, positions, refused = Desk(ledger), [], 0
        for one in found:
            try:
                receipt = await desk.record(one.subject, ApproveProposal(proposal=one.id), actor)
            except LedgerError as error:
                if error.status == 503:
                    raise
                refused += 1
                tell(f"{one.id}: {words(str(error), error.chinese())} [{error.code}]")
            else:
                positions.append(receipt.position)
        return positions, refused

    return run(give())


def _decide(office: Office, asked: Asked, command: Verdict, actor: Actor, *, as_json: bool) -> None:
    from ledger.handle import Desk

    async def give() -> None:
        await Desk(office.ledger).record(asked.subject, command, actor)

    run(give())
    _show(office, actor, _asked(office.ledger, asked.id), as_json=as_json)


def _asked(ledger: Ledger, id: str) -> Asked:
    from ledger.proposal_errors import UnknownProposal

    found = _proposals(ledger).find(id.lower(), today=_today())
    if found is None:
        raise UnknownProposal(proposal=id)
    return found


def _proposals(ledger: Ledger) -> Proposals:
    from api.catchup import catch_up
    from projections.disclosure import Disclosure
    from projections.proposals import Proposals

    catch_up(ledger, Disclosure(ledger), clock=system_clock)
    return Proposals(ledger)


def _today() -> date:
    return local_day(system_clock())


def _line(asked: Asked) -> str:
    from api.labels import COMMANDS_OF_TWO

    data = asked.envelope["data"]["proposed"]["data"]
    what = told(COMMANDS_OF_TWO[asked.envelope["data"]["proposed"]["command"]])
    parts = (asked.id, asked.subject, what, data["issuer"]["name"], data["document_no"])
    return "  ".join([str(asked.position), *parts, _until(asked)]).rstrip()


def _until(asked: Asked) -> str:
    lapses_on = asked.envelope["data"]["lapses_on"]
    return words(f"until {lapses_on}", f"{lapses_on} 失效") if lapses_on else ""


def _show(office: Office, looker: Actor, asked: Asked, *, as_json: bool) -> None:
    """A proposal with what became of it, on stdout."""
    from api.labels import GROUNDS, PROPOSAL_STATES
    from api.previewtext import fields_in_words
    from api.proposals import shown
    from ledger.handle import Desk
    from ledger.proposal import ProposalMade

    office.record(looker, "PROPOSALS", asked.position, asked.position)
    if as_json:
        put_json(shown(asked))
        return
    put(_line(asked))
    put(told(PROPOSAL_STATES[asked.state]))
    made = ProposalMade.model_validate(asked.envelope["data"])
    rulebook = run(Desk(office.ledger).rulebooks()).of(_today())
    for line in fields_in_words(made.proposed.data, rulebook):
        put(line)
    steps = [asked.envelope] + ([asked.verdict[1]] if asked.verdict is not None else [])
    for one in steps:
        reason = one["data"].get("reason")
        why = told(GROUNDS[reason]) if reason in GROUNDS else ""
        what = one["type"].removeprefix("cn.chengxin.")
        put(f"  {one['time']}  {what}  {one['actororg']} {one['actorref']}  {why}".rstrip())
