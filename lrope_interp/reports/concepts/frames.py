"""The claims of a concepts result as the page and the command line read them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lrope_interp.reports.concepts.names import (
    BEYOND,
    CONTROLS,
    DOCUMENT,
    FEATURES,
    INCREMENTS,
    OF_FEATURES,
    UNMEASURED,
    place_name,
)
from lrope_interp.reports.kit.frames import Frame, Row, numbers, table_of
from lrope_interp.reports.kit.memory import made_once
from lrope_interp.results import Result

_WORDS = ("family", "concept", "features", "best_control", "type_best_control", "verdict")
_NUMBERS = ("auc", "best_control_auc", "above", "type_auc", "type_best_control_auc", "type_above")
_NUMBERS += ("selectivity", "gain", "type_gain", "gain_untrained", "mdl_bits")
_BOUNDS = ("auc", "above", "type_auc", "type_above", "selectivity", "gain", "type_gain")
_NUMBERS += tuple(f"{name}_{side}" for name in _BOUNDS for side in ("low", "high"))
_COUNTS = ("n", "n_concept", "n_types", "n_documents")
_BESIDE = ["control", "value", "low", "high", "spread", "is_ahead"]
KEY = ["family", "concept"]


def features_of(result: Result) -> list[str]:
    """Return the kinds of features that claims are made about: increments, positions, resid."""
    found = list(dict.fromkeys(_claims(result)["features"]))
    return [name for name in FEATURES if name in found] + [name for name in found if name not in FEATURES]


def claims_of(result: Result, features: str) -> Frame:
    """Return the claims about one kind of features.

    Returns:
        The columns of `claims.csv`, layer -1 where all layers stand together, and `place`, the layer in
        words; families and concepts in the order of the file, layers by number and all layers last.
    """
    claims = _claims(result)
    own = claims[claims["features"] == features]
    names = list(zip(own["family"], own["concept"], strict=True))
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    own = own.assign(
        place=[place_name(layer) for layer in own["layer"]],
        order=[order[name] for name in names],
        depth=own["layer"].where(own["layer"] >= 0, np.inf),
    )
    own = own.sort_values(["order", "depth"], kind="stable").reset_index(drop=True)
    return own.drop(columns=["order", "depth"])


def layers_of(claims: Frame) -> list[str]:
    """Return the places of some claims: layers by number, and all layers last."""
    layers = sorted(set(claims["layer"]), key=lambda layer: (layer < 0, layer))
    return [place_name(layer) for layer in layers]


def families_of(claims: Frame) -> list[str]:
    """Return the families of some claims."""
    return list(dict.fromkeys(claims["family"]))


def best_claims(result: Result, features: str = INCREMENTS) -> Frame:
    """Return the claim of each concept that stands best: if one stands, then by its distance from controls.

    Layers are picked on the text that they are scored on, so that the best one looks a little too good.
    """
    claims = claims_of(result, features)
    ranked = claims.assign(
        stands=claims["verdict"] == BEYOND, score=claims["above"].fillna(-np.inf)
    ).sort_values(["stands", "score"], ascending=False, kind="stable")
    best = ranked.drop_duplicates(KEY)
    return claims.loc[sorted(best.index)].reset_index(drop=True)


@made_once
def _claims(result: Result) -> Frame:
    table = table_of(result, "claims")
    columns = [*_WORDS, "layer", *_NUMBERS, *_COUNTS, "is_adding"]
    table = table.reindex(columns=list(dict.fromkeys([*columns, *table.columns])))
    kept = {name: table[name].fillna("").astype(str) for name in _WORDS}
    kept |= {name: numbers(table[name]) for name in (*_NUMBERS, *_COUNTS)}
    is_adding = table["is_adding"].astype("boolean").fillna(False).astype(bool)
    layer = table["layer"].fillna(-1).astype(int)
    found = table.assign(**kept, is_adding=is_adding, layer=layer)
    return found.assign(verdict=found["verdict"].replace("", UNMEASURED))


@made_once
def probes_of(result: Result) -> Frame:
    """Return `probes.csv` with `low` and `high`; of controls with several seeds their mean and range.

    Returns:
        The columns of the file without the rows of single seeds, and `spread`: "range" over seeds or
        "interval". Control tasks have a row a seed and are not here.
    """
    table = table_of(result, "probes")
    names = ["family", "concept", "features", "split", "control", "metric"]
    if not {*names, "value"} <= set(table.columns):
        return pd.DataFrame(columns=[*names, "layer", "value", "low", "high", "spread", "n", "n_documents"])
    table = table.assign(
        **{name: table[name].fillna("").astype(str) for name in names},
        **{name: numbers(table[name]) for name in ("value", "seed")},
        low=numbers(table["ci_low"]),
        high=numbers(table["ci_high"]),
    )
    single = table[table["seed"].notna() & (table["metric"] == "roc_auc")]
    keys = [*names, "layer"]
    ranged = set(single[keys].itertuples(index=False, name=None))
    own = table[table["seed"].isna()]
    names_of = own[keys].itertuples(index=False, name=None)
    spread = ["range" if key in ranged else "interval" for key in names_of]
    return own.assign(spread=spread).reset_index(drop=True)


@made_once
def _areas(result: Result, family: str, concept: str, split: str) -> Frame:
    table = probes_of(result)
    own = table[(table["family"] == family) & (table["concept"] == concept)]
    return own[(own["metric"] == "roc_auc") & (own["split"] == split)]


def beside_frame(result: Result, claim: Row, split: str = DOCUMENT) -> Frame:
    """Return the ROC-AUC of the features of one claim, and of every single control beside it.

    Args:
        result: A result of kind "probe".
        claim: A row of `claims_of`.
        split: "document", or "type": words that no train document has.

    Returns:
        `control` ("none" first, the features; controls from high to low), `value`, `low`, `high`, `spread`
        (what low and high are: an "interval" over documents or a "range" over seeds) and `is_ahead`,
        whether the control has at least the value of the features.
    """
    own = _areas(result, claim["family"], claim["concept"], split)
    is_of_model = (own["features"] == claim["features"]) & (own["layer"] == claim["layer"])
    is_claim = is_of_model & (own["control"] == "none")
    is_control = own["control"].isin(set(CONTROLS) - set(OF_FEATURES)) | (
        own["control"].isin(OF_FEATURES) & is_of_model
    )
    controls = own[is_control & own["value"].notna()].sort_values("value", ascending=False, kind="stable")
    found = pd.concat([own[is_claim], controls], ignore_index=True)
    value = own.loc[is_claim, "value"].max()
    is_ahead = (found["control"] != "none") & (found["value"] >= value)
    return found.assign(is_ahead=is_ahead)[_BESIDE]
