"""Labels and strata, on examples worked out by hand."""

from __future__ import annotations

import builtins
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import STRATA, Document, character_starts, default_labels, label_gaps, stratum_masks
from lrope_interp.data.labels.words import quiet_jieba, runs
from lrope_interp.errors import LRopeError

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def _document(text: str, language: str = "und", words: tuple[tuple[int, int], ...] | None = None) -> Document:
    return Document("d", text, "test", language, words=words)


def _labelled(text: str, label: str, language: str = "und") -> list[str]:
    """Return the text after each boundary, up to the next one, to read the labels by eye."""
    is_boundary = label_gaps(_document(text, language), label).is_boundary
    raw, at = text.encode("utf-8"), np.flatnonzero(is_boundary)
    return [raw[a:b].decode("utf-8") for a, b in pairwise([*at, len(raw)])]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Don't stop, 3rd time!", ["Don'", "t ", "stop, ", "3rd ", "time!"]),
        ("x_1 += f(y2)", ["x_", "1 += ", "f(", "y2)"]),  # the underscore is punctuation
        ("كتاب جديد", ["كتاب ", "جديد"]),
        ("ภาษาไทย ดี", ["ภาษาไทย ", "ดี"]),  # Thai writes no spaces: one run of letters and marks
        ("e\u0301te\u0301 a\u0300", ["e\u0301te\u0301 ", "a\u0300"]),  # combining marks belong to the word
        ("a😀b", ["a😀", "b"]),
        ("१२ ३", ["१२ ", "३"]),
        ("...", []),
        # A mark, joiner or format character belongs to the character before it.
        ("I \u2764\ufe0f you", ["I \u2764\ufe0f ", "you"]),
        (
            "1\ufe0f\u20e3 #\ufe0f\u20e3 *\u0301 \u0308 x",
            ["1\ufe0f\u20e3 #\ufe0f\u20e3 *\u0301 \u0308 ", "x"],
        ),
        ("می\u200cخواهم بروم", ["می\u200cخواهم ", "بروم"]),
        ("inter\u00adnational law", ["inter\u00adnational ", "law"]),
        (
            "no\u2060break \u0dc1\u0dca\u200d\u0dbb\u0dd3",
            ["no\u2060break ", "\u0dc1\u0dca\u200d\u0dbb\u0dd3"],
        ),
        ("one\u200btwo \u200fthree", ["one\u200b", "two \u200f", "three"]),
        ("👩\u200d👧 a👍🏽 🏴\U000e0067\U000e007f b", ["a👍🏽 🏴\U000e0067\U000e007f ", "b"]),
        ("\u0600١٢ x", ["\u0600١٢ ", "x"]),
    ],
)
def test_words_are_maximal_runs_of_letters_marks_and_numbers(text: str, wanted: list[str]) -> None:
    assert _labelled(text, "words") == wanted
    assert label_gaps(_document(text), "words").grade == "rule"


@pytest.mark.parametrize(
    ("label", "text", "wanted"),
    [
        ("punctuation", "a, b。c$d", [", b", "。c$d"]),  # $ is a symbol
        ("punctuation", "«a» – b", ["«a", "» ", "– b"]),
        ("whitespace", "a b\u3000c\u00a0d\x1ce", [" b", "\u3000c", "\u00a0d\x1ce"]),
        ("whitespace", "a\r\nb", ["\r", "\nb"]),
    ],
)
def test_punctuation_and_whitespace_follow_unicode(label: str, text: str, wanted: list[str]) -> None:
    assert _labelled(text, label) == wanted
    assert label_gaps(_document(text), label).grade == "rule"


def test_gold_words_count_only_with_a_letter_mark_or_number() -> None:
    text = "我们，１２月"
    document = _document(text, "zh", words=((0, 2), (2, 3), (3, 6)))
    labels = label_gaps(document, "words")
    assert labels.grade == "gold"
    assert np.flatnonzero(labels.is_boundary).tolist() == [0, 9]


