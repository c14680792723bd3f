"""Tables of the training text, odds of labels, means by n-gram and jieba against slow, obvious counting."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from probe_samples import chinese, english
from text_samples import ODD, at_first_bytes, contexts, held_out, made_up, training

from lrope_interp.data import Document, label_gaps
from lrope_interp.data.documents import IndexedDocuments
from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries import label_odds
from lrope_interp.probes.boundaries import text_controls as jieba_control
from lrope_interp.probes.boundaries.branching import LEAST_COUNT, LONGEST, UNSEEN
from lrope_interp.probes.boundaries.label_odds import PSEUDO_COUNT, LabelOdds, cross_fitted
from lrope_interp.probes.boundaries.text_controls import (
    TextTables,
    jieba_signal,
    text_sample,
    text_signals,
)
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import byte_mean, ngram_means


@pytest.fixture(scope="module")
def tables() -> TextTables:
    return TextTables.of(training())


def entropy_of(counts: Counter[str]) -> float:
    return -sum(n / counts.total() * math.log(n / counts.total()) for n in counts.values())


def standard(values: dict[str, float]) -> dict[str, float]:
    """Turn numbers of strings into z scores among strings of the same length."""
    by_length = defaultdict(list)
    for string, value in values.items():
        by_length[len(string)].append(value)
    return {
        s: float((v - np.mean(by_length[len(s)])) / (np.std(by_length[len(s)]) or 1))
        for s, v in values.items()
    }


def followed(documents: Sequence[Document]) -> dict[str, Counter[str]]:
    return {string: counts for string, counts in contexts(documents, LONGEST).items() if counts}


def turned(documents: Sequence[Document]) -> list[Document]:
    return [made_up(number, one.text[::-1]) for number, one in enumerate(documents)]


SIDES = [
    (followed(training()), lambda string: string),
    (followed(turned(training())), lambda string: string[::-1]),
]


def test_branching_entropy_is_that_of_counting_by_hand(tables: TextTables) -> None:
    common = [
        standard({s: entropy_of(n) for s, n in counts.items() if s and n.total() >= LEAST_COUNT})
        for counts, _ in SIDES
    ]

    def longest(known: dict[str, float], text: str) -> float:
        return next(
            (known[text[-n:]] for n in range(min(LONGEST, len(text)), 0, -1) if text[-n:] in known), 0.0
        )

    def value(text: str, place: int) -> float:
        return longest(common[0], text[:place]) + longest(common[1], text[place:][::-1])

    documents, found = held_out(), tables.branching_entropy(held_out())
    first = np.array([at for at, before, _ in gaps_of(documents) if before])
    wanted = [value(one.text, place) for one in documents for place in range(1, len(one.text))]
    np.testing.assert_allclose(found[first], wanted, atol=1e-9)
    assert len(np.unique(np.round(wanted, 9))) > 50, "contexts of several lengths must occur"
    assert (np.delete(found, first) == -1_000).all()


def word_scores() -> Callable[[str], float]:
    """Score words by nVBE, with dictionaries and recursion alone."""
    sides = []
    for counts, read in SIDES:
        entropy = {string: entropy_of(n) for string, n in counts.items()}
        varies = {
            s: h - entropy[s[:-1]] for s, h in entropy.items() if s and (h > 1e-12 or entropy[s[:-1]] > 1e-12)
        }
        sides.append((standard(varies), read))

    def score(word: str) -> float:
        known = [table.get(read(word)) for table, read in sides]
        return len(word) * (UNSEEN if None in known else sum(known))

    return score


def test_nvbe_is_that_of_a_slow_implementation(tables: TextTables) -> None:
    score = word_scores()

    @cache
    def best(text: str) -> float:
        if not text:
            return 0.0
        return max(score(text[:n]) + best(text[n:]) for n in range(1, min(LONGEST, len(text)) + 1))

    @cache
    def best_without(text: str, gap: int) -> float:
        """Score the best segmentation that does not cut before character `gap`."""
        if gap <= 0:
            return best(text) if gap < 0 else -math.inf
        sizes = [n for n in range(1, min(LONGEST, len(text)) + 1) if n != gap]
        return max((score(text[:n]) + best_without(text[n:], gap - n) for n in sizes), default=-math.inf)

    documents = [*ODD, chinese(500, 20), made_up(9, "Ω未见的字 the un")]
    margins, starts = tables.nvbe(documents), tables.nvbe_starts(documents)
    at = 0
    for document in documents:
        text, raw = document.text, document.encoded
        firsts = [len(text[:k].encode()) for k in range(len(text))]
        for place in range(1, len(text)):
            wanted = best(text[:place]) + best(text[place:]) - best_without(text, place)
            assert margins[at + firsts[place]] == pytest.approx(wanted, abs=1e-6)
        cuts = [k for k in range(len(text)) if starts[at + firsts[k]]]
        words = [text[a:b] for a, b in pairwise([*cuts, len(text)])] if text else []
        assert sum(map(score, words)) == pytest.approx(best(text))
        at += len(raw)
    text_signs = [one for one in text_signals(tables) if one.is_segmentation]
    assert [one.name for one in text_signs] == ["nvbe_words"]


def test_a_context_counts_from_ten_occurrences_on() -> None:
    once = [made_up(number, f"{number}ab{number}") for number in range(9)]
    nine, ten = (TextTables.of([*once, *more]) for more in ([], [made_up(10, "xac"), made_up(11, "c" * 12)]))
    text = [made_up(99, "ab")]
    assert nine.branching_entropy(text)[1] == 0
    # Of what is followed ten times, "a" leaves two characters open and "c" next to none.
    assert ten.branching_entropy(text)[1] == pytest.approx(1)


def test_pmi_is_that_of_counting_by_hand(tables: TextTables) -> None:
    pairs = Counter(pair for one in training() for pair in pairwise(one.text))
    before, after = Counter[str](), Counter[str]()
    for (a, b), n in pairs.items():
        before[a] += n
        after[b] += n
    n_all = pairs.total() + len({*before, *after}) + 1

    def value(a: str, b: str) -> float:
        return math.log((pairs[a, b] or 0.5) / n_all / ((before[a] + 1) / n_all * (after[b] + 1) / n_all))

    highest = max(value(a, b) for a, b in pairs)
    documents = held_out()
    expected = at_first_bytes(
        documents, lambda text, at: value(text[at - 1], text[at]) if at else highest, highest
    )
    np.testing.assert_allclose(tables.pmi(documents), expected, atol=1e-12)


def test_log_bigram_is_that_of_counting_by_hand(tables: TextTables) -> None:
    texts = [document.encoded for document in training()]
    pairs = Counter(pair for raw in texts for pair in pairwise(raw))
    first = Counter[int]()
    for (a, _), n in pairs.items():
        first[a] += n
    alone = Counter(b"".join(texts))
    expected = [
        math.log((pairs[raw[t - 1], raw[t]] + 1) / (first[raw[t - 1]] + 256))
        if t
        else math.log((alone[raw[0]] + 1) / (alone.total() + 256))
        for raw in (document.encoded for document in held_out())
        for t in range(len(raw))
    ]
    np.testing.assert_allclose(tables.log_bigram(held_out()), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["branching_entropy", "pmi", "log_bigram", "nvbe", "nvbe_starts"])
def test_every_byte_gets_one_finite_number_whatever_the_order_of_documents(
    tables: TextTables, name: str
) -> None:
    shuffled = TextTables.of(training()[::-1])
    assert np.array_equal(getattr(shuffled, name)(held_out()), getattr(tables, name)(held_out()))
    one_by_one = [getattr(tables, name)([document]) for document in held_out()]
    assert np.array_equal(np.concatenate(one_by_one), getattr(tables, name)(held_out()))
    for table, documents in (
        (tables, [[], *([one] for one in ODD)]),
        (TextTables.of([made_up(0, "中")]), [ODD]),
    ):
        for given in documents:
            values = getattr(table, name)(given)
            assert values.shape == (sum(document.n_bytes for document in given),)
            assert values.dtype == (np.int64 if name == "nvbe_starts" else np.float64)
            assert np.isfinite(values).all()


class Reading(IndexedDocuments):
    """Documents that note which were read; single looks, as those of beartype, do not count."""

    names: list[str]

    def __iter__(self) -> Iterator[Document]:
        for document in super().__iter__():
            self.names.append(document.name)
            yield document

    def take(self, rows: Any) -> Reading:
        return reading(self.read, self.rows[rows], self.names)


def reading(read: Callable[[Any], Document], rows: np.ndarray, names: list[str]) -> Reading:
    found = Reading(read, rows)
    found.names = names
    return found


def indexed(documents: list[Document], names: list[str]) -> Reading:
    kinds = [("sha256", "V32"), ("n_bytes", "i8"), ("language", "U4"), ("place", "i8")]
    rows = [
        (bytes.fromhex(one.sha256), one.n_bytes, one.language, place) for place, one in enumerate(documents)
    ]
    return reading(lambda row: documents[row["place"]], np.array(rows, dtype=kinds), names)


def test_no_more_is_read_than_asked_for_and_hashes_decide_what() -> None:
    documents = [english(number) for number in range(40)]
    read: list[str] = []
    sample, is_all = text_sample(indexed(documents, read), 2_000)
    in_order = sorted(documents, key=lambda one: one.sha256)
    assert len(read) == len(sample) < 10
    assert read == [one.name for one in in_order[: len(read)]]
    assert 1_990 < sum(one.n_bytes for one in sample) <= 2_000
    assert not is_all
    assert sample == text_sample(documents[::-1], 2_000)[0]
    assert "in the order of hashes" in TextTables.of(documents, 2_000).sample
    assert TextTables.of(documents).sample.endswith("in 40 documents")
    whole, is_all = text_sample(training(2), sum(one.n_bytes for one in training(2)))
    assert is_all, "a text that fits exactly is all of it"
    assert sorted(one.sha256 for one in whole) == sorted(one.sha256 for one in training(2))


def test_the_signals_are_read_at_first_bytes_only(tables: TextTables) -> None:
    signals = text_signals(tables)
    assert [signal.name for signal in signals] == ["branching_entropy", "pmi", "nvbe", "nvbe_words"]
    assert all(signal.is_per_character and signal.kind == "control" for signal in signals)


Counts = dict[tuple[str, ...], list[bool]]


def gaps_of(documents: Sequence[Document]) -> list[tuple[int, str, str]]:
    """Return first byte, character before ("" at a start) and character of everything."""
    found, at = [], 0
    for document in documents:
        for place, character in enumerate(document.text):
            found.append((at, document.text[place - 1] if place else "", character))
            at += len(character.encode())
    return found


def odds_by_hand(counted: Sequence[tuple[str, str, bool]], asked: Sequence[tuple[str, str]]) -> np.ndarray:
    singles: Counts = defaultdict(list)
    pairs: Counts = defaultdict(list)
    for before, after, holds in counted:
        singles[after,].append(holds)
        pairs[before, after].append(holds)
    base = (sum(holds for *_, holds in counted) + 0.5) / (len(counted) + 1)

    def shrunk(seen: list[bool], wider: float) -> float:
        return (sum(seen) + PSEUDO_COUNT * wider) / (len(seen) + PSEUDO_COUNT)

    rows = []
    for before, after in asked:
        single = shrunk(singles.get((after,), []), base)
        pair = shrunk(pairs.get((before, after), []) if before else [], single)
        rows.append([math.log(p / (1 - p)) for p in (single, pair)])
    return np.array(rows)


def labels_of(documents: Sequence[Document], label: str) -> np.ndarray:
    return np.concatenate([label_gaps(document, label).is_boundary for document in documents])


@pytest.mark.parametrize("label", ["words", "whitespace", "punctuation"])
def test_odds_are_those_of_counting_by_hand(label: str) -> None:
    texts, asked = training(), held_out()
    odds = LabelOdds.of(texts, label)
    assert odds is not None
    truth = labels_of(texts, label)
    counted = [(before, after, bool(truth[at])) for at, before, after in gaps_of(texts) if before]
    expected = odds_by_hand(counted, [(before, after) for _, before, after in gaps_of(asked)])
    values, first = odds.of_documents(asked), np.array([at for at, *_ in gaps_of(asked)])
    assert values.shape == (sum(one.n_bytes for one in asked), 2)
    np.testing.assert_allclose(values[first], expected, atol=1e-12)
    turned = LabelOdds.of(texts[::-1], label)
    assert turned is not None
    assert np.array_equal(turned.of_documents(asked), values), "whatever the order of documents"
    within = np.delete(values, first, axis=0)
    assert len(within)
    assert (within <= values[first].min(axis=0)).all()


def test_a_label_that_no_document_can_have_gives_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(document: Document, label: str) -> None:
        raise LRopeError(f"{document.name} has no {label}")

    monkeypatch.setattr(label_odds, "label_gaps", refuse)
    assert LabelOdds.of(training(), "words") is None
    assert LabelOdds.of([], "words") is None


def test_no_more_is_labelled_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counting(document: Document, label: str) -> object:
        asked.append(document.sha256)
        return label_gaps(document, label)

    monkeypatch.setattr(label_odds, "label_gaps", counting)
    documents = [english(number) for number in range(40)]
    odds = LabelOdds.of(documents, "words", max_bytes=1_500)
    assert odds is not None
    assert 1_490 < odds.n_bytes <= 1_500
    assert asked[:-1] == sorted(one.sha256 for one in documents)[: len(asked) - 1]
    silver = LabelOdds.of([chinese(n, is_gold=False) for n in range(40)], "words", max_bytes=3_000)
    assert silver is not None
    assert 700 < silver.n_bytes < 1_500, "silver bytes count three times"


def test_odd_documents_get_finite_odds() -> None:
    for table in (LabelOdds.of(training(2), "words"), LabelOdds.of([made_up(0, "中")], "whitespace")):
        assert table is not None
        for documents in ([], *([one] for one in ODD)):
            values = table.of_documents(documents)
            assert values.shape == (sum(document.n_bytes for document in documents), 2)
            assert np.isfinite(values).all()


def every_gap(documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaps between characters and whether each begins a word."""
    gaps = np.array([at for at, before, _ in gaps_of(documents) if before])
    return gaps, labels_of(documents, "words")[gaps]


