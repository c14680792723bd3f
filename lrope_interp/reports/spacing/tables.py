"""Where each character of the spacing figure goes, and what each row does: the numbers of `show`.

Every row is divided by its own mean increment, so that a text of n characters spans n - 1 units
in every row: attention cannot tell a layer that steps twice as far from one with another
rope_base. Only the *unevenness* of a row is drawn.
"""

from __future__ import annotations

from math import ceil

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from markupsafe import Markup

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.reports.kit.frames import Column, Frame, table_of
from lrope_interp.reports.kit.glyphs import is_delimiter, visible
from lrope_interp.reports.kit.svg import BarRow, bars_under_text
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import number, place, plural, shortened
from lrope_interp.results import Result

ORDINARY = "ordinary RoPE"
_ALIKE = 0.05  # of a row's mean: less is no difference to speak of
_WIDEST = 3

_FRAME = [
    "row", "row_label", "layer", "head", "character", "text", "shown", "bytes_hex", "increment",
    "position", "relative", "step", "x", "x_left", "mean_per_byte", "block", "is_delimiter", "n_tokens",
]  # fmt: skip


def spacing_frame(
    result: Result,
    layer: int | None = None,
    *,
    ordinary: bool = True,
    block_width: float | None = None,
) -> Frame:
    """Return the numbers that the spacing figure draws, one line a row and character.

    Args:
        result: A result of kind "show".
        layer: Only this layer; all layers if None.
        ordinary: Put a row of ordinary RoPE (+1 a byte, or token) on top, as the control.
        block_width: Wrap the text into blocks of at most this many units (mean characters);
            one block if None.

    Returns:
        Columns `row` (0 at the top), `row_label`, `layer` and `head` (-1: none), `character`
        (its index), `text`, `shown` (what is drawn), `bytes_hex`, `increment` (summed over its
        bytes), `position` (at its last byte), `relative` (increment over the row's mean increment a
        character; null for the first character, from which the row begins), `step` (the same per byte,
        so that three bytes step no farther than one), `x` (units of the row's mean, 0 at the first
        character), `x_left` (the same, from where its block begins),
        `mean_per_byte`, `block`, `is_delimiter`, `n_tokens` (its bytes, where tokens are bytes). Where
        tokens are longer, what is a character here is a token, and a byte is a token likewise.
    """
    rows = [_scaled(row) for row in _rows(result, layer, ordinary)]
    frame = pd.concat([row.assign(row=i) for i, row in enumerate(rows)], ignore_index=True)
    frame["is_delimiter"] = [is_delimiter(text) for text in frame["text"]]
    frame["shown"] = [visible(text) for text in frame["text"]]
    reference = frame.pivot(index="character", columns="row", values="x").mean(axis=1).to_numpy()
    delimiter = frame.loc[frame["row"] == 0, "is_delimiter"].to_numpy(dtype=bool)
    block = _blocks(reference, delimiter, block_width or np.inf)
    frame["block"] = np.tile(block, len(rows))
    frame["x_left"] = frame["x"] - frame.groupby("row")["x"].transform(_block_start, block=block)
    return frame[_FRAME]


def _rows(result: Result, layer: int | None, ordinary: bool) -> list[Frame]:
    """Split the characters table into one frame a row, in drawing order."""
    table = table_of(result, "characters")
    if table.empty:
        raise LRopeError("the result holds no characters; give `show` a text of at least one character")
    table = table.assign(text=table["text"].astype(str))
    if "n_tokens" not in table:
        table = table.assign(n_tokens=n_bytes(table["bytes_hex"]))
    layers = sorted(table["layer"].unique().tolist())
    if layer is not None and layer not in layers:
        raise unknown("layer", layer, [str(number) for number in layers])
    shown = table if layer is None else table[table["layer"] == layer]
    groups: list[Frame] = [group for _, group in shown.groupby(["layer", "head"], sort=True)]
    rows = [group.sort_values("character") for group in groups]
    return [_ordinary(rows[0]), *rows] if ordinary else rows


def _ordinary(row: Frame) -> Frame:
    steps = row["n_tokens"].to_numpy(dtype=float)
    return row.assign(layer=-1, head=-1, increment=steps, position=np.cumsum(steps))


def unit_of(result: Result) -> str:
    """Return what the model steps by: "byte" or "token"."""
    return "token" if "n_tokens" in table_of(result, "characters") else "byte"


