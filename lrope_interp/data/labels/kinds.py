"""Reference labels (is there a boundary before byte t?) and strata (which gaps are compared).

Where sentences begin is told by a rule: a silver reference, for nobody checked it by hand.

A sentence begins

* with the first character after a terminator, the closing quotes and brackets behind it, and white
  space; after the Chinese and other terminators of `_ALONE` also without white space. Quotes that
  French sets off by a space (``« Oui ! »``) close where one was opened. A lower-case letter begins no
  sentence, and neither does what follows an abbreviation of `_ABBREVIATIONS`, an initial (``J. F.``),
  or a number that stands alone where the sentence began (``1. Scope``);
* with a paragraph: after a blank line, or after a line end next to a Chinese character (lines of
  other scripts may be wrapped).

So a quotation that goes on (``“好！”他说``) begins a sentence too often, a sentence that ends in an
abbreviation (``in the U.S. They``) hides the next one, and a heading of one line joins what follows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data.alignment import Kind, character_kinds, character_starts, code_points
from lrope_interp.data.documents import Document, Grade
from lrope_interp.data.labels.words import despaced_word_starts, merged_word_starts, word_starts
from lrope_interp.data.python_source import code_label
from lrope_interp.errors import LRopeError, unknown

CODE_LABELS = ("lines", "tokens", "brackets_open", "brackets_close", "scopes")
STRATA = ("bytes", "characters", "nondelimiter", "han")


@dataclass(frozen=True)
class GapLabels:
    """One label of one document.

    Attributes:
        is_boundary: For every byte t, whether the label holds for what starts there. Only first
            bytes of characters can hold. Byte 0 may, but the gap before it is never scored.
        grade: "rule" follows from the text, "gold" was checked by hand, "silver" is another
            program's opinion.
    """

    is_boundary: Bool[np.ndarray, " n_bytes"]
    grade: Grade


def label_gaps(document: Document, label: str) -> GapLabels:
    """Label every gap of a document.

    Args:
        document: Any text, gold words optional.
        label: One of `LABELS`. "punctuation": the character is in a Unicode category P*.
            "whitespace": it has the property White_Space. "words": a word starts there, whatever
            precedes it. A word is a gold word that has a letter, mark or number; without gold a
            maximal run of letters, marks and numbers, in which the runs of Chinese characters are
            cut by jieba (not in documents in English or code). Marks, joiners and format characters
            belong to the character before them (UAX 29, WB4). "words_merged": the same gold words
            with Chinese names merged. "despaced": a word started there before the white space was
            removed. "sentences": see `sentences`. "lines", "tokens", "brackets_open",
            "brackets_close", "scopes": see `code_labels`.

    Raises:
        LRopeError: There is no such label, or it cannot be known of this document.
    """
    if label not in _RULES:
        raise unknown("label", label, LABELS)
    is_boundary, grade = _RULES[label](document)
    return GapLabels(_at_bytes(document.text, is_boundary, document.n_bytes), grade)


def default_labels(documents: Iterable[Document]) -> tuple[str, ...]:
    """Return the labels that can be known of at least one of the documents, in the order of `LABELS`.

    No document is labelled: code that does not parse, or a missing jieba, shows only later.
    """
    documents = tuple(documents)
    spaced = [document for document in documents if not document.is_despaced]
    has_code = any(document.language == "code" for document in spaced)
    is_known = {
        "punctuation": True,
        "whitespace": bool(spaced),
        "words": bool(spaced) or any(document.word_grade == "gold" for document in documents),
        "words_merged": any(document.tags is not None for document in documents),
        "despaced": len(spaced) < len(documents),
        "sentences": any(document.language != "code" for document in spaced),
        **dict.fromkeys(CODE_LABELS, has_code),
    }
    return tuple(label for label in LABELS if is_known[label])


def stratum_masks(document: Document) -> dict[str, Bool[np.ndarray, " n_bytes"]]:
    """Return which gaps belong to each stratum; the gap before byte 0 belongs to none.

    "bytes" has every gap; "characters" those before a character; "nondelimiter" those before a
    character that is neither punctuation nor white space; "han" those between two Chinese
    characters. Base rates differ between them, so scores must not be compared across strata.
    """
    kinds = character_kinds(document.text)
    is_han = (kinds & Kind.HAN) != 0
    follows_han = np.concatenate([[False], is_han[:-1]])[: len(is_han)]
    at_characters = {
        "characters": np.ones(len(kinds), dtype=bool),
        "nondelimiter": (kinds & (Kind.PUNCTUATION | Kind.SPACE)) == 0,
        "han": is_han & follows_han & ((kinds & Kind.EXTENDS) == 0),
    }
    n_bytes = document.n_bytes
    masks = {"bytes": np.ones(n_bytes, dtype=bool)}
    masks |= {name: _at_bytes(document.text, mask, n_bytes) for name, mask in at_characters.items()}
    for mask in masks.values():
        mask[:1] = False
    return masks


Rule = Callable[[Document], tuple[Bool[np.ndarray, " n_characters"], Grade]]


def _of_kind(kind: Kind, document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    return (character_kinds(document.text) & kind) != 0, "rule"


def _at_bytes(
    text: str, mask: Bool[np.ndarray, " n_characters"], n_bytes: int
) -> Bool[np.ndarray, " n_bytes"]:
    """Put a mark on a character onto its first byte."""
    out = np.zeros(n_bytes, dtype=bool)
    out[character_starts(text)] = mask
    return out


_SPACED = ".!?…‼⁇⁈⁉‽\u061e؟\u06d4\u0589\u037e"
# Full-width, dandas, and the full stops and question marks of scripts that have signs of their own: Ethiopic,
# Burmese, Khmer, Mongolian, Cree, Limbu, Ol Chiki, Lisu, Vai, Bamum, Javanese, Cham and others.
_ALONE = (
    "。！？．｡﹒﹖﹗\u0964\u0965\u104b\u1362\u1367\u1368\u166e\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab"
    "\u1b5a\u1b5b\u1b5e\u1b5f\u1c3b\u1c3c\u1c7e\u1c7f\u2e3c\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf"
    "\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb"
)
_SHAD = "\u0f0d-\u0f11"  # Tibetan; the two of a pair may stand apart
_GREEK, _ARMENIAN = "[\u0370-\u03ff\u1f00-\u1fff]", "[\u0531-\u0587]"
_ACCENT = "[\u0300-\u036f]"
_WIDE_STOP = "．"
_PAIRS = {"»": "«", "›": "‹", "”": "“"}
_OPENING = "«‹“‘"  # right behind a mark they close: „Ja!“
_CLOSING = (
    "\"'”’»›)]}）］｝〕】》〉」』〗〙〟｣"
    # What cannot be seen belongs to the mark.
    "\ufe0e\ufe0f\u200b-\u200f\u00ad\u061c\u2060\u2066-\u2069\ufeff"
)
_ABBREVIATIONS = re.compile(
    r"Mr|Mrs|Ms|Messrs|Mme|Mlle|Dr|Prof|Rev|Hon|St|Mt|Ft|Gen|Col|Lt|Sgt|Capt|Cpl|Maj|Adm|Cmdr|Gov|Sen|Rep|Pres|"
    r"Supt|Jr|Sr|Nos|Sec|Vol|Fig|Eq|Ref|Jan|Feb|Apr|Aug|Sept|Sep|Oct|Nov|Dec|vs|cf|al|viz|pp|vol|fig|eq|sec|ca|"
    r"approx|Bros|Co|Corp|Inc|Ltd|Hrn|bzw"
)
_SPACE = r"[^\S\x1c-\x1f]"  # the property White_Space
_UNIT = (
    rf"(?:[{_SPACED}][{_OPENING}]*|[{_ALONE}{_SHAD}]"
    rf"|(?<={_GREEK});|(?<={_GREEK}{_ACCENT});|(?<={_ARMENIAN}):)"
)
_CLOSE = _CLOSING.replace("]", r"\]")
_END = re.compile(
    rf"(?P<mark>{_UNIT}(?:{_UNIT}|[{_CLOSE}])*(?:{_SPACE}+[{_SHAD}])*)"
    rf"(?P<after>(?:{_SPACE}+[{''.join(_PAIRS)})\]}}])*)(?P<space>{_SPACE}*)"
)
_WORD_BEFORE = re.compile(r"[^\W_][\w.]*\Z")
_LONGEST_WORD = 32
_GAP = re.compile(rf"{_SPACE}+")
_LINE_END = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_IS_ALONE = re.compile(rf"[{_ALONE}{_SHAD}]")


def sentence_starts(document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    """Mark the first character of every sentence of prose.

    Raises:
        LRopeError: The document is code, or its white space was removed.
    """
    if document.language == "code":
        raise LRopeError("sentences are for prose; of code there are lines, tokens, brackets and scopes")
    if document.is_despaced:
        raise LRopeError("sentences cannot be told in a de-spaced text: the rule needs white space")
    text = document.text
    starts = paragraph_starts(text, is_whole=document.cut_from is None)
    depths = {close: _depth(text, close) for close in _PAIRS}
    for end in _END.finditer(text):
        place = _past(end, depths)
        if place < len(text) and _ends_sentence(text, end, place, starts):
            starts.add(place)
    is_start = np.zeros(len(text), dtype=bool)
    is_start[sorted(starts)] = True
    return is_start, "silver"


def paragraph_starts(text: str, *, is_whole: bool) -> set[int]:
    """Return where paragraphs begin; a piece of a document need not begin with one."""
    is_han = (character_kinds(text) & Kind.HAN) != 0
    first = _GAP.match(text)
    starts = {first.end() if first else 0} if is_whole else set()
    for gap in _GAP.finditer(text):
        before, after = gap.start() - 1, gap.end()
        n_lines = len(_LINE_END.findall(gap.group()))
        if n_lines and before >= 0 and after < len(text):
            is_paragraph = n_lines > 1 or is_han[before] or is_han[after]
            starts.update([after] if is_paragraph else [])
    return {start for start in starts if start < len(text)}


def _depth(text: str, close: str) -> Int64[np.ndarray, " n_characters"]:
    """Return how many quotes of one kind are open before each character."""
    points = code_points(text)
    step = (points == ord(_PAIRS[close])).astype(np.int64) - (points == ord(close))
    return np.cumsum(step) - step


def _past(end: re.Match[str], depths: Mapping[str, Int64[np.ndarray, " n_characters"]]) -> int:
    """Return where the next sentence would begin: before a quote that closes none, as in ``Er ging. »Ja``."""
    for place in range(end.start("after"), end.end("after")):
        depth = depths.get(end.string[place])
        if depth is not None and depth[place] < 1:
            return place
    return end.end()


def _ends_sentence(text: str, end: re.Match[str], place: int, starts: set[int]) -> bool:
    """Return whether a terminator and what follows it end a sentence before `place`."""
    mark = end["mark"]
    if _IS_ALONE.search(mark.replace(_WIDE_STOP, "")):
        return True
    has_space = text[place - 1].isspace()
    is_wide = mark.startswith(_WIDE_STOP)
    beside = unicodedata.normalize("NFKC", text[end.start() - 1 : end.start()] + text[place])
    if is_wide and not has_space and len(beside) > 1 and beside.isascii() and beside.isalnum():
        return False  # within a number or a name: ３．５, Ｕ．Ｓ
    if not is_wide and (not has_space or text[place].islower()):
        return False
    before = _WORD_BEFORE.search(text, max(0, end.start() - _LONGEST_WORD), end.start())
    if before is None or mark[0] not in (".", _WIDE_STOP) or mark.startswith(".."):
        return True
    word = before.group()
    is_initial = not is_wide and len(word.rpartition(".")[2]) == 1 and word[-1].isalpha()
    is_numbering = word.isdecimal() and before.start() in starts
    return not (is_initial or is_numbering or _ABBREVIATIONS.fullmatch(word))


_RULES: Mapping[str, Rule] = {
    "punctuation": partial(_of_kind, Kind.PUNCTUATION),
    "whitespace": partial(_of_kind, Kind.SPACE),
    "words": word_starts,
    "words_merged": merged_word_starts,
    "despaced": despaced_word_starts,
    "sentences": sentence_starts,
    **{name: partial(code_label, name) for name in CODE_LABELS},
}
LABELS = tuple(_RULES)
