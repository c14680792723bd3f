"""Shared by every test: no network, few threads, and tiny models with randomised parameters."""

from __future__ import annotations

import os

# Before anything imports transformers or wandb: one failed look-up costs 40 seconds.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["NO_COLOR"] = "1"
os.environ["TERM"] = "dumb"

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lrope_interp.models import LRopeTransformer

# The cache of texts is the session's own, also for the processes that tests start.
_CACHE = tempfile.mkdtemp(prefix="lrope-interp-cache-")
os.environ["LROPE_INTERP_CACHE"] = _CACHE
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Bit-for-bit comparisons need a fixed thread count, and xdist shares the cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no run there is no model either, whether the package has its weights or not."""
    monkeypatch.setattr("lrope_interp.runs.SHIPPED", Path("/nowhere/reference"))


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every fsync and rename from now on, in order, by the name of what it is done to."""
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("names of open files are read from /proc")
    noted: list[tuple[str, str]] = []
    fsync = os.fsync

    def noting_fsync(handle: int) -> None:
        noted.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def noting(move: Callable[..., Any]) -> Callable[..., Any]:
        def moved(old: Any, new: Any) -> Any:
            noted.append(("rename", f"{old} -> {new}"))
            return move(old, new)

        return moved

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting(os.replace))
    monkeypatch.setattr(os, "rename", noting(os.rename))
    return noted


@pytest.fixture(scope="session")
def make_model() -> Callable[..., LRopeTransformer]:
    """Build a tiny model whose parameters are all random.

    At initialisation the increments are 1 everywhere and the model is ordinary RoPE, which hides
    bugs; `make_model(seed=0, **config)` therefore draws every parameter, norms and heads included.
    """
    return _make_model


def _make_model(seed: int = 0, **config: Any) -> LRopeTransformer:
    import torch

    from lrope_interp.models import LRopeConfig, LRopeTransformer

    shape = {
        "n_layers": 2,
        "d_model": 16,
        "n_heads": 2,
        "d_head": 8,
        "d_mlp": 32,
        "d_vocab": 257,
        "n_ctx": 32,
    }
    model = LRopeTransformer(LRopeConfig(**(shape | config)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            is_gain = parameter.ndim == 1 and name.endswith(".w")
            parameter.copy_(1 + 0.3 * noise if is_gain else 0.3 * noise)
    return model.eval()


@pytest.fixture
def tiny_model(make_model: Callable[..., LRopeTransformer]) -> LRopeTransformer:
    """Two layers, width 16, one increment head a layer, every parameter random."""
    return make_model()


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The headless Chromium of this machine; tests that need it are skipped where there is none."""
    found = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no headless Chromium here: apt-get install chromium-headless-shell")
    return found


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top folder of the repository."""
    return Path(__file__).resolve().parent.parent
