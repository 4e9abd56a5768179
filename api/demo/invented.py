"""Who and what appears in the demonstration: invented companies, authorities, numbers, articles.

Nothing here exists: every company's name has the 某 of a name withheld and a place that is on no
map, every code lies in division 999999, every authority is that of 示范省. The articles are real
laws where one fits, else those of an ordinance that 示范省 would have. Draws from the generator it
is given and from nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from math import gcd
from random import Random
from typing import Literal, NamedTuple

from stdnum.cn import uscc

PROVINCE = "示范省"
PLACES = ("示范", "样例", "拟江", "演州", "例溪", "试安")
SYLLABLES = "禾岚云星澄沐朗晴彦瑞柏舟桐映霖棠洛宁知远青禹川安言希屿澜和煦渡启泽卓凡湛霁晏"
TRADES = (
    "网络科技",
    "文化传媒",
    "信息技术",
    "电子商务",
    "数字营销",
    "品牌管理",
    "新媒体",
    "直播服务",
)
SHOPS = ("短视频工作室", "代运营服务部", "直播工作室", "网店经营部")
ORDINANCE = "《示范省网络代运营服务管理办法》"
LISTING_ARTICLE = f"{ORDINANCE}第四十一条"
ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
DIVISION = "999999"
CODE_CHARACTERS = 6
CODES = len(ALPHABET) ** CODE_CHARACTERS
STEMS = [(place, *pair) for place in PLACES for pair in permutations(SYLLABLES, 2)]

EntityKind = Literal["ENTERPRISE", "INDIVIDUAL_BUSINESS", "INSTITUTION", "SOCIAL_ORGANISATION"]
AUTHORITY_OF: dict[EntityKind, str] = {
    "ENTERPRISE": "91",
    "INDIVIDUAL_BUSINESS": "92",
    "INSTITUTION": "12",
    "SOCIAL_ORGANISATION": "52",
}
"""The first two characters of a USCC: who registers it, and as what."""

ARTICLES: dict[str, str] = {
    "QUAL_EXPIRED_IN_USE": "《行政许可法》第八十一条",
    "LATE_DELIVERY": "《民法典》第五百七十七条",
    "GOAL_MISSED": "《民法典》第五百七十七条",
    "NO_REFUND": "《民法典》第五百六十六条",
    "UNFAIR_TERM": "《民法典》第四百九十七条",
    "ABANDONED": "《民法典》第五百七十七条",
    "AD_UNMARKED": "《广告法》第五十九条",
    "AD_ABSOLUTE": "《广告法》第五十七条",
    "AD_FALSE_CLAIM": "《广告法》第五十五条",
    "BANNED_GOODS_AD": "《广告法》第五十七条",
    "DATA_LEAK": "《个人信息保护法》第六十六条",
    "DATA_SALE": "《个人信息保护法》第六十六条",
    "LATE_INCIDENT_REPORT": "《数据安全法》第四十五条",
    "INCIDENT_CONCEALED": "《数据安全法》第四十五条",
}
"""The article a finding of this family rests on; where none is named, one of the ordinance."""


class Body(NamedTuple):
    """A body that decides: its kind (a rulebook code), its name, how it numbers its documents."""

    kind: str
    name: str
    numbering: str

    def document_no(self, random: Random, year: int, matter: str) -> str:
        """A document number of that year in a matter such as 处罚; courts have their own."""
        number = random.randrange(1, 10_000)
        return self.numbering.format(year=year, number=number, matter=matter)


class Company(NamedTuple):
    """An invented provider."""

    identifier: str
    name: str
    entity_kind: EntityKind
    place: str


def article_of(random: Random, family: str) -> str:
    """The article on which a finding of this family rests."""
    numerals = ["十二", "十五", "十八", "二十一", "二十四", "二十七", "三十", "三十三", "三十六"]
    return ARTICLES.get(family) or f"{ORDINANCE}第{random.choice(numerals)}条"


def body(kind: str, place: str) -> Body:
    """The body of a kind that is competent in a place."""
    match kind:
        case "REGULATOR":
            return Body(kind, f"{place}市市场监督管理局", "示市监{matter}〔{year}〕{number:04d}号")
        case "COURT":
            return Body(kind, f"{place}市人民法院", "（{year}）示99民初{number}号")
        case "ARBITRATION":
            return Body(kind, f"{place}仲裁委员会", "示仲裁字〔{year}〕第{number:04d}号")
        case "PLATFORM":
            return Body(kind, "示范短视频平台", "示平台{matter}〔{year}〕{number:05d}号")
        case "ASSOCIATION":
            return Body(
                kind, f"{PROVINCE}网络代运营行业协会", "示代运协{matter}〔{year}〕{number}号"
            )
        case _:
            return Body(
                kind, f"{PROVINCE}代运营合同纠纷调解中心", "示调{matter}〔{year}〕{number:04d}号"
            )


def companies(random: Random, count: int) -> Iterator[Company]:
    """So many different companies, one after the other; there are names for 200,000.

    None is remembered: in a shuffled order of all names and of all codes each is met once.
    """
    names, codes = _Shuffle(random, len(STEMS)), _Shuffle(random, CODES)
    for number in range(count):
        kind: EntityKind = random.choices(
            ("ENTERPRISE", "INDIVIDUAL_BUSINESS", "SOCIAL_ORGANISATION", "INSTITUTION"),
            (84, 12, 2, 2),
        )[0]
        # The first four show one of each kind, however few there are.
        kind = tuple(AUTHORITY_OF)[number] if number < len(AUTHORITY_OF) else kind
        place, first, second = STEMS[names.at(number % len(STEMS))]
        # Once every stem is used, each comes again with one more syllable, and then with another.
        again = number // len(STEMS)
        stem = f"{place}{first}某{second}{SYLLABLES[again - 1] if again else ''}"
        yield Company(_code(codes.at(number), kind), _name(random, kind, stem), kind, place)


class _Shuffle:
    """The numbers below `size` in an order that looks like chance."""

    def __init__(self, random: Random, size: int) -> None:
        self._size = size
        self._start = random.randrange(size)
        self._step = random.randrange(size // 3, size // 2)
        while gcd(self._step, size) != 1:
            self._step += 1

    def at(self, index: int) -> int:
        """The number in a place."""
        return (self._start + self._step * index) % self._size


def _name(random: Random, kind: EntityKind, stem: str) -> str:
    match kind:
        case "ENTERPRISE":
            form = random.choices(("有限公司", "有限责任公司", "股份有限公司"), (90, 7, 3))[0]
            return stem + random.choice(TRADES) + form
        case "INDIVIDUAL_BUSINESS":
            return stem + random.choice(SHOPS)
        case "SOCIAL_ORGANISATION":
            return stem + "电商服务中心"
        case _:
            return stem + "融媒体中心"


def _code(number: int, kind: EntityKind) -> str:
    body = "MA"
    for _ in range(CODE_CHARACTERS):
        number, digit = divmod(number, len(ALPHABET))
        body += ALPHABET[digit]
    # GB 11714: the organisation code within has a check character of its own.
    total = sum(int(c, 36) * w for c, w in zip(body, ORGANISATION_WEIGHTS, strict=True))
    check = "0123456789X0"[(11 - total % 11) % 11]
    code = f"{AUTHORITY_OF[kind]}{DIVISION}{body}{check}"
    return code + uscc.calc_check_digit(code)
