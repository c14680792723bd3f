"""Read a model over whole documents.

Documents are cut into overlapping windows, windows of all documents share batches, and every
token is read in the window that gives it the most context. Windows are padded on the right,
where causality hides it, to the longest of their batch: neither the batch size nor the company
of a document changes its numbers beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64, UInt
from torch import Tensor

from lrope_interp.data import Document, ScoringWindow, scoring_windows
from lrope_interp.data.windows import token_dtype
from lrope_interp.errors import LRopeError, whole_numbers
from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.models.increments import IncrementHead
from lrope_interp.probes.capture.captured import (
    Captured,
    DocumentWindow,
    document_windows,
    window_tokens,
)
from lrope_interp.progress import Progress
from lrope_interp.tokenizers import ByteTokenizer, Tokenizer

"""Called with the name of a stage, what is done of it and all of it."""
Thing = TypeVar("Thing")

BATCH_SIZE = 4  # on CPUs 1.25 times as fast as 16, whose activations leave the cores' memory
Layers: TypeAlias = int | Sequence[int] | None
"""One layer, several, or (None) all."""
OVERLAP = 0.5
HIDDEN = "hidden"
_AFTER = 4  # a window of `window_sums` ends at most a quarter of its length after the later token ...
_BEFORE = 8  # ... and keeps an eighth of context before the earlier one


@dataclass(frozen=True)
class Readout:
    """A function of the residual stream before a layer, read during capture.

    At a million bytes, six layers of a 256-dimensional stream are 6 GB. What is wanted of it is a few
    numbers a byte: a probe's score, a random head's increment, the cosine between neighbours.

    Attributes:
        name: Its key in `Captured.readouts`.
        width: How many numbers it gives a token.
        function: From the layer and its stream [batch, pos, d_model] to [batch, pos, width].
    """

    name: str
    width: int
    function: Callable[[int, Float[Tensor, "batch pos d_model"]], Float[Tensor, "batch pos width"]]


def capture(
    model: LRopeTransformer,
    documents: Sequence[Document],
    *,
    layers: Sequence[int] | None = None,
    predictions: bool = True,
    readouts: Sequence[Readout] = (),
    hidden_at: Int64[np.ndarray, " sampled"] | None = None,
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
            at the increments of the last layer asked for.
        readouts: What else to read, from the residual stream before each of the layers.
        hidden_at: Joined bytes, rising, at which to keep the stream itself; they must begin tokens.
        overlap: The share of a window that is read for context only; `suites.OVERLAPS` says what
            findings have.
        batch_size: Windows at a time; it bounds the memory and changes nothing else.
        on_progress: Told after every batch: "capture", windows done, windows in all.
    """
    kept = check_layers(model, layers, least=0)
    out = lay_out(model, documents, kept, predictions, readouts, hidden_at)
    todo = document_windows(out, model.cfg.n_ctx, overlap)
    _fill(model, out, todo, batch_size, readouts, on_progress)
    for values in (out.entropy, out.entropy_next) if predictions and not out.has_byte_tokens else ():
        values[:] = out.at_every_byte(values[out.token_starts])
    return out


def sees_bytes_only(model: LRopeTransformer, layers: Sequence[int]) -> bool:
    """Return whether the increments of these layers, if no hook changes them, are a table of 256 numbers."""
    reads_embedding = tuple(layers) == (0,) or model.cfg.increments == "shared"
    return reads_embedding and model.own_tokenizer().name == ByteTokenizer.name


def increments_by_byte(
    model: LRopeTransformer, captured: Captured, *, batch_size: int, on_progress: Progress | None = None
) -> Float32[np.ndarray, "layers heads n_bytes"]:
    """Return the increments of what `lay_out` laid out, from a text of every character once.

    Args:
        model: One that `sees_bytes_only`, in the layers laid out.
        captured: Documents and layers.
        batch_size: Windows at a time.
        on_progress: Told about the forward passes.
    """
    letters = "".join(sorted(set().union(*(one.text for one in captured.documents))))
    how = {"layers": captured.layers, "batch_size": batch_size, "on_progress": on_progress}
    read = capture(model, [Document("alphabet", letters, "", "und")], predictions=False, overlap=0.0, **how)
    place = np.zeros(256, dtype=np.int64)
    place[read.byte] = np.arange(read.n_bytes)
    return read.increments[..., place[captured.byte]]


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
    _fill(model, out, todo, batch_size)
    return out.at_tokens(out.increments)[..., span]


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


