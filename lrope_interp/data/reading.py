"""How text is read from files and data sets: what `train` is told, and what `data.json` keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lrope_interp.errors import LRopeError, unknown

ENCODING_ERRORS = ("strict", "replace")


@dataclass(frozen=True)
class Reading:
    """Options that decide which text a source gives.

    Attributes:
        encoding_errors: "strict" refuses bytes that are not UTF-8, "replace" puts U+FFFD there.
        text_column: Which column of a table holds the text.
        max_train_bytes: Read at most this many bytes of text, held-out documents included; 0 reads all.
            White space that is removed counts.
        despaced: Remove all white space from every document (see `despacing`).
    """

    encoding_errors: str = "strict"
    text_column: str = "text"
    max_train_bytes: int = 0
    despaced: bool = False

    def __post_init__(self) -> None:
        """Check every value."""
        if self.encoding_errors not in ENCODING_ERRORS:
            raise unknown("value for encoding-errors", self.encoding_errors, ENCODING_ERRORS)
        if not self.text_column:
            raise LRopeError(
                "--text-column is empty; the name of a column is wanted, as in --text-column text"
            )
        if self.max_train_bytes < 0:
            raise LRopeError(
                f"max_train_bytes must be at least 0 (which reads all), got {self.max_train_bytes}"
            )

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Reading:
        """Return how the text of a run was read, given its ``data.json``."""
        defaults = asdict(cls())
        return cls(**{name: manifest.get(name, default) for name, default in defaults.items()})


def any_integer(digits: str) -> int | float:
    """Read an integer of JSON of any length: Python refuses thousands of digits, here they make infinity."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


_MOST_DIGITS = 4_000