def test_cross_fitted_odds_are_counted_on_the_other_documents() -> None:
    documents = [english(0), chinese(0), english(1)]
    gaps, holds = every_gap(documents)
    values = cross_fitted(documents, holds, gaps, n_folds=5)
    ends = np.cumsum([document.n_bytes for document in documents])
    own = np.searchsorted(ends, gaps, side="right")
    known = [(before, after) for _, before, after in gaps_of(documents) if before]
    for fold in range(3):
        counted = [(*known[k], bool(holds[k])) for k in np.flatnonzero(own != fold)]
        expected = odds_by_hand(counted, [known[k] for k in np.flatnonzero(own == fold)])
        np.testing.assert_allclose(values[own == fold], expected, atol=1e-12)


def test_boundaries_of_a_fold_never_reach_its_own_values() -> None:
    documents = [*training(6), training(6)[0]]
    gaps, _ = every_gap(documents)
    noise = np.random.default_rng(0).random(len(gaps)) < 0.5
    own = gaps < documents[0].n_bytes
    flipped = np.where(own | (gaps >= sum(one.n_bytes for one in documents[:-1])), ~noise, noise)
    one, other = (cross_fitted(documents, holds, gaps) for holds in (noise, flipped))
    assert np.array_equal(one[own], other[own]), "a copy of a document is in its own fold"
    assert not np.array_equal(one[~own], other[~own])


