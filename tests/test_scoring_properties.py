"""What must always hold for the score (scoring.md, last sections), over whole histories.

Properties 1 to 11 are numbered as there (11 in its pure form, 12 belongs to the service); then
`next_change`, and a second, deliberately naive implementation written from the text alone.
"""

import re
from bisect import bisect_right
from calendar import monthrange
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ledger.calendar import add_months, before_window, whole_months, window_leaves
from projections.case import parse_fact
from projections.forecast import next_change, summarise
from projections.scoring import Summary, score, score_line
from tests.strategies import (
    END_OF_TIME,
    History,
    Json,
    act,
    days,
    demerits,
    histories,
    listing,
    merits,
    parse,
    score_days,
    score_of,
)

ONE_RULEBOOK = histories(rulebooks=1)
few = settings(deadline=None, max_examples=100)
many = settings(deadline=None, max_examples=180)
SUMMARY = ["score", "grade", "band_of_number", "underlying_score", "evidence_count", "confidence"]
SUMMARY += ["top_reasons", "rulebook"]


def summary(result: Any) -> dict[str, Any]:
    """What is shown of a score without its explanation."""
    return {name: result[name] for name in SUMMARY}


@few
@given(histories(), score_days, st.randoms(use_true_random=False))
def test_1_the_order_of_the_facts_changes_nothing(history: History, as_of: date, rng: Any) -> None:
    shuffled = list(history.facts)
    rng.shuffle(shuffled)
    before = score_of(history.facts, history.rulebooks, as_of)
    assert orjson.dumps(score_of(shuffled, history.rulebooks[::-1], as_of)) == orjson.dumps(before)


@few
@given(histories(), score_days, days)
def test_2_the_recording_day_changes_nothing_once_all_is_known(
    history: History, as_of: date, recorded_on: date
) -> None:
    other = [{**fact, "recorded_on": recorded_on.isoformat()} for fact in history.facts]
    assert score_of(other, history.rulebooks, as_of) == score_of(
        history.facts, history.rulebooks, as_of
    )


@few
@given(histories(recorded=True), score_days, days)
def test_a_fact_not_yet_known_is_as_good_as_absent(
    history: History, as_of: date, known_at: date
) -> None:
    parsed, scales = parse(history.facts, history.rulebooks)
    known = [fact for fact in parsed if fact.recorded_on <= known_at]
    at_day = score(parsed, scales, as_of=as_of, known_at=known_at)
    at_position = score(known, scales, as_of=as_of, known_at=7)
    assert at_position["known_at"] == 7
    assert {**at_day, "known_at": 7} == at_position


@many
@given(ONE_RULEBOOK, demerits("d-new"), score_days)
def test_3_another_demerit_never_raises_the_score(
    history: History, another: Json, as_of: date
) -> None:
    less = score_of(history.facts, history.rulebooks, as_of)
    more = score_of([*history.facts, another], history.rulebooks, as_of)
    assert Decimal(more["score"]) <= Decimal(less["score"])
    assert Decimal(more["underlying_score"]) <= Decimal(less["underlying_score"])


@many
@given(ONE_RULEBOOK, merits("m-new"), score_days)
def test_4_another_merit_never_lowers_the_score(
    history: History, another: Json, as_of: date
) -> None:
    less = score_of(history.facts, history.rulebooks, as_of)
    more = score_of([*history.facts, another], history.rulebooks, as_of)
    assert Decimal(more["score"]) >= Decimal(less["score"])
    assert Decimal(more["underlying_score"]) >= Decimal(less["underlying_score"])


@few
@given(histories(), merits("m-new"), days, st.integers(0, 2000))
def test_5_no_merit_lifts_a_veto(history: History, another: Json, day: date, later: int) -> None:
    facts = [*history.facts, listing("v-new", day.isoformat()), another]
    result = score_of(facts, history.rulebooks, day + timedelta(days=later))
    assert (result["score"], result["grade"]) == ("0.00", "X")
    assert result["adjustments"][-1]["reason"] == "VETO"


