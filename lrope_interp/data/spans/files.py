"""Typed spans that the user brings: JSON lines of texts and of what stands where in them."""

from __future__ import annotations

import codecs
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data.alignment import Kind, character_kinds, character_widths, code_points
from lrope_interp.data.documents import Document, any_integer
from lrope_interp.data.labels.words import silver_word_starts
from lrope_interp.data.sources.plain_text import language_of, opened
from lrope_interp.data.spans.typed import OTHER, Row, Spans, Typed, matched_stretches
from lrope_interp.errors import LRopeError

CORPUS = "spans"
_FORM = '{"text": "Ada wrote", "spans": [{"start": 0, "end": 3, "type": "person"}]}'
_LINE_KEYS = ("text", "spans")
_SPAN_KEYS = ("start", "end", "type")
_SHOWN = 40


def read_spans_file(path: Path | str) -> tuple[tuple[Document, ...], Spans]:
    """Read spans of one's own: a JSON object a line, ``{"text": ..., "spans": [{"start", "end", "type"}]}``.

    Offsets count characters (Unicode code points, as Python does) and are half open. Spans may overlap;
    the same span twice counts once; a line may have none. Blank lines are passed over, and so are other keys
    of a line that hold neither a list nor an object. A text that occurs again is one document with the
    spans of all its lines.

    Where all spans have one type there is nothing to tell it from. Then stretches of the same texts
    become "other": as many words, beginning with capitals where the span does if such are free,
    across no punctuation, overlapping no span. They are unlike the type in more than its meaning (an
    unmarked mention of it counts as "other"); spans of one's own of type "other" are better.

    Args:
        path: UTF-8 text.

    Returns:
        The different texts as documents, named by file and line, and the spans. The concepts are the
        types in alphabetical order, "other" last.

    Raises:
        LRopeError: The file cannot be read, or something in it is not as described; the message has
            the line, and the number of the span in it, both from 1.
    """
    path = Path(path).expanduser()
    names: dict[str, str] = {}
    spans: defaultdict[str, set[Typed]] = defaultdict(set)
    for number, line in _lines(path):
        text, found = _read_line(line, f"{path}, line {number:,}")
        names.setdefault(text, f"{path.name}#{number}")
        spans[text].update(found)
    documents = tuple(Document(name, text, CORPUS, language_of(text)) for text, name in names.items())
    types = sorted({kind for found in spans.values() for _, _, kind in found} - {OTHER})
    if not types:
        raise LRopeError(f"{path} has no span of any type but {OTHER!r}; as in {_FORM}")
    rows = [(at, *span) for at, document in enumerate(documents) for span in spans[document.text]]
    if len(types) == 1 and all(kind != OTHER for *_, kind in rows):
        rows += _others(path, documents, spans)
    has_other = any(kind == OTHER for *_, kind in rows)
    return documents, Spans.of(rows, (*types, OTHER) if has_other else types)


def edge_warnings(documents: Sequence[Document], spans: Spans) -> list[str]:
    """Say how many spans begin or end inside a word, and which other way of counting would mend that.

    Offsets of other programs may count UTF-16 units (JavaScript, Java, Windows) or bytes, or name the
    last character and not the one past it. Such a file is valid and says nothing of it, but its spans
    stand off the words. Of Chinese, jieba's words are asked, which many a right span cuts: they count only
    where most spans fit them when read in another way. Other scripts without spaces give no sign of it.
    """
    # Stretches that were found for a file of one type are "other", and begin and end with words.
    spans = spans.take(np.array([name != OTHER for name in spans.names], dtype=bool))
    try:
        return _misplaced(documents, spans, has_words=False) or _misplaced(documents, spans, has_words=True)
    except LRopeError:  # jieba is an extra, and nothing else here can fail
        return []


