"""The whole analysis on tiny models: scores, controls, choices, refusals, and signals of the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from probe_samples import chinese, english, select
from sklearn import metrics

from lrope_interp.data import Document
from lrope_interp.data.labels.kinds import label_gaps
from lrope_interp.data.labels.words import quiet_jieba
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.boundaries import ceiling
from lrope_interp.probes.boundaries.boundaries import boundaries
from lrope_interp.probes.boundaries.harness import METRICS, SCORE_COLUMNS, WORD_METRICS, Scorer
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.capture.signals import SIGNALS, Signal, SignalColumn, register, unregister
from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.reports import render as render_boundaries
from lrope_interp.results import Result

MakeModel = Callable[..., LRopeTransformer]


@pytest.fixture(scope="module")
def result(make_model: MakeModel, bilingual: Selection) -> Result:
    return boundaries(make_model(), data=bilingual, suite="full", batch_size=64)


def pick(result: Result, **where: object) -> pd.DataFrame:
    scores = result.tables["scores"]
    for name, value in where.items():
        column = scores[name]
        scores = scores[column.isna() if value is None else (column == value).fillna(False)]
    return scores


def column_name(row: pd.Series) -> str:
    layer = (
        ""
        if pd.isna(row["layer"])
        else f".L{row['layer']}" + ("" if pd.isna(row["head"]) else f"H{row['head']}")
    )
    ending = "" if pd.isna(row["seed"]) else f".S{row['seed']}"
    if row["kind"] == "ceiling":
        ending = f".{row['label']}." + ("han" if row["stratum"] == "han" else "characters")
    return f"{row['signal']}{layer}{ending}"


def test_scores_can_be_recomputed_from_the_gaps_with_scikit_learn_alone(result: Result) -> None:
    scores, gaps = result.tables["scores"], result.gaps
    assert gaps is not None
    is_mean = scores["signal"].isin(["untrained", "random_head"]) & scores["seed"].isna()
    curves = scores["metric"].isin(["roc_auc", "average_precision"])

    @cache
    def aligned(name: str, how: str) -> pd.Series:
        values = gaps[name].astype("float64")
        if how == "lead":
            return values
        return values.groupby([gaps["document"], gaps["character"]], observed=True).transform(how)

    n_checked = 0
    for _, row in scores[
        ~is_mean & curves & (scores["signal"] != "prevalence") & scores["value"].notna()
    ].iterrows():
        values = aligned(column_name(row), row["align"])
        inside = gaps[f"in_{row['stratum']}"]
        truth = gaps.loc[inside, f"is_{row['label']}"]
        assert (len(truth), int(truth.sum())) == (row["n"], row["n_positive"])
        score = {"roc_auc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}
        # Sums of float32 and float64 break ties between sums of equal bytes in different ways.
        tolerance = 1e-9 if row["align"] != "sum" else 1e-3
        assert row["sign"] == -1 or row["raw_value"] == row["value"]
        for sign, name in {1: "raw_value", row["sign"]: "value"}.items():
            wanted = score[row["metric"]](truth, sign * values[inside])
            assert row[name] == pytest.approx(wanted, abs=tolerance), dict(row)
        n_checked += 1
    assert n_checked > 800


def test_knowing_nothing_scores_as_calling_every_gap_a_boundary(result: Result) -> None:
    gaps, known = result.gaps, pick(result, signal="prevalence")
    assert gaps is not None
    known = known[known["value"].notna()]
    for _, row in known.iterrows():
        truth = gaps.loc[gaps[f"in_{row['stratum']}"], f"is_{row['label']}"]
        every = np.ones(len(truth), dtype=bool)
        wanted = {
            "average_precision": metrics.average_precision_score(truth, every.astype(float)),
            "f1": metrics.f1_score(truth, every),
            "precision": truth.mean(),
            "recall": truth.mean(),  # of gaps called by chance, as many as there are boundaries
        }
        assert row["value"] == pytest.approx(wanted[row["metric"]]), row["metric"]
        assert (row["n"], row["n_positive"]) == (len(truth), truth.sum())
    assert set(known["metric"]) == {"average_precision", "f1", "precision", "recall"}


def test_f1_is_that_of_the_chosen_threshold(result: Result) -> None:
    choices, gaps = result.tables["choices"], result.gaps
    assert gaps is not None
    for _, row in pick(result, metric="f1", signal="increments", align="lead").iterrows():
        if math.isnan(row["value"]):
            continue
        same = choices[
            (choices["signal"] == "increments")
            & (choices["layer"] == row["layer"])
            & (choices["label"] == row["label"])
            & (choices["stratum"] == row["stratum"])
        ].iloc[0]
        inside = gaps[f"in_{row['stratum']}"]
        called = row["sign"] * gaps.loc[inside, f"increments.L{row['layer']}"] >= same["threshold"]
        assert row["value"] == pytest.approx(metrics.f1_score(gaps.loc[inside, f"is_{row['label']}"], called))


def test_the_table_has_every_signal_in_every_stratum(result: Result) -> None:
    scores = result.tables["scores"]
    assert tuple(scores.columns) == SCORE_COLUMNS
    assert set(scores["stratum"]) == {"bytes", "characters", "nondelimiter", "han", "en", "zh"}
    assert set(scores["metric"]) == {*METRICS, *WORD_METRICS} - {"token_f1_unsupervised"}
    assert set(scores["label"]) == {"punctuation", "whitespace", "words", "sentences"}
    segmented = scores[scores["metric"].isin(WORD_METRICS)]
    assert set(segmented["label"]) == {"words", "sentences"}
    assert set(segmented.loc[segmented["metric"] == "token_f1", "label"]) == {"words"}
    assert "bytes" not in set(segmented["stratum"])
    expected = {"increments", "entropy", "rise", "surprisal", "entropy_next", "byte_mean", "untrained"}
    expected |= {"random_head", "cosine", "ceiling", "spacebyte", "prevalence", "jieba"}
    expected |= {"ngram_2", "ngram_3", "ngram_4", "ngram_5"}
    expected |= {"everything", "length_prior"}
    assert set(pick(result, stratum="characters")["signal"]) == expected, "no tables: no training text"
    assert set(scores.loc[scores["signal"] == "character_start", "stratum"]) == {"bytes"}
    assert set(scores.loc[scores["kind"] == "layer", "signal"]) == {"increments"}
    assert set(pick(result, stratum="bytes")["align"]) == {"lead", ""}, "raw bytes are not aligned"
    assert set(pick(result, stratum="en", signal="increments")["layer"]) == {0, 1}
    cells = scores.drop(columns=["value", "raw_value", "ci_low", "ci_high", "align", "sign"])
    assert not cells.duplicated().any()


def test_intervals_hold_their_value_and_cells_of_one_kind_have_none(result: Result) -> None:
    scores = result.tables["scores"]
    scored = scores[scores["value"].notna() & (scores["signal"] != "prevalence") & scores["ci_low"].notna()]
    assert len(scored) > 100
    assert (scored["ci_low"] <= scored["value"] + 1e-6).all()
    assert (scored["value"] <= scored["ci_high"] + 1e-6).all()
    empty = pick(result, stratum="han", label="whitespace", signal="increments")
    assert len(empty) == 2 * len(METRICS)
    assert empty["value"].isna().all()
    assert (empty["n_positive"] == 0).all()
    assert any("no score for whitespace in" in said and "han" in said for said in result.warnings)
    assert not any("no score for words" in said for said in result.warnings)
    strata = result.tables["strata"].set_index("stratum")
    assert (strata.loc["bytes", "n_documents"], strata.loc["bytes", "n_units"]) == (28, 28)


def test_untrained_rows_come_by_seed_and_as_mean_and_range(result: Result) -> None:
    where = {
        "signal": "untrained",
        "layer": 1,
        "label": "words",
        "stratum": "characters",
        "metric": "roc_auc",
    }
    seeds = pick(result, **where)
    by_seed = seeds[seeds["seed"].notna()]
    assert by_seed["seed"].tolist() == [0, 1, 2, 3, 4]
    assert by_seed["value"].nunique() == 5
    whole = seeds[seeds["seed"].isna()].iloc[0]
    assert whole["value"] == pytest.approx(by_seed["value"].mean())
    assert (whole["ci_low"], whole["ci_high"]) == (by_seed["value"].min(), by_seed["value"].max())
    assert whole["sign"] is pd.NA or set(by_seed["sign"]) == {whole["sign"]}, "what all seeds share"
    assert whole["align"] == (by_seed["align"].iloc[0] if by_seed["align"].nunique() == 1 else "")
    assert result.headline["untrained L1 words roc_auc"] == whole["value"]


def test_the_headline_names_layers_and_controls(result: Result) -> None:
    wanted = pick(
        result, signal="increments", layer=0, label="whitespace", stratum="characters", metric="roc_auc"
    )
    assert result.headline["L0 whitespace roc_auc"] == wanted["value"].iloc[0]
    ceiling = {"kind": "ceiling", "stratum": "characters", "metric": "roc_auc"}
    assert {"entropy words roc_auc", "surprisal words roc_auc", "byte_mean L1 words roc_auc"} <= set(
        result.headline
    )
    assert len(result.headline) == 4 * (2 + 2 + 2 + 1 + 1) + len(pick(result, **ceiling))


def test_classes_labels_and_provenance(
    result: Result, tiny_model: LRopeTransformer, bilingual: Selection
) -> None:
    classes = result.tables["classes"]
    captured = capture(tiny_model, bilingual.test)
    own = captured.increments[1, 0][(captured.byte == ord(" ")) & (captured.t > 0)]
    whole = classes[(classes["language"] == "all") & (classes["layer"] == 1)]
    row = whole[whole["byte_class"] == "space"]
    assert row["mean"].iloc[0] == pytest.approx(own.mean(), abs=1e-4)
    assert row["n"].iloc[0] == len(own)
    assert (whole["mean_normalised"] * whole["n"]).sum() / whole["n"].sum() == pytest.approx(1)
    labels = result.tables["labels"].set_index(["label", "language"])
    assert labels.loc[("words", "zh"), "grade"] == "gold"
    assert labels.loc[("words", "en"), "grade"] == "rule"
    assert set(result.provenance) == {
        *("model", "model_sha256", "config", "data", "seed", "versions", "command", "suite")
    }
    assert set(result.provenance["data"]) == {"name", "sha256", "n_documents", "n_bytes", "split"}
    assert result.provenance["config"]["n_layers"] == 2
    assert result.provenance["data"]["n_bytes"] == sum(document.n_bytes for document in bilingual.test)


def test_the_gaps_have_one_row_a_gap(result: Result, bilingual: Selection) -> None:
    gaps = result.gaps
    assert gaps is not None
    assert len(gaps) == sum(document.n_bytes - 1 for document in bilingual.test)
    assert (gaps["t"] > 0).all()
    assert set(gaps["split"]) == {"test"}
    assert gaps["in_bytes"].all()
    one = bilingual.test[0]
    own = gaps[gaps["document"] == one.name]
    assert own["is_words"].tolist() == label_gaps(one, "words").is_boundary[1:].tolist()
    assert own["character"].max() == len(one.text) - 1


def test_order_and_batch_size_change_nothing(make_model: MakeModel, texts: Selection) -> None:
    backwards = Selection.of(
        "made up", {split: getattr(texts, split)[::-1] for split in ("fit", "dev", "test")}
    )
    result, again = (
        boundaries(make_model(), data=data, layers=[1], labels=["words"], batch_size=size)
        for data, size in ((texts, 64), (backwards, 41))
    )
    scores, other = result.tables["scores"], again.tables["scores"]
    assert scores["ci_low"].notna().sum() > 50
    numbers = ["value", "raw_value", "ci_low", "ci_high"]
    pd.testing.assert_frame_equal(scores.drop(columns=numbers), other.drop(columns=numbers))
    np.testing.assert_allclose(scores[numbers].astype(float), other[numbers].astype(float), atol=2e-4)
    assert again.provenance["data"] == result.provenance["data"]


def test_per_head_and_shared_models(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    small = select(lambda number: [english(number, 25)], n=3)
    how = {"data": small, "labels": ["words"], "suite": "full"}
    heads = boundaries(make_model(per_head=True), layers=[1], **how)
    assert set(pick(heads, signal="increments")["head"]) == {0, 1}
    assert heads.gaps is not None
    assert {"increments.L1H0", "byte_mean.L1H1", "untrained.L1H0.S4"} <= set(heads.gaps)
    assert "L1H1 words roc_auc" in heads.headline
    assert not any("did not converge" in said for said in heads.warnings)
    monkeypatch.setattr(ceiling, "MAX_ITERATIONS", 1)
    shared = boundaries(make_model(increments="shared"), **how)
    assert any("fits of the ceiling did not converge" in said for said in shared.warnings)
    assert set(pick(shared, signal="increments")["layer"]) == {0}
    assert any("shared" in said for said in shared.warnings)


def test_what_cannot_be_tested_is_refused(make_model: MakeModel, bilingual: Selection) -> None:
    with pytest.raises(LRopeError, match=r"fixed.*per-layer or shared"):
        boundaries(make_model(increments="fixed"), data=bilingual)
    with pytest.raises(LRopeError, match="layers 0 to 1"):
        boundaries(make_model(), data=bilingual, layers=[4])
    with pytest.raises(LRopeError, match="Did you mean 'words'"):
        boundaries(make_model(), data=bilingual, labels=["word"])
    with pytest.raises(LRopeError, match="no label"):
        boundaries(make_model(), data=bilingual, labels=[])
    with pytest.raises(LRopeError, match="no layer"):
        boundaries(make_model(), data=bilingual, layers=[])
    with pytest.raises(LRopeError, match="a seed is a whole number"):
        boundaries(make_model(), data=bilingual, seed=-1)


def test_a_model_that_never_learned_is_refused(make_model: MakeModel, bilingual: Selection) -> None:
    model = make_model()
    for name, parameter in model.increment_parameters():
        if name.endswith("W_out"):
            parameter.data.zero_()
    with pytest.raises(LRopeError, match="constant"):
        boundaries(model, data=bilingual)


def test_gaps_that_training_text_has_too_are_left_out(make_model: MakeModel) -> None:
    phrase = "In witness whereof I have hereunto set my hand and caused the seal to be affixed. "

    def documents(number: int) -> list[Document]:
        own = english(number)
        return [replace(own, text=own.text + phrase + own.text[:50])]

    training = [Document("seen", f"Other words. {phrase}", "made up", "en")]
    selection = select(documents, n=2, training=training)
    result = boundaries(make_model(), data=selection, layers=[0])
    gaps = result.gaps
    assert gaps is not None
    n_shared = int(gaps["is_shared_shingle"].sum())
    assert n_shared >= 2 * len(phrase)
    assert not gaps.loc[gaps["is_shared_shingle"], "in_bytes"].any()
    assert pick(result, stratum="bytes")["n"].max() == len(gaps) - n_shared
    assert any("left out of every score" in said for said in result.warnings)
    copied = select(documents, n=2, training=[*selection.dev, *selection.test])
    with pytest.raises(LRopeError, match="no dev gap to score"):
        boundaries(make_model(), data=copied)


def test_chinese_without_gold_and_without_jieba_has_no_words(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    selection = select(lambda number: [chinese(number, is_gold=False)], n=2)
    quiet_jieba.cache_clear()  # another test may have loaded it
    with pytest.raises(LRopeError, match="pip install"):
        label_gaps(selection.test[0], "words")
    result = boundaries(make_model(), data=selection, layers=[0])
    words = pick(result, label="words")
    assert len(words) > 0
    assert words["value"].isna().all()
    assert (words["n"] == 0).all()
    assert any("pip install" in said for said in result.warnings)
    assert result.gaps is not None
    assert result.gaps["is_words"].isna().all()


def test_dev_chooses_alignment_and_sign(bilingual: Selection) -> None:
    """A signal that knows the answer at last bytes only, upside down, is read there and turned."""
    gaps = {split: Gaps.of(getattr(bilingual, split), ["words"]) for split in ("dev", "test")}

    def at_last_byte(split: str) -> np.ndarray:
        found = gaps[split]
        values = np.random.default_rng(len(split)).normal(size=len(found.t))
        last = found.characters.first + found.characters.width - 1
        values[last] = -1.0 * found.labels["words"].is_boundary[found.characters.first]
        return values

    values = {split: at_last_byte(split) for split in gaps}
    column = SignalColumn(Signal("x", lambda captured: captured.entropy), None, None, values)
    scored = Scorer(gaps["dev"], gaps["test"], Bootstrap(n_resamples=50)).score(column)
    chosen = {row["stratum"]: row for row in scored.rows["choices"]}
    assert (chosen["han"]["align"], chosen["han"]["sign"]) == ("last", -1)
    assert chosen["bytes"]["align"] == "lead"
    value = next(
        row for row in scored.rows["scores"] if row["stratum"] == "han" and row["metric"] == "roc_auc"
    )
    assert (value["value"], value["raw_value"]) == (1, 0)


def test_what_is_chosen_is_chosen_on_dev_alone(
    make_model: MakeModel, result: Result, bilingual: Selection
) -> None:
    """Sign, alignment and threshold are those of dev, computed here from a capture of dev."""
    captured = capture(make_model(), bilingual.dev)
    gaps = Gaps.of(bilingual.dev, ["whitespace"])
    one = next(one for one in gaps.fields() if one.stratum == "characters")
    truth = one.labels["whitespace"]
    chosen = result.tables["choices"]
    chosen = chosen[(chosen["stratum"] == "characters") & (chosen["label"] == "whitespace")]
    for signal, layer, values in (
        ("entropy", None, captured.entropy),
        ("increments", 0, captured.increments[0, 0]),
        ("increments", 1, captured.increments[1, 0]),
    ):
        row = chosen[(chosen["signal"] == signal) & (layer is None or (chosen["layer"] == layer))].iloc[0]
        aligned = {how: gaps.characters.align(values, one.gaps, how) for how in ("lead", "last", "sum")}
        areas = {how: metrics.roc_auc_score(truth, value) for how, value in aligned.items()}
        best = max(areas, key=lambda how: abs(areas[how] - 0.5))
        assert row["dev_roc_auc"] == pytest.approx(max(areas[best], 1 - areas[best]), abs=1e-3)
        assert row["sign"] == (1 if areas[best] > 0.5 else -1)
        score = row["sign"] * aligned[row["align"]]
        cuts = np.unique(score)[::-1]
        called = [(score >= cut).sum() for cut in cuts]
        hits = [(truth & (score >= cut)).sum() for cut in cuts]
        f1 = 2 * np.array(hits) / (np.array(called) + truth.sum())
        assert metrics.f1_score(truth, score >= row["threshold"]) == pytest.approx(f1.max())
        nearest = np.abs(np.array(called) - truth.sum()).min()
        assert abs((score >= row["prevalence_threshold"]).sum() - truth.sum()) == nearest


def test_what_dev_cannot_choose_is_said(make_model: MakeModel) -> None:
    """Dev in English only, test in Chinese too: Chinese strata are chosen on all of dev's characters."""
    selection = Selection.of(
        "made up",
        {"fit": [english(0)], "dev": [english(1)], "test": [english(2), chinese(0), chinese(1)]},
    )
    result = boundaries(make_model(), data=selection, layers=[1], labels=["words"])
    said = "choices for words in zh come from all characters of dev"
    assert said in result.warnings
    assert pick(result, stratum="zh", metric="roc_auc")["value"].notna().any()
    wordless = [replace(chinese(2), words=())]
    blind = Selection.of("made up", {"fit": [english(0)], "dev": wordless, "test": [chinese(0), chinese(1)]})
    result = boundaries(make_model(), data=blind, layers=[1], labels=["words"])
    assert "dev cannot orient words in characters: signals as they come, no F1" in result.warnings
    rows = pick(result, stratum="characters", signal="increments").set_index("metric")
    assert rows.loc["roc_auc", "value"] == rows.loc["roc_auc", "raw_value"]
    assert math.isnan(rows.loc["f1", "value"])


