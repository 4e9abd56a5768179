"""Everything the ledger can refuse, one class a reason.

The docstring is the message (English) and `zh` the same in Chinese; both are templates over the
facts given to the exception, so that every refusal says what, where and why. `code` is stable: it
is the last part of the problem type's URI and listed in `docs/errors.md`. `status` is the HTTP
status the API answers with. This module knows nothing else of ours.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class Words(NamedTuple):
    """A part of a message that is itself language: English and Chinese."""

    en: str
    zh: str


PURPOSES = {
    "production": Words("production", "正式"),
    "demonstration": Words("demonstration", "演示"),
    "test-data": Words("test-data", "测试数据"),
}
"""What a ledger may be opened for."""


class LedgerError(Exception):
    """The ledger refused the request."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 409
    zh: ClassVar[str] = "账本拒绝了该请求。"

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        english = {k: v.en if isinstance(v, Words) else v for k, v in facts.items()}
        super().__init__((type(self).__doc__ or "").format(**english))

    def chinese(self) -> str:
        """The same message in Chinese."""
        chinese = {k: v.zh if isinstance(v, Words) else v for k, v in self.facts.items()}
        return type(self).zh.format(**chinese)


class InvalidIdentifier(LedgerError):
    """The identifier {value!r} is not valid: {why}."""

    code = "invalid-identifier"
    zh = "主体代码 {value!r} 无效：{why}。"


class UnknownProvider(LedgerError):
    """There is no provider {provider} in this ledger."""

    code = "unknown-provider"
    status = 404
    zh = "本账本没有服务商 {provider}。"


class ProviderExists(LedgerError):
    """Provider {provider} is already registered (status {status})."""

    code = "provider-exists"
    zh = "服务商 {provider} 已登记（状态 {status}）。"


class WrongStatus(LedgerError):
    """Provider {provider} is {status}; this needs {needed}."""

    code = "wrong-status"
    zh = "服务商 {provider} 当前状态为「{status}」，该操作要求「{needed}」。"


class UnknownTarget(LedgerError):
    """Provider {provider} has no recorded fact {target}."""

    code = "unknown-target"
    zh = "服务商 {provider} 没有编号为 {target} 的记录。"


class UnknownDecision(LedgerError):
    """No decision {document} of {issuer} is recorded, so there is nothing to withdraw."""

    code = "unknown-decision"
    zh = "未登记 {issuer} 的决定 {document}，无可撤销。"


class WrongTarget(LedgerError):
    """Fact {target} is a {kind}; {act} applies only to {needed}."""

    code = "wrong-target"
    zh = "记录 {target} 的种类是「{kind}」，「{act}」只适用于「{needed}」。"


class DuplicateFact(LedgerError):
    """The same fact is already recorded: {what}.

    The fact `target` is the id of the earlier event, for those who may see it.
    """

    code = "duplicate-fact"
    zh = "同一事实已有记录：{what}。"


class DateOrder(LedgerError):
    """{later} ({later_on}) must not be before {earlier} ({earlier_on})."""

    code = "date-order"
    zh = "{later}（{later_on}）不得早于 {earlier}（{earlier_on}）。"


class DateInFuture(LedgerError):
    """{field} is {on}, after {limit}, the last day this may name when recorded on {today}."""

    code = "date-in-future"
    zh = "{field} 为 {on}，晚于 {today} 记录时允许的最后一日 {limit}。"


class Backdated(LedgerError):
    """{act} is dated {on}, more than {days} days before the recording day {today}."""

    code = "backdated"
    zh = "「{act}」的日期 {on} 早于记录日 {today} 超过 {days} 日。"


class CodeNotInForce(LedgerError):
    """{field} {value!r} is not in rulebook {rulebook}, in force on {on}."""

    code = "code-not-in-force"
    zh = "{field} {value!r} 不在 {on} 施行的规则 {rulebook} 中。"


class WrongCategory(LedgerError):
    """Family {family} belongs to category {category}, not {given}."""

    code = "wrong-category"
    zh = "{family} 属于类别 {category}，不是 {given}。"


class IncidentCategory(LedgerError):
    """Incident {incident} is recorded in another category than {given}."""

    code = "incident-category"
    zh = "事件 {incident} 已记录的类别不是 {given}。"


class FindingMismatch(LedgerError):
    """A complaint with the outcome {outcome} must be recorded {how}."""

    code = "finding-mismatch"
    zh = "处理结果为 {outcome} 的投诉必须{how}。"


class SeverityOutOfRange(LedgerError):
    """{family} allows severity {least} to {gravest}, not {severity}."""

    code = "severity-out-of-range"
    zh = "{family} 的严重程度范围是 {least} 至 {gravest}，不包括 {severity}。"


class SeverityReasonMissing(LedgerError):
    """{family} has default severity {default}; {severity} needs the digest of a written reason."""

    code = "severity-reason-missing"
    zh = "{family} 的默认严重程度为 {default}；采用 {severity} 须附书面理由的摘要。"


