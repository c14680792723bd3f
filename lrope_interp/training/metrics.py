"""What is measured of a run, and where it is told.

`metrics.jsonl` repeats bit for bit, and `timing.jsonl` cannot; TensorBoard and Weights & Biases are told,
through accelerate, what `metrics.jsonl` is told.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lrope_interp.data import Corpus, Document, evaluation_documents, scoring_windows
from lrope_interp.errors import LRopeError
from lrope_interp.files import read_log
from lrope_interp.folders import naming
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.frozen import increments_name
from lrope_interp.runs import Run
from lrope_interp.tokenizers import Tokenizer
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.distribution import Processes, autocast
from lrope_interp.training.events import LayerIncrements, OnEvent, Warned

METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.jsonl"
PROJECT = "lrope-interp"
_PACKAGES = {  # the packages of which one is needed, and how to get it
    "tensorboard": (("tensorboard", "tensorboardX"), "pip install 'lrope-interp[track]'"),
    "wandb": (("wandb",), "pip install wandb"),
}
_FIGURES = ("loss", "bits_per_byte", "nats_per_byte", "lr", "grad_norm")


@dataclass(frozen=True)
class ValidationWindows:
    """Padded windows, and which of their next-token predictions are scored.

    Attributes:
        tokens: Each window, padded on the right with EOS.
        is_scored: True where the token one to the right of the index is scored here; every token
            of the text is scored exactly once, in the window where it has most left context.
        n_bytes: Bytes that the scored tokens stand for.
    """

    tokens: Int64[np.ndarray, "window pos"]
    is_scored: Bool[np.ndarray, "window pos_but_last"]
    n_bytes: int


def validation_documents(corpus: Corpus, max_bytes: int) -> tuple[Document, ...]:
    """Return the fixed validation text: the first of dev in hash order, an equal share a language."""
    languages = {document.language for document in corpus.documents("dev")}
    return evaluation_documents(corpus, "dev", max_bytes=max(1, max_bytes // max(1, len(languages))))


def validation_windows(documents: Sequence[Document], tokenizer: Tokenizer, n_ctx: int) -> ValidationWindows:
    """Cut documents into windows; each document's first window begins with EOS."""
    rows, masks = [], []
    for document in documents:
        sequence = np.concatenate([[tokenizer.eos_id], tokenizer.encode(document.text)])
        for window in scoring_windows(len(sequence), n_ctx):
            row = np.full(n_ctx, tokenizer.eos_id, dtype=np.int64)
            row[: window.stop - window.start] = sequence[window.start : window.stop]
            mask = np.zeros(n_ctx, dtype=bool)
            mask[window.first_scored - window.start : window.stop - window.start] = True
            rows.append(row)
            masks.append(mask[1:])
    if not rows:
        raise LRopeError("the corpus has no held-out text to validate on; give more text")
    tokens, is_scored = np.stack(rows), np.stack(masks)
    return ValidationWindows(tokens, is_scored, int(tokenizer.token_bytes(tokens[:, 1:][is_scored]).sum()))


