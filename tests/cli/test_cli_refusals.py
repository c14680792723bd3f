"""Every mistake of a user: a clear line, exit code 2, no traceback, nothing half-written.

One case for each way in which something can be wrong; what all commands share is tried with one of them.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_words import Cli, assert_refused, files, rows_of_text, spans_of_colours

Refused = Callable[..., None]

FILES = {
    "a-file": b"in the way",
    "binary.txt": b"\x7fELF\x00\x01\x02\x00" * 50,
    "latin.txt": "Français".encode("latin-1") * 40,
    "short.txt": b"A short text.\n",
    "one-word.txt": b"fox dog\nfox\n",
    "other/notes.txt": b"mine",
    "no-span.jsonl": spans_of_colours(start=3, end=3).encode(),
    "body.jsonl": rows_of_text().encode(),
    "cut.jsonl.gz": gzip.compress(rows_of_text("text").encode())[:500],
    "a.csv": b"a,b\n",
}
TEXT = "'the fox sees the dog'"
LONG = "9" * 5000

# Each command line, and what its error must say; a run and the files above are there.
WITH_A_RUN = [
    # a text that cannot be read, each command by its own door
    ("show --text missing.txt", "missing.txt"),
    ("boundaries --text binary.txt", "binary"),
    ("distance --text latin.txt", "encoding_errors replace"),
    ("boundaries --gold missing.txt", "missing.txt"),
    ("show ''", "empty"),
    ("generate 'ab\udcff c'", "not UTF-8"),
    # which text
    ("show", "one text is wanted"),
    ("show hello --gold a-file", "got two"),
    ("ablate --text a-file --gold a-file", "give one of them"),
    ("study entities --data code --text a-file --gold a-file", "No such option"),
    ("study entities --data code --text a-file", "--data and --text both say what to read"),
    # names and the nearest
    ("boundaries --data englisch", "english"),
    ("boundaries --labels word", "Did you mean 'words'"),
    ("boundaries --labels ,", "no label"),
    ("boundaries --align first", "not one of 'dev', 'lead', 'last', 'sum'"),
    ("boundaries --device cpuu", "cpu"),
    ("boundaries --layer al", "all"),
    ("boundaries --layer 7", "nearest is 1"),
    ("show abc --layer=--5", ""),
    ("boundries", "boundaries"),
    ("show --lenght 5 x", "goes behind --"),
    ("ablate --freeze 1 --layer eahc", "Did you mean 'each'"),
    ("ablate --where whitespce", "Did you mean 'whitespace'"),
    ("ablate --freeze mean --where ''", "Choose from: "),
    ("probe --concept persom", "person"),
    ("probe --features ,", "--features names nothing"),
    # options that need or exclude each other
    ("ablate --layer 1", "give --freeze 1|mean|lexical too"),
    ("ablate --freeze 1 --suite full", "give one of them"),
    ("generate the --layer 1", "give --freeze 1|mean|lexical too"),
    ("generate the --freeze 1 --layer each --max-new-tokens 4", "unknown layer"),
    ("probe --spans body.jsonl --concept red", "--concept"),
    ("study context --preset tiny --model runs/x", "give one of them"),
    # numbers out of range
    ("boundaries --max-bytes 0", "--max-bytes"),
    (f"show abc --attention 0.0 --at {LONG}", ""),
    ("show hello --attention 0.1 --at z", ""),
    ("generate the --max-new-tokens 500", "n_ctx=32"),
    # two ends of a distance
    (f"distance {TEXT} --from fox", "two ends"),
    (f"distance {TEXT} --from '' --to dog", "--from wants"),
    (f"distance {TEXT} --from fox --to {LONG}", "beyond any text"),
    ("distance --definitions --max-pairs 9", "this is now: lrope-interp study definitions --max-pairs 9"),
    ("study definitions", "no document is Python"),
    # lists of ones own
    ("probe --spans no-span.jsonl", "line 3"),
    ("study entities --pairs one-word.txt", "line 2: wanted two words"),
    # other runs, and places
    ("boundaries --match nowhere", "nowhere"),
    ("boundaries --fixed-model nowhere", "nowhere"),
    ("show hello --out a-file/below", "a-file"),
    ("list runs nowhere", "nowhere"),
]
TRAINING = [
    ("train --data file:missing.txt", "missing.txt"),
    ("train --data file:short.txt", "short"),
    ("train --data bilingal", "bilingual"),
    ("train --preset tyni", "tiny"),
    ("train --presett tiny", "--preset"),
    ("train --increments per-leyer", "per_layer"),
    ("train --steps 0", "steps"),
    ("train --steps many", "--steps"),
    ("train --per-head --increments fixed", ""),
    ("train --resume --overwrite", "--overwrite"),
    ("train --resume", ""),
    ("train --data file:body.jsonl", "text_column"),
    ("train --data file:cut.jsonl.gz", "is it whole"),
    ("train --data file:a.csv", "convert it"),
    ("train --data hf:nobody/nothing", "HF_HUB_OFFLINE"),
    ("train --data code --max-train-bytes 10", "read as a whole"),
    ("train --data file:{text} --tokenizer bpe:100", "from 258"),
    ("train --data file:{text} --tokenizer bpe:60000", "the training text has pairs enough for"),
    ("train --data file:{text} --tokenizer nowhere.json", "cannot be read"),
    ("train --data file:{text} --out a-file", "a-file"),
    ("study replicate --data file:{text} --arms fixed,per-lair", "Did you mean 'per-layer'"),
    ("study replicate --data file:{text} --reference none", "unknown arm 'none'"),
    ("study replicate --data file:{text} --seeds 0", "--seeds"),
    ("study replicate --data file:{text} --margin nan", "above 0 nats"),
    ("study replicate --data file:{text} --out other --overwrite", "no folder of `replicate`"),
    ("study replicate --data file:{text} --out other/notes.txt", "is a file"),
    ("study context --contexts 1,512", "2 to 1,048,576 tokens; got 1"),
    ("show hello", "lrope-interp train"),
    ("show hello --model nowhere", "nowhere"),
    ("eval --model other", "not a run"),
]


@pytest.fixture
def refused(cli: Cli, tmp_path: Path) -> Refused:
    """Run a command that must be refused, and leave nothing."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)

    def call(words: str, said: str) -> None:
        before, folders = files(tmp_path), sorted(tmp_path.rglob("*"))
        assert_refused(cli(*shlex.split(words)), said)
        assert files(tmp_path) == before and sorted(tmp_path.rglob("*")) == folders, "something was left"

    return call


