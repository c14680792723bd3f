"""The page of `lrope-interp study entities`: the published test of names beside stricter ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, table_of, worded
from lrope_interp.reports.kit.rows_figure import aligned, dots, named, reach, rows_figure
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import is_number, listed, number, place, plural
from lrope_interp.results import Result

INCREMENTS = "increments"
SIGNALS = {
    INCREMENTS: "increments",
    "untrained": "untrained model",
    "random_head": "random head",
    "lexical": "byte's mean",
}
SHOWN, CONTROL = ("smaller", "larger"), "control finds it too"
MARKS = {
    "smaller": ("▼", "won"),
    "larger": ("▲", "won"),
    CONTROL: ("×", "lost"),
    "not shown": ("=", "open"),
}
_BEST = (*MARKS, "not measured", "constant", "")  # which verdict stands for a test
_LEVEL = 0.05
_COLUMNS = ("signal", "layer", "head", "value", "low", "high", "spread", "n", "verdict")


@dataclass(frozen=True)
class Test:
    """One test as the page shows it.

    Attributes:
        table: The table it stands in.
        where: Which rows of it.
        value: Which column is its number.
        null: What that is without an effect.
        short: Its name in a table.
        steps: Of a corrected test: the column that says what is held equal, and its values as headings.
    """

    table: str
    where: dict[str, str] = field(hash=False)
    value: str
    null: float
    short: str
    steps: tuple[str, dict[str, str]] = field(default=("", {}), hash=False)


_MATCHING = ("design", {"raw": "All names and others", "matched": "Matched"})
_CONTROLS = {"raw": "Nothing held equal", "controls": "Controls", "first_words": "Controls, same first word"}
TESTS = {
    "reversed": Test("reversed", {"context": "alone", "measure": "pair"}, "share", 0.5, "reversed order"),
    "regression": Test(
        "regression", {"response": "inner_space", "model": "first_words"}, "coefficient", 0.0, "regression",
        ("model", _CONTROLS),
    ),
    "matched": Test(
        "matched", {"response": "inner_space", "design": "matched"}, "difference", 0.0, "matched pairs",
        _MATCHING,
    ),
    "chinese": Test(
        "chinese", {"response": "inner", "design": "matched"}, "difference", 0.0, "Chinese words", _MATCHING
    ),
}  # fmt: skip


def test_of(name: str) -> Test:
    """Return a test by its name, which must be one of `TESTS`."""
    if name not in TESTS:
        raise LRopeError(f"there is no test {name!r} of names: choose from {', '.join(TESTS)}")
    return TESTS[name]


def _rows_of(result: Result, test: Test, where: dict[str, str]) -> Frame:
    table = table_of(result, test.table)
    for name, wanted in {**test.where, **where}.items():
        table = table[table[name] == wanted] if len(table) else table
    return table


def frame_of(result: Result, name: str, **where: str) -> Frame:
    """Return a row a layer (head) and signal of one test, increments first.

    Controls with several seeds are one row: their mean, and the range over seeds instead of an interval.

    Args:
        result: A result of kind "entities".
        name: Which test.
        **where: Columns that differ from the test's own choice of rows.

    Returns:
        `signal`, `layer`, `head`, `value`, `low`, `high`, `spread` ("interval" or "range"), `n`,
        `verdict`; empty where the test was not made.
    """
    test, rows = test_of(name), []
    table = _rows_of(result, test, where)
    for signal in SIGNALS if len(table) else ():
        for (layer, head), own in table[table["signal"] == signal].groupby(["layer", "head"]):
            values, first = own[test.value].astype(float), own.iloc[0]
            is_one = len(own) == 1
            row = {"signal": signal, "layer": layer, "head": head, "value": values.mean(), "n": first["n"]}
            row |= {"low": first["ci_low"] if is_one else values.min(), "verdict": first["verdict"]}
            row |= {"high": first["ci_high"] if is_one else values.max()}
            rows.append(row | {"spread": "interval" if is_one else "range"})
    found = pd.DataFrame(rows, columns=list(_COLUMNS))
    return found.astype({"value": float, "low": float, "high": float}).sort_values(
        ["layer", "head"], kind="stable", ignore_index=True
    )


def increments_of(result: Result, name: str, **where: str) -> Frame:
    """Return the rows of `frame_of` that are about the model's own increments."""
    frame = frame_of(result, name, **where)
    return frame[frame["signal"] == INCREMENTS].reset_index(drop=True)