def test_cross_fitting_does_not_depend_on_the_order_of_documents() -> None:
    documents = [one for one in training(5) if one.text]
    gaps, holds = every_gap(documents)
    forward = cross_fitted(documents, holds, gaps)
    turned = documents[::-1]
    gaps_turned, holds_turned = every_gap(turned)
    backward = cross_fitted(turned, holds_turned, gaps_turned)

    def split(values: np.ndarray, at: np.ndarray, order: Sequence[Document]) -> dict[str, np.ndarray]:
        starts = np.cumsum([0] + [one.n_bytes for one in order])
        return {one.name: values[(at >= starts[k]) & (at < starts[k + 1])] for k, one in enumerate(order)}

    first, second = split(forward, gaps, documents), split(backward, gaps_turned, turned)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_gap_within_a_character_is_not_counted() -> None:
    documents = [chinese(0), english(0), chinese(1)]
    gaps, holds = every_gap(documents)
    n_bytes = sum(one.n_bytes for one in documents)
    everywhere, all_holds = np.arange(n_bytes), np.zeros(n_bytes, dtype=bool)
    all_holds[gaps] = holds
    values = cross_fitted(documents, all_holds, everywhere)
    np.testing.assert_array_equal(values[gaps], cross_fitted(documents, holds, gaps))
    assert (np.delete(values, gaps, axis=0)[:, 0] <= values[gaps, 0].max()).all()
    gaps, holds = every_gap([english(0)])
    assert (cross_fitted([english(0)], holds, gaps) == 0).all(), "a single document has nothing to count on"
    with pytest.raises(LRopeError, match="at least 2 folds"):
        cross_fitted([english(0)], holds, gaps, n_folds=1)


