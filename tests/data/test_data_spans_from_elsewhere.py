"""The recipes of docs/spans-from-elsewhere.md, each on an export of its tool."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrope_interp.data.spans.files import edge_warnings, read_spans_file

PAGE = Path(__file__).resolve().parents[2] / "docs" / "spans-from-elsewhere.md"
TEXT = "😀 Mona Saleh left\r\nfor São Paulo 👍🏽 today"
WORDS = {"Mona Saleh": "person", "São Paulo": "place"}
Span = tuple[int, int, str, str]


@pytest.fixture(scope="module")
def recipes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, found)
    return found


def _spans(width: Callable[[str], int]) -> list[Span]:
    starts = {word: TEXT.index(word) for word in WORDS}
    return [
        (width(TEXT[:at]), width(TEXT[: at + len(word)]), WORDS[word], word) for word, at in starts.items()
    ]


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _doccano(folder: Path) -> Path:
    rows = [
        {"id": 1, "text": TEXT, "label": [list(span[:3]) for span in _spans(len)], "Comments": []},
        {"id": 2, "text": f"2 {TEXT}", "label": []},
        {"id": 3, "text": f"{TEXT} 3", "labels": [list(span[:3]) for span in _spans(len)]},
        {"id": 4, "text": f"{TEXT} 4", "relations": [], "entities": [
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
    path.write_text(json.dumps([{"id": 1, "data": {"text": TEXT}, "annotations": annotations}]))
    return path


def _spacy(folder: Path) -> Path:
    ents = [{"start": a, "end": b, "label": kind} for a, b, kind, _ in _spans(len)]
    rows = [
        {"text": TEXT, "ents": ents, "tokens": []},
        {"text": f"{TEXT} ", "spans": ents, "answer": "accept"},
        {"text": f"{TEXT} 3", "ents": [], "spans": {"sc": ents}},
        {"text": f"{TEXT} 4", "tokens": []},
    ]
    path = folder / "docs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _brat(folder: Path) -> Path:
    (folder / "a.txt").write_bytes(TEXT.encode("utf-8"))
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
    assert {pair for pair in found if pair[1] != "apart"} == set(WORDS.items())
    assert [text for text, name in found if name == "apart"] == (["Mona", "left"] if tool == "brat" else [])
    assert edge_warnings(documents, spans) == []
    assert documents[0].text == TEXT


def test_offsets_in_characters_are_kept_and_wrong_ones_refused(
    recipes: dict[str, Any], tmp_path: Path
) -> None:
    [(text, spans)] = recipes["label_studio"](_label_studio(tmp_path, len))
    first = recipes["placed"](text, *spans[0])
    assert first == {"start": 2, "end": 12, "type": "person"}
    with pytest.raises(ValueError, match="'Mona Saleh' does not stand at 5 to 15"):
        recipes["placed"](text, 5, 15, "person", "Mona Saleh")
