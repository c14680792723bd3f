"""Rows of text: JSON lines, packed or not, Parquet, and folders that mix them with text files."""

from __future__ import annotations

from pathlib import Path

import pytest
from row_samples import some_rows, write_packed, write_rows

from lrope_interp.data import load_corpus
from lrope_interp.errors import LRopeError

NAMES = ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_a_document_whatever_the_format(tmp_path: Path, name: str) -> None:
    rows = some_rows()
    corpus = load_corpus(f"file:{write_rows(tmp_path / name, rows)}")
    assert [one.text for one in corpus.documents()] == [row["text"] for row in rows]
    assert [one.name for one in corpus.documents()] == [f"{name}#{k}" for k in range(1, 31)]
    assert [one.language for one in corpus.documents()] == ["zh"] + ["und"] * 29
    assert corpus.manifest()["text_column"] == "text"


@pytest.mark.parametrize("name", NAMES)
def test_empty_rows_and_nulls_are_skipped_and_duplicates_counted(tmp_path: Path, name: str) -> None:
    rows = [
        *some_rows(9),
        {"id": 1, "text": None},
        {"id": 2, "text": " \n"},
        {"id": 3, "text": "Row 5.\nIt has\ttwo lines."},
    ]
    corpus = load_corpus(f"file:{write_rows(tmp_path / name, rows)}")
    assert len(corpus.documents()) == 9
    assert corpus.parts[0].source["n_duplicates_removed"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_column_names_those_there_are_and_another_can_be_asked_for(
    tmp_path: Path, name: str
) -> None:
    rows: list[dict[str, object]] = [{"id": k, "body": f"Body {k}"} for k in range(9)]
    path = write_rows(tmp_path / name, rows)
    with pytest.raises(LRopeError, match=rf"{name}.* no column 'text'; there are: id, body\..*--text-column"):
        load_corpus(f"file:{path}")
    corpus = load_corpus(f"file:{path}", text_column="body")
    assert corpus.documents()[3].text == "Body 3"
    with pytest.raises(LRopeError, match=r"row 1: the column 'id' holds a number"):
        load_corpus(f"file:{path}", text_column="id")


def test_a_folder_mixes_texts_and_tables(tmp_path: Path) -> None:
    for name in NAMES:
        write_rows(tmp_path / name, [{"text": f"{name} {k}"} for k in range(3)])
    (tmp_path / "a.txt").write_text("a text", encoding="utf-8")
    (tmp_path / "b.csv").write_text("not,read", encoding="utf-8")
    found = {one.name: one.text for one in load_corpus(f"file:{tmp_path}").documents()}
    assert len(found) == 13
    assert found["a.txt"] == "a text"
    assert found["rows.jsonl.zst#2"] == "rows.jsonl.zst 1"


def test_a_large_file_of_a_folder_is_cut_like_a_single_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrope_interp.data.sources.files.LARGEST_WHOLE_FILE", 10_000)
    (tmp_path / "large.txt").write_text(
        "\n\n".join(f"{k} " + "x" * 2_000 for k in range(9)), encoding="utf-8"
    )
    (tmp_path / "small.txt").write_text("small", encoding="utf-8")
    names = [one.name for one in load_corpus(f"file:{tmp_path}").documents()]
    assert names == [*(f"large.txt#{k}" for k in range(1, 10)), "small.txt"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"text": "a"}\n{"text": \n', "line 2: not valid JSON"),
        (b'{"text": "a"}\n\n["b"]\n', "line 3: a list, and an object is wanted"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "line 2: not UTF-8 at byte 10 of the line"),
        (b'{"text": "a"}\n{"text": "b\\ud800"}\n', "row 2: a lone surrogate at character 1"),
        (b'{"text": "a"}\n{"text": ["b"]}\n', "row 2: the column 'text' holds a list"),
        (b'{"text": "a"}\n{"other": "b"}\n', "line 2 has no column 'text'; there are: other"),
        (b"", "0 different document"),
        (b"\n \n", "0 different document"),
    ],
)
@pytest.mark.parametrize("name", ["bad.jsonl", "bad.jsonl.gz", "bad.jsonl.zst"])
def test_a_bad_line_is_named_and_nothing_is_kept(
    tmp_path: Path, own_cache: Path, name: str, raw: bytes, message: str
) -> None:
    path = write_packed(tmp_path / name, raw)
    with pytest.raises(LRopeError, match=message) as caught:
        load_corpus(f"file:{path}")
    assert name in str(caught.value)
    assert [one.name for one in own_cache.glob("texts/*") if not one.name.endswith(".lock")] == []


def test_what_is_no_utf8_in_a_row_can_be_replaced(tmp_path: Path) -> None:
    raw = b'{"text": "a\xff"}\n{"text": "b\\ud800c"}\n{"text": "d"}\n{"text": "e"}\n'
    corpus = load_corpus(f"file:{write_packed(tmp_path / 'a.jsonl', raw)}", encoding_errors="replace")
    assert [one.text for one in corpus.documents()] == ["a\ufffd", "b\ufffdc", "d", "e"]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    raw = b"\xef\xbb\xbf" + b"".join(b'{"text": "%d"}\r\n' % k for k in range(5))
    corpus = load_corpus(f"file:{write_packed(tmp_path / 'a.jsonl', raw)}")
    assert [one.text for one in corpus.documents()] == list("01234")


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet"])
@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_a_torn_file_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    path = write_rows(tmp_path / name, some_rows(2_000))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2] if damage == "cut" else b"no such format" * 9)
    with pytest.raises(LRopeError, match=f"{name} cannot be read .*is it whole"):
        load_corpus(f"file:{path}")


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.txt.gz", "a.pdf", "a.zip"])
def test_a_format_that_is_not_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x,y\n" * 9_000)
    with pytest.raises(LRopeError, match=r"is not read.*\.jsonl, \.jsonl\.gz, \.jsonl\.zst or \.parquet"):
        load_corpus(f"file:{tmp_path / name}")


def test_a_cap_on_bytes_stops_before_it_is_exceeded(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": f"{k:010}"} for k in range(50)])
    corpus = load_corpus(f"file:{path}", max_train_bytes=105)
    assert [one.text for one in corpus.documents()] == [f"{k:010}" for k in range(10)]
    assert corpus.manifest()["max_train_bytes"] == 105
    with pytest.raises(LRopeError, match="0 different document"):
        load_corpus(f"file:{path}", max_train_bytes=9)
    with pytest.raises(LRopeError, match="read as a whole"):
        load_corpus("code", max_train_bytes=1_000)


@pytest.mark.parametrize(
    ("window", "size"), [(0xA8, "2 GiB"), (0xA1, "1.125 GiB"), (0x9B, "704 MiB"), (None, "larger")]
)
def test_a_window_that_is_too_large_is_told_with_how_to_repack(
    tmp_path: Path, window: int | None, size: str
) -> None:
    single = bytes([0xE0]) + (1 << 31).to_bytes(8, "little")  # no window but the content, in 64 bits
    start = single if window is None else bytes([0x00, window])
    path = tmp_path / "long.jsonl.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + start + b"\x01\x00\x00" + b"a" * 20)
    said = f"its window is {size}, and at most 128 MiB .*: zstd -dc --long=31 long.jsonl.zst | zstd -o"
    with pytest.raises(LRopeError, match=said):
        load_corpus(f"file:{path}")


def test_a_number_of_thousands_of_digits_is_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [f'{{"text": "row {number}", "id": -{"9" * 5_000}}}\n' for number in range(9)]
    path.write_text("".join(lines), encoding="utf-8")
    assert len(load_corpus(f"file:{path}").documents()) == 9
