"""How many requests one caller may make in a time: one table of budgets, one of doors.

A stranger is counted by his address, whoever showed a good token by the reference in it. A budget
fills up evenly (GCRA: one moment is kept for each caller, the one at which his budget is whole
again), so nobody gains by waiting for the turn of a minute. Callers are kept in memory, those last
seen up to a bound: whoever floods it with addresses makes it forget only who has long been quiet.
Several processes count each for itself.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import ceil
from typing import NamedTuple

from api.doorrefusals import TooManyRequests
from api.headers import Headers
from ledger.errors import Words

SPEND = "chengxin.spend"
"""Where in a request's scope stands what counts it for a token's reference (`api/door.py`)."""
REFUSED = "refused-tokens"
MAX_CALLERS = 50_000
"""How many callers one budget knows at once: some 10 MB where all are at work."""


class Budget(NamedTuple):
    """So many requests in so many seconds; `per` tells what is counted."""

    requests: int
    seconds: int
    per: str
    what: Words


BUDGETS: dict[str, Budget] = {
    "public": Budget(1200, 60, "address", Words("requests without a token", "未持令牌的请求")),
    "reads": Budget(6000, 60, "key", Words("reads with this token", "以该令牌查询")),
    "writes": Budget(6000, 60, "key", Words("writes with this token", "以该令牌写入")),
    "imports": Budget(60, 60, "key", Words("imports with this token", "以该令牌导入")),
    "refused-tokens": Budget(30, 60, "address", Words("refused tokens", "未被接受的令牌")),
    "complaints": Budget(10, 3600, "address", Words("complaints of the public", "公众投诉")),
}
"""Every budget by its name, with what is set unless the settings say otherwise."""


class Kind(NamedTuple):
    """Which budgets a door takes from: of a stranger, and of whoever shows a token.

    `bearer` None: the door asks for no token, and whoever shows one is a stranger.
    """

    stranger: str | None
    bearer: str | None = None


FREE = Kind(None)
PAGE = Kind("public")
READ = Kind("public", "reads")
WRITE = Kind("public", "writes")
IMPORT = Kind("public", "imports")
COMPLAINT = Kind("complaints", "writes")

EXACT: dict[tuple[str, str], Kind] = {
    ("GET", "/healthz"): FREE,
    ("POST", "/v1/imports"): IMPORT,
    ("POST", "/v1/complaints"): COMPLAINT,
}
"""Doors that are not what their method and their first part make them."""


def kind_of(method: str, path: str) -> Kind:
    """The kind of a door, of one that does not exist too."""
    found = EXACT.get((method, path))
    if found is not None:
        return found
    if not path.startswith("/v1/"):
        return PAGE
    return WRITE if method == "POST" else READ


SPECIFIED = re.compile(r"\s*([a-z-]+)\s*=\s*([0-9]{1,9})\s*/\s*([0-9]{1,5})\s*")


def budgets_of(text: str) -> dict[str, Budget]:
    """All budgets, those changed that a text names: `public=600/60, imports=5/3600`.

    Raises ValueError.
    """
    found = dict(BUDGETS)
    for part in filter(str.strip, text.split(",")):
        match = SPECIFIED.fullmatch(part)
        if match is None or match[1] not in BUDGETS or not (int(match[2]) and int(match[3])):
            raise ValueError(
                f"{part.strip()!r} is no budget: write NAME=REQUESTS/SECONDS, the names being"
                f" {', '.join(BUDGETS)}"
            )
        found[match[1]] = found[match[1]]._replace(requests=int(match[2]), seconds=int(match[3]))
    return found


class Purse:
    """What is left to each caller of one budget."""

    def __init__(self, name: str, budget: Budget, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never fall."""
        self.name, self.budget = name, budget
        self.policy = f'"{name}";q={budget.requests};w={budget.seconds}'
        self._clock = clock
        self._interval = budget.seconds / budget.requests
        # A hair more than the budget, so that rounding never takes a request from it.
        self._span = budget.seconds * (1 + 1e-9)
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._whole_at)

    def spend(self, caller: str) -> TooManyRequests | None:
        """Count a request, unless it is one too many: then its refusal."""
        now = self._clock()
        whole_at = max(self._whole_at.get(caller, now), now) + self._interval
        if whole_at - now > self._span:
            self._whole_at.move_to_end(caller)
            return self._refusal(whole_at - now - self.budget.seconds)
        self._whole_at[caller] = whole_at
        self._whole_at.move_to_end(caller)
        if len(self._whole_at) > MAX_CALLERS:
            self._whole_at.popitem(last=False)
        return None

    def spent(self, caller: str) -> TooManyRequests | None:
        """The refusal that `spend` would give now; nothing is counted."""
        now = self._clock()
        left = self._whole_at.get(caller, now) - now + self._interval
        return self._refusal(left - self.budget.seconds) if left > self._span else None

    def left(self, caller: str) -> tuple[int, int]:
        """How many requests are left to a caller, and in how many seconds the budget is whole."""
        now = self._clock()
        until_whole = max(self._whole_at.get(caller, now) - now, 0.0)
        return int((self._span - until_whole) / self._interval), ceil(until_whole - 1e-6)

    def give_back(self, caller: str) -> None:
        """Take a request back that was counted."""
        if caller in self._whole_at:
            self._whole_at[caller] -= self._interval

    def _refusal(self, wait: float) -> TooManyRequests:
        budget = self.budget
        return TooManyRequests(
            what=budget.what,
            budget=self.name,
            requests=budget.requests,
            seconds=budget.seconds,
            wait=max(ceil(wait), 1),
        )


