"""Commands that look after a ledger: is it well, and PostgreSQL's own tools on its database."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer
from psycopg import pq

from api.options import DataDir, Json, settings_of
from api.settings import Settings
from api.terminal import REFUSED, UNAVAILABLE, USAGE, fail, put, put_json, told, words
from ledger.calendar import local_day
from ledger.database import SERVICE_ROLE
from ledger.store import Ledger, system_clock

if TYPE_CHECKING:
    from api import status as report

TOOLS = ("pg_dump", "pg_restore", "psql")

app = typer.Typer()


@app.command(help=words("Tell whether the ledger is well.", "显示账本是否正常运行。"))
def status(
    url: Annotated[
        str | None,
        typer.Option(
            envvar="CHENGXIN_URL",
            help=words("The server to ask; none: the database.", "服务地址；不给则直接查数据库。"),
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin status`."""
    from api import status as report
    from api.follow import Away, Refused, Site

    settings = settings_of(data_dir=data_dir)
    if url is None:
        state = _look(settings)
    else:
        try:
            site = Site(url, language=words("en", "zh-CN"))
        except ValueError:
            fail(
                USAGE, words(f"{url!r} is no http or https URL", f"{url!r} 不是 http 或 https 网址")
            )
        try:
            state = report.of_server(site, url, today=local_day(system_clock()))
        except (Away, Refused) as error:
            fail(UNAVAILABLE, words(f"{url}: {error}", f"{url}：{error}"))
    why = report.reasons(state, lag_limit=settings.ready_lag_events)
    if as_json:
        put_json(report.as_json(state, why))
    else:
        for line in report.lines(state, why):
            put(told(line))
    if why:
        raise typer.Exit(REFUSED)


def _look(settings: Settings) -> report.State:
    from api import status as report
    from api.storage import database_of
    from ledger.cluster import find_place

    if settings.conninfo() is None and not find_place(settings.data_dir).pgdata.exists():
        where = settings.data_dir
        fail(UNAVAILABLE, words(f"there is no ledger in {where}", f"{where} 中没有账本"))
    # Whoever only looks must neither make nor upgrade anything.
    with database_of(settings, migrated=False) as database:
        with database.connect(role=None) as connection:
            roles = "SELECT FROM pg_roles WHERE rolname = %s"
            if connection.execute(roles, [SERVICE_ROLE]).rowcount == 0:
                # Nobody could connect in the role, and would be told of the network instead.
                raise psycopg.errors.UndefinedTable
        with Ledger(database) as ledger:
            return report.of_ledger(ledger, today=local_day(system_clock()))


@app.command(
    # What follows the tool's name is the tool's.
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
    help=words(
        f"Run PostgreSQL's {', '.join(TOOLS)} on the ledger's database.",
        f"对账本数据库运行 PostgreSQL 自带的 {'、'.join(TOOLS)}。",
    ),
)
def pg(
    tool: Annotated[str, typer.Argument(help=words("Which tool.", "工具名称。"))],
    arguments: Annotated[
        list[str] | None, typer.Argument(help=words("What it is given.", "传给工具的参数。"))
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """`chengxin pg`."""
    from api.storage import database_of
    from ledger.binaries import wheel_installation

    if tool not in TOOLS:
        fail(
            USAGE,
            words(
                f"{tool!r} is none of {', '.join(TOOLS)}", f"{tool!r} 不在 {'、'.join(TOOLS)} 之列"
            ),
        )
    program = wheel_installation() / "bin" / tool
    with database_of(settings_of(data_dir=data_dir), migrated=False) as database:
        # An interrupt is the tool's to handle: psql ends a query with it, not itself.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            done = subprocess.run(
                [program, *(arguments or [])],
                env=os.environ | environment_of(database.conninfo),
                check=False,
            )
        finally:
            signal.signal(signal.SIGINT, before)
    if done.returncode != 0:
        raise typer.Exit(REFUSED)


def environment_of(conninfo: str) -> dict[str, str]:
    """The variables that lead PostgreSQL's tools to a database.

    Not an argument, which everybody on the machine could read with the password in it.
    """
    return {
        option.envvar.decode(): option.val.decode()
        for option in pq.Conninfo.parse(conninfo.encode())
        if option.envvar is not None and option.val is not None
    }
