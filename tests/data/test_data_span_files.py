"""Spans that users bring, by hand or from other tools: kept by characters, or refused with their place."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrope_interp.data import Document
from lrope_interp.data.spans.files import edge_warnings, read_spans_file
from lrope_interp.data.spans.typed import Spans
from lrope_interp.errors import LRopeError

GOOD = '{"text": "Ada wrote to Bob", "spans": [{"start": 0, "end": 3, "type": "person"}]}'


def _line(text: object = "Ada wrote", spans: object = (), **more: object) -> str:
    return json.dumps({"text": text, "spans": spans, **more})


def _span(start: object = 0, end: object = 3, kind: object = "person", **more: object) -> dict[str, object]:
    return {"start": start, "end": end, "type": kind, **more}


def _file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_spans_are_kept_by_characters_emoji_and_overlaps_included(tmp_path: Path) -> None:
    text = "👩‍🚀 Ada 🇫🇷 在北京"
    spans = [_span(0, 3, "emoji"), _span(2, 7, "mixed"), _span(4, 7), _span(11, 14, "other"), _span(4, 7)]
    documents, found = read_spans_file(_file(tmp_path, "", _line(text, spans), "  \t"))
    assert [document.name for document in documents] == ["own.jsonl#2"]
    assert found.concepts == ("emoji", "mixed", "person", "other")
    assert list(zip(found.names, found.texts(documents), strict=True)) == [
        ("emoji", text[0:3]),
        ("mixed", text[2:7]),
        ("person", "Ada"),
        ("other", "在北京"),
    ]
    first, past = found.bytes_of(documents)
    assert [documents[0].encoded[a:b].decode() for a, b in zip(first, past, strict=True)] == found.texts(
        documents
    )


def test_a_text_that_comes_twice_is_one_document(tmp_path: Path) -> None:
    lines = [
        _line("Ada wrote", [_span(4, 9, "verb")]),
        _line("北京很大", [_span(0, 2, "place")]),
        _line("Ada wrote", [_span(), _span(4, 9, "verb")]),
    ]
    documents, found = read_spans_file(_file(tmp_path, *lines))
    assert [(document.name, document.language) for document in documents] == [
        ("own.jsonl#1", "und"),
        ("own.jsonl#2", "zh"),
    ]
    assert list(zip(found.document.tolist(), found.names, strict=True)) == [
        (0, "person"),
        (0, "verb"),
        (1, "place"),
    ]


def test_a_single_type_gets_other_stretches_beside_it(tmp_path: Path) -> None:
    text = "Ada Lovelace wrote. Then Charles Babbage slept well at home"
    documents, found = read_spans_file(_file(tmp_path, _line(text, [_span(0, 12)]), _line("no span here")))
    assert found.concepts == ("person", "other")
    assert found.texts(documents)[0] == "Ada Lovelace"
    assert found.texts(documents)[1:] in (["Then Charles"], ["Charles Babbage"])
    assert len(documents) == 2


def test_byte_order_mark_line_ends_and_line_separators_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    spans = [_span(2, 3, "x"), _span(4, 5, "y")]
    line = json.dumps({"text": "a\u2028b\x85c", "spans": spans}, ensure_ascii=False)
    path.write_bytes(("\ufeff" + line + "\r\n\r\n").encode("utf-8"))
    documents, found = read_spans_file(path)
    assert found.texts(documents) == ["b", "c"]


def test_what_a_line_says_besides_is_passed_over(tmp_path: Path) -> None:
    number = "9" * 5_000  # valid JSON, but more digits than Python turns into an integer
    more = f'{GOOD[:-1]}, "id": {number}, "source": "a", "Comments": [], "score": -{number}}}'
    documents, found = read_spans_file(_file(tmp_path, more))
    assert found.texts(documents)[0] == "Ada"


TEXT = "😀 Mona Saleh went. Zoë said 好 to 😀 Ada"
WORDS = ("Mona Saleh", "Zoë", "Ada")


def _counted(unit: str, text: str, word: str) -> dict[str, object]:
    """Return the span of a word as another program would write it."""
    first = text.index(word)
    size = {
        "characters": len,
        "UTF-16 units": lambda one: len(one.encode("utf-16-le")) // 2,
        "bytes": lambda one: len(one.encode()),
        "inclusive ends": len,
    }[unit]
    return _span(size(text[:first]), size(text[: first + len(word)]) - (unit == "inclusive ends"))


@pytest.mark.parametrize("unit", ["characters", "UTF-16 units", "bytes", "inclusive ends"])
def test_offsets_of_another_kind_are_warned_of_with_what_would_mend_them(unit: str, tmp_path: Path) -> None:
    text = TEXT + " " * 20
    lines = [_line(f"{text}{number}", [_counted(unit, text, word) for word in WORDS]) for number in range(3)]
    found = edge_warnings(*read_spans_file(_file(tmp_path, *lines)))
    if unit == "characters":
        assert found == []
    else:
        assert len(found) == 1
        assert re.match(r"[69] of 9 spans begin or end inside a word, as characters \d+ to", found[0])
        assert "own.jsonl#1" in found[0] and found[0].endswith(f"read as {unit}, none would")


@pytest.mark.parametrize(
    ("text", "start", "end", "is_odd"),
    [
        ("one two", 0, 2, True),
        ("one two", 1, 3, True),
        ("one two", 3, 4, False),
        ("well-known", 0, 4, False),
        ("我们喜欢手机", 1, 3, False),
        ("ที่ดี", 0, 1, True),  # between a letter and its vowel sign
        ("ที่ดี", 0, 3, False),
        ("カメラ", 0, 2, False),
        ("I ❤\ufe0f you", 2, 3, True),
        ("cafe\u0301", 0, 4, True),
        ("clé 手 iPhone手机", 6, 12, False),
    ],
)
def test_a_span_inside_a_word_is_one_of_a_script_that_writes_spaces(
    text: str, start: int, end: int, is_odd: bool, tmp_path: Path
) -> None:
    spans = [_span(start, end), _span(0, len(text), "all")]
    assert bool(edge_warnings(*read_spans_file(_file(tmp_path, _line(text, spans))))) is is_odd


@pytest.mark.parametrize("unit", ["characters", "UTF-16 units", "bytes", "inclusive ends"])
def test_offsets_of_another_kind_are_told_in_chinese_by_its_words(unit: str, tmp_path: Path) -> None:
    text = "😀王小明住在北京，马克思去了哈尔滨，刘德华喜欢广州。" + "孩子们今天在图书馆学习中国历史。" * 5
    words = ("王小明", "北京", "马克思", "哈尔滨", "刘德华", "广州")
    lines = [_line(f"{text}{number}", [_counted(unit, text, word) for word in words]) for number in range(3)]
    found = edge_warnings(*read_spans_file(_file(tmp_path, *lines)))
    if unit == "characters":
        assert found == []
    else:
        assert len(found) == 1 and f"read as {unit}, " in found[0]


def test_right_spans_that_cut_chinese_words_are_not_warned_of(tmp_path: Path) -> None:
    text = "我们昨天在北京大学见到了王小明，他说天气很好，然后回上海去了。"
    lines = [
        _line(f"{text}{number}", [_span(at, at + 1 + at % 3, "xy"[at % 2]) for at in range(number, 28, 3)])
        for number in range(6)
    ]
    assert edge_warnings(*read_spans_file(_file(tmp_path, *lines))) == []


def test_lexical_types_take_memory_by_the_text_and_not_by_the_longest_span() -> None:
    text = "The river ran on. " * 10_000
    rows = [(0, at, at + 5, "short") for at in range(500)] + [(0, at, len(text), "long") for at in range(20)]
    spans = Spans.of(rows, ("short", "long"))
    documents = (Document("d", text, "test", "en"),)
    tracemalloc.start()
    number, types = spans.lexical_types(documents)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(text)
    texts = [one.casefold() for one in spans.texts(documents)]
    assert len(types) == len(set(texts))
    assert [number[a] == number[b] for a in range(0, 520, 7) for b in range(520)] == [
        texts[a] == texts[b] for a in range(0, 520, 7) for b in range(520)
    ]


BAD_SPANS = {
    "empty": (_span(3, 3), "must not be empty, got start 3 and end 3"),
    "reversed": (_span(3, 1), "must not end before it starts"),
    "beyond": (_span(0, 10), "reaches beyond its text, got start 0 and end 10 in a text of 9 characters"),
    "negative": (_span(-1, 3), "cannot begin before its text"),
    "fraction": (_span(0, 3.0), "'end' must be a whole number of characters, got 3.0"),
    "boolean": (_span(False, 3), "'start' must be a whole number of characters, got False"),
    "missing": ({"start": 0, "end": 3}, "the key 'type' is missing"),
    "unknown": (_span(label="x"), "the key 'label' is not known"),
    "empty type": (_span(kind=""), "'type' must be a name that is not empty"),
    "blank type": (_span(kind=" "), "'type' must be a name that is not empty"),
    "surrogate type": (_span(kind="\ud83d"), "'type' has a lone surrogate at character 0"),
    "a list": ([0, 3, "person"], r"an object is wanted, got \[0, 3, 'person'\]"),
    "huge": (_span(0, 10**30), "reaches beyond"),
}


@pytest.mark.parametrize("kind", BAD_SPANS)
def test_a_bad_span_is_refused_with_its_line_and_number(tmp_path: Path, kind: str) -> None:
    span, said = BAD_SPANS[kind]
    path = _file(tmp_path, GOOD, "", _line(spans=[_span(), span]))
    with pytest.raises(LRopeError, match=rf"own\.jsonl, line 3, span 2.*{said}"):
        read_spans_file(path)


BAD_LINES = {
    "not JSON": ("{'text': 1}", "not valid JSON"),
    "two": (GOOD + GOOD, "not valid JSON"),
    "list": ("[1]", r"an object is wanted, got \[1\]"),
    "no spans": ('{"text": "a"}', "the key 'spans' is missing"),
    "more": (_line(labels=[[0, 3, "x"]]), "the key 'labels' is not known; wanted are text, spans"),
    "typo": ('{"text": "a", "span": []}', "the key 'spans' is missing and the key 'span' is not known"),
    "twice": ('{"text": "a", "text": "b", "spans": []}', "a key occurs twice"),
    "text is no text": (_line(3), "'text' must be text that is not empty, got 3"),
    "spans are no list": (_line(spans={}), "'spans' must be a list, got {}"),
    "surrogate": (_line("a\ud83d b"), "'text' has a lone surrogate at character 1"),
    "deep": ("[" * 100_000, "not valid JSON"),
    "many digits": ('{"text": "a", "spans": ' + "9" * 5_000 + "}", "'spans' must be a list, got inf"),
    "NUL": ("\0", "not valid JSON"),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, kind: str) -> None:
    line, said = BAD_LINES[kind]
    with pytest.raises(LRopeError, match=rf"own\.jsonl, line 3: .*{said}"):
        read_spans_file(_file(tmp_path, GOOD, "", line))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", r"own\.jsonl is empty"),
        (b"\n \n", r"own\.jsonl is empty"),
        (GOOD.encode() + b'\n{"text": "\xff"}', r"own\.jsonl, line 2: not UTF-8 at byte 10 of the line"),
        (b"\x1f\x8b\x08\x00\x00", r"own\.jsonl, line 1: not UTF-8 at byte 1"),
        (b"\x00\x01\x02", r"own\.jsonl, line 1: not valid JSON"),
        (_line().encode(), r"own\.jsonl has no span of any type"),
        (_line(spans=[_span(kind="other")]).encode(), r"own\.jsonl has no span of any type but 'other'"),
        (_line("Ada", [_span()]).encode(), "spans of one type only, and no words beside them"),
    ],
)
def test_a_file_that_says_nothing_is_refused(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes(raw)
    with pytest.raises(LRopeError, match=said):
        read_spans_file(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LRopeError, match="there is no file"):
        read_spans_file(tmp_path / "none.jsonl")
    with pytest.raises(LRopeError, match="is a folder"):
        read_spans_file(tmp_path)


_CHARACTERS = st.text(st.sampled_from('aé中👩\u200d🚀\u0301 \n"\\\u2028'), min_size=2, max_size=12)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), texts=st.lists(_CHARACTERS, min_size=1, max_size=4, unique=True))
def test_any_spans_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, texts: list[str]
) -> None:
    wanted, lines = set(), []
    for text in texts:
        edges = data.draw(st.lists(st.sets(st.integers(0, len(text)), min_size=2, max_size=2), max_size=4))
        spans = [(*sorted(pair), data.draw(st.sampled_from(["x", "y👀"]))) for pair in edges]
        spans += [(0, 1, "x"), (0, 2, "y👀")]
        wanted |= {(text, *span) for span in spans}
        lines.append(_line(text, [_span(*span) for span in spans]))
    path = tmp_path_factory.mktemp("spans") / "own.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    documents, found = read_spans_file(path)
    rows = zip(found.document.tolist(), found.start.tolist(), found.end.tolist(), found.names, strict=True)
    assert {(documents[at].text, *rest) for at, *rest in rows} == wanted
    assert len(found) == len(wanted)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "spans-from-elsewhere.md"
EXPORTED = "😀 Mona Saleh left\r\nfor São Paulo 👍🏽 today"
MARKED = {"Mona Saleh": "person", "São Paulo": "place"}
Span = tuple[int, int, str, str]


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, found)
    return found


def _spans(width: Callable[[str], int]) -> list[Span]:
    starts = {word: EXPORTED.index(word) for word in MARKED}
    return [
        (width(EXPORTED[:at]), width(EXPORTED[: at + len(word)]), MARKED[word], word)
        for word, at in starts.items()
    ]


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _doccano(folder: Path) -> Path:
    rows = [
        {"id": 1, "text": EXPORTED, "label": [list(span[:3]) for span in _spans(len)], "Comments": []},
        {"id": 2, "text": f"2 {EXPORTED}", "label": []},
        {"id": 3, "text": f"{EXPORTED} 3", "labels": [list(span[:3]) for span in _spans(len)]},
        {"id": 4, "text": f"{EXPORTED} 4", "relations": [], "entities": [
            {"id": 9, "label": kind, "start_offset": a, "end_offset": b} for a, b, kind, _ in _spans(len)
        ]},
    ]  # fmt: skip
    path = folder / "export.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _label_studio(folder: Path, width: Callable[[str], int] = _utf16) -> Path:
    results = [
        {"type": "labels", "from_name": "label", "to_name": "text",
         "value": {"start": a, "end": b, "text": said, "labels": [kind]}}
        for a, b, kind, said in _spans(width)
    ]  # fmt: skip
    rating = {"type": "choices", "value": {"choices": ["good"]}}
    wrong = [{"type": "labels", "value": {"start": 0, "end": 1, "text": "no", "labels": ["x"]}}]
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    annotations = [{"result": [*results, rating, relation]}, {"was_cancelled": True, "result": wrong}]
    path = folder / "export.json"
    path.write_text(json.dumps([{"id": 1, "data": {"text": EXPORTED}, "annotations": annotations}]))
    return path


def _spacy(folder: Path) -> Path:
    ents = [{"start": a, "end": b, "label": kind} for a, b, kind, _ in _spans(len)]
    rows = [
        {"text": EXPORTED, "ents": ents, "tokens": []},
        {"text": f"{EXPORTED} ", "spans": ents, "answer": "accept"},
        {"text": f"{EXPORTED} 3", "ents": [], "spans": {"sc": ents}},
        {"text": f"{EXPORTED} 4", "tokens": []},
    ]
    path = folder / "docs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _brat(folder: Path) -> Path:
    (folder / "a.txt").write_bytes(EXPORTED.encode("utf-8"))
    (first, place) = _spans(len)
    rows = [
        f"T1\t{first[2]} {first[0]} {first[1]}\t{first[3]}",
        f"T2\tplace {place[0]} {place[1]}\tSão Paulo",
    ]
    rows += ["R1\tgoes Arg1:T1 Arg2:T2", "#1\tAnnotatorNotes T1\tsure", "T3\tapart 2 6;13 17\tMona left"]
    (folder / "a.ann").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("tool", "export"),
    [("doccano", _doccano), ("label_studio", _label_studio), ("spacy", _spacy), ("brat", _brat)],
)
def test_an_export_becomes_spans_that_hold_their_words(
    tool: str, export: Callable[[Path], Path], recipes: dict[str, Any], tmp_path: Path
) -> None:
    recipes["write"](tmp_path / "spans.jsonl", recipes[tool](export(tmp_path)))
    documents, spans = read_spans_file(tmp_path / "spans.jsonl")
    found = list(zip(spans.texts(documents), spans.names, strict=True))
    assert {pair for pair in found if pair[1] != "apart"} == set(MARKED.items())
    assert [text for text, name in found if name == "apart"] == (["Mona", "left"] if tool == "brat" else [])
    assert edge_warnings(documents, spans) == []
    assert documents[0].text == EXPORTED


def test_offsets_in_characters_are_kept_and_wrong_ones_refused(
    recipes: dict[str, Any], tmp_path: Path
) -> None:
    [(text, spans)] = recipes["label_studio"](_label_studio(tmp_path, len))
    first = recipes["placed"](text, *spans[0])
    assert first == {"start": 2, "end": 12, "type": "person"}
    with pytest.raises(ValueError, match="'Mona Saleh' does not stand at 5 to 15"):
        recipes["placed"](text, 5, 15, "person", "Mona Saleh")
