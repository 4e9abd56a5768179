"""Commands for the vault's keys: which epochs there are, and a rotation.

`chengxin worker` (or `serve`) rotates by itself when an epoch is over; `rotate` does it now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from api.office import office_of
from api.options import DataDir, Json
from api.settings import Settings
from api.terminal import REFUSED, Meter, fail, put, put_json, tell, words
from ledger.calendar import local_day
from ledger.store import system_clock

if TYPE_CHECKING:
    from ledger.persons import Persons
    from ledger.rotation import Terms

NO_KEY = words("Nothing was sealed yet: there is no key.", "尚未封存任何内容，没有密钥。")

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True)
app.add_typer(keys, name="key", help=words("The vault's keys.", "保险库密钥。"))


def terms_of(settings: Settings) -> Terms:
    """How long keys and backups are kept."""
    from ledger.rotation import Terms

    return Terms(settings.key_epoch_days, settings.backup_days)


@keys.command(help=words("Show the epochs of the vault's keys.", "显示保险库密钥的各期。"))
def status(data_dir: DataDir = None, as_json: Json = False) -> None:
    """`chengxin key status`."""
    with office_of(data_dir, keys=True) as office:
        _show(office.ledger.vault.persons, terms_of(office.settings), as_json=as_json)


@keys.command(help=words("Begin a new epoch and wrap all keys anew.", "启用新一期密钥并重新封装。"))
def rotate(data_dir: DataDir = None, as_json: Json = False) -> None:
    """`chengxin key rotate`."""
    from ledger.rotation import steps_due

    today = local_day(system_clock())
    with office_of(data_dir, keys=True) as office:
        vault, terms = office.ledger.vault, terms_of(office.settings)
        persons = vault.persons
        if not persons.keyring.epochs():
            fail(REFUSED, NO_KEY)
        living = sum(persons.wrapped().values())
        with Meter(words("vault keys", "保险库密钥"), words("keys", "个密钥")) as meter:
            for step in steps_due(vault, terms, today, at_once=True):
                step()
                new = persons.wrapped().get(persons.keyring.epochs()[-1].number, 0)
                meter.advance(new, part=new, whole=living)
        _show(persons, terms, as_json=as_json)


def _show(persons: Persons, terms: Terms, *, as_json: bool) -> None:
    epochs, wrapped = persons.keyring.epochs(), persons.wrapped()
    if not as_json and not epochs:
        tell(NO_KEY)
    told: list[dict[str, Any]] = []
    for one in epochs:
        current = one is epochs[-1]
        until = terms.ends_on(one) if current else terms.dies_on(one)
        told.append(
            {
                "epoch": one.number,
                "made_on": one.made_on,
                "retired_on": one.retired_on,
                "destroyed_on": one.destroyed_on,
                "keys": wrapped.get(one.number, 0),
                "rotation_due_on": until if current else None,
                "destroyed_from": until if not current and one.destroyed_on is None else None,
            }
        )
        if not as_json:
            put(_line(told[-1]))
    if as_json:
        put_json({"epochs": told})


def _line(one: dict[str, Any]) -> str:
    number, made, keys_wrapped = one["epoch"], one["made_on"], one["keys"]
    if one["destroyed_on"]:
        return words(
            f"epoch {number}: made {made}, destroyed {one['destroyed_on']}",
            f"第 {number} 期：{made} 启用，{one['destroyed_on']} 销毁",
        )
    if one["rotation_due_on"]:
        return words(
            f"epoch {number}: in use since {made}, {keys_wrapped:,} keys; the next one is due on"
            f" {one['rotation_due_on']}",
            f"第 {number} 期：{made} 启用，使用中，封装密钥 {keys_wrapped:,} 个；"
            f"{one['rotation_due_on']} 起轮换",
        )
    return words(
        f"epoch {number}: made {made}, {keys_wrapped:,} keys left; kept for backups, destroyed from"
        f" {one['destroyed_from']} on",
        f"第 {number} 期：{made} 启用，尚余密钥 {keys_wrapped:,} 个；为备份保留，"
        f"{one['destroyed_from']} 起销毁",
    )
