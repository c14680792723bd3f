"""What an analysis hands out: a frozen result, and its form on disk.

A result is tidy tables plus provenance. Reports, notebooks and outside checks read the saved
form alone: `result.json`, one CSV a table, and `gaps.parquet` where there are gaps. Nothing here
loads torch.
"""

from __future__ import annotations

import csv
import importlib
import importlib.metadata
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa

from lrope_interp.errors import LRopeError
from lrope_interp.files import ResultFile, opened_file, read_json
from lrope_interp.folders import (
    FORMER_KINDS,
    naming,
    sha256_of,
    sync_file,
    write_json_atomically,
)

RESULT_FORMAT = 1
RESULT_FILE = "result.json"
GAPS_FILE = "gaps.parquet"
QUOTE = '"'
_VERSIONED = ("lrope-interp", "torch", "transformer-lens", "numpy", "pandas")


LOSES, TIES, WINS = "the control is better", "no difference shown", "the layer is better"
AS_GOOD = "as good within the margin"
ALL_LANGUAGES = "all"  # in a column `language`: the row of every language together
# What a column of a table holds, in whichever table it stands; all others are floats.
_HOLDS = {
    "Int64": """
        layer head seed sign n n_positive n_documents n_units n_bytes query_character key_character
        n_unscored control_layer control_head distance distance_high first_layer blocks_run blocks_saved
        n_gaps n_tokens n_known other_layer other_head n_shifts rank character offset n_between n_within
        n_concept n_types n_features n_train n_fits n_unconverged passage n_names n_others n_kinds n_matched
        n_others_capitalised n_first_words training_count test_count n_found n_far n_shared n_measured
        n_controls n_lines byte
    """,
    "boolean": """
        in_span is_adding is_boundary is_matched is_beyond is_outside is_common
    """,
    "str": """
        signal kind label stratum align metric language grade unit byte_class gaps control baseline error
        document text intervention design layers where tree measure model family concept arm features split
        best_control type_best_control verdict selected source context response covariate first second
        matched_with
    """,
}
_DTYPES = {name: dtype for dtype, names in _HOLDS.items() for name in names.split()}


def table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """Make a tidy frame: whole numbers that may be missing, words, and otherwise floats."""
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=_DTYPES.get(name, "float64")) for name in names}
    )


def verdict_on(low: float, high: float) -> str:
    """Say what the 95 % interval of a layer's difference from a control shows; without one, nothing."""
    if not low <= high:
        return ""
    return LOSES if high < 0 else WINS if low > 0 else TIES


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """One analysis, finished.

    Attributes:
        kind: Which analysis ("boundaries", "show", "eval"), by the name of its command.
        provenance: What `provenance` builds: model, data, seed, versions, command.
        headline: A few numbers by name; None where a number could not be had.
        tables: Tidy frames by name. Missing numbers are NaN or NA, missing words are "".
        warnings: What a reader must know before believing the numbers.
        gaps: One row a scored gap, from which the scores can be recomputed outside.
        created: When the result was made (ISO 8601, UTC).
    """

    kind: str
    provenance: dict[str, Any]
    headline: dict[str, float | int | None]
    tables: dict[str, pd.DataFrame]
    warnings: tuple[str, ...] = ()
    gaps: pd.DataFrame | None = None
    created: str = field(default_factory=_now)

    def frame(self, name: str | None = None) -> pd.DataFrame:
        """Return a copy of a table; without a name the verdicts, one row a question.

        Raises:
            LRopeError: There is no such table.
        """
        if name is None:
            return _pages().verdicts(self).frame.copy()
        if name not in self.tables:
            raise LRopeError(f"{self.kind} has no table {name!r}: choose from {', '.join(self.tables)}")
        return self.tables[name].copy()

    def plot(self, name: str | None = None, **which: Any) -> Any:
        """Return a plotly figure; without a name the one that the page shows first.

        Raises:
            LRopeError: There is no such figure, or it is of something else.
        """
        return _pages().plot(self, name, **which)

    def report(self, path: Path | str) -> Path:
        """Write the page of this result, which opens in any browser, offline.

        Returns:
            `path`.

        Raises:
            LRopeError: It cannot be written.
        """
        return _pages().write(self, Path(path))

    def save(self, folder: Path | str) -> Path:
        """Write the tables and `result.json` into a folder; `load_result` reads them. See `save_result`.

        Returns:
            `folder`.
        """
        save_result(self, folder)
        return Path(folder)

    def __repr__(self) -> str:
        """Return the verdicts in at most 15 lines; of a kind without a page, its name."""
        with suppress(LRopeError):
            return _pages().text_of(self)
        return f"Result(kind={self.kind!r}, tables={[*self.tables]})"

    def _repr_html_(self) -> str:
        """Return the verdicts as a table with their intervals drawn, for notebooks."""
        return _pages().html_of(self)


def _pages() -> Any:
    """Return the reports, which read results and are therefore asked for by name."""
    return importlib.import_module("lrope_interp.reports")


