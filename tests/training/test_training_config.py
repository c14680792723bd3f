"""What a run is told: one frozen config, its presets, and what it leaves besides its numbers."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from lrope_interp.errors import LRopeError
from lrope_interp.training.config import PRESETS, Recording, TrainConfig, tracker_names, train_config


def through_json(config: TrainConfig) -> TrainConfig:
    return TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))


def test_the_presets_have_the_published_shapes() -> None:
    tiny, small, paper = (train_config(preset) for preset in PRESETS)
    assert (tiny.d_model, tiny.n_layers, tiny.n_heads, tiny.n_ctx) == (64, 4, 4, 256)
    assert (tiny.n_steps, tiny.batch_size) == (1200, 16)
    assert (small.d_model, small.n_layers, small.n_heads, small.d_head, small.d_mlp) == (256, 6, 8, 32, 1024)
    assert (small.n_steps, small.batch_size, small.n_ctx) == (4000, 16, 256)
    assert (paper.d_model, paper.d_mlp, paper.n_ctx, paper.batch_size) == (256, 1024, 512, 64)
    assert (paper.n_steps, paper.lr, paper.max_epochs) == (50_000, 1e-3, 10.0)


def test_a_config_survives_json_is_frozen_and_takes_what_is_not_given_from_the_preset() -> None:
    config = train_config("paper", data="code", per_head=True, despaced=True, seed=3)
    assert through_json(config) == config
    assert train_config("small", n_steps=None, data=None) == train_config("small")
    assert train_config(increments="per-layer") == train_config(increments="per_layer")
    with pytest.raises(FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"), [("despaced", False), ("schedule", "cosine"), ("tokenizer", "bytes")]
)
def test_a_config_of_before_an_option_still_loads(name: str, value: object) -> None:
    config = train_config("paper", data="code")
    before = {field: old for field, old in config.to_dict().items() if field != name}
    assert TrainConfig.from_dict(before) == config
    assert getattr(config, name) == value


def test_an_explicit_number_of_steps_lifts_the_cap_and_shortens_the_warm_up() -> None:
    config = train_config("paper", n_steps=300)
    assert (config.n_steps, config.max_epochs, config.warmup) == (300, 0.0, 30)
    assert train_config("paper", n_steps=300, warmup=7).warmup == 7


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"preset": "smal"}, "Did you mean 'small'"),
        ({"device": "gpu"}, "Choose from: auto, cpu, cuda, mps"),
        ({"schedule": "linear"}, "schedule"),
        ({"tokenizer": "words"}, "unknown tokenizer"),
        ({"n_step": 3}, "Did you mean 'n_steps'"),
        ({"n_steps": 0}, "the least is 1"),
        ({"n_steps": 2.5}, "a whole number is wanted"),
        ({"per_head": "yes"}, "true or false is wanted"),
        ({"lr": 0.0}, "lr=0 is out of range: it must be above 0 and at most 1"),
        ({"betas": [0.9]}, "wants 2 values"),
        ({"d_head": 7}, "use 8"),
        ({"grad_accumulation": 3}, "batch_size=16 cannot be cut into 3 equal parts"),
        ({"increments": "fixed", "per_head": True}, "leave out per_head"),
        ({"increments": "per_layer", "frozen": "lexical", "frozen_from": "x"}, "frozen='lexical' goes with"),
        ({"increments": "fixed", "frozen": "lexical"}, "a run in frozen_from"),
        ({"increments": "fixed", "frozen": "lexicl", "frozen_from": "x"}, "Did you mean 'lexical'"),
    ],
)
def test_a_wrong_value_is_refused_and_the_message_helps(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(LRopeError, match=message):
        train_config(**wrong)
    with pytest.raises(LRopeError):
        TrainConfig.from_dict(wrong)


def test_the_command_asks_for_the_same_run() -> None:
    assert train_config().command() == (
        "lrope-interp train --preset tiny --data bilingual --increments per-layer --seed 0"
    )
    config = train_config("small", n_steps=20, per_head=True, data="file:my text.txt", seed=4)
    assert config.command() == (
        "lrope-interp train --preset small --data 'file:my text.txt' --increments per-layer --per-head "
        "--steps 20 --seed 4"
    )
    config = train_config(batch_size=3, lr=0.0005, schedule="wsd", seed=2, increments="shared", despaced=True)
    for words in ("--batch-size 3", "--seed 2", "--increments shared", "--lr 0.0005 --schedule wsd --seed"):
        assert words in config.command()
    assert config.command().endswith("--despaced")
    assert "--lr" not in train_config("small", lr=2e-3).command()


def test_a_despaced_run_says_so_in_its_folder() -> None:
    from lrope_interp.training.config import run_name

    assert run_name(train_config(despaced=True, seed=2)) == "tiny-bilingual-despaced-per_layer-s2"
    assert run_name(train_config(seed=2)) == "tiny-bilingual-per_layer-s2"


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
    assert through_json(config) == config
    wrong = {"n_steps": 2.0, "per_head": 1, "lr": "0.1", "data": 5, "increments": None, "betas": 0.9}
    for name, value in (wrong | {"seed": 10**30, "grad_clip": math.inf, "max_epochs": math.inf}).items():
        with pytest.raises(LRopeError, match=name):
            by_hand(**{name: value})


def test_names_of_trackers_are_given_with_commas_or_again() -> None:
    assert tracker_names(["wandb,tensorboard", " wandb "]) == ("wandb", "tensorboard")
    assert tracker_names([]) == ()
    with pytest.raises(LRopeError, match="Did you mean 'tensorboard'"):
        Recording(log_to=tracker_names(["tensorbord"]))


def test_a_recording_goes_on_as_it_was_where_nothing_else_is_asked() -> None:
    recording = Recording(log_to=("wandb", "tensorboard"), checkpoint_minutes=0.0)
    said = json.loads(json.dumps(recording.to_dict()))
    assert Recording().over(said) == Recording(("tensorboard",), 0.0)  # nothing is sent unasked
    assert Recording(("wandb",)).over(said) == Recording(("wandb",), 0.0)
    assert Recording((), 5.0).over(said) == Recording((), 5.0)
    assert Recording().over({}) == Recording((), 10.0)
    for minutes in (-1.0, math.nan, math.inf):
        with pytest.raises(LRopeError, match="at least 0 is wanted"):
            Recording(checkpoint_minutes=minutes)
