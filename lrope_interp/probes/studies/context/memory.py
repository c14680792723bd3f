"""How much memory a computation takes at its worst moment, beyond what was held before it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")


def working_bytes(compute: Callable[[], object], device: str) -> int | None:
    """Run `compute` once and return the peak of memory during it minus the memory before it.

    On CUDA this is what torch's allocator handed out. On a CPU it is resident memory: freed memory is
    given back first, the kernel's high-water mark is reset, and read again afterwards. Allocator and
    threads blur it by some per cent.

    Args:
        compute: What is run; its result is dropped.
        device: "cpu", "cuda" or "mps".

    Returns:
        Bytes; None where the system does not tell (not Linux, MPS). `compute` has run all the same.
    """
    if device == "cuda":
        return _on_cuda(compute)
    before = _resident_after_reset() if device == "cpu" else None
    compute()
    after = _field("VmHWM")
    return None if before is None or after is None else max(0, after - before)


def _on_cuda(compute: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    compute()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _resident_after_reset() -> int | None:
    """Give freed memory back, set the high-water mark to the present, and return the present."""
    if not sys.platform.startswith("linux"):
        return None
    with suppress(OSError, AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return None
    return _field("VmRSS")


def _field(name: str) -> int | None:
    """Return a size out of the process's status, in bytes."""
    try:
        lines = (_PROCESS / "status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None
