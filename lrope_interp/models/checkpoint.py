"""Models on disk: safetensors and JSON, never a pickle."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.files import ModelFile, opened_file, read_json
from lrope_interp.folders import naming, sync_file, sync_folder, write_json_atomically
from lrope_interp.models.config import DTYPES, LRopeConfig
from lrope_interp.models.frozen import (
    ContextualIncrements,
    FrozenIncrements,
    LexicalIncrements,
    attached_increments,
)
from lrope_interp.models.hooked_model import HookedModel
from lrope_interp.tokenizers import ByteTokenizer

MODEL_FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INCREMENTS_FILE = "increments.safetensors"
INCREMENTS_FOLDER = "increments"
FROZEN_KINDS = (LexicalIncrements.kind, ContextualIncrements.kind)
_STORED_AS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def save_pretrained(model: HookedModel, folder: Path, extra_config: dict[str, Any] | None = None) -> None:
    """Write `config.json` and `model.safetensors` into `folder`, making it if need be.

    A tokenizer of more than bytes is written beside them, as `tokenizer.json`, and so are attached
    increments: a table as `increments.safetensors`, a source model in the folder `increments`.

    Args:
        model: What to save; tied weights are written once.
        folder: Where to.
        extra_config: More top-level keys for `config.json` ("training", for example).
    """
    folder.mkdir(parents=True, exist_ok=True)
    payload = {"format": MODEL_FORMAT, "model": model.cfg.to_dict(), **save_increments(model, folder)}
    payload |= extra_config or {}
    write_json_atomically(folder / CONFIG_FILE, payload)
    if model.tokenizer is not None and model.tokenizer.name != ByteTokenizer.name:
        model.tokenizer.save(folder)
    save_weights(model, folder / WEIGHTS_FILE)  # last: where they are, all that belongs to them is


def save_increments(model: HookedModel, folder: Path) -> dict[str, str]:
    """Write the increments that are attached to `model`, if any.

    Returns:
        What `config.json` says of them: nothing, or `frozen`, the kind.
    """
    frozen = attached_increments(model)
    if frozen is None:
        return {}
    if isinstance(frozen, LexicalIncrements):
        save_tensors({"increments": frozen.table}, folder / INCREMENTS_FILE)
    else:
        save_pretrained(frozen.source, folder / INCREMENTS_FOLDER)
    return {"frozen": frozen.kind}


def save_weights(model: HookedModel, path: Path) -> None:
    """Write the parameters as `save_tensors` does."""
    save_tensors(dict(model.named_parameters()), path)


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors under a temporary name, wait until the disk has them, and rename.

    Raises:
        OSError: The disk is full, for example; it names the file.
    """
    weights = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    temporary = path.with_name(f".{path.name}.tmp")
    with naming(path):
        try:
            temporary.touch()
            mode = temporary.stat().st_mode  # what the umask leaves; safetensors would leave the owner alone
            save_file(weights, temporary, metadata={"format": "pt"})
            temporary.chmod(mode)
            sync_file(temporary)
            temporary.replace(path)
        except SafetensorError as error:
            found = re.search(r"(?:code: |os error )(\d+)", str(error))
            number = int(found[1]) if found else errno.EIO
            raise OSError(number, os.strerror(number) if found else str(error), str(path)) from error
        finally:
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def load_increments(
    folder: Path, cfg: LRopeConfig, load_model: Callable[..., HookedModel]
) -> FrozenIncrements | None:
    """Return the increments that lie beside a model's weights, or None where it has none.

    Args:
        folder: What `save_pretrained` wrote.
        cfg: Of the model that they are for: where they go, and how long its texts may be.
        load_model: `LRopeTransformer.from_pretrained`, for a model that gives the increments.

    Raises:
        LRopeError: They are missing, damaged, or of another shape than the model.
    """
    kind = read_config(folder).get("frozen")
    if kind is None:
        return None
    frozen: FrozenIncrements
    if kind == LexicalIncrements.kind:
        path = folder / INCREMENTS_FILE
        if not path.is_file():
            raise LRopeError(
                f"{folder} has no {path.name}, which holds its increments; copy the whole folder again"
            )
        tensors = read_weights(path)
        if list(tensors) != ["increments"]:
            raise LRopeError(f"{path} must hold one tensor, `increments`; it holds {sorted(tensors)[:3]}")
        frozen = LexicalIncrements(tensors["increments"].to(str(cfg.device)))
    elif kind == ContextualIncrements.kind:
        source = folder / INCREMENTS_FOLDER
        said = read_config(source)
        if said.get("frozen") is not None:  # or a folder that holds itself is opened without end
            raise LRopeError(f"{source} holds a model that did not learn its increments; copy the run again")
        n_ctx = max(cfg.n_ctx, said["model"].get("n_ctx", 0))
        frozen = ContextualIncrements(load_model(source, str(cfg.device), n_ctx))
    else:
        raise unknown(f"kind of frozen increments in {folder / CONFIG_FILE}:", str(kind), FROZEN_KINDS)
    try:
        frozen.check_fits(cfg)
    except LRopeError as error:
        raise LRopeError(f"{folder}: {error}") from None
    return frozen


