"""Units: ways of cutting text into parts without asking what the parts are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lrope_interp.data.documents import Document
from lrope_interp.data.spans import code as code_spans
from lrope_interp.data.spans import prose as prose_spans
from lrope_interp.data.spans.annotating import annotated
from lrope_interp.data.spans.families import FAMILIES, is_code, is_prose
from lrope_interp.data.spans.stretches import Span, is_whole, word_spans
from lrope_interp.data.spans.typed import OTHER, Spans
from lrope_interp.errors import unknown


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


def _has_entities(document: Document) -> bool:
    return FAMILIES["entities"].can_tell(document) or FAMILIES["titles"].can_tell(document)


def _has_sentences(document: Document) -> bool:
    return is_prose(document) and not document.is_despaced


def _tokens(document: Document) -> list[Span]:
    return [(start, end) for start, end, _ in code_spans.code_tokens(document)]


_CODE = "Python source with its white space"
_UNITS: Mapping[str, _Unit] = {
    "word": _Unit("prose", is_prose, _words),
    "entity": _Unit("--data chinese or --data wiki", _has_entities, _entities),
    "phrase": _Unit("prose", is_prose, prose_spans.phrases),
    "clause": _Unit("prose", is_prose, prose_spans.clause_units),
    "sentence": _Unit("prose with its white space", _has_sentences, prose_spans.sentences),
    "token": _Unit(_CODE, is_code, _tokens),
    "line": _Unit(_CODE, is_code, code_spans.lines),
    "scope": _Unit(_CODE, is_code, code_spans.scopes),
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
