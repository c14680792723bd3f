"""CoNLL-U, as far as words go: which surface words a sentence has, and where in its text.

The surface words are the lines of a number, and of a range (``3-4``, one written word of several
syntactic ones) in place of the words it spans. Empty nodes (``8.1``) were never written. Format:
https://universaldependencies.org/format.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lrope_interp.errors import LRopeError

_N_COLUMNS = 10
_ID = re.compile(r"(?P<first>[0-9]+)(?:-(?P<last>[0-9]+)|(?P<empty>\.[0-9]+))?")
_TEXT = re.compile(r"#\s*text\s*=\s*(.*\S)\s*")


@dataclass(frozen=True)
class _Word:
    line: int
    form: str
    has_space_after: bool


def is_conllu(lines: Sequence[str]) -> bool:
    """Return whether the first line that is neither blank nor a comment is one of CoNLL-U, or cut from it."""
    for line in lines:
        if line.strip() and not line.startswith("#"):
            columns = line.split("\t")
            return len(columns) > 1 and _ID.fullmatch(columns[0]) is not None
    return False


def read_conllu(path: Path, lines: Sequence[str]) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Yield the text of every sentence, and its surface words as half-open spans of characters.

    The text is that of the comment ``# text = ``, or built from the forms and SpaceAfter=No.

    Raises:
        LRopeError: A line is no line of CoNLL-U, or a form does not stand in the text; with its place.
    """
    text: str | None = None
    words: list[_Word] = []
    last_of_range = 0
    for number, line in enumerate([*lines, ""], start=1):
        if not line.strip():
            if words:
                yield _aligned(path, text, words) if text else _built(words)
            text, words, last_of_range = None, [], 0
        elif line.startswith("#"):
            found = _TEXT.fullmatch(line)
            text = found[1] if found else text
        else:
            word, first, last = _word(path, number, line)
            if word is not None and first > last_of_range:
                words.append(word)
                last_of_range = last if last > first else last_of_range


def _word(path: Path, number: int, line: str) -> tuple[_Word | None, int, int]:
    """Read one line: the word (None for an empty node), and the numbers that it spans."""
    columns = line.split("\t")
    found = _ID.fullmatch(columns[0])
    if found is None or len(columns) < 2 or not columns[1].strip():
        raise LRopeError(
            f"{path}, line {number:,}: a line of CoNLL-U is wanted, with a number, a tab and a form at its "
            f"beginning; got {line[:60]!r}"
        )
    first = int(found["first"])
    if found["empty"]:
        return None, first, first
    misc = columns[_N_COLUMNS - 1].split("|") if len(columns) >= _N_COLUMNS else []
    return _Word(number, columns[1].strip(), "SpaceAfter=No" not in misc), first, int(found["last"] or first)


def _built(words: Sequence[_Word]) -> tuple[str, list[tuple[int, int]]]:
    """Build a text from forms."""
    text, spans = "", []
    for word in words:
        spans.append((len(text), len(text) + len(word.form)))
        text += word.form + (" " if word.has_space_after else "")
    return text.rstrip(), spans


def _aligned(path: Path, text: str, words: Sequence[_Word]) -> tuple[str, list[tuple[int, int]]]:
    """Find the forms in the text one after the other; only white space may stand between them."""
    spans: list[tuple[int, int]] = []
    at = 0
    for word in words:
        form = r"\s+".join(map(re.escape, word.form.split()))
        found = re.compile(rf"\s*({form})").match(text, at)
        if found is None:
            raise LRopeError(
                f"{path}, line {word.line:,}: the form {word.form!r} does not align with `# text`, which "
                f"goes on with {text[at : at + 30]!r}. Correct one of them, or leave `# text` out"
            )
        spans.append(found.span(1))
        at = found.end()
    if text[at:].strip():
        raise LRopeError(
            f"{path}, line {words[-1].line:,}: after the last form, `# text` goes on with "
            f"{text[at : at + 30]!r}. Correct one of them, or leave `# text` out"
        )
    return text, spans
