"""Which documents an analysis reads, and the assertion that the model never trained on them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from lrope_interp.data import (
    MANIFEST_FILE,
    Corpus,
    CorpusPart,
    Document,
    assert_held_out,
    documents_sha256,
    evaluation_documents,
    hashes_of,
    load_corpus_for,
    read_manifest,
    training_documents,
    where,
)
from lrope_interp.data.documents import Reading, unique_documents
from lrope_interp.data.held_out import MAX_BYTES, piece_of, shared_shingles
from lrope_interp.data.labels.words import without_space
from lrope_interp.data.texts import AnyText, gold_documents, text_documents, text_splits
from lrope_interp.errors import LRopeError, plural, unknown
from lrope_interp.models import LRopeTransformer

HELD_OUT = ("fit", "dev", "test")
GIVEN = "text:given"  # the name of a text that has none
ALSO_TRAINED = "also occur in training text"
_MOST_SHARED = 0.02


@dataclass(frozen=True)
class Selection:
    """Documents for one analysis; those of each split in the order of their hashes.

    Attributes:
        fit: For means and probes.
        dev: For signs, thresholds and alignments.
        test: For scores.
        shared: For "dev" and "test", one mask a document: bytes in a 64-byte shingle that the
            training text has too. No gap there is scored.
        data: Provenance of what is scored: name, sha256, n_documents, n_bytes, split.
        warnings: What a reader must know.
        training: What the model trained on, for the controls that count its text; None where it could
            not be loaded.
    """

    fit: tuple[Document, ...]
    dev: tuple[Document, ...]
    test: tuple[Document, ...]
    shared: Mapping[str, tuple[Bool[np.ndarray, " _"], ...]]
    data: Mapping[str, Any]
    warnings: tuple[str, ...] = field(default=())
    training: Sequence[Document] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        splits: Mapping[str, Iterable[Document]],
        *,
        training: Sequence[Document] | None = None,
        warnings: Iterable[str] = (),
    ) -> Selection:
        """Put documents in canonical order and mark what they share with `training`.

        Args:
            name: Of the data, for the provenance.
            splits: Documents for "fit", "dev" and "test".
            training: What the model trained on; None leaves every gap in.
            warnings: Carried along.
        """
        missing = [split for split in HELD_OUT if not splits.get(split)]
        if missing:
            raise LRopeError(
                f"{name} has no document for {', '.join(missing)}; give more text, or another corpus"
            )
        ordered = {split: _in_order(splits[split]) for split in HELD_OUT}
        found = [*warnings]
        dev_and_test = (*ordered["dev"], *ordered["test"])
        shared = shared_shingles(dev_and_test, () if training is None else training)
        if shared.n_shared:
            n_bytes = sum(document.n_bytes for document in dev_and_test)
            found.append(
                f"{shared.n_bytes:,} of {plural(n_bytes, 'byte')} of dev and test text {ALSO_TRAINED} "
                f"(64 in a row or more, in {shared.n_documents} of {plural(len(dev_and_test), 'document')}) "
                "and are left out of every score"
            )
        n_dev = len(ordered["dev"])
        return cls(
            **ordered,
            shared={"dev": shared.masks[:n_dev], "test": shared.masks[n_dev:]},
            data=describe(name, ordered["test"]),
            warnings=tuple(found),
            training=training,
        )


def describe(name: str, documents: tuple[Document, ...], split: str = "test") -> dict[str, Any]:
    """Return the provenance of scored documents."""
    return {
        "name": name,
        "sha256": documents_sha256(documents),
        "n_documents": len(documents),
        "n_bytes": sum(document.n_bytes for document in documents),
        "split": split,
    }


def manifest_of(model: LRopeTransformer | Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the `data.json` of the run that a model was loaded from: what it was trained on."""
    if isinstance(model, Mapping):
        return model
    if model.folder is None:
        raise LRopeError(
            "this model was not loaded from a run, so nothing says what it was trained on: load one with "
            "lrope_interp.load(FOLDER), or give documents that you know to be held out, as "
            "data=Selection.of(...)"
        )
    return read_manifest(model.folder)


