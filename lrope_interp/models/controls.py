"""Control models: what increments look like when nothing, or only the trunk, was trained.

An untrained model's increments are all 1 and control nothing. Here every weight is random, and each
head's last weight is scaled so that its pre-sigmoid values spread as the trained layer's do.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.models.increments import IncrementHead
from lrope_interp.models.transformer import LRopeTransformer
from lrope_interp.models.weights import initialize, normal_values

_RANDOM_GAIN_STD = 0.2


def randomised_control(
    model: LRopeTransformer,
    tokens: Int[Tensor, "batch pos"],
    seed: int,
    trunk: Literal["untrained", "trained"] = "untrained",
) -> LRopeTransformer:
    """Return a control model of the same configuration, in eval mode.

    Args:
        model: The trained model whose pre-sigmoid spread is matched, layer by layer.
        tokens: Text on which the spread is measured; the first position is left out.
        seed: Of every random weight.
        trunk: "untrained" draws all weights; "trained" keeps the trunk and draws only the heads.

    Returns:
        A model whose every increment head has, on `tokens`, the pre-sigmoid mean and standard
        deviation of the trained layer's.

    Raises:
        LRopeError: A model without increment heads, or whose trained increments are constant.
    """
    if model.cfg.increments == "fixed":
        raise LRopeError("a fixed model has no increment heads to randomise")
    control = copy.deepcopy(model)
    control.reset_hooks(including_permanent=True)
    if trunk == "untrained":
        initialize(control, seed)
        with torch.no_grad():
            for name, parameter in control.named_parameters():
                if name.endswith(".w"):  # the gains too, so that no layer is close to the identity by chance
                    parameter.add_((_RANDOM_GAIN_STD * normal_values(parameter, seed, name)).to(parameter))
    trained = _pre_sigmoid(model, tokens)
    for name, head in _heads(control):
        _draw_head(head, name, seed)
        # Front to back: a layer reads what the random increments of those before it have made of the text.
        _match_spread(head, _pre_sigmoid(control, tokens)[name], trained[name], name)
    return control.eval()


def random_heads(
    model: LRopeTransformer, tokens: Int[Tensor, "batch pos"], seed: int
) -> dict[int, IncrementHead]:
    """Return random heads for reading the trained trunk, which they do not steer.

    `randomised_control(trunk="trained")` lets its random increments turn the model's queries and keys, so
    that every layer above the first reads another stream; here the stream is the trained model's own.

    Args:
        model: The trained model.
        tokens: Text on which the spread is matched; the first position is left out.
        seed: Of the heads' weights.

    Returns:
        For each layer a head whose pre-sigmoid mean and s.d. on `tokens` are the trained layer's.
    """
    entering = _read(model, tokens, "hook_increments_in")
    trained = _pre_sigmoid(model, tokens)
    drawn = copy.deepcopy(dict(_heads(model)))
    for name, head in drawn.items():
        _draw_head(head, name, seed)
        with torch.no_grad():
            own = head.read_out(head.hidden(entering[name]))[:, 1:]
        _match_spread(head, own.reshape(-1, own.shape[-1]), trained[name], name)
    if model.cfg.increments == "shared":
        shared = next(iter(drawn.values()))
        return {layer: shared for layer in range(model.cfg.n_layers)}
    return {int(name.split(".")[1]): head for name, head in drawn.items()}


def _draw_head(head: IncrementHead, name: str, seed: int) -> None:
    """Draw a head's weights at a scale where its GELU is not linear; the bias of the last is set later."""
    with torch.no_grad():
        for leaf in ("W_in", "W_out"):
            parameter = getattr(head, leaf)
            values = normal_values(parameter, seed, f"{name}.{leaf}")
            parameter.copy_((values / parameter.shape[0] ** 0.5).to(parameter))
        head.b_in.zero_()
        head.b_out.zero_()


def _match_spread(
    head: IncrementHead, own: Float[Tensor, "n n_out"], trained: Float[Tensor, "n n_out"], name: str
) -> None:
    """Scale and shift the last layer from its own mean and s.d. to the trained layer's."""
    if bool((trained.std(0) <= 1e-6 * (1 + trained.mean(0).abs())).any()):
        raise LRopeError(f"the increments of {name} are constant, so no control can have their spread")
    factor = trained.std(0) / own.std(0)
    with torch.no_grad():
        head.W_out.mul_(factor)
        head.b_out.copy_(trained.mean(0) - own.mean(0) * factor)


def _heads(model: LRopeTransformer) -> list[tuple[str, IncrementHead]]:
    """Return every increment head with its module name, front to back."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, IncrementHead)]


def _read(model: LRopeTransformer, tokens: Tensor, leaf: str) -> dict[str, Tensor]:
    """Return what passes one hook of each increment head on `tokens`, by the name of the head's module."""
    hooks = {name: f"{name.removesuffix('.increments')}.{leaf}" for name, _ in _heads(model)}
    with torch.no_grad():
        _, cache = model.run_with_cache(
            tokens, names_filter=list(hooks.values()), return_type=None, return_cache_object=False
        )
    return {name: cache[hook] for name, hook in hooks.items()}


def _pre_sigmoid(model: LRopeTransformer, tokens: Tensor) -> dict[str, Float[Tensor, "n n_out"]]:
    """Return each head's pre-sigmoid values on `tokens`, first position left out."""
    n_out = model.cfg.n_heads if model.cfg.per_head else 1
    read = _read(model, tokens, "hook_increments_pre")
    return {name: pre[:, 1:].reshape(-1, n_out) for name, pre in read.items()}
