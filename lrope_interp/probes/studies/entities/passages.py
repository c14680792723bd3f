"""Passages of held-out documents that hold names: few bytes, but nearly all names that there are.

A test split read evenly holds too few names to say anything: 90 in 200 kB of presidents' addresses.
Whole documents are cut into passages, and those with a listed name are taken. What a name is compared with
then stands in the same passages, and is no sample of the language at large.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from lrope_interp.data import Corpus, Document, assert_held_out, load_corpus_for, shared_shingles
from lrope_interp.data.documents import languages_of, where
from lrope_interp.data.spans.entity_pairs import EntityPair
from lrope_interp.probes.capture.selection import Selection, describe
from lrope_interp.probes.studies.entities.counts import ENGLISH

PASSAGE = 1_000
"""Characters of a passage; the last of a document may be longer, by less than that."""


def select_passages(
    selection: Selection, corpus: Corpus, pairs: Sequence[EntityPair], max_bytes: int
) -> Selection:
    """Return a selection whose English test text is the passages that hold one of the pairs.

    The other languages, and the documents for means, stay as they are.

    Args:
        selection: Of the same corpus; its training text decides which bytes are not scored.
        corpus: As the model may be tested on it (`Corpus.held_out_from`).
        pairs: The names.
        max_bytes: The most bytes of passages, in the order of their own hashes, which mixes documents.
    """
    whole = corpus.documents("test")
    english = where(whole, [one in ENGLISH for one in languages_of(whole)])
    taken, left = [], max_bytes
    for passage in sorted(_holding(english, [pair.text for pair in pairs]), key=lambda one: one.sha256):
        if passage.n_bytes > left:
            break
        taken.append(passage)
        left -= passage.n_bytes
    if not taken:
        return selection
    others = [document for document in selection.test if document.language not in ENGLISH]
    test = tuple(sorted([*taken, *others], key=lambda one: (one.language, one.sha256)))
    masks = shared_shingles(test, () if selection.training is None else selection.training).masks
    return replace(
        selection,
        test=test,
        shared={**selection.shared, "test": masks},
        data=describe(str(selection.data["name"]), test),
    )


def held_out_corpus(manifest: dict, name: str | None, **how: str) -> Corpus:
    """Load a corpus as the model of `manifest` may be tested on it, and assert that it may."""
    corpus = load_corpus_for(manifest, name, **how).held_out_from(manifest)
    assert_held_out(manifest, corpus.documents("test"))
    return corpus


def _holding(documents: Iterable[Document], names: Sequence[str]) -> Iterable[Document]:
    """Yield the passages with at least one of the names, document by document."""
    for document in documents:
        n = max(1, len(document.text) // PASSAGE)
        edges = [PASSAGE * k for k in range(n)] + [len(document.text)]
        for first, last in pairwise(edges):
            text = document.text[first:last]
            if any(name in text for name in names):
                yield replace(
                    document,
                    name=f"{document.name}[{first}:{last}]",
                    text=text,
                    words=None,
                    tags=None,
                    cut_from=document.source_sha256,
                )
