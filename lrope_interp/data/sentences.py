"""Where sentences begin, by a rule: a silver reference, for nobody checked it by hand.

A sentence begins

* with the first character after a terminator, the closing quotes and brackets behind it, and white
  space; after the Chinese and other terminators of `_ALONE` also without white space. A lower-case
  letter begins no sentence, and neither does what follows an abbreviation of `_ABBREVIATIONS`, an
  initial (``J. F.``), or a number that stands alone where the sentence began (``1. Scope``);
* with a paragraph: after a blank line, or after a line end next to a Chinese character (lines of
  other scripts may be wrapped).

So a quotation that goes on (``“好！”他说``) begins a sentence too often, a sentence that ends in an
abbreviation (``in the U.S. They``) hides the next one, and a heading of one line joins what follows.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Bool

from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.documents import Document, Grade
from lrope_interp.errors import LRopeError

_SPACED = ".!?…‼⁇⁈⁉‽．؟۔։።"
_ALONE = "。！？｡।॥။"
_CLOSING = "\"'”’»›)]}）］｝〕】》〉」』〗〙〟｣"
_ABBREVIATIONS = re.compile(
    r"Mr|Mrs|Ms|Messrs|Mme|Mlle|Dr|Prof|Rev|Hon|St|Mt|Ft|Gen|Col|Lt|Sgt|Capt|Cpl|Maj|Adm|Cmdr|Gov|Sen|Rep|Pres|"
    r"Supt|Jr|Sr|Nos|Sec|Vol|Fig|Eq|Ref|Jan|Feb|Apr|Aug|Sept|Sep|Oct|Nov|Dec|vs|cf|al|viz|pp|vol|fig|eq|sec|ca|"
    r"approx|Bros|Co|Corp|Inc|Ltd|Hrn|bzw"
)
_SPACE = r"[^\S\x1c-\x1f]"  # the property White_Space
_MARKS = re.escape(_SPACED + _ALONE)
_END = re.compile(rf"(?P<mark>[{_MARKS}][{_MARKS}{re.escape(_CLOSING)}]*)(?P<space>{_SPACE}*)")
_WORD_BEFORE = re.compile(r"[^\W_][\w.]*\Z")
_LONGEST_WORD = 32
_GAP = re.compile(rf"{_SPACE}+")
_LINE_END = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_IS_ALONE = re.compile(rf"[{_ALONE}]")


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
    for end in _END.finditer(text):
        if end.end() < len(text) and _ends_sentence(text, end, starts):
            starts.add(end.end())
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


def _ends_sentence(text: str, end: re.Match[str], starts: set[int]) -> bool:
    """Return whether a terminator and what follows it end a sentence."""
    if _IS_ALONE.search(end["mark"]):
        return True
    if not end["space"] or text[end.end()].islower():
        return False
    before = _WORD_BEFORE.search(text, max(0, end.start() - _LONGEST_WORD), end.start())
    if before is None or not end["mark"].startswith(".") or end["mark"].startswith(".."):
        return True
    word = before.group()
    is_initial = len(word.rpartition(".")[2]) == 1 and word[-1].isalpha()
    is_numbering = word.isdecimal() and before.start() in starts
    return not (is_initial or is_numbering or _ABBREVIATIONS.fullmatch(word))
