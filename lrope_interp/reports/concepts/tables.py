"""The numbers behind the page of `probe`: its verdicts, and one frame a figure or table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit.changes import with_bounds
from lrope_interp.reports.kit.frames import Frame, Row, numbers, table_of, worded
from lrope_interp.reports.kit.glyphs import N_SHADES, Cell, Strip, described, visible
from lrope_interp.reports.kit.panels import frame_of
from lrope_interp.reports.kit.verdicts import COLUMNS, MARKS, Verdicts
from lrope_interp.reports.kit.wording import (
    NOTHING,
    is_number,
    number,
    plural,
    shortened,
)
from lrope_interp.results import LOSES, TIES, WINS, Result, verdict_on

INCREMENTS = "increments"
DOCUMENT, TYPE = "document", "type"  # splits: unseen documents, and unseen words
BEYOND = "beyond controls"  # what the table of claims calls one that stands
PARTLY = "not by every test"  # above the best control, but no claim
FEATURES = {INCREMENTS: "increments", "positions": "positions", "resid": "hidden states"}
OF_MODEL = ("untrained", "random_head", "fixed")  # controls that have the layers of the model
CONTROLS = {
    "byte_window": "bytes", "ngram": "n-grams", "static_position": "place", "entropy": "entropies",
    "joint": "all jointly", "untrained": "untrained", "random_head": "random head",
    "fixed": "fixed twin", "majority": "chance",
}  # fmt: skip
_SIGNALS = {
    "entropy": "entropy", "lexical": "mean of byte", "ngram_3": "mean of 3 bytes", "bytes": "byte count",
}  # fmt: skip
KEY = ["family", "concept"]
_WORDS = [*KEY, "features", "best_control", "type_best_control", "verdict"]
_BOUNDED = ("auc", "above", "type_auc", "type_above", "selectivity", "gain", "type_gain")
_NUMBERS = [*_BOUNDED, *(f"{name}_{side}" for name in _BOUNDED for side in ("low", "high"))]
_NUMBERS += ["best_control_auc", "type_best_control_auc", "gain_untrained", "mdl_bits"]
_NUMBERS += ["n", "n_concept", "n_types", "n_documents"]
_MOST_WORDS = 25  # of a headline


def control_name(control: str) -> str:
    """Name a control in a few letters; one of a later version keeps its name."""
    return CONTROLS.get(control, control.replace("_", " "))


def place(layer: int) -> str:
    """Name a layer; -1 is all of them together."""
    return "all layers" if layer < 0 else f"layer {layer}"


def _tick(layer: int, head: int = -1) -> str:
    return "all" if layer < 0 else f"{layer}" if head < 0 else f"{layer}.{head}"


@lru_cache(maxsize=16)  # of a page: each of its figures asks again
def claims_of(result: Result) -> Frame:
    """Return the table of claims, in order: features, concepts as in the file, layers, all layers last.

    Returns:
        Its columns (layer -1: all of them; verdict "" where nothing was measured), and `what` (the concept
        in words, with its family where two families have it), `place`, `judged` and `type_judged`: what the
        paired differences on both splits show, `WINS` of claims that stand alone.
    """
    table = table_of(result, "claims")
    table = table.reindex(columns=[*dict.fromkeys([*_WORDS, "layer", *_NUMBERS, "is_adding", *table])])
    known = {name: table[name].fillna("").astype(str) for name in _WORDS}
    known |= {name: numbers(table[name]) for name in _NUMBERS}
    known["is_adding"] = table["is_adding"].astype("boolean").fillna(False).astype(bool)
    table = table.assign(layer=table["layer"].fillna(-1).astype(int), **known)
    pairs = table[KEY].drop_duplicates()
    shared = set(pairs.loc[pairs["concept"].duplicated(), "concept"])
    keys = list(zip(table["family"], table["concept"], strict=True))
    kinds = list(dict.fromkeys([*FEATURES, *table["features"]]))
    table = table.assign(
        what=[_words(f"{family}: {one}" if one in shared else one) for family, one in keys],
        place=[place(layer) for layer in table["layer"]],
        judged=_judged(table, "above"),
        type_judged=_judged(table, "type_above"),
        kind=table["features"].map(kinds.index),
        order=pd.factorize(pd.Series(keys, dtype=object))[0],
    )
    return by_depth(table, ["kind", "order"]).drop(columns=["kind", "order"]).reset_index(drop=True)


def by_depth(table: Frame, first: Sequence[str] = ()) -> Frame:
    """Return rows in the order of some columns, then layer by layer, all layers together last."""
    layers = table["layer"]
    ordered = table.assign(depth=layers.where(layers >= 0, np.inf)).sort_values(
        [*first, "depth"], kind="stable"
    )
    return ordered.drop(columns="depth")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _judged(table: Frame, column: str) -> list[str]:
    """Return what intervals show, `WINS` where the claim stands as a whole alone."""
    bounds = zip(table["verdict"], table[f"{column}_low"], table[f"{column}_high"], strict=True)
    found = []
    for verdict, low, high in bounds:
        shown = verdict_on(low, high) if low == low else ""
        found.append(WINS if verdict == BEYOND else PARTLY if shown == WINS else shown)
    return found


def features_of(result: Result) -> list[str]:
    """Return the kinds of features that claims are about."""
    return list(dict.fromkeys(claims_of(result)["features"]))


@lru_cache(maxsize=16)
def best_claims(result: Result) -> Frame:
    """Return the best claim of each concept from each kind of features: one that stands before others.

    Layers are picked on the text that is scored, so that the best one looks a little too good. Sorted by
    features, and best first.
    """
    claims = claims_of(result)
    score = claims["above"].fillna(-np.inf)
    ranked = claims.assign(
        stands=claims["judged"] == WINS, score=score, kind=pd.factorize(claims["features"])[0]
    )
    ranked = ranked.sort_values(["kind", "stands", "score"], ascending=[True, False, False], kind="stable")
    best = ranked.drop_duplicates([*KEY, "features"])
    return best.drop(columns=["stands", "score", "kind"]).reset_index(drop=True)


def claim_of(result: Result, concept: str | None, features: str | None) -> Row:
    """Return the best claim about a concept, by its name or in words; the first of each where none is named.

    Raises:
        LRopeError: Nothing is claimed of it.
    """
    best = best_claims(result)
    for name, wanted in (("features", features), ("what", None if concept is None else _words(concept))):
        known = list(dict.fromkeys(best[name]))
        if not known or wanted not in (None, *known):
            raise LRopeError(f"nothing is claimed of {wanted!r}: choose from {', '.join(known) or 'nothing'}")
        best = best[best[name] == (known[0] if wanted is None else wanted)]
    return best.iloc[0]


def verdicts(result: Result) -> Verdicts:
    """Return one row a concept and kind of features: the best claim, its strongest control, and who wins."""
    claims, best = claims_of(result), best_claims(result)
    adding = claims[claims["is_adding"]].groupby([*KEY, "features"], sort=False)["place"].agg(", ".join)
    keys, first = zip(*(best[name] for name in (*KEY, "features")), strict=True), features_of(result)[:1]
    frame = best.assign(
        what=[
            what if [features] == first else f"{what}, {FEATURES.get(features, features)}"
            for what, features in zip(best["what"], best["features"], strict=True)
        ],
        where=best["place"],
        control=[control_name(one) for one in best["best_control"]],
        adds=[adding.get(key, "") for key in keys],
    ).drop(columns="verdict")
    frame = frame.rename(columns=_SHOWN)[[*COLUMNS, *KEY, "features", "adds"]]
    frame.loc[frame["difference"].isna(), ["where", "control"]] = ""
    names = {"what": "Concept", "where": "Best layer", "value": "ROC-AUC", "control": "Strongest control"}
    caption = "ROC-AUC on unseen documents; 0.5 is chance. Layers are picked on this text."
    if any(frame["verdict"]):
        caption += " Brackets: 95 % over documents, differences in pairs. ▲ asks for unseen words and "
        caption += f"selectivity too; {plural(len(claims), 'claim')}, uncorrected."
    return Verdicts(
        headline=_headline(frame, has_gains=bool(claims["gain"].notna().any())),
        frame=frame,
        names=names | {"difference": "Minus control"},
        caption=caption,
        marks=MARKS | {PARTLY: ("△", "open")},
    )


_SHOWN = {"auc": "value", "auc_low": "low", "auc_high": "high", "above": "difference", "judged": "verdict"}
_SHOWN |= {f"above_{side}": f"difference_{side}" for side in ("low", "high")}
_VERBS = {
    WINS: "beat every control", LOSES: "lose to a control", PARTLY: "pass some tests",
    TIES: "show no difference",
}  # fmt: skip


def _headline(frame: Frame, *, has_gains: bool) -> str:
    """Say in at most 25 words for which concepts the features, the first kind above all, win or lose."""
    measured = frame[frame["difference"].notna()]
    if measured.empty:
        return "No claim could be measured."
    kinds = {str(name): rows for name, rows in measured.groupby("features", sort=False)}
    first, own = next(iter(kinds.items()))
    name, n = FEATURES.get(first, first), len(own)
    if (own["verdict"] == "").all():
        n_ahead = int((own["difference"] > 0).sum())
        return (
            f"No verdict without intervals; {name} are ahead of every control for {n_ahead or 'none'} of {n}."
        )
    parts = []
    for verdict, words in _VERBS.items():
        found = own.loc[own["verdict"] == verdict, "what"].tolist()
        which = (
            shortened(found[0])
            if len(found) == 1
            else f"{len(found)} of {n}"
            if len(found) < n
            else f"all {n}"
        )
        which += " concepts" if len(found) > 1 and not parts else ""
        parts += [f"{words} for {which}"] if found else []
    n_adding = int((own["adds"] != "").sum())
    clauses = [f"{name[0].upper()}{name[1:]} {' and '.join(parts[:2])}"]
    if has_gains:
        clauses.append(f"{n_adding or 'none'} {'adds' if n_adding == 1 else 'add'} to all controls together")
    if len(kinds) > 1:
        others = measured[measured["features"] != first]
        n_won = int((others["verdict"] == WINS).sum())
        where = f"every control for {n_won} of {len(others)}" if n_won else "none"
        second = FEATURES.get([*kinds][1], [*kinds][1]) if len(kinds) == 2 else "other features"
        clauses.insert(1 if n_won else 2, f"{second} beat {where}")
    while len(clauses) > 1 and len("; ".join(clauses).split()) > _MOST_WORDS:
        clauses.pop()
    return f"{'; '.join(clauses)}."


def verdicts_from(found: Verdicts, features: str) -> Verdicts:
    """Return the rows of one kind of features, named by their concepts alone."""
    frame = found.frame[found.frame["features"] == features]
    return replace(
        found,
        frame=frame.assign(what=frame["what"].str.removesuffix(f", {FEATURES.get(features, features)}")),
    )


def map_frame(result: Result, features: str, split: str = DOCUMENT) -> Frame:
    """Return one row a concept and layer: how far it is above its best control on a split.

    Returns:
        `family`, `what`, `place`, `auc`, `control` (the best one), `control_auc`, `value` (the ROC-AUC less
        that of the control), `low`, `high`, `verdict`, `n`, `n_concept`.
    """
    p = "type_" if split == TYPE else ""
    names = {
        f"{p}auc": "auc", f"{p}best_control": "control", f"{p}best_control_auc": "control_auc",
        f"{p}above": "value", f"{p}above_low": "low", f"{p}above_high": "high", f"{p}judged": "verdict",
    }  # fmt: skip
    claims = claims_of(result)
    kept = ["family", "what", "place", "layer", *names, "n", "n_concept"]
    return claims.loc[claims["features"] == features, kept].rename(columns=names)


def layers_frame(result: Result, claim: Row) -> Frame:
    """Return one concept over layers as panels: ROC-AUC, difference from the best control, and gain."""
    claims = claims_of(result)
    own = claims[(claims["what"] == claim["what"]) & (claims["features"] == claim["features"])]
    rows = []
    for panel, series, column in (
        (AREA, DOCUMENT, "auc"), (AREA, TYPE, "type_auc"), (AREA, "control", "best_control_auc"),
        (ABOVE, DOCUMENT, "above"), (ABOVE, TYPE, "type_above"),
        (GAIN, DOCUMENT, "gain"), (GAIN, TYPE, "type_gain"), (GAIN, "untrained", "gain_untrained"),
    ):  # fmt: skip
        for _, one in own.iterrows():
            bounds = {"low": one.get(f"{column}_low", np.nan), "high": one.get(f"{column}_high", np.nan)}
            row = {"panel": panel, "series": series, "x": _tick(one["layer"]), "value": one[column]} | bounds
            rows.append(row | {"note": control_name(one["best_control"]) if series == "control" else ""})
    return frame_of(rows)


AREA, ABOVE, GAIN = "ROC-AUC", "Minus the best control", "Gain, nats per span"


def claims_table(result: Result, features: str) -> Frame:
    """Return every claim about one kind of features as strings."""
    claims = claims_of(result)
    claims = claims[claims["features"] == features]
    columns = {
        "ROC-AUC": "auc", "Minus control": "above", "The same, unseen words": "type_above",
        "Selectivity": "selectivity", "Gain": "gain", "Gain, unseen words": "type_gain",
    }  # fmt: skip
    bounded = {heading: (one, f"{one}_low", f"{one}_high") for heading, one in columns.items()}
    known = claims.assign(control=[control_name(name) for name in claims["best_control"]])
    first = {"Concept": "what", "Layer": "place", "Best control": "control"}
    last = {"Gain, untrained": "gain_untrained", "Adds": "is_adding", "Verdict": "judged"}
    return worded(known, first | bounded | last)


@lru_cache(maxsize=16)
def _probes(result: Result) -> Frame:
    """Return the table of probes, with `spread`: "range" where seeds stand beside a row."""
    table = table_of(result, "probes")
    names = [*KEY, "features", "split", "control", "metric"]
    table = table.reindex(columns=[*dict.fromkeys([*names, "layer", "value", "ci_low", "ci_high", "seed"])])
    table = table.assign(
        **{name: table[name].fillna("").astype(str) for name in names},
        **{name: numbers(table[name]) for name in ("value", "seed")},
        low=numbers(table["ci_low"]), high=numbers(table["ci_high"]),
        layer=table["layer"].fillna(-1).astype(int),
    )  # fmt: skip
    has_seeds = table["seed"].notna().groupby([table[name] for name in (*names, "layer")]).transform("any")
    return table.assign(spread=np.where(has_seeds & (table["metric"] == "roc_auc"), "range", "interval"))


def controls_frame(result: Result, claim: Row, split: str = DOCUMENT) -> Frame:
    """Return the ROC-AUC of a claim, and of every single control of its concept beside it, best first.

    Returns:
        `control` ("none" first: the features), `name`, `value`, `low`, `high`, `spread` (an "interval" over
        documents or a "range" over seeds) and `is_ahead`: the control has at least the value of the features.
    """
    table = _probes(result)
    is_own = (table["metric"] == "roc_auc") & (table["split"] == split) & table["seed"].isna()
    own = table[is_own & (table["family"] == claim["family"]) & (table["concept"] == claim["concept"])]
    of_model = (own["features"] == claim["features"]) & (own["layer"] == claim["layer"])
    of_text = own["control"].isin([name for name in CONTROLS if name not in OF_MODEL])
    claimed = own[of_model & (own["control"] == "none")]
    controls = own[(of_text | (own["control"].isin(OF_MODEL) & of_model)) & own["value"].notna()]
    found = pd.concat([claimed, controls.sort_values("value", ascending=False, kind="stable")])
    name = f"{FEATURES.get(claim['features'], claim['features'])}, {claim['place']}"
    names = [name if one == "none" else control_name(one) for one in found["control"]]
    is_ahead = (found["control"] != "none") & (found["value"] >= claimed["value"].max())
    kept = ["control", "name", "value", "low", "high", "spread", "is_ahead"]
    return found.assign(name=names, is_ahead=is_ahead)[kept].reset_index(drop=True)


def leakage_table(result: Result, features: str) -> Frame:
    """Return the best claims on unseen documents, on unseen words, and what lies between, as strings.

    Beside it the same difference of the control that is best on unseen documents.
    """
    best, rows = best_claims(result), []
    for _, claim in best[(best["features"] == features) & best["auc"].notna()].iterrows():
        by_type, control = (
            controls_frame(result, claim, TYPE).set_index("control")["value"],
            claim["best_control"],
        )
        rows.append({
            "Concept": claim["what"], "Layer": claim["place"], "Unseen documents": claim["auc"],
            "Unseen words": claim["type_auc"], "Leakage": claim["auc"] - claim["type_auc"],
            "Best control": control_name(control),
            "Its leakage": claim["best_control_auc"] - by_type.get(control, np.nan),
        })  # fmt: skip
    frame = pd.DataFrame(rows)
    return worded(frame, {name: name for name in frame})


def selectivity_frame(result: Result, features: str) -> Frame:
    """Return accuracy, that on control tasks and selectivity of each family over layers, as panels.

    Control tasks have the range over their seeds; the commonest class stands at every layer.
    """
    table = _probes(result)
    own = table[table["features"] == features]
    scores = own[(own["control"] == "none") & (own["split"] == DOCUMENT) & own["seed"].isna()]
    scores = scores[scores["metric"].isin(["accuracy", "selectivity"])]
    scores = scores.assign(series=scores["metric"])
    tasks = own[(own["control"] == "control_task") & (own["metric"] == "accuracy")]
    tasks = tasks.groupby(["family", "layer"], sort=False)["value"].agg(["mean", "min", "max"]).reset_index()
    tasks = tasks.rename(columns={"mean": "value", "min": "low", "max": "high"})
    tasks = tasks.assign(series="control_task", spread="range", metric="accuracy")
    common = table[(table["control"] == "majority") & (table["metric"] == "accuracy")]
    common = common.drop_duplicates("family").set_index("family")["value"]
    accuracy = scores[scores["series"] == "accuracy"]
    chance = accuracy.assign(value=accuracy["family"].map(common), low=np.nan, high=np.nan, series="majority")
    found = pd.concat([tasks, scores, chance], ignore_index=True)
    found = found.assign(
        panel=[
            f"{family}: {metric}" for family, metric in zip(found["family"], found["metric"], strict=True)
        ],
        x=[_tick(layer) for layer in found["layer"]],
    )
    return frame_of(by_depth(found, ["family", "metric"]))


def codes_frame(result: Result, features: str) -> Frame:
    """Return the bits per span of each probe's code, a panel a family; of the text alone without a layer."""
    table = _probes(result)
    table = table[(table["metric"] == "mdl_bits") & (table["split"] == DOCUMENT)]
    own, text = table[table["features"] == features], table[table["features"] == ""]
    own = by_depth(own.assign(series=own["control"], x=[_tick(layer) for layer in own["layer"]]))
    text = text[text["family"].isin(own["family"])]
    text = text.assign(series="text", x=[control_name(one) for one in text["control"]])
    found = pd.concat([own, text], ignore_index=True)
    return frame_of(found.assign(panel=found["family"], low=np.nan, high=np.nan))


