"""Which held-out text an analysis reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import Corpus, CorpusPart, Document, evaluation_documents, piece_of
from lrope_interp.errors import LRopeError


def _document(k: int, n: int, language: str = "en") -> Document:
    return Document(f"{language}{k}", f"{k} " + "word " * (n // 5), "toy", language)


def _corpus(sizes: list[int], languages: tuple[str, ...] = ("en",)) -> Corpus:
    parts = tuple(
        CorpusPart(one, one, tuple(_document(k, n, one) for k, n in enumerate(sizes)), 1.0)
        for one in languages
    )
    return Corpus("toy", parts)


def test_each_language_gives_at_most_what_was_asked() -> None:
    documents = evaluation_documents(_corpus([3_000] * 200, ("en", "zh")), "test", 20_000)
    for language in ("en", "zh"):
        n_bytes = sum(one.n_bytes for one in documents if one.language == language)
        assert 19_500 < n_bytes <= 20_000


def test_a_long_document_gives_one_piece_of_eight_kilobytes() -> None:
    documents = evaluation_documents(_corpus([50_000] * 60), "test", 200_000)
    assert all(one.n_bytes == 8_000 and one.cut_from for one in documents)
    assert len({one.cut_from for one in documents}) == len(documents)


def test_the_choice_does_not_depend_on_order() -> None:
    corpus = _corpus([100, 900, 9_000, 30_000] * 20)
    part = corpus.parts[0]
    turned = Corpus("toy", (replace(part, documents=part.documents[::-1]),))
    assert evaluation_documents(corpus, "test", 30_000) == evaluation_documents(turned, "test", 30_000)


def test_a_document_within_the_limit_is_left_alone() -> None:
    corpus = _corpus([3_000] * 50)
    assert set(evaluation_documents(corpus, "fit")) == set(corpus.documents("fit"))


def test_an_empty_split_gives_nothing() -> None:
    assert evaluation_documents(_corpus([100] * 10), "train") == ()


def test_a_limit_below_one_byte_is_refused() -> None:
    with pytest.raises(LRopeError, match="at least 1"):
        evaluation_documents(_corpus([100] * 10), "test", 0)


@given(st.text("aé中😀", min_size=1, max_size=80), st.integers(1, 60))
def test_a_piece_is_cut_between_characters_and_names_its_document(text: str, n_bytes: int) -> None:
    document = Document("d", text, "toy", "und")
    piece = piece_of(document, n_bytes)
    assert piece.n_bytes <= n_bytes
    assert piece.text in text
    assert piece.source_sha256 == document.sha256
    if document.n_bytes > n_bytes:
        assert piece.n_bytes >= n_bytes - 2 * 3  # at most a broken character at either end
        first, last = map(int, piece.name[2:-1].split(":"))
        assert piece.text == text[first:last]


@given(st.lists(st.sampled_from(["中", "国人", "abc", "。"]), min_size=2, max_size=30), st.integers(1, 30))
def test_gold_words_are_clipped_to_the_piece(words: list[str], n_bytes: int) -> None:
    stops = [sum(map(len, words[: k + 1])) for k in range(len(words))]
    spans = tuple((stop - len(word), stop) for word, stop in zip(words, stops, strict=True))
    tags = tuple(str(k) for k in range(len(words)))
    document = Document("d", "".join(words), "toy", "zh", words=spans, tags=tags)
    piece = piece_of(document, n_bytes)
    assert piece.words is not None
    assert piece.tags is not None
    assert "".join(piece.text[start:stop] for start, stop in piece.words) == piece.text
    assert all(start < stop for start, stop in piece.words)
    assert len(piece.tags) == len(piece.words)
    for (start, stop), tag in zip(piece.words, piece.tags, strict=True):
        assert piece.text[start:stop] in words[int(tag)]


def test_the_place_of_a_piece_is_told_by_the_second_sixteen_digits_of_the_hash() -> None:
    for k in range(5):
        document = _document(k, 3_000)
        start = int(document.sha256[16:32], 16) % (document.n_bytes - 700 + 1)
        assert piece_of(document, 700).text == document.text[start : start + 700]


def test_a_piece_of_a_piece_belongs_to_the_whole_document() -> None:
    document = _document(1, 3_000)
    assert piece_of(piece_of(document, 700), 100).cut_from == document.sha256


def test_what_is_left_is_filled_with_five_hundred_bytes_or_not_at_all() -> None:
    corpus = _corpus([3_000] * 50)
    length = corpus.documents("test")[0].n_bytes
    assert len(evaluation_documents(corpus, "test", length + 600)) == 2
    assert len(evaluation_documents(corpus, "test", length + 490)) == 1


def test_spread_takes_a_share_of_every_document() -> None:
    corpus = _corpus([3_000] * 50)
    n = len(corpus.documents("test"))
    found = evaluation_documents(corpus, "test", 1_000 * n, spread=True)
    assert len(found) == n
    assert {one.n_bytes for one in found} == {1_000}
