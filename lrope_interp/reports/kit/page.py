"""One self-contained HTML page: opens from a file, offline, and shows every text as text.

Nothing is fetched: plotly.js (its cartesian bundle, MIT, shipped under `assets`) and our style
stand inside the page, and a content security policy forbids everything else. Only the two
scripts that we wrote into the page, named by their hash, may run; figures travel as JSON blocks,
which a browser never executes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from lrope_interp.errors import LRopeError
from lrope_interp.folders import write_text_atomically
from lrope_interp.reports.kit.blocks import Figures, Section, inline


@dataclass(frozen=True)
class Page:
    """Everything a report says; all strings are plain text.

    Attributes:
        title: The heading and the window's title.
        lead: Sentences under the heading: the finding in words, its weakness included; a pair
            begins with its first part in bold.
        facts: What was run on what, in the order shown.
        sections: The body.
        warnings: Shown in a box above the body.
        kicker: The small line above the heading.
    """

    title: str
    lead: Sequence[str | tuple[str, str]]
    facts: Mapping[str, str]
    sections: Sequence[Section]
    warnings: Sequence[str] = ()
    kicker: str = "lrope-interp"

    def html(self) -> str:
        """Render the page."""
        figures = Figures()
        body = "".join(section.html(figures) for section in self.sections)
        lead = "".join(_lead(line) for line in self.lead)
        data = "".join(
            f'<script type="application/json" id="{name}-data">{text}</script>\n'
            for name, text in figures.items
        )
        scripts = [asset("plotly-cartesian.min.js"), asset("draw.js")] if figures.items else []
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{asset('page.css')}</style>\n</head>\n<body>\n<main>\n"
            f'<header><p class="kicker">{escape(self.kicker)}</p><h1>{escape(self.title)}</h1>{lead}'
            "</header>\n"
            f"{_warnings(self.warnings)}{_facts(self.facts)}\n{body}\n</main>\n"
            f"{_NOSCRIPT}"
            f"{data}" + "".join(f"<script>{script}</script>\n" for script in scripts) + "</body>\n</html>\n"
        )


_NOSCRIPT = (
    '<noscript><p class="warnings">The figures of this page need JavaScript; it fetches nothing.</p>'
    "</noscript>\n"
)


def _lead(line: str | tuple[str, str]) -> str:
    bold, text = ("", line) if isinstance(line, str) else (f"<b>{escape(line[0])}.</b> ", line[1])
    return f'<p class="lead">{bold}{inline(text)}</p>'


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{inline(warning)}</li>" for warning in warnings)
    return f'<aside class="warnings" role="note"><h2>Read this first</h2><ul>{items}</ul></aside>'


def _facts(facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    return f'<dl class="facts">{items}</dl>'


def _policy(scripts: Sequence[str]) -> str:
    """Allow exactly these inline scripts, inline style, and images made in the page itself."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )


@cache
def asset(name: str) -> str:
    """Return a text file that is shipped with the reports."""
    return files("lrope_interp.reports").joinpath("assets", name).read_text(encoding="utf-8")


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
            f"cannot write the report to {path}: {error.strerror}; choose another --out"
        ) from error
    return path
