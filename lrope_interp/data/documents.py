"""Documents, the parts that hold them, and the corpus that a model is trained and tested on.

Which document is trained on and which is held out is decided by its sha256 alone. Documents of a file or a
data set lie on the disk: what splitting needs of them (hashes, sizes, languages) is known without reading
their text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain, compress
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Int64

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.files import LARGE, ManifestFile, read_json
from lrope_interp.hub import SAMPLE_FILE

MANIFEST_FILE = "data.json"
MANIFEST_FORMAT = 1
Grade = Literal["rule", "gold", "silver"]
ENCODING_ERRORS = ("strict", "replace")
_MOST_DIGITS = 4_000
SPLITS = ("train", "fit", "dev", "test")
HELD_OUT = ("fit", "dev", "test")
_FIT_BELOW, _DEV_BELOW = 0.4, 0.6


@dataclass(frozen=True)
class Reading:
    """Options that decide which text a source gives.

    Attributes:
        encoding_errors: "strict" refuses bytes that are not UTF-8, "replace" puts U+FFFD there.
        text_column: Which column of a table holds the text.
        max_train_bytes: Read at most this many bytes of text, held-out documents included; 0 reads all.
            White space that is removed counts.
        despaced: Remove all white space from every document (see `labels.words`).
    """

    encoding_errors: str = "strict"
    text_column: str = "text"
    max_train_bytes: int = 0
    despaced: bool = False

    def __post_init__(self) -> None:
        """Check every value."""
        if self.encoding_errors not in ENCODING_ERRORS:
            raise unknown("value for encoding-errors", self.encoding_errors, ENCODING_ERRORS)
        if not self.text_column:
            raise LRopeError("text_column is empty; the name of a column is wanted, as in text_column text")
        if self.max_train_bytes < 0:
            raise LRopeError(
                f"max_train_bytes must be at least 0 (which reads all), got {self.max_train_bytes}"
            )

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Reading:
        """Return how the text of a run was read, given its ``data.json``."""
        defaults = asdict(cls())
        return cls(**{name: manifest.get(name, default) for name, default in defaults.items()})


def any_integer(digits: str) -> int | float:
    """Read an integer of JSON of any length: Python refuses thousands of digits, here they make infinity."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


