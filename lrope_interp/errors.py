"""The one exception type for everything that a user can cause."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

# Control characters, line and paragraph separators, marks that turn the direction of text, half surrogates.
_HIDDEN = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class LRopeError(ValueError):
    """A mistake that the caller can correct.

    The message says what was wanted, what came, and what to do. The command line prints it and
    exits with code 2; a bug of our own is an `AssertionError` or any other exception instead.
    """


def plural(count: int, noun: str) -> str:
    """Return `1 layer`, `2 layers`, `1,200 bytes`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def visible(text: str, keep: str = "") -> str:
    r"""Return text for a terminal: what would move its cursor, colour it or hide a part is written out.

    A byte of a name that is not UTF-8 reads ``\xNN``.

    Args:
        text: One line.
        keep: Characters that stay as they are, as "\n" in a text of several lines.
    """

    def written(found: re.Match[str]) -> str:
        character = found[0]
        if character in keep:
            return character
        if "\udc80" <= character <= "\udcff":
            return f"\\x{ord(character) - 0xDC00:02x}"
        return character.encode("unicode_escape", errors="surrogatepass").decode("ascii")

    return _HIDDEN.sub(written, text)


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """Return the choice that looks most like `value`, or None if nothing is close."""
    matches = difflib.get_close_matches(value, list(choices), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown(kind: str, value: object, choices: Iterable[str]) -> LRopeError:
    """Build the error for a name that is not among the known ones.

    Args:
        kind: What the name stands for, as the user would say it ("corpus", "preset", "layer").
        value: What the user gave.
        choices: Every name that would have been accepted.

    Returns:
        An error that names the nearest choice first and then all of them.
    """
    names = [str(choice) for choice in choices]
    near = nearest(str(value), names)
    hint = f" Did you mean {near!r}?" if near else ""
    return LRopeError(f"unknown {kind} {str(value)!r}.{hint} Choose from: {', '.join(names)}.")


def _whole(value: Any) -> int | None:
    """Return a whole number of any kind (numpy's, torch's) as an int; None for all else, a bool too."""
    with suppress(TypeError):
        return None if isinstance(value, bool) else operator.index(value)
    return None


def whole_number(name: str, value: Any, least: int | None = None) -> int:
    """Return a whole number.

    Raises:
        LRopeError: Anything else, or one below the least.
    """
    number = _whole(value)
    if number is None:
        raise LRopeError(f"{name} must be a whole number, got {value!r:.60}")
    if least is not None and number < least:
        raise LRopeError(f"{name} must be at least {least}, got {number}")
    return number


def whole_numbers(given: Any, kind: str) -> list[int]:
    """Return one number, or several from any iterable, as a list of ints.

    Raises:
        LRopeError: Something else.
    """
    is_several = _whole(given) is None and isinstance(given, Iterable) and not isinstance(given, str)
    found = []
    for one in given if is_several else [given]:
        number = _whole(one)
        if number is None:
            raise LRopeError(f"{kind} are whole numbers; got {one!r:.60}")
        found.append(number)
    return found


def check_seed(seed: Any) -> None:
    """Refuse what draws cannot start from.

    Raises:
        LRopeError: No whole number from 0 to 2**64 - 1.
    """
    number = _whole(seed)
    if number is None or not 0 <= number < 2**64:
        raise LRopeError(f"a seed is a whole number from 0 to 2**64 - 1; got {seed!r:.60}")
