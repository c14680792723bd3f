"""Interventions in every kind of forward pass: batches, padding, later starts, caches, longer tokens."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from intervention_samples import (
    EOS,
    FIT,
    LEARNED,
    MODES,
    OTHER,
    TEXT,
    MakeModel,
    change,
    fitted_on,
    increments_of,
    logits_of,
    model_of,
    tokens_of,
)
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.attach import ablated, ablation_hooks
from lrope_interp.probes.ablations.interventions import (
    Intervention,
    at,
    circular_shift,
    freeze,
    layer_mean,
    lexical_mean,
    local_edit,
    same_byte_resample,
    shuffle,
)
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics, fit_increments
from lrope_interp.tokenizers.bpe import train_bpe

TOKENS = tokens_of(TEXT, OTHER, TEXT[::-1])
WRITTEN: dict[str, Callable[[IncrementStatistics], Intervention]] = {
    "one": lambda _: freeze(1.0),
    "mean": layer_mean,
    "lexical": lexical_mean,
    "resample": same_byte_resample,
    "shuffle": lambda _: shuffle(),
    "shift": lambda _: circular_shift(),
    "local": lambda fitted: local_edit(lexical_mean(fitted)),
}


def ablated_logits(model: LRopeTransformer, written: Intervention, given: Tensor, **how: object) -> Tensor:
    return logits_of(model, given, ablation_hooks(written, model=model), **how)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("mode", LEARNED)
def test_a_row_alone_is_the_row_in_a_batch(make_model: MakeModel, mode: str, name: str) -> None:
    model = model_of(make_model, mode)
    written = WRITTEN[name](fitted_on(model))
    together = ablated_logits(model, written, TOKENS)
    for row in range(len(TOKENS)):
        alone = ablated_logits(model, written, TOKENS[row : row + 1])
        assert change(alone, together[row : row + 1]) < 1e-4
    if mode != "shared" or name not in ("lexical", "resample", "local"):
        assert change(together, logits_of(model, TOKENS)) > 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("mode", LEARNED)
def test_padding_that_is_masked_changes_nothing(
    make_model: MakeModel, mode: str, name: str, side: str
) -> None:
    model = model_of(make_model, mode)
    written = WRITTEN[name](fitted_on(model))
    tokens = tokens_of(TEXT)
    pads = torch.full((1, 7), EOS)
    zeros, ones = torch.zeros_like(pads), torch.ones_like(tokens)
    order = slice(None, None, 1 if side == "left" else -1)
    padded = torch.cat([pads, tokens][order], dim=1)
    mask = torch.cat([zeros, ones][order], dim=1)
    got = ablated_logits(model, written, padded, attention_mask=mask)
    wanted = ablated_logits(model, written, tokens)
    assert change(got[mask.bool()], wanted[0]) < 1e-4


def test_padding_keeps_its_increments_and_the_first_token_too(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    tokens = torch.cat([torch.full((1, 5), EOS), tokens_of(TEXT), torch.full((1, 4), EOS)], dim=1)
    mask = torch.tensor([[0] * 5 + [1] * 32 + [0] * 4])
    for written in (shuffle(), circular_shift(), circular_shift(4)):
        with ablated(model, written, layers=0), torch.no_grad():
            _, cache = model.run_with_cache(tokens, attention_mask=mask)
        got, own = cache["increments", 0][0].numpy(), increments_of(model, tokens, 0)[0, :, 0]
        stays = [*range(6), *range(37, 41)]
        assert np.array_equal(got[stays], own[stays])
        assert not np.array_equal(got, own)
        assert sorted(got[6:37]) == sorted(own[6:37])


def test_a_compensated_edit_is_taken_back_behind_a_hole_in_the_mask(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    mask = torch.ones(1, 32, dtype=torch.long)
    mask[0, [0, 1, 6, 7, 8]] = 0
    edit = local_edit(at((torch.arange(32) == 5)[None], freeze(9.0)))
    positions = []
    for hooks in ([], ablation_hooks(edit, layers=0)):
        with model.hooks(fwd_hooks=hooks), torch.no_grad():
            positions.append(model.run_with_cache(tokens_of(TEXT), attention_mask=mask)[1]["positions", 0][0])
    moved = (positions[1] - positions[0]).abs()
    assert float(moved[5]) > 1
    assert float(moved[9:].max()) < 1e-5
    assert float(moved[:5].max()) == 0


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("mode", MODES)
def test_starting_at_a_later_layer_is_the_whole_pass(make_model: MakeModel, mode: str, name: str) -> None:
    model = model_of(make_model, mode)
    hooks = ablation_hooks(WRITTEN[name](fitted_on(model)), layers=[1, 2])
    whole = logits_of(model, TOKENS, hooks)
    with torch.no_grad():
        resid = model(TOKENS, stop_at_layer=1)
    assert torch.equal(logits_of(model, resid, hooks, start_at_layer=1, tokens=TOKENS), whole)


@pytest.mark.parametrize("name", ["lexical", "resample", "shuffle", "shift", "local"])
def test_what_needs_tokens_says_so_where_there_are_none(make_model: MakeModel, name: str) -> None:
    model = model_of(make_model, "per_layer")
    with torch.no_grad():
        resid = model(TOKENS, stop_at_layer=1)
    hooks = ablation_hooks(WRITTEN[name](fitted_on(model)), layers=[1])
    with pytest.raises(LRopeError, match="give tokens= beside start_at_layer"):
        logits_of(model, resid, hooks, start_at_layer=1)
    logits_of(model, resid, ablation_hooks(layer_mean(fitted_on(model)), layers=[1]), start_at_layer=1)


@pytest.mark.parametrize("pieces", [[1] * 8 + [24], [10, 1, 21]], ids=str)
@pytest.mark.parametrize("name", ["one", "mean", "lexical"])
@pytest.mark.parametrize("mode", MODES)
def test_a_cache_goes_on_as_the_whole_sequence(
    make_model: MakeModel, mode: str, name: str, pieces: list[int]
) -> None:
    model = model_of(make_model, mode)
    written = WRITTEN[name](fitted_on(model))
    whole = ablated_logits(model, written, TOKENS)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, len(TOKENS))
    with ablated(model, written), torch.no_grad():
        parts = [model(part, past_kv_cache=cache) for part in TOKENS.split(pieces, dim=1)]
    assert change(torch.cat(parts, dim=1), whole) < 1e-4


@pytest.mark.parametrize("name", ["shuffle", "shift", "local"])
def test_what_needs_the_whole_sequence_says_so(make_model: MakeModel, name: str) -> None:
    model = model_of(make_model, "per_layer")
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, len(TOKENS))
    hooks = ablation_hooks(WRITTEN[name](fitted_on(model)), model=model)
    whole = logits_of(model, TOKENS, hooks)
    first = logits_of(model, TOKENS[:, :20], hooks, past_kv_cache=cache)
    if name == "local":
        assert change(first, whole[:, :20]) < 1e-4
    with pytest.raises(LRopeError, match="needs the whole sequence: run it without past_kv_cache"):
        logits_of(model, TOKENS[:, 20:], hooks, past_kv_cache=cache)


def test_a_resample_goes_on_with_a_cache_and_draws_from_the_same_bytes(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    fitted = fitted_on(model)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, 1)
    drawn: list[float] = []
    repeated = torch.tensor([[EOS, *b"aaaaaaaaaaaaaaaaaaaa"]])
    with ablated(model, same_byte_resample(fitted), layers=2), torch.no_grad():
        for column in repeated.split(1, dim=1):
            _, seen = model.run_with_cache(column, past_kv_cache=cache)
            drawn.append(float(seen["increments", 2]))
    own = fitted.values[2, 0, fitted.first[ord("a")] : fitted.first[ord("a") + 1]]
    assert set(drawn[1:]) <= set(own.tolist())
    assert len(set(drawn[1:])) > 2, "a token at another place draws anew"


@pytest.mark.parametrize(
    "text", ["", "T", "Th", "The"], ids=["no token", "one token", "two tokens", "three tokens"]
)
def test_the_shortest_sequences_go_through(make_model: MakeModel, text: str) -> None:
    model = model_of(make_model, "per_head")
    tokens = tokens_of(text)
    for name, made in WRITTEN.items():
        assert ablated_logits(model, made(fitted_on(model)), tokens).isfinite().all(), name
    if len(text) < 2:
        assert torch.equal(ablated_logits(model, shuffle(), tokens), logits_of(model, tokens))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_of_another_dtype_get_increments_of_float32(
    make_model: MakeModel, dtype: torch.dtype
) -> None:
    model = model_of(make_model, "per_layer")
    fitted = fitted_on(model)
    other = make_model(n_layers=3).to(dtype)
    for name, made in WRITTEN.items():
        assert ablated_logits(other, made(fitted), TOKENS).isfinite().all(), name


def test_tokens_longer_than_a_byte_have_means_of_their_own(make_model: MakeModel) -> None:
    texts = [document.text for document in FIT] * 9
    tokenizer = train_bpe(texts, 280)
    model = make_model(n_layers=3, n_ctx=64, d_vocab=tokenizer.vocab_size)
    model.tokenizer = tokenizer
    documents = [Document(f"d{n}", text, "made up", "en") for n, text in enumerate(texts[:4])]
    fitted = fit_increments(model, documents)
    tokens = model.to_tokens(texts[1])
    assert tokens.shape[1] < len(texts[1]), "no token is longer than a byte"
    own: dict[int, list[float]] = {}
    for document in documents:
        ids = model.to_tokens(document.text)
        for token, value in zip(ids[0, 1:].tolist(), increments_of(model, ids, 2)[0, 1:, 0], strict=True):
            own.setdefault(token, []).append(value)
    with ablated(model, lexical_mean(fitted), layers=2):
        written = increments_of(model, tokens, 2)[0, 1:, 0]
    np.testing.assert_allclose(written, [np.mean(own[t]) for t in tokens[0, 1:].tolist()], atol=1e-5)
    with ablated(model, same_byte_resample(fitted), layers=2):
        drawn = increments_of(model, tokens, 2)[0, 1:, 0]
    for token, value in zip(tokens[0, 1:].tolist(), drawn, strict=True):
        assert np.abs(np.array(own[token]) - value).min() < 1e-5


def test_long_sequences_draw_no_two_alike(make_model: MakeModel) -> None:
    """Sequences that differ in one byte get draws that have nothing to do with each other."""
    model = model_of(make_model, "shared")
    rows = torch.stack([tokens_of(TEXT)[0]] * 40)
    rows[:, -1] = torch.arange(40)
    with ablated(model, shuffle(), layers=0):
        found = increments_of(model, rows, 0)[:, 1:-1, 0]
    same = [np.array_equal(one, other) for one, other in itertools.combinations(found, 2)]
    assert not any(same)
