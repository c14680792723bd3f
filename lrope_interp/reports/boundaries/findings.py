"""The verdicts of the page of `boundaries`, and F1 of words, which decides one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.reports.boundaries.tables import (
    NAMES,
    PLACE,
    auc_frame,
    best_layer,
    beyond_frame,
    controls_beside,
    differences_frame,
    labels_and_strata,
    rows_of,
    signal_name,
)
from lrope_interp.reports.kit.frames import Frame, cell_of, table_of
from lrope_interp.reports.kit.verdicts import COLUMNS, MARKS, Verdicts
from lrope_interp.reports.kit.wording import interval, number, place, plural, signed, signed_interval
from lrope_interp.results import AS_GOOD, LOSES, TIES, WINS, Result


def verdicts(result: Result) -> Verdicts:
    """Return one row a label, in its widest stratum: the best layer, its strongest control, and who wins."""
    rows = [_verdict(result, label, strata[0]) for label, strata in labels_and_strata(result) if strata]
    rows += _added_verdicts(result)
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "beyond"])
    is_about_words = NAMES["counts"] in frame["control"].tolist()
    names = {"what": "Boundary", "where": "Best layer", "value": "ROC-AUC", "control": "Strongest control"}
    unit = "token" if "unscored" in result.tables else "byte"
    brackets = "Brackets: 95 % over documents, differences in pairs"
    brackets = brackets if bool(frame["low"].notna().any()) else "Too few documents for intervals"
    known = table_of(result, "verdicts")
    if "verdicts" not in result.tables:  # a result of an earlier version
        brackets += "; layer and control are picked on the text that is scored"
    else:
        brackets += "; layer and control are picked on dev, and verdicts count all labels (Holm)"
    if AS_GOOD in frame["verdict"].tolist():
        brackets += f". As good: less than {known['margin'].iloc[0]:g} worse at 95 %"
    table = f" Layer 0 sees the {unit} alone: it equals the {unit}'s mean increment by construction."
    return Verdicts(
        headline=_headline(frame[frame["control"] != NAMES["counts"]], _only_layer(result)),
        frame=frame,
        names=names | {"difference": "Layer minus control"},
        marks=MARKS | {ADDS: MARKS[WINS], HARMS: MARKS[LOSES]},
        caption=f"ROC-AUC, 0.5 is chance. {brackets}."
        + (table if "layer 0" in frame["where"].tolist() else "")
        + (" Rows of F1: does the model add to counting? Each at 95 %." if is_about_words else ""),
    )


def added(result: Result) -> Frame:
    """Return F1 of words by the model and counts minus that by counts alone, by label, stratum and metric.

    Of words of the whole text where they are gold, else of tokens; empty where nothing was combined.
    """
    table = table_of(result, "word_differences")
    if table.empty:
        return table
    own = table[
        (table["signal"] == "model_and_counts") & (table["control"] == "counts") & table["value"].notna()
    ]
    return own.drop_duplicates(["label", "stratum"], keep="last")


def added_words(result: Result, label: str, stratum: str) -> str:
    """Say whether the model adds to counting; "" where nothing was combined."""
    own = added(result)
    own = own[(own["label"] == label) & (own["stratum"] == stratum)] if len(own) else own
    if own.empty:
        return ""
    row = own.iloc[0]
    what = {WINS: "The model adds to counting", LOSES: "With the model, counting does worse"}
    said = what.get(row["verdict"], "The model is not shown to add to counting")
    bounds = signed_interval(row["ci_low"], row["ci_high"])
    which = "words of the whole text" if row["metric"] == "word_f1" else "tokens"
    return f"{said}: F1 of {which} changes by {signed(row['value'])} {bounds}."


def _added_verdicts(result: Result) -> list[dict[str, Any]]:
    """Return a row a label: the regression on model and counts minus that on counts, in narrowest gaps."""
    own = added(result)
    rows = []
    for row in own.drop_duplicates("label", keep="last").to_dict("records") if len(own) else []:
        scores = words_frame(result, row["label"], row["stratum"]).set_index("signal")
        one = scores.loc["model_and_counts"]
        found = {"what": f"{row['label'].replace('_', ' ')}, F1", "where": NAMES["model_and_counts"]}
        found |= {"value": one[row["metric"]], "low": one[f"{row['metric']}_low"]}
        found |= {"high": one[f"{row['metric']}_high"], "control": NAMES["counts"], "beyond": ""}
        found |= {"difference": row["value"], "difference_low": row["ci_low"]}
        verdict = _ADDING.get(row["verdict"], row["verdict"])
        rows.append(found | {"difference_high": row["ci_high"], "verdict": verdict})
    return rows


ADDS, HARMS = "the model adds", "worse with the model"
_ADDING = {WINS: ADDS, LOSES: HARMS}
F1_METRICS = ("token_f1_cut", "token_f1", "token_f1_unsupervised", "word_f1")


def words_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return F1 of words, one line a layer and one a control, best first; empty where words were not decoded.

    Of a control with a value a layer, that of the layer with the best ROC-AUC.

    Returns:
        Columns `kind`, `signal`, `layer`, `head`, `name`, and each of `F1_METRICS` that there is, with
        NAME_low and NAME_high.
    """
    scores = cell_of(result, "scores", label, stratum)
    scores = scores[scores["metric"].isin(F1_METRICS) & scores["value"].notna() & scores["seed"].isna()]
    if "token_f1_cut" not in scores["metric"].tolist():  # a result of an earlier version
        return scores[:0]
    best = best_layer(auc_frame(result, label, stratum))
    layer = -1 if best is None else best["layer"]
    scores = scores[(scores["signal"] == "increments") | scores["layer"].isin([-1, layer])]
    wide = scores.pivot_table(
        index=["kind", *PLACE], columns="metric", values=["value", "ci_low", "ci_high"], sort=False
    )
    wide.columns = [
        metric + {"value": "", "ci_low": "_low", "ci_high": "_high"}[what] for what, metric in wide
    ]
    frame = wide.reset_index()
    frame["name"] = [signal_name(*key) for key in rows_of(frame)]
    by = "word_f1" if "word_f1" in frame else "token_f1"
    return frame.sort_values(by, ascending=False, kind="stable", ignore_index=True)


