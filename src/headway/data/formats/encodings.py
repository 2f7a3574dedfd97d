"""Text encodings: UTF-16 and UTF-32, recognized by their first bytes and read as UTF-8."""

import codecs
import itertools

from headway.base.units import count
from headway.data.formats.records import DamagedError
from headway.data.sources.source import Chunks

# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WITHOUT_MARK = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_SNIFF_BYTES = 32
_LEAST_CHARACTERS = 2  # of ASCII, to know an encoding without a mark


class EncodingError(DamagedError):
    """Content that begins in an encoding but does not continue in it."""


def to_utf8(pieces: Chunks) -> Chunks:
    """The content as UTF-8; any that does not begin as UTF-16 or UTF-32 does is left as it is.

    Raises:
        EncodingError: as it is read: it ends inside a character, or does not continue as it began.
    """
    head = b""
    while len(head) < len(codecs.BOM_UTF32_LE) and (chunk := next(pieces, None)) is not None:
        head += chunk
    content = itertools.chain([head], pieces)
    encoding = wide_encoding(head)
    return _decoded(content, encoding) if encoding else content


def wide_encoding(head: bytes) -> str:
    """The encoding of content that begins like this, if it is UTF-16 or UTF-32; "" if not.

    Without a mark, all that is seen must be ASCII.
    """
    marked = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), "")
    if marked or b"\0" not in head[:4]:
        return marked
    return next((encoding for encoding in _WITHOUT_MARK if _is_ascii(head, encoding)), "")


def _is_ascii(head: bytes, encoding: str) -> bool:
    width = 4 if "32" in encoding else 2
    whole = head[: min(len(head), _SNIFF_BYTES) // width * width]
    text = whole.decode(encoding, errors="replace")
    return len(text) >= _LEAST_CHARACTERS and all(
        character.isascii() and (character.isprintable() or character.isspace())
        for character in text
    )


def _decoded(pieces: Chunks, encoding: str) -> Chunks:
    decoder = codecs.getincrementaldecoder(encoding)()
    num_bytes, is_first = 0, True
    try:
        for chunk in pieces:
            num_bytes += len(chunk)
            text = decoder.decode(chunk)
            if text:
                yield (text.removeprefix("\ufeff") if is_first else text).encode()
                is_first = False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        what = f"begins as {name} and is not before byte {count(num_bytes)}: {error.reason}"
        raise EncodingError(what) from error
