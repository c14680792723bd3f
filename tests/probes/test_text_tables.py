"""Tables of the training text against slow, obvious counting."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from probe_samples import english
from text_samples import ODD, at_first_bytes, contexts, held_out, made_up, training

from lrope_interp.data import Document
from lrope_interp.data.documents import IndexedDocuments
from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries.text_controls import (
    LEAST_COUNT,
    MAX_CONTEXT,
    JoinedText,
    TextTables,
    text_sample,
    text_signals,
)


@pytest.fixture(scope="module")
def tables() -> TextTables:
    return TextTables.of(training())


def test_branching_entropy_is_that_of_counting_by_hand(tables: TextTables) -> None:
    followers = contexts(training(), MAX_CONTEXT)

    def entropy(text: str, place: int) -> float:
        for length in range(min(MAX_CONTEXT, place), -1, -1):
            counts = followers.get(text[place - length : place], Counter())
            if length == 0 or counts.total() >= LEAST_COUNT:
                return -sum(n / counts.total() * math.log(n / counts.total()) for n in counts.values())
        raise AssertionError

    documents = held_out()
    expected = at_first_bytes(documents, entropy, 0.0)
    np.testing.assert_allclose(tables.branching_entropy(documents), expected, atol=1e-12)
    assert len(np.unique(expected)) > 50, "contexts of several lengths must occur"


def test_a_context_counts_from_ten_occurrences_on() -> None:
    once = [made_up(number, f"{number}ab") for number in range(9)]
    nine, ten = (TextTables.of([*once, *more]) for more in ([], [made_up(10, "xac")]))
    text = [made_up(99, "ab")]
    assert nine.branching_entropy(text)[1] == nine.branching_entropy(text)[0] > 0
    after_a = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert ten.branching_entropy(text)[1] == pytest.approx(after_a)


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


@pytest.mark.parametrize("name", ["branching_entropy", "pmi", "log_bigram"])
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
            assert values.dtype == np.float64
            assert np.isfinite(values).all()


def test_no_text_is_refused() -> None:
    with pytest.raises(LRopeError, match="need text"):
        TextTables.of([made_up(0, "")])


class Reading(IndexedDocuments):
    """Documents that note which were read; single looks, as those of beartype, do not count."""

    def __init__(self, documents: list[Document], read: list[str]) -> None:
        self.documents, self.read = documents, read

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int) -> Document:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.documents[index]

    def __iter__(self) -> Iterator[Document]:
        for document in self.documents:
            self.read.append(document.name)
            yield document

    hashes = property(lambda self: [one.sha256 for one in self.documents])  # pyright: ignore
    sizes = property(lambda self: np.array([one.n_bytes for one in self.documents]))  # pyright: ignore
    languages = property(lambda self: [one.language for one in self.documents])  # pyright: ignore

    def take(self, rows: np.ndarray) -> Reading:
        return Reading([self.documents[row] for row in rows], self.read)


def test_no_more_is_read_than_asked_for_and_hashes_decide_what() -> None:
    documents = [english(number) for number in range(40)]
    read: list[str] = []
    sample, is_all = text_sample(Reading(documents, read), 2_000)
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


def test_joined_text_knows_every_first_byte() -> None:
    raw = np.frombuffer(b"".join(one.encoded for one in held_out()), dtype=np.uint8)
    text = JoinedText.of(held_out())
    assert text.n_bytes == len(raw)
    assert np.array_equal(text.first_byte, np.flatnonzero((raw & 0xC0) != 0x80))


def test_the_signals_are_read_at_first_bytes_only(tables: TextTables) -> None:
    signals = text_signals(tables)
    assert [signal.name for signal in signals] == ["branching_entropy", "pmi"]
    assert all(signal.is_per_character and signal.kind == "control" for signal in signals)
