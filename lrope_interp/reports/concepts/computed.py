"""How to read the page, what was probed and fitted, and the files beside it."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.concepts.names import control_name, feature_name, place_name
from lrope_interp.reports.kit.blocks import Block, Folded, Prose, Table
from lrope_interp.reports.kit.files_beside import files_beside, whole
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.wording import NOTHING, is_number
from lrope_interp.results import Result

MEANINGS = {
    "claims": "a concept, a kind of features and a layer: its score, its best control on both splits, the "
    "paired differences, selectivity, gain and verdict",
    "probes": "one score of one probe: of the features or of a control, on a split",
    "fits": "a probe as it was fitted: its penalty, features and spans",
    "spans": "a concept in train or test: how many spans, types and documents, and who says so",
    "examples": "one character of a passage with its increment in a layer",
    "contrasts": "gaps between and within units of a level, of one byte class, layer and signal",
    "pairs": "matched pairs of words within and across units, by layer and signal",
    "trees": "how many marked units the tree of a signal finds",
    "sparse": "a probe of the best few single features of a concept",
    "erasures": "one number of one arm of an erasure in a layer",
}
_READING = (
    "Probes are linear, fitted on the fit and dev documents, and scored on test documents that neither the "
    "model nor the probes have seen; a span is one unit of the score. ROC-AUC is the chance that of a span "
    "of the concept and another span the probe ranks the first higher: 0.5 is guessing.",
    "A claim stands when three 95 % intervals, all over documents, are above 0: that of the paired "
    "difference from the best control on unseen documents, the same on unseen words, and selectivity. It "
    "adds something when a probe of all the text's controls together improves, in both splits, and by more "
    "than with an untrained model. Both are asked, for a signal can hold what no single control holds and "
    "yet add nothing to all of them, or the other way round.",
    "What the page does not show: that the model uses what can be decoded (erasures ask for that, and only "
    "in the full suite); that a concept which cannot be decoded linearly is absent; anything about text "
    "of another kind. Concepts marked by a rule carry the errors of the rule.",
)


def computed_blocks(result: Result) -> list[Block]:
    """Return everything about how the numbers were made, folded; what the result lacks is left out."""
    blocks: list[Block] = [
        Folded("How to read this page, and what it does not show", [Prose(text) for text in _READING])
    ]
    spans, fits = spans_table(result), fits_table(result)
    if len(spans):
        left = ["Family", "Concept", "Who says so"]
        blocks.append(Folded(f"What was probed for ({len(spans)})", [Table(spans, left=left)]))
    if len(fits):
        left = ["Family", "Probe", "Where"]
        blocks.append(Folded(f"Every probe ({len(fits):,})", [Table(fits, _FITS, left=left)]))
    return [*blocks, *files_beside(result, MEANINGS)]


_FITS = (
    "C is the inverse of the penalty, chosen on train documents. Fits that did not converge score a little "
    "too low."
)


def spans_table(result: Result) -> Frame:
    """Return the spans of each concept as ready-made strings."""
    table = table_of(result, "spans")
    if table.empty:
        return table
    rows = {}
    for row in table.itertuples():
        line = rows.setdefault(
            (str(row.family), str(row.concept)), {"Family": str(row.family), "Concept": str(row.concept)}
        )
        for column, heading in (("n", "spans"), ("n_types", "types"), ("n_documents", "documents")):
            line[f"{str(row.split).capitalize()} {heading}"] = whole(getattr(row, column))
        said = str(row.source) + (f" ({row.grade})" if str(row.grade) not in ("", "nan") else "")
        line["Who says so"] = said
    found = pd.DataFrame(list(rows.values())).fillna(NOTHING)
    return found[[name for name in found if name != "Who says so"] + ["Who says so"]]


def fits_table(result: Result) -> Frame:
    """Return the probes as ready-made strings."""
    table = table_of(result, "fits")
    if table.empty:
        return table
    table = table.assign(c=numbers(table["c"]))
    rows = list(table.itertuples())
    return pd.DataFrame(
        {
            "Family": [str(row.family) for row in rows],
            "Probe": [_probe(str(row.control), str(row.features)) for row in rows],
            "Where": [place_name(int(str(row.layer))) if str(row.features) else "the text" for row in rows],
            "C": [f"{row.c:g}" if is_number(row.c) else NOTHING for row in rows],
            "Features": [whole(row.n_features) for row in rows],
            "Train spans": [whole(row.n_train) for row in rows],
            "Fits": [whole(row.n_fits) for row in rows],
            "Not converged": [whole(row.n_unconverged) for row in rows],
        }
    )


def _probe(control: str, features: str) -> str:
    if control == "none":
        return feature_name(features)
    return control_name(control) + (f" ({feature_name(features)})" if features not in ("", "nan") else "")
