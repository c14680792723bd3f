"""The model's configuration: every field that TransformerLens tools read, and ours."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformer_lens.config import TransformerBridgeConfig

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.files import ModelShape, check

INCREMENT_MODES = ("per_layer", "shared", "fixed")
ATTENTION_IMPLEMENTATIONS = ("auto", "sdpa", "eager")
NORMALIZATIONS = ("RMS", "RMSPre")
DEVICES = ("auto", "cpu", "cuda", "mps")
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class LRopeConfig(TransformerBridgeConfig):
    """Shape and behaviour of an `LRopeTransformer`; mutable, as in TransformerLens.

    Args:
        n_layers: Number of blocks.
        d_model: Width of the residual stream.
        n_heads: Attention heads a layer.
        d_head: Width of a head, even; `d_model // n_heads` if not given.
        d_mlp: Width of the gated MLP; four times `d_model` if not given.
        d_vocab: Size of the vocabulary; 257 is the 256 bytes and EOS; others need a tokenizer.
        n_ctx: Longest accepted input, in tokens. Nothing is tabulated, so it can be raised freely.
        increments: "per_layer" (a head in every layer reads its input), "shared" (one head reads
            the token embedding for all layers) or "fixed" (ordinary RoPE, increments of 1).
        per_head: Whether every attention head has its own increment.
        max_increment: Upper end of the increment's range (0, max_increment); above 1.
        rope_base: RoPE's base; plane k turns by ``position * rope_base ** (-2k / d_head)``.
        eps: Added to the mean square in RMSNorm.
        act_fn: Gate activation of the MLP.
        use_biases: Whether attention, MLP and unembedding have biases.
        tie_embeddings: Whether the unembedding is the transposed embedding.
        attn_impl: "auto" (fused, unless a hook watches scores or pattern), "sdpa" or "eager".
        seed: Seed of the initial weights; None draws one from torch's global generator.
        device: Where the weights live; the first CUDA device if there is one, else the CPU.
        dtype: Weights' dtype; the increment heads stay float32 whatever it is.
        model_name: A label, shown by TransformerLens.
        normalization_type: "RMS", or "RMSPre" once the gains are folded into the weights.

    Raises:
        LRopeError: A value that no model can be built from.
    """

    d_mlp: int  # pyright: ignore[reportIncompatibleVariableOverride] (TransformerLens' may be None)

    def __init__(
        self,
        n_layers: int,
        d_model: int,
        n_heads: int,
        d_head: int | None = None,
        d_mlp: int | None = None,
        d_vocab: int = 257,
        n_ctx: int = 512,
        increments: str = "per_layer",
        per_head: bool = False,
        max_increment: float = 10.0,
        rope_base: float = 10000.0,
        eps: float = 1e-5,
        act_fn: str = "silu",
        use_biases: bool = False,
        tie_embeddings: bool = True,
        attn_impl: str = "auto",
        seed: int | None = None,
        device: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        model_name: str = "lrope",
        normalization_type: str = "RMS",
    ) -> None:
        given = {name: value for name, value in locals().items() if name in ModelShape.model_fields}
        numbers = (np.integer, np.floating, np.bool_)  # of a notebook: as good as Python's, which is kept
        given = {name: one.item() if isinstance(one, numbers) else one for name, one in given.items()}
        shape = check(ModelShape, given, "the model configuration")
        d_head = shape.d_model // shape.n_heads if shape.d_head is None else shape.d_head
        super().__init__(
            d_model=shape.d_model,
            d_head=d_head,
            n_layers=shape.n_layers,
            n_ctx=shape.n_ctx,
            n_heads=shape.n_heads,
            d_vocab=shape.d_vocab,
            d_vocab_out=shape.d_vocab,
            d_mlp=4 * shape.d_model if shape.d_mlp is None else shape.d_mlp,
            device=_device(device),
            dtype=_dtype(dtype),
            act_fn=shape.act_fn,
            eps=shape.eps,
            seed=shape.seed,
            model_name=shape.model_name,
            normalization_type=shape.normalization_type,
            final_rms=True,
            gated_mlp=True,
            uses_rms_norm=True,
            positional_embedding_type="rotary",
            rotary_dim=d_head,
            default_prepend_bos=True,
            default_padding_side=None,  # the tokenizer's own
            tie_word_embeddings=shape.tie_embeddings,
        )
        self.increments = shape.increments.replace("-", "_")
        self.per_head = shape.per_head
        self.max_increment = shape.max_increment
        self.rope_base = shape.rope_base
        self.rotary_base = shape.rope_base
        self.use_biases = shape.use_biases
        self.tie_embeddings = shape.tie_embeddings
        self.attn_impl = shape.attn_impl
        self.attn_scale = math.sqrt(d_head)
        self._validate()

    def _validate(self) -> None:
        """Refuse what no model can be built from."""
        if self.d_head < 1 or self.d_head % 2:
            raise LRopeError(f"d_head must be even, because RoPE turns pairs; got {self.d_head}")
        for name, choices in (
            ("increments", INCREMENT_MODES),
            ("attn_impl", ATTENTION_IMPLEMENTATIONS),
            ("act_fn", ACTIVATIONS),
            ("normalization_type", NORMALIZATIONS),
        ):
            if getattr(self, name) not in choices:
                raise unknown(f"value for {name}:", getattr(self, name), choices)

    def to_dict(self) -> dict[str, Any]:
        """Return what `config.json` holds under "model": everything but the device."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "device"]
        values = {name: getattr(self, name) for name in names}
        values["dtype"] = str(self.dtype).removeprefix("torch.")
        return values

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any]) -> LRopeConfig:
        """Build a configuration from `to_dict`'s form.

        Raises:
            LRopeError: A key that is not a field, or a missing one.
        """
        known = inspect.signature(cls).parameters
        for key in config_dict:
            if key not in known:
                raise unknown("model configuration key", key, known)
        try:
            return cls(**config_dict)
        except TypeError as error:
            raise LRopeError(f"the model configuration is incomplete or has a wrong type: {error}") from None


def resolve_device(name: str) -> str:
    """Return "cuda", "mps" or "cpu" for a device name or "auto"; a missing device is refused."""
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    is_there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [device for device, here in is_there.items() if here]
    if name == "auto":
        return available[0]
    if name not in available:
        raise LRopeError(
            f"device {name!r} was asked for, but torch {torch.__version__} sees only "
            f"{', '.join(available)} here; use device auto"
        )
    return name


def _device(device: Any) -> Any:
    """Return a device that torch knows by this name, or None."""
    try:
        if device is None or (isinstance(device, str | torch.device) and torch.device(device)):
            return device
    except RuntimeError:
        pass
    raise LRopeError(f"device={device!r}: the name of a torch device is wanted, as in 'cpu' or 'cuda:0'")


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    """Return a torch dtype given itself or its name."""
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise unknown("dtype", name, DTYPES)
    return DTYPES[name]
