"""Gold segmentations that a user brings, and text without its white space."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_samples import anything, code, prose, words_of, write
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import (
    SPLITS,
    CorpusPart,
    Document,
    Reading,
    assert_held_out,
    evaluation_documents,
    hashes_of,
    label_gaps,
    load_corpus,
    load_corpus_for,
    piece_of,
    text_documents,
    texts,
    training_documents,
    training_streams,
)
from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.corpora import _PARTS
from lrope_interp.data.labels.words import despaced, despaced_part, without_space
from lrope_interp.data.texts import SENTENCES_PER_DOCUMENT, _joined, gold_documents, read_conllu
from lrope_interp.data.windows import document_hashes
from lrope_interp.errors import LRopeError
from lrope_interp.tokenizers import ByteTokenizer

UD = """\
# sent_id = 1
# text = Vámonos al mar, don't.
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\t_\t_\t5\tcase\t_\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t_\t_
5\tmar\tmar\tNOUN\t_\t_\t1\tobl\t_\tSpaceAfter=No
6\t,\t,\tPUNCT\t_\t_\t1\tpunct\t_\t_
6.1\tghost\t_\t_\t_\t_\t_\t_\t_\t_
7-8\tdon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
7\tdo\t_\t_\t_\t_\t_\t_\t_\t_
8\tn't\t_\t_\t_\t_\t_\t_\t_\t_
9\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\t_

