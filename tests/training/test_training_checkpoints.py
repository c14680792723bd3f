from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors import SafetensorError

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer, checkpoint
from lrope_interp.training import checkpoints
from lrope_interp.training.checkpoints import (
    CHECKPOINT_FORMAT,
    newest_checkpoint,
    optimiser_tensors,
    remove_partial_checkpoints,
    save_checkpoint,
)
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.loop import train
from lrope_interp.training.steps import build_optimiser


class Trained(NamedTuple):
    model: LRopeTransformer
    optimiser: torch.optim.AdamW


@pytest.fixture
def trained(make_config: Callable[..., TrainConfig], make_model: Callable[..., LRopeTransformer]) -> Trained:
    model = make_model()
    optimiser = build_optimiser(model, make_config())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    return Trained(model, optimiser)


def fail(message: str) -> None:
    raise AssertionError(message)


def flip_first_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)


def test_a_checkpoint_gives_back_weights_moments_and_state(
    tmp_path: Path,
    trained: Trained,
    make_config: Callable[..., TrainConfig],
    make_model: Callable[..., LRopeTransformer],
) -> None:
    save_checkpoint(tmp_path, 7, *trained, {"losses": [0.1 + 0.2]})
    model = make_model(seed=1)
    optimiser = build_optimiser(model, make_config())
    found = newest_checkpoint(tmp_path, fail)
    assert found is not None
    found.load(model, optimiser)
    assert (found.step, found.state) == (7, {"losses": [0.1 + 0.2]})
    for name, value in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    moments = optimiser_tensors(*trained)
    for name, value in optimiser_tensors(model, optimiser).items():
        assert torch.equal(moments[name], value)


def test_a_checkpoint_is_a_model_that_from_pretrained_reads_and_holds_no_pickle(
    tmp_path: Path, trained: Trained
) -> None:
    folder = save_checkpoint(tmp_path, 7, *trained, {})
    tokens = torch.arange(6).unsqueeze(0)
    assert torch.equal(LRopeTransformer.from_pretrained(folder)(tokens), trained.model(tokens))
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