@dataclass(frozen=True)
class Document:
    """One unit of text: the unit of splitting and of inference.

    Attributes:
        name: A readable name, unique within its part.
        text: The text itself. Everything that is measured indexes its UTF-8 bytes.
        corpus: The part that it comes from ("speeches", "peoples_daily", ...).
        language: "en", "zh", "code", or "und" where nobody said.
        words: Words as half-open spans of *characters*, in order; None means that nobody marked
            them, which is not the same as no words.
        tags: One part-of-speech tag a gold word.
        cut_from: The sha256 of the whole document, where this one is a piece of it.
        is_despaced: Whether all white space was removed, so that `words` tells what the text no
            longer does.
        word_grade: Who marked `words`: "gold", people; "rule", the white space and punctuation of a
            text that has been de-spaced since.
        whole: For a piece of code, the whole file, and at which of its characters the piece begins:
            a piece need not parse.
        topic: What the source files it under (of `wiki`, one of twelve); None where it does not say.
    """

    name: str
    text: str
    corpus: str
    language: str
    words: tuple[tuple[int, int], ...] | None = None
    tags: tuple[str, ...] | None = None
    cut_from: str | None = None
    is_despaced: bool = False
    word_grade: Grade = "gold"
    whole: tuple[str, int] | None = field(default=None, repr=False, compare=False)
    topic: str | None = None

    @property
    def encoded(self) -> bytes:
        """The UTF-8 bytes of the text."""
        try:
            return self.text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise LRopeError(
                f"{self.name}: character {error.start} is a lone surrogate and has no UTF-8 form; "
                "replace it first"
            ) from None

    @cached_property
    def n_bytes(self) -> int:
        """Length of the text in UTF-8 bytes."""
        return len(self.encoded)

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal sha256 of the UTF-8 bytes: the identity of the document."""
        return hashlib.sha256(self.encoded).hexdigest()

    @property
    def source_sha256(self) -> str:
        """The sha256 that decided the split: of the whole document, even for a piece of it."""
        return self.cut_from or self.sha256


class IndexedDocuments(Sequence[Document]):
    """Documents that are read one at a time, and of which an index knows what splitting needs.

    Args:
        read: Reads the document that a row describes.
        rows: Structured, one a document, with at least its "sha256" (32 bytes), "n_bytes" and "language".
        n_duplicates: Documents that the source gave besides, whose text had occurred already.
    """

    def __init__(self, read: Callable[[Any], Document], rows: np.ndarray, n_duplicates: int = 0) -> None:
        self.read, self.rows, self.n_duplicates = read, rows, n_duplicates

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> IndexedDocuments: ...
    def __getitem__(self, index: int | slice) -> Document | IndexedDocuments:
        """Read one document, or take a stretch of them."""
        return self.take(index) if isinstance(index, slice) else self.read(self.rows[index])

    def __iter__(self) -> Iterator[Document]:
        """Read one document after the other."""
        return map(self.read, self.rows)

    def take(self, rows: Int64[np.ndarray, " n_taken"] | slice) -> IndexedDocuments:
        """Return the documents at these places, in the order asked for."""
        return IndexedDocuments(self.read, self.rows[rows], self.n_duplicates)


def hashes_of(documents: Iterable[Document]) -> list[str]:
    """Return the sha256 of every document."""
    if not isinstance(documents, IndexedDocuments):
        return [document.sha256 for document in documents]
    joined = documents.rows["sha256"].tobytes().hex()
    return [joined[at : at + 64] for at in range(0, len(joined), 64)]


def sizes_of(documents: Iterable[Document]) -> list[int]:
    """Return the UTF-8 bytes of every document."""
    is_indexed = isinstance(documents, IndexedDocuments)
    return documents.rows["n_bytes"].tolist() if is_indexed else [document.n_bytes for document in documents]


def languages_of(documents: Iterable[Document]) -> list[str]:
    """Return the language of every document."""
    if isinstance(documents, IndexedDocuments):
        return documents.rows["language"].astype(str).tolist()
    return [document.language for document in documents]


def where(documents: Sequence[Document], is_taken: Sequence[bool]) -> Sequence[Document]:
    """Return the documents that a mask takes, in their order."""
    if isinstance(documents, IndexedDocuments):
        return documents.take(np.flatnonzero(list(is_taken)))
    return tuple(compress(documents, is_taken))


def in_hash_order(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield documents in the order of their sha256, those on disk one at a time."""
    if isinstance(documents, IndexedDocuments):
        rows = sorted(range(len(documents)), key=hashes_of(documents).__getitem__)
        yield from documents.take(np.array(rows, dtype=np.int64))
    else:
        yield from sorted(documents, key=lambda document: document.sha256)


def in_lists(documents: Iterable[Document], n_bytes: int) -> Iterator[list[Document]]:
    """Yield documents some at a time: lists of about so many bytes."""
    found: list[Document] = []
    size = 0
    for document in documents:
        found.append(document)
        size += document.n_bytes
        if size >= n_bytes:
            yield found
            found, size = [], 0
    if found:
        yield found


def hash_fraction(sha256: str) -> float:
    """Map a hexadecimal sha256 to [0, 1]: its first 16 digits over 2**64."""
    return int(sha256[:16], 16) / 2**64


def hash_splits(hashes: Iterable[str], held_out_share: float) -> dict[str, str]:
    """Assign every hash to train, fit, dev or test.

    A document is held out when its hash falls in the top share of all hashes, and the held-out part is
    split 40/20/40 into fit, dev and test by where in that share it falls. So a split does not depend on the
    order of documents, and adding a document moves no other one (but for corpora so small that a split would
    be empty).

    Args:
        hashes: sha256 of the documents; duplicates count once.
        held_out_share: The share that is held out; 1 holds out everything.

    Returns:
        The split of each hash. No split that the share asks for is empty as long as there are
        enough documents to give it one: then the highest hashes are held out.
    """
    distinct = sorted(set(hashes))
    wanted = HELD_OUT if held_out_share >= 1 else SPLITS
    splits = {sha256: _split(sha256, held_out_share) for sha256 in distinct}
    if len(distinct) >= len(wanted) and not set(wanted) <= set(splits.values()):
        return _fill_by_rank(distinct, splits, is_all_held_out=held_out_share >= 1)
    return splits