@many
@given(histories(), score_days, days)
def test_6_overturning_a_demerit_gives_the_score_without_it(
    history: History, as_of: date, on: date
) -> None:
    found = [fact["id"] for fact in history.facts if fact["kind"] == "demerit"]
    assume(found)
    for fact_id in found:
        overturned = [*history.facts, act("a-new", fact_id, "overturned", on.isoformat())]
        without = [f for f in history.facts if fact_id not in (f["id"], f.get("target"))]
        assert summary(score_of(overturned, history.rulebooks, as_of)) == summary(
            score_of(without, history.rulebooks, as_of)
        )


@many
@given(histories(rulebooks=1, only_demerits=True), score_days, st.integers(1, 1500))
def test_7_time_alone_never_lowers_the_score_of_demerits(
    history: History, as_of: date, later: int
) -> None:
    becoming_effective = [
        date.fromisoformat(fact.get("served_on") or fact["on"]) for fact in history.facts
    ]
    limit = min((day for day in becoming_effective if day > as_of), default=END_OF_TIME)
    then = min(as_of + timedelta(days=later), limit - timedelta(days=1))
    now_score = score_of(history.facts, history.rulebooks, as_of)["score"]
    then_score = score_of(history.facts, history.rulebooks, then)["score"]
    assert Decimal(then_score) >= Decimal(now_score)


@many
@given(histories(), score_days)
def test_8_the_explanation_closes(history: History, as_of: date) -> None:
    result = score_of(history.facts, history.rulebooks, as_of)
    lines = [line["points"] for line in result["contributions"] + result["adjustments"]]
    for amount in [result["baseline"], result["score"], result["underlying_score"], *lines]:
        assert isinstance(amount, str)
        assert re.fullmatch(r"(?!-0\.00)-?[0-9]+\.[0-9][0-9]", amount)
    explained = sum((Fraction(points) for points in lines), Fraction(result["baseline"]))
    assert explained == Fraction(result["score"])
    ids = [line["fact"] for line in result["contributions"]]
    scoring = [f["id"] for f in history.facts if f["kind"] in ("demerit", "merit")]
    assert ids == sorted(scoring)


@many
@given(histories(), score_days, st.randoms(use_true_random=False))
def test_9_renaming_changes_no_score_grade_or_evidence(
    history: History, as_of: date, rng: Any
) -> None:
    fields = ("id", "target", "incident", "counterparty")
    names = {fact[name] for fact in history.facts for name in fields if fact.get(name)}
    shuffled = [f"甲{n:03}" for n in range(len(names))]
    rng.shuffle(shuffled)
    new = dict(zip(sorted(names), shuffled, strict=True))
    renamed = [
        {k: new[v] if k in fields and v is not None else v for k, v in fact.items()}
        for fact in history.facts
    ]
    before = score_of(history.facts, history.rulebooks, as_of)
    after = score_of(renamed, history.rulebooks, as_of)
    assert len(after["top_reasons"]) == len(before["top_reasons"])
    assert {**summary(after), "top_reasons": None} == {**summary(before), "top_reasons": None}


@many
@given(histories(), days, st.integers(1, 900))
def test_10_repair_acts_forward_only(history: History, on: date, before: int) -> None:
    found = [fact["id"] for fact in history.facts if fact["kind"] == "demerit"]
    assume(found)
    as_of = on - timedelta(days=before)
    for fact_id in found:
        repaired = [*history.facts, act("a-new", fact_id, "repaired", on.isoformat())]
        assert score_of(repaired, history.rulebooks, as_of) == score_of(
            history.facts, history.rulebooks, as_of
        )


