"""Documents as a model reads them, token by token and window by window, and what it did at every byte.

In a window that starts at s, token t of a document stands at index t + 1 - s of the sequence
EOS, token 0, token 1, ...; its increment is read there, its prediction one index before.
What is read at a token is stored at its first byte, so that all that follows is indexed by bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped, UInt, UInt8

from lrope_interp.data import Document, ScoringWindow, scoring_windows


@dataclass(frozen=True)
class Captured:
    """What a model did at every byte of some documents, joined end to end.

    Attributes:
        documents: What was read.
        offsets: Where each document begins in the joined bytes; one more entry than documents.
        byte: The bytes.
        layers: The captured layers.
        increments: Layer by head by byte; one head unless the model has increments per head.
            `increments[..., t]` is the step taken on arriving at byte t, which it has seen.
        entropy: Of the prediction of byte t, in nats; it has not seen byte t.
        entropy_next: Of the prediction made right after byte t, in nats.
        surprisal: -ln p of byte t, in nats.
            The three are empty where predictions were not asked for.
        tokens: The ids, joined without EOS; the bytes themselves where tokens are bytes.
        token_starts: At which of the joined bytes each token begins.
        readouts: What was read from the residual stream, by name, for each layer; [layers, width, n_bytes].
        hidden: The residual stream itself at the bytes `hidden_at`, where it was asked for.
        hidden_at: Numbers of those bytes, rising.

    Where tokens are longer than a byte, increments and surprisal stand at the first byte of their
    token and are 0 at its others, so that sums over bytes are sums over tokens; both entropies
    are the same at all bytes of a token. Only what stands at `is_token_start` was computed.
    """

    documents: tuple[Document, ...]
    offsets: Int64[np.ndarray, " documents_and_one"]
    byte: UInt8[np.ndarray, " n_bytes"]
    layers: tuple[int, ...]
    increments: Float32[np.ndarray, "layers heads n_bytes"]
    entropy: Float32[np.ndarray, " n_predicted"]
    entropy_next: Float32[np.ndarray, " n_predicted"]
    surprisal: Float32[np.ndarray, " n_predicted"]
    tokens: UInt[np.ndarray, " n_tokens"]
    token_starts: Int64[np.ndarray, " n_tokens"]
    readouts: Mapping[str, Float32[np.ndarray, "layers _ n_bytes"]] = field(default_factory=dict)
    hidden: Float32[np.ndarray, "_ sampled d_model"] = field(
        default_factory=lambda: np.zeros((0, 0, 0), dtype=np.float32)
    )
    hidden_at: Int64[np.ndarray, " sampled"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def n_bytes(self) -> int:
        """Bytes of all documents."""
        return len(self.byte)

    @cached_property
    def document(self) -> Int64[np.ndarray, " n_bytes"]:
        """The number of the document of each byte."""
        return np.repeat(np.arange(len(self.documents)), np.diff(self.offsets))

    @cached_property
    def t(self) -> Int64[np.ndarray, " n_bytes"]:
        """The place of each byte in its document."""
        return np.arange(self.n_bytes) - self.offsets[:-1][self.document]

    @cached_property
    def spoken(self) -> dict[str, Bool[np.ndarray, " n_bytes"]]:
        """Which bytes are of each language; empty where all are of one."""
        language = np.array([one.language for one in self.documents])[self.document]
        names = np.unique(language).tolist()
        return {name: language == name for name in names} if len(names) > 1 else {}

    @property
    def has_byte_tokens(self) -> bool:
        """Whether every byte is a token of its own."""
        return len(self.tokens) == self.n_bytes

    @cached_property
    def is_token_start(self) -> Bool[np.ndarray, " n_bytes"]:
        """Whether a token begins at each byte."""
        is_start = np.zeros(self.n_bytes, dtype=bool)
        is_start[self.token_starts] = True
        return is_start

    @cached_property
    def token(self) -> UInt[np.ndarray, " n_bytes"]:
        """The id of the token that each byte belongs to."""
        return self.at_every_byte(self.tokens)

    @cached_property
    def token_offsets(self) -> Int64[np.ndarray, " documents_and_one"]:
        """Where each document begins in the joined tokens; one more entry than documents."""
        return np.searchsorted(self.token_starts, self.offsets)

    def at_tokens(self, values: Shaped[np.ndarray, "*axes n_bytes"]) -> Shaped[np.ndarray, "*axes n_tokens"]:
        """Return what stands at the first byte of each token, along the last axis."""
        return values if self.has_byte_tokens else np.take(values, self.token_starts, axis=-1)

    def at_every_byte(self, values: Shaped[np.ndarray, " n_tokens"]) -> Shaped[np.ndarray, " n_bytes"]:
        """Return the value of its token for each byte."""
        return np.repeat(values, np.diff(self.token_starts, append=self.n_bytes))

    def span(self, document: int) -> slice:
        """Where the bytes of one document lie."""
        return slice(int(self.offsets[document]), int(self.offsets[document + 1]))

    def positions(self, document: int) -> Float64[np.ndarray, "layers heads n_document"]:
        """Running sum of the stitched increments of one document; EOS stands at 0.

        In a document longer than a window this is no number that the model used: attention sees
        differences within a window only.
        """
        return np.cumsum(self.increments[..., self.span(document)], axis=-1, dtype=np.float64)


@dataclass(frozen=True)
class DocumentWindow:
    """A window of one document.

    Attributes:
        document: Number of the document.
        window: Which of its tokens are read, and from where on they are scored.
    """

    document: int
    window: ScoringWindow

    @property
    def here(self) -> slice:
        """Indices of the window at which scored tokens stand."""
        window = self.window
        return slice(window.first_scored - window.start, window.stop - window.start)

    @property
    def before(self) -> slice:
        """Indices at which scored tokens are predicted."""
        return slice(self.here.start - 1, self.here.stop - 1)

    def to(self, captured: Captured) -> Int64[np.ndarray, " scored"]:
        """At which joined bytes the scored tokens begin."""
        at = int(captured.token_offsets[self.document])
        return captured.token_starts[at + self.window.first_scored - 1 : at + self.window.stop - 1]


def document_windows(captured: Captured, n_ctx: int, overlap: float) -> list[DocumentWindow]:
    """Cover all documents with windows, the longest first, so that batches hardly pad any; see `data`."""
    every = [
        DocumentWindow(number, window)
        for number, n_tokens in enumerate(np.diff(captured.token_offsets).tolist())
        for window in scoring_windows(n_tokens + 1, n_ctx, overlap)
    ]
    return sorted(every, key=lambda item: item.window.start - item.window.stop)


def window_tokens(
    batch: Sequence[DocumentWindow], captured: Captured, eos: int
) -> Int64[np.ndarray, "batch pos"]:
    """Cut the windows from EOS + tokens; EOS also pads on the right, where causality hides it."""
    return at_windows(batch, captured, captured.tokens, eos)


def at_windows(
    batch: Sequence[DocumentWindow],
    captured: Captured,
    values: Shaped[np.ndarray, " n_tokens"],
    elsewhere: int | bool,
) -> Shaped[np.ndarray, "batch pos"]:
    """Lay one value a token out as the windows read them; `elsewhere` stands at EOS and padding."""
    dtype = bool if isinstance(elsewhere, bool) else np.int64
    longest = max(item.window.stop - item.window.start for item in batch)
    out = np.full((len(batch), longest), elsewhere, dtype=dtype)
    for row, item in enumerate(batch):
        start, stop, at = item.window.start, item.window.stop, int(captured.token_offsets[item.document])
        first = max(start - 1, 0)
        out[row, first + 1 - start : stop - start] = values[at + first : at + stop - 1]
    return out
