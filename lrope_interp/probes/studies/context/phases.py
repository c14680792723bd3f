"""What is timed: a forward pass, a training step, one decoded token, and the increment path by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lrope_interp.models import LRopeTransformer
from lrope_interp.models.increments import accumulate
from lrope_interp.models.kv_cache import TransformerLensKeyValueCache
from lrope_interp.models.rotary import angles_at, inverse_frequencies, turn

Compute = Callable[[], object]
PATH_PARTS = ("heads", "sum", "angles", "rotation")


def forward_pass(model: LRopeTransformer, tokens: Int[Tensor, "1 pos"]) -> Compute:
    """Return a forward pass to the logits, in inference mode."""

    def compute() -> None:
        with torch.inference_mode():
            model(tokens)

    return compute


def training_step(model: LRopeTransformer, tokens: Int[Tensor, "1 pos"], dtype: str) -> Compute:
    """Return a training step: forward, loss, backward, clipping, fused AdamW, as `train` takes it."""
    model.train()
    is_fused = tokens.device.type in ("cpu", "cuda")
    groups = model.parameter_groups(0.1, 1e-4)
    optimiser = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=is_fused)
    autocast = torch.autocast(tokens.device.type, torch.bfloat16, enabled=dtype == "bfloat16")

    def compute() -> None:
        with autocast:
            logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return compute


def filled_cache(model: LRopeTransformer, context: int) -> TransformerLensKeyValueCache:
    """Return a frozen cache of `context` tokens with random keys and values: no prefill is needed.

    A random key is as good as a rotated one, whose direction is random too. Frozen, the cache stays at
    `context` however often a token is decoded.
    """
    cfg = model.cfg
    cache = TransformerLensKeyValueCache.init_cache(cfg, cfg.device, 1)
    shape = (1, context, cfg.n_heads, cfg.d_head)
    for entry in cache.entries:
        entry.past_keys = torch.randn(shape, dtype=cfg.dtype, device=cfg.device)
        entry.past_values = torch.randn(shape, dtype=cfg.dtype, device=cfg.device)
    cache.previous_attention_mask = torch.ones(1, context, dtype=torch.int, device=cfg.device)
    cache.freeze()
    return cache


def decoded_token(model: LRopeTransformer, cache: TransformerLensKeyValueCache) -> Compute:
    """Return the pass of one more token after a filled cache, which arms may share."""
    cfg, context = model.cfg, cache.previous_attention_mask.shape[1]
    tokens = torch.zeros(1, 1, dtype=torch.int64, device=cfg.device)
    heads = (cfg.n_heads,) if cfg.per_head else ()
    device = "cpu" if str(cfg.device) == "mps" else cfg.device
    position = torch.full((1, *heads), 1.7 * context, dtype=torch.float64, device=device)

    def compute() -> None:
        for entry in cache.entries:
            entry.position = position  # type: ignore[attr-defined]
        with torch.inference_mode():
            model(tokens, past_kv_cache=cache)

    return compute


def path_parts(model: LRopeTransformer, resid: Float[Tensor, "1 pos d_model"]) -> Mapping[str, Compute]:
    """Return what leads from the residual stream to turned queries and keys, part by part, in all layers.

    "heads" gives increments, "sum" positions, "angles" cosines and sines, "rotation" turns queries and
    keys. Fixed RoPE runs all four too, the first on ones.

    Args:
        model: An arm.
        resid: Read by the heads of every layer.
    """
    cfg = model.cfg
    layers = range(cfg.n_layers)
    inv_freq = inverse_frequencies(cfg.d_head, cfg.rope_base, resid.device)
    heads = _heads(model, resid)
    increments = _in_inference(lambda: heads()[-1])()
    positions = accumulate(increments)
    cosines, sines = _waves(positions, inv_freq, resid.device)
    turned = resid.new_ones(1, resid.shape[1], cfg.n_heads, cfg.d_head)
    parts: dict[str, Callable[[], Any]] = {
        "heads": heads,
        "sum": lambda: [_dropped(accumulate(increments)) for _ in layers],
        "angles": lambda: [_dropped(_waves(positions, inv_freq, resid.device)) for _ in layers],
        "rotation": lambda: [_dropped(turn(turned, cosines, sines)) for _ in layers for _ in "qk"],
    }
    return {name: _in_inference(part) for name, part in parts.items()}


def _heads(model: LRopeTransformer, resid: Tensor) -> Callable[[], list[Tensor]]:
    """Return what computes the increments of every layer, one after the other, as the model does."""
    cfg = model.cfg
    ones = (*resid.shape[:2], cfg.n_heads) if cfg.per_head else resid.shape[:2]

    def compute() -> list[Tensor]:
        if cfg.increments == "shared":
            shared = model.shared_increments(resid)
            return [shared.clone() for _ in range(cfg.n_layers)]
        if cfg.increments == "per_layer":
            own = (block.increments for block in model.blocks)
            return [head.squash(head(resid)) for head in own]
        return [torch.ones(ones, device=resid.device) for _ in range(cfg.n_layers)]

    return compute


def _waves(positions: Tensor, inv_freq: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    angles = angles_at(positions, inv_freq.to(positions.device))
    return angles.cos().to(device), angles.sin().to(device)


def _dropped(_value: object) -> None:
    """Let a tensor go at once, as the layer after it would."""


def _in_inference(compute: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.inference_mode():
            return compute()

    return run
