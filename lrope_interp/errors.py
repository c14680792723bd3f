"""The one exception type for everything that a user can cause."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LRopeError(ValueError):
    """A mistake that the caller can correct.

    The message says what was wanted, what came, and what to do. The command line prints it and
    exits with code 2; a bug of our own is an `AssertionError` or any other exception instead.
    """


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