def tests_made(result: Result) -> list[str]:
    """Return the names of the tests of which there is any number."""
    return [name for name in TESTS if frame_of(result, name)["value"].notna().any()]


def verdicts(result: Result) -> Verdicts:
    """Return one row a test: the layer that shows most, the control that comes nearest, and the verdict."""
    frame = pd.DataFrame(
        [_row(result, name) for name in TESTS], columns=[*COLUMNS, "reference", "layers"]
    ).astype({"value": float})
    is_made = frame["verdict"] != "not made"
    sizes = frame[["value", "low", "high"]].astype(float).abs().max(axis=1)
    least = sizes[frame["verdict"].isin([*MARKS])].min()  # of what has a verdict, which shall be seen
    n_places = max((len(increments_of(result, name)) for name in TESTS), default=0)
    return Verdicts(
        headline=_headline(result),
        frame=frame[is_made | is_made.any()],
        names={"what": "Test", "where": "Most in", "value": "Number", "control": "Nearest control"},
        caption="Reversed order: share of names smaller in their own order (chance: 0.5). Others: names less "
        f"others, in mean increments. Brackets: 95 %, not corrected for {n_places} places.",
        digits=3 if not least < 0.005 else 4 if least >= 0.0005 else 5,
        marks=MARKS,
    )


def _row(result: Result, name: str) -> dict[str, Any]:
    test, own = TESTS[name], increments_of(result, name)
    row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan) | {"what": test.short, "where": "", "control": ""}
    row |= {"reference": test.null, "verdict": "not made", "layers": ""}
    if own.empty:
        return row
    size, half = (own["value"] - test.null).abs(), (own["high"] - own["low"]).abs() / 2
    by_verdict = own["verdict"].map({verdict: -k for k, verdict in enumerate(_BEST)})
    ranked = own.assign(size=(size / half.where(half > 0)).fillna(size), order=by_verdict)
    ranked = ranked.sort_values(["order", "size"], ascending=False, kind="stable")
    most = ranked[:1].to_dict("records")[0]
    is_same = own["verdict"] == most["verdict"]
    row |= {key: most[key] for key in ("value", "low", "high", "verdict")}
    row["layers"] = f"{is_same.sum()} of {len(own)}"
    if most["verdict"] == "constant" or not is_number(most["value"]):
        return row
    return row | {"where": place(most["layer"], most["head"]), "control": _nearest(result, test, most)}


def _nearest(result: Result, test: Test, own: Any) -> str:
    """Return the control, seed by seed, that gets farthest to the side of the increments."""
    table = _rows_of(result, test, {})
    table = table[(table["layer"] == own["layer"]) & (table["head"] == own["head"])]
    controls = table[(table["signal"] != INCREMENTS) & table[test.value].notna()]
    if test.value == "share":  # every order is a tie: nothing was tested
        controls = controls[(controls["share"] != 0) | (controls["difference"] != 0)]
    if controls.empty:
        return ""
    side = 1 if own["value"] > test.null else -1
    line = controls.loc[(side * controls[test.value].astype(float)).idxmax()]
    value = number(line[test.value], 3).replace("-", "−")
    return f"{SIGNALS.get(line['signal'], line['signal'])} {value}"


