"""Write the tables of docs/evidence/ablations.md from saved results: `python docs/generate_ablations.py`.

Each table stands between two comments that name it; the words around them are written by hand.
"""

from __future__ import annotations

from pathlib import Path

import marked_tables
import pandas as pd

from lrope_interp.reports.kit.wording import interval, number
from lrope_interp.results import Result, load_result

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "evidence" / "ablations.md"
SMALL = "small-ablations"
OTHERS = {
    "seed": "small-ablations-seed1",
    "code": "tiny-ablations-code",
    "despaced": "tiny-ablations-despaced",
}
COLUMNS = {
    "mean": "to its mean",
    "one": "to 1",
    "lexical": "to the byte's mean",
    "resample": "same byte, elsewhere",
    "shuffle": "shuffled",
    "shift": "shifted",
    "scale": "x 2",
    "local": "local, at words",
    "local_compensated": "local, taken back",
}
PARTS = ("split_scale", "split_lexical", "split_contextual", "split_total")
FROZEN = "frozen-retraining"
NOTHING_BELOW, NOTHING = "-0.0000", "0.0000"


def layers_table(result: Result) -> str:
    """Return the change in nats per byte, a row a layer and a column an intervention."""
    rows = _plain(result)
    rows = rows[
        rows["design"].isin(["single", "all"]) & ~(rows["parameter"].notna() & (rows["parameter"] != 2))
    ]
    rows = rows[rows["where"].isin(["", _local(rows)])]
    return _crossed(rows, "intervention", COLUMNS)


def split_table(result: Result) -> str:
    """Return the parts of freezing to 1, a row a layer, and all layers in each language."""
    whole = _crossed(_plain(result), "intervention", {name: name.removeprefix("split_") for name in PARTS})
    rows = result.tables["ablations"]
    rows = rows[
        (rows["byte_class"] == "all") & (rows["layers"] == "all") & (rows["metric"] == "nats_per_byte")
    ]
    more = []
    for language in [one for one in rows["language"].unique() if one != "all"]:
        own = rows[rows["language"] == language].set_index("intervention")
        more.append(f"| all layers, {language} | {' | '.join(_cell(own.loc[name]) for name in PARTS)} |")
    return "\n".join([whole, *more])


def scale_table(result: Result) -> str:
    """Return the change by factor, a row a layer."""
    rows = _plain(result)
    rows = rows[rows["intervention"] == "scale"].sort_values("parameter")
    return _crossed(rows, "parameter", {one: f"x {one:.3g}" for one in rows["parameter"].unique()})


def together_table(result: Result) -> str:
    """Return what happens as layers are frozen from below, from above, and all but one."""
    rows = _plain(result)
    rows = rows[rows["design"].isin(["up", "down", "restore"]) & rows["intervention"].isin(["one", "mean"])]
    names = {"up": "0 to this", "down": "this to the last", "restore": "all but this"}
    keys = {f"{one} {way}": f"{COLUMNS[one]}, {names[way]}" for one in ("mean", "one") for way in names}
    rows = rows.assign(key=rows["intervention"] + " " + rows["design"])
    rows = rows.assign(layers=rows["layer"].astype(str))
    return _crossed(rows, "key", keys)


def places_table(result: Result) -> str:
    """Return what freezing to the mean costs at some gaps only, a row a layer."""
    rows = _plain(result)
    rows = rows[rows["design"].isin(["single", "all"])]
    more = rows[rows["intervention"] == "beyond_random"]
    rows = pd.concat([rows[rows["intervention"] == "mean"], more.assign(where="more:" + more["where"])])
    names = {"": "everywhere"}
    for place in more["where"]:
        words = place.replace("_", " ")
        names |= {place: words, f"random:{place}": "as many at random", f"more:{place}": f"{words} - random"}
    return _crossed(rows, "where", names)


def attention_table(result: Result) -> str:
    """Return how many heads look farther back or nearer, and stay more or less within the word."""
    rows = result.tables["attention"]
    rows = rows[(rows["language"] == "all") & (rows["intervention"] != "untouched")]
    lines = ["| all layers frozen | measure | up | down | interval holds 0 | mean before | mean after |"]
    lines.append("|---|---|---|---|---|---|---|")
    for (name, metric), own in rows.groupby(["intervention", "metric"], sort=False):
        up, down = int((own["change_low"] > 0).sum()), int((own["change_high"] < 0).sum())
        after, before = own["value"].mean(), (own["value"] - own["change"]).mean()
        cells = [
            COLUMNS[str(name)],
            str(metric).replace("_", " "),
            str(up),
            str(down),
            str(len(own) - up - down),
        ]
        lines.append(f"| {' | '.join([*cells, number(before, 2), number(after, 2)])} |")
    return "\n".join(lines)


def frozen_table() -> str:
    """Return the validation loss of retrained models, paired by seed with the fixed and the learned ones."""
    table = pd.read_csv(TOP / "results" / FROZEN / "differences.csv")
    lines = ["| trained with | minus | seeds | nats per byte |", "|---|---|---|---|"]
    for row in table.itertuples():
        value = f"{number(row.value, 4)} {interval(row.ci_low, row.ci_high, 4)}"
        lines.append(f"| {row.arm} | {row.minus} | {row.n} | {value} |")
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """Return every table of the page by its name."""
    small = load_result(TOP / "results" / SMALL)
    made = {
        "layers": layers_table(small),
        "split": split_table(small),
        "scale": scale_table(small),
        "together": together_table(small),
        "places": places_table(small),
        "attention": attention_table(small),
        "frozen": frozen_table(),
    }
    others = {name: load_result(TOP / "results" / folder) for name, folder in OTHERS.items()}
    return made | {name: layers_table(result) for name, result in others.items()}


def filled(page: str) -> str:
    """Return the page with every table as the results have it."""
    return marked_tables.filled(page, tables())


def _plain(result: Result) -> pd.DataFrame:
    """Return changes in nats per byte over all text."""
    rows = result.tables["ablations"]
    is_whole = (rows["language"] == "all") & (rows["byte_class"] == "all") & rows["head"].isna()
    return rows[is_whole & (rows["metric"] == "nats_per_byte")]


def _local(rows: pd.DataFrame) -> str:
    """Return at which gaps the local edits were made."""
    found = rows.loc[rows["intervention"] == "local", "where"]
    return str(found.iloc[0]) if len(found) else ""


def _crossed(rows: pd.DataFrame, by: str, columns: dict) -> str:
    """Return a table of cells, a row a layer, columns by the values of one column."""
    lines = [f"| | {' | '.join(columns.values())} |", "|---|" + "---|" * len(columns)]
    for layers in sorted(rows["layers"].unique(), key=lambda one: (one == "all", one)):
        own = rows[rows["layers"] == layers].drop_duplicates(by).set_index(by)
        cells = [_cell(own.loc[key]) if key in own.index else "" for key in columns]
        if not any(cells):
            continue
        name = "all layers" if layers == "all" else f"layer {layers}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: pd.Series) -> str:
    """Return a change with its interval, bold where that does not hold 0."""
    places = 4 if abs(row["value"]) < 0.1 else 3
    value = f"{row['value']:+.{places}f}"
    value = value if any(digit in value for digit in "123456789") else value[1:]
    is_apart = row["ci_low"] > 0 or row["ci_high"] < 0
    bounds = interval(row["ci_low"], row["ci_high"], places).replace(NOTHING_BELOW, NOTHING)
    return f"{f'**{value}**' if is_apart else value} {bounds}".strip()


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