Add = Callable[[str, Callable[[Captured], np.ndarray]], None]


@pytest.fixture
def user_signal() -> Iterator[Add]:
    names: list[str] = []

    def add(name: str, function: Callable[[Captured], np.ndarray]) -> None:
        names.append(name)
        register(name)(function)

    yield add
    for name in names:
        unregister(name)


def words(captured: Captured) -> np.ndarray:
    return np.concatenate([label_gaps(one, "words").is_boundary for one in captured.documents])


@pytest.fixture(scope="module")
def with_signals(make_model: MakeModel) -> Iterator[Result]:
    """Sixty documents a split, so that they are the units and there is an interval."""
    signals: dict[str, Callable[[Captured], np.ndarray]] = {
        "oracle": words,
        "anti_oracle": lambda captured: -2.5 * words(captured),
        "shuffled": lambda captured: np.random.default_rng(0).permutation(words(captured)),
        "squashed": lambda captured: np.tanh(captured.entropy - 5),
    }
    for name, function in signals.items():
        register(name)(function)
    try:
        selection = select(lambda number: [english(number)], n=60)
        how = {"layers": 0, "labels": ["words"], "suite": "full", "batch_size": 64}
        yield boundaries(make_model(), data=selection, **how)
    finally:
        for name in signals:
            unregister(name)