1\tFoo\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No|X=1
2\tbar\t_\t_\t_\t_\t_\t_\t_\t_
"""


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("我们 喜欢 北京 。", "我们喜欢北京。"),
        ("“ 人们 常 说 ” —— 是 １９９８ 年 ……", "“人们常说”——是１９９８年……"),
        ("GDP 增长 8 %", "GDP 增长 8 %"),
        ("きょう は カメラ", "きょうはカメラ"),
        ("“ Hello ” — he said", "“ Hello ” — he said"),
        ("우리 는 간다", "우리 는 간다"),
        ("ทดสอบ ภาษา", "ทดสอบ ภาษา"),
        ("α β", "α β"),
        ("\u3000 我 \t 们", "我们"),
        ("𠀀 𠀁", "𠀀𠀁"),
        # What Chinese shares with other scripts, as the Bakeoff's files have it.
        ("他 今天 好 开心 😀 ！", "他今天好开心😀！"),
        ("我 爱 ❤\ufe0f 你 👩\u200d👧 ！", "我爱❤\ufe0f你👩\u200d👧！"),
        ("第 ① 章 和 Ⅲ 期 ， ３０ ℃ 。", "第①章和Ⅲ期，３０℃。"),
        ("卡拉ＯＫ № ½ × 5 好", "卡拉ＯＫ№½× 5 好"),
        ("α 射线 和 β γ 射线", "α射线和β γ射线"),
        ("I 😀 you", "I 😀 you"),
        ("他 说 : ( 好 ) ! - OK", "他说:(好)!- OK"),
        ("I said : ( good ) !", "I said : ( good ) !"),
    ],
)
def test_words_are_joined_as_their_script_writes_them(line: str, text: str, tmp_path: Path) -> None:
    [document] = gold_documents(write(tmp_path / "a.txt", line + "\n"))
    assert document.text == text
    assert words_of(document) == line.split()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1), max_size=8))
def test_joined_words_stand_where_they_are_said_to(words: list[str]) -> None:
    text, spans = _joined(words)
    assert [text[start:stop] for start, stop in spans] == words
    assert len(text) - sum(map(len, words)) <= max(len(words) - 1, 0)


def test_a_unit_is_twenty_sentences_joined_by_newlines(tmp_path: Path) -> None:
    lines = [f"sentence number {number} ." for number in range(45)]
    found = gold_documents(write(tmp_path / "mine.txt", "\n\n".join(lines)))
    assert [one.name for one in found] == ["mine.txt#1", "mine.txt#2", "mine.txt#3"]
    assert [one.text.count("\n") + 1 for one in found] == [SENTENCES_PER_DOCUMENT] * 2 + [5]
    assert "\n".join(one.text for one in found).split("\n") == lines
    assert [word for one in found for word in words_of(one)] == " ".join(lines).split()
    assert {(one.corpus, one.language, one.word_grade) for one in found} == {("gold", "und", "gold")}


def test_gold_words_are_the_label_words(tmp_path: Path) -> None:
    [document] = gold_documents(write(tmp_path / "a.txt", "我们 喜欢 ， 它\n好 的"))
    labels = label_gaps(document, "words")
    starts = np.flatnonzero(labels.is_boundary).tolist()
    assert [document.encoded[at:].decode()[0] for at in starts] == list("我喜它好的")
    assert labels.grade == "gold"
    assert document.language == "zh"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_are_no_text(end: str, mark: str, tmp_path: Path) -> None:
    plain = gold_documents(write(tmp_path / "a.txt", mark + f"a b{end}{end}c d{end}"))
    assert [one.text for one in plain] == ["a b\nc d"]
    table = gold_documents(write(tmp_path / "a.conllu", mark + UD.replace("\n", end)))
    assert [one.text for one in table] == ["Vámonos al mar, don't.\nFoobar"]


@pytest.mark.parametrize("name", ["a.conllu", "a.conll", "a.txt", "a"])
def test_conllu_gives_its_surface_words(name: str, tmp_path: Path) -> None:
    [document] = gold_documents(write(tmp_path / name, UD))
    assert document.text == "Vámonos al mar, don't.\nFoobar"
    assert words_of(document) == ["Vámonos", "al", "mar", ",", "don't", ".", "Foo", "bar"]


def test_without_a_text_comment_the_text_is_built_from_the_forms(tmp_path: Path) -> None:
    said = "\n".join(line for line in UD.split("\n") if not line.startswith("# text"))
    [document] = gold_documents(write(tmp_path / "a.conllu", said))
    assert document.text == "Vámonos al mar, don't.\nFoobar"


def test_another_comment_is_not_the_text(tmp_path: Path) -> None:
    said = "# text_en = Other\n#text=ab\n1\ta\t_\n2\tb\t_\n"
    assert gold_documents(write(tmp_path / "a.conllu", said))[0].text == "ab"


def test_a_form_may_hold_a_space() -> None:
    rows = ["# text = x in  front of", "1\tx", "2\tin front of", ""]
    [(text, words)] = read_conllu(Path("a"), rows)
    assert [text[start:stop] for start, stop in words] == ["x", "in  front of"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# text = one two\n1\tone\n2\tzwei\n", r"line 3: the form 'zwei' does not align .* 'two|' two'"),
        ("# text = one two\n1\tone\n", r"line 2: after the last form, .* ' two'"),
        ("\n1\tone\n\nx\ty\n", r"line 4: a line of CoNLL-U is wanted.*'x\\ty'"),
        ("1 one\n", r"line 1: a line of CoNLL-U is wanted"),
        ("1\t\n", r"line 1: a line of CoNLL-U"),
        ("# text = nothing else\n", "has no sentence"),
        ("# text = a b\n1.1\ta\n", "has no sentence"),
    ],
)
def test_a_wrong_line_of_conllu_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(LRopeError, match=said) as caught:
        gold_documents(write(tmp_path / "a.conllu", text))
    assert "a.conllu" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no file"),
        (b"\xef\xbb\xbf\n \n", "is empty"),
        (b"a b\n\xff c", "not UTF-8 at byte 4"),
    ],
)
def test_what_cannot_be_read_is_said(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        write(tmp_path / "a.conllu", content)
    with pytest.raises(LRopeError, match=said):
        gold_documents(tmp_path / "a.conllu")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("19980101-01-001-001/m  迈向/v  充满/v  希望/n  的/u\n", "word/tag as in PFR"),
        ("he/PRP said/VBD ,/, “and/or”/CC ./.\n", "word/tag as in PFR"),
        ("上海_NR 浦东_NR 开发_NN 与_CC\n", "word_TAG as in CTB"),
        ("迈\tB\n向\tE\n新\tS\n\n世\tB\n纪\tE\n", "BMES"),
        ("他\tr\n来\tv\n \tw\n了\tu\n吧\ty\n了\tu\n", "columns"),
        ("我/ 喜欢/ 手机/\n", "slashes or bars"),
        ("我 | 喜欢 | 手机\n", "slashes or bars"),
        ("我\n喜欢\n\n他\n", "a word a line"),
        ('{"text": "a b"}\n', "markup, JSON or"),
        ("<s> 我 喜欢 </s>\n", "markup, JSON or"),
        ("( (IP (NP a) (VP b)))\n", "markup, JSON or"),
        ("#begin document (bc/cctv/00); part 000\nbc/cctv/00 0 0 In IN (TOP * -\n", "a CoNLL file"),
        ("-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\n", "a CoNLL file"),
        ("Hà_Nội là thủ_đô của Việt_Nam .\n", "syllables joined by underscores"),
        ("the un@@ believ@@ able case\n", "subword units"),
        ("▁the ▁un believ able\n", "subword units"),
        ("the/at Fulton/np-tl County/nn-tl said/vbd ``/``\n", "word/tag"),
        ("これ/代名詞/これ は/助詞/は\n", "word/tag"),
        ("中国／n 人／n\n", "word/tag"),
        ("中国:NR 人:NN\n", "word/tag"),
        ("中B 国E 人S\n", "word/tag"),
        ("すもも\t名詞,一般,*\nも\t助詞,係助詞,*\nEOS\n", "MeCab"),
        ("在 o\n北 b-loc\n京 i-loc\n", "BIO"),
        ("我们喜欢手机。 你好吗？\n今天天气好。 真好。\n", "not segmented: most of it"),
        ("昨天他在北京大学学习 GPT 课程\n今天我们一起去了公园 很好\n", "not segmented: most of it"),
    ],
)
def test_another_form_is_named_and_not_read_as_words(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(LRopeError, match=f"a.txt looks like .*{said}.* a sentence a line .* CoNLL-U"):
        gold_documents(write(tmp_path / "a.txt", text))


@pytest.mark.parametrize(
    "line",
    [
        "他 说 and/or 好",
        "[ a ] b",
        "( a b ) c",
        "（ 一 ） 二",
        "we go 50 km/h .",
        "a_b is code",
        "I B",
        "1/2 3/4",
        "中国人民政治协商会议 很 好",
    ],
)
def test_words_that_hold_slashes_or_brackets_are_words(line: str, tmp_path: Path) -> None:
    [document] = gold_documents(write(tmp_path / "a.txt", line))
    assert words_of(document) == line.split()


def test_bytes_that_are_not_utf8_can_be_replaced(tmp_path: Path) -> None:
    [document] = gold_documents(write(tmp_path / "a.txt", b"a \xff"), encoding_errors="replace")
    assert document.text == "a \ufffd"


def test_a_despaced_gold_text_keeps_its_words(tmp_path: Path) -> None:
    [document] = gold_documents(write(tmp_path / "a.txt", "the peace\nof it"), is_despaced=True)
    assert document.text == "thepeaceofit"
    assert words_of(document) == ["the", "peace", "of", "it"]
    assert label_gaps(document, "despaced").grade == label_gaps(document, "words").grade == "gold"


def test_a_gold_file_that_memory_would_have_to_hold_is_refused_before_it_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"one two three\n" * 1_000_000 + b"\xff")  # not UTF-8, far behind what is read
    monkeypatch.setattr(texts, "_MOST_READ", 140)
    with pytest.raises(LRopeError, match=r"more than 140 characters.*head -n"):
        gold_documents(path)
    path.write_bytes(b"one two three\n" * 10)
    assert len(gold_documents(path)) == 1


SPACED = "Don't stop,\u00a0the 3rd\u3000time!\x1c\n\n 好 的。"


def _spaced(n: int, first: int = 0) -> str:
    rng = np.random.default_rng(first)
    words = ["peace", "treaty", "of", "nations", "é", "1824", "中 国"]
    return "\n\n".join(f"No {first + k}. " + " ".join(rng.choice(words, 500)) for k in range(n))


def test_the_property_white_space_goes_and_nothing_else() -> None:
    found = despaced(prose(SPACED))
    assert found.text == without_space(SPACED) == "Don'tstop,the3rdtime!\x1c好的。"
    assert words_of(found) == ["Don", "t", "stop", "the", "3rd", "time", "好", "的"]
    assert (found.is_despaced, found.word_grade) == (True, "rule")
    assert despaced(found) is found


@given(anything)
def test_what_is_left_has_no_space_and_the_words_in_order(text: str) -> None:
    found = despaced(prose(text))
    assert not (character_kinds(found.text) & Kind.SPACE).any()
    kinds = character_kinds(text)
    assert found.text == "".join(one for one, kind in zip(text, kinds, strict=True) if not kind & Kind.SPACE)
    assert found.n_bytes == len(found.text.encode())
    # Of the text with its spaces: a mark after one belongs to no word, though now it follows a letter.
    is_word = (kinds[(kinds & Kind.SPACE) == 0] & Kind.WORD) != 0
    covered = np.zeros(len(found.text), dtype=bool)
    for start, stop in found.words or ():
        assert not covered[start:stop].any()
        covered[start:stop] = True
    assert (covered == is_word).all()


def test_gold_words_and_tags_move_along() -> None:
    words = ((0, 5), (5, 6), (6, 7), (8, 11))  # "New Y", "o", " ", "the"
    found = despaced(prose("New Yo \nthe", words=words, tags=("a", "b", "c", "d")))
    assert found.text == "NewYothe"
    assert words_of(found) == ["NewY", "o", "the"]
    assert found.tags == ("a", "b", "d")
    assert found.word_grade == "gold"


def test_a_piece_keeps_what_it_was_cut_from() -> None:
    whole = despaced(prose("The treaty of peace. " * 50))
    piece = piece_of(whole, 100)
    assert (piece.is_despaced, piece.word_grade, piece.cut_from) == (True, "rule", whole.sha256)
    assert set(words_of(piece)[1:-1]) == {"The", "treaty", "of", "peace"}
    with pytest.raises(AssertionError):
        despaced(piece_of(prose("The treaty. " * 50), 100))


def test_documents_that_become_empty_or_equal_are_dropped() -> None:
    texts = ["a b", "ab", " \n", *"cdef"]
    part = CorpusPart("p", "und", tuple(map(prose, texts)), 0.5, {"n_duplicates_removed": 3})
    found = despaced_part(part)
    assert [one.text for one in found.documents] == ["ab", *"cdef"]
    assert found.source["n_duplicates_removed"] == 4


@pytest.mark.parametrize("kind", ["file", "folder", "table"])
def test_a_despaced_corpus_is_hashed_split_and_trained_on_without_spaces(kind: str, tmp_path: Path) -> None:
    texts = [_spaced(1, number) for number in range(40)]
    if kind == "file":
        path = write(tmp_path / "a.txt", "\n\n".join(texts))
    elif kind == "table":
        path = write(
            tmp_path / "a.jsonl", "".join(json.dumps({"text": one}) + "\n" for one in [*texts, "\t"])
        )
    else:
        path = tmp_path
        for number, one in enumerate(texts):
            write(tmp_path / f"{number}.txt", one)
    corpus = load_corpus(f"file:{path}", despaced=True)
    documents = corpus.documents()
    assert sorted(one.text for one in documents) == sorted(map(without_space, texts))
    assert hashes_of(documents) == [
        despaced(prose(one.text)).sha256 for one in documents
    ]  # not those of the text with spaces, which is what lies in the cache
    assert all(one.is_despaced and words_of(one)[0] == "No" for one in documents)
    manifest = corpus.manifest()
    assert manifest["despaced"] is True
    assert sum(manifest["splits"][split]["n_bytes"] for split in SPLITS) == sum(
        len(without_space(one).encode()) for one in texts
    )
    [(_, stream)] = training_streams(corpus, ByteTokenizer())
    assert not set(b" \n\t") & set(stream.tolist())
    read = document_hashes(stream, ByteTokenizer())
    assert sorted(read) == manifest["splits"]["train"]["sha256"]
    assert_held_out({"splits": {"train": {"sha256": read}}}, corpus.documents("test"))
    with pytest.raises(LRopeError, match="in the training text"):
        assert_held_out(manifest, corpus.documents("train"))


def test_the_most_bytes_to_read_count_the_spaces_too(tmp_path: Path) -> None:
    name = f"file:{write(tmp_path / 'a.txt', _spaced(20))}"
    spaced, without = (
        load_corpus(name, max_train_bytes=20_000, despaced=is_despaced) for is_despaced in (False, True)
    )
    assert [one.name for one in spaced.documents()] == [one.name for one in without.documents()]


def test_whatever_a_despaced_run_is_measured_on_is_despaced(tmp_path: Path) -> None:
    own = f"file:{write(tmp_path / 'own.txt', _spaced(20))}"
    other = f"file:{write(tmp_path / 'other.txt', _spaced(20, 100))}"
    manifest = load_corpus(own, despaced=True).manifest()
    assert all(one.is_despaced for one in load_corpus_for(manifest).documents())
    assert all(one.is_despaced for one in load_corpus_for(manifest, other).documents())
    assert not any(one.is_despaced for one in load_corpus_for(load_corpus(own).manifest(), other).documents())
    assert hashes_of(training_documents(manifest)) == hashes_of(
        load_corpus(own, despaced=True).documents("train")
    )


def test_a_manifest_of_before_says_nothing_and_means_with_spaces() -> None:
    assert Reading.of({"encoding_errors": "replace"}) == Reading("replace")


def test_a_named_corpus_can_be_despaced(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = tuple(prose(_spaced(1, number)) for number in range(30))
    part = CorpusPart("p", "und", documents, 0.3)
    monkeypatch.setattr("lrope_interp.data.corpora._PARTS", {**_PARTS, "code": (lambda: part,)})
    corpus = load_corpus("code", despaced=True)
    assert load_corpus_for(corpus.manifest()).manifest() == corpus.manifest()
    pieces = evaluation_documents(corpus, "test")
    assert pieces
    assert all(one.is_despaced for one in pieces)
    assert_held_out(corpus.manifest(), pieces)


def test_a_text_of_ones_own_is_despaced_by_its_paragraphs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "One word.\n\n\u2003\n\nTwo\nlines.")
    assert [one.text for one in text_documents(path, is_despaced=True)] == ["Oneword.", "Twolines."]


def _starts(document: Document, label: str) -> list[int]:
    return np.flatnonzero(label_gaps(document, label).is_boundary).tolist()


def test_the_label_despaced_says_where_words_began() -> None:
    found = despaced(prose("Don't stop. 好 的"))
    assert _starts(found, "despaced") == [0, 4, 5, 10, 13]
    assert label_gaps(found, "despaced").grade == "rule"
    gold = despaced(prose("北京 大学，好", words=((0, 5), (5, 6), (6, 7))))
    assert _starts(gold, "despaced") == _starts(gold, "words") == [0, 15]
    assert label_gaps(gold, "despaced").grade == label_gaps(gold, "words").grade == "gold"


@pytest.mark.parametrize(
    ("document", "label", "said"),
    [
        (despaced(prose("a b")), "words", "de-spaced"),
        (despaced(prose("a b")), "sentences", "de-spaced"),
        (prose("a b"), "despaced", "models of de-spaced text"),
        (code("x = 1"), "sentences", "lines, tokens"),
    ],
)
def test_a_label_that_a_text_cannot_have_is_refused(document: Document, label: str, said: str) -> None:
    with pytest.raises(LRopeError, match=said):
        label_gaps(document, label)
