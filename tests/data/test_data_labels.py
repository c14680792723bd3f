"""Labels and strata, worked out by hand: words, sentences, lines and blocks of code."""

from __future__ import annotations

import builtins
import sys
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_samples import anything, code, prose, tagged
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import (
    STRATA,
    Document,
    character_starts,
    default_labels,
    label_gaps,
    load_corpus,
    piece_of,
    stratum_masks,
    text_documents,
)
from lrope_interp.data.labels.kinds import CODE_LABELS
from lrope_interp.data.labels.words import despaced, quiet_jieba
from lrope_interp.errors import LRopeError


def _labelled(text: str, label: str, language: str = "und") -> list[str]:
    """Return the text after each boundary, up to the next one, to read the labels by eye."""
    is_boundary = label_gaps(prose(text, language), label).is_boundary
    raw, at = text.encode("utf-8"), np.flatnonzero(is_boundary)
    return [raw[a:b].decode("utf-8") for a, b in pairwise([*at, len(raw)])]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Don't stop, 3rd time!", ["Don'", "t ", "stop, ", "3rd ", "time!"]),
        ("x_1 += f(y2)", ["x_", "1 += ", "f(", "y2)"]),  # the underscore is punctuation
        ("كتاب جديد", ["كتاب ", "جديد"]),
        ("ภาษาไทย ดี", ["ภาษาไทย ", "ดี"]),  # Thai writes no spaces: one run of letters and marks
        ("e\u0301te\u0301 a\u0300", ["e\u0301te\u0301 ", "a\u0300"]),  # combining marks belong to the word
        ("a😀b", ["a😀", "b"]),
        ("१२ ३", ["१२ ", "३"]),
        ("...", []),
        # A mark, joiner or format character belongs to the character before it.
        ("I \u2764\ufe0f you", ["I \u2764\ufe0f ", "you"]),
        (
            "1\ufe0f\u20e3 #\ufe0f\u20e3 *\u0301 \u0308 x",
            ["1\ufe0f\u20e3 #\ufe0f\u20e3 *\u0301 \u0308 ", "x"],
        ),
        ("می\u200cخواهم بروم", ["می\u200cخواهم ", "بروم"]),
        ("inter\u00adnational law", ["inter\u00adnational ", "law"]),
        (
            "no\u2060break \u0dc1\u0dca\u200d\u0dbb\u0dd3",
            ["no\u2060break ", "\u0dc1\u0dca\u200d\u0dbb\u0dd3"],
        ),
        ("one\u200btwo \u200fthree", ["one\u200b", "two \u200f", "three"]),
        ("👩\u200d👧 a👍🏽 🏴\U000e0067\U000e007f b", ["a👍🏽 🏴\U000e0067\U000e007f ", "b"]),
        ("\u0600١٢ x", ["\u0600١٢ ", "x"]),
    ],
)
def test_words_are_maximal_runs_of_letters_marks_and_numbers(text: str, wanted: list[str]) -> None:
    assert _labelled(text, "words") == wanted
    assert label_gaps(prose(text), "words").grade == "rule"


@pytest.mark.parametrize(
    ("label", "text", "wanted"),
    [
        ("punctuation", "a, b。c$d", [", b", "。c$d"]),  # $ is a symbol
        ("punctuation", "«a» – b", ["«a", "» ", "– b"]),
        ("whitespace", "a b\u3000c\u00a0d\x1ce", [" b", "\u3000c", "\u00a0d\x1ce"]),
        ("whitespace", "a\r\nb", ["\r", "\nb"]),
    ],
)
def test_punctuation_and_whitespace_follow_unicode(label: str, text: str, wanted: list[str]) -> None:
    assert _labelled(text, label) == wanted
    assert label_gaps(prose(text), label).grade == "rule"


def test_gold_words_count_only_with_a_letter_mark_or_number() -> None:
    text = "我们，１２月"
    document = prose(text, "zh", words=((0, 2), (2, 3), (3, 6)))
    labels = label_gaps(document, "words")
    assert labels.grade == "gold"
    assert np.flatnonzero(labels.is_boundary).tolist() == [0, 9]


