"""What each problem is called and what to do about it, in English and Chinese, by its code.

The message of one refusal comes from its class (`ledger/errors.py`, `api/refusals.py`) and says
what, where and why; here stands what is the same every time. `docs/errors.md` holds the same list
(a test compares them).
"""

from __future__ import annotations

from api.doortitles import AGAIN, DOOR
from api.proposal_titles import OF_PROPOSALS
from api.title import NOTHING, Title
from ledger.errors import Words

MEND = Words("Correct the field and send again.", "请更正该字段后重新提交。")
NEW_TOKEN = Words(
    "Get a new token: `chengxin token`, or ask the operator.",
    "请重新取得令牌：运行 `chengxin token`，或向运维人员申请。",
)
NEW_KEY = Words(
    "Ask the operator for a new key: `chengxin apikey create`.",
    "请向运维人员申请新的密钥：`chengxin apikey create`。",
)
TELL = Words(
    "Tell the operator, with the header X-Request-Id of the answer.",
    "请告知运维人员，并附上响应头 X-Request-Id。",
)


def _title(en: str, zh: str, advice: Words) -> Title:
    return Title(Words(en, zh), advice)


TITLES: dict[str, Title] = OF_PROPOSALS | {
    "refused": _title("Refused", "请求被拒绝", MEND),
    "invalid-identifier": _title(
        "Invalid identifier",
        "主体代码无效",
        Words(
            "Compare the code with the licence, character by character.",
            "请与营业执照逐字核对代码。",
        ),
    ),
    "unknown-provider": _title(
        "Unknown provider",
        "服务商不存在",
        Words("Register it first: POST /v1/providers.", "请先登记：POST /v1/providers。"),
    ),
    "provider-exists": _title("Provider already registered", "服务商已登记", NOTHING),
    "wrong-status": _title(
        "Wrong status of the provider",
        "服务商状态不符",
        Words(
            "Record what brings it into the needed status first.",
            "请先记录使其进入所需状态的事项。",
        ),
    ),
    "unknown-target": _title(
        "Unknown fact",
        "记录不存在",
        Words(
            "Take the id of the fact from its receipt or from the provider's events.",
            "请从回执或该服务商的事件中取得记录编号。",
        ),
    ),
    "unknown-decision": _title(
        "Unknown decision",
        "决定不存在",
        Words("Record the decision first, then its withdrawal.", "请先登记该决定，再登记其撤销。"),
    ),
    "wrong-target": _title(
        "Not applicable to this fact",
        "不适用于该记录",
        Words("Name a fact of the right kind.", "请指明种类相符的记录。"),
    ),
    "duplicate-fact": _title("Already recorded", "事实已有记录", NOTHING),
    "date-order": _title("Dates in the wrong order", "日期先后有误", MEND),
    "date-in-future": _title("Date in the future", "日期晚于允许范围", MEND),
    "backdated": _title(
        "Dated too far back",
        "日期早于允许范围",
        Words(
            "Record it with the day on which it is recorded, or ask for a second officer.",
            "请以记录当日为日期，或由第二名工作人员办理。",
        ),
    ),
    "code-not-in-force": _title(
        "Code not in the rulebook",
        "代码不在规则中",
        Words(
            "Use a code of the rulebook in force on that day; GET /v1/ledger names its event.",
            "请使用该日施行规则中的代码；GET /v1/ledger 列出载有各版规则的事件。",
        ),
    ),
    "wrong-category": _title("Wrong category", "类别不符", MEND),
    "incident-category": _title("Incident of another category", "事件类别不一致", MEND),
    "finding-mismatch": _title("Finding and outcome differ", "认定与处理结果不符", MEND),
    "severity-out-of-range": _title("Severity out of range", "严重程度超出范围", MEND),
    "severity-reason-missing": _title(
        "Written reason missing",
        "缺少书面理由",
        Words("Give severity_reason, the digest of it.", "请提供 severity_reason，即其摘要。"),
    ),
    "issuer-not-entitled": _title(
        "Issuer not entitled",
        "机构无权作出",
        Words("Only a body entitled to it may decide this.", "须由有权机构作出该决定。"),
    ),
    "counterparty-missing": _title("Counterparty missing", "缺少合同相对方", MEND),
    "act-conflict": _title(
        "Does not fit the record",
        "与记录状态不符",
        Words(
            "Read the acts already recorded on the fact, and mind the order of days.",
            "请查看该记录已有的后续处理，并注意日期先后。",
        ),
    ),
    "repair-too-early": _title(
        "Too early for repair", "尚不可修复", Words("Wait until that day.", "请待该日之后提出。")
    ),
    "obligation-open": _title(
        "Obligation not fulfilled",
        "义务尚未履行",
        Words("Record the fulfilment first.", "请先记录义务已履行。"),
    ),
    "publicity-out-of-range": _title("Publicity out of range", "公示期超出范围", MEND),
    "invalid-rulebook": _title("Invalid rulebook", "规则无效", MEND),
    "rulebook-taken": _title("Rulebook collides", "规则冲突", MEND),
    "rulebook-notice": _title(
        "Notice too short",
        "公布期不足",
        Words("Let it be in force later.", "请推迟施行日期。"),
    ),
    "not-allowed": _title(
        "Not allowed in this role",
        "角色无权执行",
        Words("Use a token of a role that may do this.", "请使用有权角色的令牌。"),
    ),
    "ledger-not-opened": _title(
        "Ledger not opened",
        "账本尚未开立",
        Words("The operator opens it: `chengxin open`.", "由运维人员开立：`chengxin open`。"),
    ),
    "ledger-already-opened": _title("Ledger already opened", "账本已开立", NOTHING),
    "ledger-not-empty": _title(
        "Ledger not empty",
        "账本不是空的",
        Words("Use a ledger of its own for it.", "请另用一个账本。"),
    ),
    "wrong-purpose": _title(
        "Wrong purpose of the ledger",
        "账本用途不符",
        Words("Use a ledger opened for that purpose.", "请使用相应用途的账本。"),
    ),
    "wrong-version": _title("Written by others meanwhile", "期间已有其他写入", AGAIN),
    "key-reused": _title(
        "Idempotency-Key reused",
        "Idempotency-Key 重复使用",
        Words("Give every request a key of its own.", "请为每个请求使用不同的 Idempotency-Key。"),
    ),
    "event-too-large": _title("Event too large", "事件过大", MEND),
    "person-erased": _title("Person erased", "人员资料已删除", NOTHING),
    "not-the-counterparty": _title("Not the counterparty", "并非合同相对方", MEND),
    "not-your-person": _title("Not your person", "非本机构所编人员", MEND),
    "unknown-person": _title(
        "Unknown person",
        "人员不存在",
        Words(
            "Find the person first: `chengxin person find`, or POST /v1/persons/search.",
            "请先查找该人员：`chengxin person find`，或 POST /v1/persons/search。",
        ),
    ),
    "person-not-held": _title("Not on hold", "未处于暂缓删除状态", NOTHING),
    "officer-on-record": _title("Officer on record", "工作人员须留存可查", NOTHING),
    "sealing-off": _title(
        "No vault keys",
        "没有保险库密钥",
        Words("The operator must set CHENGXIN_KEY_DIR.", "运维人员须设置 CHENGXIN_KEY_DIR。"),
    ),
    "vault-key-missing": _title(
        "Vault key missing",
        "缺少保险库密钥",
        Words(
            "The operator must put back the key folder that belongs to this database.",
            "运维人员须恢复与该数据库配套的密钥目录。",
        ),
    ),
    "seal-broken": _title("Sealed text altered", "封存文本被改动", TELL),
    "unknown-event-type": _title("Event of a later version", "事件版本未知", TELL),
    "clock-ahead": _title("Clock ahead", "时钟超前", TELL),
    "unavailable": _title("Temporarily unavailable", "暂不可用", AGAIN),
    "outcome-unknown": _title(
        "Outcome unknown",
        "结果未知",
        Words(
            "Send the same request again with the same Idempotency-Key.",
            "请使用同一 Idempotency-Key 重发同一请求。",
        ),
    ),
    "unparsable": _title(
        "Not JSON", "不是合格的 JSON", Words("Send valid JSON.", "请发送合格的 JSON。")
    ),
    "invalid-key": _title("Invalid Idempotency-Key", "Idempotency-Key 不合格", MEND),
    "token-refused": _title("Token refused", "令牌未被接受", NEW_TOKEN),
    "token-missing": _title("Token missing", "缺少令牌", NEW_TOKEN),
    "token-malformed": _title("No token of this system", "不是本系统的令牌", NEW_TOKEN),
    "token-algorithm": _title("Wrong signature algorithm", "签名算法不符", NEW_TOKEN),
    "token-forged": _title("Signature does not match", "签名不符", NEW_TOKEN),
    "token-wrong-type": _title(
        "No access token",
        "不是访问令牌",
        Words(
            "Send the access token for this system, not an ID token.",
            "请发送面向本系统的访问令牌，而非身份令牌。",
        ),
    ),
    "token-key-unknown": _title("Key of the token unknown", "令牌密钥未知", NEW_TOKEN),
    "token-lives-too-long": _title(
        "Token lives too long",
        "令牌有效期过长",
        Words("Have the issuer give shorter-lived tokens.", "请由签发方缩短令牌有效期。"),
    ),
    "api-key-malformed": _title(
        "No whole API key",
        "API 密钥不完整",
        Words("Copy the key again, all of it.", "请重新完整复制密钥。"),
    ),
    "api-key-unknown": _title("No such API key", "没有该 API 密钥", NEW_KEY),
    "api-key-expired": _title("API key expired", "API 密钥已过期", NEW_KEY),
    "api-key-revoked": _title("API key revoked", "API 密钥已吊销", NEW_KEY),
    "token-expired": _title("Token expired", "令牌已过期", NEW_TOKEN),
    "token-not-yet-valid": _title("Token not valid yet", "令牌尚未生效", NEW_TOKEN),
    "token-wrong-issuer": _title("Token of another issuer", "令牌签发方不符", NEW_TOKEN),
    "token-wrong-audience": _title("Token for another audience", "令牌受众不符", NEW_TOKEN),
    "tokens-off": _title("Tokens are off", "未启用令牌", TELL),
    "bearer-not-admitted": _title(
        "Bearer not admitted",
        "持有人未获准",
        Words(
            "Ask the operator which role and organisation your account gives you.",
            "请向运维人员核对您的账户对应的角色与机构。",
        ),
    ),
    "scope-missing": _title(
        "Scope missing",
        "范围不足",
        Words("Use a token or key that has the scope.", "请使用具有该范围的令牌或密钥。"),
    ),
    "day-not-public": _title("Day not public", "该日评分不公开", NEW_TOKEN),
    "not-found": _title(
        "Not found", "没有内容", Words("See the operations at /docs.", "接口列表见 /docs。")
    ),
    "unknown-position": _title(
        "No such event", "没有该事件", Words("Positions start at 1.", "位置从 1 开始。")
    ),
    "unknown-type": _title(
        "No such event type",
        "没有该事件类型",
        Words("See GET /v1/schemas.", "见 GET /v1/schemas。"),
    ),
    "unknown-row": _title(
        "No such row in quarantine",
        "没有该待核行",
        Words("See GET /v1/quarantine.", "见 GET /v1/quarantine。"),
    ),
    "method-not-allowed": _title(
        "Method not allowed", "不支持该方法", Words("See the header Allow.", "见响应头 Allow。")
    ),
    "not-acceptable": _title(
        "Not offered in that type",
        "不提供该类型",
        Words("Change the header Accept.", "请更改请求头 Accept。"),
    ),
    "body-timeout": _title("Body too slow", "请求体传输过慢", AGAIN),
    "behind": _title("Answers not that far yet", "结果尚未更新到该位置", AGAIN),
    "key-taken": _title(
        "Key of an earlier line",
        "键与前面的行重复",
        Words("Give every line a key of its own.", "请为每一行使用不同的键。"),
    ),
    "row-settled": _title("Row already settled", "该行已办结", NOTHING),
    "acceptance-begun": _title(
        "Acceptance was cut off",
        "核准曾中断",
        Words("Accept the row once more.", "请再次核准该行。"),
    ),
    "row-not-understood": _title(
        "Row not understood",
        "该行尚不能入账",
        Words("Correct every place named in errors.", "请更正 errors 中列出的各处。"),
    ),
    "body-too-large": _title(
        "Body too large", "请求体过大", Words("Send less at once.", "请减少单次提交的内容。")
    ),
    "answers-too-large": _title(
        "Answers too large",
        "处理结果过大",
        Words("Send fewer lines at once.", "请减少单次提交的行数。"),
    ),
    "line-too-large": _title(
        "Line too large", "行过长", Words("Send less in one line.", "请缩短该行。")
    ),
    "not-json": _title(
        "Not sent as JSON",
        "未以 JSON 发送",
        Words("Send Content-Type: application/json.", "请发送 Content-Type: application/json。"),
    ),
    "not-json-lines": _title(
        "Not sent as JSON Lines",
        "未以 JSON Lines 发送",
        Words(
            "Send Content-Type: application/x-ndjson and no Content-Encoding.",
            "请发送 Content-Type: application/x-ndjson，不带 Content-Encoding。",
        ),
    ),
    "schema-broken": _title(
        "Breaks the schema",
        "不符合模式",
        Words("Correct every place named in errors.", "请更正 errors 中列出的各处。"),
    ),
    "unknown-column": _title("No such column or field", "没有该列或字段", MEND),
    "internal": _title("Internal error", "内部错误", TELL),
    "issuer-unavailable": _title("Keys of the issuer unavailable", "签发方公钥不可用", AGAIN),
    "too-many-streams": _title("Too many streams", "事件流过多", AGAIN),
    "too-many-imports": _title("Too many imports", "导入过多", AGAIN),
    "stopping": _title("Server stopping", "服务正在停止", AGAIN),
    "import-incomplete": _title(
        "Import not complete",
        "导入未完成",
        Words(
            "Send the same lines again: what is recorded is answered, not recorded again.",
            "请重发相同内容：已记录的行只返回原结果，不会重复记录。",
        ),
    ),
    **{code: Title(*words) for code, words in DOOR.items()},
}
