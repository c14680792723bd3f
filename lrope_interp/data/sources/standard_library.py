"""Python code that needs no download: the running interpreter's own standard library."""

from __future__ import annotations

import os
import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from lrope_interp.data.documents import CorpusPart, Document, unique_documents
from lrope_interp.errors import LRopeError

NAME = "code"
_HELD_OUT_SHARE = 0.1
_SKIPPED_FOLDERS = frozenset(
    ["test", "tests", "idle_test", "site-packages", "dist-packages", "lib-dynload", "__pycache__"]
)


def load() -> CorpusPart:
    """Return one document a module, tests and installed packages left out."""
    root = Path(sysconfig.get_path("stdlib"))
    n_skipped = 0
    found: list[Document] = []
    for path in _modules(root):
        text = _read(path)
        if text is None:
            n_skipped += 1
        elif text.strip():
            found.append(Document(path.relative_to(root).as_posix(), text, NAME, "code"))
    documents, n_duplicates = unique_documents(found)
    if not documents:
        raise LRopeError(
            "this interpreter has no standard library in source form; use `--data file:PATH` with a "
            "folder of code"
        )
    source = {
        "package": platform.python_implementation(),
        "version": platform.python_version(),
        "files": "standard library, *.py, without tests",
        "rights": "PSF licence",
        "n_duplicates_removed": n_duplicates,
        "n_skipped": n_skipped,
    }
    return CorpusPart(NAME, "code", documents, _HELD_OUT_SHARE, source)


def _modules(root: Path) -> Iterator[Path]:
    """Walk the library in a fixed order."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith((".", "config-"))
        )
        # _sysconfigdata*.py is written when the interpreter is built, and names the machine's paths.
        yield from (
            Path(folder, name)
            for name in sorted(files)
            if name.endswith(".py") and not name.startswith("_sysconfigdata")
        )


def _read(path: Path) -> str | None:
    """Return a module's text by its declared encoding, or None where that fails."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None
