"""`chengxin quarantine`: what waits for a person, and what a person decides.

What a command alone needs is imported when it runs, so that the small ones answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.office import Office, Ref, actor_of, looking, office_of
from api.options import OPERATOR, DataDir, Json, run, tokens_of
from api.terminal import USAGE, fail, put, put_json, tell, words
from ledger.identity import OPERATOR_REF, Actor

if TYPE_CHECKING:
    from api.intake.quarantine import Entry, Held, Quarantine, Step
    from api.intake.rows import Problem
    from api.intake.verdict import Verdicts
    from api.quarantine_json import RowVerdict

app = typer.Typer(no_args_is_help=True)
ROLE = "registrar"

Number = Annotated[int, typer.Argument(metavar="ID", min=1, help=words("Its number.", "编号。"))]
Why = Annotated[str, typer.Option(help=words("Why, in words.", "理由。"))]
Importer = Annotated[str, typer.Option(help=words("Whose import it was.", "导入该行的机构代码。"))]


class Wanted(StrEnum):
    """Which rows are listed."""

    waiting = "waiting"
    accepted = "accepted"
    rejected = "rejected"
    recorded = "recorded"
    all = "all"


@app.command("list", help=words("The rows that wait for a person.", "列出待核行。"))
def list_rows(
    state: Annotated[
        Wanted, typer.Option(help=words("What became of them.", "办理状态。"))
    ] = Wanted.waiting,
    name: Annotated[
        str | None, typer.Option("--import", help=words("Of this import.", "导入（映射）名称。"))
    ] = None,
    org: Annotated[
        str | None, typer.Option(help=words("Of this organisation.", "导入机构代码。"))
    ] = None,
    after: Annotated[int, typer.Option(min=0, help=words("After this one.", "自此编号之后。"))] = 0,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help=words("At most.", "最多行数。"))
    ] = 100,
    ref: Ref = OPERATOR_REF,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin quarantine list`."""
    looker = looking(ROLE, ref)
    with office_of(data_dir) as office:
        from api.intake.backlog import waiting_of
        from api.intake.quarantine import Quarantine
        from api.quarantine_json import shown

        ledger = office.ledger
        found = Quarantine(ledger).listed(
            org,
            state=None if state is Wanted.all else state.value,
            name=name,
            after=after,
            limit=limit,
        )
        waiting = waiting_of(ledger).rows
        if found:
            office.record(looker, "QUARANTINE", found[0].id, found[-1].id)
    if as_json:
        put_json({"rows": [shown(one) for one in found], "waiting": waiting})
        return
    for one in found:
        put(_line(one))
    tell(words(f"{waiting:,} waiting in all.", f"待核共 {waiting:,} 行。"))


@app.command(help=words("A row with its reasons, cells and history.", "查看一行的原因与经过。"))
def show(
    id: Number, ref: Ref = OPERATOR_REF, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """`chengxin quarantine show`."""
    looker = looking(ROLE, ref)
    with office_of(data_dir) as office:
        from api.intake.quarantine import Quarantine
        from api.refusals import UnknownRow

        quarantine = Quarantine(office.ledger)
        held = quarantine.held(id)
        if held is None:
            raise UnknownRow(row=id)
        _show(office, looker, held, quarantine.steps(id), as_json=as_json)


@app.command(help=words("Say what cells or fields should be.", "更正单元格或字段。"))
def correct(
    id: Number,
    given: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="COLUMN=VALUE",
            help=words("A column, or a field as penalty.family.", "列名或命令字段。"),
        ),
    ],
    why: Why,
    ref: Ref,
    org: Importer = OPERATOR,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin quarantine correct`."""
    pairs = [one.partition("=") for one in given]
    if not all(name and sign for name, sign, _ in pairs):
        fail(USAGE, words("--set is written COLUMN=VALUE", "--set 应写作 列名=值"))
    cells = {name: value for name, _, value in pairs}
    from api.quarantine_json import RowCorrection

    asked = _valid(RowCorrection, {"set": cells, "why": why})
    assert isinstance(asked, RowCorrection)
    actor = actor_of(org, ROLE, ref)
    with office_of(data_dir, keys=True) as office:
        verdicts, quarantine = _verdicts(office)
        held = run(verdicts.correct(id, actor, asked.set, asked.why))
        _show(office, actor, held, quarantine.steps(id), as_json=as_json)


@app.command(help=words("Record the row as it is corrected.", "核准入账。"))
def accept(
    id: Number,
    why: Why,
    ref: Ref,
    org: Importer = OPERATOR,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin quarantine accept`."""
    from api.quarantine_json import RowVerdict, receipts_of

    asked = _valid(RowVerdict, {"why": why})
    actor = actor_of(org, ROLE, ref)
    with office_of(data_dir, keys=True) as office:
        verdicts, _ = _verdicts(office)
        accepted = run(verdicts.accept(id, actor, asked.why))
    if as_json:
        receipts = receipts_of(accepted)
        put_json({"row": id, "receipts": receipts, "repeated": accepted.repeated})
        return
    places = ", ".join(str(one.position) for one in accepted.receipts)
    if accepted.repeated:
        tell(words(f"Accepted before, at {places}.", f"此前已核准入账，位置 {places}。"))
    else:
        tell(words(f"Accepted, at {places}.", f"已核准入账，位置 {places}。"))


@app.command(help=words("Keep the row out for good.", "退回，不予入账。"))
def reject(
    id: Number,
    why: Why,
    ref: Ref,
    org: Importer = OPERATOR,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin quarantine reject`."""
    from api.quarantine_json import RowVerdict

    asked = _valid(RowVerdict, {"why": why})
    actor = actor_of(org, ROLE, ref)
    with office_of(data_dir, keys=True) as office:
        verdicts, quarantine = _verdicts(office)
        held = run(verdicts.reject(id, actor, asked.why))
        _show(office, actor, held, quarantine.steps(id), as_json=as_json)


