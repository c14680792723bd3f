"""The sections of the page that are about claims: the map, controls, selectivity, and what is added."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from lrope_interp.reports.concepts.beside import beside_table, plot_beside
from lrope_interp.reports.concepts.codes import codes_panels, sparse_panels
from lrope_interp.reports.concepts.frames import (
    beside_frame,
    best_claims,
    claims_of,
    families_of,
    features_of,
)
from lrope_interp.reports.concepts.gain import gain_panels
from lrope_interp.reports.concepts.heat_map import MARKS, heat_map_frame, map_width, plot_heat_map
from lrope_interp.reports.concepts.names import (
    CONTROL_MEANINGS,
    DOCUMENT,
    SPLIT_NAMES,
    TYPE,
    control_name,
    feature_name,
)
from lrope_interp.reports.concepts.panels import Panels, plot_panels
from lrope_interp.reports.concepts.selectivity import leakage_table, selectivity_panels
from lrope_interp.reports.concepts.words import best_sentence
from lrope_interp.reports.kit.blocks import Beside, Block, Folded, Plot, Prose, Table
from lrope_interp.reports.kit.frames import Row
from lrope_interp.results import Result

_AGAIN = "Read as the first."
_WIDEST = 514  # pixels of a map that may stand beside another


def panels_blocks(panels: Panels, reads: str, limits: str, title: str = "") -> list[Block]:
    """Return a figure of panels, or nothing where it has no point."""
    if panels.frame.empty:
        return []
    return [Plot(plot_panels(panels), reads, limits, title, panels.width)]


def by_features(result: Result, blocks_of: Callable[[str, bool], list[Block]]) -> list[Block]:
    """Return blocks of the first kind of features, and those of the others behind folds.

    Args:
        result: A result of kind "probe".
        blocks_of: Makes them, given the features and whether they are the first.
    """
    found: list[Block] = []
    for i, features in enumerate(features_of(result)):
        blocks = blocks_of(features, i == 0)
        if blocks:
            found += blocks if i == 0 else [Folded(f"The same, {feature_name(features)}", blocks)]
    return found


def map_blocks(result: Result) -> list[Block]:
    """Return the heat maps of both splits, and what their marks mean."""
    blocks = by_features(result, lambda features, is_first: _maps(result, features, is_first))
    if not blocks:
        return []
    marks = pd.DataFrame([(mark, words) for mark, words in MARKS.items()], columns=["Mark", "In a cell"])
    controls = [(control_name(name), words) for name, words in CONTROL_MEANINGS.items()]
    names = pd.DataFrame(controls, columns=["Control", "What the probe reads instead"])
    return [Table(marks, left=list(marks.columns)), *blocks, Folded("The controls", [_words(names)])]


def _words(frame: pd.DataFrame) -> Table:
    return Table(frame, left=list(frame.columns))


def _maps(result: Result, features: str, is_first: bool) -> list[Block]:
    width = map_width(result, features)
    plots = []
    for split in (DOCUMENT, TYPE):
        if heat_map_frame(result, features, split)["value"].isna().all():
            continue
        reads, limits = (_MAP_READS, _MAP_LIMITS) if is_first and not plots else (_AGAIN, "")
        reads = f"{reads} {_TYPE_READS}" if split == TYPE else reads
        title = f"{SPLIT_NAMES[split]}: {feature_name(features)} less the best control"
        plots.append(Plot(plot_heat_map(result, features, split), reads, limits, title, width))
    return [Beside(plots)] if len(plots) > 1 and width <= _WIDEST else list(plots)


_MAP_READS = (
    "Each cell: the ROC-AUC of a concept from the features of a layer, less that of the best control on the "
    "same spans; below it the 95 % interval of the paired difference and the name of that control. Blue is "
    "above every control, vermilion below one; grey was not measured."
)
_MAP_LIMITS = (
    "A concept that can be decoded need not be used by the model. The best control is picked on the same "
    "text. Intervals are not corrected for the number of cells."
)
_TYPE_READS = "Here no word of the test spans stands among the train spans."


def beside_blocks(result: Result) -> list[Block]:
    """Return each concept's best claim beside every control, first the one that stands best."""

    def blocks_of(features: str, is_first: bool) -> list[Block]:
        claims = best_claims(result, features)
        claims = claims.sort_values("above", ascending=False, na_position="last", kind="stable")
        found: list[Block] = []
        for _, claim in claims.iterrows():
            if not (blocks := _beside(result, claim, is_first and not found)):
                continue
            if len(found) > (_MOST_OPENED if is_first else _MOST_AGAIN):
                break
            title = f"{claim['family']}: {claim['concept']}, {best_sentence(features, claim)}"
            found += [Prose(title), *blocks] if not found else [Folded(title, blocks)]
        table = beside_table(result, features)
        return [*found, Folded("Every concept", [Table(table, _EVERY, left=_LEFT)])] if found else []

    return by_features(result, blocks_of)


