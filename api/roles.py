"""The roles in which somebody may act over HTTP, each with its Chinese name. Imports nothing."""

from __future__ import annotations

ROLES: dict[str, str] = {
    "registrar": "登记员",
    "inspector": "检查员",
    "case_officer": "办案人员",
    "legal_reviewer": "法制审核",
    "decision_maker": "决定人",
    "mediator": "调解员",
    "platform": "平台",
    "association": "协会",
    "trainer": "培训机构",
    "client": "委托方",
    "public": "公众",
    "provider": "服务商",
    "auditor": "审计",
    "privacy_officer": "个人信息保护负责人",
    "subscriber": "订阅方",
    "rulebook_editor": "规则编辑",
}
"""Every role a token may carry (domain.md §2). `system`, the worker's own, is not among them."""
