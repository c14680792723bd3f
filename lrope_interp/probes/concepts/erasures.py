"""Whether increments use a concept, or it merely can be read from what their head reads.

A family of concepts is erased (LEACE) from the input of one layer's increment head, which nothing else
reads. If the head used the concept, increments change where the concept is, and so may the loss. As
many random dimensions of the same whitened states, erased beside it, say how much any erasure does.
The stricter comparison is the same erasure of shuffled concepts: spans stay where they are, and which
concept each has is drawn. It too takes away whether a byte is in a span at all, as a word is and a
space is not; what LEACE does beyond it has to do with the concept.

What the numbers do not show: a head may read the concept in a way that is not linear and survives;
and what goes along with the concept, as capitals go along with names, is erased with it. Neither
comparison moves states as far as LEACE does; states_moved says how far.

Batches of windows are the outer loop of the passes, as in `ablations.passes`: the untouched model leaves the
residual stream before every layer, so that a pass begins at the layer in which something is erased.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from lrope_interp.data.spans.typed import OTHER
from lrope_interp.errors import LRopeError
from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.probes.capture.cache import model_identity, remembered
from lrope_interp.probes.capture.capture import BATCH_SIZE, Layers, Progress, check_layers, lay_out
from lrope_interp.probes.capture.captured import Captured, DocumentWindow
from lrope_interp.probes.capture.losses import Untouched, at_predictions, at_tokens, over_batches
from lrope_interp.probes.concepts.erasing import MarkedText, by_head, check_has_heads, erase, fit_layers
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.erasure import LeaceEraser
from lrope_interp.probes.statistics.estimates import Estimate, Scoring
from lrope_interp.results import table

LEACE, RANDOM, SHUFFLED = "leace", "random", "shuffled"
DIFFERENCE, BEYOND_SHUFFLED = "difference", "beyond_shuffled"
ALL = "all"
COLUMNS = ("family", "concept", "layer", "arm", "metric", "value", "ci_low", "ci_high", "n")
COLUMNS += ("n_documents", "rank", "seed")

KIND = "erasures"
_BATCHES = "erasure_batches"
_MOST = 16
_COMPARED = {DIFFERENCE: RANDOM, BEYOND_SHUFFLED: SHUFFLED}

Weight: TypeAlias = Int64[np.ndarray, " n_bytes"] | Bool[np.ndarray, " n_bytes"]
Values: TypeAlias = Float64[np.ndarray, " n_bytes"]
Effect: TypeAlias = Mapping[str, Values]
"""What one kind of erasure did at every byte: the "change" of the normalised increment either way, the
increment "before" and "after", and the "nats" that are lost more. All are linear, so that effects can be
averaged and subtracted."""


def erasures(
    model: LRopeTransformer,
    fit: MarkedText,
    test: MarkedText,
    is_scored: Bool[np.ndarray, " _"],
    layers: Layers = None,
    *,
    family: str = "",
    n_random: int = 2,
    n_shuffled: int = 2,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> pd.DataFrame:
    """Erase a family of concepts layer by layer, and measure increments and loss.

    Rows are those of `erasures.csv`: an arm is "leace", "random" or "shuffled" (means over such
    erasures), "difference" (leace - random) or "beyond_shuffled" (leace - shuffled), both paired over
    documents. Increments are divided by their mean on the fit documents and averaged over heads.
    Metrics of a concept:

    * increment_change, increment_change_elsewhere: mean ``|new - old|`` at the concept's bytes, and at
      all others;
    * contrast_before, contrast_after: mean at the first bytes of its spans less that at the first bytes
      of the family's other spans;
    * nats_per_byte, nats_per_byte_concept: how much more is lost, over all scored bytes, and over those
      of its spans and the byte after each.

    Concept "all" has states_moved: how far states move, over how far they lie from their mean (both
    root mean square, on the fit text). Other erasures match the rank, not this. "other" and concepts
    that the fit text or the scored bytes lack have no rows, nor does what has no value, such as the
    contrast of the only concept that is scored. Where all fit spans are of one concept, nothing can be
    shuffled. Gaps before a document's first byte and inside a token do not count as increments.

    Intervals resample documents and take the few drawn erasures as they are. How far increments change
    depends on the draw: intervals of a compared increment_change (also elsewhere) mostly leave 0 out
    even where labels mean nothing. Compare contrast_after.

    Args:
        model: Its layers must have increment heads of their own.
        fit: Text that erasers and mean increments are fitted on.
        test: Other text with the same concepts.
        is_scored: Which of the joined bytes of `test` count.
        layers: In which layers, one at a time; None for all but 0, which reads the embedding.
        family: What the concepts are called together.
        n_random: Random erasures beside each; 0 for none.
        n_shuffled: Erasures of shuffled concepts beside each; 0 for none.
        seed: Of random directions, shuffles and resamples.
        batch_size: Windows at a time; it changes nothing else.
        on_progress: Told "erasers" (the fit) and "erasures" (the passes).

    Raises:
        LRopeError: A model without such heads, no such layer, all fit bytes of one class, concepts that
            differ between texts, or a mask of another length.
    """
    check_has_heads(model)
    _check(fit, test, is_scored)
    layers = check_layers(model, range(1, model.cfg.n_layers) if layers is None else layers, least=0)
    if not layers:
        raise LRopeError("no layer is left to erase in: layers 1 and up are, unless others are named")
    # A shuffle of the concepts for each seed; none where shuffling would change nothing.
    can_shuffle = len(np.unique(fit.spans.concept)) > 1
    shuffles = tuple(_seed(seed, number) for number in range(n_shuffled * can_shuffle))
    fitted, means = fit_layers(model, fit, layers, batch_size, on_progress, shuffles)
    erasers: dict[int, dict[str, list[LeaceEraser]]] = {}
    for layer, (fitter, *shuffled) in fitted.items():
        leace = fitter.eraser()
        seeds = [_seed(seed, layer, number) for number in range(n_random)]
        by_arm = {
            LEACE: [leace],
            RANDOM: [fitter.random_eraser(one, leace.rank) for one in seeds],
            SHUFFLED: [one.eraser() for one in shuffled],
        }
        erasers[layer] = {arm: own for arm, own in by_arm.items() if own}
    in_order = {layer: [one for own in by_arm.values() for one in own] for layer, by_arm in erasers.items()}
    captured = lay_out(model, test.documents, (), predictions=False)
    before, after, nats = run_erased(model, captured, in_order, batch_size, on_progress)
    units = Units.of(captured.document[is_scored])
    scoring, concepts = Scoring(units, Bootstrap(seed)), set(fit.concept_at.tolist())
    found: list[dict[str, Any]] = []
    for at, (layer, (fitter, *_)) in enumerate(fitted.items()):
        known = {"family": family, "layer": layer, "rank": erasers[layer][LEACE][0].rank, "seed": seed}
        moved = {
            arm: float(np.mean([one.distance for one in own])) / fitter.spread
            for arm, own in erasers[layer].items()
        }
        moved |= {name: moved[LEACE] - moved[other] for name, other in _COMPARED.items() if other in moved}
        counted = {"ci_low": np.nan, "ci_high": np.nan, "n": fitter.n, "n_documents": len(fit.documents)}
        for arm, value in moved.items():
            row = {"concept": ALL, "arm": arm, "metric": "states_moved", "value": value}
            found.append(known | row | counted)
        mean = means[at][:, None]
        arms = _arms(before[at] / mean, after[at] / mean, nats[at], erasers[layer])
        rows = _concept_rows(test, captured, is_scored, scoring, arms, concepts)
        found += [known | row for row in rows]
    return table(found, COLUMNS)


def _arms(
    before: Float64[np.ndarray, "heads n_bytes"],
    after: Float64[np.ndarray, "erasers heads n_bytes"],
    nats: Float32[np.ndarray, "erasers n_bytes"],
    erasers: Mapping[str, Sequence[LeaceEraser]],
) -> dict[str, Effect]:
    """Return what each kind of erasure did in one layer on average, and LEACE less the others."""
    change = np.abs(after - before)
    of_eraser = np.array([name for name, own in erasers.items() for _ in own])
    arms: dict[str, Effect] = {}
    for name in erasers:
        own = of_eraser == name
        arms[name] = {
            "change": change[own].mean(axis=(0, 1)),
            "before": before.mean(axis=0),
            "after": after[own].mean(axis=(0, 1)),
            "nats": nats[own].mean(axis=0, dtype=np.float64),
        }
    for name, other in _COMPARED.items():
        if other in arms:
            arms[name] = {key: values - arms[other][key] for key, values in arms[LEACE].items()}
    return arms


def _concept_rows(
    test: MarkedText,
    captured: Captured,
    is_scored: Bool[np.ndarray, " n_bytes"],
    scoring: Scoring,
    arms: Mapping[str, Effect],
    fitted: set[int],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one layer, for concepts that were erased and occur."""

    def mean(values: Values, weight: Weight) -> Estimate:
        return scoring.ratio((values * weight)[is_scored], weight[is_scored].astype(np.float64))

    is_gap = is_scored & (captured.t > 0) & captured.is_token_start
    for number, concept in enumerate(test.spans.concepts):
        is_own, is_of_it = test.concept_at == number, test.spans.concept == number
        if concept == OTHER or number not in fitted or not (is_own & is_scored).any():
            continue
        is_near = np.zeros(captured.n_bytes, dtype=bool)  # in its spans, and at the byte after each
        ends = captured.offsets[1:][test.spans.document[is_of_it]]
        first, past = (edges[is_of_it] for edges in test.edges)
        for start, stop in zip(first.tolist(), np.minimum(past + 1, ends).tolist(), strict=True):
            is_near[start:stop] = True
        starts = [
            np.bincount(test.edges[0][own], minlength=captured.n_bytes) * is_gap
            for own in (is_of_it, ~is_of_it)
        ]
        # What is averaged, over which bytes, and for a contrast over which others it is subtracted.
        measures: dict[str, tuple[str, Weight, Sequence[Weight]]] = {
            "increment_change": ("change", is_gap & is_own, ()),
            "increment_change_elsewhere": ("change", is_gap & ~is_own, ()),
            "contrast_before": ("before", starts[0], starts[1:]),
            "contrast_after": ("after", starts[0], starts[1:]),
            "nats_per_byte": ("nats", is_scored, ()),
            "nats_per_byte_concept": ("nats", is_scored & is_near, ()),
        }
        for arm, values in arms.items():
            for metric, (name, weight, others) in measures.items():
                found = mean(values[name], weight)
                for other in others:
                    found -= mean(values[name], other)
                is_zero = arm in _COMPARED and metric == "contrast_before"
                if not is_zero and not np.isnan(found.value):
                    n_documents = len(np.unique(captured.document[weight > 0]))
                    counts = {"n": int(weight.sum(dtype=np.int64)), "n_documents": n_documents}
                    yield {"concept": concept, "arm": arm, "metric": metric} | found.row() | counts


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _check(fit: MarkedText, test: MarkedText, is_scored: Bool[np.ndarray, " _"]) -> None:
    if fit.spans.concepts != test.spans.concepts:
        raise LRopeError(
            f"the fit text has the concepts {list(fit.spans.concepts)} and the test text "
            f"{list(test.spans.concepts)}; mark both with one family"
        )
    if len(is_scored) != len(test.concept_at):
        raise LRopeError(f"is_scored has {len(is_scored)} bytes and the test text {len(test.concept_at)}")
    if not is_scored.any():
        raise LRopeError("no byte of the test text is scored")


