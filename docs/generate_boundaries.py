"""Write the tables of docs/evidence/boundaries.md from saved results: `python docs/generate_boundaries.py`.

Each table stands between two comments that name it; the words around them are written by hand.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import marked_tables
import pandas as pd

from lrope_interp.reports.boundaries.findings import added, words_frame
from lrope_interp.reports.boundaries.tables import (
    auc_frame,
    best_layer,
    cell_of,
    differences_frame,
    labels_and_strata,
    signal_name,
)
from lrope_interp.reports.kit.verdicts import MARKS
from lrope_interp.reports.kit.wording import interval, number, signed, signed_interval
from lrope_interp.results import AS_GOOD, LOSES, TIES, WINS, Result, load_result

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "evidence" / "boundaries.md"
REFERENCE, DESPACED, CODE = "reference-boundaries", "tiny-boundaries-despaced", "tiny-boundaries-code"
MATCHES = "small-matches"  # of two seeds of another model
TEXTS = {
    ("English", REFERENCE, "en"): ("whitespace", "punctuation", "words", "sentences"),
    ("Chinese", REFERENCE, "han"): ("words", "words_merged"),
    ("despaced", DESPACED, "characters"): ("despaced", "punctuation"),
    ("code", CODE, "characters"): ("tokens", "lines", "scopes", "brackets_open"),
}
BEYOND = {
    ("bilingual", REFERENCE): ("words", "words_merged", "sentences"),
    ("despaced", DESPACED): ("despaced",),
    ("code", CODE): ("words", "lines", "tokens", "brackets_open", "scopes"),
}
CONTROLS = {
    "table of bytes": ("byte_mean",),
    "table of 2 to 5 bytes": ("ngram_2", "ngram_3", "ngram_4", "ngram_5"),
    "cosine of neighbours": ("cosine",),
    "entropy, or its rise": ("entropy", "rise"),
    "random heads": ("random_head",),
}


def load(name: str) -> Result:
    """Load a result by its name under results/."""
    return load_result(TOP / "results" / name)


def against(result: Result, label: str, stratum: str) -> pd.Series | None:
    """Return the best layer's difference from the strongest control; None where there is none.

    Both are picked on dev; in a result of an earlier version, on the text that is scored.
    """
    chosen = cell_of(result, "verdicts", label, stratum)
    if chosen.empty:
        found = differences_frame(result, label, stratum)
        return None if found.empty else found.iloc[0]
    names = {"difference": "value", "difference_low": "low", "difference_high": "high"}
    kept = chosen[["layer", "control", "control_layer", "verdict", *names]].rename(columns=names)
    return kept.assign(control_layer=kept["control_layer"].fillna(-1)).iloc[0]


def verdict_cells(result: Result, label: str, stratum: str) -> list[str]:
    """Return the best layer, its strongest control, the verdict and their paired difference."""
    scores = auc_frame(result, label, stratum)
    best, top = best_layer(scores), against(result, label, stratum)
    own = scores[(scores["signal"] == top["control"]) & (scores["layer"] == top["control_layer"])].iloc[0]
    difference = f"{signed(top['value'])} {signed_interval(top['low'], top['high'])}"
    return [
        f"{best['name'].removeprefix('layer ')}: {_score(best)}",
        f"{signal_name(top['control']).replace(' mean increment', ' mean')} {_score(own)}",
        f"{MARKS[top['verdict']][0]} {difference}",
    ]


def controls_table(results: dict[str, Result]) -> str:
    """Return the best of each kind of control, whichever layer it reads."""
    rows = []
    for (text, name, stratum), labels in TEXTS.items():
        for label in [label for label in labels if label not in ("whitespace", "words_merged")]:
            scores = auc_frame(results[name], label, stratum)
            best = best_layer(scores)
            cells = [_best(scores, signals) for signals in CONTROLS.values()]
            rows.append([f"{text}, {_words(label)}", number(best["value"], 3), *cells])
    return marked_tables.table(["ROC-AUC", "best layer", *CONTROLS], rows)


def counts_sentence(results: dict[str, Result]) -> str:
    """Count the verdicts over every label and set of gaps, and those on a layer that is a table of bytes."""
    found, at_0 = Counter[str](), 0
    for result in results.values():
        for label, strata in labels_and_strata(result):
            for stratum in strata:
                top = against(result, label, stratum)
                if top is None:
                    continue
                verdict = TIES if top["verdict"] == AS_GOOD else top["verdict"]
                found[verdict] += 1
                at_0 += verdict == TIES and top["layer"] == 0
    n = found.total()
    return (
        f"Over all {n} pairs of a boundary and a set of gaps in these results, the control is "
        f"better in {found[LOSES]}, no difference is shown in {found[TIES]} (in {at_0} of them in layer 0, "
        f"a table of bytes), and a layer is better in {found[WINS] or 'none'}."
    )


def adds_table(result: Result) -> str:
    """Return word F1 of counts alone, of the model and counts, and their difference."""
    rows = []
    for label, words in (("words", "words"), ("words_merged", "words, names merged")):
        frame = words_frame(result, label, "han").set_index("signal")
        cells = [
            f"{number(frame.loc[signal, 'word_f1'], 3)} "
            f"{interval(frame.loc[signal, 'word_f1_low'], frame.loc[signal, 'word_f1_high'])}"
            for signal in ("nvbe", "jieba", "model", "counts", "model_and_counts")
        ]
        own = added(result)
        row = own[(own["label"] == label) & (own["stratum"] == "han")].iloc[0]
        bounds = signed_interval(row["ci_low"], row["ci_high"])
        rows.append([words, *cells, f"{MARKS[row['verdict']][0]} {signed(row['value'])} {bounds}"])
    head = ["Chinese, word F1", "nVBE", "jieba (silver)", "model", "counts", "model and counts", "model adds"]
    return marked_tables.table(head, rows)


def beyond_sets() -> list[tuple[str, pd.DataFrame]]:
    """Return what every layer adds to each baseline, by text, boundary and set of gaps."""
    sets = []
    for (text, name), labels in BEYOND.items():
        table = load(name).tables["beyond"]
        table = table[table["label"].isin(labels) & (table["signal"] == "increments")]
        for (label, stratum), own in table.groupby(["label", "stratum"], sort=False):
            if (label, stratum) != ("words_merged", "characters"):  # the page has it
                sets.append((f"{text}, {_words(label)}{', han' if stratum == 'han' else ''}", own))
    return sets


def beyond_table() -> str:
    """Return which layers add to each baseline, and the most that one adds."""
    rows = []
    for what, own in beyond_sets():
        cells = [most_cell(own[own["baseline"] == baseline]) for baseline in ("M0", "M0_lexical")]
        passed = own.groupby("layer")["is_beyond"].all()
        rows.append([what, *cells, ", ".join(str(layer) for layer in passed.index[passed]) or "none"])
    headings = ["text, boundary", "over M0: layers; the most", "over M0 and log-odds: layers; the most"]
    return marked_tables.table([*headings, "all three tests"], rows)


def matches_table(table: pd.DataFrame) -> str:
    """Return every layer with its partner in the other seed, and both runs' scores for words."""
    shown, rows = [("words", "en"), ("words", "han")], []
    for (layer, other), own in table.groupby(["layer", "other_layer"], sort=False):
        by = own.set_index(["label", "stratum"])
        both = [[number(by.loc[key, name], 3) for name in ("value", "other_value")] for key in shown]
        spearman = signed(own["spearman"].iloc[0], 2)
        rows.append([f"{layer}, {other}", spearman, *("/".join(pair) for pair in both)])
    return marked_tables.table(
        ["layer, partner", "Spearman", *(f"{label}, {gaps}" for label, gaps in shown)], rows
    )


