"""Units of prose and of code, cut by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lrope_interp.data import Document, piece_of
from lrope_interp.data.labels.words import despaced
from lrope_interp.data.sources import installed
from lrope_interp.data.spans.families import UNITS, _title_index, unit_spans, units_of
from lrope_interp.errors import LRopeError

PROSE = 'Mr. Ray\'s "old, well-known" dog (3.5 kg) ran; it 、slept.\n\nA title\n\nThe end…'


def _prose(text: str, language: str = "en") -> Document:
    return Document("d", text, "test", language)


def _code(text: str) -> Document:
    return Document("d.py", text, "test", "code")


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [
        (
            "phrase",
            ["Mr", "Ray's", "old", "well-known", "dog", "3.5 kg", "ran", "it", "slept", "A title", "The end"],
        ),
        ("clause", ["Mr", "Ray's \"old", 'well-known" dog (3.5 kg) ran', "it 、slept", "A title", "The end"]),
        (
            "sentence",
            ['Mr. Ray\'s "old, well-known" dog (3.5 kg) ran; it 、slept.', "A title", "The end…"],
        ),
    ],
)
def test_prose_is_cut_at_its_marks(unit: str, wanted: list[str]) -> None:
    document = _prose(PROSE)
    spans = unit_spans(unit, [document])
    assert spans.texts([document]) == wanted
    assert spans.concepts == (unit,)


def test_an_apostrophe_behind_a_combining_mark_stands_within_its_word() -> None:
    document = _prose("The cafe\u0301's owner, gone")
    assert unit_spans("phrase", [document]).texts([document]) == ["The cafe\u0301's owner", "gone"]
    assert unit_spans("word", [document]).texts([document])[1:3] == ["cafe\u0301", "s"]


def test_words_are_gold_where_there_are_some() -> None:
    gold = Document("d", "好人。来了", "test", "zh", words=((0, 2), (2, 3), (3, 4), (4, 5)))
    assert unit_spans("word", [gold]).texts([gold]) == ["好人", "来", "了"]
    plain = _prose("I'm  so_so.")
    assert unit_spans("word", [plain]).texts([plain]) == ["I", "m", "so", "so"]
    bare = despaced(plain)
    assert bare.text == "I'mso_so."
    assert unit_spans("word", [bare]).texts([bare]) == ["I", "m", "so", "so"]


@pytest.fixture
def one_title(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(installed, "wiki_titles", lambda: ("New York",))
    _title_index.cache_clear()
    yield
    _title_index.cache_clear()


@pytest.mark.usefixtures("one_title")
def test_entities_and_titles_are_one_unit() -> None:
    tagged = Document("d", "在北京", "test", "zh", words=((0, 1), (1, 3)), tags=("p", "ns"))
    article = Document("Elsewhere", "It is in New York today.", "wiki", "en")
    documents = [_prose("New York"), tagged, article]
    assert unit_spans("entity", documents).texts(documents) == ["北京", "New York"]


def test_what_the_ends_of_a_piece_may_have_cut_is_left_out() -> None:
    text = "one two, three four. Five six, seven eight. Nine ten, eleven twelve."
    piece = replace(_prose(text[10:-10]), cut_from="0" * 64)
    assert piece.text == "hree four. Five six, seven eight. Nine ten, elev"
    assert unit_spans("word", [piece]).texts([piece]) == [
        "four",
        "Five",
        "six",
        "seven",
        "eight",
        "Nine",
        "ten",
    ]
    assert unit_spans("clause", [piece]).texts([piece]) == ["Five six", "seven eight", "Nine ten"]
    assert unit_spans("phrase", [piece]).texts([piece]) == ["Five six", "seven eight", "Nine ten"]
    assert unit_spans("sentence", [piece]).texts([piece]) == ["Five six, seven eight."]


CODE = """\
def f(x):
    if x: return 1  # c
    elif y:

        @deco
        def g(): pass
    else:
        z = "é"
        w = 2
"""


def test_code_is_cut_into_tokens_lines_and_bodies_of_blocks() -> None:
    document = _code(CODE)
    assert unit_spans("token", [document]).texts([document])[:9] == [
        "def",
        "f",
        "(",
        "x",
        ")",
        ":",
        "if",
        "x",
        ":",
    ]
    assert unit_spans("line", [document]).texts([document]) == [
        line for line in CODE.splitlines() if line.strip()
    ]
    assert unit_spans("scope", [document]).texts([document]) == [
        CODE[CODE.index("if x") :].rstrip(),
        "return 1",
        "@deco\n        def g(): pass",
        "pass",
        'z = "é"\n        w = 2',
    ]


@pytest.mark.parametrize("unit", ["token", "line", "scope"])
def test_a_piece_of_code_has_the_units_that_it_holds_whole(unit: str) -> None:
    whole = _code(CODE * 9)
    piece = piece_of(whole, 400)
    assert piece.whole is not None
    first, last = piece.whole[1], piece.whole[1] + len(piece.text)
    of_whole = unit_spans(unit, [whole])
    wanted = of_whole.take((of_whole.start >= first) & (of_whole.end <= last))
    found = unit_spans(unit, [piece])
    assert len(found) > 8
    assert found.texts([piece]) == wanted.texts([whole])
    assert (found.start + first == wanted.start).all()


def test_units_are_those_that_some_document_can_have() -> None:
    prose, code = _prose("A b. C"), _code("a = 1")
    tagged = Document("d", "在北京", "test", "zh", words=((0, 1), (1, 3)), tags=("p", "ns"))
    assert units_of([prose]) == ["word", "phrase", "clause", "sentence"]
    assert units_of([despaced(prose)]) == ["word", "phrase", "clause"]
    assert units_of([code]) == ["token", "line", "scope"]
    assert units_of([code, tagged]) == list(UNITS)
    assert units_of([despaced(code)]) == []


def test_units_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(LRopeError, match="Did you mean 'sentence'"):
        unit_spans("sentense", [_prose("a")])
    with pytest.raises(LRopeError, match="the unit token needs Python source with its white space"):
        unit_spans("token", [_prose("a")])
    with pytest.raises(LRopeError, match="the unit word needs prose, and none of the 1 documents has any"):
        unit_spans("word", [_prose("...")])
