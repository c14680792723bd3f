"""The model's weights: how they are drawn, named, folded, and exchanged with other libraries.

Each parameter is drawn from its own seed, so that arms of a comparison share them. Nothing here centres a
weight: under RMSNorm that would change the function.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn as nn
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformer_lens import FactoredMatrix
from transformer_lens.utilities.matrix import composition_scores

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models.frozen import increments_name
from lrope_interp.models.hooked_model import HookedModel
from lrope_interp.models.increments import IncrementHead
from lrope_interp.models.layers import WEIGHT_STD, Embed, Unembed

_INTO_RESIDUAL = ("attn.W_O", "mlp.W_out")
_PART_OF = {
    **dict.fromkeys(("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"), "attn"),
    **dict.fromkeys(("W_in", "W_gate", "W_out", "b_in", "b_out"), "mlp"),
}
_HOOKED_TRANSFORMER_BUFFERS = ("attn.mask", "attn.IGNORE", "attn.rotary_sin", "attn.rotary_cos")


def initialize(model: HookedModel, seed: int) -> None:
    """Draw every weight in place.

    Matrices are normal with s.d. 0.02, those that write into the residual stream divided by
    ``sqrt(2 n_layers)`` (as in GPT-2); gains are 1, biases 0. Increment heads start as ordinary RoPE:
    last weight 0, last bias at increment 1.

    Each parameter's generator is seeded by the seed and the parameter's name: models that differ
    in their increments only start from the same shared weights.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if parameter.is_meta:  # a shape without values
                continue
            if leaf == "w":
                parameter.fill_(1.0)
            elif leaf.startswith("b_"):
                parameter.zero_()
            else:
                std = (
                    WEIGHT_STD / math.sqrt(2 * model.cfg.n_layers)
                    if name.endswith(_INTO_RESIDUAL)
                    else WEIGHT_STD
                )
                parameter.copy_((normal_values(parameter, seed, name) * std).to(parameter.dtype))
        for module in model.modules():
            if isinstance(module, IncrementHead):
                module.start_as_ordinary_rope()


