"""The training report shows the logs of a run, whole or not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from report_samples import HOSTILE, write_run

from lrope_interp.errors import LRopeError
from lrope_interp.reports.training.frames import course_frame, increments_frame, loss_frame
from lrope_interp.reports.training.page import plot_course, plot_increments, plot_loss, render_training


def test_losses_are_drawn_as_logged(tmp_path: Path):
    folder = write_run(tmp_path / "run")
    frame = loss_frame(folder)
    figure = plot_loss(folder)
    for trace in figure.data[:2]:
        own = frame[frame["split"] == trace.name]
        np.testing.assert_array_equal(trace.x, own["step"])
        np.testing.assert_array_equal(trace.y, own["nats_per_byte"])
        np.testing.assert_allclose(trace.customdata, own["nats_per_byte"] / math.log(2))
    nats, bits = figure.layout.yaxis.range, figure.layout.yaxis2.range
    np.testing.assert_allclose(np.array(nats) / math.log(2), bits)


@pytest.mark.parametrize("n_heads", [0, 2])
def test_increments_are_drawn_as_logged(tmp_path: Path, n_heads: int):
    folder = write_run(tmp_path / "run", n_heads=n_heads)
    frame = increments_frame(folder)
    figure = plot_increments(folder)
    lines = [trace for trace in figure.data if trace.name.startswith("layer")]
    groups = frame.groupby(["layer", "head"])
    assert len(lines) == len(groups) == 3 * max(n_heads, 1)
    for trace, (_, own) in zip(lines, groups, strict=True):
        np.testing.assert_array_equal(trace.y, own["mean"])
        np.testing.assert_array_equal(trace.customdata, own["sd"])
    upper = [trace for trace in figure.data if trace.name == "mean + s.d."]
    assert len(upper) == (0 if n_heads else 3)
    if upper:
        own = frame[frame["layer"] == 0]
        np.testing.assert_array_equal(upper[0].y, own["mean"] + own["sd"])


def test_the_course_is_drawn_as_logged(tmp_path: Path):
    folder = write_run(tmp_path / "run")
    frame = course_frame(folder)
    for trace, column in zip(plot_course(folder).data, ("lr", "grad_norm", "bytes_per_second"), strict=True):
        np.testing.assert_array_equal(trace.y, frame[column])


def test_a_finished_run_shows_its_summary(tmp_path: Path):
    html = render_training(write_run(tmp_path / "run"))
    assert "Validation loss 1.900 nats per byte" in html
    assert "Read this first" not in html
    assert "Validation, bits per byte" in html


def test_an_unfinished_run_says_so_and_a_cut_line_is_left_out(tmp_path: Path):
    folder = write_run(tmp_path / "run", status="running")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "split": "tr')
    html = render_training(folder)
    assert "This run is not finished: step 60 of 600" in html
    assert loss_frame(folder)["step"].max() == 60


def test_a_run_that_has_just_begun_renders(tmp_path: Path):
    folder = write_run(tmp_path / "run", status="running", n_lines=0)
    for name in ("timing.jsonl", "config.json", "data.json"):
        (folder / name).unlink()
    html = render_training(folder)
    assert "No validation yet" in html
    assert "No increments logged yet" in html


def test_a_fixed_run_has_no_increments_to_draw(tmp_path: Path):
    folder = write_run(tmp_path / "run", increments="fixed")
    assert "Increments are fixed to 1" in render_training(folder)


def test_text_of_the_run_is_escaped(tmp_path: Path):
    folder = write_run(tmp_path / "run")
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {"command": HOSTILE, "data": HOSTILE}))
    assert "<script>alert(1)" not in render_training(folder)


def test_what_is_no_run_is_an_error(tmp_path: Path):
    with pytest.raises(LRopeError):
        render_training(tmp_path)
