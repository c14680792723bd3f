"""Every mistake of a user: a clear line, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from cli_words import Answer, Cli, Train

Refused = Callable[..., str]


@pytest.fixture
def refused(cli: Cli, tmp_path: Path) -> Refused:
    """Run a command that must be refused; return its message."""

    def call(*words: str | Path) -> str:
        before = _everything_under(tmp_path)
        answer = cli(*words)
        _assert_clear(answer)
        assert _everything_under(tmp_path) == before, "something was left behind"
        return answer.err

    return call


def _everything_under(folder: Path) -> dict[Path, float]:
    return {
        path: path.stat().st_mtime for path in folder.rglob("*") if path.is_file() or not any(path.iterdir())
    }


def _assert_clear(answer: Answer) -> None:
    assert answer.code == 2
    assert answer.out == ""
    assert "Traceback" not in answer.err
    lines = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert answer.err.splitlines()[-1] == lines[0]
    assert len(lines[0]) > len("Error: ") + 10


READERS = [["boundaries", "--text"], ["show", "--text"], ["eval", "--text"], ["train", "--data"]]


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "missing.txt"),
        (b"", "empty"),
        (b"\x7fELF\x00\x01\x02\x00" * 50, "binary"),
        ("Fran\u00e7ais".encode("latin-1") * 40, "--encoding-errors replace"),
    ],
    ids=["missing", "empty", "binary", "not UTF-8"],
)
def test_an_unreadable_text_is_refused(
    words: list[str], content: bytes | None, said: str, refused: Refused, run_copy: Path, tmp_path: Path
) -> None:
    path = tmp_path / "missing.txt"
    if content is not None:
        path.write_bytes(content)
    name = f"file:{path}" if words[0] == "train" else str(path)
    model = [] if words[0] == "train" else ["--model", str(run_copy)]
    assert said in refused(*words, name, *model)


def test_replace_reads_what_is_not_utf8(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("Fran\u00e7ais".encode("latin-1"))
    answer = cli("show", "--text", path, "--model", run_copy, "--encoding-errors", "replace")
    assert answer.code == 0
    assert "Fran\ufffdais" in "".join(_column(run_copy / "show" / "characters.csv", "text"))[:9]


def _column(path: Path, name: str) -> list[str]:
    import csv

    with path.open(newline="", encoding="utf-8") as stream:
        return [row[name] for row in csv.DictReader(stream)]


def test_a_text_shorter_than_a_window_is_refused_for_training(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("A short text.\n")
    assert "short" in refused("train", "--data", f"file:{tmp_path / 'short.txt'}")


def test_an_empty_sentence_is_refused(refused: Refused, run_copy: Path) -> None:
    assert "empty" in refused("show", "", "--model", run_copy)


def test_show_wants_one_text(refused: Refused, run_copy: Path, text_file: Path) -> None:
    assert "one text is wanted" in refused("show", "--model", run_copy)
    assert "one text is wanted" in refused("show", "hello", "--text", text_file, "--model", run_copy)


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["train", "--preset", "tyni"], "tiny"),
        (["train", "--data", "bilingal"], "bilingual"),
        (["boundaries", "--data", "englisch"], "english"),
        (["eval", "--data", "chinse"], "chinese"),
        (["train", "--increments", "per-leyer"], "per_layer"),
        (["train", "--device", "cdua"], "cuda"),
        (["boundaries", "--device", "cpuu"], "cpu"),
        (["boundaries", "--layer", "al"], "all"),
        (["boundaries", "--layer", "7"], "nearest is 1"),
        (["show", "hello", "--layer", "-1"], "nearest is 0"),
        (["show", "hello", "--encoding-errors", "replac"], "replace"),
        (["boundries"], "boundaries"),
        (["train", "--presett", "tiny"], "--preset"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_an_unknown_name_names_the_nearest(
    words: list[str], nearest: str, refused: Refused, run_copy: Path, request: pytest.FixtureRequest
) -> None:
    del request
    model = ["--model", str(run_copy)] if words[0] in ("boundaries", "eval", "show") else []
    assert nearest in refused(*words, *model)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--steps", "0"],
        ["train", "--steps", "many"],
        ["train", "--seed", "-1"],
        ["train", "--per-head", "--increments", "fixed"],
        ["train", "--resume", "--overwrite"],
        ["train", "--resume"],
        ["boundaries", "--max-bytes", "0"],
        ["boundaries", "--batch-size", "0"],
        ["show", "hello", "--start", "99"],
        ["show", "hello", "--length", "0"],
        ["show", "hello", "--attention", "0.9", "--at", "1"],
        ["show", "hello", "--attention", "first", "--at", "1"],
        ["show", "hello", "--attention", "0.1"],
        ["show", "hello", "--attention", "0.1", "--at", "z"],
        ["list", "runs", "nowhere"],
    ],
    ids=" ".join,
)
def test_a_value_out_of_range_is_refused(words: list[str], refused: Refused, run_copy: Path) -> None:
    refused(*words, *(["--model", str(run_copy)] if words[0] in ("boundaries", "show") else []))


@pytest.mark.parametrize("words", [["boundaries"], ["show", "hello"], ["eval"]], ids=lambda words: words[0])
class TestARunThatCannotBeRead:
    def test_missing(self, words: list[str], refused: Refused) -> None:
        assert "nowhere" in refused(*words, "--model", "nowhere")

    def test_none_at_all_names_the_command_that_makes_one(self, words: list[str], refused: Refused) -> None:
        assert "lrope-interp train" in refused(*words)

    def test_not_a_run(self, words: list[str], refused: Refused, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "notes.txt").write_text("nothing")
        assert "not a run" in refused(*words, "--model", tmp_path / "folder")

    def test_unfinished(self, words: list[str], refused: Refused, run_copy: Path) -> None:
        _change(run_copy / "run.json", status="running")
        assert "--resume" in refused(*words, "--model", run_copy)

    @pytest.mark.parametrize("name", ["config.json", "data.json", "model.safetensors", "tokenizer.json"])
    def test_incomplete(self, words: list[str], name: str, refused: Refused, run_copy: Path) -> None:
        (run_copy / name).unlink()
        assert name in refused(*words, "--model", run_copy)

    @pytest.mark.parametrize("name", ["run.json", "config.json"])
    def test_newer(self, words: list[str], name: str, refused: Refused, run_copy: Path) -> None:
        _change(run_copy / name, format=99)
        assert "Upgrade" in refused(*words, "--model", run_copy)

    def test_a_pickle_under_another_name(self, words: list[str], refused: Refused, run_copy: Path) -> None:
        (run_copy / "model.safetensors").write_bytes(pickle.dumps(_Bomb(run_copy.parent / "exploded")))
        assert "pickle" in refused(*words, "--model", run_copy)
        assert not (run_copy.parent / "exploded").exists()

    def test_a_pickle_beside(self, words: list[str], refused: Refused, run_copy: Path) -> None:
        (run_copy / "model.safetensors").unlink()
        (run_copy / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
        refused(*words, "--model", run_copy)

    def test_a_file(self, words: list[str], refused: Refused, tmp_path: Path) -> None:
        (tmp_path / "model.pt").write_bytes(pickle.dumps({"a": 1}))
        refused(*words, "--model", tmp_path / "model.pt")


class _Bomb:
    """Leaves a folder behind if anything unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def _change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


