"""The page of `lrope-interp study entities`: the published test of names beside stricter ones."""

from __future__ import annotations

from lrope_interp.reports.entities.figures import plot_test
from lrope_interp.reports.entities.frames import TESTS, Test, test_frame
from lrope_interp.reports.entities.tables import (
    MATCHED_STEPS,
    REGRESSION_STEPS,
    balance_table,
    pairs_table,
    published_table,
    reversed_table,
    second_tables,
    steps_table,
)
from lrope_interp.reports.entities.words import sentence, sentences, together
from lrope_interp.reports.kit.blocks import Block, Files, Folded, Plot, Prose, Section, Table
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import facts
from lrope_interp.results import Result

__all__ = ["plot_test", "render_entities", "sentence", "sentences", "test_frame", "together"]

_LEFT = ["Increments", "Context", "What is summed", "Verdict", "Model", "Language", "What", "Name", "Kind"]
_LEFT += ["Matched with"]


def render_entities(result: Result) -> str:
    """Render the page of an entities result, from the saved result alone."""
    return Page(
        title="Are names read closer together?",
        kicker="lrope-interp study entities",
        lead=sentences(result),
        facts=facts(result.provenance, result.created) | _coverage(result),
        warnings=result.warnings,
        sections=[
            *[Section(test.title, _test_blocks(result, test)) for test in TESTS],
            Section("Other places in the same text", _others(result)),
            Section("Balance of the matching", _balance(result)),
            Section("What was tested", _tested(result)),
        ],
    ).html()


def _coverage(result: Result) -> dict[str, str]:
    known = result.headline
    if not known.get("n_pairs"):
        return {}
    return {
        "Names": f"{known['n_pairs']:.0f} with {known['n_first_words']:.0f} different first words; "
        f"{100 * (known['coverage'] or 0):.0f} % of them at least 5 times in the training text; "
        f"{known['test_occurrences']:.0f} occurrences in the text"
    }


def _test_blocks(result: Result, test: Test) -> list[Block]:
    frame = test_frame(result, test)
    if frame.empty:
        return []
    said = sentence(result, test)
    blocks: list[Block] = [Prose(said[0].upper() + said[1:])]
    if frame["value"].notna().any():
        figure = plot_test(result, test)
        blocks.append(Plot(figure, f"{test.asks} {_READS}", _LIMITS[test.name], min_width=680))
    if test.name == "reversed":
        blocks.append(Folded("Every context and measure, and p values", _reversed(result)))
        return blocks
    column = "model" if test.name == "regression" else "design"
    steps = REGRESSION_STEPS if test.name == "regression" else MATCHED_STEPS
    table = steps_table(result, test, column, steps)
    return [*blocks, Table(table, _STEPS, _left(table))]


def _reversed(result: Result) -> list[Block]:
    table = reversed_table(result)
    return [
        Table(table, _REVERSED, _left(table)),
        Table(published_table(), _PUBLISHED, ["Model"]),
    ]


def _others(result: Result) -> list[Block]:
    return [Folded(title, [Table(frame, _STEPS, _left(frame))]) for title, frame in second_tables(result)]


def _balance(result: Result) -> list[Block]:
    table = balance_table(result)
    return [Table(table, _BALANCE, _left(table))] if len(table) else []


def _tested(result: Result) -> list[Block]:
    pairs = pairs_table(result)
    blocks: list[Block] = [Folded("The names", [Table(pairs, _PAIRS, _left(pairs))])] if len(pairs) else []
    files = [
        (f"{name}.csv", f"{len(table):,}", _MEANINGS.get(name, ""))
        for name, table in result.tables.items()
        if len(table)
    ]
    return [*blocks, Folded(f"{len(files)} files hold every number of this page", [Files(files)])]


def _left(table: object) -> list[str]:
    return [name for name in _LEFT if name in getattr(table, "columns", ())]


_READS = (
    "Dots: increments with 95 % intervals. Open marks: the same test on models that never learned (three "
    "seeds: mean and range), on the trained trunk read by random heads, and on the mean of each byte."
)
_LIMITS = {
    "reversed": "It does not show that names are special: any frequent sequence would do, the first word is "
    "read without its partner, and names that share it are no independent evidence (the interval draws first "
    "words). In layer 0 both orders hold the same bytes, so all are ties.",
    "regression": "An increment at the space has not seen the second word, so it shows at most that a name "
    "is expected. Names that the list lacks count as others, which makes differences smaller. With few "
    "documents clustered errors are too small.",
    "matched": "Differences that the caliper leaves are taken out by a curve fitted to the others. Others "
    "with the same capitals are often parts of names themselves; what is matched is equal, what "
    "is not may differ. Texts count once each, however often they occur.",
    "chinese": "Surname and given name are words of their own in this text, and who marked words marked "
    "names with them. Characters differ between names and others; the marks of the byte means show how much "
    "that is.",
}
_STEPS = (
    "What is left of the difference as more is held equal, in mean increments of the layer, with 95 % "
    "intervals; `n` and verdict are those of the last column. No verdict is corrected for the number of "
    "layers."
)
_REVERSED = (
    "One-sided Wilcoxon p as published; intervals draw first words; the last p has one name a first word, "
    "the most frequent. Alone: after EOS. Carriers: mean over five sentences."
)
_PUBLISHED = "As published, of other models on other names, each layer: share that is smaller, and p."
_BALANCE = (
    "Means of names less means of others, in standard deviations before matching; under 0.1 counts as "
    "balanced. What is watched is not matched."
)
_PAIRS = "How often each name stands in the training text and in the text that was tested."
_MEANINGS = {
    "reversed": "the share of names that are smaller in the real order, by context, measure and layer",
    "regression": "what being a name adds to a response, by model, signal and layer",
    "matched": "names less other pairs of words, of all and of matched ones, by response, signal and layer",
    "balance": "how far names and others lie apart in one covariate, before and after matching",
    "chinese": "Chinese names less other words, of all and of matched ones",
    "pairs": "a name, how often it occurs, and what it was matched with",
}
