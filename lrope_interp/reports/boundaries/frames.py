"""The numbers behind the boundary report, one function a figure or table."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from lrope_interp.reports.kit.frames import Column, Frame, Row, cell_of, numbers, table_of
from lrope_interp.reports.kit.memory import made_once
from lrope_interp.results import Result

DEFAULT_STRATUM = "characters"
LABEL_ORDER = (
    "whitespace", "punctuation", "words", "words_merged", "despaced", "sentences",
    "lines", "tokens", "brackets_open", "brackets_close", "scopes",
)  # fmt: skip
STRATUM_ORDER = ("characters", "en", "zh", "code", "und", "nondelimiter", "han", "bytes")

_NAMES = {
    "byte_mean": "byte's mean increment",
    "token_mean": "token's mean increment",
    "entropy_next": "entropy after the byte",
    "untrained": "untrained model",
    "prevalence": "prevalence (knows nothing)",
    "character_start": "a character starts",
    "random_head": "random head",
    "rise": "rise of entropy",
    "pmi": "PMI",
    "branching_entropy": "branching entropy",
    "spacebyte": "SpaceByte's rule",
    "cosine": "cosine of neighbours",
    "cosine_fixed": "cosine of neighbours, fixed model",
    "jieba": "jieba (silver)",
    "ceiling": "supervised probe (ceiling)",
}
_NGRAM = re.compile(r"^ngram_(\d+)$")
KEYS = ["kind", "signal", "layer", "head", "align"]
CLASS_ORDER = (
    "space", "newline", "punctuation .!?", "other punctuation", "a-z", "A-Z", "0-9",
    "han lead", "han continuation", "other lead", "other continuation", "other",
)  # fmt: skip
LANGUAGES = {"en": "English", "zh": "Chinese", "code": "code", "und": "text", "all": ""}


def signal_name(signal: str, layer: int = -1, head: int = -1) -> str:
    """Name a signal for readers; a user's own signal keeps its name."""
    if signal == "increments":
        return place(layer, head)
    name = _NAMES.get(signal, _NGRAM.sub(r"byte \1-gram's mean increment", signal).replace("_", " "))
    return name if layer < 0 else f"{name}, {place(layer, head)}"


def place(layer: int, head: int) -> str:
    """Name a layer, or a head of it as TransformerLens does."""
    return f"layer {layer}" if head < 0 else f"head {layer}.{head}"


def in_order(names: Iterable[str], order: tuple[str, ...]) -> list[str]:
    """Sort names: those known first, in their order, then the others as they came."""
    found = list(dict.fromkeys(names))
    return [name for name in order if name in found] + [name for name in found if name not in order]


def labels_and_strata(result: Result) -> list[tuple[str, list[str]]]:
    """Return each label with the strata in which anything was scored, the default stratum first."""
    scores = table_of(result, "scores")
    scored = scores[numbers(scores["value"]).notna()]
    return [
        (label, in_order(scored.loc[scored["label"] == label, "stratum"], STRATUM_ORDER))
        for label in in_order(scores["label"], LABEL_ORDER)
    ]


