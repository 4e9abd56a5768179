"""Our own JSON Lines: one command a line, its `data` exactly the body that its address takes.

`{"key": …, "identifier": …, "command": …, "data": {…}}`, with a `target` where the command is an
act on a recorded fact, and a `registration` for a subject that the ledger may not know. By file,
standard input and HTTP the same bytes are cut into the same lines and read by the same reader; a
line that is too long or cannot be read costs itself only. A line's key belongs to the organisation
and the subject. Knows no ledger and no connection; memory is bounded whatever arrives.
"""

from __future__ import annotations

import asyncio
import io
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from gzip import BadGzipFile
from json import JSONDecodeError
from typing import Annotated, Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from api import problems
from api.arrival import Torn
from api.body import parse_json
from api.commands import KEY, MAX_KEY_CHARACTERS
from api.intake.recipe import Recipe
from api.intake.recordable import COMMANDS, GIVEN, REGISTER
from api.intake.rows import Entry, Problem, Proof, Row, Unread, proof_of
from api.refusals import LineTooLarge, SchemaBroken, Unparsable
from api.writes import WRITES, RegisterProvider, Write
from ledger import events
from ledger.errors import InvalidIdentifier, LedgerError, Words
from ledger.events import Data, Purpose
from ledger.fields import EventId
from ledger.identity import MAX_IDENTIFIER_CHARACTERS, is_doubtful, parse_identifier

MAX_LINE_BYTES = 256 * 1024
PART_BYTES = 64 * 1024
LINES_A_TURN = 50
BOM = b"\xef\xbb\xbf"
NESTED = frozenset({"data", "registration"})
KEY_PATTERN = rf"^[!-~]{{1,{MAX_KEY_CHARACTERS}}}$"
KEY_PREFIX = "line/"
"""Keeps the keys of lines apart from those of mappings (`import/…`)."""

BY_MODEL = {write.command: write for write in WRITES}
FACTS: dict[str, Write] = {
    name: BY_MODEL[RegisterProvider if name == REGISTER else model]
    for name, model in COMMANDS.items()
}
"""The write of each command, named as in a mapping."""
ACTS = {write.path.rpartition("/")[2]: write for write in WRITES if write.is_act}
"""The acts on a recorded fact, by the ends of their addresses; they and no others have a target."""
NO_TARGET = Words(
    "this command works on a recorded fact: name it", "该命令针对已有记录，须写明对象"
)
TARGET_OUTSIDE = Words("the line names the target, not its data", "对象写在行上，不写在 data 中")
NOT_YOURS = Words("not yours to set", "不得自行设定")
REGISTERS_ITSELF = Words("the command itself registers", "该命令本身即为登记")


class ImportLine(BaseModel):
    """One line of an import: a command under a key of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: Annotated[str, StringConstraints(pattern=KEY_PATTERN)] = Field(
        description="Unique for the organisation and the subject; sent again, not recorded again."
    )
    identifier: str = Field(
        min_length=1, max_length=4 * MAX_IDENTIFIER_CHARACTERS, description="Whom it is about."
    )
    command: str = Field(json_schema_extra={"enum": list(FACTS | ACTS)})
    target: EventId | None = Field(
        default=None, description="Of acts: the id of the recorded fact, from its receipt."
    )
    data: dict[str, Any] = Field(
        description="The body of the command's address; of `register` without the identifier."
    )
    registration: dict[str, Any] | None = Field(
        default=None,
        description="`name`, `entity_kind`: to register a subject that the ledger does not know.",
    )


class Line(NamedTuple):
    """A line without its end, by number; of one that is too long there are no bytes."""

    number: int
    raw: bytes | None


class Cutter:
    """Cuts bytes, in whatever parts they come, into lines; blank ones are counted and left out."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._too_long = False
        self._number = 0

    def cut(self, part: bytes) -> Iterator[Line]:
        """The lines that end within the part."""
        *ended, begun = part.split(b"\n")
        for piece in ended:
            yield from self._line(piece)
        self._begin(begun)

    def rest(self) -> Iterator[Line]:
        """The last line, where nothing ends it."""
        if self._begun or self._too_long:
            yield from self._line(b"")

    def _line(self, piece: bytes) -> Iterator[Line]:
        self._begin(piece)
        self._number += 1
        raw = bytes(self._begun).removesuffix(b"\r")
        too_long = self._too_long or len(raw) > MAX_LINE_BYTES
        self._begun.clear()
        self._too_long = False
        if self._number == 1:
            raw = raw.removeprefix(BOM)
        if too_long:
            yield Line(self._number, None)
        elif raw.strip():
            yield Line(self._number, raw)

    def _begin(self, piece: bytes) -> None:
        # One more than the limit, for a carriage return.
        if len(self._begun) + len(piece) > MAX_LINE_BYTES + 1:
            self._too_long = True
            self._begun.clear()
        elif not self._too_long:
            self._begun += piece


