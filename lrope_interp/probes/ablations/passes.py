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
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.attach import ablate
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
    Arm,
)
from lrope_interp.probes.capture.attention import METRICS, AttentionReads
from lrope_interp.probes.capture.cache import forget, model_identity, remembered
from lrope_interp.probes.capture.capture import OVERLAP, Progress
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics
from lrope_interp.probes.capture.losses import OUTCOMES, Text, Untouched, at_predictions, at_tokens
from lrope_interp.probes.capture.windows import (
    DocumentWindow,
    document_windows,
    in_batches,
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
        attention: By arm number (-1: untouched): `attention_reads.METRICS`, layer, head, byte.
    """

    arms: tuple[Arm, ...]
    n_layers: int
    loss: Float32[np.ndarray, " n_bytes"]
    change: Float32[np.ndarray, "arms n_bytes"]
    kl: Float32[np.ndarray, "arms n_bytes"]
    flips: Float32[np.ndarray, "arms n_bytes"]
    attention: Mapping[int, Float32[np.ndarray, "metrics layers heads n_bytes"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Runner:
    """Runs arms over a text.

    Attributes:
        model: The model, which is left as it is.
        fitted: Statistics of its increments on other text.
        seed: Of everything that is drawn.
        batch_size: Windows at a time.
    """

    model: LRopeTransformer
    fitted: IncrementStatistics
    seed: int
    batch_size: int

    def run(self, text: Text, arms: Sequence[Arm], on_progress: Progress | None = None) -> Outcomes:
        """Run every arm over every window, and return what each scored token made of it.

        Args:
            text: What is read.
            arms: No two of which write the same.
            on_progress: Told "ablations", window-passes done, and all of them.
        """
        todo = document_windows(text.captured, self.model.cfg.n_ctx, OVERLAP)
        seen = [number for number, arm in enumerate(arms) if arm.reads_attention]
        seen = [-1, *seen] if seen else []
        width = 1 + len(OUTCOMES) * len(arms)
        channels = np.zeros((width, text.captured.n_bytes), dtype=np.float32)

        shape = (len(METRICS), self.model.cfg.n_layers, self.model.cfg.n_heads, text.captured.n_bytes)
        looks = np.full((len(seen), *shape), np.nan, dtype=np.float32)
        known = model_identity(self.model)
        run, is_hooked = self._identity(known, text, arms), known["is_hooked"]
        for done, batch in in_batches(todo, max(1, self.batch_size)):
            identity = {"run": run, "done": done, "is_hooked": is_hooked}
            read = remembered(
                identity, lambda batch=batch: self._batch(text, batch, arms), KIND, _MOST_BATCHES
            )
            to = np.concatenate([item.to(text.captured) for item in batch])
            channels[:, to] = read[:width]
            looks[..., to] = read[width:].reshape(*looks.shape[:-1], len(to))
            if on_progress is not None:
                on_progress("ablations", done * (1 + len(arms)), len(todo) * (1 + len(arms)))
        forget(KIND, run)
        change, kl, flips = channels[1:].reshape(len(arms), len(OUTCOMES), -1).swapaxes(0, 1)
        return Outcomes(
            tuple(arms),
            self.model.cfg.n_layers,
            channels[0],
            change,
            kl,
            flips,
            dict(zip(seen, looks, strict=True)),
        )

    def _identity(self, model: Mapping[str, Any], text: Text, arms: Sequence[Arm]) -> str:
        """Name everything that decides the numbers."""
        said = dict(model) | {
            "documents": [one.sha256 for one in text.captured.documents],
            "masks": {name: _sha256(mask) for name, mask in sorted(text.masks.items())},
            "words": _sha256(text.words),
            "fitted": [_sha256(self.fitted.values), _sha256(self.fitted.first)],
            "arms": [arm.what() for arm in arms],
            "seed": self.seed,
            "batch_size": self.batch_size,
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @torch.inference_mode()
    def _batch(
        self, text: Text, batch: Sequence[DocumentWindow], arms: Sequence[Arm]
    ) -> Float32[np.ndarray, "channels scored"]:
        """Run one batch: the loss, the outcomes arm by arm, and the attention that was looked at."""
        one = Untouched.of(self.model, text, batch, any(arm.reads_attention for arm in arms))
        rows, looks = [at_predictions(one.loss, batch)], [one.attention]
        for arm in arms:
            outcome, attention = self._arm(one, arm)
            rows.append(at_predictions(outcome, batch))
            looks.append(attention)
        looked_at = [at_tokens(look, batch) for look in looks if look is not None]
        return torch.cat([*rows, *looked_at]).float().cpu().numpy()

    def _arm(self, one: Untouched, arm: Arm) -> tuple[Float[Tensor, "outcomes batch pos"], Tensor | None]:
        """Run one arm on one batch, from the first layer that it writes to."""
        if arm.where and not bool(one.masks[arm.where].any()):
            return one.loss.new_zeros(len(OUTCOMES), *one.loss.shape), None
        is_rearranged = arm.intervention in (SHUFFLE, SHIFT)
        reads = AttentionReads(self.model, one.words) if arm.reads_attention else None
        written = self._written(arm, one)
        hooks = ablate(written, heads=arm.head, model=self.model)
        first = min(written)
        with self.model.hooks(fwd_hooks=[*hooks, *(reads.hooks if reads else [])]):
            logits = self.model(
                one.streams[first],
                start_at_layer=first,
                tokens=one.tokens,
                attention_mask=one.is_token.long() if is_rearranged else None,
            )
        hooks.check_fired()
        return one.compared(logits), None if reads is None else reads.values()

    def _written(self, arm: Arm, one: Untouched) -> dict[int, Intervention]:
        """Return what is written to each layer of an arm."""
        by_name: dict[str, Intervention] = {
            ONE: freeze(1.0),
            MEAN: layer_mean(self.fitted),
            LEXICAL: lexical_mean(self.fitted),
            RESAMPLE: same_byte_resample(self.fitted, self.seed),
            SHUFFLE: shuffle(self.seed),
            SHIFT: circular_shift(seed=self.seed),
            SCALE: scale(arm.parameter) if arm.intervention == SCALE else restore(),
            LOCAL: layer_mean(self.fitted),
            LOCAL_COMPENSATED: layer_mean(self.fitted),
        }
        what = by_name[arm.intervention]
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
