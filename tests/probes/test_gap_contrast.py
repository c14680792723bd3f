"""The contrast of gaps between and within units, against counting by hand and planted effects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from structure_samples import both_languages, planted, signal, text_of, unmarked

from lrope_interp.data import BYTE_CLASSES, Document, byte_class
from lrope_interp.errors import LRopeError
from lrope_interp.probes.concepts.structure import (
    CONTRAST_COLUMNS,
    MIN_GAPS,
    contrast_designs,
    contrast_rows,
)
from lrope_interp.probes.concepts.units import StructuredText


def contrasts(text: StructuredText, name: str = "") -> pd.DataFrame:
    rows = contrast_rows(text, contrast_designs(text), name)
    return pd.DataFrame(rows, columns=list(CONTRAST_COLUMNS))


def cell(frame: pd.DataFrame, unit: str, byte_class: str = "all", language: str = "all") -> pd.Series:
    one = frame[(frame.unit == unit) & (frame.byte_class == byte_class) & (frame.language == language)]
    assert len(one) == 1
    return one.iloc[0]


def by_hand(text: StructuredText, unit: str, values: np.ndarray) -> dict[str, list[list[float]]]:
    """Values at gaps between and within units of a level, by byte class; gap by gap."""
    found: dict[str, list[list[float]]] = {}
    offset = 0
    for number, document in enumerate(text.captured.documents):
        spans, words = (
            [(a, b) for d, a, b in zip(one.document, one.start, one.end, strict=True) if d == number]
            for one in (text.units[unit], text.units["word"])
        )
        classes = byte_class(document.text)
        for character in range(1, len(document.text)):
            t = len(document.text[:character].encode())
            if unit != "word" and any(a < character < b for a, b in words):
                continue
            is_within = any(a < character < b for a, b in spans)
            sides = found.setdefault(BYTE_CLASSES[classes[t]], [[], []])
            sides[is_within].append(float(values[0, 0, offset + t]))
        offset += document.n_bytes
    return found


def test_means_and_counts_are_those_of_going_through_the_gaps_one_by_one() -> None:
    documents, units = both_languages(4)
    values = planted(documents, units["phrase"], 0.3)
    text = text_of(documents, units, {"": values})
    frame = contrasts(text)
    for unit in units:
        sides = {k: v for k, v in by_hand(text, unit, values).items() if v[0] and v[1]}
        assert sides
        for name, (between, within) in sides.items():
            row = cell(frame, unit, name)
            assert (row.n_between, row.n_within) == (len(between), len(within))
            if min(len(between), len(within)) >= MIN_GAPS:
                np.testing.assert_allclose(
                    [row["between"], row["within"], row.ratio],
                    [np.mean(between), np.mean(within), np.mean(between) / np.mean(within)],
                    rtol=1e-6,
                )
            else:
                assert np.isnan(row.ratio)
        enough = [one for one in sides.values() if min(map(len, one)) >= MIN_GAPS]
        weights = [len(within) for _, within in enough]
        means = [np.average([np.mean(one[side]) for one in enough], weights=weights) for side in (0, 1)]
        row = cell(frame, unit)
        np.testing.assert_allclose([row["between"], row["within"]], means, rtol=1e-6)
        assert row.ratio == pytest.approx(row["between"] / row["within"])


@pytest.mark.parametrize(
    ("language", "letters", "extra"), [("en", "a-z", 0.5), ("zh", "han lead", 0.5), ("en", "a-z", -0.3)]
)
def test_a_planted_change_is_found_with_its_size(language: str, letters: str, extra: float) -> None:
    documents, units = unmarked(60, language=language)
    frame = contrasts(text_of(documents, units, {"": planted(documents, units["phrase"], extra)}))
    row = cell(frame, "phrase", letters)
    assert row.ci_low < 1 + extra < row.ci_high
    assert row.ci_low > 1.3 if extra > 0 else row.ci_high < 0.9
    assert row.n_documents == 60


def test_noise_covers_one_and_increments_by_byte_class_alone_are_exactly_one() -> None:
    documents, units = both_languages(60)
    classes = np.concatenate([byte_class(one.text) for one in documents])
    frame = contrasts(text_of(documents, units, {"": signal(1.0 + classes)}))
    np.testing.assert_allclose(frame[frame.byte_class == "all"].ratio, 1, rtol=1e-6)
    documents, units = unmarked(60)
    frame = contrasts(text_of(documents, units, {"": planted(documents, [], 0.0)}))
    for unit in ("word", "phrase", "sentence"):
        row = cell(frame, unit)
        assert row.ci_low < 1 < row.ci_high


def test_gaps_inside_words_do_not_count_above_the_word() -> None:
    documents, units = unmarked(20)
    text = text_of(documents, units, {"": planted(documents, units["word"], 2.0)})
    frame = contrasts(text)
    assert cell(frame, "word").ratio > 2
    assert cell(frame, "phrase").ratio == pytest.approx(1, abs=0.05)
    assert cell(frame, "phrase", "a-z").n_within < cell(frame, "word", "a-z").n_within


def test_the_interval_is_that_of_resampled_documents() -> None:
    documents, units = unmarked(60)
    text = text_of(documents, units, {"": planted(documents, units["phrase"], 0.5)}, n_resamples=40)
    row = cell(contrasts(text), "phrase", "a-z")
    (design,) = [one for one in contrast_designs(text) if one.unit == "phrase"]
    values = text.signals[""][0, 0, design.at].astype(float)  # pyright: ignore
    is_class = design.cell // 2 == BYTE_CLASSES.index("a-z")
    drawn = []
    for weights in text.bootstrap.weights(60):
        own = weights[design.units.index] * is_class
        between, within = (own * (design.cell % 2 == side) for side in (0, 1))
        means = [(side * values).sum() / side.sum() for side in (between, within)]
        drawn.append(means[0] / means[1])
    np.testing.assert_allclose([row.ci_low, row.ci_high], np.quantile(drawn, [0.025, 0.975]), rtol=1e-4)


def test_text_shared_with_training_and_unmarked_documents_are_left_out() -> None:
    documents, units = unmarked(6)
    values = planted(documents, [], 0.0)
    text = text_of(documents, units, {"": values})
    is_scored = text.captured.document != 0
    halved = contrasts(replace(text, is_scored=is_scored))
    without = {name: [one for one in rows if one[0] != 0] for name, rows in units.items()}
    unmarked_first = contrasts(text_of(documents, without, {"": values}))
    pd.testing.assert_frame_equal(halved, unmarked_first)


def test_several_draws_of_a_control_give_their_mean_and_range() -> None:
    documents, units = unmarked(25)
    draws = [planted(documents, units["phrase"], extra, seed) for seed, extra in enumerate((0.1, 0.2, 0.6))]
    row = cell(contrasts(text_of(documents, units, {"untrained": draws}), "untrained"), "phrase")
    single = [
        cell(contrasts(text_of(documents, units, {"untrained": one}), "untrained"), "phrase").ratio
        for one in draws
    ]
    assert row.control == "untrained"
    assert row.ratio == pytest.approx(np.mean(single))
    assert (row.ci_low, row.ci_high) == pytest.approx((min(single), max(single)))


def test_a_signal_of_another_text_is_refused() -> None:
    document = Document("a", "ab cd", "made up", "en")
    with pytest.raises(LRopeError, match=r"'increments' must be \[1 layers or 1, heads, 5 bytes\]"):
        text_of([document], {"word": [(0, 0, 2)]}, {"": np.ones((1, 1, 4), dtype=np.float32)})
