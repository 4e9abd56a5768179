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
from ledger.sealing import STORED, PersonKey, PlainText, Sealed, digest_of, pack, unpack
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


@for_all(st.text(max_size=200), st.binary(min_size=32, max_size=32))
def test_what_is_sealed_opens_at_its_place_and_its_digest_is_proven(text: str, key: bytes) -> None:
    text = text.encode(errors="replace").decode()
    person = PersonKey(key)
    digest, ciphertext = person.seal(text, event_id=ID, path="/a/b", nonce=NONCE)
    assert person.open(ciphertext, event_id=ID, path="/a/b") == text
    salt = person.salt(ID, "/a/b")
    assert digest == digest_of(text, salt) == sha256(salt + text.encode()).hexdigest()


def test_the_formats_are_those_of_the_document() -> None:
    """Computed a second time, from the words of `ledger/sealing.py` and other functions."""
    place = ID.encode() + b"\0" + b"/complainant/name"
    both = HKDFExpand(SHA512(), 64, b"chengxin sealing").derive(KEY)
    salt = hmac.digest(both[32:], place, "sha256")
    person = PersonKey(KEY)
    assert person.salt(ID, "/complainant/name") == salt
    digest, ciphertext = person.seal("张某", event_id=ID, path="/complainant/name", nonce=NONCE)
    assert digest == sha256(salt + "张某".encode()).hexdigest()
    assert ciphertext[:12] == NONCE
    assert AESGCM(both[:32]).decrypt(NONCE, ciphertext[12:], place).decode() == "张某"


@pytest.mark.parametrize("at", [0, 11, 12, 17, -1])
def test_a_ciphertext_of_which_one_bit_is_altered_does_not_open(at: int) -> None:
    person = PersonKey(KEY)
    _, ciphertext = person.seal("张某", event_id=ID, path="/a", nonce=NONCE)
    altered = bytearray(ciphertext)
    altered[at] ^= 1
    with pytest.raises(ValueError, match="not what was sealed here"):
        person.open(bytes(altered), event_id=ID, path="/a")


@pytest.mark.parametrize(
    ("key", "id", "path"),
    [(bytes(32), ID, "/a"), (KEY, ID[:-1] + "7", "/a"), (KEY, ID, "/b"), (KEY, ID + "\0", "a")],
)
def test_a_ciphertext_opens_nowhere_else(key: bytes, id: str, path: str) -> None:
    _, ciphertext = PersonKey(KEY).seal("张某", event_id=ID, path="/a", nonce=NONCE)
    with pytest.raises(ValueError, match="not what was sealed here"):
        PersonKey(key).open(ciphertext, event_id=id, path=path)


def test_equal_texts_have_digests_that_nobody_can_compare() -> None:
    person = PersonKey(KEY)
    seen = {
        person.seal("13800138000", event_id=id, path=path, nonce=NONCE)[0]
        for id in (ID, ID[:-1] + "7")
        for path in ("/a", "/b")
    } | {PersonKey(bytes(32)).seal("13800138000", event_id=ID, path="/a", nonce=NONCE)[0]}
    assert len(seen) == 5


@for_all(st.lists(st.tuples(st.text("/abc0", max_size=20), st.binary(max_size=300)), max_size=6))
def test_what_is_packed_is_unpacked(fields: list[tuple[str, bytes]]) -> None:
    assert unpack(pack(fields)) == fields


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_what_was_cut_short_is_not_unpacked(cut: int) -> None:
    with pytest.raises(ValueError, match="cut short"):
        unpack(pack([("/a", b"abc")])[:-cut])


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
