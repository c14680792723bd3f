"""Text in and out of the model, with HookedTransformer's method names; and what ids and masks must be."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.models.hooked_model import HookedModel
from lrope_interp.tokenizers import Tokenizer, as_tokenizer

_INTEGERS = (
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)


class TextMethods(HookedModel):
    """Base of the model: `to_tokens`, `to_string` and their relatives, over the model's own tokenizer."""

    def set_tokenizer(self, tokenizer: Any, default_padding_side: str | None = None) -> None:
        """Give the model another tokenizer.

        Args:
            tokenizer: One of `lrope_interp.tokenizers`, a fast one of Hugging Face, or the path of a
                ``tokenizer.json``; byte-level and lossless.
            default_padding_side: Becomes its `padding_side`.

        Raises:
            LRopeError: No such tokenizer, or one whose ids are not those of the model.
        """
        own = as_tokenizer(tokenizer)
        if own.vocab_size != self.cfg.d_vocab:
            raise LRopeError(
                f"the tokenizer has {own.vocab_size:,} ids (one is EOS) and the model "
                f"d_vocab={self.cfg.d_vocab:,}; give the tokenizer that the model was trained with"
            )
        if default_padding_side is not None:
            own = copy.copy(own)  # it may be another model's too
            own.padding_side = _side(default_padding_side)  # type: ignore[attr-defined]
        self.tokenizer = own

    def to_tokens(
        self,
        input: str | list[str],
        prepend_bos: bool | None = None,
        padding_side: str | None = None,
        move_to_device: bool = True,
        truncate: bool = False,
        return_mask: bool = False,
    ) -> Any:
        """Return token ids, [batch, pos]; EOS (256 of bytes) leads each row unless `prepend_bos` is False.

        Shorter rows are padded with EOS. A tensor does not say where: given back to the model, it is read
        as it stands, pads and all, unless its mask goes along. Texts given to the model itself are masked.

        Args:
            input: A text, or texts.
            prepend_bos: Whether EOS leads each row; `cfg.default_prepend_bos` if None.
            padding_side: "left" or "right"; if None `cfg.default_padding_side`, and where that is None
                too, `tokenizer.padding_side`.
            move_to_device: Whether to put the tokens on the model's device.
            truncate: Whether to cut what n_ctx cannot hold.
            return_mask: Whether to return ``(tokens, mask)``: 1 at tokens and 0 at pads, an
                `attention_mask`. It goes by the lengths of the rows, so that EOS as a token has a 1.

        Raises:
            LRopeError: A text longer than n_ctx (unless `truncate`), a model without tokenizer,
                or anything but text.
        """
        tokenizer = self.own_tokenizer()
        texts = [input] if isinstance(input, str) else list(input)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise LRopeError(
                f"wanted a text or a list of texts; got {input!r:.60}; give token ids as torch.tensor(ids)"
            )
        lead = [tokenizer.eos_id] if self._prepends(prepend_bos) else []
        rows = [lead + tokenizer.encode(text).tolist() for text in texts]
        n_ctx = self.cfg.n_ctx
        if truncate:
            rows = [row[:n_ctx] for row in rows]
        longest = max(map(len, rows), default=0)
        if longest > n_ctx:
            raise too_long(n_ctx, longest)
        own_side = self.cfg.default_padding_side or getattr(tokenizer, "padding_side", "right")
        side = _side(padding_side or own_side)
        tokens = torch.full((len(rows), longest), tokenizer.eos_id)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for number, row in enumerate(rows):
            where = slice(longest - len(row), None) if side == "left" else slice(len(row))
            tokens[number, where], mask[number, where] = torch.tensor(row, dtype=torch.long), 1
        if move_to_device:
            tokens, mask = tokens.to(self.cfg.device), mask.to(self.cfg.device)
        return (tokens, mask) if return_mask else tokens

    def to_string(self, tokens: Any) -> str | list[str]:
        """Return the text of 0-D or 1-D tokens, or one text a row; EOS and broken bytes do not raise."""
        tokenizer = self.own_tokenizer()
        ids = torch.as_tensor(np.asarray(tokens) if not isinstance(tokens, Tensor) else tokens)
        if ids.ndim <= 1:
            return tokenizer.decode(ids.reshape(-1).tolist())
        return [tokenizer.decode(row) for row in ids.tolist()]

    def to_str_tokens(
        self, input: Any, prepend_bos: bool | None = None, padding_side: str | None = None
    ) -> list[str] | list[list[str]]:
        """Return one readable string a token (``中·1/3``); for a list of texts, one list each.

        Raises:
            LRopeError: Tokens of several rows.
        """
        tokenizer = self.own_tokenizer()
        if isinstance(input, list) and input and isinstance(input[0], str):
            return [tokenizer.str_tokens(self.to_tokens(text, prepend_bos)[0].tolist()) for text in input]
        if isinstance(input, str):
            return tokenizer.str_tokens(self.to_tokens(input, prepend_bos, padding_side)[0].tolist())
        ids = torch.as_tensor(input if isinstance(input, Tensor) else np.asarray(input))
        return tokenizer.str_tokens(_one_row(ids).tolist())

    def to_single_token(self, string: str) -> int:
        """Return the id of a string of one token, which is one byte where tokens are bytes.

        Raises:
            LRopeError: The string has more or fewer tokens.
        """
        tokenizer = self.own_tokenizer()
        ids = tokenizer.encode(string)
        if len(ids) != 1:
            reason = "; every byte is a token here" if tokenizer.name == "bytes" else ""
            raise LRopeError(f"{string!r} is {len(ids)} tokens, not one{reason}")
        return int(ids[0])

    def to_single_str_token(self, int_token: int) -> str:
        """Return the readable string of one id."""
        return self.own_tokenizer().str_tokens([int_token])[0]

    def get_token_position(
        self,
        single_token: str | int,
        input: Any,
        mode: str = "first",
        prepend_bos: bool | None = None,
        padding_side: str | None = None,
    ) -> int:
        """Return where a token first or last stands in a text or in one row of tokens.

        Raises:
            LRopeError: Tokens of several rows, a token that does not occur, or an unknown `mode`.
        """
        if isinstance(input, str):
            tokens = self.to_tokens(input, prepend_bos, padding_side)[0]
        else:
            tokens = _one_row(torch.as_tensor(input))
        wanted = self.to_single_token(single_token) if isinstance(single_token, str) else int(single_token)
        where = (tokens == wanted).nonzero().reshape(-1)
        if len(where) == 0:
            raise LRopeError(f"token {single_token!r} does not occur in the input")
        if mode not in ("first", "last"):
            raise LRopeError(f"mode must be 'first' or 'last'; got {mode!r}")
        return int(where[0 if mode == "first" else -1])

    def own_tokenizer(self) -> Tokenizer:
        """Return the tokenizer, or raise where none came with the vocabulary."""
        if self.tokenizer is None:
            raise LRopeError(
                f"this model has d_vocab={self.cfg.d_vocab} and no tokenizer; give it tokens instead of text"
            )
        return self.tokenizer

    def _prepends(self, prepend_bos: bool | None) -> bool:
        return self.cfg.default_prepend_bos if prepend_bos is None else prepend_bos

    def _as_tokens(
        self, input: Any, prepend_bos: bool | None = None, padding_side: str | None = None
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
        tokens, n_ids = (input.unsqueeze(0) if input.ndim == 1 else input).long(), self.cfg.d_vocab
        if tokens.ndim != 2 or 0 in tokens.shape:
            raise LRopeError(
                f"tokens must be [pos] or [batch, pos] and not empty; got shape {tuple(input.shape)}"
            )
        if tokens.shape[1] > self.cfg.n_ctx:
            raise too_long(self.cfg.n_ctx, tokens.shape[1])
        if not torch.compiler.is_compiling() and (int(tokens.max()) >= n_ids or int(tokens.min()) < 0):
            raise LRopeError(f"token ids must lie in 0..{n_ids - 1}; got {tokens.min()}..{tokens.max()}")
        return tokens.to(self.cfg.device), None


def check_mask(attention_mask: Any, n_batch: int, n_new: int, is_part: bool = False) -> None:
    """Refuse a mask of another shape or kind, which would hide tokens without a word.

    Args:
        attention_mask: What the caller gave.
        n_batch: Rows of the input.
        n_new: Its tokens, padding included.
        is_part: Whether the rows began earlier or go on later, so that one may be padding alone.

    Raises:
        LRopeError: No tensor, another shape, values other than 0 and 1, or nothing but padding in a row
            (if `is_part`, in all rows).
    """
    if not isinstance(attention_mask, Tensor) or tuple(attention_mask.shape) != (n_batch, n_new):
        got = list(attention_mask.shape) if isinstance(attention_mask, Tensor) else type(attention_mask)
        raise LRopeError(
            f"attention_mask must cover the new tokens, [{n_batch}, {n_new}]; got {got} (the past is in the "
            "cache)"
        )
    if torch.compiler.is_compiling():
        return
    if not bool(((attention_mask == 0) | (attention_mask == 1)).all()):
        raise LRopeError(
            "attention_mask must be 1 at tokens and 0 at padding; got values from "
            f"{attention_mask.min().item()} to {attention_mask.max().item()}. An additive mask (0 and -inf) "
            "becomes one by `mask == 0`"
        )
    is_token = attention_mask.bool().any(1)
    if not bool(is_token.any() if is_part else is_token.all()):
        raise LRopeError(
            f"attention_mask hides every token of row {int((~is_token).nonzero()[0])}; it must be 1 at "
            "tokens and 0 at padding (0 everywhere keeps all in an additive mask only), and some in each row"
        )


def too_long(n_ctx: int, n_tokens: int) -> LRopeError:
    """Build the error for an input that the model does not accept."""
    return LRopeError(
        f"n_ctx={n_ctx} cannot hold {n_tokens} tokens; raise it with from_pretrained(..., n_ctx={n_tokens}), "
        "which changes no weight, or let capture window the text"
    )


def _side(padding_side: str) -> str:
    """Return a side, checked."""
    if padding_side not in ("left", "right"):
        raise LRopeError(f"padding_side must be 'left' or 'right'; got {padding_side!r}")
    return padding_side


def _one_row(tokens: Tensor) -> Tensor:
    """Return the only row of tokens, [pos]."""
    if tokens.ndim > 2 or (tokens.ndim == 2 and tokens.shape[0] != 1):
        raise LRopeError(f"wanted one row of tokens; got shape {list(tokens.shape)}; give one row at a time")
    return tokens.reshape(-1)
