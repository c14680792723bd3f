"""Shared shingles against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import Document, held_out, shared_shingles
from lrope_interp.errors import LRopeError


def _documents(texts: list[str]) -> list[Document]:
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
    found = shared_shingles(_documents(own), _documents(train), width=width)
    masks, n_shared = _brute_force(own, train, width)
    assert [mask.tolist() for mask in found.masks] == masks
    assert found.n_shared == n_shared
    assert found.n_documents == sum(any(mask) for mask in masks)
    assert found.n_bytes == sum(map(sum, masks))


def test_a_phrase_of_64_bytes_is_found_and_one_of_63_is_not() -> None:
    phrase = "".join(chr(97 + (k * k) % 26) for k in range(64))
    train = _documents(["before " + phrase + " after"])
    found = shared_shingles(_documents(["X" + phrase + "Y", "X" + phrase[:63] + "Y"]), train)
    assert np.flatnonzero(found.masks[0]).tolist() == list(range(1, 65))
    assert not found.masks[1].any()
    assert (found.n_shared, found.n_documents) == (1, 1)


def test_a_phrase_that_spans_two_training_documents_is_not_shared() -> None:
    own = _documents(["abcdefgh"])
    assert shared_shingles(own, _documents(["abcd", "efgh"]), width=8).n_shared == 0
    assert shared_shingles(own, _documents(["abcdefgh"]), width=8).n_shared == 1


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc"), 300)) for _ in range(20)]
    whole = shared_shingles(_documents(texts[:5]), _documents(texts[5:]), width=8)
    monkeypatch.setattr(held_out, "_CHUNK_BYTES", 100)
    cut = shared_shingles(_documents(texts[:5]), _documents(texts[5:]), width=8)
    assert whole.n_shared == cut.n_shared > 0
    assert all(np.array_equal(a, b) for a, b in zip(whole.masks, cut.masks, strict=True))


def test_no_documents_share_nothing() -> None:
    assert shared_shingles([], _documents(["abc"])).masks == ()
    assert shared_shingles(_documents(["abc"]), []).n_shared == 0


def test_a_width_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(LRopeError, match="power of two"):
        shared_shingles([], [], width=48)
