"""A mapping file (TOML): how the columns of a file become commands on providers' streams.

A person edits it; `docs/imports/README.md` tells how. Everything that can be wrong with the
mapping itself is found before the first row is read, all of it at once. A row is either understood
whole or refused with every reason; nothing is ever guessed. Knows no ledger.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from api.intake.column import ABSENT, BadCell, Cells, Getter, Raw, Source, getter_of, shape_of
from api.intake.complaint import MappingError, joined, placed, reason_of, reasons_of
from api.intake.csvfile import Fault, Table
from api.intake.doubts import Doubles, out_of_order
from api.intake.encoding import DETECT
from api.intake.forms.form import Form, form_of
from api.intake.forms.reading import COMPUTED
from api.intake.forms.rows import Given, header_of, read_in_form, records_of
from api.intake.mappingfile import MappingFile, RecordTable, When
from api.intake.recipe import Recipe
from api.intake.recordable import BY_AUTHORITY, COMMANDS, GIVEN, REGISTER
from api.intake.rows import Entry, Problem, Row, Unread
from api.intake.valuetable import expanded
from api.problems import broken
from ledger.errors import InvalidIdentifier, Words
from ledger.events import Data
from ledger.evidence import EvidenceDigest
from ledger.identity import is_doubtful, parse_identifier

IDENTIFIER = FieldInfo(annotation=str)


Plan = dict[str, "Getter | Plan"]


class Recording(NamedTuple):
    """A record table, ready to use."""

    command: str
    when: When | None
    model: type[Data]
    plan: Plan


class Importing:
    """A mapping, checked and ready to read rows with."""

    def __init__(self, written: MappingFile, text: str = "") -> None:
        """`text`: the mapping as it was written. Raises MappingError with every reason."""
        self.recipe = Recipe("mapping", text)
        self.name = written.name
        self.purpose = written.purpose
        self.source = written.source
        self._row = written.row
        self._doubles = written.doubles
        self._notes = written.note
        self.columns = {
            *written.row.key,
            *written.row.in_order,
            *written.identifier.columns(),
            *written.doubles.columns(),
            *(note.when.column for note in written.note),
        }
        self._reasons: list[Words] = []
        self._check_encoding(written.source.encoding)
        self.identifier = self._getter(written.identifier, IDENTIFIER, "identifier")
        self.recordings = [self._recording(table) for table in written.record]
        self.form: Form | None = None
        if written.form is not None:
            self.form = form_of(written.form)
            self._check_form(self.form)
        if sum(one.command == REGISTER for one in self.recordings) > 1:
            self._complain("record", "`register` stands there twice", "`register` 出现了两次")
        if self._reasons:
            raise MappingError(*joined(self._reasons))

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raises MappingError if the mapping names a column that the file does not have."""
        reasons = []
        for name in sorted(self.columns - set(columns)):
            near = difflib.get_close_matches(name, columns, n=1)
            all_of = ", ".join(columns)
            en = f"did you mean {near[0]!r}?" if near else f"it has: {all_of}"
            zh = f"是否应为 {near[0]!r}？" if near else f"文件中的列：{all_of}"
            en, zh = f"the file has no column {name!r} ({en})", f"文件中没有列 {name!r}（{zh}）"
            reasons.append(Words(en, zh))
        if reasons:
            raise MappingError(*joined(reasons))

    def unused(self, columns: Sequence[str]) -> Sequence[str]:
        """The columns of a file that nothing uses; in a form, those that the form does not have."""
        if self.form is not None:
            return header_of(columns, self.form).unread
        return [name for name in columns if name not in self.columns]

    def rows(
        self, file: Table, *, registered: Callable[[], Iterable[tuple[str, str]]] = tuple
    ) -> Iterator[Row | Unread]:
        """Every row of a file, in its order. Raises MappingError for a column it does not have.

        `registered` gives identifier and name of everybody whom the ledger knows already; asked
        only by a mapping that looks for namesakes.
        """
        if self.form is not None:
            records = records_of(file, self.form)
        else:
            self.check_columns(file.columns)
            records = _records(file)
        return self._each(records, registered if self._doubles.name is not None else tuple)

    def _each(
        self,
        records: Iterable[Given | Unread],
        registered: Callable[[], Iterable[tuple[str, str]]],
    ) -> Iterator[Row | Unread]:
        with closing(Doubles(self._doubles, registered())) as doubles:
            for record in records:
                if isinstance(record, Unread):
                    yield record
                    continue
                line, cells, raw = record
                row = self.read(line, cells, raw)
                if isinstance(row, Row) and (problems := doubles.problems(row, cells)):
                    row = Unread(row.line, problems, row.key, row.subject, cells, raw)
                yield row

    def read(self, line: int, cells: Cells, raw: Raw) -> Row | Unread:
        """The row's commands, none if it is to be skipped; or every reason against it.

        Once its bytes are gone, `raw` is what proves them. In a form the cells stand under the
        form's own columns, mended or not.
        """
        if self.form is None:
            return self._read(line, cells, raw)
        return read_in_form(self.form, line, cells, read=self._read, raw=raw)

    def _read(self, line: int, cells: Cells, raw: Raw) -> Row | Unread:
        problems = out_of_order(cells, self._row.in_order)
        subject = self._subject(cells, problems)
        key = self._key(cells, problems)
        registration: Data | None = None
        entries: list[Entry] = []
        applied = False
        for number, recording in enumerate(self.recordings):
            if recording.when is not None and not recording.when.holds(cells):
                continue
            applied = True
            data = _build(recording, cells, raw, problems)
            if data is None:
                continue
            if recording.command == REGISTER:
                registration = data
            else:
                entries.append(Entry(data, f"import/{self.name}/{number}/{key}"))
        if not applied and self._row.unmatched == "reject":
            why = Words("no [[record]] of the mapping applies", "映射中没有适用的 [[record]]")
            problems.append(Problem("row", "no-record-applies", why))
        if problems:
            return Unread(line, problems, key, subject, cells, raw)
        notes = [
            Problem(note.field, note.code, Words(note.en, note.zh))
            for note in self._notes
            if note.when.holds(cells)
        ]
        return Row(line, key, subject, registration, entries, notes, raw)

    def _subject(self, cells: Cells, problems: list[Problem]) -> str:
        text = ""
        try:
            text = str(self.identifier(cells, b""))
            return parse_identifier(text)
        except BadCell as bad:
            problems.append(Problem("identifier", bad.code, bad.reason, bad.doubtful, bad.value))
        except InvalidIdentifier as error:
            reason = Words(str(error), error.chinese())
            problems.append(Problem("identifier", error.code, reason, is_doubtful(text)))
        return text

    def _key(self, cells: Cells, problems: list[Problem]) -> str:
        parts = [cells[name] for name in self._row.key]
        empty = [name for name in self._row.key if not cells[name]]
        if not set(empty) <= set(self._row.may_be_empty):
            names = ", ".join(name for name in empty if name not in self._row.may_be_empty)
            why = Words(f"the key column {names} is empty", f"关键列 {names} 为空")
            problems.append(Problem("row.key", "missing", why))
        # The lengths keep ("a", "bc") apart from ("ab", "c").
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return sha256(text.encode()).hexdigest()[:32]

    def _check_form(self, form: Form) -> None:
        try:
            self.check_columns([*(one.name for one in form.kept), *COMPUTED])
        except MappingError as error:
            self._reasons.append(error.reason)

    def _check_encoding(self, encoding: str) -> None:
        if encoding == DETECT:
            return
        try:
            if '\n,"'.encode(encoding).removeprefix(b"\xef\xbb\xbf") != b'\n,"':
                en, zh = "convert the file to UTF-8 first", "请先将文件转换为 UTF-8"
                self._complain(f"source.encoding: {encoding}", en, zh)
        except (LookupError, UnicodeError) as error:
            self._complain("source.encoding", str(error), f"无法使用该编码：{error}")

    def _complain(self, where: str, en: str, zh: str) -> None:
        self._reasons.append(placed(where, en, zh))

    def _getter(self, source: Source, info: FieldInfo, where: str) -> Getter:
        try:
            return getter_of(source, info, missing=self.source.missing)
        except ValueError as error:
            self._complain(where, *reason_of(error))
            return lambda cells, raw: ABSENT

    def _recording(self, table: RecordTable) -> Recording:
        commands = COMMANDS | BY_AUTHORITY
        model = commands.get(table.command)
        if model is None:
            known = ", ".join(commands)
            en = f"there is no command {table.command!r}, only {known}"
            self._complain("record", en, f"没有命令 {table.command!r}，只有：{known}")
            return Recording(table.command, table.when, Data, {})
        if table.when is not None:
            self.columns.add(table.when.column)
        given = GIVEN.get(table.command, {})
        plan = self._plan(model, table.fields, f"record {table.command}", given=given)
        for name, value in given.items():
            plan[name] = lambda cells, raw, value=value: value  # type: ignore[misc]
        return Recording(table.command, table.when, model, plan)

    def _plan(
        self,
        model: type[BaseModel],
        fields: Mapping[str, Any],
        where: str,
        *,
        given: Mapping[str, object] | None = None,
    ) -> Plan:
        plan: Plan = {}
        for name, info in model.model_fields.items():
            if name in (given or {}):
                continue
            if name in fields:
                plan[name] = self._field(info, fields[name], f"{where}: {name}")
            elif info.is_required():
                self._complain(where, f"the field {name} is missing", f"缺少字段 {name}")
        for name in set(fields) - set(model.model_fields):
            known = ", ".join(model.model_fields)
            en = f"there is no field {name}, only {known}"
            self._complain(where, en, f"没有字段 {name}，只有：{known}")
        for name in set(fields) & set(given or {}):
            self._complain(where, f"{name} is not yours to set", f"{name} 不得由映射设定")
        return plan

    def _field(self, info: FieldInfo, written: Any, where: str) -> Getter | Plan:
        shape = shape_of(info)
        nested = isinstance(shape, type) and issubclass(shape, BaseModel)
        if nested and shape is not EvidenceDigest:
            if isinstance(written, dict):
                return self._plan(shape, written, where)
            self._complain(where, "write it as a table of its fields", "请写成由其字段组成的表")
            return {}
        try:
            # A plain value is a constant written shortly.
            table = written if isinstance(written, dict) else {"constant": written}
            source = Source.model_validate(table)
            self.columns.update(source.columns())
        except ValidationError as error:
            self._reasons += [placed(where, *reason) for reason in reasons_of(error)]
            return {}
        return self._getter(source, info, where)


