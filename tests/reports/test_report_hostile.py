"""Whatever a text, a name or a warning holds, a page has the elements that it has with harmless words.

Each page is rendered twice: with quotes, tags and line separators wherever a user's words may stand, and
with letters in the place of them. Markup that gets through makes an element, an attribute or a tag in a
figure that the harmless page does not have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ablation_samples import ablations_result
from concept_results import concepts_result
from context_cost_samples import cost_result
from replication_samples import replication_result
from report_samples import HOSTILE, PROVENANCE, boundaries_result, spacing_result, write_run
from test_report_distance import definitions_result, distance_result
from test_report_entities import entities_result

from lrope_interp.reports.ablations.page import render_ablations
from lrope_interp.reports.boundaries.page import render_boundaries
from lrope_interp.reports.concepts.page import render_concepts
from lrope_interp.reports.context.page import render_context_cost
from lrope_interp.reports.definitions.page import render_definitions
from lrope_interp.reports.distances.page import render_distance
from lrope_interp.reports.entities.page import render_entities
from lrope_interp.reports.evaluation.page import render_evaluation
from lrope_interp.reports.kit.blocks import Beside, Files, Folded, Plot, Prose, Section, Table
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.page import Page, asset, write_page
from lrope_interp.reports.kit.strips import Cell, Strip, Strips
from lrope_interp.reports.kit.theme import new_figure
from lrope_interp.reports.replication.page import render_replication
from lrope_interp.reports.spacing.page import render_spacing
from lrope_interp.reports.training.page import render_training
from lrope_interp.results import Result

EVIL = 'E"<img src=$x$ y=\'`onerror=alert(1)>&lt;&</script><b>%{x}</b>\n\u2028 onclick="'
TAME = re.sub(r"[^\w` \n]", "x", EVIL)
WORDS = ("document", "word", "word_a", "word_b", "first", "second", "matched_with")


def named(result: Result, text: str) -> Result:
    """Put a text wherever words of the user stand: the model's name, the data's, warnings, documents.

    Names of files may hold what is no character; tables hold text.
    """
    name = f"{text}\udcff"
    data = {**result.provenance.get("data", {}), "name": name}
    known = {"model": name, "data": data, "command": name, "versions": {"python": name}}
    tables = {}
    for key, table in result.tables.items():
        table = table.replace({HOSTILE: text})
        words = [one for one in WORDS if one in table]
        tables[key] = table.assign(**dict.fromkeys(words, text))
    return replace(
        result,
        provenance={**result.provenance, **known},
        warnings=(*(one for one in result.warnings if one != HOSTILE), name),
        tables=tables,
    )


def of_words(result: Result) -> Result:
    """Keep the label `words` among characters: a page of one label is drawn in a fifth of the time."""
    tables: dict[str, Any] = dict(result.tables)
    for name, table in tables.items():
        for column, value in (("label", "words"), ("stratum", "characters")):
            table = table[table[column] == value] if column in table else table
        tables[name] = table.reset_index(drop=True)
    return replace(result, tables=tables)


def evaluation(text: str) -> Result:
    sizes = {"nats_per_byte": [1.0], "ci_low": [0.9], "ci_high": [1.1], "n_bytes": [9], "n_documents": [1]}
    documents = {"document": [text], "language": [text], "nats_per_byte": [1.0], "bits_per_byte": [1.4]}
    tables = {
        "languages": pd.DataFrame({"language": [text], **sizes}),
        "documents": pd.DataFrame({**documents, "n_bytes": [9]}),
    }
    headline: dict[str, float | int | None] = {
        "nats_per_byte": 1.0,
        "bits_per_byte": 1.4,
        "ci_low": 0.9,
        "ci_high": 1.1,
    }
    return Result("eval", PROVENANCE, headline, tables)


def training(text: str, folder: Path) -> str:
    run = write_run(folder / "run")
    info = json.loads((run / "run.json").read_text())
    names = ("command", "data", "preset", "increments", "device", "dtype")
    (run / "run.json").write_text(json.dumps(info | dict.fromkeys(names, text) | {"versions": {text: text}}))
    sources = [{"part": text, "language": text, "package": text, "version": text, "n_documents": 2}]
    (run / "data.json").write_text(json.dumps({"format": 1, "name": text, "sources": sources}))
    (run / "config.json").write_text(
        json.dumps({"format": 1, "model": {text: text}, "training": {text: text}})
    )
    return render_training(run)


def blocks(text: str) -> str:
    """Every kind of block with the text wherever one may stand."""
    figure = new_figure(height=100).add_scatter(x=[1], y=[1], text=[plain(text)], name=plain(text))
    strip = Strip(text, text, [Cell(text, text, 3)])
    frame = pd.DataFrame({text: [text]})
    found = [
        Prose(text, text),
        Plot(figure, text, text, text),
        Plot(figure, text, text),
        Beside([Table(frame, text, [text], [text])]),
        Folded(text, [Strips([strip], text), Files([(text, text, text)])]),
    ]
    return Page(text, [text, (text, text)], {text: text}, [Section(text, found)], [text], text).html()


PAGES: dict[str, Callable[[str, Path], str]] = {
    "blocks": lambda text, _: blocks(text),
    "spacing": lambda text, _: render_spacing(
        named(spacing_result(text, n_layers=1, attention=(0, 0, 5)), text)
    ),
    "boundaries": lambda text, _: render_boundaries(
        named(of_words(boundaries_result(n_layers=1, n_seeds=1, hostile=True)), text)
    ),
    "ablations": lambda text, _: render_ablations(
        named(ablations_result(1, 1, ("en",), has_heads=True, hostile=text), text)
    ),
    "concepts": lambda text, _: render_concepts(named(concepts_result(n_layers=2, hostile=text), text)),
    "distance": lambda text, _: render_distance(named(distance_result(("a", "b", text)), text)),
    "definitions": lambda text, _: render_definitions(
        named(definitions_result({"names": -0.1, "same_name": -0.1, "roles": -0.1}, -0.1), text)
    ),
    "entities": lambda text, _: render_entities(named(entities_result(), text)),
    "evaluation": lambda text, _: render_evaluation(named(evaluation(text), text)),
    "replication": lambda text, _: render_replication(named(replication_result(), text)),
    "bench": lambda text, _: render_context_cost(named(cost_result(), text)),
    "training": training,
}


class Shape(HTMLParser):
    """The elements of a page, each with the names of its attributes; and the figures' texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, frozenset[str]]] = set()
        self.values: list[str] = []
        self.texts: list[str] = []
        self.figures: list[Any] = []
        self._is_figure = False
        for script in ("plotly-cartesian.min.js", "draw.js"):
            html = html.replace(asset(script), "")
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, frozenset(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]
        self._is_figure = ("type", "application/json") in attrs

    def handle_data(self, data: str) -> None:
        if self._is_figure:
            self.figures.append(json.loads(data))
        else:
            self.texts.append(data)
        self._is_figure = False


