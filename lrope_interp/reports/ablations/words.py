"""The findings of an ablation study in sentences, with an interval or without a verdict."""

from __future__ import annotations

from lrope_interp.reports.ablations.frames import (
    BETTER,
    OPEN,
    UNKNOWN,
    WORSE,
    at_main_where,
    at_place,
    base_frame,
    find,
    interventions_of,
    language_of,
    main_place,
    main_where,
    untouched_loss,
    whole_frame,
)
from lrope_interp.reports.ablations.names import long, short, where_name
from lrope_interp.reports.ablations.numbers import digits_of, with_bounds
from lrope_interp.reports.ablations.split import split_frame
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.wording import interval, is_number, listed, number
from lrope_interp.results import Result

_NAMED_LAYERS = 4


def sentences(result: Result) -> list[tuple[str, str]]:
    """Say what the interventions cost, where, and how the cost splits; the first words are a heading."""
    frame = at_main_where(whole_frame(result))
    found = [("Untouched", _untouched(result))]
    place = main_place(whole_frame(result))
    own = at_place(frame, place)
    for name in _told(own):
        found.append((_heading(name, own), cost_sentence(find(own, name).iloc[0], untouched_loss(result))))
    found += [("Where", said)] if (said := where_sentence(frame)) else []
    found += [("The split", said)] if (said := split_sentence(result)) else []
    found += [("Context", said)] if (said := context_sentence(result)) else []
    return [(heading, text) for heading, text in found if text]


def _told(own: Frame) -> list[str]:
    """Return the headline and the freeze to 1; of a result without them, the first two there are."""
    names = interventions_of(own)
    return [name for name in ("mean", "one") if name in names] or names[:2]


def _heading(name: str, own: Frame) -> str:
    row = find(own, name).iloc[0]
    text = short(name, row["parameter"], str(row["where"]))
    return text[0].upper() + text[1:]


def _untouched(result: Result) -> str:
    frame = base_frame(result)
    own = frame[frame["language"] == language_of(frame)]
    if own.empty or not is_number(own["value"].iloc[0]):
        return ""
    row = own.iloc[0]
    spread = interval(row["low"], row["high"]) or "(no interval)"
    where = main_where(whole_frame(result))
    only = f" Increments were changed at {where_name(where)} only." if where else ""
    return (
        f"{number(row['value'], 3)} nats per byte {spread} over {int(row['n']):,} bytes; a change is "
        f"ablated minus untouched on the same bytes, so higher is worse.{only}"
    )


def cost_sentence(row: Row, untouched: float) -> str:
    """Say what one intervention costs, and what its interval shows."""
    place = str(row["place"])
    start = f"{long(str(row['intervention']), row['parameter'], str(row['where']))}, {_in(place)}"
    changes = f"{with_bounds(row['value'], row['low'], row['high'])} nats per byte"
    size = f"{_size(row)} nats per byte"
    share = _share(float(row["value"]), untouched)
    if row["shows"] == WORSE:
        return f"{start}: the loss rises by {size}{share}. {_MEANING.get(row['intervention'], '')}".strip()
    if row["shows"] == BETTER:
        return f"{start}: the loss falls by {size}{share}: the model predicts better without."
    if row["shows"] == UNKNOWN:
        return f"{start}: {changes}{share}. No interval could be had, so there is no verdict."
    if row["low"] == row["high"] == 0:
        return f"{start}: nothing changes, exactly."
    return f"{start}: {changes}{share}. The interval holds 0: no effect is shown."


_MEANING = {
    "mean": "So much rests on the increments not being the same everywhere.",
    "one": "This takes away the scale as well, and so leaves what the trained model is used to.",
}


def _share(value: float, untouched: float) -> str:
    if not (is_number(untouched) and untouched > 0):
        return ""
    percent = 100 * value / untouched
    if abs(percent) < 0.05:
        return " (under 0.1 % of the untouched loss)"
    text = f"{percent:+.{0 if abs(percent) >= 20 else 1}f}".replace("-", "−")
    return f" ({text} % of the untouched loss)"


def _size(row: Row) -> str:
    """Format a change that has a direction without its sign, the interval's lower end first."""
    digits, sign = digits_of(row["value"]), -1 if row["value"] < 0 else 1
    low, high = sorted((sign * float(row["low"]), sign * float(row["high"])))
    return f"{number(sign * row['value'], digits)} [{number(low, digits)}, {number(high, digits)}]"


