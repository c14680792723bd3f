"""From the logits of one step to the next token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lrope_interp.errors import LRopeError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, as in TransformerLens' `sample_logits`.

    Attributes:
        do_sample: Draw from the distribution; otherwise, or at temperature 0, take the likeliest token.
        temperature: Divides the logits.
        top_k: Draw among the k likeliest tokens only.
        top_p: Draw among the fewest tokens whose probabilities reach p; not together with `top_k`.
        freq_penalty: Subtracted from a token's logit for each time it has occurred, prompt included.
        generator: Where the randomness comes from; torch's global generator if None.
    """

    do_sample: bool = True
    temperature: float | int = 1.0
    top_k: int | None = None
    top_p: float | int | None = None
    freq_penalty: float | int = 0.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.temperature < 0:
            raise LRopeError(f"temperature must be at least 0; got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise LRopeError(f"top_k must be at least 1; got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise LRopeError(f"top_p must be above 0 and at most 1; got {self.top_p}")
        if self.top_k is not None and self.top_p is not None:
            raise LRopeError("top_k and top_p exclude each other: give one of them")
        if self.freq_penalty < 0:
            raise LRopeError(f"freq_penalty must be at least 0; got {self.freq_penalty}")

    def pick(
        self,
        logits: Float[Tensor, "batch d_vocab"],
        tokens: Int[Tensor, "batch pos"],
        mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Int[Tensor, " batch"]:
        """Return the next token of each row, given all tokens so far and 0 where they are padding."""
        if not self.do_sample or self.temperature == 0:
            return logits.argmax(-1)
        logits = logits.float() / self.temperature
        if self.freq_penalty:
            occurs = (torch.ones_like(tokens) if mask is None else mask).to(logits)
            counts = torch.zeros_like(logits).scatter_add_(1, tokens, occurs)
            logits = logits - self.freq_penalty * counts
        probabilities = self._restricted(logits).softmax(-1)
        return torch.multinomial(probabilities, 1, replacement=True, generator=self.generator).squeeze(1)

    def _restricted(self, logits: Tensor) -> Tensor:
        """Set the logits of tokens that may not be drawn to -inf."""
        if self.top_k is not None:
            least = logits.topk(min(self.top_k, logits.shape[-1]), dim=-1).values[..., -1:]
            return logits.masked_fill(logits < least, -torch.inf)
        if self.top_p is not None:
            ordered, order = logits.sort(descending=True)
            before = ordered.softmax(-1).cumsum(-1).roll(1, -1)  # what likelier tokens have together
            before[..., 0] = 0
            return logits.masked_fill(
                (before > self.top_p).scatter(-1, order, before > self.top_p), -torch.inf
            )
        return logits