OUT = [["boundaries"], ["show", "hello"], ["eval"], ["train", "--steps", "1", "--batch-size", "1"]]


def _with_run(words: list[str], run: Path, text_file: Path) -> list[str]:
    return [*words, "--data", f"file:{text_file}"] if words[0] == "train" else [*words, "--model", str(run)]


@pytest.mark.parametrize("words", OUT, ids=lambda words: words[0])
def test_a_folder_in_the_way_is_refused(
    words: list[str], refused: Refused, run_copy: Path, text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "foreign" / ".git").mkdir(parents=True)
    for name in ("run.json", "result.json", "thesis.txt", ".git/HEAD"):
        (tmp_path / "foreign" / name).write_text("{}")
    full = _with_run(words, run_copy, text_file)
    assert "(it holds .git)" in refused(*full, "--out", tmp_path / "foreign", "--overwrite")
    if words[0] != "train":
        assert "holds a run" in refused(*full, "--out", run_copy, "--overwrite")
        assert not (run_copy / words[0]).exists()


@pytest.mark.parametrize("words", OUT, ids=lambda words: words[0])
def test_a_folder_that_cannot_be_written_is_refused(
    words: list[str], refused: Refused, run_copy: Path, text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "a-file").write_text("in the way")
    full = _with_run(words, run_copy, text_file)
    assert "a-file" in refused(*full, "--out", tmp_path / "a-file" / "below")
    assert "a-file" in refused(*full, "--out", tmp_path / "a-file")


