"""Documents of every kind, and files of rows, as the tests on data want them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lrope_interp.data import Document

anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def prose(text: str, language: str = "und", **fields: Any) -> Document:
    return Document("d", text, "test", language, **fields)


def code(text: str, **fields: Any) -> Document:
    return Document("d.py", text, "test", "code", **fields)


def tagged(tokens: str) -> Document:
    """Read ``word/tag`` between blanks; a blank of the text is written _."""
    words, tags, text = [], [], ""
    for token in tokens.split():
        word, _, tag = token.partition("/")
        if word != "_":
            words.append((len(text), len(text) + len(word)))
            tags.append(tag)
        text += " " if word == "_" else word
    return prose(text, "zh", words=tuple(words), tags=tuple(tags))


def words_of(document: Document) -> list[str]:
    return [document.text[start:stop] for start, stop in document.words or ()]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def some_rows(n: int = 30) -> list[dict[str, object]]:
    """Rows with the columns "text" and "id"; one text is Chinese."""
    return [{"id": k, "text": f"Row {k}.\nIt has\ttwo lines." if k else "第一行。"} for k in range(n)]


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows in the format that the name says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    raw = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")
    return write_packed(path, raw)


def write_packed(path: Path, raw: bytes) -> Path:
    """Write bytes, packed as the name says."""
    import pyarrow as pa

    if path.name.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(raw)
        return path
    return write(path, gzip.compress(raw) if path.name.endswith(".gz") else raw)
