"""Tokens as strings that can be read, whatever bytes they hold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

_CONTROL = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}


def readable(pieces: Sequence[bytes | str]) -> list[str]:
    r"""Return one readable string a token.

    ASCII stands for itself and control bytes are escaped. A token that holds part of a character
    of n bytes names it with the bytes that it holds: ``中·1/3``, ``中·2-3/3``. A byte of broken
    UTF-8 reads ``\\xNN``.

    Args:
        pieces: The bytes of each token of a text, in order; a string is a token that stands for no
            bytes, is shown as it is, and ends the character before it.
    """
    joined: list[int] = []
    for piece in pieces:
        joined.extend(piece if isinstance(piece, bytes) else [-1])
    parts = _parts(joined)
    out: list[str] = []
    at = 0
    for piece in pieces:
        if isinstance(piece, str):
            out.append(piece)
            at += 1
        else:
            out.append(_written(parts[at : at + len(piece)]))
            at += len(piece)
    return out


def _parts(values: list[int]) -> list[tuple[int, str, int, int]]:
    """Return for each byte where its character begins, its readable form, its number and its width."""
    out: list[tuple[int, str, int, int]] = []
    while len(out) < len(values):
        at = len(out)
        character, width = _character_at(values, at)
        out.extend((at, character, k, width) for k in range(1, width + 1))
    return out


def _written(parts: Sequence[tuple[int, str, int, int]]) -> str:
    """Write the bytes of one token."""
    out = ""
    for (_, character, width), group in groupby(parts, key=lambda part: (part[0], part[1], part[3])):
        numbers = [part[2] for part in group]
        if len(numbers) == width:
            out += character
        else:
            first, last = numbers[0], numbers[-1]
            out += f"{character}·{first}{f'-{last}' if last > first else ''}/{width}"
    return out


def _character_at(values: list[int], at: int) -> tuple[str, int]:
    """Return the readable form of the character that starts at `at`, and its width in bytes."""
    first = values[at]
    if first < 0:
        return "", 1
    if first < 0x80:
        printable = 0x20 <= first < 0x7F
        return (chr(first) if printable else _CONTROL.get(first, f"\\x{first:02x}")), 1
    width = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 1
    piece = values[at : at + width]
    if width > 1 and len(piece) == width and min(piece) >= 0:
        try:
            return bytes(piece).decode("utf-8"), width
        except UnicodeDecodeError:
            pass
    return f"\\x{first:02x}", 1
