"""The command line `chengxin`: tokens, offline scoring, the feed, and how errors end.

Each command is thin: it reads its arguments, calls what does the work, and shows what came of it.
Every command, option and exit code is in `docs/cli.md` (a test holds the two together). What a
command alone needs is imported when it runs, so that the small ones answer at once.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, BinaryIO

import typer

from api import apikey_commands, exchange, keys, operate, person_commands, proposal_commands, upkeep
from api.office import opened
from api.options import DataDir, Json, settings_of, tokens_of
from api.roles import ROLES
from api.settings import Settings
from api.terminal import (
    INTERRUPTED,
    REFUSED,
    UNAVAILABLE,
    USAGE,
    fail,
    put,
    put_json,
    tell,
    told,
    words,
)
from ledger.errors import LedgerError

MAX_CASE_BYTES = 64 * 1024 * 1024

app = typer.Typer(
    name="chengxin",
    help=words("Chengxin Ledger: an event-sourced credit ledger.", "诚信账本。"),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(operate.app)
app.add_typer(exchange.app)
app.add_typer(upkeep.app)
app.add_typer(keys.app)
app.add_typer(
    apikey_commands.app,
    name="apikey",
    help=words("Keys with which subscribers read.", "订阅方读取所用的 API 密钥。"),
)
app.add_typer(
    proposal_commands.app,
    name="proposals",
    help=words("What awaits a second officer.", "待另一名工作人员决定的提请。"),
)
app.add_typer(person_commands.app)
app.add_typer(
    person_commands.persons,
    name="person",
    help=words(
        "Requests of persons: find, copy, release, show.", "个人请求：查找、副本、解除暂缓、查看。"
    ),
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from api.release import VERSION

        put(f"chengxin {VERSION}")
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_tell_version,
            help=words("Print the version.", "输出版本号。"),
        ),
    ] = False,
) -> None:
    """What comes before the name of a command."""


@app.command(help=words("Issue a token for the HTTP interface.", "签发访问接口所用的令牌。"))
def token(
    role: Annotated[
        str,
        typer.Option(
            help=words(
                f"One of {', '.join(ROLES)}.",
                f"角色，取其一：{' '.join(f'{code}（{name}）' for code, name in ROLES.items())}",
            )
        ),
    ],
    org: Annotated[
        str,
        typer.Option(
            help=words("The organisation; a provider's own code.", "机构代码；服务商填自身代码。")
        ),
    ],
    ref: Annotated[
        str | None,
        typer.Option(
            help=words("The person's random reference (UUID).", "人员的随机编号（UUID）。")
        ),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option(
            help=words(
                "Who it is for, under any name: one name keeps one reference.",
                "持有人（任意名称），同一名称始终对应同一编号。",
            )
        ),
    ] = None,
    hours: Annotated[
        int | None, typer.Option(help=words("For how long it is good.", "有效小时数。"))
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin token`."""
    from api.security import NoToken

    settings = settings_of(data_dir=data_dir, token_hours=hours)
    tokens = tokens_of(settings)
    if person is not None and ref is not None:
        fail(USAGE, words("--person and --ref exclude each other", "--person 与 --ref 不可并用"))
    if person is not None:
        ref = _reference_of(person, settings)
    try:
        issued = tokens.issue(role=role, organisation=org, ref=ref, hours=settings.token_hours)
    except NoToken as error:
        fail(USAGE, told(error.reason))
    if ref is None:
        tell(
            words(
                "This token names no person, so decides nothing that needs two; see --person NAME.",
                "此令牌未指明人员，不能办理须由两人决定的事项；请以 --person 名称 指明。",
            )
        )
    if not as_json:
        put(issued)
        return
    claims = tokens.verify(issued)
    expires = datetime.fromtimestamp(claims.expires, UTC).isoformat()
    put_json(
        {"token": issued, "role": role, "organisation": org, "ref": claims.ref, "expires": expires}
    )


def _reference_of(person: str, settings: Settings) -> str:
    """The reference of a person known to our own issuer by a name."""
    from api.storage import database_of
    from ledger.dossier import ACTOR

    with database_of(settings) as database, opened(database, settings) as office:
        return office.ledger.vault.reference(ACTOR, settings.token_issuer, person)


