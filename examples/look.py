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
# # Look: where does a layer open gaps?
#
# Ordinary RoPE places every token one step behind the one before. These models *learn* the step: each layer
# emits one number per token, the **increment**; their running sum is the **position** that queries and keys
# are rotated by. Do gaps open where words begin, and is that news?

# %%
import pandas as pd
import torch

import lrope_interp as lr

model = lr.load()  # the newest finished run under ./runs, else the one that ships: "reference"
model

# %% [markdown]
# ## The picture
#
# One bar per byte, one row per layer, divided by its own mean, because a layer's level means nothing:
# attention sees differences of positions. So the first token is left out.

# %%
text = "We, the people of the United States, believe."
lr.show(model, text)

# %% [markdown]
# ## The first control: a table of bytes
#
# `run_with_cache` and its names are TransformerLens'. `increments[t]` is the step taken on *arriving* at
# token t, the gap **before** it.
#
# Layer 0 reads the embedding of its token alone. All spaces have the same increment there, so a layer 0 that
# "finds spaces" is matched by a table with 256 entries. Context enters only above it.

# %%
_, cache = model.run_with_cache(text)
is_space = torch.tensor([token == " " for token in model.to_str_tokens(text)])
rows = []
for layer in range(model.cfg.n_layers):
    increments = cache["increments", layer][0]  # [pos]
    assert torch.allclose(cache["positions", layer][0].diff(dim=0), increments[1:].double())
    among = {"spaces": increments[is_space], "all bytes": increments[1:]}
    rows.append({f"s.d. among {which}": float(some.std()) for which, some in among.items()})
pd.DataFrame(rows).rename("layer {}".format).round(3)

# %% [markdown]
# ## Every control at once
#
# How well do increments tell boundaries from other gaps, on text that the run did not train on? Beside the
# layers stand the byte table, the model's entropy and surprisal, and two untrained models with the same
# spread. The verdict is the interval of the difference from the strongest: left of the line the control is
# better.

# %%
result = lr.boundaries(model, labels=["whitespace", "words"])
result

# %%
result.plot("controls", label="words")

# %% [markdown]
# ## What this does not show, and what to try next
#
# A high score says that increments *differ* at boundaries, not that predictions need them: that is
# [the next lesson](../docs/lessons/ablate.md). Nor does it say that another seed agrees: layers swap roles.
#
# * [`lr.boundaries(model)`](../docs/commands/boundaries.md): every label; `suite="full"`: more controls.
# * `text=Path("novel.txt")`: your own text. `result.report("page.html")`: everything on one page.
# * [What our models show](../docs/evidence/boundaries.md).
