"""Text without white space: what is removed, what is remembered, and what is held out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import (
    SPLITS,
    CorpusPart,
    Document,
    Reading,
    assert_held_out,
    evaluation_documents,
    hashes_of,
    label_gaps,
    load_corpus,
    load_corpus_for,
    piece_of,
    text_documents,
    training_documents,
    training_streams,
)
from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.corpora import _PARTS
from lrope_interp.data.labels.words import despaced, despaced_part, without_space
from lrope_interp.data.windows import document_hashes
from lrope_interp.errors import LRopeError
from lrope_interp.tokenizers import ByteTokenizer

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
TEXT = "Don't stop,\u00a0the 3rd\u3000time!\x1c\n\n 好 的。"


def _document(text: str, language: str = "und", **fields: object) -> Document:
    return Document("d", text, "test", language, **fields)  # type: ignore[arg-type]


def _words(document: Document) -> list[str]:
    return [document.text[start:stop] for start, stop in document.words or ()]


def _paragraphs(n: int, first: int = 0) -> str:
    rng = np.random.default_rng(first)
    words = ["peace", "treaty", "of", "nations", "é", "1824", "中 国"]
    return "\n\n".join(f"No {first + k}. " + " ".join(rng.choice(words, 500)) for k in range(n))


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_property_white_space_goes_and_nothing_else() -> None:
    found = despaced(_document(TEXT))
    assert found.text == without_space(TEXT) == "Don'tstop,the3rdtime!\x1c好的。"
    assert _words(found) == ["Don", "t", "stop", "the", "3rd", "time", "好", "的"]
    assert (found.is_despaced, found.word_grade) == (True, "rule")


@given(anything)
def test_what_is_left_has_no_space_and_the_words_in_order(text: str) -> None:
    found = despaced(_document(text))
    assert not (character_kinds(found.text) & Kind.SPACE).any()
    kinds = character_kinds(text)
    assert found.text == "".join(one for one, kind in zip(text, kinds, strict=True) if not kind & Kind.SPACE)
    assert found.n_bytes == len(found.text.encode())
    is_word = (character_kinds(found.text) & Kind.WORD) != 0
    covered = np.zeros(len(found.text), dtype=bool)
    for start, stop in found.words or ():
        assert not covered[start:stop].any()
        covered[start:stop] = True
    assert (covered == is_word).all()


def test_gold_words_and_tags_move_along() -> None:
    words = ((0, 5), (5, 6), (6, 7), (8, 11))  # "New Y", "o", " ", "the"
    found = despaced(_document("New Yo \nthe", words=words, tags=("a", "b", "c", "d")))
    assert found.text == "NewYothe"
    assert _words(found) == ["NewY", "o", "the"]
    assert found.tags == ("a", "b", "d")
    assert found.word_grade == "gold"


def test_despacing_twice_is_despacing_once() -> None:
    once = despaced(_document(TEXT))
    assert despaced(once) is once


def test_a_piece_keeps_what_it_was_cut_from() -> None:
    whole = despaced(_document("The treaty of peace. " * 50))
    piece = piece_of(whole, 100)
    assert (piece.is_despaced, piece.word_grade, piece.cut_from) == (True, "rule", whole.sha256)
    assert set(_words(piece)[1:-1]) == {"The", "treaty", "of", "peace"}
    with pytest.raises(AssertionError):
        despaced(piece_of(_document("The treaty. " * 50), 100))


def test_documents_that_become_empty_or_equal_are_dropped() -> None:
    texts = ["a b", "ab", " \n", *"cdef"]
    part = CorpusPart("p", "und", tuple(map(_document, texts)), 0.5, {"n_duplicates_removed": 3})
    found = despaced_part(part)
    assert [one.text for one in found.documents] == ["ab", *"cdef"]
    assert found.source["n_duplicates_removed"] == 4


@pytest.mark.parametrize("kind", ["file", "folder", "table"])
def test_a_despaced_corpus_is_hashed_split_and_trained_on_without_spaces(kind: str, tmp_path: Path) -> None:
    texts = [_paragraphs(1, number) for number in range(40)]
    if kind == "file":
        path = _write(tmp_path / "a.txt", "\n\n".join(texts))
    elif kind == "table":
        path = _write(
            tmp_path / "a.jsonl", "".join(json.dumps({"text": one}) + "\n" for one in [*texts, "\t"])
        )
    else:
        path = tmp_path
        for number, one in enumerate(texts):
            _write(tmp_path / f"{number}.txt", one)
    corpus = load_corpus(f"file:{path}", despaced=True)
    documents = corpus.documents()
    assert sorted(one.text for one in documents) == sorted(map(without_space, texts))
    assert hashes_of(documents) == [
        despaced(_document(one.text)).sha256 for one in documents
    ]  # not those of the text with spaces, which is what lies in the cache
    assert all(one.is_despaced and _words(one)[0] == "No" for one in documents)
    manifest = corpus.manifest()
    assert manifest["despaced"] is True
    assert sum(manifest["splits"][split]["n_bytes"] for split in SPLITS) == sum(
        len(without_space(one).encode()) for one in texts
    )
    [(_, stream)] = training_streams(corpus, ByteTokenizer())
    assert not set(b" \n\t") & set(stream.tolist())
    read = document_hashes(stream, ByteTokenizer())
    assert sorted(read) == manifest["splits"]["train"]["sha256"]
    assert_held_out({"splits": {"train": {"sha256": read}}}, corpus.documents("test"))
    with pytest.raises(LRopeError, match="in the training text"):
        assert_held_out(manifest, corpus.documents("train"))


def test_the_cache_tells_despaced_text_from_text_with_spaces(own_cache: Path, tmp_path: Path) -> None:
    name = f"file:{_write(tmp_path / 'a.txt', _paragraphs(20))}"
    spaced, without = load_corpus(name), load_corpus(name, despaced=True)
    again, without_again = load_corpus(name), load_corpus(name, despaced=True)
    assert len(list((own_cache / "texts").glob("[!.]*"))) == 2
    assert hashes_of(spaced.documents()) == hashes_of(again.documents())
    assert hashes_of(without.documents()) == hashes_of(without_again.documents())
    assert not set(hashes_of(spaced.documents())) & set(hashes_of(without.documents()))


def test_the_most_bytes_to_read_count_the_spaces_too(tmp_path: Path) -> None:
    name = f"file:{_write(tmp_path / 'a.txt', _paragraphs(20))}"
    spaced, without = (
        load_corpus(name, max_train_bytes=20_000, despaced=is_despaced) for is_despaced in (False, True)
    )
    assert [one.name for one in spaced.documents()] == [one.name for one in without.documents()]


def test_whatever_a_despaced_run_is_measured_on_is_despaced(tmp_path: Path) -> None:
    own = f"file:{_write(tmp_path / 'own.txt', _paragraphs(20))}"
    other = f"file:{_write(tmp_path / 'other.txt', _paragraphs(20, 100))}"
    manifest = load_corpus(own, despaced=True).manifest()
    assert all(one.is_despaced for one in load_corpus_for(manifest).documents())
    assert all(one.is_despaced for one in load_corpus_for(manifest, other).documents())
    assert not any(one.is_despaced for one in load_corpus_for(load_corpus(own).manifest(), other).documents())
    assert hashes_of(training_documents(manifest)) == hashes_of(
        load_corpus(own, despaced=True).documents("train")
    )


def test_a_manifest_of_before_says_nothing_and_means_with_spaces() -> None:
    assert Reading.of({"encoding_errors": "replace"}) == Reading("replace")


def test_a_named_corpus_can_be_despaced(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = tuple(_document(_paragraphs(1, number)) for number in range(30))
    part = CorpusPart("p", "und", documents, 0.3)
    monkeypatch.setattr("lrope_interp.data.corpora._PARTS", {**_PARTS, "code": (lambda: part,)})
    corpus = load_corpus("code", despaced=True)
    assert load_corpus_for(corpus.manifest()).manifest() == corpus.manifest()
    pieces = evaluation_documents(corpus, "test")
    assert pieces
    assert all(one.is_despaced for one in pieces)
    assert_held_out(corpus.manifest(), pieces)


def test_a_text_of_ones_own_is_despaced_by_its_paragraphs(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.txt", "One word.\n\n\u2003\n\nTwo\nlines.")
    assert [one.text for one in text_documents(path, is_despaced=True)] == ["Oneword.", "Twolines."]


def _starts(document: Document, label: str) -> list[int]:
    return np.flatnonzero(label_gaps(document, label).is_boundary).tolist()


def test_the_label_despaced_says_where_words_began() -> None:
    found = despaced(_document("Don't stop. 好 的"))
    assert _starts(found, "despaced") == [0, 4, 5, 10, 13]
    assert label_gaps(found, "despaced").grade == "rule"
    gold = despaced(_document("北京 大学，好", words=((0, 5), (5, 6), (6, 7))))
    assert _starts(gold, "despaced") == _starts(gold, "words") == [0, 15]
    assert label_gaps(gold, "despaced").grade == label_gaps(gold, "words").grade == "gold"


@pytest.mark.parametrize("label", ["words", "sentences"])
def test_what_the_spaces_told_is_not_known_without_them(label: str) -> None:
    with pytest.raises(LRopeError, match=r"de-spaced"):
        label_gaps(despaced(_document("a b")), label)


def test_text_with_spaces_has_no_label_despaced() -> None:
    with pytest.raises(LRopeError, match="train --despaced"):
        label_gaps(_document("a b"), "despaced")


def test_hashes_are_those_of_what_is_read_not_of_the_source(tmp_path: Path) -> None:
    """The hashes would be found to be wrong: those of the spaced text are others."""
    name = f"file:{_write(tmp_path / 'a.txt', _paragraphs(20))}"

    def sha256s(documents: Iterable[Document]) -> set[str]:
        return {Document("d", one.text, "c", "und").sha256 for one in documents}

    corpus = load_corpus(name, despaced=True)
    assert sha256s(corpus.documents()) == set(hashes_of(corpus.documents()))
    assert sha256s(load_corpus(name).documents()) != set(hashes_of(corpus.documents()))
