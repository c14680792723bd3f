"""What the documentation says about hooks and tools is what the model and the tests say."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def generator(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_hooks", repository / "docs/generate_hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_committed_table_of_hooks_is_the_generated_one(generator):
    assert generator.committed_table() == generator.hook_table(), "run: python docs/generate_hooks.py"


def test_the_generated_table_lists_every_hook_point_of_every_mode(generator, make_model):
    listed = {row.name for row in generator.hook_rows()}
    for mode in ("per_layer", "shared", "fixed"):
        for name in make_model(increments=mode).hook_dict:
            assert re.sub(r"^blocks\.\d+\.", "blocks.l.", name) in listed


def documented(generator: ModuleType) -> list[tuple[str, str]]:
    """Name and last cell of every row as committed."""
    rows = [line.split(" | ") for line in generator.committed_table().splitlines()[2:]]
    return [(row[0].strip("| *`"), row[-1]) for row in rows]


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
def test_every_documented_hook_fires_on_both_layers(generator, make_model, mode):
    model, seen = make_model(increments=mode), set()
    tokens = torch.arange(5)[None]
    for flag in generator.FLAGS:
        if flag:
            getattr(model, f"set_{flag}")(True)
        seen |= set(model.run_with_cache(tokens)[1].keys())
        if flag:
            getattr(model, f"set_{flag}")(False)
    for name, note in documented(generator):
        if "only in" in note and f"`{mode}`" not in note:
            continue
        for layer in range(2):
            assert name.replace("blocks.l.", f"blocks.{layer}.") in seen


def test_the_page_on_transformer_lens_cites_only_tests_that_exist(repository):
    page = (repository / "docs/transformer-lens.md").read_text(encoding="utf-8")
    cited = re.findall(r"`(test_\w+)::(test_\w+)`", page)
    assert len(cited) > 20
    for file, function in cited:
        path = next((repository / "tests").rglob(f"{file}.py"), None)
        assert path, file
        names = {
            node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
        }
        assert function in names, f"{file}::{function}"


def test_every_tool_that_the_library_exports_for_analysis_has_a_row(repository):
    from transformer_lens.tools import analysis

    page = (repository / "docs/transformer-lens.md").read_text(encoding="utf-8")
    helpers = {"EdgeAttributionConfig", "FaithfulnessConfig", "Node", "SparseProbeConvergenceError"}
    helpers |= {"JSpaceDecomposition", "LearnedSubspace", "SubspaceBasis"}
    missing = [name for name in analysis.__all__ if name not in helpers and f"`{name}`" not in page]
    assert missing == []