def sparse_frame(result: Result) -> Frame:
    """Return held-out ROC-AUC by number of single features, a panel a concept; `note` names the features."""
    table, rows = table_of(result, "sparse"), []
    for _, one in table.iterrows():
        for series in ("value", "random_value", "shuffled_value"):
            note = str(one["selected"]) if series == "value" else ""
            row = {"panel": _words(str(one["concept"])), "series": series, "x": f"{one['n_features']}"}
            rows.append(row | {"value": one[series], "note": note})
    return frame_of([row for row in rows if is_number(row["value"])])


STRUCTURE = {  # by table: the column of the number, that of the signal, which rows, and what is nothing
    "contrasts": ("ratio", "control", ("byte_class", "all"), 1.0),
    "pairs": ("value", "control", ("metric", "roc_auc"), 0.5),
    "trees": ("value", "tree", ("metric", "f1"), None),
}
_LAYERED = (INCREMENTS, "untrained", "random_head", "lexical", "ngram_3")


def structure_frame(result: Result, name: str) -> Frame:
    """Return one number a unit, signal and layer as panels, over all languages or the only one.

    Returns:
        A panel a unit, with `signal` and `layer`: the layers, and then what has none ("single").
    """
    column, of, (which, wanted), _ = STRUCTURE[name]
    table = table_of(result, name)
    if table.empty or not {"unit", column, of, which, "language"} <= {*table.columns}:
        return frame_of([]).assign(signal="", layer=-1)
    table = table[table[which] == wanted]
    languages = list(dict.fromkeys(table["language"]))
    table = table[table["language"] == ("all" if "all" in languages else next(iter(languages), ""))]
    signal = table[of].fillna("").astype(str).replace("", INCREMENTS)
    is_single = (table["layer"] < 0) | ~signal.isin(_LAYERED)
    places = zip(table["layer"], table["head"], signal, is_single, strict=True)
    found = table.assign(
        signal=signal,
        is_single=is_single,
        panel=table["unit"].astype(str),
        series=signal.where(~is_single, "single"),
        x=[_SIGNALS.get(one, control_name(one)) if alone else _tick(*at) for *at, one, alone in places],
        value=numbers(table[column]), low=numbers(table["ci_low"]), high=numbers(table["ci_high"]),
        spread=np.where(signal.isin(["untrained", "random_head", "random"]), "range", "interval"),
        order=table["unit"].map({unit: i for i, unit in enumerate(dict.fromkeys(table["unit"]))}),
    )  # fmt: skip
    found = found.sort_values(["order", "is_single", "layer", "head"], kind="stable")
    kept = ["panel", "series", "x", "value", "low", "high", "spread", "signal", "layer"]
    return frame_of(found[kept])


