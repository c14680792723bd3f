"""`show --gold` draws a segmented text with its words."""

from __future__ import annotations

from pathlib import Path

from cli_words import Cli

from lrope_interp.results import load_result


def test_a_gold_file_is_shown_with_its_words(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    gold = tmp_path / "words.txt"
    gold.write_text("中国 人民 today\n" * 21 + "发展 经济\n", encoding="utf-8")
    answer = cli("show", "--gold", gold, "--start", "0", "--length", "15", "--model", run_copy)
    assert answer.code == 0
    table = load_result(run_copy / "show").tables["characters"]
    row = table[table["layer"] == 0]
    assert "".join(row["text"]) == "中国人民 today\n中国人民"
    assert row.loc[row["is_word_start"], "character"].tolist() == [0, 2, 5, 11, 13]
    assert set(row["word_grade"]) == {"gold"}
    page = (run_copy / "show" / "report.html").read_text(encoding="utf-8")
    assert "word starts (gold: words.txt)" in page


def test_words_after_the_first_twenty_sentences_stay_in_their_places(
    cli: Cli, run_copy: Path, tmp_path: Path
) -> None:
    gold = tmp_path / "words.txt"
    gold.write_text("中国 人民 today\n" * 21 + "发展 经济\n", encoding="utf-8")
    start = str(21 * len("中国人民 today\n"))
    assert cli("show", "--gold", gold, "--start", start, "--model", run_copy).code == 0
    table = load_result(run_copy / "show").tables["characters"]
    row = table[table["layer"] == 0]
    assert "".join(row["text"]) == "发展经济"
    assert row["is_word_start"].tolist() == [True, False, True, False]


def test_two_texts_are_refused(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    gold = tmp_path / "words.txt"
    gold.write_text("a b\n", encoding="utf-8")
    answer = cli("show", "hello", "--gold", gold, "--model", run_copy)
    assert answer.code == 2
    assert "one text is wanted" in answer.err
    assert "got two" in answer.err