def require_documents(n_documents: int, name: str) -> None:
    """Refuse a corpus that cannot give train, fit, dev and test a document each."""
    if n_documents < len(SPLITS):
        raise LRopeError(
            f"{name} gives {n_documents} different document(s), and at least {len(SPLITS)} are needed "
            "(one each for train, fit, dev and test). A folder gives one document a file, a table one a "
            "row; a text file gives one for every 2,000 bytes of paragraphs, so that about 8,000 bytes are "
            "the least and 1 MB or more makes sense. Separate paragraphs by blank lines or line ends."
        )


def _split(sha256: str, held_out_share: float) -> str:
    fraction, start = hash_fraction(sha256), 1 - held_out_share
    if fraction < start:
        return "train"
    within = (fraction - start) / held_out_share
    return "fit" if within < _FIT_BELOW else "dev" if within < _DEV_BELOW else "test"


def _fill_by_rank(distinct: list[str], splits: dict[str, str], *, is_all_held_out: bool) -> dict[str, str]:
    """Hold out the highest hashes and cut them 40/20/40 by rank, at least one document each."""
    n_held_out = max(len(HELD_OUT), sum(split != "train" for split in splits.values()))
    n_held_out = len(distinct) if is_all_held_out else min(n_held_out, len(distinct) - 1)
    n_dev = max(1, round((_DEV_BELOW - _FIT_BELOW) * n_held_out))
    n_test = max(1, round((1 - _DEV_BELOW) * n_held_out))
    n_fit = n_held_out - n_dev - n_test
    n_train = len(distinct) - n_held_out
    names = ["train"] * n_train + ["fit"] * n_fit + ["dev"] * n_dev + ["test"] * n_test
    return dict(zip(distinct, names, strict=True))


@dataclass(frozen=True)
class CorpusPart:
    """Documents of one source and one language, and how they are split.

    Attributes:
        name: The name of the source.
        language: The language of its documents ("und" where they differ).
        documents: All documents, exact duplicates removed; in memory, or on disk and read one at a time.
        held_out_share: The share of documents, by hash, that training never sees.
        source: Provenance: package, version, files, rights, and what was removed or skipped.
        trained_on: Hashes of documents that a model has seen; they count as "train" whatever
            their own hash says.
        given_splits: The split of each document by its sha256, where its own hash does not decide it: of
            pieces, whose whole documents were split.
    """

    name: str
    language: str
    documents: Sequence[Document]
    held_out_share: float
    source: Mapping[str, Any] = field(default_factory=dict)
    trained_on: frozenset[str] = frozenset()
    given_splits: Mapping[str, str] | None = None

    @cached_property
    def splits(self) -> dict[str, str]:
        """The split of each document, by sha256; the same whatever order they come in."""
        own = dict(self.given_splits or hash_splits(hashes_of(self.documents), self.held_out_share))
        return own | {sha256: "train" for sha256 in own if sha256 in self.trained_on}

    def of_split(self, split: str | None) -> Sequence[Document]:
        """Return the documents of one split, or all of them for None, in their order."""
        if split is None:
            return self.documents
        return where(self.documents, [one == split for one in self._split_of_each])

    @cached_property
    def _split_of_each(self) -> list[str]:
        """The split of each document, in their order."""
        splits = self.splits
        return [splits[sha256] for sha256 in hashes_of(self.documents)]


