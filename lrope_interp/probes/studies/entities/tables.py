"""The tables, the headline and the warnings of an entities result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.data.spans.entity_pairs import EntityPair
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.studies.entities.english import FIRST_WORDS, INNER_SPACE, MATCHED
from lrope_interp.probes.studies.entities.signals import INCREMENTS
from lrope_interp.probes.studies.entities.units import EntityUnits
from lrope_interp.probes.studies.entities.verdicts import LARGER, SMALLER, Row, tidy, with_verdicts

COMMON = 5
"""How often a name must stand in training text for the model to be expected to know it."""

WATCHED = ("log_first", "entropy")
UNBALANCED = 0.25
LANGUAGES = {"en": "English", "zh": "Chinese"}
_PLACE = ("signal", "layer", "head", "seed")
_BOUNDS = ("ci_low", "ci_high")
_COLUMNS = {
    "reversed": (
        "context", "measure", *_PLACE, "share", *_BOUNDS, "p", "n", "share_first_words", "p_first_words",
        "n_first_words", "difference", "verdict",
    ),
    "regression": (
        "response", "model", *_PLACE, "coefficient", "se", "p", *_BOUNDS, "n", "n_names", "n_kinds",
        "n_documents", "n_others_capitalised", "r2", "verdict",
    ),
    "matched": ("response", "design", *_PLACE, "difference", *_BOUNDS, "n", "caliper", "verdict"),
    "balance": ("language", "covariate", "before", "after", "n_names", "n_others", "n_matched"),
    "chinese": ("response", "design", *_PLACE, "difference", *_BOUNDS, "n", "caliper", "verdict"),
    "pairs": ("first", "second", "kind", "training_count", "is_common", "test_count", "matched_with"),
}  # fmt: skip
_JUDGED = {
    "reversed": (("context", "measure", "layer", "head"), "share", 0.5),
    "regression": (("response", "model", "layer", "head"), "coefficient", 0.0),
    "matched": (("response", "design", "layer", "head"), "difference", 0.0),
    "chinese": (("response", "design", "layer", "head"), "difference", 0.0),
}


def frames(rows: Mapping[str, Sequence[Row]]) -> dict[str, pd.DataFrame]:
    """Return every table, with verdicts; a test that was not made has an empty one."""
    found = {name: list(rows.get(name, ())) for name in _COLUMNS}
    for name, (keys, value, null) in _JUDGED.items():
        found[name] = with_verdicts(found[name], keys, value, null)
    return {name: tidy(found[name], columns) for name, columns in _COLUMNS.items()}


def coverage(
    pairs: Sequence[EntityPair], counts: Mapping[str, int], units: EntityUnits, matched: Mapping[str, str]
) -> list[Row]:
    """Return a row a name: how often it stands in training and test text, and what it was matched with."""
    occurring = np.bincount(units.kind, minlength=len(units.texts))
    in_test = dict(zip(units.texts, occurring.tolist(), strict=True))
    return [
        {
            "first": pair.first,
            "second": pair.second,
            "kind": pair.kind,
            "training_count": counts.get(pair.text, 0),
            "is_common": counts.get(pair.text, 0) >= COMMON,
            "test_count": in_test.get(pair.text, 0),
            "matched_with": matched.get(pair.text, ""),
        }
        for pair in pairs
    ]


def headline(tables: Mapping[str, pd.DataFrame], n_first_words: int) -> dict[str, float | None]:
    """Return how many names there are, and in how many layers (or heads) each test shows something."""
    pairs: Any = tables["pairs"]
    judged = {
        "reversed_smaller": ("reversed", {"context": "alone", "measure": "pair"}, (SMALLER,)),
        "regression_shown": (
            "regression",
            {"response": INNER_SPACE, "model": FIRST_WORDS},
            (SMALLER, LARGER),
        ),
        "matched_shown": ("matched", {"response": INNER_SPACE, "design": MATCHED}, (SMALLER, LARGER)),
        "chinese_shown": ("chinese", {"response": "inner", "design": MATCHED}, (SMALLER, LARGER)),
    }
    found: dict[str, float | None] = {
        "n_pairs": float(len(pairs)),
        "n_first_words": float(n_first_words),
        "coverage": float(pairs["is_common"].astype(float).mean()) if len(pairs) else None,
        "test_occurrences": float(pairs["test_count"].sum()),
        "n_places": float(_n_places(tables)),
    }
    for name, (table, where, verdicts) in judged.items():
        own = increments_of(tables[table], **where)
        found[name] = float(own["verdict"].isin(verdicts).sum()) if len(own) else None
    own = increments_of(tables["reversed"], context="alone", measure="pair")
    found["reversed_p_below_0.05"] = float((own["p"] < 0.05).sum()) if len(own) else None
    return found


def increments_of(table: pd.DataFrame, **where: str) -> Any:
    """Return the rows of the model's own increments that agree with every given column."""
    kept = table["signal"] == INCREMENTS
    for name, value in where.items():
        kept &= table[name] == value
    return table[kept]


def _n_places(tables: Mapping[str, pd.DataFrame]) -> int:
    """Count layers, or heads where increments are per head."""
    for name in ("matched", "chinese"):
        own = increments_of(tables[name])
        if len(own):
            return len(own[["layer", "head"]].drop_duplicates())
    return 0


def warnings(tables: Mapping[str, pd.DataFrame], selection: Selection) -> list[str]:
    """Say what was left out, and how little some tests rest on."""
    found = []
    if tables["pairs"].empty:
        found.append("the text has no English words with spaces between: no English test was made")
    else:
        found += _of_english(tables)
    if tables["chinese"].empty:
        found.append("the text has no Chinese words with tags (People's Daily has): no Chinese test was made")
    if not selection.training:
        found.append(
            "the training text could not be read: frequencies are counted in the fit and dev documents"
        )
    for name, language in (("matched", "English"), ("chinese", "Chinese")):
        own = increments_of(tables[name], design=MATCHED)
        if len(own) and own["ci_low"].isna().all():
            found.append(f"{language}: fewer than 20 names could be matched, so there is no interval")
    rows: Any = tables["balance"]
    rows = rows[~rows["covariate"].isin(WATCHED) & (rows["after"].abs() > UNBALANCED)]
    found += [
        f"matched names still differ from their matches by {line.after:.2f} standard deviations in "
        f"{line.covariate} ({LANGUAGES[line.language]}); a curve takes that out, if its shape is right"
        for line in rows.itertuples(index=False)
    ]
    return found


def _of_english(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    pairs: Any = tables["pairs"]
    found: list[str] = []
    share = float(pairs["is_common"].astype(float).mean())
    if share < 0.5:
        found.append(
            f"only {share:.0%} of the {len(pairs)} names stand in the training text at least {COMMON} times: "
            "a model that never read a name cannot treat it as one; give --pairs with names of that text"
        )
    own = increments_of(tables["regression"], model=FIRST_WORDS, response=INNER_SPACE)
    if len(own):
        line = own.iloc[0]
        n_others, capitals = int(line["n"] - line["n_names"]), int(line["n_others_capitalised"])
        if pd.isna(line["coefficient"]):
            found.append(
                f"the regression within first words has {line['n_names']} names in {line['n_documents']} "
                "documents, too few to estimate anything; give more text (--max-bytes)"
            )
        elif n_others and capitals:
            found.append(
                f"{capitals} of the {n_others} pairs of words that the regression holds against names with "
                "the same first word have two capitals and may be names that the list lacks: differences "
                "come out too small rather than too large"
            )
    return found
