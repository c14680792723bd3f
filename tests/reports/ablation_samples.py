"""Ablations made by hand: layer 0 matters, by its scale above all; later layers matter little."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.data import BYTE_CLASSES
from lrope_interp.results import Result, provenance

SHARES = (0.92, 0.03, 0.02, 0.0, 0.001, -0.004)  # of the cost of all layers, by layer
COSTS = {
    "one": 2.18, "mean": 0.17, "lexical": 0.02, "resample": 0.05, "shuffle": 0.21, "shift": 0.2,
    "scale": 0.6, "local": 0.15, "local_compensated": 0.03,
}  # fmt: skip
SPLIT = {"split_contextual": 0.02, "split_lexical": 0.15, "split_scale": 2.01, "split_total": 2.18}
COSTS_OF_ATTENTION = ("untouched", "one", "mean", "lexical")
FACTORS = (0.25, 0.5, 2.0, 4.0)
UNTOUCHED = 1.95
N, N_UNITS = 60_000, 41
CONTEXT = "她说中国 שלום a\u0301b\n😀<b>&\x00 the state of our union"
COLUMNS = [
    "intervention", "parameter", "design", "layers", "layer", "head", "where", "language", "metric",
    "byte_class", "value", "ci_low", "ci_high", "n", "n_units", "n_documents",
]  # fmt: skip


def ablations_result(
    n_layers: int = 6,
    n_heads: int = 4,
    languages: Sequence[str] = ("en", "zh"),
    suite: str = "full",
    *,
    has_heads: bool = False,
    hostile: str = "",
) -> Result:
    """Return a result with every table; `hostile` is put wherever a user's text may stand."""
    places = _places(n_layers, suite)
    rows = [row for place in places for row in _rows(place, languages)]
    if has_heads:
        rows += [row for place in _head_places(n_layers, n_heads) for row in _measured(place)]
    tables = {
        "ablations": pd.DataFrame(rows, columns=COLUMNS),
        "distances": _distances(hostile or "words"),
        "attention": _attention(n_layers, n_heads, languages),
        "examples": _examples(hostile),
        "base": _base(languages),
        "increments": _increments(n_layers, n_heads if has_heads else 0),
        "passes": _passes(places, n_layers),
    }
    blocks = tables["passes"][["blocks_run", "blocks_saved"]].sum()
    data = {"name": hostile or "sotu,zh-news", "n_bytes": N, "n_documents": N_UNITS, "split": "test"}
    config = {"n_layers": n_layers, "n_heads": n_heads, "d_model": 256, "increments": "per_layer"}
    extra = {"fit": {"n_bytes": 200_000, "n_documents": 120}, "suite": suite}
    return Result(
        kind="ablate",
        provenance=provenance(config=config, data=data, seed=0) | {"model": "runs/small"} | extra,
        headline={
            "untouched": UNTOUCHED, "mean_all": COSTS["mean"], "one_all": COSTS["one"], **SPLIT,
            "n_passes": float(len(places) + 1), "gain": float(blocks.sum() / blocks["blocks_run"]),
        },
        tables={name: _typed(table) for name, table in tables.items()},
        warnings=("no interval: fewer than 5 documents", *([hostile] if hostile else ())),
        created="2026-11-22T07:00:00+00:00",
    )  # fmt: skip


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    whole = ("layer", "head", "distance_high", "n", "n_units", "n_documents")
    return table.astype({name: "Int64" for name in whole if name in table})


def _place(
    intervention: str, design: str, layers: str, layer: int | None, *, where: str = "", **more: Any
) -> dict[str, Any]:
    own = {"intervention": intervention, "parameter": np.nan, "design": design, "layers": layers}
    return own | {"layer": layer, "head": None, "where": where, "value": 0.0} | more


def _places(n_layers: int, suite: str) -> list[dict[str, Any]]:
    """Return what was changed in each pass, with the change that is planted there."""
    found = []
    for name, cost in COSTS.items():
        wheres = ("words", "inside_words") if name.startswith("local") else ("",)
        for where in wheres:
            for parameter in (FACTORS if suite == "full" else (2.0,)) if name == "scale" else (np.nan,):
                size = cost * abs(np.log2(parameter)) if name == "scale" else cost
                own: dict[str, Any] = {"parameter": parameter, "where": where}
                found += [
                    _place(name, "single", str(k), k) | own | {"value": size * SHARES[k % 6]}
                    for k in range(n_layers)
                ]
                found.append(_place(name, "all", "all", None) | own | {"value": size})
    for name in ("one", "mean") if suite == "full" else ():
        found += _cumulative(name, n_layers)
    return found


def _cumulative(name: str, n_layers: int) -> list[dict[str, Any]]:
    shares, last, found = [SHARES[k % 6] for k in range(n_layers)], n_layers - 1, []
    for k in range(n_layers):
        for design, words, share in (
            ("up", f"0-{k}", sum(shares[: k + 1])),
            ("down", f"{k}-{last}", sum(shares[k:])),
            ("restore", f"all but {k}", sum(shares) - shares[k]),
        ):
            found.append(_place(name, design, words, k, value=COSTS[name] * share))
    return found


def _head_places(n_layers: int, n_heads: int) -> Iterable[dict[str, Any]]:
    for name, layer, head in product(("one", "mean"), range(n_layers), range(n_heads)):
        share = SHARES[layer % 6] / n_heads
        yield _place(name, "single", str(layer), layer, head=head, value=COSTS[name] * share)