def test_a_document_without_any_gold_word_is_gold_and_unmarked() -> None:
    labels = label_gaps(_document("ab", words=()), "words")
    assert labels.grade == "gold"
    assert not labels.is_boundary.any()


def test_chinese_without_gold_words_is_silver() -> None:
    pytest.importorskip("jieba", reason="the corpora extra is not installed")
    text = "我们喜欢iPhone手机。"
    assert _labelled(text, "words", "zh") == ["我们", "喜欢", "iPhone", "手机。"]
    assert label_gaps(_document(text, "zh"), "words").grade == "silver"


def test_a_variation_selector_is_part_of_its_chinese_character() -> None:
    pytest.importorskip("jieba", reason="the corpora extra is not installed")
    text = "我们\U000e0100喜欢\ufe00手机。"
    assert _labelled(text, "words", "zh") == ["我们\U000e0100", "喜欢\ufe00", "手机。"]
    is_han = stratum_masks(_document(text, "zh"))["han"]
    at = dict(zip(text, character_starts(text).tolist(), strict=True))
    assert np.flatnonzero(is_han).tolist() == [at[one] for one in "们喜欢手机"]


def test_code_with_a_chinese_comment_needs_no_segmenter() -> None:
    assert _labelled("# 中国人 x", "words", "code") == ["中国人 ", "x"]
    assert label_gaps(_document("# 中国人 x", "code"), "words").grade == "rule"


def test_a_missing_jieba_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "jieba":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    quiet_jieba.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(LRopeError, match="pip install jieba"):
        label_gaps(_document("中国", "zh"), "words")


def test_jieba_writes_nothing_and_logs_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    jieba = pytest.importorskip("jieba", reason="the corpora extra is not installed")
    quiet_jieba.cache_clear()
    before = jieba.Tokenizer.initialize
    jieba.Tokenizer.initialize = lambda *_: pytest.fail("jieba's own start-up writes a cache file")
    try:
        assert list(quiet_jieba().cut("北京大学")) == ["北京大学"]
    finally:
        jieba.Tokenizer.initialize = before
    assert capfd.readouterr() == ("", "")


def test_an_unknown_label_names_the_nearest() -> None:
    with pytest.raises(LRopeError, match="whitespace"):
        label_gaps(_document("a"), "whitespaces")


@given(anything)
def test_labels_stand_only_on_first_bytes_of_characters(text: str) -> None:
    document = _document(text, "en")
    starts = set(character_starts(text).tolist())
    for label in default_labels([document]):
        is_boundary = label_gaps(document, label).is_boundary
        assert len(is_boundary) == document.n_bytes
        assert set(np.flatnonzero(is_boundary).tolist()) <= starts


def test_strata_are_those_worked_out_by_hand() -> None:
    masks = stratum_masks(_document("a中国。文 b"))
    at = {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}
    assert tuple(masks) == STRATA
    assert at["bytes"] == list(range(1, 15))
    assert at["characters"] == [1, 4, 7, 10, 13, 14]
    assert at["nondelimiter"] == [1, 4, 10, 14]
    assert at["han"] == [4]


@given(anything)
def test_strata_are_nested_and_leave_out_the_first_gap(text: str) -> None:
    masks = stratum_masks(_document(text))
    assert not any(mask[:1].any() for mask in masks.values())
    assert not (masks["nondelimiter"] & ~masks["characters"]).any()
    assert not (masks["han"] & ~masks["nondelimiter"]).any()


def test_runs_are_maximal() -> None:
    assert list(runs(np.array([True, True, False, True]))) == [(0, 2), (3, 4)]
    assert list(runs(np.zeros(0, dtype=bool))) == []


def test_two_hundred_kilobytes_are_labelled_in_seconds() -> None:
    document = _document("It is a fine day, 中国 and 1998. " * 6_000, "en")
    begin = time.process_time()
    for label in default_labels([document]):
        label_gaps(document, label)
    stratum_masks(document)
    assert time.process_time() - begin < 10
