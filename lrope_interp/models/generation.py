"""What the model writes after a prompt, token by token, and how likely it finds what might follow.

Hooks act during decoding as in any forward pass. With the cache, the running position of each layer
rides on its entries, so that learned positions go on exactly where the prompt ended.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models.hooked_model import HookedModel
from lrope_interp.models.text import check_mask, too_long
from lrope_interp.tokenizers import Tokenizer

Prompt = str | list[str] | Tensor
_RETURN_TYPES = ("input", "str", "tokens")


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, as in TransformerLens' `sample_logits`.

    Attributes:
        do_sample: Draw from the distribution; otherwise, or at temperature 0, take the likeliest token.
        temperature: Divides the logits.
        top_k: Draw among the k likeliest tokens only.
        top_p: Draw among the fewest tokens whose probabilities reach p; not together with `top_k`.
        freq_penalty: Subtracted from a token's logit for each time it has occurred, prompt included.
        generator: Where the randomness comes from; torch's global generator if None.
    """

    do_sample: bool = True
    temperature: float | int = 1.0
    top_k: int | None = None
    top_p: float | int | None = None
    freq_penalty: float | int = 0.0
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.temperature < 0:
            raise LRopeError(f"temperature must be at least 0; got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise LRopeError(f"top_k must be at least 1; got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise LRopeError(f"top_p must be above 0 and at most 1; got {self.top_p}")
        if self.top_k is not None and self.top_p is not None:
            raise LRopeError("top_k and top_p exclude each other: give one of them")
        if self.freq_penalty < 0:
            raise LRopeError(f"freq_penalty must be at least 0; got {self.freq_penalty}")

    def pick(
        self,
        logits: Float[Tensor, "batch d_vocab"],
        tokens: Int[Tensor, "batch pos"],
        mask: Int[Tensor, "batch pos"] | None = None,
    ) -> Int[Tensor, " batch"]:
        """Return the next token of each row, given all tokens so far and 0 where they are padding."""
        if not self.do_sample or self.temperature == 0:
            return logits.argmax(-1)
        logits = logits.float() / self.temperature
        if self.freq_penalty:
            occurs = (torch.ones_like(tokens) if mask is None else mask).to(logits)
            counts = torch.zeros_like(logits).scatter_add_(1, tokens, occurs)
            logits = logits - self.freq_penalty * counts
        if self.top_k is not None:
            least = logits.topk(min(self.top_k, logits.shape[-1]), dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        elif self.top_p is not None:
            ordered, order = logits.sort(descending=True)
            before = ordered.softmax(-1).cumsum(-1).roll(1, -1)  # what likelier tokens have together
            before[..., 0] = 0
            is_beyond = before > self.top_p
            logits = logits.masked_fill(is_beyond.scatter(-1, order, is_beyond), -torch.inf)
        probabilities = logits.softmax(-1)
        return torch.multinomial(probabilities, 1, replacement=True, generator=self.generator).squeeze(1)


def left_padded(
    tokens: Int[Tensor, "batch pos"], mask: Tensor | None
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"] | None]:
    """Return a prompt's tokens with all padding on the left, and their mask (None without padding)."""
    if mask is None:
        return tokens, None
    check_mask(mask, len(tokens), tokens.shape[1])
    mask = mask.to(tokens)
    order = mask.argsort(dim=1, stable=True)  # pads first, tokens in their order
    return tokens.gather(1, order), mask.gather(1, order)


def stop_ids(eos_token_id: int | Sequence[int] | None, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """Return the ids that end a row: the tokenizer's EOS unless others are given."""
    if eos_token_id is None:
        if tokenizer is None:
            raise LRopeError(
                "this model has no tokenizer to say what EOS is: give eos_token_id or stop_at_eos=False"
            )
        return (tokenizer.eos_id,)
    return (eos_token_id,) if isinstance(eos_token_id, int) else tuple(eos_token_id)


@torch.no_grad()
def decode(
    model: HookedModel,
    tokens: Int[Tensor, "batch pos"],
    mask: Int[Tensor, "batch pos"] | None,
    max_new_tokens: int,
    sampling: Sampling,
    stop: tuple[int, ...],
    use_past_kv_cache: bool,
) -> Iterator[Int[Tensor, "batch 1"]]:
    """Yield one column of tokens a step."""
    if max_new_tokens < 0:
        raise LRopeError(f"max_new_tokens must be at least 0; got {max_new_tokens}")
    if tokens.shape[1] + max_new_tokens - 1 > model.cfg.n_ctx:  # at once, what would fail after minutes
        raise too_long(model.cfg.n_ctx, tokens.shape[1] + max_new_tokens)
    n_rows, cache = len(tokens), None
    if use_past_kv_cache:
        cache = TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, n_rows)
    is_finished = torch.zeros(n_rows, dtype=torch.bool, device=tokens.device)
    # What a finished row goes on with: what ended it, or EOS where several tokens might have.
    eos_id = 0 if model.tokenizer is None else model.tokenizer.eos_id
    fill = stop[0] if len(stop) == 1 or (stop and model.tokenizer is None) else eos_id
    fed = tokens
    for _ in range(max_new_tokens):
        fed_mask = None if mask is None else mask[:, -fed.shape[1] :]
        logits = model(fed, attention_mask=fed_mask, past_kv_cache=cache)
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


class Writer:
    """Turns columns of tokens into text, one decoder a row, so that no character is torn."""

    def __init__(self, n_rows: int, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoders = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in range(n_rows)]

    def __call__(self, tokens: Tensor, is_last: bool) -> str | list[str]:
        """Return the text of some columns; an unfinished character waits, unless they are the last."""
        rows = [self._tokenizer.to_bytes(row) for row in tokens.tolist()]
        return unwrapped(
            [decoder.decode(row, final=is_last) for decoder, row in zip(self._decoders, rows, strict=True)]
        )


def pieces(prompt: Tensor, steps: Any, size: int) -> Iterator[tuple[Tensor, bool]]:
    """Yield the prompt with the first `size` new columns, then `size` at a time; and whether that is all."""
    # `steps` is no Iterable[Tensor] to a type check at run time, which would take the first step to see.
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


def kind_of_output(return_type: str, input: Prompt) -> str:
    """Return "str" or "tokens"."""
    if return_type not in _RETURN_TYPES:
        raise unknown("return_type", return_type, _RETURN_TYPES)
    if return_type == "input":
        return "tokens" if isinstance(input, Tensor) else "str"
    return return_type


def unwrapped(texts: list[str] | str) -> list[str] | str:
    """Return a single text bare, as HookedTransformer does."""
    return texts[0] if isinstance(texts, list) and len(texts) == 1 else texts


def answer_logprob(
    model: HookedModel,
    tokenizer: Tokenizer,
    prompt: str | list[str],
    answer: str | list[str],
    prepends: bool,
) -> Float[Tensor, "*batch"]:
    """Return the log-probability of answers; see `LRopeTransformer.answer_logprob`."""
    prompts, answers = (x if isinstance(x, list) else [x] for x in (prompt, answer))
    if not all(isinstance(text, str) for text in prompts + answers):
        raise LRopeError("prompts and answers are texts, or lists of them; got something else")
    n_rows = max(len(prompts), len(answers))
    if {len(prompts), len(answers)} - {1, n_rows} or not all(map(len, (prompts, answers))):
        raise LRopeError(
            f"wanted one answer, or one for each prompt; got {len(prompts)} prompts and "
            f"{len(answers)} answers"
        )
    encode, eos_id = tokenizer.encode, tokenizer.eos_id
    lead = [eos_id] if prepends else []
    heads = [lead + encode(text).tolist() for text in prompts] * (n_rows // len(prompts))
    tails = [encode(text).tolist() for text in answers] * (n_rows // len(answers))
    if not all(heads) or not all(tails):
        raise LRopeError("an answer needs a token, and a token before it: leave prepend_bos on")
    rows = [head + tail for head, tail in zip(heads, tails, strict=True)]
    tokens = torch.full((n_rows, max(map(len, rows))), eos_id)
    is_read, is_answer = torch.zeros(2, n_rows, tokens.shape[1] - 1, dtype=torch.bool)
    for number, (head, row) in enumerate(zip(heads, rows, strict=True)):
        tokens[number, : len(row)] = torch.tensor(row)
        is_read[number, : len(row) - 1] = True  # no row's last token, so that others make no difference
        is_answer[number, len(head) - 1 : len(row) - 1] = True
    mask = None if bool(is_read.all()) else is_read.long()
    logits = model(tokens[:, :-1], attention_mask=mask)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    targets = tokens[:, 1:, None].to(logits.device)
    each = logits.log_softmax(-1).gather(-1, targets)[..., 0]
    total = torch.where(is_answer.to(logits.device), each, 0).sum(1)
    return total[0] if isinstance(prompt, str) and isinstance(answer, str) else total
