"""Data sets of the Hugging Face hub, or of a local folder in its format, read as a stream."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lrope_interp.data.cache import cached_entries
from lrope_interp.data.documents import CorpusPart, IndexedDocuments, Reading
from lrope_interp.data.sources.files import column_missing, state_of, stored_part, text_of, visible_files
from lrope_interp.data.sources.plain_text import language_of
from lrope_interp.data.store import TEXTS, Piece, reopened, store_documents
from lrope_interp.errors import LRopeError
from lrope_interp.hub import unreachable

PREFIX = "hf:"
FORM = "hf:NAME[:CONFIG[:SPLIT[:COLUMN]]]"


@dataclass(frozen=True)
class HubRequest:
    """What ``hf:NAME[:CONFIG[:SPLIT[:COLUMN]]]`` asks for; an empty field is as if left out.

    Attributes:
        name: A data set of the hub, or the path of a local folder.
        config: Which of its configurations; None where it has one only.
        split: Which split.
        column: Which column; None takes ``--text-column``.
    """

    name: str
    config: str | None = None
    split: str = "train"
    column: str | None = None

    @classmethod
    def of(cls, words: str) -> HubRequest:
        """Read what stands behind ``hf:``; a folder on disk may have colons in its name."""
        fields = words.split(":")
        n_name = next((n for n in range(len(fields), 1, -1) if Path(":".join(fields[:n])).is_dir()), 1)
        name, rest = ":".join(fields[:n_name]), fields[n_name:]
        if not name:
            raise LRopeError(f"hf: needs the name of a data set: {FORM}, as in hf:roneneldan/TinyStories")
        if len(rest) > 3:
            raise LRopeError(f"hf:{words} has {len(rest) + 1} fields; at most four are wanted: {FORM}")
        config, split, column = (*rest, "", "", "")[:3]
        return cls(name, config or None, split or "train", column or None)

    @property
    def folder(self) -> Path | None:
        """The local folder that is meant, if it is one."""
        path = Path(self.name).expanduser()
        if path.is_dir():
            return path.resolve()
        if self.name.startswith(("/", "./", "../", "~")):
            raise LRopeError(
                f"there is no folder {self.name}; a data set's name or its folder is wanted in {FORM}"
            )
        return None


def absolute(words: str) -> str:
    """Return what stands behind ``hf:`` with the path of a local folder made absolute."""
    name = HubRequest.of(words).name
    path = Path(os.path.expanduser(name))
    return f"{path.absolute()}{words[len(name) :]}" if path.is_dir() else words


def load(words: str, reading: Reading) -> CorpusPart:
    """Return the rows of a data set as documents; it is read as a stream and kept in the cache.

    A data set of the hub that cannot be reached is taken from the cache if it was read before.

    Args:
        words: What stands behind ``hf:``.
        reading: Which column (unless `words` has one), how to decode, and how much.

    Raises:
        LRopeError: The name is wrong, the hub cannot be reached, or a row has no text.
    """
    request = HubRequest.of(words)
    folder = request.folder
    reading = replace(reading, text_column=request.column or reading.text_column)
    asked = {
        "source": "hf",
        **asdict(replace(request, name=str(folder or request.name), column=reading.text_column)),
        "encoding_errors": reading.encoding_errors,
    }
    try:
        builder = _builder(request)
    except LRopeError as error:
        despaced = reading.despaced or None
        documents = _kept({**asked, "despaced": despaced, "max_bytes": reading.max_train_bytes})
        if documents is None:
            raise
        warnings.warn(f"{error} What was read of it before is used.", stacklevel=2)
    else:
        # Of the files of a local folder the builder looks at the time alone.
        files = [state_of(folder, file) for file in visible_files(folder)] if folder is not None else []
        documents = store_documents(
            "hf",
            {**asked, "fingerprint": str(builder.hash), "files": files},
            lambda: _pieces(builder, request, reading),
            name=f"hf:{words}",
            max_bytes=reading.max_train_bytes,
            is_despaced=reading.despaced,
        )
    return stored_part("hf", documents, {"files": f"hf:{words}", "rights": "see the data set's card"})


def _kept(asked: Mapping[str, Any]) -> IndexedDocuments | None:
    """Return the newest entry of the cache that answers a request, whatever its fingerprint."""
    for _, entry in cached_entries(TEXTS):
        identity = entry.get("identity", {})
        if {name: identity.get(name) for name in asked} == dict(asked):
            return reopened("hf", identity)
    return None


def _builder(request: HubRequest) -> Any:
    """Find a data set, without reading its rows."""
    import datasets

    datasets.disable_progress_bars()
    try:
        folder = request.folder
        if folder is None and (problem := unreachable()):
            raise LRopeError(f"{problem}; {_INSTEAD}")
        return datasets.load_dataset_builder(str(folder or request.name), request.config)
    except LRopeError:
        raise
    except Exception as error:  # whatever a reader of foreign formats stumbles over
        raise _failed(request, error) from None


_INSTEAD = (
    "download the data set where there is a network and name its folder (hf:FOLDER or file:FOLDER), or use a "
    "corpus that `lrope-interp list corpora` lists."
)


def _pieces(builder: Any, request: HubRequest, reading: Reading) -> Iterator[Piece]:
    """Yield one document a row; empty rows and nulls are skipped."""
    place, column = f"hf:{request.name}", reading.text_column
    number = 0
    try:
        rows = builder.as_streaming_dataset(split=request.split)
        columns = rows.column_names
        if columns is not None and column in columns:
            rows = rows.select_columns([column])
        for number, row in enumerate(rows, start=1):
            if column not in row:
                raise column_missing(place, column, row)
            text = text_of(row[column], f"{place}, row {number:,}", reading)
            if text.strip():
                yield Piece(
                    f"{request.name}/{request.split}", number, text.encode("utf-8"), language_of(text)
                )
    except LRopeError:
        raise
    except Exception as error:  # whatever a reader of foreign formats stumbles over
        raise _failed(request, error, after=number) from None


def _failed(request: HubRequest, error: Exception, after: int = 0) -> LRopeError:
    """Say what the library said, in one line."""
    said = " ".join(str(error).split())
    where = f" after row {after:,}" if after else ""
    return LRopeError(
        f"hf:{request.name} cannot be read{where} ({type(error).__name__}: {said[:300]}). Check name, config "
        f"({request.config}) and split ({request.split}) of {FORM}"
    )
