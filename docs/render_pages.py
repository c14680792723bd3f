"""Put the page of every saved result into the site, as `evidence/pages/NAME.html`: a hook of mkdocs.

Pages are the product's own; in the site they share one copy of plotly. A page is rendered again only when
its result or the package has changed: until then the next build takes it from `.cache/pages`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import lrope_interp
from lrope_interp import reports
from lrope_interp.folders import write_text_atomically
from lrope_interp.reports.kit.render import asset
from lrope_interp.results import load_result

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

TOP = Path(__file__).resolve().parent.parent
CACHE = TOP / ".cache" / "pages"
PLOTLY = "plotly-cartesian.min.js"
BENCHMARKS = {"training-speed": "benchmarks.report"}  # results, and kinds, whose page is no command's


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every page to the files of the site, so that links to it are checked as links to all others."""
    from mkdocs.exceptions import PluginError
    from mkdocs.structure.files import File

    package = _digest(Path(lrope_interp.__file__).parent, ("*.py", "*.j2", "*.js", "*.css"))
    results = sorted(file.parent for file in (TOP / "results").glob("*/result.json"))
    CACHE.mkdir(parents=True, exist_ok=True)
    made_by = {name: package + _digest(TOP / "benchmarks", ("report.py",)) for name in BENCHMARKS}
    kept = [
        CACHE / f"{result.name}-{_digest(result, ('*',))}-{made_by.get(result.name, package)}.html"
        for result in results
    ]
    missing = [pair for pair in zip(results, kept, strict=True) if not pair[1].exists()]
    n_workers = min(os.cpu_count() or 1, len(missing))
    workers = [_worker(missing[number::n_workers]) for number in range(n_workers)]
    if any([worker.wait() for worker in workers]):
        raise PluginError("a page of results/ could not be rendered; what went wrong stands above")
    for old in {*CACHE.glob("*.html")} - {*kept}:
        old.unlink(missing_ok=True)
    made = {
        f"{result.name}.html": page.read_text(encoding="utf-8")
        for result, page in zip(results, kept, strict=True)
    }
    made[PLOTLY] = str(asset(f"assets/{PLOTLY}"))
    for name, content in made.items():
        files.append(File.generated(config, f"evidence/pages/{name}", content=content))
    return files


def _worker(pairs: list[tuple[Path, Path]]) -> subprocess.Popen[bytes]:
    """Start rendering some pages: this file, as a script."""
    arguments = [str(path) for pair in pairs for path in pair]
    return subprocess.Popen([sys.executable, __file__, *arguments])


def _render(folder: Path, page: Path) -> None:
    """Write the page of one result."""
    result = load_result(folder)
    pages = import_module(BENCHMARKS[result.kind]) if result.kind in BENCHMARKS else reports
    write_text_atomically(page, shared(pages.render(result)), errors="xmlcharrefreplace")


def shared(page: str) -> str:
    """Return a page that takes plotly from the file beside it, and may."""
    page = page.replace(f"<script>{asset(f'assets/{PLOTLY}')}</script>", f'<script src="{PLOTLY}"></script>')
    return page.replace("script-src ", "script-src &#39;self&#39; ", 1)


def _digest(folder: Path, patterns: tuple[str, ...]) -> str:
    found = hashlib.sha256()
    for file in sorted(file for pattern in patterns for file in folder.rglob(pattern) if file.is_file()):
        found.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return found.hexdigest()[:12]


if __name__ == "__main__":
    sys.path.insert(0, str(TOP))
    paths = [Path(one) for one in sys.argv[1:]]
    for folder, page in zip(paths[::2], paths[1::2], strict=True):
        _render(folder, page)
