"""What a training run is told: one frozen config, logged as it is used, three presets, and its trackers."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.tokenizers import BYTES, chosen_tokenizer

INCREMENTS = ("per_layer", "shared", "fixed")
FROZEN = {"frozen": "lexical", "frozen_contextual": "contextual"}
"""What ``increments="WORD:RUN"`` takes from the increments of RUN, by its word."""
DEVICES = ("auto", "cpu", "cuda", "mps")  # again: `models.config` loads torch, and --help must not
DTYPES = ("auto", "float32", "bfloat16")
SCHEDULES = ("cosine", "wsd")
ENCODING_ERRORS = ("strict", "replace")
TRACKERS = ("tensorboard", "wandb")
ONLINE = ("wandb",)  # of these: what tells a server

_CHOICES = {
    "increments": INCREMENTS,
    "schedule": SCHEDULES,
    "device": DEVICES,
    "dtype": DTYPES,
    "encoding_errors": ENCODING_ERRORS,
}
_LEAST = {
    "n_steps": 1, "batch_size": 1, "grad_accumulation": 1, "n_ctx": 2, "warmup": 0, "seed": 0,
    "eval_every": 1, "checkpoint_every": 1, "log_every": 1, "validation_bytes": 1, "widened": 0,
    "n_layers": 1, "d_model": 1, "n_heads": 1, "d_head": 2, "d_mlp": 1,
    "max_train_bytes": 0,
}  # fmt: skip
_LARGEST = 2**63 - 1
_OPTIONS = (  # of the command line, in the order in which a run folder's command names them
    "n_steps", "batch_size", "grad_accumulation", "lr", "schedule", "checkpoint_every", "seed",
    "encoding_errors", "text_column", "max_train_bytes", "despaced", "tokenizer",
)  # fmt: skip
_RANGES = {  # above the first (or at it, where closed is True), at most the second
    "lr": (0.0, 1.0, False),
    "min_lr_share": (0.0, 1.0, True),
    "weight_decay": (0.0, 10.0, True),
    "grad_clip": (0.0, math.inf, False),
    "head_lr_multiplier": (0.0, 1000.0, True),
    "max_epochs": (0.0, math.inf, True),
    "max_increment": (1.0, math.inf, False),
    "rope_base": (1.0, math.inf, False),
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, and nothing else: two runs with equal configs are equal.

    Attributes:
        preset: The preset that the other values come from where nothing else was asked for.
        data: Corpus name, ``file:PATH``, or ``hf:NAME``.
        encoding_errors: What to do with bytes that are not UTF-8: "strict" refuses, "replace".
        text_column: Which column of a table (.jsonl, .parquet, ``hf:``) holds the text.
        max_train_bytes: Of ``file:`` and ``hf:`` read at most this many bytes of text, held-out
            documents included; 0 reads all.
        despaced: Whether all white space is removed from every document.
        tokenizer: "bytes", "bpe:N", or the path of a Hugging Face tokenizer file. The run keeps its
            own copy, which counts from then on.
        increments: "per_layer", "shared" or "fixed"; or ``frozen:RUN`` or ``frozen-contextual:RUN``, which
            is kept as "fixed" with the two fields `frozen` and `frozen_from`.
        per_head: Whether every attention head has increments of its own; frozen ones are as the source's.
        frozen: Where a fixed model's increments come from: "" (they are 1), "lexical" (each token's mean
            increment in another run) or "contextual" (what that run says of the same text).
        frozen_from: The run folder that they come from. The run keeps its own copy of the increments, and
            here the name of that folder and the sha256 of its weights: ``NAME@SHA256``.
        n_steps: Optimiser steps.
        batch_size: Windows a step, over all processes.
        grad_accumulation: Parts that a step's batch is computed in, one after the other; saves memory.
        n_ctx: Tokens a window.
        lr: Peak learning rate.
        schedule: What follows the warm-up: "cosine" falls along half a cosine over all steps; "wsd" (warm-up,
            stable, decay) stays at the peak and falls in a straight line over the last fifth of the steps.
        warmup: Steps of linear warm-up.
        min_lr_share: The learning rate of the last step, as a share of the peak.
        head_lr_multiplier: Learning rate of the increment heads, as a multiple of the others'.
        weight_decay: AdamW's, for matrices; norms, biases and the heads' last layers are exempt.
        betas: AdamW's moment decays.
        grad_clip: Largest gradient norm; longer gradients are scaled down to it.
        seed: Seed of the initial weights and of the data order.
        device: "auto" takes CUDA, then MPS, then the CPU.
        dtype: What autocast computes in; "auto" is bfloat16 where the hardware has it.
        log_every: Steps between two lines of metrics.
        eval_every: Steps between two validations; the last step always has one.
        validation_bytes: Size of the fixed validation text.
        checkpoint_every: Steps between two checkpoints.
        max_epochs: Lower `n_steps` so that the text is seen at most so often; 0 means no cap.
        widened: MLP units beyond `d_mlp`; all other weights start as they do without them.
        n_layers: Blocks of the model; the fields below are `LRopeConfig`'s.
    """

    preset: str = "tiny"
    data: str = "bilingual"
    encoding_errors: str = "strict"
    text_column: str = "text"
    max_train_bytes: int = 0
    despaced: bool = False
    tokenizer: str = BYTES
    increments: str = "per_layer"
    per_head: bool = False
    frozen: str = ""
    frozen_from: str = ""
    n_steps: int = 1200
    batch_size: int = 16
    grad_accumulation: int = 1
    n_ctx: int = 256
    lr: float = 3e-3
    schedule: str = "cosine"
    warmup: int = 60
    min_lr_share: float = 0.1
    head_lr_multiplier: float = 1.0
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    grad_clip: float = 1.0
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    log_every: int = 10
    eval_every: int = 100
    validation_bytes: int = 100_000
    checkpoint_every: int = 200
    max_epochs: float = 0.0
    widened: int = 0
    n_layers: int = 4
    d_model: int = 64
    n_heads: int = 4
    d_head: int = 32
    d_mlp: int = 256
    max_increment: float = 10.0
    rope_base: float = 10000.0

    def __post_init__(self) -> None:
        """Check every value and its type; "per-layer" and "per_layer" are the same word."""
        for item in fields(self):
            object.__setattr__(self, item.name, _typed(item.name, getattr(self, item.name), item.default))
        for name, value in _increments_fields(self.increments).items():
            object.__setattr__(self, name, value)
        if self.preset not in PRESET_NAMES:
            raise unknown("preset", self.preset, PRESET_NAMES)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(name.replace("_", " "), getattr(self, name), choices)
        chosen_tokenizer(self.tokenizer)
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise LRopeError(f"{name}={getattr(self, name)} is too small: the least is {least}")
        for name, (low, high, is_closed) in _RANGES.items():
            _check_range(name, getattr(self, name), low, high, is_closed)
        for beta in self.betas:
            _check_range("betas", beta, 0.0, 1.0 - 1e-9, True)
        if self.batch_size % self.grad_accumulation:
            raise LRopeError(
                f"batch_size={self.batch_size} cannot be cut into {self.grad_accumulation} equal parts: "
                "grad_accumulation must divide it"
            )
        if self.d_head % 2:
            raise LRopeError(f"d_head={self.d_head} is odd, and RoPE turns pairs: use {self.d_head + 1}")
        if self.per_head and self.increments == "fixed" and not self.frozen:
            raise LRopeError("fixed increments are 1 in every head: leave out per_head, or use per_layer")
        if (self.frozen or self.frozen_from) and self.frozen not in FROZEN.values():
            raise unknown("kind of frozen increments", self.frozen, FROZEN.values())
        if self.frozen and (self.increments != "fixed" or not self.frozen_from):
            raise LRopeError(
                f"frozen={self.frozen!r} goes with increments='fixed' and a run in frozen_from; got "
                f"increments={self.increments!r}, frozen_from={self.frozen_from!r}. Write "
                "increments='frozen:RUN' or 'frozen-contextual:RUN'"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build a config from what `to_dict` gave; an unknown key or a wrong type is refused."""
        defaults = {item.name: item.default for item in fields(cls)}
        for key in values:
            if key not in defaults:
                raise unknown("training option", key, defaults)
        return cls(**{key: _typed(key, value, defaults[key]) for key, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return what `config.json` holds under "training"."""
        return {**asdict(self), "betas": list(self.betas)}

    @property
    def increments_name(self) -> str:
        """What folders and lists call the increments: as `increments`, or "frozen_lexical" and so on."""
        return f"frozen_{self.frozen}" if self.frozen else self.increments

    def with_steps(self, n_steps: int) -> TrainConfig:
        """Return this config with another length; the warm-up is at most a tenth of it."""
        return replace(self, n_steps=n_steps, warmup=min(self.warmup, max(1, n_steps // 10)))

    def command(self) -> str:
        """Return the command line that asks for this run: the options that differ from the preset."""
        preset = train_config(self.preset)
        words = ["lrope-interp", "train", "--preset", self.preset, "--data", self.data]
        known = {kind: word for word, kind in FROZEN.items()}
        source = f":{split_source(self.frozen_from)[0]}" if self.frozen else ""
        words += ["--increments", known.get(self.frozen, self.increments).replace("_", "-") + source]
        words += ["--per-head"] if self.per_head and not self.frozen else []
        for name in _OPTIONS:
            value = getattr(self, name)
            if value != getattr(preset, name) or name == "seed":
                said = f"{value:g}" if isinstance(value, float) else str(value)
                option = "--steps" if name == "n_steps" else f"--{name.replace('_', '-')}"
                words += [option] if value is True else [option, said]
        return shlex.join(words)


def split_source(frozen_from: str) -> tuple[str, str]:
    """Return the folder (or its name alone) and the sha256 that `frozen_from` names; "" if it names none."""
    found = re.fullmatch(r"(.+)@([0-9a-f]{64})", frozen_from, flags=re.DOTALL)
    return (found[1], found[2]) if found else (frozen_from, "")


def _increments_fields(words: str) -> dict[str, str]:
    """Return the fields that ``--increments`` sets: ``frozen:RUN`` is three of them."""
    kind, _, run = words.partition(":")
    kind = kind.replace("-", "_")
    if kind not in FROZEN:
        return {"increments": words.replace("-", "_")}
    if not run:
        spoken = kind.replace("_", "-")
        raise LRopeError(f"{words!r} names no run: {spoken}:RUN takes the increments of the run folder RUN")
    return {"increments": "fixed", "frozen": FROZEN[kind], "frozen_from": run}


_SMALL: dict[str, Any] = {"n_layers": 6, "d_model": 256, "n_heads": 8, "d_head": 32, "d_mlp": 1024}
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {},  # narrow and long: its layer 0 marked white space in five seeds of five
    "small": {**_SMALL, "n_steps": 4000, "lr": 2e-3, "warmup": 200, "eval_every": 500},
    "paper": {
        **_SMALL,
        "n_ctx": 512,
        "batch_size": 64,
        "n_steps": 50_000,
        "lr": 1e-3,
        "warmup": 1000,
        "eval_every": 1000,
        "max_epochs": 10.0,
    },
}
PRESET_NAMES = tuple(PRESETS)


def train_config(preset: str = "tiny", **overrides: Any) -> TrainConfig:
    """Return the config of a preset with some values replaced.

    Args:
        preset: "tiny", "small" or "paper".
        overrides: Fields of `TrainConfig`; None means "as the preset has it". An `n_steps` given
            here is obeyed whatever the size of the text: it lifts the preset's cap on epochs.

    Returns:
        The config.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    given = {name: value for name, value in overrides.items() if value is not None}
    base = TrainConfig.from_dict({"preset": preset, **PRESETS[preset]})
    if "n_steps" in given:
        base = replace(base.with_steps(_typed("n_steps", given["n_steps"], 1)), max_epochs=0.0)
    return TrainConfig.from_dict({**base.to_dict(), **given})


def run_name(config: TrainConfig) -> str:
    """Return the name of a run folder; of a path, and of a data set's name, the last part."""
    data = config.data
    if data.startswith("file:"):
        data = f"file-{Path(data.removeprefix('file:')).stem.removesuffix('.jsonl')}"
    elif data.startswith("hf:"):
        data = f"hf-{data.removeprefix('hf:').rstrip('/').rpartition('/')[2]}"
    data = re.sub(r"[^\w.-]+", "_", data)
    data += "-despaced" if config.despaced else ""
    return f"{config.preset}-{data}-{config.increments_name}-s{config.seed}"


def _typed(name: str, value: Any, default: Any) -> Any:
    """Return `value` in the type of `default`, or refuse it."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # a number of numpy or torch
        value = value.item()
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        if len(value) != len(default):
            raise LRopeError(f"{name} wants {len(default)} values; got {list(value)}")
        return tuple(_typed(name, item, 0.0) for item in value)
    if type(value) is not type(default):
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
        raise LRopeError(f"{name}={value!r}: {wanted.get(type(default), 'a list')} is wanted")
    if type(value) is int and abs(value) > _LARGEST:
        raise LRopeError(f"{name} is too large: the most is {_LARGEST:,}")
    return value


def _check_range(name: str, value: float, low: float, high: float, is_closed: bool) -> None:
    is_low_enough = value >= low if is_closed else value > low
    if not (is_low_enough and value <= high and math.isfinite(value)):  # also refuses NaN
        above = f"at least {low:g}" if is_closed else f"above {low:g}"
        raise LRopeError(
            f"{name}={value:g} is out of range: it must be {above}"
            + (f" and at most {high:g}" if high < math.inf else " and finite")
        )


@dataclass(frozen=True)
class Recording:
    """What decides nothing about the numbers, and so is no part of `TrainConfig`; None leaves it as it was.

    Attributes:
        log_to: Trackers to tell, of `TRACKERS`. A new run tells none.
        checkpoint_minutes: A checkpoint is also written when so many minutes have passed since the
            last one; 0 leaves it to `TrainConfig.checkpoint_every` alone. A new run takes 10.
    """

    log_to: tuple[str, ...] | None = None
    checkpoint_minutes: float | None = None

    def __post_init__(self) -> None:
        """Check both values."""
        for name in self.log_to or ():
            if name not in TRACKERS:
                raise unknown("tracker", name, TRACKERS)
        if not 0.0 <= (self.checkpoint_minutes or 0.0) < math.inf:
            raise LRopeError(
                f"checkpoint_minutes={self.checkpoint_minutes:g}: at least 0 is wanted (0: never by time)"
            )

    def over(self, said: Mapping[str, Any]) -> Recording:
        """Return what counts, given what `run.json` says under "recording"; of a new run, nothing.

        Trackers that tell a server go on only where they are asked for: a file, maybe a stranger's, does not
        start those.
        """
        before = Recording(tuple(said.get("log_to", ())), float(said.get("checkpoint_minutes", 10.0)))
        offline = tuple(name for name in before.log_to or () if name not in ONLINE)
        minutes = before.checkpoint_minutes if self.checkpoint_minutes is None else self.checkpoint_minutes
        return Recording(offline if self.log_to is None else self.log_to, minutes)

    def to_dict(self) -> dict[str, Any]:
        """Return what `run.json` holds under "recording"."""
        return {"log_to": list(self.log_to or ()), "checkpoint_minutes": self.checkpoint_minutes}


def tracker_names(words: Iterable[str]) -> tuple[str, ...]:
    """Return the trackers that ``--log-to a,b --log-to c`` names, each once."""
    names = [name.strip() for word in words for name in word.split(",")]
    return tuple(dict.fromkeys(name for name in names if name))
