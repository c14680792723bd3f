"""The numbers behind the page of `ablate`: its verdicts, and one frame a figure or table."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.reports.kit.changes import change, with_bounds
from lrope_interp.reports.kit.frames import Frame, Row, numbers, table_of
from lrope_interp.reports.kit.glyphs import N_SHADES, Cell, Strip, described, visible
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import (
    CLASS_ORDER,
    LANGUAGES,
    NOTHING,
    in_order,
    interval,
    is_number,
    number,
)
from lrope_interp.results import LOSES, TIES, WINS, Result, verdict_on

WORSE, BETTER, OPEN, UNKNOWN = "worse", "better", "interval holds 0", "no interval"
_SHOWN = {WINS: WORSE, LOSES: BETTER, TIES: OPEN}
CHANGE, KL, FLIPS = "nats_per_byte", "kl", "flips"
METRICS = (CHANGE, KL, FLIPS)
MAIN = ("mean", "one", "lexical")
ORDER = (*MAIN, "resample", "shuffle", "shift", "scale", "local", "local_compensated")
LOCAL = ORDER[-2:]
PARTS = ("split_contextual", "split_lexical", "split_scale", "split_total")
DESIGNS = ("up", "down", "restore", "single")
RANDOM, BEYOND, UNTOUCHED = "random:", "beyond_random", "untouched"
_ALL = "all"
_FACTOR = 2.0  # the one of a scale curve that stands beside other interventions
_WORDS = ("intervention", "design", "layers", "where", "language", "metric", "byte_class", "label")
_KEYS = ["intervention", "parameter", "design", "layers", "layer", "head", "where"]

_SHORT = {
    "one": "to 1", "mean": "to layer's mean", "lexical": "to byte's mean", "resample": "same byte, elsewhere",
    "shuffle": "shuffled", "shift": "shifted", "scale": "scaled", "local": "local edit",
    "local_compensated": "edit, taken back", "split_scale": "scale", "split_lexical": "lexical",
    "split_contextual": "contextual", "split_total": "all of it",
}  # fmt: skip
_WHERE = {
    "inside_words": "gaps inside words", "words": "word starts", "despaced": "de-spaced word starts",
    "sentences": "sentence starts", "lines": "line starts", "tokens": "token starts",
    "whitespace": "white space",
}  # fmt: skip


def short(intervention: str, parameter: object = None, where: str = "") -> str:
    """Name an intervention: `to layer's mean`, `× 2`, `local edit at word starts`."""
    name = _SHORT.get(intervention, intervention.replace("_", " "))
    if intervention == "scale" and is_number(parameter):
        name = f"× {float(parameter):g}"  # pyright: ignore[reportArgumentType]
    return f"{name} at {where_name(where)}" if where else name


def where_name(where: str) -> str:
    """Name the gaps that were changed."""
    return _WHERE.get(where, where.replace("_", " "))


def place_name(design: str, layers: str, layer: int, head: int) -> str:
    """Name what an intervention changed: `all layers`, `layer 2`, `head 2.1`, `layers 0-3`."""
    if design == "all":
        return "all layers" if head < 0 else f"head {head} of all layers"
    if design == "single":
        return f"layer {layer}" if head < 0 else f"head {layer}.{head}"
    return f"layers {layers}"


def shown_by(low: Iterable[float], high: Iterable[float]) -> list[str]:
    """Say what intervals of a change show: worse, better, neither, or that there is no interval."""
    ends = zip(low, high, strict=True)
    return [_SHOWN[verdict_on(*two)] if is_number(two[0]) and is_number(two[1]) else UNKNOWN for two in ends]


def rows_of(frame: Frame, *names: str) -> list[tuple[Any, ...]]:
    """Return some columns of a frame, row by row."""
    return list(zip(*(frame[name].tolist() for name in names), strict=True))


@lru_cache(maxsize=32)  # of a page: each of its figures asks again
def changes_frame(result: Result, metric: str = CHANGE, name: str = "ablations") -> Frame:
    """Return every change of a metric, changed minus untouched, higher is worse.

    Args:
        result: A result of kind "ablate".
        metric: "nats_per_byte", "kl" or "flips".
        name: The table: "ablations" or "distances", which knows nats per byte alone.

    Returns:
        The columns of the table, with `low` and `high` for its interval, `place` (what was changed, in
        words) and `shows` (what the interval says; see `shown_by`). Layer and head are -1 where there is
        none, parameter NaN; changes without a value are left out.
    """
    table = table_of(result, name)
    if table.empty:
        words = {name: pd.Series(dtype="str") for name in (*_WORDS, "place", "shows")}
        floats = {name: pd.Series(dtype=float) for name in ("parameter", "value", "low", "high", "n")}
        return pd.DataFrame(words | floats | {name: pd.Series(dtype=int) for name in ("layer", "head")})
    if "metric" in table:
        table = table[table["metric"] == metric]
    else:
        table = table.assign(where="", language=table.get("language", _ALL))
    table = table.rename(columns={"ci_low": "low", "ci_high": "high"})
    frame = table.assign(
        **{column: table[column].astype(str).replace("nan", "") for column in _WORDS if column in table},
        **{column: numbers(table[column]) for column in ("value", "low", "high", "parameter")},
    )
    frame["place"] = [place_name(*key) for key in rows_of(frame, "design", "layers", "layer", "head")]
    frame["shows"] = shown_by(frame["low"], frame["high"])
    return frame[frame["value"].notna()].reset_index(drop=True)


def _language_of(frame: Frame) -> str:
    """Return the language that the page is about: "all", or the only one there is."""
    found = list(dict.fromkeys(frame["language"]))
    return _ALL if _ALL in found or not found else found[0]


@lru_cache(maxsize=32)
def whole_frame(result: Result, metric: str = CHANGE) -> Frame:
    """Return the changes over all bytes, of all languages and classes: the rows that have one number each."""
    frame = changes_frame(result, metric)
    kept = (frame["language"] == _language_of(frame)) & (frame["byte_class"] == _ALL)
    return frame[kept].drop_duplicates(_KEYS).reset_index(drop=True)


def _main_where(frame: Frame) -> str:
    """Return where increments were changed: "" for everywhere, or what `--where` asked for."""
    found = list(dict.fromkeys(frame.loc[~frame["intervention"].isin(LOCAL), "where"]))
    return "" if "" in found or not found else found[0]


def _at_main_where(frame: Frame) -> Frame:
    """Return the rows of the gaps that the page is about; local edits, which have their own, are left out."""
    return frame[(frame["where"] == _main_where(frame)) & ~frame["intervention"].isin(LOCAL)]


def _main_place(result: Result) -> tuple[str, int, int]:
    """Return the design, layer and head that figures of one place show.

    All layers where they were changed together; else the place whose change is largest.
    """
    own = _at_main_where(whole_frame(result))
    own = own[own["design"].isin(("all", "single")) & ~own["intervention"].isin(PARTS)]
    if own.empty or ((own["design"] == "all") & (own["head"] < 0)).any():
        return "all", -1, -1
    top = own.loc[own["value"].abs().idxmax()]
    return str(top["design"]), int(top["layer"]), int(top["head"])


def _at_place(frame: Frame, place: tuple[str, int, int]) -> Frame:
    return frame[(frame["design"] == place[0]) & (frame["layer"] == place[1]) & (frame["head"] == place[2])]


def main_place_name(result: Result) -> str:
    """Name the place that figures of one place show."""
    design, layer, head = _main_place(result)
    return place_name(design, str(layer), layer, head)


def untouched(result: Result) -> Row | None:
    """Return the row of the table `base` about everything: the loss of the untouched model."""
    table = table_of(result, "base")
    own = table[table["language"] == _language_of(table)] if len(table) else table
    return own.iloc[0] if len(own) and is_number(own["nats_per_byte"].iloc[0]) else None


def heat_map_frame(result: Result, metric: str = CHANGE, *, is_heads: bool = False) -> Frame:
    """Return one row a cell: single layers (or heads) and all layers, against interventions (`column`).

    Of a scale curve the factor 2 alone, or the largest where 2 is missing; what a suite froze at some gaps
    only is left to `places_frame`.
    """
    frame = whole_frame(result, metric)
    kept = frame["design"].isin(("single", "all")) & frame["intervention"].isin(ORDER)
    kept &= (frame["where"] == _main_where(frame)) | frame["intervention"].isin(LOCAL)
    frame = frame[kept & ((frame["head"] >= 0) == is_heads)]
    factors = frame.loc[frame["intervention"] == "scale", "parameter"]
    factor = _FACTOR if (factors == _FACTOR).any() else factors.max()
    frame = frame[(frame["intervention"] != "scale") | (frame["parameter"] == factor)]
    names = [short(*key) for key in rows_of(frame, "intervention", "parameter", "where")]
    order = frame["intervention"].map({name: i for i, name in enumerate(ORDER)})
    frame = frame.assign(column=pd.Series(names, index=frame.index, dtype="str"), order=order)
    return _by_depth(frame, "order", "where")


def _by_depth(frame: Frame, *names: str) -> Frame:
    depth = frame["layer"].where(frame["design"] == "single", np.inf)
    return frame.assign(depth=depth).sort_values(["depth", "head", *names], kind="stable", ignore_index=True)


def verdicts(result: Result) -> Verdicts:
    """Return a row an intervention on all layers, or a place where they were not changed together.

    What a suite froze at some gaps stands against as many random ones; everything else against the
    untouched model.
    """
    cells, places = heat_map_frame(result), places_frame(result)
    cells = heat_map_frame(result, is_heads=True) if cells.empty else cells
    has_all = bool((cells["design"] == "all").any())
    rows = [
        {
            "what": row.column if has_all else f"{row.column}, {row.place}",
            "where": _costliest(cells[cells["column"] == row.column]) if has_all else "",
            "difference": row.value, "difference_low": row.low, "difference_high": row.high,
            "verdict": _VERDICTS[row.shows], "intervention": row.intervention, "place": row.place,
            "gaps": row.where,
        }
        for row in cells.sort_values("order", kind="stable").itertuples()
        if row.design == "all" or not has_all
    ]  # fmt: skip
    rows += [
        {
            "what": f"to mean at {where_name(row.where)}, over random", "where": "",
            "difference": row.more_value, "difference_low": row.more_low, "difference_high": row.more_high,
            "verdict": _MORE[shown_by([row.more_low], [row.more_high])[0]],
            "intervention": BEYOND, "place": "all layers", "gaps": row.where,
        }
        for row in places.itertuples()
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "intervention", "place", "gaps"]).assign(reference=0.0)
    base = untouched(result)
    bounds = "" if base is None else f" {interval(base['ci_low'], base['ci_high'])}".rstrip()
    loss = "" if base is None else f" Untouched: {number(base['nats_per_byte'], 3)}{bounds} nats per byte."
    random = " or as many random gaps" if len(places) else ""
    brackets = "Brackets: paired 95 % over documents, uncorrected."
    brackets = brackets if bool(frame["difference_low"].notna().any()) else "Too few documents for intervals."
    return Verdicts(
        headline=_headline(frame),
        frame=frame,
        names={
            "what": "All layers" if has_all else "Increments", "where": "Costliest alone",
            "difference": "Change, nats per byte",
        },
        digits=4,
        caption=f"Minus the untouched model{random}; higher is worse. {brackets}{loss}",
        about_drawing="Each row has its own scale.",
        marks={
            "costs": ("▲", "won"), "costs more": ("▲", "won"), "helps": ("▼", "lost"),
            "costs less": ("▼", "lost"), "not shown": ("=", "open"),
        },
    )  # fmt: skip


_VERDICTS = {WORSE: "costs", BETTER: "helps", OPEN: "not shown", UNKNOWN: ""}
_MORE = {WORSE: "costs more", BETTER: "costs less", OPEN: "not shown", UNKNOWN: ""}


def _costliest(cells: Frame) -> str:
    """Name the single layer that costs most by its interval; whether none does, or none has an interval."""
    alone = cells[(cells["design"] == "single") & (cells["shows"] != UNKNOWN)]
    costs = alone[alone["shows"] == WORSE]
    if costs.empty:
        return "none shown" if len(alone) else ""
    return str(costs.loc[costs["value"].idxmax(), "place"])


_DONE = {
    "one": "freezing increments to 1", "mean": "freezing increments to their layer's mean",
    "lexical": "freezing increments to the mean of their byte",
    "resample": "taking increments from elsewhere", "shuffle": "shuffling increments",
    "shift": "shifting increments", "scale": "scaling increments", "local": "editing increments",
}  # fmt: skip


def _headline(frame: Frame) -> str:
    """Say in at most 25 words what the first intervention costs, and whether context is worth anything."""
    if frame.empty:
        return "This result holds no change that could be measured."
    first = frame.iloc[0]
    done = _DONE.get(first["intervention"], f"increments {short(first['intervention'])}")
    done += f" at {where_name(first['gaps'])}" if first["gaps"] else ""
    if first["place"] != "all layers" and len(frame) > 1:  # a row a place
        n, top = int((frame["verdict"] == "costs").sum()), frame.loc[frame["difference"].idxmax()]
        said = f"{done} costs in {n or 'none'} of {len(frame)} places"
        said = said if (frame["verdict"] != "").any() else f"without intervals no verdict on {done}"
        return f"{_capital(said)}; the largest change is {change(top['difference'])} in {top['place']}."
    alone = f" in {first['place']}" if first["place"] != "all layers" else ""
    size = f"{change(first['difference']).lstrip('+−')} nats per byte{alone}"
    most = f", most in {first['where']}" if first["where"].startswith("layer") else ""
    said = {
        "costs": f"{done} costs {size}{most}",
        "helps": f"{done} lowers the loss by {size}",
        "not shown": f"{done}{alone} is not shown to change the loss",
    }.get(first["verdict"], f"without intervals no verdict: {done} moves the loss by {size}")
    for verdict, value in rows_of(frame[frame["intervention"] == "lexical"], "verdict", "difference"):
        worth = _CONTEXT.get(verdict, "").format(change(value).lstrip("+−"))
        said += worth if first["intervention"] != "lexical" else ""
    return f"{_capital(said)}."


_CONTEXT = {
    "costs": "; what context adds to the byte is worth {}",
    "helps": "; what context adds to the byte does harm, {}",
    "not shown": "; nothing shows that context adds to the byte",
}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def split_frame(result: Result) -> Frame:
    """Return the parts of the split, every place that has them, in the order in which they are taken away.

    `start` and `end` are the loss over the untouched model's before and after that (the total is from 0).
    """
    frame = whole_frame(result)
    frame = frame[frame["intervention"].isin(PARTS) & frame["design"].isin(("single", "all"))]
    order = frame["intervention"].map({name: i for i, name in enumerate(PARTS)})
    frame = _by_depth(frame.assign(order=order), "order")
    end = frame["value"].groupby([frame["place"], frame["where"]]).cumsum()
    is_total = frame["intervention"] == "split_total"
    return frame.assign(
        start=(end - frame["value"]).where(~is_total, 0.0), end=end.where(~is_total, frame["value"])
    )


def waterfall_frame(result: Result, *, is_whole: bool = True) -> Frame:
    """Return the split of all layers, or of the only place; without the scale and the total if not whole."""
    own = _at_place(split_frame(result), _main_place(result))
    return own if is_whole else own[own["intervention"].isin(PARTS[:2])]


def is_dwarfed(result: Result) -> bool:
    """Say whether the scale is so large that the other parts cannot be read beside it."""
    sizes = waterfall_frame(result).set_index("intervention")["value"].abs()
    return bool(sizes.get("split_scale", 0.0) > 4 * sizes.reindex(PARTS[:2]).max() > 0)


def split_table(result: Result) -> Frame:
    """Return the parts as strings, a row a place."""
    frame = split_frame(result)
    frame = frame.assign(cell=[with_bounds(*row) for row in rows_of(frame, "value", "low", "high")])
    rows = [
        {"Where": _capital(str(place))}
        | {_capital(short(name)): cells.get(name, NOTHING) for name in in_order(frame["intervention"], PARTS)}
        for place, own in frame.groupby("place", sort=False)
        for cells in [dict(rows_of(own, "intervention", "cell"))]
    ]
    return pd.DataFrame(rows)


def places_frame(result: Result) -> Frame:
    """Return one row a kind of gaps at which alone a suite froze all layers to their means.

    The change there, at as many random gaps, and by how much the first is more, each with its interval.
    """
    frame = _at_place(whole_frame(result), ("all", -1, -1))
    frame = frame.iloc[:0] if _main_where(whole_frame(result)) else frame
    there = frame[frame["intervention"] == "mean"].set_index("where")
    more = frame[frame["intervention"] == BEYOND].set_index("where")
    gaps = table_of(result, "places")
    n_gaps = dict(rows_of(gaps, "where", "n_gaps")) if len(gaps) else {}
    names = ("value", "low", "high")
    rows = [
        {"where": where, "n_gaps": int(n_gaps.get(where, 0))}
        | {name: there.loc[where, name] for name in names}
        | {f"random_{name}": there.loc[RANDOM + where, name] for name in names}
        | {f"more_{name}": more.loc[where, name] for name in names}
        for where in there.index
        if RANDOM + where in there.index and where in more.index
    ]
    columns = ["where", "n_gaps", *(f"{p}{name}" for p in ("", "random_", "more_") for name in names)]
    return pd.DataFrame(rows, columns=columns)


def places_table(frame: Frame) -> Frame:
    """Return `places_frame` as strings."""
    found = {
        "To layer's mean at": [where_name(where) for where in frame["where"]],
        "Gaps": [f"{n:,}" if n else NOTHING for n in frame["n_gaps"]],
    }
    for heading, prefix in (
        ("Change", ""), ("At as many random gaps", "random_"), ("Difference", "more_")
    ):  # fmt: skip
        rows = rows_of(frame, *(f"{prefix}{name}" for name in ("value", "low", "high")))
        found[heading] = [with_bounds(*row) for row in rows]
    return pd.DataFrame(found)


def scale_frame(result: Result) -> Frame:
    """Return the change against the factor, where several were tried, layer 0 first and all layers last.

    Factor 1 changes nothing by definition; it is there with 0 where the result leaves it out.
    """
    frame = _at_main_where(whole_frame(result))
    frame = frame[(frame["intervention"] == "scale") & frame["design"].isin(("single", "all"))]
    frame = frame[(frame["head"] < 0) & (frame.groupby("place")["parameter"].transform("nunique") > 1)]
    known = frame.loc[frame["parameter"] == 1.0, "place"]
    neutral = frame[~frame["place"].isin(known)].drop_duplicates("place")
    neutral = neutral.assign(parameter=1.0, value=0.0, low=0.0, high=0.0)
    return _by_depth(pd.concat([frame, neutral], ignore_index=True), "parameter")


def cumulative_frame(result: Result, intervention: str) -> Frame:
    """Return the change by layer for layers 0 to it, it to the last, all but it, and it alone beside."""
    frame = _at_main_where(whole_frame(result))
    frame = frame[
        (frame["intervention"] == intervention) & frame["design"].isin(DESIGNS) & (frame["head"] < 0)
    ]
    return frame.iloc[:0] if (frame["design"] == "single").all() else frame.sort_values(["design", "layer"])


def groups_frame(result: Result, of: str) -> Frame:
    """Return where in the text the change falls, of all layers (or the only place there is).

    Args:
        result: A result of kind "ablate".
        of: "byte_class" of the predicted byte, "language", or a label of the table `distances`: bytes since
            its last boundary, 0 the boundary's own byte.

    Returns:
        The columns of `changes_frame`, with `group` in words and `at`, its place in the order of the page.
    """
    frame = changes_frame(result, CHANGE, "ablations" if of in ("byte_class", "language") else "distances")
    is_all = frame["language"] == _language_of(frame)
    if of == "byte_class":
        frame = frame[is_all & (frame["byte_class"] != _ALL)]
        groups, order = frame["byte_class"].tolist(), CLASS_ORDER
    elif of == "language":
        frame = frame[(frame["language"] != _ALL) & (frame["byte_class"] == _ALL)]
        frame = frame if frame["language"].nunique() > 1 else frame.iloc[:0]
        groups = [LANGUAGES.get(code) or code for code in frame["language"]]
        order = tuple(LANGUAGES.values())
    else:
        frame = frame[is_all & (frame["label"] == of)]
        frame = frame.sort_values("distance", kind="stable") if len(frame) else frame
        groups = [_bin(*ends) for ends in rows_of(frame, "distance", "distance_high")] if len(frame) else []
        order = ()
    frame = frame.assign(group=pd.Series(groups, index=frame.index, dtype="str"))
    frame = _at_place(_at_main_where(frame), _main_place(result))
    chosen = [name for name in MAIN if (frame["intervention"] == name).any()]
    chosen = chosen or in_order(frame["intervention"], ORDER)[:3]
    frame = frame[frame["intervention"].isin(chosen)]
    frame = frame[frame["parameter"].isna() | (frame["parameter"] == frame["parameter"].max())]
    at = {name: i for i, name in enumerate(in_order(frame["group"], order))}
    return frame.assign(at=frame["group"].map(at)).sort_values(["intervention", "at"], kind="stable")


def _bin(low: Any, high: Any) -> str:
    if not is_number(high):
        return f"{int(low)} or more"
    return f"{int(low)}" if low == high else f"{int(low)} to {int(high)}"


def distance_labels(result: Result) -> list[str]:
    """Return the labels that distances were measured from."""
    return list(dict.fromkeys(changes_frame(result, CHANGE, "distances")["label"]))


def attention_frame(result: Result, intervention: str, metric: str) -> Frame:
    """Return where each head looks before and after an intervention on all layers.

    `value` is after, `low` and `high` bound the `change`; of `shows`, "worse" stands for more here.
    """
    table = table_of(result, "attention")
    names = ["intervention", "layer", "head", "before", "value", "change", "low", "high", "shows"]
    if table.empty:
        return pd.DataFrame(columns=names)
    table = table[(table["metric"] == metric) & (table["language"] == _language_of(table))]
    columns = {"value": "value", "change": "change", "change_low": "low", "change_high": "high"}
    table = table.drop(columns=["low", "high"], errors="ignore").rename(columns=columns)
    table = table.assign(**{name: numbers(table[name]) for name in columns.values()})
    before = table[table["intervention"] == UNTOUCHED].set_index(["layer", "head"])["value"].rename("before")
    frame = table[table["intervention"] == intervention].join(before, on=["layer", "head"])
    frame = frame.assign(shows=shown_by(frame["low"], frame["high"]))
    return frame.sort_values(["layer", "head"], ignore_index=True)[names]


def count(frame: Frame) -> dict[str, int]:
    """Return of how many rows the interval shows what; see `shown_by`."""
    return {name: int((frame["shows"] == name).sum()) for name in (WORSE, BETTER, OPEN, UNKNOWN)}


def interventions(result: Result) -> list[str]:
    """Return the interventions that have something of their own on the page, the headline first."""
    frame = _at_main_where(whole_frame(result))
    found = [*frame.loc[frame["design"].isin(DESIGNS[:3]), "intervention"]]
    for name in ("attention", "examples"):
        found += table_of(result, name).get("intervention", pd.Series(dtype="str")).astype(str).tolist()
    return [name for name in in_order(found, MAIN) if name != UNTOUCHED]


def examples_frame(result: Result, intervention: str) -> Frame:
    """Return the characters around the targets that lose most, in the order they are read.

    `shade` goes by the root of |value| over the largest of the same place; `is_warm` is predicted worse.
    """
    table = table_of(result, "examples")
    if table.empty:
        return table
    table = table[table["intervention"] == intervention]
    frame = table.assign(**{name: numbers(table[name]) for name in ("value", "loss", "ablated")})
    largest = frame["value"].abs().groupby(frame["layers"]).transform("max")
    share = (frame["value"].abs() / largest.where(largest > 0)).fillna(0.0)
    shade = np.rint(np.sqrt(share) * (N_SHADES - 1)).astype(int)
    frame = frame.assign(shade=shade, is_warm=frame["value"] > 0, is_all=frame["layers"] == "all")
    order = ["is_all", "layer", "rank", "offset"]
    return frame.sort_values(order, ascending=[False, True, True, True], kind="stable", ignore_index=True)


def example_strips(result: Result, intervention: str) -> list[tuple[str, list[Strip]]]:
    """Return each place of an intervention that has examples, with its strips of text; all layers first."""
    frame = examples_frame(result, intervention)
    found = []
    for layers, own in frame.groupby("layers", sort=False) if len(frame) else ():
        place = "all layers" if layers == "all" else f"layer {layers}"
        found.append((place, [_strip(rows) for _, rows in own.groupby("rank")]))
    return found


def _strip(rows: Frame) -> Strip:
    said = {
        offset: f"{number(loss)} → {number(ablated)} ({change(value, 2)})"
        for offset, value, loss, ablated in rows_of(rows, "offset", "value", "loss", "ablated")
    }
    cells = [
        Cell(visible(text), f"{described(text)}, {said[offset]} nats", shade, offset == 0, is_warm=is_warm)
        for text, shade, is_warm, offset in rows_of(rows, "text", "shade", "is_warm", "offset")
    ]
    where = f"{rows['document'].iloc[0]}, character {int(rows['character'].iloc[0]):,}"
    return Strip(f"{said.get(0, NOTHING)} nats", where, cells)


def increments_table(result: Result) -> Frame:
    """Return the increments of the fit text as strings."""
    table = table_of(result, "increments")
    if table.empty:
        return table
    return pd.DataFrame({
        "Where": [_capital(place_name("single", "", *key)) for key in rows_of(table, "layer", "head")],
        "Mean": [number(value, 3) for value in table["mean"]],
        "S.d.": [number(value, 3) for value in table["sd"]],
        "Lexical share": [f"{100 * v:.0f} %" if is_number(v) else NOTHING for v in table["lexical_share"]],
        "Increments": [f"{int(n):,}" if is_number(n) else NOTHING for n in table["n"]],
    })  # fmt: skip


def passes_table(result: Result) -> Frame:
    """Return the forward passes as strings."""
    table = table_of(result, "passes")
    if table.empty:
        return table
    table = table.assign(**{name: table[name].astype(str).replace("nan", "") for name in ("layers", "where")})
    return pd.DataFrame({
        "Intervention": [short(str(name), by) for name, by in rows_of(table, "intervention", "parameter")],
        "Layers": [
            f"{layers or NOTHING}{f', head {head}' if head >= 0 else ''}"
            for layers, head in rows_of(table, "layers", "head")
        ],
        "At": [where or "everywhere" for where in table["where"]],
        "Blocks run": [f"{int(n):,}" for n in table["blocks_run"]],
        "Blocks saved": [f"{int(n):,}" for n in table["blocks_saved"]],
    })  # fmt: skip


def unknown_interventions(result: Result) -> list[str]:
    """Return what the result holds and the page does not know, and so does not draw."""
    names = dict.fromkeys(whole_frame(result)["intervention"])
    return [name for name in names if name not in (*ORDER, *PARTS, BEYOND)]