class JsonLines:
    """Reads lines. `permit` raises a refusal for a write that the sender may not make."""

    name = "json-lines"
    purpose: Purpose | None = None
    recipe = Recipe("json-lines")

    def __init__(self, permit: Callable[[Write, Data], None] = lambda write, data: None) -> None:
        self._permit = permit

    def rows(self, stream: io.BufferedReader) -> Iterator[Row | Unread]:
        """Every line of a file, in its order."""
        cutter, number = Cutter(), 0
        try:
            while part := stream.read1(PART_BYTES):
                for line in cutter.cut(part):
                    number = line.number
                    yield self._understood(line)
        except (EOFError, zlib.error, BadGzipFile) as error:
            why = Words(
                f"the compressed file is damaged from here on: {error}",
                f"压缩文件自此处起损坏：{error}",
            )
            yield Unread(number + 1, [Problem("line", "malformed", why)])
            return
        for line in cutter.rest():
            yield self._understood(line)

    async def arriving(
        self, parts: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[Row | Unread, None]:
        """Every line of what arrives in parts, as soon as it is there; half a line is none."""
        cutter = Cutter()
        try:
            async with aclosing(parts):
                async for part in parts:
                    for turn, line in enumerate(cutter.cut(part)):
                        yield self._understood(line)
                        if turn % LINES_A_TURN == 0:
                            # Others have their turn, however many lines are refused.
                            await asyncio.sleep(0)
        except Torn:
            return
        for line in cutter.rest():
            yield self._understood(line)

    def _understood(self, line: Line) -> Row | Unread:
        if line.raw is None:
            return Unread(line.number, [_told("line", LineTooLarge(limit=MAX_LINE_BYTES))])
        return self.read(line.number, line.raw)

    def read(self, line: int, raw: bytes) -> Row | Unread:
        """The line's command, or every reason against it."""
        try:
            return self._read(line, parse_json(raw), proof_of(raw))
        except Unparsable as error:
            return Unread(line, [_unparsable(error)])

    def read_again(self, line: int, cells: Mapping[str, str], proof: Proof) -> Row | Unread:
        """A line that was kept as its members, of which a person may have corrected some."""
        parsed: dict[str, Any] = dict(cells)
        for name in NESTED & set(cells):
            try:
                parsed[name] = parse_json(cells[name].encode())
            except Unparsable as error:
                return Unread(line, [_unparsable(error)._replace(field=name)])
        return self._read(line, parsed, proof)

    def _read(self, line: int, parsed: Any, proof: Proof) -> Row | Unread:
        key = _key_of(parsed)
        try:
            written = ImportLine.model_validate(parsed)
        except ValidationError as error:
            return Unread(line, _flaws(problems.broken(error, ())), key)
        told: list[Problem] = []
        subject = _subject(written.identifier, told)
        registration = _registration(written, told)
        write, data = _command(written, told)
        try:
            if write is not None and data is not None:
                self._permit(write, data)
            if registration is not None:
                self._permit(FACTS[REGISTER], registration)
        except LedgerError as error:
            told.append(_told("command", error))
        if told or data is None:
            return Unread(line, told, key, subject or written.identifier, _members(parsed), proof)
        entries = [Entry(data, KEY_PREFIX + key)]
        return Row(line, key, subject, registration, entries, raw=proof)


def _members(parsed: Mapping[str, Any]) -> dict[str, str]:
    """The members of a line as texts, for a person to look at and correct."""
    return {
        name: orjson.dumps(value).decode() if name in NESTED else str(value)
        for name, value in parsed.items()
        if value is not None
    }


def _key_of(parsed: Any) -> str:
    """The key of a line that may be wrong in every other way; "" for what is no key."""
    key = parsed.get("key") if isinstance(parsed, dict) else None
    return key if isinstance(key, str) and KEY.fullmatch(key) else ""


def _subject(text: str, told: list[Problem]) -> str:
    try:
        return parse_identifier(text)
    except InvalidIdentifier as error:
        # A person can compare the code with the licence.
        told.append(_told("identifier", error)._replace(doubtful=is_doubtful(text)))
        return ""


def _registration(written: ImportLine, told: list[Problem]) -> Data | None:
    if written.registration is None:
        return None
    if written.command == REGISTER:
        told.append(Problem("registration", SchemaBroken.code, REGISTERS_ITSELF))
    return _built(
        events.ProviderRegistered, written.registration, "registration", told, GIVEN[REGISTER]
    )


def _command(written: ImportLine, told: list[Problem]) -> tuple[Write | None, Data | None]:
    table = FACTS if written.target is None else ACTS
    write = table.get(written.command)
    if write is None:
        if written.target is None and written.command in ACTS:
            told.append(Problem("target", SchemaBroken.code, NO_TARGET))
        else:
            known = ", ".join(table)
            why = Words(f"one of {known}", f"应为其中之一：{known}")
            told.append(Problem("command", SchemaBroken.code, why))
        return None, None
    model: type[Data] = COMMANDS.get(written.command, write.command)
    given: dict[str, object] = {}
    if written.target is not None:
        model, given = write.command, {"target": written.target}
        if "target" in written.data:
            told.append(Problem("data.target", SchemaBroken.code, TARGET_OUTSIDE))
            return write, None
    return write, _built(model, written.data, "data", told, given)


def _built(
    model: type[Data],
    written: Mapping[str, Any],
    where: str,
    told: list[Problem],
    given: Mapping[str, object],
) -> Data | None:
    taken = sorted(set(given) & set(written))
    told += [Problem(f"{where}.{name}", SchemaBroken.code, NOT_YOURS) for name in taken]
    try:
        return model.model_validate({**written, **given})
    except ValidationError as error:
        told += _flaws(problems.broken(error, (where,)))
        return None


def _told(field: str, error: LedgerError) -> Problem:
    return Problem(field, error.code, Words(str(error), error.chinese()))


def _unparsable(error: Unparsable) -> Problem:
    problem = _told("line", error)
    if isinstance(error.__cause__, JSONDecodeError):
        # It counts the lines of its text, which is one line here.
        at, why = error.__cause__.colno, error.__cause__.msg
        told = Unparsable(why=Words(f"{why} (character {at})", f"第 {at} 个字符处有误"))
        return _told("line", told)
    return problem


def _flaws(broken: SchemaBroken) -> list[Problem]:
    return [
        Problem(".".join(map(str, flaw.loc)) or "line", broken.code, flaw.msg)
        for flaw in broken.flaws[: problems.MAX_FLAWS]
    ]
