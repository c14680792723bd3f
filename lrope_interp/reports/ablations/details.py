"""The later sections of the ablation page: which predictions change, what attention does, examples."""

from __future__ import annotations

from lrope_interp.reports.ablations.attention import (
    METRICS,
    attended_interventions,
    attention_frame,
    attention_sentence,
    plot_attention,
)
from lrope_interp.reports.ablations.frames import main_place, place_name, whole_frame
from lrope_interp.reports.ablations.groups import (
    classes_change_frame,
    distance_labels,
    distances_frame,
    languages_change_frame,
    plot_groups,
)
from lrope_interp.reports.ablations.names import short
from lrope_interp.reports.ablations.strips import example_strips
from lrope_interp.reports.kit.blocks import Block, Folded, Plot, Prose
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.results import Result

_AGAIN = "Read as the first."


def group_blocks(result: Result) -> list[Block]:
    """Return where in the text the change falls: classes, distances, languages."""
    place = _place(result)
    found = [
        (classes_change_frame(result), "class, and how many", "By class of the predicted byte", _CLASSES)
    ]
    for label in distance_labels(result):
        words = label.replace("_", " ")
        title = f"By distance since the last boundary: {words}"
        found.append((distances_frame(result, label), "bytes since, and how many", title, _DISTANCE))
    found.append((languages_change_frame(result), "language, and how many", "By language", _LANGUAGES))
    blocks: list[Block] = []
    for frame, heading, title, about in found:
        if frame.empty:
            continue
        reads = _GROUP_READS.format(place=place) if not blocks else _AGAIN
        limits = f"{_GROUP_LIMITS} {about}" if not blocks else about
        blocks.append(Plot(plot_groups(frame, heading), reads, limits, title, 240 + 130 * _n_panels(frame)))
    return blocks


def _n_panels(frame: Frame) -> int:
    return int(frame["intervention"].nunique())


def _place(result: Result) -> str:
    frame = whole_frame(result)
    design, layer, head = main_place(frame)
    return place_name(design, str(layer), layer, head)


_GROUP_READS = (
    "The change in nats per byte, {place}, with 95 % intervals; each panel has an axis of its own, so "
    "compare within a panel. Grey bars: the interval holds 0; pale ones have no interval. Grey numbers count "
    "predictions."
)
_GROUP_LIMITS = "No interval is corrected for the number of rows."
_CLASSES = "A class that is hard to predict has more to lose; rare ones have wide intervals or none."
_LANGUAGES = "Languages differ in their loss before, so that a larger change need not be a larger share."
_DISTANCE = "Distance 0 is the boundary's own byte; bytes far from a boundary are another kind of text."


def attention_blocks(result: Result) -> list[Block]:
    """Return where heads look before and after, the headline intervention first, the others folded."""
    blocks: list[Block] = []
    for i, name in enumerate(attended_interventions(result)):
        own: list[Block] = []
        for metric, title in METRICS.items():
            if attention_frame(result, name, metric).empty:
                continue
            figure = plot_attention(result, name, metric)
            reads = _ATTENTION_READS[metric] if i == 0 else _AGAIN
            limits = _ATTENTION_LIMITS[metric]
            own.append(Prose(attention_sentence(result, name, metric)))
            own.append(Plot(figure, reads, limits, f"{title}, {short(name)}", 720))
        if own:
            blocks += own if i == 0 else [Folded(f"The same, {short(name)}", own)]
    return blocks


_ATTENTION_READS = {
    "look_back": "Mean distance of attention in tokens, layer by head: untouched, with the intervention on "
    "all layers, and the change; warm looks farther back, blue less far. Grey with a dot: the interval of "
    "the change holds 0.",
    "within_word": "Share of attention that stays on the bytes of the word that the byte stands in, itself "
    "included: untouched, changed, and the change; warm is more, blue less.",
}
_ATTENTION_LIMITS = {
    "look_back": "Attention weights say where a head reads, not what that does to the prediction; and with "
    "all layers changed at once, a head also reads a changed residual stream.",
    "within_word": "A byte early in its word has little of the word behind it, so that the share depends on "
    "where words begin and on how long they are.",
}


def example_blocks(result: Result) -> list[Block]:
    """Return the targets that lose most, the headline intervention first, the others folded."""
    found = example_strips(result)
    return [
        block
        for i, (title, strips) in enumerate(found)
        for block in ([Prose(title), strips] if i == 0 else [Folded(title, [strips])])
    ]
