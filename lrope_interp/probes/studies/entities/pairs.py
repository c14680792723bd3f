"""Two-word English names, chosen for the texts that our models are trained on.

The names stand in the addresses of US presidents, 1790-2026, at least 12 times each outside what is held
out. How often a run's own training text has them is counted when they are used. The list is far from all
names of any text: a pair of words that is not on it may be a name all the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lrope_interp.errors import LRopeError

TESTED_BYTES = 300_000
"""The most bytes a language that are tested, where nobody says otherwise."""

GIVEN = "given"
"""The kind of a pair that the user gave."""

_NAMES = {
    "place": """
        United States, Great Britain, Soviet Union, New York, Middle East, White House, Central America,
        South America, New Mexico, Philippine Islands, Panama Canal, Rio Grande, Latin America, Puerto Rico,
        Porto Rico, New Orleans, San Francisco, Costa Rica, New Granada, Western Europe, Pacific Ocean,
        Rocky Mountains, Argentine Republic, San Juan, Indian Territory, Western Hemisphere, West Indies,
        Santo Domingo, Mississippi River, Bering Sea, Far East, Persian Gulf, Buenos Ayres, West Point,
        Southeast Asia, Great Lakes, North Atlantic, Eastern Europe, Southern States, Western States,
        Northern States, Hawaiian Islands, Chinese Empire, Dominican Republic, German Empire, Lake Erie,
        North America, Mexican Republic, Pacific Railroad, South Vietnam, North Carolina, Old World,
        Free World, Pacific Coast, New Jersey, New Zealand, American Republics
    """,
    "organisation": """
        Federal Government, United Nations, General Government, National Government, British Government,
        Mexican Government, French Government, Spanish Government, Chinese Government, Imperial Government,
        Supreme Court, War Department, Treasury Department, Navy Department, State Department,
        Interior Department, Executive Departments, Executive Branch, Interstate Commerce, Civil Service,
        Regular Army, Armed Forces, Post Office, Land Office, Patent Office, National Guard, Indian Affairs,
        Red Cross, Military Academy, Marine Corps, Air Force, Peace Corps, Federal Reserve, Pension Bureau,
        Indian Bureau, World Bank, Smithsonian Institution, General Assembly, Al Qaida,
        National Legislature
    """,
    "person": """
        Vice President, Attorney General, Prime Minister, First Lady, Britannic Majesty,
        Catholic Majesty, Chief Magistrate, Saddam Hussein
    """,
    "proper_noun": """
        Social Security, World War, Civil War, Monroe Doctrine, Federal Constitution, Divine Providence,
        Revised Statutes, Tax Code, Head Start, Civil Rights
    """,
}


@dataclass(frozen=True)
class EntityPair:
    """A name of two words.

    Attributes:
        first: Its first word, with the capitals of the text.
        second: Its second word.
        kind: "place", "organisation", "person" (a title counts), "proper_noun", or "given".
    """

    first: str
    second: str
    kind: str

    @property
    def text(self) -> str:
        """The name as it stands in a text."""
        return f"{self.first} {self.second}"


PAIRS: tuple[EntityPair, ...] = tuple(
    EntityPair(first, second, kind)
    for kind, names in _NAMES.items()
    for first, second in map(str.split, names.split(","))
)


def n_first_words(pairs: Sequence[EntityPair]) -> int:
    """Count the different first words; pairs that share theirs are no independent evidence."""
    return len({pair.first for pair in pairs})


def _ranges(characters: Iterable[int]) -> str:
    """Write rising code points as the ranges of a character class."""
    found: list[list[int]] = []
    for point in characters:
        if found and point == found[-1][1] + 1:
            found[-1][1] = point
        else:
            found.append([point, point])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in found)


# `re` has no name for combining marks, which no \w takes; with the joiners of Persian and Sinhala.
MARKS = _ranges(
    point
    for point in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))
    if unicodedata.category(chr(point))[0] == "M" or point in (0x200C, 0x200D)
)
LETTERS = rf"[^\W\d_]+(?:[{MARKS}]+[^\W\d_]*)*"
"""Pattern of letters, each with the marks that belong to it."""


def read_pairs(path: Path | str) -> tuple[EntityPair, ...]:
    """Read a list of names, one a line: two words of letters with blanks between.

    Empty lines and lines that begin with # are passed over.

    Raises:
        LRopeError: A file that cannot be read, a line that is not two words, a name that comes twice, or
            no name at all; the message names the line.
    """
    from lrope_interp.data.sources.plain_text import decoded_text  # loads numpy, which --help can do without

    lines = decoded_text(Path(path)).splitlines()
    found: dict[str, EntityPair] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split()
        if len(words) != 2 or not all(re.fullmatch(LETTERS, word) for word in words):
            raise LRopeError(
                f"{path}, line {number}: wanted two words of letters, such as New York, got {line.strip()!r}"
            )
        pair = EntityPair(words[0], words[1], GIVEN)
        if pair.text in found:
            raise LRopeError(f"{path}, line {number}: {pair.text} stands in the list twice; remove one")
        found[pair.text] = pair
    if not found:
        raise LRopeError(f"{path} has no pair; give one a line, two words with a blank between")
    return tuple(found.values())