def structure_table(result: Result, name: str) -> Frame:
    """Return every number a language, unit, signal and layer as strings: the figure has one language."""
    column, of, (which, wanted), _ = STRUCTURE[name]
    table = table_of(result, name)
    if table.empty or not {"unit", column, of, which, "language"} <= {*table.columns}:
        return frame_of([])
    table = table[table[which] == wanted]
    signal = table[of].fillna("").astype(str).replace("", INCREMENTS)
    bounds = {
        "low": numbers(table["ci_low"]),
        "high": numbers(table["ci_high"]),
        column: numbers(table[column]),
    }
    table = table.assign(
        signal=[_SIGNALS.get(one, control_name(one)) for one in signal],
        layer=[
            _tick(*at) if at[0] >= 0 else NOTHING for at in zip(table["layer"], table["head"], strict=True)
        ],
        **bounds,
    )
    columns = {"Text": "language", "Unit": "unit", "Signal": "signal", "Layer": "layer"}
    shown = table[table[column].notna()]
    return worded(shown, columns | {"Value": (column, "low", "high")}, digits=4)


def structure_words(result: Result, name: str) -> str:
    """Say for each unit whether the best layer is ahead of the best control, and what intervals show."""
    frame, parts = structure_frame(result, name), []
    for unit, rows in frame.groupby("panel", sort=False):
        is_own = rows["signal"] == INCREMENTS
        own, others = rows[is_own], rows[~is_own]
        if own.empty:
            continue
        best = own.loc[own["value"].idxmax()]
        words = f"{_words(str(unit))} {number(best['value'], 3)}"
        if len(others):
            top = others.loc[others["value"].idxmax()]
            side = "ahead of" if best["value"] > top["value"] else "behind"
            known = _SIGNALS.get(top["signal"], control_name(top["signal"]))
            words += f", {side} {known} {number(top['value'], 3)}"
        parts.append(words)
    return "; ".join(parts)


