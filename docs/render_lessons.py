"""Run the lessons in examples/ and write them as pages: `python docs/render_lessons.py [--model RUN]`.

Prose and code go into docs/lessons/NAME.md as they stand (a test compares them), outputs as a notebook
shows them: results and tables as HTML, figures photographed to docs/img/. Without a run they read the
model that ships.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
# What the figures of each lesson show, in their order.
LESSONS = {
    "look": ["Detectors of word starts, best first: the layers stand among their controls"],
    "ablate": [
        "What freezing all layers to 1 costs, split into context, what the byte carries, and scale",
        "Change of each byte's loss when increments are frozen everywhere, at words, and at words alone",
    ],
    "probe": [],
}
FIGURE = "application/vnd.plotly.v1+json"
# What the theme of the site would do otherwise: shrink drawings to nothing, and pad their cells.
DRAWN = '<svg class="interval" style="max-width:none;width:88px;vertical-align:middle"'
THEME = [
    (' border="1" class="dataframe"', ""),
    ('<td><svg class="interval"', f'<td style="padding:2px 4px">{DRAWN}'),
    ("max-width:100%;height:auto", "max-width:none"),
    ("<svg viewBox", '<div style="overflow-x:auto"><svg viewBox'),
    ("</text></svg>", "</text></svg></div>"),
]
HEAD = "---\nhide: [toc]\n---\n\n"  # leaves room for wide tables
BEGIN, END = "<!-- output -->", "<!-- /output -->"


def source(name: str) -> Iterator[tuple[str, str]]:
    """Yield the cells of a lesson, "markdown" or "code" with the text that the page has."""
    import jupytext

    for cell in jupytext.read(TOP / "examples" / f"{name}.py").cells:
        text = cell.source.strip()
        if cell.cell_type == "markdown":  # links start from examples/ there, and from docs/lessons/ here
            text = text.replace("](../docs/lessons/", "](").replace("](../docs/", "](../")
        yield cell.cell_type, text


def committed(name: str) -> Iterator[tuple[str, str]]:
    """Yield the cells of the page as it stands in docs/lessons/, without what they put out."""
    page = (TOP / "docs" / "lessons" / f"{name}.md").read_text(encoding="utf-8").removeprefix(HEAD)
    page = re.sub(rf"{BEGIN}.*?{END}", "<!-- -->", page, flags=re.DOTALL)
    for place, part in enumerate(re.split(r"```python\n(.*?)\n```", page, flags=re.DOTALL)):
        for text in (one.strip() for one in part.split("<!-- -->")):
            if text:
                yield ("code" if place % 2 else "markdown"), text


def rendered(name: str, folder: Path, about: str) -> str:
    """Run a lesson in a folder and return its page, which ends with `about`."""
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(TOP / "examples" / f"{name}.py")
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=3600, kernel_name="python3", resources=resources).execute()
    outputs = (cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    parts, pictures = [], iter(enumerate(LESSONS[name], 1))
    for kind, text in source(name):
        parts.append(text if kind == "markdown" else f"```python\n{text}\n```")
        if kind == "code":
            parts.append(_between(_shown(output, name, pictures) for output in next(outputs)))
    parts.append(_between([about]))
    return HEAD + "\n\n".join(filter(None, parts)).replace(f"{folder}/", "") + "\n"


def _between(shown: Iterable[str]) -> str:
    text = "\n\n".join(filter(None, shown))
    return f"{BEGIN}\n\n{text}\n\n{END}" if text else ""


def _shown(output: dict[str, Any], name: str, pictures: Iterator[tuple[int, str]]) -> str:
    """Return an output as Markdown; nothing of what a notebook shows only while it runs."""
    data = output.get("data", {})
    if FIGURE in data:
        number, alt = next(pictures)
        _photograph(data[FIGURE], TOP / "docs" / "img" / f"lesson-{name}-{number}.png")
        return f"![{alt}](../img/lesson-{name}-{number}.png)"
    if output["output_type"] == "stream" and output["name"] == "stdout":
        return f"```text\n{output['text'].strip()}\n```"
    if output["output_type"] != "execute_result":  # a bar of progress, a warning
        return ""
    if "text/html" not in data:
        return f"```text\n{data['text/plain']}\n```"
    html = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)  # that of pandas
    for found, instead in THEME:
        html = html.replace(found, instead)
    return re.sub(r">\s*\n\s*<", "><", html).strip()


def _photograph(figure: dict[str, Any], target: Path) -> None:
    import plotly.graph_objects as go
    from make_pictures import photograph

    drawn = go.Figure(data=figure["data"], layout=figure["layout"])
    photograph([drawn.update_layout(width=800)], target)


def main() -> None:
    """Write the pages of all lessons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a finished run, instead of the reference")
    parser.add_argument("--only", choices=LESSONS, help="one lesson instead of all")
    asked = parser.parse_args()
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype"
    pages = TOP / "docs" / "lessons"
    pages.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        if asked.model:
            shutil.copytree(asked.model, Path(folder) / "runs" / asked.model.resolve().name)
        read = asked.model.resolve().name if asked.model else "the model that ships"
        for name in [asked.only] if asked.only else LESSONS:
            (pages / f"{name}.md").write_text(
                rendered(name, Path(folder), f"This page is `examples/{name}.py`, run on {read}."),
                encoding="utf-8",
            )


if __name__ == "__main__":
    main()
