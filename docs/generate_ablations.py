"""Write the tables of docs/evidence/ablations.md from saved results: `python docs/generate_ablations.py`.

Each table stands between two comments that name it; the words around them are written by hand.
"""

from __future__ import annotations

from pathlib import Path

import marked_tables
import pandas as pd

from lrope_interp.reports.kit.changes import with_bounds
from lrope_interp.reports.kit.wording import number
from lrope_interp.results import Result, load_result

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "evidence" / "ablations.md"
RESULTS = {
    "reference": "reference-ablations",
    "small": "small-ablations-seed1",
    "code": "tiny-ablations-code",
    "despaced": "tiny-ablations-despaced",
}
FROZEN = "frozen-retraining"
INTERVENTIONS = {
    "mean": "to the layer's mean: variation goes, scale stays",
    "one": "to 1, ordinary RoPE: scale goes too",
    "lexical": "to the byte's mean: what context adds goes",
    "resample": "another occurrence of the byte: spread stays",
    "shuffle": "shuffled within a window: alignment goes",
    "shift": "shifted round a window: the same, neighbours stay",
    "scale": "doubled: only scale goes",
    "local": "to the mean where words begin: all after shifts",
    "local_compensated": "the same, taken back by the next increment",
}
PARTS = {"split_scale": "scale", "split_lexical": "lexical", "split_contextual": "contextual"}
PLACES = {
    "whitespace": "white space",
    "punctuation": "punctuation",
    "words": "word starts",
    "inside_words": "inside words",
}
ATTENTION = {"mean": "to its mean", "one": "to 1", "lexical": "to the byte's mean"}


def load() -> dict[str, Result]:
    """Load the four results by the model's name."""
    return {name: load_result(TOP / "results" / folder) for name, folder in RESULTS.items()}


def changes(result: Result, language: str = "all") -> pd.DataFrame:
    """Return the changes in nats per byte over all text of a language, of whole layers."""
    rows = result.tables["ablations"]
    rows = rows[(rows["language"] == language) & (rows["byte_class"] == "all") & rows["head"].isna()]
    return rows[(rows["metric"] == "nats_per_byte") & ~rows["parameter"].between(2.1, 9)]


def change_of(result: Result, intervention: str, layers: str = "all", where: str | None = "") -> pd.Series:
    """Return one change; a local edit's wherever it was made."""
    rows = changes(result)
    rows = rows[(rows["intervention"] == intervention) & (rows["layers"] == layers)]
    rows = rows[
        rows["design"].isin(["single", "all"]) & (rows["parameter"].isna() | (rows["parameter"] == 2))
    ]
    return (rows if where is None else rows[rows["where"].fillna("") == where]).iloc[0]


def told(row: pd.Series) -> str:
    """Return a change with its interval, bold where that does not hold 0."""
    value, _, bounds = with_bounds(row["value"], row["ci_low"], row["ci_high"]).partition(" ")
    is_apart = row["ci_low"] > 0 or row["ci_high"] < 0
    return f"{f'**{value}**' if is_apart else value} {bounds}"


def interventions_table(results: dict[str, Result]) -> str:
    """Return what each intervention on all layers costs each model."""
    rows = [
        [
            words,
            *(told(change_of(one, name, where=None if "local" in name else "")) for one in results.values()),
        ]
        for name, words in INTERVENTIONS.items()
    ]
    return marked_tables.table(["written over each increment", *results], rows)


def layers_table(results: dict[str, Result]) -> str:
    """Return what freezing each layer alone to its mean costs each model."""
    rows = [
        [f"layer {layer}", *(told(change_of(result, "mean", str(layer))) for result in results.values())]
        for layer in range(6)
    ]
    return marked_tables.table(["alone, to its mean", *results], rows)


def split_table(result: Result) -> str:
    """Return the parts of freezing all layers to 1, in all text and in each language."""
    rows = []
    for language, words in (("all", "all"), ("en", "English"), ("zh", "Chinese")):
        own = changes(result, language)
        own = own[own["layers"] == "all"].set_index("intervention")
        rows.append([words, *(told(own.loc[name]) for name in PARTS)])
    return marked_tables.table(["text", *PARTS.values()], rows)


def places_table(result: Result) -> str:
    """Return what freezing to the mean costs at some gaps only, by layer."""

    def most(layers: range, place: str) -> str:
        found = [change_of(result, "mean", str(layer), place) for layer in layers]
        return told(max(found, key=lambda row: row["value"]))

    alone = {"layer 0": range(1), "layers 1 to 4, the most": range(1, 5), "layer 5": range(5, 6)}
    rows = [[words, *(most(layers, place) for place in PLACES)] for words, layers in alone.items()]
    return marked_tables.table(["to its mean at", *PLACES.values()], rows)


def attention_table(result: Result) -> str:
    """Return how many heads look farther or nearer, and more or less within the word; and their means."""
    table, rows = result.tables["attention"], []
    for name, words in ATTENTION.items():
        cells, untouched = [], []
        for metric in ("look_back", "within_word"):
            own = table[
                (table["language"] == "all") & (table["intervention"] == name) & (table["metric"] == metric)
            ]
            up, down = int((own["change_low"] > 0).sum()), int((own["change_high"] < 0).sum())
            before, after = (own["value"] - own["change"]).mean(), own["value"].mean()
            cells += [f"{up}/{down}/{len(own) - up - down}", number(after)]
            untouched.append(number(before))
        rows.append([words, *cells])
    return marked_tables.table(
        [
            "all layers",
            "farther/nearer/open",
            f"mean distance, was {untouched[0]}",
            "within the word: more/less/open",
            f"mean share, was {untouched[1]}",
        ],
        rows,
    )


def frozen_rows() -> pd.DataFrame:
    """Return the validation loss of retrained models, paired by seed with others."""
    return pd.read_csv(TOP / "results" / FROZEN / "differences.csv")


def frozen_table() -> str:
    """Return the differences between ways to train, as a table."""
    names = {"frozen_lexical": "byte means", "frozen_contextual": "run's increments"}
    names |= {"per_layer": "learned", "fixed": "fixed"}
    rows = [
        [f"{names[row['arm']]} − {names[row['minus']]}", str(row["n"]), told(row)]
        for _, row in frozen_rows().iterrows()
    ]
    return marked_tables.table(["trained with", "seeds", "nats per byte"], rows)


def tables() -> dict[str, str]:
    """Return every table of the page by its name."""
    results = load()
    reference = results["reference"]
    return {
        "interventions": interventions_table(results),
        "layers": layers_table(results),
        "split": split_table(reference),
        "places": places_table(reference),
        "attention": attention_table(reference),
        "frozen": frozen_table(),
    }


def filled(page: str) -> str:
    """Return the page with every table as the results have it."""
    return marked_tables.filled(page, tables())


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
