"""Write the tables of docs/evidence.md, one a claim, from saved results: `python docs/generate_evidence.py`.

Each table stands between two comments that name it; the words around them are written by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import generate_ablations
import generate_boundaries
import generate_concepts
import generate_definitions
import marked_tables
import pandas as pd

from lrope_interp.reports import context, replication
from lrope_interp.reports.boundaries.findings import added, words_frame
from lrope_interp.reports.concepts.tables import best_claims, control_name
from lrope_interp.reports.kit.changes import with_bounds
from lrope_interp.reports.kit.verdicts import MARKS
from lrope_interp.reports.kit.wording import interval, number, signed, signed_interval
from lrope_interp.results import TIES, Result, load_result, verdict_on

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "evidence.md"
BOUNDARIES = {  # by claim: text, result, stratum, label
    "layer-0": (("English", "reference-boundaries", "en", "whitespace"),),
    "marks": (
        ("English punctuation", "reference-boundaries", "en", "punctuation"),
        ("despaced punctuation", "tiny-boundaries-despaced", "characters", "punctuation"),
        ("code: opening brackets", "tiny-boundaries-code", "characters", "brackets_open"),
        ("code: line starts", "tiny-boundaries-code", "characters", "lines"),
    ),
    "words": (
        ("English words", "reference-boundaries", "en", "words"),
        ("Chinese words", "reference-boundaries", "han", "words"),
        ("Chinese words, names merged", "reference-boundaries", "han", "words_merged"),
        ("despaced words", "tiny-boundaries-despaced", "characters", "despaced"),
        ("code: tokens", "tiny-boundaries-code", "characters", "tokens"),
        ("English sentences", "reference-boundaries", "en", "sentences"),
        ("code: scopes", "tiny-boundaries-code", "characters", "scopes"),
    ),
}


def load(name: str) -> Result:
    """Load a result by its name under results/."""
    return load_result(TOP / "results" / name)


def boundaries_table(claim: str) -> str:
    """Return the best layer beside its strongest control."""
    rows = [
        [text, *generate_boundaries.verdict_cells(load(name), label, stratum)]
        for text, name, stratum, label in BOUNDARIES[claim]
    ]
    return marked_tables.table(["", "layer: ROC-AUC", "strongest control", "difference"], rows)


def layer_0_sentence() -> str:
    """Return what layer 0 and its strongest control have at white space."""
    ((text, name, stratum, label),) = BOUNDARIES["layer-0"]
    own, control, difference = generate_boundaries.verdict_cells(load(name), label, stratum)
    return f"{text}, layer {own}; {control}; difference {difference}."


def adds_sentence() -> str:
    """Return what word F1 gains where a regression on counts has the model's signals too."""
    result = load(generate_boundaries.REFERENCE)
    scores = words_frame(result, "words", "han").set_index("signal")["word_f1"]
    row = added(result).set_index(["label", "stratum"]).loc[("words", "han")]
    bounds = signed_interval(row["ci_low"], row["ci_high"])
    return (
        f"Word F1 of Chinese: all counts of training text, fitted, {number(scores['counts'], 3)}; with the "
        f"model's signals {number(scores['model_and_counts'], 3)}: {MARKS[row['verdict']][0]} "
        f"{signed(row['value'])} {bounds}. The model alone {number(scores['model'], 3)}."
    )


def beyond_sentence() -> str:
    """Return the most bits that a layer adds to surprisal, and to that and the pair of characters."""
    sets = generate_boundaries.beyond_sets()
    adding = pd.concat([own for _, own in sets], ignore_index=True)
    most = [adding[adding["baseline"] == one].nlargest(1, "bits").iloc[0] for one in ("M0", "M0_lexical")]
    bits = [f"{signed(row['bits'], 4)} {interval(row['bits_low'], row['bits_high'], 4)}" for row in most]
    passed = [int(own.groupby("layer")["is_beyond"].all().sum()) for _, own in sets]
    some = [n for n in passed if n]
    return (
        f"A layer adds at most {bits[0]} bits per gap to surprisal, entropy, byte class and bigrams, and "
        f"{bits[1]} where the character pair's log-odds are known too. By all tests {min(some)} to "
        f"{max(some)} of 6 layers add something in {len(some)} of {len(sets)} texts and boundaries (▲), none "
        "in the others, Chinese words among them (=)."
    )


