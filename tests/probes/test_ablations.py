"""The ablation run: numbers against loops by hand, planted models, odd models and texts, and mistakes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ablation_runs import MakeModel, spread_out, value

from lrope_interp.data import Document, scoring_windows
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations import passes as ablation_passes
from lrope_interp.probes.ablations import tables as ablation_tables
from lrope_interp.probes.ablations.ablations import ablate
from lrope_interp.probes.ablations.plan import (
    ALL,
    LEXICAL,
    RESAMPLE,
    SHIFT,
    SHUFFLE,
    AblationArm,
    passes,
    plan,
)
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.capture.suites import OVERLAPS
from lrope_interp.probes.evaluation.evaluation import evaluate
from lrope_interp.results import Result, load_result, save_result
from lrope_interp.tokenizers.bpe import train_bpe


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> LRopeTransformer:
    return spread_out(make_model(n_layers=3, seed=1))


@pytest.fixture(scope="module")
def suite(model: LRopeTransformer, texts: Selection) -> Result:
    return ablate(model, data=texts, suite="full")


def loss_by_hand(
    model: LRopeTransformer,
    documents: tuple[Document, ...],
    written: Callable[[int, torch.Tensor], torch.Tensor],
    layers: tuple[int, ...] = (0, 1, 2),
    overlap: float = OVERLAPS["full"],
) -> float:
    """Nats per byte, window by window and byte by byte, with plain torch hooks."""
    nats, n_bytes, running = 0.0, 0, {}
    handles = [
        model.blocks[layer].hook_increments.register_forward_hook(
            lambda module, inputs, output, layer=layer: written(layer, running["tokens"]).to(output)
        )
        for layer in layers
    ]
    try:
        for document in documents:
            sequence = [256, *document.text.encode()]
            for start, stop, first in scoring_windows(len(sequence), model.cfg.n_ctx, overlap):
                tokens = torch.tensor([sequence[start:stop]])
                running["tokens"] = tokens
                log_p = model(tokens).detach().log_softmax(-1)[0]
                for t in range(first, stop):
                    nats -= float(log_p[t - start - 1, sequence[t]])
                    n_bytes += 1
    finally:
        for handle in handles:
            handle.remove()
    return nats / n_bytes


def means_by_hand(model: LRopeTransformer, documents: tuple[Document, ...]) -> tuple[list[float], list[dict]]:
    captured = capture(model, documents, predictions=False)
    tables = []
    for layer in captured.layers:
        by_byte: dict[int, list[float]] = {}
        for byte, increment in zip(captured.byte, captured.increments[layer, 0], strict=True):
            by_byte.setdefault(int(byte), []).append(float(increment))
        tables.append({byte: sum(found) / len(found) for byte, found in by_byte.items()})
    return [float(captured.increments[layer, 0].mean()) for layer in captured.layers], tables


def test_each_term_of_the_split_equals_a_loop_written_by_hand(
    model: LRopeTransformer, texts: Selection, suite: Result
) -> None:
    means, tables = means_by_hand(model, texts.fit)
    losses = {
        "one": loss_by_hand(model, texts.test, lambda layer, tokens: torch.ones(tokens.shape)),
        "mean": loss_by_hand(model, texts.test, lambda layer, tokens: torch.full(tokens.shape, means[layer])),
        "lexical": loss_by_hand(
            model,
            texts.test,
            lambda layer, tokens: torch.tensor(
                [[tables[layer].get(int(token), means[layer]) for token in tokens[0]]]
            ),
        ),
    }
    untouched = evaluate(model, texts.test).headline["nats_per_byte"]
    assert untouched is not None
    terms = {
        "split_scale": losses["one"] - losses["mean"],
        "split_lexical": losses["mean"] - losses["lexical"],
        "split_contextual": losses["lexical"] - untouched,
        "split_total": losses["one"] - untouched,
    }
    for name, expected in terms.items():
        assert value(suite, name, "all") == pytest.approx(expected, abs=1e-5), name
        assert suite.headline[name] == value(suite, name, "all")
    assert max(abs(term) for term in terms.values()) > 1e-2


def test_each_layer_alone_equals_whole_passes_with_that_layer_written(
    model: LRopeTransformer, few: Selection
) -> None:
    found = ablate(model, data=few)  # its passes begin at the layer
    untouched = found.headline["untouched"]
    assert untouched is not None

    def one(_layer: int, tokens: torch.Tensor) -> torch.Tensor:
        return torch.ones(tokens.shape)

    for layer in range(3):
        expected = loss_by_hand(model, few.test, one, (layer,), OVERLAPS["default"]) - untouched
        assert value(found, "one", str(layer)) == pytest.approx(expected, abs=1e-5)
        assert abs(expected) > 1e-4


def test_the_default_suite_has_what_the_split_needs_on_every_layer_in_22_passes(suite: Result) -> None:
    arms = plan(6, local="words")
    assert 1 + len(passes(arms)) == 22
    names = {arm.intervention for arm in arms}
    assert names == {"one", "mean", "lexical"}
    for name in names:
        assert [arm.words() for arm in arms if arm.intervention == name] == [
            "0",
            "1",
            "2",
            "3",
            "4",
            "5",
            "all",
        ]
    full = plan(6, suite="full", local="words")
    assert {arm.what() for arm in arms} < {arm.what() for arm in full}
    assert {arm.intervention for arm in full} - names == {
        *("resample", "shuffle", "shift", "scale", "local", "local_compensated")
    }
    assert len(suite.tables["passes"]) == suite.headline["n_passes"]


def test_passes_are_shared_by_arms_that_write_the_same_and_skip_the_layers_below() -> None:
    arms = plan(3, suite="full", local="words", places=["whitespace"])
    shared = passes(arms)
    whats = [arm.what() for arm in shared]
    assert len(set(whats)) == len(whats) < len(arms)
    assert {arm.what() for arm in arms} == set(whats)
    up = [arm for arm in arms if arm.design == "up" and arm.intervention == "one"]
    assert (
        up[-1].what() == next(arm for arm in arms if arm.design == "all" and arm.intervention == "one").what()
    )


def test_the_gain_is_what_the_blocks_say(suite: Result) -> None:
    table = suite.tables["passes"]
    run = table["blocks_run"].sum()
    assert (table["blocks_run"] == 3 - table["first_layer"]).all() and run < 3 * len(table)
    assert set(table["first_layer"]) == {0, 1, 2}
    assert suite.headline["gain"] == pytest.approx(3 * len(table) / run)


def test_a_planted_model_in_which_layer_2_alone_matters_is_recovered(
    make_model: MakeModel, few: Selection
) -> None:
    planted = spread_out(make_model(n_layers=4, seed=2))
    with torch.no_grad():
        for layer in (0, 1, 3):
            planted.blocks[layer].attn.W_Q.zero_()  # looks everywhere alike
    found = ablate(planted, data=few, suite="full")
    for name in ("one", "mean", "lexical", "resample", "shuffle", "shift", "scale", "local"):
        where = {"local": {"where": "words"}, "scale": {"parameter": 2.0}}.get(name, {})
        for layer in ("0", "1", "3"):
            assert value(found, name, layer, "kl", **where) == pytest.approx(0, abs=1e-9), (name, layer)
            assert value(found, name, layer, "flips", **where) == 0
        assert value(found, name, "2", "kl", **where) > 1e-3, name
        assert value(found, name, "all", "kl", **where) == pytest.approx(
            value(found, name, "2", "kl", **where), rel=1e-4
        )


def test_a_layer_that_matters_only_by_scale_is_told_apart_from_one_whose_variation_matters(
    make_model: MakeModel, few: Selection
) -> None:
    planted = spread_out(make_model(n_layers=3, seed=3))
    with torch.no_grad():
        head = planted.blocks[0].increments
        head.W_out.zero_()
        head.b_out.fill_(math.log(0.3 / 0.7))
        planted.blocks[1].attn.W_Q.zero_()
    found = ablate(planted, data=few, suite="full")
    assert value(found, "one", "0", "kl") > 1e-2 and value(found, "scale", "0", "kl", parameter=2.0) > 1e-2
    for name in ("mean", "lexical", "resample", "shuffle", "shift"):
        assert value(found, name, "0", "kl") == pytest.approx(0, abs=1e-6), name
        assert value(found, name, "2", "kl") > 1e-3, name
    scale, total = value(found, "split_scale", "0"), value(found, "split_total", "0")
    assert scale == pytest.approx(total, abs=1e-5)


def test_freezing_a_fixed_model_to_one_changes_nothing(make_model: MakeModel, texts: Selection) -> None:
    found = ablate(make_model(increments="fixed"), data=texts, freeze="1", is_each=True)
    rows = found.tables["ablations"]
    assert len(rows) and (rows["value"] == 0).all()
    assert "changes nothing" in " ".join(found.warnings)


def test_the_batch_makes_no_difference_and_nor_do_the_pads_of_its_windows(
    model: LRopeTransformer, few: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = [AblationArm(name, ALL, (0, 1, 2)) for name in (LEXICAL, RESAMPLE, SHUFFLE, SHIFT)]
    monkeypatch.setattr("lrope_interp.probes.ablations.ablations.plan", lambda *_, **__: arms)
    one, other = (ablate(model, data=few, batch_size=size) for size in (16, 3))
    for name, table in one.tables.items():
        for column in table.select_dtypes("float"):
            np.testing.assert_allclose(table[column], other.tables[name][column], atol=1e-5, err_msg=column)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_was_and_ends_with_the_same_numbers(
    model: LRopeTransformer, few: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, n_run = ablation_passes._run_batch, []

    def counted(*arguments: object) -> np.ndarray:
        n_run.append(1)
        if len(n_run) == 3 and not is_second:
            raise KeyboardInterrupt
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ablation_passes, "_run_batch", counted)
    is_second, options = False, {"batch_size": 5, "seed": 0}
    with pytest.raises(KeyboardInterrupt):
        ablate(model, data=few, **options)
    is_second = True
    n_run.clear()
    resumed = ablate(model, data=few, **options)
    n_resumed = len(n_run)
    n_run.clear()
    again = ablate(model, data=few, **options)
    assert n_resumed == len(n_run) - 2  # nothing of a finished run is kept
    for name, table in resumed.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name])


def test_changes_by_class_and_language_add_up_to_the_whole(suite: Result) -> None:
    rows = suite.tables["ablations"]
    rows = rows[
        (rows["intervention"] == "one") & (rows["layers"] == "all") & (rows["metric"] == "nats_per_byte")
    ]
    whole = rows[(rows["language"] == "all") & (rows["byte_class"] == "all")].iloc[0]
    for parts in (rows[rows["byte_class"] != "all"], rows[rows["language"] != "all"]):
        assert len(parts) > 1
        assert parts["n"].sum() == whole["n"]
        assert (parts["value"] * parts["n"]).sum() / whole["n"] == pytest.approx(whole["value"], abs=1e-9)


def test_changes_by_distance_add_up_to_those_after_a_first_boundary(suite: Result, texts: Selection) -> None:
    rows = suite.tables["distances"]
    rows = rows[(rows["intervention"] == "mean") & (rows["layers"] == "all")]
    n_starts = sum(
        len([1 for a, b in zip(" " + one.text, one.text, strict=False) if b.isalnum() and not a.isalnum()])
        for one in texts.test
        if one.language == "en"
    ) + sum(len([1 for a, _ in one.words or () if one.text[a] != "，"]) for one in texts.test)
    assert rows["label"].unique().tolist() == ["words"]
    assert rows.loc[rows["distance"] == 0, "n"].item() == n_starts
    assert rows["n"].sum() <= sum(one.n_bytes for one in texts.test)


def test_divergence_is_never_below_zero_and_intervals_hold_their_value(suite: Result) -> None:
    rows = suite.tables["ablations"]
    assert (rows.loc[rows["metric"] == "kl", "value"] > -1e-6).all()
    assert rows.loc[rows["metric"] == "flips", "value"].between(0, 1).all()
    known = rows[rows["ci_low"].notna() & (rows["byte_class"] == "all")]
    assert len(known) > 50
    assert ((known["ci_low"] <= known["value"] + 1e-9) & (known["value"] <= known["ci_high"] + 1e-9)).all()


def test_look_back_and_mass_within_words_are_those_of_the_pattern(
    model: LRopeTransformer, texts: Selection, suite: Result
) -> None:
    found = {layer: [[], []] for layer in range(3)}
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(3)]
    for document in texts.test:
        if document.language != "en":
            continue
        raw = document.text.encode()
        word, number = [-1], -1
        for character in document.text:
            is_in = character.isalnum()
            number += is_in and word[-1] < 0
            word += [number if is_in else -1] * len(character.encode())
        for start, stop, first in scoring_windows(len(raw) + 1, model.cfg.n_ctx):
            tokens = torch.tensor([[256, *raw][start:stop]])
            with torch.no_grad():
                _, cache = model.run_with_cache(tokens, names_filter=names)
            for layer, name in enumerate(names):
                for t in range(first, stop):
                    weights = cache[name][0, 0, t - start, : t - start + 1].tolist()
                    found[layer][0].append(sum(w * (t - start - k) for k, w in enumerate(weights)))
                    if word[t] >= 0:
                        found[layer][1].append(
                            sum(w for k, w in enumerate(weights) if word[start + k] == word[t])
                        )
    rows = suite.tables["attention"]
    rows = rows[(rows["intervention"] == "untouched") & (rows["language"] == "en") & (rows["head"] == 0)]
    for layer in range(3):
        for metric, expected in zip(("look_back", "within_word"), found[layer], strict=True):
            row = rows[(rows["layer"] == layer) & (rows["metric"] == metric)]
            assert row["value"].item() == pytest.approx(np.mean(expected), abs=1e-5)
            assert row["n"].item() == len(expected)


def test_the_first_example_is_the_character_that_loses_most(
    model: LRopeTransformer, texts: Selection, suite: Result
) -> None:
    rows = suite.tables["examples"]
    rows = rows[(rows["intervention"] == "one") & (rows["layers"] == "all")]
    targets = rows[rows["offset"] == 0].sort_values("rank")
    assert targets["value"].is_monotonic_decreasing and (targets["value"] > 0).all()
    first = targets.iloc[0]
    document = next(one for one in texts.test if one.name == first["document"])
    assert document.text[first["character"]] == first["text"]
    assert first["ablated"] == pytest.approx(first["loss"] + first["value"])
    surprisal = capture(model, [document], layers=()).surprisal
    at = len(document.text[: first["character"]].encode())
    stop = at + len(first["text"].encode())
    assert first["loss"] == pytest.approx(surprisal[at:stop].sum(), abs=1e-4)


def test_examples_are_few_and_all_lose_and_their_contexts_do_not_overlap(
    model: LRopeTransformer, few: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablation_tables, "CONTEXT", 1)

    def targets(most: int) -> pd.DataFrame:
        monkeypatch.setattr(ablation_tables, "N_EXAMPLES", most)
        rows = ablate(model, data=few, freeze="1").tables["examples"]
        return rows[rows["offset"] == 0].reset_index(drop=True)

    every = targets(10**6)
    assert len(every) > 10 and (every["value"] > 0).all() and every["value"].is_monotonic_decreasing
    for _, own in every.groupby("document"):
        assert (np.diff(np.sort(own["character"])) > 2).all()
    pd.testing.assert_frame_equal(targets(3), every[:3])


def assert_restored(found: Result, is_shared: bool) -> None:
    assert set(found.tables["ablations"]["design"]) == {"single", "all", "up", "down", "restore"}
    # Restoring layer 1 leaves only layer 0 ablated, but layer 1 then has the increments of the clean pass:
    # another one, unless the increments do not depend on what happened below.
    restored, alone = value(found, "one", "all but 1", "kl"), value(found, "one", "0", "kl")
    assert restored > 0
    assert (restored == pytest.approx(alone, abs=1e-8)) is is_shared
    assert value(found, "one", "all but 0", "kl") == pytest.approx(value(found, "one", "1", "kl"), abs=1e-9)


def test_the_full_suite_restores_one_layer_to_what_it_was(full_suite: Result) -> None:
    assert_restored(full_suite, is_shared=False)


@pytest.mark.slow
def test_shared_increments_are_restored_too(make_model: MakeModel, few: Selection) -> None:
    model = spread_out(make_model(increments="shared", n_layers=2, seed=5))
    assert_restored(ablate(model, data=few, suite="full"), is_shared=True)


def test_a_result_is_read_back_as_it_was_saved(full_suite: Result, tmp_path: Path) -> None:
    save_result(full_suite, tmp_path)
    again = load_result(tmp_path)
    for name, table in full_suite.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], table)


def test_freezing_only_where_a_label_holds_changes_less_than_everywhere_and_is_named(
    model: LRopeTransformer, texts: Selection
) -> None:
    found = ablate(model, data=texts, freeze="mean", layers=(1,), where="punctuation")
    rows = found.tables["ablations"]
    assert set(rows["where"]) == {"punctuation"} and set(rows["layers"]) == {"1"}
    everywhere = ablate(model, data=texts, freeze="mean", layers=(1,))
    here = value(found, "mean", "1", "kl", where="punctuation")
    assert 0 < here < value(everywhere, "mean", "1", "kl")
    assert found.provenance["suite"] == "asked"


def test_heads_of_their_own_are_frozen_one_by_one(make_model: MakeModel, texts: Selection) -> None:
    per_head = spread_out(make_model(per_head=True, n_layers=2))
    found = ablate(per_head, data=texts, freeze="mean", heads=True)
    rows = found.tables["ablations"]
    rows = rows[(rows["metric"] == "kl") & (rows["language"] == "all") & (rows["byte_class"] == "all")]
    assert list(zip(rows["layer"], rows["head"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert rows["value"].is_unique and (rows["value"] > 0).all()


def test_bytes_that_stand_in_training_text_are_not_scored(model: LRopeTransformer, texts: Selection) -> None:
    masks = tuple(np.arange(one.n_bytes) < 50 for one in texts.test)
    found = ablate(model, data=replace(texts, shared={**texts.shared, "test": masks}), freeze="1")
    n_left = sum(max(0, one.n_bytes - 50) for one in texts.test)
    assert found.tables["base"]["n"].iloc[0] == n_left


def test_longer_tokens_are_scored_per_byte(make_model: MakeModel, texts: Selection) -> None:
    tokenizer = train_bpe([one.text for one in texts.fit], 300)
    model = spread_out(make_model(d_vocab=tokenizer.vocab_size, n_layers=2))
    model.tokenizer = tokenizer
    found = ablate(model, data=texts, freeze="1")
    untouched = evaluate(model, texts.test).headline["nats_per_byte"]
    assert found.headline["untouched"] == pytest.approx(untouched)
    rows = found.tables["ablations"]
    rows = rows[(rows["language"] == "all") & (rows["byte_class"] == "all")].set_index("metric")
    assert rows.loc["kl", "n"] < rows.loc["nats_per_byte", "n"] == sum(one.n_bytes for one in texts.test)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"freeze": "1", "layers": (7,)}, "layers 0 to 2"),
        ({"freeze": "1", "where": "brackets_open"}, "code"),
        ({"freeze": "1", "where": "0-9"}, "never occurs"),
        ({"freeze": "1", "where": "punktuation"}, "punctuation"),
        ({"heads": True}, "heads of this model share their increments"),
        ({"freeze": "2"}, "unknown value to freeze to: '2'"),
        ({"suite": "huge"}, "unknown suite 'huge'"),
        ({"freeze": "1", "suite": "full"}, "give one of them"),
        ({"where": "words"}, "the default suite changes increments everywhere"),
        ({"layers": (0,)}, "choose layers together with an intervention"),
        ({"is_each": True}, "choose layers together with an intervention"),
        ({"freeze": "1", "layers": ()}, "no layer is named"),
        ({"freeze": "1", "layers": (0, 1)}, "neither one layer nor all 3"),
    ],
)
def test_what_cannot_be_ablated_is_an_error_and_not_a_zero(
    model: LRopeTransformer, texts: Selection, options: dict, words: str
) -> None:
    if options.get("where") == "0-9":
        one = replace(texts.test[0], text="no digit here, none at all. " * 4, words=None)
        texts = Selection.of("x", {"fit": texts.fit, "dev": texts.dev, "test": [one]})
    with pytest.raises(LRopeError, match=words):
        ablate(model, data=texts, **options)


def test_one_layer_is_enough_for_every_suite(make_model: MakeModel, few: Selection) -> None:
    found = ablate(make_model(n_layers=1), data=few, suite="full")
    assert found.headline["one_all"] == value(found, "one", "0")
    assert len(found.tables["attention"]) > 0
    asked = ablate(make_model(n_layers=1), data=few, freeze="1")
    assert asked.headline["one_all"] == found.headline["one_all"]
    assert len(asked.tables["attention"]) > 0


def test_a_text_without_words_is_ablated_all_the_same(make_model: MakeModel, few: Selection) -> None:
    only = Document("smiles", "🙂🙃😀" * 20, "made up", "en")
    texts = Selection.of("x", {"fit": few.fit, "dev": few.dev, "test": [only]})
    found = ablate(make_model(), data=texts, suite="full")
    assert "local" not in set(found.tables["ablations"]["intervention"])
    assert found.tables["distances"].empty
    assert "no words" in " ".join(found.warnings)
    asked = ablate(make_model(), data=texts, freeze="1", where="other lead")
    assert asked.tables["places"]["n_gaps"].tolist() == [60]


def test_a_label_marks_the_token_that_holds_its_gap(make_model: MakeModel, texts: Selection) -> None:
    english_only = {
        split: [one for one in getattr(texts, split) if one.language == "en"]
        for split in ("fit", "dev", "test")
    }
    tokenizer = train_bpe([one.text for one in english_only["fit"]], 285)
    model = spread_out(make_model(d_vocab=tokenizer.vocab_size, n_layers=2))
    model.tokenizer = tokenizer
    found = ablate(model, data=Selection.of("x", english_only), freeze="mean", where="words")
    n_marked = 0
    for document in english_only["test"]:
        starts = tokenizer.encode_spans(document.text)[1]
        at, offset, previous = [], 0, " "
        for character in document.text:
            if character.isalnum() and not previous.isalnum():
                at.append(offset)
            offset, previous = offset + len(character.encode()), character
        n_marked += len({int(np.searchsorted(starts, one, side="right")) for one in at})
    assert found.tables["places"]["n_gaps"].tolist() == [n_marked]
    assert value(found, "mean", "all", "kl", where="words") > 0
    assert "longer than a byte" in " ".join(found.warnings)


def test_documents_that_do_not_know_a_label_are_counted(make_model: MakeModel, few: Selection) -> None:
    sources = ["x = 1\n\n\ndef f():\n    return x\n", "def broken(:\n"]
    code = [Document(f"{n}.py", text, "made up", "code") for n, text in enumerate(sources)]
    texts = Selection.of("x", {"fit": few.fit, "dev": few.dev, "test": code})
    found = ablate(make_model(), data=texts, freeze="1", where="scopes")
    places = found.tables["places"].iloc[0]
    assert (places["n_known"], places["n_documents"]) == (1, 2)
    assert "known in 1 of 2 documents" in " ".join(found.warnings)


def test_as_many_random_gaps_stand_beside_each_label(full_suite: Result) -> None:
    found, counts = full_suite, full_suite.tables["places"].set_index("where")["n_gaps"]
    for place in ("words", "punctuation", "whitespace", "inside_words"):
        assert counts[place] == counts[f"random:{place}"] > 0
        more = value(found, "mean", "all", where=place) - value(found, "mean", "all", where=f"random:{place}")
        assert value(found, "beyond_random", "all", where=place) == pytest.approx(more, abs=1e-9)
        assert value(found, "mean", "all", "kl", where=f"random:{place}") != value(
            found, "mean", "all", "kl", where=place
        )
