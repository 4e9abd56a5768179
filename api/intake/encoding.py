"""How a text file is encoded, found out and not guessed: UTF-8 if all of it is, else GB18030.

Almost nothing written in GB18030 is by chance UTF-8 throughout, so what is UTF-8 is taken for it.
Reads the whole file once. Knows nothing of its content.
"""

from __future__ import annotations

import codecs
import zlib
from gzip import BadGzipFile
from typing import BinaryIO

from api.intake.csvfile import NoHeader
from ledger.errors import Words

DETECT = "detect"
"""What a mapping writes for an encoding that is to be found out."""
CANDIDATES = ("utf-8", "gb18030")
OTHERS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
PIECE_BYTES = 1024 * 1024


def detected(stream: BinaryIO) -> str:
    """The encoding of a stream, which is read to its end. Raises NoHeader where it has none."""
    decoders = {name: codecs.getincrementaldecoder(name)() for name in CANDIDATES}
    first = True
    while decoders:
        try:
            piece = stream.read(PIECE_BYTES)
        except (EOFError, zlib.error, BadGzipFile) as error:
            # What cannot be read to its end could be either of them.
            why = f"the compressed file is damaged: {error}", f"压缩文件已损坏：{error}"
            raise NoHeader(Words(*why)) from error
        if first and piece.startswith(OTHERS):
            break
        first = False
        for name, decoder in list(decoders.items()):
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError:
                del decoders[name]
        if not piece:
            break
    else:
        raise NoHeader(_NEITHER)
    if first:
        raise NoHeader(_NEITHER)
    return next(name for name in CANDIDATES if name in decoders)


_NEITHER = Words(
    "the file is neither UTF-8 nor GB18030; save it as one of them",
    "文件既不是 UTF-8 编码，也不是 GB18030 编码，请另存为其中一种",
)