def read_config(folder: Path) -> dict[str, Any]:
    """Return `config.json`, checked for its form."""
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise LRopeError(
            f"no folder {folder}; `lrope-interp list runs` lists the runs, `lrope-interp train` makes one"
        )
    missing = f"{folder} has no {CONFIG_FILE}, so it is not a run or a saved model"
    return read_json(path, ModelFile, newest=MODEL_FORMAT, missing=missing)


def load_weights(model: HookedModel, path: Path, stored_as: str | None = None) -> str:
    """Copy weights from a safetensors file into the model; names, shapes and dtypes must match.

    Args:
        model: What to fill.
        path: The file.
        stored_as: What `config.json` says of float32 weights in half the room: "float16" or "bfloat16".

    Returns:
        The sha256 of the file that was read, whatever has taken its place since.
    """
    before = path.stat() if path.is_file() else None
    own = dict(model.named_parameters())
    _check_header(path, own, stored_as)
    weights = read_weights(path)
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise LRopeError(f"{path}: {name} holds numbers that are not finite")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if before is None or not os.path.samestat(before, os.fstat(file.fileno())):
            raise LRopeError(f"{path} was replaced while it was read: read it again")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])
    return digest


def check_shape(
    cfg: LRopeConfig, path: Path, build: Callable[[LRopeConfig], HookedModel], stored_as: str | None = None
) -> None:
    """Compare a configuration with the header of its weights, before memory is taken for either.

    Args:
        cfg: The configuration.
        path: Its weights.
        build: `LRopeTransformer`, built here without values to learn names and shapes.
        stored_as: See `load_weights`.
    """
    n_blocks = len({name.split(".")[1] for name in _header(path) if name.startswith("blocks.")})
    if n_blocks != cfg.n_layers:
        raise LRopeError(
            f"{path} does not fit its configuration: it has weights of {n_blocks} layers, and n_layers is "
            f"{cfg.n_layers}"
        )
    with torch.device("meta"):
        empty = build(LRopeConfig.from_dict({**cfg.to_dict(), "device": "meta", "seed": 0}))
    _check_header(path, dict(empty.named_parameters()), stored_as)


def _check_header(path: Path, own: Mapping[str, torch.Tensor], stored_as: str | None) -> None:
    """Refuse weights of other names, shapes or dtypes than the parameters."""
    header = _header(path)
    missing, extra = sorted(own.keys() - header.keys()), sorted(header.keys() - own.keys())
    if missing or extra:
        raise LRopeError(
            f"{path} does not fit its configuration: missing {missing[:3]}, unexpected {extra[:3]}"
        )
    for name, parameter in own.items():
        shape, dtype = header[name]
        if shape != tuple(parameter.shape):
            raise LRopeError(
                f"{path}: {name} has shape {shape}, the configuration says {tuple(parameter.shape)}"
            )
        is_half = stored_as is not None and dtype == _STORED_AS[DTYPES[stored_as]]
        if dtype != _STORED_AS.get(parameter.dtype) and not (is_half and parameter.dtype == torch.float32):
            raise LRopeError(
                f"{path}: {name} holds numbers of type {dtype}, the configuration says "
                f"{str(parameter.dtype).removeprefix('torch.')}"
            )


def _header(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of the tensors of a safetensors file; no tensor is read."""
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        return {name: (tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file; a pickle is refused by name and by content."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file, or say why it cannot be."""
    missing = f"{path.parent} has no {path.name}; the run is not finished (`lrope-interp train --resume`)"
    pickles = [found.name for pattern in _PICKLES for found in sorted(path.parent.glob(pattern))]
    if pickles:
        missing = (
            f"{path.parent} holds {pickles[0]}, which is a pickle: loading it would run its code, so "
            "it is never loaded. Convert it to safetensors where it was made."
        )
    opened_file(path, missing=missing).close()
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise LRopeError(f"{path} is not a safetensors file ({error}); pickles are never loaded") from None
    except RuntimeError as error:  # of torch, whose message names a file larger than the memory
        raise LRopeError(f"{path} cannot be read: {error}") from None
