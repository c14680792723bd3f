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
# # Ablate: what would the model lose without its increments?
#
# The method is known: write something else at a hook, and read the loss. So is the trap: "set it to 1" takes
# away several things at once. This lesson is about *what* to write.

# %%
import plotly.graph_objects as go
import torch

import lrope_interp as lr

model = lr.load()  # the newest finished run under ./runs, else the one that ships: "reference"
model

# %% [markdown]
# ## Predict
#
# Write down what you expect of layer 0 before the next cell.
#
# | write | what goes | expect at layer 0 |
# |---|---|---|
# | 1, ordinary RoPE | everything, *scale included* | a lot, if its mean is far from 1 |
# | the layer's mean | all variation | what the variation is worth |
# | the byte's mean | the context | **nothing, by construction** |

# %%
result = lr.ablate(model, max_bytes=10_000)  # of text that no mean is fitted on
result

# %% [markdown]
# The third row checks the machinery at layer 0, which reads no context, and is a finding above.
# The figure splits freezing to 1 into scale, what the byte carries, and context. The parts sum by
# construction; their *order* is a choice.

# %%
result.plot("split")

# %% [markdown]
# ## Control the hook itself
#
# A model with fixed increments, frozen to 1, must not change by a bit. A hook that never fires would give a
# perfect zero; here it raises.

# %%
text = "We, the people of the United States, believe."
tokens = model.to_tokens(text)
shape = dict(n_layers=2, d_model=32, n_heads=2, d_vocab=model.cfg.d_vocab, seed=0)
fixed = lr.LRopeTransformer(lr.LRopeConfig(increments="fixed", **shape))
with lr.ablated(fixed, lr.freeze(1.0)):
    frozen = fixed(tokens)
assert torch.equal(frozen, fixed(tokens))

try:
    with lr.ablated(model, lr.freeze(1.0), layers=1):
        model(tokens, stop_at_layer=1)
except lr.LRopeError as error:
    print(error)

# %% [markdown]
# ## By hand: which bytes pay?
#
# `at` writes only where words begin, which *shifts every later token too*; `local_edit` takes the change
# back at the next token. The difference is the shift's.

# %%
fitted = lr.fit_increments(model, lr.select_corpus(model, max_bytes=10_000).fit)
at_words = lr.at(lr.gap_mask(model, text, "words"), lr.layer_mean(fitted))
writes = {
    "mean": lr.layer_mean(fitted),
    "mean at words": at_words,
    "taken back": lr.local_edit(at_words),
}
axes = dict(yaxis_title="change, nats", xaxis_title="byte", height=340)
figure = go.Figure(layout=dict(template="simple_white", **axes))
labels = [f"{place} {token}" for place, token in enumerate(model.to_str_tokens(text))][1:]
how = dict(return_type="loss", loss_per_token=True)
with torch.inference_mode():
    untouched = model(tokens, **how)[0]
    for name, written in writes.items():
        hooks = lr.ablation_hooks(written, model=model)
        change = model.run_with_hooks(tokens, fwd_hooks=hooks, **how)[0] - untouched
        figure.add_bar(x=labels, y=change.tolist(), name=name)
figure

# %% [markdown]
# ## What a rising loss does not show
#
# **That increments are useful**: these weights grew up with them. Training afresh on frozen ones tells
# (`lrope-interp train --increments frozen:RUN`). Nor **where the information is**: a layer may cost nothing
# because another does the same.
#
# * [`suite="full"`](../docs/commands/ablate.md): shuffled, scaled, layers one by one, kinds of gaps.
# * [What our models lose](../docs/evidence/ablations.md). Next lesson: [probe](../docs/lessons/probe.md).
