"""The numbers behind the page of `boundaries`: its verdicts, and one frame a figure or table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, ParamSpec

import numpy as np
import pandas as pd

from lrope_interp.reports.kit.frames import Frame, Row, cell_of, table_of, whole_numbers
from lrope_interp.reports.kit.glyphs import N_SHADES, Cell, Strip, described, visible
from lrope_interp.reports.kit.wording import (
    LANGUAGES,
    NOTHING,
    in_order,
    interval,
    is_number,
    number,
    place,
    plural,
    signed,
    signed_interval,
)
from lrope_interp.results import Result, verdict_on

LABEL_ORDER = (
    "whitespace", "punctuation", "words", "words_merged", "despaced", "sentences",
    "lines", "tokens", "brackets_open", "brackets_close", "scopes",
)  # fmt: skip
STRATUM_ORDER = ("characters", "en", "zh", "code", "und", "nondelimiter", "han", "bytes")
NAMES = {
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
    "nvbe": "nVBE",
    "nvbe_words": "nVBE, its own segmentation",
    "everything": "every gap called",
    "length_prior": "lengths of words alone",
    "model": "all signals of the model, fitted",
    "counts": "all counts of text, fitted",
    "model_and_counts": "model and counts, fitted",
    "ceiling": "supervised probe (ceiling)",
}
Asked = ParamSpec("Asked")
_NGRAM = re.compile(r"^ngram_(\d+)$")
PLACE = ["signal", "layer", "head"]
_KEYS = ["kind", *PLACE, "align"]
_AUC_COLUMNS = [
    *_KEYS, "name", "sign", "value", "raw_value", "low", "high", "spread", "n_seeds",
    "n", "n_positive", "n_documents", "p_shift", "p_same_byte", "is_picked",
]  # fmt: skip
_CURVES = 5  # controls whose curves are drawn


def signal_name(signal: str, layer: int = -1, head: int = -1) -> str:
    """Name a signal for readers; a user's own signal keeps its name."""
    if signal == "increments":
        return place(layer, head)
    name = NAMES.get(signal, _NGRAM.sub(r"byte \1-gram's mean increment", signal).replace("_", " "))
    return name if layer < 0 else f"{name}, {place(layer, head)}"


def labels_and_strata(result: Result) -> list[tuple[str, list[str]]]:
    """Return each label with the strata in which anything was scored, the default stratum first."""
    scores = result.tables["scores"]
    scored = scores[scores["value"].notna()]
    return [
        (label, in_order(scored.loc[scored["label"] == label, "stratum"], STRATUM_ORDER))
        for label in in_order(scores["label"], LABEL_ORDER)
    ]


def _once(make: Callable[Asked, Frame]) -> Callable[Asked, Frame]:
    """Keep the frames of a page, whose template and figures ask for the same ones."""
    kept = lru_cache(maxsize=512)(make)

    @wraps(make)
    def found(*args: Asked.args, **kwargs: Asked.kwargs) -> Frame:
        return kept(*args, **kwargs).copy(deep=False)

    return found


@_once
def auc_frame(result: Result, label: str, stratum: str, metric: str = "roc_auc") -> Frame:
    """Return one line a signal, layer and head: its score with an interval, or a range over seeds.

    Returns:
        Columns `kind`, `signal`, `layer`, `head` (-1: none), `align`, `name`, `sign`, `value` (the
        mean where there are several seeds), `raw_value`, `low`, `high` (`spread` says of what:
        "interval", "range" or ""), `n_seeds`, `n`, `n_positive`, `n_documents`, `p_shift`,
        `p_same_byte`, `is_picked` (the layer that dev chose). Layers first, then controls.
    """
    chosen = cell_of(result, "scores", label, stratum)
    chosen = chosen[chosen["metric"] == metric].reindex(
        columns=[*dict.fromkeys([*_KEYS, "sign", "value", "raw_value", "ci_low", "ci_high", "p_shift"]),
                 "p_same_byte", "n", "n_positive", "n_documents", "seed"]
    )  # fmt: skip
    # The analysis wrote the mean over seeds, and their range as its bounds, beside the seeds.
    has_seed = chosen["seed"].notna()
    n_seeds = has_seed.groupby([chosen[name] for name in PLACE]).transform("sum")
    frame = chosen[~has_seed].rename(columns={"ci_low": "low", "ci_high": "high"})
    frame["align"], frame["n_seeds"] = frame["align"].fillna("").astype(str), n_seeds.clip(lower=1)
    is_known = frame["low"].notna() & frame["high"].notna()
    frame["spread"] = np.select([frame["n_seeds"] > 1, is_known], ["range", "interval"], "")
    frame["name"] = pd.Series([signal_name(*key) for key in rows_of(frame)], index=frame.index, dtype="str")
    picked = [
        ("increments", *key) for key in rows_of(cell_of(result, "verdicts", label, stratum), *PLACE[1:])
    ]
    frame["is_picked"] = [key in picked for key in rows_of(frame)]
    several = frame.duplicated(PLACE, keep=False)
    frame.loc[several, "name"] += ", " + frame.loc[several, "align"]
    order = frame["kind"].map({"layer": 0, "ceiling": 2, "combination": 2}).fillna(1)
    return frame.iloc[order.argsort(kind="stable")][_AUC_COLUMNS].reset_index(drop=True)


