"""The history of one invented provider: what was decided when, and when it was recorded.

A story is a list of steps in the order of their recording. A step that concerns an earlier one
names it, since the event's id is known only when the earlier one has been recorded. Every step is a
command the ledger accepts: what the rulebook says of severities, families and periods is read from
the rulebook. What would be recorded after the last day is left out, so a story may end in the
middle of an appeal, as real ones do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Any

from api.demo.invented import LISTING_ARTICLE, Company, article_of, body
from api.demo.step import NOT_YET, Found, Step
from ledger import acts, events, findings, provider, status
from ledger.events import Data, Issuer, TargetFields
from ledger.evidence import EvidenceDigest
from ledger.proposal import (
    NEEDS_TWO,
    ApproveProposal,
    RefuseProposal,
    Verdict,
    WithdrawProposal,
)
from ledger.rulebook import Rulebook

CUSTODIAN = "DEMO-REGISTRY"
LONGEST_LAG_DAYS = 9
DECIDED_AFTER_DAYS = 2
"""The second officer decides so many days after the first has proposed."""

WITHDRAWS: dict[type[Data], bool] = {
    acts.OverturnDecision: True,
    acts.GrantRepair: True,
    acts.RevokeRepair: False,
}
"""Whether an act takes a finding out of sight before its time, or brings it back."""


@dataclass(slots=True)
class Story:
    """A provider's history in the making."""

    random: Random
    company: Company
    rulebook: Rulebook
    number: int
    last: date
    steps: list[Step] = field(default_factory=list)
    _count: int = 0
    _clients: list[str] = field(default_factory=list)
    _documents: set[str] = field(default_factory=set)
    _settled: dict[str, date] = field(default_factory=dict)
    _shown: list[Found] = field(default_factory=list)
    _withdrawn: dict[str, list[tuple[date, bool]]] = field(default_factory=dict)

    def told(self) -> list[Step]:
        """The steps up to the last day, in the order of their recording."""
        steps = [*self.steps, *self._ends()]
        return sorted((step for step in steps if step.on <= self.last), key=lambda step: step.on)

    def days(self, since: date, least: int, most: int) -> Iterator[date]:
        """Days up to the last, so many days apart."""
        on = since + timedelta(days=self.random.randint(0, most))
        while on <= self.last:
            yield on
            on += timedelta(days=self.random.randint(least, most))

    def ago(self, least: int, most: int) -> date:
        """A day so many days before the last."""
        return self.last - timedelta(days=self.random.randint(least, most))

    def register(self, on: date, *, admitted: bool = True) -> date:
        """Registration, and admission some weeks later; the day of admission."""
        company = self.company
        registered = events.ProviderRegistered(
            name=company.name, entity_kind=company.entity_kind, origin="APPLICATION"
        )
        self._add(on, registered)
        decided = self._later(on, 6, 30)
        if admitted:
            made = self._decision("REGULATOR", decided, "准入")
            self._add(self._recorded(decided), events.ProviderAdmitted(**made, decided_on=decided))
        return decided

    def contract(self, on: date, *, regular: bool = False) -> None:
        """A contract performed to its end; a regular client is one that was there before."""
        if not self._clients or not regular:
            self._clients.append(self._ref())
        done: dict[str, Any] = {
            "contract": f"HT{on.year}-{self.number:05d}-{self._next()}",
            "counterparty": self.random.choice(self._clients) if regular else self._clients[-1],
            "on": on,
            "evidence": [self._evidence()],
        }
        self._add(self._recorded(on), events.ContractCompleted(**done))

    def inspection(self, on: date, result: Any) -> None:
        """An inspection with counts that fit its result."""
        critical, serious, minor = {
            "CLEAN": (0, 0, 0),
            "MINOR": (0, 0, self.random.randint(1, 4)),
            "FINDING": (self.random.randint(0, 1), self.random.randint(1, 3), 2),
        }.get(result, (0, 0, 0))
        where = body("REGULATOR", self.company.place)
        done = provider.RecordInspection(
            inspection=f"JC{on.year}-{self.number:05d}-{self._next()}",
            on=on,
            result=result,
            critical_count=critical,
            serious_count=serious,
            minor_count=minor,
            issuer=Issuer(kind=where.kind, name=where.name),
            evidence=[self._evidence()],
        )
        self._add(self._recorded(on), done)

    def reward(self, on: date, item: str, kind: str) -> Found:
        """A merit other than a contract or an inspection."""
        made = self._decision(kind, on, "表彰")
        consent = self.random.random() < 0.8
        name, recorded = self._name("reward"), self._recorded(on)
        self._add(
            recorded,
            events.RewardGranted(**made, item=item, on=on, consent=consent),
            name,
        )
        return Found(name, recorded, on, "", date.max, body(kind, self.company.place))

    def penalty(self, decided: date, family: str, severity: str, kind: str, **more: Any) -> Found:
        """A penalty. `more`: incident, obligation, mitigation, shortest, late."""
        name, fields = self._finding(decided, family, severity, kind, "处罚", **more)
        recorded = self._recorded(decided, late=bool(more.get("late")))
        self._add(recorded, findings.ImposePenalty(**fields), name)
        return self._found(name, recorded, fields)

    def breach(self, decided: date, ground: Any, family: str, severity: str) -> Found:
        """A breach confirmed on a ground; the rulebook says by what kind of body."""
        kind = self.rulebook.items.breach_issuers[ground]
        name, fields = self._finding(decided, family, severity, kind, "确认")
        fields["contract"] = f"HT{decided.year}-{self.number:05d}-{self._next()}"
        recorded = self._recorded(decided)
        self._add(recorded, findings.ConfirmBreach(**fields, ground=ground), name)
        return self._found(name, recorded, fields)

    def complaint(self, decided: date, outcome: Any, family: str, kind: str) -> Found | None:
        """What became of a complaint."""
        severity = self.rulebook.items.families[family].default
        name, fields = self._finding(decided, family, severity, kind, "投诉")
        finding = None if outcome == "UNSUBSTANTIATED" else findings.ComplaintFinding(**fields)
        done = provider.RecordComplaintOutcome(
            complaint=f"TS{decided.year}-{self.number:05d}-{self._next()}",
            outcome=outcome,
            decided_on=decided,
            evidence=[self._evidence()],
            finding=finding,
        )
        recorded = self._recorded(decided)
        self._add(recorded, done, name)
        return None if finding is None else self._found(name, recorded, fields)

    def listing(self, on: date) -> Found:
        """Entry in the severe list: proposed by one officer, approved by the other."""
        made = self._decision("REGULATOR", on, "列严")
        name = self._name("listing")
        command = events.SevereListEntered(**made, listed_on=on, law_article=LISTING_ARTICLE)
        recorded = self._by_two(self._recorded(on), command, name, second=True)
        where = body("REGULATOR", self.company.place)
        return Found(name, recorded, on, "", date.max, where, by_second=True)

    def act(self, command: type[TargetFields], found: Found, on: date, matter: str) -> date:
        """A later decision about a fact, not before the last one was recorded; its day."""
        on = max(on, self._settled.get(found.name, found.recorded))
        made = self._decision(found.where.kind, on, matter)
        recorded, given = self._recorded(on), command(**made, target=NOT_YET, on=on)
        if command in NEEDS_TWO:
            # Who recorded it proposes: nobody decides on the overturning of their own record.
            first = found.by_second
            name = self._name("overturning")
            recorded = self._by_two(recorded, given, name, target=found.name, second=not first)
        else:
            self._add(recorded, given, target=found.name)
        self._settled[found.name] = recorded
        if command in WITHDRAWS:
            self._withdrawn.setdefault(found.name, []).append((recorded, WITHDRAWS[command]))
        return on

    def repair(self, found: Found, *, after_days: int) -> date:
        """Repair granted so many days after it is first possible; its day."""
        shortest, _ = self.rulebook.publicity_ends(found.severity, found.decided)
        on = max(shortest, found.recorded) + timedelta(days=after_days)
        return self.act(acts.GrantRepair, found, on, "修复")

    def suspend(self, decided: date, reason: Any) -> None:
        """The admission is suspended."""
        made = self._decision("REGULATOR", decided, "暂停")
        self._add(
            self._recorded(decided),
            events.ProviderSuspended(**made, decided_on=decided, reason=reason),
        )

    def resume(self, decided: date) -> None:
        """The suspended admission is resumed."""
        made = self._decision("REGULATOR", decided, "恢复")
        self._add(
            self._recorded(decided),
            status.ResumeProvider(**made, decided_on=decided),
        )

    def exit(self, decided: date, reason: Any) -> None:
        """The provider leaves the trade."""
        made = self._decision("REGULATOR", decided, "退出")
        self._add(
            self._recorded(decided),
            events.ProviderExited(**made, decided_on=decided, reason=reason),
        )

    def _finding(
        self, decided: date, family: str, severity: str, kind: str, matter: str, **more: Any
    ) -> tuple[str, dict[str, Any]]:
        rule = self.rulebook.items.families[family]
        earliest, latest = self.rulebook.publicity_ends(severity, decided)
        fields = self._decision(kind, decided, matter) | {
            "incident": more.get("incident") or f"SJ{self.number:05d}-{self._next()}",
            "category": rule.category,
            "family": family,
            "severity": severity,
            "severity_reason": None if severity == rule.default else self._evidence(),
            "law_article": article_of(self.random, family),
            "occurred_on": decided - timedelta(days=self.random.randint(25, 150)),
            "decided_on": decided,
            "served_on": self._later(decided, 0, 7),
            "mitigation": list(more.get("mitigation", ())),
            "obligation": bool(more.get("obligation")),
            "public_until": earliest if more.get("shortest") else latest,
        }
        return self._name("finding"), fields

    def _found(self, name: str, recorded: date, fields: Mapping[str, Any]) -> Found:
        found = Found(
            name,
            recorded,
            fields["decided_on"],
            fields["severity"],
            fields["public_until"],
            body(fields["issuer"].kind, self.company.place),
        )
        if self.rulebook.items.severities[found.severity].publicity == "SINGLY":
            self._shown.append(found)
        return found

    def _ends(self) -> Iterator[Step]:
        """The end of each display, recorded on its day as the worker does."""
        for found in self._shown:
            on = max(found.public_until, found.recorded + timedelta(days=1))
            for day, withdrawn in self._withdrawn.get(found.name, []):
                if withdrawn and day <= on:
                    on = date.max
                elif not withdrawn and on == date.max:
                    on = max(found.public_until, day + timedelta(days=1))
            yield Step(on, "", provider.EndPublicity(target=NOT_YET), found.name)

    def _decision(self, kind: str, on: date, matter: str) -> dict[str, Any]:
        where = body(kind, self.company.place)
        number = where.document_no(self.random, on.year, matter)
        while number in self._documents:
            number = where.document_no(self.random, on.year, matter)
        self._documents.add(number)
        return {
            "issuer": Issuer(kind=where.kind, name=where.name),
            "document_no": number,
            "evidence": [self._evidence()],
        }

    def _evidence(self) -> EvidenceDigest:
        return EvidenceDigest(
            sha256=self.random.randbytes(32).hex(),
            media_type="application/pdf",
            size_bytes=self.random.randint(20_000, 900_000),
            custodian=CUSTODIAN,
        )

    def _ref(self) -> str:
        text = f"{self.random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"

    def _recorded(self, on: date, *, late: bool = False) -> date:
        days = self.random.randint(35, 70) if late else self.random.randint(0, LONGEST_LAG_DAYS)
        return on + timedelta(days=days)

    def _later(self, on: date, least: int, most: int) -> date:
        return on + timedelta(days=self.random.randint(least, most))

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _name(self, what: str) -> str:
        return f"{what}-{self._next()}"

    def in_vain(self, found: Found, on: date, matter: str, verdict: type[Verdict]) -> None:
        """One officer proposes to overturn, and it comes to nothing: refused, or taken back."""
        on = max(on, self._settled.get(found.name, found.recorded))
        made = self._decision(found.where.kind, on, matter)
        name, first = self._name("proposal"), found.by_second
        command = acts.OverturnDecision(**made, target=NOT_YET, on=on)
        self.steps.append(Step(on, name, command, found.name, second=first))
        decided = on + timedelta(days=DECIDED_AFTER_DAYS)
        reason = {"reason": "NOT_PROVEN"} if verdict is RefuseProposal else {}
        given = verdict.model_validate({"proposal": NOT_YET, **reason})
        second = first if verdict is WithdrawProposal else not first
        self.steps.append(Step(decided, "", given, name, second=second))
        self._settled[found.name] = decided

    def _by_two(
        self, on: date, command: Data, name: str, *, second: bool, target: str = ""
    ) -> date:
        """Propose a command, and let the other officer (`second`) approve it; the day he does."""
        proposal, approved = f"{name}-proposal", on + timedelta(days=DECIDED_AFTER_DAYS)
        self.steps.append(Step(on, proposal, command, target, second=not second))
        approval = ApproveProposal(proposal=NOT_YET)
        self.steps.append(Step(approved, name, approval, proposal, second=second))
        return approved

    def _add(self, on: date, command: Data, name: str = "", *, target: str = "") -> None:
        self.steps.append(Step(on, name, command, target))
