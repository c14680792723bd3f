"""Pack a run as the reference model that comes with the package: `python -m benchmarks.reference RUN`.

What is written is a run folder that `from_pretrained` reads: weights in half precision, `config.json`,
`tokenizer.json`, `run.json`, `data.json` (the hashes by which analyses tell what the model never saw), a
card, and a sample of held-out English. Of two half precisions that one is taken that changes held-out loss
and increments less; both are printed. No text that may not be copied is written: Chinese is scored here,
and only its loss is in the card.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lrope_interp.data import (
    MANIFEST_FILE,
    Corpus,
    Document,
    evaluation_documents,
    load_corpus_for,
    piece_of,
    read_manifest,
    shared_shingles,
)
from lrope_interp.folders import write_json_atomically, write_text_atomically
from lrope_interp.hub import CARD_FILE, SAMPLE_FILE
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_config, save_tensors
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.evaluation.evaluation import evaluate
from lrope_interp.runs import RUN_FILE, SHIPPED, Run, read_run, timestamp
from lrope_interp.tokenizers import TOKENIZER_FILE

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
SAMPLE_PIECES = {"fit": 22_000, "dev": 13_000, "test": 25_000}
"""Bytes of the sample, by split: a piece of equal length of every document."""
PIECES_TRIED = 40
SPOKEN = {"en": "English", "zh": "Chinese", "all": "both"}


def source(run: Run) -> tuple[Path, int]:
    """Return the folder of a run's weights, and how many steps they have behind them."""
    if run.is_finished:
        return run.folder, int(run.summary["step"])
    checkpoints = sorted((run.folder / "checkpoints").glob("step-*"))
    whole = [one for one in checkpoints if (one / "state.json").is_file() and (one / WEIGHTS_FILE).is_file()]
    if not whole:
        raise SystemExit(f"{run.folder} has no checkpoint yet")
    return whole[-1], int(json.loads((whole[-1] / "state.json").read_text())["step"])