def _headline(result: Result) -> str:
    """Say in at most 25 words where both corrected English tests agree, beside the published one."""
    found = {name: increments_of(result, name) for name in TESTS}
    if all(own.empty for own in found.values()):
        return "No test was made: the text has no English pairs of words and no tagged Chinese words."
    if found["regression"].empty or found["matched"].empty:
        shown = _places(found["chinese"][found["chinese"]["verdict"].isin(SHOWN)])
        return f"Without English text only Chinese words were tested: names differ in {shown}."
    both = found["regression"].merge(found["matched"], on=["layer", "head"], suffixes=("", "_matched"))
    same = both[(both["verdict"] == both["verdict_matched"]) & both["verdict"].isin(SHOWN)]
    table = _rows_of(result, TESTS["reversed"], {})
    published = table[(table["signal"] == INCREMENTS) & (table["p"].astype(float) < _LEVEL)]
    most = 4 if same.empty else 2
    told = f"the published one, without controls, finds names in {_places(published, most)}"
    if same.empty:
        few = " (too few names to match)" if (found["matched"]["verdict"] == "not measured").all() else ""
        return f"No layer passes both corrected English tests{few}; {told}."
    sizes = listed(list(dict.fromkeys(same["verdict"])))
    return f"Both corrected English tests find increments {sizes} in names in {_places(same, most)}; {told}."


def _places(own: Frame, most: int = 4) -> str:
    """Name layers or heads, or count them where they are more than `most`."""
    if own.empty:
        return "no layer"
    is_layer = bool((own["head"] < 0).all())
    noun = "layer" if is_layer else "head"
    if len(own) > most:
        return plural(len(own), noun)
    names = [name.split()[1] for name in _names(own)]
    return f"{noun}{'s' if len(names) > 1 else ''} {listed(names)}"


def _names(own: Frame) -> list[str]:
    return [place(*key) for key in zip(own["layer"].tolist(), own["head"].tolist(), strict=True)]


def steps_table(result: Result, name: str, **where: str) -> Frame:
    """Return a row a layer, a column a step: what is left of a difference as more is held equal."""
    column, steps = TESTS[name].steps
    shown: dict[str, Any] = {}
    last = increments_of(result, name, **where)
    for step, heading in steps.items():
        own = increments_of(result, name, **{column: step}, **where)
        shown |= worded(own, {heading: ("value", "low", "high")}) if len(own) else {}
        last = own if len(own) else last
    more = worded(last, {"n": "n", "Verdict": "verdict"})
    return pd.DataFrame({"Increments": _names(last), **shown, **more})


def other_places(result: Result) -> Iterator[tuple[str, str, Frame]]:
    """Yield the other responses of the corrected tests: the test, the response and `steps_table`."""
    for response, names in (("second_word", ("regression", "matched")), ("per_byte", ("matched", "chinese"))):
        for name in names:
            frame = steps_table(result, name, response=response)
            if len(frame):
                yield name, response, frame


_MEASURES = {"pair": "whole pair", "inner": "space and next byte", "first_word": "first word alone"}


def reversed_table(result: Result) -> Frame:
    """Return a row a layer, context and measure of the reversed-order test."""
    table = table_of(result, "reversed")
    own = table[table["signal"] == INCREMENTS].sort_values(["layer", "head", "context"], kind="stable")
    own = own.assign(place=_names(own), measure=[_MEASURES.get(name, name) for name in own["measure"]])
    return worded(own, {
        "Increments": "place", "Context": "context", "What is summed": "measure",
        "Share that is smaller": ("share", "ci_low", "ci_high"), "p": "p", "Names": "n",
        "p, one a first word": "p_first_words", "First words": "n_first_words", "Verdict": "verdict",
    })  # fmt: skip


PUBLISHED: dict[str, Sequence[str]] = {
    "published": ("0 %, p 1", "51 %, p .28", "71 %, p 3e-5", "66 %, p 6e-5", "77 %, p 3e-8", "78 %, p 3e-7"),
    "its later replica": (
        *("0 %, p 1", "48 %, p .55", "61 %, p .04", "72 %, p 1e-5", "63 %, p 2e-4", "82 %, p 6e-10"),
    ),
}
"""Of other models, trained on Wikipedia in English and Chinese: quoted, not measured here."""


