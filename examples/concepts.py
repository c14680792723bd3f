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

import torch

import lrope_interp as lr

# %% [markdown]
# ## A toy, and text that it never saw
#
# A real run does better: `lr.load()` and `lr.select_corpus(model)`.
# The toy is trained for some seconds, and what it says about learned positions is worth nothing.

# %%
ANIMALS = ("cat", "dog", "bird", "horse", "mouse", "goat", "sheep", "duck")
PLACES = ("mat", "lake", "road", "barn", "field", "hill", "river", "wall")


def sentences(seed: int, n: int = 4) -> str:
    draw = random.Random(seed)
    return " ".join(f"The {draw.choice(ANIMALS)} ran to the {draw.choice(PLACES)}." for _ in range(n))


def toy_model(n_steps: int = 60) -> lr.LRopeTransformer:
    torch.manual_seed(0)
    model = lr.LRopeTransformer(
        lr.LRopeConfig(n_layers=2, d_model=32, n_heads=2, d_mlp=64, n_ctx=128, seed=0)
    )
    optimiser = torch.optim.AdamW(model.parameter_groups(0.1, 1e-2, 3.0))
    for batch in range(n_steps):
        texts = [sentences(1_000 * batch + row) for row in range(8)]
        model(model.to_tokens(texts, truncate=True), return_type="loss").backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def documents(first: int, n: int) -> list[lr.Document]:
    return [
        lr.Document(f"made up {seed}", sentences(seed), "made up", "en") for seed in range(first, first + n)
    ]


model = toy_model()
parts = {split: documents(1_000_000 * (1 + k), 30) for k, split in enumerate(("fit", "dev", "test"))}
selection = lr.Selection.of("made up", parts)

# %% [markdown]
# ## Two concepts over the same words
#
# `Spans` are half open and count characters. From a file of your own: `lrope-interp probe --spans FILE`.


# %%
def spans_of(texts, concept_of, names) -> lr.Spans:
    rows = []
    for number, document in enumerate(texts):
        for word in (*ANIMALS, *PLACES):
            start = document.text.find(f" {word}")
            while start >= 0:
                rows.append((number, start + 1, start + 1 + len(word), concept_of(word)))
                start = document.text.find(f" {word}", start + 1)
    return lr.Spans.of(rows, names)


def kind(word: str) -> str:
    return "animal" if word in ANIMALS else "place"


def coin(word: str) -> str:
    return "heads" if hashlib.sha256(word.encode()).digest()[0] % 2 else "tails"


def animals_and_places(texts) -> lr.Spans:
    return spans_of(texts, kind, ("animal", "place"))


def tosses(texts) -> lr.Spans:
    return spans_of(texts, coin, ("heads", "tails"))


real = lr.probe(model, data=selection, spans=animals_and_places)
tossed = lr.probe(model, data=selection, spans=tosses)

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
eraser = lr.fit_eraser(model, fit, animals_and_places(fit), layer=1)
text = selection.test[0].text
hooks = [("blocks.1.hook_increments_in", lr.erase(eraser))]
with torch.inference_mode():
    before = float(model(text, return_type="loss"))
    after = float(model.run_with_hooks(text, return_type="loss", fwd_hooks=hooks))
{"rank": eraser.rank, "loss": round(before, 4), "with the concept erased": round(after, 4)}

# %% [markdown]
# `lr.probe(..., suite="full")` does this for every layer and concept, with random erasures and shuffled
# concepts beside it, and intervals over documents.

# %%
resid = lr.probe(model, data=selection, layers=1, features="resid", spans=animals_and_places)
resid.tables["claims"][COLUMNS].round(3)