class IssuerNotEntitled(LedgerError):
    """An issuer of kind {issuer} may not decide {what}."""

    code = "issuer-not-entitled"
    zh = "{issuer} 类机构无权作出 {what}。"


class CounterpartyMissing(LedgerError):
    """Merit item {item} must name its counterparty."""

    code = "counterparty-missing"
    zh = "守信事项 {item} 必须写明合同相对方的随机编号。"


class ActConflict(LedgerError):
    """{act} on {on} does not fit fact {target}: {why}."""

    code = "act-conflict"
    zh = "{on} 的「{act}」与记录 {target} 不符：{why}。"


class RepairTooEarly(LedgerError):
    """Fact {target} may be repaired from {earliest} on; asked for {on}."""

    code = "repair-too-early"
    zh = "记录 {target} 自 {earliest} 起方可修复，申请日期为 {on}。"


class ObligationOpen(LedgerError):
    """Fact {target} has an obligation that is not fulfilled on {on}."""

    code = "obligation-open"
    zh = "记录 {target} 所附义务在 {on} 尚未履行。"


class PublicityOutOfRange(LedgerError):
    """public_until {on} must lie between {earliest} and {latest}."""

    code = "publicity-out-of-range"
    zh = "公示截止日 {on} 应在 {earliest} 与 {latest} 之间。"


class InvalidRulebook(LedgerError):
    """Rulebook {version} is not valid: {reasons}."""

    code = "invalid-rulebook"
    zh = "规则 {version} 无效：{reasons}。"


class RulebookTaken(LedgerError):
    """Rulebook {version} ({on}) collides with {other}: {why}."""

    code = "rulebook-taken"
    zh = "规则 {version}（{on}）与 {other} 冲突：{why}。"


class RulebookNotice(LedgerError):
    """Rulebook {version} may be in force from {earliest} at the earliest, not {on}."""

    code = "rulebook-notice"
    zh = "规则 {version} 最早自 {earliest} 起施行，不得为 {on}。"


class NotAllowed(LedgerError):
    """The role {role} of {organisation} may not {what}."""

    code = "not-allowed"
    status = 403
    zh = "{organisation}（{role}）无权{what}。"


class LedgerNotOpened(LedgerError):
    """This database holds no opened ledger; run `chengxin migrate` and open one."""

    code = "ledger-not-opened"
    status = 503
    zh = "该数据库尚未开立账本，请先运行 `chengxin migrate` 并开立账本。"


class LedgerAlreadyOpened(LedgerError):
    """This database already holds the ledger {name!r} ({purpose}), at position {position}."""

    code = "ledger-already-opened"
    zh = "该数据库已开立账本「{name}」（{purpose}），位置 {position}。"


class LedgerNotEmpty(LedgerError):
    """{what} needs a ledger with nothing in it but its opening; this one is at {position}."""

    code = "ledger-not-empty"
    zh = "{what}要求账本除开立事件外没有其他内容；本账本已到位置 {position}。"


class WrongPurpose(LedgerError):
    """{what} is only possible in a ledger opened as {needed}; this one is {purpose}."""

    code = "wrong-purpose"
    zh = "{what}只能在{needed}账本中进行；本账本为{purpose}账本。"


class WrongVersion(LedgerError):
    """Wrong expected version: {expected} (stream {stream}, stream version {actual})."""

    code = "wrong-version"
    zh = "预期版本不符：{expected}（流 {stream}，当前版本 {actual}）。"


class KeyReused(LedgerError):
    """Idempotency-Key {key!r} was already used for another request."""

    code = "key-reused"
    zh = "Idempotency-Key {key!r} 已用于另一个请求。"


class EventTooLarge(LedgerError):
    """The event {type} takes {size} bytes; at most {limit} are allowed."""

    code = "event-too-large"
    status = 413
    zh = "事件 {type} 占 {size} 字节，上限为 {limit} 字节。"


class UnknownEventType(LedgerError):
    """Event {id} at stream {stream} has the type {type}, which this version does not know."""

    code = "unknown-event-type"
    status = 500
    zh = "流 {stream} 中事件 {id} 的类型 {type} 不为本版本所识别。"


class ClockAhead(LedgerError):
    """This process's clock shows {now}, ahead of the database server's by more than {limit}."""

    code = "clock-ahead"
    status = 503
    zh = "本进程时钟为 {now}，比数据库服务器快超过 {limit}。"


class Unavailable(LedgerError):
    """The database cannot be reached; nothing was recorded. Try again."""

    code = "unavailable"
    status = 503
    zh = "数据库暂不可用，未作任何记录，请稍后重试。"


class OutcomeUnknown(LedgerError):
    """The connection broke while committing; the outcome is unknown.

    Repeat the request with the same Idempotency-Key to learn it.
    """

    code = "outcome-unknown"
    status = 503
    zh = "提交时连接中断，结果未知；请使用同一 Idempotency-Key 重试以查明结果。"


def family() -> dict[str, type[LedgerError]]:
    """Every error class by its code."""
    found: dict[str, type[LedgerError]] = {}
    pending = [LedgerError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found
