"""What the analyses leave, print and say, on a run that fits in a second."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cli_words import COMMANDS, SMALL, Analysed, Cli, Train, trees

from lrope_interp.commands.distance import parsed_place
from lrope_interp.data import CORPORA
from lrope_interp.reports.kit.wording import signed
from lrope_interp.results import Result, load_result

Made = Callable[[str], Analysed]
ONE = {"metric": "nats_per_byte", "language": "all", "byte_class": "all"}


def changes(folder: Path) -> pd.DataFrame:
    """The changes in nats per byte over everything, of a saved result."""
    table = load_result(folder).tables["ablations"]
    is_whole = (table[list(ONE)] == pd.Series(ONE)).all(axis=1)
    return table.loc[is_whole & ~table["intervention"].astype(str).str.startswith("split_")]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_leaves_a_result_and_a_page_and_says_where(analysed: Made, command: str) -> None:
    made = analysed(command)
    result, name = made.result, command.split()[-1]
    assert result.kind == name
    names = {path.name for path in made.folder.iterdir()}
    assert names >= {"result.json", "report.html", *(f"{table}.csv" for table in result.tables)}
    run = made.folder.parent.name
    assert f"runs/{run}/{name}/report.html" in made.said.out
    assert f"using runs/{run}, the newest finished run" in made.said.err
    assert result.provenance["command"] == f"lrope-interp {made.words} --model runs/{run}"
    assert result.provenance["model"] == run
    assert "nan" not in made.said.out


@pytest.mark.parametrize(
    "words", [("eval",), ("ablate", "--freeze", "1", *SMALL)], ids=lambda words: words[0]
)
def test_json_is_alone_on_stdout_and_agrees_with_the_saved_result(
    cli: Cli, run_copy: Path, words: tuple[str, ...]
) -> None:
    answer = cli(*words, "--json", "--quiet", "--model", run_copy)
    result = load_result(answer.json["result"])
    assert answer.json["headline"] == result.headline and answer.json["kind"] == result.kind
    assert Path(answer.json["report"]).is_file()
    assert all(line.startswith(("warning: ", "  ")) for line in answer.err.splitlines())


def test_boundaries_print_the_layer_that_was_asked_for_beside_its_controls(analysed: Made) -> None:
    printed = analysed("boundaries").said.out
    assert printed.startswith("No verdict without intervals; a control lies ahead of layer 0 for")
    for word in ("words", "whitespace", "layer 0", "Layer minus control"):
        assert word in printed
    assert "layer 1" not in printed and printed.count("by construction") <= 1
    assert max(map(len, printed.split("result  ")[0].splitlines())) <= 80


def test_the_docs_example_finds_a_saved_score_again(analysed: Made, repository: Path) -> None:
    """The last example of docs/measuring.md, which ends with an assertion, on another folder."""
    page = (repository / "docs" / "measuring.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[-1]
    folder = str(analysed("boundaries").folder)
    code = re.sub(r'folder = ".*"', f"folder = {folder!r}", code)
    assert folder in code and "assert abs(" in code
    exec(code, {})


def test_a_gold_tree_bank_is_scored_by_its_own_words(cli: Cli, run_copy: Path) -> None:
    Path("tree.conllu").write_text(trees(), encoding="utf-8")
    words = ("--gold", "tree.conllu", "--labels", "words", "--align", "last", "--layer", "1", *SMALL)
    assert cli("boundaries", "--suite", "full", *words).code == 0
    result = load_result(run_copy / "boundaries")
    assert set(result.tables["labels"]["grade"]) == {"gold"}
    scores, choices = result.tables["scores"], result.tables["choices"]
    assert set(scores["label"]) == {"words"} and "jieba" in set(scores["signal"])
    assert scores.query("signal == 'increments' and metric == 'roc_auc'")["value"].notna().any()
    own = choices[(choices["signal"] == "increments") & (choices["stratum"] == "han")]
    assert set(own["align"]) == {"last"}
    assert result.gaps is not None
    is_start = result.gaps.loc[result.gaps["in_han"], "is_words"]
    assert 0.3 < is_start.mean() < 0.9, "words are joined, and some gaps lie inside them"


@pytest.mark.slow
def test_a_fixed_twin_adds_its_cosine_and_a_run_matched_with_itself_has_its_own_layers(
    cli: Cli, run_copy: Path, train_tiny: Train
) -> None:
    shutil.copytree(train_tiny("fixed"), "twin")
    shutil.copytree(run_copy, "other")
    words = ("boundaries", "--model", run_copy, "--labels", "words", *SMALL)
    assert cli(*words, "--fixed-model", "twin", "--match", "other").code == 0
    tables = load_result(run_copy / "boundaries").tables
    assert "cosine_fixed" in set(tables["scores"]["signal"])
    matches: pd.DataFrame = tables["matches"]
    assert (matches["layer"] == matches["other_layer"]).all()
    assert (matches["spearman"] > 1 - 1e-9).all()
    known = matches[matches["value"].notna()]
    assert len(known) and (known["value"] == known["other_value"]).all()
    assert (tables["correlations"]["is_matched"].sum(), len(tables["correlations"])) == (2, 4)
    assert "fixed increments" in cli(*words, "--fixed-model", run_copy).err
    assert "learned its increments" in cli(*words, "--match", "twin").err


def test_the_suite_of_ablations_prints_what_each_costs_in_all_layers(analysed: Made) -> None:
    printed, table = analysed("ablate").said.out, changes(analysed("ablate").folder)
    rows = ("to layer's mean", "to 1", "to byte's mean")
    at = [printed.index(f"\n{name} ") for name in rows]
    assert at == sorted(at) and "Untouched: " in printed
    assert set(table["intervention"]) == {"one", "mean", "lexical"}
    frozen = table[(table["intervention"] == "mean") & (table["design"] == "all") & (table["where"] == "")]
    assert signed(frozen["value"].item(), 4) in printed


def test_a_layer_alone_or_each_alone_is_what_was_asked_for(cli: Cli, run_copy: Path) -> None:
    assert cli("ablate", "--freeze", "mean", "--layer", "1", "--out", "one", *SMALL).code == 0
    said = cli("ablate", "--freeze", "mean", "--layer", "each", "--out", "each", *SMALL)
    one, each = changes(Path("one")), changes(Path("each"))
    assert one["layer"].tolist() == [1]
    assert each["layer"].tolist() == [0, 1]
    assert set(each["design"]) == {"single"}
    assert one["value"].item() == pytest.approx(each.loc[each["layer"] == 1, "value"].item(), abs=1e-9)
    assert all(signed(value, 4) in said.out for value in each["value"])
    assert "to layer's mean, layer 1" in said.out and "all layers" not in said.out.lower()


@pytest.mark.parametrize("bounds", [(0.125, 0.5), (float("nan"), float("nan"))])
def test_one_row_is_printed_with_its_interval_where_it_has_one(
    cli: Cli, run_copy: Path, monkeypatch: pytest.MonkeyPatch, bounds: tuple[float, float]
) -> None:
    def planted(*_: Any, **__: Any) -> Result:
        row = {"intervention": "lexical", "parameter": float("nan"), "design": "single", "layers": "1"}
        row |= {"layer": 1, "head": pd.NA, "where": "", "value": 0.25, "ci_low": bounds[0]}
        row |= {"ci_high": bounds[1], "n": 100, "n_units": 30, "n_documents": 30, **ONE}
        table = pd.DataFrame([row]).astype({"layer": "Int64", "head": "Int64"})
        data = {"name": "planted", "n_documents": 30, "n_bytes": 100}
        return Result("ablate", {"data": data}, {}, {"ablations": table})

    monkeypatch.setattr("lrope_interp.probes.ablations.ablations.ablate", planted)
    answer = cli("ablate", "--freeze", "lexical", "--layer", "1", "--model", run_copy)
    assert answer.code == 0, answer.err
    (row,) = [line for line in answer.out.splitlines() if "mean, layer 1" in line]
    has_interval = bounds[0] == 0.125
    assert row.split("layer 1")[1].split() == (
        ["+0.2500", "[+0.1250,", "+0.5000]", "▲", "costs"] if has_interval else ["+0.2500"]
    )
    assert ("Brackets: paired 95 %" in answer.out) is has_interval


def test_interrupted_it_says_how_to_go_on_and_leaves_no_folder(
    cli: Cli, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrope_interp.progress import Stages

    words = ("ablate", "--freeze", "mean", "--layer", "each", *SMALL)

    def interrupting(self: Stages, stage: str, done: int, total: int) -> None:
        if stage == "ablations":
            raise KeyboardInterrupt

    before = set(run_copy.iterdir())
    monkeypatch.setattr(Stages, "tell", interrupting)
    answer = cli(*words)
    assert answer.code == 130
    assert f"lrope-interp {' '.join(words)} --model runs/{run_copy.name}" in answer.err
    assert "Traceback" not in answer.err
    assert set(run_copy.iterdir()) == before


def test_claims_on_spans_of_ones_own_are_printed_as_they_are_saved(analysed: Made) -> None:
    made = analysed("probe")
    claims = made.result.tables["claims"]
    assert claims["concept"].tolist() == ["no red", "red"]
    assert set(claims["layer"]) == {1}
    assert all(signed(value) in made.said.out for value in claims["above"])
    assert "no red" in (made.folder / "report.html").read_text(encoding="utf-8")


def test_names_of_ones_own_are_counted_and_what_was_not_tested_is_said(analysed: Made) -> None:
    made = analysed("study entities")
    assert "reversed order" in made.said.out and "not made" in made.said.out
    assert "4 names with 4 different first words" in (made.folder / "report.html").read_text(encoding="utf-8")
    assert any("no Chinese test was made" in one for one in made.result.warnings)
    pairs = made.result.tables["pairs"]
    assert set(pairs["kind"]) == {"given"} and min(pairs["training_count"]) > 0


def test_a_pair_is_measured_and_every_pair_of_words(analysed: Made, cli: Cli, run_copy: Path) -> None:
    tables = analysed("distance").result.tables
    pair = tables["distances"]
    cells = set(pair[["layer", "measure"]].itertuples(index=False, name=None))
    assert cells == {(layer, measure) for layer in (0, 1) for measure in ("normalised", "effective")}
    assert set(pair["n_tokens"]) == {13} and len(tables["matrix"]) == 10 * 2 * 2
    shown = cli("distance", "the fox sees the dog", "--from", "fox", "--to", "19", "--layer", "1")
    assert "“fox” and “g” are 13 tokens apart" in shown.out and "layer 1" in shown.out
    assert set(load_result(run_copy / "distance").tables["distances"]["layer"]) == {1}
    Path("text.txt").write_text("the fox sees the dog")
    assert cli("distance", "--text", "text.txt").code == 0
    assert load_result(run_copy / "distance-2").tables["distances"].empty


@pytest.mark.parametrize(
    ("typed", "place"), [("3:5", (3, 5)), ("7", 7), ("fox", "fox"), ("a:b", "a:b"), ("٣", "٣")]
)
def test_a_place_is_a_span_a_character_or_words(typed: str, place: object) -> None:
    assert parsed_place(typed, "--from") == place


def test_a_gold_text_is_shown_with_its_words_wherever_it_begins(
    analysed: Made, cli: Cli, run_copy: Path
) -> None:
    made = analysed("show")
    row = made.result.tables["characters"].query("layer == 0")
    assert "".join(row["text"]) == "中国人民 today\n中国人民"
    assert row.loc[row["is_word_start"], "character"].tolist() == [0, 2, 5, 11, 13]
    assert set(row["word_grade"]) == {"gold"}
    assert "word starts (gold: gold.txt)" in {trace.name for trace in made.result.plot().data}
    gold, start = made.folder.parents[2] / "gold.txt", 21 * len("中国人民 today\n")
    assert cli("show", "--gold", gold, "--start", start).code == 0
    row = load_result(run_copy / "show").tables["characters"].query("layer == 0")
    assert "".join(row["text"]) == "发展经济"
    assert row["is_word_start"].tolist() == [True, False, True, False]


def test_a_part_of_a_text_is_shown_in_one_layer_with_the_attention_of_a_character(
    cli: Cli, run_copy: Path, text_file: Path
) -> None:
    part = ("--layer", "1", "--start", "4", "--length", "9")
    assert cli("show", "--text", text_file, *part, "--attention", "1.0", "--at", "7").code == 0
    tables = load_result(run_copy / "show").tables
    assert sorted(set(tables["characters"]["character"])) == list(range(4, 13))
    assert set(tables["characters"]["layer"]) == {1}
    assert set(tables["attention"]["query_character"]) == {7}
    assert cli("show", "abcabc", "--start", "2", "--attention", "0.1", "--at", "b").code == 0
    assert set(load_result(run_copy / "show-2").tables["attention"]["query_character"]) == {4}


def test_all_of_a_text_is_scored_or_as_much_as_is_asked_for(cli: Cli, run_copy: Path) -> None:
    Path("mine.txt").write_text("One paragraph.\n\nAnother one, a little longer.\n")
    found = cli("eval", "--text", "mine.txt", "--json").json
    wanted = len("One paragraph.") + len("Another one, a little longer.\n")
    assert found["provenance"]["data"]["n_bytes"] == wanted
    Path("new.txt").write_text("\n\n".join(f"Heron {n} stood in the pond. " * 9 for n in range(200)))
    answer = cli("eval", "--text", "new.txt", "--max-bytes", 2000, "--json")
    assert "max_bytes chooses how many" in " ".join(answer.err.split())
    assert 1_000 < answer.json["provenance"]["data"]["n_bytes"] <= 2_000


def test_a_dash_reads_the_text_from_stdin(cli: Cli, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("One text.", "Another one."):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"\ufeff{text}".encode()), "ascii"))
        found = cli("eval", "--text", "-", "--quiet", "--json").json
        assert found["provenance"]["data"]["n_bytes"] == len(text)
    for stream, said in ((io.TextIOWrapper(io.BytesIO(b"")), "- is empty"), (None, "stdin is closed")):
        monkeypatch.setattr("sys.stdin", stream)
        answer = cli("show", "--text", "-")
        assert answer.code == 2 and said in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "--quiet", "-5 degrees", "--layer", "0"), "layer 0"),
        (("show", "--quiet", "--layer", "0", "--", "-h"), "layer 0"),
        (("generate", "- item", "--max-new-tokens", "2", "--temperature", "0"), ""),
        (("distance", "--from", "-5", "--to", "up", "-5 is up --- not down"), "tokens"),
    ],
)
def test_a_text_may_begin_with_a_dash(cli: Cli, run_copy: Path, words: tuple[str, ...], said: str) -> None:
    answer = cli(*words)
    assert answer.code == 0, answer.err
    assert said in answer.out
    if words[0] == "show":
        command = load_result(run_copy / "show").provenance["command"]
        assert command.endswith(f"--model runs/{run_copy.name}" + (" -- -h" if "--" in words else ""))


def test_show_warns_of_white_space_that_a_model_has_never_seen(cli: Cli, run_copy: Path) -> None:
    manifest = json.loads((run_copy / "data.json").read_text())
    assert "never seen white space" not in cli("show", "a b").err
    (run_copy / "data.json").write_text(json.dumps(manifest | {"despaced": True}))
    assert "has never seen white space" in " ".join(cli("show", "a b").err.split())
    assert "never seen white space" not in cli("show", "ab").err


def test_corpora_are_listed_with_how_to_install_them(cli: Cli) -> None:
    found = cli("list", "corpora", "--json").json["corpora"]
    assert [one["name"] for one in found] == list(CORPORA)
    assert all(one["is_installed"] or one["install"].startswith("pip install") for one in found)
    assert all(name in cli("list", "corpora").out for name in CORPORA)


def test_runs_are_listed_with_the_pages_of_the_newest(cli: Cli, run_copy: Path) -> None:
    assert cli("show", "A cat.").code == 0
    printed = cli("list", "runs").out
    assert f"runs/{run_copy.name}" in printed
    assert printed.splitlines()[-1].strip() == f"runs/{run_copy.name}/show/report.html"
    assert cli("list", "runs", "--json").json["runs"][0]["status"] == "finished"
    assert "delimiters" in " ".join(cli("list", "runs", "--found").out.split("report.html")[-1].split())
    Path(f"runs/{run_copy.name}/show/result.json").write_text("{")
    torn = cli("list", "runs", "--found")
    assert torn.code == 0 and "left out" in torn.err
    shutil.rmtree("runs")
    assert "lrope-interp train" in cli("list", "runs").out
