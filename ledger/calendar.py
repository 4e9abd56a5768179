"""Which day it is: the ledger counts calendar days in Asia/Shanghai."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")


def local_day(time: datetime) -> date:
    """The calendar day in Asia/Shanghai of an aware time."""
    return time.astimezone(SHANGHAI).date()
