"""Definitions and their uses, by hand on small sources."""

from __future__ import annotations

import pytest

from lrope_interp.data import Document
from lrope_interp.data.spans.definitions import definitions_of
from lrope_interp.errors import LRopeError

SOURCE = '''\
import os

def outer(x):
    """outer(1) in a text is no use."""
    inner = len(x)
    return helper(inner)

def helper(y):
    return y + os.sep

class Box:
    size = 3

    def open(self):
        return self.close(self.size)

    def close(self, n):
        def twice(m):
            return m * 2
        return twice(n)

    def again(self):
        return self.open()

outer(2)
Box()
'''


def code(text: str, **more: object) -> Document:
    return Document("file.py", text, "made up", "code", **more)  # pyright: ignore[reportArgumentType]


def pairs(document: Document) -> list[tuple[str, str, int, int]]:
    found = definitions_of(document).uses
    text = document.text
    for one in found:
        assert text[one.definition.start : one.definition.end] == one.definition.text
        assert text[one.use.start : one.use.end] == one.use.text == one.definition.text
    lines = [[text.count("\n", 0, name.start) for name in (one.definition, one.use)] for one in found]
    return [(one.kind, one.use.text, *at) for one, at in zip(found, lines, strict=True)]


def test_the_pairs_of_a_file_are_those_found_by_hand() -> None:
    assert pairs(code(SOURCE)) == [
        ("variable", "inner", 4, 5),
        ("call", "twice", 17, 19),
        ("method", "open", 13, 22),
        ("call", "outer", 2, 24),
        ("call", "Box", 10, 25),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "f()\ndef f(): pass\n",  # the use comes first
        "def f(): pass\ndef f(): pass\nf()\n",  # two definitions
        "def f(): pass\nif x:\n    f = 1\nf()\n",
        "from a import f\ndef f(): pass\nf()\n",
        "def f(): pass\ndef g(f):\n    return f()\n",  # an argument hides it
        "def f(): pass\n[f() for f in y]\n",
        "def f(): pass\ndef g():\n    global f\n    f = 1\nf()\n",
        "class A:\n    def f(self): pass\nf()\n",  # a class hides its names from outside
        "class A:\n    def f(self):\n        return f()\n",
        "class A:\n    def f(self): pass\nclass B:\n    def g(self):\n        self.f()\n",
        "def f(): pass\nx.f()\n",
        "def f(): pass\nprint(f)\n",  # named, not called
        "x = 1\nx += 1\nprint(x)\n",
        "for x in y: pass\nprint(x)\n",
        "x, y = 1, 2\nprint(x)\n",
    ],
)
def test_what_is_not_certain_is_no_pair(text: str) -> None:
    assert pairs(code(text)) == []


def test_a_variable_is_paired_with_every_read_and_names_are_all_there() -> None:
    document = code("x = 1\nif y:\n    print(x, x)\n")
    assert pairs(document) == [("variable", "x", 0, 2), ("variable", "x", 0, 2)]
    names = definitions_of(document).names
    assert [(one.kind, one.text, one.is_definition) for one in names] == [
        ("variable", "x", True),
        ("variable", "y", False),
        ("call", "print", False),
        ("variable", "x", False),
        ("variable", "x", False),
    ]


def test_a_piece_is_resolved_in_its_file_and_keeps_what_lies_in_it() -> None:
    first = SOURCE.index("class")
    piece = code(SOURCE[first:], whole=(SOURCE, first))
    assert [one[:2] for one in pairs(piece)] == [("call", "twice"), ("method", "open"), ("call", "Box")]


def test_marks_line_ends_and_wide_characters_do_not_move_a_name() -> None:
    text = "\ufeffé = '中文'\r\ndef 函数(): pass\r\rf'{函数()}'; 函数(é)\n"
    kinds = {(one.kind, one.use.text) for one in definitions_of(code(text)).uses}
    assert {("call", "函数"), ("variable", "é")} <= kinds
    for one in definitions_of(code(text)).names:
        assert text[one.start : one.end] == one.text


def test_what_is_no_python_is_refused() -> None:
    with pytest.raises(LRopeError, match="parse"):
        definitions_of(code("int main() { return 0; }"))
    with pytest.raises(LRopeError, match="--data code"):
        definitions_of(Document("a", "x = 1", "made up", "en"))