def select(
    model: LRopeTransformer,
    text: AnyText | None = None,
    data: str | Selection | None = None,
    *,
    max_bytes: int | Mapping[str, int] = MAX_BYTES,
    spread: bool = False,
) -> Selection:
    """Select what an analysis reads: a text, a corpus, or what was selected before.

    Args:
        model: The model, loaded from a run.
        text: See `select_text`.
        data: Name of a corpus (see `select_corpus`), or a selection. With neither `text` nor `data`, the
            held-out part of the run's own corpus.
        max_bytes: The most bytes of each language in each split; a mapping has a number a split.
        spread: See `select_corpus`.

    Raises:
        LRopeError: Both `text` and `data`; nothing to read; or the model was trained on what would be scored.
    """
    if text is not None and data is not None:
        raise LRopeError("text and data both say what to read: give one of them")
    if isinstance(data, Selection):
        if model.folder is not None:  # it may have been made for another model
            manifest = read_manifest(model.folder)
            assert_held_out(manifest, (*data.fit, *data.dev, *data.test))
            seen = manifest["splits"]["train"]["sha256"]
            if data.training is not None and {*hashes_of(data.training)} != {*seen}:
                raise LRopeError(
                    "this selection was made for a model with other training text, which decides what is "
                    "left out and what controls count. Select again: select_corpus(model, ...)"
                )
        return data
    if text is not None:
        return select_text(model, text, max_bytes=max_bytes, spread=spread)
    return select_corpus(model, data, max_bytes=max_bytes, spread=spread)


def check_beside(other: LRopeTransformer | None, which: str, selection: Selection) -> None:
    """Refuse another run that was trained on what is scored, or that alone reads (no) white space."""
    if other is None or other.folder is None:
        return
    manifest = read_manifest(other.folder)
    if Reading.of(manifest).despaced != any(document.is_despaced for document in selection.test):
        raise LRopeError(
            f"{which} {other.folder}: one of the two runs was trained on de-spaced text and the other was not"
        )
    try:
        assert_held_out(manifest, (*selection.dev, *selection.test))
    except LRopeError as error:
        raise LRopeError(f"{which} {other.folder}: {error}") from None


def despaced_notes(model: LRopeTransformer, text: str) -> list[str]:
    """Say so where a model that never saw white space is shown some; the text stays as it was typed."""
    if model.folder is None or not (model.folder / MANIFEST_FILE).exists():
        return []
    if not Reading.of(read_manifest(model.folder)).despaced or without_space(text) == text:
        return []
    return [
        "this model was trained on de-spaced text and has never seen white space, of which this text has "
        "some: take it out to see what the model has learned"
    ]


def select_corpus(
    model: LRopeTransformer | Mapping[str, Any],
    name: str | None = None,
    *,
    max_bytes: int | Mapping[str, int] = MAX_BYTES,
    encoding_errors: str = "strict",
    text_column: str = "text",
    spread: bool = False,
) -> Selection:
    """Select held-out documents of a named corpus, by default of the model's own.

    Args:
        model: The model, loaded from a run; or the run's `data.json`.
        name: A corpus, as in `--data`. One that the model never saw is held out as a whole.
        max_bytes: The most bytes of each language in each split; a mapping has a number a split.
        encoding_errors: For `file:` and `hf:` corpora other than the model's own, "strict" or "replace".
        text_column: For tables other than the model's own, the column that holds the text.
        spread: Whether few bytes shall still come from many documents, by a shorter piece of each.

    Raises:
        LRopeError: The corpus cannot be loaded, or the model was trained on what would be scored.
    """
    manifest = manifest_of(model)
    how = {"encoding_errors": encoding_errors, "text_column": text_column}
    corpus = load_corpus_for(manifest, name, **how).held_out_from(manifest)
    for split in HELD_OUT:
        assert_held_out(manifest, corpus.documents(split))
    most = _by_split(max_bytes)
    splits = {split: evaluation_documents(corpus, split, most[split], spread) for split in HELD_OUT}
    training, warnings = training_text(manifest, corpus)
    return Selection.of(corpus.name, splits, training=training, warnings=warnings)


