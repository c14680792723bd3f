"""The numbers of `distance`: the places asked for by layer, all pairs of words, and what is unusual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.glyphs import visible
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import (
    NOTHING,
    is_number,
    listed,
    number,
    place,
    plural,
    shortened,
    signed,
)
from lrope_interp.results import Result

NORMALISED, EFFECTIVE = MEASURES = ("normalised", "effective")
CLOSER, FARTHER, USUAL = "closer", "farther", "as usual"
_LOOKS = {CLOSER: ("◂", "won"), FARTHER: ("▸", "won"), USUAL: ("=", "open")}
_BY_CONSTRUCTION = 0.05  # of all pairs lie outside their central 95 %
_NAMED = 3  # layers that a headline names


def pair_frame(result: Result, measure: str = NORMALISED) -> Frame:
    """Return one row a layer and head of the places asked for; none where no places were asked for.

    Returns:
        The rows of `distances`, and `row_label`, `y` (from 0) and `verdict`: closer or farther than 95 % of
        the pairs of this text that are as many tokens apart, as usual, or "" where there are too few.
    """
    frame = table_of(result, "distances")
    if frame.empty:
        return frame
    frame = _judged(frame[frame["measure"] == measure].reset_index(drop=True))
    return frame.assign(y=np.arange(len(frame)))


def matrix_frame(result: Result, measure: str = NORMALISED) -> Frame:
    """Return one row a pair of words, layer and head, as `pair_frame` does.

    Returns:
        The rows of `matrix`, and `row_label`, `verdict` and `ratio`: the distance over what is expected.
    """
    frame = table_of(result, "matrix")
    frame = _judged(frame[frame["measure"] == measure].reset_index(drop=True))
    expected = numbers(frame["expected"])
    return frame.assign(ratio=numbers(frame["value"]) / expected.where(expected > 0))


def _judged(frame: Frame) -> Frame:
    is_closer = numbers(frame["value"]) < numbers(frame["expected"])
    told = frame["is_outside"].astype(str)
    verdict = np.select(
        [told == "False", (told == "True") & is_closer, told == "True"], [USUAL, CLOSER, FARTHER], ""
    )
    places = zip(frame["layer"], frame["head"], strict=True)
    return frame.assign(verdict=verdict, row_label=[place(int(layer), int(head)) for layer, head in places])


def word(text: str, length: int) -> str:
    """Return words of the user so that they can be seen, cut to a length."""
    return shortened("".join(visible(character) for character in text), length)


def change(value: Any, expected: Any) -> str:
    """Say by how many per cent a distance differs from what is expected; what rounds to zero has no sign."""
    known = is_number(value) and is_number(expected) and expected > 0
    return f"{signed(100 * (value / expected - 1), 0)} %" if known else NOTHING


def verdicts(result: Result) -> Verdicts:
    """Return a row a layer and head: of the places asked for, or of all pairs of words."""
    pair = pair_frame(result)
    return of_words(result) if pair.empty else _of_pair(result, pair)


def _of_pair(result: Result, pair: Frame) -> Verdicts:
    frame = pair.rename(columns={"row_label": "what"})
    frame = frame.assign(where=[number(value) for value in pair["expected"]])
    a, b = (f"“{word(text, 24)}”" for text in table_of(result, "asked")["text"].tolist())
    n = int(pair["n_tokens"].iloc[0])
    return Verdicts(
        headline=f"{a} and {b} are {plural(n, 'token')} apart: {_found(pair)}.",
        frame=frame.reindex(columns=[*COLUMNS, "expected", "n_tokens"]),
        names={"what": "Row", "where": "Expected", "value": "Distance [usual]"},
        digits=2,
        reference=float(n),
        marks=_LOOKS,
        caption="In mean increments of the text. Usual: 95 % of its pairs that are as many tokens apart. "
        "Ordinary RoPE's distance is that of the tokens. One text, no test.",
    )


def _found(pair: Frame) -> str:
    if (pair["verdict"] == "").all():
        return "too few pairs of this text are as far apart to say what is usual"
    parts = []
    for verdict in (CLOSER, FARTHER):
        rows = pair.loc[pair["verdict"] == verdict, "row_label"].tolist()
        where = listed(rows) if len(rows) <= _NAMED else f"{len(rows)} of {len(pair)} rows"
        parts += [f"{verdict} than usual in {where}"] if rows else []
    return ", ".join(parts) or "as usual for this text in every row"


def of_words(result: Result) -> Verdicts:
    """Return a row a layer and head: how many pairs of words are unusual, and which most."""
    matrix, rows = matrix_frame(result), []
    for name, own in matrix.groupby("row_label", sort=False):
        judged, outside = own[own["verdict"] != ""], own[own["verdict"].isin([CLOSER, FARTHER])]
        row = {"what": name, "value": len(outside) / len(judged) if len(judged) else np.nan, "where": ""}
        if len(outside):
            top = outside.loc[np.log2(outside["ratio"]).abs().idxmax()]
            words = f"{word(top['word_a'], 12)} … {word(top['word_b'], 12)}"
            row["where"] = f"{words} {change(top['value'], top['expected'])}"
        rows.append(row)
    frame = pd.DataFrame(rows).reindex(columns=[*COLUMNS])
    return Verdicts(
        headline=_headline(frame, matrix, len(table_of(result, "words"))),
        frame=frame,
        names={"what": "Row", "where": "Most unusual pair", "value": "Unusual pairs"},
        digits=2,
        reference=_BY_CONSTRUCTION,
        caption="Unusual: outside the central 95 % of this text's tokens that are as many tokens apart, "
        "where 0.05 of all pairs lie by construction. One text, no test.",
    )


def _headline(frame: Frame, matrix: Frame, n_words: int) -> str:
    judged = matrix[matrix["verdict"] != ""]
    if judged.empty:
        return f"{plural(n_words, 'word')}; too few pairs of this text are as far apart to say what is usual."
    share = number(100 * (judged["verdict"] != USUAL).mean(), 0)
    top = frame.loc[frame["value"].idxmax(), "what"]
    most = f"; most in {top}" if len(frame) > 1 else ""
    return f"{share} % of the pairs of {n_words} words are unusually close or far (5 % are anyway){most}."


def pair_table(result: Result) -> Frame:
    """Return every number of the places asked for as strings, a row a layer, head and measure."""
    frame = pd.concat([pair_frame(result, measure) for measure in MEASURES], ignore_index=True)
    bounds = zip(frame["low"], frame["high"], strict=True)
    return pd.DataFrame(
        {
            "Row": frame["row_label"],
            "Measure": frame["measure"],
            "Distance": [number(value, 3) for value in frame["value"]],
            "Expected": [number(value, 3) for value in frame["expected"]],
            "95 % of pairs": [
                f"{number(low, 3)} to {number(high, 3)}" if is_number(low) else "too few"
                for low, high in bounds
            ],
            "So it is": [verdict or NOTHING for verdict in frame["verdict"]],
        }
    )
