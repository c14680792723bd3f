"""What training shows: on a terminal, in a log, and when it is asked to be quiet."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from lrope_interp.commands.output import Output
from lrope_interp.commands.progress import LINES_A_RUN, TrainingState, by_layer, clock, listen
from lrope_interp.training.events import Event, LayerIncrements, Started, Step, Validated, Warned

INCREMENTS = (LayerIncrements(0, None, 1.25, 0.5), LayerIncrements(1, None, 0.75, 0.125))


def run_of(n_steps: int) -> list[Event]:
    """What a run of `n_steps` says."""
    steps = [
        Step(step, n_steps, 2.0, 2.0 / math.log(2), 1e-3, 41_200.0, 192.0, INCREMENTS)
        for step in range(1, n_steps + 1)
    ]
    started = Started(Path("runs/x"), 0, n_steps, 1_600_000, "cpu", "float32", {"english": 0.5})
    return [started, *steps, Validated(n_steps, n_steps, 1.9, 1.9 / math.log(2), 100)]


def tell(out: Output, events: list[Event]) -> TrainingState:
    state = TrainingState()
    with listen(out, state) as on_event:
        for event in events:
            on_event(event)
    return state


def test_a_log_gets_some_lines_whatever_the_length(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Output(), run_of(1000))
    lines = capsys.readouterr().err.splitlines()
    assert LINES_A_RUN <= len([line for line in lines if line.startswith("step ")]) <= LINES_A_RUN + 2
    assert "step 1000/1000  loss 2.000 nats (2.885 bits) | 41.2 kB/s | 3:12 left" in lines
    assert "  increments  L0 1.25±0.50  L1 0.75±0.12" in lines


def test_a_terminal_gets_a_bar_with_loss_and_increments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    tell(Output(), run_of(10))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "step 10/10" in captured.err
    assert (
        "loss 2.000 nats (2.885 bits) | 41.2 kB/s | 3:12 left | validation 1.900 at step 10" in captured.err
    )
    assert "L0 1.25±0.50  L1 0.75±0.12" in captured.err


def test_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    state = tell(Output(is_quiet=True), [*run_of(3), Warned("ten epochs")])
    assert capsys.readouterr().err == "warning: ten epochs\n"
    assert state.validated is not None


def test_heads_are_pooled_to_the_mean_and_spread_of_all_tokens() -> None:
    import numpy as np

    draw = np.random.default_rng(0).normal([1.0, 3.0], [0.5, 0.25], size=(1000, 2))
    heads = [
        LayerIncrements(0, head, float(draw[:, head].mean()), float(draw[:, head].std())) for head in (0, 1)
    ]
    ((layer, mean, sd),) = by_layer(heads)
    assert layer == 0
    assert (mean, sd) == pytest.approx((draw.mean(), draw.std()))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (192, "3:12"), (4000, "1:06:40"), (math.inf, "?")]
)
def test_time_left_reads_as_a_clock(seconds: float, shown: str) -> None:
    assert clock(float(seconds)) == shown
