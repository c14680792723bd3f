"""Bytes, characters and what kind of character each is, for any Unicode text."""

from __future__ import annotations

import unicodedata
from enum import IntFlag

import numpy as np
from jaxtyping import Int8, Int64, UInt8, UInt32

from lrope_interp.errors import LRopeError

BYTE_CLASSES = (
    "a-z",
    "A-Z",
    "0-9",
    "space",
    "newline",
    "punctuation .!?",
    "other punctuation",
    "han lead",
    "han continuation",
    "other lead",
    "other continuation",
    "other",
)

# The Unicode property White_Space, which differs from str.isspace (U+001C..U+001F are no white space).
_WHITE_SPACE_RANGES = (
    (0x0009, 0x000D),
    (0x0020, 0x0020),
    (0x0085, 0x0085),
    (0x00A0, 0x00A0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
)

# Script=Han among letters and numbers; planes 2 and 3 hold ideographs only.
_HAN_RANGES = (
    (0x3005, 0x3005),
    (0x3007, 0x3007),
    (0x3021, 0x3029),
    (0x3038, 0x303B),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAD9),
    (0x20000, 0x3FFFD),
)


class Kind(IntFlag):
    """What a character is; several may hold at once."""

    WORD = 1
    """Letter or number (general category L or N), and what extends one."""
    PUNCTUATION = 2
    """General category P."""
    SPACE = 4
    """The property White_Space."""
    HAN = 8
    """A Chinese character."""
    EXTENDS = 16
    """Belongs to the character before it: a mark, joiner or format character (UAX 29, rule WB4)."""


_ZERO_WIDTH_SPACE = 0x200B  # parts words, though its category is that of format characters
_JOINERS = (0x200C, 0x200D)
_SKIN_TONES = (0x1F3FB, 0x1F3FF)
# Signs of category Cf that stand before a number or letter and open its word.
_PREPENDED = frozenset((*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD))


def code_points(text: str) -> UInt32[np.ndarray, " n_characters"]:
    """Return the code point of every character; a lone surrogate is refused."""
    try:
        return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    except UnicodeEncodeError as error:
        raise LRopeError(
            f"text has no UTF-8 form at character {error.start} ({error.reason}); replace it first"
        ) from None


def character_widths(text: str) -> Int64[np.ndarray, " n_characters"]:
    """Return how many UTF-8 bytes each character has."""
    points = code_points(text)
    return 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)


def character_starts(text: str) -> Int64[np.ndarray, " n_characters"]:
    """Return the offset of each character's first byte."""
    widths = character_widths(text)
    return np.cumsum(widths) - widths


def byte_to_character(text: str) -> Int64[np.ndarray, " n_bytes"]:
    """Return, for every byte, the index of the character that it belongs to."""
    widths = character_widths(text)
    return np.repeat(np.arange(len(widths)), widths)


def character_kinds(text: str) -> UInt8[np.ndarray, " n_characters"]:
    """Return the `Kind` flags of every character.

    What extends a character (UAX 29, WB4) is part of a word, and Chinese, where that one is: no word
    begins at the variation selector of an emoji, and none ends at a joiner. Marks and joiners at the
    very beginning, which a cut may have parted from their base, go with what follows.
    """
    points = code_points(text)
    kinds = _KINDS[points]
    is_new = kinds == _UNKNOWN
    if is_new.any():
        for point in np.unique(points[is_new]):
            _KINDS[point] = _kind(int(point))
        kinds = _KINDS[points]
    extends = (kinds & Kind.EXTENDS) != 0
    if extends.any():
        base = np.maximum.accumulate(np.where(extends, -1, np.arange(len(kinds))))
        of_base = np.where(extends, 0, kinds)[np.where(base < 0, np.argmin(extends), base)]
        is_stray = (base < 0) & ((kinds & Kind.WORD) == 0)  # a direction mark before the first word
        inherited = np.where(is_stray, 0, of_base & (Kind.WORD | Kind.HAN))
        kinds = np.where(extends, Kind.EXTENDS | inherited, kinds).astype(np.uint8)
    return kinds


def byte_class(text: str) -> Int8[np.ndarray, " n_bytes"]:
    """Return the class of every byte as an index into `BYTE_CLASSES`.

    ASCII bytes are told apart by themselves (a tab counts as space, the ASCII symbols ``$+<=>^`|~``
    as other punctuation); bytes of longer characters by whether they lead and whether the character
    is Chinese. Punctuation beyond ASCII is therefore "other lead" and "other continuation".
    """
    raw = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    is_han = np.repeat(
        (character_kinds(text) & (Kind.HAN | Kind.EXTENDS)) == Kind.HAN, character_widths(text)
    )
    is_continuation = (raw & 0xC0) == 0x80
    wide = np.where(is_han, _index("han lead"), _index("other lead")) + is_continuation
    return np.where(raw < 0x80, _ASCII_CLASSES[raw & 0x7F], wide).astype(np.int8)


def _is_in(point: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    """Return whether a code point lies in one of the closed ranges."""
    return any(low <= point <= high for low, high in ranges)


def _kind(point: int) -> int:
    """Return the flags of one code point by itself; of what extends, WORD says that it is no mere format."""
    category = unicodedata.category(chr(point))
    major = "N" if point in _PREPENDED else category[0]
    kind = Kind.WORD if major in "LMN" or point in _JOINERS else Kind.PUNCTUATION if major == "P" else Kind(0)
    if _is_in(point, _WHITE_SPACE_RANGES):
        kind |= Kind.SPACE
    if _is_in(point, _HAN_RANGES):
        kind |= Kind.HAN
    is_format = category == "Cf" and point != _ZERO_WIDTH_SPACE and point not in _PREPENDED
    if major == "M" or is_format or _is_in(point, (_SKIN_TONES,)):
        kind |= Kind.EXTENDS
    return int(kind)


_UNKNOWN = 0xFF
_KINDS = np.full(0x110000, _UNKNOWN, dtype=np.uint8)  # filled as characters are met


def _index(name: str) -> int:
    """Return the number of a byte class."""
    return BYTE_CLASSES.index(name)


def _ascii_class(value: int) -> str:
    """Return the class of one ASCII byte."""
    character = chr(value)
    if character.isalnum():
        return "0-9" if character.isdigit() else "A-Z" if character.isupper() else "a-z"
    if character in " \t":
        return "space"
    if character in "\n\r":
        return "newline"
    if character in ".!?":
        return "punctuation .!?"
    return "other punctuation" if character.isprintable() else "other"


_ASCII_CLASSES = np.array([_index(_ascii_class(value)) for value in range(128)], dtype=np.int8)
