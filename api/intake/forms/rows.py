"""A file in a form as rows: between the file, the form's rules and the mapping.

A row of our own is read by itself. Any other is read by the form's rules, then by the mapping, and
is either understood whole, with notes on what was mended, or goes to a person, or is refused.
Nothing of a row about a natural person leaves this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from api.intake.complaint import MappingError
from api.intake.csvfile import Fault, Record, Table
from api.intake.forms.form import Form
from api.intake.forms.header import Header, read_header
from api.intake.forms.party import is_personal, may_tell_a_person, squeezed
from api.intake.forms.reading import Reading, bytes_of, read_row
from api.intake.forms.remark import is_own, read_own
from api.intake.rows import Problem, Proof, Row, Unread
from ledger.errors import Words

Given = tuple[int, Mapping[str, str], bytes]
"""A record: its line, its cells by canonical columns, what it is proven by."""
Read = Callable[[int, Mapping[str, str], bytes | Proof], Row | Unread]
"""A mapping's own reading of clean cells."""


def header_of(columns: Sequence[str], form: Form) -> Header:
    """The header of a file that is said to be in a form. Raises MappingError where it is not."""
    header = read_header(columns, form)
    if header is None:
        wanted = ", ".join(form.marks)
        raise MappingError(
            f"the file is not in the form {form.name}, which has the columns {wanted}",
            f"文件不是 {form.name} 格式，该格式应有列：{wanted}",
        )
    if header.twice:
        names = ", ".join(header.twice)
        raise MappingError(f"two columns of the file are both {names}", f"文件中有两列同为 {names}")
    return header


def records_of(file: Table, form: Form) -> Iterator[Given | Unread]:
    """Every record of a file in a form. Raises MappingError where it is not in that form."""
    header = header_of(file.columns, form)
    return (one for record in file if (one := _record(record, header)) is not None)


def _record(record: Record | Fault, header: Header) -> Given | Unread | None:
    if isinstance(record, Fault):
        return Unread(record.line, [Problem("line", "malformed", record.reason)])
    if header.stands_in(record.cells):
        return None
    row = header.cells(record.cells)
    return record.line, row, bytes_of(header.form, row)


def read_in_form(
    form: Form, line: int, cells: Mapping[str, str], *, read: Read, raw: bytes | Proof
) -> Row | Unread:
    """One row by its canonical cells: also one that a person corrected, with its first bytes."""
    # Nobody gets a person in by writing a remark like ours.
    if is_own(form, cells) and not may_tell_a_person(form, cells):
        row = read_own(form, line, cells, raw)
        if isinstance(row, Row) or not is_personal(cells.get(form.roles.name, "")):
            return row
        kept = without_name(form, cells, cells)
        return replace(row, cells=kept, raw=bytes_of(form, kept))
    reading = read_row(form, cells)
    if reading.personal:
        return Unread(line, reading.problems)
    row = read(line, reading.cells, raw)
    problems = _against(reading, row)
    if not problems and isinstance(row, Row):
        return replace(row, notes=[*reading.notes, *row.notes])
    subject = row.subject or reading.cells["identifier"]
    if not reading.unnamed:
        return Unread(line, problems, key=row.key, subject=subject, cells=cells, raw=raw)
    kept = without_name(form, cells, reading.cells)
    name = squeezed(reading.cells[form.roles.name])
    told = [_unnamed(one, {name, reading.cells[form.roles.name]}) for one in problems]
    subject = "" if squeezed(subject) == name else subject
    return Unread(line, told, key=row.key, subject=subject, cells=kept, raw=bytes_of(form, kept))


def without_name(form: Form, cells: Mapping[str, str], read: Mapping[str, str]) -> dict[str, str]:
    """The cells without the name, wherever it stands; in `read` code and name are in their places.

    A code that stood in the name's place is kept in its own.
    """
    roles = form.roles
    name = squeezed(read[roles.name])
    found = {**cells, roles.code: read.get(roles.code, "")}
    return {
        column: "" if column == roles.name or squeezed(text) == name else text
        for column, text in found.items()
    }


def _unnamed(problem: Problem, names: set[str]) -> Problem:
    """A reason that does not repeat a name which stood in another column."""
    en, zh = problem.reason
    for name in names:
        en, zh = en.replace(name, "…"), zh.replace(name, "…")
    return problem._replace(reason=Words(en, zh), value="")


def _against(reading: Reading, row: Row | Unread) -> list[Problem]:
    """Everything against a row, each thing once.

    Where the form's rules say that a cell is wrong, the mapping's complaints about what came of it
    would only repeat that; what it does not find in a table it says of its own. What is missing
    after all is for a person: the form itself does not ask for it.
    """
    told = row.problems if isinstance(row, Unread) else ()
    found = list(reading.problems)
    seen = set[tuple[str, str]]()
    for one in told:
        if reading.problems and one.code != "not-in-table":
            continue
        if (one.code, one.reason.en) not in seen:
            seen.add((one.code, one.reason.en))
            found.append(one._replace(doubtful=one.doubtful or one.code == "missing"))
    return found
