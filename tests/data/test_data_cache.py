"""The cache: made once, found again, checked, and never half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_samples import some_rows, write, write_rows
from hypothesis import given
from hypothesis import strategies as st

import lrope_interp
from lrope_interp.data import (
    Document,
    cache_folder,
    document_hashes,
    load_corpus,
    training_stream,
    training_streams,
)
from lrope_interp.data import cache as cache_module
from lrope_interp.data.cache import cached, folder_digest, source_code
from lrope_interp.data.documents import Reading
from lrope_interp.data.sources.files import text_runs
from lrope_interp.data.windows import cached_stream, token_dtype
from lrope_interp.errors import LRopeError
from lrope_interp.tokenizers import ByteTokenizer


def _entries(folder: Path, kind: str = "texts") -> list[Path]:
    return sorted(one for one in (folder / kind).glob("*") if not one.name.startswith("."))


def _build(folder: Path) -> dict[str, object]:
    (folder / "data.bin").write_bytes(b"0123456789")
    return {"said": 1}


def _must_not_build(folder: Path) -> dict[str, object]:
    raise AssertionError(f"{folder} is built again")


def test_the_folder_is_the_users_own_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LROPE_INTERP_CACHE")
    assert cache_folder() == tmp_path / "lrope-interp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "lrope-interp"
    monkeypatch.setenv("LROPE_INTERP_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"


def test_an_entry_is_built_once_and_says_what_it_holds(own_cache: Path) -> None:
    folder, entry = cached("kind", {"a": [1, "中"]}, _build)
    assert cached("kind", {"a": [1, "中"]}, _must_not_build) == (folder, entry)
    assert folder.parent == own_cache / "kind"
    assert entry["said"] == 1
    assert entry["files"] == {
        "data.bin": {"n_bytes": 10, "sha256": hashlib.sha256(b"0123456789").hexdigest()}
    }
    assert cached("kind", {"a": [2, "中"]}, _build)[0] != folder


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "data.bin").write_bytes(b"012345678"),
        lambda folder: (folder / "data.bin").write_bytes(b"012345678X"),
        lambda folder: (folder / "data.bin").unlink(),
        lambda folder: (folder / "entry.json").write_text('{"files": {'),
        lambda folder: (folder / "entry.json").unlink(),
        lambda folder: (folder / "entry.json").write_text('{"files": {}, "identity": {"b": 2}}'),
    ],
    ids=["torn", "altered", "missing", "torn entry", "no entry", "another entry"],
)
def test_a_damaged_entry_is_made_again_with_a_warning(own_cache: Path, damage: object) -> None:
    folder, entry = cached("kind", {"a": 1}, _build)
    assert callable(damage)
    damage(folder)
    with pytest.warns(UserWarning, match=r"is damaged .*made again"):
        again, new = cached("kind", {"a": 1}, _build)
    assert (again, new["files"]) == (folder, entry["files"])
    assert cached("kind", {"a": 1}, _must_not_build) == (again, new)
    assert [one.name for one in own_cache.glob("kind/.*")] == [f".{folder.name}.lock"]


def test_a_build_that_fails_leaves_nothing(own_cache: Path) -> None:
    def fail(folder: Path) -> dict[str, object]:
        (folder / "half").write_bytes(b"0")
        raise LRopeError("no such row")

    with pytest.raises(LRopeError, match="no such row"):
        cached("kind", {"a": 1}, fail)
    assert [one for one in own_cache.glob("kind/*") if one.is_dir()] == []


def test_what_a_killed_process_left_is_removed(own_cache: Path) -> None:
    folder, _ = cached("kind", {"a": 1}, _build)
    left = folder.with_name(f".{folder.name}-0123abcd")
    left.mkdir()
    (left / "half").write_bytes(b"0")
    (folder / "data.bin").unlink()
    with pytest.warns(UserWarning, match="damaged"):
        cached("kind", {"a": 1}, _build)
    assert not left.exists()


def test_a_disk_that_refuses_says_what_to_do(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> dict[str, object]:
        raise OSError(28, "No space left on device")

    with pytest.raises(LRopeError, match=r"No space left on device.*Make room"):
        cached("kind", {"a": 1}, full)
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(write(own_cache / "file", "in the way")))
    with pytest.raises(LRopeError, match=r"cannot be written.*set LROPE_INTERP_CACHE"):
        cached("kind", {"a": 1}, _build)


def test_the_second_start_reads_no_source(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_rows(tmp_path / "a.jsonl", some_rows())
    first = training_streams(load_corpus(f"file:{path}"), ByteTokenizer())
    before = _entries(own_cache), _entries(own_cache, "tokens")
    monkeypatch.setattr(cache_module, "_built", _must_not_build)
    second = training_streams(load_corpus(f"file:{path}"), ByteTokenizer())
    assert np.array_equal(first[0][1], second[0][1])
    assert (_entries(own_cache), _entries(own_cache, "tokens")) == before


def test_every_part_of_the_key_of_a_text_counts(own_cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "outer" / "rows"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        rows = [{"text": f"{split} {k}", "other": f"other {split} {k}"} for k in range(20)]
        write_rows(folder / f"{split}.jsonl", rows)

    def n_entries(*names: str, **reading: Any) -> int:
        for name in names:
            load_corpus(name, **reading)
        return len(_entries(own_cache))

    both = (f"file:{folder}", f"hf:{folder}")
    assert n_entries(*both) == 2
    assert n_entries(*both, encoding_errors="replace") == 4
    assert n_entries(*both, text_column="other") == 6
    assert n_entries(*both, max_train_bytes=99) == 8
    assert n_entries(*both, despaced=True) == 10
    assert n_entries(f"hf:{folder}::validation") == 11
    (folder / "train.jsonl").rename(folder / "train-b.jsonl")
    assert n_entries(*both) == 13
    shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copy2)
    assert n_entries(f"file:{tmp_path / 'moved'}", f"hf:{tmp_path / 'moved'}") == 15
    assert n_entries(*both, f"file:{folder.parent}") == 16  # the same files by other names
    assert n_entries(*both, f"file:{folder.parent}") == 16


def test_runs_of_a_text_are_kept_by_how_it_is_read(own_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one \xff line.\n\ntwo.\n")
    assert "\ufffd" in text_runs(path, Reading("replace"))[0].text
    assert " " not in text_runs(path, Reading("replace", despaced=True))[0].text
    with pytest.raises(LRopeError, match="UTF-8"):
        text_runs(path, Reading("strict"))


@pytest.mark.parametrize("source", ["file", "hf"])
def test_a_file_whose_time_was_set_back_is_read_again(own_cache: Path, tmp_path: Path, source: str) -> None:
    path = write_rows(tmp_path / "train.jsonl", [{"text": f"old {k}"} for k in range(20)])
    stat = path.stat()
    assert load_corpus(f"{source}:{tmp_path}").documents()[0].text == "old 0"
    write_rows(path, [{"text": f"new {k}"} for k in range(20)])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert load_corpus(f"{source}:{tmp_path}").documents()[0].text == "new 0"


def test_every_part_of_the_key_of_a_stream_counts(own_cache: Path) -> None:
    class Other(ByteTokenizer):
        fingerprint = "other"

    class Wide(_Wide):
        fingerprint = ByteTokenizer.fingerprint

    texts = tuple(Document(str(k), f"text {k}", "toy", "en") for k in range(5))
    for documents, tokenizer in ((texts, ByteTokenizer()), (texts[:4], ByteTokenizer()), (texts, Other())):
        cached_stream(documents, tokenizer)
    assert cached_stream(texts, Wide()).dtype == np.uint32
    assert len(_entries(own_cache, "tokens")) == 4


@pytest.mark.parametrize("room", ["data", "tokenizers"])
def test_what_other_code_made_is_made_again_and_makes_room(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    def other(folder: Path) -> dict[str, object]:
        (folder / "data.bin").write_bytes(b"other")
        return {}

    kept, _ = cached("kind", {"a": 2}, _build)
    first, _ = cached("kind", {"a": 1}, _build)
    with monkeypatch.context() as edited:
        edited.setitem(cache_module._DIGESTS, room, "of other code")
        folder, _ = cached("kind", {"a": 1}, other)
        assert (folder / "data.bin").read_bytes() == b"other"
        assert cached("kind", {"a": 1}, _must_not_build)[0] == folder
    assert not first.exists() and kept.exists()
    assert cached("kind", {"a": 2}, _must_not_build)[0] == kept


def test_an_entry_of_another_format_is_made_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = cached("kind", {"a": 1}, _build)
    monkeypatch.setattr(cache_module, "CACHE_FORMAT", cache_module.CACHE_FORMAT + 1)
    assert cached("kind", {"a": 1}, _build)[0] != folder


def test_what_another_room_computes_does_not_count(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = cached("kind", {"a": 1}, _build)
    monkeypatch.setitem(cache_module._DIGESTS, "probes", "of other code")
    assert cached("kind", {"a": 1}, _must_not_build)[0] == folder
    assert cached("kind", {"a": 1}, _build, ("data", "probes"))[0] != folder


def test_the_digest_of_a_folder_is_that_of_its_files_in_a_zip_too(tmp_path: Path) -> None:
    folder = tmp_path / "package" / "room"
    (folder / "inner").mkdir(parents=True)
    for name, text in (("a.py", "1"), ("inner/b.py", "2"), ("words.txt", "3")):
        (folder / name).write_text(text)
    digests = [folder_digest(folder)]
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as packed:
        for path in folder.rglob("*.*"):
            packed.write(path, path.relative_to(tmp_path))
    assert folder_digest(zipfile.Path(tmp_path / "package.zip", "package/room/")) == digests[0]
    for name in ("a.py", "inner/b.py", "words.txt"):
        (folder / name).write_text("4")
        digests.append(folder_digest(folder))
    (folder / "a.py").rename(folder / "c.py")
    digests.append(folder_digest(folder))
    assert len(set(digests)) == 5
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "c.cpython-311.pyc").write_text("5")
    (folder / ".DS_Store").write_text("6")
    assert folder_digest(folder) == digests[-1]


def test_the_source_of_every_room_that_computes_is_known() -> None:
    names = ("data", "models", "probes", "tokenizers", "training")
    package = Path(lrope_interp.__file__).parent
    assert source_code(*names) == {name: folder_digest(package / name) for name in names}


def test_the_cached_stream_is_that_of_documents_in_memory(own_cache: Path, tmp_path: Path) -> None:
    corpus = load_corpus(f"file:{write_rows(tmp_path / 'a.jsonl', some_rows(300))}")
    [(name, stream)] = training_streams(corpus, ByteTokenizer())
    wanted = training_stream(tuple(corpus.documents("train")), ByteTokenizer())
    assert name == "file"
    assert stream.dtype == wanted.dtype == np.uint16
    assert np.array_equal(stream, wanted)
    assert not stream.flags.writeable
    entry = json.loads((_entries(own_cache, "tokens")[0] / "entry.json").read_text())
    assert entry["files"]["tokens.bin"]["sha256"] == hashlib.sha256(wanted.tobytes()).hexdigest()


class _Wide(ByteTokenizer):
    """A vocabulary beyond 16 bits."""

    vocab_size = 65_537
    eos_id = 65_536
    fingerprint = "wide"

    def token_bytes(self, ids: np.ndarray) -> np.ndarray:
        return (ids != self.eos_id).astype(np.int64)


def test_a_vocabulary_above_sixteen_bits_takes_thirty_two(own_cache: Path) -> None:
    assert token_dtype(65_536) == np.uint16
    documents = tuple(Document(str(k), f"text {k}", "toy", "en") for k in range(5))
    stream = cached_stream(documents, _Wide())
    assert stream.dtype == np.uint32
    assert stream[0] == stream[-1] == 65_536
    assert document_hashes(stream, _Wide()) == sorted(one.sha256 for one in documents)


@given(st.lists(st.text(alphabet="ab中\n", min_size=1, max_size=9), unique=True), st.integers(1, 30))
def test_the_hashes_of_a_stream_are_those_of_its_documents(texts: list[str], chunk: int) -> None:
    documents = [Document(str(k), text, "toy", "en") for k, text in enumerate(texts)]
    stream = training_stream(documents, ByteTokenizer())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrope_interp.data.windows._CHUNK_TOKENS", chunk)
        assert document_hashes(stream, ByteTokenizer()) == sorted(one.sha256 for one in documents)


def test_documents_on_disk_behave_like_those_in_memory(tmp_path: Path) -> None:
    documents = load_corpus(f"file:{write_rows(tmp_path / 'a.parquet', some_rows())}").documents()
    in_memory = tuple(documents)
    assert documents[3] == in_memory[3]
    assert documents[-1] == in_memory[-1]
    assert tuple(documents[2:9:3]) == in_memory[2:9:3]
    assert all(one.sha256 == hashlib.sha256(one.encoded).hexdigest() for one in documents)
    assert all(one.n_bytes == len(one.encoded) for one in documents)
    with pytest.raises(IndexError):
        documents[30]


def test_processes_that_start_at_once_share_one_entry(own_cache: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", some_rows(3_000))
    code = (
        "import sys, hashlib\n"
        "from lrope_interp.data import load_corpus, training_streams\n"
        "from lrope_interp.tokenizers import ByteTokenizer\n"
        "print(hashlib.sha256(training_streams(load_corpus(sys.argv[1]), ByteTokenizer())[0][1]).hexdigest())"
    )
    started = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code, f"file:{path}"], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = {process.communicate(timeout=60)[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(answers) == 1
    assert len(_entries(own_cache)) == len(_entries(own_cache, "tokens")) == 1