N_LAYERS = 3


def pretend(documents: Sequence[Document], seed: int = 0, width: int = 1, n_heads: int = 2) -> Captured:
    """Make up increments; layer 0 follows the byte. Tokens are `width` bytes, fewer at a document's end."""
    raw = np.frombuffer(b"".join(one.encoded for one in documents), dtype=np.uint8)
    offsets = np.cumsum([0] + [one.n_bytes for one in documents]).astype(np.int64)
    starts = [np.arange(a, b, width) for a, b in pairwise(offsets.tolist())]
    token_starts = np.concatenate([np.zeros(0, dtype=np.int64), *starts])
    increments = np.random.default_rng(seed).random((N_LAYERS, n_heads, len(raw)), dtype=np.float32)
    increments[0] = np.linspace(1, 2, 256, dtype=np.float32)[raw]
    none = np.zeros(0, dtype=np.float32)
    tokens = raw[token_starts].astype(np.uint16) * (1 if width == 1 else 200)
    layers = tuple(range(N_LAYERS))
    return Captured(
        tuple(documents), offsets, raw, layers, increments, none, none, none, tokens, token_starts
    )


def means_by_hand(fit: Sequence[Captured], at: Captured, length: int, layer: int, head: int) -> np.ndarray:
    seen: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for one in fit:
        for grams, place in grams_of(one, 5):
            for gram in grams:
                seen[gram].append(float(one.increments[layer, head, place]))
    out = []
    for grams, _ in grams_of(at, length):
        known = [gram for gram in grams if len(seen.get(gram, ())) >= (2 if len(gram) > 1 else 1)]
        out.append(np.mean(seen[known[-1]] if known else [x for v in singles(seen) for x in v]))
    return np.repeat(out, np.diff(at.token_starts, append=at.n_bytes))


