"""A model and a cache as notebooks show them: their shape, and how far each layer steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from torch import Tensor

from lrope_interp.errors import plural, visible
from lrope_interp.models.config import LRopeConfig

_BAR, _HEIGHT, _TALLEST, _MOST = 4, 20, 2.5, 200  # pixels a position and a row; means; positions drawn


def model_html(cfg: LRopeConfig, n_parameters: int, where: str, folder: str) -> str:
    """Return the shape of a model as HTML.

    Args:
        cfg: Its configuration.
        n_parameters: How many numbers it has.
        where: Device and dtype.
        folder: What it was loaded from, if anything.
    """
    increments = {"fixed": "fixed to 1", "shared": "one head for all layers", "per_layer": "a head per layer"}
    facts = {
        "Shape": f"{plural(cfg.n_layers, 'layer')}, {plural(cfg.n_heads, 'head')}, {cfg.d_model} wide, "
        f"MLP {cfg.d_mlp}",
        "Increments": increments.get(cfg.increments, cfg.increments)
        + (", an increment per attention head" if cfg.per_head and cfg.increments != "fixed" else ""),
        "Reads": f"{cfg.n_ctx:,} tokens of {cfg.d_vocab:,} kinds",
        "Parameters": f"{n_parameters:,}, {where}",
        "From": folder,
    }
    rows = [_row(f"<b>{name}</b>", escape(visible(told))) for name, told in facts.items() if told]
    note = "What it makes of a text: <code>lr.show(model, text)</code>"
    return _table("LRopeTransformer", rows, note)


def cache_html(activations: Mapping[str, Tensor], has_batch_dim: bool) -> str:
    """Return what a cache holds as HTML: how much of it, and the increments of the first text by layer."""
    rows, shape = [], ""
    for name, values in activations.items():
        if not name.endswith(".hook_increments"):
            continue
        shape = f", increments {' × '.join(str(size) for size in values.shape)}"
        own: Any = (values[0] if has_batch_dim else values).detach().float()
        own = own.mean(dim=-1) if own.ndim == 2 else own  # over heads
        mean = float(own.mean())
        layer = name.split(".")[1] if name.startswith("blocks.") else "all"
        rows.append(_row(f"layer {escape(layer)}", f"mean {mean:.2f}", _bars((own / mean).tolist())))
    note = f"Bars: increments of the first text over their mean (line), up to {_MOST} tokens." if rows else ""
    many = "activation" if len(activations) == 1 else "activations"
    return _table(f"{len(activations):,} {many}{shape}", rows, note)


def _bars(values: Sequence[float]) -> str:
    """Draw a row of bars as a still SVG, with a line at 1."""
    shown, scale = values[:_MOST], _HEIGHT / _TALLEST
    bars = "".join(
        f"M{_BAR * at} {_HEIGHT}v-{scale * min(max(value, 0.0), _TALLEST):.1f}h{_BAR - 1}V{_HEIGHT}z"
        for at, value in enumerate(shown)
        if value == value
    )
    width, mean = _BAR * max(len(shown), 1), _HEIGHT - scale
    return (
        f'<svg width="{width}" height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}" role="img" '
        f'aria-label="increments of {len(shown)} tokens"><path d="{bars}" fill="#3b82c4"/>'
        f'<path d="M0 {mean}H{width}" stroke="currentColor" stroke-opacity=".4"/></svg>'
    )


def _row(*cells: str) -> str:
    style = 'style="text-align:left;padding:1px 12px 1px 0"'
    return "<tr>" + "".join(f"<td {style}>{cell}</td>" for cell in cells) + "</tr>"


def _table(title: str, rows: Sequence[str], note: str) -> str:
    body = f'<table style="border-collapse:collapse">{"".join(rows)}</table>' if rows else ""
    told = f'<p style="margin:4px 0;font-size:12px;opacity:.75">{note}</p>' if note else ""
    return f'<div><p style="margin:0 0 4px"><b>{title}</b></p>{body}{told}</div>'