@few
@given(histories(recorded=True), score_days, days)
def test_11_written_out_and_read_again_it_is_the_same_bytes(
    history: History, as_of: date, known_at: date
) -> None:
    case = {
        "facts": history.facts,
        "rulebooks": history.rulebooks,
        "as_of": as_of.isoformat(),
        "known_at": known_at.isoformat(),
    }
    direct = orjson.dumps(score_of(history.facts, history.rulebooks, as_of, known_at))
    line = orjson.dumps(case)
    assert score_line(line) == (direct, True)
    assert score_line(orjson.dumps(orjson.loads(line), option=orjson.OPT_SORT_KEYS)) == (
        direct,
        True,
    )


# --- next_change ---------------------------------------------------------------------------------

DAYS_LOOKED_AT = 500


@many
@given(histories(), score_days)
def test_until_next_change_every_day_has_the_same_summary(history: History, as_of: date) -> None:
    facts, scales = parse(history.facts, history.rulebooks)
    until = next_change(facts, scales, as_of=as_of)
    assert until is None or until > as_of
    last = as_of + timedelta(days=DAYS_LOOKED_AT)
    last = last if until is None else min(last, until - timedelta(days=1))
    now = summary(score(facts, scales, as_of=as_of, known_at=0))
    while last > as_of:
        assert summary(score(facts, scales, as_of=last, known_at=0)) == now
        last -= timedelta(days=1)


@few
@given(histories(), score_days)
def test_a_summary_is_the_score_unexplained_and_when_it_changes(
    history: History, as_of: date
) -> None:
    facts, scales = parse(history.facts, history.rulebooks)
    told, change = summarise(facts, scales, as_of=as_of)
    explained: dict[str, Any] = dict(score(facts, scales, as_of=as_of, known_at=0))
    assert told == {name: explained[name] for name in Summary.__annotations__}
    assert change == next_change(facts, scales, as_of=as_of)


@many
@given(histories(), score_days)
def test_next_change_leads_to_the_end_in_few_steps(history: History, as_of: date) -> None:
    """A sweep visits a bounded number of days for each fact, and the last summary stays."""
    facts, scales = parse(history.facts, history.rulebooks)
    visited = 0
    day: date | None = as_of
    last = as_of
    while day is not None:
        last, visited = day, visited + 1
        day = next_change(facts, scales, as_of=day)
    assert visited <= 1 + len(history.rulebooks) + 14 * len(facts)
    final = summary(score(facts, scales, as_of=last, known_at=0))
    for years in (1, 3, 10, 100):
        later = last + timedelta(days=366 * years)
        assert summary(score(facts, scales, as_of=later, known_at=0)) == final


# --- The calendar of months ----------------------------------------------------------------------


@given(st.dates(), st.dates())
def test_whole_months_is_the_largest_n(a: date, b: date) -> None:
    n = whole_months(a, b)
    if b < a:
        assert n == -1
        return
    assert add_months(a, n) <= b
    assert add_months(a, n + 1) > b or naive_add(a, n + 1) is None


@given(st.dates(), st.integers(-150_000, 150_000))
def test_add_months_clamps(day: date, months: int) -> None:
    wanted = naive_add(day, months)
    assert add_months(day, months) == wanted or (
        wanted is None and add_months(day, months) == (date.min if months < 0 else date.max)
    )


@given(days, st.sampled_from([0, 1, 2, 11, 12, 24, 200_000, 10**9]))
def test_a_day_is_in_the_window_until_it_leaves(day: date, months: int) -> None:
    leaves = window_leaves(day, months)
    if leaves is None:
        assert naive_add(day, months) is None
        return
    assert not in_window(day, months, leaves)
    assert leaves == day or in_window(day, months, leaves - timedelta(days=1))


def in_window(day: date, months: int, end: date) -> bool:
    """Whether `day` is in `(end - months, end]`, by the fast implementation."""
    before = before_window(end, months)
    return day <= end and (before is None or day > before)


# --- A second implementation, naive on purpose ---------------------------------------------------


def naive_add(day: date, months: int) -> date | None:
    """Months one by one over the text: clamp to the last day of a short month."""
    month = day.month - 1 + months
    year = day.year + month // 12
    if not 1 <= year <= 9999:
        return None
    return date(year, month % 12 + 1, min(day.day, monthrange(year, month % 12 + 1)[1]))


