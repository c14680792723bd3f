"""The cost of learned increments in words, the same on the page and in the terminal."""

from __future__ import annotations

from typing import Any

from lrope_interp.reports.context.frames import arm_word, main_arm, phase_frame
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.wording import NOTHING, is_number, listed
from lrope_interp.results import Result

TARGET_CONTEXT = 131_072
_TIMES = (
    ("forward", "A forward pass"),
    ("increment_path", "The increment path by itself, set against a forward pass"),
    ("train_step", "A training step"),
    ("decode", "Decoding one token"),
)


def sentences(result: Result) -> list[tuple[str, str]]:
    """Say what the main arm costs at each length, and how that stands to what was asked."""
    arm = main_arm(result)
    times = [f"{title}: {said}" for phase, title in _TIMES if (said := _ratios(result, arm, phase))]
    memory = _ratios(result, arm, "forward", "peak_ratio")
    found = [("Parameters", f"{arm_word(arm).capitalize()} increments add {_parameters(result, arm)}.")]
    if times:
        found.append((f"Time of {arm_word(arm)} against fixed RoPE", f"{'. '.join(times)}."))
    if memory:
        found.append(("Peak memory of a forward pass", f"{memory}."))
    return [*found, ("Asked for", targets(result))]


def _ratios(result: Result, arm: str, phase: str, column: str = "ratio_to_fixed") -> str:
    """List an arm's ratios to fixed RoPE by length, as shares; "" where there are none."""
    rows = phase_frame(result, phase)
    own = rows[(rows["arm"] == arm) & rows[column].notna()]
    return listed([f"{signed(getattr(row, column) - 1)} at {row.context:,}" for row in own.itertuples()])


def targets(result: Result) -> str:
    """Say for every target what was found, and whether it is met."""
    table: Frame = result.tables["targets"]
    context = int(table["context"].iloc[0])
    lines = "; ".join(target_words(line) for line in table.itertuples(index=False))
    if context == TARGET_CONTEXT:
        return f"At {context:,} tokens: {lines}."
    return f"The targets are for {TARGET_CONTEXT:,} tokens, so {context:,} give no verdict; here: {lines}."


def target_words(line: Any) -> str:
    """Say one target: what was found, what was asked, and the verdict where there is one."""
    verdict = "" if line.verdict == "none" else f": {line.verdict}"
    if line.target == "angle":
        return f"largest angle error {radians(line.value)} (asked: at most {radians(line.limit)}){verdict}"
    what = {"time": "time of the increment path", "memory": "peak memory of a forward pass"}[line.target]
    asked = f"(asked: under {100 * line.limit:g} %)"
    return f"{arm_word(line.arm)}, {what} {signed(line.value)} {asked}{verdict}"


def signed(value: Any) -> str:
    """Format a share with its sign, in per cent; two decimals below one per cent."""
    if not is_number(value):
        return NOTHING
    percent = 100 * float(value)
    if abs(percent) < 0.005:
        return "0.00 %"
    return f"{percent:+.{1 if abs(percent) >= 1 else 2}f} %".replace("-", "−")


def share(value: Any) -> str:
    """Format a share in per cent, without a plus."""
    return signed(value).removeprefix("+")


def radians(value: Any) -> str:
    """Format an angle's error."""
    return f"{float(value):.1e} rad".replace("e-0", "e-") if is_number(value) else NOTHING


def bracketed(low: Any, high: Any) -> str:
    """Format the interval of a ratio as shares, or nothing where there is none."""
    return f"[{signed(low - 1)}, {signed(high - 1)}]" if is_number(low) and is_number(high) else ""


def _parameters(result: Result, arm: str) -> str:
    arms: Frame = result.tables["arms"].set_index("arm")
    own, others = arms.loc[arm], [name for name in arms.index if name not in ("fixed", arm)]
    rest = [f"{arm_word(name)} {int(arms.loc[name, 'extra']):,}" for name in others]
    beside = f"; {listed(rest)}" if rest else ""
    fixed = int(arms.loc["fixed", "n_parameters"])
    return f"{int(own.extra):,} parameters to {fixed:,}, {share(own.extra_share)}{beside}"
