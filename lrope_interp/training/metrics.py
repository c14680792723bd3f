"""The two logs of a run: `metrics.jsonl`, which repeats bit for bit, and `timing.jsonl`, which cannot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lrope_interp.files import read_log
from lrope_interp.folders import naming
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.frozen import increments_name
from lrope_interp.training.events import IncrementStatistics

METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.jsonl"


class JsonLines:
    """An append-only file of JSON lines; a line is with the system as soon as it is written."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        with naming(self._path):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        with naming(self._path):
            os.fsync(self._file.fileno())

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a log; a last line that a crash cut short is left out."""
    return [line for _, line in read_log(path)]


def cut_back(path: Path, step: int) -> None:
    """Cut a log back to what it held when the checkpoint of `step` was written.

    That is everything up to `step` but its validation, which comes after the checkpoint and is
    done again.
    """
    kept = 0
    for end, line in read_log(path):
        is_train = line.get("split", "train") == "train"
        if line["step"] > step or (line["step"] == step and not is_train):
            break
        kept = end
    if path.exists():
        os.truncate(path, kept)


@contextmanager
def watch_increments(model: LRopeTransformer, is_wanted: bool) -> Iterator[list[IncrementStatistics]]:
    """Fill a list with every layer's increment statistics during a forward pass.

    The pass is the training pass itself: forward hooks read what it computed. Where nothing is
    wanted, or increments are 1, no hook is set and the list stays empty.

    Args:
        model: The model that is about to run.
        is_wanted: Whether this step is logged.

    Yields:
        The list: one entry a layer, or one a layer and head.
    """
    found: list[IncrementStatistics] = []
    if not is_wanted or increments_name(model) == "fixed":
        yield found
        return
    names = [f"blocks.{layer}.hook_increments" for layer in range(model.cfg.n_layers)]
    with model.hooks(fwd_hooks=[(name, _reader(layer, found)) for layer, name in enumerate(names)]):
        yield found


def _reader(layer: int, found: list[IncrementStatistics]) -> Callable[..., None]:
    def read(increments: Tensor, hook: object) -> None:
        del hook
        found.extend(increment_statistics(layer, increments.detach()))

    return read


def increment_statistics(
    layer: int, increments: Float[Tensor, "batch pos *head"]
) -> list[IncrementStatistics]:
    """Return mean and s.d. over batch and position, per head where there are heads.

    The first token's increment shifts every position alike and so does nothing: it is left out.
    """
    values = increments[:, 1:].double()
    if values.ndim == 2:
        return [_statistics(layer, None, values)]
    return [_statistics(layer, head, values[..., head]) for head in range(values.shape[-1])]


def pooled(
    statistics: Sequence[IncrementStatistics], mean: Callable[[Tensor], Tensor], n_parts: int
) -> tuple[IncrementStatistics, ...]:
    """Return the statistics of a batch from those of its equal parts.

    Args:
        statistics: Of every part that was computed here, one part after the other.
        mean: Averages a tensor over all processes.
        n_parts: Parts here.

    Returns:
        One entry a layer (and head). The s.d. is that over all tokens, not the mean of the parts'.
    """
    parts = torch.tensor([(one.mean, one.mean**2 + one.sd**2) for one in statistics], dtype=torch.float64)
    moments = mean(parts.reshape(n_parts, -1, 2).mean(0)).cpu()
    sds = (moments[:, 1] - moments[:, 0] ** 2).clamp(min=0).sqrt()
    return tuple(
        IncrementStatistics(one.layer, one.head, float(moment), float(sd))
        for one, moment, sd in zip(statistics, moments[:, 0], sds, strict=False)
    )


def _statistics(layer: int, head: int | None, values: Float[Tensor, "batch pos"]) -> IncrementStatistics:
    sd, mean = torch.std_mean(values, correction=0)
    return IncrementStatistics(layer, head, float(mean), float(sd))
