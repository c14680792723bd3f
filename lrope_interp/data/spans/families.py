"""Families of concepts, the sets of span types that one probe tells apart, and units of text.

| family | text | concepts | who says so |
|---|---|---|---|
| entities | `chinese` | person, place, ..., other | people (PKU tags) |
| titles | `wiki` | title, other | article titles, found as they are written |
| topics | `wiki` | eleven topics | what Wikipedia files the article under |
| clauses | any prose | clause, other | punctuation |
| code, calls | Python | kinds of tokens; definition, call, other | Python |

Units are ways of cutting text into parts without asking what the parts are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lrope_interp.data import python_source
from lrope_interp.data.documents import Document, Grade
from lrope_interp.data.sources import installed
from lrope_interp.data.spans import prose as prose_spans
from lrope_interp.data.spans.typed import OTHER, Span, Spans, annotated, is_whole, word_spans
from lrope_interp.errors import LRopeError, unknown


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
    rows_of: Callable[[Document], Sequence[tuple[int, int, str]]] = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The concepts, and "other" where it is one more."""
        return (*self.concepts, OTHER) if self.has_other else self.concepts


def _has_entities(document: Document) -> bool:
    return document.language == "zh" and document.words is not None and document.tags is not None


def _has_titles(document: Document) -> bool:
    return document.corpus == installed.WIKI and not document.is_despaced


def _has_topic(document: Document) -> bool:
    return document.topic in installed.TOPICS


def is_prose(document: Document) -> bool:
    """Return whether a document is text that people read."""
    return document.language != "code"


def is_code(document: Document) -> bool:
    """Return whether a document is code with its white space."""
    return document.language == "code" and not document.is_despaced


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            "entities",
            tuple(prose_spans.TAGS.values()),
            True,
            "words by their tags, a surname and its given name as one; other: all other words",
            "gold",
            "Chinese text with part-of-speech tags, such as --data chinese",
            _has_entities,
            prose_spans.entities,
        ),
        Family(
            "titles",
            (prose_spans.TITLE,),
            True,
            "titles of Wikipedia articles, of two words or more; other: as many words that are no title",
            "silver",
            "articles with their white space: --data wiki",
            _has_titles,
            prose_spans.titles,
        ),
        Family(
            "topics",
            installed.TOPICS,
            False,
            "words of at least four letters, up to 20 an article, by the topic of the article",
            "silver",
            "articles with topics: --data wiki",
            _has_topic,
            prose_spans.topics,
        ),
        Family(
            "clauses",
            (prose_spans.CLAUSE,),
            True,
            "what stands between punctuation marks; other: the same moved by half, across a mark",
            "rule",
            "prose with punctuation",
            is_prose,
            prose_spans.clauses,
        ),
        Family(
            "code",
            python_source.TOKENS,
            False,
            "tokens of Python by their kind",
            "rule",
            "Python source with its white space, such as --data code",
            is_code,
            python_source.code_tokens,
        ),
        Family(
            "calls",
            python_source.CALLS,
            True,
            "names that def or class defines, and names that are called; other: all other names",
            "rule",
            "Python source with its white space, such as --data code",
            is_code,
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


@dataclass(frozen=True)
class _Unit:
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


def _has_sentences(document: Document) -> bool:
    return is_prose(document) and not document.is_despaced


def _tokens(document: Document) -> list[Span]:
    return [(start, end) for start, end, _ in python_source.code_tokens(document)]


_CODE = "Python source with its white space"
_UNITS: Mapping[str, _Unit] = {
    "word": _Unit("prose", is_prose, _words),
    "entity": _Unit(
        "--data chinese or --data wiki", lambda one: _has_entities(one) or _has_titles(one), _entities
    ),
    "phrase": _Unit("prose", is_prose, prose_spans.phrases),
    "clause": _Unit("prose", is_prose, prose_spans.clause_units),
    "sentence": _Unit("prose with its white space", _has_sentences, prose_spans.sentences),
    "token": _Unit(_CODE, is_code, _tokens),
    "line": _Unit(_CODE, is_code, python_source.lines),
    "scope": _Unit(_CODE, is_code, python_source.scopes),
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

    def rows(document: Document) -> list[tuple[int, int, str]]:
        return [(*span, unit) for span in found.spans_of(document)]

    return annotated(documents, rows, found.can_tell, (unit,), f"the unit {unit} needs {found.needs}")


def units_of(documents: Iterable[Document]) -> list[str]:
    """Return the units that at least one of the documents can have; no document is cut."""
    documents = tuple(documents)
    return [name for name, unit in _UNITS.items() if any(map(unit.can_tell, documents))]