def singles(seen: dict[tuple[int, ...], list[float]]) -> list[list[float]]:
    return [values for gram, values in seen.items() if len(gram) == 1]


def grams_of(one: Captured, longest: int) -> list[tuple[list[tuple[int, ...]], int]]:
    """Return for each token the strings that end there, short ones first, and its first byte."""
    found, offsets, tokens = [], one.token_offsets, one.tokens.tolist()
    for first, stop in pairwise(offsets.tolist()):
        for t in range(first, stop):
            sizes = range(1, min(longest, t - first + 1) + 1)
            grams = [tuple(tokens[t + 1 - size : t + 1]) for size in sizes]
            found.append((grams, int(one.token_starts[t])))
    return found


@pytest.mark.parametrize("width", [1, 3])
def test_means_are_those_of_counting_by_hand(width: int) -> None:
    fit = [pretend(training(3), 1, width), pretend([english(7), *ODD], 2, width)]
    at = pretend(held_out(), 3, width)
    signals = ngram_means(fit, is_shared=False)
    assert not np.array_equal(signals[0].function(at)[1:], signals[1].function(at)[1:])
    assert [signal.name for signal in signals] == ["ngram_2", "ngram_3", "ngram_4", "ngram_5"]
    for length, signal in enumerate(signals, start=2):
        values = signal.function(at)
        assert values.shape == at.increments.shape
        assert values.dtype == np.float32
        for layer, head in ((1, 0), (2, 1)):
            np.testing.assert_allclose(
                values[layer, head], means_by_hand(fit, at, length, layer, head), rtol=1e-5
            )


