"""What stands before the first step: the text, the model, and the run folder with its config."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lrope_interp
from lrope_interp.data import Corpus, WindowSampler, assert_held_out, load_corpus, training_streams
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.checkpoint import read_config
from lrope_interp.runs import RUN_FILE, RUN_FORMAT, timestamp, write_json_atomically
from lrope_interp.tokenizers import EOS_ID, ByteTokenizer
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.devices import resolve_device, resolve_dtype
from lrope_interp.training.events import OnEvent, Warned
from lrope_interp.training.validation import ValidationWindows, validation_documents, validation_windows
from lrope_interp.training.widening import widened_model

MANY_EPOCHS = 10.0
_PACKAGES = ("torch", "transformer-lens", "numpy", "safetensors")
_MODEL_FIELDS = (
    "n_layers", "d_model", "n_heads", "d_head", "d_mlp", "n_ctx", "increments", "per_head",
    "max_increment", "rope_base",
)  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """Everything that the loop reads.

    Attributes:
        config: The config with device, dtype and number of steps decided.
        manifest: What `data.json` holds.
        tokenizer: Text to ids.
        sampler: Training batches.
        validation: The fixed validation text.
    """

    config: TrainConfig
    manifest: Mapping[str, Any]
    tokenizer: ByteTokenizer
    sampler: WindowSampler
    validation: ValidationWindows


def prepare(config: TrainConfig, on_event: OnEvent) -> Prepared:
    """Load the text, make sure that nothing held out is in it, and decide what was left open.

    Raises:
        LRopeError: The corpus cannot be had, the device is missing, or held-out text would be
            trained on.
    """
    device = resolve_device(config.device)
    config = replace(config, device=device, dtype=resolve_dtype(config.dtype, device))
    tokenizer = ByteTokenizer()
    corpus = load_corpus(config.data, encoding_errors=config.encoding_errors)
    streams = training_streams(corpus, tokenizer)
    manifest = corpus.manifest()
    _assert_trained_on_train_only(corpus, manifest, [stream for _, stream in streams])
    sampler = WindowSampler(streams, config.n_ctx, config.batch_size, config.seed)
    documents = validation_documents(corpus, config.validation_bytes)
    return Prepared(
        config=_cap_epochs(config, sum(len(stream) for _, stream in streams), on_event),
        manifest=manifest,
        tokenizer=tokenizer,
        sampler=sampler,
        validation=validation_windows(documents, tokenizer, config.n_ctx),
    )


def build_model(config: TrainConfig) -> LRopeTransformer:
    """Return the model that a (decided) config describes, with its initial weights."""
    shape = {name: getattr(config, name) for name in _MODEL_FIELDS}
    model = LRopeTransformer(
        LRopeConfig(**shape, d_vocab=ByteTokenizer.vocab_size, seed=config.seed, device=config.device)
    )
    return widened_model(model, config.widened)


def write_run_files(folder: Path, prepared: Prepared, model: LRopeTransformer) -> None:
    """Write everything that a run has before its first step."""
    config = prepared.config
    info = {
        "format": RUN_FORMAT,
        "status": "running",
        "started": timestamp(),
        "finished": None,
        "preset": config.preset,
        "data": config.data,
        "increments": config.increments,
        "per_head": config.per_head,
        "seed": config.seed,
        "n_steps": config.n_steps,
        "device": config.device,
        "dtype": config.dtype,
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epochs": prepared.sampler.epochs(config.n_steps),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "command": config.command(),
        "summary": None,
    }
    payload = {"format": 1, "model": model.cfg.to_dict(), "training": config.to_dict()}
    write_json_atomically(folder / "config.json", payload)
    write_json_atomically(folder / "data.json", prepared.manifest)
    prepared.tokenizer.save(folder)
    write_json_atomically(folder / RUN_FILE, info)


def stored_config(folder: Path, asked: TrainConfig | None) -> TrainConfig:
    """Return the config of the run in `folder`; one that asks for something else is refused."""
    payload = read_config(folder)
    if "training" not in payload:
        raise LRopeError(f"{folder} holds a model without its training options; it cannot be resumed")
    stored = TrainConfig.from_dict(payload["training"])
    if asked is None:
        return stored
    differing = [
        f"{item.name} was {getattr(stored, item.name)}, now {getattr(asked, item.name)}"
        for item in fields(TrainConfig)
        if getattr(asked, item.name) not in (getattr(stored, item.name), "auto")
        and not (item.name == "n_steps" and asked.max_epochs)
    ]
    if differing:
        raise LRopeError(
            f"the run {folder} was started with other options: {'; '.join(differing)}. Leave them out to go "
            "on with it, or start a new run"
        )
    return stored


def assert_same_data(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose corpus is not what it was trained on so far."""
    try:
        before = json.loads((folder / "data.json").read_text(encoding="utf-8"))["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LRopeError(f"{folder / 'data.json'} cannot be read: {error}") from None
    for split, now in manifest["splits"].items():
        if before.get(split, {}).get("sha256") != now["sha256"]:
            raise LRopeError(
                f"the text of {manifest['name']} has changed since {folder} was started (its {split} split "
                "has other documents); restore it, or start a new run"
            )


def versions() -> dict[str, str]:
    """Return the versions that decide the numbers."""
    found = {"python": platform.python_version(), "lrope-interp": lrope_interp.__version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def _assert_trained_on_train_only(
    corpus: Corpus, manifest: Mapping[str, Any], streams: list[np.ndarray]
) -> None:
    """Hash what stands between the EOS of the streams themselves, and find no held-out text there."""
    read = sorted({digest for stream in streams for digest in _document_hashes(stream)})
    held_out = [document for split in ("fit", "dev", "test") for document in corpus.documents(split)]
    assert_held_out({"splits": {"train": {"sha256": read}}}, held_out)
    assert read == sorted(manifest["splits"]["train"]["sha256"]), "data.json must name what is trained on"


def _document_hashes(stream: np.ndarray) -> list[str]:
    ends = np.flatnonzero(stream == EOS_ID)
    pieces = (stream[start + 1 : stop].astype(np.uint8).tobytes() for start, stop in pairwise(ends))
    return [hashlib.sha256(piece).hexdigest() for piece in pieces]


def _cap_epochs(config: TrainConfig, n_tokens: int, on_event: OnEvent) -> TrainConfig:
    """Lower the steps to `max_epochs` of the text; where there is no cap, say what is asked for."""
    n_drawn = config.batch_size * config.n_ctx
    epochs = config.n_steps * n_drawn / n_tokens
    if config.max_epochs and epochs > config.max_epochs:
        n_steps = max(1, int(config.max_epochs * n_tokens / n_drawn))
        message = (
            f"{config.n_steps:,} steps would read the {n_tokens / 1e6:.1f} MB of training text {epochs:.0f} "
            f"times; lowered to {n_steps:,} steps, {config.max_epochs:g} times. --steps overrides this."
        )
        on_event(Warned(message))
        return config.with_steps(n_steps)
    if epochs > MANY_EPOCHS * (1 + 1e-9):
        on_event(
            Warned(
                f"{config.n_steps:,} steps read the {n_tokens / 1e6:.1f} MB of training text {epochs:.0f} "
                "times: the model will learn some of it by heart. Watch the validation loss."
            )
        )
    return config
