"""Where sentences begin, worked out by hand."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import Document, label_gaps, piece_of
from lrope_interp.errors import LRopeError

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
dense = st.text('aA1. !"。”“«»．།;α\n中', max_size=40)


def _sentences(text: str, language: str = "und") -> list[str]:
    document = Document("d", text, "test", language)
    at = np.flatnonzero(label_gaps(document, "sentences").is_boundary)
    return [document.encoded[a:b].decode() for a, b in pairwise([*at, document.n_bytes])]


@pytest.mark.parametrize(
    "text",
    [
        "One here. |Two there! |Three? |Four",
        'He said: "Stop!" |Then he left.',
        'He left. |"Come back," she said. |(All of it.) |Fine.',
        '"Stop!" he said. |Who?! |Me... |You',
        "Mr. Smith met J. F. Kennedy and Dr. King in the U.S. Senate, e.g. Tom vs. Jim. |Good.",
        "It cost 3.14 and v1.2.3 of a.bc. |Next",
        "1. Scope of it. |2 is two. |Ends in 1824. |Then",
        "So… and on… |Then",
        "not a. lower case",
        "他说：“好！”|我们去。|你呢？|好",
        "１．５倍。|（来了。）|走",
        "Чай. |Кофе? |Да и нет",
        "वह आया। |फिर गया।|अब",
        "ماذا؟ |نعم۔ |لا",
        "The end",
        "« Oui ! » |Elle sourit. |« Non ? » dit-il. |Fin",
        "«\u00a0Oui\u202f!\u00a0» |Elle (enfin ! ) part. |Fin",
        "Er ging. |»Ja!« |Sie kam. |„Nein.“ |Er auch. |»Gut« war es.",
        "He said “ Stop. ” |Then “ she ” left. |“Go”",
        "第一．|第二．|３．５倍．|終",
        "1．概要です．|Ｕ．Ｓ．Ａ．|次",
        "བཀྲ་ཤིས།|བདེ་ལེགས། །|ཞེས་སོ༎ ༎|མཐའ",
        "Πού είσαι; |Εδώ. |Τι\u037e |Ναι",
        "Ποιο\u0301; |Αυτο\u0301",
        "Բարեւ: |Ինչպես ես։ |Լավ",
        "ሰላም።|ደህና ነህ፧ |አዎ",
        "សួស្តី។|អរគុណ៕ |ល្អ",
        "မင်္ဂလာပါ။ |ကောင်းတယ်",
        "Really⁉\ufe0f |Yes.\u200f |No;\u0020but",
        "Latin; Greek: no ends",
    ],
)
def test_sentences_are_those_read_by_eye(text: str) -> None:
    assert _sentences(text.replace("|", "")) == text.split("|")


@pytest.mark.parametrize(
    "text",
    [
        "A heading\n\n|and a paragraph\nthat is wrapped.\n|Next",
        "A heading\r\n \r\n|text",
        "新闻标题\n|正文开始\n|Third",
        "a\rb",
        "a\u2028\u2028|b",
    ],
)
def test_paragraphs_begin_sentences(text: str) -> None:
    assert _sentences(text.replace("|", "")) == text.split("|")


def test_white_space_before_the_first_sentence_belongs_to_none() -> None:
    assert _sentences("\n  One. Two. ") == ["One. ", "Two. "]


def test_a_piece_need_not_begin_with_a_sentence() -> None:
    whole = Document("d", "word " * 300, "test", "en")
    assert label_gaps(whole, "sentences").is_boundary.sum() == 1
    assert not label_gaps(piece_of(whole, 200), "sentences").is_boundary.any()


def test_sentences_are_silver() -> None:
    assert label_gaps(Document("d", "A. B", "test", "en"), "sentences").grade == "silver"


def test_code_has_no_sentences() -> None:
    with pytest.raises(LRopeError, match="lines, tokens"):
        label_gaps(Document("d", "x = 1", "test", "code"), "sentences")


@given(anything | dense)
def test_a_sentence_never_begins_with_white_space(text: str) -> None:
    for sentence in _sentences(text):
        assert not sentence[0].isspace() or sentence[0] in "\x1c\x1d\x1e\x1f"


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        ". " * 50_000,
        "." * 100_000,
        "« ! » " * 20_000,
        "། " * 50_000,
        ". ) " * 30_000,
        "\n" * 100_000,
        "a." * 50_000,
    ],
)
def test_odd_texts_take_no_longer_than_others(text: str) -> None:
    begin = time.process_time()
    label_gaps(Document("d", text, "test", "en"), "sentences")
    assert time.process_time() - begin < 20  # a rule that looks back from every place takes minutes
