"""Write the table of docs/definition-use.md from saved results: `python docs/generate_definitions.py`."""

from __future__ import annotations

from pathlib import Path

import marked_tables
import pandas as pd

from lrope_interp.reports.kit.wording import interval
from lrope_interp.results import load_result

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "definition-use.md"
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
    """Return the difference to every control in percent, a row a kind, measure and layer."""
    lines = [f"| pairs | measure | | {' | '.join(CONTROLS.values())} | untrained, names |"]
    lines.append("|---" * (len(CONTROLS) + 4) + "|")
    rows = load_result(TOP / "results" / RESULT).tables["definitions"]
    for kind, name in KINDS.items():
        for measure in MEASURES:
            own = rows[(rows["kind"] == kind) & (rows["measure"] == measure)]
            lines += [line for line in _lines(own, f"| {name}", measure) if line]
    return "\n".join(lines)


def _lines(own: pd.DataFrame, start: str, measure: str) -> list[str]:
    """Return a row for the mean of all layers, and for each layer of the normalised distance."""
    layers = [pd.NA, *sorted(own["layer"].dropna().unique())] if measure == MEASURES[0] else [pd.NA]
    found = []
    for layer in layers:
        at = own[own["layer"].isna() if layer is pd.NA else own["layer"] == layer]
        trained, untrained = (at[at["model"] == model] for model in ("trained", "untrained"))
        cells = [_cell(trained, control) for control in CONTROLS] + [_cell(untrained, "names")]
        n = int(trained["n"].max()) if len(trained) else 0
        place = "all layers" if layer is pd.NA else f"layer {layer}"
        found.append(f"{start} ({n:,}) | {measure} | {place} | {' | '.join(cells)} |" if n else "")
    return found


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
