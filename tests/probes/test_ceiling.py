"""What is read off the residual stream during capture, and the supervised probe on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lrope_interp.data import Document
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.controls import random_heads
from lrope_interp.probes.boundaries import ceiling
from lrope_interp.probes.boundaries.ceiling import (
    REGULARISATIONS,
    HiddenSample,
    LinearProbe,
    fit_ceilings,
    fit_probe,
)
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
from lrope_interp.probes.statistics.ranking import roc_auc

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
    # A gap within a character has no label, and Han has a probe of its own.
    for target, _ in ceilings[0]:
        assert {*target.strata} == {*gaps.strata} - {"bytes", "han"}


def planted(seed: int = 0, n: int = 4000, m: int = 12, strength: float = 1.5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(n // 100), 100)
    scale = np.logspace(-2, 2, m)
    raw = rng.normal(size=(n, m)) + 0.3 * rng.normal(size=(n // 100, m))[document]
    is_boundary = rng.random(n) < 1 / (1 + np.exp(1 - strength * (raw[:, 0] - raw[:, 1])))
    return (raw * scale + 5 * scale).astype(np.float32), is_boundary, document


def fitted(*given: np.ndarray) -> LinearProbe:
    probe = fit_probe(*given, Fits())
    assert probe is not None
    return probe


def test_a_planted_direction_is_found_and_calibrated_whatever_the_units() -> None:
    hidden, is_boundary, document = planted()
    probe = fitted(hidden, is_boundary, document)
    other, truth, _ = planted(seed=1)
    scale = np.logspace(-2, 2, 12)
    best = roc_auc(other[:, 0] / scale[0] - other[:, 1] / scale[1], truth)
    assert roc_auc(other @ probe.weight, truth) == pytest.approx(best, abs=0.01)
    assert probe.held_out_auc == pytest.approx(best, abs=0.03)
    direction = probe.weight * scale
    assert np.abs(direction[:2]).min() > 5 * np.abs(direction[2:]).max()
    assert probe.regularisation in REGULARISATIONS
    chance = 1 / (1 + np.exp(-(hidden @ probe.weight + probe.bias)))
    assert chance.mean() == pytest.approx(is_boundary.mean(), abs=0.01)


def test_noise_is_worth_one_half_on_documents_held_out() -> None:
    hidden, _, document = planted(m=40)
    noise = np.random.default_rng(3).random(len(document)) < 0.3
    assert fitted(hidden, noise, document).held_out_auc == pytest.approx(0.5, abs=0.06)


def test_perfect_separation_and_constant_dimensions_give_a_finite_probe() -> None:
    hidden, _, document = planted()
    hidden[:, 3] = 7.0
    is_boundary = hidden[:, 0] > np.quantile(hidden[:, 0], 0.8)
    probe = fitted(hidden, is_boundary, document)
    assert np.isfinite(probe.weight).all()
    assert probe.weight[3] == 0
    assert probe.held_out_auc > 0.99


def test_one_kind_of_gap_a_single_document_or_a_constant_state_has_no_probe() -> None:
    hidden, is_boundary, document = planted(n=500)
    for given in (
        (hidden, np.ones_like(is_boundary), document),
        (hidden, np.zeros_like(is_boundary), document),
        (hidden, is_boundary, np.zeros_like(document)),
        (np.ones_like(hidden), is_boundary, document),
        (hidden[:0], is_boundary[:0], document[:0]),
    ):
        assert fit_probe(*given, Fits()) is None


def test_a_fit_that_did_not_converge_is_used_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, is_boundary, document = planted(n=1000)
    fits = Fits()
    fit_probe(hidden, is_boundary, document, fits)
    assert (fits.n, fits.notes("probes")) == (len(REGULARISATIONS) + 1, [])
    monkeypatch.setattr(ceiling, "MAX_ITERATIONS", 1)
    assert fit_probe(hidden, is_boundary, document, fits) is not None
    assert fits.n_unconverged > 0
    said = f"{fits.n_unconverged} of {fits.n} probes did not converge; their scores are a little too low"
    assert fits.notes("probes") == [said]


def test_the_order_of_documents_does_not_change_the_probe() -> None:
    hidden, is_boundary, document = planted(n=2000)
    at = np.argsort(-document, kind="stable")
    one, other = (
        fitted(hidden, is_boundary, document),
        fitted(hidden[at], is_boundary[at], 19 - document[at]),
    )
    assert one.weight == pytest.approx(other.weight, rel=1e-3, abs=1e-6)
    assert one.held_out_auc == pytest.approx(other.held_out_auc, abs=1e-6)
