"""The user's own text: a file, or a folder of files, of plain text or tables.

Tables are JSON lines (also .gz and .zst) and Parquet; every row is a document.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from lrope_interp.data.documents import (
    SPLITS,
    CorpusPart,
    IndexedDocuments,
    Reading,
    any_integer,
    languages_of,
)
from lrope_interp.data.sources.plain_text import (
    CODE_SUFFIXES,
    PROSE_SUFFIXES,
    RULE,
    TEXT_SUFFIXES,
    checked_text,
    decoded_text,
    language_of,
    runs_of_paragraphs,
)
from lrope_interp.data.store import Piece, store_documents
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
    documents = _stored("file", path, files, reading, lambda: _pieces(path, files, reading), len(SPLITS))
    return stored_part("file", documents, {"files": str(path), "rights": "the user's own text"})


def text_runs(path: Path, reading: Reading) -> IndexedDocuments:
    """Return the runs of paragraphs of a text file, from the cache; it may have any size."""
    return _stored("text", path, [path], reading, lambda: _runs(path, _name(path, path), reading), 1)


def _stored(
    part: str,
    path: Path,
    files: list[Path],
    reading: Reading,
    read: Callable[[], Iterator[Piece]],
    least: int,
) -> IndexedDocuments:
    has_tables = part == "file" and any(map(is_table, files))
    identity = {
        "source": part,
        "files": [state_of(path, file) for file in files],
        "rule": RULE,
        "encoding_errors": reading.encoding_errors,
        "text_column": reading.text_column if has_tables else None,
    }
    n_bytes, is_despaced = reading.max_train_bytes, reading.despaced
    return store_documents(
        part, identity, read, name=str(path), max_bytes=n_bytes, least=least, is_despaced=is_despaced
    )


def is_large(path: Path) -> bool:
    """Whether a text file is never read as a whole."""
    return path.is_file() and path.stat().st_size > LARGEST_WHOLE_FILE


def stored_part(name: str, documents: IndexedDocuments, source: dict[str, Any]) -> CorpusPart:
    """Return the part that stored documents make, a tenth of them held out."""
    languages = set(languages_of(documents))
    said = {"package": None, "version": None, **source, "n_duplicates_removed": documents.n_duplicates}
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
            text = decoded_text(file, reading.encoding_errors)
            if text.strip():
                yield Piece(name, 0, text.encode("utf-8"), language_of(text, file.suffix))


def _runs(file: Path, name: str, reading: Reading) -> Iterator[Piece]:
    """Yield the runs of paragraphs of a text file."""
    with checked_text(file, reading.encoding_errors) as (text, start, language):
        for number, (first, last) in enumerate(runs_of_paragraphs(text, start), start=1):
            yield Piece(name, number, text[first:last], language)


def visible_files(path: Path) -> Iterator[Path]:
    """Walk a folder in a fixed order, without hidden files and folders."""
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found = (Path(folder, name) for name in sorted(files) if not name.startswith("."))
        yield from (file for file in found if file.is_file())


JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
PARQUET = (".parquet",)
TABLES = (*JSON_LINES, *PARQUET)
_ROWS_AT_A_TIME = 256


def is_table(path: Path) -> bool:
    """Return whether the name of a file says that it holds rows."""
    return path.name.lower().endswith(TABLES)


def table_pieces(path: Path, name: str, reading: Reading) -> Iterator[Piece]:
    """Yield one document a row; empty rows and nulls are skipped.

    Args:
        path: A file for which `is_table`.
        name: What documents are named after.
        reading: Which column, and what to do with bytes that are not UTF-8.

    Raises:
        LRopeError: The file is broken, lacks the column, or holds something else than text there;
            the message has the row.
    """
    rows = _parquet_values if path.name.lower().endswith(PARQUET) else _json_values
    for number, value in rows(path, reading):
        text = text_of(value, f"{path}, row {number:,}", reading)
        if text.strip():
            yield Piece(name, number, text.encode("utf-8"), language_of(text))


def text_of(value: object, place: str, reading: Reading) -> str:
    """Return what stands in the text column of one row; a null is an empty text.

    Args:
        value: Text, or its bytes.
        place: What to call the row in messages.
        reading: What to do where there is no UTF-8 form.
    """
    if value is None:
        return ""
    try:
        if isinstance(value, bytes):
            return value.decode("utf-8", errors=reading.encoding_errors)
        if isinstance(value, str):
            value.encode("utf-8")
            return value
    except UnicodeDecodeError as error:
        raise LRopeError(f"{place}: not UTF-8 at byte {error.start:,}; {_REPAIR}") from None
    except UnicodeEncodeError as error:
        if reading.encoding_errors == "replace":
            return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        raise LRopeError(f"{place}: a lone surrogate at character {error.start:,}; {_REPAIR}") from None
    raise LRopeError(
        f"{place}: the column {reading.text_column!r} holds {_kind_of(value)}, and text is wanted; name "
        "another as text_column"
    )


def column_missing(place: str, column: str, columns: Iterable[str]) -> LRopeError:
    """Say which columns there are instead."""
    names = ", ".join(columns) or "none"
    return LRopeError(f"{place} has no column {column!r}; there are: {names}. Name one as text_column")


_REPAIR = "repair it, or read it with encoding_errors replace"
_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def _kind_of(value: object) -> str:
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def _json_values(path: Path, reading: Reading) -> Iterator[tuple[int, object]]:
    """Yield line numbers and what stands in the column of each line that is not blank."""
    for number, line in _lines(path):
        if not line.strip():
            continue
        place = f"{path}, line {number:,}"
        try:
            row = json.loads(line.decode("utf-8", errors=reading.encoding_errors), parse_int=any_integer)
        except UnicodeDecodeError as error:
            raise LRopeError(f"{place}: not UTF-8 at byte {error.start:,} of the line; {_REPAIR}") from None
        except (ValueError, RecursionError) as error:
            raise LRopeError(f"{place}: not valid JSON ({error}); one object a line is wanted") from None
        if not isinstance(row, dict):
            raise LRopeError(f'{place}: {_kind_of(row)}, and an object is wanted, as in {{"text": "..."}}')
        if reading.text_column not in row:
            raise column_missing(place, reading.text_column, row)
        yield number, row[reading.text_column]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines of a file, unpacked where its name says that it is packed."""
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except FileNotFoundError:
        raise LRopeError(f"there is no file {path}") from None
    except (OSError, EOFError, zlib.error) as error:
        _unreadable(path, error)


