"""The forward passes of an ablation run: what every arm does to every prediction.

Batches of windows are the outer loop. The untouched model runs first and leaves the residual stream
before every layer, so that an arm begins at the first layer that it writes to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

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
from lrope_interp.probes.capture.capture import Progress
from lrope_interp.probes.capture.captured import Captured, DocumentWindow
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics
from lrope_interp.probes.capture.losses import (
    OUTCOMES,
    Untouched,
    at_predictions,
    attention_reads,
    looks_at_tokens,
    over_batches,
)

KIND = "ablations"


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
    fitted: IncrementStatistics | None,
    captured: Captured,
    masks: Mapping[str, Bool[np.ndarray, " n_tokens"]],
    words: Int64[np.ndarray, " n_tokens"],
    arms: Sequence[AblationArm],
    *,
    seed: int,
    overlap: float,
    batch_size: int,
    on_progress: Progress | None = None,
) -> Outcomes:
    """Run every arm over every window, and return what each scored token made of it.

    Args:
        model: The model, which is left as it is.
        fitted: Statistics of its increments on other text; None where no arm writes them.
        captured: What is read: documents and their tokens.
        masks: By name of a place: at which tokens it holds.
        words: Which word each token stands in, -1 for none.
        arms: No two of which write the same.
        seed: Of everything that is drawn.
        overlap: Of windows; see `capture`.
        batch_size: Windows at a time.
        on_progress: Told "ablations", window-passes done, and all of them.
    """
    interventions = {ONE: freeze(1.0), SHUFFLE: shuffle(seed), SHIFT: circular_shift(seed=seed)}
    if fitted is not None:
        mean = layer_mean(fitted)
        interventions |= {MEAN: mean, LOCAL: mean, LOCAL_COMPENSATED: mean}
        interventions |= {LEXICAL: lexical_mean(fitted), RESAMPLE: same_byte_resample(fitted, seed)}
    seen = [number for number, arm in enumerate(arms) if arm.reads_attention]
    said = {
        "masks": {name: _sha256(mask) for name, mask in sorted(masks.items())},
        "words": _sha256(words),
        "fitted": [_sha256(values) for values in ((fitted.values, fitted.first) if fitted else ())],
        "arms": [arm.what() for arm in arms],
        "seed": seed,
    }

    def run_batch(batch: Sequence[DocumentWindow]) -> dict[str, Float32[np.ndarray, "*rows scored"]]:
        one = Untouched.of(model, captured, batch, masks, words, is_looked_at=bool(seen))
        return _run_batch(model, interventions, one, batch, arms)

    found = over_batches(
        model,
        captured,
        said,
        run_batch,
        kind=KIND,
        batch_size=batch_size,
        stage="ablations",
        n_passes=1 + len(arms),
        overlap=overlap,
        on_progress=on_progress,
    )
    change, kl, flips = found["outcomes"].swapaxes(0, 1)
    attention = dict(zip([-1, *seen], found["attention"], strict=True)) if seen else {}
    return Outcomes(tuple(arms), model.cfg.n_layers, found["loss"][0], change, kl, flips, attention)


@torch.inference_mode()
def _run_batch(
    model: LRopeTransformer,
    interventions: Mapping[str, Intervention],
    one: Untouched,
    batch: Sequence[DocumentWindow],
    arms: Sequence[AblationArm],
) -> dict[str, Float32[np.ndarray, "*rows scored"]]:
    """Run one batch: the loss, the outcomes arm by arm, and the attention that was looked at."""
    rows, looks = [], [looks_at_tokens(one.attention, batch)] if one.attention else []
    for arm in arms:
        if arm.where and not bool(one.masks[arm.where].any()):
            rows.append(at_predictions(one.loss.new_zeros(len(OUTCOMES), *one.loss.shape), batch))
            continue
        attention: dict[int, torch.Tensor] = {}
        reads = attention_reads(model, one.words, attention) if arm.reads_attention else []
        written = _written(arm, one, interventions)
        hooks = ablation_hooks(written, heads=arm.head, model=model)
        first = min(written)
        # What is drawn for a sequence must not depend on its padding.
        is_drawn = arm.intervention in (RESAMPLE, SHUFFLE, SHIFT)
        with model.hooks(fwd_hooks=[*hooks, *reads]):
            logits = model(
                one.streams[first],
                start_at_layer=first,
                tokens=one.tokens,
                attention_mask=one.is_token.long() if is_drawn else None,
            )
        hooks.check_fired()
        rows.append(at_predictions(one.compared(logits), batch))
        looks += [looks_at_tokens(attention, batch)] if reads else []
    found = {"loss": at_predictions(one.loss, batch), "outcomes": torch.stack(rows)}
    found |= {"attention": torch.stack(looks)} if looks else {}
    return {name: values.float().cpu().numpy() for name, values in found.items()}


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
