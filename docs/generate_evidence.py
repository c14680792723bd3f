"""Write the tables of docs/evidence.md, one a claim, from saved results: `python docs/generate_evidence.py`.

Each table stands between two comments that name it; the words around them are written by hand.
"""

from __future__ import annotations

from pathlib import Path

import generate_ablations
import generate_boundaries
import marked_tables
import pandas as pd

from lrope_interp.reports import context, replication
from lrope_interp.reports.kit.changes import with_bounds
from lrope_interp.reports.kit.verdicts import MARKS
from lrope_interp.reports.kit.wording import interval, number, signed, signed_interval
from lrope_interp.results import LOSES, TIES, WINS, Result, load_result, verdict_on

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "evidence.md"
BOUNDARIES = {  # by claim: text, result, stratum, label
    "layer-0": (("English", "small-boundaries", "en", "whitespace"),),
    "marks": (
        ("English punctuation", "small-boundaries", "en", "punctuation"),
        ("code: opening brackets", "tiny-boundaries-code", "characters", "brackets_open"),
        ("code: line starts", "tiny-boundaries-code", "characters", "lines"),
    ),
    "words": (
        ("English words", "small-boundaries", "en", "words"),
        ("Chinese words", "small-boundaries", "han", "words"),
        ("words without spaces", "tiny-boundaries-despaced", "characters", "despaced"),
        ("code: tokens", "tiny-boundaries-code", "characters", "tokens"),
        ("English sentences", "small-boundaries", "en", "sentences"),
        ("code: scopes", "tiny-boundaries-code", "characters", "scopes"),
    ),
}
BEYOND = (
    ("bilingual words", "small-boundaries", "characters", "words"),
    ("Chinese words", "small-boundaries", "han", "words"),
    ("bilingual sentences", "small-boundaries", "characters", "sentences"),
    ("words without spaces", "tiny-boundaries-despaced", "characters", "despaced"),
    ("code: tokens", "tiny-boundaries-code", "characters", "tokens"),
    ("code: scopes", "tiny-boundaries-code", "characters", "scopes"),
)
COSTS = {WINS: "▲ costs", LOSES: "▼ helps", TIES: "= not shown"}
MORE = {WINS: "▲ costs more", LOSES: "▼ costs less", TIES: "= not shown"}


def load(name: str) -> Result:
    """Load a result by its name under results/."""
    return load_result(TOP / "results" / name)


def boundaries_table(claim: str) -> str:
    """Return the best layer beside its strongest control."""
    rows = [
        [text, *generate_boundaries.verdict_cells(load(name), label, stratum)]
        for text, name, stratum, label in BOUNDARIES[claim]
    ]
    return marked_tables.table(["", "layer: ROC-AUC", "strongest control", "difference", "verdict"], rows)


def beyond_table() -> str:
    """Return the bits that the best layer adds to surprisal, and to that and the pair of characters."""
    rows = []
    for text, name, stratum, label in BEYOND:
        table = load(name).tables["beyond"]
        own = table[(table["label"] == label) & (table["stratum"] == stratum)]
        cells = [generate_boundaries.most_cell(own[own["baseline"] == one]) for one in ("M0", "M0_lexical")]
        passed = own.groupby("layer")["is_beyond"].all()
        n = int(passed.sum())
        verdict = f"{MARKS[WINS if n else TIES][0]} {f'{n} of {len(passed)} layers' if n else 'not shown'}"
        rows.append([text, *cells, verdict])
    return marked_tables.table(
        ["", "layers: most bits a gap over surprisal", "and over the pair of characters", "by all tests"],
        rows,
    )


def freezing_table() -> str:
    """Return what all variation is worth to each model, and what of it context adds to the byte."""
    rows = []
    for model, result in generate_ablations.load().items():
        row = [MODELS[model]]
        for name in ("mean", "lexical"):
            found = generate_ablations.change_of(result, name)
            row += [_change(found), COSTS[verdict_on(found["ci_low"], found["ci_high"])]]
        rows.append(row)
    return marked_tables.table(["", "to the layer's mean", "verdict", "to the byte's mean", "verdict"], rows)


MODELS = {
    "seed 0": "`small`, seed 0",
    "seed 1": "`small`, seed 1",
    "code": "`tiny`, code",
    "despaced": "`tiny`, no spaces",
}


def places_table() -> str:
    """Return what freezing at some gaps costs beyond freezing as many random ones."""
    small, rows = generate_ablations.load()["seed 0"], []
    for place, words in generate_ablations.PLACES.items():
        there = generate_ablations.change_of(small, "mean", where=place)
        random = generate_ablations.change_of(small, "mean", where=f"random:{place}")
        more = generate_ablations.change_of(small, "beyond_random", where=place)
        verdict = MORE[verdict_on(more["ci_low"], more["ci_high"])]
        rows.append([words, *map(_change, (there, random, more)), verdict])
    return marked_tables.table(["", "frozen there", "at as many random gaps", "difference", "verdict"], rows)