def test_the_label_itself_its_shuffle_and_a_function_of_entropy(with_signals: Result) -> None:
    scores = with_signals.tables["scores"]
    scores = scores[(scores["stratum"] == "characters") & scores["seed"].isna()]
    auc = scores[scores["metric"] == "roc_auc"].drop_duplicates("signal").set_index("signal")
    assert auc.loc["oracle", "value"] == auc.loc["oracle", "ci_low"] == 1
    assert (auc.loc["anti_oracle", "value"], auc.loc["anti_oracle", "raw_value"]) == (1, 0)
    assert auc.loc["anti_oracle", "sign"] == -1
    assert auc.loc["shuffled", "value"] == pytest.approx(0.5, abs=0.02)
    for p in ("p_shift", "p_same_byte"):
        assert auc.loc["oracle", p] == pytest.approx(1 / 1001)
        assert auc.loc["shuffled", p] > 0.01
    assert auc.loc["increments", "p_same_byte"] == 1, "layer 0 knows nothing but the byte"
    for metric in ("f1", "mcc", "precision", "recall", "token_f1"):
        own = scores[(scores["metric"] == metric) & (scores["signal"] == "oracle")]
        assert own["value"].tolist() == [1], metric
    for metric in ("pk", "windowdiff"):
        assert scores[(scores["metric"] == metric) & (scores["signal"] == "oracle")]["value"].tolist() == [0]
    assert with_signals.gaps is not None
    assert {"oracle", "squashed"} <= set(with_signals.gaps)


