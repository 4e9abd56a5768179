"""What a reader of the pages sees instead of a code, in zh-CN, and how amounts are written.

Knows the system's own codes; what the rulebook defines (families, severities, issuers, merits)
brings its words along. A code that stands in no table here is a programming error and raises
KeyError; only grades may come from a rulebook that has other letters.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from ledger.clauses import Clock
from ledger.status import STATUS_NAMES

MINUS = "\N{MINUS SIGN}"

GRADES = {
    "A": "优秀",
    "B": "良好",
    "C": "一般",
    "D": "较差",
    "N": "暂不评级",
    "X": "严重失信",
}
GRADE_MEANINGS = {
    "A": "履约与检查依据充分，没有或仅有极少失信记录。",
    "B": "总体守信，有少量失信记录，或较重的记录已经减轻。",
    "C": "有较多或较重的失信记录，合作前宜逐项了解。",
    "D": "有严重或多次失信记录，合作前须审慎核实。",
}
PROVIDER_STATUS = {code: name.zh for code, name in STATUS_NAMES.items()}
STATUS_NOTES = {
    "registered": "该主体经登记为本账本所知，尚未办理准入审核；登记不代表其已具备从业条件。",
    "suspended": "该主体的准入资格现处于暂停状态，恢复之前不得以已准入服务商的名义承接业务。",
    "exited": "该主体已退出准入管理，其信用记录依规则继续保存和公示。",
}
"""What a provider's status means, wherever it is not admitted."""
ITEM_KINDS = {
    "PENALTY": "处罚",
    "BREACH": "合同违约",
    "COMPLAINT": "投诉查实",
    "LISTING": "严重失信名单",
}
NOT_COUNTED = {
    "EXPIRED": "已过计分期",
    "SUSPENDED_BY_REVIEW": "复核期间不计分",
    "SAME_INCIDENT": "同一事件只计最重一项",
    "MERIT_EXPIRED": "已过加分期",
    "MERIT_BEFORE_DELISTING": "移出名单前的守信记录不计分",
}
"""Why an item that is shown costs or brings nothing."""
ITEM_STATUS = {
    "EFFECTIVE": "生效中",
    "SUSPENDED": "审查期间暂停执行",
    "FULFILLED": "义务已履行",
}
VALIDITY = {"VALID": "有效", "NOT_YET": "尚未生效", "EXPIRED": "已过期"}
"""Whether a licence holds today."""
CONFIDENCE = {"LOW": "低", "MEDIUM": "中", "HIGH": "高"}
PERIODS = {"days": "日", "working_days": "个工作日", "months": "个月"}


class Mark(NamedTuple):
    """How the pages of a ledger that is not in production are marked."""

    short: str
    long: str
    why: str


MARKS = {
    "production": None,
    "demonstration": Mark(
        "演示数据", "演示数据，均属虚构", "所列主体、机关与文书均不存在，仅用于展示本系统。"
    ),
    "test-data": Mark(
        "测试数据", "测试数据，不作公示", "为试用本系统而导入，不构成对任何主体的评价。"
    ),
}
"""By the purpose with which the ledger was opened."""


def grade_words(letter: str) -> str:
    """The words of a grade, 「本系统诚信等级」."""
    return GRADES.get(letter, "级")


def sign(amount: str) -> str:
    """`minus`, `plus` or `zero`."""
    value = Decimal(amount)
    return "minus" if value < 0 else "plus" if value > 0 else "zero"


def signed(amount: str) -> str:
    """An amount of points with its sign, as a reader expects it: −5.00, +2.00, 0.00."""
    value = Decimal(amount)
    return f"{'+' if value > 0 else MINUS if value < 0 else ''}{abs(value):.2f}"


def unsigned(amount: str) -> str:
    """An amount of points without its sign."""
    return f"{abs(Decimal(amount)):.2f}"


def period(clock: Clock) -> str:
    """A period of the rulebook: 5 个工作日."""
    return f"{clock.count} {PERIODS[clock.unit]}"
