"""What stands before the first step: the text, the model, and the run folder with its config."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrope_interp.data import (
    Corpus,
    WindowSampler,
    assert_held_out,
    document_hashes,
    in_hash_order,
    load_corpus,
    read_manifest,
    training_streams,
)
from lrope_interp.data.corpora import is_same_name
from lrope_interp.errors import LRopeError
from lrope_interp.folders import write_json_atomically
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.checkpoint import read_config, save_increments
from lrope_interp.models.frozen import FrozenIncrements, attach_increments
from lrope_interp.results import versions
from lrope_interp.runs import RUN_FILE, RUN_FORMAT, timestamp
from lrope_interp.tokenizers import ByteTokenizer, Tokenizer, as_tokenizer, chosen_tokenizer
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.distribution import decided
from lrope_interp.training.events import OnEvent, Warned
from lrope_interp.training.frozen import find_source, freeze_increments, is_same_source, settled
from lrope_interp.training.metrics import ValidationWindows, validation_documents, validation_windows

MANY_EPOCHS = 10.0
SAMPLE_BYTES = 100_000_000
"""Of training text that a BPE is trained on."""
_VERSIONED = ("lrope-interp", "torch", "transformer-lens", "numpy", "safetensors")
_UNIT_AXIS = {"mlp.W_in": 1, "mlp.W_gate": 1, "mlp.W_out": 0}
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
        tokens_per_byte: What turns nats a token of training text into nats a byte; 1 for bytes.
        frozen: The increments of another run, where the config asks for them.
    """

    config: TrainConfig
    manifest: Mapping[str, Any]
    tokenizer: Tokenizer
    sampler: WindowSampler
    validation: ValidationWindows
    tokens_per_byte: float = 1.0
    frozen: FrozenIncrements | None = None


def prepare(
    config: TrainConfig,
    on_event: OnEvent,
    tokenizer: Tokenizer | None = None,
    frozen: FrozenIncrements | None = None,
    corpus: Corpus | None = None,
) -> Prepared:
    """Load the text, make sure that nothing held out is in it, and decide what was left open.

    Args:
        config: What to train.
        on_event: Told of warnings.
        tokenizer: That of a run which goes on; None makes the one that the config asks for.
        frozen: The increments of a run which goes on; None takes them from where the config says.
        corpus: The text of a run which goes on; None takes it from where the config says.

    Raises:
        LRopeError: The corpus cannot be had, the device is missing, held-out text would be
            trained on, or frozen increments do not fit.
    """
    config = decided(config)
    source = find_source(config.frozen_from) if config.frozen and frozen is None else None
    config = config if source is None else settled(config, *source)
    with warnings.catch_warnings(record=True) as caught:  # as of a damaged cache that is made again
        warnings.simplefilter("always", UserWarning)
        corpus = corpus or training_corpus(config)
        config = replace(config, data=corpus.name)  # a path that means the same wherever one stands
        tokenizer = tokenizer or make_tokenizer(config.tokenizer, corpus)
        streams = training_streams(corpus, tokenizer)
    for one in caught:
        on_event(Warned(str(one.message)))
    manifest = corpus.manifest()
    _assert_trained_on_train_only(corpus, manifest, [stream for _, stream in streams], tokenizer)
    sampler = WindowSampler(streams, config.n_ctx, config.batch_size, config.seed)
    if source is not None:
        frozen = freeze_increments(config, source[0], corpus, tokenizer, sampler)
    documents = validation_documents(corpus, config.validation_bytes)
    per_byte = tokens_per_byte(streams, tokenizer)
    return Prepared(
        config=_cap_epochs(config, sum(len(stream) for _, stream in streams), per_byte, on_event),
        manifest=manifest,
        tokenizer=tokenizer,
        sampler=sampler,
        validation=validation_windows(documents, tokenizer, config.n_ctx),
        tokens_per_byte=per_byte,
        frozen=frozen,
    )


def training_corpus(config: TrainConfig) -> Corpus:
    """Return the corpus that a config asks for, read as it says."""
    return load_corpus(
        config.data,
        encoding_errors=config.encoding_errors,
        text_column=config.text_column,
        max_train_bytes=config.max_train_bytes,
        despaced=config.despaced,
    )


