"""Fold the norms' gains into the weights that read them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lrope_interp.errors import LRopeError


class Folding:
    """Mixed into the model: `fold_ln_` and `process_weights_`."""

    cfg: Any
    blocks: Any
    unembed: Any
    ln_final: Any

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
            self.unembed.untie()
            self.cfg.tie_embeddings = self.cfg.tie_word_embeddings = False
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
            self.unembed.untie()
            self.cfg.tie_embeddings = self.cfg.tie_word_embeddings = False
            with torch.no_grad():
                self.unembed.W_U.sub_(self.unembed.W_U.mean(-1, keepdim=True))
                if self.unembed.has_biases:
                    self.unembed.b_U.sub_(self.unembed.b_U.mean())
        return self


def _scale_rows(weight: Tensor, gain: Tensor) -> None:
    """Scale the d_model axis, the one before the last, in float32 at least."""
    wide = weight if weight.dtype == torch.float64 else weight.float()
    weight.copy_((wide * gain.to(wide.dtype).unsqueeze(-1)).to(weight.dtype))
