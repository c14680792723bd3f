"""`ablate` end to end on a tiny run, and `generate --freeze`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from cli_words import Cli, Train

from lrope_interp.commands import generate as generating
from lrope_interp.commands import options
from lrope_interp.reports.ablations.numbers import change
from lrope_interp.results import Result, load_result

SMALL = ("--max-bytes", "1500", "--quiet")
ONE = {"metric": "nats_per_byte", "language": "all", "byte_class": "all"}


def changes(folder: Path) -> pd.DataFrame:
    """The changes in nats per byte over everything, of a saved result."""
    table = load_result(folder).tables["ablations"]
    is_whole = (table[list(ONE)] == pd.Series(ONE)).all(axis=1)
    is_part = table["intervention"].astype(str).str.startswith("split_")
    return table.loc[is_whole & ~is_part]


@pytest.mark.parametrize("to", ["1", "mean"])
def test_freezing_all_layers_leaves_a_result_and_prints_what_it_holds(
    cli: Cli, run_copy: Path, to: str
) -> None:
    answer = cli("ablate", "--freeze", to, *SMALL)
    assert answer.code == 0, answer.err
    folder = run_copy / "ablate"
    assert {"result.json", "ablations.csv", "passes.csv", "report.html"} <= {
        one.name for one in folder.iterdir()
    }
    (line,) = changes(folder).to_dict("records")
    assert (line["intervention"], line["design"]) == ({"1": "one", "mean": "mean"}[to], "all")
    assert change(line["value"]) in answer.out
    assert "all layers" in answer.out
    assert "passes over the text" in answer.out
    assert str(folder.relative_to(Path.cwd()) / "report.html") in answer.out


def test_a_layer_alone_or_each_alone_is_what_was_asked_for(cli: Cli, run_copy: Path) -> None:
    assert cli("ablate", "--freeze", "mean", "--layer", "1", "--out", "one", *SMALL).code == 0
    assert cli("ablate", "--freeze", "mean", "--layer", "each", "--out", "each", *SMALL).code == 0
    one, each = changes(Path("one")), changes(Path("each"))
    assert one["layer"].tolist() == [1]
    assert each["layer"].tolist() == [0, 1]
    assert set(each["design"]) == {"single"}
    assert one["value"].item() == pytest.approx(each.loc[each["layer"] == 1, "value"].item(), abs=1e-9)


def test_where_is_obeyed_and_said(cli: Cli, run_copy: Path) -> None:
    answer = cli("ablate", "--freeze", "mean", "--where", "whitespace", *SMALL)
    assert answer.code == 0, answer.err
    assert set(changes(run_copy / "ablate")["where"]) == {"whitespace"}
    assert "at white space" in answer.out


def test_json_is_alone_on_stdout_and_agrees_with_the_saved_result(cli: Cli, run_copy: Path) -> None:
    answer = cli("ablate", "--freeze", "1", "--json", *SMALL, "--model", run_copy)
    found = json.loads(answer.out)
    assert found["kind"] == "ablations"
    assert found["headline"]["one_all"] == load_result(found["result"]).headline["one_all"]


def test_the_suite_prints_a_row_a_layer_and_the_split(cli: Cli, run_copy: Path) -> None:
    answer = cli("ablate", *SMALL)
    assert answer.code == 0, answer.err
    at = [answer.out.index(f"\n  {name} ") for name in ("layer 0", "layer 1", "all layers")]
    assert at == sorted(at)
    (split,) = [line for line in answer.out.splitlines() if line.startswith("split of freezing")]
    assert [word for word in split.split() if word in ("total", "scale", "lexical", "contextual")] == [
        "total",
        "scale",
        "lexical",
        "contextual",
    ]
    assert set(changes(run_copy / "ablate")["intervention"]) >= {"one", "mean", "lexical", "shuffle"}


def test_ctrl_c_says_how_to_go_on_and_leaves_no_folder(
    cli: Cli, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrope_interp.commands.output import _StageLines

    tell = _StageLines.__call__
    words = ("ablate", "--freeze", "mean", "--layer", "each", *SMALL)

    def interrupting(self: Any, stage: str, done: int, total: int) -> None:
        tell(self, stage, done, total)
        if stage == "ablations":
            raise KeyboardInterrupt

    before = set(run_copy.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(_StageLines, "__call__", interrupting)
        answer = cli(*words)
    assert answer.code == 130
    assert f"lrope-interp {' '.join(words)} --model runs/{run_copy.name}" in answer.err
    assert "Traceback" not in answer.err
    assert set(run_copy.iterdir()) == before
    assert cli(*words).code == 0


@pytest.mark.parametrize("bounds", [(0.125, 0.5), (float("nan"), float("nan"))])
def test_a_result_with_few_rows_is_printed_without_a_split(
    cli: Cli, run_copy: Path, monkeypatch: pytest.MonkeyPatch, bounds: tuple[float, float]
) -> None:
    def planted(*_: Any, **__: Any) -> Result:
        row = {
            **ONE,
            "intervention": "lexical",
            "parameter": float("nan"),
            "design": "single",
            "layers": "1",
            "layer": 1,
            "head": pd.NA,
            "where": "",
            "value": 0.25,
            "ci_low": bounds[0],
            "ci_high": bounds[1],
            "n": 100,
            "n_units": 30,
            "n_documents": 30,
        }
        table = pd.DataFrame([row]).astype({"layer": "Int64", "head": "Int64"})
        data = {"name": "planted", "n_documents": 30, "n_bytes": 100}
        return Result("ablations", {"data": data}, {"n_passes": 2.0, "gain": 4 / 3}, {"ablations": table})

    monkeypatch.setattr("lrope_interp.probes.ablations.ablations.ablations", planted)
    monkeypatch.setattr("lrope_interp.reports.ablations.page.render_ablations", str)
    answer = cli("ablate", "--freeze", "lexical", "--layer", "1", "--model", run_copy)
    assert answer.code == 0, answer.err
    assert "to byte's mean" in answer.out
    (row,) = [line.split() for line in answer.out.splitlines() if "layer 1" in line]
    has_interval = bounds[0] == 0.125
    assert row == ["layer", "1", "+0.250", *(["[+0.125,", "+0.500]"] if has_interval else [])]
    assert ("[ ] 95 % interval" in answer.out) is has_interval
    assert "2 passes over the text, the untouched one included" in answer.out
    assert "1.33 times as many blocks" in answer.out
    assert "split" not in answer.out


BAD = [
    (("ablate", "--freeze", "maen"), "not one of '1', 'mean', 'lexical'"),
    (("ablate", "--freeze", "1", "--layer", "7"), "nearest is 1"),
    (("ablate", "--freeze", "1", "--layer", "eahc"), "Did you mean 'each'"),
    (("ablate", "--layer", "1"), "give --freeze 1|mean|lexical too"),
    (("ablate", "--freeze", "1", "--suite", "default"), "give one of them"),
    (("ablate", "--where", "whitespce"), "Did you mean 'whitespace'"),
    (("ablate", "--freeze", "mean", "--where", ""), "Choose from: "),
    (("ablate", "--freeze", "mean", "--heads"), "--per-head"),
    (("ablate", "--freeze", "mean", "--where", "brackets_open"), "brackets_open"),
    (("ablate", "--data", "englisch"), "english"),
    (("ablate", "--text", "a.txt", "--gold", "a.txt"), "give one of them"),
    (("ablate", "--max-bytes", "0"), "--max-bytes"),
    (("ablate", "--out", "a-file/below"), "a-file"),
    (("generate", "the", "--layer", "1"), "give --freeze 1|mean|lexical too"),
    (("generate", "the", "--freeze", "1", "--layer", "each", "--max-new-tokens", "4"), "unknown layer"),
    (("generate", "the", "--freeze", "1"), "n_ctx=32"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_a_mistake_is_one_line_and_code_2_and_leaves_nothing(
    cli: Cli, run_copy: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "a-file").write_text("in the way")
    before = set(tmp_path.rglob("*"))
    answer = cli(*words)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    errors = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert answer.err.splitlines()[-1:] == errors, "one line of error, the last"
    assert set(tmp_path.rglob("*")) == before, f"{run_copy} has something new"


def test_the_words_to_freeze_to_are_those_of_the_analysis() -> None:
    from lrope_interp.probes.ablations.options import FREEZES
    from lrope_interp.probes.ablations.plan import FROZEN

    assert get_args(options.Frozen) == FREEZES == tuple(FROZEN)


WRITE = ("generate", "the fox", "--max-new-tokens", "20", "--seed", "4", "--json")


@pytest.mark.parametrize("to", ["1", "mean", "lexical"])
def test_generate_frozen_gives_both_texts_with_and_without_the_cache(
    cli: Cli, run_copy: Path, to: str
) -> None:
    answer = cli(*WRITE, "--freeze", to)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found == json.loads(cli(*WRITE, "--freeze", to, "--no-cache").out)
    assert found["text"] == json.loads(cli(*WRITE).out)["text"]
    assert found["ablated"].startswith("the fox")
    assert (found["freeze"], found["layers"]) == (to, [0, 1])
    assert ("means of" in answer.err) == (to != "1")
    assert run_copy.is_dir()


@pytest.mark.parametrize("to", ["1", "mean", "lexical"])
def test_generate_frozen_writes_what_the_model_writes_under_the_hook(
    cli: Cli, run_copy: Path, to: str
) -> None:
    import torch

    from lrope_interp.data import read_manifest
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.probes.capture.capture import capture
    from lrope_interp.probes.capture.selection import select_corpus

    model = LRopeTransformer.from_pretrained(run_copy)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():  # six steps of training leave increments near 1
        for name, parameter in model.named_parameters():
            size = 1.5 if "increments.W_out" in name else 0.3
            parameter.add_(size * torch.randn(parameter.shape, generator=draw))
    model.save_pretrained(run_copy)
    fit = capture(
        model, select_corpus(read_manifest(run_copy), max_bytes=30_000, spread=True).fit, predictions=False
    )
    increments = fit.increments[1, 0]
    table = torch.full((257,), float(increments.mean()))
    for byte in set(fit.byte.tolist()) if to == "lexical" else ():
        table[byte] = float(increments[fit.byte == byte].mean())

    def write(increments: torch.Tensor, hook: Any) -> torch.Tensor:
        return torch.ones_like(increments) if to == "1" else table[hook.ctx["stream"].tokens]

    with model.hooks(fwd_hooks=[("blocks.1.hook_increments", write)]):
        expected = model.generate("the fox", 20, seed=4, verbose=False)
    assert expected != model.generate("the fox", 20, seed=4, verbose=False)
    found = json.loads(cli(*WRITE, "--freeze", to, "--layer", "1").out)
    assert found["ablated"] == expected
    at = found["parts_at"]
    assert found["text"][:at] == found["ablated"][:at]
    assert found["text"][at] != found["ablated"][at]


def test_a_fixed_run_writes_the_same_frozen_to_1(cli: Cli, train_tiny: Train) -> None:
    fixed = train_tiny("fixed")
    found = json.loads(cli(*WRITE, "--freeze", "1", "--model", fixed).out)
    assert found["text"] == found["ablated"]
    assert found["parts_at"] is None
    shown = cli(*WRITE[:-1], "--freeze", "1", "--model", fixed).out
    assert "the two texts are the same" in shown
    assert shown.index("--- untouched ---") < shown.index("--- all layers to 1 ---")


@pytest.mark.parametrize(("columns", "is_beside"), [("100", True), ("60", False)])
def test_two_texts_stand_beside_each_other_where_there_is_room(
    columns: str, is_beside: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrope_interp.commands.output import Output

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    generating._show({"untouched": "the fox [sat]", "layer 1 to 1": "the fox 中国"}, Output())
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
