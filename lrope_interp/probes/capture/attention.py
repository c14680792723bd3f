"""How far attention looks back, and how much of it stays within a word.

Queries and keys are read as they are turned, and the pattern is computed from them: a hook on the
pattern itself would send the model through another kernel, and change its numbers in the last digit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lrope_interp.models import HookPoint, LRopeTransformer

METRICS = ("look_back", "within_word")


class AttentionReads:
    """Reading hooks on every layer of one forward pass over whole sequences.

    Attributes:
        hooks: For `model.hooks(fwd_hooks=...)`; they change nothing.
    """

    def __init__(self, model: LRopeTransformer, words: Int[Tensor, "batch pos"]) -> None:
        """Prepare to read.

        Args:
            model: The model that will run.
            words: Number of the word that each token stands in, negative for none.
        """
        self._model, self._words = model, words
        self._queries: dict[int, Tensor] = {}
        self._read: dict[int, Tensor] = {}
        self.hooks: list[tuple[str, Callable[[Tensor, HookPoint], None]]] = [
            (f"blocks.{layer}.attn.hook_rot_{part}", keep)
            for layer in range(model.cfg.n_layers)
            for part, keep in (("q", self._keep_queries), ("k", self._read_keys))
        ]

    def values(self) -> Float[Tensor, "metrics layers head batch pos"]:
        """Return what was read: tokens of look-back, and the share of attention within the query's word.

        The share counts the query itself, and is NaN where a query stands in no word.
        """
        return torch.stack([self._read[layer] for layer in sorted(self._read)], dim=1)

    def _keep_queries(self, rot_q: Tensor, hook: HookPoint) -> None:
        self._queries[hook.layer()] = rot_q

    def _read_keys(self, rot_k: Tensor, hook: HookPoint) -> None:
        layer = hook.layer()
        scores = self._model.blocks[layer].attn.scores(self._queries.pop(layer), rot_k)
        n_pos = scores.shape[-1]
        is_future = torch.ones(n_pos, n_pos, dtype=torch.bool, device=scores.device).triu(1)
        pattern = scores.masked_fill_(is_future, -torch.inf).softmax(dim=-1).float()
        place = torch.arange(n_pos, device=scores.device, dtype=torch.float32)
        look_back = place - pattern @ place
        is_same = (self._words[:, :, None] == self._words[:, None, :])[:, None]
        within = (pattern * is_same).sum(dim=-1)
        within = within.masked_fill((self._words < 0)[:, None], torch.nan)
        self._read[layer] = torch.stack([look_back, within]).movedim(2, 1)
