"""The user's own text: a file, or a folder of files, of plain text, JSON lines or Parquet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrope_interp.data.documents import CorpusPart
from lrope_interp.data.reading import Reading
from lrope_interp.data.sources.paragraphs import RULE, runs_of_paragraphs
from lrope_interp.data.sources.plain_text import (
    CODE_SUFFIXES,
    PROSE_SUFFIXES,
    TEXT_SUFFIXES,
    checked_text,
    decoded_text,
    language_of,
)
from lrope_interp.data.sources.tables import JSON_LINES, PARQUET, is_table, table_pieces
from lrope_interp.data.stored import Piece, StoredDocuments, store_documents
from lrope_interp.errors import LRopeError, visible

HELD_OUT_SHARE = 0.1
LARGEST_WHOLE_FILE = 8_000_000
_NOT_READ = {
    ".json": "a row a line (.jsonl) is read",
    ".csv": "convert it to .jsonl or .parquet",
    ".tsv": "convert it to .jsonl or .parquet",
    ".arrow": "convert it to .parquet",
    ".gz": "of packed files only .jsonl.gz and .jsonl.zst are read: unpack it",
    ".zst": "of packed files only .jsonl.gz and .jsonl.zst are read: unpack it",
    ".bz2": "of packed files only .jsonl.gz and .jsonl.zst are read: unpack it",
    ".xz": "of packed files only .jsonl.gz and .jsonl.zst are read: unpack it",
    ".zip": "of packed files only .jsonl.gz and .jsonl.zst are read: unpack it",
    ".pdf": "convert it to UTF-8 text",
    ".docx": "convert it to UTF-8 text",
}


def load(path: Path, reading: Reading) -> CorpusPart:
    """Return a file or a folder as documents; their text is kept in the cache, not in memory.

    Args:
        path: A text file, of which each run of paragraphs of at least 2,000 bytes is a document; a
            table (.jsonl, .jsonl.gz, .jsonl.zst, .parquet), of which each row is one; or a folder
            that mixes them (hidden files are skipped), of which a text or code file is one document
            up to 8 MB, and cut into runs of paragraphs above.
        reading: Which column, how to decode, and how much.
    """
    files = _files(path)
    identity = {
        "source": "file",
        "files": [state_of(path, file) for file in files],
        "rule": RULE,
        "encoding_errors": reading.encoding_errors,
        "text_column": reading.text_column if any(map(is_table, files)) else None,
    }
    documents = store_documents(
        "file",
        identity,
        lambda: _pieces(path, files, reading),
        name=str(path),
        max_bytes=reading.max_train_bytes,
        is_despaced=reading.despaced,
    )
    return stored_part("file", documents, {"files": str(path), "rights": "the user's own text"})


def is_large(path: Path) -> bool:
    """Whether a text file is never read as a whole."""
    return path.is_file() and path.stat().st_size > LARGEST_WHOLE_FILE


def text_runs(path: Path, reading: Reading) -> StoredDocuments:
    """Return the runs of paragraphs of a text file, from the cache; it may have any size."""
    identity = {
        "source": "text",
        "files": [state_of(path, path)],
        "rule": RULE,
        "encoding_errors": reading.encoding_errors,
    }
    return store_documents(
        "text",
        identity,
        lambda: _runs(path, _name(path, path), reading),
        name=str(path),
        least=1,
        is_despaced=reading.despaced,
    )


def stored_part(name: str, documents: StoredDocuments, source: dict[str, Any]) -> CorpusPart:
    """Return the part that stored documents make, a tenth of them held out."""
    languages = set(documents.languages)
    said = {"package": None, "version": None, **source, "n_duplicates_removed": documents.store.n_duplicates}
    return CorpusPart(
        name, languages.pop() if len(languages) == 1 else "und", documents, HELD_OUT_SHARE, said
    )


def _files(path: Path) -> list[Path]:
    """Return the file, or the files of a folder that are read, in a fixed order."""
    if not path.is_dir():
        _refuse(path)
        return [path]
    files = [file for file in visible_files(path) if file.suffix.lower() in TEXT_SUFFIXES or is_table(file)]
    if not files:
        raise LRopeError(
            f"the folder {path} has no text file (hidden ones do not count); the names that are taken for "
            f"text end in: {PROSE_SUFFIXES} {CODE_SUFFIXES}; those for rows of text in: "
            f"{' '.join(one[1:] for one in (*JSON_LINES, *PARQUET))}"
        )
    return files


def _refuse(path: Path) -> None:
    """Refuse a path that is no file, or one whose name says that it is not plain text."""
    if path.exists() and not path.is_file():
        raise LRopeError(f"{path} is neither a file nor a folder; a text is wanted")
    advice = None if is_table(path) else _NOT_READ.get(path.suffix.lower())
    if advice and path.exists():
        raise LRopeError(
            f"{path} is not read: {advice}. If it is to be read as plain text, name it .txt; names that are "
            "read as rows of text end in .jsonl, .jsonl.gz, .jsonl.zst or .parquet"
        )


def state_of(path: Path, file: Path) -> list[Any]:
    """Return what tells whether a file is still the same: resolved path, name, size, times.

    The time of the last change of the inode is among them, because that of the content can be set back,
    as rsync and tar do.
    """
    try:
        found = file.stat()
    except FileNotFoundError:
        raise LRopeError(f"there is no file {file}") from None
    except OSError as error:
        raise LRopeError(f"{file} cannot be read: {error.strerror}") from None
    name = visible(str(file.resolve()))
    return [name, _name(path, file), found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _name(path: Path, file: Path) -> str:
    return visible(path.name if file == path else file.relative_to(path).as_posix())


def _pieces(path: Path, files: list[Path], reading: Reading) -> Iterator[Piece]:
    """Yield the documents of all files."""
    for file in files:
        name = _name(path, file)
        if is_table(file):
            yield from table_pieces(file, name, reading)
        elif file == path or file.stat().st_size > LARGEST_WHOLE_FILE:
            yield from _runs(file, name, reading)
        else:
            yield from _whole(file, name, reading)


def _runs(file: Path, name: str, reading: Reading) -> Iterator[Piece]:
    """Yield the runs of paragraphs of a text file."""
    with checked_text(file, reading.encoding_errors) as (text, start, language):
        for number, (first, last) in enumerate(runs_of_paragraphs(text, start), start=1):
            yield Piece(name, number, text[first:last], language)


def _whole(file: Path, name: str, reading: Reading) -> Iterator[Piece]:
    """Yield a text file as one document, or nothing if it is blank."""
    text = decoded_text(file, reading.encoding_errors)
    if text.strip():
        yield Piece(name, 0, text.encode("utf-8"), language_of(text, file.suffix))


def visible_files(path: Path) -> Iterator[Path]:
    """Walk a folder in a fixed order, without hidden files and folders."""
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found = (Path(folder, name) for name in sorted(files) if not name.startswith("."))
        yield from (file for file in found if file.is_file())