def test_a_document_without_any_gold_word_is_gold_and_unmarked() -> None:
    labels = label_gaps(prose("ab", words=()), "words")
    assert labels.grade == "gold"
    assert not labels.is_boundary.any()


def test_chinese_without_gold_words_is_silver() -> None:
    pytest.importorskip("jieba", reason="the corpora extra is not installed")
    text = "我们喜欢iPhone手机。"
    assert _labelled(text, "words", "zh") == ["我们", "喜欢", "iPhone", "手机。"]
    assert label_gaps(prose(text, "zh"), "words").grade == "silver"


def test_a_variation_selector_is_part_of_its_chinese_character() -> None:
    pytest.importorskip("jieba", reason="the corpora extra is not installed")
    text = "我们\U000e0100喜欢\ufe00手机。"
    assert _labelled(text, "words", "zh") == ["我们\U000e0100", "喜欢\ufe00", "手机。"]
    is_han = stratum_masks(prose(text, "zh"))["han"]
    at = dict(zip(text, character_starts(text).tolist(), strict=True))
    assert np.flatnonzero(is_han).tolist() == [at[one] for one in "们喜欢手机"]


def test_code_with_a_chinese_comment_needs_no_segmenter() -> None:
    assert _labelled("# 中国人 x", "words", "code") == ["中国人 ", "x"]
    assert label_gaps(prose("# 中国人 x", "code"), "words").grade == "rule"


def test_a_missing_jieba_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "jieba":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    quiet_jieba.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(LRopeError, match="pip install jieba"):
        label_gaps(prose("中国", "zh"), "words")


def test_jieba_writes_nothing_and_logs_nothing(capfd: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    jieba = pytest.importorskip("jieba", reason="the corpora extra is not installed")
    quiet_jieba.cache_clear()
    before = jieba.Tokenizer.initialize
    jieba.Tokenizer.initialize = lambda *_: pytest.fail("jieba's own start-up writes a cache file")
    try:
        assert list(quiet_jieba().cut("北京大学")) == ["北京大学"]
    finally:
        jieba.Tokenizer.initialize = before
    assert capfd.readouterr() == ("", "")


def test_an_unknown_label_names_the_nearest() -> None:
    with pytest.raises(LRopeError, match="whitespace"):
        label_gaps(prose("a"), "whitespaces")


@given(anything)
def test_labels_stand_only_on_first_bytes_of_characters(text: str) -> None:
    document = prose(text, "en")
    starts = set(character_starts(text).tolist())
    for label in default_labels([document]):
        is_boundary = label_gaps(document, label).is_boundary
        assert len(is_boundary) == document.n_bytes
        assert set(np.flatnonzero(is_boundary).tolist()) <= starts


def test_strata_are_those_worked_out_by_hand() -> None:
    masks = stratum_masks(prose("a中国。文 b"))
    at = {name: np.flatnonzero(mask).tolist() for name, mask in masks.items()}
    assert tuple(masks) == STRATA
    assert at["bytes"] == list(range(1, 15))
    assert at["characters"] == [1, 4, 7, 10, 13, 14]
    assert at["nondelimiter"] == [1, 4, 10, 14]
    assert at["han"] == [4]


@given(anything)
def test_strata_are_nested_and_leave_out_the_first_gap(text: str) -> None:
    masks = stratum_masks(prose(text))
    assert not any(mask[:1].any() for mask in masks.values())
    assert not (masks["nondelimiter"] & ~masks["characters"]).any()
    assert not (masks["han"] & ~masks["nondelimiter"]).any()


def _cut(document: Document, label: str) -> str:
    at = np.flatnonzero(label_gaps(document, label).is_boundary)
    return b"|".join(
        document.encoded[a:b] for a, b in zip(at, [*at[1:], document.n_bytes], strict=True)
    ).decode()


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        ("江/nr 泽民/nr 说/v", "江泽民|说"),
        ("欧阳/nr 修/nr", "欧阳修"),
        ("李/nr 鹏/nr 乔/nr 石/nr", "李鹏|乔石"),  # two persons without anything between
        ("李/nr 、/w 乔/nr 石/nr", "李、|乔石"),
        ("克林顿/nr 说/nr", "克林顿|说"),  # too long for a surname
        ("江/nr _ 泽民/nr", "江 |泽民"),
        ("江/nr 泽民/nr 同志/n", "江泽民|同志"),
        ("北京/ns 大学/nr", "北京|大学"),
        ("江/nr", "江"),
    ],
)
def test_surname_and_given_name_are_one_word(tokens: str, wanted: str) -> None:
    assert _cut(tagged(tokens), "words_merged") == wanted
    assert label_gaps(tagged(tokens), "words_merged").grade == "gold"