@dataclass(frozen=True)
class Corpus:
    """A named corpus: one part, or several that training draws from with equal probability.

    Attributes:
        name: Its name.
        parts: What it consists of.
        reading: How its text was read.
        note: Of a sample that is read in place of a corpus: what it is, and how to have the whole.
    """

    name: str
    parts: tuple[CorpusPart, ...]
    reading: Reading = field(default_factory=Reading)
    note: str = ""

    def documents(self, split: str | None = None, *, part: str | None = None) -> Sequence[Document]:
        """Return the documents of one split (train, fit, dev, test) and one part, or of all.

        Those of a file or a data set are read from the cache one at a time; iterate over them, and
        keep no more than you need.

        Args:
            split: "train", "fit", "dev" or "test"; None gives every document.
            part: Name of one part; None takes all of them, in their order.
        """
        if split is not None and split not in SPLITS:
            raise unknown("split", split, SPLITS)
        names = [one.name for one in self.parts]
        if part is not None and part not in names:
            raise unknown("part", part, names)
        found = [one.of_split(split) for one in self.parts if part in (None, one.name)]
        return found[0] if len(found) == 1 else tuple(document for one in found for document in one)

    def held_out(self) -> Iterator[Document]:
        """Yield every document that training must not see."""
        return chain.from_iterable(map(self.documents, HELD_OUT))

    def split_of(self, document: Document) -> str:
        """Return the split that a document of this corpus, or a piece of one, belongs to."""
        for part in self.parts:
            if document.source_sha256 in part.splits:
                return part.splits[document.source_sha256]
        raise LRopeError(f"the document {document.name!r} does not belong to the corpus {self.name}")

    def held_out_from(self, manifest: Mapping[str, Any]) -> Corpus:
        """Return this corpus as a model may be tested on it, given that model's ``data.json``.

        A part of which the model has seen no document is held out as a whole and split 40/20/40
        by hash into fit, dev and test. In any other part the usual split stands, except that each
        document the model has seen counts as "train", whatever its hash says.
        """
        seen = frozenset(manifest["splits"]["train"]["sha256"])
        parts = []
        for part in self.parts:
            overlap = seen.intersection(hashes_of(part.documents))
            parts.append(replace(part, trained_on=overlap) if overlap else replace(part, held_out_share=1.0))
        return replace(self, parts=tuple(parts))

    def manifest(self) -> dict[str, Any]:
        """Return what ``data.json`` of a run holds: sources, and the hash of every document."""

        def counts(documents: Sequence[Document]) -> dict[str, Any]:
            return {"n_documents": len(documents), "n_bytes": sum(sizes_of(documents))}

        splits = {
            split: {**counts(found), "sha256": sorted(hashes_of(found))}
            for split, found in ((split, self.documents(split)) for split in SPLITS)
        }
        sources = [
            {
                "part": part.name,
                "language": part.language,
                "held_out_share": part.held_out_share,
                **counts(part.documents),
                **part.source,
            }
            for part in self.parts
        ]
        return {
            "format": MANIFEST_FORMAT,
            "name": self.name,
            **asdict(self.reading),
            "sources": sources,
            "splits": splits,
        }


def read_manifest(run_folder: Path | str) -> dict[str, Any]:
    """Read the `data.json` of a run: what its model was trained on.

    Where the folder has a sample of held-out text (see `corpora.sample_corpus`), "sample" says where.
    """
    missing = (
        f"{run_folder} has no {MANIFEST_FILE}, so nothing says what its model was trained on; "
        "give a run folder made by `lrope-interp train`"
    )
    path = Path(run_folder) / MANIFEST_FILE
    manifest = read_json(path, ManifestFile, newest=MANIFEST_FORMAT, missing=missing, most_bytes=LARGE)
    sample = path.with_name(SAMPLE_FILE)
    return {**manifest, "sample": str(sample) if sample.is_file() else None}


def unique_documents(documents: Iterable[Document]) -> tuple[tuple[Document, ...], int]:
    """Drop documents whose text already occurred; return the rest and how many were dropped."""
    kept: dict[str, Document] = {}
    n_seen = 0
    for document in documents:
        n_seen += 1
        kept.setdefault(document.sha256, document)
    return tuple(kept.values()), n_seen - len(kept)


def documents_sha256(documents: Iterable[Document]) -> str:
    """Return one hash for a set of documents, independent of their order."""
    joined = "\n".join(sorted(hashes_of(documents)))
    return hashlib.sha256(joined.encode("ascii")).hexdigest()
