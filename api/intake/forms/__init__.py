"""Exchange forms: files whose columns a public standard fixes, such as 双公示, and their dirt.

A form stands between a file and a mapping. Way of a row: `header.py` gives each column its
canonical name and drops persons' columns → `reading.py` repairs, doubts or refuses every cell
(`party.py`: whom the row is about; `cells.py`: days, codes, kinds, citations; `money.py`: 万元
against the text; `status.py`: withdrawn or not) → the mapping makes commands of clean cells. A row
this system wrote itself carries the rest of its event in the remark (`remark.py`) and needs no
mapping; `export.py` writes such rows. What a form is stands in `*.form.toml`, how it is mapped in
the `*.toml` beside it.
"""
