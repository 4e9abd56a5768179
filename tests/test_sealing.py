"""What is sealed: commitments, keys, and texts that cannot get into an event."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given as for_all
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from ledger.envelope import Event
from ledger.events import ComplaintOutcomeRecorded, Data, provider_stream
from ledger.evidence import EvidenceDigest
from ledger.private import Complainant, Private, groups, members
from ledger.sealing import STORED, PersonKey, PlainText, Sealed, digest_of
from tests import given

ID = "0198c7a0-1111-7222-8333-444455556666"
KEY = bytes(range(32))
NONCE = bytes(12)
WIRE = {"sealed": {"person": given.CLIENT, "digest": "ab" * 32}}


class Several(Data):
    """Groups wherever a model may have them."""

    one: Complainant | None = None
    many: list[Complainant] = Field(default=[])
    evidence: list[EvidenceDigest] = Field(default=[])


# --- one text ------------------------------------------------------------------------------------


@for_all(
    st.dictionaries(st.text("/abc0", max_size=20), st.text(max_size=200), max_size=6),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_sealed_opens_in_its_event_and_its_digests_are_proven(
    given: dict[str, str], key: bytes
) -> None:
    texts = {path: text.encode(errors="replace").decode() for path, text in given.items()}
    person = PersonKey(key)
    box = person.box(texts, event_id=ID, nonce=NONCE)
    assert person.open(box, event_id=ID) == texts
    salt_of = person.salts(ID)
    for path, text in texts.items():
        salt = salt_of(path)
        assert salt == PersonKey(key).salts(ID)(path)
        assert digest_of(text, salt) == sha256(salt + text.encode()).hexdigest()


def test_the_formats_are_those_of_the_document() -> None:
    """Computed a second time, from the words of `ledger/sealing.py` and other functions."""
    both = HKDFExpand(SHA512(), 64, b"chengxin sealing").derive(KEY)
    texts = {"/complainant/name": "张某", "/complainant/contact": "13800138000"}
    person = PersonKey(KEY)
    box = person.box(texts, event_id=ID, nonce=NONCE)
    salts = person.salts(ID)
    for path, text in texts.items():
        salt = hmac.digest(both[32:], ID.encode() + b"\0" + path.encode(), "sha256")
        assert salts(path) == salt
        assert digest_of(text, salt) == sha256(salt + text.encode()).hexdigest()
    assert box[:12] == NONCE
    assert json.loads(AESGCM(both[:32]).decrypt(NONCE, box[12:], ID.encode())) == texts


@pytest.mark.parametrize("at", [0, 11, 12, 17, -1])
def test_a_box_of_which_one_bit_is_altered_does_not_open(at: int) -> None:
    person = PersonKey(KEY)
    box = person.box({"/a": "张某"}, event_id=ID, nonce=NONCE)
    altered = bytearray(box)
    altered[at] ^= 1
    with pytest.raises(ValueError, match="not what was sealed here"):
        person.open(bytes(altered), event_id=ID)


@pytest.mark.parametrize("size", [0, 12, 27, -1])
def test_a_box_cut_short_does_not_open(size: int) -> None:
    person = PersonKey(KEY)
    box = person.box({"/a": "张某"}, event_id=ID, nonce=NONCE)
    with pytest.raises(ValueError, match="not what was sealed here"):
        person.open(box[:size], event_id=ID)


@pytest.mark.parametrize(("key", "id"), [(bytes(32), ID), (KEY, ID[:-1] + "7"), (KEY, ID + "\0")])
def test_a_ciphertext_opens_nowhere_else(key: bytes, id: str) -> None:
    box = PersonKey(KEY).box({"/a": "张某"}, event_id=ID, nonce=NONCE)
    with pytest.raises(ValueError, match="not what was sealed here"):
        PersonKey(key).open(box, event_id=id)


def test_equal_texts_have_digests_that_nobody_can_compare() -> None:
    seen = {
        digest_of("13800138000", PersonKey(key).salts(id)(path))
        for key in (KEY, bytes(32))
        for id in (ID, ID[:-1] + "7")
        for path in ("/a", "/b")
    }
    assert len(seen) == 8


# --- fields --------------------------------------------------------------------------------------


def test_a_command_gives_text_and_a_stored_event_holds_a_commitment() -> None:
    command = Complainant.model_validate({"name": "张某", "contact": "13800138000"})
    assert command.name == PlainText("张某")
    stored = Complainant.model_validate({"person": given.CLIENT, "name": WIRE}, context=STORED)
    assert isinstance(stored.name, Sealed)
    assert stored.name.sealed.digest == "ab" * 32


@pytest.mark.parametrize("given_name", [WIRE, {"sealed": {}}, 7, "", "张\n某", " 张某", "张" * 201])
def test_nobody_can_hand_in_a_commitment_or_a_text_that_is_none(given_name: Any) -> None:
    with pytest.raises(ValidationError):
        Complainant.model_validate({"name": given_name})


@pytest.mark.parametrize(
    "stored",
    [
        "张某",
        {"sealed": {"person": given.CLIENT, "digest": "AB" * 32}},
        {"sealed": {"person": "me", "digest": "ab" * 32}},
        WIRE | {"text": "张某"},
    ],
)
def test_what_is_no_commitment_is_not_read_as_stored(stored: Any) -> None:
    with pytest.raises(ValidationError):
        Complainant.model_validate({"name": stored}, context=STORED)


def test_the_schema_says_text_for_commands_and_commitments_for_events() -> None:
    asked = Complainant.model_json_schema(mode="validation")["properties"]["name"]["anyOf"][0]
    assert (asked["type"], asked["minLength"], asked["maxLength"]) == ("string", 1, 200)
    stored = Complainant.model_json_schema(mode="serialization")
    held = stored["properties"]["name"]["anyOf"][0]
    assert (held["title"], held["required"]) == ("Sealed", ["sealed"])
    assert set(stored["$defs"]["Commitment"]["required"]) == {"person", "digest"}


def test_a_text_shows_itself_to_nobody() -> None:
    command = given.complaint(complainant=Complainant(name=PlainText("张某")))
    assert "张某" not in repr(command) + str(command) + f"{command.complainant}"


def test_a_text_that_was_not_sealed_is_never_encoded() -> None:
    data = ComplaintOutcomeRecorded(
        complaint="TS-1",
        outcome="UNSUBSTANTIATED",
        decided_on=given.TODAY,
        evidence=[given.evidence()],
        finding=None,
        complainant=Complainant(name=PlainText("张某")),
    )
    event = Event(ID, provider_stream(given.PROVIDER), 1, data, given.REGISTRAR, "A" * 22)
    with pytest.raises(TypeError):
        event.encode()
    with pytest.raises(TypeError):
        orjson.dumps({"x": PlainText("张某")}, default=members)


def test_a_group_that_is_not_there_is_not_written() -> None:
    assert members(Several()) == {"many": [], "evidence": []}
    here = Complainant(person=given.CLIENT, name=Sealed.model_validate(WIRE))
    written = json.loads(orjson.dumps(Several(one=here), default=members))
    assert written["one"] == {"person": given.CLIENT, "name": WIRE}


def test_groups_are_found_wherever_they_are() -> None:
    someone = Complainant(name=PlainText("张某"))
    found = list(groups(Several(one=someone, many=[someone, someone])))
    assert [place.path for place in found] == ["/one", "/many/0", "/many/1"]
    assert all(isinstance(place.group, Private) for place in found)
