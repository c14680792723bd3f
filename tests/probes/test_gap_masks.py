"""Where labels hold, in words and by brute force: English, Chinese, emoji, marks, and odd line ends."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np
import pytest
from probe_samples import chinese, english

from lrope_interp.data import BYTE_CLASSES, Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.places import byte_mask, bytes_since, gap_mask, words_of
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.tokenizers.bpe import train_bpe

MakeModel = Callable[..., LRopeTransformer]
GOLD = Document("gold", "中国人民，银行ab", "made up", "zh", ((0, 2), (2, 4), (4, 5), (5, 7), (7, 9)))
NO_GOLD = Document("plain", "The peace. 1824", "made up", "en")


@pytest.fixture
def model(make_model: MakeModel) -> LRopeTransformer:
    return make_model(n_layers=1, n_ctx=128)


def marked(model: LRopeTransformer, text: str | Document, where: str) -> str:
    """The bytes of a text that a mask marks; `.` for the others. EOS is checked and left out."""
    mask = gap_mask(model, text, where)
    raw = text.encoded if isinstance(text, Document) else text.encode()
    assert mask.shape == (1, len(raw) + 1)
    assert not mask[0, 0], "EOS is never marked"
    letters = [chr(byte) if 32 < byte < 127 else "#" for byte in raw]
    return "".join(
        letter if here else "." for letter, here in zip(letters, mask[0, 1:].tolist(), strict=True)
    )


@pytest.mark.parametrize(
    ("text", "where", "wanted"),
    [
        ("The cat, sat.", "words", "T...c....s..."),
        ("The cat, sat.", "inside_words", ".he..at...at."),
        ("The cat, sat.", "punctuation", ".......,....."),
        ("The cat, sat.", "whitespace", "...#....#...."),
        ("The cat, sat.", "a-z", ".he.cat..sat."),
        ("The cat, sat.", "A-Z", "T............"),
        ("The cat, sat!", "punctuation .!?", "............!"),
        ("Is it? It is. So", "sentences", "I......I......S."),
        ("a\r\nb", "whitespace", ".##."),
        ("a\r\nb c", "words", "a..b.c"),
        ("no 12", "0-9", "...12"),
        ("e\u0301t e\u0301", "words", "e....e.."),
        ("e\u0301t e\u0301", "inside_words", ".##t..##"),
        ("🙂a 🙂", "words", "....a....."),
        ("🙂a 🙂", "other continuation", ".###...###"),
        ("中a", "han lead", "#..."),
        ("中a", "han continuation", ".##."),
    ],
)
def test_a_label_holds_at_these_bytes(model: LRopeTransformer, text: str, where: str, wanted: str) -> None:
    document = Document("text", text, "made up", "en")
    assert marked(model, document, where) == wanted


def test_gold_words_are_followed(model: LRopeTransformer) -> None:
    assert marked(model, GOLD, "words") == "#.....#........#.....a."
    inside = marked(model, GOLD, "inside_words")
    assert inside == ".#####.#####....#####.b"
    assert words_of([GOLD]).tolist() == [0] * 6 + [1] * 6 + [-1] * 3 + [2] * 6 + [3] * 2


def brute_words(text: str) -> list[int]:
    """Number maximal runs of letters, marks and numbers, byte by byte."""
    out, number, was_word = [], -1, False
    for character in text:
        category = unicodedata.category(character)[0]
        is_word = was_word if category == "M" else category in "LN"
        number += is_word and not was_word
        out += [number if is_word else -1] * len(character.encode())
        was_word = is_word
    return out


@pytest.mark.parametrize(
    "text", ["The cat, sat.", "", "a", "e\u0301 b\u0308c", "🙂a🙂b", "x\r\ny\n", "über-café 12", "..."]
)
def test_words_are_runs_of_letters_marks_and_numbers(text: str) -> None:
    document = Document("text", text, "made up", "en")
    assert words_of([document]).tolist() == brute_words(text)


def test_words_of_several_documents_have_numbers_of_their_own() -> None:
    unknown = Document("bare", "nowordsknown", "made up", "en", is_despaced=True)
    documents = [NO_GOLD, unknown, Document("empty", "", "made up", "en"), GOLD, NO_GOLD]
    got = words_of(documents)
    n = NO_GOLD.n_bytes
    assert (got[n : n + unknown.n_bytes] == -1).all()
    assert got[:n].max() == 2
    assert got[n + unknown.n_bytes :].tolist() == [
        *np.where(words_of([GOLD]) < 0, -1, words_of([GOLD]) + 3),
        *np.where(got[:n] < 0, -1, got[:n] + 7),
    ]
    assert words_of([]).tolist() == []


def test_the_place_inside_words_is_all_of_a_word_but_its_first_byte() -> None:
    documents = [english(0), chinese(0), GOLD]
    words = words_of(documents)
    is_first = np.r_[True, words[1:] != words[:-1]] & (words >= 0)
    assert np.array_equal(byte_mask(documents, "words")[0], is_first)
    assert np.array_equal(byte_mask(documents, "inside_words")[0], (words >= 0) & ~is_first)


def test_the_byte_classes_share_out_every_byte() -> None:
    document = Document("all", "aZ9 \t\n.!,$中é🙂\x01", "made up", "und")
    held = np.zeros(document.n_bytes, dtype=int)
    for name in BYTE_CLASSES:
        held += byte_mask([document], name)[0]
    assert (held == 1).all()


def brute_since(is_boundary: np.ndarray, document: np.ndarray) -> list[int]:
    out = []
    for t in range(len(is_boundary)):
        back = t
        while back >= 0 and document[back] == document[t] and not is_boundary[back]:
            back -= 1
        out.append(t - back if back >= 0 and document[back] == document[t] else -1)
    return out


@pytest.mark.parametrize("seed", range(6))
def test_bytes_since_a_boundary_are_counted_within_a_document(seed: int) -> None:
    rng = np.random.default_rng(seed)
    is_boundary = rng.random(60) < rng.choice([0.03, 0.2, 0.8])
    document = np.sort(rng.integers(0, 5, 60))
    assert bytes_since(is_boundary, document).tolist() == brute_since(is_boundary, document)
    assert bytes_since(is_boundary[:0], document[:0]).tolist() == []


def test_masks_of_documents_are_joined_and_unknown_ones_hold_nowhere() -> None:
    whole, parts = byte_mask([NO_GOLD, GOLD], "punctuation"), [NO_GOLD, GOLD]
    assert np.array_equal(whole[0], np.concatenate([byte_mask([one], "punctuation")[0] for one in parts]))
    code = Document("code", "if a:\n  b\n", "made up", "code")
    lines, n_known = byte_mask([NO_GOLD, code], "lines")
    assert (whole[1], n_known) == (2, 1)
    assert not lines[: NO_GOLD.n_bytes].any() and lines[NO_GOLD.n_bytes :].any()


def test_a_label_that_is_known_in_part_has_fields_of_its_own_gaps() -> None:
    code = Document("code", "if a:\n  b\n", "made up", "code")
    gaps = Gaps.of([NO_GOLD, code], ["lines", "whitespace"])
    is_code = np.arange(NO_GOLD.n_bytes + code.n_bytes) >= NO_GOLD.n_bytes
    fields = {(one.stratum, *one.labels): one.gaps.tolist() for one in gaps.fields()}
    assert len(fields) == len(gaps.fields())
    for stratum, mask in gaps.strata.items():
        whole, part = np.flatnonzero(mask).tolist(), np.flatnonzero(mask & is_code).tolist()
        if part == whole and whole:
            assert fields.pop((stratum, "lines", "whitespace")) == whole
        else:
            assert fields.pop((stratum, "whitespace"), []) == whole
            assert fields.pop((stratum, "lines"), []) == part
    assert not fields


def test_a_place_that_cannot_be_is_an_error(model: LRopeTransformer) -> None:
    with pytest.raises(LRopeError, match=r"unknown place 'word'\. Did you mean 'words'"):
        gap_mask(model, "The cat", "word")
    with pytest.raises(LRopeError, match=r"han lead never occurs in this text, so there is nothing to"):
        gap_mask(model, "The cat", "han lead")
    with pytest.raises(LRopeError, match="words never occurs in this text"):
        gap_mask(model, "", "words")
    with pytest.raises(LRopeError, match="whitespace never occurs in the 2 documents"):
        byte_mask([GOLD, GOLD], "whitespace")
    with pytest.raises(LRopeError, match="no part-of-speech tags"):
        gap_mask(model, NO_GOLD, "words_merged")
    with pytest.raises(LRopeError, match="n_ctx=128 cannot hold 201 tokens"):
        gap_mask(model, "ab " * 66 + "ab", "words")


def test_a_longer_token_counts_by_its_first_byte(make_model: MakeModel) -> None:
    texts = ["the peace of the treaty of the nations"] * 20
    tokenizer = train_bpe(texts, 270)
    model = make_model(n_layers=1, n_ctx=64, d_vocab=tokenizer.vocab_size)
    model.tokenizer = tokenizer
    text = "the peace of 1824"
    starts = tokenizer.encode_spans(text)[1]
    assert len(starts) < len(text)
    mask = gap_mask(model, text, "a-z")
    assert mask.shape == model.to_tokens(text).shape
    wanted = [text[start] in "thepacof" for start in starts]
    assert mask[0].tolist() == [False, *wanted]
    assert not all(wanted)


def test_without_a_leading_eos_the_mask_has_no_place_for_it(model: LRopeTransformer) -> None:
    model.cfg.default_prepend_bos = False
    assert gap_mask(model, "The cat", "words").tolist() == [[True, False, False, False, True, False, False]]
