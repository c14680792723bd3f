"""The page: one file, nothing fetched, and every text stays text."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pandas as pd
import plotly
import pytest
from pages import drawn_in
from report_samples import HOSTILE

from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit.glyphs import described, is_delimiter, plain, visible, width_in_em
from lrope_interp.reports.kit.render import asset, is_flat, rendered, write_page
from lrope_interp.reports.kit.theme import layer_colour, new_figure
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts


def page(figures: int = 0, text: str = "text") -> str:
    figure = new_figure(height=100).add_scatter(x=[1], y=[1], text=[text], customdata=[text])
    parts = [(f"part {i}", figure, pd.DataFrame({"a": [text]})) for i in range(figures)]
    about = {"kicker": "k", "about": {}, "title": text, "reads": text, "limits": text, "caption": text}
    return rendered(
        "kit/figures.html.j2", Verdicts(text, pd.DataFrame(columns=[*COLUMNS])), parts=parts, **about
    )


def test_figures_hold_the_text_and_travel_as_letters_that_end_no_script() -> None:
    html = page(2, HOSTILE)
    packed = re.search(r'<script type="text/plain" id="drawn">(.*?)</script>', html)
    assert packed is not None and re.fullmatch(r"[A-Za-z0-9+/=]+", packed[1])
    drawn = drawn_in(html)
    assert [*drawn] == ["template", "drawn-0", "drawn-1"]
    assert drawn["drawn-0"]["data"][0]["text"] == [HOSTILE]
    assert "template" not in drawn["drawn-0"]["layout"], "once for the page"
    assert page(2, HOSTILE) == html, "the same bytes for the same figures"


def test_the_policy_admits_our_two_scripts_and_no_address() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page(1))
    assert policy is not None
    assert unescape(policy[1]).startswith("default-src 'none'")
    assert policy[1].count("sha256-") == 2
    assert "http" not in policy[1]


def test_a_page_refers_to_no_other_file() -> None:
    outside = page(1).replace(asset("assets/plotly-cartesian.min.js"), "")
    assert not re.search(r"""(src|url)\s*[=(]""", outside)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', outside))
    assert {*re.findall(r"https?://[^\"']*", outside)} <= {"http://www.w3.org/2000/svg"}, "a name, no address"


def test_plotly_is_inlined_once_and_only_where_there_is_a_figure() -> None:
    mark = asset("assets/plotly-cartesian.min.js")[:400]
    assert page(3).count(mark) == 1 and page(3).count('class="plot"') == 3
    assert mark not in page()


def test_a_section_without_content_is_left_out_of_the_page_and_the_side_bar() -> None:
    html = page()
    assert "<section" not in html and 'href="#' not in html
    assert page(2).count("<section") == page(2).count('href="#') == 2


@pytest.mark.parametrize("drawn", ["difference", "value"])
def test_an_interval_is_drawn_to_scale_of_the_difference_or_else_of_the_value(drawn: str) -> None:
    bounds = ("difference_low", "difference_high") if drawn == "difference" else ("low", "high")
    rows = [(0.5, 0.25, 1.0), (-1.0, -1.0, -0.5)]
    frame = pd.DataFrame(rows, columns=[drawn, *bounds]).assign(what="it").reindex(columns=[*COLUMNS])
    if drawn == "difference":
        frame = frame.assign(value=5.0, low=4.0, high=9.0)
    found = Verdicts("", frame, reference=0.0)
    lengths = []
    for row, (value, low, high) in zip(found.rows, rows, strict=True):
        x = [float(one) for one in re.findall(r'(?:cx="|"M|H)([\d.]+)', row.drawn)]
        _, width, zero, left, right, dot = x
        scale = (width - 10) / 2  # from -1 to 1, with 5 pixels on each side
        assert [left, right, dot] == pytest.approx(
            [zero + scale * one for one in (low, high, value)], abs=0.11
        )
        lengths.append(right - left)
    assert lengths == pytest.approx([45.75, 30.5], abs=0.11)
    assert found.headings[found.drawn_in] == drawn.capitalize()


def test_what_is_zero_throughout_is_a_sentence() -> None:
    assert is_flat(new_figure(height=100).add_bar(x=["a", "b"], y=[0.0, 0.0]))
    assert is_flat(new_figure(height=100).add_heatmap(z=[[0.0, float("nan")]]))
    assert not is_flat(new_figure(height=100).add_bar(x=["a", "b"], y=[0.0, 0.1]))
    assert not is_flat(new_figure(height=100).add_bar(x=["a", "b"], y=["c", "d"]))


def test_the_shipped_plotly_is_the_one_that_the_python_package_speaks():
    shipped = re.search(r"v(\d+)\.\d+\.\d+", asset("assets/plotly-cartesian.min.js")[:200])
    bundled = re.search(r"v(\d+)\.\d+\.\d+", plotly.offline.get_plotlyjs()[:200])
    assert shipped is not None
    assert bundled is not None
    assert shipped[1] == bundled[1]
    assert "MIT" in asset("assets/plotly-LICENSE.txt")


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
