"""A real browser opens each page from a file, with the network off, and finds nothing wrong."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pages import HOSTILE_MADE, MADE, RENDER
from report_samples import HOSTILE, spacing_result, write_run

from lrope_interp.reports import render as render_spacing
from lrope_interp.reports.kit.render import write_page
from lrope_interp.reports.training import render as render_training

pytestmark = pytest.mark.browser

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


# Figures are drawn when they come near the window.
DRAWN = """() => [...document.querySelectorAll('.plot, .strips')].every((node) => {
  const { width, top, bottom } = node.getBoundingClientRect();
  const isAway = !width || !node.checkVisibility() || top > innerHeight + 400 || bottom < -400;
  return node.dataset.drawn === 'yes' || isAway;
})"""
ALL_DRAWN = "() => !document.querySelector(':is(.plot, .strips):not([data-drawn=yes])')"
# A caption stays in sight where its table is wider than the window.
CAPTIONED = """() => [...document.querySelectorAll('.scroll:has(caption)')].every((box) => {
  box.scrollLeft = box.scrollWidth;
  const { left, right } = box.querySelector('caption span').getBoundingClientRect();
  return left >= 0 && right <= innerWidth + 1;
})"""
# What a reader meets: prose outside of tables, folds and what is not picked.
MEASURED = """() => {
  const first = document.querySelector('.plot');
  const seen = [...document.querySelectorAll('main :is(p, li, figcaption, caption, dd)')].filter((node) =>
    node.checkVisibility() && !node.closest('details')
    && !node.parentElement.closest('p, li, figcaption, caption, dd'));
  const words = (nodes) => nodes.map((node) => {
    const copy = node.cloneNode(true);
    copy.querySelectorAll('details').forEach((fold) => fold.remove());
    return copy.textContent.split(/\\s+/).filter(Boolean).length;
  }).reduce((sum, n) => sum + n, 0);
  const before = (node) => first && node.compareDocumentPosition(first) & Node.DOCUMENT_POSITION_FOLLOWING;
  return {
    before: words(seen.filter(before)), words: words(seen),
    y: first ? first.getBoundingClientRect().top + scrollY : 0,
    height: document.documentElement.scrollHeight, plots: document.querySelectorAll('.plot').length,
    width: document.documentElement.scrollWidth,
    smallest: Math.min(...[...document.querySelectorAll('main *, nav *')]
      .filter((node) => node.checkVisibility() && node.textContent.trim() && !node.closest('.plot'))
      .map((node) => parseFloat(getComputedStyle(node).fontSize))),
    headline: document.querySelector('.headline')?.textContent.trim().split(/\\s+/).length || 0,
  };
}"""


@dataclass
class Opened:
    """A page that was opened, and what it did meanwhile."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def assert_quiet(self) -> None:
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith("file:")] == []

    def texts(self, selector: str) -> list[str]:
        return self.page.eval_on_selector_all(selector, "found => found.map(one => one.textContent)")


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("CHROMIUM_PATH", browser_path)
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)  # other tests may hold every core

    def open_page(html: str, width: int = 1280, scheme: Any = "light") -> Opened:
        page = context.new_page()
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        found = Opened(page)
        page.on("console", lambda message: found.complaints.append(message.text))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (found.complaints.append("a script ran"), dialog.dismiss()))
        page.on("request", lambda request: found.requests.append(request.url))
        page.goto(f"file://{write_page(html, tmp_path / 'report.html')}")
        page.wait_for_selector("main")
        page.wait_for_function(DRAWN)
        return found

    yield open_page
    context.close()


def test_the_spacing_page_shows_hostile_text_as_text(opened: Callable[..., Opened]):
    found = opened(render_spacing(spacing_result(HOSTILE + " 中文", n_layers=2, attention=(1, 0, 5))))
    drawn = "".join(found.texts(".textpoint text"))
    assert "<script>alert(1)</script>" in drawn.replace("␣", " ")
    assert "中" in drawn
    assert HOSTILE.split("\u2028")[0] in found.texts("p.text")[0]
    assert found.page.query_selector("main b") is None
    found.assert_quiet()


def test_a_hover_names_character_bytes_increment_and_position(opened: Callable[..., Opened]):
    result = spacing_result("a<中>b", n_layers=1)
    found = opened(render_spacing(result))
    place = found.page.locator(".textpoint text", has_text="<").last.bounding_box()
    found.page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    found.page.wait_for_selector(".hovertext")
    text = "".join(found.texts(".hovertext"))
    line = result.tables["characters"].iloc[1]
    assert all(part in text for part in ("<  U+003C", "bytes 3c", f"increment {line['increment']:.3f}"))
    assert f"position {line['position']:.2f}" in text
    found.assert_quiet()


