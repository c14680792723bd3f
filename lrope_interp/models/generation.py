"""Text from the model, token by token: HookedTransformer's `generate` and `generate_stream`.

Hooks act during decoding as in any forward pass. With the cache, the running position of each layer
rides on its entries, so that learned positions go on exactly where the prompt ended.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from tqdm import tqdm
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models.masks import check_mask
from lrope_interp.models.sampling import Sampling
from lrope_interp.models.text import too_long
from lrope_interp.tokenizers import Tokenizer

Prompt = str | list[str] | Tensor
_RETURN_TYPES = ("input", "str", "tokens")


class Generation:
    """Mixed into the model: `generate` and `generate_stream`."""

    cfg: Any
    tokenizer: Tokenizer | None

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
        sampling = Sampling(do_sample, temperature, top_k, top_p, freq_penalty, self._generator(seed))
        tokens, mask = self._prompt(input, prepend_bos, padding_side, attention_mask)
        kind = _kind(return_type, input)
        stop = self._stop_ids(eos_token_id) if stop_at_eos else ()
        steps = self._decode(tokens, mask, max_new_tokens, sampling, stop, use_past_kv_cache)
        new = list(tqdm(steps, total=max_new_tokens, disable=not verbose))
        output = torch.cat([tokens, *new], dim=1)
        return output if kind == "tokens" else _unwrapped(self.to_string(output))  # type: ignore[attr-defined]

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
        sampling = Sampling(do_sample, temperature, top_k, top_p, freq_penalty, self._generator(seed))
        tokens, mask = self._prompt(input, prepend_bos, padding_side, attention_mask)
        write = _Writer(len(tokens), self.own_tokenizer()) if _kind(return_type, input) == "str" else None  # type: ignore[attr-defined]
        stop = self._stop_ids(eos_token_id) if stop_at_eos else ()
        steps = self._decode(tokens, mask, max_new_tokens, sampling, stop, use_past_kv_cache)
        pieces = _pieces(tokens, tqdm(steps, total=max_new_tokens, disable=not verbose), max_tokens_per_yield)
        for piece, is_last in pieces:
            yield piece if write is None else write(piece, is_last)

    @torch.no_grad()
    def _decode(
        self,
        tokens: Int[Tensor, "batch pos"],
        mask: Int[Tensor, "batch pos"] | None,
        max_new_tokens: int,
        sampling: Sampling,
        stop: tuple[int, ...],
        use_past_kv_cache: bool,
    ) -> Iterator[Int[Tensor, "batch 1"]]:
        """Yield one column of tokens a step."""
        self._check_room(tokens.shape[1], max_new_tokens)
        n_rows, cache = len(tokens), None
        if use_past_kv_cache:
            cache = TransformerLensKeyValueCache.init_cache(self.cfg, self.cfg.device, n_rows)
        is_finished = torch.zeros(n_rows, dtype=torch.bool, device=tokens.device)
        fed, fill = tokens, self._fill(stop)
        for _ in range(max_new_tokens):
            fed_mask = None if mask is None else mask[:, -fed.shape[1] :]
            logits = self(fed, attention_mask=fed_mask, past_kv_cache=cache)  # type: ignore[operator]
            new = sampling.pick(logits[:, -1], tokens, mask)
            if stop:
                new = torch.where(is_finished, torch.full_like(new, fill), new)
                is_finished |= torch.isin(new, torch.tensor(stop, device=new.device))
            yield new[:, None]
            if bool(is_finished.all()):
                return
            tokens = torch.cat([tokens, new[:, None]], dim=1)
            fed = tokens if cache is None else new[:, None]
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(n_rows, 1)], dim=1)

    def _prompt(
        self, input: Prompt, prepend_bos: bool | None, padding_side: str | None, mask: Tensor | None
    ) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"] | None]:
        """Return the prompt's tokens, padded on the left, and their mask (None without padding)."""
        side = "left" if isinstance(input, list) else padding_side
        tokens, inferred = self._as_tokens(input, prepend_bos, side)  # type: ignore[attr-defined]
        mask = inferred if mask is None else mask
        if mask is None:
            return tokens, None
        check_mask(mask, *tokens.shape)
        mask = mask.to(tokens)
        order = mask.argsort(dim=1, stable=True)  # pads first, tokens in their order
        return tokens.gather(1, order), mask.gather(1, order)

    def _check_room(self, n_prompt: int, max_new_tokens: int) -> None:
        """Refuse at once what would fail after minutes."""
        if max_new_tokens < 0:
            raise LRopeError(f"max_new_tokens must be at least 0; got {max_new_tokens}")
        if n_prompt + max_new_tokens - 1 > self.cfg.n_ctx:
            raise too_long(self.cfg.n_ctx, n_prompt + max_new_tokens)

    def _stop_ids(self, eos_token_id: int | Sequence[int] | None) -> tuple[int, ...]:
        """Return the ids that end a row."""
        if eos_token_id is None and self.tokenizer is None:
            raise LRopeError(
                "this model has no tokenizer to say what EOS is: give eos_token_id or stop_at_eos=False"
            )
        if eos_token_id is None:
            return (self.tokenizer.eos_id,)  # type: ignore[union-attr]
        return (eos_token_id,) if isinstance(eos_token_id, int) else tuple(eos_token_id)

    def _fill(self, stop: tuple[int, ...]) -> int:
        """Return what a finished row goes on with."""
        if len(stop) == 1 or (stop and self.tokenizer is None):
            return stop[0]
        return 0 if self.tokenizer is None else self.tokenizer.eos_id

    def _generator(self, seed: int | None) -> torch.Generator | None:
        """Return a generator of its own for a seed."""
        if seed is None:
            return None
        return torch.Generator(device=str(self.cfg.device)).manual_seed(seed)


class _Writer:
    """Turns columns of tokens into text, one decoder a row, so that no character is torn."""

    def __init__(self, n_rows: int, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoders = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in range(n_rows)]

    def __call__(self, tokens: Tensor, is_last: bool) -> str | list[str]:
        rows = [self._tokenizer.to_bytes(row) for row in tokens.tolist()]
        return _unwrapped(
            [decoder.decode(row, final=is_last) for decoder, row in zip(self._decoders, rows, strict=True)]
        )


def _pieces(prompt: Tensor, steps: Any, size: int) -> Iterator[tuple[Tensor, bool]]:
    """Yield the prompt with the first `size` new columns, then `size` at a time; and whether that is all."""
    if size < 1:
        raise LRopeError(f"max_tokens_per_yield must be at least 1; got {size}")
    held, n_new = [prompt], 0
    for column in steps:
        if n_new == size:
            yield torch.cat(held, dim=1), False
            held, n_new = [], 0
        held.append(column)
        n_new += 1
    yield torch.cat(held, dim=1), True


def _kind(return_type: str, input: Prompt) -> str:
    """Return "str" or "tokens"."""
    if return_type not in _RETURN_TYPES:
        raise unknown("return_type", return_type, _RETURN_TYPES)
    if return_type == "input":
        return "tokens" if isinstance(input, Tensor) else "str"
    return return_type


def _unwrapped(texts: list[str] | str) -> list[str] | str:
    """Return a single text bare, as HookedTransformer does."""
    return texts[0] if isinstance(texts, list) and len(texts) == 1 else texts
