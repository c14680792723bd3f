"""UTF-8 text files: read whole where they are small, checked and mapped where they are not."""

from __future__ import annotations

import codecs
import mmap
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.reading import ENCODING_ERRORS
from lrope_interp.data.sources.paragraphs import Text
from lrope_interp.errors import LRopeError, unknown

STDIN = Path("-")
PROSE_SUFFIXES = "txt text md markdown rst tex org"
CODE_SUFFIXES = (
    "py pyi c h cc cpp hpp cs java js jsx ts tsx go rs rb php sh sql r jl lua pl scala kt swift hs ml "
    "html css toml yaml yml"
)
_CODE = frozenset(f".{suffix}" for suffix in CODE_SUFFIXES.split())
TEXT_SUFFIXES = _CODE | {f".{suffix}" for suffix in PROSE_SUFFIXES.split()}
_CHUNK_BYTES = 1 << 22


def read_text(path: Path, encoding_errors: str = "strict", most: int | None = None) -> str:
    """Read a UTF-8 text file as it is, line ends included; only a byte order mark is dropped.

    Args:
        path: The file.
        encoding_errors: "strict" refuses bytes that are not UTF-8, "replace" puts U+FFFD there.
        most: Read no further than so many characters; None reads all.
    """
    text = decoded_text(path, encoding_errors, most)
    if not text.strip():
        raise _empty(path)
    return text


def decoded_text(path: Path, encoding_errors: str = "strict", most: int | None = None) -> str:
    """Read a text file like `read_text`, where it may be empty."""
    stretches, n_read = [], 0
    for stretch in _decoded(path, encoding_errors):
        stretches.append(stretch)
        n_read += len(stretch)
        if most is not None and n_read >= most:
            break
    return "".join(stretches)[:most]


@contextmanager
def checked_text(path: Path, encoding_errors: str = "strict") -> Iterator[tuple[Text, int, str]]:
    """Check a text file of any size and map it into memory.

    Yields:
        The text, the offset where it begins (behind a byte order mark), and its language. With
        "replace" it is a repaired copy in a temporary file.
    """
    script = Script()
    is_blank = True
    with opened(path) as file, tempfile.TemporaryFile() as repaired:
        for text in _decoded(path, encoding_errors):
            script.count(text)
            is_blank = is_blank and not text.strip()
            if encoding_errors == "replace":
                repaired.write(text.encode("utf-8"))
        if is_blank:
            raise _empty(path)
        repaired.flush()
        source = repaired if encoding_errors == "replace" else file
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as text:
            start = len(codecs.BOM_UTF8) if text[:3] == codecs.BOM_UTF8 and source is file else 0
            yield text, start, script.language(path.suffix)


@dataclass
class Script:
    """Counts letters, marks and numbers of a text, and how many of them are Chinese."""

    n_word: int = 0
    n_han: int = 0

    def count(self, text: str) -> None:
        """Add a stretch of text."""
        kinds = character_kinds(text)
        self.n_word += int(np.count_nonzero(kinds & Kind.WORD))
        self.n_han += int(np.count_nonzero(kinds & Kind.HAN))

    def language(self, suffix: str = "") -> str:
        """Guess "code" by the file's suffix, "zh" where half of the word characters are Chinese, or "und"."""
        if suffix.lower() in _CODE:
            return "code"
        return "zh" if 2 * self.n_han > self.n_word else "und"


def language_of(text: str, suffix: str = "") -> str:
    """Guess "code" by the file's suffix, "zh" where half of the word characters are Chinese, or "und"."""
    script = Script()
    if not text.isascii():
        script.count(text)
    return script.language(suffix)


def opened(path: Path) -> BinaryIO:
    """Open a file, or say why it cannot be; ``-`` is what stands on stdin."""
    try:
        if path == STDIN:
            if sys.stdin is None:  # closed by whoever started this
                raise LRopeError("- is what stands on stdin, and stdin is closed; pipe a text into it")
            spooled = tempfile.TemporaryFile()  # noqa: SIM115  whoever asked closes it
            spooled.write(_read_once(sys.stdin.buffer))
            spooled.seek(0)
            return spooled
        return path.open("rb")
    except FileNotFoundError:
        raise LRopeError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise LRopeError(f"{path} is a folder; a text file is wanted here") from None
    except OSError as error:
        raise LRopeError(f"{path} cannot be read: {error.strerror}") from None


@lru_cache(maxsize=1)
def _read_once(stream: Any) -> bytes:
    """Read stdin, which may be asked for again where a text is checked first and read afterwards."""
    return stream.read()


def _decoded(path: Path, encoding_errors: str) -> Iterator[str]:
    """Yield a text file in stretches, without a byte order mark, or say where it is no UTF-8 text."""
    if encoding_errors not in ENCODING_ERRORS:
        raise unknown("value for encoding-errors", encoding_errors, ENCODING_ERRORS)
    decoder = codecs.getincrementaldecoder("utf-8")(encoding_errors)
    at = 0
    with opened(path) as file:
        while True:
            raw = _chunk(path, file)
            if b"\0" in raw:
                raise LRopeError(
                    f"{path} is binary, not text: it has a NUL at byte {at + raw.index(0):,}. Convert it to "
                    "UTF-8 text first."
                )
            text = _decode(path, decoder, raw, at)
            yield text.removeprefix("\ufeff") if at == 0 else text
            if not raw:
                return
            at += len(raw)


def _chunk(path: Path, file: BinaryIO) -> bytes:
    """Read some of a file."""
    try:
        return file.read(_CHUNK_BYTES)
    except OSError as error:
        raise LRopeError(f"{path} cannot be read: {error.strerror}") from None


def _decode(path: Path, decoder: codecs.IncrementalDecoder, raw: bytes, at: int) -> str:
    """Decode the bytes of a file from `at` on; an end within a character waits for the next ones."""
    n_waiting = len(decoder.getstate()[0])
    try:
        return decoder.decode(raw, final=not raw)
    except UnicodeDecodeError as error:
        raise LRopeError(
            f"{path} is not UTF-8 at byte {at - n_waiting + error.start:,} ({error.reason}). Convert it, or "
            "read it with --encoding-errors replace."
        ) from None


def _empty(path: Path) -> LRopeError:
    return LRopeError(f"{path} is empty; a text is wanted")
