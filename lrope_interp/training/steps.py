"""The steps of a run: read a batch, step, log, save, validate.

The order within a step is what makes a resumed run equal an uninterrupted one bit for bit: the
metrics line comes before the checkpoint, and the validation after it, so that going on from a
checkpoint begins with the validation that may still be due.

Where several processes train together, each takes the same decisions at the same steps: losses are
averaged before anybody looks at them, and a signal or the clock counts once all have heard of it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.files import LoopState, check
from lrope_interp.models import LRopeTransformer
from lrope_interp.training import events
from lrope_interp.training.checkpoints import Checkpoint, save_checkpoint
from lrope_interp.training.config import Recording, TrainConfig
from lrope_interp.training.distribution import Processes
from lrope_interp.training.events import LayerIncrements, OnEvent
from lrope_interp.training.metrics import (
    METRICS_FILE,
    TIMING_FILE,
    RunLogs,
    nats_per_byte,
    pooled,
    watch_increments,
)
from lrope_interp.training.preparation import Prepared
from lrope_interp.training.process import StopFlag, StopRequested


@dataclass(frozen=True)
class Sitting:
    """Where and how a run is trained this time, from its start or a checkpoint to its end or an interruption.

    Attributes:
        folder: The run folder; the main process holds its lock.
        processes: The processes that train together.
        recording: What the run leaves besides its numbers.
        emit: Told of every event, in the main process.
    """

    folder: Path
    processes: Processes
    recording: Recording
    emit: OnEvent


class TrainingLoop:
    """The state that changes from step to step, and the steps.

    Args:
        sitting: The run folder, the processes, and who is told.
        prepared: Text, config and validation.
        model: With its initial weights.
        logs: Where its figures go.
        stop: Looked at between steps.
    """

    def __init__(
        self, sitting: Sitting, prepared: Prepared, model: LRopeTransformer, logs: RunLogs, stop: StopFlag
    ) -> None:
        self.folder, self.emit, self.processes = sitting.folder, sitting.emit, sitting.processes
        self.checkpoint_seconds = 60.0 * (sitting.recording.checkpoint_minutes or math.inf)
        self.prepared, self.config, self.logs, self.stop = prepared, prepared.config, logs, stop
        self.model = model.train()
        self.called = self.processes.wrap(model)
        self.optimiser = build_optimiser(model, self.config)
        self.clock = Clock()
        self.step, self.n_bytes = 0, 0
        self.losses: list[float] = []  # since the last line of metrics
        self.unread: list[tuple[int, Tensor, Tensor]] = []  # step, loss, gradient norm
        self.latest: dict[str, float] = {}
        self.saved_step, self.saved_time = -1, time.monotonic()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written."""
        check(LoopState, checkpoint.state, f"the state of {checkpoint.folder} is damaged")
        if checkpoint.step > self.config.n_steps:
            raise LRopeError(
                f"{checkpoint.folder} is of step {checkpoint.step}; the run has {self.config.n_steps} steps"
            )
        checkpoint.load(self.model, self.optimiser)
        self.step = self.saved_step = checkpoint.step
        self.n_bytes, self.losses = checkpoint.state["n_bytes"], list(checkpoint.state["losses"])
        self.latest = dict(checkpoint.state["latest"])
        self.clock = Clock(checkpoint.state["seconds"])

    def run(self) -> dict[str, object]:
        """Train to the last step and return the summary."""
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        epochs = self.prepared.sampler.epochs(self.config.n_steps)
        where = (self.config.device, self.config.dtype)
        self.emit(events.Started(self.folder, self.step, self.config.n_steps, n_parameters, *where, epochs))
        try:
            while True:
                if self._is_due(self.config.eval_every, with_last=True):
                    self._validate()
                if self.step == self.config.n_steps:
                    break
                self._heed()
                self._train_step()
                if self._is_due(self.config.checkpoint_every) and self.step < self.config.n_steps:
                    self._save()
        except StopRequested:  # between two steps; any other KeyboardInterrupt may come within one
            self._save()
            raise
        return {
            "step": self.step,
            "validation_nats_per_byte": self.latest["validation"],
            "validation_bits_per_byte": self.latest["validation"] / math.log(2),
            "validation_bytes": self.prepared.validation.n_bytes,
            "train_loss": self.latest["train_loss"],
            "bytes": self.n_bytes,
            "seconds": self.clock.seconds,
            "bytes_per_second": self.n_bytes / max(1e-9, self.clock.seconds),
        }

    def _heed(self) -> None:
        """Save where the last checkpoint is too long ago, and stop where somebody asked for it.

        On an accelerator several processes ask each other only where losses are read anyway.
        """
        if self.processes.size > 1 and self.config.device != "cpu" and self.step % self.config.log_every:
            return
        waited = time.monotonic() - self.saved_time
        is_late = self.processes.is_main and waited >= self.checkpoint_seconds
        is_late, is_stopped = self.processes.any(is_late, self.stop.is_set)
        if is_late:
            self._save()
        if is_stopped:
            raise StopRequested

    def _is_due(self, every: int, with_last: bool = False) -> bool:
        is_last = with_last and self.step == self.config.n_steps
        return self.step > 0 and (self.step % every == 0 or is_last)

    def _train_step(self) -> None:
        """Take one optimiser step and report it."""
        self.clock.restart()
        batch = self.prepared.sampler.batch(self.step)
        n_bytes = int(self.prepared.tokenizer.token_bytes(batch[:, 1:]).sum())
        self.step += 1
        share = learning_rate_share(self.step, self.config)
        set_learning_rate(self.optimiser, share)
        is_logged = self.step == 1 or self._is_due(self.config.log_every, with_last=True)
        self.optimiser.zero_grad(set_to_none=True)
        with watch_increments(self.model, is_logged) as increments:
            loss = self._backward(torch.from_numpy(batch))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.unread.append((self.step, loss, norm))
        if is_logged or self.config.device == "cpu":  # reading waits for an accelerator
            self._read_losses()
        self.optimiser.step()
        self.n_bytes += n_bytes
        self.clock.stepped(n_bytes)
        if not self.unread:
            n_parts = self.config.grad_accumulation
            if increments and n_parts * self.processes.size > 1:
                increments = pooled(increments, self.processes.mean, n_parts)
            self._report(share * self.config.lr, is_logged, tuple(increments))

    def _backward(self, batch: Int64[Tensor, "batch pos"]) -> Float[Tensor, ""]:
        """Compute the gradients of the batch's mean loss; return the mean over this process's share."""
        losses = []
        for piece in self.processes.pieces(batch):
            with self.processes.accelerator.accumulate(self.called):
                loss = self._loss(piece)
                self.processes.accelerator.backward(loss)
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def _loss(self, tokens: Int64[Tensor, "batch pos"]) -> Float[Tensor, ""]:
        """Return the mean cross entropy over all next tokens, EOS included, in nats."""
        with self.processes.accelerator.autocast():
            logits = self.called(tokens[:, :-1])
        targets = tokens[:, 1:].flatten().to(logits.device)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets)

    def _read_losses(self) -> None:
        """Fetch what was not read yet; a loss or a gradient that is not finite ends the run."""
        if not self.unread:
            return
        losses = self.processes.mean(torch.stack([loss for _, loss, _ in self.unread])).tolist()
        for (step, _, norm), loss in zip(self.unread, losses, strict=True):
            self.latest |= {"loss": loss, "grad_norm": float(norm)}
            self._check_finite(step, "loss")
            self._check_finite(step, "grad_norm")
            self.losses.append(self.latest["loss"])
        self.unread.clear()

    def _check_finite(self, step: int, name: str) -> None:
        if not math.isfinite(self.latest[name]):
            kept = f"the checkpoint of step {self.saved_step}" if self.saved_step > 0 else "no checkpoint yet"
            raise LRopeError(
                f"{name} is {self.latest[name]} at step {step}, so training stopped; {self.folder} keeps "
                f"{kept}. Start a new run with a lower learning rate, in float32, or with another seed"
            )

    def _report(self, lr: float, is_logged: bool, increments: tuple[LayerIncrements, ...]) -> None:
        """Log the mean loss since the line before, and tell of the step; times go to their own file."""
        if is_logged:
            loss = math.fsum(self.losses) / len(self.losses)
            self.losses.clear()
            self.latest["train_loss"] = loss
            line = {
                "step": self.step,
                "split": "train",
                "loss": loss,
                "bits_per_byte": loss * self.prepared.tokens_per_byte / math.log(2),
                "lr": lr,
                "grad_norm": self.latest["grad_norm"],
                "bytes": self.n_bytes,
                "increments": [one.to_dict() for one in increments],
            }
            self.logs.write(METRICS_FILE, line)
            speed = {"seconds": self.clock.seconds, "bytes_per_second": self.clock.bytes_per_second}
            self.logs.write(TIMING_FILE, {"step": self.step, **speed})
        to_go = self.config.n_steps - self.step
        n_validations = -(-to_go // self.config.eval_every)
        self.emit(
            events.Step(
                step=self.step,
                n_steps=self.config.n_steps,
                loss=self.latest["loss"],
                bits=self.latest["loss"] * self.prepared.tokens_per_byte / math.log(2),
                lr=lr,
                bytes_per_second=self.clock.bytes_per_second,
                seconds_left=self.clock.seconds_left(to_go, n_validations),
                increments=increments,
            )
        )

    def _validate(self) -> None:
        windows = self.prepared.validation
        self._read_losses()
        self.clock.restart()
        # One process alone may stop in between; of several, the others wait for the main one.
        stop = self.stop.raise_if_set if self.processes.size == 1 else lambda: None
        how: Any = {"dtype": self.config.dtype, "between_batches": stop}
        scored = self.processes.on_main(lambda: nats_per_byte(self.model, windows, **how))
        nats = self.processes.from_main(scored)
        assert nats is not None
        self.clock.validated()
        bits = nats / math.log(2)
        self.latest["validation"] = nats
        self._check_finite(self.step, "validation")
        line = {"step": self.step, "split": "validation", "nats_per_byte": nats, "bits_per_byte": bits}
        self.logs.write(METRICS_FILE, line | {"bytes": windows.n_bytes})
        self.emit(events.Validated(self.step, self.config.n_steps, nats, bits, windows.n_bytes))

    def _save(self) -> None:
        """Have the main process write a checkpoint of the present step while the others wait."""
        self.saved_time = time.monotonic()
        if self.saved_step == self.step or self.step == 0:
            return
        self._read_losses()
        path = self.processes.on_main(self._write_checkpoint)
        self.saved_step, self.saved_time = self.step, time.monotonic()
        if path is not None:
            self.emit(events.Checkpointed(self.step, self.config.n_steps, path))

    def _write_checkpoint(self) -> Path:
        self.logs.sync()  # the logs are on the disk before what they are cut back to
        told = {"n_bytes": self.n_bytes, "losses": self.losses, "latest": self.latest}
        state = {**told, "seconds": self.clock.seconds}
        return save_checkpoint(self.folder, self.step, self.model, self.optimiser, state)


def build_optimiser(model: LRopeTransformer, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over the model's own parameter groups.

    The groups exempt norms, biases and the increment heads' last layers from weight decay, which
    would otherwise pull an increment of 1 towards half of `max_increment`, and give the heads
    `head_lr_multiplier` times the learning rate.
    """
    groups = model.parameter_groups(config.weight_decay, config.lr, config.head_lr_multiplier)
    for group in groups:
        group["peak_lr"] = group["lr"]
    is_fused = next(model.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=is_fused)


def learning_rate_share(step: int, config: TrainConfig) -> float:
    """Return the learning rate of step 1, 2 ... `n_steps` as a share of the peak.

    It rises in a straight line over `warmup` steps, the last of which has the peak, and falls to
    `min_lr_share` at the last step: along half a cosine, or ("wsd") in a straight line over the last fifth.
    """
    if step <= config.warmup:
        return step / config.warmup
    falls_from = first_decay(config)
    done = max(0, step - falls_from) / max(1, config.n_steps - falls_from)
    left = 1 - done if config.schedule == "wsd" else 0.5 * (1 + math.cos(math.pi * done))
    return config.min_lr_share + (1 - config.min_lr_share) * left


def first_decay(config: TrainConfig) -> int:
    """Return the last step that does not depend on `n_steps`: after it the learning rate falls."""
    if config.schedule == "cosine":
        return config.warmup
    return max(config.warmup, config.n_steps - config.n_steps // 5)


def set_learning_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Set every group to `share` of its own peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak_lr"] * share


class Clock:
    """How fast training goes, and how long it will still take; it decides nothing.

    It counts the seconds of optimiser steps; validation and checkpoints are not training time.

    Args:
        seconds: Training time of the sessions before this one.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._validation_seconds = 0.0
        self._recent: deque[tuple[float, int]] = deque(maxlen=20)  # seconds and bytes of a step
        self._since = time.perf_counter()

    def restart(self) -> None:
        """Begin to count: what happened since the last step is not training time."""
        self._since = time.perf_counter()

    def stepped(self, n_bytes: int) -> None:
        """Count the time since the last call as that of a step over `n_bytes` bytes."""
        now = time.perf_counter()
        self._recent.append((now - self._since, n_bytes))
        self.seconds += now - self._since
        self._since = now

    def validated(self) -> None:
        """Count the time since the last step as a validation's."""
        self._validation_seconds = time.perf_counter() - self._since
        self.restart()

    @property
    def bytes_per_second(self) -> float:
        """Training speed over the latest steps, in bytes read as targets."""
        return sum(n_bytes for _, n_bytes in self._recent) / max(1e-9, self._recent_seconds)

    def seconds_left(self, n_steps: int, n_validations: int) -> float:
        """Estimate the time for so many more steps and validations."""
        step_seconds = self._recent_seconds / max(1, len(self._recent))
        return n_steps * step_seconds + n_validations * self._validation_seconds

    @property
    def _recent_seconds(self) -> float:
        return sum(seconds for seconds, _ in self._recent)
