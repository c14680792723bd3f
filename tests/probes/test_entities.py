"""The study of names: what is counted and read, the published test, verdicts, all of it on a tiny model."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from probe_samples import chinese, english, select

from lrope_interp.data import Corpus, CorpusPart, Document
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.studies.entities.entities import (
    both_orders,
    entities,
    measured_bytes,
    one_sided,
    with_verdicts,
)
from lrope_interp.probes.studies.entities.pairs import EntityPair, read_pairs
from lrope_interp.probes.studies.entities.text import (
    ADDED,
    TextCounts,
    chinese_words,
    neighbours,
    select_passages,
    word_pairs,
    words_of,
)
from lrope_interp.results import Result

NAMES = tuple(
    EntityPair(first, second, "place")
    for first in ("the", "of", "is", "a", "and", "treaty")
    for second in ("peace", "nations")
)


def test_pairs_of_words_are_letters_with_one_space_between() -> None:
    text = "New York's New  York, New York-based 3 New York\nNew Jersey"
    found = [text[row[0] : row[3]] for row in neighbours(text)]
    assert found == ["New York", "New Jersey"]


def test_marks_and_joiners_are_part_of_their_words_in_text_and_in_lists(tmp_path: Path) -> None:
    pairs = ["नई दिल्ली", "Cafe\u0301 Noir", "São Paulo", "رُومَا قديمة", "می\u200cخواهم بروم"]
    text = ", ".join(pairs) + " cafe\u0301s x Cafe\u03011 Noir"
    assert [text[row[0] : row[3]] for row in neighbours(text)][: len(pairs)] == pairs
    assert "Noir" not in [text[a:b] for a, b in words_of("Cafe\u0301Noir")]
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join(pairs), encoding="utf-8")
    assert [pair.text for pair in read_pairs(path)] == pairs
    path.write_text("\u0301a b", encoding="utf-8")
    with pytest.raises(LRopeError, match="two words of letters"):
        read_pairs(path)


def test_the_bytes_of_pairs_and_words_are_found_where_they_stand(make_model: Callable[..., Any]) -> None:
    zh = Document("b", "中国的大人民", "x", "zh", words=((0, 2), (2, 3), (3, 6)), tags=("ns", "u", "n"))
    captured = capture(make_model(), [Document("a", "é New York, New York ab", "x", "en"), zh], layers=())
    raw, is_scored = bytes(captured.byte), np.ones(captured.n_bytes, dtype=bool)
    found = word_pairs(captured, is_scored, {"New York"})
    texts = [raw[start:past].decode() for start, past in zip(found.start, found.past, strict=True)]
    assert texts == ["é New", "New York", "New York", "York ab"]
    assert [found.texts[kind] for kind in found.kind] == texts
    assert found.is_name.tolist() == [False, True, True, False]
    assert [[raw[at] for at in row] for row in found.inner.tolist()] == [
        [ord(" "), ord(second)] for second in "NYYa"
    ]
    values = np.array([1.0, 2.0, np.nan, np.nan])
    np.testing.assert_array_equal(found.mean_of_kinds(values), [2.0, np.nan, 1.0])
    words = chinese_words(captured, is_scored)
    start = captured.offsets[1]
    assert [words.texts[kind] for kind in words.kind] == ["中国", "大人民"]
    assert (words.start - start).tolist() == [0, 9]
    assert (words.past - start).tolist() == [6, 18]
    assert (words.inner - start).tolist() == [[3, -1 - start], [12, 15]]
    assert words.kind_is_name().tolist() == [True, False]
    is_scored[raw.index(b"York")] = False  # in the first of two
    left = word_pairs(captured, is_scored, set())
    assert [left.texts[kind] for kind in left.kind] == ["é New", "New York", "York ab"]


def test_probabilities_are_counted_in_english_training_text_only() -> None:
    documents = [Document("a", "New York and New Jersey", "x", "en"), Document("b", "New York", "x", "code")]
    counts = TextCounts.of_words(documents)
    assert counts.pairs["New York"] == 1
    assert counts.log_p("New", "New York") == pytest.approx(np.log((1 + ADDED) / (2 + 4 * ADDED)))


def test_chinese_strings_count_wherever_they_stand() -> None:
    counts = TextCounts.of_strings([Document("a", "中国中国人中", "x", "zh")], {"中国", "国中国"})
    assert counts.pairs == {"中国": 2, "国中国": 1}
    assert counts.single["中"] == 3


def test_the_reversed_order_compares_the_same_bytes() -> None:
    pairs = (EntityPair("New", "York", "place"), EntityPair("Lake", "Erie", "place"))
    documents = both_orders(pairs)
    joined = b"".join(one.encoded for one in documents)
    offsets = np.cumsum([0] + [one.n_bytes for one in documents])
    assert [one.text for one in documents[:4]] == ["New York", "York New", "Lake Erie", "Erie Lake"]
    for measure, real, other in (
        ("pair", b"New York", b"York New"), ("inner", b" Y", b" N"), ("first_word", b"New", b"New"),
    ):  # fmt: skip
        start, past = measured_bytes(pairs, offsets)[measure]
        cut = [joined[a:b] for a, b in zip(start, past, strict=True)]
        assert cut[:2] == [real, other]
        assert cut[4:6] == [real, other]


def test_wilcoxon_is_one_sided_and_ties_say_nothing() -> None:
    apart = -np.arange(1.0, 9.0)
    assert one_sided(apart) == pytest.approx(1 / 2**8)
    assert one_sided(-apart) > 0.9
    assert one_sided(np.zeros(5)) == 1.0


@pytest.mark.parametrize(
    ("low", "high", "control", "verdict"),
    [
        (0.1, 0.3, 0.0, "larger"), (-0.3, -0.1, 0.0, "smaller"), (-0.1, 0.3, 0.0, "not shown"),
        (0.1, 0.3, 0.15, "control finds it too"), (-0.3, -0.1, -0.5, "control finds it too"),
        (-0.3, -0.1, 0.5, "smaller"), (np.nan, np.nan, 0.0, "not measured"),
    ],
)  # fmt: skip
def test_a_control_that_does_as_much_takes_the_verdict(
    low: float, high: float, control: float, verdict: str
) -> None:
    rows = [
        {"signal": "increments", "layer": 1, "value": 0.2 * np.sign(low), "ci_low": low, "ci_high": high},
        {"signal": "untrained", "layer": 1, "value": control, "ci_low": np.nan, "ci_high": np.nan},
    ]
    assert [row["verdict"] for row in with_verdicts(rows, ["layer"], "value")] == [verdict, ""]


@pytest.mark.parametrize(
    ("share", "difference", "verdict"),
    [
        (0.8, -0.1, "smaller"), (0.2, 0.1, "larger"), (0.5, 0.0, "not shown"),
        (0.0, 0.1, "larger"), (0.0, 0.0, "constant"),
    ],
)  # fmt: skip
def test_a_share_above_a_half_is_one_of_smaller_names(share: float, difference: float, verdict: str) -> None:
    about = {"layer": 1, "ci_low": share - 0.1, "ci_high": share + 0.1}
    rows = [about | {"signal": "increments", "share": share, "difference": difference}]
    # A control in which nothing moves has a share of 0 too, and is no rival.
    rows += [about | {"signal": "lexical", "share": 0.0, "difference": 0.0}]
    assert [row["verdict"] for row in with_verdicts(rows, ["layer"], "share", 0.5)] == [verdict, ""]


def tagged(number: int) -> Document:
    document = chinese(number)
    assert document.words is not None
    tags = tuple("ns" if (start + number) % 3 == 0 else "n" for start, _ in document.words)
    return replace(document, tags=tags)


@pytest.fixture(scope="module")
def selection() -> Selection:
    return select(lambda number: [english(number, 50), tagged(number)], n=8)


@pytest.fixture(scope="module")
def result(make_model: Callable[..., Any], selection: Selection) -> Result:
    return entities(make_model(), data=selection, pairs=NAMES, batch_size=5)


def test_every_table_is_there_with_increments_and_controls(result: Result) -> None:
    tables: dict[str, Any] = result.tables
    assert list(tables) == ["reversed", "regression", "matched", "balance", "chinese", "pairs"]
    for name in ("reversed", "regression", "matched", "chinese"):
        seeds = tables[name].groupby("signal")["seed"].nunique()
        assert seeds.to_dict() == {"increments": 0, "lexical": 0, "random_head": 3, "untrained": 3}
    assert result.headline["n_pairs"] == len(NAMES)
    assert result.headline["n_places"] == 2
    assert tables["regression"].query("model == 'raw'")["coefficient"].notna().all()


def test_layer_0_is_a_function_of_the_byte_so_that_nothing_can_be_shown(result: Result) -> None:
    reversed_order = result.tables["reversed"]
    own = reversed_order[(reversed_order["layer"] == 0) & (reversed_order["measure"] == "pair")]
    assert set(own["share"]) == {0.0}
    assert set(own["p"]) == {1.0}
    regression: Any = result.tables["regression"]
    at_space = regression[(regression["layer"] == 0) & (regression["response"] == "inner_space")]
    at_space = at_space[at_space["model"] == "raw"]
    assert set(at_space.loc[at_space["signal"] == "increments", "verdict"]) == {"constant"}


def test_the_plain_difference_is_that_of_the_model_as_it_is_run(
    result: Result, selection: Selection, make_model: Callable[..., Any]
) -> None:
    from lrope_interp.probes.capture.capture import capture

    model = make_model()
    mean = capture(model, selection.fit, predictions=False).increments[1, 0].mean(dtype=np.float64)
    sums = {True: [], False: []}
    for document in (one for one in selection.test if one.language == "en"):
        values = capture(model, [document], predictions=False).increments[1, 0] / mean
        encoded = document.encoded.decode("utf-8")
        for start, end, _, past in neighbours(encoded):
            sums[encoded[start:past] in {one.text for one in NAMES}].append(
                values[len(encoded[:end].encode())]
            )
    table = result.tables["regression"]
    row = table.query(
        "response == 'inner_space' and model == 'raw' and signal == 'increments' and layer == 1"
    )
    assert row["coefficient"].item() == pytest.approx(np.mean(sums[True]) - np.mean(sums[False]), abs=1e-5)
    assert row["n_names"].item() == len(sums[True])


def test_a_model_with_heads_has_a_row_a_head(make_model: Callable[..., Any]) -> None:
    small = select(lambda number: [english(number, 12)], n=2)
    found = entities(make_model(per_head=True, n_layers=1), data=small, pairs=NAMES)
    assert set(found.tables["matched"]["head"]) == {0, 1}
    assert found.tables["chinese"].empty
    assert any("no Chinese test" in one for one in found.warnings)


def test_text_in_neither_language_and_fixed_increments_are_refused(make_model: Callable[..., Any]) -> None:
    code = select(lambda number: [replace(english(number, 10), language="code")], n=2)
    with pytest.raises(LRopeError, match=r"needs English text with spaces, or Chinese.*languages: code"):
        entities(make_model(), data=code, pairs=NAMES)
    with pytest.raises(LRopeError, match="no increments that it learned"):
        entities(make_model(increments="fixed"), data=code, pairs=NAMES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("New York\nLondon\n", "line 2: wanted two words"), ("# ours\n\nNew York City", "line 3"),
        ("New York\nNew  York", "line 2: New York stands in the list twice"), ("\n# none\n", "no pair"),
        ("New 2nd", "line 1"),
    ],
)  # fmt: skip
def test_a_bad_list_names_its_line(text: str, said: str, tmp_path: Any) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(LRopeError, match=said):
        read_pairs(path)


def test_pairs_come_from_stdin_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfNew York\r\n# mine\r\nMae Jemison"))
    )
    assert [pair.text for pair in read_pairs("-")] == ["New York", "Mae Jemison"]


@pytest.fixture(scope="module")
def small() -> Selection:
    return select(lambda number: [english(number, 40)], n=3, training=texts_from(5_000))


def texts_from(first: int) -> tuple[Document, ...]:
    return tuple(english(number, 40) for number in range(first, first + 3))


def tables_of(make_model: Callable[..., Any], texts: Selection, **how: Any) -> dict[str, Any]:
    return dict(entities(make_model(n_layers=1), data=texts, pairs=NAMES, **how).tables)


@pytest.fixture(scope="module")
def before(make_model: Callable[..., Any], small: Selection) -> dict[str, Any]:
    return tables_of(make_model, small)


def test_the_batch_size_changes_nothing(
    before: dict[str, Any], small: Selection, make_model: Callable[..., Any]
) -> None:
    for name, table in tables_of(make_model, small, batch_size=5).items():
        pd.testing.assert_frame_equal(before[name], table, atol=1e-5, rtol=1e-4)


def moved(before: dict[str, Any], after: dict[str, Any]) -> dict[str, set[str]]:
    """Return for each table that is not what it was which signals differ in it."""
    found: dict[str, set[str]] = {}
    for name, table in before.items():
        if not table.equals(after[name]):
            signals = table["signal"] if "signal" in table else pd.Series("", index=table.index)
            is_same = (table == after[name]) | (table.isna() & after[name].isna())
            found[name] = set(signals[~is_same.all(axis=1)])
    return found


SIGNALS = {"increments", "lexical", "random_head", "untrained"}
COUNTED = {"balance": {""}, "pairs": {""}, "matched": SIGNALS}


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("fit", {"matched": SIGNALS, "reversed": SIGNALS}),
        ("dev", {}),
        ("test", COUNTED | {"regression": SIGNALS}),
        ("training", COUNTED | {"reversed": SIGNALS}),
    ],
)
def test_means_come_from_fit_counts_from_training_and_names_from_test(
    split: str,
    expected: dict[str, set[str]],
    small: Selection,
    before: dict[str, Any],
    make_model: Callable[..., Any],
) -> None:
    changed = replace(small, **{split: texts_from(9_000)})
    assert moved(before, tables_of(make_model, changed)) == expected


def test_without_training_text_names_are_counted_in_fit_and_dev(
    small: Selection, make_model: Callable[..., Any]
) -> None:
    alone = replace(small, training=None)
    counts = TextCounts.of_words((*small.fit, *small.dev)).pairs
    table = tables_of(make_model, alone)["pairs"]
    pairs = zip(table["first"], table["second"], table["training_count"], strict=True)
    assert all(n == counts[f"{first} {second}"] for first, second, n in pairs)
    assert table["training_count"].sum() > 0


def test_names_that_stand_in_training_text_are_not_counted(
    small: Selection, make_model: Callable[..., Any]
) -> None:
    first = tuple(np.arange(one.n_bytes) < 100 for one in small.test)
    masked = replace(small, shared={**small.shared, "test": first})
    rest = [replace(one, text=one.text[100:]) for one in small.test]
    words = sum(len(list(neighbours(one.text))) for one in rest)
    n = entities(make_model(n_layers=1), data=masked, pairs=NAMES).tables["regression"]["n"]
    assert 0 < n.iloc[0] <= words < sum(len(list(neighbours(one.text))) for one in small.test)


def test_of_passages_with_names_those_first_by_hash_are_taken_that_fit(small: Selection) -> None:
    documents = tuple(english(number, 400) for number in range(30))
    corpus = Corpus("en", (CorpusPart("en", "en", documents, 1.0),))
    every = sorted(select_passages(small, corpus, NAMES, 10**6).test, key=lambda one: one.sha256)
    taken = sorted(select_passages(small, corpus, NAMES, 5_000).test, key=lambda one: one.sha256)
    assert 0 < len(taken) < len(every) and taken == every[: len(taken)]
    n_bytes = sum(one.n_bytes for one in taken)
    assert n_bytes <= 5_000 < n_bytes + every[len(taken)].n_bytes