@pytest.mark.parametrize("width", [400, pytest.param(1280, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [*RENDER, "training"])
def test_a_page_opens_with_its_folds_and_is_no_wider_than_the_window(
    opened: Callable[..., Opened], tmp_path: Path, kind: str, width: int
):
    if kind == "training":
        html = render_training(write_run(tmp_path / "run"))
    else:
        html = RENDER[kind](HOSTILE_MADE[kind](HOSTILE) if kind in HOSTILE_MADE else MADE[kind]())
    found = opened(html, width)
    page = found.page
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.evaluate("document.querySelectorAll('[data-pick]').forEach((one) => { one.hidden = false })")
    page.set_viewport_size({"width": width, "height": page.evaluate("document.documentElement.scrollHeight")})
    page.wait_for_function(ALL_DRAWN)
    assert len(page.query_selector_all(".main-svg")) >= len(page.query_selector_all(".plot"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CAPTIONED)
    if kind in ("boundaries", "concepts"):
        assert any(text.strip().startswith("<script>") for text in found.texts(".ytick text"))
        assert "<" in found.texts(".strip bdi")
    found.assert_quiet()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", [*RENDER, "training"])
def test_the_first_screen_answers(
    opened: Callable[..., Opened], tmp_path: Path, kind: str, scheme: str, record_property: Any
):
    html = render_training(write_run(tmp_path / "run")) if kind == "training" else RENDER[kind](MADE[kind]())
    began = time.perf_counter()
    found = opened(html, scheme=scheme)
    seconds, wide = time.perf_counter() - began, found.page.evaluate(MEASURED)
    found.page.set_viewport_size({"width": 400, "height": 800})
    narrow = found.page.evaluate(MEASURED)
    told = wide | {"y_400": narrow["y"], "megabytes": len(html.encode()) / 1e6, "seconds": seconds}
    for name, value in told.items():
        record_property(name, value)
    sys.stdout.write(f"{kind} { {name: round(value, 2) for name, value in told.items()} }\n")
    assert told["headline"] <= 25 and told["before"] <= 60 and told["words"] <= 600, told
    assert not told["plots"] or told["y"] < 800, "a figure begins on the first screen"
    assert told["megabytes"] <= 2.5 and told["smallest"] >= 11 and narrow["width"] <= 400, told
    found.assert_quiet()


def test_a_reader_picks_sorts_enlarges_and_saves(opened: Callable[..., Opened]):
    result = MADE["boundaries"]()
    found = opened(RENDER["boundaries"](result))
    page = found.page
    for name, value in (("Boundary", "words"), ("Gaps", "han")):
        page.get_by_label(name).select_option(value)
    shown = page.eval_on_selector_all(
        "[data-pick]", "all => all.filter(one => !one.hidden).map(one => one.dataset.pick)"
    )
    assert {*shown} == {'["words", "han"]'}
    page.get_by_label("Boundary").select_option("whitespace")
    assert "Nothing was scored for this choice." in page.evaluate(
        "getComputedStyle(document.querySelector('.panels'), '::after').content"
    )
    table = page.locator("table.verdicts")
    names = table.locator("tbody th").all_inner_texts()
    table.locator("thead th").first.click()
    assert table.locator("tbody th").all_inner_texts() == sorted(names)
    assert table.locator("thead th").first.get_attribute("aria-sort") == "ascending"
    table.get_by_role("columnheader", name="ROC-AUC").click()
    values = [float(text.split()[0]) for text in table.locator("tbody td:nth-child(3)").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    figure = page.locator("figure").first
    figure.get_by_text("Enlarge").click()
    assert figure.bounding_box()["width"] == 1280
    page.keyboard.press("Escape")
    assert figure.bounding_box()["width"] < 1280
    with page.expect_download() as saving:
        figure.get_by_text("CSV").click()
    rows = list(csv.DictReader(Path(saving.value.path()).read_text(encoding="utf-8").splitlines()))
    best = [float(row["x"]) for row in rows if row["trace"] == "best layer"]
    assert best == result.frame()["value"].tolist()
    with page.expect_download() as saving:
        figure.get_by_text("SVG").click()
    assert Path(saving.value.path()).read_text(encoding="utf-8").startswith("<svg")
    found.assert_quiet()


def test_no_link_leads_off_the_page_but_to_files_beside_it(opened: Callable[..., Opened]):
    found = opened(RENDER["boundaries"](MADE["boundaries"]()))
    links = found.page.eval_on_selector_all("a", "found => found.map(one => one.getAttribute('href'))")
    assert links and all(link.startswith("#") or link.endswith((".csv", ".parquet")) for link in links)


def test_an_injected_script_would_not_run(opened: Callable[..., Opened]):
    html = render_spacing(spacing_result("text", n_layers=1))
    found = opened(html.replace("</main>", "</main><script>document.title = 'injected'</script>"))
    assert found.page.title() != "injected"
    assert any("Content Security Policy" in complaint for complaint in found.complaints)