def words_table(frame: Frame) -> tuple[Frame, list[str]]:
    """Return the lines of `words_frame` as strings, and their styles; published figures follow, named so."""
    headings = ("Token F1, cut", "Token F1, decoded", "Token F1, without labels", "Word F1, whole text")
    table = pd.DataFrame({"Signal": frame["name"]})
    for metric, heading in zip(F1_METRICS, headings, strict=True):
        if metric in frame:
            bounds = [f"{metric}{end}" for end in ("", "_low", "_high")]
            table[heading] = [
                f"{number(value, 3)} {interval(low, high)}".rstrip()
                for value, low, high in rows_of(
                    frame.reindex(columns=[*frame.columns, *{*bounds} - {*frame}]), *bounds
                )
            ]
    return table, list(frame["kind"])


QUOTED = (
    ("every character a word", ".343", "SIGHAN 2005 PKU test", "counted, no system"),
    (
        "DMSLM (Downey et al. 2021, arXiv 2104.07829)", ".722-.749", "SIGHAN 2005 PKU test",
        "a segmental language model; tuned on its dev F1",
    ),
    (
        "LLACA (Zhang et al. 2025, arXiv 2505.19631)", ".893", "SIGHAN 2005 PKU test",
        "its dictionary was made by a large language model that has read segmented text",
    ),
)  # fmt: skip


def quoted_table() -> Frame:
    """Return published word F1, quoted and not computed here, and how it differs from ours."""
    return pd.DataFrame(QUOTED, columns=["Quoted", "Word F1", "Text", "How it differs"])


