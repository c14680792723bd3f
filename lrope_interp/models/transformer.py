"""The model: one forward pass, in one place."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int, Integer, Shaped
from torch import Tensor
from tqdm import tqdm
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models import checkpoint, distance, frozen, generation, hugging_face
from lrope_interp.models.block import Block, Stream
from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.distance import DistanceReads, PerceivedDistance, Place
from lrope_interp.models.generation import Prompt, Sampling
from lrope_interp.models.hooks import HookPoint
from lrope_interp.models.increments import SharedIncrementHead
from lrope_interp.models.kv_cache import begin, check_cache, end
from lrope_interp.models.layers import Embed, HookedRMSNorm, Unembed
from lrope_interp.models.text import TextMethods, check_mask, checked_ids, too_long
from lrope_interp.models.weights import Weights, initialize
from lrope_interp.tokenizers import TOKENIZER_FILE, ByteTokenizer

_RETURN_TYPES = ("logits", "loss", "both")


class Output(NamedTuple):
    """What ``return_type="both"`` returns."""

    logits: Float[Tensor, "batch pos d_vocab"]
    loss: Float[Tensor, "*shape"]


class LRopeTransformer(TextMethods, Weights):
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
            given = {name: value for name, value in locals().items() if name != "self"}
            return torch.compiler.disable(self.forward)(**given)
        for name, at in (("start_at_layer", start_at_layer), ("stop_at_layer", stop_at_layer)):
            if at is not None and not -self.cfg.n_layers <= at <= self.cfg.n_layers:
                n_layers = self.cfg.n_layers
                raise LRopeError(f"{name} must lie in {-n_layers}..{n_layers}; got {at}")
        if return_type is not None and return_type not in _RETURN_TYPES:
            raise unknown("return_type", return_type, _RETURN_TYPES)
        if start_at_layer is None:
            tokens, inferred = self._as_tokens(input, prepend_bos, padding_side)
            tokens = self._hooked(tokens)
            resid = self.hook_embed(self.embed(tokens))
        else:
            if not isinstance(input, Tensor) or input.ndim != 3 or input.shape[2] != self.cfg.d_model:
                got = tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__
                raise LRopeError(
                    "with start_at_layer the input is a residual stream [batch, pos, "
                    f"{self.cfg.d_model}]; got {got}"
                )
            resid, inferred = input, None
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
            out = None if return_type is None else logits
            if return_type in ("loss", "both"):
                if tokens is None:
                    raise LRopeError("a loss needs the tokens: give tokens= with start_at_layer")
                loss = self.loss_fn(logits, tokens, attention_mask, loss_per_token)
                out = loss if return_type == "loss" else Output(logits, loss)
        if past_kv_cache is not None:
            end(past_kv_cache)
        return out

    def _as_tokens(
        self, input: Any, prepend_bos: bool | None, padding_side: str | None
    ) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"] | None]:
        """Return ids on the model's device, checked, and the mask of what was padded here, if anything."""
        if not isinstance(input, str | list):
            return checked_ids(input, self.cfg).to(self.W_E.device), None
        tokens, mask = self.to_tokens(input, prepend_bos, padding_side, return_mask=True)
        lengths = mask.sum(1).tolist()
        if 0 in lengths:
            which = f"text {lengths.index(0)}" if len(lengths) > 1 else "the input"
            raise LRopeError(f"{which} is empty; leave prepend_bos on to start a new document")
        return tokens, mask if min(lengths) < max(lengths) else None

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
        tokens = self._hooked(tokens)
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

    def generate(
        self,
        input: Prompt = "",
        max_new_tokens: int = 10,
        stop_at_eos: bool = True,
        eos_token_id: int | Sequence[int] | None = None,
        do_sample: bool = True,
        top_k: int | None = None,
        top_p: float | int | None = None,
        temperature: float | int = 1.0,
        freq_penalty: float | int = 0.0,
        use_past_kv_cache: bool = True,
        prepend_bos: bool | None = None,
        padding_side: str | None = None,
        return_type: str = "input",
        verbose: bool = True,
        attention_mask: Shaped[Tensor, "batch pos"] | None = None,
        seed: int | None = None,
    ) -> Any:
        """Return the prompt and what the model writes after it.

        A row that is finished goes on with EOS until all are.

        Args:
            input: A text, texts (padded on the left, whatever `padding_side` says), or token ids.
            max_new_tokens: Most tokens to add.
            stop_at_eos: Whether a row ends at EOS.
            eos_token_id: What ends a row; the tokenizer's EOS if None. Several are allowed.
            do_sample: Whether to draw; otherwise the likeliest token is taken.
            top_k: Draw among the k likeliest only.
            top_p: Draw among the fewest that together reach this probability.
            temperature: Divides the logits; 0 is greedy.
            freq_penalty: Subtracted from a logit for each earlier occurrence of its token; pads are none.
            use_past_kv_cache: Whether to keep keys and values; it changes speed, not the result.
            prepend_bos: Whether EOS leads texts.
            padding_side: Accepted as in HookedTransformer; one text needs no padding.
            return_type: "str", "tokens" ([batch, pos], prompt included), or "input": like the input.
            verbose: Whether to show a progress bar on stderr.
            attention_mask: 0 at the padding of a token prompt; such rows come back padded on the left.
            seed: Of the draws; torch's global generator if None.

        Raises:
            LRopeError: A prompt that is empty or that leaves no room for `max_new_tokens` in n_ctx.
        """
        device = str(self.cfg.device)
        generator = None if seed is None else torch.Generator(device=device).manual_seed(seed)
        sampling = Sampling(do_sample, temperature, top_k, top_p, freq_penalty, generator)
        tokens, mask = self._prompt(input, prepend_bos, padding_side, attention_mask)
        kind = generation.kind_of_output(return_type, input)
        stop = generation.stop_ids(eos_token_id, self.tokenizer) if stop_at_eos else ()
        steps = generation.decode(self, tokens, mask, max_new_tokens, sampling, stop, use_past_kv_cache)
        new = list(tqdm(steps, total=max_new_tokens, disable=not verbose))
        output = torch.cat([tokens, *new], dim=1)
        return output if kind == "tokens" else generation.unwrapped(self.to_string(output))

    def generate_stream(
        self,
        input: Prompt = "",
        max_new_tokens: int = 10,
        max_tokens_per_yield: int = 25,
        stop_at_eos: bool = True,
        eos_token_id: int | Sequence[int] | None = None,
        do_sample: bool = True,
        top_k: int | None = None,
        top_p: float | int | None = None,
        temperature: float | int = 1.0,
        freq_penalty: float | int = 0.0,
        use_past_kv_cache: bool = True,
        prepend_bos: bool | None = None,
        padding_side: str | None = None,
        return_type: str = "input",
        verbose: bool = True,
        attention_mask: Shaped[Tensor, "batch pos"] | None = None,
        seed: int | None = None,
    ) -> Iterator[Any]:
        """Yield what `generate` returns, piece by piece: the prompt first, then what is new.

        Args:
            input: As in `generate`, and so are the arguments that are not named here.
            max_new_tokens: Most tokens to add.
            max_tokens_per_yield: Tokens a piece. The first piece has the prompt in front.
            stop_at_eos: Whether a row ends at EOS.
            eos_token_id: What ends a row.
            do_sample: Whether to draw.
            top_k: Draw among the k likeliest only.
            top_p: Draw among the fewest that together reach this probability.
            temperature: Divides the logits.
            freq_penalty: Subtracted from a logit for each earlier occurrence of its token.
            use_past_kv_cache: Whether to keep keys and values.
            prepend_bos: Whether EOS leads texts.
            padding_side: As in `generate`.
            return_type: Strings never break a character: an unfinished one waits for its next piece.
            verbose: Whether to show a progress bar on stderr.
            attention_mask: 0 at the padding of a token prompt.
            seed: Of the draws.

        Yields:
            Tokens [batch, pos], or a text (a list of texts for several rows).
        """
        device = str(self.cfg.device)
        generator = None if seed is None else torch.Generator(device=device).manual_seed(seed)
        sampling = Sampling(do_sample, temperature, top_k, top_p, freq_penalty, generator)
        tokens, mask = self._prompt(input, prepend_bos, padding_side, attention_mask)
        kind = generation.kind_of_output(return_type, input)
        write = generation.Writer(len(tokens), self.own_tokenizer()) if kind == "str" else None
        stop = generation.stop_ids(eos_token_id, self.tokenizer) if stop_at_eos else ()
        steps = generation.decode(self, tokens, mask, max_new_tokens, sampling, stop, use_past_kv_cache)
        shown = tqdm(steps, total=max_new_tokens, disable=not verbose)
        for piece, is_last in generation.pieces(tokens, shown, max_tokens_per_yield):
            yield piece if write is None else write(piece, is_last)

    def _prompt(
        self, input: Prompt, prepend_bos: bool | None, padding_side: str | None, mask: Tensor | None
    ) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"] | None]:
        """Return the prompt's tokens, padded on the left, and their mask (None without padding)."""
        side = "left" if isinstance(input, list) else padding_side
        tokens, inferred = self._as_tokens(input, prepend_bos, side)
        return generation.left_padded(tokens, inferred if mask is None else mask)

    def answer_logprob(
        self, prompt: str | list[str], answer: str | list[str], prepend_bos: bool | None = None
    ) -> Float[Tensor, "*batch"]:
        """Return the log-probability of an answer that follows a prompt, in nats.

        The sum over the answer's tokens, each given the prompt and the answer before it: where tokens are
        bytes, most answers have several, and no single logit speaks for them. It falls with the answer's
        length, so compare answers of one length, or the same answer under two interventions. One forward
        pass, in which hooks act and gradients flow:
        ``model.answer_logprob(prompts, " Mary") - model.answer_logprob(prompts, " John")``.

        Args:
            prompt: A text, or texts.
            answer: What follows right after it, leading space included; one, or one for each prompt. It is
                encoded by itself, after the prompt's tokens. Several answers may follow one prompt.
            prepend_bos: Whether EOS leads prompts, as in `to_tokens`.

        Returns:
            One number, 0-D, for one prompt and one answer; else [batch].

        Raises:
            LRopeError: An empty answer, nothing in front of it, numbers of prompts and answers that do not
                match, or more tokens than n_ctx.
        """
        prepends = self._prepends(prepend_bos)
        return generation.answer_logprob(self, self.own_tokenizer(), prompt, answer, prepends)

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
        tokens = self.to_tokens(text, prepend_bos)
        return distance.read_distances(self, text, tokens, self.own_tokenizer().encode_spans(text)[2])

    @torch.no_grad()
    def plane_shares(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "layer *head plane"]:
        """Return each rotary plane's share of the query-key energy on some text (see `plane_energies`).

        One row a layer, or a layer and head where increments are per head; float64, adding up to 1.
        """
        return distance.plane_shares(self, tokens)

    def save_pretrained(self, folder: str | Path, extra_config: dict[str, Any] | None = None) -> None:
        """Write `model.safetensors` and `config.json`; see `models.checkpoint`."""
        checkpoint.save_pretrained(self, Path(folder), extra_config)

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
        folder = Path(folder)
        before = os.stat(folder) if folder.is_dir() else None
        fields = dict(checkpoint.read_config(folder)["model"])
        fields["device"] = device or "cpu"
        if n_ctx is not None:
            fields["n_ctx"] = n_ctx
        cfg = LRopeConfig.from_dict(fields)
        wanted = cfg.dtype if dtype is None else LRopeConfig.from_dict(fields | {"dtype": dtype}).dtype
        checkpoint.check_shape(cfg, folder / checkpoint.WEIGHTS_FILE, cls)
        model = cls(cfg)
        model.weights_sha256 = checkpoint.load_weights(model, folder / checkpoint.WEIGHTS_FILE)
        increments = checkpoint.load_increments(folder, model.cfg, cls.from_pretrained)
        if increments is not None:
            frozen.attach_increments(model, increments)
        if (folder / TOKENIZER_FILE).is_file():
            model.tokenizer = checkpoint.fitting_tokenizer(folder, model.cfg.d_vocab)
        if before is not None and not os.path.samestat(before, os.stat(folder)):
            raise LRopeError(f"{folder} was replaced while it was read: read it again")
        if fold_ln:
            model.fold_ln_()  # before rounding
        return model.to(wanted).eval()

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load parameters; a HookedTransformer's buffers (masks and rotary tables) are left out.

        For a HookedTransformer (RMSNorm, gated MLP, rotary over all of d_head) build the model with
        ``use_biases=True, tie_embeddings=False`` and, if its norms are folded,
        ``normalization_type="RMSPre"``. With ``strict=False`` only increment heads are missing.
        With ``assign=True`` the trunk takes the tensors' dtype; increment heads stay float32.
        """
        kept = hugging_face.kept_of_state(state_dict, assign)
        result = super().load_state_dict(kept, strict=strict, assign=assign)
        self.cfg.device, self.cfg.dtype = str(self.W_E.device), self.W_E.dtype
        return result

    def to_hf_llama(self) -> Any:
        """Return a Hugging Face `LlamaForCausalLM` with the same logits, in eval mode.

        Only for increments="fixed": no other library knows learned positions. `b_in`, which
        HookedTransformer adds behind the gate, goes into the bias of the down projection.

        Raises:
            LRopeError: Learned increments, or a bias on the logits, which Llama lacks.
        """
        return hugging_face.to_llama(self, frozen.increments_name(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> LRopeTransformer:
        """Return a copy with increments of its own, where some are attached."""
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        frozen.attach_again(copied)
        return copied

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
