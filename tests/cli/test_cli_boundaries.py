"""`boundaries` with a gold segmentation, chosen labels, a fixed twin and a second run."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
from cli_words import Cli, Train

from lrope_interp.results import load_result

SMALL = ("--max-bytes", "1500", "--layer", "1", "--quiet")
ARABIC = ("السلام", "عليكم", "كتاب", "قلم", "بيت")
CHINESE = ("中国", "人民", "今天", "报道", "新", "经济", "，")


def gold_lines(words: tuple[str, ...], n: int = 200) -> str:
    draw = random.Random(3)
    return "".join(f"{' '.join(draw.choices(words, k=draw.randint(4, 9)))}\n" for _ in range(n))


def conllu(n: int = 200) -> str:
    draw, out = random.Random(4), []
    for number in range(n):
        words = [draw.choice(CHINESE) for _ in range(8)]
        out.append(f"# sent_id = {number}\n# text = {''.join(words)}")
        out += [f"{at}\t{word}" + "\t_" * 7 + "\tSpaceAfter=No" for at, word in enumerate(words, start=1)]
        out.append("")
    return "\n".join([*out, ""])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("arabic.txt", gold_lines(ARABIC), marks=pytest.mark.slow),
        ("tree.conllu", conllu()),
    ],
)
def test_a_gold_file_is_scored_by_its_own_words(
    cli: Cli, run_copy: Path, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    answer = cli("boundaries", "--gold", name, "--labels", "words", *SMALL)
    assert answer.code == 0, answer.err
    result = load_result(run_copy / "boundaries")
    labels = result.tables["labels"]
    assert set(labels["label"]) == {"words"}
    assert set(labels["grade"]) == {"gold"}
    scores = result.tables["scores"]
    assert (
        scores.loc[(scores["signal"] == "increments") & (scores["metric"] == "roc_auc"), "value"]
        .notna()
        .any()
    )
    gaps = result.gaps
    assert gaps is not None
    if name != "arabic.txt":
        assert "jieba" in set(scores["signal"])
        text_has_space = gaps.loc[gaps["in_han"], "is_words"]
        assert 0.3 < text_has_space.mean() < 0.9, "words are joined, and some gaps lie inside them"


def test_labels_and_alignment_are_obeyed(cli: Cli, run_copy: Path) -> None:
    assert cli("boundaries", "--labels", "words, whitespace", "--align", "last", *SMALL).code == 0
    tables = load_result(run_copy / "boundaries").tables
    assert set(tables["scores"]["label"]) == {"words", "whitespace"}
    choices = tables["choices"]
    own = choices[(choices["signal"] == "increments") & (choices["stratum"] == "han")]
    assert set(own["align"]) == {"last"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--labels", "word"), "Did you mean 'words'"),
        (("--labels", ","), "no label"),
        (("--align", "first"), "not one of 'dev', 'lead', 'last', 'sum'"),
        (("--gold", "missing.txt"), "missing.txt"),
        (("--gold", "x.txt", "--text", "x.txt"), "give one of them"),
        (("--match", "nowhere"), "nowhere"),
        (("--fixed-model", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(
    cli: Cli, run_copy: Path, words: tuple[str, ...], said: str
) -> None:
    answer = cli("boundaries", *words)
    assert answer.code == 2
    assert said in answer.err
    errors = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert answer.err.splitlines()[-1:] == errors, "one line of error, the last"
    assert not (run_copy / "boundaries").exists()


@pytest.mark.slow
def test_a_fixed_twin_adds_its_cosine_and_a_learned_one_is_refused(
    cli: Cli, run_copy: Path, train_tiny: Train, tmp_path: Path
) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(train_tiny("fixed"), twin)
    answer = cli("boundaries", "--model", run_copy, "--labels", "words", "--fixed-model", twin, *SMALL)
    assert answer.code == 0, answer.err
    assert "cosine_fixed" in set(load_result(run_copy / "boundaries").tables["scores"]["signal"])
    assert "fixed increments" in cli("boundaries", "--model", run_copy, "--fixed-model", run_copy).err
    assert "learned its increments" in cli("boundaries", "--model", run_copy, "--match", twin).err


@pytest.mark.slow
def test_a_run_matched_with_itself_has_its_own_layers(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_copy, other)
    answer = cli(
        "boundaries",
        "--model",
        run_copy,
        "--labels",
        "words",
        "--match",
        other,
        "--max-bytes",
        "1500",
        "--quiet",
    )
    assert answer.code == 0, answer.err
    tables = load_result(run_copy / "boundaries").tables
    matches: pd.DataFrame = tables["matches"]
    assert (matches["layer"] == matches["other_layer"]).all()
    assert (matches["spearman"] > 1 - 1e-9).all()
    known = matches[matches["value"].notna()]
    assert len(known)
    assert (known["value"] == known["other_value"]).all()
    assert (tables["correlations"]["is_matched"].sum(), len(tables["correlations"])) == (2, 4)
