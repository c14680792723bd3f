"""Where a text's characters stand in each layer, and where one head looks from one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from lrope_interp.data import Document, character_starts
from lrope_interp.data.labels.kinds import label_gaps
from lrope_interp.data.sources.plain_text import read_text
from lrope_interp.data.texts import given_document
from lrope_interp.errors import LRopeError, whole_number
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import Layers, capture, capture_pattern, check_layers
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.selection import describe, despaced_notes
from lrope_interp.results import Result, provenance, table
from lrope_interp.tokenizers import ByteTokenizer, Tokenizer

SHOWN_CHARACTERS = 120
MOST_GLYPHS = 60_000
"""Characters times rows of a figure: about 5 MB of a page."""
MOST_READ = 2_000_000
"""Characters from the beginning of a text to the last one that is shown."""
EOS_CHARACTER = -1
_READ_WHOLE, _FILE_MARGIN = 1_000_000, 10_000  # characters of a file
_MARGIN = 1_000  # characters read after the slice, so that its tokens end as they do in the whole text
_LABEL_COLUMNS = {"whitespace": "is_whitespace", "punctuation": "is_punctuation", "words": "is_word_start"}
_ATTENTION = ("layer", "head", "query_character", "key_character", "weight")


def show(
    model: LRopeTransformer,
    text: str | Path | Document,
    layers: Layers = None,
    *,
    start: int = 0,
    length: int | None = None,
    attention: str | None = None,
    at: int | str | None = None,
    encoding_errors: str = "strict",
) -> Result:
    """Place the characters of a text by the increments of each layer.

    The increment of a character is the sum over its bytes, its position that of its last byte.
    Where tokens are longer than a byte, a row of the table is a token (or the tokens that share a
    character): the gaps inside it are not placed, and are counted in a warning.
    Positions start at 0 with the text. Compare them within a layer only; `position_normalised`
    starts at 0 before the first character shown and has a mean step of 1 a byte.

    Args:
        model: Any model; a fixed one steps by 1 a byte.
        text: The text, from its beginning: what stands before `start` is read too. A `Path` is a UTF-8 file,
            a document brings its gold words along.
        layers: Which layers; None for all.
        start: First character to show.
        length: How many characters to show; None for up to 120.
        attention: A head as "LAYER.HEAD", whose look back from `at` is added.
        at: The character from whose last byte that head looks: its number in the text, or the character
            itself, of which the first after `start` is taken.
        encoding_errors: Of a file, "strict" or "replace".

    Returns:
        A result of kind "show" with the tables `characters` (one row a character, layer and
        head; `word_grade` says who marked `is_word_start`) and `attention`, in which `key_character`
        -1 is the EOS before the text.

    Raises:
        LRopeError: An empty text, or a layer, head or character that is not there.
    """
    layers, notes = check_layers(model, layers), []
    start = whole_number("start", start)
    length = None if length is None else whole_number("length", length, 1)
    if isinstance(text, Path):
        # What comes later in a file decides nothing, but for a word's end.
        most = max(start + (length or 0) + _FILE_MARGIN, _READ_WHOLE)
        path, text = text, read_text(text.expanduser(), encoding_errors, most)
        notes += [f"{path} was read up to character {most:,} only"] if len(text) == most else []
    document = given_document(text)
    n_rows = len(layers) * (model.cfg.n_heads if model.cfg.per_head else 1)
    shown, warnings = _slice(model.own_tokenizer(), document.text, start, length, n_rows)
    looked_at = _attention_head(model, attention, _character(document.text, at, start), shown)
    # Causal: what stands after the slice changes nothing in it.
    before_end = Document("text", shown.text, "text", document.language)
    captured = capture(model, [before_end], layers=layers, predictions=False)
    labels, problems = _labels(document)
    warnings += problems + _reading_warnings(shown, model.cfg.n_ctx)
    tables = {
        "characters": _characters(captured, shown, labels),
        "attention": _attention(model, before_end, shown, looked_at),
    }
    return Result(
        kind="show",
        provenance=provenance(
            config=model.cfg.to_dict(), data=describe(document.name, (document,), split="all"), seed=None
        ),
        headline=_headline(captured, shown),
        tables=tables,
        warnings=tuple([*warnings, *notes, *despaced_notes(model, document.text)]),
    )


@dataclass(frozen=True)
class ShownText:
    """What is shown of a text, by units: from a place where character and token begin to the next.

    Where tokens are bytes a unit is a character; else it is a token, or the tokens that share a character.

    Attributes:
        text: The text up to where reading ends.
        character: The number of the first character of each unit, and of the end.
        first: The first byte of each unit, and of the end.
        token_starts: The first byte of each token.
        start: The first unit that is shown.
        stop: The unit after the last one.
    """

    text: str
    character: Int64[np.ndarray, " units_and_one"]
    first: Int64[np.ndarray, " units_and_one"]
    token_starts: Int64[np.ndarray, " n_tokens"]
    start: int
    stop: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str, start: int, stop: int) -> ShownText:
        """Find the units that hold the characters [start, stop)."""
        # A causal model need not read further, but what follows may decide where the last tokens end.
        read = text[:stop] if tokenizer.name == ByteTokenizer.name else text[: stop + _MARGIN]
        ends = tokenizer.encode_spans(read)[2]
        if tokenizer.name != ByteTokenizer.name:
            whole = tokenizer.encode_spans(text)[2]
            n_needed = int(np.searchsorted(whole, len(text[:stop].encode()))) + 1
            if not np.array_equal(whole[:n_needed], ends[:n_needed]):
                read, ends = text, whole
        at = np.append(character_starts(read), len(read.encode()))
        is_unit = np.isin(at, ends)
        is_unit[0] = True
        character = np.flatnonzero(is_unit)
        first_unit = int(np.searchsorted(character, start, side="right")) - 1
        starts = np.append(0, ends[:-1])
        return cls(read, character, at[is_unit], starts, first_unit, int(np.searchsorted(character, stop)))

    @property
    def end(self) -> int:
        """The byte after the last one that is shown."""
        return int(self.first[self.stop])

    @property
    def has_byte_tokens(self) -> bool:
        """Whether every byte of the text is a token."""
        return len(self.token_starts) == int(self.first[-1])

    @property
    def n_tokens(self) -> Int64[np.ndarray, " units"]:
        """How many tokens begin in each unit."""
        return np.diff(np.searchsorted(self.token_starts, self.first))


def _slice(
    tokenizer: Tokenizer, text: str, start: int, length: int | None, n_rows: int
) -> tuple[ShownText, list[str]]:
    if not text.strip():
        raise LRopeError("there is no text to show: it is empty, or blank")
    if not 0 <= start < len(text):
        raise LRopeError(f"the text has characters 0 to {len(text) - 1}; start {start} is not one of them")
    stop = min(start + (SHOWN_CHARACTERS if length is None else length), len(text))
    if (stop - start) * n_rows > MOST_GLYPHS:
        raise LRopeError(
            f"{stop - start:,} characters in {n_rows} rows are more than a page can hold: show at most "
            f"{max(1, MOST_GLYPHS // n_rows):,} at a time, with start and length (or fewer layers)"
        )
    if stop > MOST_READ:
        raise LRopeError(
            f"to show character {stop - 1:,} the model would read all {stop:,} up to it; it reads at most "
            f"{MOST_READ:,}: put the part that you want into a file of its own"
        )
    cut = length is None and stop < len(text)
    note = f"showing characters {start} to {stop - 1} of {len(text)}; choose others with start and length"
    return ShownText.of(tokenizer, text, start, stop), [note] if cut else []


def _character(text: str, at: int | str | None, start: int) -> int | None:
    """Return the number of the character that `at` names, in the whole text."""
    if not isinstance(at, str):
        return None if at is None else whole_number("at", at)
    if at.isascii() and at.isdigit() and len(at) < 10:
        return int(at)
    found = text.find(at, start) if len(at) == 1 else -1
    if found < 0:
        raise LRopeError(
            f"at wants the number of a character (0 is the first) or one character that occurs after "
            f"start; got {at!r}"
        )
    return found


def _attention_head(
    model: LRopeTransformer, attention: str | None, at: int | None, shown: ShownText
) -> tuple[int, int, int] | None:
    """Check what was asked for; return layer, head and character, or None."""
    if attention is None and at is None:
        return None
    if attention is None or at is None:
        raise LRopeError("attention LAYER.HEAD and at CHAR go together; give both")
    is_text = isinstance(attention, str)  # the number 3.10 would be 3.1
    match = re.fullmatch(r"([0-9]{1,6})\.([0-9]{1,6})", attention.strip()) if is_text else None
    if match is None:
        raise LRopeError(f"attention wants the text LAYER.HEAD, as in '3.1'; got {attention!r:.60}")
    layer, head = int(match[1]), int(match[2])
    check_layers(model, [layer])
    if head >= model.cfg.n_heads:
        raise LRopeError(f"the model has heads 0 to {model.cfg.n_heads - 1}, not {head}")
    first, stop = (int(shown.character[unit]) for unit in (shown.start, shown.stop))
    if not first <= at < stop:
        raise LRopeError(
            f"at {at} is not among the characters shown, {first} to {stop - 1}; "
            "choose one of them, or others to show with start and length"
        )
    return layer, head, at


def _labels(document: Document) -> tuple[dict[str, np.ndarray], list[str]]:
    """Label every byte; a label that cannot be had is left out and says why."""
    found, problems = {}, []
    for label, column in _LABEL_COLUMNS.items():
        try:
            labels = label_gaps(document, label)
        except LRopeError as error:
            problems.append(f"{label} are not marked: {error}")
            continue
        found[column] = labels.is_boundary
        if label == "words":
            found["word_grade"] = np.full(document.n_bytes, labels.grade)
    return found, problems


def _reading_warnings(shown: ShownText, n_ctx: int) -> list[str]:
    """Say which gaps are not drawn, and when the text is longer than a window."""
    found = []
    n_gaps = int(shown.character[shown.stop] - shown.character[shown.start]) - 1
    n_inside = n_gaps - (shown.stop - shown.start - 1)
    if not shown.has_byte_tokens:
        found.append(
            f"{n_inside} of {n_gaps} gaps between the characters shown lie inside a token: they have no "
            "increment and are not drawn"
        )
    n_tokens = int(np.searchsorted(shown.token_starts, shown.end))
    if n_tokens >= n_ctx:
        unit = "bytes" if shown.has_byte_tokens else "tokens"
        found.append(
            f"the text up to the last character shown has {n_tokens} {unit}, more than a window of {n_ctx}: "
            "it is read in overlapping windows, and positions are the running sum of their increments. "
            "Attention stays within a window"
        )
    return found


def _characters(captured: Captured, shown: ShownText, labels: Mapping[str, np.ndarray]) -> pd.DataFrame:
    inside, end = slice(shown.start, shown.stop), shown.end
    first, from_start = shown.first[: shown.stop], slice(int(shown.first[shown.start]), end)
    last_token = shown.token_starts[np.searchsorted(shown.token_starts, shown.first[1:]) - 1]
    bounds = shown.character[shown.start : shown.stop + 1].tolist()
    texts = [shown.text[a:b] for a, b in pairwise(bounds)]
    more = {} if shown.has_byte_tokens else {"n_tokens": shown.n_tokens[inside]}
    increments = captured.increments[..., :end].astype(np.float64)
    positions = captured.positions(0)
    has_heads = increments.shape[1] > 1
    frames = []
    for number, head in np.ndindex(increments.shape[:2]):
        steps, position = increments[number, head], positions[number, head]
        origin = position[from_start.start] - steps[from_start.start]
        mean = steps[from_start][captured.is_token_start[from_start]].mean()
        columns = {
            "character": shown.character[inside],
            "text": pd.Series(texts, dtype="str"),
            "byte_start": first[inside],
            "bytes_hex": pd.Series([one.encode().hex(" ") for one in texts], dtype="str"),
            "layer": pd.Series([captured.layers[number]] * (shown.stop - shown.start), dtype="Int64"),
            "head": pd.Series([head if has_heads else None] * (shown.stop - shown.start), dtype="Int64"),
            "increment": np.add.reduceat(steps, first)[inside],
            "increment_last": steps[last_token[inside]],
            "position": position[last_token[inside]],
            "position_normalised": (position[last_token[inside]] - origin) / mean,
        }
        marks = {name: pd.Series(mask[first[inside]]) for name, mask in labels.items()}
        frames.append(pd.DataFrame(columns | more | marks))
    return pd.concat(frames, ignore_index=True)


def _attention(
    model: LRopeTransformer, document: Document, shown: ShownText, looked_at: tuple[int, int, int] | None
) -> pd.DataFrame:
    """Sum one row of attention over the tokens of each unit that its window holds."""
    if looked_at is None:
        return table([], _ATTENTION)
    layer, head, at = looked_at
    unit = int(np.searchsorted(shown.character, at, side="right")) - 1
    query = int(shown.first[unit + 1]) - 1
    start, weights = capture_pattern(model, document, layer=layer, head=head, byte=query)
    token = start + np.arange(len(weights)) - 1
    begins = shown.token_starts[np.maximum(token, 0)]
    units = np.searchsorted(shown.first, begins, side="right") - 1
    character = np.where(token < 0, EOS_CHARACTER, shown.character[units])
    keys, place = np.unique(character, return_inverse=True)
    sums = np.bincount(place, weights=weights)
    where: dict[str, Any] = {"layer": layer, "head": head, "query_character": int(shown.character[unit])}
    rows = [
        where | {"key_character": int(key), "weight": float(weight)}
        for key, weight in zip(keys, sums, strict=True)
    ]
    return table(rows, _ATTENTION)


def _headline(captured: Captured, shown: ShownText) -> dict[str, float | None]:
    """Name each layer's mean increment a byte (or token) over the characters shown."""
    inside = slice(int(shown.first[shown.start]), shown.end)
    values = captured.increments[..., inside]
    if not shown.has_byte_tokens:
        values = np.compress(captured.is_token_start[inside], values, axis=-1)
    means = values.mean(axis=(1, 2), dtype=np.float64)
    return {
        f"L{layer} mean increment": float(mean) for layer, mean in zip(captured.layers, means, strict=True)
    }
