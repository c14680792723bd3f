"""Which document is held out, which of it an analysis reads, and what it shares with training text."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import (
    SPLITS,
    Corpus,
    CorpusPart,
    Document,
    assert_held_out,
    documents_sha256,
    evaluation_documents,
    held_out,
    piece_of,
    shared_shingles,
)
from lrope_interp.data.documents import hash_fraction, hash_splits, unique_documents
from lrope_interp.data.held_out import sample_documents
from lrope_interp.errors import LRopeError


def _documents(n: int, corpus: str = "toy") -> tuple[Document, ...]:
    return tuple(Document(f"{corpus}-{k}", f"text {k} of {corpus}", corpus, "en") for k in range(n))


def _corpus(n: int, name: str = "toy", share: float = 0.1) -> Corpus:
    return Corpus(name, (CorpusPart(name, "en", _documents(n, name), share),))


def _hash(fraction: float) -> str:
    """Return a hash that falls at `fraction` of the range."""
    return f"{int(fraction * 2**64):016x}" + "0" * 48


def test_the_fraction_is_the_first_sixteen_digits() -> None:
    assert hash_fraction("8" + "0" * 63) == 0.5
    assert hash_fraction("0" * 64) == 0.0


@given(st.integers(0, 40), st.sampled_from([0.1, 0.2, 1.0]), st.integers(0, 1000))
def test_splits_do_not_depend_on_order_and_fill_every_place(n: int, share: float, seed: int) -> None:
    hashes = [hashlib.sha256(f"{seed}-{k}".encode()).hexdigest() for k in range(n)]
    shuffled = random.Random(seed).sample(hashes, n)
    splits = hash_splits(hashes, share)
    assert splits == hash_splits(shuffled, share)
    wanted = set(SPLITS) - ({"train"} if share == 1 else set())
    assert set(splits.values()) == wanted or n < len(wanted)
    assert share != 1 or "train" not in splits.values()


def test_few_documents_hold_out_those_of_the_highest_hashes() -> None:
    splits = hash_splits(map(_hash, [0.1, 0.2, 0.3, 0.4, 0.5]), 0.1)
    assert [splits[_hash(f)] for f in [0.1, 0.2, 0.3, 0.4, 0.5]] == ["train", "train", "fit", "dev", "test"]


def test_every_document_is_in_exactly_one_split() -> None:
    corpus = _corpus(500)
    parts = [{one.sha256 for one in corpus.documents(split)} for split in SPLITS]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 500
    assert all(corpus.split_of(one) == "dev" for one in corpus.documents("dev"))


def test_duplicates_are_removed_first_and_counted() -> None:
    documents = _documents(3)
    copy = replace(documents[0], name="copy")
    kept, n_dropped = unique_documents([*documents, copy])
    assert (kept, n_dropped) == (documents, 1)


def test_the_manifest_does_not_depend_on_the_order_of_documents() -> None:
    corpus = _corpus(200)
    part = corpus.parts[0]
    turned = Corpus("toy", (replace(part, documents=part.documents[::-1]),))
    assert corpus.manifest() == turned.manifest()
    assert documents_sha256(part.documents) == documents_sha256(part.documents[::-1])


def test_the_manifest_lists_every_training_document() -> None:
    corpus = _corpus(200)
    manifest = corpus.manifest()
    train = corpus.documents("train")
    assert manifest["format"] == 1
    assert set(manifest["splits"]["train"]["sha256"]) == {one.sha256 for one in train}
    assert manifest["splits"]["train"]["n_documents"] == len(train)
    assert manifest["splits"]["train"]["n_bytes"] == sum(one.n_bytes for one in train)


def test_held_out_documents_pass_and_a_training_document_is_named() -> None:
    corpus = _corpus(200)
    manifest = corpus.manifest()
    for split in ("fit", "dev", "test"):
        assert_held_out(manifest, corpus.documents(split))
    seen = corpus.documents("train")[0]
    with pytest.raises(LRopeError, match=seen.name):
        assert_held_out(manifest, [*corpus.documents("test"), seen])


@pytest.mark.parametrize("is_cut", [True, False])
def test_training_text_is_found_out_in_pieces_and_whatever_it_was_cut_from(
    is_cut: bool,
) -> None:
    corpus = _corpus(200)
    seen = corpus.documents("train")[0]
    text, cut_from = (seen.text[:4], seen.sha256) if is_cut else (seen.text, "0" * 64)
    piece = replace(seen, name="piece", text=text, cut_from=cut_from)
    with pytest.raises(LRopeError, match="piece"):
        assert_held_out(corpus.manifest(), [piece])
    assert not is_cut or corpus.split_of(piece) == "train"


def test_an_unseen_source_is_held_out_as_a_whole() -> None:
    manifest = _corpus(200, "trained").manifest()
    other = _corpus(300, "other").held_out_from(manifest)
    counts = {split: len(other.documents(split)) for split in SPLITS}
    assert counts["train"] == 0
    assert sum(counts.values()) == 300
    assert counts["fit"] == pytest.approx(120, abs=30)
    assert counts["dev"] == pytest.approx(60, abs=25)
    assert_held_out(manifest, other.documents())


def test_the_models_own_source_keeps_its_split() -> None:
    corpus = _corpus(200)
    again = corpus.held_out_from(corpus.manifest())
    for split in SPLITS:
        assert again.documents(split) == corpus.documents(split)


def test_documents_that_a_model_saw_are_never_held_out() -> None:
    corpus = _corpus(200)
    everything = Corpus("toy", (replace(corpus.parts[0], held_out_share=0.5),))
    manifest = corpus.manifest()
    assert not set(everything.documents("test")) <= set(corpus.documents("test"))
    for split in ("fit", "dev", "test"):
        assert_held_out(manifest, everything.held_out_from(manifest).documents(split))


def test_what_a_corpus_does_not_have_is_refused() -> None:
    corpus = _corpus(10)
    with pytest.raises(LRopeError, match="does not belong"):
        corpus.split_of(Document("x", "else", "toy", "en"))
    with pytest.raises(LRopeError, match="'test'"):
        corpus.documents("tests")
    with pytest.raises(LRopeError, match="'toy'"):
        corpus.documents(part="toys")


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 1.0])
def test_the_steps_lie_at_two_and_three_fifths_of_what_is_held_out(share: float) -> None:
    steps = [(1 - share, "train", "fit"), (1 - 0.6 * share, "fit", "dev"), (1 - 0.4 * share, "dev", "test")]
    wanted = {_hash(at - 1e-9): below for at, below, _ in steps if at > 0}
    wanted |= {_hash(at + 1e-9): above for at, _, above in steps}
    assert hash_splits(wanted, share) == wanted


def test_a_hash_on_a_step_belongs_above_it() -> None:
    for share, fit, dev, test in ((0.5, 0.5, 0.75, 0.9), (1.0, 0.0, 0.4, 0.6)):
        wanted = {_hash(at): name for at, name in ((fit, "fit"), (dev, "dev"), (test, "test"))}
        inside = {_hash(0.1): "train", _hash(0.6): "fit"} if share < 1 else {_hash(0.2): "fit"}
        wanted |= inside | {_hash(dev + 0.01): "dev", _hash(test + 0.05): "test"}  # so that none is empty
        assert hash_splits(wanted, share) == wanted


def test_ten_documents_of_low_hashes_are_held_out_four_two_four() -> None:
    hashes = [_hash(k / 100) for k in range(10)]
    splits = hash_splits(hashes, 1.0)
    assert [splits[one] for one in hashes] == ["fit"] * 4 + ["dev"] * 2 + ["test"] * 4


def _sized_document(k: int, n: int, language: str = "en") -> Document:
    return Document(f"{language}{k}", f"{k} " + "word " * (n // 5), "toy", language)


def _sized(sizes: list[int], languages: tuple[str, ...] = ("en",)) -> Corpus:
    parts = tuple(
        CorpusPart(one, one, tuple(_sized_document(k, n, one) for k, n in enumerate(sizes)), 1.0)
        for one in languages
    )
    return Corpus("toy", parts)


def test_each_language_gives_at_most_what_was_asked() -> None:
    documents = evaluation_documents(_sized([3_000] * 200, ("en", "zh")), "test", 20_000)
    for language in ("en", "zh"):
        n_bytes = sum(one.n_bytes for one in documents if one.language == language)
        assert 19_500 < n_bytes <= 20_000


def test_a_long_document_gives_one_piece_of_eight_kilobytes() -> None:
    documents = evaluation_documents(_sized([50_000] * 60), "test", 200_000)
    assert all(one.n_bytes == 8_000 and one.cut_from for one in documents)
    assert len({one.cut_from for one in documents}) == len(documents)


def test_the_choice_does_not_depend_on_order() -> None:
    corpus = _sized([100, 900, 9_000, 30_000] * 20)
    part = corpus.parts[0]
    turned = Corpus("toy", (replace(part, documents=part.documents[::-1]),))
    assert evaluation_documents(corpus, "test", 30_000) == evaluation_documents(turned, "test", 30_000)


def test_a_document_within_the_limit_is_left_alone() -> None:
    corpus = _sized([3_000] * 50)
    assert set(evaluation_documents(corpus, "fit")) == set(corpus.documents("fit"))


def test_documents_are_spread_only_where_that_is_asked_for() -> None:
    corpus = _sized([3_000] * 200)
    whole = evaluation_documents(corpus, "test", 20_000)
    assert sample_documents(corpus.documents("test"), 20_000) == whole
    assert len(evaluation_documents(corpus, "test", 20_000, spread=True)) > len(whole)


def test_an_empty_split_gives_nothing_and_a_limit_below_one_byte_is_refused() -> None:
    assert evaluation_documents(_sized([100] * 10), "train") == ()
    with pytest.raises(LRopeError, match="at least 1"):
        evaluation_documents(_sized([100] * 10), "test", 0)


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
        document = _sized_document(k, 3_000)
        start = int(document.sha256[16:32], 16) % (document.n_bytes - 700 + 1)
        assert piece_of(document, 700).text == document.text[start : start + 700]


def test_a_piece_of_a_piece_belongs_to_the_whole_document() -> None:
    document = _sized_document(1, 3_000)
    assert piece_of(piece_of(document, 700), 100).cut_from == document.sha256


def test_what_is_left_is_filled_with_five_hundred_bytes_or_not_at_all() -> None:
    corpus = _sized([3_000] * 50)
    length = corpus.documents("test")[0].n_bytes
    assert len(evaluation_documents(corpus, "test", length + 600)) == 2
    assert len(evaluation_documents(corpus, "test", length + 490)) == 1


def test_spread_takes_a_share_of_every_document() -> None:
    corpus = _sized([3_000] * 50)
    n = len(corpus.documents("test"))
    found = evaluation_documents(corpus, "test", 1_000 * n, spread=True)
    assert len(found) == n
    assert {one.n_bytes for one in found} == {1_000}


def _texts(texts: list[str]) -> list[Document]:
    return [Document(str(k), text, "toy", "und") for k, text in enumerate(texts)]


def _brute_force(own: list[str], train: list[str], width: int) -> tuple[list[list[bool]], int]:
    """Compare every stretch of `width` bytes with every training text."""
    raws = [text.encode("utf-8") for text in train]
    masks, n_shared = [], 0
    for text in own:
        raw = text.encode("utf-8")
        mask = [False] * len(raw)
        for start in range(len(raw) - width + 1):
            if any(raw[start : start + width] in other for other in raws):
                n_shared += 1
                mask[start : start + width] = [True] * width
        masks.append(mask)
    return masks, n_shared


few_letters = st.lists(st.text("ab中", max_size=25), max_size=4)


@given(few_letters, few_letters, st.sampled_from([1, 2, 4, 8]))
def test_masks_and_count_equal_brute_force(own: list[str], train: list[str], width: int) -> None:
    found = shared_shingles(_texts(own), _texts(train), width=width)
    masks, n_shared = _brute_force(own, train, width)
    assert [mask.tolist() for mask in found.masks] == masks
    assert found.n_shared == n_shared
    assert found.n_documents == sum(any(mask) for mask in masks)
    assert found.n_bytes == sum(map(sum, masks))


def test_a_phrase_of_64_bytes_is_found_and_one_of_63_is_not() -> None:
    phrase = "".join(chr(97 + (k * k) % 26) for k in range(64))
    train = _texts(["before " + phrase + " after"])
    found = shared_shingles(_texts(["X" + phrase + "Y", "X" + phrase[:63] + "Y"]), train)
    assert np.flatnonzero(found.masks[0]).tolist() == list(range(1, 65))
    assert not found.masks[1].any()
    assert (found.n_shared, found.n_documents) == (1, 1)


def test_a_phrase_that_spans_two_training_documents_is_not_shared() -> None:
    own = _texts(["abcdefgh"])
    assert shared_shingles(own, _texts(["abcd", "efgh"]), width=8).n_shared == 0
    assert shared_shingles(own, _texts(["abcdefgh"]), width=8).n_shared == 1


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc"), 300)) for _ in range(20)]
    whole = shared_shingles(_texts(texts[:5]), _texts(texts[5:]), width=8)
    monkeypatch.setattr(held_out, "_CHUNK_BYTES", 100)
    cut = shared_shingles(_texts(texts[:5]), _texts(texts[5:]), width=8)
    assert whole.n_shared == cut.n_shared > 0
    assert all(np.array_equal(a, b) for a, b in zip(whole.masks, cut.masks, strict=True))


def test_no_documents_share_nothing() -> None:
    assert shared_shingles([], _texts(["abc"])).masks == ()
    assert shared_shingles(_texts(["abc"]), []).n_shared == 0


def test_a_width_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(LRopeError, match="power of two"):
        shared_shingles([], [], width=48)
