"""A gold segmentation that the user brings: a sentence a line, or CoNLL-U.

In the plain form words are separated by blanks. They are put together again without a space where
both neighbours are Chinese characters (Han, kana, CJK punctuation, full-width forms, and in a line
that has such the quotes, dashes and dots that Chinese shares with other scripts), else with one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lrope_interp.data.conllu import is_conllu, read_conllu
from lrope_interp.data.despacing import despaced
from lrope_interp.data.documents import Document
from lrope_interp.data.sources.plain_text import language_of, read_text
from lrope_interp.errors import LRopeError

CORPUS = "gold"
SENTENCES_PER_DOCUMENT = 20
_LINE_END = re.compile(r"\r\n|\n|\r")
_CHINESE = re.compile(
    r"[\u3001-\u303f\u3040-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\uffe0-\uffee"
    r"\U00020000-\U0003fffd]"
)


@dataclass(frozen=True)
class Sentence:
    """A sentence and where in it, in characters, its words are."""

    text: str
    words: tuple[tuple[int, int], ...]


def gold_documents(
    path: Path | str, *, encoding_errors: str = "strict", is_despaced: bool = False
) -> tuple[Document, ...]:
    """Return one document for every 20 sentences of a segmented text, in reading order.

    Args:
        path: UTF-8. CoNLL-U if it is named .conllu or .conll, or looks like it; else a sentence a
            line, words between blanks. Blank lines are passed over.
        encoding_errors: "strict" refuses bytes that are not UTF-8, "replace" puts U+FFFD there.
        is_despaced: Remove the white space, as a model that was trained without wants it.

    Returns:
        Documents whose `words` are gold; sentences are joined by newlines.

    Raises:
        LRopeError: The file is missing, empty, binary or not UTF-8, or a line of CoNLL-U is wrong.
    """
    path = Path(path).expanduser()
    text = read_text(path, encoding_errors)
    lines = _LINE_END.split(text)
    is_table = path.suffix.lower() in (".conllu", ".conll") or is_conllu(lines)
    found = read_conllu(path, lines) if is_table else map(_joined, map(str.split, lines))
    sentences = [Sentence(joined, tuple(words)) for joined, words in found if words]
    if not sentences:
        raise LRopeError(f"{path} has no sentence: a line of words, or CoNLL-U, is wanted")
    language = language_of("".join(sentence.text for sentence in sentences))
    runs = range(0, len(sentences), SENTENCES_PER_DOCUMENT)
    documents = (
        _document(f"{path.name}#{number}", sentences[first : first + SENTENCES_PER_DOCUMENT], language)
        for number, first in enumerate(runs, start=1)
    )
    return tuple(map(despaced, documents) if is_despaced else documents)


def _joined(words: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Put the words of a line together, and return where they are."""
    has_chinese = any(map(_CHINESE.search, words))
    text, spans = "", []
    for word in words:
        if text and not (
            _is_chinese(text[-1], shared=has_chinese) and _is_chinese(word[0], shared=has_chinese)
        ):
            text += " "
        spans.append((len(text), len(text) + len(word)))
        text += word
    return text, spans


def _is_chinese(character: str, *, shared: bool) -> bool:
    """Return whether Chinese writes no space beside a character; `shared` takes ambiguous punctuation."""
    if _CHINESE.match(character):
        return True
    is_letter = unicodedata.category(character)[0] in "LMN"
    return shared and not is_letter and unicodedata.east_asian_width(character) == "A"


def _document(name: str, sentences: Iterable[Sentence], language: str) -> Document:
    """Join sentences by newlines, and keep where in the text each word stands."""
    spans: list[tuple[int, int]] = []
    texts: list[str] = []
    at = 0
    for sentence in sentences:
        spans += [(at + start, at + stop) for start, stop in sentence.words]
        texts.append(sentence.text)
        at += len(sentence.text) + 1
    return Document(name, "\n".join(texts), CORPUS, language, words=tuple(spans))