def test_names_cannot_be_told_without_tags() -> None:
    with pytest.raises(LRopeError, match="no part-of-speech tags"):
        label_gaps(Document("d", "江泽民", "test", "zh", words=((0, 1), (1, 3))), "words_merged")


def test_default_labels_are_those_that_some_document_can_have() -> None:
    english, source = prose("A b.", "en"), code("a = 1")
    gold = prose("好的", "zh", words=((0, 1), (1, 2)))
    named = tagged("江/nr 泽民/nr")
    always = ("punctuation", "whitespace", "words")
    of_code = ("lines", "tokens", "brackets_open", "brackets_close", "scopes")
    assert default_labels([english]) == (*always, "sentences")
    assert default_labels([gold]) == (*always, "sentences")
    assert default_labels([source]) == (*always, *of_code)
    assert default_labels([source, english]) == (*always, "sentences", *of_code)
    assert default_labels(iter([named])) == (*always, "words_merged", "sentences")
    assert default_labels([despaced(english)]) == ("punctuation", "despaced")
    assert default_labels([despaced(source)]) == ("punctuation", "despaced")
    assert default_labels([despaced(english), despaced(gold)]) == ("punctuation", "words", "despaced")
    assert default_labels([despaced(named)]) == ("punctuation", "words", "words_merged", "despaced")


def test_every_default_label_of_a_single_document_can_be_had() -> None:
    made = [
        prose("A b. C", "en"),
        code("a = [1]\n"),
        tagged("江/nr 泽民/nr"),
    ]
    for document in [*made, *map(despaced, made)]:
        for label in default_labels([document]):
            assert len(label_gaps(document, label).is_boundary) == document.n_bytes


dense = st.text('aA1. !"。”“«»．།;α\n中', max_size=40)


def _sentences(text: str, language: str = "und") -> list[str]:
    document = prose(text, language)
    at = np.flatnonzero(label_gaps(document, "sentences").is_boundary)
    return [document.encoded[a:b].decode() for a, b in pairwise([*at, document.n_bytes])]


@pytest.mark.parametrize(
    "text",
    [
        "One here. |Two there! |Three? |Four",
        'He said: "Stop!" |Then he left.',
        'He left. |"Come back," she said. |(All of it.) |Fine.',
        '"Stop!" he said. |Who?! |Me... |You',
        "Mr. Smith met J. F. Kennedy and Dr. King in the U.S. Senate, e.g. Tom vs. Jim. |Good.",
        "It cost 3.14 and v1.2.3 of a.bc. |Next",
        "1. Scope of it. |2 is two. |Ends in 1824. |Then",
        "So… and on… |Then",
        "not a. lower case",
        "他说：“好！”|我们去。|你呢？|好",
        "１．５倍。|（来了。）|走",
        "Чай. |Кофе? |Да и нет",
        "वह आया। |फिर गया।|अब",
        "ماذا؟ |نعم۔ |لا",
        "The end",
        "« Oui ! » |Elle sourit. |« Non ? » dit-il. |Fin",
        "«\u00a0Oui\u202f!\u00a0» |Elle (enfin ! ) part. |Fin",
        "Er ging. |»Ja!« |Sie kam. |„Nein.“ |Er auch. |»Gut« war es.",
        "He said “ Stop. ” |Then “ she ” left. |“Go”",
        "第一．|第二．|３．５倍．|終",
        "1．概要です．|Ｕ．Ｓ．Ａ．|次",
        "བཀྲ་ཤིས།|བདེ་ལེགས། །|ཞེས་སོ༎ ༎|མཐའ",
        "Πού είσαι; |Εδώ. |Τι\u037e |Ναι",
        "Ποιο\u0301; |Αυτο\u0301",
        "Բարեւ: |Ինչպես ես։ |Լավ",
        "ሰላም።|ደህና ነህ፧ |አዎ",
        "សួស្តី។|អរគុណ៕ |ល្អ",
        "မင်္ဂလာပါ။ |ကောင်းတယ်",
        "Really⁉\ufe0f |Yes.\u200f |No;\u0020but",
        "Latin; Greek: no ends",
    ],
)
def test_sentences_are_those_read_by_eye(text: str) -> None:
    assert _sentences(text.replace("|", "")) == text.split("|")