def select_text(
    model: LRopeTransformer | Mapping[str, Any],
    text: AnyText,
    *,
    max_bytes: int | Mapping[str, int] = MAX_BYTES,
    encoding_errors: str = "strict",
    spread: bool = False,
) -> Selection:
    """Select the paragraphs of a text, de-spaced if the run's own text was.

    With 60 paragraphs or more they are split by hash. With fewer, signs, thresholds and alignments come
    from those dev documents of the model's own corpus that are in the text's script, tables from all
    of its fit documents, and the whole file is test.

    Args:
        model: The model, loaded from a run; or the run's `data.json`.
        text: The text itself, or a `Path` of a UTF-8 file; its units are the paragraphs between blank lines.
            Of a list of texts the units are its entries.
        max_bytes: The most bytes of each split; a mapping has a number a split.
        encoding_errors: "strict" or "replace".
        spread: See `select_corpus`.
    """
    manifest = manifest_of(model)
    is_despaced = Reading.of(manifest).despaced
    documents = text_documents(text, encoding_errors=encoding_errors, is_despaced=is_despaced)
    name = f"text:{text.name}" if isinstance(text, Path) else GIVEN
    return _select_units(manifest, name, documents, _by_split(max_bytes), spread)


def select_gold(
    model: LRopeTransformer | Mapping[str, Any],
    path: Path | str,
    *,
    max_bytes: int | Mapping[str, int] = MAX_BYTES,
    encoding_errors: str = "strict",
    spread: bool = False,
) -> Selection:
    """Select the units of a gold segmentation, de-spaced if the run's own text was.

    A unit is 20 sentences (`gold_documents`). As in `select_text`, 60 units or more are split by
    hash; with fewer the whole file is test, and the rest comes from the model's own corpus, whose
    words may be of another grade.

    Args:
        model: The model, loaded from a run; or the run's `data.json`.
        path: A sentence a line with blanks between words, or CoNLL-U.
        max_bytes: The most bytes of each split; a mapping has a number a split.
        encoding_errors: "strict" or "replace".
        spread: See `select_corpus`.
    """
    manifest = manifest_of(model)
    is_despaced = Reading.of(manifest).despaced
    documents = gold_documents(path, encoding_errors=encoding_errors, is_despaced=is_despaced)
    selection = _select_units(manifest, f"gold:{Path(path).name}", documents, _by_split(max_bytes), spread)
    if any(one.word_grade == "gold" or not one.is_despaced for one in selection.dev):
        return selection
    problem = (
        f"no dev document of {manifest['name']} has words that are known after de-spacing, so the label "
        "words has no sign or threshold: read the label despaced, which is the gold words here"
    )
    return replace(selection, warnings=(*selection.warnings, problem))


