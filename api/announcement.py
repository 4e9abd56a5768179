"""What `chengxin serve` says when it is ready: lines that a shell can take as they are.

Tokens are printed for a demonstration on this machine only: there, nothing is worth a key.
"""

from __future__ import annotations

import socket

from api.security import Tokens
from api.serve import House
from api.settings import PREFIX, Settings, is_loopback
from api.terminal import put, tell, words
from ledger.errors import LedgerNotOpened
from projections.sheet import Sheets

ORGANISATION = "DEMO-REGISTRY"


def announce(
    house: House, listener: socket.socket, settings: Settings, tokens: Tokens | None
) -> None:
    """Print the addresses on stdout, and the tokens where they may be seen."""
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    put(f"# {words('public page', '公示页面')}: {url}/")
    put(f"# {words('API docs', '接口文档')}: {url}/docs")
    put(f"export {PREFIX}URL={url}")
    try:
        opening = house.scores.rulebooks().opening
    except LedgerNotOpened:
        opening = None
    if opening is None:
        tell(
            words(
                "No ledger is opened here yet: chengxin open --help",
                "此处尚未开立账本：chengxin open --help",
            )
        )
    elif opening.purpose == "demonstration" and is_loopback(settings.host) and tokens is not None:
        _put_tokens(house, tokens, settings.token_hours)
    else:
        tell(words("For a token: chengxin token --help", "签发令牌：chengxin token --help"))


def _put_tokens(house: House, tokens: Tokens, hours: int) -> None:
    # The same at every start, so that a walk can be gone on with.
    provider = Sheets(house.ledger, house.scores, house.disclosure).sample()
    wanted = [
        ("TOKEN", "registrar", ORGANISATION),
        ("AUDITOR_TOKEN", "auditor", "DEMO-AUDITOR"),
        ("SUBSCRIBER_TOKEN", "subscriber", "DEMO-SUBSCRIBER"),
    ]
    if provider is not None:
        put(f"export {PREFIX}PROVIDER={provider}")
        wanted.append(("PROVIDER_TOKEN", "provider", provider))
    for name, role, organisation in wanted:
        issued = tokens.issue(role=role, organisation=organisation, hours=hours)
        put(f"export {PREFIX}{name}={issued}")
