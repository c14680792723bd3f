"""What a notebook shows of a model and of a cache."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from lrope_interp.models import LRopeTransformer

MakeModel = Callable[..., LRopeTransformer]


@pytest.mark.parametrize(
    ("increments", "per_head", "said"),
    [
        ("per_layer", False, "a head per layer"),
        ("shared", True, "one head for all layers, an increment per attention head"),
        ("fixed", True, "fixed to 1<"),
    ],
)
def test_a_model_shows_its_shape_and_a_cache_how_far_each_layer_steps(
    make_model: MakeModel, increments: str, per_head: bool, said: str
) -> None:
    model = make_model(increments=increments, per_head=per_head)
    html = model._repr_html_()
    assert said in html and f"{sum(one.numel() for one in model.parameters()):,}" in html
    _, cache = model.run_with_cache("far apart")
    shown = cache._repr_html_()
    for layer in range(model.cfg.n_layers):
        row = cache["increments", layer].float()[0]
        row = row.mean(dim=-1) if row.ndim == 2 else row
        assert f"layer {layer}</td>" in shown and f"mean {float(row.mean()):.2f}" in shown
    bars = [float(bar) for bar in re.findall(r"v-([\d.]+)h", shown)]
    assert len(bars) == model.cfg.n_layers * len(row)
    wanted = 8 * (row / row.mean()).clamp(max=2.5)
    assert bars[-len(row) :] == pytest.approx(wanted.tolist(), abs=0.06)
    assert "<script" not in html + shown


def test_names_of_the_user_stay_text_and_a_cache_without_increments_says_what_it_has(
    make_model: MakeModel,
) -> None:
    model = make_model()
    model.folder = "<b>runs</b>\n"  # pyright: ignore[reportAttributeAccessIssue]
    assert "&lt;b&gt;runs" in model._repr_html_()
    _, cache = model.run_with_cache("far", names_filter="hook_embed", remove_batch_dim=True)
    assert "1 activations" not in cache._repr_html_() and "1 activation" in cache._repr_html_()
