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
# # Do increments know concepts?
#
# The published reading of deeper layers is that their gaps group concepts. Here you ask it of spans of your
# own, and you will see the trap at once: *a probe that decodes a concept has shown next to nothing*. Words
# are concepts' best tell-tale, and an increment that knows its word knows the concept of every word that the
# probe has seen.
#
# So the lesson has two concepts that look alike to a probe. One is real in a small way: animals and places
# stand in different slots of a sentence. The other is a coin toss for each word.

# %%
import hashlib
import random
from dataclasses import replace

import torch

from lrope_interp import LRopeConfig, LRopeTransformer
from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.concepts.concepts import concepts
from lrope_interp.probes.concepts.erasing import erase, fit_eraser
from lrope_interp.probes.concepts.options import ConceptOptions

# %% [markdown]
# ## A toy, and text that it never saw
#
# A real run does better: `LRopeTransformer.from_pretrained(run)` and `select_corpus(read_manifest(run))`.
# The toy is trained for some seconds, and what it says about learned positions is worth nothing.

# %%
ANIMALS = ("cat", "dog", "bird", "horse", "mouse", "goat", "sheep", "duck")
PLACES = ("mat", "lake", "road", "barn", "field", "hill", "river", "wall")


def sentences(seed: int, n: int = 4) -> str:
    draw = random.Random(seed)
    return " ".join(f"The {draw.choice(ANIMALS)} ran to the {draw.choice(PLACES)}." for _ in range(n))


def toy_model(n_steps: int = 60) -> LRopeTransformer:
    torch.manual_seed(0)
    model = LRopeTransformer(LRopeConfig(n_layers=2, d_model=32, n_heads=2, d_mlp=64, n_ctx=128, seed=0))
    optimiser = torch.optim.AdamW(model.parameter_groups(0.1, 1e-2, 3.0))
    for batch in range(n_steps):
        texts = [sentences(1_000 * batch + row) for row in range(8)]
        model(model.to_tokens(texts, truncate=True), return_type="loss").backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def documents(first: int, n: int) -> list[Document]:
    return [Document(f"made up {seed}", sentences(seed), "made up", "en") for seed in range(first, first + n)]


model = toy_model()
parts = {split: documents(1_000_000 * (1 + k), 30) for k, split in enumerate(("fit", "dev", "test"))}
selection = Selection.of("made up", parts)

# %% [markdown]
# ## Two concepts over the same words
#
# `Spans` are half open and count characters. From a file of your own: `lrope-interp probe --spans FILE`.


# %%
def spans_of(texts, concept_of, names) -> Spans:
    rows = []
    for number, document in enumerate(texts):
        for word in (*ANIMALS, *PLACES):
            start = document.text.find(f" {word}")
            while start >= 0:
                rows.append((number, start + 1, start + 1 + len(word), concept_of(word)))
                start = document.text.find(f" {word}", start + 1)
    return Spans.of(rows, names)


def kind(word: str) -> str:
    return "animal" if word in ANIMALS else "place"


def coin(word: str) -> str:
    return "heads" if hashlib.sha256(word.encode()).digest()[0] % 2 else "tails"


options = ConceptOptions(layers=(0, 1))
real = concepts(model, selection, options, spans=lambda texts: spans_of(texts, kind, ("animal", "place")))
tossed = concepts(model, selection, options, spans=lambda texts: spans_of(texts, coin, ("heads", "tails")))

# %% [markdown]
# ## The claim, and what speaks against it
#
# `auc` is what a paper would report. `best_control` is what gives as much for nothing, `type_auc` what is
# left on words that the probe has not seen, and `verdict` holds only if the features beat every control on
# both, and are selective.

# %%
COLUMNS = [
    "concept",
    "layer",
    "auc",
    "best_control",
    "best_control_auc",
    "type_auc",
    "selectivity",
    "verdict",
]
real.tables["claims"][COLUMNS].round(3)

# %%
tossed.tables["claims"][COLUMNS].round(3)

# %% [markdown]
# A coin toss is decoded too, until the words are new: nothing is evidence that does not survive that. Animals
# and places do survive it here, and a control wins all the same: a place stands before a full stop, and the
# bytes around it tell as much.

# %%
assert (tossed.tables["claims"]["verdict"] == "control wins").all()

# %% [markdown]
# ## Is it used? Erase it
#
# LEACE takes a concept out of what the increment head of one layer reads, and out of nothing else: queries,
# keys, values and the MLP see the untouched stream. Compare with a random erasure, and with the loss.

# %%
fit = list(selection.fit)
eraser = fit_eraser(model, fit, spans_of(fit, kind, ("animal", "place")), layer=1)
text = selection.test[0].text
hooks = [("blocks.1.hook_increments_in", erase(eraser))]
with torch.inference_mode():
    before = float(model(text, return_type="loss"))
    after = float(model.run_with_hooks(text, return_type="loss", fwd_hooks=hooks))
{"rank": eraser.rank, "loss": round(before, 4), "with the concept erased": round(after, 4)}

# %% [markdown]
# `ConceptOptions(suite="full")` does this for every layer and concept, with random erasures and shuffled
# concepts beside it, and intervals over documents.

# %%
hidden = replace(options, features=("resid",), layers=(1,))
resid = concepts(model, selection, hidden, spans=lambda texts: spans_of(texts, kind, ("animal", "place")))
resid.tables["claims"][COLUMNS].round(3)
