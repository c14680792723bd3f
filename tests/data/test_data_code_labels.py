"""Lines, tokens, brackets and blocks of Python, worked out by hand and checked against the interpreter."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from lrope_interp.data import Document, label_gaps, load_corpus, piece_of, text_documents
from lrope_interp.data.labels.kinds import CODE_LABELS
from lrope_interp.data.labels.words import despaced
from lrope_interp.errors import LRopeError

SOURCE = '''\
@deco(1)
def f(a, *, b="é中"):  # comment
    """Doc."""
    x = {"k": [a, b]}; y = (x)
    if a: return f"{a!r} {b:>{10}}" "z"
    elif b:

        @ other
        class C: pass
    else:
        try:
        \tx = """
a(b
"""; g()
        finally: pass
lambda: (yield)
'''


def _code(text: str) -> Document:
    return Document("d.py", text, "test", "code")


def _heads(text: str, label: str) -> list[str]:
    """Return what stands after each boundary, up to the end of its line."""
    found = label_gaps(_code(text), label)
    assert found.grade == "rule"
    raw = text.encode()
    return [raw[at:].decode().splitlines()[0] for at in np.flatnonzero(found.is_boundary)]


def test_lines_begin_behind_every_line_end_that_python_knows() -> None:
    text = "a\r\n\n  b\rc\x0cd\u2028e\n"
    at = np.flatnonzero(label_gaps(_code(text), "lines").is_boundary).tolist()
    assert at == [0, 3, 4, 8]


def test_tokens_are_those_of_python() -> None:
    wanted = ["x", "=", "(", "1", ",", '"é"', ")", "#"]
    heads = _heads("\n" + 'x  = (1,\n   "é") # c\n', "tokens")
    assert [head[: len(token)] for head, token in zip(heads, wanted, strict=True)] == wanted


def test_a_formatted_string_is_one_token_whatever_the_version_of_python() -> None:
    assert _heads('f"{a}b{c[0]:>{10}}" + rf\'{f"{x}"}\'', "tokens") == [
        'f"{a}b{c[0]:>{10}}" + rf\'{f"{x}"}\'',
        "+ rf'{f\"{x}\"}'",
        "rf'{f\"{x}\"}'",
    ]


def test_brackets_are_those_that_are_tokens() -> None:
    text = 's = "(" + f(a[{1: ")"}]) # [\n'
    assert [head[0] for head in _heads(text, "brackets_open")] == list("([{")
    assert [head[0] for head in _heads(text, "brackets_close")] == list("}])")


def test_a_scope_begins_with_the_first_statement_of_a_block() -> None:
    assert _heads(SOURCE, "scopes") == [
        '"""Doc."""',
        'return f"{a!r} {b:>{10}}" "z"',
        "@ other",
        "pass",
        "try:",
        'x = """',
        "pass",
    ]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
@pytest.mark.parametrize("before", ["", "\ufeff", "\x0c\n", "é = 1;\x0cx = 2\n"])
def test_line_ends_marks_and_form_feeds_move_no_label(end: str, before: str) -> None:
    plain, other = SOURCE, before + SOURCE.replace("\n", end)
    for label in CODE_LABELS[1:]:
        wanted = [head.split(end)[0] for head in _heads(plain, label)]
        heads = [head.split("\r")[0] for head in _heads(other, label)]
        assert heads[len(heads) - len(wanted) :] == wanted


@pytest.mark.parametrize("text", ["x = 1", "x = 1\\\n + 2", "x = 1 # c", "", "\n", "# c", "def f():\n\tpass"])
def test_a_file_needs_no_last_line_end(text: str) -> None:
    for label in CODE_LABELS:
        assert label_gaps(_code(text), label).is_boundary.sum() == label_gaps(
            _code(text + "\n"), label
        ).is_boundary.sum() - (label == "lines" and text in ("", "\n"))


@pytest.mark.parametrize("label", CODE_LABELS)
def test_a_piece_has_the_labels_of_the_whole_file(label: str) -> None:
    whole = _code(SOURCE * 20)
    labels = label_gaps(whole, label).is_boundary
    piece = piece_of(whole, 400)
    again = piece_of(piece, 90)
    for one in (piece, again):
        at = whole.text.index(SOURCE[:20])
        first = int(one.name.rpartition("[")[2].partition(":")[0])
        at = first if one is piece else at + first + int(piece.name.rpartition("[")[2].partition(":")[0])
        start = len(whole.text[:at].encode())
        assert whole.encoded[start : start + one.n_bytes] == one.encoded
        assert (label_gaps(one, label).is_boundary == labels[start : start + one.n_bytes]).all()


def test_paragraphs_of_a_file_of_code_have_the_labels_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text('def f():\n    """é\n\n    x(\n    """\n\n    return (\n\n1)\n', encoding="utf-8")
    units = text_documents(path)
    assert [int(label_gaps(unit, "brackets_open").is_boundary.sum()) for unit in units] == [1, 0, 1, 0]
    assert [int(label_gaps(unit, "scopes").is_boundary.sum()) for unit in units] == [1, 0, 0, 0]


@pytest.mark.parametrize(
    "text", ["function f() { return 1; }", "print 'old'", "x = (", "\x00", "  x\n y", "a ? b"]
)
def test_what_is_no_python_leaves_its_reason_and_still_has_lines(text: str) -> None:
    for label in CODE_LABELS[1:]:
        with pytest.raises(LRopeError, match="does not parse as Python"):
            label_gaps(_code(text), label)
    assert label_gaps(_code(text), "lines").is_boundary[0]


@pytest.mark.parametrize("label", CODE_LABELS)
def test_code_labels_are_for_code_with_its_spaces(label: str) -> None:
    with pytest.raises(LRopeError, match="are for code"):
        label_gaps(Document("d", "x = 1", "test", "en"), label)
    with pytest.raises(LRopeError, match="de-spaced"):
        label_gaps(despaced(_code("x = 1")), label)


def test_doubtful_escapes_warn_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _heads('x = "\\d"', "tokens") == ['x = "\\d"', '= "\\d"', '"\\d"']


def test_deep_nesting_is_no_crash() -> None:
    with pytest.raises(LRopeError, match="does not parse"):
        label_gaps(_code("(" * 5_000 + ")" * 5_000), "tokens")


def test_the_standard_library_parses_and_its_brackets_pair_up() -> None:
    documents = [one for one in load_corpus("code").documents("test") if one.n_bytes < 20_000][:15]
    assert len(documents) == 15, sys.version
    for document in documents:
        opens, closes, tokens, lines = (
            label_gaps(document, label).is_boundary
            for label in ("brackets_open", "brackets_close", "tokens", "lines")
        )
        assert opens.sum() == closes.sum()
        assert not ((opens | closes) & ~tokens).any()
        assert (np.cumsum(opens) >= np.cumsum(closes)).all()
        assert lines.sum() == document.text.count("\n") + (not document.text.endswith("\n"))
        assert set(np.frombuffer(document.encoded, dtype=np.uint8)[opens].tobytes()) <= set(b"([{")
