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
# # For people who know TransformerLens
#
# `LRopeTransformer` has HookedTransformer's hook names, parameter names and methods, so what you know
# works. New are two activations a layer. **Increments**: how far each token advances the position
# (ordinary RoPE: 1). **Positions**: their running sum, which the rotary embedding rotates by. This
# notebook reads them, patches them between two prompts, freezes them, and shows the two tools that need
# care.

# %%
from functools import partial

import pandas as pd
import torch
from transformer_lens import patching

import lrope_interp as lr

# %% [markdown]
# ## A model
#
# The newest finished run under `runs/`, else the reference model, which comes with the package.

# %%
model = lr.load()
torch.set_grad_enabled(False)
print(f"{model.folder.name}: {model.cfg.n_layers} layers, increments {model.cfg.increments}")

# %% [markdown]
# ## Cache
#
# `increments[t]` is the step taken on *arriving* at token t: the gap before it. The first one shifts
# everything and so does nothing. Only differences of positions reach attention: compare increments after
# dividing by their layer's mean.

# %%
text = "The cat sat on the mat."
logits, cache = model.run_with_cache(text)
increments = cache.stack_activation("increments")[:, 0]  # [layer, pos]
increments = increments if increments.ndim == 2 else increments.mean(-1)
pd.DataFrame(
    increments[:, 1:] / increments[:, 1:].mean(1, keepdim=True),
    index=[f"layer {layer}" for layer in range(model.cfg.n_layers)],
    columns=pd.Index(model.to_str_tokens(text)[1:]),
).round(2)

# %%
positions = cache["positions", 0]
assert torch.allclose(positions[:, 1:] - positions[:, :-1], cache["increments", 0][:, 1:].double())
positions.dtype  # float64: at 128k tokens, float32 would be off by an eighth

# %% [markdown]
# ## Patch increments between two prompts
#
# The library's own patching works untouched, because the increments live at block level like `resid_pre`.
# Both prompts have equally many bytes; each cell writes one increment of the first prompt into a run on
# the second.

# %%
clean, corrupt = model.to_tokens("The cat sat on the"), model.to_tokens("The dog lay in the")
clean_logits, clean_cache = model.run_with_cache(clean)
answers = [model.to_single_token(letter) for letter in "ms"]


def logit_difference(logits: torch.Tensor) -> torch.Tensor:
    return logits[0, -1, answers[0]] - logits[0, -1, answers[1]]


effect = patching.generic_activation_patch(
    model,
    corrupt,
    clean_cache,
    logit_difference,
    patch_setter=patching.layer_pos_patch_setter,
    activation_name="increments",
    index_axis_names=("layer", "pos"),
) - logit_difference(model(corrupt))
pd.DataFrame(effect, columns=pd.Index(model.to_str_tokens(corrupt[0]))).round(3)

# %% [markdown]
# ## Freeze
#
# Ablating is a hook, never a mode of the model. Freezing to 1 makes ordinary RoPE of that layer, but it
# also changes the scale, since a trained layer's mean may be 2: so freeze to the layer's mean as well,
# and read the two rows together.


# %%
def freeze(increments: torch.Tensor, hook, value: float | None) -> torch.Tensor:
    del hook
    if value is None:  # the mean over positions, the first left out
        return increments[:, 1:].mean(1, keepdim=True).expand_as(increments).clone()
    return torch.full_like(increments, value)


tokens = model.to_tokens("The cat sat on the mat. " * 2)
rows = {"as trained": model(tokens, return_type="loss").item()}
for label, value in (("frozen to 1", 1.0), ("frozen to the layer's mean", None)):
    for layer in range(model.cfg.n_layers):
        hooks = [(f"blocks.{layer}.hook_increments", partial(freeze, value=value))]
        loss = model.run_with_hooks(tokens, return_type="loss", fwd_hooks=hooks)
        rows[f"layer {layer} {label}"] = loss.item()
pd.Series(rows, name="nats a token").round(4).to_frame()

# %% [markdown]
# ## Logit lens
#
# As ever: the residual stream after each layer, read through the final norm and the unembedding.

# %%
lens = cache.logit_lens(top_k=1, positions=None)
assert torch.allclose(cache.logit_lens(positions=None).values[-1], logits, atol=1e-3)
guesses = [[model.to_string([int(token)]) for token in row] for row in lens.readout.top_ids[:, 0, :, 0]]
pd.DataFrame(guesses, index=lens.labels, columns=pd.Index(model.to_str_tokens(text)))

# %% [markdown]
# ## Direct logit attribution: fold first
#
# Attributions sum to the logit only when the final norm's gain is folded into the unembedding. On an
# unfolded model the library's function gives numbers without a warning, and they are wrong.
# `model.fold_ln_()` folds in place; our wrapper folds a copy. Weights are never centred: under RMSNorm
# that would change the function.

# %%
attribution = lr.direct_logit_attribution(model, corrupt, *answers)
assert torch.allclose(attribution.attribution.sum(), logit_difference(model(corrupt)), atol=1e-3)
pd.Series(attribution.attribution[:, 0], attribution.labels, name="logit difference").round(3).to_frame()

# %% [markdown]
# ## Path patching: hold the fifth reader
#
# q, k, v and the MLP read the residual stream; so does the increment head, and what it reads moves every
# later position. Tools that know four readers leave that path open. `held_increments` closes it around
# any of them, and `path_patch` patches exactly the readers you name: here the embedding's change into
# layer 1's increment head alone.

# %%
with lr.held_increments(model, corrupt):
    held = logit_difference(model(clean))
print(f"clean {logit_difference(clean_logits):.3f}, with the other prompt's positions {held:.3f}")
if model.cfg.increments == "per_layer":
    patched = lr.path_patch(model, corrupt, clean, "embed", {"blocks.1.hook_increments_in": None})
    change = logit_difference(patched) - logit_difference(model(corrupt))
    print(f"embedding -> increments of layer 1: {change:+.4f}")

# %% [markdown]
# Which tool works, and why one does not: `docs/transformer-lens.md`. All hook points: `docs/hooks.md`.