@pytest.mark.parametrize(
    "text",
    [
        "A heading\n\n|and a paragraph\nthat is wrapped.\n|Next",
        "A heading\r\n \r\n|text",
        "新闻标题\n|正文开始\n|Third",
        "a\rb",
        "a\u2028\u2028|b",
    ],
)
def test_paragraphs_begin_sentences(text: str) -> None:
    assert _sentences(text.replace("|", "")) == text.split("|")


def test_white_space_before_the_first_sentence_belongs_to_none() -> None:
    assert _sentences("\n  One. Two. ") == ["One. ", "Two. "]


def test_a_piece_need_not_begin_with_a_sentence() -> None:
    whole = Document("d", "word " * 300, "test", "en")
    assert label_gaps(whole, "sentences").is_boundary.sum() == 1
    assert not label_gaps(piece_of(whole, 200), "sentences").is_boundary.any()


def test_sentences_are_silver() -> None:
    assert label_gaps(prose("A. B", "en"), "sentences").grade == "silver"


@given(anything | dense)
def test_a_sentence_never_begins_with_white_space(text: str) -> None:
    for sentence in _sentences(text):
        assert not sentence[0].isspace() or sentence[0] in "\x1c\x1d\x1e\x1f"


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000,
        ". " * 50_000,
        "." * 100_000,
        "« ! » " * 20_000,
        "། " * 50_000,
        ". ) " * 30_000,
        "\n" * 100_000,
        "a." * 50_000,
    ],
)
def test_odd_texts_take_no_longer_than_others(text: str) -> None:
    begin = time.process_time()
    label_gaps(prose(text, "en"), "sentences")
    assert time.process_time() - begin < 20  # a rule that looks back from every place takes minutes


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


def _heads(text: str, label: str) -> list[str]:
    """Return what stands after each boundary, up to the end of its line."""
    found = label_gaps(code(text), label)
    assert found.grade == "rule"
    raw = text.encode()
    return [raw[at:].decode().splitlines()[0] for at in np.flatnonzero(found.is_boundary)]


def test_lines_begin_behind_every_line_end_that_python_knows() -> None:
    text = "a\r\n\n  b\rc\x0cd\u2028e\n"
    at = np.flatnonzero(label_gaps(code(text), "lines").is_boundary).tolist()
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
        assert label_gaps(code(text), label).is_boundary.sum() == label_gaps(
            code(text + "\n"), label
        ).is_boundary.sum() - (label == "lines" and text in ("", "\n"))


@pytest.mark.parametrize("label", CODE_LABELS)
def test_a_piece_has_the_labels_of_the_whole_file(label: str) -> None:
    whole = code(SOURCE * 20)
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
            label_gaps(code(text), label)
    assert label_gaps(code(text), "lines").is_boundary[0]


@pytest.mark.parametrize("label", CODE_LABELS)
def test_code_labels_are_for_code_with_its_spaces(label: str) -> None:
    with pytest.raises(LRopeError, match="are for code"):
        label_gaps(prose("x = 1", "en"), label)
    with pytest.raises(LRopeError, match="de-spaced"):
        label_gaps(despaced(code("x = 1")), label)


def test_doubtful_escapes_warn_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _heads('x = "\\d"', "tokens") == ['x = "\\d"', '= "\\d"', '"\\d"']


def test_deep_nesting_is_no_crash() -> None:
    with pytest.raises(LRopeError, match="does not parse"):
        label_gaps(code("(" * 5_000 + ")" * 5_000), "tokens")


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
