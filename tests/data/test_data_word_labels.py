"""Merged names, and which labels a set of documents can have."""

from __future__ import annotations

import numpy as np
import pytest

from lrope_interp.data import Document, default_labels, label_gaps
from lrope_interp.data.labels.words import despaced
from lrope_interp.errors import LRopeError


def _tagged(tokens: str) -> Document:
    """Read ``word/tag`` between blanks; a blank of the text is written _."""
    words, tags, text = [], [], ""
    for token in tokens.split():
        word, _, tag = token.partition("/")
        if word != "_":
            words.append((len(text), len(text) + len(word)))
            tags.append(tag)
        text += " " if word == "_" else word
    return Document("d", text, "test", "zh", words=tuple(words), tags=tuple(tags))


def _cut(document: Document, label: str) -> str:
    at = np.flatnonzero(label_gaps(document, label).is_boundary)
    return b"|".join(
        document.encoded[a:b] for a, b in zip(at, [*at[1:], document.n_bytes], strict=True)
    ).decode()


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        ("江/nr 泽民/nr 说/v", "江泽民|说"),
        ("欧阳/nr 修/nr", "欧阳修"),
        ("李/nr 鹏/nr 乔/nr 石/nr", "李鹏|乔石"),  # two persons without anything between
        ("李/nr 、/w 乔/nr 石/nr", "李、|乔石"),
        ("克林顿/nr 说/nr", "克林顿|说"),  # too long for a surname
        ("江/nr _ 泽民/nr", "江 |泽民"),
        ("江/nr 泽民/nr 同志/n", "江泽民|同志"),
        ("北京/ns 大学/nr", "北京|大学"),
        ("江/nr", "江"),
    ],
)
def test_surname_and_given_name_are_one_word(tokens: str, wanted: str) -> None:
    assert _cut(_tagged(tokens), "words_merged") == wanted
    assert label_gaps(_tagged(tokens), "words_merged").grade == "gold"


def test_merging_only_takes_starts_away() -> None:
    document = _tagged("江/nr 泽民/nr 主席/n ，/w 李/nr 鹏/nr")
    words, merged = (label_gaps(document, label).is_boundary for label in ("words", "words_merged"))
    assert not (merged & ~words).any()
    assert (words & ~merged).sum() == 2


def test_names_cannot_be_told_without_tags() -> None:
    with pytest.raises(LRopeError, match="no part-of-speech tags"):
        label_gaps(Document("d", "江泽民", "test", "zh", words=((0, 1), (1, 3))), "words_merged")


def test_default_labels_are_those_that_some_document_can_have() -> None:
    english = Document("d", "A b.", "test", "en")
    code = Document("d", "a = 1", "test", "code")
    gold = Document("d", "好的", "test", "zh", words=((0, 1), (1, 2)))
    tagged = _tagged("江/nr 泽民/nr")
    always = ("punctuation", "whitespace", "words")
    of_code = ("lines", "tokens", "brackets_open", "brackets_close", "scopes")
    assert default_labels([english]) == (*always, "sentences")
    assert default_labels([gold]) == (*always, "sentences")
    assert default_labels([code]) == (*always, *of_code)
    assert default_labels([code, english]) == (*always, "sentences", *of_code)
    assert default_labels(iter([tagged])) == (*always, "words_merged", "sentences")
    assert default_labels([despaced(english)]) == ("punctuation", "despaced")
    assert default_labels([despaced(code)]) == ("punctuation", "despaced")
    assert default_labels([despaced(english), despaced(gold)]) == ("punctuation", "words", "despaced")
    assert default_labels([despaced(tagged)]) == ("punctuation", "words", "words_merged", "despaced")


def test_every_default_label_of_a_single_document_can_be_had() -> None:
    made = [
        Document("d", "A b. C", "test", "en"),
        Document("d", "a = [1]\n", "test", "code"),
        _tagged("江/nr 泽民/nr"),
    ]
    for document in [*made, *map(despaced, made)]:
        for label in default_labels([document]):
            assert len(label_gaps(document, label).is_boundary) == document.n_bytes
