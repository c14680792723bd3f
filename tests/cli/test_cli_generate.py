"""`generate`: the same text with and without the cache, and what a model writes with frozen increments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from cli_words import Cli, Train

from lrope_interp.commands import generate as generating
from lrope_interp.commands import options
from lrope_interp.errors import visible

WRITE = ("generate", "the fox", "--max-new-tokens", "20", "--seed", "4", "--json")


def test_the_same_text_is_written_with_and_without_the_cache(cli: Cli, run_copy: Path) -> None:
    words = WRITE[:-1]
    cached, plain = cli(*words), cli(*words, "--no-cache")
    assert cached.code == 0
    assert f"using {run_copy.relative_to(Path.cwd())}, the newest finished run" in cached.err
    assert cached.out == plain.out
    assert cli(*words[:-1], "5").out != cached.out
    assert visible(cli(*WRITE).json["text"].rstrip(), keep="\n\t") in cached.out


def test_the_words_to_freeze_to_are_those_of_the_analysis() -> None:
    from lrope_interp.probes.ablations.plan import FROZEN

    assert get_args(options.Frozen) == tuple(FROZEN)


@pytest.mark.parametrize("to", ["1", "lexical"])
def test_frozen_it_writes_what_the_model_writes_under_the_hook(cli: Cli, run_copy: Path, to: str) -> None:
    import torch

    from lrope_interp.data import read_manifest
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.probes.capture.capture import capture
    from lrope_interp.probes.capture.selection import select_corpus
    from lrope_interp.probes.capture.suites import amounts

    model = LRopeTransformer.from_pretrained(run_copy)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():  # six steps of training leave increments near 1
        for name, parameter in model.named_parameters():
            size = 1.5 if "increments.W_out" in name else 0.3
            parameter.add_(size * torch.randn(parameter.shape, generator=draw))
    model.save_pretrained(run_copy)
    fit = capture(
        model, select_corpus(read_manifest(run_copy), **amounts("ablate", "full")).fit, predictions=False
    )
    increments = fit.increments[1, 0]
    table = torch.full((257,), float(increments.mean()))
    for byte in set(fit.byte.tolist()) if to == "lexical" else ():
        table[byte] = float(increments[fit.byte == byte].mean())

    def write(increments: torch.Tensor, hook: Any) -> torch.Tensor:
        return torch.ones_like(increments) if to == "1" else table[hook.ctx["stream"].tokens]

    untouched = model.generate("the fox", 20, seed=4, verbose=False)
    with model.hooks(fwd_hooks=[("blocks.1.hook_increments", write)]):
        expected = model.generate("the fox", 20, seed=4, verbose=False)
    answer = cli(*WRITE, "--freeze", to, "--layer", "1")
    found = answer.json
    assert (found["text"], found["ablated"]) == (untouched, expected) and untouched != expected
    assert (found["freeze"], found["layers"]) == (to, [1])
    at = found["parts_at"]
    assert untouched[:at] == expected[:at] and untouched[at] != expected[at]
    assert ("means of" in answer.err) == (to != "1")
    assert found == cli(*WRITE, "--freeze", to, "--layer", "1", "--no-cache").json


def test_a_fixed_run_writes_the_same_frozen_to_1(cli: Cli, train_tiny: Train) -> None:
    fixed = train_tiny("fixed")
    found = cli(*WRITE, "--freeze", "1", "--model", fixed).json
    assert found["text"] == found["ablated"]
    assert found["parts_at"] is None
    shown = cli(*WRITE[:-1], "--freeze", "1", "--model", fixed).out
    assert "the two texts are the same" in shown
    assert shown.index("--- untouched ---") < shown.index("--- all layers to 1 ---")


@pytest.mark.parametrize(("columns", "is_beside"), [("100", True), ("60", False)])
def test_two_texts_stand_beside_each_other_where_there_is_room(
    columns: str, is_beside: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrope_interp.commands.output import Voice

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    generating._show({"untouched": "the fox [sat]", "layer 1 to 1": "the fox 中国"}, Voice())
    lines = capsys.readouterr().out.splitlines()
    assert any("the fox [sat]" in line and "the fox 中国" in line for line in lines) == is_beside
    assert any("untouched" in line and "layer 1 to 1" in line for line in lines) == is_beside


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("abcd", "abXd", "character 2 (counted from 0), 1 after"),
        ("ab", "ab", "same"),
        ("ab", "abc", "character 2"),
    ],
)
def test_where_two_texts_part_is_told(one: str, other: str, said: str) -> None:
    assert said in generating.parting(generating.parts_at(one, other), n_prompt=1)