def units_words(result: Result) -> str:
    """Say in how many layers gaps between units are wider than gaps within, and wider than bytes tell."""
    frame, parts = structure_frame(result, "contrasts"), []
    for unit, rows in frame.groupby("panel", sort=False):
        own = rows[rows["signal"] == INCREMENTS]
        if own["low"].isna().all():
            continue
        wide = own[own["low"] > 1]
        known = rows[rows["signal"].isin(["lexical", "ngram_3"])].groupby("layer")["value"].max()
        n_beyond = int((wide["low"] > wide["layer"].map(known)).sum())
        parts.append(f"{_words(str(unit))} {len(wide)} of {len(own)} ({n_beyond} above what bytes tell)")
    return "; ".join(parts)


_ARMS = ("leace", "shuffled", "random")
ERASED = {  # panels of an erasure: series, arm and metric
    "How far increments move": (
        ("leace", "leace", "increment_change"), ("elsewhere", "leace", "increment_change_elsewhere"),
        ("shuffled", "shuffled", "increment_change"), ("random", "random", "increment_change"),
    ),
    "Contrast of increments": (
        ("before", "leace", "contrast_before"), ("leace", "leace", "contrast_after"),
        ("shuffled", "shuffled", "contrast_after"), ("random", "random", "contrast_after"),
    ),
    "Loss at its bytes, nats": tuple((arm, arm, "nats_per_byte_concept") for arm in _ARMS),
    "Loss over all bytes, nats": tuple((arm, arm, "nats_per_byte") for arm in _ARMS),
}  # fmt: skip