def rows_of(frame: Frame, *names: str) -> list[tuple[Any, ...]]:
    """Return each row as a tuple of the named columns, else of `PLACE`."""
    return list(zip(*(frame[name].tolist() for name in names or PLACE), strict=True))


def best_layer(scores: Frame) -> Row | None:
    """Return the line of the layer that dev chose, else the highest; None where no layer has a score."""
    layers = scores[(scores["signal"] == "increments") & scores["value"].notna()]
    if layers["is_picked"].any():
        return layers[layers["is_picked"]].iloc[0]
    return None if layers.empty else layers.loc[layers["value"].idxmax()]


def _best_heads(scores: Frame) -> dict[int, int]:
    """Return each layer with its best head, -1 where increments are per layer."""
    layers = scores[(scores["signal"] == "increments") & scores["value"].notna()]
    best = layers.loc[layers.groupby("layer")["value"].idxmax()]
    return dict(zip(best["layer"].tolist(), best["head"].tolist(), strict=True))


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


@_once
def differences_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return the best layer minus each of its controls, the strongest control first.

    Of a control with several places, the one that the layer does worst against.

    Returns:
        Columns `layer`, `head`, `control`, `control_layer`, `control_head`, `name` (of the control),
        `value` (ROC-AUC of the layer minus that of the control), `low`, `high` (95 %, the same
        resamples for both), `verdict`. Empty where the result has no differences.
    """
    keys = ["control", "control_layer", "control_head"]
    columns = ["layer", "head", *keys, "name", "value", "low", "high", "verdict"]
    table = _of_best_layer(result, "differences", label, stratum)
    if table.empty:
        return pd.DataFrame(columns=columns)
    table = table.assign(**{name: whole_numbers(table, name) for name in keys[1:]})
    frame = table.rename(columns={"ci_low": "low", "ci_high": "high"})
    frame["name"] = [signal_name(*key) for key in rows_of(frame, *keys)]
    if "verdict" not in table:  # a result of an earlier version
        frame["verdict"] = [verdict_on(*bounds) for bounds in rows_of(frame, "low", "high")]
    frame["verdict"] = frame["verdict"].where(frame["low"].notna(), "")
    frame = frame[frame["value"].notna() & (frame["control"] != "ceiling")]
    frame = frame.sort_values("value", kind="stable").drop_duplicates("control")
    return frame[columns].reset_index(drop=True)


def share_of(result: Result, label: str, stratum: str) -> Row | None:
    """Return the best layer's line of `shares`, None where there is none."""
    own = _of_best_layer(result, "shares", label, stratum)
    return None if own.empty or not own["share"].notna().iloc[0] else own.iloc[0]


def _of_best_layer(result: Result, name: str, label: str, stratum: str) -> Frame:
    table, best = cell_of(result, name, label, stratum), best_layer(auc_frame(result, label, stratum))
    if table.empty or best is None:
        return table[:0]
    is_own = (table["layer"] == best["layer"]) & (table["head"] == best["head"])
    return table[(table["signal"] == "increments") & is_own]


