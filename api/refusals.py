"""What the API itself can refuse, besides what the ledger refuses: one class a reason.

They belong to the ledger's family of errors: the docstring is the message, `zh` the same in
Chinese, `code` is stable, `status` the HTTP status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.errors import LedgerError, Words


class Unparsable(LedgerError):
    """What was sent is not the JSON it should be: {why}."""

    code = "unparsable"
    status = 400
    zh = "内容不是合格的 JSON：{why}。"


class InvalidKey(LedgerError):
    """An Idempotency-Key is one header of 1 to {limit} visible ASCII characters."""

    code = "invalid-key"
    status = 400
    zh = "Idempotency-Key 应只有一个，且为 1 至 {limit} 个可见 ASCII 字符。"


class TokenRefused(LedgerError):
    """The token was refused."""

    code = "token-refused"
    status = 401
    zh = "令牌未被接受。"


class TokenMissing(TokenRefused):
    """This needs a token: send the header Authorization: Bearer <token>."""

    code = "token-missing"
    zh = "该操作需要令牌：请发送请求头 Authorization: Bearer <令牌>。"


class TokensOff(TokenRefused):
    """This server has no key to verify tokens with; its operator must set CHENGXIN_KEY_DIR."""

    code = "tokens-off"
    zh = "本服务未配置验证令牌的密钥，须由运维人员设置 CHENGXIN_KEY_DIR。"


class DayNotPublic(LedgerError):
    """The public sees the score of {today}, today, only.

    {asked} needs the token of an officer, an auditor or the provider itself.
    """

    code = "day-not-public"
    status = 403
    zh = (
        "公众只能查看今日（{today}）的评分；"
        "查看 {asked} 的评分须持工作人员、审计人员或该服务商本身的令牌。"
    )


class NotFound(LedgerError):
    """There is nothing at {path}."""

    code = "not-found"
    status = 404
    zh = "地址 {path} 下没有内容。"


class UnknownPosition(LedgerError):
    """There is no event at position {position}; the last one is {head}."""

    code = "unknown-position"
    status = 404
    zh = "位置 {position} 没有事件，目前最后一个位置是 {head}。"


class UnknownType(LedgerError):
    """There is no event type {type}."""

    code = "unknown-type"
    status = 404
    zh = "没有事件类型 {type}。"


class UnknownRow(LedgerError):
    """There is no row {row} in quarantine."""

    code = "unknown-row"
    status = 404
    zh = "待核区没有编号为 {row} 的行。"


class MethodNotAllowed(LedgerError):
    """{path} does not know the method {method}; it knows {allowed}."""

    code = "method-not-allowed"
    status = 405
    zh = "{path} 不支持 {method} 方法，只支持 {allowed}。"


class NotAcceptable(LedgerError):
    """None of the types asked for is offered here; there are {offered}."""

    code = "not-acceptable"
    status = 406
    zh = "此处不提供所要求的类型，只提供 {offered}。"


class BodyTimeout(LedgerError):
    """The body did not arrive within {seconds} seconds."""

    code = "body-timeout"
    status = 408
    zh = "请求体未在 {seconds} 秒内到达。"


class Behind(LedgerError):
    """Position {wanted} is not in the answers yet: they are at {position}, {lag} behind."""

    code = "behind"
    zh = "结果尚未包含位置 {wanted}：目前为 {position}，相差 {lag}。"


class KeyTaken(LedgerError):
    """An earlier line has the same key and other content."""

    code = "key-taken"
    zh = "前面已有一行使用相同的键，但内容不同。"


class RowSettled(LedgerError):
    """Row {row} is settled: it was {how}."""

    code = "row-settled"
    zh = "第 {row} 号待核行已办结：{how}。"


class AcceptanceBegun(LedgerError):
    """Row {row} is recorded: its acceptance was cut off before that was noted. Accept it again."""

    code = "acceptance-begun"
    zh = "第 {row} 号待核行已入账，但核准在登记办结之前中断；请再次核准。"


class BodyTooLarge(LedgerError):
    """A body may have {limit} bytes at most."""

    code = "body-too-large"
    status = 413
    zh = "请求体不得超过 {limit} 字节。"


class AnswersTooLarge(LedgerError):
    """The answers to the lines would take more than {limit} bytes."""

    code = "answers-too-large"
    status = 413
    zh = "各行的处理结果将超过 {limit} 字节。"


class LineTooLarge(LedgerError):
    """A line may have {limit} bytes at most; this one was left out."""

    code = "line-too-large"
    status = 413
    zh = "每行不得超过 {limit} 字节，该行已略过。"


class NotJson(LedgerError):
    """The body must be sent as application/json, in UTF-8."""

    code = "not-json"
    status = 415
    zh = "请求体须以 application/json 发送，编码为 UTF-8。"


class NotJsonLines(LedgerError):
    """The body must be sent as application/x-ndjson or application/jsonl, uncompressed UTF-8."""

    code = "not-json-lines"
    status = 415
    zh = "请求体须以 application/x-ndjson 或 application/jsonl 发送，编码为 UTF-8，且不得压缩。"


class Flaw(NamedTuple):
    """One place where a request breaks the published schema."""

    loc: Sequence[str | int]
    msg: Words


class SchemaBroken(LedgerError):
    """The request breaks the published schema in {count} place(s); see errors."""

    code = "schema-broken"
    status = 422
    zh = "请求有 {count} 处不符合公布的模式，详见 errors。"

    def __init__(self, flaws: Sequence[Flaw]) -> None:
        super().__init__(count=len(flaws))
        self.flaws = flaws


class RowNotUnderstood(LedgerError):
    """Row {row} cannot be recorded as it is: {reasons}."""

    code = "row-not-understood"
    zh = "第 {row} 号待核行尚不能入账：{reasons}。"

    def __init__(self, *, row: object, reasons: Words, flaws: Sequence[Flaw] = ()) -> None:
        super().__init__(row=row, reasons=reasons)
        self.flaws = flaws


class UnknownColumn(LedgerError):
    """The row has no column {unknown} and its commands no such field; there are {known}."""

    code = "unknown-column"
    status = 422
    zh = "该行没有列 {unknown}，所记命令也没有该字段；可更正的有：{known}。"


class Internal(LedgerError):
    """Something went wrong here; it is logged as incident {incident}."""

    code = "internal"
    status = 500
    zh = "服务内部出错，已记录，事件编号 {incident}。"


class TooManyStreams(LedgerError):
    """{limit} event streams are open already; try again later."""

    code = "too-many-streams"
    status = 503
    zh = "已有 {limit} 个事件流打开，请稍后重试。"


class TooManyImports(LedgerError):
    """{limit} imports are under way already; try again later."""

    code = "too-many-imports"
    status = 503
    zh = "已有 {limit} 个导入正在进行，请稍后重试。"


class Stopping(LedgerError):
    """The server is being stopped; nothing more was read."""

    code = "stopping"
    status = 503
    zh = "服务正在停止，后续内容未再读取。"


class ImportIncomplete(LedgerError):
    """The import ended after line {line}, before the end of the body: {why}"""

    code = "import-incomplete"
    status = 503
    zh = "导入在第 {line} 行之后中止，请求体未读完：{why}"