def _valid(model: type[RowVerdict], given: Mapping[str, Any]) -> RowVerdict:
    from pydantic import ValidationError

    try:
        return model.model_validate(given)
    except ValidationError as error:
        reasons = [f"--{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        fail(USAGE, "; ".join(reasons))


def _verdicts(office: Office) -> tuple[Verdicts, Quarantine]:
    from api.intake.quarantine import Quarantine
    from api.intake.rejections import Rejections
    from api.intake.verdict import Verdicts
    from ledger.handle import Desk

    quarantine = Quarantine(office.ledger)
    digest = tokens_of(office.settings).digest
    folder = office.settings.keys()
    assert folder is not None, "there are keys, so there is a folder"
    verdicts = Verdicts(
        quarantine, Desk(office.ledger), digest=digest, rejections=Rejections(folder)
    )
    return verdicts, quarantine


def _line(entry: Entry) -> str:
    reasons = [f"{one.field}: {words(*one.reason)}" for one in entry.problems]
    from api.intake.quarantine import STATES

    where, state = f"{entry.file}:{entry.line}", words(*STATES[entry.state])
    parts = (str(entry.id), state, entry.organisation, entry.name, where, entry.subject)
    return "  ".join([*parts, words("; ", "；").join(reasons)])


def _show(office: Office, looker: Actor, held: Held, steps: list[Step], *, as_json: bool) -> None:
    """A row with all that is known of it, on stdout."""
    office.record(looker, "QUARANTINE", held.id, held.id)
    from api.intake.quarantine import STATES, STEPS
    from api.quarantine_json import shown_in_full

    if as_json:
        put_json(shown_in_full(held, steps))
        return
    state = words(*STATES[held.state])
    put("  ".join([str(held.id), state, held.organisation, held.name]))
    put(f"{held.file}:{held.line}  {held.subject}")
    if held.problems:
        put(words("Reasons:", "原因："))
    elif held.state == "waiting":
        put(words("Understood now: accept or reject it.", "现已可识别，待核准或退回。"))
    for problem in held.problems:
        put(
            f"  {problem.field}: {words(*problem.reason)} [{problem.code}]{_way_out(held, problem)}"
        )
    put(words("Row:", "内容："))
    for name, text in held.cells.items():
        new = held.corrections.get(name)
        put(f"  {name} = {text}" + ("" if new is None else f"  →  {new}"))
    for name, text in held.corrections.items():
        if name not in held.cells:
            put(f"  {name}  →  {text}")
    put(words("History:", "经过："))
    for step in steps:
        who = f"{step.actor.organisation} {step.actor.ref}"
        at, what = step.at.isoformat(timespec="seconds"), words(*STEPS[step.what])
        put(f"  {at}  {what}  {who}  {step.why}".rstrip())


def _way_out(held: Held, problem: Problem) -> str:
    """How the field of a problem is named to correct it, where no column is."""
    from api.intake.correction import correctable

    names = [one for one in correctable(held) if one.partition(".")[2] == problem.field]
    return "".join(f"  (--set {name}=…)" for name in names if held.state == "waiting")
