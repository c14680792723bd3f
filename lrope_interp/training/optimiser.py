"""AdamW, its learning rate over time, and clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.training.config import TrainConfig


def build_optimiser(model: LRopeTransformer, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over the model's own parameter groups.

    The groups exempt norms, biases and the increment heads' last layers from weight decay, which
    would otherwise pull an increment of 1 towards half of `max_increment`, and give the heads
    `head_lr_multiplier` times the learning rate.
    """
    groups = model.parameter_groups(config.weight_decay, config.lr, config.head_lr_multiplier)
    for group in groups:
        group["peak_lr"] = group["lr"]
    is_fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=is_fused)


def learning_rate_share(step: int, config: TrainConfig) -> float:
    """Return the learning rate of step 1, 2 ... `n_steps` as a share of the peak.

    It rises in a straight line over `warmup` steps, the last of which has the peak, and falls to
    `min_lr_share` at the last step: along half a cosine, or ("wsd") in a straight line over the last fifth.
    """
    if step <= config.warmup:
        return step / config.warmup
    falls_from = first_decay(config)
    done = max(0, step - falls_from) / max(1, config.n_steps - falls_from)
    left = 1 - done if config.schedule == "wsd" else 0.5 * (1 + math.cos(math.pi * done))
    return config.min_lr_share + (1 - config.min_lr_share) * left


def first_decay(config: TrainConfig) -> int:
    """Return the last step that does not depend on `n_steps`: after it the learning rate falls."""
    if config.schedule == "cosine":
        return config.warmup
    return max(config.warmup, config.n_steps - config.n_steps // 5)


def set_learning_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Set every group to `share` of its own peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * share


def clip_gradients(parameters: Iterable[torch.nn.Parameter], grad_clip: float) -> Tensor:
    """Scale the gradients down to a norm of `grad_clip` and return the norm before, unread."""
    return torch.nn.utils.clip_grad_norm_(parameters, grad_clip)


def optimiser_tensors(model: LRopeTransformer, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments under the names of their parameters: ``blocks.0.ln1.w/exp_avg``."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def load_optimiser_tensors(
    model: LRopeTransformer, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` gave."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    wanted = {f"{name}/{key}": p.shape for p, name in names.items() for key in ("exp_avg", "exp_avg_sq")}
    wanted |= {f"{name}/step": torch.Size() for name in names.values()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    is_real = all(tensor.is_floating_point() for tensor in tensors.values())
    if found and (found != wanted or not is_real):  # none at all before the first step
        differing = sorted(name for name, _ in found.items() ^ wanted.items())
        raise LRopeError(f"the optimiser's moments are not those of this model: {differing[:3]}")
    order = [names[parameter] for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        state.setdefault(order.index(parameter_name), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