def n_bytes(bytes_hex: Column) -> Int[np.ndarray, " characters"]:
    """Count the bytes that a column such as `e4 b8 ad` spells out."""
    return (bytes_hex.astype(str).str.replace(" ", "").str.len() // 2).to_numpy(dtype=np.int64)


def _scaled(row: Frame) -> Frame:
    """Put the row in units of its own mean increment."""
    position, increment = row["position"].to_numpy(dtype=float), row["increment"].to_numpy(dtype=float)
    n_tokens = row["n_tokens"].to_numpy(dtype=np.int64)
    travelled = position - position[0]
    mean = travelled[-1] / (len(row) - 1) if len(row) > 1 else 1.0
    per_byte = travelled[-1] / n_tokens[1:].sum() if len(row) > 1 else float("nan")
    is_first = np.arange(len(row)) == 0
    layer, head = int(row["layer"].iloc[0]), int(row["head"].iloc[0])
    return row.assign(
        x=travelled / mean,
        relative=np.where(is_first, np.nan, increment / mean),
        step=np.where(is_first, np.nan, increment / n_tokens / per_byte),
        mean_per_byte=per_byte,
        row_label=ORDINARY if layer < 0 else place(layer, head),
    )


def _block_start(x: Column, block: Int[np.ndarray, " characters"]) -> Float[np.ndarray, " characters"]:
    """Return where each character's block begins: at the character before it, so that its gap shows."""
    first = np.searchsorted(block, block)
    return x.to_numpy()[np.maximum(first - 1, 0)]


def _blocks(
    reference: Float[np.ndarray, " characters"], is_break: Bool[np.ndarray, " characters"], width: float
) -> Int[np.ndarray, " characters"]:
    """Number the block of each character: even blocks, broken after a delimiter where one is near."""
    block = np.zeros(len(reference), dtype=np.int64)
    start, number = 0, 0
    while start < len(reference):
        left = reference[max(start - 1, 0)]
        remaining = reference[-1] - left
        stop = len(reference)
        if remaining > width:
            target = remaining / ceil(remaining / width)
            stop = _break_near(reference - left, is_break, start, target, width)
        block[start:stop] = number
        start, number = stop, number + 1
    return block


def _break_near(
    x: Float[np.ndarray, " characters"],
    is_break: Bool[np.ndarray, " characters"],
    start: int,
    target: float,
    width: float,
) -> int:
    """Return the index after which to break: the delimiter nearest to `target`, else `target` itself."""
    inside = np.flatnonzero((x <= width) & (x >= 0.7 * target) & is_break)
    inside = inside[inside > start]
    if len(inside):
        return int(inside[np.argmin(np.abs(x[inside] - target))]) + 1
    return max(int(np.searchsorted(x, target, side="right")), start + 1)


def attention_frame(result: Result, spacing: Frame) -> Frame:
    """Return the attention rows to draw: one line a key character that the figure shows.

    Args:
        result: A result of kind "show".
        spacing: What `spacing_frame` returned for the same result.

    Returns:
        Columns `layer`, `head`, `query_character`, `key_character`, `weight`, `text`, `shown`,
        `x_left`, `block`, `is_delimiter`, and of the whole attention row `weight_eos` (on the <eos>
        before the text) and `weight_elsewhere` (on characters that are not drawn). Empty if the
        result has no attention.
    """
    columns = ["layer", "head", "query_character", "key_character", "weight"]
    places = ["layer", "row_head", "character", "text", "shown", "x_left", "block", "is_delimiter"]
    table = table_of(result, "attention")
    table = table[table["layer"].isin(spacing["layer"])] if len(table) else table
    if table.empty:
        return pd.DataFrame(columns=[*columns, *places[3:], "weight_eos", "weight_elsewhere"])
    table = table[columns].astype({"layer": int, "head": int, "query_character": int, "weight": float})
    heads = set(spacing.loc[spacing["layer"].isin(table["layer"]), "head"])
    table["row_head"] = table["head"] if heads != {-1} else -1
    at = spacing.rename(columns={"head": "row_head"})[places]
    drawn = table.merge(
        at, left_on=["layer", "row_head", "key_character"], right_on=["layer", "row_head", "character"]
    )
    key = ["layer", "head", "query_character"]
    eos = table[table["key_character"] < 0].set_index(key)["weight"].rename("weight_eos")
    drawn = drawn.join(eos, on=key).fillna({"weight_eos": 0.0})
    elsewhere = 1 - drawn["weight_eos"] - drawn.groupby(key)["weight"].transform("sum")
    drawn = drawn.assign(weight_elsewhere=elsewhere.clip(lower=0.0))
    return drawn.drop(columns=["character", "row_head"])


def words_frame(result: Result, spacing: Frame) -> Frame:
    """Return where words begin on the topmost row: half-way from the character before.

    Args:
        result: A result of kind "show".
        spacing: What `spacing_frame` returned for the same result.

    Returns:
        Columns `character`, `text`, `block`, `x_left` and `grade` ("gold", "silver" or "rule"), one line
        a word. Empty where the result does not say who marked the words.
    """
    table = table_of(result, "characters")
    top = spacing[spacing["row"] == 0].sort_values("character")
    if "word_grade" not in table or "is_word_start" not in table:
        return top.assign(grade="")[["character", "text", "block", "x_left", "grade"]][:0]
    table = table[table["is_word_start"].astype(str) == "True"].drop_duplicates("character")
    grades = table.set_index("character")["word_grade"].astype(str)
    is_first = top["block"] != top["block"].shift()
    before = top["x_left"].shift().mask(is_first, 0.0)
    middle = ((before + top["x_left"]) / 2).to_numpy(copy=True)
    middle[:1] = -0.5  # no character stands before the first one
    words = top.assign(x_left=middle, grade=top["character"].map(grades))
    return words[words["grade"].notna()][["character", "text", "block", "x_left", "grade"]]


def summary_frame(frame: Frame) -> Frame:
    """Summarise each row of the figure: how uneven it is, and where it steps far.

    Returns:
        Columns `row_label`, `layer`, `head`, `n` (characters, the first left out), `mean_per_byte`,
        `sd` (of `step`, over bytes), `at_delimiters` and `elsewhere` (mean `step` over their bytes),
        `n_delimiters`, `widest` (the characters with the largest mean `step`).
    """
    lines = []
    for _, row in frame[frame["layer"] >= 0].groupby("row"):
        steps = row["step"].to_numpy(dtype=float)[1:]
        delimiter = row["is_delimiter"].to_numpy(dtype=bool)[1:]
        n_tokens = row["n_tokens"].to_numpy(dtype=float)[1:]
        lines.append(
            {name: row[name].iloc[0] for name in ("row_label", "layer", "head", "mean_per_byte")}
            | {
                "n": len(steps),
                "sd": _mean((steps - 1) ** 2, n_tokens) ** 0.5,
                "at_delimiters": _mean(steps[delimiter], n_tokens[delimiter]),
                "elsewhere": _mean(steps[~delimiter], n_tokens[~delimiter]),
                "n_delimiters": int(delimiter.sum()),
                "widest": _widest(row),
            }
        )
    return pd.DataFrame(lines)


def _mean(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    return float(np.average(values, weights=weights)) if len(values) else float("nan")


def _widest(row: Frame) -> str:
    """Name the characters that a row steps farthest to; none where it hardly tells any apart."""
    steps = row.groupby("shown", sort=False)["step"].mean().dropna()
    if steps.empty or steps.max() - steps.min() < _ALIKE:
        return ""
    top = steps.nlargest(_WIDEST, keep="first")
    return " · ".join(f"{shortened(text, 12)} {number(step)}" for text, step in top.items())


def verdicts(result: Result) -> Verdicts:
    """Return a row a layer and head: where it steps far, and what delimiters do; and the text as bars."""
    frame, unit = spacing_frame(result, ordinary=False), unit_of(result)
    summary = summary_frame(frame)
    found = summary.rename(columns={"row_label": "what", "widest": "where", "mean_per_byte": "value"})
    found = found.assign(difference=summary["at_delimiters"] - summary["elsewhere"])
    return Verdicts(
        headline=_headline(summary, unit, frame["character"].nunique()),
        frame=found.reindex(columns=[*COLUMNS, "sd", "at_delimiters", "elsewhere", "n_delimiters", "n"]),
        names={
            "what": "Row",
            "where": "Widest steps",
            "value": f"Mean per {unit}",
            "difference": "Delimiters − rest",
        },
        digits=2,
        reach=_ALIKE,
        caption=f"Steps: increments per {unit} over the row's mean. Delimiters: white space and punctuation. "
        "One text, no test.",
        picture=lambda: _picture(frame, unit),
    )


def _headline(summary: Frame, unit: str, n: int) -> str:
    contrast = (summary["at_delimiters"] - summary["elsewhere"]).dropna()
    if contrast.empty:
        size = plural(n, "character" if unit == "byte" else "token")
        size = f"{size} through {plural(summary['layer'].nunique(), 'layer')}"
        return f"{size}; delimiters cannot be told from the rest."
    row = summary.loc[contrast.abs().idxmax()]
    if contrast.abs().max() < _ALIKE:
        return f"In every row delimiters and the rest step alike, within {_ALIKE} of the row's mean."
    does = "open" if contrast[row.name] > 0 else "contract"
    return (
        f"Delimiters {does} most in {row['row_label']}: a {unit} of white space or punctuation steps "
        f"{number(row['at_delimiters'])} times the row's mean, others {number(row['elsewhere'])}."
    )


def _picture(frame: Frame, unit: str) -> Markup:
    first = frame[frame["row"] == 0]
    rows = [BarRow(row["row_label"].iloc[0], row["step"].tolist()) for _, row in frame.groupby("row")]
    note = f"Bars: increment per {unit} over the row's mean (line); orange: white space and punctuation."
    return bars_under_text(first["shown"].tolist(), first["is_delimiter"].tolist(), rows, note)