def beyond_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return what each layer tells beyond surprisal, one line a layer and baseline.

    Returns:
        The columns of the table `beyond`, and `name` (of the place). Empty where the result has none.
    """
    table = cell_of(result, "beyond", label, stratum)
    if table.empty:
        return table.assign(name="")
    frame = table.assign(name=[signal_name(*key) for key in rows_of(table)])
    return frame.sort_values(["layer", "head"], kind="stable").reset_index(drop=True)


@_once
def leaderboard_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return what the leaderboard draws, best first: one line a layer and one a control.

    Of increments per head each layer's best head stands for it; of a control with a value a layer
    its best layer does. Both are picked on the text that is scored, so neither is favoured, and both
    are a little too high. The other lines are in `auc_frame`.

    Returns:
        The columns of `auc_frame`, and `null_low`, `null_high` (95 % of the ROC-AUC under circular
        shifts of the same signal), `probe` (ROC-AUC of the supervised probe on that layer's hidden
        state; layers only) and `n_places` (layers and heads that the line was picked from). Lines
        without a value are left out; the p values of a mean over seeds are null.
    """
    scores = auc_frame(result, label, stratum)
    scores = scores[scores["value"].notna()]
    is_layer, heads = scores["signal"] == "increments", _best_heads(scores)
    is_best_head = scores["layer"].map(heads) == scores["head"]
    is_best_place = scores.groupby("signal")["value"].transform("idxmax") == scores.index
    n_places = scores.groupby("signal")["value"].transform("size").where(~is_layer, 1)
    probes = scores[scores["kind"] == "ceiling"].groupby("layer")["value"].max()
    probe = scores["layer"].map(probes).astype(float).where(is_layer)
    frame = scores.assign(n_places=n_places, probe=probe)[np.where(is_layer, is_best_head, is_best_place)]
    nulls = cell_of(result, "nulls", label, stratum).reindex(columns=[*PLACE, "null_low", "null_high"])
    frame = frame.merge(nulls.drop_duplicates(PLACE).astype({"signal": "str"}), on=PLACE, how="left")
    for name in ("p_shift", "p_same_byte"):
        frame[name] = frame[name].mask(frame["spread"] == "range")
    return frame.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def by_layer_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return the lines of `auc_frame` that have a layer: increments and each layer's own controls.

    Of increments per head, each layer's best head; of a control per head, the same head.
    """
    scores = auc_frame(result, label, stratum)
    scores = scores[scores["value"].notna() & (scores["layer"] >= 0)]
    own = (scores["head"] == -1) | (scores["head"] == scores["layer"].map(_best_heads(scores)))
    return scores[own].sort_values(["signal", "layer"], kind="stable")


@_once
def curves_frame(result: Result, table: str, label: str, stratum: str) -> Frame:
    """Return the points of the curves to draw: the best layer, the strongest controls beside it, its probe.

    Of a control with several seeds, the first; of a control with a value a layer, that of the best layer.

    Args:
        result: A result of kind "boundaries".
        table: "roc" (columns `fpr`, `tpr`) or "precision_recall" (`recall`, `precision`).
        label: Which label.
        stratum: Which gaps.

    Returns:
        The columns of the table and `name`, each curve's points in order; empty where there are none.
    """
    curves, scores = cell_of(result, table, label, stratum), auc_frame(result, label, stratum)
    if curves.empty:
        return curves.assign(name="")
    best, chosen = best_layer(scores), controls_beside(scores)[:_CURVES]
    if best is not None:
        is_probe = (scores["kind"] == "ceiling") & (scores["layer"] == best["layer"])
        chosen = pd.concat([best.to_frame().T, chosen, scores[is_probe]])
    order = {key: i for i, key in enumerate(rows_of(chosen))}
    rank = np.array([order.get(key, -1) for key in rows_of(curves)], dtype=int)
    curves = curves.assign(order=rank)[rank >= 0]
    if "seed" in curves:
        first = curves.groupby(PLACE)["seed"].transform("min")
        curves = curves[curves["seed"].isna() | (curves["seed"] == first)]
    # a control with a value a layer is named without its layer, which is the best layer's
    names = [signal_name(*(key if key[0] == "increments" else key[:1])) for key in rows_of(curves)]
    return curves.assign(name=names).sort_values("order", kind="stable", ignore_index=True)


def errors_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return the characters around each error of a label, in the order they are read.

    Returns:
        The columns of the table `errors` (`value` is oriented: high speaks for a boundary), and `shade`:
        which of nine shades it has, by the rank of `value` among all characters of these strips.
    """
    frame = cell_of(result, "errors", label, stratum)
    if frame.empty:
        return frame
    frame = frame.assign(is_boundary=frame["is_boundary"].astype(str) == "True")
    ranks = frame["value"].rank(pct=True, method="average")
    frame["shade"] = (ranks * N_SHADES).clip(upper=N_SHADES - 1).fillna(0).astype(int)
    return frame.sort_values([*PLACE, "rank", "offset"], kind="stable", ignore_index=True)


