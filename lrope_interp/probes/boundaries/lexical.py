"""What stands at a gap, as a number: the strata of the same-byte test."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt32

from lrope_interp.data.alignment import code_points
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import Gaps


def lexical_codes(
    captured: Captured, gaps: Gaps, at: Int64[np.ndarray, " n"], align: str
) -> Int64[np.ndarray, " n"]:
    """Number what a signal that knows only the text at the gap could have seen.

    Read at the first byte that is the byte (the token, where they are longer), read at the last
    byte that one, and summed over the bytes of a character the character. Among gaps of one number
    such a signal is constant.

    Args:
        captured: The tokens.
        gaps: The gaps of the same documents.
        at: Which of them.
        align: "lead", "last" or "sum".
    """
    first = captured.token[at].astype(np.int64)
    if align == "lead":
        return first
    character = gaps.characters.of_byte[at]
    last = captured.token[gaps.characters.last[character]].astype(np.int64)
    if align == "last":
        return last
    points = _points(gaps)[character].astype(np.int64)
    return points if captured.has_byte_tokens else (points << 34) | (first << 17) | last


def _points(gaps: Gaps) -> UInt32[np.ndarray, " characters"]:
    return np.concatenate(
        [np.zeros(0, dtype=np.uint32), *[code_points(document.text) for document in gaps.documents]]
    )