def _verdict(result: Result, label: str, stratum: str) -> dict[str, Any]:
    scores = auc_frame(result, label, stratum)
    best, controls = best_layer(scores), controls_beside(scores)
    row: dict[str, Any] = dict.fromkeys([*COLUMNS, "beyond"], "") | {"what": label.replace("_", " ")}
    row |= dict.fromkeys(["value", "low", "high", "difference", "difference_low", "difference_high"], np.nan)
    chosen = cell_of(result, "verdicts", label, stratum)
    if best is None or (chosen.empty and "verdicts" in result.tables):  # dev could choose no layer
        return row
    row |= {"where": best["name"]} | {name: best[name] for name in ("value", "low", "high")}
    row["beyond"] = beyond_words(result, label, stratum)
    if len(chosen):
        own = chosen.iloc[0]
        row |= {name: own[name] for name in ("difference", "difference_low", "difference_high")}
        return row | {"control": signal_name(own["control"]), "verdict": own["verdict"]}
    against = differences_frame(result, label, stratum)
    if len(against):
        top = against.iloc[0]
        row |= {"control": signal_name(top["control"]), "difference": top["value"], "verdict": top["verdict"]}
        return row | {"difference_low": top["low"], "difference_high": top["high"]}
    if len(controls):  # not tested in pairs: no verdict
        top = controls.iloc[0]
        row |= {"control": signal_name(top["signal"]), "difference": best["value"] - top["value"]}
    return row


def _only_layer(result: Result) -> str:
    """Name the layer that was scored, "" where there are several."""
    scores = result.tables["scores"]
    layers = scores.loc[scores["signal"] == "increments", "layer"].unique()
    return place(int(layers[0])) if len(layers) == 1 else ""


def _headline(frame: Frame, only: str) -> str:
    """Say in at most 25 words for which labels a layer, or the only one, beats its strongest control."""
    one, every = only or "a layer", only or "every layer"
    scored = frame[frame["where"] != ""]
    if scored.empty:
        return "No layer has a score."
    if (scored["control"] == "").all():
        return "Without a control these numbers are not a result."
    n = len(scored)
    if (scored["verdict"] == "").all():
        n_behind = int((scored["difference"] < 0).sum())
        behind = f"a control lies ahead of {every} for {n_behind} of {plural(n, 'label')}"
        return f"No verdict without intervals; {behind}."
    parts = []
    for verdict, words in _WORDS.items():
        labels = scored.loc[scored["verdict"] == verdict, "what"].tolist()
        which = f"{len(labels)} of {n} labels" if len(labels) < n else f"all {n} labels"
        said = words.format(one=one, every=every)
        parts += [f"{said} for {' and '.join(labels) if len(labels) < 3 else which}"] if labels else []
    return f"{'; '.join(parts)[0].upper()}{'; '.join(parts)[1:]}."


_WORDS = {
    WINS: "{one} beats every control",
    LOSES: "a control beats {every}",
    AS_GOOD: "{one} is as good as the strongest control",
    TIES: "no difference from the strongest control is shown",
    "": "no verdict without an interval",
}


def beyond_words(result: Result, label: str, stratum: str) -> str:
    """Say which layers tell something that surprisal does not, by every test they had; "" if nobody asked."""
    frame = beyond_frame(result, label, stratum)
    if frame.empty:
        return ""
    tested = frame[(frame["signal"] == "increments") & frame["is_beyond"].notna()]
    if tested.empty:
        return "too few documents"
    found = tested.groupby(["layer", "head"])["is_beyond"].agg(["all", "any"])
    passed, torn = (
        ", ".join(place(*key).split()[1] for key in found.index[which])
        for which in (found["all"], found["any"] & ~found["all"])
    )
    some = f"; {torn} by some tests only" if torn else ""
    return f"{passed or 'none'}{some}"
