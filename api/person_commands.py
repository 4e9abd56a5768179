"""`chengxin erase` and `chengxin person`: requests of persons, answered by a privacy officer.

What a command alone needs is imported when it runs, so that the small ones answer at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from api.office import Office, Org, Ref, actor_of, office_of
from api.options import OPERATOR, DataDir, Json
from api.terminal import REFUSED, USAGE, fail, put, put_json, tell, words
from ledger.identity import OPERATOR_REF
from ledger.store import system_clock

if TYPE_CHECKING:
    from ledger.erasing import Standing

app = typer.Typer()
persons = typer.Typer(no_args_is_help=True)

ROLE = "privacy_officer"
Person = Annotated[
    str,
    typer.Argument(
        metavar="PERSON",
        help=words("The person's random reference (UUID).", "人员的随机编号（UUID）。"),
    ),
]
Ground = Annotated[
    str, typer.Option(help=words("Why: a code of the rulebook.", "事由代码，见规则。"))
]
Document = Annotated[
    str | None,
    typer.Option(help=words("The number of the request in your files.", "请求的登记编号。")),
]


@app.command(
    help=words(
        "Erase what is sealed of a person, or hold where a duty to retain runs.",
        "删除人员的封存内容；保存义务未届满的，暂缓至届满次日。",
    )
)
def erase(
    person: Person,
    ground: Ground,
    ref: Ref,
    document: Document = None,
    org: Org = OPERATOR,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin erase`."""
    with office_of(data_dir, keys=True) as office:
        asked = _asked(person, ground, document)
        actor = actor_of(org, ROLE, ref)
        standing = office.erasures.erase(asked[0], asked[1], actor, document=asked[2])
        _show(office, standing, as_json=as_json)


@persons.command(
    help=words("End the hold of an erasure early.", "提前解除暂缓删除。"),
)
def release(
    person: Person,
    ground: Ground,
    ref: Ref,
    document: Document = None,
    org: Org = OPERATOR,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin person release`."""
    with office_of(data_dir, keys=True) as office:
        asked = _asked(person, ground, document)
        actor = actor_of(org, ROLE, ref)
        standing = office.erasures.release(asked[0], asked[1], actor, document=asked[2])
        _show(office, standing, as_json=as_json)


@persons.command(help=words("How it stands with a person.", "查看人员资料的状态。"))
def show(
    person: Person,
    ref: Ref = OPERATOR_REF,
    org: Org = OPERATOR,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin person show`."""
    actor = actor_of(org, ROLE, ref)
    with office_of(data_dir, keys=True) as office:
        standing = office.erasures.standing(_reference(person))
        if standing.position:
            office.record(actor, "PERSON", standing.position, standing.position)
        _show(office, standing, as_json=as_json)


@persons.command(help=words("A copy of all that is sealed of a person.", "制作本人资料副本。"))
def copy(
    person: Person,
    ref: Ref,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help=words("The file to make (JSON).", "输出文件（JSON）。")
        ),
    ],
    org: Org = OPERATOR,
    data_dir: DataDir = None,
) -> None:
    """`chengxin person copy`."""
    from api.person_copy import Copies

    actor = actor_of(org, ROLE, ref)
    with office_of(data_dir, keys=True) as office:
        made = Copies(office.ledger, office.erasures, clock=system_clock).of(_reference(person))
        positions = [one["position"] for one in made["texts"]] or [1]
        office.record(actor, "PERSON", positions[0], positions[-1])
        # Not over another file, and for this user only: it is what nobody else may read.
        try:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            fail(REFUSED, words(f"{output} is there already", f"{output} 已存在"))
        with os.fdopen(file, "wb") as stream:
            stream.write(orjson.dumps(made, option=orjson.OPT_INDENT_2) + b"\n")
    count = len(made["texts"])
    tell(words(f"{count:,} texts in {output}.", f"{output}：共 {count:,} 项内容。"))


@persons.command(help=words("Find persons by a sealed text.", "按封存内容查找人员。"))
def find(
    ref: Ref,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help=words(
                "Whole, as it was given; none: a line of stdin.",
                "完整文本；不给则读取标准输入的一行。",
            ),
        ),
    ] = None,
    field: Annotated[
        str | None, typer.Option(help=words("In this field only.", "仅查此字段。"))
    ] = None,
    org: Org = OPERATOR,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin person find`."""
    from api.intake.sought import SoughtRows
    from ledger import marks

    names = marks.fields()
    if field is not None and field not in names:
        fail(
            USAGE,
            words(f"--field is one of {', '.join(names)}", f"--field 应为 {'、'.join(names)} 之一"),
        )
    # What stands on a command line, everybody on the machine can read.
    sought = text if text is not None else typer.get_text_stream("stdin").readline()
    actor = actor_of(org, ROLE, ref)
    with office_of(data_dir, keys=True) as office:
        finder = marks.Marks(office.ledger)
        # Without a worker nobody else would have marked what is new.
        while finder.follow():
            pass
        found = finder.find(sought.strip(), names if field is None else [field])
        if field is None:
            found = found.with_more(SoughtRows(office.ledger).find(sought.strip()))
        office.record(actor, "PERSON", 1, max(found.position, 1))
    if as_json:
        put_json(found._asdict())
        return
    for one in found.persons:
        put(one)
    tell(words(f"{len(found.persons)} found.", f"共找到 {len(found.persons)} 人。"))


def _show(office: Office, standing: Standing, *, as_json: bool) -> None:
    from api.keys import terms_of
    from api.person_json import shown

    found: dict[str, Any] = shown(
        standing,
        book=office.erasures.book(),
        epochs=office.erasures.epochs(),
        terms=terms_of(office.settings),
        today=office.erasures.today(),
    )
    if as_json:
        put_json(found)
        return
    put(words(found["words"]["en"], found["words"]["zh"]))
    for kind, count in (found["erased"] or {}).items():
        put(f"  {kind}  {count:,}")


def _reference(person: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from ledger.identity import Ref

    try:
        return TypeAdapter[str](Ref).validate_python(person.lower())
    except ValidationError:
        fail(USAGE, words(f"{person} is no reference (UUID)", f"{person} 不是随机编号（UUID）"))


def _asked(person: str, ground: str, document: str | None) -> tuple[str, str, str | None]:
    from pydantic import ValidationError

    from api.person_json import PersonRequest

    try:
        asked = PersonRequest(ground=ground, document=document)
    except ValidationError as error:
        fail(USAGE, "; ".join(f"--{one['loc'][0]}: {one['msg']}" for one in error.errors()))
    return _reference(person), asked.ground, asked.document
