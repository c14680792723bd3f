"""Write the table of docs/evidence/definitions.md from results: `python docs/generate_definitions.py`."""

from __future__ import annotations

from pathlib import Path

import marked_tables
import pandas as pd

from lrope_interp.reports.kit.wording import interval
from lrope_interp.results import load_result

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "evidence" / "definitions.md"
RESULT = "tiny-definitions"
KINDS = {"call": "calls", "method": "methods", "variable": "variables"}
CONTROLS = {
    "names": "two different names",
    "same_name": "two uses of one definition",
    "roles": "a definition, another name",
    "stratified": "strata",
}
MEASURES = ("normalised", "effective")


def uses_table() -> str:
    """Return the difference to every control in percent, the mean of all layers, a row a kind and measure."""
    lines = []
    rows = load_result(TOP / "results" / RESULT).tables["definitions"]
    rows = rows[rows["layer"].isna()]
    for measure in MEASURES:
        for kind, name in KINDS.items():
            own = rows[(rows["kind"] == kind) & (rows["measure"] == measure)]
            trained, untrained = (own[own["model"] == model] for model in ("trained", "untrained"))
            cells = [_cell(trained, control) for control in CONTROLS] + [_cell(untrained, "names")]
            what = f"{name} ({trained['n'].max():,})" if measure == "normalised" else f"{name}, {measure}"
            lines.append([what, *cells])
    return marked_tables.table(["pairs", *CONTROLS.values(), "untrained, names"], lines)


def _cell(rows: pd.DataFrame, control: str) -> str:
    """Return a difference in percent with its interval, bold where that leaves 0 out."""
    rows = rows[rows["control"] == control]
    if rows.empty or pd.isna(rows.iloc[0]["difference"]):
        return ""
    row = rows.iloc[0]
    is_apart = row["ci_low"] > 0 or row["ci_high"] < 0
    value = f"{100 * row['difference']:+.2f}"
    bounds = interval(100 * row["ci_low"], 100 * row["ci_high"], 2)
    return f"{f'**{value}**' if is_apart else value} {bounds}".strip()


def tables() -> dict[str, str]:
    """Return the table of the page by its name."""
    return {"definition-uses": uses_table()}


def filled(page: str) -> str:
    """Return the page with the table as the results have it."""
    return marked_tables.filled(page, tables())


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
