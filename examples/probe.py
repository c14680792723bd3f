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
# # Probe: do increments know concepts?
#
# Deeper layers' gaps, as published, group concepts. But *a probe that decodes a concept has shown next to
# nothing*: increments that tell words apart tell the concept of every word that the probe has seen. So ask
# of two concepts. **Capitals** are real: a word never seen shows them too. **A coin**, tossed once per
# word, is not.

# %%
import hashlib
import re

import pandas as pd
import torch

import lrope_interp as lr

model = lr.load()  # the newest finished run under ./runs, else the one that ships: "reference"
model

# %% [markdown]
# ## Two concepts over the same words
#
# Spans are half open and count characters. A file of your own goes in as `spans="my-spans.jsonl"`.


# %%
def spans_of(documents, names, name_of) -> lr.Spans:
    rows = []
    for number, document in enumerate(documents):
        for word in re.finditer("[A-Za-z]{3,}", document.text):
            rows.append((number, word.start(), word.end(), names[name_of(word[0])]))
    return lr.Spans.of(rows, names)


def capitals(documents) -> lr.Spans:
    return spans_of(documents, ("small", "capital"), lambda word: word[0].isupper())


def coin(documents) -> lr.Spans:
    def toss(word: str) -> int:
        return hashlib.sha256(word.lower().encode()).digest()[0] % 2

    return spans_of(documents, ("heads", "tails"), toss)


most = {"fit": 48_000, "dev": 12_000, "test": 12_000}
held_out = lr.select_corpus(model, max_bytes=most, spread=True)
real = lr.probe(model, data=held_out, spans=capitals, layers=1, max_spans=1_500)
real

# %%
tossed = lr.probe(model, data=held_out, spans=coin, layers=1, max_spans=1_500)
tossed

# %% [markdown]
# ## Words that the probe has not seen
#
# `type_auc` is what is left on new words. Of the coin nothing is: what falls to 0.5 was no evidence.
# Capitals stay, and lose all the same where a control wins, such as the bytes of the span. A claim must beat
# **every** control on both, and be selective: do better than on random labels of words, such as the coin.

# %%
claims = pd.concat([real.frame("claims"), tossed.frame("claims")]).set_index("concept")
claims[["auc", "type_auc", "best_control", "best_control_auc", "selectivity", "verdict"]].round(3)

# %% [markdown]
# ## Is it used? Erase it
#
# Decoding is not use. LEACE takes the concept out of what one increment head reads, and nothing else:
# attention and the MLP see the untouched stream. If the loss stays, the increments did not need it.

# %%
fit = held_out.fit
hooks = [("blocks.1.hook_increments_in", lr.erase(lr.fit_eraser(model, fit, capitals(fit), layer=1)))]
tokens = model.to_tokens(held_out.test[0].text, truncate=True)
with torch.inference_mode():
    before = float(model(tokens, return_type="loss"))
    after = float(model.run_with_hooks(tokens, return_type="loss", fwd_hooks=hooks))
{"nats per token": round(before, 4), "with capitals erased": round(after, 4)}

# %% [markdown]
# One text, no interval, no random erasure beside it: a recipe, not a result.
#
# * `suite="full"`: n-grams and place as controls, erasures in every layer, beside random and shuffled ones.
# * `features="resid"`: the hidden state before the layer.
# * [`lr.probe(model)`](../docs/commands/probe.md): what the corpus itself marks.
# * [What our models show](../docs/evidence.md): a control wins nearly everywhere.
