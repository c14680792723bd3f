"""The verdicts of a paired experiment in words, the same on the page and in the terminal."""

from __future__ import annotations

from typing import Any

from lrope_interp.reports.kit.wording import NOTHING, is_number, number, plural
from lrope_interp.reports.replication.frames import arm_name, verdict_frame
from lrope_interp.results import Result


def sentences(result: Result) -> list[tuple[str, str]]:
    """Say every verdict at the headline's margin: the comparison, and what was found."""
    return [
        (f"{arm_name(line.arm)} against {arm_name(line.reference)}", _sentence(line))
        for line in verdict_frame(result).itertuples(index=False)
    ]


def _sentence(line: Any) -> str:
    seeds = f"over {plural(int(line.n_seeds), 'paired seed')}"
    mean = f"mean difference {signed(line.mean)} nats per byte {seeds}"
    if line.verdict == "none":
        return (
            f"No verdict: {mean}, and one pair does not tell how far another would be from it. "
            "Use --seeds 5 or more."
        )
    within = f"90 % interval {between(line.ci90_low, line.ci90_high)}"
    wide = f"95 % interval {between(line.ci95_low, line.ci95_high)}"
    direction = "better" if line.mean < 0 else "worse"
    if line.verdict == "equivalent" and line.is_nonzero:
        return (
            f"Equivalent, yet not identical: {mean}; the {within} lies within ±{line.margin:g}, and the "
            f"{wide} leaves out 0. The arm is {direction}, by less than the margin."
        )
    if line.verdict == "equivalent":
        return f"Equivalent: {mean}; the {within} lies within ±{line.margin:g}."
    if line.verdict == "different":
        size = (
            ""
            if abs(line.mean) >= line.margin
            else ", though by less than the margin as far as the mean goes"
        )
        return (
            f"Different: the arm is {direction}{size}: {mean}; the {wide} leaves out 0, and the {within} "
            f"does not lie within ±{line.margin:g}."
        )
    return (
        f"Inconclusive: {mean}; the {within} does not lie within ±{line.margin:g}, and the {wide} holds 0. "
        f"{_power(line)}"
    )


def _power(line: Any) -> str:
    needed = (
        f"{int(line.n_seeds_for_power):,} seeds would find it in 80 %"
        if is_number(line.n_seeds_for_power)
        else "not even 1,000 seeds would find it in 80 %"
    )
    return (
        f"If the arms were equal and differences spread as they do here (s.d. {number(line.sd, 4)}), "
        f"{plural(int(line.n_seeds), 'seed')} would find it in {percent(line.power)} of experiments; "
        f"{needed}."
    )


def signed(value: Any, digits: int = 4) -> str:
    """Format a difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", "−") if is_number(value) else NOTHING


def between(low: Any, high: Any, digits: int = 4) -> str:
    """Format an interval of differences, or a dash where there is none."""
    return f"[{signed(low, digits)}, {signed(high, digits)}]" if is_number(low) else NOTHING


def percent(share: Any) -> str:
    """Format a share in per cent, or a dash where there is none."""
    if not is_number(share):
        return NOTHING
    return "under 1 %" if share < 0.01 else f"{100 * float(share):.0f} %"
