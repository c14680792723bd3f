"""Odd texts, and what a table should say of them, counted slowly."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from probe_samples import chinese, english

from lrope_interp.data import Document


def made_up(number: int, text: str) -> Document:
    return Document(f"odd-{number}", text, "made up", "und")


ODD = tuple(made_up(number, text) for number, text in enumerate(("", "x", "中", "🙂🙂 né", "\n", "aa")))


def training(n: int = 12) -> list[Document]:
    return [one for number in range(n) for one in (english(number), chinese(number))] + list(ODD)


def held_out() -> list[Document]:
    return [english(500), *ODD, chinese(500), made_up(9, "Ω未见的字 the unseen 🙂")]


def at_first_bytes(
    documents: Sequence[Document], of_character: Callable[[str, int], float], elsewhere: float
) -> np.ndarray:
    """Lay out `of_character(text, place)` over the bytes of documents, one by one."""
    out: list[float] = []
    for document in documents:
        for place, character in enumerate(document.text):
            out += [of_character(document.text, place)]
            out += [elsewhere] * (len(character.encode()) - 1)
    return np.array(out, dtype=np.float64)


def contexts(documents: Sequence[Document], longest: int) -> dict[str, Counter[str]]:
    """Count what follows each string of at most `longest` characters."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for document in documents:
        for place, character in enumerate(document.text):
            for length in range(min(longest, place) + 1):
                found[document.text[place - length : place]][character] += 1
    return found
