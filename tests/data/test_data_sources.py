"""The user's own text: files, folders, tables and data sets, good and bad."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from data_samples import some_rows, write, write_packed, write_rows

from lrope_interp.data import (
    SPLITS,
    Reading,
    assert_held_out,
    evaluation_documents,
    load_corpus,
    load_corpus_for,
    text_documents,
    text_splits,
    training_documents,
)
from lrope_interp.data.documents import IndexedDocuments
from lrope_interp.data.labels.words import without_space
from lrope_interp.data.sources import files, hub
from lrope_interp.data.sources.hub import HubRequest
from lrope_interp.data.sources.plain_text import language_of, read_text, runs_of_paragraphs
from lrope_interp.errors import LRopeError


def _paragraphs(n: int, size: int = 700) -> list[str]:
    return [f"Paragraph {k}. " + "x" * size for k in range(n)]


def _runs(text: str) -> list[str]:
    raw = text.encode("utf-8")
    return [raw[start:stop].decode("utf-8") for start, stop in runs_of_paragraphs(raw)]


def test_a_text_file_becomes_runs_of_paragraphs_of_two_thousand_bytes(tmp_path: Path) -> None:
    text = "\n\n".join(_paragraphs(30))
    corpus = load_corpus(f"file:{write(tmp_path / 'a.txt', text)}")
    documents = corpus.documents()
    assert all(one.n_bytes >= 2_000 for one in documents)
    assert "\n\n".join(one.text for one in documents) == text
    assert all(corpus.documents(split) for split in SPLITS)
    assert_held_out(corpus.manifest(), corpus.documents("test"))


def test_paragraphs_one_a_line_are_cut_at_line_ends() -> None:
    text = "\n".join(_paragraphs(30))
    pieces = _runs(text)
    assert len(pieces) == 10
    assert "\n".join(pieces) == text


@pytest.mark.parametrize(
    ("word", "blank"),
    [("anarchism", " "), ("中国人民", "\u3000"), ("中国人民", "。"), ("中国人民", ""), ("é", ""), (" ", " ")],
)
def test_a_line_without_end_is_cut_at_blanks(word: str, blank: str) -> None:
    text = blank.join([word] * (400_000 // len((word + blank).encode())))
    runs = _runs(text)
    if not word.strip():
        assert runs == []
        return
    assert "".join(runs) == text  # nothing is lost, and no character was cut in two
    assert all(2_000 <= len(run.encode()) <= 10_100 for run in runs)
    if blank == "。":
        assert all(run.endswith("。") for run in runs[:-1])
    elif blank:
        assert all(run.startswith(blank + word) for run in runs[1:])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_separates_paragraphs(end: str) -> None:
    text = f"{end}{end}" + f"{end} \t{end}".join(f"{k}{end}" + "x" * 2_000 for k in range(5)) + end
    pieces = _runs(text)
    assert [piece[0] for piece in pieces] == list("01234")
    assert all(end in piece for piece in pieces)  # kept as they are


def test_what_is_left_over_joins_the_last_document() -> None:
    pieces = _runs("a" * 2_000 + "\n\n" + "b" * 10 + "\n\n\n")
    assert pieces == ["a" * 2_000 + "\n\n" + "b" * 10]


def test_a_folder_gives_one_document_a_visible_text_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("a.txt", "b.MD", "deep/c.py", "deep/d.rst", ".hidden.txt", ".git/e.txt", "f.png"):
        write(tmp_path / name, f"text of {name}")
    write(tmp_path / "copy.txt", "text of a.txt")
    write(tmp_path / "empty.txt", " \n")
    corpus = load_corpus(f"file:{tmp_path}")
    assert [one.name for one in corpus.documents()] == ["a.txt", "b.MD", "deep/c.py", "deep/d.rst"]
    assert [one.language for one in corpus.documents()] == ["und", "und", "code", "und"]
    assert corpus.parts[0].source["n_duplicates_removed"] == 1
    assert all(len(corpus.documents(split)) == 1 for split in SPLITS)


def test_a_byte_order_mark_is_dropped_and_line_ends_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfa\r\nb\rc\x85\n")
    with pytest.raises(LRopeError, match="byte 9 "):
        read_text(path)
    assert read_text(path, "replace") == "a\r\nb\rc\ufffd\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"ab\0c", "binary.*byte 2"),
        ("text".encode("utf-16"), "binary"),
        (b"abc\xff\xfe", "not UTF-8 at byte 3 .*encoding_errors replace"),
        (b"too short", "1 different document.*at least 4.*8,000"),
        (b"\n\n".join([b"x" * 3_000] * 9), "1 different document"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "bad.txt", content)
    with pytest.raises(LRopeError, match=message) as caught:
        load_corpus(f"file:{path}")
    assert "bad.txt" in str(caught.value)


def test_a_broken_file_in_a_folder_is_named(tmp_path: Path) -> None:
    for k in range(5):
        write(tmp_path / f"{k}.txt", f"text {k}")
    write(tmp_path / "broken.md", b"ab\xc3")
    with pytest.raises(LRopeError, match=r"broken\.md is not UTF-8 at byte 2"):
        load_corpus(f"file:{tmp_path}")
    corpus = load_corpus(f"file:{tmp_path}", encoding_errors="replace")
    assert "ab\ufffd" in {one.text for one in corpus.documents()}
    assert corpus.manifest()["encoding_errors"] == "replace"


def test_missing_files_empty_folders_and_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LRopeError, match="there is no file"):
        load_corpus(f"file:{tmp_path / 'none.txt'}")
    with pytest.raises(LRopeError, match="has no text file"):
        load_corpus(f"file:{tmp_path}")
    with pytest.raises(LRopeError, match="needs a path"):
        load_corpus("file:")
    path = write(tmp_path / "a.txt", "text")
    with pytest.raises(LRopeError, match="'replace'"):
        load_corpus(f"file:{path}", encoding_errors="replaced")
    with pytest.raises(LRopeError, match="'replace'"):
        Reading("replaced")
    with pytest.raises(LRopeError, match="is a folder"):
        text_documents(tmp_path)


def test_the_language_is_guessed_from_script_and_suffix() -> None:
    assert language_of("中文和 English 的句子都在这里") == "zh"
    assert language_of("English with 中文") == "und"
    assert language_of("x = '中文'", ".PY") == "code"


def test_the_units_of_a_text_are_its_paragraphs(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt", "\n\none\ntwo\n\n \nthree\r\n\r\nfour\n")
    documents = text_documents(path)
    assert [one.text for one in documents] == ["one\ntwo", "three", "four\n"]
    assert [one.name for one in documents] == ["t.txt#1", "t.txt#2", "t.txt#3"]


def test_a_text_is_split_only_from_sixty_different_units(tmp_path: Path) -> None:
    few = text_documents(write(tmp_path / "few.txt", "\n\n".join(["same", *_paragraphs(58, 9)] * 2)))
    assert text_splits(few) == {"test": few[:59]}, "each different unit once, in reading order"
    many = text_documents(write(tmp_path / "many.txt", "\n\n".join(_paragraphs(200, 9))))
    splits = text_splits(many)
    assert list(splits) == ["fit", "dev", "test"]
    assert sum(map(len, splits.values())) == 200
    assert set().union(*splits.values()) == set(many)
    assert {k: set(v) for k, v in text_splits(many[::-1]).items()} == {k: set(v) for k, v in splits.items()}


def own_text(folder: Path, word: str = "heron") -> Path:
    folder.mkdir(exist_ok=True)
    lines = [f"The {word} number {number} stood in the pond of the mill. " * 5 for number in range(700)]
    (folder / "novel.txt").write_text("\n\n".join(lines), encoding="utf-8")
    return folder / "novel.txt"


def test_a_relative_path_means_the_same_text_wherever_one_stands(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_text(tmp_path / "here")
    own_text(tmp_path / "there", "egret")
    monkeypatch.chdir(tmp_path / "here")
    manifest = load_corpus("file:novel.txt").manifest()
    assert manifest["name"] == f"file:{path}"
    for folder in ("there", "here"):
        monkeypatch.chdir(tmp_path / folder)
        corpus = load_corpus_for(manifest)
        assert corpus.manifest()["splits"] == manifest["splits"]
        assert "heron" in corpus.documents("test")[0].text
    assert "egret" in load_corpus_for(manifest, "file:../there/novel.txt").documents("test")[0].text
    assert load_corpus_for(manifest, "file:novel.txt").manifest() == manifest
    assert load_corpus_for({**manifest, "name": "file:novel.txt"}).manifest()["splits"] == manifest["splits"]


def test_a_text_that_has_changed_is_refused_by_name_and_kept_in_the_cache(
    own_cache: Path, tmp_path: Path
) -> None:
    path = own_text(tmp_path)
    manifest = load_corpus(f"file:{path}").manifest()
    own_text(tmp_path, "egret")
    assert load_corpus_for(manifest).manifest()["splits"] == manifest["splits"]
    with pytest.raises(LRopeError, match="has changed since"):
        load_corpus_for(manifest, f"file:{path}")
    path.unlink()
    assert len(training_documents(manifest)) == manifest["splits"]["train"]["n_documents"]


def test_a_run_folder_decides_neither_what_is_opened_nor_what_is_downloaded(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = load_corpus(f"file:{own_text(tmp_path)}").manifest()
    os.mkfifo(tmp_path / "pipe")
    touched: list[object] = []
    for module in (hub, files):
        monkeypatch.setattr(module, "load", lambda *words: touched.append(words))
    strange = {**manifest, "splits": {**manifest["splits"], "fit": {"sha256": []}}}
    for name in ("file:/etc/passwd", f"file:{tmp_path / 'pipe'}", "hf:someone/something", manifest["name"]):
        for load in (load_corpus_for, training_documents):
            with pytest.raises(LRopeError, match=f"--data {name}"):
                load({**strange, "name": name})
    assert touched == []


@pytest.mark.parametrize("is_despaced", [False, True])
def test_a_text_that_lost_its_white_space_is_found_as_such(
    own_cache: Path, tmp_path: Path, is_despaced: bool
) -> None:
    path = own_text(tmp_path)
    manifests = [load_corpus(f"file:{path}", despaced=one).manifest() for one in (False, True)]
    documents = load_corpus_for(manifests[is_despaced]).documents()
    assert {document.is_despaced for document in documents} == {is_despaced}
    assert any(" " in document.text for document in documents) != is_despaced


def test_when_the_cache_is_gone_the_text_has_to_be_named(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_text(tmp_path)
    manifest = load_corpus(f"file:{path}").manifest()
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "another"))
    damaged = tmp_path / "another" / "texts" / "x" / "entry.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text('{"files": {}, "identity": 5}')
    with pytest.raises(LRopeError, match=r"which was not read here before.*to `lrope-interp eval`"):
        load_corpus_for(manifest)
    assert load_corpus_for(manifest, f"file:{path}").manifest() == manifest
    assert load_corpus_for(manifest).manifest()["splits"] == manifest["splits"]


def test_names_that_are_not_utf8_are_refused_before_any_work_and_inside_a_folder_read(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    own_text(Path(odd))
    with pytest.raises(LRopeError, match=r"caf\\xe9/novel\.txt: the name is not UTF-8"):
        load_corpus(f"file:{odd}/novel.txt")
    monkeypatch.chdir(odd)
    with pytest.raises(LRopeError, match="the name is not UTF-8"):
        load_corpus("file:novel.txt")
    for number, text in enumerate(Path("novel.txt").read_text().split("\n\n")[:30]):
        Path(odd, f"{number}.txt").write_text(text)
    documents = load_corpus(f"file:{tmp_path}").documents()
    assert "caf\\xe9/0.txt" in [document.name for document in documents]
    with pytest.raises(LRopeError, match="not UTF-8"):
        load_corpus("file:a\0b")


def test_a_large_text_is_read_in_runs_and_never_as_a_whole(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_text(tmp_path)
    whole = text_documents(path)
    monkeypatch.setattr(files, "LARGEST_WHOLE_FILE", 10_000)
    monkeypatch.setattr("lrope_interp.data.texts.read_text", None)
    documents = text_documents(path)
    assert isinstance(documents, IndexedDocuments)
    assert sum(one.n_bytes for one in documents) > 0.98 * sum(one.n_bytes for one in whole)
    splits = text_splits(documents)
    assert set(splits) == {"fit", "dev", "test"}
    assert all(isinstance(of_split, IndexedDocuments) for of_split in splits.values())


def test_reading_stops_where_nothing_more_is_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"heron " * 1_000_000 + b"\xff not UTF-8")
    assert read_text(path, most=100) == ("heron " * 20)[:100]
    with pytest.raises(LRopeError, match="not UTF-8"):
        read_text(path)


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
    with pytest.raises(LRopeError, match=rf"{name}.* no column 'text'; there are: id, body\..*text_column"):
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
def test_a_bad_line_is_named_and_nothing_is_kept(
    tmp_path: Path, own_cache: Path, raw: bytes, message: str
) -> None:
    with pytest.raises(LRopeError, match=message) as caught:
        load_corpus(f"file:{write(tmp_path / 'bad.jsonl', raw)}")
    assert "bad.jsonl" in str(caught.value)
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


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """A folder with the splits train and validation."""
    folder = tmp_path / "stories"
    folder.mkdir()
    write_rows(folder / "train.parquet", [{**row, "other": "o"} for row in some_rows(40)])
    write_rows(
        folder / "validation.parquet", [{"id": k, "text": f"held {k}", "other": f"o{k}"} for k in range(9)]
    )
    return folder


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("a/b", HubRequest("a/b")),
        ("a/b:en", HubRequest("a/b", "en")),
        ("a/b:en:test", HubRequest("a/b", "en", "test")),
        ("a/b:en:test:body", HubRequest("a/b", "en", "test", "body")),
        ("a/b::test", HubRequest("a/b", None, "test")),
        ("a/b:::body", HubRequest("a/b", None, "train", "body")),
    ],
)
def test_a_name_is_read_field_by_field(words: str, wanted: HubRequest) -> None:
    assert HubRequest.of(words) == wanted


def test_a_folder_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    assert HubRequest.of(f"{tmp_path}/a:b::test") == HubRequest(f"{tmp_path}/a:b", None, "test")


def test_the_rows_of_a_split_are_documents(data_set: Path) -> None:
    corpus = load_corpus(f"hf:{data_set}")
    assert [one.text for one in corpus.documents()] == [row["text"] for row in some_rows(40)]
    assert all(corpus.documents(split) for split in SPLITS)
    other = load_corpus(f"hf:{data_set}::validation:other")
    assert [one.text for one in other.documents()] == [f"o{k}" for k in range(9)]


def test_the_documents_of_a_run_are_found_again(data_set: Path) -> None:
    corpus = load_corpus(f"hf:{data_set}::validation:other", max_train_bytes=1_000)
    manifest = corpus.manifest()
    again = load_corpus_for(manifest).held_out_from(manifest)
    assert again.reading == Reading(max_train_bytes=1_000)
    assert evaluation_documents(again, "test") == evaluation_documents(corpus, "test")
    assert list(training_documents(manifest)) == list(corpus.documents("train"))


def test_what_is_taken_from_the_cache_has_its_spaces_or_not_as_asked(
    data_set: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: HubRequest) -> object:
        raise LRopeError("the hub cannot be reached.")

    name = f"hf:{data_set}"
    texts = [one.text for one in load_corpus(name).documents()]
    with monkeypatch.context() as offline:
        offline.setattr(hub, "_builder", fail)
        for other, is_despaced in ((name, True), (f"{name}::validation", False)):
            with pytest.raises(LRopeError, match="cannot be reached"):
                load_corpus(other, despaced=is_despaced)
    load_corpus(name, despaced=True)
    monkeypatch.setattr(hub, "_builder", fail)
    for is_despaced in (False, True):
        with pytest.warns(UserWarning, match=r"cannot be reached\. What was read of it before is used"):
            found = load_corpus(name, despaced=is_despaced).documents()
        assert [one.text for one in found] == [without_space(one) if is_despaced else one for one in texts]
        assert all(one.is_despaced == is_despaced for one in found)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:", "needs the name of a data set"),
        ("hf::en", "needs the name of a data set"),
        ("hf:a:b:c:d:e", "5 fields; at most four"),
        ("hf:nobody/nothing", "HF_HUB_OFFLINE"),
        ("hf:./no-such-folder", "there is no folder"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_refused(name: str, message: str) -> None:
    with pytest.raises(LRopeError, match=message):
        load_corpus(name)


def test_a_machine_without_network_is_told_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise OSError("Name or service not known")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    with pytest.raises(LRopeError, match="cannot be reached from here; download the data set"):
        load_corpus("hf:nobody/nothing")


def test_a_wrong_config_split_or_column_is_named(data_set: Path) -> None:
    with pytest.raises(LRopeError, match="config"):
        load_corpus(f"hf:{data_set}:klingon")
    with pytest.raises(LRopeError, match=r"split \(test\)"):
        load_corpus(f"hf:{data_set}::test")
    with pytest.raises(LRopeError, match=r"no column 'body'; there are: .*text"):
        load_corpus(f"hf:{data_set}:::body")
    with pytest.raises(LRopeError, match="row 1: the column 'id' holds a number"):
        load_corpus(f"hf:{data_set}:::id")
    (data_set / "empty").mkdir()
    path = data_set / "train.parquet"
    write(path, path.read_bytes()[:300])
    for folder in (data_set / "empty", data_set):
        with pytest.raises(LRopeError, match="cannot be read"):
            load_corpus(f"hf:{folder}")
