"""Bytes, characters and byte classes, for any Unicode text."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from data_samples import anything
from hypothesis import example, given
from hypothesis import strategies as st

from lrope_interp.data import (
    BYTE_CLASSES,
    byte_class,
    byte_to_character,
    character_starts,
    character_widths,
)
from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.errors import LRopeError

MIXED = "Né 中文。😀\u0301\n\t\x00"


@given(anything)
def test_bytes_and_characters_round_trip_for_any_unicode(text: str) -> None:
    raw = text.encode("utf-8")
    starts = character_starts(text)
    stops = np.append(starts, len(raw))[1:]
    pieces = [raw[a:b].decode("utf-8") for a, b in zip(starts, stops, strict=True)]
    assert pieces == list(text)
    assert character_widths(text).tolist() == [len(one.encode("utf-8")) for one in text]
    of_byte = byte_to_character(text)
    assert len(of_byte) == len(raw)
    assert of_byte[starts].tolist() == list(range(len(text)))


marks = st.text(st.characters(categories=["Mn", "Mc", "Me", "Cf"], include_characters="a1 中😀\n\u0600"))


PREPENDED = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"


def _extends(character: str) -> bool:
    is_format = unicodedata.category(character) == "Cf" and character not in PREPENDED + "\u200b"
    return unicodedata.category(character)[0] == "M" or is_format or "\U0001f3fb" <= character <= "\U0001f3ff"


def _is_letter_or_number(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN" or character in PREPENDED


def _slow_is_word(text: str) -> list[bool]:
    """Return which characters belong to words, one after the other: UAX 29, rule WB4."""
    bases = [character for character in text if not _extends(character)]
    out: list[bool] = []
    of_base: bool | None = None
    for character in text:
        if not _extends(character):
            of_base = _is_letter_or_number(character)
        if of_base is None:  # before the first base: marks and joiners go with it
            is_joined = unicodedata.category(character)[0] == "M" or character in "\u200c\u200d"
            out.append(is_joined and bool(bases) and _is_letter_or_number(bases[0]))
        else:
            out.append(of_base)
    return out


@given(anything | marks)
@example("I \u2764\ufe0f you")
@example("a\ufe0f\u20e3 #\ufe0f\u20e3")
@example("\n\u0301a\u200b\u0301")
def test_kinds_agree_with_the_unicode_database(text: str) -> None:
    kinds = character_kinds(text)
    assert [bool(kind & Kind.WORD) for kind in kinds] == _slow_is_word(text)
    assert [bool(kind & Kind.PUNCTUATION) for kind in kinds] == [
        unicodedata.category(c)[0] == "P" for c in text
    ]


def test_white_space_is_the_unicode_property_and_not_isspace() -> None:
    kinds = character_kinds("\x1c\x1f \u3000\u2028\u200b\x85")
    assert [bool(kind & Kind.SPACE) for kind in kinds] == [False, False, True, True, True, False, True]


@given(anything)
def test_chinese_characters_are_those_that_unicode_names_so(text: str) -> None:
    named = [unicodedata.name(c, "").startswith("CJK UNIFIED") for c in text]
    found = [bool(kind & Kind.HAN) for kind in character_kinds(text)]
    assert all(is_found for is_named, is_found in zip(named, found, strict=True) if is_named)


def test_only_chinese_characters_count_as_chinese() -> None:
    is_han = [bool(kind & Kind.HAN) for kind in character_kinds("中々〇𠀀。の한Ａ")]
    assert is_han == [True] * 4 + [False] * 4


def test_every_byte_gets_the_class_worked_out_by_hand() -> None:
    names = [BYTE_CLASSES[index] for index in byte_class(MIXED)]
    assert names == [
        "A-Z",
        *["other lead", "other continuation"],  # é
        "space",
        *["han lead", "han continuation", "han continuation"] * 2,
        *["other lead", "other continuation", "other continuation"],  # 。 is no Chinese letter
        *["other lead", *["other continuation"] * 3],  # emoji
        *["other lead", "other continuation"],  # combining acute
        "newline",
        "space",  # tab
        "other",  # NUL
    ]


def test_ascii_bytes_are_told_apart_by_themselves() -> None:
    names = [BYTE_CLASSES[index] for index in byte_class("aZ7 .!?,$\r")]
    assert names == [
        *["a-z", "A-Z", "0-9", "space"],
        *["punctuation .!?"] * 3,
        *["other punctuation"] * 2,
        "newline",
    ]


def test_the_empty_text_has_no_bytes() -> None:
    assert [len(one) for one in (byte_class(""), character_starts(""), byte_to_character(""))] == [0, 0, 0]


def test_a_lone_surrogate_is_refused_with_its_place() -> None:
    with pytest.raises(LRopeError, match="character 2"):
        character_starts("ab\ud800")
