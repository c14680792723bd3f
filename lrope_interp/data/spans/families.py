"""Families of concepts, the sets of span types that one probe tells apart, and units of text.

| family | text | concepts | who says so |
|---|---|---|---|
| entities | `chinese` | person, place, ..., other | people (PKU tags) |
| titles | `wiki` | title, other | article titles, found as they are written |
| topics | `wiki` | eleven topics | what Wikipedia files the article under |
| clauses | any prose | clause, other | punctuation |
| code, calls | Python | kinds of tokens; definition, call, other | Python (`python_source`) |

Units are ways of cutting text into parts without asking what the parts are. Spans are
(first character, character past the last), with their concept where there are several.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data import python_source
from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.documents import Document, Grade
from lrope_interp.data.labels.kinds import paragraph_starts, sentence_starts
from lrope_interp.data.labels.words import given_names, runs
from lrope_interp.data.sources import installed
from lrope_interp.data.spans.typed import (
    OTHER,
    Span,
    Spans,
    Typed,
    annotated,
    inner_marks,
    is_whole,
    matched_stretches,
    punctuation,
    word_spans,
)
from lrope_interp.errors import LRopeError, unknown

TAGS = {
    "nr": "person",
    "ns": "place",
    "nt": "organisation",
    "nz": "proper_noun",
    "t": "time",
    "m": "number",
    "i": "idiom",
}
"""What tags of the PKU standard stand for."""

CLAUSE, TITLE = "clause", "title"
_CLAUSE_ENDS = ",.;:!?…，．。；：！？｡､"
_LEAST_CLAUSE_WORDS = 2
_LEAST_HAN_CHARACTERS = 4
_MOST_CLAUSE_CHARACTERS = 60
_WORDS_PER_TOPIC_DOCUMENT = 20
_LEAST_LETTERS = 4
_FIRST_WORD = re.compile(r"\w+")
_PIECE = re.compile(r"(?:\[\d+:\d+\])+\Z")
_DISAMBIGUATION = re.compile(r" \([^()]*\)\Z")


def entities(document: Document) -> list[Typed]:
    """Return all tagged words that have a letter, mark or number, a surname and its given name as one."""
    assert document.words is not None
    assert document.tags is not None
    is_word = (character_kinds(document.text) & Kind.WORD) != 0
    given = set(given_names(document.words, document.tags))
    found: list[Typed] = []
    for (start, end), tag in zip(document.words, document.tags, strict=True):
        if start in given:
            start = found.pop()[0]
        if is_word[start:end].any():
            found.append((start, end, TAGS.get(tag, OTHER)))
    return [row for row in found if is_whole(document, *row[:2])]


def titles(document: Document) -> list[Typed]:
    """Return the titles of other articles in a text, the longest of those that begin at a place.

    An article mostly begins with its own title, which its place alone would tell from other words.
    """
    own = _DISAMBIGUATION.sub("", _PIECE.sub("", document.name))
    found = list(_titles_in(document.text))
    ends = [(0, 1), (len(document.text) - 1, len(document.text))]
    kept = [
        (start, end)
        for start, end in found
        if start > 0 and is_whole(document, start, end) and document.text[start:end] != own
    ]
    others = matched_stretches(document, kept, avoided=[*found, *ends])
    return [(*span, TITLE) for span in kept] + [(*span, OTHER) for span in others]


def topics(document: Document) -> list[Typed]:
    """Return up to 20 words of at least four letters, chosen by the hash of the document."""
    assert document.topic is not None
    words = [
        (start, end)
        for start, end in word_spans(document).tolist()
        if end - start >= _LEAST_LETTERS
        and document.text[start:end].isalpha()
        and is_whole(document, start, end)
    ]
    random = np.random.default_rng(int(document.sha256[:16], 16))
    chosen = random.permutation(len(words))[:_WORDS_PER_TOPIC_DOCUMENT]
    return [(*words[at], document.topic) for at in sorted(chosen.tolist())]


def clauses(document: Document) -> list[Typed]:
    """Return clauses, and each moved by about half its length, so that it crosses a punctuation mark."""
    words = word_spans(document)
    is_inner = np.concatenate([[False], inner_marks(document.text), [False]])
    starts, ends = (words[~is_inner[words[:, side] + side], side] for side in (0, 1))
    is_han = (character_kinds(document.text) & Kind.HAN) != 0
    is_mark, is_paragraph = punctuation(document.text), _paragraph_ends(document.text)
    counts = [np.concatenate([[0], np.cumsum(one)]) for one in (is_mark, is_paragraph)]
    found: dict[Span, Span] = {}
    for start, end in _stretches(document, is_mark | is_paragraph):
        n_words = np.searchsorted(words[:, 1], end, side="right") - np.searchsorted(words[:, 0], start)
        has_han = is_han[start:end].any()
        is_enough = end - start >= _LEAST_HAN_CHARACTERS if has_han else n_words >= _LEAST_CLAUSE_WORDS
        if not is_enough or end - start > _MOST_CLAUSE_CHARACTERS:
            continue
        for first, past in _moved((start, end), starts, ends):
            n_marks, n_paragraphs = (int(one[past] - one[first]) for one in counts)
            is_straddling = n_marks and not n_paragraphs
            if is_straddling and found.setdefault((first, past), (start, end)) == (start, end):
                break
    return [(*span, CLAUSE) for span in found.values()] + [(*span, OTHER) for span in found]


def phrases(document: Document) -> list[Span]:
    """Return the stretches between any punctuation marks: commas, brackets, quotes and dashes as well."""
    return _stretches(document, punctuation(document.text) | _paragraph_ends(document.text))


def clause_units(document: Document) -> list[Span]:
    """Return the stretches between commas and stronger marks; brackets, quotes and 、 part nothing."""
    is_end = np.array([character in _CLAUSE_ENDS for character in document.text], dtype=bool)
    return _stretches(document, (is_end & punctuation(document.text)) | _paragraph_ends(document.text))


def sentences(document: Document) -> list[Span]:
    """Return sentences (see `sentences`), without the white space behind them."""
    starts = np.flatnonzero(sentence_starts(document)[0]).tolist()
    spans = [(a, a + len(document.text[a:b].rstrip())) for a, b in pairwise([*starts, len(document.text)])]
    is_cut = document.cut_from is not None
    return [(start, end) for start, end in (spans[:-1] if is_cut else spans) if end > start]


def _titles_in(text: str) -> Iterator[Span]:
    """Yield the titles in a text from left to right; none overlaps another."""
    known = _title_index()
    past = 0
    for word in _FIRST_WORD.finditer(text):
        for title in known.get(word.group(), ()) if word.start() >= past else ():
            end = word.start() + len(title)
            if text.startswith(title, word.start()) and not _FIRST_WORD.match(text, end):
                yield word.start(), end
                past = end
                break


@lru_cache(maxsize=1)
def _title_index() -> dict[str, list[str]]:
    """Return the titles of two words or more by their first word, the longest first."""
    index: defaultdict[str, list[str]] = defaultdict(list)
    for title in {_DISAMBIGUATION.sub("", title) for title in installed.wiki_titles()}:
        first = _FIRST_WORD.match(title)
        if first and len(title.split()) > 1:
            index[first.group()].append(title)
    return {word: sorted(found, key=lambda title: (-len(title), title)) for word, found in index.items()}


def _paragraph_ends(text: str) -> Bool[np.ndarray, " n_characters"]:
    """Mark the white space right before a paragraph."""
    is_end = np.zeros(len(text), dtype=bool)
    is_end[[start - 1 for start in paragraph_starts(text, is_whole=False)]] = True
    return is_end


def _stretches(document: Document, is_border: Bool[np.ndarray, " n_characters"]) -> list[Span]:
    """Return what lies between borders, from its first to its last letter, mark or number."""
    at_words = np.flatnonzero(character_kinds(document.text) & Kind.WORD)
    between = np.array(
        [span for span in runs(~is_border) if is_whole(document, *span)], dtype=np.int64
    ).reshape(-1, 2)
    first, past = np.searchsorted(at_words, between).T
    has_word = past > first
    ends = zip(at_words[first[has_word]].tolist(), at_words[past[has_word] - 1].tolist(), strict=True)
    return [(start, last + 1) for start, last in ends]


def _moved(
    span: Span, starts: Int64[np.ndarray, " n_starts"], ends: Int64[np.ndarray, " n_ends"]
) -> Iterator[Span]:
    """Yield a stretch moved by about half to the right, then to the left, where it holds part of itself."""
    start, end = span
    half = (end - start) / 2
    for by in (half, -half):
        first, past = _nearest(starts, start + by), _nearest(ends, end + by)
        if (start < first < end < past) if by > 0 else (first < start < past < end):
            yield first, past


def _nearest(places: Int64[np.ndarray, " n"], place: float) -> int:
    """Return the one of some rising places that is nearest, the first of two."""
    at = int(np.searchsorted(places, place))
    around = places[max(0, at - 1) : at + 1].tolist()
    return min(around, key=lambda one: abs(one - place))


@dataclass(frozen=True)
class Family:
    """Concepts that are told apart by one probe.

    Attributes:
        name: Its name.
        concepts: The concepts, without "other".
        has_other: Whether "other" is one more class: spans that are none of the concepts.
        summary: What they are, in a line.
        grade: Who marked them: "gold" people, "rule" what follows from the text, "silver" a rule
            that can err.
        needs: The text that can tell them.
        can_tell: Whether a document is such text. Code may still not parse.
        rows_of: Its spans, as (start, end, concept).
    """

    name: str
    concepts: tuple[str, ...]
    has_other: bool
    summary: str
    grade: Grade
    needs: str
    can_tell: Callable[[Document], bool] = field(repr=False)
    rows_of: Callable[[Document], Sequence[Typed]] = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The concepts, and "other" where it is one more."""
        return (*self.concepts, OTHER) if self.has_other else self.concepts