@lru_cache(maxsize=16)
def _erasures(result: Result) -> Frame:
    table = table_of(result, "erasures").reindex(columns=[*KEY, "layer", "arm", "metric", "value", *_CI])
    return table.assign(**{name: numbers(table[name]) for name in ("value", *_CI)})


_CI = ["ci_low", "ci_high"]


def erasure_frame(result: Result, claim: Row) -> Frame:
    """Return what erasing one concept does, layers along the axis of four panels."""
    table = _erasures(result).rename(columns={"ci_low": "low", "ci_high": "high"})
    table = table[(table["family"] == claim["family"]) & (table["concept"] == claim["concept"])]
    parts = [
        table[(table["arm"] == arm) & (table["metric"] == metric)].assign(panel=panel, series=series)
        for panel, lines in ERASED.items()
        for series, arm, metric in lines
    ]
    found = pd.concat(parts, ignore_index=True)
    return frame_of(found.assign(x=[_tick(layer) for layer in found["layer"]], spread="interval"))


def erasure_words(result: Result) -> str:
    """Say where increments tell a concept less, and where more is lost, than with the concepts shuffled.

    How far increments move decides nothing: the directions of a shuffle move them too, as it happens.
    """
    table = _erasures(result)
    own = table[table["arm"] == "beyond_shuffled"]
    if own.empty or own["ci_low"].isna().all():
        return "Without intervals that is no verdict." if len(table) else ""
    # what an erasure took from a contrast beyond the shuffled one, positive where it did
    keys = [*KEY, "layer"]
    before = table[(table["arm"] == "leace") & (table["metric"] == "contrast_before")]
    both = own[own["metric"] == "contrast_after"].merge(
        before[[*keys, "value"]], on=keys, suffixes=("", "_0")
    )
    sign = np.where(both["value_0"] > 0, -1.0, 1.0)
    ends = np.sort(sign[:, None] * both[_CI].to_numpy(dtype=float), axis=1)
    taken = both.assign(value=sign * both["value"], ci_low=ends[:, 0], ci_high=ends[:, 1])
    lost = own[own["metric"] == "nats_per_byte_concept"]
    return f"{_told(taken, 'increments tell a concept less')}; {_told(lost, 'more is lost at its bytes')}"


