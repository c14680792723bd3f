"""What is measured when the cost of learned increments is: arms, contexts, and the work that is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.increments import accumulate, angles_at, inverse_frequencies, turn
from lrope_interp.models.kv_cache import TransformerLensKeyValueCache

REFERENCE = "fixed"
ARMS: Mapping[str, tuple[str, bool]] = {
    "fixed": ("fixed", False),
    "shared": ("shared", False),
    "per_layer": ("per_layer", False),
    "shared_per_head": ("shared", True),
    "per_layer_per_head": ("per_layer", True),
}
"""An arm's `increments` and `per_head`."""
LONG = 8192
"""Up to this context training is measured and everything is repeated."""
MOST_CONTEXT = 2**20
_STEP = 4
PATH_PARTS = ("heads", "sum", "angles", "rotation")

Compute = Callable[[], object]


@dataclass(frozen=True)
class CostPlan:
    """How the cost of learned increments is measured.

    Attributes:
        shape: Fields of `LRopeConfig`; its increments, per_head, n_ctx, seed and dtype are the plan's.
        arms: Names from `ARMS`; fixed RoPE is among them, because it is what all are compared with.
        contexts: Tokens, ascending.
        repeats: Timed rounds, in each of which every arm has its turn.
        device: "cpu", "cuda" or "mps".
        dtype: "float32" or "bfloat16": of the weights in a forward pass and in decoding, and of
            autocast in training. Increment heads stay float32.
        seed: Of weights and inputs.
        skip_forward_above: No forward pass beyond so many tokens; None: one at every context.
    """

    shape: Mapping[str, Any]
    arms: tuple[str, ...]
    contexts: tuple[int, ...]
    repeats: int = 5
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0
    skip_forward_above: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.repeats < 1:
            raise LRopeError(f"repeats must be at least 1; got {self.repeats}")
        if self.dtype not in ("float32", "bfloat16"):
            raise unknown("dtype", self.dtype, ("float32", "bfloat16"))
        assert self.arms[:1] == (REFERENCE,)
        assert list(self.contexts) == sorted(set(self.contexts))

    def has_forward(self, context: int) -> bool:
        """Whether a forward pass of `context` tokens is run."""
        return self.skip_forward_above is None or context <= self.skip_forward_above

    def model(self, arm: str, dtype: str) -> LRopeTransformer:
        """Build an untrained model of an arm whose increments are not all 1."""
        increments, per_head = ARMS[arm]
        own = {"increments": increments, "per_head": per_head, "n_ctx": self.contexts[-1] + 1}
        fields = {**self.shape, **own, "seed": self.seed, "device": self.device}
        model = LRopeTransformer(LRopeConfig.from_dict(fields))
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():  # the heads' last weights start at zero: drawn, increments differ by token
            for name, parameter in model.increment_parameters():
                if name.endswith("W_out"):
                    parameter.copy_(torch.randn(parameter.shape, generator=generator))
        return model.to(dtype=getattr(torch, dtype))


def parse_arms(text: str) -> tuple[str, ...]:
    """Return the arms of a list like ``fixed,per-layer``, fixed RoPE first and always there.

    Raises:
        LRopeError: An arm is unknown or named twice.
    """
    names = [word.strip().replace("-", "_") for word in text.split(",")]
    for name in names:
        if name not in ARMS:
            raise unknown("arm", name.replace("_", "-"), [arm.replace("_", "-") for arm in ARMS])
        if names.count(name) > 1:
            raise LRopeError(f"the arm {name.replace('_', '-')} is named twice in {text!r}: name it once")
    others = [name for name in names if name != REFERENCE]
    if not others:
        raise LRopeError("--arms fixed alone has nothing to be compared with: add shared or per-layer")
    return (REFERENCE, *others)


def parse_contexts(text: str, max_context: int | None = None) -> tuple[int, ...]:
    """Return the contexts of a list like ``512,2048,8192``, ascending.

    Args:
        text: Whole numbers, with commas.
        max_context: The largest; between the list's last and this, contexts grow fourfold. Contexts
            of the list beyond it are left out. None: the list as it is.

    Raises:
        LRopeError: Not a list of whole numbers, or one outside 2..1,048,576.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise LRopeError(f"--contexts takes whole numbers with commas, like 512,2048,8192; got {text!r}")
    contexts = sorted({int(word) for word in words})
    if max_context is None:
        return _checked(contexts)
    _checked([max_context])
    if max_context < contexts[0]:
        raise LRopeError(
            f"--max-context {max_context} is below the smallest of --contexts, {contexts[0]}: raise it, or "
            "give smaller --contexts"
        )
    kept = [context for context in contexts if context <= max_context]
    while kept[-1] < max_context:
        kept.append(min(kept[-1] * _STEP, max_context))
    return _checked(kept)


def _checked(contexts: Sequence[int]) -> tuple[int, ...]:
    for context in contexts:
        if not 2 <= context <= MOST_CONTEXT:
            raise LRopeError(f"a context is 2 to {MOST_CONTEXT:,} tokens; got {context}")
    return tuple(contexts)


def forward_pass(model: LRopeTransformer, tokens: Int[Tensor, "1 pos"]) -> Compute:
    """Return a forward pass to the logits, in inference mode."""
    return torch.inference_mode()(lambda: model(tokens))


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

    @torch.inference_mode()
    def compute() -> None:
        for entry in cache.entries:
            entry.position = position  # type: ignore[attr-defined]
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
    with torch.inference_mode():
        increments = heads()[-1]
    positions = accumulate(increments)
    cosines, sines = _waves(positions, inv_freq, resid.device)
    turned = resid.new_ones(1, resid.shape[1], cfg.n_heads, cfg.d_head)
    parts: dict[str, Callable[[], Any]] = {
        "heads": heads,
        "sum": lambda: [_dropped(accumulate(increments)) for _ in layers],
        "angles": lambda: [_dropped(_waves(positions, inv_freq, resid.device)) for _ in layers],
        "rotation": lambda: [_dropped(turn(turned, cosines, sines)) for _ in layers for _ in "qk"],
    }
    return {name: torch.inference_mode()(part) for name, part in parts.items()}


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