def _misplaced(documents: Sequence[Document], spans: Spans, *, has_words: bool) -> list[str]:
    """Return the warning, if there is any; `has_words` asks jieba for the words of Chinese."""
    counts: dict[str, int] = dict.fromkeys((_AS_IS, *_OTHER_COUNTS), 0)
    example = ""
    rows = np.searchsorted(spans.document, np.arange(len(documents) + 1))
    for number, document in enumerate(documents):
        own = slice(rows[number], rows[number + 1])
        start, end = spans.start[own], spans.end[own]
        is_inside = _inside_words(document.text, has_words=has_words)
        is_odd = is_inside[start] | is_inside[end]
        counts[_AS_IS] += int(is_odd.sum())
        if is_odd.any() and not example:
            first, past = (int(edge[is_odd][0]) for edge in (start, end))
            said = document.text[first:past]
            shown = said if len(said) <= _SHOWN else f"{said[: _SHOWN - 10]}...{said[-7:]}"
            example = f"characters {first:,} to {past:,} of {document.name}: {shown!r}"
        for name, moved in _recounted(document.text, start, end).items():
            counts[name] += int((is_inside[moved[0]] | is_inside[moved[1]] | (moved < 0).any(axis=0)).sum())
    n_odd = counts.pop(_AS_IS)
    best = min(counts, key=lambda name: counts[name])
    if not n_odd or (has_words and (n_odd < len(spans) / 5 or counts[best] > n_odd / 4)):
        return []
    would = f"; read as {best}, {counts[best] or 'none'} would" if counts[best] <= n_odd / 4 else ""
    return [
        f"{n_odd:,} of {len(spans):,} spans begin or end inside a word, as {example}. Check that offsets "
        "count characters (code points), not UTF-16 units or bytes, and that 'end' is the one past the "
        f"last{would}"
    ]


_AS_IS = "they are"
_OTHER_COUNTS = ("UTF-16 units", "bytes", "inclusive ends")
# Thai, Lao, Burmese, Khmer, Tai and kana are written without spaces, as Chinese is.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]"
)


def _inside_words(text: str, *, has_words: bool) -> Bool[np.ndarray, " n_characters_and_one"]:
    """Mark the places (before each character, and at the end) inside words of a spaced script, or jieba's."""
    kinds = character_kinds(text)
    is_spaced = (kinds & (Kind.WORD | Kind.HAN)) == Kind.WORD
    is_spaced[[found.start() for found in _UNSPACED.finditer(text)]] = False
    between = is_spaced[:-1] & is_spaced[1:] | ((kinds[1:] & Kind.EXTENDS) != 0)
    if has_words:
        is_han = (kinds & Kind.HAN) != 0
        between |= (is_han[:-1] & is_han[1:]) & ~silver_word_starts(text, is_han)[1:]
    return np.concatenate([[False], between, [False]])


def _recounted(
    text: str, start: Int64[np.ndarray, " n"], end: Int64[np.ndarray, " n"]
) -> dict[str, Int64[np.ndarray, "2 n"]]:
    """Return start and end in characters by other ways of counting; -1 where none is there."""
    widths = (1 + (code_points(text) >= 0x10000), character_widths(text), np.ones(len(text), dtype=np.int64))
    found = {}
    for name, width in zip(_OTHER_COUNTS, widths, strict=True):
        edges = np.concatenate([[0], np.cumsum(width)])
        moved = np.stack([start, end + (name == _OTHER_COUNTS[-1])])
        place = np.minimum(np.searchsorted(edges, moved), len(text))
        found[name] = np.where(edges[place] == moved, place, -1)
    return found


