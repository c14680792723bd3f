"""Changes as text, and the scale on which both 0.001 and 2 nats can be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from lrope_interp.reports.kit.wording import NOTHING, is_number

LINEAR = 0.005  # the scale is even in the value below this, and even in ratios far above it
_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def digits_of(value: Any) -> int:
    """Return how many places a change is written with: the fewer, the larger it is."""
    size = abs(float(value)) if is_number(value) else 0.0
    return 2 if size >= 1 else 3 if size >= 0.1 else 4


def change(value: Any, digits: int | None = None) -> str:
    """Format a change with its sign, U+2212 for minus; what rounds to nothing has no sign."""
    if not is_number(value):
        return NOTHING
    text = f"{float(value):+.{digits_of(value) if digits is None else digits}f}"
    return text.replace("-", "−") if any(c in "123456789" for c in text) else text[1:]


def bounds(low: Any, high: Any, digits: int) -> str:
    """Format the interval of a change, or say that there is none."""
    if not (is_number(low) and is_number(high)):
        return "[no interval]"
    return f"[{change(low, digits)}, {change(high, digits)}]"


def with_bounds(value: Any, low: Any, high: Any) -> str:
    """Format a change and its interval, to the same number of places."""
    digits = digits_of(value)
    return f"{change(value, digits)} {bounds(low, high, digits)}"


def squeezed(values: Any) -> Float[np.ndarray, "..."]:
    """Put changes on a scale even in the value near 0, in ratios far from it: `asinh(value / 0.005)`."""
    return np.asarray(np.arcsinh(np.asarray(values, dtype=float) / LINEAR))


def squeezed_ticks(low: float, high: float, least: float = 0.003) -> tuple[list[float], list[str]]:
    """Return where ticks stand on that scale, and what they say.

    Args:
        low: The smallest change shown.
        high: The largest change shown.
        least: Ticks nearer to 0 than this are left out.
    """
    sizes = [tick for tick in _TICKS if tick >= least]
    every = [-tick for tick in reversed(sizes)] + [0.0] + sizes
    ticks = [tick for tick in every if low <= tick <= high]
    return squeezed(ticks).tolist(), [f"{tick:+g}".replace("-", "−") if tick else "0" for tick in ticks]
