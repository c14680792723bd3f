"""Text for training and measuring: corpora, held-out splits, windows, alignment, labels."""

from lrope_interp.data.alignment import (
    BYTE_CLASSES,
    byte_class,
    byte_to_character,
    character_starts,
    character_widths,
)
from lrope_interp.data.corpora import (
    CORPORA,
    DEFAULT_CORPUS,
    CorpusInfo,
    corpus_status,
    load_corpus,
    training_documents,
)
from lrope_interp.data.documents import Corpus, CorpusPart, Document, documents_sha256
from lrope_interp.data.labels import LABELS, STRATA, GapLabels, label_gaps, stratum_masks
from lrope_interp.data.selection import evaluation_documents, piece_of
from lrope_interp.data.shingles import SharedShingles, shared_shingles
from lrope_interp.data.sources.files import language_of
from lrope_interp.data.splits import SPLITS, assert_held_out
from lrope_interp.data.texts import text_documents, text_splits
from lrope_interp.data.windows import (
    ScoringWindow,
    WindowSampler,
    scoring_windows,
    training_stream,
    training_streams,
)

__all__ = [
    "BYTE_CLASSES",
    "CORPORA",
    "DEFAULT_CORPUS",
    "LABELS",
    "SPLITS",
    "STRATA",
    "Corpus",
    "CorpusInfo",
    "CorpusPart",
    "Document",
    "GapLabels",
    "ScoringWindow",
    "SharedShingles",
    "WindowSampler",
    "assert_held_out",
    "byte_class",
    "byte_to_character",
    "character_starts",
    "character_widths",
    "corpus_status",
    "documents_sha256",
    "evaluation_documents",
    "label_gaps",
    "language_of",
    "load_corpus",
    "piece_of",
    "scoring_windows",
    "shared_shingles",
    "stratum_masks",
    "text_documents",
    "text_splits",
    "training_documents",
    "training_stream",
    "training_streams",
]