def run_erased(
    model: LRopeTransformer,
    captured: Captured,
    erasers: Mapping[int, Sequence[LeaceEraser]],
    batch_size: int,
    on_progress: Progress | None = None,
) -> tuple[
    Float32[np.ndarray, "layers heads n_bytes"],
    Float32[np.ndarray, "layers erasers heads n_bytes"],
    Float32[np.ndarray, "layers erasers n_bytes"],
]:
    """Run every eraser over every document.

    What a batch gave is remembered, so that a run that was killed goes on there; and so is the whole.

    Args:
        model: With an increment head in each of the layers; it is left as it is.
        captured: What is read: documents and their tokens.
        erasers: One or more for each layer, as many of each; one is at work at a time.
        batch_size: Windows at a time.
        on_progress: Told "erasures", window-passes done, and all of them.

    Returns:
        At the first byte of every token, and 0 at its others: increments of the untouched model; those of the
        layer in which something is erased; how much more is lost, in nats.
    """
    said = {"erasers": {str(layer): [_sha256(one) for one in own] for layer, own in erasers.items()}}

    @torch.inference_mode()
    def run_batch(batch: Sequence[DocumentWindow]) -> dict[str, Float32[np.ndarray, "*rows scored"]]:
        no_words = np.full(len(captured.tokens), -1, dtype=np.int64)
        one = Untouched.of(model, captured, batch, {}, no_words, is_looked_at=False)
        before, after, nats = [], [], []
        for layer, own in erasers.items():
            before.append(at_tokens(by_head(one.clean[f"blocks.{layer}.hook_increments"]), batch))
            erased = [_erased(model, one, layer, eraser) for eraser in own]
            after.append(torch.stack([at_tokens(by_head(increments), batch) for increments, _ in erased]))
            nats.append(torch.cat([at_predictions(lost, batch) for _, lost in erased]))
        found = {"before": before, "after": after, "nats": nats}
        return {name: torch.stack(parts).float().cpu().numpy() for name, parts in found.items()}

    def read() -> dict[str, Float32[np.ndarray, "*rows n_bytes"]]:
        return over_batches(
            model,
            captured,
            said,
            run_batch,
            kind=_BATCHES,
            batch_size=batch_size,
            stage="erasures",
            n_passes=1 + sum(map(len, erasers.values())),
            on_progress=on_progress,
        )

    documents = [one.sha256 for one in captured.documents]
    identity = model_identity(model) | {"documents": documents, "batch_size": max(1, batch_size)} | said
    found = remembered(identity, read, KIND, _MOST)
    return found["before"], found["after"], found["nats"]


def _erased(
    model: LRopeTransformer, one: Untouched, layer: int, eraser: LeaceEraser
) -> tuple[Tensor, Tensor]:
    """Run one eraser on one batch, from its layer on."""
    kept: list[Tensor] = []

    def keep(increments: Tensor, hook: HookPoint) -> None:
        del hook
        kept.append(increments.clone())

    hooks = [
        (f"blocks.{layer}.hook_increments_in", erase(eraser)),
        (f"blocks.{layer}.hook_increments", keep),
    ]
    logits = model.run_with_hooks(
        one.streams[layer], start_at_layer=layer, tokens=one.tokens, fwd_hooks=hooks
    )
    return kept[0], one.compared(logits)[0]


def _sha256(eraser: LeaceEraser) -> str:
    parts = (eraser.mean, eraser.left, eraser.right)
    return hashlib.sha256(b"".join(one.contiguous().numpy().tobytes() for one in parts)).hexdigest()
