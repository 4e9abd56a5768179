"""Commands that run a ledger: serve, work, migrate, open, fill.

What a command alone needs is imported when it runs, so that the small ones answer at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from pydantic import ValidationError

from api.keys import terms_of
from api.options import (
    OPERATOR,
    DataDir,
    Json,
    docket_of,
    keyring_of,
    run,
    settings_of,
    tokens_of,
)
from api.start import interruptible
from api.terminal import USAGE, Meter, fail, put_json, tell, words
from ledger.calendar import local_day
from ledger.errors import LedgerNotEmpty
from ledger.identity import OPERATOR_REF, Actor
from ledger.store import Ledger, system_clock

if TYPE_CHECKING:
    from api.demo.ledger import Plan
    from api.serve import Ending
    from ledger.database import Database
    from ledger.keyring import Keyring

app = typer.Typer()


@app.command(help=words("Create or upgrade the database schema.", "建立或升级数据库结构。"))
def migrate(data_dir: DataDir = None, as_json: Json = False) -> None:
    """`chengxin migrate`."""
    from api.storage import database_of, migrate_all

    settings = settings_of(data_dir=data_dir)
    with database_of(settings) as database:
        done = migrate_all(database, lambda: keyring_of(settings))
    if as_json:
        put_json({"migrations": done})
    else:
        tell(words("The schema is up to date.", "数据库结构已是最新。"))


@app.command(
    "open", help=words("Open the ledger: its first event.", "开立账本，即写入第一个事件。")
)
def open_ledger(
    name: Annotated[str, typer.Option(help=words("The ledger's name.", "账本名称。"))],
    origin: Annotated[
        str,
        typer.Option(
            help=words("The log's origin, a URL without scheme.", "日志来源（不含协议的网址）。")
        ),
    ],
    purpose: Annotated[str, typer.Option(help="production | demonstration | test-data")],
    rulebook: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help=words(
                "A rulebook (JSON) instead of the shipped one.",
                "规则文件（JSON），默认用自带规则。",
            ),
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin open`."""
    from api.demo.ledger import Plan
    from api.storage import database_of
    from ledger.events import LedgerOpened
    from ledger.handle import Desk, Receipt
    from ledger.rulebook import first_rulebook

    try:
        book = first_rulebook() if rulebook is None else orjson.loads(rulebook.read_bytes())
        fields = {"name": name, "origin": origin, "purpose": purpose, "rulebook": book}
        command = LedgerOpened.model_validate(fields)
    except orjson.JSONDecodeError as error:
        fail(USAGE, f"--rulebook {rulebook}: {error}")
    except ValidationError as error:
        fail(USAGE, "; ".join(f"--{one['loc'][0]}: {one['msg']}" for one in error.errors()))
    # Invented history lies before the day on which it is invented.
    plan = Plan(local_day(system_clock()))
    clock = plan.opens if purpose == "demonstration" else system_clock

    async def write(ledger: Ledger) -> Receipt:
        return await Desk(ledger).open_ledger(command, Actor(OPERATOR, "registrar", OPERATOR_REF))

    with (
        database_of(settings_of(data_dir=data_dir)) as database,
        Ledger(database, clock=clock) as ledger,
    ):
        receipt = run(write(ledger))
    if as_json:
        put_json(receipt._asdict() | {"name": name, "purpose": purpose})
    else:
        tell(words(f"Opened {name} ({purpose}).", f"已开立账本：{name}（{purpose}）。"))