def error_strips(result: Result, label: str, stratum: str) -> tuple[str, list[Strip]]:
    """Return how many errors of each kind are shown, in words, and each as a strip of text."""
    strips, frame = [], errors_frame(result, label, stratum)
    for _, rows in frame.groupby([*PLACE, "rank"], sort=False) if len(frame) else ():
        first, gap = rows.iloc[0], rows.loc[rows["offset"] == 0, "value"]
        cells = [
            Cell(
                visible(text), f"{described(text)}, signal {number(value, 3)}", shade,
                is_marked=offset == 0, is_boundary=is_boundary,
            )
            for text, value, shade, offset, is_boundary in rows_of(
                rows, "text", "value", "shade", "offset", "is_boundary"
            )
        ]  # fmt: skip
        value = signed(gap.iloc[0]) if len(gap) else NOTHING
        where = f"{first['document']}, character {int(first['character']):,}; signal {value}"
        strips.append(Strip(str(first["error"]), where, cells))
    many = {"miss": "misses", "false alarm": "false alarms"}
    counts = Counter(strip.kind for strip in strips).most_common()
    return ", ".join(f"{n} {kind if n == 1 else many.get(kind, kind)}" for kind, n in counts), strips


_METRICS = {
    "average_precision": "Av. precision", "f1": "F1", "mcc": "MCC", "precision": "Precision",
    "recall": "Recall", "token_f1_cut": "Token F1, cut", "token_f1": "Token F1", "word_f1": "Word F1",
    "pk": "Pk", "windowdiff": "WindowDiff",
}  # fmt: skip


def score_table(result: Result, label: str, stratum: str) -> tuple[Frame, list[str]]:
    """Return every score as strings, best first, and each line's style (layer, control or ceiling).

    A metric that no line has is left out.
    """
    scores = auc_frame(result, label, stratum).sort_values("value", ascending=False, kind="stable")
    shares = (scores["n_positive"] / scores["n"].clip(lower=1)).tolist()
    spreads = rows_of(scores, "low", "high", "spread")
    table = pd.DataFrame({
        "Signal": scores["name"],
        "ROC-AUC": [number(value, 3) for value in scores["value"]],
        "95 % interval, or range": [
            f"{number(low, 3)} to {number(high, 3)}" if spread == "range" else interval(low, high) or NOTHING
            for low, high, spread in spreads
        ],
        "Sign": [sign_of(value) for value in scores["sign"]],
        "Alignment": [align or NOTHING for align in scores["align"]],
        "Prevalence": [number(share, 3) for share in shares],
    })  # fmt: skip
    for column, heading in (("p_shift", "p (shift)"), ("p_same_byte", "p (same byte)")):
        if scores[column].notna().any():
            table[heading] = [number(value, 3) for value in scores[column]]
    own = cell_of(result, "scores", label, stratum)
    own = own[own["seed"].isna()].assign(align=own["align"].fillna("").astype(str))
    known = dict(zip(rows_of(own, *_KEYS, "metric"), own["value"].tolist(), strict=True))
    keys = rows_of(scores, *_KEYS)
    for metric, heading in _METRICS.items():
        values = pd.Series([known.get((*key, metric), np.nan) for key in keys], dtype=float)
        if values.notna().any():
            if metric == "token_f1" and "Token F1, cut" not in table:  # a result of an earlier version
                heading = "Token F1, cut"
            table[heading] = [number(value, 3) for value in values]
    return table, list(scores["kind"])


def sign_of(value: Any) -> str:
    """Return the sign that dev chose, or ± where seeds differ or nothing is known."""
    return "±" if not is_number(value) or value == 0 else "+" if value > 0 else "−"


BASELINES = {
    "M0": "entropy, rise, surprisal, byte class and log-bigram",
    "M0_lexical": "those and the log-odds of the characters",
    "bins": "bins of entropy and surprisal (rank test)",
}