def test_the_newest_two_are_kept(tmp_path: Path, trained: Trained) -> None:
    for step in (4, 8, 12):
        save_checkpoint(tmp_path, step, *trained, {})
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000008", "step-00000012"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimiser.safetensors", "state.json"])
@pytest.mark.parametrize("tear", [flip_first_byte, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_torn_checkpoint_is_noticed_and_the_one_before_it_used(
    tmp_path: Path, trained: Trained, name: str, tear: Callable[[Path], None]
) -> None:
    save_checkpoint(tmp_path, 4, *trained, {})
    tear(save_checkpoint(tmp_path, 8, *trained, {}) / name)
    warnings: list[str] = []
    found = newest_checkpoint(tmp_path, warnings.append)
    assert found is not None
    assert found.step == 4
    assert len(warnings) == 1
    assert "step-00000008 is torn" in warnings[0]


def test_without_a_whole_checkpoint_there_is_none(tmp_path: Path, trained: Trained) -> None:
    assert newest_checkpoint(tmp_path, fail) is None
    (save_checkpoint(tmp_path, 4, *trained, {}) / "state.json").unlink()
    assert newest_checkpoint(tmp_path, lambda message: None) is None


def test_a_newer_format_is_refused_rather_than_passed_over(tmp_path: Path, trained: Trained) -> None:
    path = save_checkpoint(tmp_path, 4, *trained, {}) / "state.json"
    payload = json.loads(path.read_text())
    path.write_text(json.dumps(payload | {"format": CHECKPOINT_FORMAT + 1}))
    with pytest.raises(LRopeError, match="Upgrade lrope-interp"):
        newest_checkpoint(tmp_path, fail)


def test_a_write_that_fails_keeps_the_checkpoints_before_it(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 4, *trained, {})

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_tensors", full)
    with pytest.raises(LRopeError, match="No space left on device"):
        save_checkpoint(tmp_path, 8, *trained, {})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_run_that_was_moved_away_does_not_come_apart_in_two(tmp_path: Path, trained: Trained) -> None:
    with pytest.raises(LRopeError, match="the checkpoint of step 4 could not be written"):
        save_checkpoint(tmp_path / "moved", 4, *trained, {})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_file_that_it_has_no_room_for(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*rest: object, **how: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        LRopeError, match=r"step 4 could not.*No space left on device: '.*/model\.safetensors'"
    ):
        save_checkpoint(tmp_path, 4, *trained, {})
    assert list((tmp_path / "checkpoints").iterdir()) == []


def position(journal: list[tuple[str, str]], what: str, start: str, end: str) -> int:
    """Return where the last such entry stands that begins and ends so."""
    wanted = ((k, path) for k, (did, path) in enumerate(journal) if did == what)
    return max(k for k, path in wanted if path.startswith(start) and path.endswith(end))


def test_a_checkpoint_is_on_the_disk_before_it_counts(
    tmp_path: Path, trained: Trained, journal: list[tuple[str, str]]
) -> None:
    target = save_checkpoint(tmp_path, 4, *trained, {})
    partial = f"{tmp_path}/checkpoints/.step-00000004."
    appears = position(journal, "rename", partial, f"-> {target}")
    for name in ("model.safetensors", "optimiser.safetensors", "config.json", "state.json", ""):
        assert position(journal, "fsync", partial, name) < appears
    assert position(journal, "fsync", f"{tmp_path}/checkpoints", "checkpoints") > appears


def test_the_weights_are_the_last_of_a_model_that_gets_its_name(
    tmp_path: Path, trained: Trained, journal: list[tuple[str, str]]
) -> None:
    trained.model.save_pretrained(tmp_path / "model")
    renamed = [path.partition(" -> ")[2] for what, path in journal if what == "rename"]
    assert renamed == [str(tmp_path / "model" / name) for name in ("config.json", "model.safetensors")]


def test_a_run_is_finished_only_when_its_weights_are_on_the_disk(
    tmp_path: Path, make_config: Callable[..., TrainConfig], journal: list[tuple[str, str]]
) -> None:
    folder = tmp_path / "run"
    train(make_config(n_steps=2), folder)
    weights = position(journal, "rename", f"{folder}/.model.safetensors", f"{folder}/model.safetensors")
    assert position(journal, "fsync", f"{folder}/.model.safetensors", "") < weights
    assert position(journal, "fsync", f"{folder}/metrics.jsonl", "metrics.jsonl") < weights
    finished = position(journal, "rename", f"{folder}/.run.json", f"{folder}/run.json")
    assert weights < position(journal, "fsync", f"{folder}/.run.json", "") < finished
    assert str(folder) in [path for what, path in journal[weights:finished] if what == "fsync"]
    assert journal[-1] == ("fsync", str(folder))


def test_every_file_of_a_run_has_the_permissions_that_the_user_wants(
    tmp_path: Path, make_config: Callable[..., TrainConfig]
) -> None:
    before = os.umask(0o027)
    try:
        train(make_config(n_steps=3, checkpoint_every=2), tmp_path / "run")
    finally:
        os.umask(before)
    paths = [*(tmp_path / "run").rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o640}
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_dir()} == {0o750}


def test_what_a_killed_process_left_is_removed(tmp_path: Path, trained: Trained) -> None:
    save_checkpoint(tmp_path, 4, *trained, {})
    (tmp_path / "checkpoints" / ".step-00000008.0123abcd").mkdir()
    remove_partial_checkpoints(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_step_reached_again_replaces_its_checkpoint(tmp_path: Path, trained: Trained) -> None:
    save_checkpoint(tmp_path, 4, *trained, {"try": 1})
    save_checkpoint(tmp_path, 4, *trained, {"try": 2})
    found = newest_checkpoint(tmp_path, fail)
    assert found is not None
    assert found.state == {"try": 2}
