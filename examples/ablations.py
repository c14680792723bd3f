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
# # Ablating learned positions
#
# Each layer of an `LRopeTransformer` learns **increments**: how far each token advances the position that
# its queries and keys are rotated by. What would the model lose without them? You know the method from
# TransformerLens: **predict, freeze, measure, look**. An ablation is a hook on `hook_increments` that
# returns other increments; everything downstream follows.
#
# You also know the trap. "Set it to 1" destroys several things at once, and the loss does not say which. So
# this lesson is mostly about *which* number to write.

# %%
import random

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch

import lrope_interp as lr

# %% [markdown]
# ## A model, and two texts
#
# The newest finished run under `runs/`, and text it never saw: one part to *fit* means on, another to
# *score*. An ablation that took its means from the text that it scores would know the answer in part.
#
# Without a run (`lrope-interp train --preset tiny` makes one in minutes) a toy is trained for some seconds
# on made-up sentences. It runs every cell; what it says about learned positions is worth nothing.


# %%
def sentences(seed: int, n: int) -> list[str]:
    draw = random.Random(seed)
    who, did = ("cat", "dog", "old man", "bird"), ("sat on", "lay in", "ran off to", "saw")
    where = ("mat", "sun", "long road", "sea")
    one = "The {} {} the {}. "
    return ["".join(one.format(*map(draw.choice, (who, did, where))) for _ in range(3)) for _ in range(n)]


def toy_model(n_steps: int = 150) -> lr.LRopeTransformer:
    torch.manual_seed(0)
    model = lr.LRopeTransformer(lr.LRopeConfig(n_layers=2, d_model=48, n_heads=2, d_mlp=96, n_ctx=64, seed=0))
    optimiser = torch.optim.AdamW(model.parameter_groups(0.1, 1e-2, 3.0))
    for batch in range(n_steps):
        model(model.to_tokens(sentences(batch, 16), truncate=True), return_type="loss").backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def as_documents(texts: list[str]) -> list[lr.Document]:
    return [lr.Document(f"made up {number}", text, "made up", "en") for number, text in enumerate(texts)]


try:
    model = lr.load()
    selection, source = lr.select_corpus(model, max_bytes=20_000, spread=True), model.folder.name
    fit_text, scored_text = selection.fit, selection.test
except lr.LRopeError:
    model, source = toy_model(), "a toy, trained for 150 steps"
    fit_text, scored_text = as_documents(sentences(-1, 60)), as_documents(sentences(-2, 24))
torch.set_grad_enabled(False)
print(f"{source}: {model.cfg.n_layers} layers, increments {model.cfg.increments}")

# %% [markdown]
# Windows that are all equally long keep padding out of the comparison, and every number below is read on
# the same tokens of them.

