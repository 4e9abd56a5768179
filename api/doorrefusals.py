"""What is refused whatever was asked for: on the wire, at the door, for want of time or of room.

They belong to the ledger's family of errors, as those of `api/refusals.py` do.
"""

from __future__ import annotations

from api.refusals import BodyTimeout
from ledger.errors import LedgerError, Unavailable


class Malformed(LedgerError):
    """What came is no HTTP request that can be read in one way only."""

    code = "malformed"
    status = 400
    zh = "收到的内容不是可明确解读的 HTTP 请求。"


class HostMissing(LedgerError):
    """A request names once, in the header Host, the server that it is for."""

    code = "host-missing"
    status = 400
    zh = "请求须以 Host 请求头写明所访问的主机，且只写一次。"


class TooManyParameters(LedgerError):
    """A query may have {limit} parameters at most."""

    code = "too-many-parameters"
    status = 400
    zh = "查询参数不得超过 {limit} 个。"


class HeadTimeout(BodyTimeout):
    """The head of the request did not arrive within {seconds} seconds."""

    code = "head-timeout"
    zh = "请求头未在 {seconds} 秒内到达。"


class AddressTooLong(LedgerError):
    """An address may have {limit} bytes at most."""

    code = "address-too-long"
    status = 414
    zh = "地址不得超过 {limit} 字节。"


class Misdirected(LedgerError):
    """This server does not answer for the host {host}."""

    code = "misdirected"
    status = 421
    zh = "本服务不对主机 {host} 作答。"


class TooManyRequests(LedgerError):
    """{what}: more than {requests} requests in {seconds} seconds. Again in {wait} seconds."""

    code = "too-many-requests"
    status = 429
    zh = "{what}：{seconds} 秒内的请求超过 {requests} 个，请在 {wait} 秒后重试。"


class HeadTooLarge(LedgerError):
    """The head of a request may have {fields} fields and {limit} bytes at most."""

    code = "head-too-large"
    status = 431
    zh = "请求头不得超过 {fields} 个字段、{limit} 字节。"


class Busy(Unavailable):
    """Every connection to the database is in use; nothing was recorded. Try again."""

    code = "busy"
    zh = "数据库连接均被占用，未作任何记录，请稍后重试。"


class TooSlow(Unavailable):
    """The database took too long to find the answer and was stopped. Ask for less."""

    code = "too-slow"
    zh = "数据库查询耗时过长，已被中止；请缩小查询范围。"


class TooManyConnections(LedgerError):
    """{limit} connections are open already; try again later."""

    code = "too-many-connections"
    status = 503
    zh = "已有 {limit} 个连接打开，请稍后重试。"