def beyond_table(frame: Frame) -> Frame:
    """Return the tests of `beyond_frame` as strings."""

    def gains(value: str, low: str, high: str, digits: int) -> list[str]:
        bounds = [signed_interval(a, b, digits) for a, b in rows_of(frame, low, high)]
        values = [signed(v, digits) for v in frame[value]]
        return [f"{v} {b}" if b != NOTHING else v for v, b in zip(values, bounds, strict=True)]

    return pd.DataFrame({
        "Layer": frame["name"],
        "Held fixed": [BASELINES.get(name, name) for name in frame["baseline"]],
        "ROC-AUC gained": gains("delta_auc", "auc_low", "auc_high", 4),
        "Bits a gap gained": gains("bits", "bits_low", "bits_high", 5),
        "ROC-AUC": [
            f"{number(base, 4)} → {number(full, 4)}" if base == base else NOTHING
            for base, full in rows_of(frame, "base_auc", "full_auc")
        ],
        "p": [number(value, 3) for value in frame["p"]],
        "Beyond": [{"True": "yes", "False": "no"}.get(str(value), NOTHING) for value in frame["is_beyond"]],
    })  # fmt: skip


def classes_frame(result: Result, language: str | None = None) -> Frame:
    """Return the mean increment by byte class, layer and head, divided by the layer's mean.

    Returns:
        Columns `byte_class`, `layer`, `head`, `place`, `mean`, `sd`, `n`, `mean_normalised`,
        `language`; classes without a byte are left out.
    """
    table = table_of(result, "classes")
    columns = ["byte_class", "layer", "head", "mean", "sd", "n", "mean_normalised", "language"]
    if table.empty:
        return table.reindex(columns=[*columns, "place"])
    table = table[(table["n"] > 0) & (language is None or table.get("language", language) == language)]
    return table.assign(place=[place(*key) for key in rows_of(table, "layer", "head")]).reset_index(drop=True)


def languages(result: Result) -> list[tuple[str | None, str]]:
    """Return the languages of the class table, each with its name; those of it all where there is one."""
    table = table_of(result, "classes")
    found = in_order(table["language"].dropna().astype(str), ("en", "zh")) if "language" in table else []
    apart = [language for language in found if language != "all"]
    return [(language, LANGUAGES.get(language, language)) for language in apart or found] or [(None, "")]


_PAIR = ["layer", "head", "other_layer", "other_head"]


def matches_frame(result: Result, stratum: str = "characters") -> Frame:
    """Return the matched layers of two runs, one line a pair and label.

    Returns:
        The rows of `matches` in a stratum, with whole numbers for layers and heads (-1: none).
    """
    table = table_of(result, "matches")
    if table.empty:
        return table
    table = table[table["stratum"] == stratum]
    return table.assign(**{name: whole_numbers(table, name) for name in _PAIR}).sort_values(
        _PAIR, kind="stable"
    )


def matches_table(frame: Frame) -> Frame:
    """Return the pairs as strings: a row a pair, a column a run and label."""
    rows = []
    for (layer, head, other_layer, other_head), pair in frame.groupby(_PAIR):
        row = {
            "This run": place(layer, head),
            "Other run": place(other_layer, other_head),
            "|Spearman|": number(abs(pair["spearman"].iloc[0]), 2),
        }
        for label in in_order(frame["label"], LABEL_ORDER):
            for whose, names in _WHOSE.items():
                own = pair.loc[pair["label"] == label, names].to_numpy(dtype=float)
                value, low, high = own[0] if len(own) else (np.nan, np.nan, np.nan)
                heading = f"{label.replace('_', ' ')}: {whose}"
                row[heading] = f"{number(value, 3)} {interval(low, high)}".rstrip()
        rows.append(row)
    return pd.DataFrame(rows)


_WHOSE = {"this": ["value", "ci_low", "ci_high"], "other": ["other_value", "other_low", "other_high"]}


def matches_words(frame: Frame) -> str:
    """Say for which labels the best layers of two runs are each other's match."""
    own = frame[frame["value"].notna() & frame["other_value"].notna()]
    agree = {
        str(label).replace("_", " "): rows["value"].idxmax() == rows["other_value"].idxmax()
        for label, rows in own.groupby("label")
    }
    same = [label for label, is_same in agree.items() if is_same]
    return (
        "The best layers of the two runs are each other's match for "
        f"{len(same)} of {plural(len(agree), 'label')}"
        f"{' (' + ', '.join(same) + ')' if same else ''}. The weakest match has |Spearman| "
        f"{number(frame['spearman'].abs().min(), 2)}. Two runs are two draws, not a test."
    )


def counts_table(table: Frame) -> Frame:
    """Return a table of counts as strings, its columns named in words."""
    shown = {
        str(name).replace("_", " "): [
            f"{value:,}" if isinstance(value, int) else str(value) for value in column.tolist()
        ]
        for name, column in table.items()
    }
    return pd.DataFrame(shown)
