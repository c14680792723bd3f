"""The page: one file, nothing fetched, and every text stays text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import plotly
import plotly.graph_objects as go
import pytest
from report_samples import HOSTILE

from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit.blocks import Beside, Folded, Plot, Prose, Section, Table, figure_json
from lrope_interp.reports.kit.glyphs import described, is_delimiter, plain, visible, width_in_em
from lrope_interp.reports.kit.page import Page, asset, write_page
from lrope_interp.reports.kit.theme import layer_colour, new_figure


def _page(figure: go.Figure | None = None, text: str = "text") -> str:
    blocks = [Prose(text), Table(pd.DataFrame({text: [text]}), text, left=[text])]
    plots = [Plot(figure, text, text, text)] if figure is not None else []
    return Page(text, [text, (text, text)], {text: text}, [Section(text, [*blocks, *plots])], [text]).html()


def test_hostile_text_never_becomes_an_element():
    figure = new_figure(height=100, title="").add_scatter(x=[1], y=[1], text=[HOSTILE], customdata=[HOSTILE])
    html = _page(figure, HOSTILE)
    without_our_scripts = html.replace(asset("plotly-cartesian.min.js"), "").replace(asset("draw.js"), "")
    assert "<script>alert" not in without_our_scripts
    assert "<b>x</b>" not in without_our_scripts
    assert without_our_scripts.count("</script>") == 3  # plotly, draw, one figure
    assert "&lt;script&gt;alert(1)" in without_our_scripts


def test_figure_json_holds_the_text_and_nothing_that_ends_a_script():
    text = figure_json(go.Figure(go.Scatter(x=[1], y=[1], text=[HOSTILE])))
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text)["data"][0]["text"] == [HOSTILE]


def test_the_policy_admits_our_two_scripts_and_no_address():
    html = _page(new_figure(height=100))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert policy[1].count("sha256-") == 2
    assert "http" not in policy[1]


def test_a_page_refers_to_no_other_file():
    outside = _page(new_figure(height=100)).replace(asset("plotly-cartesian.min.js"), "")
    assert not re.search(r"""(src|href|url)\s*[=(]""", outside)
    assert "http" not in outside.replace("http-equiv", "")


def test_plotly_is_inlined_once_and_only_where_there_is_a_figure():
    mark = asset("plotly-cartesian.min.js")[:400]
    figure = new_figure(height=100)
    plot = Plot(figure, "", "")
    html = Page("t", [], {}, [Section("s", [Beside([plot, plot]), Folded("more", [plot])])]).html()
    assert html.count(mark) == 1
    assert html.count('type="application/json"') == 3
    assert mark not in _page()


def test_the_shipped_plotly_is_the_one_that_the_python_package_speaks():
    shipped = re.search(r"v(\d+)\.\d+\.\d+", asset("plotly-cartesian.min.js")[:200])
    bundled = re.search(r"v(\d+)\.\d+\.\d+", plotly.offline.get_plotlyjs()[:200])
    assert shipped is not None
    assert bundled is not None
    assert shipped[1] == bundled[1]
    assert "MIT" in asset("plotly-LICENSE.txt")


def test_a_section_without_blocks_is_left_out():
    assert "<section>" not in Page("t", [], {}, [Section("empty", [])]).html()


def test_writing_replaces_the_page_and_leaves_nothing_else(tmp_path: Path):
    path = tmp_path / "new" / "report.html"
    write_page("one", path)
    assert write_page("two 中 \ud800", path) == path
    assert path.read_text(encoding="utf-8") == "two 中 &#55296;"
    assert list(path.parent.iterdir()) == [path]


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LRopeError, match="cannot write the report"):
        write_page("html", tmp_path / "file" / "report.html")


@pytest.mark.parametrize(
    ("character", "shown"),
    [(" ", "␣"), ("\n", "⏎"), ("\t", "⇥"), ("\u3000", "␣"), ("\x00", "␀"), ("\u0301", "◌\u0301"),
     ("\u200d", "◦"), ("", "◦"), ("中", "中"), ("<", "<"), ("\u202e", "◦")],
)  # fmt: skip
def test_every_character_can_be_seen(character: str, shown: str):
    assert visible(character) == shown


def test_plain_switches_off_markup_and_tex():
    assert plain("<b>$x$</b>&") == "&lt;b&gt;&#36;x&#36;&lt;/b&gt;&amp;"


def test_characters_are_described_and_measured():
    assert described("中") == "中  U+4E2D"
    assert is_delimiter("。")
    assert not is_delimiter("中")
    assert (width_in_em("中"), width_in_em("a")) == (1.0, 0.6)


def test_layers_run_from_light_to_dark():
    brightness = [sum(bytes.fromhex(layer_colour(i, 6)[1:])) for i in range(6)]
    assert brightness == sorted(brightness, reverse=True)
    assert layer_colour(0, 1).startswith("#")
