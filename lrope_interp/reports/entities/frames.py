"""What the page of names draws: the rows of each test, increments first, controls of several seeds as one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from lrope_interp.reports.kit.frames import Frame, table_of
from lrope_interp.results import Result

INCREMENTS = "increments"
SIGNALS = (INCREMENTS, "untrained", "random_head", "lexical")
SIGNAL_NAMES = {
    INCREMENTS: "increments",
    "untrained": "untrained model",
    "random_head": "random head",
    "lexical": "mean of the byte",
}


@dataclass(frozen=True)
class Test:
    """One test as the page shows it.

    Attributes:
        name: Key.
        table: The table it stands in.
        where: Which rows of it.
        value: Which column is its number.
        null: What that is without an effect.
        short: A column heading.
        title: A heading.
        asks: What is asked, in a sentence.
    """

    name: str
    table: str
    where: dict[str, str] = field(hash=False)
    value: str
    null: float
    short: str
    title: str
    asks: str


TESTS = (
    Test(
        "reversed", "reversed", {"context": "alone", "measure": "pair"}, "share", 0.5, "reversed order",
        "Published test: reversed order",
        "Share of names whose bytes take less room in the real order than reversed, each alone after EOS.",
    ),
    Test(
        "regression", "regression", {"response": "inner_space", "model": "first_words"}, "coefficient", 0.0,
        "regression", "Corrected test: regression",
        "What being a name adds at the space inside, with expectation, frequency, entropy, lengths and "
        "capitals held equal, within the same first word.",
    ),
    Test(
        "matched", "matched", {"response": "inner_space", "design": "matched"}, "difference", 0.0, "matched",
        "Corrected test: matched pairs",
        "Names less other pairs of words of equal frequency, transition probability, lengths and capitals, "
        "at the space inside.",
    ),
    Test(
        "chinese", "chinese", {"response": "inner", "design": "matched"}, "difference", 0.0,
        "Chinese, matched",
        "Corrected test on Chinese: matched words",
        "Marked names less other words of as many characters and equal frequency, at the first bytes of the "
        "second to last characters.",
    ),
)  # fmt: skip


def named_test(name: str) -> Test:
    """Return a test by its key."""
    return next(test for test in TESTS if test.name == name)


def place_name(layer: int, head: int) -> str:
    """Name a layer, or a head."""
    return f"layer {layer}" if head is None or head < 0 else f"head {layer}.{head}"


def test_frame(result: Result, test: Test, **where: str) -> Frame:
    """Return a row a layer (head) and signal of one test.

    Controls with several seeds are one row: their mean, and the range over seeds instead of an interval.

    Args:
        result: A result of kind "entities".
        test: Which test.
        **where: Columns that differ from the test's own choice of rows.

    Returns:
        `signal`, `layer`, `head`, `value`, `low`, `high`, `spread` ("interval" or "range"), `p`, `n`,
        `verdict`; empty where the test was not made.
    """
    table = table_of(result, test.table)
    if "signal" not in table:
        return pd.DataFrame(columns=list(_COLUMNS))
    for name, wanted in {**test.where, **where}.items():
        table = table[table[name] == wanted]
    rows = []
    for (layer, head, signal), own in table.groupby(["layer", "head", "signal"], sort=True):
        values, line = own[test.value].astype(float), own.iloc[0]
        is_one = len(own) == 1
        low, high = (line["ci_low"], line["ci_high"]) if is_one else (values.min(), values.max())
        rows.append(
            {
                "signal": signal, "layer": layer, "head": head, "value": float(values.mean()),
                "low": float(low), "high": float(high), "spread": "interval" if is_one else "range",
                "p": float(line["p"]) if is_one and "p" in own else float("nan"), "n": int(line["n"]),
                "verdict": str(line["verdict"]) if signal == INCREMENTS else "",
            }
        )  # fmt: skip
    found = pd.DataFrame(rows, columns=list(_COLUMNS))
    ranks = {name: at for at, name in enumerate(SIGNALS)}
    rank = [ranks.get(signal, len(SIGNALS)) for signal in found["signal"]]
    return (
        found.assign(rank=rank)
        .sort_values(["layer", "head", "rank"])
        .drop(columns="rank")
        .reset_index(drop=True)
    )


_COLUMNS = ("signal", "layer", "head", "value", "low", "high", "spread", "p", "n", "verdict")
