"""Tables of what was scored and captured: classes of bytes, labels, strata, the stride of windows, gaps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.data import BYTE_CLASSES, byte_class
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.cache import model_identity, remembered
from lrope_interp.probes.capture.capture import capture_unhurried
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.signals import SignalColumn
from lrope_interp.results import ALL_LANGUAGES, table

CHECKED_TOKENS = 1_000
_STRIDE_COLUMNS = ("layer", "head", "shift", "n")


def classes_frame(captured: Captured) -> pd.DataFrame:
    """Return each layer's mean increment by class of byte, over all languages and in each.

    `mean_normalised` divides by the layer's mean over all bytes, because only ratios within a
    layer mean anything. The bytes at the start of documents are left out, as they are of scores.
    Where tokens are longer than a byte, one counts as its first byte does.
    """
    kinds = np.concatenate([byte_class(document.text) for document in captured.documents])
    is_gap = (captured.t > 0) & captured.is_token_start
    rows = []
    for at, head in np.ndindex(captured.increments.shape[:2]):
        values = captured.increments[at, head].astype(np.float64)
        overall = values[is_gap].mean()
        where = {"layer": captured.layers[at], "head": head if captured.increments.shape[1] > 1 else None}
        for language, is_spoken in {ALL_LANGUAGES: is_gap, **captured.spoken}.items():
            inside = is_gap & is_spoken
            for number, name in enumerate(BYTE_CLASSES):
                own = values[inside & (kinds == number)]
                if len(own):
                    moments = {"mean": own.mean(), "sd": own.std(), "n": len(own)}
                    normalised = {"mean_normalised": own.mean() / overall, "language": language}
                    rows.append(where | {"byte_class": name} | moments | normalised)
    names = ("layer", "head", "byte_class", "mean", "sd", "n", "mean_normalised", "language")
    return table(rows, names)


def labels_frame(gaps: Gaps) -> pd.DataFrame:
    """Return where each label comes from, by language: its grade and its share of the gaps."""
    inside = gaps.strata["characters"]
    rows = []
    for (name, label), language in itertools.product(gaps.labels.items(), gaps.languages):
        for grade in sorted(set(label.grades) - {""}):
            wanted = [
                one.language == language and given == grade
                for one, given in zip(gaps.documents, label.grades, strict=True)
            ]
            own = inside & np.array(wanted)[gaps.document]
            if own.any():
                counts = {"n": int(own.sum()), "n_positive": int(label.is_boundary[own].sum())}
                rows.append({"label": name, "language": language, "grade": grade} | counts)
    return table(rows, ("label", "language", "grade", "n", "n_positive"))


def unscored_frame(gaps: Gaps) -> pd.DataFrame:
    """Return how many gaps between characters lie inside a token, of all and of each label's boundaries."""
    unscored = gaps.unscored
    either = gaps.strata["characters"] | unscored
    known = {"any": np.ones(len(either), dtype=bool)}
    known |= {name: label.is_boundary for name, label in gaps.labels.items()}
    rows = [
        {"gaps": name, "n": int((either & own).sum()), "n_unscored": int((unscored & own).sum())}
        for name, own in known.items()
    ]
    return table(rows, ("gaps", "n", "n_unscored"))


def strata_frame(gaps: Gaps) -> pd.DataFrame:
    """Return how many gaps each stratum has, and what its bootstrap draws."""
    rows = [
        {
            "stratum": one.stratum,
            "n": len(one.gaps),
            "n_documents": one.units.n_documents,
            "n_units": one.units.count,
            "unit": "document",
        }
        for one in {field.stratum: field for field in reversed(gaps.fields())}.values()
    ]
    return table(rows[::-1], ("stratum", "n", "n_documents", "n_units", "unit"))