# %%
rows = [model.to_tokens(document.text, truncate=True)[0] for document in scored_text]
length = int(np.median([len(row) for row in rows]))
windows = torch.stack([row[:length] for row in rows if len(row) >= length])
windows = windows[:: max(1, len(windows) // 16)]
fitted = lr.fit_increments(model, fit_text)
pd.DataFrame(
    {
        "mean": fitted.mean.mean(1),
        "s.d.": fitted.sd.mean(1),
        "share of the variance that the byte explains": fitted.lexical_share().mean(1),
    }
).rename_axis("layer").round(3)

# %% [markdown]
# ## Predict
#
# Four things to write, from coarse to fine. Write down what you expect of layer 0 before you run the cell.
#
# | write | what is taken away | what you should expect at layer 0 |
# |---|---|---|
# | `freeze(1.0)`, ordinary RoPE | everything, *scale included* | a lot, if its mean is far from 1 |
# | `layer_mean` | all variation; the scale stays | what the variation is worth |
# | `lexical_mean`, the mean of each byte | the context | **nothing, by construction** |
# | `same_byte_resample` | the context; the spread at each byte stays | nothing, as above |
#
# Why nothing: layer 0's head reads the embedding of its token and no other. Its increment *is* its byte's
# mean. A zero there is no finding about language; it checks the machinery. (Bytes that the fit text lacks
# get the layer's mean, so a small number may remain.) Above layer 0 a zero would be a finding.
#
# ## Freeze and measure
#
# `with lr.ablated(model, ...)` holds for everything that runs inside: calls, caches, generation.


# %%
def log_p(written=None, layers=None) -> torch.Tensor:
    """Log-probabilities [row, pos, token] of all predictions, under an ablation or without."""
    if written is None:
        return model(windows)[:, :-1].log_softmax(-1)
    with lr.ablated(model, written, layers=layers):
        return model(windows)[:, :-1].log_softmax(-1)


def losses(log_p: torch.Tensor) -> torch.Tensor:
    """Nats of each token."""
    return -log_p.gather(-1, windows[:, 1:, None])[..., 0]


every_layer = range(model.cfg.n_layers)
untouched = log_p()
writes = {
    "to 1": lr.freeze(1.0),
    "to the layer's mean": lr.layer_mean(fitted),
    "to the byte's mean": lr.lexical_mean(fitted),
    "resampled within bytes": lr.same_byte_resample(fitted),
}
change = pd.DataFrame(
    {
        name: [float((losses(log_p(write, [layer])) - losses(untouched)).mean()) for layer in every_layer]
        + [float((losses(log_p(write)) - losses(untouched)).mean())]
        for name, write in writes.items()
    },
    index=[*(f"layer {layer}" for layer in every_layer), "all layers"],
)
print(f"untouched: {float(losses(untouched).mean()):.4f} nats a token; below, ablated minus untouched")
change.round(4)

# %%
is_known = (np.diff(fitted.first)[windows[:, 1:].numpy()] > 0).all()
if is_known and model.cfg.increments != "fixed":
    assert abs(change.loc["layer 0", "to the byte's mean"]) < 1e-4, "that one is by construction"

# %% [markdown]
# Read the last row from right to left and it splits the change of freezing to 1: context, then what the byte
# alone carries, then scale. The parts sum by construction; their *order* is a choice.

# %%
last = change.loc["all layers"]
pd.Series(
    {
        "scale (1 -> layer's mean)": last["to 1"] - last["to the layer's mean"],
        "lexical (layer's mean -> byte's mean)": last["to the layer's mean"] - last["to the byte's mean"],
        "contextual (byte's mean -> untouched)": last["to the byte's mean"],
    },
    name="nats a token",
).round(4).to_frame()

# %% [markdown]
# A loss can stand still while predictions move: what one token gains another loses. The divergence and the
# share of flipped first guesses do not cancel.


# %%
def moved(other: torch.Tensor) -> dict[str, float]:
    divergence = (untouched.exp() * (untouched - other)).sum(-1).mean()
    flips = (untouched.argmax(-1) != other.argmax(-1)).float().mean()
    return {"KL, nats a token": float(divergence), "flips": float(flips)}


pd.DataFrame({name: moved(log_p(write)) for name, write in writes.items()}).T.round(4)

# %% [markdown]
# ## Controls
#
# * **Shuffled** increments are the model's own, at wrong tokens. If that costs no more than the mean, it is
#   the spread that hurts, and not that the right token had the right increment.
# * **A fixed model frozen to 1** must not change in a single bit. If it does, the hook does something else
#   than what you think.
# * **A hook that never fires** gives a perfect zero. `ablated` raises instead.

# %%
at_mean = last["to the layer's mean"]
wrong_place = float((losses(log_p(lr.shuffle())) - losses(untouched)).mean())
print(f"shuffled: {wrong_place:+.4f} nats a token; to the layer's mean: {at_mean:+.4f}")

fixed = lr.LRopeTransformer(
    lr.LRopeConfig(n_layers=2, d_model=32, n_heads=2, increments="fixed", seed=0, d_vocab=model.cfg.d_vocab)
)
sample = windows[:, :64]
with lr.ablated(fixed, lr.freeze(1.0)):
    frozen_logits = fixed(sample)
assert torch.equal(frozen_logits, fixed(sample))

try:
    with lr.ablated(model, lr.freeze(1.0), layers=[model.cfg.n_layers - 1]):
        model(windows, stop_at_layer=1 if model.cfg.n_layers > 1 else 0)
except lr.LRopeError as error:
    print(f"LRopeError: {error}")

# %% [markdown]
# ## Where: at some gaps only
#
# `at(mask, ...)` intervenes where a label holds, here at the first byte of each word, or inside words. But an
# increment that changes *shifts every later token too*. `local_edit` takes the change back at the next token,
# so that the marked tokens move and nothing else does. The difference of the two rows is what the shift does.

# %%
text = "The cat sat on the mat, and the old man lay in the long road."
tokens = model.to_tokens(text)
as_it_is = model(tokens, return_type="loss", loss_per_token=True)


def change_of(written) -> torch.Tensor:
    """Change of each token's loss in nats, [pos - 1]."""
    hooks = lr.ablation_hooks(written, model=model)  # the same for `run_with_hooks`
    out = model.run_with_hooks(tokens, fwd_hooks=hooks, return_type="loss", loss_per_token=True)
    hooks.check_fired()
    return (out - as_it_is)[0]


local = {}
for where in ("words", "inside_words"):
    edit = lr.at(lr.gap_mask(model, text, where), lr.layer_mean(fitted))
    local[f"at {where}, later tokens shifted"] = float(change_of(edit).mean())
    local[f"at {where}, compensated"] = float(change_of(lr.local_edit(edit)).mean())
both = lr.then(
    lr.at(lr.gap_mask(model, text, "words"), lr.layer_mean(fitted)),
    lr.at(lr.gap_mask(model, text, "punctuation"), lr.freeze(1.0)),
)
local["at words to the mean, then at punctuation to 1"] = float(change_of(both).mean())
pd.Series(local, name="nats a token").round(4).to_frame()

# %% [markdown]
# ## Restore
#
# The other direction: freeze everything, then give one layer back what it had in a clean pass. A layer that
# is merely left alone is not restored: its head reads a stream that the frozen layers below have changed.
# Cache nothing but the increments; a cache of the pattern sends attention through another kernel.

# %%
_, clean = model.run_with_cache(windows, names_filter=lambda name: name.endswith("hook_increments"))
restored = {}
for layer in every_layer:
    frozen = dict.fromkeys(every_layer, lr.layer_mean(fitted))
    restored[f"all but layer {layer}, which keeps its clean increments"] = log_p(
        frozen | {layer: lr.restore(clean)}
    )
restored["all layers"] = log_p(lr.layer_mean(fitted))
assert torch.equal(log_p(lr.restore(clean)), untouched)
pd.Series(
    {name: float((losses(one) - losses(untouched)).mean()) for name, one in restored.items()},
    name="nats a token",
).round(4).to_frame()

# %% [markdown]
# ## Look
#
# Means hide which tokens paid. One bar a byte: above zero the byte became harder to predict.

# %%
labels = [f"{index} {token}" for index, token in enumerate(model.to_str_tokens(text))][1:]
figure = go.Figure()
for name in ("to the layer's mean", "to the byte's mean"):
    figure.add_bar(x=labels, y=change_of(writes[name]).tolist(), name=f"frozen {name}")
figure.update_layout(yaxis_title="change in nats", xaxis_title="byte", height=360, barmode="group")
figure

# %% [markdown]
# Increments act through attention alone, so look there: how many tokens back does each head look on average,
# before and after?


# %%
def look_back() -> torch.Tensor:
    """Mean distance of attention in tokens, [layer, head]."""
    _, cache = model.run_with_cache(windows, names_filter=lambda name: name.endswith("hook_pattern"))
    place = torch.arange(windows.shape[1], dtype=torch.float32)
    patterns = [cache["pattern", layer].float() for layer in every_layer]
    return torch.stack([(place - pattern @ place).mean((0, 2)) for pattern in patterns])


before = look_back()
with lr.ablated(model, lr.layer_mean(fitted)):
    after = look_back()
heads = pd.MultiIndex.from_product([every_layer, range(model.cfg.n_heads)], names=["layer", "head"])
pd.DataFrame(
    {"before": before.flatten(), "frozen to the mean": after.flatten(), "change": (after - before).flatten()},
    index=heads,
).round(2)

# %% [markdown]
# And what it writes, with the same seed. Generation runs inside the block like everything else; what needs
# the whole sequence (`shuffle`, `local_edit`) says so.

# %%
how = {"max_new_tokens": 40, "seed": 0, "verbose": False, "temperature": 0.7}
written = {"untouched": model.generate("The ", **how)}
for name in ("to 1", "to the byte's mean"):
    with lr.ablated(model, writes[name]):
        written[f"frozen {name}"] = model.generate("The ", **how)
pd.Series(written, name="text").to_frame()

# %% [markdown]
# ## What a change does not show
#
# * **That increments are useful.** The weights grew up with these increments; taking them away breaks
#   weights that expect them. A model that had never had them might do as well. To tell *useful* from
#   *co-adapted*, train a fresh model on the frozen increments, and a `fixed` one beside it:
#   `lrope-interp train --increments frozen:RUN`.
# * **That it will hold.** One seed, one model, a few windows, no interval. `lrope-interp ablate` runs every
#   intervention on every layer over held-out documents, with paired bootstrap intervals; layers swap roles
#   between seeds.
# * **Where the information is.** A layer may cost nothing because another one does the same.