def halved(model: LRopeTransformer, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the weights as they are stored: in half precision, but for the increment heads."""
    return {
        name: one.detach() if "increments" in name else one.detach().to(dtype)
        for name, one in model.named_parameters()
    }


def rounding(model: LRopeTransformer, documents: Sequence[Document]) -> dict[str, dict[str, float]]:
    """Return how far each half precision moves loss and increments on held-out text, read in float32."""
    before = capture(model, documents)
    rows = {}
    for name, dtype in HALVES.items():
        rounded = copy.deepcopy(model)
        with torch.no_grad():
            stored = halved(model, dtype)
            for key, parameter in rounded.named_parameters():
                parameter.copy_(stored[key])
        after = capture(rounded, documents)
        moved = np.abs(_increments(after) - _increments(before))
        rows[name] = {
            "loss": float(after.surprisal.mean(dtype=np.float64) - before.surprisal.mean(dtype=np.float64)),
            "loss_of_a_byte": float(np.abs(after.surprisal - before.surprisal).mean(dtype=np.float64)),
            "increment_mean": float(moved.mean()),
            "increment_max": float(moved.max()),
        }
    return rows


def _increments(captured: Captured) -> np.ndarray:
    return np.asarray(captured.increments, dtype=np.float64)


def sample_of(corpus: Corpus, training: Sequence[Document], language: str) -> list[dict[str, str]]:
    """Return a piece of every held-out document, none of which shares 64 bytes in a row with training text.

    Pieces are cut at white space. A document whose pieces all repeat training text gives none.

    Args:
        corpus: As the model may be tested on it.
        training: What the model was trained on, in the same language.
        language: Of the documents.
    """
    rows = []
    for split, n_bytes in SAMPLE_PIECES.items():
        documents = sorted(
            (one for one in corpus.documents(split) if one.language == language), key=lambda one: one.sha256
        )
        length = n_bytes // len(documents)
        tried = [[_cut(one, length, k) for k in range(PIECES_TRIED)] for one in documents]
        flat = [piece for pieces in tried for piece in pieces]
        masks = iter(shared_shingles(flat, training).masks)
        for document, pieces in zip(documents, tried, strict=True):
            clean = [piece for piece in pieces if not next(masks).any()]
            if clean:
                rows.append(
                    {
                        "text": clean[0].text,
                        "name": clean[0].name,
                        "part": document.corpus,
                        "language": language,
                        "cut_from": document.sha256,
                    }
                )
    return rows


def _cut(document: Document, length: int, k: int) -> Document:
    """Return the `k`-th try of a piece: at the place that its hash chooses, then evenly over the document."""
    if k == 0:
        piece = piece_of(document, length)
        first = document.text.index(piece.text)
    else:
        first = k * max(0, len(document.text) - length) // PIECES_TRIED
    first = document.text.find(" ", first) + 1 if first else 0
    text = document.text[first : first + length].rpartition(" ")[0]
    return Document(f"{document.name}[{first}:{first + len(text)}]", text, document.corpus, document.language)


def pack(
    folder: Path,
    out: Path,
    *,
    unfinished: bool = False,
    max_bytes: int = 40_000,
    scored_bytes: int = 200_000,
    language: str = "en",
) -> None:
    """Write the package data of a run.

    Args:
        folder: The run.
        out: Where to; what lies there goes.
        unfinished: Take its newest checkpoint, if it is not finished.
        max_bytes: Of each language, on which the precision is chosen.
        scored_bytes: Of each language, for the loss in the card.
        language: Of the sample.
    """
    run = read_run(folder, allow_unfinished=unfinished)
    weights, steps = source(run)
    model, manifest = LRopeTransformer.from_pretrained(weights), read_manifest(run.folder)
    corpus = load_corpus_for(manifest).held_out_from(manifest)
    print(f"{weights}: {steps:,} of {run.n_steps:,} steps")

    rows = rounding(model, evaluation_documents(corpus, "test", max_bytes, spread=True))
    for name, row in rows.items():
        print(name, "  ".join(f"{key} {value:.3g}" for key, value in row.items()))
    best = min(rows, key=lambda name: (rows[name]["loss_of_a_byte"], rows[name]["increment_mean"]))
    training = [one for one in corpus.documents("train") if one.language == language]
    sample = sample_of(corpus, training, language)

    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    config = read_config(run.folder)
    write_json_atomically(out / CONFIG_FILE, {**config, "stored_as": best})  # its dtype stays float32
    save_tensors(halved(model, HALVES[best]), out / WEIGHTS_FILE)
    for name in (MANIFEST_FILE, TOKENIZER_FILE):
        shutil.copyfile(run.folder / name, out / name)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in sample)
    write_text_atomically(out / SAMPLE_FILE, "".join(lines))
    packed = {"steps": steps, "of_steps": run.n_steps, "is_finished": run.is_finished, "stored_as": best}
    finished = run.info.get("finished") or timestamp()
    info = {**run.info, "status": "finished", "finished": finished, "n_steps": steps, "packed": packed}
    write_json_atomically(out / RUN_FILE, info)

    loaded = LRopeTransformer.from_pretrained(out)  # what is scored is what is shipped
    scores = (
        evaluate(loaded, max_bytes=scored_bytes).tables["languages"].set_index("language").to_dict("index")
    )
    overall = scores["all"]["nats_per_byte"]
    summary = {"step": steps, "validation_bytes": int(scores["all"]["n_bytes"])}
    summary |= {"validation_nats_per_byte": overall, "validation_bits_per_byte": overall / math.log(2)}
    write_json_atomically(out / RUN_FILE, info | {"summary": summary})
    write_text_atomically(out / CARD_FILE, card(run, steps, config, scores, best, rows[best], sample))
    total = sum(one.stat().st_size for one in out.iterdir())
    for one in sorted(out.iterdir()):
        print(f"{one.stat().st_size:>12,}  {one.name}")
    print(f"{total:>12,}  in all")


def card(
    run: Run,
    steps: int,
    config: Mapping[str, Any],
    scores: Mapping[Any, Mapping[str, Any]],
    stored_as: str,
    moved: Mapping[str, float],
    sample: Sequence[Mapping[str, str]],
) -> str:
    """Return the model's card."""
    shape, how = config["model"], config["training"]
    tokens = steps * how["batch_size"] * how["grad_accumulation"] * how["n_ctx"]
    done = f"{steps:,} steps"
    if not run.is_finished:
        done += (
            f" of {run.n_steps:,}: **training is not finished**, so that its learning rate has not decayed"
        )
    lines = []
    for name, row in sorted(scores.items()):
        nats = row["nats_per_byte"]
        interval = f"[{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
        sizes = f"{row['n_bytes']:,} | {row['n_documents']}"
        lines.append(
            f"| {SPOKEN.get(name, name)} | {nats:.3f} | {nats / math.log(2):.3f} | {interval} | {sizes} |"
        )
    epochs = {name: share * steps / run.n_steps for name, share in run.info["epochs"].items()}
    seen = " and ".join(f"{share:.1f} times {name.replace('_', ' ')}" for name, share in epochs.items())
    n_bytes = sum(len(row["text"].encode()) for row in sample)
    return f"""---
library_name: lrope-interp
language: [en, zh]
tags: [interpretability, rotary-position-embeddings]
---

# The reference model of lrope-interp

A decoder that learns, in every layer, how far each byte advances the position that rotary embeddings rotate
by: something to look at without training first.

```python
import lrope_interp as lr

model = lr.load("reference")
```

| | |
|---|---|
| shape | {shape["n_layers"]} layers, d_model {shape["d_model"]}, {shape["n_heads"]} heads, \
d_mlp {shape["d_mlp"]}, n_ctx {shape["n_ctx"]}; {run.info["n_parameters"]:,} parameters |
| increments | `{shape["increments"]}`, in (0, {shape["max_increment"]:g}) |
| tokens | bytes and EOS; {tokens:,} in {done} |
| data | `{run.info["data"]}`: addresses of US presidents to Congress and People's Daily (January 1998), \
each training window of either with probability one half; {seen} |
| schedule | {how["schedule"]}, warm-up {how["warmup"]:,} steps, peak {how["lr"]:g}; AdamW, weight decay \
{how["weight_decay"]:g}; {how["batch_size"] * how["grad_accumulation"]} windows a step, in {how["dtype"]} |
| seed | {how["seed"]} |
| stored as | {stored_as}, increment heads float32; read as float32. Held-out loss moves by \
{moved["loss"]:+.1e} nats per byte, an increment by {moved["increment_mean"]:.1e} in the mean and \
{moved["increment_max"]:.1e} at most |

## Loss on held-out text

| | nats per byte | bits per byte | 95 % (nats) | bytes | documents |
|---|---|---|---|---|---|
{chr(10).join(lines)}

## Beside it

`data.json` has the sha256 of every document that the model was trained on, and of those held out; analyses
refuse the first. `sample.jsonl` has {len(sample)} pieces of as many held-out English speeches ({n_bytes:,}
bytes), none of which shares 64 bytes in a row with the English training text: analyses read it where the
corpora are not installed.

## Limits

Small, and of two kinds of text, both formal: addresses to Congress, and one month of one newspaper. One seed.
It is here for its increments, and writes no text worth reading. Nothing that it shows says anything about
large models.

## Licence

It comes with lrope-interp, under the licence of the package (MIT). The speeches are works of the US
government, in the public domain. The text of People's Daily is for research and is not shipped: of it there
are these weights alone.
"""


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument(
        "--unfinished", action="store_true", help="its newest checkpoint, if it is not finished"
    )
    parser.add_argument("--out", type=Path, default=SHIPPED, help="default: the package's own folder")
    parser.add_argument(
        "--max-bytes", type=int, default=40_000, help="a language, to choose the precision on"
    )
    parser.add_argument("--scored-bytes", type=int, default=200_000, help="a language, for the card's loss")
    asked = parser.parse_args()
    pack(
        asked.run,
        asked.out,
        unfinished=asked.unfinished,
        max_bytes=asked.max_bytes,
        scored_bytes=asked.scored_bytes,
    )


if __name__ == "__main__":
    main()
