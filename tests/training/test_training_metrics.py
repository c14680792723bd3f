from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lrope_interp.models import LRopeTransformer
from lrope_interp.training.metrics import (
    JsonLines,
    cut_back,
    increment_statistics,
    read_lines,
    watch_increments,
)

LINES = [
    {"step": 3, "split": "train"},
    {"step": 5, "split": "train"},
    {"step": 5, "split": "validation"},
    {"step": 6, "split": "train"},
]


def write(path: Path, tail: str = "") -> None:
    with JsonLines(path) as log:
        for line in LINES:
            log.write(line)
        log.sync()
    with path.open("a") as file:
        file.write(tail)


def test_the_first_token_is_left_out_of_the_statistics() -> None:
    increments = torch.tensor([[100.0, 1.0, 3.0], [100.0, 5.0, 7.0]])
    (found,) = increment_statistics(4, increments)
    assert (found.layer, found.head) == (4, None)
    assert found.mean == pytest.approx(4.0)
    assert found.sd == pytest.approx(5**0.5)  # deviations 3, 1, 1, 3
    assert found.to_dict() == {"layer": 4, "mean": found.mean, "sd": found.sd}


def test_every_head_has_statistics_of_its_own() -> None:
    increments = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 2.0]]])
    first, second = increment_statistics(0, increments)
    assert (first.head, first.mean, first.sd) == (0, 2.0, 1.0)
    assert (second.head, second.mean, second.sd) == (1, 2.0, 0.0)
    assert second.to_dict()["head"] == 1


@pytest.mark.parametrize(("increments", "n_found"), [("per_layer", 2), ("shared", 2), ("fixed", 0)])
def test_the_hooks_read_the_pass_that_trains_and_go_away(
    make_model: Callable[..., LRopeTransformer], increments: str, n_found: int
) -> None:
    model, tokens = make_model(increments=increments), torch.arange(12).reshape(2, 6)
    plain = model(tokens)
    with watch_increments(model, True) as found:
        watched = model(tokens)
    assert torch.equal(plain, watched)
    assert [one.layer for one in found] == list(range(n_found))
    model(tokens)
    assert len(found) == n_found


def test_where_nothing_is_logged_no_hook_is_set(make_model: Callable[..., LRopeTransformer]) -> None:
    model = make_model()
    with watch_increments(model, False) as found:
        assert not any(point._forward_hooks for point in model.hook_dict.values())
        model(torch.arange(6).unsqueeze(0))
    assert found == []


def test_a_log_is_cut_back_to_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, tail='{"step": 7, "spl')
    assert read_lines(path) == LINES
    cut_back(path, 5)  # the validation of step 5 comes after its checkpoint, and again
    assert read_lines(path) == LINES[:2]
    cut_back(path, 0)
    assert path.read_bytes() == b""


def test_a_line_cut_short_is_dropped_even_without_a_later_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, tail=json.dumps({"step": 6, "split": "train"}))  # whole, but for its line end
    cut_back(path, 6)
    assert read_lines(path) == LINES
    assert path.read_bytes().endswith(b"}\n")


def test_cutting_back_a_log_that_does_not_exist_does_nothing(tmp_path: Path) -> None:
    cut_back(tmp_path / "metrics.jsonl", 3)
    assert read_lines(tmp_path / "metrics.jsonl") == []
