"""Where a text's characters stand in each layer, and where one head looks from one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.data import Document, character_starts, character_widths
from lrope_interp.data.labels import LABELS, label_gaps
from lrope_interp.data.sources.files import language_of
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.boundary_tables import table
from lrope_interp.probes.capture import Captured, capture, capture_pattern, check_layers
from lrope_interp.probes.selection import describe
from lrope_interp.results import Result, provenance

SHOWN_CHARACTERS = 120
EOS_CHARACTER = -1
_LABEL_COLUMNS = {"whitespace": "is_whitespace", "punctuation": "is_punctuation", "words": "is_word_start"}
_ATTENTION = ("layer", "head", "query_character", "key_character", "weight")


@dataclass(frozen=True)
class _Slice:
    """The characters [start, stop) of a text, and where every character of the text lies."""

    text: str
    start: int
    stop: int

    @property
    def first(self) -> np.ndarray:
        return character_starts(self.text)

    @property
    def width(self) -> np.ndarray:
        return character_widths(self.text)


def spacing(
    model: LRopeTransformer,
    text: str,
    *,
    layer: int | None = None,
    start: int = 0,
    length: int | None = None,
    attention: str | None = None,
    at: int | None = None,
) -> Result:
    """Place the characters of a text by the increments of each layer.

    The increment of a character is the sum over its bytes, its position that of its last byte.
    Positions start at 0 with the text. Compare them within a layer only; `position_normalised`
    starts at 0 before the first character shown and has a mean step of 1 a byte.

    Args:
        model: Any model; a fixed one steps by 1 a byte.
        text: The text, from its beginning: what stands before `start` is read too.
        layer: Only this layer; None for all.
        start: First character to show.
        length: How many characters to show; None for up to 120.
        attention: A head as "LAYER.HEAD", whose look back from `at` is added.
        at: The character (its number in the text) from whose last byte that head looks.

    Returns:
        A result of kind "spacing" with the tables `characters` (one row a character, layer and
        head) and `attention`, in which `key_character` -1 is the EOS before the text.

    Raises:
        LRopeError: An empty text, or a layer, head or character that is not there.
    """
    layers = check_layers(model, None if layer is None else [layer])
    shown, warnings = _slice(text, start, length)
    looked_at = _attention_head(model, attention, at, shown)
    document = Document("text", text, "text", language_of(text))
    end = int(shown.first[shown.stop - 1] + shown.width[shown.stop - 1])
    # Causal: what stands after the slice changes nothing in it.
    before_end = Document("text", text[: shown.stop], "text", document.language)
    captured = capture(model, [before_end], layers=layers, predictions=False)
    labels, problems = _labels(document)
    warnings += problems + _window_warnings(end, model.cfg.n_ctx)
    tables = {
        "characters": _characters(captured, shown, labels),
        "attention": _attention(model, before_end, shown, looked_at),
    }
    return Result(
        kind="spacing",
        provenance=provenance(
            config=model.cfg.to_dict(), data=describe("text", (document,), split="all"), seed=None
        ),
        headline=_headline(captured, shown, end),
        tables=tables,
        warnings=tuple(warnings),
    )


def _slice(text: str, start: int, length: int | None) -> tuple[_Slice, list[str]]:
    if not text.strip():
        raise LRopeError("there is no text to show: it is empty, or blank")
    if not 0 <= start < len(text):
        raise LRopeError(f"the text has characters 0 to {len(text) - 1}; --start {start} is not one of them")
    if length is not None and length < 1:
        raise LRopeError(f"--length must be at least 1, got {length}")
    stop = min(start + (SHOWN_CHARACTERS if length is None else length), len(text))
    cut = length is None and stop < len(text)
    note = f"showing characters {start} to {stop - 1} of {len(text)}; choose others with --start and --length"
    return _Slice(text, start, stop), [note] if cut else []


def _attention_head(
    model: LRopeTransformer, attention: str | None, at: int | None, shown: _Slice
) -> tuple[int, int, int] | None:
    """Check what was asked for; return layer, head and character, or None."""
    if attention is None and at is None:
        return None
    if attention is None or at is None:
        raise LRopeError("--attention LAYER.HEAD and --at CHAR go together; give both")
    match = re.fullmatch(r"([0-9]{1,6})\.([0-9]{1,6})", attention.strip())
    if match is None:
        raise LRopeError(f"--attention wants LAYER.HEAD, as in 3.1; got {attention!r}")
    layer, head = int(match[1]), int(match[2])
    check_layers(model, [layer])
    if head >= model.cfg.n_heads:
        raise LRopeError(f"the model has heads 0 to {model.cfg.n_heads - 1}, not {head}")
    if not shown.start <= at < shown.stop:
        raise LRopeError(
            f"--at {at} is not among the characters shown, {shown.start} to {shown.stop - 1}; "
            "choose one of them, or others to show with --start and --length"
        )
    return layer, head, at


def _labels(document: Document) -> tuple[dict[str, np.ndarray], list[str]]:
    """Label every byte; a label that cannot be had is left out and says why."""
    found, problems = {}, []
    for label in LABELS:
        try:
            found[_LABEL_COLUMNS[label]] = label_gaps(document, label).is_boundary
        except LRopeError as error:
            problems.append(f"{label} are not marked: {error}")
    return found, problems


def _window_warnings(n_bytes: int, n_ctx: int) -> list[str]:
    if n_bytes < n_ctx:
        return []
    return [
        f"the text up to the last character shown has {n_bytes} bytes, more than a window of {n_ctx}: it is "
        "read in overlapping windows, and positions are the running sum of their increments. Attention stays "
        "within a window"
    ]


def _characters(captured: Captured, shown: _Slice, labels: Mapping[str, np.ndarray]) -> pd.DataFrame:
    first, width = shown.first[: shown.stop], shown.width[: shown.stop]
    last = first + width - 1
    inside = slice(shown.start, shown.stop)
    increments = captured.increments.astype(np.float64)
    positions = captured.positions(0)
    has_heads = increments.shape[1] > 1
    frames = []
    for number, head in np.ndindex(increments.shape[:2]):
        steps, position = increments[number, head], positions[number, head]
        origin = position[first[shown.start]] - steps[first[shown.start]]
        mean = steps[first[shown.start] :].mean()
        columns = {
            "character": np.arange(shown.start, shown.stop),
            "text": pd.Series(list(shown.text[inside]), dtype="str"),
            "byte_start": first[inside],
            "bytes_hex": pd.Series([c.encode().hex(" ") for c in shown.text[inside]], dtype="str"),
            "layer": pd.Series([captured.layers[number]] * (shown.stop - shown.start), dtype="Int64"),
            "head": pd.Series([head if has_heads else None] * (shown.stop - shown.start), dtype="Int64"),
            "increment": np.add.reduceat(steps, first)[inside],
            "increment_last": steps[last[inside]],
            "position": position[last[inside]],
            "position_normalised": (position[last[inside]] - origin) / mean,
        }
        marks = {name: mask[first[inside]] for name, mask in labels.items()}
        frames.append(pd.DataFrame(columns | marks))
    return pd.concat(frames, ignore_index=True)


def _attention(
    model: LRopeTransformer, document: Document, shown: _Slice, looked_at: tuple[int, int, int] | None
) -> pd.DataFrame:
    """Sum one row of attention over the bytes of each character that its window holds."""
    if looked_at is None:
        return table([], _ATTENTION)
    layer, head, at = looked_at
    query = int(shown.first[at] + shown.width[at]) - 1
    start, weights = capture_pattern(model, document, layer=layer, head=head, byte=query)
    byte = start + np.arange(len(weights)) - 1
    of_byte = np.repeat(np.arange(at + 1), shown.width[: at + 1])
    character = np.where(byte < 0, EOS_CHARACTER, of_byte[np.maximum(byte, 0)])
    keys, place = np.unique(character, return_inverse=True)
    sums = np.bincount(place, weights=weights)
    where: dict[str, Any] = {"layer": layer, "head": head, "query_character": at}
    rows = [
        where | {"key_character": int(key), "weight": float(weight)}
        for key, weight in zip(keys, sums, strict=True)
    ]
    return table(rows, _ATTENTION)


def _headline(captured: Captured, shown: _Slice, end: int) -> dict[str, float | None]:
    """Name each layer's mean increment a byte over the characters shown."""
    first = int(shown.first[shown.start])
    means = captured.increments[..., first:end].mean(axis=(1, 2), dtype=np.float64)
    return {
        f"L{layer} mean increment": float(mean) for layer, mean in zip(captured.layers, means, strict=True)
    }
