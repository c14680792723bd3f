"""Numbers and facts in words, the same on every page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lrope_interp.errors import plural as plural

NOTHING = "–"
CLASS_ORDER = (
    "space", "newline", "punctuation .!?", "other punctuation", "a-z", "A-Z", "0-9",
    "han lead", "han continuation", "other lead", "other continuation", "other",
)  # fmt: skip
LANGUAGES = {"en": "English", "zh": "Chinese", "code": "code", "und": "text", "all": ""}


def in_order(names: Iterable[str], order: tuple[str, ...]) -> list[str]:
    """Sort names: those known first, in their order, then the others as they came."""
    found = list(dict.fromkeys(names))
    return [name for name in order if name in found] + [name for name in found if name not in order]


def number(value: Any, digits: int = 2) -> str:
    """Format a number, or a dash where there is none."""
    if not is_number(value):
        return NOTHING
    return f"{float(value):.{digits}f}"


def is_number(value: Any) -> bool:
    """Say whether a value out of a table is a finite number."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def interval(low: Any, high: Any, digits: int = 3) -> str:
    """Format an interval, or nothing where there is none."""
    if not (is_number(low) and is_number(high)):
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def signed(value: Any, digits: int = 3) -> str:
    """Format a difference with its sign, U+2212 for minus; what rounds to zero has none."""
    text = number(value, digits)
    if not text.strip("-0."):
        return text.lstrip("-")
    return text.replace("-", "−") if text.startswith("-") else f"+{text}" if text[0].isdigit() else text


def signed_interval(low: Any, high: Any, digits: int = 3) -> str:
    """Format the interval of a difference, or a dash."""
    return f"[{signed(low, digits)}, {signed(high, digits)}]" if interval(low, high) else NOTHING


def shortened(name: str, length: int = 34) -> str:
    """Cut a name that a figure has no room for; tables and hovers show it whole."""
    return name if len(name) <= length else name[: length - 1] + "…"


def place(layer: int, head: int = -1) -> str:
    """Name a layer, or a head of it as TransformerLens does."""
    return f"layer {layer}" if head < 0 else f"head {layer}.{head}"


def listed(items: list[str]) -> str:
    """Join words as a sentence does: `a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def facts(provenance: Mapping[str, Any], created: str = "") -> dict[str, str]:
    """Turn a result's provenance into the facts on top of a page, in reading order."""
    data = provenance.get("data") or {}
    lines = {
        "Model": _model(provenance),
        "Text": _data(data),
        "Seed": provenance.get("seed"),
        "Versions": ", ".join(
            f"{name} {version}" for name, version in (provenance.get("versions") or {}).items()
        ),
        "Command": provenance.get("command"),
        "Made": _moment(created),
    }
    return {name: str(value) for name, value in lines.items() if value not in (None, "")}


def _moment(created: str) -> str:
    """Shorten an ISO 8601 time to the minute."""
    return created.replace("T", " ")[:16] + (" UTC" if created.endswith("+00:00") else "")


def _model(provenance: Mapping[str, Any]) -> str:
    config = provenance.get("config") or {}
    shape = [f"{config[key]} {word}" for key, word in _SHAPE.items() if key in config]
    digest = provenance.get("model_sha256") or ""
    parts = [str(provenance.get("model") or ""), ", ".join(shape), f"sha256 {digest[:12]}" if digest else ""]
    return " · ".join(part for part in parts if part)


_SHAPE = {"n_layers": "layers", "n_heads": "heads", "d_model": "wide", "increments": "increments"}


def _data(data: Mapping[str, Any]) -> str:
    if isinstance(data, str):
        return data
    name = str(data.get("name") or "")
    split = data.get("split") if data.get("split") != "all" else None
    size = [
        plural(int(data[f"n_{word}s"]), word)
        for word in ("document", "byte")
        if is_number(data.get(f"n_{word}s"))
    ]
    digest = str(data.get("sha256") or "")
    parts = [
        name,
        f"{split} split" if split else "",
        ", ".join(size),
        f"sha256 {digest[:12]}" if digest else "",
    ]
    return " · ".join(part for part in parts if part)
