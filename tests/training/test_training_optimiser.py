from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lrope_interp.models import LRopeTransformer
from lrope_interp.training.checkpoints import load_optimiser_tensors, optimiser_tensors
from lrope_interp.training.config import Recording, TrainConfig
from lrope_interp.training.distribution import joined
from lrope_interp.training.events import ignore
from lrope_interp.training.metrics import read_lines, run_logs
from lrope_interp.training.preparation import build_model, prepare
from lrope_interp.training.process import StopFlag
from lrope_interp.training.steps import (
    Sitting,
    TrainingLoop,
    build_optimiser,
    learning_rate_share,
    set_learning_rate,
)

EXEMPT = ("ln1.w", "ln2.w", "ln_final.w", "ln.w", "b_in", "b_out", "increments.W_out")


def is_exempt(name: str) -> bool:
    return name.endswith(EXEMPT)


@pytest.mark.parametrize("increments", ["per_layer", "shared", "fixed"])
def test_weight_decay_spares_norms_biases_and_the_heads_last_layer(
    make_config: Callable[..., TrainConfig], make_model: Callable[..., LRopeTransformer], increments: str
) -> None:
    config = make_config(increments=increments, weight_decay=0.5, lr=0.1)
    model = make_model(increments=increments)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = build_optimiser(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()  # zero gradients: only the decay acts, by 1 - 0.1 * 0.5
    for name, parameter in model.named_parameters():
        shrunk = before[name] * (1.0 if is_exempt(name) else 0.95)
        torch.testing.assert_close(parameter.detach(), shrunk)
    assert any(map(is_exempt, before))


def test_the_heads_learn_at_their_own_rate(
    make_config: Callable[..., TrainConfig], make_model: Callable[..., LRopeTransformer]
) -> None:
    model = make_model()
    config = make_config(lr=0.01, head_lr_multiplier=3.0, weight_decay=0.0)
    optimiser = build_optimiser(model, config)
    set_learning_rate(optimiser, 0.5)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()  # Adam's first step has the length of the learning rate
    heads = {name for name, _ in model.increment_parameters()}
    assert heads
    for name, parameter in model.named_parameters():
        step = (before[name] - parameter.detach()).mean().item()
        assert step == pytest.approx(0.015 if name in heads else 0.005, rel=1e-3)


def test_the_schedule_is_what_one_gets_by_hand(make_config: Callable[..., TrainConfig]) -> None:
    config = make_config(n_steps=6, warmup=2, min_lr_share=0.1)
    # cos(pi/4) = 0.70711: 0.1 + 0.45 * (1 + 0.70711) = 0.86820 a quarter of the way down
    expected = [0.5, 1.0, 0.868198, 0.55, 0.231802, 0.1]
    assert [learning_rate_share(step, config) for step in range(1, 7)] == pytest.approx(expected, abs=1e-6)


def test_without_warm_up_the_schedule_only_falls(make_config: Callable[..., TrainConfig]) -> None:
    config = make_config(n_steps=2, warmup=0, min_lr_share=0.0)
    assert [learning_rate_share(step, config) for step in (1, 2)] == pytest.approx([0.5, 0.0])


def test_warm_up_stable_decay_is_flat_until_the_last_fifth(make_config: Callable[..., TrainConfig]) -> None:
    config = make_config(n_steps=10, warmup=2, min_lr_share=0.1, schedule="wsd")
    expected = [0.5, *[1.0] * 7, 0.55, 0.1]
    assert [learning_rate_share(step, config) for step in range(1, 11)] == pytest.approx(expected)


def test_under_wsd_two_lengths_share_their_learning_rates_until_the_shorter_one_falls(
    make_config: Callable[..., TrainConfig],
) -> None:
    short, long = (make_config(n_steps=n, warmup=2, schedule="wsd") for n in (20, 30))
    shares = [[learning_rate_share(step, one) for step in range(1, 21)] for one in (short, long)]
    assert shares[0][:16] == shares[1][:16]
    assert shares[0][16] < shares[1][16] == 1.0


@pytest.mark.parametrize("grad_clip", [0.01, 1e6])
def test_only_longer_gradients_are_shortened_to_the_clip(
    tmp_path: Path, make_config: Callable[..., TrainConfig], grad_clip: float
) -> None:
    config = make_config(n_steps=1, grad_clip=grad_clip)
    prepared, model = prepare(config, ignore), build_model(config)
    with joined(prepared.config) as processes, run_logs(tmp_path, processes, ignore) as logs:
        TrainingLoop(
            Sitting(tmp_path, processes, Recording(), ignore), prepared, model, logs, StopFlag()
        ).run()
    taken = (
        torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]).norm().item()
    )
    before = read_lines(tmp_path / "metrics.jsonl")[0]["grad_norm"]
    assert before > 0.1
    assert taken == pytest.approx(min(before, grad_clip), rel=1e-4)


def test_moments_go_out_and_come_back_by_name(
    make_config: Callable[..., TrainConfig], make_model: Callable[..., LRopeTransformer]
) -> None:
    models = [make_model(), make_model()]
    first, second = (build_optimiser(model, make_config()) for model in models)
    for parameter in models[0].parameters():
        parameter.grad = torch.randn_like(parameter)
    first.step()
    tensors = {name: value.clone() for name, value in optimiser_tensors(models[0], first).items()}
    load_optimiser_tensors(models[1], second, tensors)
    again = optimiser_tensors(models[1], second)
    assert again.keys() == tensors.keys()
    assert "blocks.0.attn.W_Q/exp_avg_sq" in tensors
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_arms_that_differ_in_increments_start_from_the_same_shared_weights(
    make_config: Callable[..., TrainConfig],
) -> None:
    fixed, learned = (
        dict(build_model(make_config(increments=increments)).named_parameters())
        for increments in ("fixed", "per_layer")
    )
    assert all(torch.equal(parameter, learned[name]) for name, parameter in fixed.items())
