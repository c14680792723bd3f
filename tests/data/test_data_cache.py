"""The cache: made once, found again, checked, and never half-written."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_samples import some_rows, write_rows

from lrope_interp.data import (
    Document,
    cache_folder,
    document_hashes,
    load_corpus,
    training_stream,
    training_streams,
)
from lrope_interp.data import cache as cache_module
from lrope_interp.data.cache import cached
from lrope_interp.data.tokens import cached_stream, token_dtype
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


def test_a_cache_that_cannot_be_written_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "file"))
    with pytest.raises(LRopeError, match=r"cannot be written.*set LROPE_INTERP_CACHE"):
        cached("kind", {"a": 1}, _build)


def test_a_full_disk_says_what_to_do(own_cache: Path) -> None:
    def full(folder: Path) -> dict[str, object]:
        raise OSError(28, "No space left on device")

    with pytest.raises(LRopeError, match=r"No space left on device.*Make room"):
        cached("kind", {"a": 1}, full)


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


def test_a_changed_file_or_another_option_is_another_entry(own_cache: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", some_rows(20))
    load_corpus(f"file:{path}")
    load_corpus(f"file:{path}", max_train_bytes=200)
    load_corpus(f"file:{path}", encoding_errors="replace")
    assert len(_entries(own_cache)) == 3
    write_rows(path, some_rows(21))
    assert len(load_corpus(f"file:{path}").documents()) == 21
    assert len(_entries(own_cache)) == 4


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
        patch.setattr("lrope_interp.data.tokens._CHUNK_TOKENS", chunk)
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
