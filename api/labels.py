"""What the fields of commands and the codes in them are called, in English and Chinese.

Knows the system's own codes; what the rulebook defines brings its words along. A field or code
that stands in no table is shown as it is; a test sees to it that every field has a name.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.clauses import Named
from ledger.errors import Words
from ledger.rulebook import Rulebook

FIELDS: dict[str, Words] = {
    "agreement": Words("agreement", "合同内容"),
    "category": Words("category", "类别"),
    "certificate": Words("certificate", "证照名称"),
    "certificate_no": Words("certificate no.", "证照编号"),
    "client": Words("client", "委托方名称"),
    "complainant": Words("complainant", "投诉人"),
    "complaint": Words("complaint no.", "投诉编号"),
    "contact": Words("contact", "联系人"),
    "consent": Words("may be shown", "同意公示"),
    "contract": Words("contract no.", "合同编号"),
    "counterparty": Words("counterparty", "合同相对方"),
    "critical_count": Words("critical findings", "严重问题数"),
    "decided_on": Words("decided on", "决定日期"),
    "described": Words("description", "证据说明"),
    "document_no": Words("document no.", "文书号"),
    "email": Words("e-mail", "电子邮箱"),
    "ended_on": Words("ended on", "行为终了日期"),
    "entity_kind": Words("kind of entity", "主体类型"),
    "evidence": Words("evidence", "证据摘要"),
    "family": Words("kind of finding", "违法失信事项"),
    "finding": Words("finding", "认定事实"),
    "ground": Words("ground", "认定依据"),
    "incident": Words("incident", "事件编号"),
    "inspection": Words("inspection no.", "检查编号"),
    "issuer": Words("issuer", "作出机关"),
    "item": Words("merit", "守信事项"),
    "kind": Words("kind", "机关种类"),
    "law_article": Words("legal basis", "法律依据"),
    "listed_on": Words("listed on", "列入日期"),
    "minor_count": Words("minor findings", "轻微问题数"),
    "mitigation": Words("mitigation", "从轻情节"),
    "name": Words("name", "名称"),
    "obligation": Words("with an obligation", "附有义务"),
    "operator": Words("operator", "经营者"),
    "occurred_on": Words("occurred on", "行为日期"),
    "on": Words("on", "日期"),
    "origin": Words("origin", "登记来源"),
    "outcome": Words("outcome", "处理结果"),
    "person": Words("reference", "随机编号"),
    "phone": Words("telephone", "联系电话"),
    "price_fen": Words("price in fen", "价款（分）"),
    "public_until": Words("shown until", "公示截止日期"),
    "reason": Words("reason", "原因"),
    "referral": Words("referral no.", "移送编号"),
    "referred_on": Words("referred on", "移送日期"),
    "remark": Words("remark", "备注"),
    "result": Words("result", "检查结果"),
    "serious_count": Words("serious findings", "较重问题数"),
    "served_on": Words("served on", "送达日期"),
    "severity": Words("severity", "严重程度"),
    "severity_reason": Words("written reason", "书面理由摘要"),
    "shown_from": Words("shown from", "公示起始日期"),
    "target": Words("fact", "所针对的记录"),
    "terms": Words("terms", "条款"),
    "text": Words("text", "内容"),
    "title": Words("title", "标题"),
    "valid_from": Words("valid from", "有效期自"),
    "valid_until": Words("valid until", "有效期至"),
}
"""By the last part of a field's name."""
COMMANDS_OF_TWO = {
    "OVERTURNING": Words("overturn a decision", "撤销决定"),
    "LISTING": Words("enter in the severe list", "列入严重失信名单"),
}
"""What a proposal asks for."""
GROUNDS = {
    "NOT_PROVEN": Words("not proven", "证据不足"),
    "WRONG_TARGET": Words("wrong target", "对象有误"),
    "NO_LEGAL_BASIS": Words("no legal basis", "依据不足"),
    "PROCEDURE": Words("wrong procedure", "程序不当"),
    "DUPLICATE": Words("proposed twice", "重复提请"),
}
"""Why a proposal is refused."""
PROPOSAL_STATES = {
    "open": Words("awaits a second officer", "待另一名工作人员决定"),
    "approved": Words("approved", "已批准"),
    "refused": Words("refused", "未获批准"),
    "withdrawn": Words("withdrawn", "已撤回"),
    "lapsed": Words("lapsed", "已失效"),
}
CODES: dict[str, Mapping[str, Words]] = {
    "entity_kind": {
        "ENTERPRISE": Words("enterprise", "企业"),
        "INDIVIDUAL_BUSINESS": Words("individual business", "个体工商户"),
        "INSTITUTION": Words("public institution", "事业单位"),
        "SOCIAL_ORGANISATION": Words("social organisation", "社会组织"),
    },
    "origin": {
        "APPLICATION": Words("application", "申请"),
        "IMPORT": Words("import", "导入"),
    },
    "result": {
        "CLEAN": Words("clean", "未发现问题"),
        "MINOR": Words("minor findings", "轻微问题"),
        "FINDING": Words("findings", "发现问题"),
        "OBSTRUCTED": Words("obstructed", "拒绝、阻碍检查"),
    },
    "outcome": {
        "SUBSTANTIATED": Words("substantiated", "属实"),
        "PARTLY": Words("partly substantiated", "部分属实"),
        "UNSUBSTANTIATED": Words("not substantiated", "不属实"),
    },
    "ground": {
        "JUDGMENT": Words("judgment", "生效判决"),
        "AWARD": Words("arbitral award", "仲裁裁决"),
        "SIGNED_MEDIATION": Words("signed mediation", "签署的调解协议"),
        "ADMISSION": Words("admission", "书面承认"),
        "UNANSWERED_NOTICE": Words("notice without answer", "逾期未答复"),
    },
    "reason": {
        "QUALIFICATION_EXPIRED": Words("qualification expired", "资质到期"),
        "INVESTIGATION": Words("investigation", "接受调查"),
        "PENALTY": Words("penalty", "受到处罚"),
        "OWN_REQUEST": Words("own request", "自行申请"),
        "VOLUNTARY": Words("voluntary", "自愿退出"),
        "DEREGISTERED": Words("deregistered", "注销登记"),
        "EXPELLED": Words("expelled", "清退"),
    },
}
"""The codes of the system itself, by field."""


def field_words(path: str) -> Words:
    """The name of a field such as `finding.issuer.kind`."""
    parts = [FIELDS.get(part, Words(part, part)) for part in path.split(".")]
    return Words(", ".join(one.en for one in parts), "·".join(one.zh for one in parts))


def code_words(path: str, code: str, rulebook: Rulebook) -> Words | None:
    """What a code in a field means; None where it is none that has words."""
    field = path.rpartition(".")[2]
    items = rulebook.items
    named: dict[str, Mapping[str, Named]] = {
        "category": items.categories,
        "family": items.families,
        "severity": items.severities,
        "mitigation": items.mitigations,
        "item": items.merits,
        "kind": items.issuers,
    }
    if field in CODES:
        return CODES[field].get(code)
    found = named.get(field, {}).get(code)
    return None if found is None else Words(found.en, found.zh)
