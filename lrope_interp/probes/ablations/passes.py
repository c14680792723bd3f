"""The forward passes of an ablation run: what every arm does to every prediction.

Batches of windows are the outer loop. The untouched model runs first and leaves the residual stream
before every layer, so that an arm begins at the first layer that it writes to. What a batch gave is
remembered, so that a run that was killed goes on there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.attach import ablation_hooks
from lrope_interp.probes.ablations.interventions import (
    Intervention,
    at,
    circular_shift,
    freeze,
    layer_mean,
    lexical_mean,
    local_edit,
    restore,
    same_byte_resample,
    scale,
    shuffle,
)
from lrope_interp.probes.ablations.plan import (
    LEXICAL,
    LOCAL,
    LOCAL_COMPENSATED,
    MEAN,
    ONE,
    RESAMPLE,
    SCALE,
    SHIFT,
    SHUFFLE,
    AblationArm,
)
from lrope_interp.probes.capture.cache import forget, model_identity, remembered
from lrope_interp.probes.capture.capture import OVERLAP, Progress
from lrope_interp.probes.capture.captured import DocumentWindow, document_windows, in_batches
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics
from lrope_interp.probes.capture.losses import (
    LOOKS,
    OUTCOMES,
    AttentionReads,
    Text,
    Untouched,
    at_predictions,
    at_tokens,
)

KIND = "ablations"
_MOST_BATCHES = 1_000


@dataclass(frozen=True)
class Outcomes:
    """What the passes gave, at the first byte of every token and 0 at its others.

    Attributes:
        arms: One a pass.
        n_layers: Of the model.
        loss: -ln p of the untouched model, in nats.
        change: How much more each arm loses there, in nats.
        kl: KL(untouched || ablated) of the prediction, in nats.
        flips: 1 where the likeliest token is another one.
        attention: By arm number (-1: untouched): `losses.LOOKS`, layer, head, byte.
    """

    arms: tuple[AblationArm, ...]
    n_layers: int
    loss: Float32[np.ndarray, " n_bytes"]
    change: Float32[np.ndarray, "arms n_bytes"]
    kl: Float32[np.ndarray, "arms n_bytes"]
    flips: Float32[np.ndarray, "arms n_bytes"]
    attention: Mapping[int, Float32[np.ndarray, "metrics layers heads n_bytes"]] = field(default_factory=dict)

    def number(self, arm: AblationArm) -> int:
        """Return the number of the pass that an arm shares with its equals."""
        return self._numbers[arm.what()]

    @cached_property
    def _numbers(self) -> dict[tuple[Any, ...], int]:
        return {arm.what(): number for number, arm in enumerate(self.arms)}


def run_arms(
    model: LRopeTransformer,
    fitted: IncrementStatistics,
    text: Text,
    arms: Sequence[AblationArm],
    *,
    seed: int,
    batch_size: int,
    on_progress: Progress | None = None,
) -> Outcomes:
    """Run every arm over every window, and return what each scored token made of it.

    Args:
        model: The model, which is left as it is.
        fitted: Statistics of its increments on other text.
        text: What is read.
        arms: No two of which write the same.
        seed: Of everything that is drawn.
        batch_size: Windows at a time.
        on_progress: Told "ablations", window-passes done, and all of them.
    """
    todo = document_windows(text.captured, model.cfg.n_ctx, OVERLAP)
    seen = [number for number, arm in enumerate(arms) if arm.reads_attention]
    seen = [-1, *seen] if seen else []
    width = 1 + len(OUTCOMES) * len(arms)
    channels = np.zeros((width, text.captured.n_bytes), dtype=np.float32)
    shape = (len(LOOKS), model.cfg.n_layers, model.cfg.n_heads, text.captured.n_bytes)
    looks = np.full((len(seen), *shape), np.nan, dtype=np.float32)
    known = model_identity(model)
    said = known | {
        "documents": [one.sha256 for one in text.captured.documents],
        "masks": {name: _sha256(mask) for name, mask in sorted(text.masks.items())},
        "words": _sha256(text.words),
        "fitted": [_sha256(fitted.values), _sha256(fitted.first)],
        "arms": [arm.what() for arm in arms],
        "seed": seed,
        "batch_size": batch_size,
    }
    run = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    mean = layer_mean(fitted)
    interventions = {
        ONE: freeze(1.0),
        MEAN: mean,
        LEXICAL: lexical_mean(fitted),
        RESAMPLE: same_byte_resample(fitted, seed),
        SHUFFLE: shuffle(seed),
        SHIFT: circular_shift(seed=seed),
        LOCAL: mean,
        LOCAL_COMPENSATED: mean,
    }
    for done, batch in in_batches(todo, max(1, batch_size)):
        read = remembered(
            {"run": run, "done": done, "is_hooked": known["is_hooked"]},
            lambda batch=batch: _run_batch(model, interventions, text, batch, arms),
            KIND,
            _MOST_BATCHES,
        )
        to = np.concatenate([item.to(text.captured) for item in batch])
        channels[:, to] = read[:width]
        looks[..., to] = read[width:].reshape(*looks.shape[:-1], len(to))
        if on_progress is not None:
            on_progress("ablations", done * (1 + len(arms)), len(todo) * (1 + len(arms)))
    forget(KIND, run)
    change, kl, flips = channels[1:].reshape(len(arms), len(OUTCOMES), -1).swapaxes(0, 1)
    attention = dict(zip(seen, looks, strict=True))
    return Outcomes(tuple(arms), model.cfg.n_layers, channels[0], change, kl, flips, attention)


@torch.inference_mode()
def _run_batch(
    model: LRopeTransformer,
    interventions: Mapping[str, Intervention],
    text: Text,
    batch: Sequence[DocumentWindow],
    arms: Sequence[AblationArm],
) -> Float32[np.ndarray, "channels scored"]:
    """Run one batch: the loss, the outcomes arm by arm, and the attention that was looked at."""
    one = Untouched.of(model, text, batch, any(arm.reads_attention for arm in arms))
    rows, looks = [at_predictions(one.loss, batch)], [one.attention]
    for arm in arms:
        if arm.where and not bool(one.masks[arm.where].any()):
            rows.append(at_predictions(one.loss.new_zeros(len(OUTCOMES), *one.loss.shape), batch))
            continue
        reads = AttentionReads(model, one.words) if arm.reads_attention else None
        written = _written(arm, one, interventions)
        hooks = ablation_hooks(written, heads=arm.head, model=model)
        first = min(written)
        # Shuffles and shifts have to know the padding, which stays where it is.
        is_rearranged = arm.intervention in (SHUFFLE, SHIFT)
        with model.hooks(fwd_hooks=[*hooks, *(reads.hooks if reads else [])]):
            logits = model(
                one.streams[first],
                start_at_layer=first,
                tokens=one.tokens,
                attention_mask=one.is_token.long() if is_rearranged else None,
            )
        hooks.check_fired()
        rows.append(at_predictions(one.compared(logits), batch))
        looks.append(None if reads is None else reads.values())
    looked_at = [at_tokens(look, batch) for look in looks if look is not None]
    return torch.cat([*rows, *looked_at]).float().cpu().numpy()


def _written(
    arm: AblationArm, one: Untouched, interventions: Mapping[str, Intervention]
) -> dict[int, Intervention]:
    """Return what is written to each layer of an arm."""
    what = scale(arm.parameter) if arm.intervention == SCALE else interventions[arm.intervention]
    if arm.where:
        what = at(one.masks[arm.where], what)
    if arm.intervention == LOCAL_COMPENSATED:
        what = local_edit(what)
    written = dict.fromkeys(arm.layers, what)
    if arm.restored is None or arm.restored < arm.layers[0]:  # nothing was ablated before it
        return written
    return written | {arm.restored: restore(one.clean)}


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).view(np.uint8).data).hexdigest()
