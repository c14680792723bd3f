"""Spans of Python source: tokens and what they are, definitions and calls, lines and blocks.

As for the labels of code, a piece need not parse: the whole file is read, and what lies wholly
within the piece is kept. A formatted string is one token, and the names in it are none.
"""

from __future__ import annotations

import ast
import keyword
import tokenize
import unicodedata
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache

from lrope_interp.data.documents import Document
from lrope_interp.data.labels.code import source_lines, source_tokens
from lrope_interp.data.spans.stretches import Span, is_whole
from lrope_interp.data.spans.typed import OTHER
from lrope_interp.errors import LRopeError

Typed = tuple[int, int, str]
TOKENS = ("name", "keyword", "string", "number", "comment", "operator")
CALLS = ("definition", "call")
_TYPES = {
    tokenize.NAME: "name",
    tokenize.STRING: "string",
    tokenize.NUMBER: "number",
    tokenize.COMMENT: "comment",
    tokenize.OP: "operator",
}
_SUITES = ("body", "orelse", "finalbody")
_DEFINING = ("def", "class")
_WHOLE_FILES = 512


def code_tokens(document: Document) -> list[Typed]:
    """Return every token and its kind; words that are keywords only in places (match, type) are names."""
    return _within(document, "tokens")


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
    rows = _read(text)[name]
    first = bisect_left(rows, (offset,))
    return [(a - offset, b - offset, kind) for a, b, kind in rows[first:] if b <= end]


@lru_cache(maxsize=_WHOLE_FILES)
def _read(text: str) -> dict[str, tuple[Typed, ...]]:
    """Return the spans of a whole file, in order."""
    source = _Source(text)
    return {
        "tokens": tuple(source.tokens),
        "calls": tuple(sorted(source.names())),
        "scopes": tuple(sorted(source.bodies())),
    }


class _Source:
    """A file of Python: its tree, and its tokens by place."""

    def __init__(self, text: str) -> None:
        n_mark = len(text) - len(text.removeprefix("\ufeff"))
        found = source_lines(text[n_mark:])
        self.lines = [line for _, line in found]
        self.starts = [start + n_mark for start, _ in found]
        source = "\n".join([*self.lines, ""])
        self.text = text
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.tree = ast.parse(source)
                self.tokens = list(self._tokens(source))
        except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
            raise LRopeError(
                "what does not parse as Python has no known tokens and names (other languages, old versions, "
                "and paragraphs of a file)"
            ) from None

    def _tokens(self, source: str) -> Iterator[Typed]:
        for token in source_tokens(source):
            (row, column), (last_row, last_column) = token.start, token.end
            kind = _TYPES.get(token.type)
            if kind == "name" and keyword.iskeyword(token.string):
                kind = "keyword"
            if kind is not None:
                yield self.starts[row - 1] + column, self.starts[last_row - 1] + last_column, kind

    def names(self) -> Iterator[Typed]:
        """Yield every token that is a name, and what becomes of it."""
        called = {end: name for name, end in self._called(self.tree)}
        before = ""
        for start, end, kind in self.tokens:
            name = self.text[start:end]
            if kind == "name":
                is_called = called.get(end) == unicodedata.normalize("NFKC", name)
                yield start, end, "definition" if before in _DEFINING else "call" if is_called else OTHER
            before = name if kind != "comment" else before

    def _called(self, node: ast.AST) -> Iterator[tuple[str, int]]:
        """Yield each name that is called and the character past it; not those in formatted strings."""
        waiting = [node]
        while waiting:
            node = waiting.pop()
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                yield name, self._end(node.func)
            if not isinstance(node, ast.JoinedStr):
                waiting.extend(ast.iter_child_nodes(node))

    def bodies(self) -> Iterator[Typed]:
        """Yield the body of every block; what an elif decides is one, the elif itself is none."""
        for node in ast.walk(self.tree):
            for name in _SUITES if not isinstance(node, ast.Module) else ():
                suite = getattr(node, name, None)
                if isinstance(suite, list) and suite and isinstance(suite[0], ast.stmt):
                    start = self._start(suite[0])
                    if not (isinstance(suite[0], ast.If) and self.text.startswith("elif", start)):
                        yield start, self._end(suite[-1]), "scope"

    def _start(self, node: ast.stmt) -> int:
        decorators = getattr(node, "decorator_list", [])
        if not decorators:
            return self._place(node.lineno, node.col_offset)
        return self.text.rindex("@", 0, self._place(decorators[0].lineno, decorators[0].col_offset))

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._place(node.end_lineno, node.end_col_offset)

    def _place(self, line: int, column: int) -> int:
        """Return the character that `ast` means by a line (from 1) and a column in bytes."""
        before = self.lines[line - 1]
        if not before.isascii():
            column = len(before.encode("utf-8")[:column].decode("utf-8"))
        return self.starts[line - 1] + column
