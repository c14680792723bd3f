"""Words in the whole analysis: rows of a gold segmentation, baselines in closed form, what is added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from probe_samples import HAN, chinese, english, select

from lrope_interp.data import Document
from lrope_interp.data.texts import gold_documents
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.boundaries.boundaries import boundaries
from lrope_interp.probes.boundaries.harness import Scorer
from lrope_interp.probes.boundaries.segmentation import WholeText
from lrope_interp.probes.capture.gaps import Field, Gaps
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.capture.signals import Signal, SignalColumn
from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.reports import render, verdicts
from lrope_interp.results import Result

MakeModel = Callable[..., LRopeTransformer]
LEXICON = ["".join(np.random.default_rng(n).choice(list(HAN), size=1 + n % 3)) for n in range(24)]


def news(number: int, n_words: int = 60) -> Document:
    """Chinese of a small lexicon, so that counting finds words in it."""
    rng = np.random.default_rng([3, number])
    words = [LEXICON[k] if rng.random() < 0.9 else "，" for k in rng.integers(0, len(LEXICON), n_words)]
    words += ["1998", "年", "…", "…", "USA", "。"]
    ends = np.cumsum([len(word) for word in words]).tolist()
    return Document(f"news-{number}", "".join(words), "made up", "zh", tuple(pairwise([0, *ends])))


def hand_scored(documents: tuple[Document, ...], called: dict[str, set[int]]) -> float:
    """Score whole documents word by word, given the characters before which each is cut."""
    hits = n_called = n_true = 0
    for one in documents:
        assert one.words is not None
        cuts = [0, *sorted(called[one.name] - {0}), len(one.text)]
        found, true = set(pairwise(cuts)), set(one.words)
        hits, n_called, n_true = hits + len(found & true), n_called + len(found), n_true + len(true)
    return 2 * hits / (n_called + n_true)


def han_field(gaps: Gaps) -> Field:
    return next(one for one in gaps.fields() if one.stratum == "han")


def test_words_of_the_whole_text_are_those_of_comparing_spans() -> None:
    documents = (news(1), news(2))
    gaps = Gaps.of(documents, ["words"])
    field = han_field(gaps)
    whole = WholeText.of(gaps, field, "words")
    assert whole is not None
    calls = np.random.default_rng(0).random(len(field.gaps)) < 0.5
    everywhere = np.where(whole.at >= 0, calls[whole.at], whole.by_rule)
    called: dict[str, set[int]] = {one.name: set() for one in documents}
    at = {(n, k) for n, one in enumerate(documents) for k in range(1, len(one.text))}
    places = sorted(at)
    for (n, k), is_called in zip(places, everywhere.tolist(), strict=True):
        called[documents[n].name] |= {k} if is_called else set()
    from lrope_interp.probes.boundaries.words import token_counts

    hits, n_called, n_true = (int(a.sum()) for a in token_counts(whole.runs, everywhere, whole.is_boundary))
    assert 2 * hits / (n_called + n_true) == pytest.approx(hand_scored(documents, called))
    text = documents[0].text
    by_rule = {
        k: bool(is_cut) for (n, k), is_cut in zip(places, whole.by_rule.tolist(), strict=True) if n == 0
    }
    for before, after, wanted in (
        ("19", "98", False),
        ("8", "年", True),
        ("…", "…", False),
        ("U", "S", False),
    ):
        place = text.index(before + after, text.index("1998")) + len(before)
        assert by_rule[place] is wanted, before + after


def test_white_space_counts_for_nothing_and_only_gold_is_scored_whole(tmp_path: Path) -> None:
    path = tmp_path / "gold.txt"
    path.write_text("中国 ， U S A 人民\n银行 today 发布\n")
    (document,) = gold_documents(path)
    assert " " in document.text
    gaps = Gaps.of([document], ["words"])
    field = next(one for one in gaps.fields() if one.stratum == "characters")
    whole = WholeText.of(gaps, field, "words")
    assert whole is not None
    text = document.text.replace(" ", "").replace("\n", "")
    assert len(whole.is_boundary) == len(text) - 1
    assert whole.is_boundary.sum() == len(document.words or ()) - 1
    other = Gaps.of([english(1)], ["words"])
    assert WholeText.of(other, other.fields()[1], "words") is None


@pytest.fixture(scope="module")
def result(make_model: MakeModel) -> Result:
    selection = select(
        lambda number: [news(number)], n=30, training=[news(9000 + number, 400) for number in range(20)]
    )
    how = {"layers": [1], "labels": ["words"], "suite": "full", "batch_size": 64}
    return boundaries(make_model(), data=selection, **how)


def values(result: Result, metric: str, stratum: str = "han") -> Any:
    scores: Any = result.tables["scores"]
    own = scores[(scores["metric"] == metric) & (scores["stratum"] == stratum) & scores["seed"].isna()]
    return own.drop_duplicates("signal").set_index("signal")["value"]


def test_every_signal_and_control_is_decoded_in_the_stratum_and_in_the_whole_text(result: Result) -> None:
    rows = {"everything", "length_prior", "branching_entropy", "nvbe", "nvbe_words", "jieba", "ceiling"}
    rows |= {"increments", "entropy", "pmi", "untrained", "model", "counts", "model_and_counts"}
    for metric in ("token_f1", "word_f1"):
        found = values(result, metric)
        assert rows <= set(found.dropna().index), metric
    assert rows - {"everything", "length_prior"} <= set(values(result, "token_f1_cut").dropna().index)
    assert {"increments", "nvbe", "length_prior"} <= set(values(result, "token_f1_unsupervised").index)
    assert values(result, "token_f1")["nvbe"] > values(result, "token_f1")["length_prior"] + 0.1
    scores: Any = result.tables["scores"]
    own = scores[(scores["signal"] == "nvbe") & scores["metric"].isin(["token_f1", "word_f1"])]
    assert ((own["ci_low"] < own["value"]) & (own["value"] < own["ci_high"])).all()
    choices: Any = result.tables["choices"]
    assert choices.loc[choices["stratum"] == "han", "token_threshold"].notna().all()


def test_everything_is_what_its_closed_form_says(result: Result) -> None:
    """Called every gap, a word is found where it has a single character."""
    documents = [news(number + 2000) for number in range(30)]
    gaps = Gaps.of(documents, ["words"])
    field = han_field(gaps)
    singles = characters = words = 0
    for one in documents:
        is_han = [character in HAN for character in one.text]
        for start, stop in one.words or ():
            if is_han[start] and ((start and is_han[start - 1]) or (stop < len(one.text) and is_han[stop])):
                singles, words, characters = (
                    singles + (stop == start + 1),
                    words + 1,
                    characters + stop - start,
                )
            elif is_han[start] and stop > start + 1:
                words, characters = words + 1, characters + stop - start
    assert values(result, "token_f1")["everything"] == pytest.approx(2 * singles / (words + characters))
    assert len(field.gaps)


def test_the_page_can_say_whether_the_model_adds_to_counting(result: Result) -> None:
    differences: Any = result.tables["word_differences"]
    own = differences[(differences["signal"] == "model_and_counts") & (differences["stratum"] == "han")]
    assert own["metric"].tolist() == ["token_f1", "word_f1"]
    assert (own["control"] == "counts").all()
    f1 = values(result, "word_f1")
    assert own["value"].iloc[1] == pytest.approx(f1["model_and_counts"] - f1["counts"])
    assert own["ci_low"].iloc[1] <= own["value"].iloc[1] <= own["ci_high"].iloc[1]
    assert result.headline["model added to counts words word_f1"] == own["value"].iloc[1]
    layers = differences[(differences["signal"] == "increments") & (differences["control"] == "nvbe")]
    assert set(layers["metric"]) == {"token_f1", "word_f1"}


def test_a_segmentation_is_scored_as_it_cuts_and_turned_signals_alike() -> None:
    selection: Selection = select(lambda number: [news(number)], n=4)
    gaps = {split: Gaps.of(getattr(selection, split), ["words"]) for split in ("dev", "test")}
    truth = {split: one.labels["words"].is_boundary.astype(np.int64) for split, one in gaps.items()}
    scorer = Scorer(gaps["dev"], gaps["test"], Bootstrap(0, 50))
    for sign in (1, -1):
        for is_segmentation in (True, False):
            signal = Signal("oracle", lambda _: np.zeros(0), is_segmentation=is_segmentation)
            column = SignalColumn(signal, None, None, {split: sign * one for split, one in truth.items()})
            rows: Any = pd.DataFrame(scorer.score(column).rows["scores"])
            own = rows[rows["stratum"] == "han"].set_index("metric")["value"]
            assert own["token_f1"] == own["token_f1_cut"] == 1
            assert own["word_f1"] > 0.9


def test_names_are_one_word_for_merged_words() -> None:
    one = replace(chinese(1), tags=None)
    assert one.words is not None
    tags = tuple("nr" for _ in one.words)
    gaps = Gaps.of([replace(one, tags=tags)], ["words", "words_merged"])
    field = han_field(gaps)
    plain, merged = (WholeText.of(gaps, field, label) for label in ("words", "words_merged"))
    assert plain is not None
    assert merged is not None
    assert merged.is_boundary.sum() < plain.is_boundary.sum()


def test_the_page_shows_words_and_says_what_the_model_adds(result: Result) -> None:
    page = render(result)
    assert "F1 of words of the whole text changes by" in page
    for shown in ("every gap called", "lengths of words alone", "nVBE, its own segmentation", "DMSLM"):
        assert shown in page
    frame: Any = verdicts(result).frame
    row = frame[frame["what"] == "words, F1"].iloc[0]
    assert row["value"] == pytest.approx(values(result, "word_f1")["model_and_counts"])
    assert row["verdict"]
    old = replace(
        result, tables={name: one for name, one in result.tables.items() if name != "word_differences"}
    )
    scores: Any = old.tables["scores"]
    is_new = scores["metric"].isin(["token_f1_cut", "token_f1_unsupervised", "word_f1"])
    old = replace(old, tables=old.tables | {"scores": scores[~is_new]})
    assert "Token F1, cut" in render(old)
    assert "changes by" not in render(old)