def retraining_table() -> str:
    """Return whether models trained on the table of bytes, or with learned increments, beat fixed ones."""
    frame = generate_ablations.frozen_rows().set_index(["arm", "minus"])
    rows = []
    for arm, words in (("frozen_lexical", "a table of bytes"), ("per_layer", "learned increments")):
        row = frame.loc[(arm, "fixed")]
        better = verdict_on(-row["ci_high"], -row["ci_low"])
        rows.append([words, str(int(row["n"])), _change(row), f"{MARKS[better][0]} {RETRAINED[better]}"])
    return marked_tables.table(["trained with", "seeds", "minus fixed, nats per byte", "verdict"], rows)


RETRAINED = {WINS: "better", LOSES: "fixed better", TIES: "not shown"}


def concepts_sentence() -> str:
    """Count what the paired intervals of every claim show: on new documents, and on new words of them."""
    claims = pd.concat([load(result).tables["claims"] for result in CONCEPTS], ignore_index=True)
    claims = claims[claims["features"] != "resid"]
    below = [claims[f"{split}_high"] < 0 for split in ("above", "type_above")]
    above = [claims[f"{split}_low"] > 0 for split in ("above", "type_above")]
    both, either = int((below[0] & below[1]).sum()), int((below[0] | below[1]).sum())
    better = int((above[0] | above[1]).sum()) or "none"
    return (
        f"Of {len(claims)} claims about increments and positions a control is better on new documents and on "
        f"new words in {both} (▼), on one of the two in {either - both}, on neither in "
        f"{len(claims) - either} (=); the features are better in {better}."
    )


CONCEPTS = ("small-concepts", "small-concepts-seed1", "small-concepts-wiki", "tiny-concepts-code")


def loss_table() -> str:
    """Return whether arms are equal within the margin, over paired seeds."""
    result, rows = load("replicate-tiny"), []
    for line in replication.differences_frame(result).itertuples(index=False):
        if line.reference != "fixed":
            continue
        cell = f"{signed(line.mean, 4)} {signed_interval(line.ci90_low, line.ci90_high, 4)}"
        mark = replication.MARKS[line.said][0]
        rows.append(
            [line.arm.replace("_", " "), cell, str(int(line.n_seeds_for_power)), f"{mark} {line.said}"]
        )
    return marked_tables.table(["", "minus fixed, 90 %", "seeds for 80 % power", "verdict"], rows)


def cost_table() -> str:
    """Return what the path from the residual stream to angles costs, and what was asked."""
    rows = []
    for name in ("context-cost-paper", "context-cost-long"):
        found = context.verdicts(load(name))
        tokens = int(load(name).tables["targets"]["context"].iloc[0])
        for row in found.frame.to_dict("records"):
            if row["what"].startswith("shared") or pd.isna(row["value"]):
                continue
            bounds = interval(row["low"], row["high"], 2)
            value = f"{number(row['value'])} {bounds}".strip()
            mark = context.MARKS.get(row["verdict"], ("",))[0]
            what = row["what"].replace("per layer: ", "")
            rows.append(
                [f"{what}, {tokens:,} tokens", value, row["control"], f"{mark} {row['verdict']}".strip()]
            )
    return marked_tables.table(["per layer, over fixed", "found", "asked", "verdict"], rows)


def speed_table() -> str:
    """Return tokens a second beside Hugging Face's Llama, by shape and dtype."""
    peers, rows = load("training-speed").tables["peers"], []
    for (shape, dtype), own in peers.groupby(["shape", "dtype"], sort=False):
        cells, verdicts = [], []
        for arm in ("fixed", "per_layer"):
            row = own[(own["arm"] == arm) & (own["peer"] == "hf_llama")].iloc[0]
            cells.append(f"{number(row['ratio'])} ({number(row['lowest_run'])}–{number(row['highest_run'])})")
            verdicts.append(MARKS[verdict_on(row["lowest_run"] - 1, row["highest_run"] - 1)][0])
        rows.append([f"`{shape}`, {dtype}", *cells, " ".join(verdicts)])
    return marked_tables.table(["", "fixed", "per layer", "verdicts"], rows)


def tables() -> dict[str, str]:
    """Return every table of the page by its name."""
    made = {claim: boundaries_table(claim) for claim in BOUNDARIES}
    return made | {
        "beyond": beyond_table(),
        "freezing": freezing_table(),
        "places": places_table(),
        "retraining": retraining_table(),
        "concepts": concepts_sentence(),
        "loss": loss_table(),
        "cost": cost_table(),
        "speed": speed_table(),
    }


def filled(page: str) -> str:
    """Return the page with every table as the results have it."""
    return marked_tables.filled(page, tables())


def _change(row: pd.Series) -> str:
    return with_bounds(row["value"], row["ci_low"], row["ci_high"])


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