_ERASED_CELLS = {
    "Contrast before": ("leace", "contrast_before"), "After LEACE": ("leace", "contrast_after"),
    "Less shuffled": ("beyond_shuffled", "contrast_after"), "Loss": ("leace", "nats_per_byte"),
    "Loss at its bytes": ("leace", "nats_per_byte_concept"),
    "The same, less shuffled": ("beyond_shuffled", "nats_per_byte_concept"),
}  # fmt: skip


def erasures_table(result: Result) -> Frame:
    """Return what erasing did to each concept in each layer as strings."""
    table = _erasures(result)
    table = table[table["concept"] != "all"]
    found = table[[*KEY, "layer"]].drop_duplicates()
    columns: dict[str, str | tuple[str, ...]] = {"Concept": "what", "Layer": "layer"}
    for heading, (arm, metric) in _ERASED_CELLS.items():
        own = table[(table["arm"] == arm) & (table["metric"] == metric)][[*KEY, "layer", "value", *_CI]]
        names = [f"{arm} {metric} {name}" for name in ("value", *_CI)]
        found = found.merge(own.set_axis([*KEY, "layer", *names], axis=1), on=[*KEY, "layer"], how="left")
        columns[heading] = tuple(names)
    return worded(found.assign(what=[_words(str(one)) for one in found["concept"]]), columns)