def _has_entities(document: Document) -> bool:
    return document.language == "zh" and document.words is not None and document.tags is not None


def _has_titles(document: Document) -> bool:
    return document.corpus == installed.WIKI and not document.is_despaced


def _is_prose(document: Document) -> bool:
    return document.language != "code"


def _is_code(document: Document) -> bool:
    return document.language == "code" and not document.is_despaced


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            "entities",
            tuple(TAGS.values()),
            True,
            "words by their tags, a surname and its given name as one; other: all other words",
            "gold",
            "Chinese text with part-of-speech tags, such as the corpus chinese",
            _has_entities,
            entities,
        ),
        Family(
            "titles",
            (TITLE,),
            True,
            "titles of Wikipedia articles, of two words or more; other: as many words that are no title",
            "silver",
            "articles with their white space: the corpus wiki",
            _has_titles,
            titles,
        ),
        Family(
            "topics",
            installed.TOPICS,
            False,
            "words of at least four letters, up to 20 an article, by the topic of the article",
            "silver",
            "articles with topics: the corpus wiki",
            lambda document: document.topic in installed.TOPICS,
            topics,
        ),
        Family(
            "clauses",
            (CLAUSE,),
            True,
            "what stands between punctuation marks; other: the same moved by half, across a mark",
            "rule",
            "prose with punctuation",
            _is_prose,
            clauses,
        ),
        Family(
            "code",
            python_source.TOKENS,
            False,
            "tokens of Python by their kind",
            "rule",
            "Python source with its white space, such as the corpus code",
            _is_code,
            python_source.code_tokens,
        ),
        Family(
            "calls",
            python_source.CALLS,
            True,
            "names that def or class defines, and names that are called; other: all other names",
            "rule",
            "Python source with its white space, such as the corpus code",
            _is_code,
            python_source.calls,
        ),
    )
}


