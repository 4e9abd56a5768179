"""Commands that bring records in: import.

What a command alone needs is imported when it runs, so that the small ones answer at once.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from api.options import NOBODY, OPERATOR, DataDir, Json, settings_of, tokens_of
from api.start import interruptible
from api.terminal import REFUSED, USAGE, fail, put_json, tell, told, words
from ledger.identity import Actor
from ledger.store import system_clock

FILE = "file"

app = typer.Typer()


class OrFile(TyperGroup):
    """A group whose first word, where it is none of its commands, is a file to import."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`chengxin import FILE …` is `chengxin import file FILE …`."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [FILE, *args]
        return super().parse_args(ctx, args)


imports = typer.Typer(cls=OrFile, no_args_is_help=True)
app.add_typer(
    imports,
    name="import",
    help=words(
        "Record the rows of a file: chengxin import FILE --mapping M.toml",
        "导入文件的各行：chengxin import FILE --mapping M.toml",
    ),
)


@imports.command(FILE, help=words("Record the rows of a CSV file.", "导入 CSV 文件的各行。"))
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help=words("CSV, plain or gzip.", "CSV，可为 gzip。")
        ),
    ],
    mapping: Annotated[
        Path,
        typer.Option(
            exists=True, dir_okay=False, help=words("How to read it.", "映射文件（TOML）。")
        ),
    ],
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
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin import`."""
    with interruptible():
        from api.intake import take_in
        from api.mapping import load_mapping
        from api.security import NO_ORGANISATION
        from api.storage import database_of

    settings = settings_of(data_dir=data_dir)
    try:
        actor = Actor(org, "registrar", NOBODY)
    except ValueError:
        fail(USAGE, words(f"--org {org!r}: ", f"--org {org!r}：") + told(NO_ORGANISATION))
    importing = load_mapping(mapping)
    digest = tokens_of(settings).digest
    try:
        with database_of(settings) as database:
            tally = take_in(
                file,
                importing,
                database,
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
