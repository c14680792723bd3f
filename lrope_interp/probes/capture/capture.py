"""Read a model over whole documents: the one caller of `run_with_cache`.

Documents are cut into overlapping windows, windows of all documents share batches, and every
token is read in the window that gives it the most context (EVALUATION 1). Every window is padded
to n_ctx, so that neither the batch size nor the company of a document changes its numbers.
What is read at a token is stored at its first byte (see `windowing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64, UInt
from torch import Tensor

from lrope_interp.data import Document, ScoringWindow, scoring_windows
from lrope_interp.data.windows import token_dtype
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.readouts import NO_RESIDUAL, ResidualReads
from lrope_interp.probes.capture.windows import DocumentWindow, document_windows, in_batches, window_tokens
from lrope_interp.tokenizers import ByteTokenizer, Tokenizer

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with the name of a stage, what is done of it and all of it."""

BATCH_SIZE = 16
OVERLAP = 0.5


@dataclass(frozen=True)
class _Pass:
    """How windows are run: up to which block (None: all of the model), how many at once, what is read."""

    stop: int | None
    batch_size: int
    residual: ResidualReads = NO_RESIDUAL


def capture(
    model: LRopeTransformer,
    documents: Sequence[Document],
    *,
    layers: Sequence[int] | None = None,
    predictions: bool = True,
    residual: ResidualReads = NO_RESIDUAL,
    overlap: float = OVERLAP,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Captured:
    """Run `model` over `documents` and return increments and predictions at every byte.

    Args:
        model: Any LRopeTransformer; a fixed one gives increments of one.
        documents: Read as the model's tokens, each from its own EOS.
        layers: Which layers' increments to keep; None for all, empty for none.
        predictions: Whether to compute entropy and surprisal. Without them the forward pass stops
            after the last layer asked for.
        residual: What else to read, from the residual stream before each of the layers.
        overlap: The share of a window that is read for context only. Everything that is scored as a
            finding has one half.
        batch_size: Windows at a time; it bounds the memory and changes nothing else.
        on_progress: Told after every batch: "capture", windows done, windows in all.
    """
    kept = check_layers(model, layers)
    out = lay_out(model, documents, kept, predictions, residual)
    stop = None if predictions else max(kept, default=-1) + 1
    todo = document_windows(out, model.cfg.n_ctx, overlap)
    _fill(model, out, todo, _Pass(stop, batch_size, residual), on_progress)
    for values in (out.entropy, out.entropy_next) if predictions and not out.has_byte_tokens else ():
        values[:] = out.at_every_byte(values[out.token_starts])
    return out


def capture_unhurried(
    model: LRopeTransformer, document: Document, span: slice, *, layers: Sequence[int], batch_size: int
) -> Float32[np.ndarray, "layers heads n_span"]:
    """Return the increments of some tokens, each read at the end of a window of its own (stride 1).

    It costs a window a token, and is there to tell how much the stride of `capture` matters.
    """
    kept = check_layers(model, layers)
    out = lay_out(model, [document], kept, predictions=False)
    n_ctx = model.cfg.n_ctx
    todo = [
        DocumentWindow(0, ScoringWindow(max(0, at + 1 - n_ctx), at + 1, at))
        for at in range(span.start + 1, span.stop + 1)
    ]
    _fill(model, out, todo, _Pass(max(kept, default=-1) + 1, batch_size), None)
    return out.at_tokens(out.increments)[..., span]


def capture_windows(
    model: LRopeTransformer,
    laid_out: Captured,
    todo: Sequence[DocumentWindow],
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[DocumentWindow, Float[np.ndarray, "layers heads n_ctx"]]]:
    """Yield windows of the caller's own with all increments read in them, by index in the window.

    For what has to be read within one window, where `capture` joins what several windows read.

    Args:
        model: Any LRopeTransformer.
        laid_out: The documents, from `lay_out`; its layers are read, and nothing is stored in it.
        todo: The windows, in any order.
        batch_size: Windows at a time.
    """
    how = _Pass(max(laid_out.layers, default=-1) + 1, batch_size)
    for _, batch in in_batches(todo, max(1, batch_size)):
        read = _forward(model, _window_tokens(model, batch, laid_out), laid_out.layers, how)
        for row, item in enumerate(batch):
            yield item, read["increments"][:, :, row]


def capture_pattern(
    model: LRopeTransformer, document: Document, *, layer: int, head: int, byte: int
) -> tuple[int, Float32[np.ndarray, " keys"]]:
    """Return where one head looks from the token of one byte, in the window in which that is scored.

    Returns:
        The sequence index of the first key (0 is EOS, token t is t + 1) and the attention weights
        on the keys from there up to the token itself.
    """
    captured = lay_out(model, [document], (), predictions=False)
    token = int(np.searchsorted(captured.token_starts, byte, side="right")) - 1
    window = next(
        w
        for w in scoring_windows(len(captured.tokens) + 1, model.cfg.n_ctx)
        if w.first_scored <= token + 1 < w.stop
    )
    tokens = _window_tokens(model, [DocumentWindow(0, window)], captured).to(model.cfg.device)
    name = f"blocks.{layer}.attn.hook_pattern"
    with torch.inference_mode():
        _, cache = model.run_with_cache(tokens, names_filter=name, stop_at_layer=layer + 1)
    query = token + 1 - window.start
    return window.start, cache[name][0, head, query, : query + 1].float().cpu().numpy()


def with_increments(
    model: LRopeTransformer,
    documents: Sequence[Document],
    layers: tuple[int, ...],
    increments: Float32[np.ndarray, "layers heads n_bytes"],
) -> Captured:
    """Return what `capture` without predictions returns, given increments that were captured before."""
    out = lay_out(model, documents, layers, predictions=False)
    out.increments[...] = increments
    return out


def check_layers(model: LRopeTransformer, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Return the layers asked for, in order and once each; None asks for all.

    Raises:
        LRopeError: For a layer that the model does not have.
    """
    n_layers = model.cfg.n_layers
    if layers is None:
        return tuple(range(n_layers))
    wrong = [layer for layer in layers if not 0 <= layer < n_layers]
    if wrong:
        raise LRopeError(
            f"the model has layers 0 to {n_layers - 1}, not {wrong[0]}; choose one of them or 'all'"
        )
    return tuple(sorted(set(layers)))


def encoded(
    tokenizer: Tokenizer, documents: Sequence[Document]
) -> tuple[UInt[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_tokens"]]:
    """Return the ids of documents joined end to end, and at which of their bytes each token begins."""
    dtype = token_dtype(tokenizer.vocab_size)
    at, tokens, starts = 0, [np.zeros(0, dtype=dtype)], [np.zeros(0, dtype=np.int64)]
    for document in documents:
        ids, first, _ = tokenizer.encode_spans(document.text)
        tokens.append(ids.astype(dtype))
        starts.append(first + at)
        at += document.n_bytes
    return np.concatenate(tokens), np.concatenate(starts)


def token_start_mask(
    model: LRopeTransformer, documents: Sequence[Document]
) -> Bool[np.ndarray, " n_bytes"] | None:
    """Return at which of the documents' joined bytes a token begins; None where tokens are bytes."""
    tokenizer = model.own_tokenizer()
    if tokenizer.name == ByteTokenizer.name:
        return None
    is_start = np.zeros(sum(document.n_bytes for document in documents), dtype=bool)
    is_start[encoded(tokenizer, documents)[1]] = True
    return is_start


def staged(on_progress: Progress | None, stage: str) -> Progress | None:
    """Return a callback that reports to `on_progress` under another name."""
    return None if on_progress is None else lambda _, done, total: on_progress(stage, done, total)


def lay_out(
    model: LRopeTransformer,
    documents: Sequence[Document],
    layers: tuple[int, ...],
    predictions: bool,
    residual: ResidualReads = NO_RESIDUAL,
) -> Captured:
    """Return what `capture` fills, with zeros; it is all the memory that grows with the documents."""
    joined = np.frombuffer(b"".join(document.encoded for document in documents), dtype=np.uint8)
    offsets = np.cumsum([0] + [document.n_bytes for document in documents])
    n_heads = model.cfg.n_heads if model.cfg.per_head else 1
    entropy, entropy_next, surprisal = np.zeros((3, len(joined) if predictions else 0), dtype=np.float32)
    tokens, token_starts = encoded(model.own_tokenizer(), documents)
    widths = {one.name: (len(layers), one.width, len(joined)) for one in residual.readouts}
    n_hidden = 0 if residual.hidden_at is None else len(residual.hidden_at)
    return Captured(
        tuple(documents),
        offsets.astype(np.int64),
        joined,
        layers,
        np.zeros((len(layers), n_heads, len(joined)), dtype=np.float32),
        entropy,
        entropy_next,
        surprisal,
        tokens,
        token_starts,
        {name: np.zeros(shape, dtype=np.float32) for name, shape in widths.items()},
        np.zeros((len(layers) if n_hidden else 0, n_hidden, model.cfg.d_model), dtype=np.float32),
        np.zeros(0, dtype=np.int64) if residual.hidden_at is None else residual.hidden_at,
    )


def _fill(
    model: LRopeTransformer,
    out: Captured,
    todo: Sequence[DocumentWindow],
    how: _Pass,
    on_progress: Progress | None,
) -> None:
    """Run all windows, a batch at a time, and store what each scores."""
    for done, batch in in_batches(todo, max(1, how.batch_size)):
        tokens = _window_tokens(model, batch, out)
        read = _forward(model, tokens, out.layers, how)
        for row, item in enumerate(batch):
            _store(out, item, {name: values[..., row, :] for name, values in read.items()})
        if on_progress is not None:
            on_progress("capture", done, len(todo))


def _window_tokens(
    model: LRopeTransformer, batch: Sequence[DocumentWindow], out: Captured
) -> Int[Tensor, "batch n_ctx"]:
    return torch.from_numpy(window_tokens(batch, out, model.cfg.n_ctx, model.own_tokenizer().eos_id))


def _forward(
    model: LRopeTransformer, tokens: Int[Tensor, "batch pos"], layers: tuple[int, ...], how: _Pass
) -> dict[str, Float[np.ndarray, "..."]]:
    """One forward pass: increments as layer, head, batch, pos; predictions as batch, pos.

    Readouts come as layer, width, batch, pos, the residual stream itself as layer, d_model, batch, pos.
    """
    increments = [f"blocks.{layer}.hook_increments" for layer in layers]
    streams = [f"blocks.{layer}.hook_resid_pre" for layer in layers] if how.residual else []
    tokens = tokens.to(model.cfg.device)
    with torch.inference_mode():
        logits, cache = model.run_with_cache(
            tokens, names_filter=[*increments, *streams], stop_at_layer=how.stop
        )
        read = {} if how.stop is not None else _predictions(logits, tokens)
        if layers:
            by_layer = [cache[name] for name in increments]
            by_layer = [one if one.ndim == 3 else one.unsqueeze(-1) for one in by_layer]
            read["increments"] = torch.stack(by_layer).permute(0, 3, 1, 2)
        if layers and streams:
            read |= how.residual.read(
                {layer: cache[name] for layer, name in zip(layers, streams, strict=True)}
            )
    return {name: values.float().cpu().numpy() for name, values in read.items()}


def _predictions(
    logits: Float[Tensor, "batch pos d_vocab"], tokens: Int[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, "batch pos"]]:
    """Entropy of the prediction made *at* each index, surprisal of the token that stands *after* it."""
    log_p = logits.float().log_softmax(dim=-1)
    following = tokens.roll(-1, dims=1).unsqueeze(-1)
    return {
        "entropy": -(log_p.exp() * log_p).sum(dim=-1),
        "surprisal": -log_p.gather(-1, following).squeeze(-1),
    }


def _store(out: Captured, item: DocumentWindow, read: dict[str, Float[np.ndarray, "..."]]) -> None:
    """Copy what one window scores: tokens first_scored - 1 up to stop - 1 of its document."""
    to, here, before = item.to(out), item.here, item.before
    if "increments" in read:
        out.increments[..., to] = read["increments"][..., here]
    if "entropy" in read:
        out.entropy[to] = read["entropy"][before]
        out.entropy_next[to] = read["entropy"][here]
        out.surprisal[to] = read["surprisal"][before]
    for name, values in out.readouts.items():
        values[..., to] = read[name][..., here]
    if len(out.hidden_at):
        _store_hidden(out, to, read["hidden"][..., here])


def _store_hidden(
    out: Captured, to: Int64[np.ndarray, " scored"], hidden: Float[np.ndarray, "layers d_model scored"]
) -> None:
    """Keep the residual stream of those scored tokens that were asked for."""
    at = np.searchsorted(to, out.hidden_at)
    inside = np.flatnonzero((at < len(to)) & (out.hidden_at <= to[-1] if len(to) else False))
    kept = inside[to[at[inside]] == out.hidden_at[inside]]
    out.hidden[:, kept] = hidden[:, :, at[kept]].transpose(0, 2, 1)
