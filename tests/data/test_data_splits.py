"""Splits by hash: disjoint, stable, never empty where that can be helped."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import SPLITS, Corpus, CorpusPart, Document, assert_held_out, documents_sha256
from lrope_interp.data.documents import hash_fraction, hash_splits, unique_documents
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


def test_a_hash_falls_into_the_split_worked_out_by_hand() -> None:
    fractions = [
        0.1,
        0.5,
        0.79,
        0.81,
        0.87,
        0.89,
        0.91,
        0.93,
        0.99,
    ]  # held out above 0.8, steps at 0.88, 0.92
    splits = hash_splits(map(_hash, fractions), 0.2)
    wanted = ["train", "train", "train", "fit", "fit", "dev", "dev", "test", "test"]
    assert [splits[_hash(fraction)] for fraction in fractions] == wanted


def test_shares_come_out_as_asked() -> None:
    corpus = _corpus(20_000)
    counts = {split: len(corpus.documents(split)) / 20_000 for split in SPLITS}
    assert counts == pytest.approx({"train": 0.9, "fit": 0.04, "dev": 0.02, "test": 0.04}, abs=0.005)


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


def test_a_piece_of_a_training_document_is_found_out() -> None:
    corpus = _corpus(200)
    seen = corpus.documents("train")[0]
    piece = replace(seen, name="piece", text=seen.text[:4], cut_from=seen.sha256)
    with pytest.raises(LRopeError, match="piece"):
        assert_held_out(corpus.manifest(), [piece])
    assert corpus.split_of(piece) == "train"


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


def test_a_foreign_document_belongs_to_no_split() -> None:
    with pytest.raises(LRopeError, match="does not belong"):
        _corpus(10).split_of(Document("x", "else", "toy", "en"))


def test_unknown_splits_and_parts_name_the_nearest() -> None:
    with pytest.raises(LRopeError, match="'test'"):
        _corpus(10).documents("tests")
    with pytest.raises(LRopeError, match="'toy'"):
        _corpus(10).documents(part="toys")


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


def test_text_that_was_trained_on_is_found_out_whatever_it_says_it_was_cut_from() -> None:
    corpus = _corpus(200)
    seen = corpus.documents("train")[0]
    with pytest.raises(LRopeError, match="copy"):
        assert_held_out(corpus.manifest(), [replace(seen, name="copy", cut_from="0" * 64)])