def freezing_table() -> str:
    """Return what all variation is worth to each model, and what of it context adds to the byte."""
    rows = [
        [
            MODELS[model],
            *(_marked(generate_ablations.change_of(result, name)) for name in ("mean", "lexical")),
        ]
        for model, result in generate_ablations.load().items()
    ]
    return marked_tables.table(["", "to the layer's mean", "to the byte's mean"], rows)


MODELS = {
    "reference": "the reference",
    "small": "`small`",
    "code": "`tiny`, code",
    "despaced": "`tiny`, no spaces",
}


def places_table() -> str:
    """Return what freezing at some gaps costs beyond freezing as many random ones."""
    reference, rows = generate_ablations.load()["reference"], []
    for place, words in generate_ablations.PLACES.items():
        there = generate_ablations.change_of(reference, "mean", where=place)
        random = generate_ablations.change_of(reference, "mean", where=f"random:{place}")
        more = generate_ablations.change_of(reference, "beyond_random", where=place)
        rows.append([words, _change(there), _change(random), _marked(more)])
    return marked_tables.table(["frozen at", "there", "at as many random gaps", "difference"], rows)


def retraining_sentence() -> str:
    """Return how much worse models trained on the table of bytes, or with learned increments, are."""
    frame = generate_ablations.frozen_rows().set_index(["arm", "minus"])
    learned, lexical = frame.loc[("per_layer", "fixed")], frame.loc[("frozen_lexical", "fixed")]
    assert all(verdict_on(row["ci_low"], row["ci_high"]) == TIES for row in (learned, lexical))
    return (
        f"Over {int(learned['n'])} seeds of `tiny`, learned increments minus fixed ones: {_change(learned)} "
        "nats per byte of validation loss; "
        f"a table of bytes minus fixed: {_change(lexical)}."
    )


def concepts_sentence() -> str:
    """Count what the paired intervals of every claim show: on new documents, and on new words of them."""
    claims = pd.concat([load(result).tables["claims"] for result in CONCEPTS], ignore_index=True)
    claims = claims[claims["features"] != "resid"]
    below = [claims[f"{split}_high"] < 0 for split in ("above", "type_above")]
    above = [claims[f"{split}_low"] > 0 for split in ("above", "type_above")]
    both, either = int((below[0] & below[1]).sum()), int((below[0] | below[1]).sum())
    better = [int(which.sum()) or "none" for which in (above[0] & above[1], above[0] | above[1])]
    return (
        f"Of {len(claims)} claims about increments and positions a control is better on new documents and on "
        f"new words in {both} (▼), on one of the two in {either - both}, on neither in "
        f"{len(claims) - either} (=); the features are better on both in {better[0]}, on one in {better[1]}."
    )


CONCEPTS = tuple(generate_concepts.PROBES.values())


def examples_table() -> str:
    """Return what increments of all layers know of three concepts, beside the strongest control."""
    rows = []
    for words, name, concept in EXAMPLES:
        best = best_claims(load(name))
        claim = best[(best["features"] == "increments") & (best["concept"] == concept)].iloc[0]
        assert claim["place"] == "all layers", "the page says that all layers are read"
        control = f"{control_name(claim['best_control'])} {number(claim['best_control_auc'], 3)}"
        mark = MARKS[verdict_on(claim["above_low"], claim["above_high"])][0]
        above = generate_concepts.told(claim, "above", signed=True)
        rows.append([words, generate_concepts.told(claim, "auc"), control, f"{mark} {above}"])
    return marked_tables.table(["concept", "increments", "strongest control", "minus control"], rows)


EXAMPLES = (
    ("persons (the reference, People's Daily)", "reference-concepts", "person"),
    ("titles (`small`, Wikipedia)", "small-concepts-wiki", "title"),
    ("names (`tiny`, Python)", "tiny-concepts-code", "name"),
)


def names_sentence() -> str:
    """Return what the published test finds of names, and what tests that hold words equal find."""
    found = {name: load(name).tables for name in generate_concepts.ENTITIES}
    for name, tables in found.items():
        published = _of_names(tables["reversed"], context="alone", measure="pair")
        assert not (published["verdict"] == "smaller").any(), f"{name}: the page says that it finds none"
    tables = found["reference-entities"]
    published = _of_names(tables["reversed"], context="alone", measure="pair").nlargest(1, "share").iloc[0]
    regression = _of_names(tables["regression"], response="inner_space", model="first_words")
    assert not (regression["verdict"] == "smaller").any(), "the page says that none is narrower"
    matched = _of_names(tables["chinese"], response="inner", design="matched")
    (chinese,) = matched[matched["verdict"] == "control finds it too"].to_dict("records")
    untrained = tables["chinese"].query("response == 'inner' and design == 'matched'")
    untrained = untrained[(untrained["layer"] == chinese["layer"]) & (untrained["signal"] == "untrained")]
    least, most = (
        _between(regression.loc[regression["coefficient"].agg(which)], "coefficient")
        for which in ("idxmin", "idxmax")
    )
    nearest = untrained.nsmallest(1, "difference").iloc[0]
    return (
        f"In the reference, as published, at most {_between(published, 'share', 2)} of names are narrower in "
        f"their own order (layer {published['layer']}, =). With words held equal by regression the layers "
        f"lie between {least} and {most} (=). Chinese, matched words: {_between(chinese, 'difference')} in "
        f"layer {chinese['layer']}, untrained {_between(nearest, 'difference')} there (▼); none in the "
        "others (=)."
    )


