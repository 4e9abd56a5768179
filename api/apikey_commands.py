"""`chengxin apikey`: keys with which the systems of subscribers read.

What a command alone needs is imported when it runs, so that the small ones answer at once.
"""

from __future__ import annotations

import os
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from api.options import DataDir, Json, settings_of
from api.terminal import REFUSED, USAGE, fail, put, put_json, tell, told, words
from ledger.store import system_clock

if TYPE_CHECKING:
    from api.apikeys.store import ApiKey

app = typer.Typer(no_args_is_help=True)


class KeyScope(StrEnum):
    """What a key may open."""

    feed = "feed"
    read = "read"


@app.command(help=words("Make a key, and show it once.", "签发密钥，仅显示一次。"))
def create(
    org: Annotated[
        str, typer.Option(help=words("The subscriber's organisation.", "订阅方机构代码。"))
    ],
    days: Annotated[
        int, typer.Option(min=1, help=words("For how many days it is good.", "有效天数。"))
    ],
    scope: Annotated[
        list[KeyScope],
        typer.Option(help=words("What it opens; several times.", "范围，可重复给出。")),
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin apikey create`."""
    from api.apikeys.secret import digest_of, new_secret, shown_of
    from api.apikeys.store import ROLE, ApiKey, Keymaker
    from api.bearer import flaw_of
    from api.storage import database_of

    settings = settings_of(data_dir=data_dir)
    if days > settings.api_key_days:
        limit = settings.api_key_days
        fail(USAGE, words(f"--days: at most {limit}", f"--days：至多 {limit} 天"))
    flaw = flaw_of(ROLE, org)
    if flaw is not None:
        fail(USAGE, words(f"--org {org!r}: ", f"--org {org!r}：") + told(flaw))
    secret = new_secret(os.urandom)
    now = system_clock().replace(microsecond=0)
    key = ApiKey(
        id=UUID(bytes=os.urandom(16), version=4),
        shown=shown_of(secret),
        digest=digest_of(secret),
        organisation=org,
        ref=str(UUID(bytes=os.urandom(16), version=4)),
        scopes=sorted({one.value for one in scope}),
        made_at=now,
        expires_at=now + timedelta(days=days),
    )
    with database_of(settings) as database:
        Keymaker(database).add(key)
    if as_json:
        put_json({"key": secret} | as_data(key))
        return
    put(secret)
    tell(
        words(
            f"Good until {key.expires_at:%Y-%m-%d}. Keep it now: it is not shown again.",
            f"有效期至 {key.expires_at:%Y-%m-%d}。请立即保存：此密钥不再显示。",
        )
    )


@app.command("list", help=words("The keys there are, and were.", "列出现有及曾有的密钥。"))
def list_keys(data_dir: DataDir = None, as_json: Json = False) -> None:
    """`chengxin apikey list`."""
    from api.apikeys.store import Keymaker
    from api.storage import database_of

    with database_of(settings_of(data_dir=data_dir)) as database:
        keys = Keymaker(database).all()
    for key in keys:
        if as_json:
            put_json(as_data(key))
        else:
            put("\t".join([key.shown, key.organisation, ",".join(key.scopes), state_of(key)]))


@app.command(help=words("Revoke a key, at once and for good.", "立即吊销密钥，不可恢复。"))
def revoke(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help=words("Its beginning, or all of it.", "密钥的开头或全文。")
        ),
    ],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """`chengxin apikey revoke`."""
    from api.apikeys.secret import shown_of
    from api.apikeys.store import Keymaker
    from api.storage import database_of

    shown = shown_of(key)
    with database_of(settings_of(data_dir=data_dir)) as database:
        revoked = Keymaker(database).revoke(shown, system_clock())
    if revoked is None:
        fail(REFUSED, words(f"there is no key {shown}", f"没有密钥 {shown}"))
    if as_json:
        put_json(as_data(revoked))
    else:
        tell(words(f"{shown} is revoked.", f"{shown} 已吊销。"))


def as_data(key: ApiKey) -> dict[str, Any]:
    """A key as JSON tells it, without the key."""
    return {
        "shown": key.shown,
        "organisation": key.organisation,
        "ref": key.ref,
        "scopes": key.scopes,
        "made_at": key.made_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used": key.last_used,
    }


def state_of(key: ApiKey) -> str:
    """What is to be said of a key: until when it is good, and when it was used last."""
    used = words(f"last used {key.last_used}", f"最近使用 {key.last_used}")
    if key.last_used is None:
        used = words("never used", "从未使用")
    if key.revoked_at is not None:
        state = words(f"revoked {key.revoked_at:%Y-%m-%d}", f"已于 {key.revoked_at:%Y-%m-%d} 吊销")
    elif key.expires_at <= system_clock():
        state = words("expired", "已过期")
    else:
        state = words(f"until {key.expires_at:%Y-%m-%d}", f"有效期至 {key.expires_at:%Y-%m-%d}")
    return f"{state}\t{used}"
