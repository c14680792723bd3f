"""The page of a run: its logs as they are, finished or not."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import Shape, drawn, text_of
from report_samples import write_run

from lrope_interp.errors import LRopeError
from lrope_interp.reports.training import plot_increments, plot_loss, render, verdicts


def test_a_run_is_drawn_with_bits_beside_nats_and_its_spread(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    layout: Any = plot_loss(folder).layout
    np.testing.assert_allclose(np.array(layout.yaxis.range) / math.log(2), layout.yaxis2.range)
    lines = plot_increments(folder).data
    upper = [trace for trace in lines if trace.name == "mean + s.d."]
    means = [trace for trace in lines if str(trace.name).startswith("layer")]
    assert len(upper) == len(means) == 3
    np.testing.assert_allclose(upper[0].y, np.add(means[0].y, means[0].customdata))


@pytest.mark.parametrize("n_heads", [0, 2])
def test_the_end_of_training_is_in_the_figure_whatever_came_before(tmp_path: Path, n_heads: int) -> None:
    folder = write_run(tmp_path / "run", n_heads=n_heads)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for one in lines[-2]["increments"]:  # the last of all that are logged
        one["sd"] = 9.0
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    layout: Any = plot_increments(folder).layout
    top = max(one["mean"] for one in lines[-2]["increments"])
    bottom, reach = layout.yaxis.range
    assert bottom == 0
    assert (reach > top + 9) if not n_heads else (top < reach < top + 2), "bands are drawn of layers alone"


@pytest.mark.parametrize("n_heads", [0, 2])
def test_the_last_increments_stand_in_the_table_with_their_spread(tmp_path: Path, n_heads: int) -> None:
    folder = write_run(tmp_path / "run", n_heads=n_heads)
    frame, last = verdicts(folder).frame, (folder / "metrics.jsonl").read_text().splitlines()[-2]
    entries = json.loads(last)["increments"]
    assert frame["value"].tolist() == [one["mean"] for one in entries]
    np.testing.assert_allclose(frame["high"] - frame["value"], [one["sd"] for one in entries])
    assert frame["what"].iloc[-1] == ("head 2.1" if n_heads else "layer 2")


def test_a_run_has_a_page_whether_or_not_it_is_finished(tmp_path: Path) -> None:
    whole = render(write_run(tmp_path / "whole"))
    assert "Validation loss 1.900 nats per byte (2.741 bits) after 60 steps" in whole
    assert "not finished" not in whole
    for fact in ("preset tiny, 600 steps", "bilingual", "123,456 parameters", "cpu float32, 2 threads"):
        assert fact in text_of(whole)
    assert text_of(whole).count("2026-11-21 22:00 UTC") == 2, "started and finished"
    cut = write_run(tmp_path / "cut", status="running")
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "split": "tr')
    assert "This run is not finished: step 60 of 600" in render(cut)
    begun = write_run(tmp_path / "begun", status="running", n_lines=0)
    for name in ("timing.jsonl", "config.json", "data.json"):
        (begun / name).unlink()
    page = render(begun)
    assert "No validation yet" in page and "No increments logged yet" in page
    fixed = write_run(tmp_path / "fixed", increments="fixed")
    assert "Increments are fixed to 1" in render(fixed)
    assert verdicts(fixed).frame.empty and not re.search(r"\b(nan|None)\b", text_of(page + render(fixed)))
    with pytest.raises(LRopeError):
        render(tmp_path)


@pytest.mark.parametrize("n_heads", [0, 2])
def test_the_logs_of_a_run_are_drawn_as_they_are(tmp_path: Path, n_heads: int) -> None:
    folder = write_run(tmp_path / "run", n_heads=n_heads)
    found = drawn([figure["data"] for figure in Shape(render(folder)).figures])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines += [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    names = ("loss", "lr", "grad_norm", "nats_per_byte", "bytes_per_second", "bits_per_byte")
    wanted = [line[name] for line in lines for name in names if name in line]
    wanted += [one[name] for line in lines for one in line.get("increments", ()) for name in ("mean", "sd")]
    near = np.abs(np.subtract.outer(wanted, found)).min(axis=1)
    np.testing.assert_allclose(near, 0, atol=1e-9)
