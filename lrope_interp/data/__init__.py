"""Text for training and measuring: corpora, held-out splits, windows, alignment, labels."""

from lrope_interp.data.alignment import (
    BYTE_CLASSES,
    byte_class,
    byte_to_character,
    character_starts,
    character_widths,
)
from lrope_interp.data.cache import cache_folder
from lrope_interp.data.corpora import (
    CORPORA,
    DEFAULT_CORPUS,
    CorpusInfo,
    corpus_status,
    load_corpus,
    load_corpus_for,
    training_documents,
)
from lrope_interp.data.documents import (
    MANIFEST_FILE,
    SPLITS,
    Corpus,
    CorpusPart,
    Document,
    Reading,
    documents_sha256,
    hashes_of,
    in_hash_order,
    read_manifest,
    where,
)
from lrope_interp.data.held_out import (
    SharedShingles,
    assert_held_out,
    evaluation_documents,
    piece_of,
    shared_shingles,
)
from lrope_interp.data.labels.kinds import (
    LABELS,
    STRATA,
    GapLabels,
    default_labels,
    label_gaps,
    stratum_masks,
)
from lrope_interp.data.sources.plain_text import language_of
from lrope_interp.data.texts import text_documents, text_splits
from lrope_interp.data.windows import (
    ScoringWindow,
    WindowSampler,
    document_hashes,
    scoring_windows,
    training_stream,
    training_streams,
)

__all__ = [
    "BYTE_CLASSES",
    "CORPORA",
    "DEFAULT_CORPUS",
    "LABELS",
    "MANIFEST_FILE",
    "SPLITS",
    "STRATA",
    "Corpus",
    "CorpusInfo",
    "CorpusPart",
    "Document",
    "GapLabels",
    "Reading",
    "ScoringWindow",
    "SharedShingles",
    "WindowSampler",
    "assert_held_out",
    "byte_class",
    "byte_to_character",
    "cache_folder",
    "character_starts",
    "character_widths",
    "corpus_status",
    "default_labels",
    "document_hashes",
    "documents_sha256",
    "evaluation_documents",
    "hashes_of",
    "in_hash_order",
    "label_gaps",
    "language_of",
    "load_corpus",
    "load_corpus_for",
    "piece_of",
    "read_manifest",
    "scoring_windows",
    "shared_shingles",
    "stratum_masks",
    "text_documents",
    "text_splits",
    "training_documents",
    "training_stream",
    "training_streams",
    "where",
]
