"""Interventions in words: short ones for figures, long ones for sentences."""

from __future__ import annotations

from lrope_interp.reports.kit.wording import is_number

_SHORT = {
    "one": "to 1",
    "mean": "to layer's mean",
    "lexical": "to byte's mean",
    "resample": "same byte, elsewhere",
    "shuffle": "shuffled",
    "shift": "shifted",
    "scale": "scaled",
    "local": "local edit",
    "local_compensated": "local edit, taken back",
    "split_scale": "scale",
    "split_lexical": "lexical",
    "split_contextual": "contextual",
    "split_total": "all of it",
    "untouched": "untouched",
}
_LONG = {
    "one": "Every increment frozen to 1",
    "mean": "Every increment frozen to its layer's mean",
    "lexical": "Every increment frozen to the mean of its byte",
    "resample": "Every increment taken from another occurrence of the same byte",
    "shuffle": "Increments shuffled within each window",
    "shift": "Increments shifted round within each window",
    "scale": "Increments scaled",
    "local": "Increments set to the layer's mean at some gaps, all that follows moved along",
    "local_compensated": "Increments set to the layer's mean at some gaps, taken back at the next token",
}
_WHERE = {
    "inside_words": "gaps inside words",
    "words": "word starts",
    "despaced": "de-spaced word starts",
    "sentences": "sentence starts",
    "lines": "line starts",
    "tokens": "token starts",
    "whitespace": "white space",
}
RANDOM = "random:"
BEYOND = "beyond_random"
_GLOSSES = {
    "one": "every increment is 1, as in ordinary RoPE: the scale goes too",
    "mean": "the mean of the layer (or head) on the fit text: all variation goes, the scale stays",
    "lexical": "the mean of each byte on the fit text: what context adds goes, what the byte says stays",
    "resample": "the increment of another occurrence of the same byte: the spread stays, its reason goes",
    "shuffle": "the window's own increments in another order (a window is what the model reads at once)",
    "shift": "the window's own increments, moved round by some tokens",
    "scale": "every increment times a number",
    "local": "the layer's mean at the gaps named and nowhere else; all that follows moves along",
    "local_compensated": "the same edits, undone at the next token, so that nothing after it moves",
}


def short(intervention: str, parameter: object = None, where: str = "") -> str:
    """Name an intervention for a figure: `to layer's mean`, `× 2`, `local edit at spaces`."""
    name = _SHORT.get(intervention, intervention.replace("_", " "))
    if intervention == "scale" and is_number(parameter):
        name = f"× {float(parameter):g}"  # pyright: ignore[reportArgumentType]
    return f"{name} at {where_name(where)}" if where else name


def long(intervention: str, parameter: object = None, where: str = "") -> str:
    """Name an intervention at the beginning of a sentence."""
    name = _LONG.get(intervention, intervention.replace("_", " ").capitalize())
    if intervention == "scale" and is_number(parameter):
        name = f"Every increment multiplied by {float(parameter):g}"  # pyright: ignore[reportArgumentType]
    return f"{name}, at {where_name(where)} only" if where else name


def where_name(where: str) -> str:
    """Name the gaps that were changed."""
    if where.startswith(RANDOM):
        return f"as many random gaps as {where_name(where.removeprefix(RANDOM))}"
    return _WHERE.get(where, where.replace("_", " "))


def glossary(interventions: list[str]) -> list[tuple[str, str]]:
    """Return what each intervention does: its name in figures, and a sentence."""
    return [(short(name), _GLOSSES[name]) for name in interventions if name in _GLOSSES]