def check_layers(model: LRopeTransformer, layers: Layers, *, least: int = 1) -> tuple[int, ...]:
    """Return the layers asked for, in order and once each; None asks for all.

    Raises:
        LRopeError: A layer that the model does not have, or fewer of them than wanted.
    """
    n_layers = model.cfg.n_layers
    if layers is None:
        return tuple(range(n_layers))
    found = tuple(sorted(set(whole_numbers(layers, "layers"))))
    wrong = [layer for layer in found if not 0 <= layer < n_layers]
    if wrong:
        raise LRopeError(f"the model has layers 0 to {n_layers - 1}, not {wrong[0]}; choose one of them")
    if len(found) < least:
        raise LRopeError("no layer is named; name at least one, or leave layers away for all")
    return found


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


def begin(on_progress: Progress | None, stage: str, total: int = 1) -> None:
    """Tell `on_progress` that a stage begins."""
    if on_progress is not None:
        on_progress(stage, 0, total)


def counted(things: Sequence[Thing], stage: str, on_progress: Progress | None) -> Iterator[Thing]:
    """Yield one thing after the other, and tell `on_progress` first, and after what was done with each."""
    begin(on_progress, stage, len(things))
    for done, one in enumerate(things, start=1):
        yield one
        if on_progress is not None:
            on_progress(stage, done, len(things))


def in_batches(
    todo: Sequence[DocumentWindow],
    size: int,
    stage: str = "",
    on_progress: Progress | None = None,
    n_passes: int = 1,
) -> Iterator[tuple[int, Sequence[DocumentWindow]]]:
    """Yield the windows `size` at a time, each time with how many are done after them.

    `on_progress` is told first, and after what was done with each batch: windows times passes, and all of
    them.
    """
    begin(on_progress, stage, len(todo) * n_passes)
    for start in range(0, len(todo), max(1, size)):
        batch = todo[start : start + max(1, size)]
        done = start + len(batch)
        yield done, batch
        if on_progress is not None:
            on_progress(stage, done * n_passes, len(todo) * n_passes)


def lay_out(
    model: LRopeTransformer,
    documents: Sequence[Document],
    layers: tuple[int, ...],
    predictions: bool,
    readouts: Sequence[Readout] = (),
    hidden_at: Int64[np.ndarray, " sampled"] | None = None,
) -> Captured:
    """Return what `capture` fills, with zeros; it is all the memory that grows with the documents."""
    joined = np.frombuffer(b"".join(document.encoded for document in documents), dtype=np.uint8)
    offsets = np.cumsum([0] + [document.n_bytes for document in documents])
    n_heads = model.cfg.n_heads if model.cfg.per_head else 1
    entropy, entropy_next, surprisal = np.zeros((3, len(joined) if predictions else 0), dtype=np.float32)
    tokens, token_starts = encoded(model.own_tokenizer(), documents)
    shapes = {one.name: (len(layers), one.width, len(joined)) for one in readouts}
    hidden_at = np.zeros(0, dtype=np.int64) if hidden_at is None else hidden_at
    return Captured(
        documents=tuple(documents),
        offsets=offsets.astype(np.int64),
        byte=joined,
        layers=layers,
        increments=np.zeros((len(layers), n_heads, len(joined)), dtype=np.float32),
        entropy=entropy,
        entropy_next=entropy_next,
        surprisal=surprisal,
        tokens=tokens,
        token_starts=token_starts,
        readouts={name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()},
        hidden=np.zeros(
            (len(layers) if len(hidden_at) else 0, len(hidden_at), model.cfg.d_model), dtype=np.float32
        ),
        hidden_at=hidden_at,
    )


