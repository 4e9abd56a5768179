"""One valid body for every write, as the published schema and /docs show it.

All is invented: codes of division 999999, which does not exist. A test sends every one of them.
"""

from __future__ import annotations

import json
from typing import Any

PROVIDER = "91999999MA00TEXT0H"
TARGET = "0198c7a0-0000-7000-8000-00000000002a"

EVIDENCE = [
    {
        "sha256": "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        "media_type": "application/pdf",
        "size_bytes": 24816,
        "custodian": "CN-REG-1",
    }
]
REGULATOR = {"kind": "REGULATOR", "name": "示例市市场监督管理局"}
DECISION = {"issuer": REGULATOR, "document_no": "示市监〔2026〕7号", "evidence": EVIDENCE}
FINDING = {
    **DECISION,
    "incident": "INC-2026-0107",
    "category": "ADVERT",
    "family": "AD_FALSE_CLAIM",
    "severity": "S2",
    "law_article": "《广告法》第五十五条",
    "occurred_on": "2026-01-05",
    "decided_on": "2026-02-10",
    "served_on": "2026-02-12",
    "obligation": True,
}
ON_FACT = {**DECISION, "document_no": "示市监复〔2026〕3号", "on": "2026-03-02"}

EXAMPLES: dict[str, dict[str, Any]] = {
    "RegisterProvider": {
        "identifier": PROVIDER,
        "name": "示例文化传媒有限公司",
        "entity_kind": "ENTERPRISE",
        "origin": "APPLICATION",
    },
    "ProviderAdmitted": {**DECISION, "decided_on": "2026-02-02"},
    "ProviderSuspended": {**DECISION, "decided_on": "2026-02-03", "reason": "INVESTIGATION"},
    "ResumeProvider": {**DECISION, "decided_on": "2026-02-27"},
    "ProviderExited": {**DECISION, "decided_on": "2026-03-02", "reason": "VOLUNTARY"},
    "ImposePenalty": {**FINDING, "mitigation": ["CORRECTED_PROMPTLY"]},
    "RecordComplaintOutcome": {
        "complaint": "TS-2026-0031",
        "outcome": "SUBSTANTIATED",
        "decided_on": "2026-02-10",
        "evidence": EVIDENCE,
        "finding": {
            **FINDING,
            "issuer": {"kind": "PLATFORM", "name": "示例平台"},
            "document_no": "PT-2026-0031",
            "incident": "INC-2026-0031",
            "category": "COMPLAINT",
            "family": "IGNORED_COMPLAINT",
            "law_article": "《平台服务协议》第十二条",
            "obligation": False,
        },
    },
    "ConfirmBreach": {
        **FINDING,
        "issuer": {"kind": "COURT", "name": "示例市人民法院"},
        "document_no": "（2026）示0199民初5号",
        "incident": "INC-2026-0055",
        "category": "CONTRACT",
        "family": "LATE_DELIVERY",
        "law_article": "《民法典》第五百七十七条",
        "obligation": False,
        "contract": "HT-2025-0412",
        "ground": "JUDGMENT",
    },
    "RecordInspection": {
        "inspection": "JC-2026-0018",
        "on": "2026-02-20",
        "result": "MINOR",
        "minor_count": 2,
        "issuer": REGULATOR,
        "evidence": EVIDENCE,
    },
    "RewardGranted": {**DECISION, "item": "REGULATOR_HONOUR", "on": "2026-02-15", "consent": True},
    "ContractCompleted": {
        "contract": "HT-2025-0388",
        "counterparty": "0198c7a0-0000-4000-8000-0000000000c1",
        "on": "2026-02-28",
        "evidence": EVIDENCE,
    },
    "SevereListEntered": {
        **DECISION,
        "listed_on": "2026-02-24",
        "law_article": "《市场监督管理严重违法失信名单管理办法》第五条",
    },
    "ReferralRecorded": {
        "issuer": REGULATOR,
        "referral": "YS-2026-0007",
        "evidence": EVIDENCE,
        "law_article": "《中华人民共和国广告法》第五十五条",
        "referred_on": "2026-02-20",
        "shown_from": "2026-02-24",
        "public_until": "2027-02-24",
    },
    "QualificationVerified": {
        **DECISION,
        "certificate": "网络文化经营许可证",
        "certificate_no": "示网文〔2026〕0388-012号",
        "decided_on": "2026-02-10",
        "valid_from": "2026-02-10",
        "valid_until": "2029-02-09",
    },
    "DecisionOnFact": ON_FACT,
    "ApproveProposal": {},
    "RefuseProposal": {"reason": "NOT_PROVEN"},
    "WithdrawProposal": {},
    "RowCorrection": {"set": {"identifier": PROVIDER}, "why": "与营业执照核对"},
    "RowVerdict": {"why": "与营业执照核对"},
}
"""By the name of the body's schema. A rulebook is too long to show; see `ledger/rulebooks/`."""

LINE: dict[str, Any] = {
    "key": "2026-0018",
    "identifier": PROVIDER,
    "command": "inspection",
    "data": EXAMPLES["RecordInspection"],
    "registration": {"name": "示例文化传媒有限公司", "entity_kind": "ENTERPRISE"},
}
LINE_EXAMPLE = f"{json.dumps(LINE, ensure_ascii=False)}\n"
"""A body of `POST /v1/imports`."""
