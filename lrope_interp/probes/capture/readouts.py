"""Numbers read off the residual stream while a model is captured, so that the stream need not be kept.

At a million bytes, six layers of a 256-dimensional stream are 6 GB. What is wanted of it is a few
numbers a byte: a probe's score, a random head's increment, the cosine between neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from lrope_interp.models.increments import IncrementHead

HIDDEN = "hidden"


@dataclass(frozen=True)
class Readout:
    """A function of the residual stream before a layer.

    Attributes:
        name: Its key in `Captured.readouts`.
        width: How many numbers it gives a token.
        function: From the layer and its stream [batch, pos, d_model] to [batch, pos, width].
    """

    name: str
    width: int
    function: Callable[[int, Float[Tensor, "batch pos d_model"]], Float[Tensor, "batch pos width"]]


@dataclass(frozen=True)
class ResidualReads:
    """What to read off the residual stream.

    Attributes:
        readouts: Numbers for every byte.
        hidden_at: Joined bytes, rising, at which to keep the stream itself; they must begin tokens.
    """

    readouts: tuple[Readout, ...] = ()
    hidden_at: Int64[np.ndarray, " sampled"] | None = None

    def __bool__(self) -> bool:
        """Whether anything is to be read."""
        return bool(self.readouts) or self.hidden_at is not None

    def read(
        self, streams: Mapping[int, Float[Tensor, "batch pos d_model"]]
    ) -> dict[str, Float[Tensor, "layers _ batch pos"]]:
        """Return every readout of every layer, and the stream itself under "hidden"."""
        found = {
            one.name: torch.stack([one.function(layer, x).permute(2, 0, 1) for layer, x in streams.items()])
            for one in self.readouts
        }
        if self.hidden_at is not None and len(self.hidden_at):
            found[HIDDEN] = torch.stack([x.permute(2, 0, 1) for x in streams.values()])
        return found


NO_RESIDUAL = ResidualReads()


def _cosine(layer: int, stream: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos 1"]:
    """Cosine of each state with the one before; 1 at the first index, which is EOS."""
    del layer
    cosine = F.cosine_similarity(stream[:, 1:], stream[:, :-1], dim=-1)
    return F.pad(cosine, (1, 0), value=1.0).unsqueeze(-1)


COSINE = Readout("cosine", 1, _cosine)


def head_readout(name: str, heads: Sequence[Mapping[int, IncrementHead]]) -> Readout:
    """Read increments through other heads than the model's own; they steer nothing.

    Args:
        name: Of the readout.
        heads: For each seed, the head of each layer.
    """
    n_out = next(iter(heads[0].values())).W_out.shape[-1]

    def read(layer: int, stream: Tensor) -> Tensor:
        pre = [one[layer].read_out(one[layer].hidden(stream)) for one in heads]
        return torch.cat([one[layer].squash(p) for one, p in zip(heads, pre, strict=True)], dim=-1)

    return Readout(name, len(heads) * n_out, read)


def linear_readout(
    name: str, weights: Mapping[int, tuple[Float32[np.ndarray, "d_model _"], Float32[np.ndarray, " _"]]]
) -> Readout:
    """Read scores of linear probes: for each layer a matrix and a bias."""
    tensors = {layer: (torch.from_numpy(w), torch.from_numpy(b)) for layer, (w, b) in weights.items()}
    width = next(iter(tensors.values()))[0].shape[1]

    def read(layer: int, stream: Tensor) -> Tensor:
        matrix, bias = (one.to(stream.device) for one in tensors[layer])
        return stream.float() @ matrix + bias

    return Readout(name, width, read)
