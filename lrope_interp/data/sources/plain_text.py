"""UTF-8 text files: read whole where they are small, checked and mapped where they are not.

Paragraphs and runs of them are found in bytes, so that a text may be a file that is mapped into memory and
never read as a whole.
"""

from __future__ import annotations

import codecs
import mmap
import re
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
from lrope_interp.data.documents import ENCODING_ERRORS
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
        raise LRopeError(f"{path} is empty; a text is wanted")
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
            raise LRopeError(f"{path} is empty; a text is wanted")
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
            try:
                raw = file.read(_CHUNK_BYTES)
            except OSError as error:
                raise LRopeError(f"{path} cannot be read: {error.strerror}") from None
            if b"\0" in raw:
                raise LRopeError(
                    f"{path} is binary, not text: it has a NUL at byte {at + raw.index(0):,}. Convert it to "
                    "UTF-8 text first."
                )
            n_waiting = len(decoder.getstate()[0])  # an end within a character waits for the next bytes
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                raise LRopeError(
                    f"{path} is not UTF-8 at byte {at - n_waiting + error.start:,} ({error.reason}). Convert "
                    "it, or read it with encoding_errors replace."
                ) from None
            yield text.removeprefix("\ufeff") if at == 0 else text
            if not raw:
                return
            at += len(raw)


DOCUMENT_BYTES = 2_000
RULE = 2
"""Number of the rule below; a cache of documents made by another one is not used."""
_LONGEST_PARAGRAPH_BYTES = 8_000
_LONGEST_LINE_BYTES = 64_000
_GLANCE_BYTES = 4_096
# A lone \r is a line end, but never the first half of \r\n. \xe3\x80\x80 is the ideographic space.
_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINES = re.compile(_LINE_END + rb"(?:(?:[ \t]|\xe3\x80\x80)*" + _LINE_END + rb")+")
_LINE_ENDS = re.compile(_LINE_END + rb"+")

Text = bytes | mmap.mmap
"""UTF-8 text, in memory or on the disk."""


def paragraphs(text: Text, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the byte span of every paragraph between blank lines, from `start` on."""
    return _between(_BLANK_LINES, text, start, len(text))


def runs_of_paragraphs(text: Text, start: int = 0) -> Iterator[tuple[int, int]]:
    """Cut a text into runs of whole paragraphs of at least 2,000 bytes, and yield their byte spans.

    A paragraph above 8,000 bytes (a text with one paragraph a line and no blank lines) is cut at
    its line ends, and a line above 64,000 (a corpus without line ends, as text8) at blanks, about
    every 8,000 bytes. What is left over at the end joins the last run.
    """
    waiting: tuple[int, int] | None = None
    first, stop = None, start
    for begin, stop in _short_paragraphs(text, start):
        first = begin if first is None else first
        if stop - first >= DOCUMENT_BYTES:
            if waiting is not None:
                yield waiting
            waiting, first = (first, stop), None
    if first is not None:
        waiting = (first if waiting is None else waiting[0], stop)
    if waiting is not None:
        yield waiting


def _short_paragraphs(text: Text, at: int) -> Iterator[tuple[int, int]]:
    """Yield paragraphs that are not blank, the over-long ones line by line."""
    for start, stop in paragraphs(text, at):
        is_long = stop - start > _LONGEST_PARAGRAPH_BYTES
        for first, last in _between(_LINE_ENDS, text, start, stop) if is_long else [(start, stop)]:
            if last - first > _LONGEST_LINE_BYTES:
                yield from _cut(text, first, last)
            elif not _is_blank(text, first, last):
                yield first, last


def _cut(text: Text, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield stretches of one line, cut at blanks; without one behind a full stop, else between characters."""
    while first < last:
        stop = min(first + _LONGEST_PARAGRAPH_BYTES, last)
        if last - stop > DOCUMENT_BYTES:
            least = first + DOCUMENT_BYTES
            cut = max(text.rfind(blank, least, stop) for blank in (b" ", b"\t", b"\xe3\x80\x80"))
            cut = cut if cut > 0 else text.rfind(b"\xe3\x80\x82", least, stop) + 3
            stop = cut if cut > 2 else stop
        else:
            stop = last
        while stop < last and text[stop] & 0xC0 == 0x80:  # inside a character
            stop -= 1
        if not _is_blank(text, first, stop):
            yield first, stop
        first = stop


def _is_blank(text: Text, first: int, last: int) -> bool:
    """Return whether a stretch is white space; its beginning mostly tells."""
    glance = text[first : min(last, first + _GLANCE_BYTES)].decode("utf-8", errors="ignore")
    return not glance.strip() and not text[first:last].decode("utf-8").strip()


def _between(separator: re.Pattern[bytes], text: Text, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of text[start:stop] that the separators leave."""
    at = start
    for match in separator.finditer(text, start, stop):
        yield at, match.start()
        at = match.end()
    yield at, stop
