"""Write the tables of docs/concept-evidence.md from saved results: `python docs/generate_concepts.py`.

Each table stands between two comments that name it; the words around them are written by hand.
"""

from __future__ import annotations

import math
from pathlib import Path

import marked_tables
import pandas as pd

from lrope_interp.reports.kit.wording import interval, number
from lrope_interp.results import Result, load_result

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "concept-evidence.md"
PROBES = {
    "small": "small-concepts",
    "seed": "small-concepts-seed1",
    "wiki": "small-concepts-wiki",
    "code": "tiny-concepts-code",
}
ENTITIES = {"names": "small-entities", "names-seed": "small-entities-seed1"}
BEYOND = "beyond controls"
UNITS = ("word", "entity", "phrase", "clause", "sentence", "token", "line")
TREES = ("increments", "bytes", "lexical", "ngram_3", "entropy", "untrained", "right", "balanced", "random")


def counts_table(results: dict[str, Result]) -> str:
    """Return how many claims of each result stand, by kind of features."""
    lines = [
        "| result | features | claims | stand against every control | add to bytes, n-grams, place, entropy |"
    ]
    lines.append("|---|---|---|---|---|")
    for name, result in results.items():
        for features, own in result.tables["claims"].groupby("features", sort=False):
            n_beyond, n_adding = int((own["verdict"] == BEYOND).sum()), int(own["is_adding"].sum())
            cells = [f"`{PROBES[name]}`", str(features), str(len(own)), str(n_beyond), str(n_adding)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def claims_table(result: Result, features: str) -> str:
    """Return one row a concept, at the layer where the features do best against their best control."""
    names = ["layer", "ROC-AUC", "best control", "above it", "above, new types", "untrained, random head"]
    names += ["selectivity", "gain (mnats a span)", "gain, new types", "verdict"]
    lines = [f"| concept | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    claims = result.tables["claims"]
    claims = claims[claims["features"] == features]
    for (_, concept), own in claims.groupby(["family", "concept"], sort=False):
        row = own.loc[own["above"].idxmax()]
        control = f"{row['best_control'].replace('_', ' ')} {number(row['best_control_auc'], 3)}"
        cells = [
            str(concept).replace("_", " "),
            "all" if pd.isna(row["layer"]) else str(row["layer"]),
            _cell(row, "auc"),
            control,
            _cell(row, "above", signed=True),
            _cell(row, "type_above", signed=True),
            f"{number(row['untrained_auc'], 3)}, {number(row['random_head_auc'], 3)}",
            _cell(row, "selectivity", signed=True),
            _cell(row, "gain", signed=True, factor=1000, places=1),
            _cell(row, "type_gain", signed=True, factor=1000, places=1),
            row["verdict"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def gains_table(results: dict[str, Result]) -> str:
    """Return, layer by layer, for how many concepts the features add to all controls of the text."""
    lines = ["| result | features | concepts that gain, by layer | in layers |", "|---|---|---|---|"]
    for name, result in results.items():
        for features, own in result.tables["claims"].groupby("features", sort=False):
            adding = own[own["is_adding"].astype(bool)]
            by = adding.groupby("concept", sort=False)["layer"].apply(
                lambda layers: ", ".join("all" if pd.isna(one) else str(one) for one in layers)
            )
            words = "; ".join(f"{concept.replace('_', ' ')} ({layers})" for concept, layers in by.items())
            n_layers = adding["layer"].nunique(dropna=False)
            lines.append(f"| `{PROBES[name]}` | {features} | {words or 'none'} | {n_layers} |")
    return "\n".join(lines)


def contrasts_table(result: Result, language: str) -> str:
    """Return the class-standardised ratio of gaps between units to gaps within, layer by layer."""
    rows = result.tables["contrasts"]
    rows = rows[(rows["byte_class"] == "all") & (rows["language"] == language)]
    controls = {"": "increments", "lexical": "mean of the byte", "ngram_3": "mean of three bytes"}
    controls["untrained"] = "untrained"
    units = [unit for unit in UNITS if unit in set(rows["unit"])]
    lines = [f"| | | {' | '.join(units)} |", "|---" * (len(units) + 2) + "|"]
    for layer in sorted(rows["layer"].dropna().unique()):
        for control, words in controls.items():
            own = rows[(rows["layer"] == layer) & (rows["control"] == control)].set_index("unit")
            cells = [_ratio(own.loc[unit]) if unit in own.index else "" for unit in units]
            lines.append(f"| layer {layer} | {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def trees_table(result: Result, language: str) -> str:
    """Return bracket F1 of gap trees: the best layer of increments, and every other tree."""
    rows = result.tables["trees"]
    rows = rows[(rows["metric"] == "f1") & (rows["language"] == language)]
    units = [unit for unit in (*UNITS, "any") if unit in set(rows["unit"])]
    lines = [f"| tree | {' | '.join(units)} |", "|---" * (len(units) + 1) + "|"]
    for tree in [one for one in TREES if one in set(rows["tree"])]:
        cells = []
        for unit in units:
            own = rows[(rows["tree"] == tree) & (rows["unit"] == unit)].dropna(subset="value")
            cells.append("" if own.empty else _best(own))
        lines.append(f"| {tree} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pairs_table(result: Result, language: str) -> str:
    """Return how well summed increments tell pairs of one unit: the best layer, and every control's best."""
    rows = result.tables["pairs"]
    rows = rows[(rows["metric"] == "roc_auc") & (rows["language"] == language)].dropna(subset="value")
    units = [unit for unit in UNITS if unit in set(rows["unit"])]
    lines = [f"| | {' | '.join(units)} |", "|---" * (len(units) + 1) + "|"]
    for control in ("", "lexical", "ngram_3", "entropy", "surprisal", "untrained", "random_head"):
        own = rows[rows["control"] == control]
        cells = [_best(own[own["unit"] == unit]) if unit in set(own["unit"]) else "" for unit in units]
        lines.append(f"| {control.replace('_', ' ') or 'increments'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def erasures_table(result: Result, family: str) -> str:
    """Return what erasing did, a row a concept: the layer in which its contrast was largest."""
    names = ["layer", "contrast before", "after LEACE", "less shuffled", "loss, LEACE", "loss less shuffled"]
    lines = [f"| concept | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    rows = result.tables["erasures"]
    rows = rows[(rows["family"] == family) & (rows["concept"] != "all")]
    for concept, own in rows.groupby("concept", sort=False):
        before = own[(own["arm"] == "leace") & (own["metric"] == "contrast_before")]
        layer = before.loc[before["value"].abs().idxmax(), "layer"]
        at = own[own["layer"] == layer].set_index(["arm", "metric"])
        wanted = [
            ("leace", "contrast_before"),
            ("leace", "contrast_after"),
            ("beyond_shuffled", "contrast_after"),
        ]
        wanted += [("leace", "nats_per_byte_concept"), ("beyond_shuffled", "nats_per_byte_concept")]
        cells = [
            _signed(at.loc[key], 4 if "nats" in key[1] else 3) if key in at.index else "" for key in wanted
        ]
        lines.append(f"| {str(concept).replace('_', ' ')} | {layer} | {' | '.join(cells)} |")
    return "\n".join(lines)


NAMES = (
    ("reversed", "reversed order, as published", {"context": "alone", "measure": "pair"}, "share"),
    (
        "regression",
        "space inside, nothing held equal",
        {"response": "inner_space", "model": "raw"},
        "coefficient",
    ),
    (
        "regression",
        "space inside, regression",
        {"response": "inner_space", "model": "first_words"},
        "coefficient",
    ),
    (
        "matched",
        "space inside, matched pairs",
        {"response": "inner_space", "design": "matched"},
        "difference",
    ),
    ("chinese", "Chinese names, nothing held equal", {"response": "inner", "design": "raw"}, "difference"),
    ("chinese", "Chinese names, matched words", {"response": "inner", "design": "matched"}, "difference"),
)


def names_table(folder: str) -> str:
    """Return every test of names in one result, a row a test and a column a layer."""
    result = load_result(TOP / "results" / folder)
    n_layers = int(result.provenance["config"]["n_layers"])
    head = ["test", *(f"layer {layer}" for layer in range(n_layers))]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for table, words, where, column in NAMES:
        rows = result.tables[table]
        rows = rows[(rows["signal"] == "increments") & (rows[[*where]] == pd.Series(where)).all(axis=1)]
        cells = [_told(row, column) for row in rows.sort_values("layer").to_dict("records")]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _told(row: dict, column: str) -> str:
    """Return a number with its interval, bold where it is evidence, and what else is to be said of it."""
    if row["verdict"] in ("constant", "not measured"):
        return str(row["verdict"])
    text = f"{row[column]:.2f}" if column == "share" else f"{row[column]:+.4f}"
    places = 2 if column == "share" else 4
    text = f"**{text}**" if row["verdict"] in ("smaller", "larger") else text
    why = " (a control too)" if "control" in row["verdict"] else ""
    return f"{text} {interval(row['ci_low'], row['ci_high'], places)}{why}"


def tables() -> dict[str, str]:
    """Return every table of the page by its name."""
    results = {name: load_result(TOP / "results" / folder) for name, folder in PROBES.items()}
    made = {"counts": counts_table(results), "gains": gains_table(results)}
    for name, result in results.items():
        for features in result.provenance["features"]:
            made[f"{name}-{features}"] = claims_table(result, features)
    for name, language in (("small", "en"), ("small", "zh"), ("seed", "en"), ("seed", "zh")):
        made[f"{name}-contrasts-{language}"] = contrasts_table(results[name], language)
    for name, language in (("small", "en"), ("small", "zh"), ("seed", "zh")):
        made[f"{name}-trees-{language}"] = trees_table(results[name], language)
    for name in ("small", "seed"):
        made[f"{name}-pairs-zh"] = pairs_table(results[name], "zh")
    for name, family in (("small", "entities"), ("seed", "entities"), ("code", "code")):
        made[f"{name}-erasures"] = erasures_table(results[name], family)
    return made | {name: names_table(folder) for name, folder in ENTITIES.items()}


def filled(page: str) -> str:
    """Return the page with every table as the results have it."""
    return marked_tables.filled(page, tables())


def _cell(row: pd.Series, name: str, *, signed: bool = False, factor: float = 1, places: int = 3) -> str:
    """Return a number with its interval, bold where that lies above 0 and the number can be negative."""
    value, low, high = (float(row[one]) * factor for one in (name, f"{name}_low", f"{name}_high"))
    text = f"{value:+.{places}f}" if signed else number(value, places)
    return f"{f'**{text}**' if signed and low > 0 else text} {interval(low, high, places)}".strip()


def _signed(row: pd.Series, places: int) -> str:
    is_apart = row["ci_low"] > 0 or row["ci_high"] < 0
    text = f"{row['value']:+.{places}f}"
    return f"{f'**{text}**' if is_apart else text} {interval(row['ci_low'], row['ci_high'], places)}".strip()


def _ratio(row: pd.Series) -> str:
    if math.isnan(row["ratio"]):
        return ""
    is_apart = row["ci_low"] > 1 or row["ci_high"] < 1
    text = number(row["ratio"], 3)
    return f"{f'**{text}**' if is_apart else text} {interval(row['ci_low'], row['ci_high'], 3)}".strip()


def _best(own: pd.DataFrame) -> str:
    row = own.loc[own["value"].idxmax()]
    layer = "" if pd.isna(row["layer"]) else f" (layer {row['layer']})"
    return f"{number(row['value'], 3)} {interval(row['ci_low'], row['ci_high'], 3)}{layer}".strip()


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
