"""What the documentation says of hooks and tools is what the model and the tests say; its notebook runs."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lrope_interp.tokenizers import ByteTokenizer


@pytest.fixture(scope="module")
def generator(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_hooks", repository / "docs/generate_hooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_committed_list_of_hooks_is_the_generated_one(generator):
    assert generator.committed_list() == generator.hook_list(), "run: python docs/generate_hooks.py"


def test_the_generated_list_has_every_hook_point_of_every_mode(generator, make_model):
    listed = {row.name for row in generator.hook_rows()}
    for mode in ("per_layer", "shared", "fixed"):
        for name in make_model(increments=mode).hook_dict:
            assert re.sub(r"^blocks\.\d+\.", "blocks.l.", name) in listed


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


def test_the_notebook_reads_the_newest_finished_run(make_model, repository, tmp_path):
    folder = tmp_path / "runs" / "random"  # it looks finished; its weights are random
    make_model(n_layers=3, n_ctx=64, per_head=True).save_pretrained(folder)
    (folder / "data.json").write_text("{}")
    ByteTokenizer().save(folder)
    times = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T01:00:00+00:00"}
    (folder / "run.json").write_text(json.dumps({"format": 1, "status": "finished", **times}))
    done = subprocess.run(
        [sys.executable, str(repository / "examples/for_transformer_lens_users.py")],
        cwd=tmp_path,
        env={**os.environ, "TQDM_DISABLE": "1", "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "random: 3 layers, increments per_layer" in done.stdout
