r"""Where lines, tokens, brackets and blocks of code begin, by Python's own `tokenize` and `ast`.

A piece of a file need not parse, so the whole file is labelled and the labels are cut as the piece
was. Lines end with \n, \r\n or \r, as Python reads them; a form feed, or U+2028, ends none.
"""

from __future__ import annotations

import ast
import io
import platform
import re
import tokenize
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Bool

from lrope_interp.data.documents import Document, Grade
from lrope_interp.errors import LRopeError

_LINES = re.compile(r"([^\r\n]*)(\r\n|\n|\r|\Z)")
_NO_TOKENS = frozenset(
    [tokenize.ENCODING, tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER]
)
_SUITES = ("body", "orelse", "finalbody")
_WHOLE_FILES = 512

Places = tuple[int, ...]


def code_label(name: str) -> Callable[[Document], tuple[Bool[np.ndarray, " n_characters"], Grade]]:
    """Return the rule of one label.

    Args:
        name: "lines": the first character of a line, indentation included. "tokens": that of a token,
            comments included; a formatted string is one token in every version of Python.
            "brackets_open", "brackets_close": ( [ { and ) ] } that are tokens. "scopes": the first
            character of the first statement of a block (of def, class, if, for, with, try, case, ...).
    """
    return partial(_labelled, name)


def _labelled(name: str, document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    if document.language != "code":
        raise LRopeError(f"{name} are for code, and this text is not known as code")
    if document.is_despaced:
        raise LRopeError(f"{name} cannot be told in code that was de-spaced: it is no longer code")
    text, first = document.whole or (document.text, 0)
    places = _line_starts(text) if name == "lines" else _parsed(text)[name]
    is_start = np.zeros(len(text), dtype=bool)
    is_start[list(places)] = True
    return is_start[first : first + len(document.text)], "rule"


@lru_cache(maxsize=_WHOLE_FILES)
def _line_starts(text: str) -> Places:
    """Return where lines begin; what follows the last line end is a line if there is anything."""
    return tuple(start for start, _ in source_lines(text))


@lru_cache(maxsize=_WHOLE_FILES)
def _parsed(text: str) -> dict[str, Places]:
    """Return where everything begins that needs Python to tell."""
    n_mark = len(text) - len(text.removeprefix("\ufeff"))
    lines = source_lines(text[n_mark:])
    source = "\n".join([*(line for _, line in lines), ""])
    starts = [start + n_mark for start, _ in lines]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
            tokens = [(one.string, starts[one.start[0] - 1] + one.start[1]) for one in source_tokens(source)]
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        raise LRopeError(
            f"what does not parse as Python {platform.python_version()} has no known tokens, brackets and "
            "scopes (other languages, old versions, and paragraphs of a file)"
        ) from None
    statements = [
        _place(text, starts[row - 1], lines[row - 1][1], column, is_decorated=is_decorated)
        for row, column, is_decorated in _first_statements(tree)
    ]
    at = {place: string for string, place in tokens}
    return {
        "tokens": tuple(place for _, place in tokens),
        "brackets_open": tuple(place for string, place in tokens if string in ("(", "[", "{")),
        "brackets_close": tuple(place for string, place in tokens if string in (")", "]", "}")),
        "scopes": tuple(place for place in statements if at[place] != "elif"),
    }


def source_lines(text: str) -> list[tuple[int, str]]:
    """Return where each line begins, and what stands in it before its end."""
    return [(line.start(), line[1]) for line in _LINES.finditer(text) if line.start() < len(text)]


def source_tokens(source: str) -> Iterator[tokenize.TokenInfo]:
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


def _first_statements(tree: ast.Module) -> Iterator[tuple[int, int, bool]]:
    """Yield line, column (in bytes) and whether it is decorated, of the first statement of every block."""
    for node in ast.walk(tree):
        for name in _SUITES if not isinstance(node, ast.Module) else ():
            suite = getattr(node, name, None)
            if isinstance(suite, list) and suite:
                decorators = getattr(suite[0], "decorator_list", [])
                first = decorators[0] if decorators else suite[0]
                yield first.lineno, first.col_offset, bool(decorators)


def _place(text: str, start: int, line: str, column: int, *, is_decorated: bool) -> int:
    """Return the character of a text that `ast` means; a decorated statement begins with its @."""
    place = start + len(line.encode("utf-8")[:column].decode("utf-8"))
    return text.rindex("@", 0, place) if is_decorated else place
