"""What HookedTransformer offers beside its forward pass: directions, biases, labels, scores.

Nothing here centres a weight: under RMSNorm that would change the function.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformer_lens.utilities.matrix import composition_scores

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models.weights import WeightViews

_OPTIONAL_BIASES = ("attn.b_Q", "attn.b_K", "attn.b_V", "attn.b_O", "mlp.b_in", "mlp.b_out")


class HeadLabels(list):
    """Labels of all heads: an attribute as in TransformerBridge, callable as in HookedTransformer."""

    def __call__(self) -> list[str]:
        """Return the labels."""
        return list(self)


class AnalysisSurface(WeightViews):
    """Mixed into the model: the methods that ActivationCache and analysis notebooks call."""

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
            tokens = self.to_single_token(tokens)  # type: ignore[attr-defined]
        return self.W_U[:, int(tokens)]

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, " d_model"]:
        """Return the sum of all output biases in the residual stream before `layer`.

        Args:
            layer: 0 to n_layers; n_layers means the end of the model.
            mlp_input: Whether to include this layer's attention, for the input of its MLP.
            include_mlp_biases: Whether the MLPs' biases count.

        Raises:
            LRopeError: `mlp_input` at the end of the model, or no such layer.
        """
        n_layers = self.cfg.n_layers
        if not 0 <= layer <= n_layers or (mlp_input and layer == n_layers):
            raise LRopeError(f"layer {layer} (mlp_input={mlp_input}) is beyond the {n_layers} layers")
        total = torch.zeros(self.cfg.d_model, dtype=self.W_U.dtype, device=self.W_U.device)
        for block in self.blocks[:layer]:
            total = total + block.attn.b_O
            if include_mlp_biases:
                total = total + block.mlp.b_out
        return total + self.blocks[layer].attn.b_O if mlp_input else total

    @property
    def all_head_labels(self) -> HeadLabels:
        """``["L0H0", "L0H1", ...]``, layer by layer."""
        return HeadLabels(f"L{layer}H{head}" for layer, head in self._heads())

    def all_composition_scores(self, mode: str) -> Float[Tensor, "layer head later_layer later_head"]:
        """Return how much each later head reads what an earlier one writes (Elhage et al. 2021).

        The rotation by position is left out, as in HookedTransformer; and a later layer's increment
        head, which also reads the residual stream, has no score here.

        Args:
            mode: "Q", "K" or "V": which input of the later head.
        """
        if mode not in ("Q", "K", "V"):
            raise unknown("composition mode", mode, ("Q", "K", "V"))
        right = {"Q": self.QK, "K": self.QK.T, "V": self.OV}[mode]
        scores = composition_scores(self.OV, right, broadcast_dims=True)
        layers = torch.arange(self.cfg.n_layers, device=scores.device)
        is_later = layers[:, None, None, None] < layers[None, None, :, None]
        return torch.where(is_later, scores, torch.zeros_like(scores))

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
        tokens, mask = self._as_tokens(input, prepend_bos, padding_side)  # type: ignore[attr-defined]
        tokens = self._hooked(tokens)  # type: ignore[attr-defined]
        residual = self.hook_embed(self.embed(tokens))  # type: ignore[attr-defined]
        return residual, tokens, None, mask if attention_mask is None else attention_mask

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
        prompts, answers = (x if isinstance(x, list) else [x] for x in (prompt, answer))
        if not all(isinstance(text, str) for text in prompts + answers):
            raise LRopeError("prompts and answers are texts, or lists of them; got something else")
        n_rows = max(len(prompts), len(answers))
        if {len(prompts), len(answers)} - {1, n_rows} or not all(map(len, (prompts, answers))):
            raise LRopeError(
                f"wanted one answer, or one for each prompt; got {len(prompts)} prompts and "
                f"{len(answers)} answers"
            )
        encode, eos_id = self.own_tokenizer().encode, self.own_tokenizer().eos_id  # type: ignore[attr-defined]
        lead = [eos_id] if self._prepends(prepend_bos) else []  # type: ignore[attr-defined]
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
        logits = self(tokens[:, :-1], attention_mask=mask)  # type: ignore[operator]
        logits = logits if logits.dtype == torch.float64 else logits.float()
        targets = tokens[:, 1:, None].to(logits.device)
        each = logits.log_softmax(-1).gather(-1, targets)[..., 0]
        total = torch.where(is_answer.to(logits.device), each, 0).sum(1)
        return total[0] if isinstance(prompt, str) and isinstance(answer, str) else total

    def tl_parameters(self) -> dict[str, Tensor]:
        """Return every weight under HookedTransformer's name: tied ones and absent biases too."""
        named = dict(self.named_parameters())  # type: ignore[attr-defined]
        for layer, block in enumerate(self.blocks):
            for name in _OPTIONAL_BIASES:
                part, leaf = name.split(".")
                named.setdefault(f"blocks.{layer}.{name}", getattr(getattr(block, part), leaf))
        named.setdefault("unembed.W_U", self.W_U)
        named.setdefault("unembed.b_U", self.b_U)
        return named

    def blocks_with(self, submodule: str) -> list[tuple[int, Any]]:
        """Return ``(layer, block)`` of every block that has a submodule of that name ("attn", "mlp")."""
        return [(layer, block) for layer, block in enumerate(self.blocks) if submodule in block._modules]

    def tl_named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield `tl_parameters` as pairs."""
        yield from self.tl_parameters().items()

    def _heads(self) -> list[tuple[int, int]]:
        return [(layer, head) for layer in range(self.cfg.n_layers) for head in range(self.cfg.n_heads)]