def strings(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return every string of a figure with the name that it stands under."""
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in strings(one, key)]
    if isinstance(value, list):
        return [found for one in value for found in strings(one, name)]
    return [(name, value)] if isinstance(value, str) else []


def tags(shape: Shape) -> set[str]:
    """Return what plotly would read as markup in the texts of the figures."""
    return {tag for _, text in strings(shape.figures) for tag in re.findall(r"</?\w+|\$", text)}


@pytest.mark.parametrize("name", PAGES)
def test_no_page_has_an_element_more_for_what_a_user_wrote(name: str, tmp_path: Path) -> None:
    html = PAGES[name](EVIL, tmp_path / "evil")
    evil, tame = Shape(html), Shape(PAGES[name](TAME, tmp_path / "tame"))
    assert evil.elements == tame.elements  # an open quote swallows the elements behind it
    assert tags(evil) - tags(tame) == set()
    assert [text for key, text in strings(evil.figures) if key.endswith("template") and 'E"' in text] == []
    for values in (
        evil.values,
        evil.texts,
    ):  # what is told of the text is told whole, or cut with an ellipsis
        assert [one for one in values if 'E"<img' in one and "onclick=" not in one and "…" not in one] == []
    assert any(EVIL in text for text in evil.texts), "the text stands on the page"
    written = write_page(html, tmp_path / "page.html").read_text(encoding="utf-8")
    assert written == html.encode("utf-8", "xmlcharrefreplace").decode()