def _of_names(table: pd.DataFrame, **where: str) -> pd.DataFrame:
    is_own = (table[[*where]] == pd.Series(where)).all(axis=1)
    return table[is_own & (table["signal"] == "increments")]


def definitions_sentence() -> str:
    """Return how much closer definitions and uses are than two different names, less the same untrained."""
    rows = load(generate_definitions.RESULT).tables["definitions"]
    rows = rows[rows["layer"].isna() & (rows["measure"] == "normalised")]
    told = []
    for kind, name in generate_definitions.KINDS.items():
        own = rows[rows["kind"] == kind]
        row = own[(own["control"] == "names") & (own["model"] == "trained - untrained")].iloc[0]
        low, value, high = (100 * row[column] for column in ("ci_low", "difference", "ci_high"))
        mark = MARKS[verdict_on(-high, -low)][0]  # the claim is that they are closer
        told.append(f"{own['n'].max():,} {name} {value:+.2f} {interval(low, high, 2)} ({mark})")
    return (
        "Percent of the distance against two different names, less the same untrained (`tiny`, seven Python "
        f"packages): {', '.join(told)}; below 0 is closer."
    )


def loss_table() -> str:
    """Return whether arms are equal within the margin, over paired seeds."""
    result, rows = load("replicate-tiny"), []
    for line in replication.differences_frame(result).itertuples(index=False):
        if line.reference != "fixed":
            continue
        cell = f"{signed(line.mean, 4)} {signed_interval(line.ci90_low, line.ci90_high, 4)}"
        rows.append([line.arm.replace("_", " "), cell, str(int(line.n_seeds_for_power))])
    return marked_tables.table(["", "minus fixed, 90 %", "seeds for 80 % power"], rows)


def cost_table() -> str:
    """Return what the path from the residual stream to angles costs, and what was asked."""
    rows = []
    for name in ("context-cost-paper", "context-cost-long"):
        found = context.verdicts(load(name))
        tokens = int(load(name).tables["targets"]["context"].iloc[0])
        for row in found.frame.to_dict("records"):
            if row["what"].startswith("shared") or pd.isna(row["value"]):
                continue
            if "angle" in row["what"] and row["verdict"] == "no verdict":  # the longer context has it
                continue
            bounds = interval(row["low"], row["high"], 2)
            value = f"{number(row['value'])} {bounds}".strip()
            what = row["what"].replace("per layer: ", "")
            rows.append([f"{what}, {tokens:,} tokens", value, f"{row['control']}: {row['verdict']}"])
    return marked_tables.table(["per layer, over fixed", "found", "asked"], rows)


def tables() -> dict[str, str]:
    """Return every table of the page by its name."""
    return {
        "layer-0": layer_0_sentence(),
        "marks": boundaries_table("marks"),
        "words": boundaries_table("words"),
        "adds": adds_sentence(),
        "beyond": beyond_sentence(),
        "freezing": freezing_table(),
        "places": places_table(),
        "retraining": retraining_sentence(),
        "concepts": concepts_sentence(),
        "examples": examples_table(),
        "names": names_sentence(),
        "definitions": definitions_sentence(),
        "loss": loss_table(),
        "cost": cost_table(),
    }


def filled(page: str) -> str:
    """Return the page with every table as the results have it."""
    return marked_tables.filled(page, tables())


def _between(row: Any, name: str, digits: int = 3) -> str:
    return f"{number(row[name], digits)} {interval(row['ci_low'], row['ci_high'], digits)}"


def _marked(row: pd.Series) -> str:
    return f"{MARKS[verdict_on(row['ci_low'], row['ci_high'])][0]} {_change(row)}"


def _change(row: pd.Series) -> str:
    return with_bounds(row["value"], row["ci_low"], row["ci_high"])


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
