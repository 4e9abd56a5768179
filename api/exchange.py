"""Commands that bring records in and give them out: import, quarantine, export.

What a command alone needs is imported when it runs, so that the small ones answer at once.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from api import quarantine_commands
from api.office import Ref, actor_of, looking, office_of, opened
from api.options import OPERATOR, DataDir, Json, settings_of, tokens_of
from api.start import interruptible
from api.terminal import REFUSED, USAGE, fail, put, put_json, readable, tell, words
from ledger.identity import OPERATOR_REF
from ledger.store import system_clock

FILE = "file"


class DecisionKind(Enum):
    """What `export shuanggongshi` writes."""

    PENALTY = "penalty"
    LICENCE = "licence"


class TextEncoding(Enum):
    """How `export shuanggongshi` writes."""

    UTF_8 = "utf-8"
    GB18030 = "gb18030"


app = typer.Typer()


class OrFile(TyperGroup):
    """A group whose first word, where it is none of its commands, is a file to import."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`chengxin import FILE …` is `chengxin import file FILE …`."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [FILE, *args]
        return super().parse_args(ctx, args)


def _there(path: Path | None) -> Path | None:
    # With `exists`, typer looks for a file of the name "-", whatever `allow_dash` says.
    if path is not None and path != Path("-") and not path.exists():
        name = readable(str(path))
        raise typer.BadParameter(words(f"file '{name}' does not exist.", f"文件 '{name}' 不存在。"))
    return path


Rows = Annotated[
    Path,
    typer.Argument(
        dir_okay=False,
        callback=_there,
        help=words(
            "CSV, JSON Lines (plain or gzip) or XLSX; - is standard input.",
            "CSV、JSON Lines（可为 gzip）或 XLSX；- 为标准输入。",
        ),
    ),
]
"""A file of rows."""
Person = Annotated[
    str,
    typer.Option(
        envvar="CHENGXIN_REF",
        help=words(
            "The person who records (UUID); needed for what a second officer must approve.",
            "登记人员的随机编号（UUID）；须由另一名工作人员批准的事项必填。",
        ),
    ),
]

ROLE = "registrar"
imports = typer.Typer(cls=OrFile, no_args_is_help=True)
app.add_typer(
    imports,
    name="import",
    help=words(
        "Record the rows of a file: chengxin import FILE [--mapping M.toml]",
        "导入文件的各行：chengxin import FILE [--mapping M.toml]",
    ),
)
app.add_typer(
    quarantine_commands.app,
    name="quarantine",
    help=words("Rows that only a person can answer.", "待核行：须由人工办理的导入行。"),
)


