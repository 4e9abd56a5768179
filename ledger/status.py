"""The status of a provider in the trade: which decision leads where, and from where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger import errors, events
from ledger.errors import Words
from ledger.events import Data
from ledger.fields import Day
from ledger.findings import Bench

if TYPE_CHECKING:
    from ledger.provider import Provider


class ResumeProvider(events.Decision):
    """Record the end of a suspension."""

    decided_on: Day


StatusDecision = (
    events.ProviderAdmitted
    | events.ProviderSuspended
    | events.ProviderResumed
    | events.ProviderExited
)
STATUS_AFTER: dict[type[Data], str] = {
    events.ProviderAdmitted: "admitted",
    events.ProviderSuspended: "suspended",
    events.ProviderResumed: "admitted",
    events.ProviderExited: "exited",
}
STATUS_NAMES = {
    "registered": Words("registered", "已登记"),
    "admitted": Words("admitted", "已准入"),
    "suspended": Words("suspended", "准入暂停"),
    "exited": Words("exited", "已退出"),
}
STATUS_BEFORE: dict[type[Data], tuple[str, ...]] = {
    events.ProviderAdmitted: ("registered",),
    events.ProviderSuspended: ("admitted",),
    ResumeProvider: ("suspended",),
    events.ProviderExited: ("registered", "admitted", "suspended"),
}


def decide_status(state: Provider, command: Any, bench: Bench) -> Data:
    """The event of a decision on the status. Raises WrongStatus, DateInFuture, DateOrder."""
    needed = STATUS_BEFORE[type(command)]
    if state.status not in needed:
        raise errors.WrongStatus(
            provider=state.identifier,
            status=STATUS_NAMES[state.status],
            needed=Words(" / ".join(needed), "或".join(STATUS_NAMES[one].zh for one in needed)),
        )
    bench.check_past("decided_on", command.decided_on)
    if command.decided_on < state.status_since:
        raise errors.DateOrder(
            later="decided_on",
            later_on=command.decided_on,
            earlier=Words("the last change of status", "上一次状态变更"),
            earlier_on=state.status_since,
        )
    if isinstance(command, ResumeProvider):
        return events.ProviderResumed(**dict(command), reason=state.suspended_for)
    data: Data = command
    return data
