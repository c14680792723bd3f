"""Where paragraphs of a UTF-8 text begin and end, and the runs of them that make documents.

Everything here works on bytes, so that a text may be a file that is mapped into memory and never
read as a whole.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

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
