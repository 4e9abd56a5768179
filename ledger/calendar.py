"""Days and months: which day it is, how periods are counted, and how a day is written.

The ledger counts calendar days in Asia/Shanghai (scoring.md, introduction). Must not know any fact,
rulebook or clock; it imports nothing of ours.
"""

from calendar import monthrange
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")

_DAY_TEXT_LENGTH = len("YYYY-MM-DD")


def local_day(time: datetime) -> date:
    """The calendar day in Asia/Shanghai of an aware time."""
    return time.astimezone(SHANGHAI).date()


@lru_cache(maxsize=16_384)
def add_months(day: date, months: int) -> date:
    """`day` moved by `months` (may be negative), clamped to the last day of a short month.

    A result outside the calendar of `datetime.date` becomes `date.min` or `date.max`. Results are
    remembered, since scores ask for the same few days again and again.
    """
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    if year < date.min.year:
        return date.min
    if year > date.max.year:
        return date.max
    try:
        return day.replace(year, month + 1)
    except ValueError:
        return date(year, month + 1, monthrange(year, month + 1)[1])


@lru_cache(maxsize=16_384)
def whole_months(a: date, b: date) -> int:
    """The largest n with `a + n months <= b`; -1 if `b < a` (scoring.md, introduction).

    Remembered like `add_months`: the scores of one day ask from the same few days.
    """
    if b < a:
        return -1
    months = (b.year - a.year) * 12 + b.month - a.month
    if b.day < a.day and add_months(a, months) > b:
        return months - 1
    return months


def before_window(day: date, months: int) -> date | None:
    """The last day before the window `(day - months, day]`; None if the calendar has none."""
    if day.year * 12 + day.month - 1 - months < date.min.year * 12:
        return None
    return add_months(day, -months)


def window_leaves(day: date, months: int) -> date | None:
    """The first `x >= day` with `day` no longer in `(x - months, x]`; None beyond the calendar."""
    if day.year * 12 + day.month - 1 + months >= (date.max.year + 1) * 12:
        return None
    moved = add_months(day, months)
    # A short month clamps x - months below `day` until the first of the next month.
    return moved if moved.day == day.day else moved + timedelta(days=1)


def read_day(value: object) -> date | None:
    """The day written `YYYY-MM-DD`; None for anything else (other ISO 8601 forms included)."""
    if not isinstance(value, str) or len(value) != _DAY_TEXT_LENGTH:
        return None
    if value[4] != "-" or value[7] != "-":
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None
