"""The vocabulary and its bytes: canonical, small enough, without a place for anything personal."""

from __future__ import annotations

import json
import re
import types
import typing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

from ledger import (
    access,
    clauses,
    erasure,
    events,
    evidence,
    fields,
    identity,
    privacy,
    private,
    rulebook,
)
from ledger.calendar import SHANGHAI
from ledger.envelope import (
    MAX_EVENT_BYTES,
    MAX_RULEBOOK_BYTES,
    TIME_PLACE,
    TYPE_PREFIX,
    Event,
    decode,
    format_time,
    new_id,
    new_nonce,
    parse_time,
)
from ledger.errors import EventTooLarge, UnknownEventType
from ledger.events import RULEBOOK_STREAM, Data, provider_stream
from ledger.identity import Actor
from ledger.private import Private, groups
from ledger.private import texts as sealed_texts
from ledger.sealing import Commitment, Sealed, SealedAs
from ledger.vocabulary import EVENT_TYPES, json_schema
from tests import given

CORPUS = Path(__file__).parent / "corpus"
NOW = datetime(2026, 3, 2, 1, 30, 0, 123456, tzinfo=UTC)
EVENT_ID = "0198c7a0-1111-7222-8333-444455556666"


UNIONS = (types.UnionType, typing.Union)


def event(data: Data, **changes: Any) -> Event:
    fields: dict[str, Any] = {
        "id": EVENT_ID,
        "stream": provider_stream(given.PROVIDER),
        "version": 7,
        "data": data,
        "actor": given.REGISTRAR,
        "nonce": "AAECAwQFBgcICQoLDA0ODw",
        "subject": given.PROVIDER,
    }
    return Event(**fields | changes)


@cache
def fields_of(model: type[BaseModel]) -> dict[str, Any]:
    """A model's fields with their types as they are written, `Annotated` and all."""
    hints = typing.get_type_hints(model, include_extras=True)
    return {name: hints[name] for name in model.model_fields}


# --- any data of any type ------------------------------------------------------------------------

VISIBLE = st.characters(exclude_categories=["Cc", "Cf", "Cs", "Cn", "Zl", "Zp"])