def normal_values(like: Tensor, seed: int, name: str) -> Tensor:
    """Return standard normal numbers of a parameter's shape, float32, by the seed and its name alone."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randn(like.shape, generator=generator, dtype=torch.float32)


class HeadLabels(list):
    """Labels of all heads: an attribute as in TransformerBridge, callable as in HookedTransformer."""

    def __call__(self) -> list[str]:
        """Return the labels."""
        return list(self)


class Weights(HookedModel):
    """Base of the model: weights by HookedTransformer's names, ``W_Q`` to ``b_out`` stacked over layers."""

    embed: Embed
    unembed: Unembed

    # Class members, because `inspect.getattr_static` (Python 3.12's protocol check) sees no submodule.
    @property
    def blocks(self) -> Any:
        """The layers."""
        return self._modules["blocks"]

    @property
    def ln_final(self) -> Any:
        """The norm before the unembedding."""
        return self._modules["ln_final"]

    def __getattr__(self, name: str) -> Any:
        """Stack one weight over the layers, [layer, ...]."""
        if name in _PART_OF:
            return torch.stack([getattr(getattr(block, _PART_OF[name]), name) for block in self.blocks])
        return super().__getattr__(name)

    @property
    def W_E(self) -> Tensor:
        """The embedding, [d_vocab, d_model]."""
        return self.embed.W_E

    @property
    def W_U(self) -> Tensor:
        """The unembedding, [d_model, d_vocab]."""
        return self.unembed.W_U

    @property
    def b_U(self) -> Tensor:
        """The unembedding's bias, [d_vocab]; zeros without biases."""
        return self.unembed.b_U

    @property
    def QK(self) -> FactoredMatrix:
        """``W_Q @ W_K.T`` of every layer and head; it ignores the rotation by position."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-2, -1))

    @property
    def OV(self) -> FactoredMatrix:
        """``W_V @ W_O`` of every layer and head."""
        return FactoredMatrix(self.W_V, self.W_O)

    @property
    def n_params_total(self) -> int:
        """Number of parameters, tied ones once, increment heads included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def tl_parameters(self) -> dict[str, Tensor]:
        """Return every weight under HookedTransformer's name: tied ones and absent biases too."""
        named: dict[str, Tensor] = dict(self.named_parameters())
        for layer, block in enumerate(self.blocks):
            for name, part in _PART_OF.items():
                named.setdefault(f"blocks.{layer}.{part}.{name}", getattr(getattr(block, part), name))
        named.setdefault("unembed.W_U", self.W_U)
        named.setdefault("unembed.b_U", self.b_U)
        return named

    def blocks_with(self, submodule: str) -> list[tuple[int, Any]]:
        """Return ``(layer, block)`` of every block that has a submodule of that name ("attn", "mlp")."""
        return [(layer, block) for layer, block in enumerate(self.blocks) if submodule in block._modules]

    def tl_named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Yield `tl_parameters` as pairs."""
        yield from self.tl_parameters().items()

    def increment_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and parameter of every increment head."""
        for name, parameter in self.named_parameters():
            if _is_of_a_head(name):
                yield name, parameter

    def parameter_groups(
        self, weight_decay: float, lr: float, head_lr_multiplier: float = 1.0
    ) -> list[dict[str, Any]]:
        """Return optimiser groups.

        Norms, biases and the increment heads' last layer are not decayed: decay would drag the last
        bias from increment 1 towards half of max_increment.

        Args:
            weight_decay: For everything else.
            lr: Learning rate of the trunk.
            head_lr_multiplier: The heads' learning rate divided by `lr`.
        """
        heads = {name for name, _ in self.increment_parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            decays = leaf != "w" and not leaf.startswith("b_") and not (name in heads and leaf == "W_out")
            groups.setdefault((name in heads, decays), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": lr * (head_lr_multiplier if is_head else 1.0),
                "weight_decay": weight_decay if decays else 0.0,
            }
            for (is_head, decays), parameters in sorted(groups.items())
        ]

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
        cfg = self.cfg
        return HeadLabels(f"L{layer}H{head}" for layer in range(cfg.n_layers) for head in range(cfg.n_heads))

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

    def fold_ln_(self) -> Any:
        """Multiply every gain into the weights behind it, in place, and return the model.

        `ln1` goes into `W_Q W_K W_V`, `ln2` into `W_in W_gate`, `ln_final` into `W_U`, which is
        untied from the embedding for that. Log-probabilities do not change; increments neither, since
        the increment heads read `resid_pre` through a norm of their own. `cfg.normalization_type`
        becomes "RMSPre" and the gains are gone, as in HookedTransformer, so that direct logit
        attribution is exact. An optimiser made before holds the old parameters.

        Nothing is centred. A model that is folded already stays as it is.
        """
        if self.cfg.normalization_type == "RMSPre":
            return self
        with torch.no_grad():
            for block in self.blocks:
                for weight in (block.attn.W_Q, block.attn.W_K, block.attn.W_V):
                    _scale_rows(weight, block.ln1.w)
                for weight in (block.mlp.W_in, block.mlp.W_gate):
                    _scale_rows(weight, block.ln2.w)
            self._untie()
            _scale_rows(self.unembed.W_U, self.ln_final.w)
        for norm in (self.ln_final, *(norm for block in self.blocks for norm in (block.ln1, block.ln2))):
            norm.drop_gain()
        self.cfg.normalization_type = "RMSPre"
        return self

    def process_weights_(
        self,
        fold_ln: bool = True,
        center_writing_weights: bool = False,
        center_unembed: bool = False,
        fold_value_biases: bool = False,
        refactor_factored_attn_matrices: bool = False,
    ) -> Any:
        """Do what HookedTransformer's method of this name may do to a model of this kind, in place.

        Args:
            fold_ln: See `fold_ln_`.
            center_writing_weights: Refused: RMSNorm does not subtract the mean, so that centring what
                writes into the stream would change the function.
            center_unembed: Take from each logit the mean of all; log-probabilities stay.
            fold_value_biases: Move b_V through W_O into b_O, since the weights of a pattern sum to 1.
            refactor_factored_attn_matrices: Refused: rotation stands between W_Q and W_K.

        Returns:
            The model.

        Raises:
            LRopeError: For what would change the function.
        """
        if center_writing_weights or refactor_factored_attn_matrices:
            raise LRopeError(
                "under RMSNorm and RoPE, center_writing_weights and refactor_factored_attn_matrices "
                "would change what the model computes; leave them False"
            )
        if fold_ln:
            self.fold_ln_()
        if fold_value_biases and self.cfg.use_biases:
            with torch.no_grad():
                for block in self.blocks:
                    block.attn.b_O.add_(torch.einsum("hd,hdm->m", block.attn.b_V, block.attn.W_O))
                    block.attn.b_V.zero_()
        if center_unembed:
            self._untie()
            with torch.no_grad():
                self.unembed.W_U.sub_(self.unembed.W_U.mean(-1, keepdim=True))
                if self.unembed.has_biases:
                    self.unembed.b_U.sub_(self.unembed.b_U.mean())
        return self

    def _untie(self) -> None:
        self.unembed.untie()
        self.cfg.tie_embeddings = self.cfg.tie_word_embeddings = False

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load parameters; a HookedTransformer's buffers (masks and rotary tables) are left out.

        For a HookedTransformer (RMSNorm, gated MLP, rotary over all of d_head) build the model with
        ``use_biases=True, tie_embeddings=False`` and, if its norms are folded,
        ``normalization_type="RMSPre"``. With ``strict=False`` only increment heads are missing.
        With ``assign=True`` the trunk takes the tensors' dtype; increment heads stay float32.
        """
        kept = {}
        for name, value in state_dict.items():
            is_assigned_head = assign and _is_of_a_head(name) and value.dtype != torch.float32
            if not name.endswith(_HOOKED_TRANSFORMER_BUFFERS):
                kept[name] = value.detach().float() if is_assigned_head else value
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
        from transformers import AutoModelForCausalLM, LlamaConfig

        cfg, increments = self.cfg, increments_name(self)
        if increments != "fixed":
            raise LRopeError(
                f"Llama has ordinary RoPE and cannot express increments={increments!r}; only a "
                "model with increments='fixed' can be exported"
            )
        if cfg.use_biases and bool(self.unembed.b_U.any()):
            raise LRopeError(
                "Llama has no bias on its logits; set unembed.b_U to zero, or keep the model here"
            )
        shape = LlamaConfig(
            vocab_size=cfg.d_vocab,
            hidden_size=cfg.d_model,
            intermediate_size=cfg.d_mlp,
            num_hidden_layers=cfg.n_layers,
            num_attention_heads=cfg.n_heads,
            num_key_value_heads=cfg.n_heads,
            head_dim=cfg.d_head,
            hidden_act=cfg.act_fn,
            max_position_embeddings=cfg.n_ctx,
            rms_norm_eps=cfg.eps,
            rope_parameters={"rope_type": "default", "rope_theta": cfg.rope_base},
            attention_bias=cfg.use_biases,
            mlp_bias=cfg.use_biases,
            tie_word_embeddings=cfg.tie_embeddings,
            bos_token_id=cfg.d_vocab - 1,
            eos_token_id=cfg.d_vocab - 1,
        )
        with torch.random.fork_rng(devices=[]):
            llama = AutoModelForCausalLM.from_config(shape, dtype=cfg.dtype)
        missing, unexpected = llama.load_state_dict(self._llama_weights(), strict=False)
        assert not unexpected, unexpected
        assert missing in ([], ["lm_head.weight"]), missing
        llama.tie_weights()
        return llama.eval()

    def _llama_weights(self) -> dict[str, Tensor]:
        """Return the weights under Hugging Face's names, copied."""
        weights = {"model.embed_tokens.weight": self.W_E, "lm_head.weight": self.W_U.T}
        norms = {"model.norm": self.ln_final}
        for layer, block in enumerate(self.blocks):
            prefix, attn, mlp = f"model.layers.{layer}.", block.attn, block.mlp
            norms[prefix + "input_layernorm"], norms[prefix + "post_attention_layernorm"] = (
                block.ln1,
                block.ln2,
            )
            parts = {
                "self_attn.o_proj.weight": rearrange(attn.W_O, "h d m -> m (h d)"),
                "mlp.gate_proj.weight": mlp.W_gate.T,
                "mlp.up_proj.weight": mlp.W_in.T,
                "mlp.down_proj.weight": mlp.W_out.T,
            }
            for letter in "QKV":
                weight = rearrange(getattr(attn, f"W_{letter}"), "h m d -> (h d) m")
                parts[f"self_attn.{letter.lower()}_proj.weight"] = weight
            if self.cfg.use_biases:
                for letter in "QKV":
                    bias = rearrange(getattr(attn, f"b_{letter}"), "h d -> (h d)")
                    parts[f"self_attn.{letter.lower()}_proj.bias"] = bias
                parts["self_attn.o_proj.bias"] = attn.b_O
                parts["mlp.gate_proj.bias"] = parts["mlp.up_proj.bias"] = torch.zeros_like(mlp.b_in)
                parts["mlp.down_proj.bias"] = mlp.b_out + mlp.b_in @ mlp.W_out
            weights |= {prefix + name: value for name, value in parts.items()}
        for name, norm in norms.items():  # without a gain where it was folded away
            weights[name + ".weight"] = norm.w if norm.has_gain else torch.ones_like(self.W_E[0])
        return {name: value.detach().clone().contiguous() for name, value in weights.items()}


def _is_of_a_head(name: str) -> bool:
    return name.startswith("shared_increments.") or ".increments." in name


def _scale_rows(weight: Tensor, gain: Tensor) -> None:
    """Scale the d_model axis, the one before the last, in float32 at least."""
    wide = weight if weight.dtype == torch.float64 else weight.float()
    weight.copy_((wide * gain.to(wide.dtype).unsqueeze(-1)).to(weight.dtype))
