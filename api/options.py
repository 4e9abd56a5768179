"""What every command of the command line is given: its settings, its keys, its event loop."""

from __future__ import annotations

import gc
from collections.abc import Coroutine, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import uvloop
from pydantic import ValidationError

from api.settings import PREFIX, Settings
from api.terminal import USAGE, fail, words
from ledger.docket import Docket
from ledger.keyring import FileKeyring, Keyring
from ledger.store import system_clock

OPERATOR = "OPERATOR"

OPTIONS = {"token_hours": "--hours"}
"""The settings whose option is not named after them."""
GARBAGE_THRESHOLDS = (50_000, 20, 50)

T = TypeVar("T")

DataDir = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help=words("The folder of the embedded server and the keys.", "内嵌数据库与密钥所在目录。"),
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help=words("Answer with a JSON object.", "以 JSON 对象输出结果。"))
]


def settings_of(**given: Any) -> Settings:
    """The settings of the environment, with what the command line gives instead."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        reasons = [
            ": ".join([*(_written(str(part), given) for part in one["loc"]), one["msg"]])
            for one in error.errors()
        ]
        fail(USAGE, "; ".join(reasons))


def _written(setting: str, given: Mapping[str, Any]) -> str:
    """How the user wrote a setting: as an option if it was given as one."""
    if given.get(setting) is None:
        return f"{PREFIX}{setting}".upper()
    return OPTIONS.get(setting) or f"--{setting.replace('_', '-')}"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    collect_rarely()
    return uvloop.run(work)


def collect_rarely() -> None:
    """Look for cyclic garbage less often than Python does by itself.

    The states a desk keeps live long and hold no cycles; to walk through them every 700 objects
    took half of the time of an import.
    """
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def keyring_of(settings: Settings) -> Keyring | None:
    """The vault's keys; None where no folder of keys is named. Raises KeyFileError.

    Ends the command where another keyring is named and there is none of that name.
    """
    folder = settings.keys()
    if folder is None:
        return None
    if settings.keyring is None:
        return FileKeyring(folder)
    module, _, factory = settings.keyring.partition(":")
    try:
        keyring = getattr(import_module(module), factory)(folder)
    except (ImportError, AttributeError) as error:
        fail(USAGE, f"{PREFIX}KEYRING: {error}")
    if not isinstance(keyring, Keyring):
        en = f"{PREFIX}KEYRING: what {settings.keyring} makes is no keyring"
        fail(USAGE, words(en, f"{PREFIX}KEYRING：{settings.keyring} 给出的不是密钥环"))
    return keyring


def docket_of(settings: Settings) -> Docket | None:
    """Where decisions to erase stand; None where no key folder is named. Raises KeyFileError."""
    folder = settings.keys()
    return None if folder is None else Docket(folder)


def tell_of_keys() -> NoReturn:
    """End a command that needs the key folder and was given none."""
    en = f"with {PREFIX}DATABASE_URL set, name the folder of the keys in {PREFIX}KEY_DIR"
    zh = f"已设置 {PREFIX}DATABASE_URL，请以 {PREFIX}KEY_DIR 指明密钥目录"
    fail(USAGE, words(en, zh))


def tokens_of(settings: Settings) -> Any:
    """The keys of this process (`api.security.Tokens`); ends the command where there are none."""
    from api.security import Tokens  # noqa: PLC0415 brings the web framework with it

    folder = settings.keys()
    if folder is None:
        tell_of_keys()
    return Tokens(
        folder,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        clock=system_clock,
        leeway_seconds=settings.token_leeway_seconds,
    )