@torch.no_grad()
def nats_per_byte(
    model: LRopeTransformer,
    windows: ValidationWindows,
    *,
    dtype: str = "float32",
    batch_size: int = 16,
    between_batches: Callable[[], None] = lambda: None,
) -> float:
    """Return the sum of -ln p over the scored tokens, divided by the bytes that they stand for.

    EOS is trained on but not counted.

    Args:
        model: The model; it is left in the mode (training or not) that it came in.
        windows: What to score.
        dtype: What autocast computes in; sums are float64.
        batch_size: Windows a pass.
        between_batches: Called before each pass; what it raises ends the scoring.

    Returns:
        Nats per byte.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        total = 0.0
        for at in range(0, len(windows.tokens), batch_size):
            between_batches()
            tokens = torch.from_numpy(windows.tokens[at : at + batch_size]).to(device)
            is_scored = torch.from_numpy(windows.is_scored[at : at + batch_size]).to(device)
            with autocast(device.type, dtype):
                logits = model(tokens)
            losses = F.cross_entropy(
                logits[:, :-1][is_scored].float(), tokens[:, 1:][is_scored], reduction="none"
            )
            total += float(losses.cpu().double().sum())
    finally:
        model.train(was_training)
    return total / windows.n_bytes


@contextmanager
def watch_increments(model: LRopeTransformer, is_wanted: bool) -> Iterator[list[LayerIncrements]]:
    """Fill a list with every layer's increment statistics during a forward pass.

    The pass is the training pass itself: forward hooks read what it computed. Where nothing is
    wanted, or increments are 1, no hook is set and the list stays empty.

    Args:
        model: The model that is about to run.
        is_wanted: Whether this step is logged.

    Yields:
        The list: one entry a layer, or one a layer and head.
    """
    found: list[LayerIncrements] = []
    if not is_wanted or increments_name(model) == "fixed":
        yield found
        return

    def read(increments: Tensor, hook: object, layer: int) -> None:
        del hook
        found.extend(increment_statistics(layer, increments.detach()))

    hooks = [(f"blocks.{n}.hook_increments", partial(read, layer=n)) for n in range(model.cfg.n_layers)]
    with model.hooks(fwd_hooks=hooks):
        yield found


def increment_statistics(layer: int, increments: Float[Tensor, "batch pos *head"]) -> list[LayerIncrements]:
    """Return mean and s.d. over batch and position, per head where there are heads.

    The first token's increment shifts every position alike and so does nothing: it is left out.
    """
    values = increments[:, 1:].double()
    by_head = {None: values} if values.ndim == 2 else dict(enumerate(values.unbind(-1)))
    moments = {head: torch.std_mean(one, correction=0) for head, one in by_head.items()}
    return [LayerIncrements(layer, head, float(mean), float(sd)) for head, (sd, mean) in moments.items()]


def pooled(
    statistics: Sequence[LayerIncrements], mean: Callable[[Tensor], Tensor], n_parts: int
) -> list[LayerIncrements]:
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
    return [
        LayerIncrements(one.layer, one.head, float(moment), float(sd))
        for one, moment, sd in zip(statistics, moments[:, 0], sds, strict=False)
    ]


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


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse a tracker whose package is not installed."""
    for name in names:
        packages, command = _PACKAGES[name]
        if not any(find_spec(package) for package in packages):
            raise LRopeError(
                f"the tracker {name} needs the package {packages[0]}, which is not here: {command}"
            )


def figures(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a line of metrics as "train/loss", "validation/nats_per_byte" ...

    Each layer (and head) has the mean of its increments: "increments/L0", "increments/L0H1".
    """
    named = {f"{line['split']}/{name}": float(line[name]) for name in _FIGURES if name in line}
    for one in line.get("increments", ()):
        head = f"H{one['head']}" if "head" in one else ""
        named[f"increments/L{one['layer']}{head}"] = float(one["mean"])
    return named


class RunLogs:
    """Where the figures of a run go: two logs in its folder, and trackers; only the main process has any.

    A line is with the system as soon as it is written. What goes wrong in a tracker ends the tracking, with a
    warning, not the run.

    Args:
        folder: The run folder.
        processes: Their accelerator was made with the trackers' names.
        emit: Told when a tracker fails.
    """

    def __init__(self, folder: Path, processes: Processes, emit: OnEvent) -> None:
        self._accelerator, self._emit = processes.accelerator, emit
        self._is_tracked = bool(self._accelerator.log_with) and processes.is_main
        names = (METRICS_FILE, TIMING_FILE) if processes.is_main else ()
        self._files = {name: (folder / name).open("a", encoding="utf-8") for name in names}

    def start_trackers(self, run: Run, config: TrainConfig, step: int) -> None:
        """Begin to tell trackers of a run, or go on with it after `step`."""
        identity = hashlib.sha256(f"{run.folder.name} {run.info['started']}".encode()).hexdigest()[:16]
        one_run = {"name": run.folder.name, "id": identity, "resume": "allow", "dir": str(run.folder)}
        options = {"tensorboard": {"purge_step": step + 1}, "wandb": one_run}
        values = {  # trackers take no lists
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in config.to_dict().items()
        }
        self._track(lambda: self._accelerator.init_trackers(PROJECT, values, options))

    def write(self, name: str, line: Mapping[str, Any]) -> None:
        """Append a line to a log; trackers are told what the metrics are told."""
        if name in self._files:
            with naming(Path(self._files[name].name)):
                self._files[name].write(json.dumps(line, allow_nan=False) + "\n")
                self._files[name].flush()
        if name == METRICS_FILE:
            self._track(lambda: self._accelerator.log(figures(line), step=line["step"]))

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        for file in self._files.values():
            with naming(Path(file.name)):
                os.fsync(file.fileno())

    def _track(self, action: Callable[[], object]) -> None:
        if self._is_tracked:
            try:
                action()
            except Exception as error:  # whatever a tracker does, it is not worth the run
                self._is_tracked = False
                self._emit(Warned(f"a tracker failed and is told nothing more: {error}"))

    def __enter__(self) -> RunLogs:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the trackers, which may have to send what is left, and then the files."""
        try:
            for tracker in self._accelerator.trackers:
                self._track(tracker.finish)
        finally:
            for file in self._files.values():
                file.close()