def naive_months(a: date, b: date) -> int:
    n = -1
    while (moved := naive_add(a, n + 1)) is not None and moved <= b:
        n += 1
    return n


def half_up(exact: Fraction) -> Fraction:
    return Fraction((exact * 100 + Fraction(1, 2)).__floor__(), 100)


def product_text(texts: list[str]) -> str:
    """The plain decimal product: as many places as all factors have together."""
    if len(texts) <= 1:
        return texts[0] if texts else "1"
    digits, places = 1, 0
    for text in texts:
        digits *= int(text.replace(".", ""))
        places += len(text.partition(".")[2])
    padded = str(digits).rjust(places + 1, "0")
    return f"{padded[:-places]}.{padded[-places:]}" if places else padded


class Naive:
    """scoring.md once more: brute force over days and pairs, fractions instead of decimals."""

    def __init__(self, history: History, as_of: date) -> None:
        self.as_of = as_of
        self.rulebooks = sorted(history.rulebooks, key=lambda r: str(r["in_force_from"]))
        self.acts = [fact for fact in history.facts if fact["kind"] == "act"]
        self.facts = [fact for fact in history.facts if fact["kind"] != "act"]
        self.flags: set[str] = set()

    def rulebook(self, day: str) -> Json:
        starts = [str(r["in_force_from"]) for r in self.rulebooks]
        return self.rulebooks[max(0, bisect_right(starts, day) - 1)]

    def is_overturned(self, fact: Json) -> bool:
        return any(a["target"] == fact["id"] and a["act"] == "overturned" for a in self.acts)

    def in_force(self, fact: Json, entering: str, leaving: str, day: date) -> bool:
        mine = [a for a in self.acts if a["target"] == fact["id"] and a["on"] <= day.isoformat()]
        entered = [a["on"] for a in mine if a["act"] == entering]
        left = [a["on"] for a in mine if a["act"] == leaving]
        return bool(entered) and (not left or max(entered) > max(left))

    def suspended(self, fact: Json, day: date) -> bool:
        return self.in_force(fact, "suspended", "resumed", day)

    def repaired(self, fact: Json) -> bool:
        return self.in_force(fact, "repaired", "repair_revoked", self.as_of)

    def months(self, fact: Json) -> int:
        served = day = date.fromisoformat(fact["served_on"])
        still = 0
        while day < self.as_of:
            still += self.suspended(fact, day)
            day += timedelta(days=1)
        return naive_months(served + timedelta(days=still), self.as_of)

    def prior(self, fact: Json, book: Json) -> int:
        occurred = date.fromisoformat(fact["occurred_on"])
        opens = naive_add(occurred, -book["recidivism_window_months"])
        incidents = set()
        for other in self.facts:
            if other["kind"] != "demerit" or other["family"] != fact["family"]:
                continue
            if other["incident"] == fact["incident"] or self.is_overturned(other):
                continue
            if self.suspended(other, self.as_of) or other["severity"] == "S0":
                continue
            if Fraction(book["issuer_weight"][other["issuer"]]) != 1:
                continue
            if self.repaired(other) and not book["repaired_counts_for_recidivism"]:
                continue
            served = date.fromisoformat(other["served_on"])
            if (opens is None or served > opens) and served <= occurred:
                incidents.add(other["incident"])
        return len(incidents)

    def compute(self, fact: Json, book: Json) -> tuple[Fraction, Json, bool]:
        n = 1 + self.prior(fact, book)
        recid = book["recidivism"][min(n, len(book["recidivism"])) - 1]
        mitig = product_text([book["mitigation"][m] for m in sorted(set(fact["mitigation"]))])
        if Fraction(book["mitigation_floor"]) > Fraction(mitig):
            mitig = book["mitigation_floor"]
        if fact["severity"] == "S4":
            mitig = "1"
        months, w, raised = self.months(fact), "0", False
        for upto, weight in reversed(book["weights"][fact["severity"]]):
            if months < upto:
                w = weight
        if fact["obligation"] and not self.in_force(
            fact, "fulfilled", "fulfilment_revoked", self.as_of
        ):
            raised = Fraction(book["obligation_floor"]) > Fraction(w)
            w = book["obligation_floor"] if raised else w
        ended = date.fromisoformat(fact.get("ended_on") or fact["occurred_on"])
        if naive_months(ended, self.as_of) >= book["adverse_life_months"]:
            w, raised = "0", False
        base = book["severity_points"][fact["severity"]]
        issuer = book["issuer_weight"][fact["issuer"]]
        factors = (base, issuer, recid, mitig, w)
        d = Fraction(1)
        for factor in factors:
            d *= Fraction(factor)
        line = {"base": base, "issuer_weight": issuer, "recidivism_n": n, "recidivism_x": recid}
        line |= {"mitigation_x": mitig, "months": months, "time_weight": w}
        return half_up(d), {**line, "rulebook": book["version"]}, raised

    def demerit(self, fact: Json) -> tuple[Fraction, Json]:
        """What one demerit costs before incidents are merged, and its line."""
        if self.is_overturned(fact):
            return Fraction(0), {"fact": fact["id"], "reason": "OVERTURNED"}
        if self.as_of.isoformat() < fact["served_on"]:
            return Fraction(0), {"fact": fact["id"], "reason": "NOT_YET_EFFECTIVE"}
        books = (self.rulebook(fact["occurred_on"]), self.rulebook(fact["decided_on"]))
        d, line, raised = min(
            (self.compute(fact, book) for book in books), key=lambda c: (c[0], c[1]["rulebook"])
        )
        head = {k: fact[k] for k in ("category", "severity", "issuer")}
        line = {"fact": fact["id"], **head, **line}
        if self.repaired(fact):
            reason = "REPAIRED"
        elif self.suspended(fact, self.as_of):
            reason = "SUSPENDED_BY_REVIEW"
        elif Fraction(line["base"]) == 0:
            reason = "RECORD_ONLY"
        elif Fraction(line["time_weight"]) == 0:
            reason = "EXPIRED"
        else:
            reason = "ACTIVE+OBLIGATION_FLOOR" if raised else "ACTIVE"
            full = Fraction(line["issuer_weight"]) == 1
            at_one = Fraction(line["time_weight"]) == 1
            if fact["severity"] == "S4" and full:
                self.flags.add("S4" if at_one else "S4_fading")
            elif fact["severity"] in ("S3", "S4"):
                s3 = fact["severity"] == "S3" and full and at_one
                self.flags.add("S3" if s3 else "S3_fading")
        return d if reason.startswith("ACTIVE") else Fraction(0), {**line, "reason": reason}

    def deductions(self) -> tuple[list[Json], list[Json], Fraction, list[str]]:
        """Lines, adjustments, Σ D and top reasons of all demerits."""
        demerits = [fact for fact in self.facts if fact["kind"] == "demerit"]
        costs, lines, adjustments = {}, {}, []
        for fact in demerits:
            costs[fact["id"]], lines[fact["id"]] = self.demerit(fact)
        by_category: dict[str, list[list[Json]]] = defaultdict(list)
        for incident in {fact["incident"] for fact in demerits}:
            members = [f for f in demerits if f["incident"] == incident and costs[f["id"]] > 0]
            if members:
                by_category[members[0]["category"]].append(members)
        cap = Fraction(self.rulebook(self.as_of.isoformat())["minor_cap_per_category"])
        total = Fraction(0)
        for category, incidents in sorted(by_category.items()):
            small = grave = looked_at = Fraction(0)
            for members in incidents:
                members.sort(key=lambda f: (-costs[f["id"]], f["severity"], f["id"]))
                minor = [f for f in members if f["severity"] < "S3"]
                looked_at += max([costs[f["id"]] for f in minor], default=Fraction(0))
                if len(minor) == len(members):
                    small += costs[members[0]["id"]]
                else:
                    grave += costs[members[0]["id"]]
                for beaten in members[1:]:
                    costs[beaten["id"]] = Fraction(0)
                    lines[beaten["id"]]["reason"] = "SAME_INCIDENT"
            if looked_at > cap:
                self.flags.add("minor_cap")
            total += min(small, cap) + grave
            if small > cap:
                points = small - cap
                adjustments.append({"reason": f"MINOR_CAP:{category}", "points": points})
        for fact_id, line in lines.items():
            line["points"] = -costs[fact_id]
        worst = sorted((f for f in demerits if costs[f["id"]]), key=lambda f: f["id"])
        worst.sort(key=lambda f: -costs[f["id"]])
        top = [f"{f['id']}:{f['severity']}:{f['category']}" for f in worst[:4]]
        return [lines[i] for i in sorted(lines)], adjustments, total, top

    def removal(self) -> str | None:
        listed = [f for f in self.facts if f["kind"] == "listing" and not self.is_overturned(f)]
        ids = {fact["id"] for fact in listed}
        removed = [a["on"] for a in self.acts if a["act"] == "removed" and a["target"] in ids]
        return max((on for on in removed if on <= self.as_of.isoformat()), default=None)

    def veto(self) -> bool:
        today = self.as_of.isoformat()
        for fact in self.facts:
            if fact["kind"] == "listing" and not self.is_overturned(fact):
                removed = any(
                    a["target"] == fact["id"] and a["act"] == "removed" and a["on"] <= today
                    for a in self.acts
                )
                if fact["listed_on"] <= today and not removed:
                    return True
        return False

    def merits(self) -> tuple[list[Json], list[Json], Fraction]:
        """Lines, adjustments and the total of all merits; after the deductions' flags."""
        found = sorted(
            (f for f in self.facts if f["kind"] == "merit"), key=lambda f: (f["on"], f["id"])
        )
        lines, served = {}, set()
        sums: dict[str, Fraction] = defaultdict(Fraction)
        caps: dict[str, Fraction] = {}
        removal = self.removal()
        for fact in found:
            points, valid_months, cap = self.rulebook(fact["on"])["merit"][fact["item"]]
            expires = naive_add(date.fromisoformat(fact["on"]), valid_months)
            who = fact["counterparty"] if fact["item"] == "CONTRACT_COMPLETED" else None
            if self.is_overturned(fact):
                reason = "OVERTURNED"
            elif fact["on"] > self.as_of.isoformat():
                reason = "NOT_YET_EFFECTIVE"
            elif expires is not None and expires <= self.as_of:
                reason = "MERIT_EXPIRED"
            elif removal is not None and fact["on"] < removal:
                reason = "MERIT_BEFORE_DELISTING"
            elif who in served:
                reason = "SAME_COUNTERPARTY"
            else:
                reason = "MERIT"
                served |= {who} - {None}
                sums[fact["item"]] += Fraction(points)
                caps.setdefault(fact["item"], Fraction(cap))
            line = {"fact": fact["id"], "reason": reason, "points": Fraction(0)}
            if reason == "MERIT":
                line |= {"category": fact["item"], "points": Fraction(points)}
            lines[fact["id"]] = line
        adjustments = [
            {"reason": f"MERIT_CAP:{item}", "points": caps[item] - total}
            for item, total in sorted(sums.items())
            if total > caps[item]
        ]
        total = sum((min(sums[item], caps[item]) for item in sums), Fraction(0))
        book = self.rulebook(self.as_of.isoformat())
        limit = Fraction(book["merit_total_cap"])
        if self.flags & {"S3", "S4_fading"}:
            limit = Fraction(book["merit_cap_active_S3"])
        if "S4" in self.flags or self.veto():
            limit = Fraction(book["merit_cap_active_S4"])
        if total > limit:
            adjustments.append({"reason": "MERIT_LIMIT", "points": limit - total})
        return list(lines.values()), adjustments, min(total, limit)

    def evidence(self) -> int:
        book = self.rulebook(self.as_of.isoformat())
        opens = naive_add(self.as_of, -book["evidence_window_months"])
        seen = set()
        for fact in self.facts:
            contract = fact.get("item") == "CONTRACT_COMPLETED"
            if self.is_overturned(fact) or not (contract or fact["kind"] == "inspection"):
                continue
            on = date.fromisoformat(fact["on"])
            inside = (opens is None or opens < on) and on <= self.as_of
            if inside and fact["on"] >= (self.removal() or ""):
                seen.add((fact["kind"], fact["counterparty"] if contract else on))
        return len(seen)

    def result(self) -> Json:
        """Everything in a result, amounts as fractions."""
        book = self.rulebook(self.as_of.isoformat())
        lines, adjustments, total, top = self.deductions()
        merit_lines, merit_adjustments, merit_total = self.merits()
        removal = self.removal()
        if removal is not None:
            since = naive_months(date.fromisoformat(removal), self.as_of)
            self.flags |= {"delisted"} if since < book["delisted_ceiling_months"] else set()
        adjustments += merit_adjustments
        number = Fraction(book["baseline"]) + merit_total - total
        ceiling = min([Fraction(100), *(Fraction(book["ceilings"][f]) for f in self.flags)])
        if number > ceiling:
            adjustments.append({"reason": "SEVERITY_CEILING", "points": ceiling - number})
            number = ceiling
        if number < 0:
            adjustments.append({"reason": "FLOOR_ZERO", "points": -number})
            number = Fraction(0)
        band = max(
            (Fraction(threshold), name)
            for name, threshold in book["bands"]
            if Fraction(threshold) <= number
        )[1]
        evidence = self.evidence()
        confidence = "LOW" if evidence < book["min_evidence"] else "HIGH"
        if confidence == "HIGH" and evidence < book["high_evidence"]:
            confidence = "MEDIUM"
        grade = "N" if confidence == "LOW" and band in ("A", "B") else band
        if self.veto():
            adjustments.append({"reason": "VETO", "points": -number})
        return {
            "as_of": self.as_of.isoformat(),
            "rulebook": book["version"],
            "baseline": Fraction(book["baseline"]),
            "contributions": sorted(lines + merit_lines, key=lambda line: str(line["fact"])),
            "adjustments": adjustments,
            "score": Fraction(0) if self.veto() else number,
            "grade": "X" if self.veto() else grade,
            "band_of_number": band,
            "underlying_score": number,
            "evidence_count": evidence,
            "confidence": confidence,
            "top_reasons": top,
        }