def test_what_is_beyond_surprisal_is_the_label_and_no_function_of_entropy(with_signals: Result) -> None:
    beyond = with_signals.tables["beyond"].set_index(["signal", "baseline"])
    assert bool(beyond.loc[("oracle", "M0"), "is_beyond"])
    assert beyond.loc[("oracle", "M0"), "bits"] > 0.01
    for baseline in ("M0", "M0_lexical", "bins"):
        assert not bool(beyond.loc[("squashed", baseline), "is_beyond"]), baseline
        chance = beyond.loc[("shuffled", baseline)]
        assert chance["p"] > 0.01 if baseline == "bins" else not bool(chance["is_beyond"]), baseline
    differences = with_signals.tables["differences"]
    own = differences[(differences["control"] == "oracle") & (differences["stratum"] == "characters")]
    assert (own["ci_high"] < 0).all(), "the oracle beats layer 0, and the paired interval says so"
    assert not math.isnan(own["value"].iloc[0])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda captured: np.zeros(3), r"returned shape \(3,\)"),
        (lambda captured: np.full(captured.n_bytes, np.nan), "not finite"),
        (lambda captured: np.array(["a"] * captured.n_bytes), "not finite numbers"),
    ],
)
def test_a_useless_user_signal_is_an_error(
    make_model: MakeModel, user_signal: Add, function: Callable, said: str
) -> None:
    user_signal("useless", function)
    with pytest.raises(LRopeError, match=said):
        boundaries(make_model(), data=select(lambda number: [english(number, 15)], n=2), layers=[0])


