"""Draw the pictures of the README and the docs from saved results: `python docs/make_pictures.py`.

Each picture is a figure of `results/NAME/`, photographed in headless Chromium, so that it shows what
the report shows. The command that made a result stands in its provenance.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright

from lrope_interp.results import load_result

TOP = Path(__file__).resolve().parent.parent
PICTURES: dict[str, list[tuple[str, str | None, dict[str, str]]]] = {
    "spacing.png": [("reference-spacing-en", None, {}), ("reference-spacing-zh", None, {})],
    "boundaries.png": [("reference-boundaries", None, {})],
    "controls.png": [("reference-boundaries", "controls", {"label": "words"})],
    "ablate.png": [("reference-ablations", None, {})],
    "split.png": [("reference-ablations", "split", {})],
    "probe.png": [("reference-concepts", None, {})],
    "replicate.png": [("replicate-tiny", None, {})],
}
WIDTH = 1000  # pixels of a figure that fills its page
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def browser_path() -> str:
    """Return a headless Chromium, or end with what to install."""
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    found = os.environ.get("BROWSER_PATH") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        sys.exit("no headless Chromium: apt-get install chromium-headless-shell fonts-wqy-zenhei")
    return found


def photograph(figures: list[go.Figure], target: Path) -> None:
    """Write figures, one under the other, as a PNG at one and a half times the screen's resolution."""
    for figure in figures:
        figure.update_layout(width=figure.layout.width or WIDTH)
    width = max(int(figure.layout.width) for figure in figures)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "figure.html"
        drawn = [
            figure.to_html(full_html=False, include_plotlyjs=number == 0, config={"displayModeBar": False})
            for number, figure in enumerate(figures)
        ]
        style = f"margin:0;background:white;display:inline-block;width:{width}px"
        page_file.write_text(f'<body style="{style}">{"".join(drawn)}</body>', encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        page = browser.new_context(offline=True, device_scale_factor=1.5).new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(page_file.as_uri())
        page.wait_for_selector(".main-svg")
        page.wait_for_timeout(500)
        page.locator("body").screenshot(path=str(target))
        browser.close()


def main() -> None:
    """Draw every picture whose result is there."""
    folder = TOP / "docs" / "img"
    folder.mkdir(exist_ok=True)
    for name, drawn in PICTURES.items():
        figures = [load_result(TOP / "results" / result).plot(of, **which) for result, of, which in drawn]
        photograph(figures, folder / name)


if __name__ == "__main__":
    main()