def _fill(
    model: LRopeTransformer,
    out: Captured,
    todo: Sequence[DocumentWindow],
    batch_size: int,
    readouts: Sequence[Readout] = (),
    on_progress: Progress | None = None,
) -> None:
    """Run all windows, a batch at a time, and store what each scores."""
    predictions = len(out.entropy) > 0
    for _, batch in in_batches(todo, batch_size, "capture", on_progress):
        tokens = _window_tokens(model, batch, out)
        read = _forward(model, tokens, out.layers, predictions, readouts, len(out.hidden_at) > 0)
        for row, item in enumerate(batch):
            _store(out, item, {name: values[..., row, :] for name, values in read.items()})


def _window_tokens(
    model: LRopeTransformer, batch: Sequence[DocumentWindow], out: Captured
) -> Int[Tensor, "batch pos"]:
    return torch.from_numpy(window_tokens(batch, out, model.own_tokenizer().eos_id))


def _forward(
    model: LRopeTransformer,
    tokens: Int[Tensor, "batch pos"],
    layers: tuple[int, ...],
    predictions: bool = False,
    readouts: Sequence[Readout] = (),
    has_hidden: bool = False,
) -> dict[str, Float[np.ndarray, "..."]]:
    """One forward pass: increments as layer, head, batch, pos; predictions as batch, pos.

    Readouts come as layer, width, batch, pos, the residual stream itself as layer, d_model, batch, pos.
    """
    increments = [f"blocks.{layer}.hook_increments" for layer in layers]
    streams = [f"blocks.{layer}.hook_resid_pre" for layer in layers] if readouts or has_hidden else []
    tokens = tokens.to(model.cfg.device)
    cache, hooks, _ = model.get_caching_hooks([*increments, *streams])
    if not predictions:  # the last layer's increments need nothing that comes after them
        hooks.append((["hook_embed", *increments][-1], _enough))
    with torch.inference_mode():
        logits = torch.empty(0)
        with suppress(_EnoughError), model.hooks(hooks):
            logits = model(tokens)
        read = {}
        if predictions:
            # Entropy of what is said *at* an index, surprisal of the token that stands *after* it.
            log_p = logits.float().log_softmax(dim=-1)
            following = tokens.roll(-1, dims=1).unsqueeze(-1)
            read["entropy"] = -(log_p.exp() * log_p).sum(dim=-1)
            read["surprisal"] = -log_p.gather(-1, following).squeeze(-1)
        if layers:
            by_layer = [cache[name] for name in increments]
            by_layer = [one if one.ndim == 3 else one.unsqueeze(-1) for one in by_layer]
            read["increments"] = torch.stack(by_layer).permute(0, 3, 1, 2)
        if streams:
            by_layer = {layer: cache[name] for layer, name in zip(layers, streams, strict=True)}
            for one in readouts:
                read[one.name] = torch.stack(
                    [one.function(layer, x).permute(2, 0, 1) for layer, x in by_layer.items()]
                )
            if has_hidden:
                read[HIDDEN] = torch.stack([x.permute(2, 0, 1) for x in by_layer.values()])
    return {name: values.float().cpu().numpy() for name, values in read.items()}


class _EnoughError(Exception):
    """Ends a forward pass."""


def _enough(increments: Tensor, hook: HookPoint) -> None:
    del increments, hook
    raise _EnoughError


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
    if len(out.hidden_at) and len(out.layers):
        at = np.searchsorted(to, out.hidden_at)
        inside = np.flatnonzero((at < len(to)) & (out.hidden_at <= to[-1] if len(to) else False))
        kept = inside[to[at[inside]] == out.hidden_at[inside]]
        out.hidden[:, kept] = read[HIDDEN][..., here][:, :, at[kept]].transpose(0, 2, 1)


