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
    n_layers: int | None = None,
) -> LRopeTransformer:
    """Return a control model of the same configuration, in eval mode.

    Args:
        model: The trained model whose pre-sigmoid spread is matched, layer by layer.
        tokens: Text on which the spread is measured; the first position is left out.
        seed: Of every random weight.
        trunk: "untrained" draws all weights; "trained" keeps the trunk and draws only the heads.
        n_layers: How many layers will be read, from the first on; of the others no head is matched.

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
    n_layers = model.cfg.n_layers if n_layers is None else n_layers
    [trained], stream = _read(model, tokens, n_layers, "hook_increments_pre"), None
    for layer, (name, head) in enumerate(_heads(control)[:n_layers]):
        _draw_head(head, name, seed)
        # Front to back: a layer reads what the random increments of those before it have made of the text.
        with torch.no_grad():
            if stream is None:
                stream = control(tokens, stop_at_layer=0)
            else:
                stream = control(stream, start_at_layer=layer - 1, stop_at_layer=layer)
            _match_spread(head, head.read_out(head.hidden(stream)), trained[name], name)
    return control.eval()


def random_heads(
    model: LRopeTransformer, tokens: Int[Tensor, "batch pos"], seed: int, n_layers: int | None = None
) -> dict[int, IncrementHead]:
    """Return random heads for reading the trained trunk, which they do not steer.

    `randomised_control(trunk="trained")` lets its random increments turn the model's queries and keys, so
    that every layer above the first reads another stream; here the stream is the trained model's own.

    Args:
        model: The trained model.
        tokens: Text on which the spread is matched; the first position is left out.
        seed: Of the heads' weights.
        n_layers: How many layers will be read, from the first on; the others get no head.

    Returns:
        For each layer a head whose pre-sigmoid mean and s.d. on `tokens` are the trained layer's.
    """
    n_layers = model.cfg.n_layers if n_layers is None else n_layers
    entering, trained = _read(model, tokens, n_layers, "hook_increments_in", "hook_increments_pre")
    drawn = copy.deepcopy(dict(_heads(model)[:n_layers]))
    for name, head in drawn.items():
        _draw_head(head, name, seed)
        with torch.no_grad():
            _match_spread(head, head.read_out(head.hidden(entering[name])), trained[name], name)
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
    head: IncrementHead,
    own: Float[Tensor, "batch pos n_out"],
    trained: Float[Tensor, "batch pos *_"],
    name: str,
) -> None:
    """Scale and shift the last layer to the trained layer's mean and s.d., the first position left out."""
    n_out = own.shape[-1]
    own, trained = own[:, 1:].reshape(-1, n_out), trained[:, 1:].reshape(-1, n_out)
    if bool((trained.std(0) <= 1e-6 * (1 + trained.mean(0).abs())).any()):
        raise LRopeError(f"the increments of {name} are constant, so no control can have their spread")
    factor = trained.std(0) / own.std(0)
    with torch.no_grad():
        head.W_out.mul_(factor)
        head.b_out.copy_(trained.mean(0) - own.mean(0) * factor)


def _heads(model: LRopeTransformer) -> list[tuple[str, IncrementHead]]:
    """Return every increment head with its module name, front to back."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, IncrementHead)]


def _read(
    model: LRopeTransformer, tokens: Tensor, n_layers: int, *leaves: str
) -> list[dict[str, Float[Tensor, "batch pos *_"]]]:
    """Return what passes hooks of the increment heads of the first layers, by the names of their modules."""
    hooks = [
        {name: f"{name.removesuffix('.increments')}.{leaf}" for name, _ in _heads(model)[:n_layers]}
        for leaf in leaves
    ]
    with torch.no_grad():
        _, cache = model.run_with_cache(
            tokens,
            names_filter=[hook for one in hooks for hook in one.values()],
            stop_at_layer=n_layers,
            return_cache_object=False,
        )
    return [{name: cache[hook] for name, hook in one.items()} for one in hooks]