class Account:
    """What one request takes from which purse, on its way through the door."""

    __slots__ = ("_caller", "_kind", "_purses", "_shown", "_spent", "_taken")

    def __init__(
        self, purses: Mapping[str, Purse], kind: Kind, caller: str, *, shown: bool
    ) -> None:
        """`shown`: something that may be a token came with it."""
        self._purses, self._kind, self._caller = purses, kind, caller
        self._shown = shown and kind.bearer is not None
        # Whoever shows a token is not held to what strangers of his address have spent.
        self._taken: str | None = f"{caller} shown" if self._shown else caller
        self._spent: tuple[Purse, str] | None = None

    def open(self) -> TooManyRequests | None:
        """Count the request as a stranger's; why it may not go on, if it may not."""
        if self._kind.stranger is None:
            return None
        if self._shown and (refused := self._purses[REFUSED].spent(self._caller)) is not None:
            return refused
        assert self._taken is not None
        self._spent = self._purses[self._kind.stranger], self._taken
        return self._spent[0].spend(self._taken)

    def known(self, reference: str) -> None:
        """Count it for a good token's reference instead, once. Raises TooManyRequests."""
        if self._taken is None or self._kind.bearer is None or self._kind.stranger is None:
            return
        self._purses[self._kind.stranger].give_back(self._taken)
        self._taken = None
        self._spent = self._purses[self._kind.bearer], reference
        refused = self._spent[0].spend(reference)
        if refused is not None:
            raise refused

    def headers(self) -> Headers:
        """What is left to the caller, in the words of draft-ietf-httpapi-ratelimit-headers-10."""
        if self._spent is None:
            return []
        purse, caller = self._spent
        left, seconds = purse.left(caller)
        return [
            (b"ratelimit-policy", purse.policy.encode()),
            (b"ratelimit", b'"%b";r=%d;t=%d' % (purse.name.encode(), left, seconds)),
        ]

    def closed(self, status: int) -> None:
        """Count a token that was refused."""
        if status == 401 and self._shown:
            self._purses[REFUSED].spend(self._caller)


def purses_of(budgets: Mapping[str, Budget], clock: Callable[[], float]) -> dict[str, Purse]:
    """The purses of one process."""
    return {name: Purse(name, one, clock) for name, one in budgets.items()}
