"""Amounts in 万元 against what the text says in yuan, exactly. No amount ever enters an event.

`0.2` and 「罚款2000元」 are the same; `2000` and 「罚款2000元」 are yuan in the place of 万元 and
mended; anything else that differs is for a person. Sums are decimals, never binary floats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from api.intake.column import shown
from api.intake.forms.cells import Read, doubt, note
from api.intake.forms.form import Amount
from ledger.identity import FULL_WIDTH

WAN = Decimal(10_000)
DECIMALS = 6
MAX_SUM_CHARACTERS = 40
"""No sum of money is longer; a run of 亿 would leave what a decimal can hold."""
PLAIN_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]+)?")
DIGITS = dict(
    zip(
        "零〇一二三四五六七八九壹贰叁肆伍陆柒捌玖两", [0, *range(10), *range(1, 10), 2], strict=True
    )
)
UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
GROUPS = {"万": 10_000, "萬": 10_000, "亿": 100_000_000, "億": 100_000_000}
# Possessive, or a long run of figures would be tried in every way it can be cut.
SUM = (
    r"(?:[0-9][0-9,.]*+[十百千万亿]*+)++"
    r"|[零〇一二三四五六七八九十百千万亿壹贰叁肆伍陆柒捌玖拾佰仟萬億两]++"
)
AMOUNT = rf"(?:人民币|共计|合计|[计共¥￥:：])*(?P<sum>{SUM})(?:元|圆)"
TOTAL = re.compile(rf"(?:共计|合计|总计){AMOUNT}")


def read_amount(text: str) -> tuple[Decimal | None, Read]:
    """A number of 万元 with at most six decimals."""
    plain = text.translate(FULL_WIDTH).replace(",", "")
    if PLAIN_NUMBER.fullmatch(plain) is not None:
        amount = Decimal(plain)
        if amount == amount.quantize(Decimal(1).scaleb(-DECIMALS)):
            return amount, Read(_written(amount))
    en = f"{shown(text)} is no amount in 万元 with at most {DECIMALS} decimals"
    zh = f"{shown(text)} 不是以万元为单位、至多 {DECIMALS} 位小数的金额"
    return None, Read(text, doubts=doubt("bad-amount", en, zh))


def sums_in(text: str, words: Sequence[str]) -> list[Decimal]:
    """The amounts in yuan that a text names for one of the words, in its order."""
    plain = "".join(text.translate(FULL_WIDTH).split())
    named = "|".join(map(re.escape, words))
    found: list[tuple[int, Decimal]] = []
    after, before = rf"(?:{named})(?:金额)?为?{AMOUNT}", rf"处以?{AMOUNT}整?的?(?:{named})"
    for pattern in (after, before):
        for match in re.finditer(pattern, plain):
            amount = parse_sum(match["sum"])
            if amount is not None and match.start("sum") not in dict(found):
                found.append((match.start("sum"), amount))
    return [amount for _, amount in sorted(found)]


def parse_sum(text: str) -> Decimal | None:
    """An amount as it is written: 2000, 2,000.50, 0.2万, 3万5千, 二千, 贰仟; None if it is none."""
    if len(text) > MAX_SUM_CHARACTERS:
        return None
    total = part = Decimal(0)
    number: Decimal | None = None
    for piece in re.findall(r"[0-9][0-9,]*(?:\.[0-9]+)?|.", text):
        if piece[0].isdigit() and piece.isascii():
            number = _decimal(piece.replace(",", ""))
        elif piece in DIGITS:
            number = Decimal(DIGITS[piece])
        elif piece in UNITS:
            # 十五 is fifteen: the one before the ten is not written.
            part += (Decimal(1) if number is None else number) * UNITS[piece]
            number = None
        elif piece in GROUPS:
            total = (total + part + (number or 0)) * GROUPS[piece]
            part, number = Decimal(0), None
        else:
            return None
    return total + part + (number or 0)


def check_amount(written: str, amount: Amount, text: str, kinds: Sequence[str]) -> Read:
    """A cell in 万元 held against the text and the kinds of penalty."""
    belongs = not set(amount.kinds).isdisjoint(kinds)
    sums = sums_in(text, amount.words)
    if not written:
        return _missing(sums, amount, belongs=belongs)
    value, read = read_amount(written)
    if value is None:
        return read
    if value == 0 and not sums:
        return read
    if not belongs:
        en = f"an amount stands here, but no kind is {' or '.join(amount.kinds)}"
        zh = f"填有金额，但处罚类别中没有{'、'.join(amount.kinds)}"
        return Read(written, doubts=doubt("amount-without-kind", en, zh))
    if not sums:
        en, zh = "the text names no amount to check it against", "处罚内容未写明金额，无法核对"
        return Read(read.text, note("amount-unchecked", en, zh))
    accepted = {sum(sums), *(sums if len(set(sums)) == 1 else ())} | set(_totals(text))
    if value * WAN in accepted:
        return read
    if value in accepted:
        right = _written(value / WAN)
        en = f"{shown(written)} is yuan, as the text says; {right} in 万元"
        zh = f"{shown(written)} 与处罚内容相符，但单位是元；应为 {right} 万元"
        return Read(right, note("yuan-not-wan", en, zh))
    named = ", ".join(f"{_written(one)}" for one in sums)
    en = f"{shown(written)} 万元, but the text says {named} yuan"
    zh = f"此处为 {shown(written)} 万元，处罚内容写的是 {named} 元"
    return Read(written, doubts=doubt("amount-differs", en, zh))


def _missing(sums: Sequence[Decimal], amount: Amount, *, belongs: bool) -> Read:
    if sums and belongs and len(set(sums)) == 1:
        right = _written(sums[0] / WAN)
        en, zh = f"empty; {right} 万元 by the text", f"为空；依处罚内容应为 {right} 万元"
        return Read(right, note("amount-from-text", en, zh))
    if belongs and not sums and len(amount.kinds) == 1:
        en = f"the kind is {amount.kinds[0]}, but no amount stands anywhere"
        zh = f"处罚类别有{amount.kinds[0]}，但未见金额"
        return Read("", doubts=doubt("missing", en, zh))
    return Read("")


def _totals(text: str) -> list[Decimal]:
    plain = "".join(text.translate(FULL_WIDTH).split())
    found = (parse_sum(match["sum"]) for match in TOTAL.finditer(plain))
    return [one for one in found if one is not None]


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _written(amount: Decimal) -> str:
    """A decimal without an exponent and without noughts at its end."""
    return f"{amount.normalize():f}"
