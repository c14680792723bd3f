"""Where a run is computed: device, precision, and the processes that train it, on Hugging Face accelerate.

Started by itself a run has one process; started by `accelerate launch` or `torchrun` it has several,
each with its share of every batch. Only the main one writes. What can fail on one of them is done
through `together`, so that it fails on all and nobody is waited for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.config import resolve_device
from lrope_interp.training.config import DTYPES, TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
_PATIENCE = timedelta(hours=2)  # the first encoding of a large text is waited for


def resolve_dtype(name: str, device: str) -> str:
    """Return "float32" or "bfloat16" for a dtype name or "auto".

    bfloat16 is chosen where it is computed in hardware: CUDA since Ampere, CPUs with AMX or
    AVX512-BF16. Elsewhere it is emulated, and slower than float32.
    """
    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    if name != "auto":
        return name
    return "bfloat16" if has_bfloat16(device) else "float32"


def has_bfloat16(device: str) -> bool:
    """Return whether `device` multiplies bfloat16 matrices in hardware."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":  # torch names these checks with an underscore, so they may go
        checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return False


def autocast(device: str, dtype: str) -> AbstractContextManager[object]:
    """Return the autocast context; it does nothing for float32.

    Autocast's cache of cast weights is kept: the weights change only between two contexts.
    """
    return torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == "bfloat16")


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        accelerator: Device, precision, gradients and trackers.
    """

    accelerator: Accelerator

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.accelerator.is_main_process

    def wrap(self, model: LRopeTransformer) -> torch.nn.Module:
        """Return what the training pass calls: the model, or DDP around it where there are several."""
        return model if self.size == 1 else self.accelerator.prepare_model(model)

    def pieces(self, batch: Int64[Tensor, "batch pos"]) -> tuple[Int64[Tensor, "piece pos"], ...]:
        """Return this process's share of a batch, cut for gradient accumulation.

        The batch is the same in every process, and process r of W takes rows r, r + W, r + 2W ... of
        it: what is read at a step does not depend on how many processes read it.
        """
        share = batch[self.accelerator.process_index :: self.size]
        return share.chunk(self.accelerator.gradient_accumulation_steps)

    def mean(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the mean over all processes."""
        if self.size == 1:
            return values
        summed = self.accelerator.reduce(values.to(self.accelerator.device), reduction="mean")
        assert isinstance(summed, Tensor)
        return summed

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return which flags are up in at least one process."""
        if self.size == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.float32)
        return tuple(bool(share > 0) for share in self.mean(raised))

    def together(self, action: Callable[[], T]) -> T:
        """Do something in every process; where it fails in one, it fails in all.

        Raises:
            LRopeError: It failed in another process, with that one's message; what it raised here is
                raised as it is.
        """
        if self.size == 1:
            return action()
        error: Exception | None = None
        value: T | None = None
        try:
            value = action()
        except Exception as raised:  # told to the others first, then raised
            error = raised
        told = self._gather(None if error is None else str(error) or type(error).__name__)
        if error is not None:
            raise error
        for message in filter(None, told):
            raise LRopeError(message)
        return value  # type: ignore[return-value]

    def on_main(self, action: Callable[[], T]) -> T | None:
        """Do something in the main process while the others wait for it; they get None."""
        return self.together(lambda: action() if self.is_main else None)

    def main_first(self, action: Callable[[], T]) -> T:
        """Do something in the main process and then in the others, which find what it left in a cache."""
        done: list[T] = []
        self.on_main(lambda: done.append(action()))
        return self.together(lambda: done[0] if done else action())

    def from_main(self, value: T) -> T:
        """Return the main process's value in every process."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        (shared,) = broadcast_object_list([value])
        return shared

    def log_into(self, folder: Path) -> None:
        """Let trackers write into a run folder."""
        where = self.accelerator.project_configuration
        where.project_dir, where.logging_dir = str(folder), str(folder / "tensorboard")

    def _gather(self, value: str | None) -> list[str | None]:
        from accelerate.utils import gather_object

        return gather_object([value])


def decided(config: TrainConfig) -> TrainConfig:
    """Return the config with device and precision decided; `accelerate launch --cpu` decides "auto" too."""
    asked = config.device
    if asked == "auto" and os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"):
        asked = "cpu"
    device = resolve_device(asked)
    return replace(config, device=device, dtype=resolve_dtype(config.dtype, device))


def launched_as_main() -> bool:
    """Return whether the process is the one that speaks, before or without any `Processes`."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


@contextmanager
def joined(config: TrainConfig, log_to: tuple[str, ...] = ()) -> Iterator[Processes]:
    """Join the processes that train a (decided) config.

    accelerate keeps its state for the whole process; it is put aside and put back, so that one
    process can train many runs, in different precisions. The process group stays for the next one.

    Args:
        config: What is trained.
        log_to: Trackers, of `recording.TRACKERS`.

    Raises:
        LRopeError: The batch cannot be shared among the processes.
    """
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.utils import ProjectConfiguration

    if torch.distributed.is_available():
        # Imported after the group is made, as DDP would, these functions keep it for ever as the default of
        # their argument `group`: its threads outlive `leave`, and one that drops a tensor while Python ends
        # aborts the process.
        from torch.distributed.nn import functional  # noqa: F401
    with _own_state():
        accelerator = Accelerator(
            cpu=config.device == "cpu",
            mixed_precision="bf16" if config.dtype == "bfloat16" else "no",
            gradient_accumulation_steps=config.grad_accumulation,
            log_with=list(log_to) or None,
            project_config=ProjectConfiguration(logging_dir="tensorboard"),  # `log_into` says where
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        )
        n_pieces = accelerator.num_processes * config.grad_accumulation
        if config.batch_size % n_pieces:
            raise LRopeError(
                f"batch_size={config.batch_size} cannot be shared equally among {accelerator.num_processes} "
                f"processes with grad_accumulation={config.grad_accumulation}: a multiple of {n_pieces} is "
                f"wanted, {-(-config.batch_size // n_pieces) * n_pieces} for example"
            )
        if accelerator.device.type != config.device:
            raise LRopeError(
                f"the run wants device {config.device!r}, and accelerate was started for "
                f"{accelerator.device.type!r}; say the same to both, or leave the device out"
            )
        yield Processes(accelerator)


def leave() -> None:
    """Take the process out of its group, if it is in one; the last thing that a command does."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def _own_state() -> Iterator[None]:
    """Give accelerate a blank state and put back what was there before."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    states = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in states]
    for state in states:
        state.clear()
    try:
        yield
    finally:
        for state, said in zip(states, before, strict=True):
            state.clear()
            state.update(said)
