"""Text that the user brings to be measured: plain (``--text FILE``), or with its words (``--gold FILE``).

Of a plain text the paragraphs are the units. A gold segmentation is a sentence a line, or CoNLL-U.
In the plain form words are separated by blanks. They are put together again without a space where
both neighbours are Chinese characters (Han, kana, CJK punctuation, full-width forms, and in a line
that has such the punctuation, emoji and numerals like ① and Ⅲ that Chinese shares with other scripts),
else with one. Other forms (tags, columns, markup) are refused by name: read as words, their
tags and blanks would become boundaries.

Of CoNLL-U (https://universaldependencies.org/format.html) the surface words count: the lines of a number,
and of a range (``3-4``, one written word of several syntactic ones) in place of the words it spans. Empty
nodes (``8.1``) were never written.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from conllu.exceptions import ParseException
from conllu.parser import DEFAULT_FIELD_PARSERS, DEFAULT_FIELDS, parse_comment_line, parse_line

from lrope_interp.data.documents import (
    Document,
    Reading,
    hash_splits,
    hashes_of,
    unique_documents,
    where,
)
from lrope_interp.data.labels.words import despaced
from lrope_interp.data.sources.files import is_large, text_runs
from lrope_interp.data.sources.plain_text import language_of, paragraphs, read_text
from lrope_interp.errors import LRopeError

LEAST_UNITS_TO_SPLIT = 60
_WANTED_TEXT = "a text is a string or the Path of a file, and a list of texts has strings (or documents)"
AnyText = str | Path | Sequence[str] | Sequence[Document]


def text_documents(
    text: AnyText, *, encoding_errors: str = "strict", is_despaced: bool = False
) -> Sequence[Document]:
    """Return one document a paragraph between blank lines of a text, in reading order.

    A file above 8 MB is cut into runs of paragraphs of at least 2,000 bytes instead, each different one
    once, as for training: they lie in the cache and are read one at a time.

    Args:
        text: The text itself; a `Path` is a UTF-8 file of it. A list gives one document an entry.
        encoding_errors: "strict" refuses bytes of a file that are not UTF-8, "replace" puts U+FFFD there.
        is_despaced: Remove the white space of each, as a model that was trained without wants it.

    Raises:
        LRopeError: A string that names a file, a file that is missing, empty, binary, or not UTF-8, or no
            text at all.
    """
    if isinstance(text, Path):
        path = text.expanduser()
        if is_large(path):
            return text_runs(path, Reading(encoding_errors, despaced=is_despaced))
        documents = _paragraphs(read_text(path, encoding_errors), path.name, path.suffix)
    elif isinstance(text, str):
        documents = _paragraphs(not_a_path(text), "text", "")
    elif isinstance(text, Iterable):
        documents = (
            one if isinstance(one, Document) else Document(f"text#{number}", one, "text", language_of(one))
            for number, one in enumerate(map(_checked_text, text), start=1)
        )
    else:
        raise LRopeError(f"{_WANTED_TEXT}; got {text!r:.60}")
    if is_despaced:
        documents = (one for one in map(despaced, documents) if one.text)
    return tuple(documents)


def not_a_path(text: str) -> str:
    """Return a text, unless it is the name of a file that was meant to be read."""
    if os.path.isfile(text):
        raise LRopeError(
            f"{text!r} is the name of a file, and text=... takes the text itself: give Path({text!r}) to "
            f"have the file read, or [{text!r}] for these {len(text)} characters"
        )
    return text


def given_document(text: str | Document) -> Document:
    """Return a text as one document, of which nobody marked words; a document as it is."""
    if isinstance(text, Document):
        return text
    if not isinstance(text, str):
        raise LRopeError(f"one text is wanted: a string, a Path or a Document; got {text!r:.60}")
    return Document("text", not_a_path(text), "text", language_of(text))


def _checked_text(one: Any) -> str | Document:
    """Return an entry of a list of texts."""
    if not isinstance(one, str | Document):
        raise LRopeError(f"{_WANTED_TEXT}; got {one!r:.60} in a list")
    return one


def _paragraphs(text: str, name: str, suffix: str) -> Iterator[Document]:
    language = language_of(text, suffix)
    raw = text.encode("utf-8")
    units = ((start, raw[start:stop].decode("utf-8")) for start, stop in paragraphs(raw))
    for number, (start, unit) in enumerate((unit for unit in units if unit[1].strip()), start=1):
        whole = (text, len(raw[:start].decode("utf-8"))) if language == "code" else None
        yield Document(f"{name}#{number}", unit, "text", language, whole=whole)


def text_splits(documents: Sequence[Document]) -> dict[str, Sequence[Document]]:
    """Split the units of a text 40/20/40 by hash if it has 60 different ones, else test on all.

    Returns:
        Either "fit", "dev" and "test", or "test" alone, each different unit once: then sign,
        threshold and tables have to come from the model's own corpus. Order within a split is that
        of the text.
    """
    hashes = hashes_of(documents)
    splits = hash_splits(hashes, 1.0)
    if len(splits) < LEAST_UNITS_TO_SPLIT:
        return {"test": unique_documents(documents)[0]}
    return {
        split: where(documents, [splits[sha256] == split for sha256 in hashes])
        for split in ("fit", "dev", "test")
    }


CORPUS = "gold"


class Sentence(NamedTuple):
    """A sentence and where in it, in characters, its words are."""

    text: str
    words: list[tuple[int, int]]


SENTENCES_PER_DOCUMENT = 20
_MOST_READ = 10_000_000  # characters: more than the largest segmented corpus that is in common use
_LINE_END = re.compile(r"\r\n|\n|\r")
_CHINESE = re.compile(
    r"[\u3001-\u303f\u3040-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\uffe0-\uffee"
    r"\U00020000-\U0003fffd]"
)


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
        LRopeError: The file is missing, empty, too long, binary or not UTF-8, a line of CoNLL-U is wrong,
            or it is a segmentation of another form.
    """
    path = Path(path).expanduser()
    text = read_text(path, encoding_errors, most=_MOST_READ + 1)
    if len(text) > _MOST_READ:
        raise LRopeError(
            f"{path} has more than {_MOST_READ:,} characters, and gold is held in memory as a whole: give a "
            "part of it, `head -n 100000` for example"
        )
    lines = _LINE_END.split(text)
    is_table = path.suffix.lower() in (".conllu", ".conll") or is_conllu(lines)
    if not is_table:
        _refuse_other_forms(path, [line for line in lines if line.strip()])
    found = read_conllu(path, lines) if is_table else map(_joined, map(str.split, lines))
    sentences = [one for one in found if one.words]
    if not sentences:
        raise LRopeError(f"{path} has no sentence: a line of words, or CoNLL-U, is wanted")
    language = language_of("".join(one.text for one in sentences))
    runs = range(0, len(sentences), SENTENCES_PER_DOCUMENT)
    documents = (
        _document(f"{path.name}#{number}", sentences[first : first + SENTENCES_PER_DOCUMENT], language)
        for number, first in enumerate(runs, start=1)
    )
    return tuple(map(despaced, documents) if is_despaced else documents)


