"""Where training runs and what it computes in: "auto" resolved, what is missing refused."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.training.config import DEVICES, DTYPES


def resolve_device(name: str) -> str:
    """Return "cuda", "mps" or "cpu" for a device name or "auto"; a missing device is refused."""
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    available = [device for device in ("cuda", "mps", "cpu") if _is_available(device)]
    if name == "auto":
        return available[0]
    if name not in available:
        raise LRopeError(
            f"device {name!r} was asked for, but torch {torch.__version__} sees only "
            f"{', '.join(available)} here; use --device auto"
        )
    return name


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


def _is_available(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_available()
    return device == "cpu" or torch.backends.mps.is_available()