@pytest.mark.parametrize("is_shared", [False, True])
def test_layer_0_is_exactly_the_byte_mean(is_shared: bool) -> None:
    fit, at = pretend([english(0)]), pretend(held_out(), 4)
    expected = np.asarray(byte_mean(fit, is_shared).function(at))
    assert not np.isin(at.byte, fit.byte).all(), "some bytes must be unseen"
    for signal in ngram_means([fit, pretend([english(1)], 8)], is_shared):
        values = signal.function(at)
        assert np.array_equal(values[0], expected[0])
        assert np.array_equal(values, expected) == is_shared


def test_no_text_is_refused_and_nothing_gives_nothing() -> None:
    assert ngram_means([], is_shared=False) == []
    with pytest.raises(LRopeError, match="need text"):
        TextTables.of([made_up(0, "")])
    with pytest.raises(LRopeError, match="need captured text"):
        ngram_means([pretend([])], is_shared=False)


def test_jieba_marks_its_silver_words() -> None:
    documents = [chinese(0, is_gold=False), *ODD]
    signal, notes = jieba_signal(documents)
    assert signal is not None
    assert not notes
    assert signal.is_rule
    captured = pretend(documents)
    values, characters = signal.function(captured), "".join(one.text for one in documents)
    words = np.concatenate([label_gaps(one, "words").is_boundary for one in documents])
    is_han = np.repeat(["一" <= one <= "鿿" for one in characters], [len(one.encode()) for one in characters])
    assert np.array_equal(values, words & is_han)


def test_jieba_reads_each_document_once_and_is_no_signal_without_chinese_or_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> None:
        raise LRopeError("jieba is not installed")

    signal, _ = jieba_signal([chinese(0)])
    assert signal is not None
    first = signal.function(pretend([chinese(0), english(0)]))
    monkeypatch.setattr(jieba_control, "silver_word_starts", None)
    again = signal.function(pretend([english(0), chinese(0)]))
    assert np.array_equal(again[english(0).n_bytes :], first[: chinese(0).n_bytes])
    assert jieba_signal([english(0)]) == (None, [])
    monkeypatch.setattr(jieba_control, "quiet_jieba", missing)
    signal, notes = jieba_signal([chinese(0)])
    assert signal is None
    assert "not installed" in notes[0]