@app.command(help=words("Fill an empty demonstration ledger.", "填充空的演示账本。"))
def demo(
    providers: Annotated[
        int | None, typer.Option(min=1, max=200_000, help=words("How many.", "服务商数量。"))
    ] = None,
    seed: Annotated[int | None, typer.Option(help=words("Of the invention.", "随机种子。"))] = None,
    last: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help=words("The last day.", "历史截止日，默认今日。")),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin demo`."""
    from api.demo.ledger import PROVIDERS, SEED, Plan
    from api.storage import database_of

    today = local_day(system_clock())
    plan = Plan(
        last.date() if last else today,
        providers or PROVIDERS,
        SEED if seed is None else seed,
    )
    if plan.last > today:
        fail(USAGE, words("--last is in the future", "--last 不得晚于今日"))
    settings = settings_of(data_dir=data_dir)
    with database_of(settings) as database:
        head = fill(database, plan, keyring_of(settings), run)
    if as_json:
        put_json({"providers": plan.providers, "seed": plan.seed, "position": head})


def fill(
    database: Database,
    plan: Plan,
    keyring: Keyring | None,
    run: Callable[[Coroutine[Any, Any, int]], int],
) -> int:
    """Fill a demonstration ledger; its head. Raises what `demonstrate` does."""
    from api.demo.ledger import demonstrate

    with Meter(words("stories", "编写经历"), words("providers", "家服务商")) as meter:

        def invented(done: int, of: int) -> None:
            meter.advance(done, part=done, whole=of)
            if done == of:
                meter.turn_to(words("demonstration", "演示数据"), words("events", "事件"))

        def advance(done: int, of: int) -> None:
            meter.advance(done, part=done, whole=of)

        head = run(demonstrate(database, plan, keyring=keyring, invented=invented, advance=advance))
        tell(
            words(
                f"{plan.providers:,} invented providers, {head:,} events",
                f"虚构服务商 {plan.providers:,} 家，事件 {head:,} 个",
            )
            + meter.pace()
        )
    return head


@app.command(help=words("Serve the ledger over HTTP.", "以 HTTP 提供账本服务。"))
def serve(
    demo: Annotated[
        bool,
        typer.Option(
            "--demo",
            help=words(
                "Open and fill a demonstration the first time.", "首次运行时开立并填充演示账本。"
            ),
        ),
    ] = False,
    host: Annotated[
        str | None, typer.Option(help=words("Where to listen.", "监听地址，默认 127.0.0.1。"))
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help=words("0 takes a free one.", "监听端口，默认 8000；0 为任选。")),
    ] = None,
    no_worker: Annotated[
        bool,
        typer.Option(
            "--no-worker",
            help=words(
                "Leave projections to `chengxin worker`.", "投影由 `chengxin worker` 负责。"
            ),
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """`chengxin serve`."""
    with interruptible():
        from api import journal
        from api.announcement import announce
        from api.callers import callers_of
        from api.oidc.issuer import issuers_of
        from api.serve import Ending, House, listen
        from api.serve import serve as serve_until_told
        from api.storage import database_of

    settings = settings_of(host=host, port=port, data_dir=data_dir)
    journal.configure(settings)
    ending = Ending()
    with ending.handling(), listen(settings.host, settings.port) as listener:
        tokens = tokens_of(settings) if settings.keys() is not None else None
        issuers = issuers_of(settings.issuers, embedded=settings.token_issuer)
        try:
            with database_of(settings) as database:
                if demo:
                    _fill_once(database, keyring_of(settings), ending)
                house = House(
                    database,
                    clock=system_clock,
                    keyring=keyring_of(settings),
                    docket=docket_of(settings),
                    terms=terms_of(settings),
                )
                serve_until_told(
                    house,
                    listener,
                    settings,
                    callers=tokens and callers_of(issuers, tokens, house.ledger, clock=house.clock),
                    with_worker=not no_worker,
                    ending=ending,
                    announce=lambda: announce(house, listener, settings, tokens),
                )
        except KeyboardInterrupt:
            # A signal before there was a server to stop.
            if not ending.asked:
                raise
    tell(words("Stopped.", "已停止。"))


@app.command(help=words("Follow the log without serving.", "只跟随日志，不提供 HTTP 服务。"))
def worker(data_dir: DataDir = None) -> None:
    """`chengxin worker`."""
    with interruptible():
        from api import journal
        from api.serve import Ending, House, labour
        from api.storage import database_of

    settings = settings_of(data_dir=data_dir)
    journal.configure(settings)
    ending = Ending()
    with ending.handling():
        try:
            with database_of(settings) as database:
                house = House(
                    database,
                    clock=system_clock,
                    keyring=keyring_of(settings),
                    docket=docket_of(settings),
                    terms=terms_of(settings),
                )
                labour(house, ending=ending)
        except KeyboardInterrupt:
            if not ending.asked:
                raise
    tell(words("Stopped.", "已停止。"))


def _fill_once(database: Database, keyring: Keyring | None, ending: Ending) -> None:
    """Fill the demonstration unless it is filled."""
    from api.demo.ledger import Plan

    # Not empty: an earlier run filled it, and whatever happened since is kept.
    with suppress(LedgerNotEmpty):
        fill(database, Plan(local_day(system_clock())), keyring, ending.run)
