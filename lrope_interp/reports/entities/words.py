"""What the tests of names say, in sentences."""

from __future__ import annotations

from lrope_interp.reports.entities.frames import INCREMENTS, TESTS, Test, named_test, place_name, test_frame
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.wording import interval, is_number, listed, number
from lrope_interp.results import Result

_SHOWN = ("smaller", "larger")
_NOT_MADE = {"chinese": "not made: the text has no Chinese words with tags"}


def sentences(result: Result) -> list[tuple[str, str]]:
    """Return a title and what it says, a test; a last one says how far the tests agree."""
    lines = [(test.title, sentence(result, test)) for test in TESTS]
    return [*lines, ("Together", together(result))]


def sentence(result: Result, test: Test) -> str:
    """Say in which layers a test shows something, in which a control does as well, and where nothing."""
    own = _increments(result, test)
    if own.empty:
        return _NOT_MADE.get(test.name, "not made: the text has no English pairs of words") + "."
    parts = [
        f"{_names(own, verdict)}: {_MEANING[test.name][verdict]} ({_numbers(own, verdict)})"
        for verdict in _SHOWN
        if (own["verdict"] == verdict).any()
    ]
    if (own["verdict"] == _CONTROL).any():
        parts.append(
            f"{_names(own, _CONTROL)}: the interval leaves {test.null:g} out, but a control does as much "
            f"({_numbers(own, _CONTROL)}), which is no evidence"
        )
    for verdict, words in _NOTHING.items():
        if (own["verdict"] == verdict).any():
            parts.append(f"{_names(own, verdict)}: {words}")
    return "; ".join(parts) + "."


def together(result: Result) -> str:
    """Say in which layers both corrected English tests agree, and what the published one says there."""
    found = {
        name: {
            (int(line.layer), int(line.head)): str(line.verdict)
            for line in _increments(result, named_test(name)).itertuples(index=False)
        }
        for name in ("regression", "matched")
    }
    if not found["regression"] or not found["matched"]:
        return "without English text the tests cannot be held against each other."
    same = [
        place
        for place, verdict in found["regression"].items()
        if verdict in _SHOWN and found["matched"].get(place) == verdict
    ]
    own = _increments(result, named_test("reversed"))
    own = own[own["p"] < _LEVEL]
    published = [(int(line.layer), int(line.head)) for line in own.itertuples(index=False)]
    told = listed([place_name(*place) for place in published]) if published else "no layer"
    first = f"the published test finds names in {told} by its own measure (p < {_LEVEL:g}, no controls)"
    if not same:
        return f"{first}; in no layer do both corrected English tests show an effect beyond the controls."
    agreed = listed([f"{place_name(*place)} ({found['regression'][place]})" for place in same])
    return f"{first}; both corrected English tests show an effect in {agreed}."


_LEVEL = 0.05
_CONTROL = "control finds it too"
_NOTHING = {
    "not shown": "not shown, the interval holds no effect",
    "constant": "nothing varies there, so there is nothing to test",
    "not measured": "not measured, too few names for an interval",
}
_MEANING = {
    "reversed": {"smaller": "smaller in the real order", "larger": "larger in the real order"},
    **{
        name: {"smaller": "increments are smaller in names", "larger": "increments are larger in names"}
        for name in ("regression", "matched", "chinese")
    },
}


def _increments(result: Result, test: Test) -> Frame:
    frame = test_frame(result, test)
    return frame[frame["signal"] == INCREMENTS]


def _names(own: Frame, verdict: str) -> str:
    chosen = own[own["verdict"] == verdict]
    if (own["head"] < 0).all():
        layers = [str(layer) for layer in chosen["layer"]]
        return f"layer{'s' if len(layers) > 1 else ''} {listed(layers)}"
    heads = [f"{line.layer}.{line.head}" for line in chosen.itertuples(index=False)]
    return f"head{'s' if len(heads) > 1 else ''} {listed(heads)}"


def _numbers(own: Frame, verdict: str) -> str:
    chosen = own[own["verdict"] == verdict].itertuples(index=False)
    return listed([with_interval(line.value, line.low, line.high) for line in chosen])


def with_interval(value: float, low: float, high: float) -> str:
    """Format a number and its interval, where it has one; small ones with more digits."""
    largest = max((abs(one) for one in (value, low, high) if is_number(one)), default=0.0)
    digits = 5 if 0 < largest < 0.01 else 3
    if not is_number(value):
        return number(value)
    return f"{number(value, digits)} {interval(low, high, digits)}".strip()
