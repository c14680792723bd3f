"""The tables of a boundaries result, from what was scored and captured."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.data import BYTE_CLASSES, byte_class
from lrope_interp.probes.boundaries.rows import SCORE_COLUMNS, score_row
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.signals import SignalColumn
from lrope_interp.results import ALL_LANGUAGES, table


def scores_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return `scores.csv`: every row, and for the untrained controls the mean over seeds."""
    return table([*rows, *_over_seeds(rows)], SCORE_COLUMNS)


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average rows that differ in their seed only; the interval of such a row is the range."""
    same = ("signal", "kind", "layer", "head", "label", "stratum", "metric", "n", "n_positive", "n_documents")
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["seed"] is not None:
            groups.setdefault(tuple(row[name] for name in same), []).append(row)
    return [
        score_row(
            **dict(zip(same, key, strict=True)),
            align="",
            value=float(np.mean([row["value"] for row in group])),
            raw_value=float(np.mean([row["raw_value"] for row in group])),
            ci_low=float(np.min([row["value"] for row in group])),
            ci_high=float(np.max([row["value"] for row in group])),
        )
        for key, group in groups.items()
    ]


def classes_frame(captured: Captured) -> pd.DataFrame:
    """Return each layer's mean increment by class of byte, over all languages and in each.

    `mean_normalised` divides by the layer's mean over all bytes, because only ratios within a
    layer mean anything. The bytes at the start of documents are left out, as they are of scores.
    Where tokens are longer than a byte, one counts as its first byte does.
    """
    kinds = np.concatenate([byte_class(document.text) for document in captured.documents])
    is_gap = (captured.t > 0) & captured.is_token_start
    spoken = np.array([document.language for document in captured.documents])[captured.document]
    languages = sorted(set(spoken.tolist()))
    rows = []
    for at, head in np.ndindex(captured.increments.shape[:2]):
        values = captured.increments[at, head].astype(np.float64)
        overall = values[is_gap].mean()
        where = {"layer": captured.layers[at], "head": head if captured.increments.shape[1] > 1 else None}
        for language in [ALL_LANGUAGES, *(languages if len(languages) > 1 else [])]:
            inside = is_gap if language == ALL_LANGUAGES else is_gap & (spoken == language)
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
            "unit": one.units.word,
        }
        for one in {field.stratum: field for field in reversed(gaps.fields())}.values()
    ]
    return table(rows[::-1], ("stratum", "n", "n_documents", "n_units", "unit"))


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
