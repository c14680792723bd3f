"""The page of `lrope-interp study replicate`: are the arms equal, and could the experiment have told?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from lrope_interp.reports.kit.blocks import Beside, Block, Folded, Plot, Prose, Section, Table
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import NOTHING, facts, is_number, number, plural
from lrope_interp.reports.replication.figures import plot_curves, plot_differences, plot_gaps
from lrope_interp.reports.replication.frames import (
    arm_name,
    arms_frame,
    languages_frame,
    margins,
    pair_name,
    verdict_frame,
)
from lrope_interp.reports.replication.words import between, percent, sentences, signed
from lrope_interp.results import Result

__all__ = ["plot_curves", "plot_differences", "plot_gaps", "render_replication", "sentences"]

PUBLISHED = (
    ("fixed", "1.0753"),
    ("shared", "1.0747"),
    ("shared per head", "1.0740"),
    ("per layer (two seeds)", "1.0722, 1.0712"),
    ("per layer per head", "1.0701"),
)
"""Validation loss in nats per byte, as the public experiment behind the blog post gives it."""


def render_replication(result: Result) -> str:
    """Render the page of a replicate result, from the saved result alone."""
    known = facts(result.provenance, result.created)
    return Page(
        title="Do learned increments cost anything?",
        kicker="lrope-interp study replicate",
        lead=[(f"{title[0].upper()}{title[1:]}", text) for title, text in sentences(result)],
        facts={**_experiment(result), **known},
        warnings=result.warnings,
        sections=[
            Section("Paired differences", _differences(result)),
            Section("Learning curves", _curves(result)),
            Section("The arms", _arms(result)),
            Section("Published numbers", [_published()]),
            Section("What this does not show", [Prose(text) for text in _caveats(result)]),
        ],
    ).html()


def _experiment(result: Result) -> dict[str, str]:
    config = result.provenance.get("config") or {}
    runs: Frame = result.tables["runs"]
    arms = ", ".join(arm_name(arm) for arm in dict.fromkeys(runs["arm"]))
    steps = ", ".join(f"{step:,}" for step in sorted(set(runs["n_steps"])))
    read = float(runs["bytes_read"].mean()) / 1e6
    return {
        "Arms": f"{arms}; {plural(runs['seed'].nunique(), 'seed')} each",
        "Training": f"preset {config.get('preset', '?')}, {steps} steps, {read:.1f} MB of text read a run",
    }


_DIFFERENCES_READS = (
    "A row a comparison, the loss of the first arm minus that of the second. Dots: single seeds. Ring: "
    "their mean; thick: its 90 % interval, thin: 95 %. Shaded: the margins. A thick bar wholly inside a "
    "margin is equivalent at that margin."
)
_DIFFERENCES_LIMITS = (
    "Intervals are over seeds (t, one difference a pair); documents, corpora and lengths of training are "
    "fixed. Nothing is corrected for the number of comparisons."
)


def _differences(result: Result) -> list[Block]:
    figure = Plot(plot_differences(result), _DIFFERENCES_READS, _DIFFERENCES_LIMITS, min_width=330)
    headline = float(result.provenance["margin"])
    others = [margin for margin in margins(result) if margin != headline]
    caption = (
        f"At the margin of ±{headline:g} nats per byte. TOST: two one-sided t tests at 5 % a side; p is "
        "the larger of the two. Power: the probability of `equivalent` if the arms were equal and the s.d. "
        "were the one observed, which few seeds know badly; beside it the seeds for a power of 80 %."
    )
    rest = [
        Table(_verdicts(result, margin), f"At ±{margin:g} nats per byte.", left=_LEFT) for margin in others
    ]
    return [figure, Table(_verdicts(result, headline), caption, left=_LEFT), Folded("Other margins", rest)]


_LEFT = ("Comparison", "Verdict")


def _verdicts(result: Result, margin: float) -> Frame:
    table = verdict_frame(result, margin)
    lines = list(table.itertuples(index=False))
    return pd.DataFrame(
        {
            "Comparison": [pair_name(line.arm, line.reference) for line in lines],
            "Verdict": [_word(line) for line in lines],
            "Mean": [signed(line.mean, 5) for line in lines],
            "90 % interval": [between(line.ci90_low, line.ci90_high, 5) for line in lines],
            "95 % interval": [between(line.ci95_low, line.ci95_high, 5) for line in lines],
            "S.d.": [number(line.sd, 5) for line in lines],
            "Seeds": [f"{line.n_seeds}" for line in lines],
            "p (TOST)": [_p(line) for line in lines],
            "Power": [percent(line.power) for line in lines],
            "Seeds for 80 %": [_seeds(line) for line in lines],
        }
    )


def _word(line: Any) -> str:
    if line.verdict == "none":
        return "no verdict"
    return f"{line.verdict}, not 0" if line.verdict == "equivalent" and line.is_nonzero else line.verdict


def _p(line: Any) -> str:
    larger = max(line.p_lower, line.p_upper)
    return "< 0.0001" if larger < 1e-4 else number(larger, 4)


def _seeds(line: Any) -> str:
    if is_number(line.n_seeds_for_power):
        return f"{int(line.n_seeds_for_power):,}"
    return "> 1,000" if is_number(line.power) else NOTHING


def _curves(result: Result) -> list[Block]:
    reference = arm_name(str(result.provenance["reference"]))
    return [
        Beside(
            [
                Plot(plot_curves(result), _CURVES_READS, _CURVES_LIMITS, "Validation loss", min_width=330),
                Plot(
                    plot_gaps(result),
                    f"The same, minus {reference} of the same seed at the same step; shaded: the margin.",
                    "A difference at an early step may be one of speed alone.",
                    f"Difference from {reference}",
                    min_width=330,
                ),
            ]
        )
    ]


_CURVES_READS = "Thin: single runs; thick: the mean of an arm's seeds. A click on a name hides an arm."
_CURVES_LIMITS = (
    "This is the validation of training: 100 kB, an equal share a language, in the dtype of training. The "
    "verdict rests on the full validation set in float32."
)


def _arms(result: Result) -> list[Block]:
    arms, reference = arms_frame(result), arm_name(str(result.provenance["reference"]))
    lines = list(arms.itertuples(index=False))
    table = pd.DataFrame(
        {
            "Arm": [arm_name(line.arm) for line in lines],
            "Parameters": [f"{line.n_parameters:,}" for line in lines],
            f"Beyond {reference}": [f"{line.extra_parameters:+,}" for line in lines],
            "Nats per byte": [number(line.mean, 4) for line in lines],
            "S.d. over seeds": [number(line.sd, 4) for line in lines],
            "Train, nats per token": [number(line.train_loss, 4) for line in lines],
            "Steps": [f"{line.n_steps:,}" for line in lines],
            "MB read": [number(line.bytes_read / 1e6, 2) for line in lines],
        }
    )
    caption = (
        "Means over seeds, on the full validation set. The s.d. of an arm holds what all arms of a seed "
        "share; the differences above do not. `fixed wide` has MLP units in the place of increment heads."
    )
    blocks: list[Block] = [Table(table, caption, left=["Arm"])]
    languages = languages_frame(result)
    if len(languages.columns) > 2:
        shown = pd.DataFrame(
            {
                "Arm": [arm_name(arm) for arm in languages["arm"]],
                **{
                    f"{name}, nats per byte": [number(value, 4) for value in languages[name]]
                    for name in languages.columns[1:]
                },
            }
        )
        blocks.append(Table(shown, "By language; the verdict is on all bytes together.", left=["Arm"]))
    return blocks


def _published() -> Table:
    frame = pd.DataFrame(PUBLISHED, columns=["Arm", "Validation loss, nats per byte"])
    caption = (
        "As published with the blog post “How Far Apart Does a Model Think Its Tokens Are?” (June 2026), not "
        "measured here: 6 layers, 256 wide, 8 heads, English and Chinese Wikipedia, 50,000 steps of 64 x 512 "
        "bytes, one run an arm but where said, no intervals. Another text and more training: compare the "
        "order of the arms and the size of their differences, not the level."
    )
    return Table(frame, caption, left=["Arm"])


def _caveats(result: Result) -> list[str]:
    runs: Frame = result.tables["runs"]
    config, data = result.provenance.get("config") or {}, result.provenance.get("data") or {}
    read = float(runs["bytes_read"].mean()) / 1e6
    return [
        f"One corpus ({data.get('name', '?')}), one shape and one length: preset "
        f"{config.get('preset', '?')}, {read:.1f} MB read a run. Longer training, larger models "
        "and other texts may differ.",
        "The unit is the pair of runs that share a seed. How much the difference would move with other "
        f"validation documents is not in the intervals; these are the same {data.get('n_documents', '?')} "
        "documents throughout.",
        "An equal loss says nothing on what increments are used for, and a lower one not why it is lower.",
        "Time and memory are not compared here: lrope-interp study context does that.",
    ]
