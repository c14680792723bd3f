r"""Python source as Python reads it, by its own `tokenize` and `ast`: as labels of gaps and as spans.

A piece of a file need not parse, so the whole file is read, and what lies within the piece is kept. Lines
end with \n, \r\n or \r, as Python reads them; a form feed, or U+2028, ends none. A formatted string is one
token in every version of Python, and the names in it are none.
"""

from __future__ import annotations

import ast
import io
import keyword
import platform
import re
import tokenize
import unicodedata
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from jaxtyping import Bool

from lrope_interp.data.documents import Document, Grade
from lrope_interp.data.spans.typed import OTHER, Span, Typed, is_whole
from lrope_interp.errors import LRopeError

TOKENS = ("name", "keyword", "string", "number", "comment", "operator")
CALLS = ("definition", "call")
NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What `ast` raises at text that is no Python, at odd characters, and at very deep nesting."""
WHOLE_FILES = 512
"""How many files a cache keeps."""

_LINES = re.compile(r"([^\r\n]*)(\r\n|\n|\r|\Z)")
_NO_TOKENS = frozenset(
    [tokenize.ENCODING, tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER]
)
_TYPES = {
    tokenize.NAME: "name",
    tokenize.STRING: "string",
    tokenize.NUMBER: "number",
    tokenize.COMMENT: "comment",
    tokenize.OP: "operator",
}
_SUITES = ("body", "orelse", "finalbody")
_DEFINING = ("def", "class")


def code_label(name: str, document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    """Return which characters one label marks.

    Args:
        name: "lines": the first character of a line, indentation included. "tokens": that of a token,
            comments included. "brackets_open", "brackets_close": ( [ { and ) ] } that are tokens.
            "scopes": the first character of the first statement of a block (of def, class, if, for, with,
            try, case, ...).
        document: Code, whole or a piece of a file.
    """
    if document.language != "code":
        raise LRopeError(f"{name} are for code, and this text is not known as code")
    if document.is_despaced:
        raise LRopeError(f"{name} cannot be told in code that was de-spaced: it is no longer code")
    text, first = document.whole or (document.text, 0)
    is_start = np.zeros(len(text), dtype=bool)
    if name == "lines":  # the one that text which does not parse has as well
        is_start[[start for start, _ in source_lines(text)]] = True
    else:
        found = _read(text)
        if found is None:
            raise not_python("tokens, brackets and scopes", f"Python {platform.python_version()}")
        rows = found["scopes" if name == "scopes" else "tokens"]
        brackets = {"brackets_open": "([{", "brackets_close": ")]}"}.get(name)
        for start, end, kind in rows:
            if brackets is None or (kind == "operator" and text[start:end] in brackets):
                is_start[start] = True
    return is_start[first : first + len(document.text)], "rule"


def code_tokens(document: Document) -> list[Typed]:
    """Return every token and its kind; words that are keywords only in places (match, type) are names."""
    return [token for token in _within(document, "tokens") if token[2]]


def calls(document: Document) -> list[Typed]:
    """Return every name: defined by def or class, called (the last name of a dotted one), or other."""
    return _within(document, "calls")


def scopes(document: Document) -> list[Span]:
    """Return the bodies of blocks, from the first character of the first statement; they nest."""
    return [(start, end) for start, end, _ in _within(document, "scopes")]


def lines(document: Document) -> list[Span]:
    """Return the lines that are not blank, indentation included, line end left out."""
    text, offset = document.whole or (document.text, 0)
    last = offset + len(document.text)
    spans = ((start, start + len(line)) for start, line in source_lines(text) if line.strip())
    inside = ((a - offset, b - offset) for a, b in spans if a >= offset and b <= last)
    return [span for span in inside if document.whole is not None or is_whole(document, *span)]


def _within(document: Document, name: str) -> list[Typed]:
    """Return the spans of a whole file that lie within a piece of it."""
    text, offset = document.whole or (document.text, 0)
    end = offset + len(document.text)
    found = _read(text)
    if found is None:
        raise not_python("tokens and names")
    first = bisect_left(found[name], (offset,))
    return [(a - offset, b - offset, kind) for a, b, kind in found[name][first:] if b <= end]


def not_python(unknown: str, language: str = "Python") -> LRopeError:
    """Say that a file does not parse, and what therefore is not known of it."""
    return LRopeError(
        f"what does not parse as {language} has no known {unknown} (other languages, old versions, and "
        "paragraphs of a file)"
    )


class PythonSource:
    """A file of Python: its tree, and where in the text lines and nodes stand.

    Raises:
        NOT_PYTHON: It does not parse.
    """

    def __init__(self, text: str) -> None:
        n_mark = len(text) - len(text.removeprefix("\ufeff"))
        found = source_lines(text[n_mark:])
        self.text = text
        self.lines = [line for _, line in found]
        self.starts = [start + n_mark for start, _ in found]
        self.source = "\n".join([*self.lines, ""])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.tree = ast.parse(self.source)

    def place(self, line: int | None, column: int | None) -> int:
        """Return the character that `ast` means by a line (from 1) and a column in bytes."""
        assert line is not None
        assert column is not None
        before = self.lines[line - 1]
        if not before.isascii():  # within a formatted string `ast` may count wrongly, and cut a character
            column = len(before.encode("utf-8")[:column].decode("utf-8", errors="ignore"))
        return self.starts[line - 1] + column

    def end(self, node: ast.expr | ast.stmt) -> int:
        """Return the character past a node."""
        return self.place(node.end_lineno, node.end_col_offset)


@lru_cache(maxsize=WHOLE_FILES)
def _read(text: str) -> dict[str, list[Typed]] | None:
    """Return the tokens, calls and scopes of a whole file, each in order; None if it is no Python."""
    try:
        source = PythonSource(text)
        tokens = list(_tokens(source))
    except (*NOT_PYTHON, tokenize.TokenError):
        return None
    return {"tokens": tokens, "calls": sorted(_names(source, tokens)), "scopes": sorted(_bodies(source))}


def _tokens(source: PythonSource) -> Iterator[Typed]:
    for token in _source_tokens(source.source):
        (row, column), (last_row, last_column) = token.start, token.end
        kind = _TYPES.get(token.type, "")  # "": rare letters (℘) that Python 3.11 takes for no name
        if kind == "name" and keyword.iskeyword(token.string):
            kind = "keyword"
        yield source.starts[row - 1] + column, source.starts[last_row - 1] + last_column, kind


def _names(source: PythonSource, tokens: list[Typed]) -> Iterator[Typed]:
    """Yield every token that is a name, and what becomes of it."""
    called: dict[int, str] = {}  # by the character past each name that is called
    waiting: list[ast.AST] = [source.tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called[source.end(node.func)] = (
                node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            )
        if not isinstance(node, ast.JoinedStr):
            waiting.extend(ast.iter_child_nodes(node))
    before = ""
    for start, end, kind in tokens:
        name = source.text[start:end]
        if kind == "name":
            is_called = called.get(end) == unicodedata.normalize("NFKC", name)
            yield start, end, "definition" if before in _DEFINING else "call" if is_called else OTHER
        before = before if kind in ("comment", "") else name


def _bodies(source: PythonSource) -> Iterator[Typed]:
    """Yield the body of every block; what an elif decides is one, the elif itself is none."""
    for node in ast.walk(source.tree):
        for name in _SUITES if not isinstance(node, ast.Module) else ():
            suite = getattr(node, name, None)
            if not (isinstance(suite, list) and suite and isinstance(suite[0], ast.stmt)):
                continue
            decorators = getattr(suite[0], "decorator_list", [])
            first = decorators[0] if decorators else suite[0]
            start = source.place(first.lineno, first.col_offset)
            if decorators:  # a decorated statement begins with its @
                start = source.text.rindex("@", 0, start)
            if not (isinstance(suite[0], ast.If) and source.text.startswith("elif", start)):
                yield start, source.end(suite[-1]), "scope"


def source_lines(text: str) -> list[tuple[int, str]]:
    """Return where each line begins, and what stands in it before its end."""
    return [(line.start(), line[1]) for line in _LINES.finditer(text) if line.start() < len(text)]


def _source_tokens(source: str) -> Iterator[tokenize.TokenInfo]:
    """Yield every token that has characters of its own; line from 1, column in characters.

    A formatted string is one token of type STRING, whose `string` may be its first characters only.
    """
    depth = 0
    first = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name.endswith("STRING_START"):  # of a formatted string, from Python 3.12 on
            first = first or token
            depth += 1
        elif name.endswith("STRING_END"):
            depth -= 1
            if depth == 0 and first is not None:
                yield first._replace(type=tokenize.STRING, end=token.end)
                first = None
        elif depth == 0 and token.type not in _NO_TOKENS:
            yield token
