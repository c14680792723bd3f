"""Which text and which model each signal of the leaderboard is made from: what moves with which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from probe_samples import english, select

from lrope_interp.data import Document
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.boundaries.signals import gather, twin_columns
from lrope_interp.probes.capture.capture import COSINE, capture
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.selection import HELD_OUT, Selection

MakeModel = Callable[..., LRopeTransformer]
OF_BYTES = {"spacebyte", "character_start"}
OF_TRAINING_TEXT = {"branching_entropy", "pmi"}
AS_IT_IS_READ = {"increments", "entropy", "entropy_next", "rise", "surprisal", "cosine"}
OF_FIT = {"byte_mean", "random_head", "untrained", "ceiling"}
OF_FIT_AND_TRAINING_TEXT = {"ngram_2", "ngram_3", "ngram_4", "ngram_5"}
EVERY = OF_BYTES | OF_TRAINING_TEXT | AS_IT_IS_READ | OF_FIT | OF_FIT_AND_TRAINING_TEXT


def documents(first: int, n: int = 2) -> tuple[Document, ...]:
    return tuple(english(number, 40) for number in range(first, first + n))


@pytest.fixture(scope="module")
def selection() -> Selection:
    return select(lambda number: [english(number, 40)], n=2, training=documents(5_000, 4))


def columns(model: LRopeTransformer, selection: Selection) -> dict[tuple[str, str], np.ndarray]:
    """Return the values of every column, by name and split."""
    gaps = {split: Gaps.of(getattr(selection, split), ["whitespace"]) for split in HELD_OUT}
    _, found, _, _ = gather(model, selection, gaps, [0, 1], batch_size=64)
    return {(one.name, split): values for one in found for split, values in one.values.items()}


@pytest.fixture(scope="module")
def before(make_model: MakeModel, selection: Selection) -> dict[tuple[str, str], np.ndarray]:
    return columns(make_model(), selection)


def moved(before: dict, after: dict, split: str) -> set[str]:
    """Return the signals of which a column of a split is not what it was, bit for bit."""
    assert before.keys() == after.keys()
    same = {key for key in before if np.array_equal(before[key], after[key])}
    return {name.split(".")[0] for name, of in before.keys() - same if of == split}


@pytest.mark.parametrize(
    ("changed", "in_dev", "in_test"),
    [
        ({"dev": documents(9_000)}, EVERY, set()),
        ({"test": documents(9_000)}, set(), EVERY),
        ({"fit": documents(9_000)}, OF_FIT | OF_FIT_AND_TRAINING_TEXT, OF_FIT | OF_FIT_AND_TRAINING_TEXT),
        (
            {"training": documents(9_000, 4)},
            OF_TRAINING_TEXT | OF_FIT_AND_TRAINING_TEXT,
            OF_TRAINING_TEXT | OF_FIT_AND_TRAINING_TEXT,
        ),
    ],
    ids=["dev", "test", "fit", "training"],
)
def test_a_signal_is_made_from_its_own_text_and_no_other(
    changed: dict[str, Sequence[Document]],
    in_dev: set[str],
    in_test: set[str],
    make_model: MakeModel,
    selection: Selection,
    before: dict[tuple[str, str], np.ndarray],
) -> None:
    after = columns(make_model(), replace(selection, **changed))
    assert (moved(before, after, "dev"), moved(before, after, "test")) == (in_dev, in_test)


def test_a_signal_is_made_from_the_model_that_is_asked_about(
    make_model: MakeModel, selection: Selection, before: dict[tuple[str, str], np.ndarray]
) -> None:
    after = columns(make_model(seed=1), selection)
    of_model = EVERY - OF_BYTES - OF_TRAINING_TEXT
    assert moved(before, after, "dev") == moved(before, after, "test") == of_model


def test_a_twin_is_read_itself_on_each_split(make_model: MakeModel, selection: Selection) -> None:
    twin = make_model(seed=3, increments="fixed")
    found = twin_columns(twin, selection, [0, 1], batch_size=64)
    assert [(one.signal.name, one.layer) for one in found] == [("cosine_fixed", 0), ("cosine_fixed", 1)]
    for split in ("dev", "test"):
        read = capture(twin, getattr(selection, split), readouts=(COSINE,))
        for one in found:
            assert np.array_equal(one.values[split], read.readouts[COSINE.name][one.layer, 0])
