from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from lrope_interp.errors import LRopeError
from lrope_interp.training.config import PRESETS, TrainConfig, train_config


def test_the_presets_have_the_published_shapes() -> None:
    tiny, small, paper = (train_config(preset) for preset in PRESETS)
    assert (tiny.d_model, tiny.n_layers, tiny.n_heads, tiny.n_ctx) == (128, 6, 4, 256)
    assert (tiny.n_steps, tiny.batch_size) == (600, 16)
    assert (small.d_model, small.n_layers, small.n_heads, small.d_head, small.d_mlp) == (256, 6, 8, 32, 1024)
    assert (small.n_steps, small.batch_size, small.n_ctx) == (4000, 16, 256)
    assert (paper.d_model, paper.d_mlp, paper.n_ctx, paper.batch_size) == (256, 1024, 512, 64)
    assert (paper.n_steps, paper.lr, paper.max_epochs) == (50_000, 1e-3, 10.0)


def test_a_config_survives_json() -> None:
    config = train_config("paper", data="code", per_head=True, seed=3)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_config_of_before_despacing_still_loads() -> None:
    config = train_config("paper", data="code")
    before = {name: value for name, value in config.to_dict().items() if name != "despaced"}
    assert TrainConfig.from_dict(before) == config
    assert not config.despaced


def test_a_despaced_run_says_so_in_its_command_and_in_its_folder() -> None:
    from lrope_interp.commands.training import run_name

    config = train_config("tiny", despaced=True, seed=2)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert "--despaced" in config.command()
    assert "--despaced" not in train_config().command()
    assert run_name(config) == "tiny-bilingual-despaced-per_layer-s2"
    assert run_name(train_config(seed=2)) == "tiny-bilingual-per_layer-s2"


def test_a_config_of_before_schedules_still_loads_as_a_cosine() -> None:
    before = {name: value for name, value in train_config().to_dict().items() if name != "schedule"}
    assert TrainConfig.from_dict(before) == train_config(schedule="cosine")


def test_learning_rate_and_schedule_are_in_the_command_and_are_checked() -> None:
    assert "--lr" not in train_config("small", lr=2e-3).command()
    assert train_config("small", lr=0.0005, schedule="wsd").command().count("--lr 0.0005 --schedule wsd") == 1
    with pytest.raises(LRopeError, match="schedule"):
        train_config(schedule="linear")
    with pytest.raises(LRopeError, match="lr=0 is out of range"):
        train_config(lr=0.0)


def test_a_config_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        train_config().seed = 1  # type: ignore[misc]


def test_per_layer_may_be_written_with_a_hyphen() -> None:
    assert train_config(increments="per-layer") == train_config(increments="per_layer")


def test_none_means_as_the_preset_has_it() -> None:
    assert train_config("small", n_steps=None, data=None) == train_config("small")


def test_an_explicit_number_of_steps_lifts_the_cap_and_shortens_the_warm_up() -> None:
    config = train_config("paper", n_steps=300)
    assert (config.n_steps, config.max_epochs, config.warmup) == (300, 0.0, 30)
    assert train_config("paper", n_steps=300, warmup=7).warmup == 7


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"increments": "perlayer"}, "Did you mean 'per_layer'"),
        ({"device": "gpu"}, "Choose from: auto, cpu, cuda, mps"),
        ({"dtype": "float23"}, "Did you mean 'float32'"),
        ({"encoding_errors": "replaced"}, "Did you mean 'replace'"),
        ({"n_step": 3}, "Did you mean 'n_steps'"),
        ({"n_steps": 0}, "the least is 1"),
        ({"n_steps": 2.5}, "a whole number is wanted"),
        ({"n_steps": True}, "a whole number is wanted"),
        ({"per_head": "yes"}, "true or false is wanted"),
        ({"lr": 0.0}, "above 0 and at most 1"),
        ({"lr": float("nan")}, "out of range"),
        ({"min_lr_share": 1.5}, "at least 0 and at most 1"),
        ({"betas": [0.9]}, "wants 2 values"),
        ({"betas": [0.9, 1.0]}, "out of range"),
        ({"seed": -1}, "the least is 0"),
        ({"d_head": 7}, "use 8"),
        ({"increments": "fixed", "per_head": True}, "leave out per_head"),
    ],
)
def test_a_wrong_value_is_refused_and_the_message_helps(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(LRopeError, match=message):
        train_config(**wrong)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(LRopeError, match="Did you mean 'small'"):
        train_config("smal")
    with pytest.raises(LRopeError, match="unknown preset"):
        TrainConfig(preset="huge")


def test_the_command_asks_for_the_same_run() -> None:
    assert train_config().command() == (
        "lrope-interp train --preset tiny --data bilingual --increments per-layer --seed 0"
    )
    config = train_config("small", n_steps=20, per_head=True, data="file:my text.txt", seed=4)
    assert config.command() == (
        "lrope-interp train --preset small --data 'file:my text.txt' --increments per-layer --per-head "
        "--steps 20 --seed 4"
    )


def test_the_recorded_command_asks_for_the_same_run() -> None:
    config = train_config("tiny", batch_size=3, n_steps=7, seed=2, increments="shared", per_head=True)
    for words in ("--batch-size 3", "--steps 7", "--seed 2", "--increments shared", "--per-head"):
        assert words in config.command()
    assert "--batch-size" not in train_config("tiny").command()


def by_hand(**values: Any) -> TrainConfig:
    """Build a config as outside of tests, where no annotation is checked."""
    config = TrainConfig()
    for name, value in values.items():
        object.__setattr__(config, name, value)
    config.__post_init__()
    return config


def test_a_config_built_by_hand_has_checked_types_and_plain_numbers() -> None:
    config = by_hand(n_steps=np.int64(3), lr=np.float32(0.5), grad_clip=1, betas=[np.float64(0.9), 0.95])
    assert config == TrainConfig(n_steps=3, lr=0.5, grad_clip=1.0, betas=(0.9, 0.95))
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_steps", 2.0),
        ("n_steps", True),
        ("per_head", 1),
        ("lr", "0.1"),
        ("data", 5),
        ("increments", None),
        ("betas", 0.9),
        ("tokenizer", None),
        ("seed", 10**30),
        ("grad_clip", math.inf),
        ("max_epochs", math.inf),
    ],
)
def test_a_config_built_by_hand_refuses_what_a_file_may_not_say(name: str, value: Any) -> None:
    with pytest.raises(LRopeError, match=name):
        by_hand(**{name: value})
