"""Where frozen increments come from: a finished run that learned its own, checked against the new one.

The lexical form is a table, fitted on the windows that the training itself reads, so that no held-out
text is in it. The contextual form is the source run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lrope_interp.data import Corpus, WindowSampler, assert_held_out, read_manifest
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.checkpoint import WEIGHTS_FILE
from lrope_interp.models.frozen import (
    ContextualIncrements,
    FrozenIncrements,
    LexicalIncrements,
    read_increments,
)
from lrope_interp.results import file_sha256
from lrope_interp.runs import RUNS, Run, read_run
from lrope_interp.tokenizers import Tokenizer, load_tokenizer
from lrope_interp.training.config import TrainConfig, split_source

N_BATCHES = 64
"""Of training batches that a table is fitted on."""


def find_source(frozen_from: str) -> tuple[Run, str]:
    """Return the run that `TrainConfig.frozen_from` means: a folder, or one under ./runs.

    Returns:
        The run, and what a config keeps of it, wherever its folder lies: ``NAME@SHA256`` of its weights.

    Raises:
        LRopeError: No such run, an unfinished one, one with fixed increments, or one whose weights are
            not those that ``NAME@SHA256`` names.
    """
    words, wanted = split_source(frozen_from)
    folder = Path(words).expanduser()
    if not folder.is_dir() and (RUNS / words).is_dir():
        folder = RUNS / words
    run = read_run(folder)
    learned = str(run.info.get("increments"))
    if learned not in ("per_layer", "shared"):
        raise LRopeError(
            f"the run {folder} has {learned.replace('_', ' ')} increments, which it did not learn: freeze "
            "those of a run trained with increments per-layer or shared"
        )
    sha256 = file_sha256(folder / WEIGHTS_FILE)
    if wanted not in ("", sha256):
        raise LRopeError(
            f"the run {folder} has other weights (sha256 {sha256[:12]}...) than the one that is asked "
            f"for ({wanted[:12]}...): name the folder of that one"
        )
    return run, f"{folder.resolve().name}@{sha256}"


def is_same_source(stored: str, asked: str) -> bool:
    """Whether `asked` means the run that `stored` names; a folder that is gone goes by its name."""
    if asked == stored:
        return True
    words, _ = split_source(asked)
    if Path(words).expanduser().is_dir():
        return find_source(asked)[1] == stored
    return Path(words).name == split_source(stored)[0]


def settled(config: TrainConfig, source: Run, identity: str) -> TrainConfig:
    """Return the config with the source's identity, and as many heads with increments as it has.

    Raises:
        LRopeError: `per_head` was asked for and the source has one increment for all heads.
    """
    has_heads = bool(source.info.get("per_head"))
    if config.per_head and not has_heads:
        raise LRopeError(f"the run {source.folder} has one increment for all heads: leave out per_head")
    return replace(config, per_head=has_heads, frozen_from=identity)


def freeze_increments(
    config: TrainConfig, source: Run, corpus: Corpus, tokenizer: Tokenizer, sampler: WindowSampler
) -> FrozenIncrements:
    """Return the increments that a (settled) config is trained on.

    Args:
        config: What is trained.
        source: Whose increments.
        corpus: The new run's; its held-out text must be new to the source too.
        tokenizer: The new run's, which must be the source's.
        sampler: The new run's training batches, which a table is fitted on.

    Raises:
        LRopeError: A source of another shape or tokenizer, or one that has read held-out text.
    """
    folder = source.folder
    if load_tokenizer(folder).fingerprint != tokenizer.fingerprint:
        name = (source.info.get("tokenizer") or {}).get("name", "bytes")
        raise LRopeError(
            f"the run {folder} has another tokenizer than the new run, so their tokens are not "
            f"the same: train with tokenizer {'bytes' if name == 'bytes' else folder / 'tokenizer.json'}"
        )
    try:
        assert_held_out(read_manifest(folder), corpus.held_out())
    except LRopeError as error:
        raise LRopeError(
            f"the run {folder} was trained on text that the new run holds out, which its increments could "
            f"tell: {error}"
        ) from None
    model = LRopeTransformer.from_pretrained(folder, device=config.device)
    if model.weights_sha256 != split_source(config.frozen_from)[1]:
        raise LRopeError(f"the run {folder} was replaced while it was read: give the command again")
    differing = [
        f"{name} is {getattr(model.cfg, name)} there and {getattr(config, name)} here"
        for name in ("n_layers", *(("n_heads",) if model.cfg.per_head else ()))
        if getattr(model.cfg, name) != getattr(config, name)
    ]
    if config.n_ctx > model.cfg.n_ctx:
        differing.append(f"n_ctx is {model.cfg.n_ctx} there and {config.n_ctx} here")
    if differing:
        raise LRopeError(
            f"the increments of {folder} do not fit the new run: {', '.join(differing)}; its preset is "
            f"{source.info.get('preset')}"
        )
    contextual = ContextualIncrements(model)
    return (
        contextual if config.frozen == contextual.kind else LexicalIncrements(lexical_table(model, sampler))
    )


def lexical_table(
    source: LRopeTransformer, sampler: WindowSampler, n_batches: int = N_BATCHES
) -> Float[Tensor, "layer d_vocab *head"]:
    """Return the mean increment of every token, layer by layer, over the first batches of a training.

    The first position of each window, whose increment does nothing, is left out. A token that these
    batches do not hold has the mean over all tokens read. Sums are float64.

    Args:
        source: Whose increments, in eval mode.
        sampler: The batches.
        n_batches: How many of them.
    """
    heads = (source.cfg.n_heads,) if source.cfg.per_head else ()
    sums = torch.zeros(source.cfg.n_layers, source.cfg.d_vocab, *heads, dtype=torch.float64)
    counts = torch.zeros(source.cfg.d_vocab, dtype=torch.float64)
    for step in range(n_batches):
        tokens = torch.from_numpy(sampler.batch(step)[:, :-1])
        ids = tokens[:, 1:].flatten()
        counts += torch.bincount(ids, minlength=len(counts))
        by_layer = read_increments(source, tokens.to(source.W_E.device))
        for total, increments in zip(sums, by_layer, strict=True):
            total.index_add_(0, ids, increments[:, 1:].flatten(0, 1).cpu().double())
    by_token = counts.view(-1, *[1] * len(heads))
    means = sums.sum(1, keepdim=True) / counts.sum()
    return torch.where(by_token > 0, sums / by_token.clamp(min=1), means).float()