def _cosine(layer: int, stream: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos 1"]:
    """Cosine of each state with the one before; 1 at the first index, which is EOS."""
    del layer
    return F.pad(F.cosine_similarity(stream[:, 1:], stream[:, :-1], dim=-1), (1, 0), value=1.0).unsqueeze(-1)


COSINE = Readout("cosine", 1, _cosine)


def head_readout(name: str, heads: Sequence[Mapping[int, IncrementHead]]) -> Readout:
    """Read increments through other heads than the model's own; they steer nothing.

    Args:
        name: Of the readout.
        heads: For each seed, the head of each layer.
    """
    n_out = next(iter(heads[0].values())).W_out.shape[-1]

    def read(layer: int, stream: Tensor) -> Tensor:
        pre = [one[layer].read_out(one[layer].hidden(stream)) for one in heads]
        return torch.cat([one[layer].squash(p) for one, p in zip(heads, pre, strict=True)], dim=-1)

    return Readout(name, len(heads) * n_out, read)


def linear_readout(
    name: str, weights: Mapping[int, tuple[Float32[np.ndarray, "d_model _"], Float32[np.ndarray, " _"]]]
) -> Readout:
    """Read scores of linear probes: for each layer a matrix and a bias."""
    tensors = {layer: (torch.from_numpy(w), torch.from_numpy(b)) for layer, (w, b) in weights.items()}
    width = next(iter(tensors.values()))[0].shape[1]

    def read(layer: int, stream: Tensor) -> Tensor:
        matrix, bias = (one.to(stream.device) for one in tensors[layer])
        return stream.float() @ matrix + bias

    return Readout(name, width, read)


def most_tokens(n_ctx: int) -> int:
    """Return the longest distance that is measured in windows of n_ctx tokens."""
    return n_ctx - max(1, n_ctx // _AFTER) - max(2, n_ctx // _BEFORE)


def window_sums(
    model: LRopeTransformer,
    laid_out: Captured,
    document: Int64[np.ndarray, " n"],
    first: Int64[np.ndarray, " n"],
    last: Int64[np.ndarray, " n"],
    *,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Float64[np.ndarray, "n layers heads"]:
    """Return the sum of the increments after token `first`, up to token `last`, of every pair.

    It is the distance that attention uses: both tokens are read in one window, which ends shortly after the
    later one. Increments stitched from several windows have been read with different contexts, and
    attention never sees their sum.

    Args:
        model: Any LRopeTransformer.
        laid_out: The documents, from `lay_out`.
        document: Number of the document of each pair.
        first: The earlier token, counted in its document.
        last: The later one, at most `most_tokens` further on.
        batch_size: Windows at a time.
        on_progress: Told after every batch.
    """
    n_ctx = model.cfg.n_ctx
    assert len(first) == 0 or int((last - first).max()) <= most_tokens(n_ctx)
    length = np.diff(laid_out.token_offsets)[document] + 1
    grid = max(1, n_ctx // _AFTER)  # windows end at a few places of each document only: pairs share them
    stops = np.minimum(-(-(last + 2) // grid) * grid, length)  # token t stands at index t + 1
    windows, which = np.unique(np.stack([document, stops]), axis=1, return_inverse=True)
    starts = np.maximum(0, windows[1] - n_ctx)
    todo = [
        DocumentWindow(number, ScoringWindow(start, stop, max(start, 1)))
        for number, stop, start in zip(*windows.tolist(), starts.tolist(), strict=True)
    ]
    n_heads = model.cfg.n_heads if model.cfg.per_head else 1
    sums = np.zeros((len(first), len(laid_out.layers), n_heads))
    order = np.argsort(which.ravel(), kind="stable")
    edges = np.searchsorted(which.ravel()[order], np.arange(len(todo) + 1))
    for done, batch in in_batches(todo, batch_size, "windows", on_progress):
        read = _forward(model, _window_tokens(model, batch, laid_out), laid_out.layers)["increments"]
        for row, item in enumerate(batch):
            number = done - len(batch) + row
            rows, here = order[edges[number] : edges[number + 1]], 1 - item.window.start
            positions = np.cumsum(read[:, :, row], axis=-1, dtype=np.float64)
            between = positions[..., last[rows] + here] - positions[..., first[rows] + here]
            sums[rows] = np.moveaxis(between, -1, 0)
    return sums