def versions(packages: Sequence[str] = _VERSIONED) -> dict[str, str]:
    """Return the versions that the numbers depend on; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def provenance(
    *,
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    seed: int | None,
) -> dict[str, Any]:
    """Build a result's provenance, with the versions of this environment; `stamp` adds the rest.

    Args:
        config: The model's configuration (`model.cfg.to_dict()`).
        data: What was scored: name, sha256, n_documents, n_bytes, split.
        seed: The seed of everything random in the analysis.
    """
    return {
        "model": "",
        "model_sha256": "",
        "config": dict(config),
        "data": dict(data),
        "seed": seed,
        "versions": versions(),
        "command": "",
    }


def stamp(result: Result, *, command: str = "", model: str = "", model_sha256: str = "") -> Result:
    """Return `result` with what only its caller knows: the command line and the run folder.

    Args:
        result: Any result.
        command: The command that makes the result again.
        model: Name of the run folder that the model came from.
        model_sha256: Of the weights that were analysed, taken when they were loaded (`weights_sha256` of a
            model): the folder may hold others by now.
    """
    known = {"command": command, "model": model, "model_sha256": model_sha256}
    said = {name: value for name, value in known.items() if value}
    return replace(result, provenance={**result.provenance, **said})


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    try:
        return sha256_of(Path(path))
    except OSError as error:
        raise LRopeError(f"cannot read {path}: {error.strerror}") from None


def save_result(result: Result, folder: Path | str) -> None:
    """Write `result` into `folder`, which is made if it is missing; `result.json` comes last, and whole.

    Floats keep every digit, so that loading gives the same numbers bit for bit.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in result.tables.items():
            _write_csv(frame, folder / f"{name}.csv")
        if result.gaps is not None:
            with naming(folder / GAPS_FILE):
                result.gaps.to_parquet(folder / GAPS_FILE, index=False, compression="zstd")
            sync_file(folder / GAPS_FILE)
        payload = {
            "format": RESULT_FORMAT,
            "kind": result.kind,
            "created": result.created,
            "provenance": _plain(result.provenance),
            "headline": _plain(result.headline),
            "tables": {name: f"{name}.csv" for name in result.tables},
            "warnings": list(result.warnings),
            "dtypes": {
                name: {str(c): str(t) for c, t in one.dtypes.items()} for name, one in result.tables.items()
            },
        }
        write_json_atomically(folder / RESULT_FILE, payload)
    except OSError as error:
        where = error.filename or folder
        raise LRopeError(f"cannot write the result to {where}: {error.strerror or error}") from None


def load_result(folder: Path | str) -> Result:
    """Read what `save_result` wrote.

    Raises:
        LRopeError: Where the folder holds no result, a broken one, or one of a newer format.
    """
    if not isinstance(folder, str | Path):
        raise LRopeError(f"the folder of a result is wanted; got {folder!r:.60}")
    folder = Path(folder)
    missing = f"{folder} holds no result ({RESULT_FILE} is missing)"
    payload = read_json(folder / RESULT_FILE, ResultFile, newest=RESULT_FORMAT, missing=missing)
    tables, gaps = {}, None
    for name, file in payload["tables"].items():
        with _read_as_table(folder / file) as stream:
            tables[name] = _read_csv(stream, payload.get("dtypes", {}).get(name, {}))
    if (folder / GAPS_FILE).exists():
        with _read_as_table(folder / GAPS_FILE) as stream:
            gaps = pd.read_parquet(stream)
    return Result(
        kind=FORMER_KINDS.get(str(payload["kind"]), str(payload["kind"])),
        provenance=payload["provenance"],
        headline=payload["headline"],
        tables=tables,
        warnings=tuple(payload["warnings"]),
        gaps=gaps,
        created=payload["created"],
    )


def _plain(value: Any) -> Any:
    """Return `value` in JSON's own types; NaN, infinities and NA become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return None if value is pd.NA else str(value)


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table; every kind of line end is quoted, which neither pandas nor csv.writer does."""
    names = [_quoted(str(name)) for name in frame.columns]
    columns = [_cells(column) for _, column in frame.items()]
    lines = [",".join(row) for row in (names, *zip(*columns, strict=True))]
    with naming(path):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    sync_file(path)


def _quoted(cell: str) -> str:
    """Quote a cell that would otherwise fall apart or vanish."""
    return f'"{cell.replace(QUOTE, QUOTE * 2)}"' if not cell or any(c in cell for c in ',"\r\n') else cell


def _cells(column: pd.Series) -> list[str]:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        return ["" if math.isnan(value) else repr(value) for value in column.to_numpy(np.float64).tolist()]
    return ["" if pd.isna(value) else _quoted(str(value)) for value in column.tolist()]


@contextmanager
def _read_as_table(path: Path) -> Iterator[BinaryIO]:
    """Open a file; whatever its content does to who reads it is said in one line."""
    try:
        with opened_file(path) as stream:
            yield stream
    except LRopeError:
        raise
    except (OSError, ValueError, TypeError, OverflowError, csv.Error, pa.ArrowException) as error:
        said = " ".join(str(error).split())[:200]
        raise LRopeError(f"{path} cannot be read as a table ({said}); run the analysis again") from None


def _read_csv(stream: BinaryIO, dtypes: Mapping[str, str]) -> pd.DataFrame:
    # Not pandas.read_csv: which of its parsers gives every float back to the bit depends on its version.
    with TextIOWrapper(stream, encoding="utf-8", newline="") as text:
        header, *rows = list(csv.reader(text))
    cells = list(zip(*rows, strict=True)) if rows else [() for _ in header]
    columns = dict(zip(header, cells, strict=True))
    if len(columns) < len(header):
        raise ValueError("two columns have one name")
    return pd.DataFrame({name: _column(values, dtypes.get(name, "str")) for name, values in columns.items()})


def _column(cells: tuple[str, ...], dtype: str) -> pd.Series:
    if dtype.startswith("float"):
        return pd.Series([float(cell) if cell else math.nan for cell in cells], dtype=dtype)
    if dtype.lower().startswith(("int", "uint")):
        return pd.Series([int(cell) if cell else None for cell in cells], dtype=dtype)
    if dtype in ("bool", "boolean"):
        if not {*cells} <= {"True", "False", ""}:
            raise ValueError("True or False is wanted")
        return pd.Series([cell == "True" if cell else None for cell in cells], dtype=dtype)
    return pd.Series(list(cells), dtype="str")
