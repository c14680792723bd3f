"""The user's own text: files and folders, good and bad."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lrope_interp.data import (
    SPLITS,
    assert_held_out,
    load_corpus,
    load_corpus_for,
    text_documents,
    text_splits,
    training_documents,
)
from lrope_interp.data.documents import IndexedDocuments
from lrope_interp.data.sources import files, hub
from lrope_interp.data.sources.plain_text import language_of, read_text, runs_of_paragraphs
from lrope_interp.errors import LRopeError


def _paragraphs(n: int, size: int = 700) -> list[str]:
    return [f"Paragraph {k}. " + "x" * size for k in range(n)]


def _write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def _runs(text: str) -> list[str]:
    raw = text.encode("utf-8")
    return [raw[start:stop].decode("utf-8") for start, stop in runs_of_paragraphs(raw)]


def test_a_text_file_becomes_runs_of_paragraphs_of_two_thousand_bytes(tmp_path: Path) -> None:
    text = "\n\n".join(_paragraphs(30))
    corpus = load_corpus(f"file:{_write(tmp_path / 'a.txt', text)}")
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


def test_a_corpus_of_one_line_has_every_split(tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(60_000))
    corpus = load_corpus(f"file:{_write(tmp_path / 'text8', words)}")
    assert len(corpus.documents()) > 60
    assert all(corpus.documents(split) for split in ("train", "fit", "dev", "test"))


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
        _write(tmp_path / name, f"text of {name}")
    _write(tmp_path / "copy.txt", "text of a.txt")
    _write(tmp_path / "empty.txt", " \n")
    corpus = load_corpus(f"file:{tmp_path}")
    assert [one.name for one in corpus.documents()] == ["a.txt", "b.MD", "deep/c.py", "deep/d.rst"]
    assert [one.language for one in corpus.documents()] == ["und", "und", "code", "und"]
    assert corpus.parts[0].source["n_duplicates_removed"] == 1
    assert all(len(corpus.documents(split)) == 1 for split in SPLITS)


def test_a_byte_order_mark_is_dropped_and_line_ends_are_kept(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.txt", b"\xef\xbb\xbfa\r\nb\rc\x85\n")
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
        (b"abc\xff\xfe", "not UTF-8 at byte 3 .*--encoding-errors replace"),
        (b"too short", "1 different document.*at least 4.*8,000"),
        (b"\n\n".join([b"x" * 3_000] * 9), "1 different document"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = _write(tmp_path / "bad.txt", content)
    with pytest.raises(LRopeError, match=message) as caught:
        load_corpus(f"file:{path}")
    assert "bad.txt" in str(caught.value)


def test_a_broken_file_in_a_folder_is_named(tmp_path: Path) -> None:
    for k in range(5):
        _write(tmp_path / f"{k}.txt", f"text {k}")
    _write(tmp_path / "broken.md", b"ab\xc3")
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
    path = _write(tmp_path / "a.txt", "text")
    with pytest.raises(LRopeError, match="'replace'"):
        load_corpus(f"file:{path}", encoding_errors="replaced")
    with pytest.raises(LRopeError, match="is a folder"):
        text_documents(tmp_path)


def test_the_language_is_guessed_from_script_and_suffix() -> None:
    assert language_of("中文和 English 的句子都在这里") == "zh"
    assert language_of("English with 中文") == "und"
    assert language_of("x = '中文'", ".PY") == "code"


def test_the_units_of_a_text_are_its_paragraphs(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.txt", "\n\none\ntwo\n\n \nthree\r\n\r\nfour\n")
    documents = text_documents(path)
    assert [one.text for one in documents] == ["one\ntwo", "three", "four\n"]
    assert [one.name for one in documents] == ["t.txt#1", "t.txt#2", "t.txt#3"]


def test_a_text_is_split_only_from_sixty_different_units(tmp_path: Path) -> None:
    few = text_documents(_write(tmp_path / "few.txt", "\n\n".join(["same", *_paragraphs(58, 9)] * 2)))
    assert text_splits(few) == {"test": few[:59]}, "each different unit once, in reading order"
    many = text_documents(_write(tmp_path / "many.txt", "\n\n".join(_paragraphs(200, 9))))
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
    path = _write(tmp_path / "a.txt", b"heron " * 1_000_000 + b"\xff not UTF-8")
    assert read_text(path, most=100) == ("heron " * 20)[:100]
    with pytest.raises(LRopeError, match="not UTF-8"):
        read_text(path)