def build_model(
    config: TrainConfig, tokenizer: Tokenizer | None = None, frozen: FrozenIncrements | None = None
) -> LRopeTransformer:
    """Return the model that a (decided) config describes, with its initial weights.

    Args:
        config: Its shape, seed and device.
        tokenizer: Bytes if None.
        frozen: Increments to attach to a fixed model; None leaves them at 1.
    """
    tokenizer = tokenizer or ByteTokenizer()
    shape = {name: getattr(config, name) for name in _MODEL_FIELDS}
    model = LRopeTransformer(
        LRopeConfig(**shape, d_vocab=tokenizer.vocab_size, seed=config.seed, device=config.device)
    )
    model = widened_model(model, config.widened)
    model.tokenizer = tokenizer
    if frozen is not None:
        attach_increments(model, frozen)
    return model


def widened_model(narrow: LRopeTransformer, n_extra: int) -> LRopeTransformer:
    """Return a model with `n_extra` more MLP units a layer, and otherwise the weights of `narrow`.

    "Fixed RoPE, widened to the same number of parameters" answers whether learned increments help by
    what they compute or only by what they weigh. For a paired comparison it must start where the other
    arms start: all shared weights are equal, and only the extra units are drawn on their own.

    Args:
        narrow: A model at its initial weights.
        n_extra: Units to add to every layer; 0 returns `narrow` itself.

    Returns:
        The wider model; its extra units are drawn from the same seed as a wider model's would be.
    """
    if n_extra == 0:
        return narrow
    cfg = LRopeConfig.from_dict({**narrow.cfg.to_dict(), "d_mlp": narrow.cfg.d_mlp + n_extra})
    wide = LRopeTransformer(cfg)
    weights = dict(wide.named_parameters())
    with torch.no_grad():
        for name, weight in narrow.named_parameters():
            axis = next((axis for ending, axis in _UNIT_AXIS.items() if name.endswith(ending)), None)
            target = weights[name] if axis is None else weights[name].narrow(axis, 0, narrow.cfg.d_mlp)
            target.copy_(weight)
    return wide


def make_tokenizer(words: str, corpus: Corpus) -> Tokenizer:
    """Return the tokenizer that ``--tokenizer`` asks for.

    Args:
        words: "bytes", "bpe:N", or the path of a Hugging Face ``tokenizer.json``.
        corpus: A BPE is trained on its training documents, and sees nothing that is held out.

    Raises:
        LRopeError: A file that is missing or not lossless, or a text too small for N tokens.
    """
    chosen = chosen_tokenizer(words)
    if chosen is None:
        return ByteTokenizer()
    if isinstance(chosen, Path):
        return as_tokenizer(chosen)
    from lrope_interp.tokenizers.bpe import train_bpe

    return train_bpe(tokenizer_sample(corpus), chosen)


