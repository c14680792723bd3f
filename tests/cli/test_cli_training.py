"""`train` from the first step to a resumed run: what it leaves, and what it shows meanwhile."""

from __future__ import annotations

import gzip
import json
import math
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cli_words import SMALL, Cli, assert_refused, rows_of_text

from lrope_interp.commands.output import Voice
from lrope_interp.commands.progress import LINES_A_RUN, Course, by_layer, clock, listen
from lrope_interp.models import LRopeTransformer
from lrope_interp.tokenizers import load_tokenizer
from lrope_interp.training.events import Event, LayerIncrements, Started, Step, Validated, Warned

TRAIN = ("train", "--steps", "4", "--batch-size", "1")


@pytest.mark.usefixtures("tiny_preset")
def test_a_run_is_left_with_a_page_and_it_is_said_where(cli: Cli, text_file: Path) -> None:
    answer = cli(*TRAIN, "--data", f"file:{text_file}", "--seed", "3", "--increments", "per-layer")
    assert answer.code == 0
    folder = Path("runs/tiny-file-text-per_layer-s3")
    names = {path.name for path in folder.iterdir()}
    assert {"run.json", "config.json", "model.safetensors", "report.html"} <= names
    assert str(folder / "report.html") in answer.out
    assert all(word in answer.err for word in ("nats", "bits", "kB/s", "left", "L0 ", "L1 "))
    assert "validation loss" in answer.out


@pytest.mark.usefixtures("tiny_preset")
def test_interrupted_it_says_how_to_go_on_and_resume_does(
    cli: Cli, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Course.take

    def interrupting(self: Any, planned: None, event: Any) -> None:
        take(self, planned, event)
        if isinstance(event, Step) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Course, "take", interrupting)
        answer = cli(*TRAIN, "--data", f"file:{text_file}", "--out", "mine")
    assert answer.code == 130
    assert "Go on (from step 2) with: lrope-interp train --resume --out mine" in answer.err
    assert "Traceback" not in answer.err
    assert_refused(cli("train", "--resume", "--out", "mine", "--seed", "5"), "seed was 0, now 5")
    assert cli("train", "--resume", "--out", "mine", "--json").json["summary"]["step"] == 4
    again = cli("train", "--resume", "--out", "mine")
    assert again.code == 0
    assert "was finished before: nothing is left to train" in again.err


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.parametrize(
    "form", ["file:rows.jsonl.gz", pytest.param("hf:set:::body", marks=pytest.mark.slow)]
)
def test_a_run_on_rows_is_measured_on_its_held_out_rows(cli: Cli, form: str) -> None:
    Path("rows.jsonl.gz").write_bytes(gzip.compress(rows_of_text().encode()))
    Path("set").mkdir()
    Path("set/train.jsonl").write_text(rows_of_text())
    column = [] if form.startswith("hf:") else ["--text-column", "body"]
    trained = cli("train", "--data", form, "--steps", 2, "--max-train-bytes", 30_000, *column, "--json")
    run = Path(trained.json["run"])
    manifest = json.loads((run / "data.json").read_text())
    assert sum(one["n_bytes"] for one in manifest["splits"].values()) in range(29_000, 30_001)
    assert manifest["max_train_bytes"] == 30_000
    data = cli("eval", "--model", run, "--json").json["provenance"]["data"]
    assert data["n_documents"] == manifest["splits"]["test"]["n_documents"]
    assert cli("boundaries", "--model", run, "--layer", "0", "--labels", "words", *SMALL).code == 0