def stride_frame(model: LRopeTransformer, captured: Captured, batch_size: int) -> pd.DataFrame:
    """Compare captured increments with those read with all the context that a window holds.

    It says how much increments depend on where windows happen to begin. The slow reading is remembered
    between runs of the same model and text.

    Args:
        model: The model that was captured.
        captured: What it did; the longest document (in tokens) is checked, where it is longer than a window.
        batch_size: Windows at a time.

    Returns:
        For each layer and head the `shift`: the root mean square difference over up to 1,000
        tokens, as a share of the layer's standard deviation. Empty where no increment can move:
        every document fits into one window, or the layers see nothing but the token (layer 0, and
        all layers of a shared head).
    """
    if captured.layers == (0,) or model.cfg.increments == "shared":
        return table([], _STRIDE_COLUMNS)
    sizes = np.diff(captured.token_offsets)
    longest, n_ctx = int(np.argmax(sizes)), model.cfg.n_ctx
    span = slice(max(n_ctx, int(sizes[longest]) - CHECKED_TOKENS), int(sizes[longest]))
    if span.start >= span.stop:
        return table([], _STRIDE_COLUMNS)
    document = captured.documents[longest]
    identity = {"what": "stride", "document": document.sha256, "span": [span.start, span.stop]}
    wanted = remembered(
        model_identity(model) | identity | {"layers": list(captured.layers)},
        lambda: capture_unhurried(model, document, span, layers=captured.layers, batch_size=batch_size),
    )
    first, increments = int(captured.token_offsets[longest]), captured.at_tokens(captured.increments)
    got = increments[..., first + span.start : first + span.stop]
    moved = np.sqrt(np.mean((got - wanted).astype(np.float64) ** 2, axis=-1))
    spread = increments.std(axis=-1, dtype=np.float64)
    rows = [
        {
            "layer": captured.layers[at],
            "head": head if moved.shape[1] > 1 else None,
            "shift": float(moved[at, head] / spread[at, head]) if spread[at, head] else np.nan,
            "n": span.stop - span.start,
        }
        for at, head in np.ndindex(*moved.shape)
    ]
    return table(rows, _STRIDE_COLUMNS)


def stride_note(frame: pd.DataFrame, n_ctx: int, unit: str = "bytes") -> list[str]:
    """Say in a sentence what the table says."""
    if frame.empty:
        return []
    at = int(frame["shift"].fillna(0).argmax())
    shift, layer, n = (frame[name].tolist()[at] for name in ("shift", "layer", "n"))
    return [
        f"windows overlap by half ({n_ctx // 2} {unit}): against full context, increments move by at most "
        f"{shift:.3f} of their s.d. (layer {layer}, {n} {unit})"
    ]


def gaps_frame(gaps: Gaps, found: Sequence[SignalColumn]) -> pd.DataFrame:
    """Return one row a test gap: where it is, what is true of it, and every signal's byte value.

    `character` is the number of its character in the document; a character's "last" and "sum"
    run over the rows that share it. Document starts have no row: the gap before them is no gap. Nor
    have gaps inside a token.
    """
    rows = np.flatnonzero((gaps.t > 0) & ~gaps.is_inside_token)
    names = pd.Categorical.from_codes(
        gaps.document[rows], categories=[document.name for document in gaps.documents]
    )
    frame: dict[str, Any] = {
        "document": names,
        "t": gaps.t[rows].astype(np.int32),
        "character": gaps.character[rows].astype(np.int32),
        "split": pd.Categorical.from_codes(np.zeros(len(rows), dtype=np.int8), categories=["test"]),
    }
    for name, label in gaps.labels.items():
        flags = pd.Series(label.is_boundary[rows])
        frame[f"is_{name}"] = (
            flags if label.is_known.all() else flags.astype("boolean").where(label.is_known[rows])
        )
    frame |= {f"in_{name}": mask[rows] for name, mask in gaps.strata.items()}
    frame["is_shared_shingle"] = gaps.is_shared[rows]
    return pd.DataFrame(frame | {column.name: column.values["test"][rows] for column in found})