_COVARIATES = {
    "log_count": "log frequency in training text",
    "log_p": "log P(second | first)",
    "length_first": "letters of the first word",
    "length_second": "letters of the second word",
    "log_first": "log frequency of the first word (watched)",
    "entropy": "model's entropy before the second part (watched)",
}
_LANGUAGES = {"en": "English", "zh": "Chinese"}


def balance_table(result: Result) -> Frame:
    """Return how far names and others lie apart in what is held equal, before and after matching."""
    table = table_of(result, "balance").replace({"language": _LANGUAGES, "covariate": _COVARIATES})
    return worded(table, {
        "Language": "language", "What": "covariate", "Before": "before", "After": "after", "Names": "n_names",
        "Others": "n_others", "Matched": "n_matched",
    }, digits=2)  # fmt: skip


def pairs_table(result: Result) -> Frame:
    """Return the names, the most frequent first."""
    table: Frame = result.tables["pairs"]
    table = table.sort_values(["training_count", "first", "second"], ascending=[False, True, True])
    return worded(table, {
        "First": "first", "Second": "second", "Kind": "kind", "In training text": "training_count",
        "In the test text": "test_count", "Matched with": "matched_with",
    })  # fmt: skip


_DARK = "#4a515b"
_LOOKS: dict[str, dict[str, Any]] = {
    INCREMENTS: {"color": "#2f75b5", "symbol": "circle", "size": 9},
    "untrained": {"color": theme.CONTROL, "symbol": "square-open", "size": 7, "line": {"width": 1.5}},
    "random_head": {"color": theme.CONTROL, "symbol": "diamond-open", "size": 7, "line": {"width": 1.5}},
    "lexical": {"color": _DARK, "symbol": "x-thin", "size": 7, "line": {"width": 1.6, "color": _DARK}},
}
_PLACES = {INCREMENTS: -0.24, "untrained": 0.04, "random_head": 0.2, "lexical": 0.36}  # of a row
_ROW, _MANY = 38, 12  # pixels; rows that get less


def plot_test(result: Result, test: str = "regression") -> go.Figure:
    """Draw `frame_of` a test: filled dots are increments, open marks controls, bars intervals or ranges."""
    frame, asked = frame_of(result, test), test_of(test)
    own = frame[frame["signal"] == INCREMENTS]
    places = {key: at for at, key in enumerate(zip(own["layer"], own["head"], strict=True))}
    words = [f"{MARKS.get(one, ('', ''))[0]} {one.replace(CONTROL, 'control too')}" for one in own["verdict"]]
    columns, heading = aligned([[word.strip()] for word in words], ["verdict"])
    names = [named(place(*key), is_strong=True) for key in places]
    height = _ROW if len(places) <= _MANY else 26
    figure = rows_figure(names, columns, heading, asked.null, height=height)
    heights = [places[key] for key in zip(frame["layer"], frame["head"], strict=True)]
    for signal, look in _LOOKS.items():
        rows = frame.assign(y=heights)[frame["signal"] == signal]
        if len(rows):
            numbers = worded(rows, {"shown": ("value", "low", "high")}, digits=4)["shown"]
            hover = [
                f"{place(line.layer, line.head)}, {SIGNALS[signal]}: {shown} ({line.spread})"
                for line, shown in zip(rows.itertuples(index=False), numbers, strict=True)
            ]
            trace = dots(rows.assign(y=rows["y"] + _PLACES[signal]), SIGNALS[signal], look, hover)
            trace["error_x"]["color"] = look["color"]
            figure.add_trace(trace)
    is_share = asked.value == "share"
    least = (0.3, 0.7) if is_share else (-0.02, 0.02)
    title = (
        "share of names smaller in their own order" if is_share else "names less others, in mean increments"
    )
    figure.update_xaxes(
        range=reach(frame["value"], frame["low"], frame["high"], least=least), title_text=title, nticks=7
    )
    return figure


FIGURES: dict[str, Callable[..., go.Figure]] = {"test": plot_test}