def _select_units(
    manifest: Mapping[str, Any],
    name: str,
    documents: Sequence[Document],
    most: Mapping[str, int],
    spread: bool,
) -> Selection:
    """Split the units of the user's text, or test on them all and take the rest from the run's corpus."""
    assert_held_out(manifest, documents)
    called = "the text" if name == GIVEN else name.partition(":")[2]
    splits = dict(text_splits(documents))
    training, warnings = training_text(manifest)
    if set(splits) == set(HELD_OUT):
        if isinstance(documents, tuple):
            documents, _ = unique_documents(documents)
        limited = Corpus(name, (CorpusPart(name, documents[0].language, documents, held_out_share=1.0),))
        splits = {split: evaluation_documents(limited, split, most[split], spread) for split in HELD_OUT}
    else:
        own = select_corpus(manifest, max_bytes=most, spread=spread)
        test = tuple(splits["test"])
        if sum(document.n_bytes for document in test) > most["test"]:  # one piece of equal length of each
            test = tuple(piece_of(document, max(most["test"] // len(test), 1)) for document in test)
        splits |= {"fit": _apart(own.fit, test), "dev": _apart(own.dev, test), "test": test}
        for split in ("fit", "dev"):
            if not splits[split]:
                raise LRopeError(
                    f"every {split} document of {own.data['name']} stands in {called} "
                    "too, so nothing is left to choose signs and fit tables on; give 60 units or more"
                )
        n_left_out = len(own.fit) + len(own.dev) - len(splits["fit"]) - len(splits["dev"])
        if n_left_out:
            warnings.append(
                f"{n_left_out} fit and dev documents of {own.data['name']} share more than set phrases with "
                f"{called} and are left out"
            )
        splits["dev"], from_where = _of_same_script(tuple(splits["dev"]), test, own.data["name"])
        warnings += [
            f"{called} has {plural(len(documents), 'unit')}, fewer than 60: signs, thresholds and "
            f"alignments come from {from_where}, byte means from all of it, and the whole file is test"
        ]
    if len(splits["test"]) == 1:
        warnings.append("a single test unit gives no interval")
    return Selection.of(name, splits, training=training, warnings=warnings)


def _by_split(max_bytes: int | Mapping[str, int]) -> dict[str, int]:
    """Return the most bytes of every split; a split that a mapping leaves out has the usual."""
    if not isinstance(max_bytes, Mapping):
        return dict.fromkeys(HELD_OUT, max_bytes)
    for split in max_bytes:
        if split not in HELD_OUT:
            raise unknown("split in max_bytes:", split, HELD_OUT)
    return dict.fromkeys(HELD_OUT, MAX_BYTES) | dict(max_bytes)


def _apart(own: tuple[Document, ...], test: tuple[Document, ...]) -> tuple[Document, ...]:
    """Return the documents of the run's own corpus of which little stands in the test text."""
    masks = shared_shingles(own, test).masks
    return tuple(one for one, mask in zip(own, masks, strict=True) if mask.mean() <= _MOST_SHARED)


def _of_same_script(
    dev: tuple[Document, ...], test: Sequence[Document], corpus: str
) -> tuple[tuple[Document, ...], str]:
    """Return the dev documents that may choose for a text, and what to call them.

    A signal may rise at the boundaries of one language and fall at those of another, so that documents
    of another script would turn it round. What language a text is in nobody says; its script does.
    """
    n_bytes: Counter[str] = Counter()
    for document in test:
        n_bytes[_script(document)] += document.n_bytes
    scripts = [script for script, size in n_bytes.most_common() if size >= n_bytes.total() / 5]
    own = tuple(one for one in dev if _script(one) in scripts)
    named = " and ".join(script.lower() or "no" for script in scripts)
    if own:
        return own, f"the {len(own)} of {len(dev)} dev documents of {corpus} that are in {named} script"
    return dev, f"all dev documents of {corpus}, none of which is in {named} script: they may point wrong"


def _script(document: Document) -> str:
    """Return the script of most letters, as Unicode names them; "code" has its own.

    Letters count by their bytes, which makes a Chinese word about as heavy as one of Latin letters.
    """
    if document.language == "code":
        return "code"
    found: Counter[str] = Counter()
    for character, n in Counter(document.text).items():
        if character.isalpha():
            letter = unicodedata.normalize("NFKC", character)[0]  # full and half width forms
            found[unicodedata.name(letter, "").partition(" ")[0]] += n * len(letter.encode())
    if 5 * (found["HIRAGANA"] + found["KATAKANA"]) > found.total():
        return "KANA"
    return max(found, key=lambda script: found[script], default="")


def training_text(
    manifest: Mapping[str, Any], loaded: Corpus | None = None
) -> tuple[Sequence[Document] | None, list[str]]:
    """Find the training text, if possible in the corpus at hand, or say why shingles were not looked for."""
    wanted = frozenset(manifest["splits"]["train"]["sha256"])
    if loaded is not None and loaded.note:  # no phrase of its pieces is in the training text
        return None, [loaded.note]
    if loaded is not None:
        found = loaded.documents()
        documents = where(found, [sha256 in wanted for sha256 in hashes_of(found)])
        if len(documents) == len(wanted):
            return documents, []
    try:
        return training_documents(manifest), []
    except LRopeError as error:
        return None, [f"shingles shared with training text were not looked for: {error}"]


def _in_order(documents: Iterable[Document]) -> tuple[Document, ...]:
    """Sort by hash, and make the names of documents tell them apart."""
    ordered = sorted(documents, key=lambda document: (document.sha256, document.name))
    names = Counter(document.name for document in ordered)
    return tuple(
        replace(one, name=f"{one.name}@{number}") if names[one.name] > 1 else one
        for number, one in enumerate(ordered)
    )
