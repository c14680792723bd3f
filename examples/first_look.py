# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first look at learned increments
#
# Ordinary rotary embeddings move every token exactly one step from the token before it. The models here
# *learn* the step: each layer reads its input and emits one number for each token, the **increment**, and
# the running sum of increments is the **position** that queries and keys are rotated by.
#
# In this lesson we load a model, read its increments, draw them, and take them away from one layer to see
# what that costs. Every number that looks interesting gets the number beside it that could make it
# boring.
#
# The lesson takes the newest finished run under `./runs` (`lrope-interp train` makes one). Where there is
# none it trains a very small model for a few seconds: enough to run every cell, far too little to
# conclude anything.

# %%
import tempfile
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import torch

import lrope_interp as lr

try:
    model = lr.load()
except lr.LRopeError:
    # The Python standard library is the corpus that needs nothing to be installed.
    run = lr.train(
        "tiny",
        Path(tempfile.mkdtemp()) / "lesson",
        data="code",
        n_steps=60,
        batch_size=8,
        n_ctx=64,
        n_layers=3,
        d_model=48,
        n_heads=3,
        d_head=16,
        d_mlp=96,
        warmup=10,
        lr=1e-2,
        validation_bytes=5_000,
    )
    model = lr.load(run)

print(f"{model.folder.name}: {model.cfg.n_layers} layers, {model.cfg.increments}")

# %% [markdown]
# ## Reading increments
#
# `run_with_cache` is TransformerLens', and so are the names. Tokens are bytes; the first is EOS (id 256),
# which separates documents.

# %%
text = "The cat sat on the mat, and the dog sat down."
tokens = model.to_tokens(text)
logits, cache = model.run_with_cache(tokens)

increments = cache["increments", 0]  # [batch, pos], float32
positions = cache["positions", 0]  # [batch, pos], float64
increments.shape, increments.dtype, positions.dtype

# %% [markdown]
# `increment[t]` is the step taken on *arriving at* token t: the gap **before** it. So the differences of
# positions are the increments, from the second token on.

# %%
steps = positions[0].diff()
assert torch.allclose(steps, increments[0, 1:].double())

# %% [markdown]
# ## Drawing them
#
# One bar a byte, one colour a layer. The first token is left out, here and in every statistic: its
# increment shifts all positions alike, and attention sees differences only. For the same reason the
# absolute level means nothing, so each layer is divided by its own mean.

# %%
labels = [f"{index} {token}" for index, token in enumerate(model.to_str_tokens(text))][1:]
figure = go.Figure()
for layer in range(model.cfg.n_layers):
    row = cache["increments", layer][0, 1:]
    if row.ndim == 2:  # a model with increments per head: look at the first
        row = row[:, 0]
    figure.add_bar(x=labels, y=(row / row.mean()).tolist(), name=f"layer {layer}")
figure.update_layout(yaxis_title="increment / mean of its layer", xaxis_title="byte", height=360)
figure

# %% [markdown]
# The same as distances: every character at its position, one row a layer. `lrope-interp show` makes this
# picture.

# %%
lr.show(model, text).plot()

# %% [markdown]
# Layer 0 reads the token's embedding and nothing else, so its increment is a function of the byte alone:
# every space has the same one. If layer 0 "finds spaces", so does a table with 256 entries.

# %%
is_space = torch.tensor([token == " " for token in model.to_str_tokens(text)])
at_spaces = cache["increments", 0][0][is_space]
print(f"spread over the spaces of the sentence: {at_spaces.std(dim=0).max():.2e}")
assert torch.allclose(at_spaces, at_spaces[:1].expand_as(at_spaces), atol=1e-5)

# %% [markdown]
# ## Taking them away
#
# An ablation is a hook, never a mode of the model: what a hook on `hook_increments` returns is what gets
# summed. The text is held out: `select_corpus` compares it with the list of training documents that the run
# keeps.

# %%
documents = lr.select_corpus(model, max_bytes=20_000).test

length = model.cfg.n_ctx
windows = torch.tensor(
    [[model.tokenizer.eos_id, *one.encoded[: length - 1]] for one in documents if one.n_bytes >= length]
)
windows.shape


# %%
def loss_with(layer: int, value: float | None) -> float:
    """Return the loss, in nats per byte, with one layer's increments replaced by one value."""

    def replace(increments: torch.Tensor, hook: object) -> torch.Tensor:
        del hook
        return torch.full_like(increments, value)

    hooks = [] if value is None else [(f"blocks.{layer}.hook_increments", replace)]
    with torch.no_grad():
        return float(model.run_with_hooks(windows, return_type="loss", fwd_hooks=hooks))


_, held_out = model.run_with_cache(windows, names_filter=lambda name: name.endswith("hook_increments"))
means = [float(held_out["increments", layer][:, 1:].mean()) for layer in range(model.cfg.n_layers)]

losses = pd.DataFrame(
    [
        {"layer": layer, "frozen to": "1", "nats per byte": loss_with(layer, 1.0)}
        for layer in range(model.cfg.n_layers)
    ]
    + [
        {
            "layer": layer,
            "frozen to": f"its mean, {means[layer]:.2f}",
            "nats per byte": loss_with(layer, means[layer]),
        }
        for layer in range(model.cfg.n_layers)
    ]
)
losses["cost"] = losses["nats per byte"] - loss_with(0, None)
print(f"as trained: {loss_with(0, None):.4f} nats per byte")
losses.sort_values("layer", kind="stable").round(4)

# %% [markdown]
# Read the two rows of a layer together. Freezing to 1 takes away the variation *and* changes the scale of
# the layer's distances, and 1 is not neutral for a trained layer: its mean may be 2. Freezing to the
# layer's mean keeps the scale, and that row alone says what the variation is worth. The difference
# between the two is what scale costs.
#
# What this does not show: whether the model would miss the variation had it never had it (train
# `--increments fixed` for that), how far the numbers move with other documents (`lrope-interp boundaries`
# and `eval` give intervals), and what another seed would say. Layers swap roles between seeds.