@imports.command(FILE, help=words("Record the rows of a file.", "导入文件的各行。"))
def import_file(  # noqa: PLR0913, PLR0917 an argument for each option
    file: Rows,
    mapping: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help=words(
                "How to read CSV or XLSX (TOML); not needed for a 双公示 form.",
                "读取 CSV 或 XLSX 的映射文件（TOML）；双公示表可不写。",
            ),
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=words(
                "csv or jsonl, where the file itself does not tell.",
                "csv 或 jsonl，无法由文件判断时写明。",
            ),
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=words("Judge only.", "只检查，不写入。"))
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help=words("Issues as JSON Lines.", "问题清单（JSON Lines）。")
        ),
    ] = None,
    org: Annotated[str, typer.Option(help=words("Who records.", "登记机构代码。"))] = OPERATOR,
    ref: Person = OPERATOR_REF,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin import`."""
    with interruptible():
        from api.importing import take_in
        from api.storage import database_of

    settings = settings_of(data_dir=data_dir)
    actor = actor_of(org, ROLE, ref)
    importing = _reader(file, mapping, form)
    digest = tokens_of(settings).digest
    try:
        with (
            database_of(settings) as database,
            opened(database, settings) as office,
        ):
            tally = take_in(
                file,
                importing,
                office.ledger,
                actor=actor,
                digest=digest,
                clock=system_clock,
                dry_run=dry_run,
                report=report,
            )
    except KeyboardInterrupt:
        tell(words("Interrupted; run it again to go on.", "已中断；再次运行即可继续。"))
        raise
    if as_json:
        put_json(asdict(tally) | {"dry_run": dry_run})
    if tally.unsettled:
        raise typer.Exit(REFUSED)


@imports.command(
    "check",
    help=words(
        "Show how rows would be recorded, and what a mapping lacks; writes nothing.",
        "查看各行将如何记录、映射还缺什么；不写入。",
    ),
)
def check(
    mapping: Annotated[
        Path,
        typer.Argument(
            metavar="MAPPING|FILE",
            dir_okay=False,
            callback=_there,
            help=words(
                "The mapping; or the file alone, if it is JSON Lines or in a known form.",
                "映射文件；文件为 JSON Lines 或已知格式时只写该文件。",
            ),
        ),
    ],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", dir_okay=False, callback=_there, help=words("The rows.", "数据文件。")
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=0, help=words("How many rows to show.", "显示前几行。"))
    ] = 3,
    org: Annotated[str, typer.Option(help=words("Who would record.", "登记机构代码。"))] = OPERATOR,
    ref: Person = OPERATOR_REF,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin import check`."""
    with interruptible():
        from api.preview import previewed
        from api.previewtext import json_of, text_of

    settings = settings_of(data_dir=data_dir)
    # Of one file alone its own beginning tells how to read it.
    file, named = (mapping, None) if file is None else (file, mapping)
    reader = _reader(file, named, None)
    found, on_ledger = previewed(
        file, reader, settings, actor=actor_of(org, ROLE, ref), shown=rows, clock=system_clock
    )
    if as_json:
        put_json(json_of(found, on_ledger=on_ledger))
    else:
        for line in text_of(found, file.name, on_ledger=on_ledger):
            put(line)
    if found.tally.unsettled:
        raise typer.Exit(REFUSED)


def _reader(file: Path, mapping: Path | None, form: str | None) -> Any:
    """How to read the file, None where its header must tell. Raises MappingError, OSError."""
    from api.importing import looks_like_lines
    from api.intake.jsonlines import JsonLines
    from api.intake.mapping import load_mapping

    if form not in (None, "csv", "jsonl"):
        fail(USAGE, words(f"--format {form}: csv or jsonl", f"--format {form}：应为 csv 或 jsonl"))
    if mapping is not None and form == "jsonl":
        fail(USAGE, words("JSON Lines take no --mapping", "JSON Lines 不使用 --mapping"))
    if mapping is not None:
        return load_mapping(mapping)
    if form == "jsonl" or (form is None and looks_like_lines(file)):
        return JsonLines()
    return None


exports = typer.Typer(no_args_is_help=True)
app.add_typer(
    exports,
    name="export",
    help=words("Write decisions in an exchange form.", "按交换格式导出决定。"),
)


@exports.command(
    "shuanggongshi",
    help=words(
        "Write administrative decisions in the 双公示 form.", "按“双公示”格式导出行政决定。"
    ),
)
def export_shuanggongshi(
    kind: Annotated[
        DecisionKind, typer.Option(help=words("Penalties or licences.", "处罚或许可。"))
    ] = DecisionKind.PENALTY,
    encoding: Annotated[
        TextEncoding, typer.Option(help=words("How the text is encoded.", "文本编码。"))
    ] = TextEncoding.UTF_8,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help=words(
                "Also what is not public: for the authority itself.", "含不公开事项，仅供机关自用。"
            ),
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", dir_okay=False, help=words("A file.", "写入文件。")),
    ] = None,
    ref: Ref = OPERATOR_REF,
    data_dir: DataDir = None,
) -> None:
    """`chengxin export shuanggongshi`."""
    with interruptible():
        from api.outgoing import give_out
        from projections.decisions import LICENCE, PENALTY

    looker = looking(ROLE, ref)
    with office_of(data_dir) as office:
        if everything:
            office.record(looker, "EXPORT", 1, office.ledger.head())
        rows = give_out(
            office.ledger,
            PENALTY if kind is DecisionKind.PENALTY else LICENCE,
            everything=everything,
            encoding=encoding.value,
            output=output,
            clock=system_clock,
        )
    tell(words(f"{rows:,} rows written", f"已导出 {rows:,} 行"))
