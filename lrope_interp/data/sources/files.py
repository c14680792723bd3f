"""The user's own text: a file, or a folder of files."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.documents import CorpusPart, Document, unique_documents
from lrope_interp.data.splits import require_documents
from lrope_interp.errors import LRopeError, unknown

HELD_OUT_SHARE = 0.1
DOCUMENT_BYTES = 2_000
_LONGEST_PARAGRAPH_BYTES = 8_000
ENCODING_ERRORS = ("strict", "replace")
_PROSE_SUFFIXES = "txt text md markdown rst tex org"
_CODE_SUFFIXES = (
    "py pyi c h cc cpp hpp cs java js jsx ts tsx go rs rb php sh sql r jl lua pl scala kt swift hs ml "
    "html css toml yaml yml"
)
_CODE = frozenset(f".{suffix}" for suffix in _CODE_SUFFIXES.split())
_TEXT = _CODE | {f".{suffix}" for suffix in _PROSE_SUFFIXES.split()}
# A lone \r is a line end, but never the first half of \r\n.
_LINE_END = r"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINES = re.compile(rf"{_LINE_END}(?:[ \t\u3000]*{_LINE_END})+")
_LINE_ENDS = re.compile(rf"{_LINE_END}+")


def load(path: Path, encoding_errors: str = "strict") -> CorpusPart:
    """Return a text file or a folder as documents.

    Args:
        path: A text file, of which each run of paragraphs of at least 2,000 bytes is a document, or
            a folder, of which each text or code file is one (hidden ones are skipped).
        encoding_errors: "strict" refuses what is not UTF-8, "replace" puts U+FFFD there.
    """
    found = list(_folder(path, encoding_errors) if path.is_dir() else _file(path, encoding_errors))
    documents, n_duplicates = unique_documents(found)
    require_documents(len(documents), str(path))
    languages = {document.language for document in documents}
    source = {
        "package": None,
        "version": None,
        "files": str(path),
        "rights": "the user's own text",
        "n_duplicates_removed": n_duplicates,
    }
    language = languages.pop() if len(languages) == 1 else "und"
    return CorpusPart("file", language, documents, HELD_OUT_SHARE, source)


def read_text(path: Path, encoding_errors: str = "strict") -> str:
    """Read a UTF-8 text file as it is, line ends included; only a byte order mark is dropped."""
    text = _decoded(path, _raw(path), encoding_errors)
    if not text.strip():
        raise LRopeError(f"{path} is empty; a text is wanted")
    return text


def _raw(path: Path) -> bytes:
    """Return the bytes of a file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise LRopeError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise LRopeError(f"{path} is a folder; a text file is wanted here") from None
    except OSError as error:
        raise LRopeError(f"{path} cannot be read: {error.strerror}") from None


def _decoded(path: Path, raw: bytes, encoding_errors: str) -> str:
    """Decode the bytes of a file, or say where they are no UTF-8 text."""
    if encoding_errors not in ENCODING_ERRORS:
        raise unknown("value for encoding-errors", encoding_errors, ENCODING_ERRORS)
    if b"\0" in raw:
        raise LRopeError(
            f"{path} is binary, not text: it has a NUL at byte {raw.index(0):,}. Convert it to UTF-8 "
            "text first."
        )
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors=encoding_errors)
    except UnicodeDecodeError as error:
        at = error.start + len(codecs.BOM_UTF8) * raw.startswith(codecs.BOM_UTF8)
        raise LRopeError(
            f"{path} is not UTF-8 at byte {at:,} ({error.reason}). Convert it, or read it with "
            "--encoding-errors replace."
        ) from None


def language_of(text: str, suffix: str = "") -> str:
    """Guess "code" by the file's suffix, "zh" where half of the word characters are Chinese, or "und"."""
    if suffix.lower() in _CODE:
        return "code"
    kinds = character_kinds(text)
    n_word, n_han = (int(np.count_nonzero(kinds & kind)) for kind in (Kind.WORD, Kind.HAN))
    return "zh" if 2 * n_han > n_word else "und"


def paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Yield the character span of every paragraph between blank lines."""
    return _between(_BLANK_LINES, text, 0, len(text))


def runs_of_paragraphs(text: str) -> Iterator[str]:
    """Cut a text into runs of whole paragraphs of at least 2,000 bytes.

    A paragraph above 8,000 bytes (a text with one paragraph a line and no blank lines) is cut at
    its line ends. What is left over at the end joins the last run.
    """
    spans: list[tuple[int, int]] = []
    first, stop = None, 0
    for start, stop in _short_paragraphs(text):
        first = start if first is None else first
        if len(text[first:stop].encode("utf-8")) >= DOCUMENT_BYTES:
            spans.append((first, stop))
            first = None
    if first is not None:
        spans.append((spans.pop()[0] if spans else first, stop))
    return (text[start:stop] for start, stop in spans)


def _short_paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Yield paragraphs that are not blank, the over-long ones line by line."""
    for start, stop in paragraphs(text):
        is_long = len(text[start:stop].encode("utf-8")) > _LONGEST_PARAGRAPH_BYTES
        for first, last in _between(_LINE_ENDS, text, start, stop) if is_long else [(start, stop)]:
            if text[first:last].strip():
                yield first, last


def _between(separator: re.Pattern[str], text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of text[start:stop] that the separators leave."""
    at = start
    for match in separator.finditer(text, start, stop):
        yield at, match.start()
        at = match.end()
    yield at, stop


def _file(path: Path, encoding_errors: str) -> Iterator[Document]:
    """Yield the documents of one text file."""
    text = read_text(path, encoding_errors)
    language = language_of(text, path.suffix)
    for number, piece in enumerate(runs_of_paragraphs(text), start=1):
        yield Document(f"{path.name}#{number}", piece, "file", language)


def _folder(path: Path, encoding_errors: str) -> Iterator[Document]:
    """Yield one document a text file of a folder, in a fixed order."""
    files = [file for file in _visible_files(path) if file.suffix.lower() in _TEXT]
    if not files:
        raise LRopeError(
            f"the folder {path} has no text file (hidden ones do not count); the names that are taken for "
            f"text end in: {_PROSE_SUFFIXES} {_CODE_SUFFIXES}"
        )
    for file in files:
        text = _decoded(file, _raw(file), encoding_errors)
        if text.strip():
            yield Document(file.relative_to(path).as_posix(), text, "file", language_of(text, file.suffix))


def _visible_files(path: Path) -> Iterator[Path]:
    """Walk a folder in a fixed order, without hidden files and folders."""
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found = (Path(folder, name) for name in sorted(files) if not name.startswith("."))
        yield from (file for file in found if file.is_file())