def _refuse_other_forms(path: Path, lines: Sequence[str]) -> None:
    """Refuse what is plainly no file of words between blanks, and say what it looks like."""
    rows = [line.split() for line in lines]
    words = [word for row in rows[:_GLANCED] for word in row]

    def share(form: re.Pattern[str]) -> float:
        return sum(form.fullmatch(word) is not None for word in words) / len(words)

    n_columns = Counter(map(len, rows)).most_common(1)[0][0]
    last = [row[-1] for row in rows if len(row) == n_columns > 1]
    tag = _TAB_TAG if all("\t" in line for line in lines) else _COLUMN_TAG
    tags = [tag.fullmatch(one) for one in last]
    is_column = len(last) > 1 and len(last) >= _MOST * len(rows) and all(tags)
    clauses = [len(word) for word in words if _CLAUSE.search(word)]
    looks = (
        (_MARKUP.match(lines[0].strip()), "markup, JSON or a CoNLL file", "take the words out of it"),
        (
            (is_column and sum(found is not None and found[1] is not None for found in tags) > len(last) / 2)
            or ["EOS"] in rows[1:],
            "columns, a word or character and its tags a line (BMES, BIO, CoNLL-2003, MeCab)",
            "put the words of each sentence on one line",
        ),
        (
            len(words) > 1 and share(_TAGGED) >= _MOST,
            "words with their tags (word/tag as in PFR, word_TAG as in CTB)",
            "remove the tags",
        ),
        (
            len(words) > 1 and (share(_SLASHED) >= _MOST or share(_SLASH) >= _MOST / 2),
            "words parted by slashes or bars",
            "put blanks in their place",
        ),
        (
            (share(_JOINED) >= _SOME and not all(word.isascii() for word in words if "_" in word))
            or share(_SUBWORD) >= _SOME,
            "subword units or syllables joined by underscores (Vietnamese)",
            "write whole words as the text has them; with blanks inside words, as CoNLL-U",
        ),
        (
            all(len(row) == 1 for row in rows),
            "a word a line, or text that is not segmented: no line has a blank",
            "put the words of each sentence on one line, blanks between them",
        ),
        (
            len(clauses) > 1 and 2 * sum(clauses) > sum(map(len, words)),
            "text that is not segmented: most of it stands in pieces longer than Chinese words are",
            "put blanks between words, and before punctuation",
        ),
    )
    for is_so, form, advice in looks:
        if is_so:
            raise LRopeError(
                f"{path} looks like {form}, as in {lines[0].strip()[:40]!r}, which is not read: {advice}. "
                "What is read: a sentence a line with blanks between words, and CoNLL-U"
            )


