"""What is read off the residual stream during capture, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lrope_interp.data import Document
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.controls import random_heads
from lrope_interp.probes.boundaries.ceiling import HiddenSample, fit_ceilings
from lrope_interp.probes.capture.capture import COSINE, capture, linear_readout
from lrope_interp.probes.capture.controls import (
    UNTRAINED_SEEDS,
    calibration_tokens,
    random_head,
    random_head_readout,
)
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.statistics.logistic import Fits

MakeModel = Callable[..., LRopeTransformer]
SHORT = Document("d", "The 中国 é a.", "x", "en")


def streams(model: LRopeTransformer, document: Document) -> dict[int, np.ndarray]:
    """Return the residual stream before each layer, one row a byte, the first for EOS."""
    tokens = torch.tensor([[256, *document.encoded]])
    _, cache = model.run_with_cache(tokens)
    return {layer: cache["resid_pre", layer][0].numpy() for layer in range(model.cfg.n_layers)}


def test_the_cosine_is_that_of_neighbouring_states_and_a_linear_readout_a_matrix_product(
    tiny_model: LRopeTransformer,
) -> None:
    rng = np.random.default_rng(0)
    weights = {
        layer: (rng.normal(size=(16, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32))
        for layer in (0, 1)
    }
    readouts = (COSINE, linear_readout("probe", weights))
    captured = capture(tiny_model, [SHORT], readouts=readouts, batch_size=3)
    for layer, stream in streams(tiny_model, SHORT).items():
        a, b = stream[1:], stream[:-1]
        wanted = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(captured.readouts["cosine"][layer, 0], wanted, atol=1e-5)
        wanted = stream[1:] @ weights[layer][0] + weights[layer][1]
        np.testing.assert_allclose(captured.readouts["probe"][layer], wanted.T, atol=1e-4)


@pytest.mark.parametrize("config", [{}, {"per_head": True}, {"increments": "shared"}])
def test_a_random_head_reads_the_trained_trunk_with_the_trained_spread(
    make_model: MakeModel, bilingual: Selection, config: dict
) -> None:
    model = make_model(**config)
    layers = [0] if config.get("increments") == "shared" else [0, 1]
    tokens = calibration_tokens(bilingual.fit, model.cfg.n_ctx)
    heads = random_heads(model, tokens, 1)
    reads = (random_head_readout(model, bilingual.fit),)
    captured = capture(model, [SHORT], layers=layers, readouts=reads)
    _, cache = model.run_with_cache(tokens)
    for layer in layers:
        stream = torch.tensor(streams(model, SHORT)[layer])[None]
        pre = heads[layer].read_out(heads[layer].hidden(stream))
        wanted = heads[layer].squash(pre)[0, 1:].detach().numpy().T
        np.testing.assert_allclose(random_head(captured, 1)[layer], wanted, atol=1e-4)
        own = heads[layer].read_out(heads[layer].hidden(cache["resid_pre", layer]))[:, 1:].flatten(0, 1)
        head = (
            model.shared_increments
            if config.get("increments") == "shared"
            else model.blocks[layer].increments
        )
        trained = head.read_out(head.hidden(cache["resid_pre", layer]))[:, 1:].flatten(0, 1)
        torch.testing.assert_close(own.mean(0), trained.mean(0), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(own.std(0), trained.std(0), atol=1e-4, rtol=1e-4)
    seeds = [random_head(captured, seed) for seed in UNTRAINED_SEEDS]
    assert not any(np.allclose(seeds[0], other) for other in seeds[1:])


def test_hidden_states_are_kept_where_they_were_asked_for(
    tiny_model: LRopeTransformer, bilingual: Selection
) -> None:
    gaps = Gaps.of(bilingual.fit, ["words"])
    sample = HiddenSample.of(gaps, n_states=300)
    assert 200 < len(sample.at) <= 300
    captured = capture(tiny_model, bilingual.fit, hidden_at=sample.at, batch_size=7)
    starts = np.cumsum([0] + [one.n_bytes for one in bilingual.fit])
    for number in range(0, len(sample.at), 37):
        at = int(sample.at[number])
        document = int(np.searchsorted(starts, at, side="right")) - 1
        place = at - int(starts[document])
        one = bilingual.fit[document]
        if place + 2 > tiny_model.cfg.n_ctx:
            continue
        wanted = streams(
            tiny_model, Document("p", one.encoded[: place + 1].decode(errors="ignore"), "x", "en")
        )
        if wanted[1].shape[0] == place + 2:
            np.testing.assert_allclose(captured.hidden[1, number], wanted[1][-1], atol=1e-4)
    assert gaps.strata["characters"][sample.gaps].all()
    assert (sample.at[sample.rows("lead")] == sample.gaps).all()
    assert (
        sample.at[sample.rows("last")] == gaps.characters.last[gaps.characters.of_byte[sample.gaps]]
    ).all()


def test_the_sample_does_not_depend_on_the_order_of_documents(bilingual: Selection) -> None:
    def drawn(documents: tuple[Document, ...]) -> set[tuple[str, int]]:
        gaps = Gaps.of(documents, ["words"])
        at = HiddenSample.of(gaps, n_states=200).gaps
        return {(documents[gaps.document[one]].name, int(gaps.t[one])) for one in at}

    assert drawn(bilingual.fit) == drawn(bilingual.fit[::-1])
    everything = Gaps.of(bilingual.fit, ["words"])
    assert set(HiddenSample.of(everything).gaps) == set(np.flatnonzero(everything.strata["characters"]))


def test_a_label_that_one_document_holds_alone_leaves_no_ceiling_and_no_crash(
    tiny_model: LRopeTransformer, bilingual: Selection
) -> None:
    marked = Document("m", "a!" * 60 + "b" * 20, "x", "en")
    documents = (marked, *(Document(f"p{n}", f"word {n} " * 20, "x", "en") for n in range(3)))
    gaps = Gaps.of(documents, ["punctuation", "whitespace"])
    sample = HiddenSample.of(gaps)
    captured = capture(tiny_model, documents, hidden_at=sample.at)
    ceilings = fit_ceilings(captured, gaps, sample, Fits())
    assert {target.label for target, _ in ceilings[0]} <= {"whitespace"}
    assert len(ceilings[0]) == len(ceilings[1])