def _told(rows: Frame, verb: str) -> str:
    above = rows[rows["ci_low"] > 0].sort_values("value", ascending=False, kind="stable")
    if above.empty:
        return f"nowhere is it shown that {verb}"
    most = above.iloc[0]
    where = f"{_words(str(most['concept']))}, layer {most['layer']}"
    size = with_bounds(most["value"], most["ci_low"], most["ci_high"])
    return f"{verb} in {len(above)} of {len(rows)} places, most for {where} ({size})"


def examples_frame(result: Result, claim: Row) -> Frame:
    """Return the characters of a concept's passages, in the layer of its best claim of one layer.

    Returns:
        The columns of the table, with `shade`, 0 to 8 by how many times the increment is larger or smaller
        than the layer's mean, over the most in these passages; and `is_warm`, whether it is larger.
    """
    table = table_of(result, "examples")
    if table.empty:
        return table
    table = table[(table["family"] == claim["family"]) & (table["concept"] == claim["concept"])]
    claims = claims_of(result)
    own = claims[(claims["what"] == claim["what"]) & (claims["features"] == INCREMENTS)]
    ranked = own[own["layer"].isin(table["layer"])].sort_values("above", ascending=False, kind="stable")
    table = table[table["layer"] == (ranked["layer"].iloc[0] if len(ranked) else table["layer"].max())]
    value = numbers(table["value"])
    size = np.log(value.where(value > 0)).abs()
    share = (size / size.max()).fillna(0.0) if size.max() > 0 else 0.0 * value
    return table.assign(
        value=value, text=table["text"].astype(str), is_warm=value > 1,
        in_span=table["in_span"].astype("boolean").fillna(False).astype(bool),
        shade=np.rint(share * (N_SHADES - 1)).astype(int),
    )  # fmt: skip