def family_spans(family: str, documents: Sequence[Document]) -> Spans:
    """Return the spans of one family in those documents that can tell them.

    * entities: in the file that `chinese` comes from no word is a compound in brackets, so that an
      organisation is one only where it is one word with the tag nt.
    * titles: "Base (chemistry)" counts as "Base", a single word, and is left out. Matching is by
      letter and case: "acetic acid" within a sentence is no title. An article's own title, with
      which it begins, is neither title nor other.
    * clauses: both classes have equal numbers, and every "other" holds a punctuation mark: a window
      of bytes can tell them, so that a score says little without its controls.
    * code, calls: a name inside a formatted string is none.

    In a piece of a document, what touches its ends is left out: it may have been cut.

    Args:
        family: A name of `FAMILIES`.
        documents: Any documents.

    Returns:
        Spans whose `concepts` are those of the family, and "other" last where it has that.

    Raises:
        LRopeError: There is no such family, or none of its spans in the documents.
    """
    if family not in FAMILIES:
        raise unknown("family of concepts", family, FAMILIES)
    found = FAMILIES[family]
    wanted = f"the concepts of the family {family} ({', '.join(found.concepts)}) need {found.needs}"
    return annotated(documents, found.rows_of, found.can_tell, found.classes, wanted)


def families_of(documents: Iterable[Document]) -> list[str]:
    """Return the families that at least one of the documents can tell; no document is annotated."""
    documents = tuple(documents)
    return [name for name, family in FAMILIES.items() if any(map(family.can_tell, documents))]