@made_once
def auc_frame(result: Result, label: str, stratum: str, metric: str = "roc_auc") -> Frame:
    """Return one line a signal, layer and head: its score with an interval, or a range over seeds.

    Returns:
        Columns `kind`, `signal`, `layer`, `head` (-1: none), `align`, `name`, `sign`, `value` (the
        mean where there are several seeds), `raw_value`, `low`, `high` (`spread` says of what:
        "interval", "range" or ""), `n_seeds`, `n`, `n_positive`, `n_documents`, `p_shift`,
        `p_same_byte`. Layers first, then controls.
    """
    scores = cell_of(result, "scores", label, stratum)
    chosen = scores[scores["metric"] == metric]
    for name in ("value", "raw_value", "ci_low", "ci_high", "p_shift", "p_same_byte", "sign"):
        chosen = chosen.assign(**{name: numbers(chosen[name]) if name in chosen else float("nan")})
    # The analysis wrote the mean over seeds, and their range as its bounds, beside the seeds.
    has_seed = chosen["seed"].notna() if "seed" in chosen else pd.Series(False, index=chosen.index)
    n_seeds = has_seed.groupby([chosen[name] for name in ("signal", "layer", "head")]).transform("sum")
    frame = chosen[~has_seed].assign(
        align=chosen["align"].fillna("").astype(str), n_seeds=n_seeds.clip(lower=1), low=chosen["ci_low"],
        high=chosen["ci_high"],
    )  # fmt: skip
    is_known = frame["low"].notna() & frame["high"].notna()
    frame["spread"] = np.select([frame["n_seeds"] > 1, is_known], ["range", "interval"], "")
    keys = zip(*(frame[name].tolist() for name in ("signal", "layer", "head")), strict=True)
    frame["name"] = pd.Series([signal_name(*key) for key in keys], index=frame.index, dtype="str")
    several = frame.duplicated(["signal", "layer", "head"], keep=False)
    frame.loc[several, "name"] += ", " + frame.loc[several, "align"]
    return frame.sort_values("kind", key=_kind_order, kind="stable")[_AUC_COLUMNS].reset_index(drop=True)


def _kind_order(kinds: Column) -> Column:
    return kinds.map({"layer": 0, "control": 1, "ceiling": 2}).fillna(1)


_AUC_COLUMNS = [
    *KEYS, "name", "sign", "value", "raw_value", "low", "high", "spread", "n_seeds",
    "n", "n_positive", "n_documents", "p_shift", "p_same_byte",
]  # fmt: skip


def best_layer(scores: Frame) -> Row | None:
    """Return the line of the increments with the highest value, None where no layer has one."""
    layers = scores[
        (scores["kind"] == "layer") & (scores["signal"] == "increments") & scores["value"].notna()
    ]
    return None if layers.empty else layers.loc[layers["value"].idxmax()]


def best_heads(scores: Frame) -> list[tuple[int, int]]:
    """Return each layer with its best head, (layer, -1) where increments are per layer."""
    layers = scores[(scores["signal"] == "increments") & scores["value"].notna()]
    best = layers.loc[layers.groupby("layer")["value"].idxmax()]
    return list(zip(best["layer"].tolist(), best["head"].tolist(), strict=True))


def controls_beside(scores: Frame) -> Frame:
    """Return the controls that the best layer is held against: layer-free ones, and its own layer's.

    Sorted by value, best first; those without a value are left out.
    """
    best = best_layer(scores)
    controls = scores[(scores["kind"] == "control") & scores["value"].notna()]
    own = controls["layer"] == -1
    if best is not None:
        own |= (controls["layer"] == best["layer"]) & controls["head"].isin([best["head"], -1])
    return controls[own].sort_values("value", ascending=False)


_CLASS_COLUMNS = ["byte_class", "layer", "head", "mean", "sd", "n", "mean_normalised", "language"]


def classes_frame(result: Result, language: str | None = None) -> Frame:
    """Return the mean increment by byte class, layer and head, divided by the layer's mean.

    Returns:
        Columns `byte_class`, `layer`, `head`, `place`, `mean`, `sd`, `n`, `mean_normalised`,
        `language`; classes without a byte are left out.
    """
    table = table_of(result, "classes")
    if table.empty:
        return table.reindex(columns=[*_CLASS_COLUMNS, "place"])
    table = table[numbers(table["n"]) > 0]
    if language is not None and "language" in table:
        table = table[table["language"] == language]
    places = [place(*key) for key in zip(table["layer"].tolist(), table["head"].tolist(), strict=True)]
    return table.assign(place=places).reset_index(drop=True)


def languages(result: Result) -> list[tuple[str, str]]:
    """Return the languages of the class table, each with its name."""
    table = table_of(result, "classes")
    found = in_order(table["language"].dropna().astype(str), ("en", "zh")) if "language" in table else []
    apart = [language for language in found if language != "all"]
    return [(language, LANGUAGES.get(language, language)) for language in apart or found]