@app.command(help=words("Score cases offline, one a line.", "离线评分，每行一个案例。"))
def score(
    cases: Annotated[
        typer.FileBinaryRead,
        typer.Argument(
            metavar="CASES", help=words("JSON Lines, or - .", "JSON Lines 文件，或 - 。")
        ),
    ],
) -> None:
    """`chengxin score`."""
    from projections.scoring import score_line

    refused = False
    while line := cases.readline(MAX_CASE_BYTES + 1):
        if not line.strip():
            continue
        if len(line) > MAX_CASE_BYTES:
            result, valid = b'{"error":"line: longer than 64 MiB"}', False
            _skip_line(cases, line)
        else:
            result, valid = score_line(line)
        put(result)
        refused = refused or not valid
    if refused:
        raise typer.Exit(REFUSED)


def _skip_line(file: BinaryIO, read: bytes) -> None:
    while read and not read.endswith(b"\n"):
        read = file.readline(1024 * 1024)


@app.command(help=words("Print the feed of a running server.", "持续输出运行中服务的事件流。"))
def tail(
    url: Annotated[
        str,
        typer.Option(envvar="CHENGXIN_URL", help=words("Where it serves.", "服务地址。")),
    ] = "http://127.0.0.1:8000",
    token: Annotated[
        str | None,
        typer.Option(
            envvar=["CHENGXIN_SUBSCRIBER_TOKEN", "CHENGXIN_TOKEN"],
            help=words("A token for it.", "访问令牌。"),
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            min=0, help=words("From there on; default: now.", "自此位置之后，默认自当前起。")
        ),
    ] = None,
) -> None:
    """`chengxin tail`."""
    from api.follow import Away, Feed, Refused

    if token is None:
        fail(USAGE, words("--token is missing", "缺少 --token"))
    try:
        feed = Feed(url, token, language=words("en", "zh-CN"))
    except ValueError:
        fail(USAGE, words(f"{url!r} is no http or https URL", f"{url!r} 不是 http 或 https 网址"))

    def broken(why: str) -> None:
        why = why or words("the server ended the stream", "服务端结束了事件流")
        tell(words(f"chengxin: {url}: {why}; trying again", f"chengxin: {url}：{why}，正在重试"))

    def mended() -> None:
        tell(words(f"chengxin: {url}: connected again", f"chengxin: {url}：已重新连接"))

    try:
        start = feed.head() if after is None else after
        for line in feed.lines(start, broken=broken, mended=mended):
            put(line)
    except Refused as error:
        fail(REFUSED, str(error))
    except Away as error:
        fail(UNAVAILABLE, words(f"{url}: {error}", f"{url}：{error}"))


def _failure(error: Exception) -> tuple[int, str] | None:
    """The exit code and message of what is the user's or the operator's to mend."""
    import psycopg

    from api.intake.complaint import MappingError
    from api.intake.csvfile import NoHeader
    from api.oidc.issuer import IssuersError
    from api.reach import OnThisMachineOnly
    from api.serve import PortTaken
    from ledger.database import MigrationError
    from ledger.embedded import EmbeddedError
    from ledger.keyfile import KeyFileError

    if isinstance(error, LedgerError):
        code = UNAVAILABLE if error.status == 503 else REFUSED
        return code, f"{words(str(error), error.chinese())} [{error.code}]"
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
        return UNAVAILABLE, words(
            "the database has no schema of this version; run `chengxin migrate`",
            "数据库没有本版本的结构，请先运行 `chengxin migrate`",
        )
    if isinstance(error, MappingError | NoHeader):
        return USAGE if isinstance(error, MappingError) else REFUSED, told(error.reason)
    kinds: list[tuple[int, tuple[type[Exception], ...]]] = [
        (UNAVAILABLE, (psycopg.OperationalError, EmbeddedError, PortTaken)),
        (USAGE, (KeyFileError, IssuersError, OnThisMachineOnly)),
        (REFUSED, (MigrationError, OSError)),
    ]
    for code, classes in kinds:
        if isinstance(error, classes):
            return code, str(error).strip()
    return None


def main() -> None:
    """The command `chengxin`, once all that it needs to begin with is imported."""
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _run() -> None:
    try:
        app()
    except Exception as error:
        failure = _failure(error)
        if failure is None:
            raise
        tell(f"chengxin: {failure[1]}")
        sys.exit(failure[0])
