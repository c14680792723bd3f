"""Rows of text in every format that is read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path


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

    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(raw))
    elif path.name.endswith(".zst"):
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(raw)
    else:
        path.write_bytes(raw)
    return path
