"""The tables of the page of names, as ready-made strings."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lrope_interp.reports.entities.frames import INCREMENTS, Test, named_test, place_name, test_frame
from lrope_interp.reports.entities.words import with_interval
from lrope_interp.reports.kit.frames import Frame, table_of
from lrope_interp.reports.kit.wording import is_number, number
from lrope_interp.results import Result

PUBLISHED = {
    "published": ("0 %, p 1", "51 %, p .28", "71 %, p 3e-5", "66 %, p 6e-5", "77 %, p 3e-8", "78 %, p 3e-7"),
    "its later replica": (
        "0 %, p 1",
        "48 %, p .55",
        "61 %, p .04",
        "72 %, p 1e-5",
        "63 %, p 2e-4",
        "82 %, p 6e-10",
    ),
}
"""Of other models, trained on Wikipedia in English and Chinese: quoted, not measured here."""

_MEASURES = {"pair": "whole pair", "inner": "space and next byte", "first_word": "first word alone"}
_COVARIATES = {
    "log_count": "log frequency in training text",
    "log_p": "log P(second | first)",
    "length_first": "letters of the first word",
    "length_second": "letters of the second word",
    "log_first": "log frequency of the first word (watched)",
    "entropy": "model's entropy before the second part (watched)",
}


def reversed_table(result: Result) -> Frame:
    """Return a row a layer, context and measure of the reversed-order test."""
    table = table_of(result, "reversed")
    if table.empty:
        return pd.DataFrame()
    own = table[table["signal"] == INCREMENTS].sort_values(["layer", "head", "context"], kind="stable")
    rows = [
        {
            "Increments": place_name(line.layer, line.head),
            "Context": line.context,
            "What is summed": _MEASURES.get(line.measure, line.measure),
            "Smaller": f"{100 * line.share:.0f} %",
            "95 % interval": _percents(line.ci_low, line.ci_high),
            "p": p_value(line.p),
            "names": str(line.n),
            "p, one a first word": p_value(line.p_first_words),
            "first words": str(line.n_first_words),
        }
        for line in own.itertuples(index=False)
    ]
    return pd.DataFrame(rows)


def published_table() -> Frame:
    """Return what was published about this test, layer by layer."""
    return pd.DataFrame(
        [
            {"Model": name} | {f"L{at}": cell for at, cell in enumerate(cells)}
            for name, cells in PUBLISHED.items()
        ]
    )


def steps_table(
    result: Result, test: Test, column: str, steps: Sequence[tuple[str, str]], **where: str
) -> Frame:
    """Return a row a layer, a column a step: what is left of a difference as more is held equal.

    Args:
        result: A result of kind "entities".
        test: Which test.
        column: Which column of its table names the steps.
        steps: Their names there and on the page.
        **where: Other rows than the test's own.
    """
    shown: dict[str, dict[str, str]] = {}
    last: dict[str, dict[str, str]] = {}
    for name, heading in steps:
        frame = test_frame(result, test, **{column: name}, **where)
        for line in frame[frame["signal"] == INCREMENTS].itertuples(index=False):
            place = place_name(line.layer, line.head)
            shown.setdefault(place, {})[heading] = with_interval(line.value, line.low, line.high)
            last[place] = {"n": f"{line.n:,}", "Verdict": line.verdict}
    return pd.DataFrame([{"Increments": name, **row, **last[name]} for name, row in shown.items()])


def balance_table(result: Result) -> Frame:
    """Return how far names and others lie apart in what is held equal, before and after matching."""
    table = table_of(result, "balance")
    return pd.DataFrame(
        [
            {
                "Language": {"en": "English", "zh": "Chinese"}.get(line.language, line.language),
                "What": _COVARIATES.get(line.covariate, line.covariate),
                "Before": number(line.before),
                "After": number(line.after),
                "Names": str(line.n_names),
                "Others": str(line.n_others),
                "Matched": str(line.n_matched),
            }
            for line in table.itertuples(index=False)
        ]
    )


def pairs_table(result: Result) -> Frame:
    """Return the names, the most frequent first."""
    table: Frame = result.tables.get("pairs", pd.DataFrame())
    if table.empty:
        return pd.DataFrame()
    ordered = table.sort_values(["training_count", "first", "second"], ascending=[False, True, True])
    return pd.DataFrame(
        {
            "Name": [f"{a} {b}" for a, b in zip(ordered["first"], ordered["second"], strict=True)],
            "Kind": [str(kind).replace("_", " ") for kind in ordered["kind"]],
            "In training text": [f"{n:,}" for n in ordered["training_count"]],
            "In the test text": [f"{n:,}" for n in ordered["test_count"]],
            "Matched with": list(ordered["matched_with"]),
        }
    )


def _percents(low: float, high: float) -> str:
    return f"{100 * low:.0f}-{100 * high:.0f} %" if is_number(low) and is_number(high) else ""


def p_value(value: float) -> str:
    """Format a p value: two digits, or its power of ten."""
    return number(value, 3) if not value < 0.001 else f"{value:.0e}"


REGRESSION_STEPS = (
    ("raw", "Nothing held equal"),
    ("controls", "Controls"),
    ("first_words", "Controls, same first word"),
)
MATCHED_STEPS = (("raw", "All names and others"), ("matched", "Matched"))


def second_tables(result: Result) -> list[tuple[str, Frame]]:
    """Return the other responses of the corrected tests, each with its heading."""
    regression, matched, chinese = (named_test(name) for name in ("regression", "matched", "chinese"))
    found = [
        (
            "Regression, at the first byte of the second word",
            steps_table(result, regression, "model", REGRESSION_STEPS, response="second_word"),
        ),
        (
            "Matched, at the first byte of the second word",
            steps_table(result, matched, "design", MATCHED_STEPS, response="second_word"),
        ),
        (
            "Matched, mean over all bytes of the pair",
            steps_table(result, matched, "design", MATCHED_STEPS, response="per_byte"),
        ),
        (
            "Chinese, mean over all bytes of the word",
            steps_table(result, chinese, "design", MATCHED_STEPS, response="per_byte"),
        ),
    ]
    return [(title, frame) for title, frame in found if len(frame)]
