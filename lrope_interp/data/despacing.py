"""Text without its white space, which remembers where its words were.

A character goes if it has the Unicode property White_Space; nothing else changes. The words are
those of a gold segmentation where there is one, and else the maximal runs of letters, marks and
numbers of the text as it was. In a script that puts no space between words, Chinese above all, such
a run is a whole clause: without gold words it says nothing of words there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lrope_interp.data.alignment import Kind, character_kinds, code_points
from lrope_interp.data.documents import CorpusPart, Document, unique_documents
from lrope_interp.data.labels.segmentation import runs


def without_space(text: str) -> str:
    """Return a text without its white space."""
    is_kept = (character_kinds(text) & Kind.SPACE) == 0
    return code_points(text)[is_kept].tobytes().decode("utf-32-le")


def despaced(document: Document) -> Document:
    """Return a whole document without its white space; its text may be empty then.

    Gold words move along (those of white space alone go, with their tags); without gold, the runs
    of letters, marks and numbers become its words, with the grade "rule".
    """
    if document.is_despaced:
        return document
    assert document.cut_from is None, "what is cut from a document must be cut after de-spacing"
    kinds = character_kinds(document.text)
    is_kept = (kinds & Kind.SPACE) == 0
    place = np.concatenate([[0], np.cumsum(is_kept)])
    words = document.words if document.words is not None else tuple(runs((kinds & Kind.WORD) != 0))
    spans = place[np.array(words, dtype=np.int64).reshape(-1, 2)]
    is_word = spans[:, 1] > spans[:, 0]
    tags = document.tags
    return replace(
        document,
        text=code_points(document.text)[is_kept].tobytes().decode("utf-32-le"),
        words=tuple(zip(spans[is_word, 0].tolist(), spans[is_word, 1].tolist(), strict=True)),
        tags=None if tags is None else tuple(np.array(tags, dtype=object)[is_word].tolist()),
        is_despaced=True,
        whole=None,
        word_grade="rule" if document.words is None else document.word_grade,
    )


def despaced_part(part: CorpusPart) -> CorpusPart:
    """De-space every document of a part in memory; the empty ones go, and those that are now equal."""
    found = (despaced(document) for document in part.documents)
    documents, n_same = unique_documents(document for document in found if document.text)
    n_removed = part.source.get("n_duplicates_removed", 0) + n_same
    return replace(part, documents=documents, source={**part.source, "n_duplicates_removed": n_removed})