def _others(path: Path, documents: tuple[Document, ...], spans: dict[str, set[Typed]]) -> list[Row]:
    """Return stretches that no span overlaps."""
    found = [
        (at, start, end, OTHER)
        for at, document in enumerate(documents)
        for start, end in matched_stretches(document, [span[:2] for span in spans[document.text]])
    ]
    if not found:
        raise LRopeError(
            f"{path} has spans of one type only, and no words beside them to tell it from; add spans of type "
            f"{OTHER!r} or of another type"
        )
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines that are not blank."""
    is_empty = True
    with opened(path) as file:
        for number, raw in enumerate(_raw_lines(path, file), start=1):
            try:
                line = (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).decode("utf-8")
            except UnicodeDecodeError as error:
                raise LRopeError(
                    f"{path}, line {number:,}: not UTF-8 at byte {error.start:,} of the line "
                    f"({error.reason}); convert the file first"
                ) from None
            if line.strip():
                is_empty = False
                yield number, line
    if is_empty:
        raise LRopeError(f"{path} is empty; a line a text is wanted, as in {_FORM}")


def _raw_lines(path: Path, file: Any) -> Iterator[bytes]:
    try:
        yield from file
    except OSError as error:
        raise LRopeError(f"{path} cannot be read: {error.strerror}") from None


# Checked here and not by pydantic: its errors would have to be taken apart to say which line, which span and
# what came in the place of what.
def _read_line(line: str, place: str) -> tuple[str, list[Typed]]:
    """Return the text and the spans of one line."""
    try:
        row = json.loads(line, object_pairs_hook=_object, parse_int=any_integer)
    except (ValueError, RecursionError) as error:
        said = str(error) or type(error).__name__
        raise LRopeError(f"{place}: not valid JSON ({said}); wanted: {_FORM}") from None
    if isinstance(row, dict):  # an id or a source may stand beside; what could be spans may not
        is_whole = row.keys() >= set(_LINE_KEYS)
        row = {
            key: value
            for key, value in row.items()
            if key in _LINE_KEYS or (isinstance(value, list | dict) and (value or not is_whole))
        }
    _check_keys(row, _LINE_KEYS, place)
    text, spans = row["text"], row["spans"]
    if not isinstance(text, str) or not text:
        raise LRopeError(f"{place}: 'text' must be text that is not empty, got {_shown(text)}")
    _check_unicode(text, f"{place}: 'text'")
    if not isinstance(spans, list):
        raise LRopeError(f"{place}: 'spans' must be a list, got {_shown(spans)}; wanted: {_FORM}")
    return text, [
        _read_span(span, len(text), f"{place}, span {at}") for at, span in enumerate(spans, start=1)
    ]


def _read_span(span: object, n_characters: int, place: str) -> Typed:
    """Return one span, checked."""
    _check_keys(span, _SPAN_KEYS, place)
    assert isinstance(span, dict)
    start, end, kind = span["start"], span["end"], span["type"]
    for name, value in (("start", start), ("end", end)):
        if type(value) is not int:  # true and false are integers to isinstance
            raise LRopeError(f"{place}: {name!r} must be a whole number of characters, got {_shown(value)}")
    if not 0 <= start < end <= n_characters:
        raise LRopeError(
            f"{place}: {_what_is_wrong(start, end)}, got start {_shown(start)} and end {_shown(end)} in a "
            f"text of {n_characters:,} characters; offsets count characters, not bytes or UTF-16 units, and "
            "'end' is the one past the last"
        )
    if not isinstance(kind, str) or not kind.strip():
        raise LRopeError(f"{place}: 'type' must be a name that is not empty, got {_shown(kind)}")
    _check_unicode(kind, f"{place}: 'type'")
    return start, end, kind


def _what_is_wrong(start: int, end: int) -> str:
    if start < 0 or end < 0:
        return "a span cannot begin before its text"
    if start == end:
        return "a span must not be empty"
    return "a span must not end before it starts" if end < start else "the span reaches beyond its text"


def _check_keys(value: object, wanted: tuple[str, ...], place: str) -> None:
    """Refuse what is no object with these keys and no others."""
    if not isinstance(value, dict):
        raise LRopeError(f"{place}: an object is wanted, got {_shown(value)}; as in {_FORM}")
    if value.keys() == set(wanted):
        return
    missing = [key for key in wanted if key not in value]
    unknown = [key for key in value if key not in wanted]
    said = [f"the key {missing[0]!r} is missing"] if missing else []
    said += [f"the key {_shown(unknown[0])} is not known"] if unknown else []
    raise LRopeError(f"{place}: {' and '.join(said)}; wanted are {', '.join(wanted)}, as in {_FORM}")


def _check_unicode(text: str, place: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LRopeError(
            f"{place} has a lone surrogate at character {error.start:,}, which has no UTF-8 form; replace it"
        ) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; json keeps only the last of keys that occur twice."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return made


def _shown(value: object) -> str:
    """Return a value as it may stand in a message: short, and of printable characters."""
    try:
        said = ascii(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        said = f"a {type(value).__name__}"
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
