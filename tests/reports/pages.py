"""One result of each kind, its page, and what a reader or a browser finds on it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
from ablation_samples import ablations_result
from boundary_samples import boundaries_result
from concept_results import concepts_result
from report_samples import spacing_result
from study_samples import (
    cost_result,
    definitions_result,
    distance_result,
    entities_result,
    evaluation_result,
    replication_result,
)

from lrope_interp.reports import render
from lrope_interp.reports.kit.render import asset
from lrope_interp.results import Result

MADE: dict[str, Callable[[], Result]] = {
    "spacing": lambda: spacing_result("The state of our 中国.\n\u2028", n_layers=2, attention=(1, 0, 5)),
    "boundaries": lambda: boundaries_result(n_layers=2, n_seeds=2),
    "ablations": lambda: ablations_result(2, 2, has_heads=True),
    "concepts": concepts_result,
    "distances": distance_result,
    "definitions": definitions_result,
    "entities": entities_result,
    "eval": evaluation_result,
    "replicate": replication_result,
    "bench": cost_result,
}
RENDER: dict[str, Callable[[Result], str]] = dict.fromkeys(MADE, render)
HOSTILE_MADE: dict[str, Callable[[str], Result]] = {
    "spacing": lambda text: spacing_result(text, n_layers=1, attention=(0, 0, 5)),
    "boundaries": lambda _: boundaries_result(
        n_layers=1, n_seeds=1, hostile=True, labels=("words",), strata=("characters",)
    ),
    "ablations": lambda text: ablations_result(1, 1, ("en",), has_heads=True, hostile=text),
    "concepts": lambda text: concepts_result(n_layers=2, hostile=text),
    "distances": lambda text: distance_result(("a", "b", text)),
    "eval": evaluation_result,
}


def drawn_in(html: str) -> dict[str, Any]:
    """Return the figures and strips of a page by name."""
    packed = re.search(r'<script type="text/plain" id="drawn">([^<]*)</script>', html)
    return json.loads(gzip.decompress(base64.b64decode(packed[1]))) if packed else {}


def text_of(html: str) -> str:
    """Return a page without scripts and styles."""
    return re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)


SCRIPTS = ("assets/plotly-cartesian.min.js", "kit/page.js")


class Shape(HTMLParser):
    """The elements of a page, each with the names of its attributes; and the figures' texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, frozenset[str]]] = set()
        self.values: list[str] = []
        self.texts: list[str] = []
        self.figures: list[Any] = []
        for script in SCRIPTS:
            html = html.replace(asset(script), "")
        self.feed(html)
        self.figures += [one for name, one in drawn_in(html).items() if name != "template"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, frozenset(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def strings(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return every string of a figure with the name that it stands under."""
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in strings(one, key)]
    if isinstance(value, list):
        return [found for one in value for found in strings(one, name)]
    return [(name, value)] if isinstance(value, str) else []


def drawn(value: Any) -> list[float]:
    """Return every number of a figure's data, those in words for the pointer too."""
    if isinstance(value, dict) and "bdata" in value:
        return np.frombuffer(base64.b64decode(value["bdata"]), value["dtype"]).astype(float).tolist()
    if isinstance(value, dict | list):
        inside = value.values() if isinstance(value, dict) else value
        return [found for one in inside for found in drawn(one)]
    try:
        return [float(value)]
    except (TypeError, ValueError):
        return []
