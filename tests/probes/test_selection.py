"""Which documents are read: held out, in canonical order, and never what the model trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from probe_samples import chinese, english, select

from lrope_interp.data import (
    Corpus,
    Document,
    documents_sha256,
    evaluation_documents,
    label_gaps,
    load_corpus,
)
from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries.harness import Scorer
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.selection import (
    HELD_OUT,
    Selection,
    _script,
    select_corpus,
    select_gold,
    select_text,
)
from lrope_interp.probes.capture.signals import Signal, SignalColumn
from lrope_interp.probes.statistics.bootstrap import Bootstrap


@pytest.fixture
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "speeches.txt"
    path.write_text("\n\n".join(english(number, n_words=400).text for number in range(40)), encoding="utf-8")
    return path


@pytest.fixture
def manifest(corpus_file: Path) -> dict:
    return load_corpus(f"file:{corpus_file}").manifest()


def paragraphs(path: Path, n: int, first: int = 500) -> Path:
    texts = [english(first + number).text.replace("\n", " ") for number in range(n)]
    path.write_text("\n\n".join(texts), encoding="utf-8")
    return path


def test_a_corpus_gives_what_was_held_out(manifest: dict) -> None:
    selection = select_corpus(manifest)
    seen = set(manifest["splits"]["train"]["sha256"])
    for split in HELD_OUT:
        documents = getattr(selection, split)
        assert documents
        assert not seen & {document.source_sha256 for document in documents}
        assert [one.sha256 for one in documents] == sorted(one.sha256 for one in documents)
    assert selection.data["name"] == manifest["name"]
    assert selection.data["sha256"] == documents_sha256(selection.test)
    assert selection.data["split"] == "test"
    assert [len(mask) for mask in selection.shared["test"]] == [one.n_bytes for one in selection.test]


def test_what_was_trained_on_is_refused_even_where_it_is_taken_for_held_out(
    manifest: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_of_it(self: Corpus, manifest: dict) -> Corpus:
        return replace(self, parts=tuple(replace(part, held_out_share=1.0) for part in self.parts))

    monkeypatch.setattr(Corpus, "held_out_from", all_of_it)
    with pytest.raises(LRopeError, match="in the training text"):
        select_corpus(manifest)


@pytest.mark.parametrize("is_spread", [False, True])
def test_each_split_has_its_own_documents_and_its_own_limit(
    manifest: dict, corpus_file: Path, is_spread: bool
) -> None:
    corpus = load_corpus(f"file:{corpus_file}")
    found = select_corpus(manifest, max_bytes=2_000, spread=is_spread)
    apart = select_corpus(manifest, max_bytes={"fit": 3_000, "dev": 2_000, "test": 1_000}, spread=is_spread)
    for split, other in zip(HELD_OUT, (3_000, 2_000, 1_000), strict=True):
        for selection, limit in ((found, 2_000), (apart, other)):
            expected = evaluation_documents(corpus, split, limit, is_spread)
            own = getattr(selection, split)
            assert {one.sha256 for one in own} == {one.sha256 for one in expected}
            assert sum(one.n_bytes for one in own) <= limit
    with pytest.raises(LRopeError, match="Did you mean 'test'"):
        select_corpus(manifest, max_bytes={"tets": 2_000})


def test_bytes_that_training_text_has_too_are_marked_in_the_split_they_stand_in() -> None:
    dev, test = english(1), english(2)
    splits = {"fit": [english(3)], "dev": [dev], "test": [test]}
    for split, document in (("dev", dev), ("test", test)):
        shared = Selection.of("x", splits, training=[document]).shared
        assert {name: bool(masks[0].all()) for name, masks in shared.items()} == {
            name: name == split for name in ("dev", "test")
        }


@pytest.fixture
def despaced_manifest(corpus_file: Path) -> dict:
    return load_corpus(f"file:{corpus_file}", despaced=True).manifest()


def sentences(path: Path, n: int, *, gap: str = " ") -> Path:
    lines = [f"我们 {gap} 喜欢 {number} 北京 。" for number in range(n)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("is_gold", [False, True])
def test_a_text_of_sixty_units_is_split(manifest: dict, tmp_path: Path, is_gold: bool) -> None:
    path, n = tmp_path / "mine.txt", 60 if is_gold else 80
    select = select_gold if is_gold else select_text
    selection = select(manifest, sentences(path, 1_200) if is_gold else paragraphs(path, n))
    documents = [one for split in HELD_OUT for one in getattr(selection, split)]
    assert sorted(one.name for one in documents) == sorted(f"mine.txt#{k}" for k in range(1, n + 1))
    assert {one.corpus for one in documents} == {"gold" if is_gold else "text"}
    assert not is_gold or all(label_gaps(one, "words").grade == "gold" for one in documents)
    assert selection.data["name"] == f"{'gold' if is_gold else 'text'}:mine.txt"
    assert not any("fewer than 60" in said for said in selection.warnings)


@pytest.mark.parametrize("is_gold", [False, True])
def test_a_short_text_is_test_as_a_whole(manifest: dict, tmp_path: Path, is_gold: bool) -> None:
    select, write = (select_gold, sentences) if is_gold else (select_text, paragraphs)
    lines, n = (41, 3) if is_gold else (5, 5)
    selection = select(manifest, write(tmp_path / "mine.txt", lines))
    assert [one.corpus for one in selection.test] == ["gold" if is_gold else "text"] * n
    assert {one.corpus for one in (*selection.fit, *selection.dev)} == {"file"}
    assert all(label_gaps(one, "words").grade == "rule" for one in selection.dev)
    [said] = [said for said in selection.warnings if f"mine.txt has {n} units, fewer than 60" in said]
    assert manifest["name"] in said
    assert not any("single test unit" in said for said in selection.warnings)
    single = select(manifest, write(tmp_path / "one.txt", 20 if is_gold else 1))
    assert any("single test unit gives no interval" in said for said in single.warnings)
    limited = select(manifest, tmp_path / "mine.txt", max_bytes=500)
    assert sum(one.n_bytes for one in limited.test) <= 500


def test_gold_and_text_of_a_despaced_run_are_despaced(despaced_manifest: dict, tmp_path: Path) -> None:
    gold = select_gold(despaced_manifest, sentences(tmp_path / "gold.txt", 41, gap="|"))
    text = select_text(despaced_manifest, paragraphs(tmp_path / "mine.txt", 5))
    corpus = select_corpus(despaced_manifest)
    for selection in (gold, text, corpus):
        for split in HELD_OUT:
            assert all(one.is_despaced for one in getattr(selection, split))
            assert all(set(one.text).isdisjoint(" \n") for one in getattr(selection, split))
    assert all(label_gaps(one, "despaced").grade == "gold" for one in gold.test)
    assert all(label_gaps(one, "despaced").grade == "rule" for one in gold.dev)
    assert any("read the label despaced" in said for said in gold.warnings)
    split = select_gold(despaced_manifest, sentences(tmp_path / "long.txt", 1_200, gap="|"))
    assert not any("read the label despaced" in said for said in split.warnings)


def test_a_despaced_run_is_not_tested_on_what_it_trained_on(despaced_manifest: dict) -> None:
    selection = select_corpus(despaced_manifest)
    seen = set(despaced_manifest["splits"]["train"]["sha256"])
    whole = {one.sha256: one for one in load_corpus(despaced_manifest["name"], despaced=True).documents()}
    for split in HELD_OUT:
        for one in getattr(selection, split):
            assert one.source_sha256 not in seen
            assert one.text in whole[one.source_sha256].text


@pytest.fixture
def bilingual_manifest(tmp_path: Path) -> dict:
    texts = [one(number).text for number in range(250) for one in (english, chinese)]
    path = tmp_path / "both.jsonl"
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts), encoding="utf-8")
    return load_corpus(f"file:{path}").manifest()


def _planted(selection: Selection, split: str) -> tuple[Gaps, np.ndarray]:
    """Return gaps, and a signal that rises where English words begin and falls where Chinese ones do."""
    documents = getattr(selection, split)
    gaps = Gaps.of(documents, ["words"])
    is_chinese = np.repeat([one.language == "zh" for one in documents], [one.n_bytes for one in documents])
    noise = np.random.default_rng(len(split)).normal(scale=0.1, size=len(gaps.t))
    return gaps, noise + np.where(is_chinese, -1.0, 1.0) * gaps.labels["words"].is_boundary


@pytest.mark.parametrize(("is_chinese", "sign"), [(False, 1), (True, -1)])
@pytest.mark.parametrize("is_gold", [False, True])
def test_only_documents_in_the_script_of_a_short_text_choose_for_it(
    is_chinese: bool, sign: int, is_gold: bool, bilingual_manifest: dict, tmp_path: Path
) -> None:
    path = tmp_path / "mine.txt"
    if is_gold:
        lines = (
            f"“ 我们 喜欢 {number} 北京 。" if is_chinese else f"we like {number} towns"
            for number in range(99)
        )
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        one = chinese if is_chinese else english
        path.write_text("\n\n".join(one(900 + number).text for number in range(5)), encoding="utf-8")
    selection = (select_gold if is_gold else select_text)(bilingual_manifest, path)
    assert {one.language for one in selection.dev} == {"zh" if is_chinese else "und"}
    assert {one.language for one in select_corpus(bilingual_manifest).dev} == {"zh", "und"}
    script = "cjk" if is_chinese else "latin"
    assert any(f"in {script} script" in said for said in selection.warnings)
    (dev, on_dev), (test, on_test) = _planted(selection, "dev"), _planted(selection, "test")
    column = SignalColumn(
        Signal("x", lambda captured: captured.entropy), None, None, {"dev": on_dev, "test": on_test}
    )
    scored = Scorer(dev, test, Bootstrap(n_resamples=20)).score(column)
    assert {row["sign"] for row in scored.rows["choices"]} == {sign}
    [auc] = [
        r["value"] for r in scored.rows["scores"] if (r["stratum"], r["metric"]) == ("characters", "roc_auc")
    ]
    assert auc > 0.99


def test_a_script_that_dev_lacks_takes_all_of_dev_and_says_so(manifest: dict, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Привет, мир\n\nКак дела", encoding="utf-8")
    selection = select_text(manifest, path)
    assert any("none of which is in cyrillic script" in said for said in selection.warnings)
    path.write_text("42\n\n1984", encoding="utf-8")
    assert any("none of which is in no script" in said for said in select_text(manifest, path).warnings)


@pytest.mark.parametrize(
    ("text", "language", "script"),
    [
        ("Ａ中国人", "zh", "CJK"),
        ("私は学生です", "und", "KANA"),
        ("カメラ本", "und", "KANA"),
        ("Der Weg α", "und", "LATIN"),
        ("नमस्ते OK", "und", "DEVANAGARI"),
        ("x = 'Привет, мир'", "code", "code"),
        ("42", "en", ""),
        ("使用 PyTorch 训练模型", "und", "CJK"),
        ("ｶﾀｶﾅ", "und", "KANA"),
        ("Ｔｈｅ ｃａｔ", "und", "LATIN"),
    ],
)
def test_the_script_is_that_of_most_letters(text: str, language: str, script: str) -> None:
    assert _script(Document("d", text, "test", language)) == script


def test_text_that_was_trained_on_is_refused_or_left_out(manifest: dict, tmp_path: Path) -> None:
    seen = load_corpus(manifest["name"]).documents("train")[0].text
    own = tmp_path / "seen.txt"
    own.write_text(seen, encoding="utf-8")
    with pytest.raises(LRopeError, match="in the training text"):
        select_text(manifest, own)
    own.write_text(seen[: len(seen) // 2], encoding="utf-8")
    selection = select_text(manifest, own)
    assert all(mask.all() for mask in selection.shared["test"])
    assert any("also occur in training text" in said for said in selection.warnings)


def test_training_text_that_is_gone_is_said(
    manifest: dict, corpus_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(english(n, n_words=400).text for n in range(900, 930)), encoding="utf-8")
    corpus_file.unlink()
    assert not select_corpus(manifest, f"file:{other}").warnings  # the cache has it still
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "cache"))
    selection = select_corpus(manifest, f"file:{other}")
    assert any("were not looked for" in said for said in selection.warnings)
    with pytest.raises(LRopeError):
        select_corpus(manifest)


def test_documents_get_names_that_tell_them_apart() -> None:
    one = english(1)
    selection = Selection.of("d", {"fit": [one], "dev": [one], "test": [one, one]})
    assert len({document.name for document in selection.test}) == 2


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(LRopeError, match="no document for dev, test"):
        Selection.of("d", {"fit": [english(1)], "dev": []})


def test_order_does_not_matter() -> None:
    one = select(lambda number: [english(number)], n=5)
    other = Selection.of("made up", {split: getattr(one, split)[::-1] for split in HELD_OUT})
    assert one.test == other.test
    assert one.data == other.data


def test_a_short_text_that_stands_in_the_runs_own_documents_leaves_them_out(
    manifest: dict, tmp_path: Path
) -> None:
    own = select_corpus(manifest)
    path = tmp_path / "copied.txt"
    path.write_text(own.fit[0].text, encoding="utf-8")
    selection = select_text(manifest, path)
    assert len(selection.fit) < len(own.fit)
    assert own.fit[0].text not in {one.text for one in selection.fit}
    assert any("are left out" in said for said in selection.warnings)
    path.write_text("\n\n".join(one.text for one in own.dev), encoding="utf-8")
    with pytest.raises(LRopeError, match="every dev document"):
        select_text(manifest, path)
    path.write_text("Nothing of this was ever written in any of the other documents.", encoding="utf-8")
    assert len(select_text(manifest, path).fit) == len(own.fit)
