"""Checkpoints that survive a crash: written aside, fsynced, renamed, verified before use.

A checkpoint is a folder `checkpoints/step-00000200` with the weights and `config.json` (so that
`from_pretrained` reads it), the optimiser's moments (safetensors too) and `state.json`, which holds
the step, the few numbers that the loop carries, and the SHA-256 of the tensors. Nothing is pickled.
The newest two are kept, so that a torn one costs some steps and never the run.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.files import NewerFormatError, StateFile, read_json
from lrope_interp.folders import remove_torn_files, sha256_of, sync_folder, sync_tree, write_json_atomically
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.checkpoint import load_weights, read_weights, save_tensors

CHECKPOINT_FORMAT = 1
KEPT = 2
_WEIGHTS, _MOMENTS, _STATE = "model.safetensors", "optimiser.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files have the checksums that they were written with."""

    folder: Path
    step: int
    state: Mapping[str, Any]

    def load(self, model: LRopeTransformer, optimiser: torch.optim.Optimizer) -> None:
        """Put weights and moments into `model` and `optimiser`."""
        load_weights(model, self.folder / _WEIGHTS)
        load_optimiser_tensors(model, optimiser, read_weights(self.folder / _MOMENTS))


def save_checkpoint(
    run_folder: Path,
    step: int,
    model: LRopeTransformer,
    optimiser: torch.optim.Optimizer,
    state: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of `step`, then remove all but the newest two.

    Args:
        run_folder: The run; the checkpoint lies under its `checkpoints/`.
        step: Optimiser steps done.
        model: Its weights are saved.
        optimiser: Its moments are saved.
        state: What else the loop needs to go on, as JSON.

    Returns:
        The checkpoint's folder.

    Raises:
        LRopeError: The disk is full or cannot be written; older checkpoints are untouched.
    """
    root = run_folder / "checkpoints"
    partial = root / f".step-{step:08d}.{secrets.token_hex(4)}"
    target = root / f"step-{step:08d}"
    try:
        root.mkdir(exist_ok=True)  # not its parents: a run that was moved away does not come apart in two
        partial.mkdir()
        model.save_pretrained(partial)
        save_tensors(optimiser_tensors(model, optimiser), partial / _MOMENTS)
        checksums = {name: sha256_of(partial / name) for name in (_WEIGHTS, _MOMENTS)}
        payload = {"format": CHECKPOINT_FORMAT, "step": step, "state": dict(state), "sha256": checksums}
        write_json_atomically(partial / _STATE, payload)
        sync_tree(partial)
        if target.exists():  # a torn one, or one that a resumed run reaches again
            shutil.rmtree(target)
        partial.rename(target)
        sync_folder(root)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise LRopeError(
            f"the checkpoint of step {step} could not be written to {root}: {error}. Make room, then go on "
            f"from the one before with `lrope-interp train --resume --out {run_folder}`"
        ) from error
    for folder in _folders(run_folder)[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def newest_checkpoint(run_folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest checkpoint whose checksums hold, or None where there is none.

    Args:
        run_folder: The run.
        warn: Told of every torn checkpoint that is passed over.

    Raises:
        LRopeError: The newest checkpoint was written by a newer version.
    """
    for folder in _folders(run_folder):
        try:
            payload = read_json(folder / _STATE, StateFile, newest=CHECKPOINT_FORMAT)
        except NewerFormatError:
            raise
        except LRopeError as error:
            problem = str(error)
        else:
            torn = [
                name
                for name in (_WEIGHTS, _MOMENTS)
                if not (folder / name).is_file() or sha256_of(folder / name) != payload["sha256"].get(name)
            ]
            if not torn:
                return Checkpoint(folder, payload["step"], payload["state"])
            problem = f"{torn[0]} has not the checksum that it was written with"
        warn(f"the checkpoint {folder} is torn ({problem}); the one before it is used")
    return None


def optimiser_tensors(model: LRopeTransformer, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments under the names of their parameters: ``blocks.0.ln1.w/exp_avg``."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def load_optimiser_tensors(
    model: LRopeTransformer, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` gave."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    wanted = {f"{name}/{key}": p.shape for p, name in names.items() for key in ("exp_avg", "exp_avg_sq")}
    wanted |= {f"{name}/step": torch.Size() for name in names.values()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    is_real = all(tensor.is_floating_point() for tensor in tensors.values())
    if found and (found != wanted or not is_real):  # none at all before the first step
        differing = sorted(name for name, _ in found.items() ^ wanted.items())
        raise LRopeError(f"the optimiser's moments are not those of this model: {differing[:3]}")
    order = [names[parameter] for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        state.setdefault(order.index(parameter_name), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def remove_partial_checkpoints(run_folder: Path) -> None:
    """Remove what a killed process left half-written; only the holder of the run's lock may."""
    for folder in (run_folder / "checkpoints").glob(".step-*"):
        shutil.rmtree(folder, ignore_errors=True)
    remove_torn_files(run_folder)


def _folders(run_folder: Path) -> list[Path]:
    """Return the checkpoint folders, newest first."""
    folders = [path for path in (run_folder / "checkpoints").glob("step-*") if path.is_dir()]
    return sorted(folders, key=lambda path: path.name, reverse=True)
