"""What the model writes after a prompt, token by token, and how likely it finds what might follow.

Hooks act during decoding as in any forward pass. With the cache, the running position of each layer
rides on its entries, so that learned positions go on exactly where the prompt ended.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from tqdm import tqdm
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models.text import TextMethods, check_mask, too_long

Prompt = str | list[str] | Tensor
_RETURN_TYPES = ("input", "str", "tokens")


class Generation(TextMethods):
    """Base of the model: `generate`, `generate_stream`, and the probability of answers."""

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
            top_k: Draw among the k likeliest only; not together with `top_p`.
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
        given = {name: value for name, value in locals().items() if name != "self"}
        (written,) = self.generate_stream(max_tokens_per_yield=max(1, max_new_tokens), **given)
        return written

    @torch.no_grad()
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

        The arguments are those of `generate`, and `max_tokens_per_yield`: the new tokens of a piece, the
        first of which has the prompt in front. Strings never break a character: an unfinished one waits
        for its next piece.

        Yields:
            Tokens [batch, pos], or a text (a list of texts for several rows).
        """
        _check_sampling(temperature, top_k, top_p, freq_penalty)
        side = "left" if isinstance(input, list) else padding_side
        tokens, mask = self._as_tokens(input, prepend_bos, side)
        mask = mask if attention_mask is None else attention_mask
        if mask is not None:
            check_mask(mask, len(tokens), tokens.shape[1])
            mask = mask.to(tokens)
            order = mask.argsort(dim=1, stable=True)  # pads first, tokens in their order
            tokens, mask = tokens.gather(1, order), mask.gather(1, order)
        if return_type not in _RETURN_TYPES:
            raise unknown("return_type", return_type, _RETURN_TYPES)
        is_text = return_type == "str" or (return_type == "input" and not isinstance(input, Tensor))
        n_rows, cache = len(tokens), None
        decoders = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in range(n_rows)]

        def piece(columns: list[Tensor], is_last: bool) -> Any:
            written = torch.cat(columns, dim=1)
            if not is_text:
                return written
            rows = [self.own_tokenizer().to_bytes(row) for row in written.tolist()]
            texts = [decoder.decode(row, final=is_last) for decoder, row in zip(decoders, rows, strict=True)]
            return texts[0] if n_rows == 1 else texts

        stop = self._stop_ids(eos_token_id) if stop_at_eos else ()
        # What a finished row goes on with: what ended it, or EOS where several tokens might have.
        eos_id = 0 if self.tokenizer is None else self.tokenizer.eos_id
        fill = stop[0] if len(stop) == 1 or (stop and self.tokenizer is None) else eos_id
        if max_tokens_per_yield < 1:
            raise LRopeError(f"max_tokens_per_yield must be at least 1; got {max_tokens_per_yield}")
        if max_new_tokens < 0:
            raise LRopeError(f"max_new_tokens must be at least 0; got {max_new_tokens}")
        if tokens.shape[1] + max_new_tokens - 1 > self.cfg.n_ctx:  # at once, what would fail after minutes
            raise too_long(self.cfg.n_ctx, tokens.shape[1] + max_new_tokens)
        if use_past_kv_cache:
            cache = TransformerLensKeyValueCache.init_cache(self.cfg, self.cfg.device, n_rows)
        device = str(self.cfg.device)
        generator = None if seed is None else torch.Generator(device=device).manual_seed(seed)
        is_finished = torch.zeros(n_rows, dtype=torch.bool, device=tokens.device)
        fed, held, n_held = tokens, [tokens], 0
        for _ in tqdm(range(max_new_tokens), disable=not verbose):
            fed_mask = None if mask is None else mask[:, -fed.shape[1] :]
            logits = self(fed, attention_mask=fed_mask, past_kv_cache=cache)[:, -1]
            if not do_sample or temperature == 0:
                new = logits.argmax(-1)
            else:
                probabilities = _probabilities(logits, tokens, mask, temperature, top_k, top_p, freq_penalty)
                new = torch.multinomial(probabilities, 1, replacement=True, generator=generator).squeeze(1)
            if stop:
                new = torch.where(is_finished, torch.full_like(new, fill), new)
                is_finished |= torch.isin(new, torch.tensor(stop, device=new.device))
            if n_held == max_tokens_per_yield:  # only now, since the last piece ends all characters
                yield piece(held, is_last=False)
                held, n_held = [], 0
            held.append(new[:, None])
            n_held += 1
            if bool(is_finished.all()):
                break
            tokens = torch.cat([tokens, new[:, None]], dim=1)
            fed = tokens if cache is None else new[:, None]
            mask = None if mask is None else torch.cat([mask, mask.new_ones(n_rows, 1)], dim=1)
        yield piece(held, is_last=True)

    def _stop_ids(self, eos_token_id: int | Sequence[int] | None) -> tuple[int, ...]:
        if eos_token_id is not None:
            return (eos_token_id,) if isinstance(eos_token_id, int) else tuple(eos_token_id)
        if self.tokenizer is None:
            raise LRopeError(
                "this model has no tokenizer to say what EOS is: give eos_token_id or stop_at_eos=False"
            )
        return (self.tokenizer.eos_id,)

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
        tokenizer = self.own_tokenizer()
        prompts, answers = (x if isinstance(x, list) else [x] for x in (prompt, answer))
        if not all(isinstance(text, str) for text in prompts + answers):
            raise LRopeError("prompts and answers are texts, or lists of them; got something else")
        n_rows = max(len(prompts), len(answers))
        if {len(prompts), len(answers)} - {1, n_rows} or not all(map(len, (prompts, answers))):
            raise LRopeError(
                f"wanted one answer, or one for each prompt; got {len(prompts)} prompts and "
                f"{len(answers)} answers"
            )
        lead = [tokenizer.eos_id] if self._prepends(prepend_bos) else []
        heads = [lead + tokenizer.encode(text).tolist() for text in prompts] * (n_rows // len(prompts))
        tails = [tokenizer.encode(text).tolist() for text in answers] * (n_rows // len(answers))
        if not all(heads) or not all(tails):
            raise LRopeError("an answer needs a token, and a token before it: leave prepend_bos on")
        rows = [head + tail for head, tail in zip(heads, tails, strict=True)]
        tokens = torch.full((n_rows, max(map(len, rows))), tokenizer.eos_id)
        is_read, is_answer = torch.zeros(2, n_rows, tokens.shape[1] - 1, dtype=torch.bool)
        for number, (head, row) in enumerate(zip(heads, rows, strict=True)):
            tokens[number, : len(row)] = torch.tensor(row)
            is_read[number, : len(row) - 1] = True  # no row's last token, so that others make no difference
            is_answer[number, len(head) - 1 : len(row) - 1] = True
        logits = self(tokens[:, :-1], attention_mask=None if bool(is_read.all()) else is_read.long())
        logits = logits if logits.dtype == torch.float64 else logits.float()
        each = logits.log_softmax(-1).gather(-1, tokens[:, 1:, None].to(logits.device))[..., 0]
        total = torch.where(is_answer.to(logits.device), each, 0).sum(1)
        return total[0] if isinstance(prompt, str) and isinstance(answer, str) else total


def _check_sampling(
    temperature: float | int, top_k: int | None, top_p: float | int | None, freq_penalty: float | int
) -> None:
    if not temperature >= 0:  # nor is NaN
        raise LRopeError(f"temperature must be at least 0; got {temperature}")
    if top_k is not None and top_k < 1:
        raise LRopeError(f"top_k must be at least 1; got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise LRopeError(f"top_p must be above 0 and at most 1; got {top_p}")
    if top_k is not None and top_p is not None:
        raise LRopeError("top_k and top_p exclude each other: give one of them")
    if freq_penalty < 0:
        raise LRopeError(f"freq_penalty must be at least 0; got {freq_penalty}")


def _probabilities(
    logits: Float[Tensor, "batch d_vocab"],
    tokens: Int[Tensor, "batch pos"],
    mask: Int[Tensor, "batch pos"] | None,
    temperature: float | int,
    top_k: int | None,
    top_p: float | int | None,
    freq_penalty: float | int,
) -> Float[Tensor, "batch d_vocab"]:
    """Return what to draw the next token of each row from, given all tokens so far and 0 where they are pads.

    As TransformerLens' `sample_logits`, which counts pads too and draws without a seed of its own.
    """
    logits = logits.float() / temperature
    if freq_penalty:
        occurs = (torch.ones_like(tokens) if mask is None else mask).to(logits)
        counts = torch.zeros_like(logits).scatter_add_(1, tokens, occurs)
        logits = logits - freq_penalty * counts
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    elif top_p is not None:
        ordered, order = logits.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1).roll(1, -1)  # what likelier tokens have together
        before[..., 0] = 0
        is_beyond = before > top_p
        logits = logits.masked_fill(is_beyond.scatter(-1, order, is_beyond), -torch.inf)
    return logits.softmax(-1)
