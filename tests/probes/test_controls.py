"""Controls of the byte alone, tables fitted elsewhere, and models that never learned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lrope_interp.data import Document
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.controls import randomised_control
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.capture.controls import (
    UNTRAINED_OVERLAP,
    byte_mean,
    calibration_tokens,
    spacebyte,
    unseen_bytes_note,
    untrained,
)
from lrope_interp.probes.capture.selection import Selection
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
