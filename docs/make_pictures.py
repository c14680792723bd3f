"""Draw the pictures of the README and the docs from saved results: `python docs/make_pictures.py`.

Each picture is a figure of `results/NAME/`, photographed in headless Chromium, so that it shows what
the report shows. The command that made a result stands in its provenance.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright

from lrope_interp.reports.spacing import plot_spacing
from lrope_interp.results import Result, load_result

TOP = Path(__file__).resolve().parent.parent
PICTURES: dict[str, tuple[str, Callable[[Result], go.Figure]]] = {
    "spacing.png": ("small-spacing", plot_spacing),
}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def browser_path() -> str:
    """Return a headless Chromium, or end with what to install."""
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    found = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        sys.exit("no headless Chromium: apt-get install chromium-headless-shell fonts-wqy-zenhei")
    return found


def photograph(figure: go.Figure, target: Path) -> None:
    """Write the figure as a PNG at twice the screen's resolution."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "figure.html"
        figure.write_html(page_file, include_plotlyjs=True, config={"displayModeBar": False})
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        page = browser.new_context(offline=True, device_scale_factor=2).new_page()
        page.set_viewport_size({"width": int(figure.layout.width) + 20, "height": 900})
        page.goto(page_file.as_uri())
        page.wait_for_selector(".main-svg")
        page.locator(".js-plotly-plot").screenshot(path=str(target))
        browser.close()


def main() -> None:
    """Draw every picture whose result is there."""
    folder = TOP / "docs" / "img"
    folder.mkdir(exist_ok=True)
    for name, (result, plot) in PICTURES.items():
        photograph(plot(load_result(TOP / "results" / result)), folder / name)


if __name__ == "__main__":
    main()