_MOST_OPENED, _MOST_AGAIN = 8, 3  # concepts that have figures, of the first features and of others
_LEFT = ("Family", "Concept", "Where", "Spans of", "Verdict")
_EVERY = (
    "The best claim of every concept beside every control, in ROC-AUC; ▲ marks a control that is as good or "
    "better. The layer is picked on this text."
)


def _beside(result: Result, claim: Row, is_first: bool) -> list[Block]:
    plots: list[Block] = []
    for split in (DOCUMENT, TYPE):
        if beside_frame(result, claim, split).empty:
            continue
        reads, limits = (_BESIDE_READS, _BESIDE_LIMITS) if is_first and not plots else (_AGAIN, "")
        plots.append(Plot(plot_beside(result, claim, split), reads, limits, SPLIT_NAMES[split]))
    return [Beside(plots)] if len(plots) > 1 else plots


_BESIDE_READS = (
    "One probe a row, all on the same spans: the claimed features first, then every control from high to "
    "low. A vermilion triangle, and ▲ behind the name, is a control that is as good or better. Square "
    "brackets are 95 % intervals, round ones the range over five seeds."
)
_BESIDE_LIMITS = (
    "The layer is the concept's best, picked on this text; bars that overlap say little, the paired "
    "difference above says more."
)


def selectivity_blocks(result: Result) -> list[Block]:
    """Return accuracy beside that on control tasks, and what is lost on unseen words."""

    def blocks_of(features: str, is_first: bool) -> list[Block]:
        reads, limits = (_SELECTIVITY_READS, _SELECTIVITY_LIMITS) if is_first else (_AGAIN, "")
        found = panels_blocks(selectivity_panels(result, features), reads, limits)
        table = leakage_table(result, features)
        if len(table):
            left = [name for name in ("Family", "Concept", "Where", "Best control") if name in table]
            found.append(Table(table, _LEAKAGE, left=left))
        return found

    return by_features(result, blocks_of)


_SELECTIVITY_READS = (
    "A control task gives every word a random label: who does well there has room to learn words by heart. "
    "Selectivity is the accuracy on the concepts less that on control tasks (Hewitt and Liang, 2019); at 0 "
    "the probe tells concepts no better than random labels. Every family, all of its classes at once."
)
_SELECTIVITY_LIMITS = (
    "A selective probe need not know more than a control does: n-grams are selective as well. Few features "
    "cannot learn words by heart, and are selective for that alone."
)
_LEAKAGE = (
    "Type leakage: the ROC-AUC on unseen documents less that on unseen words; what is above 0 came "
    "from words that the probe had seen. It does not say that the rest is meaning: place, length and "
    "neighbours are left."
)


def gain_blocks(result: Result) -> list[Block]:
    """Return what features add to all controls of the text together, a figure a family."""

    def blocks_of(features: str, is_first: bool) -> list[Block]:
        found: list[Block] = []
        for family in families_of(claims_of(result, features)):
            reads, limits = (_GAIN_READS, _GAIN_LIMITS) if is_first and not found else (_AGAIN, "")
            found += panels_blocks(gain_panels(result, features, family), reads, limits, family)
        return found

    return by_features(result, blocks_of)


_GAIN_READS = (
    "By how many nats a span a probe of bytes, n-grams, place and entropies together improves when the "
    "features are added: above 0 they add something, below 0 they only let it overfit. “adds” names the "
    "layers in which both intervals are above 0 and the untrained model's features bring less."
)
_GAIN_LIMITS = (
    "The joint probe is linear in bytes and n-grams, and fitted on few spans: a better model of the text "
    "might leave less to add. The untrained model has no interval."
)


def code_blocks(result: Result) -> list[Block]:
    """Return code lengths and sparse paths, where the suite has them."""

    def blocks_of(features: str, is_first: bool) -> list[Block]:
        reads, limits = (_CODE_READS, _CODE_LIMITS) if is_first else (_AGAIN, "")
        return panels_blocks(codes_panels(result, features), reads, limits)

    title = "How few features are enough"
    sparse = panels_blocks(sparse_panels(result), _SPARSE_READS, _SPARSE_LIMITS, title)
    return [*by_features(result, blocks_of), *sparse]


_CODE_READS = (
    "Bits a span that it takes to send the concepts to one who has the features (Voita and Titov, 2020, "
    "online code): fewer is better, and counts both how well they are told and how much must be learned."
)
_CODE_LIMITS = "It depends on the number of train spans and on their order, and has no interval."
_SPARSE_READS = (
    "ROC-AUC of a probe of the 1, 2, 4, 8 and 16 best single features, on train documents that were held "
    "out; a point that is pointed at names them. Beside it as many random features, and shuffled labels."
)
_SPARSE_LIMITS = (
    "No control of the text stands here, and no interval: it says how few, not that they know more."
)