def tokenizer_sample(corpus: Corpus, max_bytes: int = SAMPLE_BYTES) -> Iterator[str]:
    """Yield training text, an equal share of every part, in the order of the documents' hashes."""
    for part in corpus.parts:
        left = max(1, max_bytes // len(corpus.parts))
        for document in in_hash_order(corpus.documents("train", part=part.name)):
            text = document.text
            if document.n_bytes > left:  # the last one is cut
                text = document.encoded[:left].decode("utf-8", errors="ignore")
            left -= document.n_bytes
            yield text
            if left <= 0:
                break


def tokens_per_byte(streams: Sequence[tuple[str, np.ndarray]], tokenizer: Tokenizer) -> float:
    """Return tokens a byte of training windows, EOS left out: 1 for bytes.

    Of other tokenizers it is an estimate from up to a million tokens of every part.
    """
    if tokenizer.name == ByteTokenizer.name:
        return 1.0
    sizes = []
    for _, stream in streams:
        ids = np.asarray(stream[:1_000_000]).astype(np.int64)
        n_tokens = int((ids != tokenizer.eos_id).sum())
        sizes.append(float(tokenizer.token_bytes(ids).sum()) / max(1, n_tokens))
    return 1.0 / max(float(np.mean(sizes)), 1e-9)


def write_run_files(
    folder: Path, prepared: Prepared, model: LRopeTransformer, sitting: Mapping[str, Any]
) -> None:
    """Write everything that a run has before its first step.

    Args:
        folder: Where to.
        prepared: Text and config.
        model: With its initial weights.
        sitting: More entries of `run.json`: how the run was started, which decides no number.
    """
    config, tokenizer = prepared.config, prepared.tokenizer
    info = {
        "format": RUN_FORMAT,
        "status": "running",
        "started": timestamp(),
        "finished": None,
        "preset": config.preset,
        "data": config.data,
        "increments": config.increments_name,
        **({"frozen_from": config.frozen_from} if config.frozen else {}),
        "per_head": config.per_head,
        "tokenizer": {
            "name": tokenizer.name,
            "vocab_size": tokenizer.vocab_size,
            "fingerprint": tokenizer.fingerprint,
            "tokens_per_byte": prepared.tokens_per_byte,
        },
        "seed": config.seed,
        "n_steps": config.n_steps,
        "device": config.device,
        "dtype": config.dtype,
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epochs": prepared.sampler.epochs(config.n_steps),
        "threads": torch.get_num_threads(),
        "versions": versions(_VERSIONED),
        "command": config.command(),
        "summary": None,
        **sitting,
    }
    payload = {"format": 1, "model": model.cfg.to_dict(), "training": config.to_dict()}
    payload |= save_increments(model, folder)
    write_json_atomically(folder / "config.json", payload)
    write_json_atomically(folder / "data.json", prepared.manifest)
    tokenizer.save(folder)
    write_json_atomically(folder / RUN_FILE, info)


def stored_config(folder: Path, asked: TrainConfig | None) -> TrainConfig:
    """Return the config of the run in `folder`, with the steps that are asked for.

    Anything else that is asked for and differs is refused.
    """
    payload = read_config(folder)
    if "training" not in payload:
        raise LRopeError(f"{folder} holds a model without its training options; it cannot be resumed")
    stored = TrainConfig.from_dict(payload["training"])
    if asked is None:
        return stored
    if asked.n_steps != stored.n_steps and not asked.max_epochs:  # a cap on epochs asks for no number
        stored = replace(stored, n_steps=asked.n_steps, max_epochs=0.0)
    differing = [
        f"{item.name} was {getattr(stored, item.name)}, now {getattr(asked, item.name)}"
        for item in fields(TrainConfig)
        if getattr(asked, item.name) not in (getattr(stored, item.name), "auto")
        and not _was_settled(item.name, stored, asked)
    ]
    if differing:
        raise LRopeError(
            f"the run {folder} was started with other options: {'; '.join(differing)}. Leave them out to go "
            "on with it, or start a new run"
        )
    return stored


def _was_settled(name: str, stored: TrainConfig, asked: TrainConfig) -> bool:
    """Whether a value may differ from the stored one because it was settled when the run was made."""
    if name == "data":
        return is_same_name(stored.data, asked.data)
    if name == "n_steps":
        return bool(asked.max_epochs)
    if not (stored.frozen and stored.frozen == asked.frozen):
        return False
    if name == "frozen_from":
        return is_same_source(stored.frozen_from, asked.frozen_from)
    return name == "per_head" and not asked.per_head


def assert_same_data(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose corpus is not what it was trained on so far."""
    before = read_manifest(folder)["splits"]
    for split, now in manifest["splits"].items():
        if before.get(split, {}).get("sha256") != now["sha256"]:
            raise LRopeError(
                f"the text of {manifest['name']} has changed since {folder} was started (its {split} split "
                "has other documents); restore it, or start a new run"
            )


def _assert_trained_on_train_only(
    corpus: Corpus, manifest: Mapping[str, Any], streams: list[np.ndarray], tokenizer: Tokenizer
) -> None:
    """Hash what stands between the EOS of the streams themselves, and find no held-out text there."""
    read = sorted({digest for stream in streams for digest in document_hashes(stream, tokenizer)})
    assert_held_out({"splits": {"train": {"sha256": read}}}, corpus.held_out())
    assert read == sorted(manifest["splits"]["train"]["sha256"]), "data.json must name what is trained on"


def _cap_epochs(config: TrainConfig, n_tokens: int, per_byte: float, on_event: OnEvent) -> TrainConfig:
    """Lower the steps to `max_epochs` of the text; where there is no cap, say what is asked for."""
    n_drawn = config.batch_size * config.n_ctx
    epochs = config.n_steps * n_drawn / n_tokens
    megabytes = n_tokens / per_byte / 1e6
    if config.max_epochs and epochs > config.max_epochs:
        n_steps = max(1, int(config.max_epochs * n_tokens / n_drawn))
        message = (
            f"{config.n_steps:,} steps would read the {megabytes:.1f} MB of training text {epochs:.0f} "
            f"times; lowered to {n_steps:,} steps, {config.max_epochs:g} times. "
            "Steps that are asked for override this."
        )
        on_event(Warned(message))
        return config.with_steps(n_steps)
    if epochs > MANY_EPOCHS * (1 + 1e-9):
        on_event(
            Warned(
                f"{config.n_steps:,} steps read the {megabytes:.1f} MB of training text {epochs:.0f} "
                "times: the model will learn some of it by heart. Watch the validation loss."
            )
        )
    return config