def _opened(path: Path) -> Any:
    if path.name.lower().endswith(".zst"):
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"), 1 << 20)
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _parquet_values(path: Path, reading: Reading) -> Iterator[tuple[int, object]]:
    """Yield row numbers, from 1, and what stands in the column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as table:
            names = table.schema_arrow.names
            if reading.text_column not in names:
                raise column_missing(str(path), reading.text_column, names)
            number = 0
            batches = table.iter_batches(_ROWS_AT_A_TIME, columns=[reading.text_column], use_threads=False)
            for batch in batches:
                for value in _values(batch.column(0)):
                    number += 1
                    yield number, value
    except FileNotFoundError:
        raise LRopeError(f"there is no file {path}") from None
    except (OSError, pa.ArrowException) as error:
        _unreadable(path, error)


def _values(column: Any) -> list[Any]:
    """Return the values of an Arrow column; text as its bytes, which need not be UTF-8."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        return column.to_pylist()
    return column.cast(pa.large_binary()).to_pylist()


def _unreadable(path: Path, error: Exception) -> NoReturn:
    """Say that a file is broken or cannot be opened."""
    said = (getattr(error, "strerror", None) or str(error)).split("\n")[0]
    if "too much memory" in said:  # what zstd says of a window above its default of 128 MiB
        raise LRopeError(
            f"{path} cannot be read: its window is {_zstandard_window(path)}, and at most 128 MiB is read. "
            "Pack it again with a smaller one: "
            f"zstd -dc --long=31 {shlex.quote(path.name)} | zstd -o smaller.jsonl.zst"
        ) from None
    raise LRopeError(f"{path} cannot be read ({said}); is it whole? Make or copy it again") from None


def _zstandard_window(path: Path) -> str:
    """Return the size of the window that the first frame of a file asks for (RFC 8878, 3.1.1.1)."""
    with path.open("rb") as file:
        header = file.read(6)
    is_single = len(header) < 6 or header[4] & 0x20
    if header[:4] != b"\x28\xb5\x2f\xfd" or is_single:
        return "larger"
    size = (1 << 10 + (header[5] >> 3)) * (8 + (header[5] & 7)) // 8
    return f"{size / 2**30:g} GiB" if size >= 2**30 else f"{size / 2**20:g} MiB"