def tables() -> dict[str, str]:
    """Return every table of the page by its name."""
    results = {name: load(name) for name in (REFERENCE, DESPACED, CODE)}
    return {
        "counts": counts_sentence(results),
        "adds": adds_table(results[REFERENCE]),
        "controls": controls_table(results),
        "beyond": beyond_table(),
        "matches": matches_table(pd.read_csv(TOP / "results" / MATCHES / "matches.csv")),
    }


def filled(page: str) -> str:
    """Return the page with every table as the results have it."""
    return marked_tables.filled(page, tables())


def _words(label: str) -> str:
    return {"despaced": "words", "brackets_open": "opening brackets"}.get(label, label.replace("_", " "))


def _score(row: pd.Series) -> str:
    bounds = interval(row["low"], row["high"])
    bounds = bounds.replace("[", "(").replace("]", ")") if row["spread"] == "range" else bounds
    return f"{number(row['value'], 3)} {bounds}".strip()


def _best(scores: pd.DataFrame, signals: tuple[str, ...]) -> str:
    own = scores[scores["signal"].isin(signals) & scores["value"].notna()]
    return _score(own.loc[own["value"].idxmax()])


def most_cell(rows: pd.DataFrame) -> str:
    """Return the layers that are beyond a baseline, and the bits that the best of all layers adds."""
    top = rows.loc[rows["bits"].idxmax()]
    found = [str(layer) for layer in rows.loc[rows["is_beyond"].astype(bool), "layer"]]
    layers = "all" if len(found) == len(rows) else ",".join(found) or "none"
    bounds = signed_interval(top["bits_low"], top["bits_high"], 4)
    return f"{layers}; {top['layer']}: {signed(top['bits'], 4)} {bounds}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
