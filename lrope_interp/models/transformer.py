"""The model: one forward pass, in one place."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, Integer, Shaped
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.errors import LRopeError, check_seed, unknown, whole_number
from lrope_interp.folders import recover
from lrope_interp.hub import pushed
from lrope_interp.models import checkpoint
from lrope_interp.models.block import Block, Stream
from lrope_interp.models.config import LRopeConfig, resolve_device
from lrope_interp.models.distance import (
    DistanceReads,
    PerceivedDistance,
    Place,
    plane_shares,
    read_distances,
)
from lrope_interp.models.frozen import attach_again, attach_increments
from lrope_interp.models.generation import Generation
from lrope_interp.models.hooks import HookPoint
from lrope_interp.models.increments import SharedIncrementHead
from lrope_interp.models.kv_cache import begin, check_cache, end
from lrope_interp.models.layers import Embed, HookedRMSNorm, Unembed
from lrope_interp.models.notebook import model_html
from lrope_interp.models.text import check_mask, too_long
from lrope_interp.models.weights import Weights, initialize
from lrope_interp.runs import RUNS, SHIPPED, USING_REFERENCE, Run, find_run, place_of, read_run
from lrope_interp.tokenizers import TOKENIZER_FILE, ByteTokenizer, load_tokenizer

_RETURN_TYPES = ("logits", "loss", "both")


class Output(NamedTuple):
    """What ``return_type="both"`` returns."""

    logits: Float[Tensor, "batch pos d_vocab"]
    loss: Float[Tensor, "*shape"]


class LRopeTransformer(Generation, Weights):
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
    folder: Path | None = None  # which that file lay in

    def __init__(self, cfg: LRopeConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.tokenizer = ByteTokenizer() if cfg.d_vocab == ByteTokenizer.vocab_size else None
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

    def _repr_html_(self) -> str:
        """Return the shape of the model, for notebooks."""
        folder = "the model that ships: reference" if self.folder == SHIPPED else str(self.folder or "")
        n_parameters = sum(one.numel() for one in self.parameters())
        where = f"{self.cfg.device}, {str(self.cfg.dtype).removeprefix('torch.')}"
        return model_html(self.cfg, n_parameters, where, folder)

    def reset_parameters(self) -> None:
        """Draw all weights again from `cfg.seed`."""
        seed = self.cfg.seed if self.cfg.seed is not None else int(torch.randint(2**31, ()).item())
        initialize(self, seed)

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
            given = {name: value for name, value in locals().items() if name != "self"}
            return torch.compiler.disable(self.forward)(**given)
        for name, at in (("start_at_layer", start_at_layer), ("stop_at_layer", stop_at_layer)):
            if at is not None and not -self.cfg.n_layers <= at <= self.cfg.n_layers:
                n_layers = self.cfg.n_layers
                raise LRopeError(f"{name} must lie in {-n_layers}..{n_layers}; got {at}")
        if return_type is not None and return_type not in _RETURN_TYPES:
            raise unknown("return_type", return_type, _RETURN_TYPES)
        if start_at_layer is None:
            resid, tokens, _, attention_mask = self.input_to_embed(
                input, prepend_bos, padding_side, attention_mask
            )
        else:
            if not isinstance(input, Tensor) or input.ndim != 3 or input.shape[2] != self.cfg.d_model:
                got = tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__
                raise LRopeError(
                    "with start_at_layer the input is a residual stream [batch, pos, "
                    f"{self.cfg.d_model}]; got {got}"
                )
            resid = input
            if tokens is not None:
                tokens, inferred = self._as_tokens(tokens, prepend_bos, padding_side)
                attention_mask = inferred if attention_mask is None else attention_mask
                if tokens.shape != resid.shape[:2]:
                    raise LRopeError(
                        f"tokens must be those of the residual, {list(resid.shape[:2])}; got "
                        f"{list(tokens.shape)}"
                    )
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
            out = None if return_type is None else logits
            if return_type in ("loss", "both"):
                if tokens is None:
                    raise LRopeError("a loss needs the tokens: give tokens= with start_at_layer")
                loss = self.loss_fn(logits, tokens, attention_mask, loss_per_token)
                out = loss if return_type == "loss" else Output(logits, loss)
        if past_kv_cache is not None:
            end(past_kv_cache)
        return out

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
            entering = resid  # layer 0, whose input the shared head reads
            if start_at_layer and start_at_layer != -self.cfg.n_layers:
                if tokens is None:
                    raise LRopeError(
                        "a shared increment head reads the tokens: give tokens= with start_at_layer"
                    )
                entering = self.embed(tokens)
            shared = self.shared_increments(entering)
        is_token = None if attention_mask is None else attention_mask.to(resid.device).bool()
        is_key = is_token
        if past_kv_cache is not None:
            new = torch.ones(resid.shape[:2], dtype=torch.int, device=resid.device)
            new = new if attention_mask is None else attention_mask.to(new)
            begin(past_kv_cache)
            is_key = past_kv_cache.append_attention_mask(new).to(resid.device).bool()
        return Stream(shared, is_token, is_key, tokens, past_kv_cache)

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

    def input_to_embed(
        self,
        input: Any,
        prepend_bos: bool | None = None,
        padding_side: str | None = None,
        attention_mask: Tensor | None = None,
        past_kv_cache: Any = None,
    ) -> tuple[Tensor, Tensor, None, Tensor | None]:
        """Return ``(residual, tokens, None, attention_mask)``; the residual starts layer 0.

        Args:
            input: What `forward` takes.
            prepend_bos: Whether EOS leads texts.
            padding_side: Of shorter texts; see `to_tokens`.
            attention_mask: Passed through; if None, the mask of texts that were padded here.
            past_kv_cache: Accepted for HookedTransformer's sake; positions are the blocks' business.
        """
        del past_kv_cache
        tokens, mask = self._as_tokens(input, prepend_bos, padding_side)
        if self.cfg.use_hook_tokens:
            hooked: Any = self.hook_tokens(tokens)
            if not isinstance(hooked, Tensor) or hooked.shape != tokens.shape:
                got = list(hooked.shape) if isinstance(hooked, Tensor) else repr(hooked)[:60]
                raise LRopeError(
                    f"a hook at hook_tokens must return ids of shape {list(tokens.shape)}; got {got}"
                )
            tokens = self._as_tokens(hooked)[0]
        residual = self.hook_embed(self.embed(tokens))
        return residual, tokens, None, mask if attention_mask is None else attention_mask

    def tokens_to_residual_directions(self, tokens: str | int | Tensor) -> Float[Tensor, "*shape d_model"]:
        """Return the columns of `W_U`: the directions that the tokens' logits read.

        Unless the gains are folded (`fold_ln_`), `ln_final` stands between the residual stream and
        these directions, and products with them are not logits.

        Args:
            tokens: One token (a string of one byte, an id, or a tensor of one), or a tensor of ids.
        """
        if isinstance(tokens, Tensor) and tokens.numel() > 1:
            return rearrange(self.W_U[:, tokens], "d_model ... -> ... d_model")
        if isinstance(tokens, str):
            tokens = self.to_single_token(tokens)
        return self.W_U[:, int(tokens)]

    @torch.no_grad()
    def perceived_distance(
        self, text: str, a: Place, b: Place, prepend_bos: bool | None = None
    ) -> PerceivedDistance:
        """Return the distance between two places, measured from last token to last token.

        The increment of a token is the gap before it. Measured between last tokens, distances add
        up: a to c is a to b and b to c. The last token of a place is the one that holds its last byte.

        Args:
            text: No longer than n_ctx.
            a: A character offset, a span of character offsets (start, end), or a substring that
                occurs exactly once.
            b: Likewise; the order does not matter.
            prepend_bos: Whether EOS leads the text, as in `to_tokens`.

        Raises:
            LRopeError: A place outside the text, or a substring that occurs not once.
        """
        return self.distance_reads(text, prepend_bos).between(a, b)

    @torch.no_grad()
    def distance_reads(self, text: str, prepend_bos: bool | None = None) -> DistanceReads:
        """Read a text once, for the distance of any two of its places.

        Args:
            text: No longer than n_ctx.
            prepend_bos: Whether EOS leads the text, as in `to_tokens`.
        """
        return read_distances(self, text, prepend_bos)

    @torch.no_grad()
    def plane_shares(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "layer *head plane"]:
        """Return each rotary plane's share of the query-key energy on some text (see `plane_energies`).

        One row a layer, or a layer and head where increments are per head; float64, adding up to 1.
        """
        return plane_shares(self, tokens)

    def save_pretrained(self, folder: str | Path, extra_config: dict[str, Any] | None = None) -> None:
        """Write `model.safetensors` and `config.json`; see `models.checkpoint`."""
        checkpoint.save_pretrained(self, Path(folder), extra_config)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload this model, as it is now, with the files of its run, to the Hugging Face hub.

        Args:
            repo_id: OWNER/NAME; made if it is not there.
            private: Whether a repository that is made is private; None takes the owner's setting.
            token: None takes the one of `hf auth login`.

        Returns:
            The address of the upload. `from_pretrained(repo_id)` and `load` read it back.

        Raises:
            LRopeError: A model that no run holds, so that nothing says what it was trained on; a hub that
                cannot be reached, or refuses.
        """
        if self.folder is None:
            raise LRopeError("a model that was loaded from a run can be pushed: run.json goes with it")
        run, said = read_run(self.folder), checkpoint.read_config(self.folder)

        def save(place: Path) -> None:
            self.save_pretrained(place, {"training": said.get("training", {})})

        return pushed(repo_id, run.folder, run.info, save, private=private, token=token)

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
            folder: Holds `config.json` and `model.safetensors`. Where none is called so, "reference" is the
                model that comes with the package, and "owner/name" one of the Hugging Face hub.
            device: Where to put the model; the CPU if None.
            n_ctx: A new limit on the input's length, which needs no new weight.
            dtype: Of the weights ("bfloat16", or torch's); what `config.json` says if None, also where they
                are stored as halves of float32. Increment heads stay float32.
            fold_ln: Whether to fold the norms' gains into the weights (`fold_ln_`), which
                HookedTransformer does unless told otherwise; not done here unless asked for.

        Raises:
            LRopeError: Folder missing, incomplete, of a newer format, or holding a pickle; no such dtype; a
                hub that cannot be reached.
        """
        folder, _ = place_of(folder, file=checkpoint.CONFIG_FILE)
        before = os.stat(folder) if folder.is_dir() else None
        said = checkpoint.read_config(folder)
        fields, stored_as = dict(said["model"]), said.get("stored_as")
        fields["device"] = device or "cpu"
        if n_ctx is not None:
            fields["n_ctx"] = n_ctx
        cfg = LRopeConfig.from_dict(fields)
        wanted = cfg.dtype if dtype is None else LRopeConfig.from_dict(fields | {"dtype": dtype}).dtype
        checkpoint.check_shape(cfg, folder / checkpoint.WEIGHTS_FILE, cls, stored_as)
        model = cls(cfg)
        model.folder = folder.absolute()
        model.weights_sha256 = checkpoint.load_weights(model, folder / checkpoint.WEIGHTS_FILE, stored_as)
        increments = checkpoint.load_increments(folder, model.cfg, cls.from_pretrained)
        if increments is not None:
            attach_increments(model, increments)
        if (folder / TOKENIZER_FILE).is_file():
            tokenizer = load_tokenizer(folder)
            if tokenizer.vocab_size != cfg.d_vocab:
                raise LRopeError(
                    f"{folder / TOKENIZER_FILE} has {tokenizer.vocab_size} tokens and the model "
                    f"d_vocab={cfg.d_vocab}; they are not of one run"
                )
            model.tokenizer = tokenizer
        if before is not None and not os.path.samestat(before, os.stat(folder)):
            raise LRopeError(f"{folder} was replaced while it was read: read it again")
        if fold_ln:
            model.fold_ln_()  # before rounding
        return model.to(wanted).eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> LRopeTransformer:
        """Return a copy with increments of its own, where some are attached."""
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        attach_again(copied)
        return copied

    def to(self, *args: Any, **kwargs: Any) -> LRopeTransformer:
        """Move the model and keep `cfg.device` and `cfg.dtype` true; increment heads stay float32."""
        kwargs.pop("print_details", None)
        return super().to(*args, **kwargs)

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> LRopeTransformer:
        """Keep the configuration true under `to`, `cuda`, `cpu`, `half`, `double` and their like."""
        super()._apply(fn, recurse)
        self.cfg.device, self.cfg.dtype = str(self.W_E.device), self.W_E.dtype
        return self


def load(run: str | Path | Run | None = None, *, device: str = "auto") -> LRopeTransformer:
    """Load the model of a run, in eval mode; see `LRopeTransformer.from_pretrained`.

    Args:
        run: A run folder, or what `train` returned; "reference", or "owner/name" of the Hugging Face hub.
            Default: the newest finished run under `runs`, or the reference where there is none, which a line
            on stderr then says.
        device: "auto", "cpu", "cuda" or "mps".

    Raises:
        LRopeError: No such run, one that is not finished or incomplete, or a device that is not there.
    """
    if run is None:
        recover(RUNS)
        run = find_run()
        if run.name:
            logging.getLogger("lrope_interp").warning(USING_REFERENCE)
    elif isinstance(run, str | Path | Run):
        folder = run.folder if isinstance(run, Run) else Path(run).expanduser()
        recover(folder.absolute().parent)
        run = find_run(folder)  # again, where it was read: it may have been unfinished then, or still be
    else:
        raise LRopeError(f"a run folder is wanted, or what train returned; got {run!r:.60}")
    return LRopeTransformer.from_pretrained(run.folder, device=resolve_device(device))


def generate(
    model: LRopeTransformer,
    prompt: str = "",
    n: int = 200,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> str:
    """Let a model write on from a text; inside `ablated` it writes with its increments ablated.

    Args:
        model: Any model.
        prompt: What to write on from; nothing begins a new document.
        n: Most tokens (bytes) to add; it stops before that at EOS.
        temperature: 0 always takes the likeliest token.
        top_k: Draw among the k likeliest tokens.
        top_p: Draw among the fewest tokens that together reach this probability.
        seed: Of the draws.

    Returns:
        The prompt and what follows it.

    Raises:
        LRopeError: The prompt and `n` tokens do not fit into the model's window.
    """
    n = whole_number("n", n, 0)
    if seed is not None:
        check_seed(seed)
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    return model.generate(prompt, n, return_type="str", verbose=False, **how)