def example_strips(result: Result, claim: Row) -> tuple[int, list[Strip]]:
    """Return the layer that is shown, and a strip a passage."""
    strips, frame = [], examples_frame(result, claim)
    for _, rows in frame.groupby("passage", sort=True) if len(frame) else ():
        span = rows[rows["in_span"]]
        start = span["character"].min() if len(span) else -1
        columns = (
            rows[name].tolist() for name in ("text", "value", "in_span", "shade", "is_warm", "character")
        )
        cells = [
            Cell(visible(text), f"{described(text)}, increment {number(value, 3)} of the mean", shade,
                 is_marked=bool(at == start), is_boundary=inside, is_warm=is_warm)
            for text, value, inside, shade, is_warm, at in zip(*columns, strict=True)
        ]  # fmt: skip
        means = f"{number(span['value'].mean())} in the span, {number(rows['value'].mean())} in the passage"
        where = f"{rows['document'].iloc[0]}, character {int(rows['character'].iloc[0]):,}"
        strips.append(Strip(f"mean increment {means}", where, cells))
    return (int(frame["layer"].iloc[0]) if len(frame) else -1), strips


def listing(result: Result, name: str, columns: dict[str, str]) -> Frame:
    """Return columns of a table as strings by heading: controls, features and layers by their names."""
    table = table_of(result, name)
    if {"control", "features"} <= {*table.columns}:
        features = table["features"].fillna("").astype(str)
        places = zip(table["layer"], features, strict=True)
        table = table.assign(
            layer=[_tick(layer) if kind else NOTHING for layer, kind in places],
            features=features.replace(FEATURES),
            control=[control_name(str(one)) for one in table["control"]],
        )
    return worded(table, {heading: one for heading, one in columns.items() if one in table and len(table)})