def with_fractions(result: Any) -> Json:
    """A result of the real scorer with its amounts as fractions."""
    plain: Json = {k: v for k, v in result.items() if k != "known_at"}
    for name in ("contributions", "adjustments"):
        plain[name] = [{**line, "points": Fraction(line["points"])} for line in plain[name]]
    amounts = ("baseline", "score", "underlying_score")
    return plain | {name: Fraction(plain[name]) for name in amounts}


@settings(deadline=None, max_examples=300)
@given(histories(only_demerits=True), score_days)
def test_demerits_agree_with_the_naive_reading(history: History, as_of: date) -> None:
    result = score_of(history.facts, history.rulebooks, as_of)
    assert with_fractions(result) == Naive(history, as_of).result()


@settings(deadline=None, max_examples=300)
@given(histories(recorded=False), score_days)
def test_whole_histories_agree_with_the_naive_reading(history: History, as_of: date) -> None:
    result = score_of(history.facts, history.rulebooks, as_of)
    assert with_fractions(result) == Naive(history, as_of).result()


@few
@given(histories())
def test_a_parsed_fact_is_equal_to_itself_written_again(history: History) -> None:
    for fact in history.facts:
        assert parse_fact(fact) == parse_fact(orjson.loads(orjson.dumps(fact)))
