"""Data sets in the hub's format, from a folder; the hub itself is switched off."""

from __future__ import annotations

from pathlib import Path

import pytest
from row_samples import some_rows, write_rows

from lrope_interp.data import SPLITS, Reading, evaluation_documents, load_corpus
from lrope_interp.data.corpora import load_corpus_for, training_documents
from lrope_interp.data.labels.words import without_space
from lrope_interp.data.sources import hub
from lrope_interp.data.sources.hub import HubRequest
from lrope_interp.errors import LRopeError


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
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert HubRequest.of(f"{folder}::test") == HubRequest(str(folder), None, "test")


def test_the_rows_of_a_split_are_documents(data_set: Path) -> None:
    corpus = load_corpus(f"hf:{data_set}")
    assert [one.text for one in corpus.documents()] == [row["text"] for row in some_rows(40)]
    assert all(corpus.documents(split) for split in SPLITS)
    other = load_corpus(f"hf:{data_set}::validation:other")
    assert [one.text for one in other.documents()] == [f"o{k}" for k in range(9)]


def test_json_lines_make_a_data_set_too(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", some_rows(12))
    assert len(load_corpus(f"hf:{tmp_path}", max_train_bytes=100).documents()) == 4


def test_a_changed_data_set_is_read_again(data_set: Path) -> None:
    load_corpus(f"hf:{data_set}")
    write_rows(data_set / "train.parquet", [{**row, "other": "o"} for row in some_rows(41)])
    assert len(load_corpus(f"hf:{data_set}").documents()) == 41


def test_the_documents_of_a_run_are_found_again(data_set: Path) -> None:
    corpus = load_corpus(f"hf:{data_set}::validation:other", max_train_bytes=1_000)
    manifest = corpus.manifest()
    again = load_corpus_for(manifest).held_out_from(manifest)
    assert again.reading == Reading(max_train_bytes=1_000)
    assert evaluation_documents(again, "test") == evaluation_documents(corpus, "test")
    assert list(training_documents(manifest)) == list(corpus.documents("train"))


def test_a_data_set_out_of_reach_is_taken_from_the_cache(
    data_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [one.text for one in load_corpus(f"hf:{data_set}").documents()]

    def fail(request: HubRequest) -> object:
        raise LRopeError("the hub cannot be reached.")

    monkeypatch.setattr(hub, "_builder", fail)
    with pytest.warns(UserWarning, match=r"cannot be reached\. What was read of it before is used"):
        found = load_corpus(f"hf:{data_set}")
    assert [one.text for one in found.documents()] == wanted
    with pytest.raises(LRopeError, match="cannot be reached"):
        load_corpus(f"hf:{data_set}::validation")


def test_what_is_taken_from_the_cache_has_its_spaces_or_not_as_asked(
    data_set: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: HubRequest) -> object:
        raise LRopeError("the hub cannot be reached.")

    name = f"hf:{data_set}"
    texts = [one.text for one in load_corpus(name).documents()]
    with monkeypatch.context() as offline:
        offline.setattr(hub, "_builder", fail)
        with pytest.raises(LRopeError, match="cannot be reached"):
            load_corpus(name, despaced=True)
    load_corpus(name, despaced=True)
    monkeypatch.setattr(hub, "_builder", fail)
    for is_despaced in (False, True):
        with pytest.warns(UserWarning, match="read of it before"):
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


def test_an_empty_folder_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(LRopeError, match="cannot be read"):
        load_corpus(f"hf:{tmp_path}")


def test_a_torn_file_of_a_data_set_is_refused(data_set: Path) -> None:
    path = data_set / "train.parquet"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(LRopeError, match="cannot be read"):
        load_corpus(f"hf:{data_set}")