@pytest.mark.usefixtures("tiny_preset")
def test_a_run_on_rows_is_resumed_and_a_changed_file_is_refused(cli: Cli) -> None:
    path, told = Path("rows.jsonl"), Path("run/run.json")
    path.write_text(rows_of_text("text"))
    words = ["train", "--data", "file:rows.jsonl", "--steps", 2, "--out", "run"]
    assert cli(*words).code == 0
    told.write_text(json.dumps(json.loads(told.read_text()) | {"status": "running"}))
    path.write_text(rows_of_text("text", 399))
    assert_refused(cli("train", "--resume", "--out", "run", *words[1:3]), "has changed since")
    assert cli("train", "--resume", "--out", "run").code == 0  # from the copy in the cache


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_preset")
def test_a_model_of_tokens_trains_and_everything_works_on_it(cli: Cli, text_file: Path) -> None:
    asked = ["--data", f"file:{text_file}", "--steps", "3", "--batch-size", "4"]
    summary = cli("train", *asked, "--tokenizer", "bpe:300", "--out", "run", "--json").json["summary"]
    tokenizer, info = load_tokenizer(Path("run")), json.loads(Path("run/run.json").read_text())
    assert (tokenizer.name, tokenizer.vocab_size) == ("bpe", 300)
    assert info["tokenizer"]["fingerprint"] == tokenizer.fingerprint
    assert 0 < info["tokenizer"]["tokens_per_byte"] < 0.7
    assert "--tokenizer bpe:300" in info["command"]
    assert summary["validation_nats_per_byte"] < 0.7 * summary["train_loss"], "a byte, not a token"
    model = LRopeTransformer.from_pretrained(Path("run"))
    assert model.cfg.d_vocab == 300
    assert model.to_string(model.to_tokens("green 中国")) == ["green 中国"]

    found = cli("boundaries", "--model", "run", "--max-bytes", "1500", "--layer", "1", "--out", "b", "--json")
    unscored = pd.read_csv("b/unscored.csv").set_index("gaps").loc["any", "n_unscored"]
    assert found.json["headline"]["gaps inside tokens, not scored"] == unscored > 0
    shown = cli("show", "the green fox 中国", "--model", "run", "--out", "s")
    assert shown.code == 0, shown.err
    assert "increments per token" in shown.out and "lie inside a token" in shown.err
    nats = cli("eval", "--model", "run", "--out", "e", "--json").json["headline"]["nats_per_byte"]
    assert nats == pytest.approx(summary["validation_nats_per_byte"], rel=0.1)
    written = cli("generate", "the 中", "--model", "run", "--max-new-tokens", "5", "--json")
    assert written.json["text"].startswith("the 中")
    again = cli("generate", "the", "--model", "run", "--max-new-tokens", "40")
    assert again.code == 2 and "tokens of prompt" in again.err
    assert cli("train", *asked, "--tokenizer", "run/tokenizer.json", "--out", "second").code == 0
    assert load_tokenizer(Path("second")).fingerprint == tokenizer.fingerprint


def told(out: Voice, n_steps: int, *more: Event) -> Course:
    """Let a run of `n_steps` tell its events to a terminal or a log."""
    increments = (LayerIncrements(0, None, 1.25, 0.5), LayerIncrements(1, None, 0.75, 0.125))
    bits = 1 / math.log(2)
    events: list[Event] = [Started(Path("runs/x"), 0, n_steps, 1_600_000, "cpu", "float32", {"english": 0.5})]
    for step in range(1, n_steps + 1):
        events.append(Step(step, n_steps, 2.0, 2.0 * bits, 1e-3, 41_200.0, 192.0, increments))
    course = Course()
    with listen(out, course) as on_event:
        for event in (*events, Validated(n_steps, n_steps, 1.9, 1.9 * bits, 100), *more):
            on_event(None, event)
    return course


def test_a_log_gets_some_lines_whatever_the_length(capsys: pytest.CaptureFixture[str]) -> None:
    told(Voice(), 1000)
    lines = capsys.readouterr().err.splitlines()
    assert LINES_A_RUN <= len([line for line in lines if line.startswith("step ")]) <= LINES_A_RUN + 2
    assert "step 1000/1000  loss 2.000 nats (2.885 bits) | 41.2 kB/s | 3:12 left" in lines
    assert "  increments  L0 1.25±0.50  L1 0.75±0.12" in lines


def test_a_terminal_gets_a_bar_with_loss_and_increments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    told(Voice(), 10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 10/10" in err and "L0 1.25±0.50  L1 0.75±0.12" in err
    assert "loss 2.000 nats (2.885 bits) | 41.2 kB/s | 3:12 left | validation 1.900 at step 10" in err


def test_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(Voice(is_quiet=True), 3, Warned("ten epochs")).validated is not None
    assert capsys.readouterr().err == "warning: ten epochs\n"


def test_heads_are_pooled_to_the_mean_and_spread_of_all_tokens() -> None:
    draw = np.random.default_rng(0).normal([1.0, 3.0], [0.5, 0.25], size=(1000, 2))
    heads = [LayerIncrements(0, k, float(draw[:, k].mean()), float(draw[:, k].std())) for k in (0, 1)]
    ((layer, mean, sd),) = by_layer(heads)
    assert layer == 0
    assert (mean, sd) == pytest.approx((draw.mean(), draw.std()))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (192, "3:12"), (4000, "1:06:40"), (math.inf, "?")]
)
def test_time_left_reads_as_a_clock(seconds: float, shown: str) -> None:
    assert clock(float(seconds)) == shown
