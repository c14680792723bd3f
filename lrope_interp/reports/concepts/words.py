"""The findings about concepts in sentences, from the numbers alone; a control's victory said first."""

from __future__ import annotations

from lrope_interp.reports.ablations.numbers import bounds, change
from lrope_interp.reports.concepts.erasures import erasure_sentence
from lrope_interp.reports.concepts.frames import KEY, claims_of, features_of
from lrope_interp.reports.concepts.names import BEYOND, TYPE, UNMEASURED, WINS, control_name, feature_name
from lrope_interp.reports.concepts.structure import told_units
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.wording import is_number, listed, number
from lrope_interp.results import Result

_NAMED = 3


def sentences(result: Result) -> list[tuple[str, str]]:
    """Say which claims stand, which add something, what beats them, and what structure and erasures say.

    Returns:
        (heading, sentence), the first words of each being the finding.
    """
    found: list[tuple[str, str]] = []
    for i, features in enumerate(features_of(result)):
        claims, name = claims_of(result, features), feature_name(features)
        stands, adds = standing_sentence(claims, name), adding_sentence(claims, name)
        title = name[0].upper() + name[1:]
        if i == 0:
            found += [(title, stands), ("What they add", adds), ("What beats them", control_sentence(claims))]
        else:
            found += [(title, f"{stands} {adds}")]
    found += [("Units of the text", told_units(result)), ("Erasures", erasure_sentence(result))]
    return [(heading, text) for heading, text in found if text]


def standing_sentence(claims: Frame, name: str) -> str:
    """Say how many claims stand against every control, and which."""
    n, tested = len(claims), claims[claims["verdict"] != UNMEASURED]
    if tested.empty:
        n_ahead = int((claims["above"] > 0).sum())
        return (
            f"Nothing can be claimed: no claim has an interval. The best control is as good or better than "
            f"{name} in {n - n_ahead} of {n} claims as they stand."
        )
    stand = tested[tested["verdict"] == BEYOND]
    selective = "on unseen documents and on unseen words, and selective"
    if stand.empty:
        behind = tested[(tested["above_high"] < 0)]
        sure = f"; in {len(behind)} of them it is better by its interval" if len(behind) else ""
        return (
            f"A control wins everywhere: none of {len(tested)} claims stands against every control "
            f"({selective}){sure}. What is decoded from {name} is not shown to be more than bytes, n-grams, "
            "place, entropy or an untrained model hold."
        )
    best = stand.sort_values("above", ascending=False, kind="stable")
    named = best.drop_duplicates(KEY).head(_NAMED)
    names = listed([_claim(row, "above") for _, row in named.iterrows()])
    n_wins = int((tested["verdict"] == WINS).sum())
    return (
        f"{len(stand)} of {n} claims stand against every control ({selective}): above the best control by "
        f"{names}. In {n_wins} a control wins."
    )


def adding_sentence(claims: Frame, name: str) -> str:
    """Say how many claims add something to all controls of the text together, and which do not."""
    if claims["gain"].isna().all():
        return ""
    if claims["gain_low"].isna().all():
        return (
            f"Beside bytes, n-grams, place and entropies together, {name} bring "
            f"{change(claims['gain'].max(), 4)} nats a span at most; without an interval that is no verdict."
        )
    adding = claims[claims["is_adding"]]
    without = _concepts(claims, adding)
    if adding.empty:
        return (
            f"Beside bytes, n-grams, place and entropies together, {name} add nothing that could be shown, "
            f"in any of {len(claims)} claims."
        )
    best = adding.sort_values("gain", ascending=False, kind="stable").drop_duplicates(KEY)
    names = listed([_claim(row, "gain", 4) for _, row in best.head(_NAMED).iterrows()])
    nothing = f" Nothing is shown to be added for {listed(without)}." if without else ""
    return (
        f"{len(adding)} of {len(claims)} claims add to bytes, n-grams, place and entropies together, in both "
        f"splits and more than an untrained model adds, in nats a span most for {names}.{nothing}"
    )


def control_sentence(claims: Frame) -> str:
    """Say which controls are best how often, on unseen documents and on unseen words."""
    parts = []
    for column, where in (("best_control", "documents"), (f"{TYPE}_best_control", "words")):
        counts = claims.loc[claims[column] != "", column].value_counts()
        told = [f"{control_name(str(name))} {count}" for name, count in list(counts.items())[:_NAMED]]
        if told:
            parts.append(f"on unseen {where} {listed(told)} of {int(counts.sum())}")
    return f"The best control, by claim: {'; '.join(parts)}." if parts else ""


def _concepts(claims: Frame, among: Frame) -> list[str]:
    """Return the concepts of which no claim is among some."""
    keys = set(zip(among["family"], among["concept"], strict=True))
    every = dict.fromkeys(zip(claims["family"], claims["concept"], strict=True))
    left = [concept for family, concept in every if (family, concept) not in keys]
    return left if len(left) <= 2 * _NAMED else [*left[: 2 * _NAMED], f"{len(left) - 2 * _NAMED} more"]


def _claim(row: Row, column: str, digits: int = 3) -> str:
    spread = bounds(row[f"{column}_low"], row[f"{column}_high"], digits)
    return f"{change(row[column], digits)} {spread} for {row['concept']} ({row['place']})"


def best_sentence(features: str, claim: Row) -> str:
    """Say what a concept's best claim reaches and what beats it."""
    own = f"{feature_name(features)} of {claim['place']}: ROC-AUC {number(claim['auc'], 3)}"
    control = f"{control_name(str(claim['best_control']))} {number(claim['best_control_auc'], 3)}"
    spread = bounds(claim["above_low"], claim["above_high"], 3)
    less = f"difference {change(claim['above'], 3)} {spread}"
    if not is_number(claim["above"]):
        return f"{own}. Not measured: too few spans."
    verdict = {BEYOND: "The claim stands.", WINS: "A control wins."}.get(str(claim["verdict"]), "No verdict.")
    return f"{own}; best control {control}; {less}. {verdict}"