_MOST, _SOME = 0.8, 0.1
_GLANCED = 2_000
_MARKUP = re.compile(
    r"#begin document|-DOCSTART-|[{\[]\s*[\"{\[]|<[A-Za-z/!?][^<>]*>|\(\s*\(?[A-Z]+\b[^()]*\("
)
_COLUMN_TAG = re.compile(r"([BIMESLUO](?:[-_]\S+)?|[bi]-\S+|o|[01]|[A-Z]{1,5}\$?)|[!-/:-@\[-`{-~]+")
_TAB_TAG = re.compile(r"([A-Za-z]{1,8}[0-9]?(?:[-_]\S+)?)|[!-/:-@\[-`{-~]+")
_TAGGED = re.compile(
    r"\S*[^\s/_#][/_#](?:[A-Za-z]{1,8}[0-9]?\$?|[^\w\s]{1,2})(?:\][A-Za-z]*)?"
    r"|\S+[/／]\S*[^\W\d]\S*"  # Brown's np-tl, and tags in Chinese or Japanese
    r"|\S+[:：][A-Za-z]{1,5}|\S+\([A-Za-z]{1,5}\)|\S+-[A-Z]{1,4}|[\u4e00-\u9fff]+[BMESI]"
)
_CLAUSE = re.compile(r"[\u4e00-\u9fff]{8}|[\u4e00-\u9fff][，。！？；：]")
_SLASHED = re.compile(r"\S+[/|]")
_JOINED = re.compile(r"[^\W\d_]+(?:_[^\W\d_]+)+")
_SUBWORD = re.compile(r"\S+@@|##\w+|[▁Ġ]\S*")
_SLASH = re.compile(r"[/|‖]+")


def _joined(words: Sequence[str]) -> Sentence:
    """Put the words of a line together, and return where they are."""
    has_chinese = any(map(_CHINESE.search, words))
    text, spans = "", []
    before = ""
    for word in words:
        if text and not _is_written_together(before, word, shared=has_chinese):
            text += " "
        spans.append((len(text), len(text) + len(word)))
        text += word
        before = word
    return Sentence(text, spans)


def _base(characters: Iterable[str]) -> str:
    """Return the first that is no mark, joiner or variation selector."""
    found = list(characters)
    return next((one for one in found if unicodedata.category(one) not in ("Mn", "Me", "Cf")), found[0])


def _is_written_together(before: str, word: str, *, shared: bool) -> bool:
    """Return whether Chinese writes no space between two words; `shared` takes ambiguous characters."""
    if _CHINESE.match(before[-1]) and _CHINESE.match(word[0]):
        return True
    if not shared:
        return False
    ends = (_base(reversed(before)), _base(word))
    is_chinese = [_CHINESE.match(character) is not None for character in ends]
    # Greek letters are symbols beside Chinese (α射线), and words beside each other.
    is_symbol = [_is_symbol(end) or (any(is_chinese) and _GREEK.match(end) is not None) for end in ends]
    return all(map(any, zip(is_chinese, is_symbol, strict=True)))


_GREEK = re.compile("[Α-Ωα-ω]")


