"""The roof: the matrix products of one training step, and nothing else.

What a step may reach at most is the speed of plain products of the shapes that the model's linear
layers have, forward and for both gradients. Attention's products are left out: their shapes differ
between implementations.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from benchmarks.arms import Shape


def linear_flops(shape: Shape) -> float:
    """Return the FLOPs of the linear layers' products in one step, a multiply-add counted as two."""
    return sum(6.0 * shape.n_tokens * n_in * n_out for n_in, n_out in _layers(shape))


def attention_flops(shape: Shape) -> float:
    """Return the FLOPs of causal attention in one step: scores and values, half of the square, times 3."""
    pairs = shape.batch_size * shape.n_ctx * (shape.n_ctx + 1) / 2
    return 3 * 2 * 2 * pairs * shape.d_model * shape.n_layers


class Roof:
    """Operands of every product, made once; `step` multiplies them and times only that."""

    def __init__(self, shape: Shape, device: str, dtype: torch.dtype) -> None:
        self.device = device
        self.operands = [
            pair
            for n_in, n_out in dict.fromkeys(_layers(shape))
            for pair in _products(shape.n_tokens, n_in, n_out, device, dtype)
        ]
        self.counts = {layer: _layers(shape).count(layer) for layer in dict.fromkeys(_layers(shape))}

    def step(self) -> float:
        """Return the seconds that all products of a step take."""
        seconds = 0.0
        counts = [count for count in self.counts.values() for _ in range(3)]
        for (left, right), count in zip(self.operands, counts, strict=True):
            for _ in range(count):
                self._wait()
                started = time.perf_counter()
                torch.mm(left, right)
                self._wait()
                seconds += time.perf_counter() - started
        return seconds

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def _layers(shape: Shape) -> list[tuple[int, int]]:
    """Return inputs and outputs of every linear layer, q, k, v as one and the MLP's first two apart."""
    block = [
        (shape.d_model, 3 * shape.d_model),
        (shape.d_model, shape.d_model),
        (shape.d_model, shape.d_mlp),
        (shape.d_model, shape.d_mlp),
        (shape.d_mlp, shape.d_model),
    ]
    return block * shape.n_layers + [(shape.d_model, shape.d_vocab)]


def _products(
    n_tokens: int, n_in: int, n_out: int, device: str, dtype: torch.dtype
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the operands of the forward product, the input's gradient and the weight's gradient."""
    x = torch.randn(n_tokens, n_in, device=device, dtype=dtype)
    weight = torch.randn(n_out, n_in, device=device, dtype=dtype)
    grad = torch.randn(n_tokens, n_out, device=device, dtype=dtype)
    yield x, weight.T
    yield grad, weight
    yield grad.T, x
