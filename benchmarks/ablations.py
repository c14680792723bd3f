"""What an ablation suite saves by beginning each pass at the first layer that it writes to.

    python -m benchmarks.ablations RUN [--rounds 5] [--batch-size 16]

Times a forward pass over windows of random bytes from every layer on, interleaved, and adds up what
the default suite would take with and without skipping. Random bytes cost what any text costs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.attach import ablation_hooks
from lrope_interp.probes.ablations.interventions import freeze
from lrope_interp.probes.ablations.plan import passes, plan


def main() -> None:
    """Print the median time from each layer on, and the gain of the default suite."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    asked = parser.parse_args()
    model = LRopeTransformer.from_pretrained(asked.run)
    n_layers = model.cfg.n_layers
    seconds: dict[int, list[float]] = {layer: [] for layer in range(n_layers)}
    tokens, streams = read_streams(model, asked.batch_size)
    for round_number in range(asked.rounds + 1):
        for layer in range(n_layers):
            taken = timed(model, tokens, streams[layer], layer)
            if round_number:  # the first one warms up
                seconds[layer].append(taken)
    median = {layer: statistics.median(found) for layer, found in seconds.items()}
    arms = passes(plan(n_layers))
    with_skipping = median[0] + sum(median[min(arm.layers)] for arm in arms)
    without = median[0] * (1 + len(arms))
    for layer, found in median.items():
        print(f"from layer {layer}: {1000 * found:8.1f} ms   {found / median[0]:.2f} of a whole pass")
    print(f"{1 + len(arms)} passes: {without / with_skipping:.2f} times as fast with skipping as without")


@torch.inference_mode()
def read_streams(model: LRopeTransformer, batch_size: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return random windows and the residual stream before each layer."""
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(256, (batch_size, model.cfg.n_ctx), generator=draw)
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("resid_pre"))
    return tokens, [cache["resid_pre", layer] for layer in range(model.cfg.n_layers)]


@torch.inference_mode()
def timed(model: LRopeTransformer, tokens: torch.Tensor, stream: torch.Tensor, layer: int) -> float:
    """Return the seconds of one pass from a layer on, ablated there."""
    hooks = ablation_hooks(freeze(1.0), layers=layer)
    began = time.perf_counter()
    with model.hooks(fwd_hooks=hooks):
        model(stream, start_at_layer=layer, tokens=tokens)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