def find_families(names: Sequence[str], documents: Iterable[Document]) -> dict[str, tuple[str, ...]]:
    """Return the families that some names mean, and which concepts of each are asked for.

    Args:
        names: Families or concepts; case, blanks and hyphens do not matter. A concept of several
            families ("number") is taken in each that the documents can tell. None at all: every
            family that they can tell.
        documents: What is going to be measured.

    Returns:
        Families and concepts in the order of `FAMILIES`. "other" is never among them.

    Raises:
        LRopeError: A name is unknown, or the documents cannot tell it.
    """
    told = families_of(documents)
    found: dict[str, set[str]] = {}
    for name in names or told:
        meant = _meant(name)
        if not any(family in told for family in meant):
            needs = " or ".join(sorted({FAMILIES[family].needs for family in meant}))
            raise LRopeError(f"{name!r} needs {needs}; the documents given are not of that kind")
        for family, concepts in meant.items():
            if family in told:
                found.setdefault(family, set()).update(concepts)
    return {
        name: tuple(concept for concept in family.concepts if concept in found[name])
        for name, family in FAMILIES.items()
        if name in found
    }


def _meant(name: str) -> dict[str, tuple[str, ...]]:
    """Return what one name means: all concepts of a family, or one concept of one family or more."""
    plain = _plain(name)
    if plain in FAMILIES:
        return {plain: FAMILIES[plain].concepts}
    meant = {
        family.name: (concept,)
        for family in FAMILIES.values()
        for concept in family.concepts
        if _plain(concept) == plain
    }
    if not meant:
        known = [one for family in FAMILIES.values() for one in (family.name, *family.concepts)]
        raise unknown("concept", name, dict.fromkeys(known))
    return meant


def _plain(name: str) -> str:
    return "_".join(name.casefold().replace("-", " ").replace("_", " ").split())


class _Unit(NamedTuple):
    """What text a unit needs, in words and as a test, and how one such text is cut."""

    needs: str
    can_tell: Callable[[Document], bool]
    spans_of: Callable[[Document], list[Span]]


def _words(document: Document) -> list[Span]:
    spans = ((start, end) for start, end in word_spans(document).tolist())
    return [span for span in spans if is_whole(document, *span)]


def _entities(document: Document) -> list[Span]:
    """Return the spans of entities and titles that are not "other"."""
    return [
        (start, end)
        for name in ("entities", "titles")
        if FAMILIES[name].can_tell(document)
        for start, end, concept in FAMILIES[name].rows_of(document)
        if concept != OTHER
    ]


_CODE = "Python source with its white space"
_UNITS: Mapping[str, _Unit] = {
    "word": _Unit("prose", _is_prose, _words),
    "entity": _Unit(
        "the corpus chinese or wiki", lambda one: _has_entities(one) or _has_titles(one), _entities
    ),
    "phrase": _Unit("prose", _is_prose, phrases),
    "clause": _Unit("prose", _is_prose, clause_units),
    "sentence": _Unit(
        "prose with its white space", lambda one: _is_prose(one) and not one.is_despaced, sentences
    ),
    "token": _Unit(_CODE, _is_code, lambda one: [row[:2] for row in python_source.code_tokens(one)]),
    "line": _Unit(_CODE, _is_code, python_source.lines),
    "scope": _Unit(_CODE, _is_code, python_source.scopes),
}
UNITS = tuple(_UNITS)


def unit_spans(unit: str, documents: Sequence[Document]) -> Spans:
    """Return one kind of unit in those documents that have it.

    Args:
        unit: One of `UNITS`. "word": see the label `words`; of a text that brings words, those. "entity":
            entities and titles, see `concepts`. "phrase": what stands between any punctuation marks,
            brackets, quotes and dashes included. "clause": between commas and stronger marks
            (``, . ; : ! ?`` and their Chinese forms, but not 、); longer than the clauses of the family
            `clauses`. "sentence": by the rule of `sentences`. Phrases and clauses end with a paragraph
            as well, and begin and end with a letter, mark or number; apostrophes and hyphens in words,
            and points in numbers, end none. In code, "token" (comments included), "line" (indentation
            included, blank ones left out) and "scope", the body of a block; scopes nest.
        documents: Any documents. Of a piece, what touches its ends is left out.

    Returns:
        Spans of a single concept, named as the unit. Units other than scopes do not overlap.

    Raises:
        LRopeError: There is no such unit, or none in the documents.
    """
    if unit not in _UNITS:
        raise unknown("unit", unit, UNITS)
    found = _UNITS[unit]

    def rows(document: Document) -> list[Typed]:
        return [(*span, unit) for span in found.spans_of(document)]

    return annotated(documents, rows, found.can_tell, (unit,), f"the unit {unit} needs {found.needs}")


def units_of(documents: Iterable[Document]) -> list[str]:
    """Return the units that at least one of the documents can have; no document is cut."""
    documents = tuple(documents)
    return [name for name, unit in _UNITS.items() if any(map(unit.can_tell, documents))]
