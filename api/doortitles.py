"""What the problems of `api/doorrefusals.py` are called and what to do about each, by its code."""

from __future__ import annotations

from ledger.errors import Words

AGAIN = Words(
    "Send the same request again after the seconds in Retry-After.",
    "请在 Retry-After 给出的秒数之后重发同一请求。",
)


def _title(en: str, zh: str, advice: Words) -> tuple[Words, Words]:
    return Words(en, zh), advice


DOOR: dict[str, tuple[Words, Words]] = {
    "malformed": _title(
        "No readable request",
        "请求无法解读",
        Words("Send valid HTTP/1.1.", "请发送合格的 HTTP/1.1 请求。"),
    ),
    "host-missing": _title(
        "No host named", "未写明主机", Words("Send one header Host.", "请发送一个 Host 请求头。")
    ),
    "too-many-parameters": _title(
        "Too many parameters", "查询参数过多", Words("Ask for less.", "请减少查询参数。")
    ),
    "head-timeout": _title("Head too slow", "请求头传输过慢", AGAIN),
    "address-too-long": _title(
        "Address too long", "地址过长", Words("Ask for less.", "请缩短地址。")
    ),
    "misdirected": _title(
        "Not for this server",
        "主机不符",
        Words(
            "Use a name of this server; its operator lists them in CHENGXIN_HOSTS.",
            "请使用本服务的主机名；运维人员在 CHENGXIN_HOSTS 中列出。",
        ),
    ),
    "too-many-requests": _title("Too many requests", "请求过于频繁", AGAIN),
    "head-too-large": _title(
        "Head too large", "请求头过大", Words("Send fewer and shorter headers.", "请减少请求头。")
    ),
    "busy": _title("Busy", "系统繁忙", AGAIN),
    "too-slow": _title(
        "Stopped as too slow",
        "查询超时",
        Words("Ask for less, or more precisely.", "请缩小范围，或使用更确切的条件。"),
    ),
    "too-many-connections": _title("Too many connections", "连接过多", AGAIN),
}
