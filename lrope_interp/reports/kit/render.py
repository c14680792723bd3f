"""One self-contained HTML page from a template: opens from a file, offline, and shows every text as text.

Nothing is fetched: plotly.js (its cartesian bundle, MIT, shipped under `assets`), our script and our style
stand inside the page, and a content security policy forbids everything else. Only the scripts that we wrote
into the page, named by their hash, may run. Figures and strips of text travel as one block of compressed
JSON, which a browser never executes; what they say is drawn as text.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lrope_interp.errors import LRopeError
from lrope_interp.folders import write_text_atomically
from lrope_interp.reports.kit.glyphs import Strip
from lrope_interp.reports.kit.theme import template
from lrope_interp.reports.kit.verdicts import Verdicts
from lrope_interp.reports.kit.wording import interval, number, plural, signed, signed_interval
from lrope_interp.results import Result

_SCRIPTS = ("assets/plotly-cartesian.min.js", "kit/page.js")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lrope_interp", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "inline": inline, "number": number, "interval": interval, "signed": signed,
        "signed_interval": signed_interval, "plural": plural,
    }  # fmt: skip
    environment.tests["filled"] = lambda name, result: len(result.tables[name]) > 0
    return environment


def rendered(
    template: str,
    verdicts: Verdicts,
    *,
    kicker: str,
    about: Mapping[str, str],
    warnings: tuple[str, ...] = (),
    **words: Any,
) -> str:
    """Fill a template of `reports`, a child of `kit/page.html.j2`.

    Args:
        template: Its path below `reports`.
        verdicts: What stands on the first screen.
        kicker: The command that makes such a page.
        about: What was run on what, in the order shown; see `facts`.
        warnings: What a reader must know before believing the numbers.
        words: What else the template asks for.
    """
    drawn: dict[str, Any] = {}
    anchors: list[tuple[str, str]] = []

    def add(figure: go.Figure | Sequence[Strip]) -> str:
        name = f"drawn-{len(drawn)}"
        drawn[name] = (
            figure_json(figure) if isinstance(figure, go.Figure) else [asdict(one) for one in figure]
        )
        return name

    def anchor(title: str) -> str:
        anchors.append((re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"), title))
        return anchors[-1][0]

    def scripts() -> list[Markup]:
        return [asset(name) for name in (_SCRIPTS if drawn else _SCRIPTS[1:])]

    def packed() -> str:
        text = json.dumps({"template": _template(), **drawn}, ensure_ascii=False, separators=(",", ":"))
        return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode() if drawn else ""

    return _environment().get_template(template).render(
        {
            "verdicts": verdicts, "kicker": kicker, "facts": about, "warnings": warnings, "add": add,
            "anchor": anchor, "packed": packed, "anchors": anchors, "scripts": scripts, "asset": asset,
            "policy": lambda: _policy(scripts()), "is_flat": is_flat,
        }
        | words
    )  # fmt: skip


def embedded(verdicts: Verdicts, result: Result) -> str:
    """Return the verdicts of a result for a notebook: without script, style sheet or identifiers."""
    return _environment().get_template("kit/embedded.html.j2").render(verdicts=verdicts, result=result)


def _policy(scripts: list[Markup]) -> str:
    """Allow exactly these inline scripts, inline style, and images made in the page itself."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )


@cache
def asset(name: str) -> Markup:
    """Return a text file that is shipped with the reports, as it is."""
    text = files("lrope_interp.reports").joinpath(*name.split("/")).read_text(encoding="utf-8")
    return Markup(text)


def inline(text: str) -> Markup:
    """Escape text of ours, with `code` between backticks."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(str(text))))


def figure_json(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as plotly.js takes it, without the template that all figures of a page share."""
    content = json.loads(str(figure.to_json(engine="json")))
    if content["layout"].get("template") == _template():
        del content["layout"]["template"]
    return content


@cache
def _template() -> Any:
    return json.loads(str(go.Figure(layout={"template": template()}).to_json(engine="json")))["layout"][
        "template"
    ]


def is_flat(figure: go.Figure) -> bool:
    """Say whether a figure has no number to show but zeros: then a sentence says as much."""
    for trace in figure.data:
        if trace.hoverinfo == "skip":  # a reference line or a band
            continue
        shown = trace.z if trace.type == "heatmap" else trace.x if trace.orientation == "h" else trace.y
        values = np.asarray([] if shown is None else shown)
        if values.dtype.kind not in "fiu" or np.nan_to_num(values.astype(float)).any():
            return False
    return True


def write_page(html: str, path: Path) -> Path:
    """Write a page so that a reader sees the old one or the new one, never a part.

    Args:
        html: The page.
        path: Where it goes; the folder is made if it is missing.

    Returns:
        `path`.

    Raises:
        LRopeError: The folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, html, errors="xmlcharrefreplace")
    except OSError as error:
        raise LRopeError(
            f"cannot write the report to {path}: {error.strerror}; choose another place"
        ) from error
    return path
