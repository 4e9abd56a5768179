"""Whom the demonstration knows and what was agreed, found and said: all of it sealed, all invented.

Nobody here exists: every name has the 某 of a name withheld, every telephone number begins with the
area code 000 that is nobody's, every address is under `.example` (RFC 2606), and every contract
says of itself that it is a demonstration. One generator for each provider, so that the rest of its
history is the same with people and without them.
"""

from __future__ import annotations

from random import Random
from typing import Any

from api.demo.invented import PLACES, SYLLABLES, Company
from ledger import events, findings, provider
from ledger.events import Data
from ledger.evidence import EvidenceDigest
from ledger.private import Agreement, Complainant, Contact, Description, Operator, Remark
from ledger.sealing import PlainText

SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦许何吕施张孔曹严华金魏陶姜"
STREETS = ("示范路", "样例街", "演示巷", "例溪大道")
CLIENTS = ("样例餐饮店", "演示服装店", "示范果蔬合作社", "样例家居馆", "演示美妆店", "示范茶行")
WORKS = (
    ("短视频账号代运营服务合同", "运营短视频账号一个，每月发布原创短视频十二条"),
    ("网店代运营服务合同", "运营网络店铺一家，负责商品上架、页面设计和客户咨询"),
    ("直播代运营服务合同", "每月组织直播八场，提供场控、脚本和数据复盘"),
    ("新媒体账号托管合同", "托管公众账号两个，每周更新图文三篇并回复留言"),
)
PRICES = (
    ("六千元", "600000"),
    ("一万二千元", "1200000"),
    ("二万四千元", "2400000"),
    ("三万六千元", "3600000"),
    ("八万元", "8000000"),
)
PERIODS = ("三个月", "六个月", "一年")
TERMS = """第一条 服务内容：乙方为甲方{work}。
第二条 服务期限：自签订之日起{period}。
第三条 服务费用：共计人民币{price}，签订后五日内支付一半，期满验收后支付其余部分。
第四条 账号归属：账号及其粉丝、数据归甲方所有，合同终止之日起三日内移交。
第五条 违约责任：一方违约的，赔偿对方因此受到的损失。
第六条 争议解决：协商不成的，提交{province}代运营合同纠纷调解中心调解。
（本合同为演示数据，内容均属虚构。）"""
SEEN = {
    "contract": (
        "双方签章的服务验收单一页，载明交付内容和验收日期（演示）。",
        "账号移交清单两页，列有账号名称、绑定手机号后四位 0000 和交接人签字（演示）。",
    ),
    "inspection": (
        "现场检查笔录两页，经营者阅后签字确认（演示）。",
        "办公场所照片四张，可见公示栏内的营业执照和收费标准（演示）。",
    ),
    "finding": (
        "视频页面截图三张，推广内容未标明“广告”，页面上方可见发布时间（演示）。",
        "后台订单导出表一份，其中十七笔的收货地址和下单时间完全相同（演示）。",
        "询问笔录三页，当事人承认委托他人增加播放量（演示）。",
        "聊天记录截图五张，客户两次催告，当事人均未答复（演示）。",
    ),
}
REMARKS = (
    "当事人已下架相关视频，并向三名消费者退款，办案人员次日复核属实（演示）。",
    "当事人在陈述申辩中称系员工个人所为，经查与其内部分工记录不符，未予采纳（演示）。",
    "当事人自称经营困难，申请分期缴纳罚款，已批准分三期缴清（演示）。",
    "举报人补充提交了付款凭证，金额与合同约定一致（演示）。",
)
EVIDENCE_KINDS: dict[type[Data], str] = {
    events.ContractCompleted: "contract",
    provider.RecordInspection: "inspection",
    findings.ImposePenalty: "finding",
    findings.ConfirmBreach: "finding",
    provider.RecordComplaintOutcome: "finding",
}
AGREED_OF_TEN = 2
DESCRIBED_OF_TEN = 1
REMARKED_OF_TEN = 4


class People:
    """Whom one provider has to do with."""

    def __init__(self, random: Random, company: Company, province: str) -> None:
        self._random, self._company, self._province = random, company, province
        self._clients: dict[str, str] = {}

    def named(self, command: Data) -> Data:
        """The command with the people and the texts that belong to it."""
        more: dict[str, Any] = {}
        match command:
            case events.ProviderRegistered():
                more["contact"] = self._contact()
                if command.entity_kind == "INDIVIDUAL_BUSINESS":
                    more["operator"] = Operator(person=self._ref(), name=self._name())
            case events.ContractCompleted() if self._chance(AGREED_OF_TEN):
                assert command.counterparty is not None
                more["agreement"] = self._agreement(command.counterparty)
            case provider.RecordComplaintOutcome():
                more["complainant"] = self._complainant()
            case findings.ImposePenalty() | findings.ConfirmBreach():
                if self._chance(REMARKED_OF_TEN):
                    text = PlainText(self._random.choice(REMARKS))
                    more["remark"] = Remark(person=self._ref(), text=text)
        kind = EVIDENCE_KINDS.get(type(command))
        if kind is not None and self._chance(DESCRIBED_OF_TEN):
            first, *others = vars(command)["evidence"]
            more["evidence"] = [self._described(first, kind), *others]
        return command.model_copy(update=more) if more else command

    def _contact(self) -> Contact:
        address = f"lianxi{self._random.randrange(1_000):03d}@demo.example"
        return Contact(
            person=self._ref(), name=self._name(), phone=self._phone(), email=PlainText(address)
        )

    def _complainant(self) -> Complainant:
        place, street = self._company.place, self._random.choice(STREETS)
        lives = f"{place}市{street}{self._random.randint(1, 299)}号"
        contact = self._phone() if self._chance(8) else PlainText(lives)
        return Complainant(person=self._ref(), name=self._name(), contact=contact)

    def _agreement(self, client: str) -> Agreement:
        if client not in self._clients:
            who = self._random.choice(SYLLABLES) + "某" + self._random.choice(CLIENTS)
            self._clients[client] = f"{self._random.choice(PLACES)}市{who}"
        title, work = self._random.choice(WORKS)
        price, fen = self._random.choice(PRICES)
        period = self._random.choice(PERIODS)
        terms = TERMS.format(work=work, period=period, price=price, province=self._province)
        return Agreement(
            person=client,
            client=PlainText(self._clients[client]),
            title=PlainText(f"{title}（演示）"),
            terms=PlainText(terms),
            price_fen=PlainText(fen),
        )

    def _described(self, evidence: EvidenceDigest, kind: str) -> EvidenceDigest:
        text = PlainText(self._random.choice(SEEN[kind]))
        described = Description(person=self._ref(), text=text)
        return evidence.model_copy(update={"described": described})

    def _name(self) -> PlainText:
        return PlainText(f"{self._random.choice(SURNAMES)}某{self._random.choice(SYLLABLES)}")

    def _phone(self) -> PlainText:
        return PlainText(f"000-{self._random.randrange(10_000):04d}-0000")

    def _chance(self, of_ten: int) -> bool:
        return self._random.randrange(10) < of_ten

    def _ref(self) -> str:
        text = f"{self._random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"
