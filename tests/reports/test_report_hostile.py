"""Whatever a text, a name or a warning holds, a page has the elements that it has with harmless words.

Each page is rendered twice: with quotes, tags and line separators wherever a user's words may stand, and
with letters in the place of them. Markup that gets through makes an element, an attribute or a tag in a
figure that the harmless page does not have.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from pages import HOSTILE_MADE, MADE, RENDER, Shape, strings
from report_samples import HOSTILE, write_run

from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.render import rendered, write_page
from lrope_interp.reports.kit.theme import new_figure
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.training import render as render_training
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
        words = [one for one in WORDS if one in table]
        tables[key] = table.replace({HOSTILE: text}).assign(**dict.fromkeys(words, text))
    warnings = (*(one for one in result.warnings if one != HOSTILE), name)
    return replace(result, provenance={**result.provenance, **known}, warnings=warnings, tables=tables)


def training(text: str, folder: Path) -> str:
    run = write_run(folder / "run")
    info = json.loads((run / "run.json").read_text())
    names = ("command", "data", "preset", "increments", "device", "dtype")
    sources = [{"part": text, "language": text, "package": text, "version": text, "n_documents": 2}]
    for name, told in {
        "run.json": info | dict.fromkeys(names, text) | {"versions": {text: text}},
        "data.json": {"format": 1, "name": text, "sources": sources},
        "config.json": {"format": 1, "model": {text: text}, "training": {text: text}},
    }.items():
        (run / name).write_text(json.dumps(told))
    return render_training(run)


def blocks(text: str, _: Path) -> str:
    """Every block of the kit with the text wherever one may stand."""
    figure = new_figure(height=100).add_scatter(x=[1], y=[1], text=[plain(text)], name=plain(text))
    row = dict.fromkeys(COLUMNS, text) | dict.fromkeys(COLUMNS[2:5] + COLUMNS[6:9], 0.5)
    found = Verdicts(text, pd.DataFrame([row]), dict.fromkeys(("what", "value"), text), caption=text)
    words = dict.fromkeys(("title", "reads", "limits", "caption"), text)
    table = pd.DataFrame({text: [text]})
    about = {"kicker": text, "about": {text: text}, "warnings": (text,)}
    return rendered("kit/figures.html.j2", found, parts=[(text, figure, table)], **about, **words)


def page(kind: str, text: str, folder: Path) -> str:
    if kind in ("training", "blocks"):
        return {"training": training, "blocks": blocks}[kind](text, folder)
    made = HOSTILE_MADE[kind](text) if kind in HOSTILE_MADE else MADE[kind]()
    return RENDER[kind](named(made, text))


def tags(shape: Shape) -> set[str]:
    """Return what plotly would read as markup in the texts of the figures; strips are written as text."""
    figures = [one for one in shape.figures if "data" in one]
    return {tag for _, text in strings(figures) for tag in re.findall(r"</?\w+|\$", text)}


@pytest.mark.parametrize("kind", [*RENDER, "training", "blocks"])
def test_no_page_has_an_element_more_for_what_a_user_wrote(kind: str, tmp_path: Path) -> None:
    html = page(kind, EVIL, tmp_path / "evil")
    evil, tame = Shape(html), Shape(page(kind, TAME, tmp_path / "tame"))
    assert evil.elements == tame.elements  # an open quote swallows the elements behind it
    assert tags(evil) - tags(tame) == set()
    assert [text for key, text in strings(evil.figures) if key.endswith("template") and 'E"' in text] == []
    for values in (evil.values, evil.texts):  # what is told is told whole, or cut with an ellipsis
        assert [one for one in values if 'E"<img' in one and "onclick=" not in one and "…" not in one] == []
    assert any(EVIL in text for text in evil.texts), "the text stands on the page"
    written = write_page(html, tmp_path / "page.html").read_text(encoding="utf-8")
    assert written == html.encode("utf-8", "xmlcharrefreplace").decode()