def test_a_corpus_that_is_not_installed_gives_the_pip_command(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrope_interp.data.sources import installed

    def not_there(package: str) -> None:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(installed, "distribution", not_there)
    message = refused("train")
    assert "pip install" in message
    assert "--data code" in message


def test_a_fixed_run_has_no_boundaries_to_test(refused: Refused, train_tiny: Train, tmp_path: Path) -> None:
    folder = tmp_path / "fixed"
    shutil.copytree(train_tiny("fixed"), folder)
    assert "fixed" in refused("boundaries", "--model", folder)


def test_a_text_the_model_was_trained_on_is_refused(refused: Refused, run_copy: Path, tmp_path: Path) -> None:
    from lrope_interp.data import load_corpus

    manifest = json.loads((run_copy / "data.json").read_text())
    seen = load_corpus(manifest["name"]).documents("train")[0]
    (tmp_path / "seen.txt").write_text(seen.text, encoding="utf-8")
    changed = {**manifest["splits"], "train": {**manifest["splits"]["train"]}}
    paragraphs = [one for one in seen.text.split("\n\n") if one.strip()]
    changed["train"]["sha256"] = [*changed["train"]["sha256"], _sha256(paragraphs[0])]
    _change(run_copy / "data.json", splits=changed)
    assert "train" in refused("boundaries", "--text", tmp_path / "seen.txt", "--model", run_copy)


def _sha256(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def test_html_in_a_text_is_shown_as_text(cli: Cli, run_copy: Path) -> None:
    bad = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    assert cli("show", bad, "--model", run_copy).code == 0
    page = (run_copy / "show" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", '{"format": 99}', "99"),
        ("tokenizer.json", "[]", "names no format"),
        ("config.json", '{"format": 1, "model": [1]}', "model must be an object"),
        ("data.json", '{"format": 1, "name": "x", "splits": {}}', "lacks"),
    ],
)
def test_a_run_file_of_the_wrong_form_is_refused(
    name: str, content: str, said: str, refused: Refused, run_copy: Path
) -> None:
    (run_copy / name).write_text(content, encoding="utf-8")
    assert said in refused("eval", "--model", run_copy)


def test_weights_that_are_a_pickle_only_are_named_as_one(refused: Refused, run_copy: Path) -> None:
    (run_copy / "model.safetensors").unlink()
    (run_copy / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    assert "a pickle runs code" in refused("show", "abc", "--model", run_copy)


@pytest.mark.parametrize(
    "words",
    [
        ["show", "abc", "--layer=--5"],
        ["show", "abc", "--attention", "0.0", "--at", "9" * 5000],
        ["show", "abc", "--attention", "9" * 5000 + ".0", "--at", "1"],
        ["show", " "],
        ["generate", "ab\udcff c"],
        ["boundaries", "--data", ""],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_odd_words_are_refused(words: list[str], refused: Refused, run_copy: Path) -> None:
    refused(*words)
