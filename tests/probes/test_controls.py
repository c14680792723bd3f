"""Controls of the byte, tables fitted elsewhere, untrained models; what each signal is made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from probe_samples import english, select

from lrope_interp.data import Document
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.controls import randomised_control
from lrope_interp.probes.boundaries.signals import gather, twin_columns
from lrope_interp.probes.capture.capture import COSINE, capture
from lrope_interp.probes.capture.controls import (
    UNTRAINED_OVERLAP,
    byte_mean,
    calibration_tokens,
    spacebyte,
    unseen_bytes_note,
    untrained,
)
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.selection import HELD_OUT, Selection
from lrope_interp.probes.capture.signals import columns

MakeModel = Callable[..., LRopeTransformer]


def test_spacebyte_follows_the_first_of_several_spacelike_bytes(tiny_model: LRopeTransformer) -> None:
    captured = capture(tiny_model, [Document("d", "ab, c  D9.é", "x", "en"), Document("e", " a", "x", "en")])
    #           a  b  ,  ␣  c  ␣  ␣  D  9  .  é1 é2 | ␣  a
    wanted = [0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1]
    assert spacebyte(captured).tolist() == wanted


def test_the_byte_table_is_fitted_elsewhere(tiny_model: LRopeTransformer, bilingual: Selection) -> None:
    fit = capture(tiny_model, bilingual.fit)
    other = capture(tiny_model, [Document("d", "a\x00", "x", "en")])
    (first, *_) = columns(byte_mean(fit), {"test": other})
    assert first.values["test"][0] == pytest.approx(
        fit.increments[0, 0][fit.byte == ord("a")].mean(), rel=1e-5
    )
    assert first.values["test"][1] == other.increments[0, 0, 1], "layer 0 sees nothing but the byte"
    second = columns(byte_mean(fit), {"test": other})[1]
    assert second.values["test"][1] == pytest.approx(fit.increments[1, 0].mean(), rel=1e-5), "unseen byte"


def test_layer_zero_never_beats_its_own_byte_table_even_in_another_script(
    tiny_model: LRopeTransformer, bilingual: Selection
) -> None:
    fit = capture(tiny_model, bilingual.fit)
    arabic = capture(tiny_model, [Document("d", "\u0627\u0644\u0633\u0644\u0627\u0645 \u0639", "x", "und")])
    table = columns(byte_mean(fit), {"test": arabic})[0].values["test"]
    np.testing.assert_allclose(table, arabic.increments[0, 0], rtol=1e-5)
    assert "of the test bytes" in unseen_bytes_note(fit, arabic)[0]
    assert unseen_bytes_note(fit, fit) == []


@pytest.mark.parametrize(
    ("config", "layers"),
    [({}, [0]), ({"increments": "shared"}, [0, 1]), ({"per_head": True}, [0]), ({}, [0, 1])],
)
def test_an_untrained_control_is_the_control_models_own_increments(
    make_model: MakeModel, bilingual: Selection, config: dict, layers: list[int]
) -> None:
    """Also where a table of bytes stands in for the forward pass."""
    model = make_model(**config)
    documents = bilingual.test[:4]
    captured = capture(model, documents, layers=layers, predictions=False)
    signal = untrained(model, bilingual.fit, batch_size=64)[3]
    control = randomised_control(model, calibration_tokens(bilingual.fit, 32), 3)
    wanted = capture(control, documents, layers=layers, predictions=False, overlap=UNTRAINED_OVERLAP)
    np.testing.assert_allclose(signal.function(captured), wanted.increments, atol=1e-5)


def test_calibration_windows_have_no_pads(bilingual: Selection) -> None:
    tokens = calibration_tokens(bilingual.fit, 32)
    assert tokens.shape == (16, 32)
    assert (tokens[0, 0] == 256).all()
    assert int((tokens == 256).sum()) <= 16
    assert calibration_tokens([Document("d", "abc", "x", "en")], 32).tolist() == [[256, 97, 98, 99]]


OF_BYTES = {"spacebyte", "character_start"}
OF_TRAINING_TEXT = {"branching_entropy", "pmi", "nvbe", "nvbe_words"}
AS_IT_IS_READ = {"increments", "entropy", "entropy_next", "rise", "surprisal", "cosine"}
OF_FIT = {"byte_mean", "random_head", "untrained", "ceiling"}
OF_FIT_AND_TRAINING_TEXT = {"ngram_2", "ngram_3", "ngram_4", "ngram_5"}
EVERY = OF_BYTES | OF_TRAINING_TEXT | AS_IT_IS_READ | OF_FIT | OF_FIT_AND_TRAINING_TEXT


def documents(first: int, n: int = 2) -> tuple[Document, ...]:
    return tuple(english(number, 40) for number in range(first, first + n))


@pytest.fixture(scope="module")
def selection() -> Selection:
    return select(lambda number: [english(number, 40)], n=2, training=documents(5_000, 4))


def every_column(model: LRopeTransformer, selection: Selection) -> dict[tuple[str, str], np.ndarray]:
    """Return the values of every column, by name and split."""
    gaps = {split: Gaps.of(getattr(selection, split), ["whitespace"]) for split in HELD_OUT}
    _, found, _, _ = gather(model, selection, gaps, [0, 1], batch_size=64)
    return {(one.name, split): values for one in found for split, values in one.values.items()}


@pytest.fixture(scope="module")
def before(make_model: MakeModel, selection: Selection) -> dict[tuple[str, str], np.ndarray]:
    return every_column(make_model(), selection)


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
    after = every_column(make_model(), replace(selection, **changed))
    assert (moved(before, after, "dev"), moved(before, after, "test")) == (in_dev, in_test)


def test_a_signal_is_made_from_the_model_that_is_asked_about(
    make_model: MakeModel, selection: Selection, before: dict[tuple[str, str], np.ndarray]
) -> None:
    after = every_column(make_model(seed=1), selection)
    of_model = EVERY - OF_BYTES - OF_TRAINING_TEXT
    assert moved(before, after, "dev") == moved(before, after, "test") == of_model


def test_a_twin_is_read_itself_on_each_split(make_model: MakeModel, selection: Selection) -> None:
    twin = make_model(seed=3, increments="fixed")
    found = twin_columns(twin, selection, [0, 1], 0.5, batch_size=64)
    assert [(one.signal.name, one.layer) for one in found] == [("cosine_fixed", 0), ("cosine_fixed", 1)]
    for split in ("dev", "test"):
        read = capture(twin, getattr(selection, split), readouts=(COSINE,))
        for one in found:
            np.testing.assert_allclose(one.values[split], read.readouts[COSINE.name][one.layer, 0], atol=1e-5)