def _rows(place: dict[str, Any], languages: Sequence[str]) -> list[dict[str, Any]]:
    found = _measured(place)
    for k, language in enumerate(languages):
        found.append(_row(place, language, "nats_per_byte", "all", place["value"] * (0.7 + 0.5 * k)))
    is_class = place["design"] in ("single", "all")
    for k, name in enumerate(BYTE_CLASSES[:-1] if is_class else ()):
        found.append(_row(place, "all", "nats_per_byte", name, place["value"] * (0.4 + 0.15 * k), k))
    if place["intervention"] == "one" and is_class:
        share = place["value"] / COSTS["one"]
        for part, cost in SPLIT.items():
            own = place | {"intervention": part}
            found.append(_row(own, "all", "nats_per_byte", "all", cost * share))
    return found


def _measured(place: dict[str, Any]) -> list[dict[str, Any]]:
    size = abs(place["value"])
    return [
        _row(place, "all", "nats_per_byte", "all", place["value"]),
        _row(place, "all", "kl", "all", 1.1 * size + 0.0003, half=0.0002),
        _row(place, "all", "flips", "all", min(0.3 * size + 0.002, 0.8), half=0.001),
    ]


def _row(
    place: dict[str, Any],
    language: str,
    metric: str,
    byte_class: str,
    value: float,
    rarity: int = 0,
    half: float = 0.0015,
) -> dict[str, Any]:
    units = 12 if byte_class == "0-9" else N_UNITS
    wide = half + 0.08 * abs(value) * (1 + 0.2 * rarity) if units >= 20 else np.nan
    n = N if byte_class == "all" else max(N // 4 ** (1 + rarity % 4), 20)
    found = {"language": language, "metric": metric, "byte_class": byte_class, "value": value}
    return place | found | _bounds(value, wide) | {"n": n, "n_units": units, "n_documents": units}


def _bounds(value: float, wide: float, name: str = "ci") -> dict[str, float]:
    return {f"{name}_low": value - wide, f"{name}_high": value + wide}


def _distances(label: str) -> pd.DataFrame:
    rows = []
    bins = ((0, 0), (1, 1), (2, 3), (4, 7), (8, 15), (16, None))
    for name, (k, (low, high)) in product(("one", "mean", "lexical"), enumerate(bins)):
        value = COSTS[name] * (1.6 - 0.25 * k)
        row = _place(name, "all", "all", None) | {"label": label, "distance": low, "distance_high": high}
        row |= {"value": value, "n": 9000 // (k + 1), "n_units": N_UNITS}
        rows.append(row | _bounds(value, 0.002 + 0.1 * abs(value)))
    return pd.DataFrame(rows).drop(columns="where")


def _attention(n_layers: int, n_heads: int, languages: Sequence[str]) -> pd.DataFrame:
    draw, rows = np.random.default_rng(3), []
    for language, (metric, scale) in product(
        ("all", *languages), (("look_back", 30.0), ("within_word", 0.5))
    ):
        before = scale * draw.uniform(0.2, 1.0, (n_layers, n_heads))
        for name, layer, head in product(COSTS_OF_ATTENTION, range(n_layers), range(n_heads)):
            moved = 0.0 if name == "untouched" else scale * float(draw.normal(0.0, 0.06))
            change = np.nan if name == "untouched" else moved
            value, wide = before[layer, head] + moved, 0.03 * scale
            row = {"intervention": name, "layer": layer, "head": head, "language": language, "n": N}
            row |= {"metric": metric, "value": value, "change": change}
            rows.append(row | _bounds(value, wide) | _bounds(change, wide, "change"))
    return pd.DataFrame(rows)


def _examples(hostile: str) -> pd.DataFrame:
    draw, rows, text = np.random.default_rng(4), [], (hostile + CONTEXT) * 4
    for name, rank, offset in product(("one", "mean", "lexical"), range(1, 9), range(-24, 25)):
        loss = float(draw.gamma(1.0, 1.0))
        value = 6.0 / rank if offset == 0 else float(draw.normal(0.1, 0.4))
        row = {"intervention": name, "design": "all", "layers": "all", "layer": None, "rank": rank}
        row |= {"document": hostile or f"speech {rank}.txt", "character": 1200 + rank, "offset": offset}
        row |= {"text": text[offset + 24 + rank], "value": value, "loss": loss, "ablated": loss + value}
        rows.append(row)
    return pd.DataFrame(rows)


def _base(languages: Sequence[str]) -> pd.DataFrame:
    same = {"n": N, "n_units": N_UNITS, "n_documents": N_UNITS, "unit": "block"}
    nats = {language: UNTOUCHED + 0.2 * k for k, language in enumerate(("all", *languages))}
    rows = [
        {"language": one, "nats_per_byte": value} | _bounds(value, 0.05) | same for one, value in nats.items()
    ]
    return pd.DataFrame(rows)


def _increments(n_layers: int, n_heads: int) -> pd.DataFrame:
    places = product(range(n_layers), range(n_heads) if n_heads else [None])
    rows = [(layer, head, 1.0 + 0.4 * layer, 0.3, 0.95 - 0.1 * layer, 200_000) for layer, head in places]
    return pd.DataFrame(rows, columns=["layer", "head", "mean", "sd", "lexical_share", "n"])


def _passes(places: list[dict[str, Any]], n_layers: int) -> pd.DataFrame:
    start = {"intervention": "untouched", "parameter": np.nan, "design": "", "layers": "", "head": None}
    rows = [start | {"where": "", "first_layer": 0, "blocks_run": n_layers, "blocks_saved": 0}]
    for place in places:
        skipped = place["layer"] if place["design"] in ("single", "down") else 0
        run = {"first_layer": skipped, "blocks_run": n_layers - skipped, "blocks_saved": skipped}
        rows.append({name: place[name] for name in (*start, "where")} | run)
    return pd.DataFrame(rows)
