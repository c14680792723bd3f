"""Which part of a text is shown, cut where characters and tokens begin together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from lrope_interp.data import character_starts
from lrope_interp.tokenizers import ByteTokenizer, Tokenizer

_MARGIN = 1_000  # characters after the slice, so that its tokens end as they do in the whole text


@dataclass(frozen=True)
class Shown:
    """What is shown of a text, by units: from a place where character and token begin to the next.

    Where tokens are bytes a unit is a character; else it is a token, or
    the tokens that share a character.

    Attributes:
        text: The text up to where reading ends.
        character: The number of the first character of each unit, and of the end.
        first: The first byte of each unit, and of the end.
        token_starts: The first byte of each token.
        start: The first unit that is shown.
        stop: The unit after the last one.
    """

    text: str
    character: Int64[np.ndarray, " units_and_one"]
    first: Int64[np.ndarray, " units_and_one"]
    token_starts: Int64[np.ndarray, " n_tokens"]
    start: int
    stop: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, text: str, start: int, stop: int) -> Shown:
        """Find the units that hold the characters [start, stop)."""
        read = _read(tokenizer, text, stop)
        ends = tokenizer.encode_spans(read)[2]
        at = np.append(character_starts(read), len(read.encode()))
        is_unit = np.isin(at, ends)
        is_unit[0] = True
        character = np.flatnonzero(is_unit)
        first_unit = int(np.searchsorted(character, start, side="right")) - 1
        starts = np.append(0, ends[:-1])
        return cls(read, character, at[is_unit], starts, first_unit, int(np.searchsorted(character, stop)))

    @property
    def end(self) -> int:
        """The byte after the last one that is shown."""
        return int(self.first[self.stop])

    @property
    def has_byte_tokens(self) -> bool:
        """Whether every byte of the text is a token."""
        return len(self.token_starts) == int(self.first[-1])

    @property
    def n_tokens(self) -> Int64[np.ndarray, " units"]:
        """How many tokens begin in each unit."""
        return np.diff(np.searchsorted(self.token_starts, self.first))

    def unit_of(self, character: Int[np.ndarray, "*n"] | int) -> Any:
        """Return the unit that holds a character."""
        return np.searchsorted(self.character, character, side="right") - 1


def _read(tokenizer: Tokenizer, text: str, stop: int) -> str:
    """Cut what a causal model need not read; what follows may decide where the last tokens end."""
    if tokenizer.name == ByteTokenizer.name:
        return text[:stop]
    cut, end = text[: stop + _MARGIN], len(text[:stop].encode())
    whole, part = (tokenizer.encode_spans(one)[2] for one in (text, cut))
    n_needed = int(np.searchsorted(whole, end)) + 1
    return cut if np.array_equal(whole[:n_needed], part[:n_needed]) else text