def test_a_constant_control_scores_nothing_and_is_noted_while_the_analysis_goes_on(
    make_model: MakeModel, user_signal: Add
) -> None:
    user_signal("flat", lambda captured: np.full(captured.n_bytes, 0.25))
    selection = select(lambda number: [english(number, 20)], n=2)
    result = boundaries(make_model(), data=selection, layers=[0], labels=["words"])
    scores = result.tables["scores"]
    assert scores.loc[scores["signal"] == "flat", "value"].isna().all()
    assert scores.loc[scores["signal"] == "increments", "value"].notna().any()
    assert "flat is constant in bytes: no score there" in result.warnings
    assert "flat" not in set(result.tables["differences"]["control"])
    render_boundaries(result)


def test_a_constant_signal_of_the_model_is_an_error(make_model: MakeModel) -> None:
    register("flat", kind="layer")(lambda captured: np.full(captured.n_bytes, 0.25))
    try:
        with pytest.raises(LRopeError, match="at every test gap"):
            boundaries(make_model(), data=select(lambda number: [english(number, 15)], n=2), layers=[0])
    finally:
        unregister("flat")


def test_the_names_of_built_in_signals_are_taken() -> None:
    with pytest.raises(LRopeError, match="built in"):
        register("entropy")
    unregister("entropy")
    assert "entropy" in SIGNALS