def _is_symbol(character: str) -> bool:
    """Return whether Chinese shares a character with other scripts: emoji, ①, Ⅲ, dashes, quotes, dots."""
    if character.isascii():
        return not character.isalnum()
    category = unicodedata.category(character)
    if category in ("So", "Nl", "No"):
        return True
    return category[0] not in "LMN" and unicodedata.east_asian_width(character) in "AWF"


def _document(name: str, sentences: Sequence[Sentence], language: str) -> Document:
    """Join sentences by newlines, and keep where in the text each word stands."""
    words: list[tuple[int, int]] = []
    at = 0
    for sentence in sentences:
        words += [(at + start, at + stop) for start, stop in sentence.words]
        at += len(sentence.text) + 1
    text = "\n".join(sentence.text for sentence in sentences)
    return Document(name, text, CORPUS, language, words=tuple(words))


# The columns that count; a wrong value in another one, as in a treebank in the making, does no harm.
_PARSERS = {name: DEFAULT_FIELD_PARSERS[name] for name in ("id", "misc")}
_ROW = re.compile(r"[0-9]+(?:[-.][0-9]+)?\t")
_BLANKS = re.compile(" {2,}")
Word = tuple[int, str, bool]
"""The number of the line that a form stands in, the form, and whether white space follows it."""


def is_conllu(lines: Sequence[str]) -> bool:
    """Return whether the first line that is neither blank nor a comment is one of CoNLL-U, or cut from it."""
    rows = (line for line in lines if line.strip() and not line.startswith("#"))
    return _ROW.match(next(rows, "")) is not None


def read_conllu(path: Path, lines: Sequence[str]) -> Iterator[Sentence]:
    """Yield the text of every sentence, and its surface words as half-open spans of characters.

    The text is that of the comment ``# text = ``, or built from the forms and SpaceAfter=No.

    Raises:
        LRopeError: A line is no line of CoNLL-U, or a form does not stand in the text; with its place.
    """
    text: str | None = None
    words: list[Word] = []
    last_of_range = 0
    for number, line in enumerate([*lines, ""], start=1):
        if not line.strip():
            if words:
                yield _aligned(path, text, words) if text else _built(words)
            text, words, last_of_range = None, [], 0
        elif line.startswith("#"):
            text = dict(parse_comment_line(line)).get("text") or text
        else:
            try:
                # conllu takes two blanks for a tab, but a form may hold them.
                row = parse_line(_BLANKS.sub(" ", line), DEFAULT_FIELDS, dict(_PARSERS))
            except ParseException:
                row = {}
            found, form = row.get("id"), line.partition("\t")[2].partition("\t")[0].strip()
            if found is None or not form:
                raise LRopeError(
                    f"{path}, line {number:,}: a line of CoNLL-U is wanted, with a number, a tab and a form "
                    f"at its beginning; got {line[:60]!r}"
                )
            first, separator, last = found if isinstance(found, tuple) else (found, "-", found)
            if separator == "-" and first > last_of_range:
                words.append((number, form, (row.get("misc") or {}).get("SpaceAfter") != "No"))
                last_of_range = last if last > first else last_of_range


def _built(words: Sequence[Word]) -> Sentence:
    """Build a text from forms."""
    text, spans = "", []
    for _, form, has_space_after in words:
        spans.append((len(text), len(text) + len(form)))
        text += form + (" " if has_space_after else "")
    return Sentence(text.rstrip(), spans)


def _aligned(path: Path, text: str, words: Sequence[Word]) -> Sentence:
    """Find the forms in the text one after the other; only white space may stand between them."""
    spans: list[tuple[int, int]] = []
    at = 0
    for number, form, _ in words:
        pattern = r"\s+".join(map(re.escape, form.split()))
        found = re.compile(rf"\s*({pattern})").match(text, at)
        if found is None:
            raise LRopeError(
                f"{path}, line {number:,}: the form {form!r} does not align with `# text`, which "
                f"goes on with {text[at : at + 30]!r}. Correct one of them, or leave `# text` out"
            )
        spans.append(found.span(1))
        at = found.end()
    if text[at:].strip():
        raise LRopeError(
            f"{path}, line {words[-1][0]:,}: after the last form, `# text` goes on with "
            f"{text[at : at + 30]!r}. Correct one of them, or leave `# text` out"
        )
    return Sentence(text, spans)