def _records(file: Table) -> Iterator[Given | Unread]:
    for record in file:
        if isinstance(record, Fault):
            yield Unread(record.line, [Problem("line", "malformed", record.reason)])
            continue
        cells = dict(zip(file.columns, map(str.strip, record.cells), strict=True))
        yield record.line, cells, record.raw


def _build(recording: Recording, cells: Cells, raw: Raw, problems: list[Problem]) -> Data | None:
    before = len(problems)
    values = _fill(recording.plan, cells, raw, problems, "")
    if len(problems) > before:
        return None
    try:
        return recording.model.model_validate(values)
    except ValidationError as error:
        for flaw in broken(error, ()).flaws:
            field = ".".join(map(str, flaw.loc)) or recording.command
            problems.append(Problem(field, "invalid", flaw.msg))
        return None


def _fill(
    plan: Plan, cells: Cells, raw: Raw, problems: list[Problem], prefix: str
) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, step in plan.items():
        if isinstance(step, dict):
            values[name] = _fill(step, cells, raw, problems, f"{prefix}{name}.")
            continue
        try:
            value = step(cells, raw)
        except BadCell as bad:
            problems.append(Problem(prefix + name, bad.code, bad.reason, bad.doubtful, bad.value))
            continue
        if value is not ABSENT:
            values[name] = value
    return values


def mapping_of(text: str) -> Importing:
    """The mapping in a text. Raises MappingError, TOMLDecodeError or ValidationError."""
    return Importing(MappingFile.model_validate(expanded(tomllib.loads(text))), text)


def load_mapping(path: Path) -> Importing:
    """The mapping in a file. Raises MappingError with every reason, or OSError."""
    try:
        return mapping_of(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, MappingError) as error:
        raise MappingError(*placed(str(path), *reason_of(error))) from error
    except ValidationError as error:
        raise MappingError(*placed(str(path), *joined(reasons_of(error)))) from error
