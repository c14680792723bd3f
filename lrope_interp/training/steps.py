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
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.files import LoopState, check
from lrope_interp.models import LRopeTransformer
from lrope_interp.training import events
from lrope_interp.training.checkpoints import Checkpoint, save_checkpoint
from lrope_interp.training.clock import Clock
from lrope_interp.training.events import IncrementStatistics
from lrope_interp.training.interruption import StopRequested
from lrope_interp.training.metrics import pooled, watch_increments
from lrope_interp.training.optimiser import (
    build_optimiser,
    clip_gradients,
    learning_rate_share,
    set_learning_rate,
)
from lrope_interp.training.preparation import Prepared
from lrope_interp.training.session import Session
from lrope_interp.training.validation import nats_per_byte


class TrainingLoop:
    """The state that changes from step to step, and the steps.

    Args:
        session: The run folder, the processes, the logs, and who is told.
        prepared: Text, config and validation.
        model: With its initial weights.
    """

    def __init__(self, session: Session, prepared: Prepared, model: LRopeTransformer) -> None:
        self.session, self.prepared, self.config = session, prepared, prepared.config
        self.folder, self.emit, self.processes = session.folder, session.emit, session.processes
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
        self._announce()
        try:
            while True:
                if self._is_due(self.config.eval_every, with_last=True):
                    self._validate()
                if self.step == self.config.n_steps:
                    return self._summary()
                self._heed()
                self._train_step()
                if self._is_due(self.config.checkpoint_every) and self.step < self.config.n_steps:
                    self._save()
        except StopRequested:  # between two steps; any other KeyboardInterrupt may come within one
            self._save()
            raise

    def _heed(self) -> None:
        """Save where the last checkpoint is too long ago, and stop where somebody asked for it.

        On an accelerator several processes ask each other only where losses are read anyway.
        """
        if self.processes.size > 1 and self.config.device != "cpu" and self.step % self.config.log_every:
            return
        waited = time.monotonic() - self.saved_time
        is_late = self.processes.is_main and waited >= self.session.recording.checkpoint_seconds
        is_late, is_stopped = self.processes.any(is_late, self.session.stop.is_set)
        if is_late:
            self._save()
        if is_stopped:
            raise StopRequested

    def _announce(self) -> None:
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        epochs = self.prepared.sampler.epochs(self.config.n_steps)
        where = (self.config.device, self.config.dtype)
        self.emit(events.Started(self.folder, self.step, self.config.n_steps, n_parameters, *where, epochs))

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
        norm = clip_gradients(self.model.parameters(), self.config.grad_clip)
        self.unread.append((self.step, loss, norm))
        if is_logged or self.config.device == "cpu":  # reading waits for an accelerator
            self._read_losses()
        self.optimiser.step()
        self.n_bytes += n_bytes
        self.clock.stepped(1, n_bytes)
        if not self.unread:
            self._report(share * self.config.lr, is_logged, self._pooled(increments))

    def _backward(self, batch: Int64[Tensor, "batch pos"]) -> Float[Tensor, ""]:
        """Compute the gradients of the batch's mean loss; return the mean over this process's share."""
        losses = []
        for piece in self.processes.pieces(batch):
            with self.processes.accelerator.accumulate(self.called):
                loss = self._loss(piece)
                self.processes.accelerator.backward(loss)
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def _pooled(self, increments: list[IncrementStatistics]) -> tuple[IncrementStatistics, ...]:
        n_parts = self.config.grad_accumulation
        if not increments or n_parts * self.processes.size == 1:
            return tuple(increments)
        return pooled(increments, self.processes.mean, n_parts)

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
            for name in ("loss", "grad_norm"):
                if not math.isfinite(self.latest[name]):
                    raise self._not_finite(step, name)
            self.losses.append(self.latest["loss"])
        self.unread.clear()

    def _not_finite(self, step: int, name: str) -> LRopeError:
        kept = f"the checkpoint of step {self.saved_step}" if self.saved_step > 0 else "no checkpoint yet"
        return LRopeError(
            f"{name} is {self.latest[name]} at step {step}, so training stopped; {self.folder} keeps {kept}. "
            "Start a new run with a lower learning rate, in float32, or with another seed"
        )

    def _report(self, lr: float, is_logged: bool, increments: tuple[IncrementStatistics, ...]) -> None:
        if is_logged:
            self._write_lines(lr, increments)
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

    def _write_lines(self, lr: float, increments: tuple[IncrementStatistics, ...]) -> None:
        """Log the mean loss since the line before; all wall-clock figures go to their own file."""
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
        self.session.write_metrics(line)
        speed = {"seconds": self.clock.seconds, "bytes_per_second": self.clock.bytes_per_second}
        self.session.write_timing({"step": self.step, **speed})

    def _validate(self) -> None:
        windows = self.prepared.validation
        self._read_losses()
        self.clock.restart()
        nats = self.processes.on_main(self._score)
        nats = self.processes.from_main(nats)
        assert nats is not None
        self.clock.validated()
        bits = nats / math.log(2)
        self.latest["validation"] = nats
        if not math.isfinite(nats):
            raise self._not_finite(self.step, "validation")
        line = {"step": self.step, "split": "validation", "nats_per_byte": nats, "bits_per_byte": bits}
        self.session.write_metrics(line | {"bytes": windows.n_bytes})
        self.emit(events.Validated(self.step, self.config.n_steps, nats, bits, windows.n_bytes))

    def _score(self) -> float:
        """Return the nats per byte of the validation text; one process alone may stop in between."""
        stop = self.session.stop.raise_if_set if self.processes.size == 1 else lambda: None
        windows, dtype = self.prepared.validation, self.config.dtype
        return nats_per_byte(self.model, windows, dtype=dtype, between_batches=stop)

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
        """Write a checkpoint; the logs are on the disk before it."""
        if self.session.logs is not None:
            self.session.logs.sync()
        state = {
            "n_bytes": self.n_bytes,
            "losses": self.losses,
            "latest": self.latest,
            "seconds": self.clock.seconds,
        }
        return save_checkpoint(self.folder, self.step, self.model, self.optimiser, state)

    def _summary(self) -> dict[str, object]:
        nats = self.latest["validation"]
        return {
            "step": self.step,
            "validation_nats_per_byte": nats,
            "validation_bits_per_byte": nats / math.log(2),
            "validation_bytes": self.prepared.validation.n_bytes,
            "train_loss": self.latest["train_loss"],
            "bytes": self.n_bytes,
            "seconds": self.clock.seconds,
            "bytes_per_second": self.n_bytes / max(1e-9, self.clock.seconds),
        }
