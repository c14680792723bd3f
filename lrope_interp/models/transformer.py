"""The model: one forward pass, in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer, Shaped
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.errors import LRopeError
from lrope_interp.models.block import Block, Stream
from lrope_interp.models.caching import HookedModel, HookPoint
from lrope_interp.models.compilation import run_uncompiled
from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.distance import Distances
from lrope_interp.models.embeddings import Embed, Unembed
from lrope_interp.models.folding import Folding
from lrope_interp.models.frozen import CopiesIncrements
from lrope_interp.models.generation import Generation
from lrope_interp.models.increments import SharedIncrementHead
from lrope_interp.models.initialization import initialize
from lrope_interp.models.interchange import Interchange
from lrope_interp.models.kv_cache import begin, check_cache, end
from lrope_interp.models.masks import check_mask, check_request
from lrope_interp.models.normalization import HookedRMSNorm
from lrope_interp.models.surface import AnalysisSurface
from lrope_interp.models.text import TextMethods, too_long
from lrope_interp.tokenizers import ByteTokenizer, Tokenizer

_INTEGERS = (
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)


class Output(NamedTuple):
    """What ``return_type="both"`` returns."""

    logits: Float[Tensor, "batch pos d_vocab"]
    loss: Float[Tensor, "*shape"]


class LRopeTransformer(
    TextMethods, Generation, Distances, Folding, Interchange, AnalysisSurface, CopiesIncrements, HookedModel
):
    """A decoder whose layers learn how far each token advances the position.

    Hook names, parameter names and shapes, and method signatures are HookedTransformer's, and two
    more hook points stand in every block: `hook_increments` (float32) and `hook_positions`
    (float64). ``position[t] - position[t-1] == increment[t]``: the increment is the step taken on
    arriving at a token. Ablating is a hook, never a mode of the model.

    Example:
        >>> model = LRopeTransformer.from_pretrained("runs/tiny-bilingual-per_layer-s0")
        >>> logits, cache = model.run_with_cache("How far apart are we?")
        >>> cache["increments", 0].shape
        torch.Size([1, 22])
    """

    weights_sha256 = ""  # of the file that the weights were loaded from

    def __init__(self, cfg: LRopeConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.tokenizer: Tokenizer | None = (
            ByteTokenizer() if cfg.d_vocab == ByteTokenizer.vocab_size else None
        )
        self.embed = Embed(cfg)
        self.hook_tokens, self.hook_embed = HookPoint(), HookPoint()
        if cfg.increments == "shared":
            self.shared_increments = SharedIncrementHead(cfg)
        self._modules["blocks"] = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layers))
        has_gain = cfg.normalization_type == "RMS"
        self._modules["ln_final"] = HookedRMSNorm(cfg.d_model, cfg.eps, has_gain)
        self.unembed = Unembed(cfg, self.embed)
        self.setup()
        # Before the weights are drawn: torch's default dtype, which they are made in, may be a lower one.
        self.to(device=torch.device(str(cfg.device)), dtype=cfg.dtype)
        self.reset_parameters()

    # Class members, because `inspect.getattr_static` (Python 3.12's protocol check) sees no submodule.
    @property
    def blocks(self) -> Any:
        """The layers."""
        return self._modules["blocks"]

    @property
    def ln_final(self) -> Any:
        """The norm before the unembedding."""
        return self._modules["ln_final"]

    def reset_parameters(self) -> None:
        """Draw all weights again from `cfg.seed`."""
        seed = self.cfg.seed if self.cfg.seed is not None else int(torch.randint(2**31, ()).item())
        initialize(self, seed, self.cfg.n_layers)

    def forward(
        self,
        input: str | list[str] | Integer[Tensor, "*batch pos"] | Float[Tensor, "batch pos d_model"],
        return_type: str | None = "logits",
        loss_per_token: bool = False,
        prepend_bos: bool | None = None,
        padding_side: str | None = None,
        start_at_layer: int | None = None,
        tokens: str | list[str] | Integer[Tensor, "*batch pos"] | None = None,
        stop_at_layer: int | None = None,
        attention_mask: Shaped[Tensor, "batch pos"] | None = None,
        past_kv_cache: TransformerLensKeyValueCache | None = None,
    ) -> Any:
        """Run the model; the only forward pass there is.

        Output of ``return_type="both"`` is a pair that also has the names `logits` and `loss`.

        Args:
            input: Text, texts, token ids, or with `start_at_layer` a residual stream.
            return_type: "logits", "loss" (mean nats a token), "both", or None for nothing.
            loss_per_token: Whether the loss keeps its [batch, pos - 1] axes; see `loss_fn`.
            prepend_bos: Whether EOS leads texts (never added to tokens).
            padding_side: Of shorter texts; see `to_tokens`.
            start_at_layer: First block to run; `input` is then its `resid_pre`.
            tokens: Needed with `start_at_layer` for a loss, and by a shared increment head.
            stop_at_layer: First block *not* to run; the residual before it is returned.
            attention_mask: 1 at tokens, 0 at padding, over the new tokens. If None, texts are masked where
                the model pads them, and token ids are taken as they stand.
            past_kv_cache: Keys, values and positions so far; extended unless frozen.

        Raises:
            LRopeError: Input that is empty or longer than n_ctx, ids outside the vocabulary, `tokens`
                missing or of another shape than the residual, no such layer or `return_type`.
        """
        if self.is_watched and torch.compiler.is_compiling():
            return run_uncompiled(self, _named(locals()))
        check_request(self.cfg.n_layers, start_at_layer, stop_at_layer, return_type)
        if start_at_layer is None:
            tokens, inferred = self._as_tokens(input, prepend_bos, padding_side)
            tokens = self._hooked(tokens)
            resid = self.hook_embed(self.embed(tokens))
        else:
            resid, inferred = self._as_residual(input), None
            if tokens is not None:
                tokens, inferred = self._as_tokens(tokens, prepend_bos, padding_side)
                if tokens.shape != resid.shape[:2]:
                    raise LRopeError(
                        f"tokens must be those of the residual, {list(resid.shape[:2])}; got "
                        f"{list(tokens.shape)}"
                    )
        attention_mask = inferred if attention_mask is None else attention_mask
        layers = list(range(self.cfg.n_layers))[start_at_layer:stop_at_layer]
        n_batch, n_new = resid.shape[:2]
        if attention_mask is not None:
            check_mask(attention_mask, n_batch, n_new, is_part=past_kv_cache is not None)
        if past_kv_cache is not None:
            check_cache(past_kv_cache, self, layers, n_batch)
            n_past = past_kv_cache.previous_attention_mask.shape[1]
            if n_past + n_new > self.cfg.n_ctx:
                raise too_long(self.cfg.n_ctx, n_past + n_new)
        stream = self._stream(resid, tokens, start_at_layer, attention_mask, past_kv_cache)
        for layer in layers:
            entry = None if past_kv_cache is None else past_kv_cache[layer]
            resid = self.blocks[layer](resid, stream, entry)
        out: Any = resid
        if stop_at_layer is None:
            logits = self.unembed(self.ln_final(resid))
            out = self._outputs(logits, tokens, attention_mask, return_type, loss_per_token)
        if past_kv_cache is not None:
            end(past_kv_cache)
        return out

    def loss_fn(
        self,
        logits: Float[Tensor, "batch pos d_vocab"],
        tokens: Integer[Tensor, "batch pos"],
        attention_mask: Shaped[Tensor, "batch pos"] | None = None,
        per_token: bool = False,
    ) -> Float[Tensor, "*shape"]:
        """Return the next-token cross entropy in nats, EOS targets included, pads left out.

        It is computed in float32, or in float64 where the logits are.

        Args:
            logits: Of these tokens.
            tokens: Ids.
            attention_mask: 1 at tokens, 0 at padding. A target counts where it and the position before it
                are tokens.
            per_token: Whether to return the loss of every target, 0 where it does not count, in place of
                the mean over those that count.

        Raises:
            LRopeError: Tokens of another shape than the logits, a mask that is none, or a mean over no
                target at all.
        """
        if tokens.shape != logits.shape[:2]:
            raise LRopeError(
                f"the tokens of these logits are [batch, pos] = {list(logits.shape[:2])}; got "
                f"{list(tokens.shape)}"
            )
        wide = logits if logits.dtype == torch.float64 else logits.float()
        flat, targets = wide[:, :-1].flatten(0, 1), tokens[:, 1:].long()
        losses = F.cross_entropy(flat, targets.flatten(), reduction="none").reshape(targets.shape)
        counts = None
        if attention_mask is not None:
            check_mask(attention_mask, *tokens.shape, is_part=True)
            counts = (attention_mask[:, 1:].bool() & attention_mask[:, :-1].bool()).to(losses.device)
            losses = torch.where(counts, losses, 0)
        if per_token:
            return losses
        if losses.numel() == 0 or (
            counts is not None and not torch.compiler.is_compiling() and not bool(counts.any())
        ):
            raise LRopeError("a mean loss needs a token that follows another one; give a longer text")
        return losses.mean() if counts is None else losses.sum() / counts.sum()

    def save_pretrained(self, folder: str | Path, extra_config: dict[str, Any] | None = None) -> None:
        """Write `model.safetensors` and `config.json`; see `models.checkpoint`."""
        from lrope_interp.models.checkpoint import save_pretrained

        save_pretrained(self, Path(folder), extra_config)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | None = None,
        n_ctx: int | None = None,
        dtype: torch.dtype | str | None = None,
        fold_ln: bool = False,
    ) -> LRopeTransformer:
        """Load a run folder, or any folder with configuration and weights, in eval mode.

        Args:
            folder: Holds `config.json` and `model.safetensors`.
            device: Where to put the model; the CPU if None.
            n_ctx: A new limit on the input's length, which needs no new weight.
            dtype: Of the weights ("bfloat16", or torch's); the one they were saved in if None. Increment
                heads stay float32.
            fold_ln: Whether to fold the norms' gains into the weights (`fold_ln_`), which
                HookedTransformer does unless told otherwise; not done here unless asked for.

        Raises:
            LRopeError: Folder missing, incomplete, of a newer format, or holding a pickle; no such dtype.
        """
        from lrope_interp.models.checkpoint import from_pretrained

        return from_pretrained(Path(folder), device, n_ctx, dtype, fold_ln)

    def to(self, *args: Any, **kwargs: Any) -> LRopeTransformer:
        """Move the model and keep `cfg.device` and `cfg.dtype` true; increment heads stay float32."""
        kwargs.pop("print_details", None)
        return super().to(*args, **kwargs)

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> LRopeTransformer:
        """Keep the configuration true under `to`, `cuda`, `cpu`, `half`, `double` and their like."""
        super()._apply(fn, recurse)
        self.cfg.device = str(self.W_E.device)
        self.cfg.dtype = self.W_E.dtype
        return self

    def _as_residual(self, input: Any) -> Float[Tensor, "batch pos d_model"]:
        """Return a residual stream to start from, checked."""
        if not isinstance(input, Tensor) or input.ndim != 3 or input.shape[2] != self.cfg.d_model:
            raise LRopeError(
                f"with start_at_layer the input is a residual stream [batch, pos, {self.cfg.d_model}]; got "
                f"{tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__}"
            )
        return input

    def _hooked(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
        """Return what `hook_tokens` makes of the ids, checked again, where a flag asks for it."""
        if not self.cfg.use_hook_tokens:
            return tokens
        hooked: Any = self.hook_tokens(tokens)
        if not isinstance(hooked, Tensor) or hooked.shape != tokens.shape:
            got = list(hooked.shape) if isinstance(hooked, Tensor) else repr(hooked)[:60]
            raise LRopeError(
                f"a hook at hook_tokens must return ids of shape {list(tokens.shape)}; got {got}"
            )
        return self._as_tokens(hooked, None, None)[0]

    def _as_tokens(
        self, input: Any, prepend_bos: bool | None, padding_side: str | None
    ) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"] | None]:
        """Return ids on the model's device, checked, and the mask of what was padded here, if anything."""
        if isinstance(input, str | list):
            tokens, mask = self.to_tokens(input, prepend_bos, padding_side, return_mask=True)
            lengths = mask.sum(1).tolist()
            if 0 in lengths:
                which = f"text {lengths.index(0)}" if len(lengths) > 1 else "the input"
                raise LRopeError(f"{which} is empty; leave prepend_bos on to start a new document")
            return tokens, mask if min(lengths) < max(lengths) else None
        if not isinstance(input, Tensor) or input.dtype not in _INTEGERS:
            raise LRopeError(
                "input must be text, a list of texts or token ids; for a residual give start_at_layer"
            )
        tokens = (input.unsqueeze(0) if input.ndim == 1 else input).long()
        if tokens.ndim != 2 or 0 in tokens.shape:
            raise LRopeError(
                f"tokens must be [pos] or [batch, pos] and not empty; got shape {tuple(input.shape)}"
            )
        if tokens.shape[1] > self.cfg.n_ctx:
            raise too_long(self.cfg.n_ctx, tokens.shape[1])
        if not torch.compiler.is_compiling() and (
            int(tokens.max()) >= self.cfg.d_vocab or int(tokens.min()) < 0
        ):
            raise LRopeError(
                f"token ids must lie in 0..{self.cfg.d_vocab - 1}; got {tokens.min()}..{tokens.max()}"
            )
        return tokens.to(self.W_E.device), None

    def _stream(
        self,
        resid: Tensor,
        tokens: Tensor | None,
        start_at_layer: int | None,
        attention_mask: Tensor | None,
        past_kv_cache: TransformerLensKeyValueCache | None,
    ) -> Stream:
        """Gather what all blocks share: masks and, in shared mode, the increments."""
        shared = None
        if self.cfg.increments == "shared":
            shared = self.shared_increments(self._embedded(resid, tokens, start_at_layer))
        is_token = None if attention_mask is None else attention_mask.to(resid.device).bool()
        is_key = is_token
        if past_kv_cache is not None:
            new = torch.ones(resid.shape[:2], dtype=torch.int, device=resid.device)
            new = new if attention_mask is None else attention_mask.to(new)
            begin(past_kv_cache)
            is_key = past_kv_cache.append_attention_mask(new).to(resid.device).bool()
        return Stream(shared, is_token, is_key, tokens, past_kv_cache)

    def _embedded(self, resid: Tensor, tokens: Tensor | None, start_at_layer: int | None) -> Tensor:
        """Return what the shared head reads: the stream that enters layer 0."""
        if not start_at_layer or start_at_layer == -self.cfg.n_layers:
            return resid
        if tokens is None:
            raise LRopeError("a shared increment head reads the tokens: give tokens= with start_at_layer")
        return self.embed(tokens)

    def _outputs(
        self,
        logits: Tensor,
        tokens: Tensor | None,
        attention_mask: Tensor | None,
        return_type: str | None,
        loss_per_token: bool,
    ) -> Any:
        """Return what `return_type` asks for."""
        if return_type is None or return_type == "logits":
            return None if return_type is None else logits
        if tokens is None:
            raise LRopeError("a loss needs the tokens: give tokens= with start_at_layer")
        loss = self.loss_fn(logits, tokens, attention_mask, loss_per_token)
        return loss if return_type == "loss" else Output(logits, loss)


def _named(values: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call from its local variables."""
    return {name: value for name, value in values.items() if name != "self"}