@pytest.mark.parametrize(("words", "said"), WITH_A_RUN, ids=[words[:60] for words, _ in WITH_A_RUN])
def test_a_mistake_is_one_line_and_leaves_nothing(
    refused: Refused, run_copy: Path, words: str, said: str
) -> None:
    refused(words, said)


@pytest.mark.parametrize(("words", "said"), TRAINING, ids=[words[:60] for words, _ in TRAINING])
def test_what_cannot_be_trained_or_is_no_run_leaves_nothing(
    refused: Refused, text_file: Path, words: str, said: str
) -> None:
    refused(words.format(text=text_file), said)


class _Bomb:
    """Leaves a folder behind if anything unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def _changed(name: str, **values: object) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        (run / name).write_text(json.dumps({**json.loads((run / name).read_text()), **values}))

    return change


def _written(name: str, content: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(content)


def _without(name: str) -> Callable[[Path], object]:
    return lambda run: (run / name).unlink()


def _pickled(run: Path) -> None:
    (run / "model.safetensors").write_bytes(pickle.dumps(_Bomb(run / "exploded")))


def _pickled_beside(run: Path) -> None:
    (run / "model.safetensors").rename(run / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("command", "damage", "said"),
    [
        ("show hello", _changed("run.json", status="running"), "--resume"),
        ("eval", _without("data.json"), "data.json"),
        ("boundaries", _without("model.safetensors"), "model.safetensors"),
        ("eval", _changed("run.json", format=99), "Upgrade"),
        ("generate the", _pickled, "pickle"),
        ("show hello", _pickled_beside, "a pickle runs code"),
        ("eval", _written("tokenizer.json", "[]"), "names no format"),
    ],
)
def test_a_run_that_is_damaged_is_refused(
    refused: Refused, run_copy: Path, command: str, damage: Callable[[Path], object], said: str
) -> None:
    damage(run_copy)
    refused(f"{command} --model {run_copy}", said)
    assert not (run_copy / "exploded").exists()


def test_several_processes_do_not_replicate(
    refused: Refused, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(f"study replicate --data file:{text_file}", "in one process")