def texts(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(VISIBLE, min_size=least, max_size=most).filter(
        lambda text: text == text.strip() and not fields.UNPRINTABLE.search(text)
    )


def is_sealed(wanted: Any) -> bool:
    """Whether a type is written `Annotated[…, SealedAs(…)]`."""
    sealed = any(isinstance(note, SealedAs) for note in getattr(wanted, "__metadata__", ()))
    assert sealed == (wanted in SEALED_TYPES)
    return sealed


def commitment(person: UUID, digest: bytes) -> Sealed:
    return Sealed(sealed=Commitment(person=str(person), digest=digest.hex()))


@cache
def values(wanted: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type accepts."""
    if is_sealed(wanted):
        return st.builds(commitment, st.uuids(version=4), st.binary(min_size=32, max_size=32))
    simple = {fields.Day: st.dates(), bool: st.booleans(), type(None): st.none()}
    if wanted in simple:
        return simple[wanted]
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return data_of(wanted)
    if get_origin(wanted) is Literal:
        return st.sampled_from(get_args(wanted))
    if get_origin(wanted) in UNIONS:
        return st.one_of([values(one) for one in get_args(wanted)])
    return limited_values(wanted)


def limited_values(wanted: Any) -> st.SearchStrategy[Any]:
    """Anything within the limits of an `Annotated` list, number or text."""
    bare, *notes = get_args(wanted)
    limits = limits_of(notes)
    if get_origin(bare) is list:
        (inner,) = get_args(bare)
        return st.lists(
            values(inner),
            min_size=limits.get("min_length", 0),
            max_size=min(3, limits["max_length"]),
        )
    if bare is int:
        return st.integers(limits["ge"], limits["le"])
    assert bare is str, wanted
    if pattern := limits.get("pattern"):
        longest = limits.get("max_length", 10**6)
        return st.from_regex(pattern, fullmatch=True).filter(
            lambda text: len(text) <= longest and text.isascii()
        )
    return texts(limits["min_length"], limits["max_length"])


def limits_of(notes: list[Any]) -> dict[str, Any]:
    """All limits among the notes of an `Annotated` type."""
    found: dict[str, Any] = {}
    for note in notes:
        if isinstance(note, StringConstraints):
            found |= {k: v for k, v in vars(note).items() if v is not None}
        for one in getattr(note, "metadata", []):
            found |= {
                name: getattr(one, name)
                for name in ("min_length", "max_length", "ge", "le")
                if hasattr(one, name)
            }
    return found


def data_of(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Any valid instance of a model."""
    parts = {
        name: st.just(given.rulebook()) if name == "rulebook" else values(wanted)
        for name, wanted in fields_of(model).items()
    }
    return st.builds(model, **parts)


moments = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001
    datetime(2199, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@pytest.mark.parametrize("name", EVENT_TYPES)
@settings(max_examples=15)
@for_all(st.data())
def test_bytes_are_canonical_and_read_back_the_same(name: str, data: st.DataObject) -> None:
    one = event(
        data.draw(data_of(EVENT_TYPES[name])),
        stream=RULEBOOK_STREAM,
        correlation=data.draw(st.none() | values(identity.Ref)),
        causation=data.draw(st.none() | values(identity.Ref)),
        subject=data.draw(st.none() | st.just("HK-CR-1234567")),
        time=data.draw(moments),
    )
    state, _ = one.encode()
    plain = json.loads(state)
    assert state == rfc8785.dumps(plain)
    assert decode(state) == one
    assert decode(state).encode() == one.encode()
    assert plain["type"] == f"cn.chengxin.{name}"
    assert plain["dataschema"] == f"urn:chengxin:schema:{name}"
    assert plain["visibility"] in ("public", "party", "officers")


@pytest.mark.parametrize("name", EVENT_TYPES)
@settings(max_examples=5)
@for_all(st.data(), moments)
def test_time_is_stamped_into_its_place(name: str, data: st.DataObject, moment: datetime) -> None:
    one = event(data.draw(data_of(EVENT_TYPES[name])), stream=RULEBOOK_STREAM)
    state, at = one.encode()
    assert state[at : at + len(TIME_PLACE)] == TIME_PLACE.encode()
    assert state[:at].endswith(b'"time":"')
    stamped = state[:at] + format_time(moment).encode() + state[at + len(TIME_PLACE) :]
    assert stamped == replace(one, time=moment).encode()[0]
    assert decode(stamped).time == moment


def test_the_place_of_time_is_found_whatever_the_data_say() -> None:
    trap = '","time":"2026-03-02T01:30:00.000000Z'
    state, at = event(given.register(name=trap), subject=None).encode()
    assert state[:at].count(b'"time":"') == 1
    assert json.loads(state)["data"]["name"] == trap


def test_an_event_carries_what_the_design_lists() -> None:
    penalty = event(
        events.PenaltyImposed.model_validate(
            given.penalty().model_dump(exclude={"public_until"})
            | {"publicity": "SINGLY", "public_until": date(2027, 2, 10), "late_entry": False}
        ),
        time=NOW,
        causation=EVENT_ID,
        correlation=EVENT_ID,
    )
    plain = json.loads(penalty.encode()[0])
    data = plain.pop("data")
    assert plain == {
        "specversion": "1.0",
        "id": EVENT_ID,
        "source": "/streams/provider-91999999MA00TEXT0H",
        "type": "cn.chengxin.penalty.imposed.v1",
        "subject": "91999999MA00TEXT0H",
        "time": "2026-03-02T01:30:00.123456Z",
        "dataschema": "urn:chengxin:schema:penalty.imposed.v1",
        "streamversion": 7,
        "actororg": "CN-REG-1",
        "actorrole": "registrar",
        "actorref": "0198c7a0-0000-7000-8000-000000000001",
        "visibility": "public",
        "nonce": "AAECAwQFBgcICQoLDA0ODw",
        "correlationid": EVENT_ID,
        "causationid": EVENT_ID,
    }
    assert data["occurred_on"] == "2026-01-05"
    assert data["ended_on"] is None


# --- sizes ---------------------------------------------------------------------------------------


def largest(wanted: Any) -> Any:
    """The value of a field that takes the most bytes: four for a character."""
    if wanted is fields.Day:
        return date(2026, 12, 31)
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        held = {name: largest(one) for name, one in fields_of(wanted).items()}
        # What is added to an event that is full already is refused, as too large.
        return wanted(**held | dict.fromkeys({"described", "remark"} & set(held)))
    sealed = commitment(UUID(given.CLIENT), bytes(32))
    simple: dict[Any, Any] = dict.fromkeys(SEALED_TYPES, sealed) | {bool: False}
    if wanted in simple:
        return simple[wanted]
    if get_origin(wanted) is Literal:
        return max(get_args(wanted), key=len)
    if get_origin(wanted) in UNIONS:
        return largest(next(a for a in get_args(wanted) if a is not type(None)))
    bare, *notes = get_args(wanted)
    limits = limits_of(notes)
    if get_origin(bare) is list:
        return [largest(get_args(bare)[0])] * int(limits["max_length"])
    if bare is int:
        return limits["le"]
    longest = {
        fields.Code: "A" * 64,
        fields.Reference: "a" * 80,
        identity.Ref: given.CLIENT,
        fields.FactId: f"{given.CLIENT}/merit",
        access.ProviderIdentifier: "A" * 60,
        fields_of(evidence.EvidenceDigest)["sha256"]: "a" * 64,
        fields_of(evidence.EvidenceDigest)["media_type"]: "application/" + "x" * 68,
        fields_of(evidence.EvidenceDigest)["custodian"]: "A" * 60,
    }
    return longest[wanted] if wanted in longest else "\U00020000" * limits["max_length"]


@pytest.mark.parametrize(
    "name", [n for n in EVENT_TYPES if "rulebook" not in fields_of(EVENT_TYPES[n])]
)
def test_the_largest_event_of_a_type_fits(name: str) -> None:
    data = largest(EVENT_TYPES[name])
    subject = "DE-HRB-" + "1" * 53
    one = event(data, stream=provider_stream(subject), subject=subject, causation=EVENT_ID)
    assert len(one.encode()[0]) <= MAX_EVENT_BYTES


@pytest.mark.parametrize(
    ("stream", "limit"), [(RULEBOOK_STREAM, MAX_RULEBOOK_BYTES), ("other", MAX_EVENT_BYTES)]
)
def test_one_byte_too_many_is_refused(stream: str, limit: int) -> None:
    def sized(padding: int) -> Event:
        book = {"padding": "x" * padding}
        data = events.RulebookPublished(version="RB-1", in_force_from=given.TODAY, rulebook=book)
        return event(data, stream=stream)

    padding = limit - len(sized(0).encode()[0])
    assert len(sized(padding).encode()[0]) == limit
    with pytest.raises(EventTooLarge, match=f"takes {limit + 1} bytes; at most {limit}"):
        sized(padding + 1).encode()


# --- no room for what must be sealed -------------------------------------------------------------

SEALED_TYPES = (
    private.SealedLine,
    private.SealedPassage,
    private.SealedTerms,
    private.SealedFen,
)
"""Every type of sealed text. All have the same size in an event."""
EVERYWHERE = "*"
ALLOWED_TEXTS: dict[Any, set[str]] = {
    fields.Code: {EVERYWHERE},
    fields.Reference: {EVERYWHERE},
    identity.Ref: {EVERYWHERE},
    fields.FactId: {EVERYWHERE},
    fields.Version: {"RulebookPublished.version", "Rulebook.version"},
    fields.Origin: {"LedgerOpened.origin"},
    # What an authority writes on its decision: never facts, never names.
    fields.Citation: {
        "Decision.document_no",
        "FindingFields.law_article",
        "SevereListEntered.law_article",
        "ReferralRecorded.law_article",
        "QualificationVerified.certificate",
        "QualificationVerified.certificate_no",
    },
    # Names of organisations.
    access.ProviderIdentifier: {"AccessRecorded.files"},
    fields.LegalName: {"Issuer.name", "LedgerOpened.name", "ProviderRegistered.name"},
    # The words of a rulebook.
    clauses.Phrase: {"Named.zh", "Named.en", "Ground.article"},
    privacy.TypeName: {"Retention.events"},
    privacy.DayField: {"Retention.events"},
    fields_of(evidence.EvidenceDigest)["sha256"]: {"EvidenceDigest.sha256"},
    fields_of(evidence.EvidenceDigest)["media_type"]: {"EvidenceDigest.media_type"},
    fields_of(evidence.EvidenceDigest)["custodian"]: {"EvidenceDigest.custodian"},
}
"""Every type of text an event may hold, and the fields that may have it."""
ALLOWED_NUMBERS: dict[Any, set[str]] = {
    fields.Count: {EVERYWHERE},
    # Positions and numbers of rows.
    access.Number: {"AccessRecorded.first", "AccessRecorded.last"},
    fields_of(evidence.EvidenceDigest)["size_bytes"]: {"EvidenceDigest.size_bytes"},
    fields_of(clauses.Clock)["count"]: {"Clock.count"},
    erasure.Position: {"PersonErasure.through"},
    fields_of(rulebook.Severity)["shortest_months"]: {"Severity.shortest_months"},
    fields_of(rulebook.Severity)["longest_months"]: {"Severity.longest_months"},
}
"""Every type of number: none of them is an amount of money."""
ALLOWED_OBJECTS = {"LedgerOpened.rulebook", "RulebookPublished.rulebook", "Rulebook.scoring"}
"""Objects without a model: a rulebook is parsed as `Rulebook`, its scoring part holds only codes
and numbers (`tests/test_rulebook.py`)."""


def owner(model: type[BaseModel], field: str) -> str:
    """`Model.field`, with the model that declares the field."""
    declaring = next(
        c for c in reversed(model.__mro__) if field in vars(c).get("__annotations__", {})
    )
    return f"{declaring.__name__}.{field}"


def offences(model: type[BaseModel]) -> list[str]:
    """The fields of a model, and of all models within, that are not on a list."""
    found: list[str] = []
    for field, wanted in fields_of(model).items():
        found += offences_of_type(wanted, owner(model, field))
    return found


def offences_of_type(wanted: Any, where: str) -> list[str]:
    for allowed in (ALLOWED_TEXTS, ALLOWED_NUMBERS):
        if wanted in allowed:
            fits = allowed[wanted] & {EVERYWHERE, where}
            return [] if fits else [f"{where}: {wanted} is not allowed here"]
    if wanted in (bool, fields.Day) or wanted is type(None):
        return []
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return offences(wanted)
    if get_origin(wanted) is Literal:
        return [] if all(isinstance(v, str) for v in get_args(wanted)) else [f"{where}: {wanted}"]
    if wanted == dict[str, Any]:
        return [] if where in ALLOWED_OBJECTS else [f"{where}: {wanted} is not on the list"]
    if is_sealed(wanted):
        # Only in a group, which says whose it is.
        model = getattr(private, where.partition(".")[0], object)
        return [] if issubclass(model, private.Private) else [f"{where}: sealed outside a group"]
    inner: tuple[Any, ...] = ()
    if get_origin(wanted) in (list, dict, *UNIONS):
        inner = get_args(wanted)
    elif get_origin(wanted) is Annotated and get_origin(get_args(wanted)[0]) is list:
        inner = get_args(get_args(wanted)[0])
    if not inner:
        return [f"{where}: {wanted} is not on the list"]
    return [offence for one in inner for offence in offences_of_type(one, where)]


@pytest.mark.parametrize("model", [*EVENT_TYPES.values(), rulebook.Rulebook])
def test_no_event_has_room_for_free_text_amounts_or_persons(model: type[BaseModel]) -> None:
    assert offences(model) == []


def test_twenty_described_pieces_of_evidence_fit() -> None:
    text = commitment(UUID(given.CLIENT), bytes(32))
    piece = largest(evidence.EvidenceDigest).model_copy(
        update={"described": private.Description(person=given.CLIENT, text=text)}
    )
    penalty = largest(events.PenaltyImposed).model_copy(update={"evidence": [piece] * 20})
    one = event(penalty, causation=EVENT_ID)
    assert len(one.encode()[0]) <= MAX_EVENT_BYTES


class SealedAlone(Data):
    """Sealed, but nobody's."""

    remark: private.SealedLine


class FreeText(Data):
    remark: str


class BoundedText(Data):
    remark: Annotated[str, Field(max_length=10)]


class Person(Data):
    officer: fields.LegalName


class Fine(Data):
    fine_in_fen: int


class BoundedFine(Data):
    fine_in_fen: Annotated[int, Field(ge=0)]


class Rate(Data):
    rate: float


class Anything(Data):
    extra: dict[str, Any]


class Deep(Data):
    nested: list[FreeText] | None


class Texts(Data):
    remarks: Annotated[list[str], Field(max_length=3)]


@pytest.mark.parametrize(
    "model",
    [FreeText, BoundedText, Person, Fine, BoundedFine, Rate, Anything, Deep, Texts, SealedAlone],
)
def test_a_field_that_is_not_on_the_list_is_noticed(model: type[BaseModel]) -> None:
    assert len(offences(model)) == 1


def test_everything_is_frozen_and_refuses_unknown_fields() -> None:
    pending: list[Any] = list(EVENT_TYPES.values())
    seen: set[type[BaseModel]] = set()
    while pending:
        one = pending.pop()
        if isinstance(one, type) and issubclass(one, BaseModel) and one not in seen:
            seen.add(one)
            config = one.model_config
            assert (config.get("frozen"), config.get("extra"), config.get("strict")) == (
                True,
                "forbid",
                True,
            ), one
            pending += fields_of(one).values()
        pending += get_args(one)
    assert {evidence.EvidenceDigest, events.Issuer, events.Finding} <= seen


@pytest.mark.parametrize(
    "text",
    ["", " x", "x ", "a\x00b", "a\nb", "a\u202eb", "a\u200bb", "\ufeffa", "\ud800", "\u3000x"]
    + [f"a{one}b" for one in "\u00ad\u061c\u115f\u180e\u3164\ufe0f\ufff9\U000e0041"],
)
@pytest.mark.parametrize("kind", [fields.Citation, fields.LegalName, clauses.Phrase])
def test_no_text_hides_what_a_reader_cannot_see(kind: Any, text: str) -> None:
    model: TypeAdapter[str] = TypeAdapter(kind)
    assert model.validate_python("市监处〔2026〕1号") == "市监处〔2026〕1号"
    with pytest.raises(ValidationError):
        model.validate_python(text)


@pytest.mark.parametrize(
    "text", ["2026-3-2", "20260302", "2026-W10-1", "2026-02-30", "2026-03-02T00:00:00", "", "today"]
)
def test_a_day_is_written_in_one_way(text: str) -> None:
    model: TypeAdapter[date] = TypeAdapter(fields.Day)
    assert model.validate_python("2026-03-02") == given.TODAY
    with pytest.raises(ValidationError):
        model.validate_python(text)


@pytest.mark.parametrize(
    ("organisation", "role", "ref"),
    [
        ("某市市场监督管理局", "registrar", given.CLIENT),
        ("cn-reg", "registrar", given.CLIENT),
        ("CN-REG", "Registrar", given.CLIENT),
        ("CN-REG", "registrar", "张三"),
        ("CN-REG", "registrar", "13800138000"),
        ("CN-REG\n", "registrar", given.CLIENT),
        ("CN-REG", "", given.CLIENT),
    ],
)
def test_an_actor_cannot_be_a_name(organisation: str, role: str, ref: str) -> None:
    assert Actor("CN-REG", "case_officer", given.CLIENT).role == "case_officer"
    with pytest.raises(ValueError, match="actor: "):
        Actor(organisation, role, ref)


# --- who may ever see it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("publicity", "widest"), [("SINGLY", "public"), ("AGGREGATE", "party"), ("NEVER", "party")]
)
def test_a_finding_that_is_never_shown_singly_stays_between_the_parties(
    publicity: Literal["SINGLY", "AGGREGATE", "NEVER"], widest: str
) -> None:
    base = given.penalty().model_dump(exclude={"public_until"})
    added = {"publicity": publicity, "public_until": date(2027, 2, 10), "late_entry": False}
    finding = events.Finding.model_validate(base | added)
    assert finding.visibility() == widest
    assert events.PenaltyImposed.model_validate(base | added).visibility() == widest
    complaint = events.ComplaintOutcomeRecorded(
        complaint="TS-1",
        outcome="SUBSTANTIATED",
        decided_on=given.TODAY,
        evidence=[given.evidence()],
        finding=finding,
    )
    assert complaint.visibility() == widest


def test_who_may_ever_see_what_is_not_a_finding() -> None:
    unfounded = events.ComplaintOutcomeRecorded(
        complaint="TS-1",
        outcome="UNSUBSTANTIATED",
        decided_on=given.TODAY,
        evidence=[given.evidence()],
        finding=None,
    )
    inspection = events.InspectionRecorded(**given.inspection().model_dump(), merit=None)
    assert unfounded.visibility() == "party"
    assert inspection.visibility() == "party"
    assert given.contract().visibility() == "party"
    assert given.reward().visibility() == "public"
    assert given.reward(consent=False).visibility() == "party"
    assert given.suspend_provider(reason="PENALTY").visibility() == "public"
    assert given.suspend_provider(reason="INVESTIGATION").visibility() == "party"
    assert given.listing().visibility() == "public"
    assert given.referral().visibility() == "public"
    for public, widest in ((True, "public"), (False, "party")):
        act = events.DecisionOverturned(
            **given.overturn(EVENT_ID).model_dump(), target_facts=[EVENT_ID], target_public=public
        )
        assert act.visibility() == widest


# --- ids, nonces, time ---------------------------------------------------------------------------


@for_all(moments, st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid_of_version_7(moment: datetime, random: bytes) -> None:
    text = new_id(moment, random)
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", text
    )
    milliseconds = int(text[:8] + text[9:13], 16)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert abs(since / timedelta(milliseconds=1) - milliseconds) < 1
    assert new_id(moment, random) == text


@for_all(moments, st.binary(min_size=10, max_size=10), st.integers(0, 79))
def test_every_random_bit_but_six_is_in_the_id(moment: datetime, random: bytes, bit: int) -> None:
    flipped = (int.from_bytes(random) ^ 1 << bit).to_bytes(10)
    fixed = bit in (62, 63, 76, 77, 78, 79)
    assert (new_id(moment, flipped) == new_id(moment, random)) is fixed


def test_ids_sort_by_time() -> None:
    ids = [new_id(NOW + timedelta(milliseconds=n), bytes(10)) for n in range(1000)]
    assert ids == sorted(ids)


@for_all(st.binary(min_size=16, max_size=16))
def test_a_nonce_is_128_bits_in_base64url(random: bytes) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", new_nonce(random))
    other = bytes([random[0] ^ 1, *random[1:]])
    assert new_nonce(other) != new_nonce(random)


@for_all(moments)
def test_time_is_written_in_27_characters_and_read_back(moment: datetime) -> None:
    assert len(format_time(moment)) == len(TIME_PLACE) == 27
    assert parse_time(format_time(moment)) == moment
    assert format_time(moment.astimezone(SHANGHAI)) == format_time(moment)


# --- the corpus: what was once stored is read for ever -------------------------------------------


def corpus_files() -> list[Path]:
    return sorted(CORPUS.glob("*.json"))


def test_every_type_and_version_has_a_stored_event() -> None:
    names = {file.stem for file in corpus_files()}
    assert set(EVENT_TYPES) <= names, "a new type needs a stored event in tests/corpus"


@pytest.mark.parametrize("file", corpus_files(), ids=lambda file: file.stem)
def test_a_stored_event_is_read_and_its_bytes_are_the_same(file: Path) -> None:
    state = file.read_bytes()
    one = decode(state)
    # Of one type there may be more: after the type stands the kind of sealed group that it holds.
    name, _, kind = file.stem.partition("+")
    assert TYPE_PREFIX + name == json.loads(state)["type"]
    assert [type(place.group).__name__.lower() for place in groups(one.data)] == [kind] * bool(kind)
    assert state == rfc8785.dumps(json.loads(state))
    assert one.encode()[0] == state
    assert one.time is not None
    assert one.actor == given.REGISTRAR


def test_every_kind_of_sealed_group_has_a_stored_event_in_which_all_of_it_is_sealed() -> None:
    found: dict[type[Private], list[str]] = {}
    for file in corpus_files():
        for place in groups(decode(file.read_bytes()).data):
            sealed = [name for name, one in sealed_texts(place.group) if isinstance(one, Sealed)]
            found.setdefault(type(place.group), []).extend(sealed)
    assert set(found) == set(Private.__subclasses__())
    for kind, names in found.items():
        assert set(names) == set(kind.model_fields) - {"person"}, kind


def test_an_unknown_type_is_told_with_all_it_takes_to_find_it() -> None:
    plain = json.loads((CORPUS / "penalty.imposed.v1.json").read_bytes())
    plain["type"] = "cn.chengxin.penalty.imposed.v2"
    with pytest.raises(UnknownEventType) as caught:
        decode(json.dumps(plain).encode())
    for fact in (plain["id"], "provider-91999999MA00TEXT0H", "cn.chengxin.penalty.imposed.v2"):
        assert fact in str(caught.value)
        assert fact in caught.value.chinese()


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_type_has_a_schema_that_names_every_stored_member(name: str) -> None:
    schema = json_schema(name)
    stored = json.loads((CORPUS / f"{name}.json").read_bytes())
    assert schema["$id"] == stored["dataschema"]
    assert schema["additionalProperties"] is False
    assert set(stored["data"]) <= set(schema["properties"])
    assert set(schema.get("required", [])) <= set(stored["data"])
