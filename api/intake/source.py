"""A file to import, opened as a table: CSV or a workbook, told by its first bytes, not its name.

Without a mapping the header tells the form, and the mapping that comes with the form is taken.
Knows files and mappings, and no ledger.
"""

from __future__ import annotations

import io
from importlib.resources import as_file, files

from api.intake.complaint import MappingError
from api.intake.csvfile import CsvFile, NoHeader, Table, unpacked
from api.intake.encoding import DETECT, detected
from api.intake.forms.form import NAMES
from api.intake.forms.header import recognised
from api.intake.mapping import Importing, load_mapping
from api.intake.mappingfile import SourceTable
from api.intake.xlsxfile import OLD_OR_LOCKED, OLE_MAGIC, ZIP_MAGIC, XlsxFile
from ledger.errors import Words


def table_of(raw: io.BufferedReader, written: SourceTable) -> Table:
    """The file as a table. Raises NoHeader where it is none."""
    first = raw.peek(len(OLE_MAGIC))
    if first.startswith(OLE_MAGIC):
        raise NoHeader(OLD_OR_LOCKED)
    if first.startswith(ZIP_MAGIC):
        _need_seeking(raw)
        sheet = written.sheet
        return XlsxFile(raw, sheet=sheet, is_header=lambda cells: recognised(cells) is not None)
    encoding = written.encoding
    if encoding == DETECT:
        _need_seeking(raw)
        encoding = detected(unpacked(raw))
        raw.seek(0)
    return CsvFile(unpacked(raw), encoding=encoding, delimiter=written.delimiter)


def _need_seeking(raw: io.BufferedReader) -> None:
    if not raw.seekable():
        en = "it has to be read twice, which a pipe cannot be: save it as a file"
        raise NoHeader(Words(en, "该文件须读取两遍，不能来自管道，请先存为文件"))


def mapping_of_form(name: str) -> Importing:
    """The mapping that comes with a form."""
    with as_file(files("api.intake.forms") / f"{name}.toml") as path:
        return load_mapping(path)


def recognised_file(raw: io.BufferedReader) -> tuple[Importing, Table]:
    """A file in one of the known forms, and the mapping that comes with it.

    Raises NoHeader, or MappingError where its header is that of no form.
    """
    table = table_of(raw, SourceTable(encoding=DETECT))
    header = recognised(table.columns)
    if header is None:
        forms = ", ".join(NAMES)
        raise MappingError(
            f"the header is that of no known form ({forms}): name its --mapping, or say"
            " --format jsonl if it holds JSON Lines",
            f"表头不属于已知的任何格式（{forms}），请指明 --mapping；若为 JSON Lines，请写明"
            " --format jsonl",
        )
    return mapping_of_form(header.form.name), table
