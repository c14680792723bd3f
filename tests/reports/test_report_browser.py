"""A real browser opens each page from a file, with the network off, and finds nothing wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pages import HOSTILE_MADE, MADE, RENDER
from report_samples import HOSTILE, spacing_result, write_run

from lrope_interp.reports.kit.page import write_page
from lrope_interp.reports.spacing.page import render_spacing
from lrope_interp.reports.training.page import render_training

pytestmark = pytest.mark.browser

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


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

    def open_page(html: str, width: int = 1280) -> Opened:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        found = Opened(page)
        page.on("console", lambda message: found.complaints.append(message.text))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (found.complaints.append("a script ran"), dialog.dismiss()))
        page.on("request", lambda request: found.requests.append(request.url))
        page.goto(f"file://{write_page(html, tmp_path / 'report.html')}")
        page.wait_for_selector("main")
        page.wait_for_function(
            "[...document.querySelectorAll('.plot')].every("
            "p => p.dataset.drawn === 'yes' || p.closest('details:not([open])'))"
        )
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
    before = len(found.page.query_selector_all(".main-svg"))
    found.page.eval_on_selector_all("details", "found => found.forEach(one => { one.open = true })")
    found.page.wait_for_function(
        "[...document.querySelectorAll('.plot')].every(p => p.dataset.drawn === 'yes')"
    )
    folded = len(found.page.query_selector_all("details .plot"))
    assert len(found.page.query_selector_all(".main-svg")) - before >= folded
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    if kind in ("boundaries", "concepts"):
        assert any(text.strip().startswith("<script>") for text in found.texts(".ytick text"))
        assert "<" in found.texts(".strip bdi")
    found.assert_quiet()


def test_no_button_sends_the_text_anywhere(opened: Callable[..., Opened]):
    found = opened(render_spacing(spacing_result("text", n_layers=1)))
    titles = found.page.eval_on_selector_all(".modebar-btn", "found => found.map(b => b.dataset.title)")
    assert len(titles) == 4
    assert not any("loud" in title for title in titles)


def test_an_injected_script_would_not_run(opened: Callable[..., Opened]):
    html = render_spacing(spacing_result("text", n_layers=1))
    found = opened(html.replace("</main>", "</main><script>document.title = 'injected'</script>"))
    assert found.page.title() != "injected"
    assert any("Content Security Policy" in complaint for complaint in found.complaints)