def _in(place: str) -> str:
    return f"in {place}" if place != "all layers" else "in all layers at once"


def where_sentence(frame: Frame) -> str:
    """Say which single layers matter by their intervals, which help when frozen, and which show nothing."""
    singles = frame[(frame["design"] == "single") & (frame["head"] < 0)]
    names = [name for name in interventions_of(singles) if find(singles, name)["layer"].nunique() > 1]
    told = [name for name in ("mean", "one") if name in names] or names[:1]
    parts = [_where(find(singles, name), name) for name in told]
    return f"{' '.join(parts)} No interval is corrected for the number of layers." if parts else ""


def _where(rows: Frame, name: str) -> str:
    rows = rows.sort_values("layer").drop_duplicates("layer")
    parts = []
    for shows, verb in ((WORSE, "costs"), (BETTER, "helps")):
        own = rows[rows["shows"] == shows]
        if len(own):
            many = "cost" if verb == "costs" else "help"
            parts.append(f"{_layers(own)} {verb if len(own) == 1 else many}")
    n_open, n_unknown = int((rows["shows"] == OPEN).sum()), int((rows["shows"] == UNKNOWN).sum())
    if n_unknown == len(rows):
        return f"One layer at a time, {short(name)}: no layer has an interval, so nothing is said of where."
    if n_open:
        whole = "all" if n_open == len(rows) else f"{n_open} of"
        have = "has an interval that holds" if n_open == 1 < len(rows) else "have intervals that hold"
        parts.append(f"{whole} {len(rows)} layers {have} 0")
    if n_unknown:
        parts.append(f"{n_unknown} without an interval")
    return f"One layer at a time, {short(name)}: {'; '.join(parts)}."


def _layers(rows: Frame) -> str:
    ordered = rows.loc[rows["value"].abs().sort_values(ascending=False).index]
    named = [
        f"{int(row['layer'])} ({with_bounds(row['value'], row['low'], row['high'])})"
        for _, row in ordered.head(_NAMED_LAYERS).iterrows()
    ]
    more = len(rows) - len(named)
    named += [f"{more} more"] if more else []
    return f"layer{'s' if len(rows) > 1 else ''} {listed(named)}"


def _parts(result: Result) -> Frame:
    frame = split_frame(result)
    return at_place(frame, main_place(whole_frame(result))).set_index("intervention")


def split_sentence(result: Result) -> str:
    """Say how the cost of freezing to 1 splits, and that the order of the parts is a choice."""
    parts = _parts(result)
    named = [name for name in ("split_scale", "split_lexical", "split_contextual") if name in parts.index]
    if len(named) < 3:
        return ""
    terms = [f"{short(name)} {_told_part(parts.loc[name])}" for name in named]
    total = f"{_told_part(parts.loc['split_total'])} = " if "split_total" in parts.index else ""
    place = str(parts["place"].iloc[0])
    return (
        f"Freezing to 1 {_in(place)}: {total}{' + '.join(terms)} nats per byte. Scale is what separates 1 "
        "from the layer's mean, lexical the layer's mean from the mean of each byte, contextual the byte's "
        "mean from the increments as they are. The order in which they are taken away is a choice; "
        "another order gives other parts."
    )


def _told_part(row: Row) -> str:
    return with_bounds(row["value"], row["low"], row["high"])


def context_sentence(result: Result) -> str:
    """Say whether the contextual part is above zero."""
    parts = _parts(result)
    if "split_contextual" not in parts.index:
        return ""
    row = parts.loc["split_contextual"]
    value, where = _told_part(row), _in(str(row["place"]))
    if row["shows"] == WORSE:
        return (
            f"What the increments add beyond the byte they stand at is above zero {where}: {value} nats per "
            "byte."
        )
    if row["shows"] == BETTER:
        return (
            f"The contextual part is below zero {where}, {value} nats per byte: with the mean of each byte "
            "the model predicts better than with increments that see the context."
        )
    if row["shows"] == UNKNOWN:
        return (
            f"The contextual part {where} is {value} nats per byte; without an interval that is no verdict."
        )
    return (
        f"The contextual part is not shown to be above zero {where}: {value} nats per byte. Nothing here "
        "speaks for increments that see more than their own byte."
    )
