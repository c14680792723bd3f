"""What `import lrope_interp as lr` gives: every name, whatever was imported, and whole analyses by it."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import lrope_interp as lr
from lrope_interp.data import read_manifest
from lrope_interp.training.config import TrainConfig

EVERYTHING = """
import importlib, inspect, pkgutil, lrope_interp as lr
for one in pkgutil.walk_packages(lr.__path__, "lrope_interp."):
    one.name.endswith("__main__") or importlib.import_module(one.name)
for name in lr.__all__ * 2:
    found = getattr(lr, name)
    assert name == "__version__" or not inspect.ismodule(found) and callable(found), name
"""
ANALYSES = """
for _ in range(2):
    model = lr.load()
    kinds = [one.kind for one in (
        lr.boundaries(model, text="The peace of nations. " * 40, layers=0, labels=["words"], max_bytes=2_000),
        lr.ablate(model, text=["The peace of nations."] * 2, layers=0, freeze="1", max_bytes=2_000),
        lr.show(model, "The peace of nations."),
        lr.distance(model, "The peace of nations.", "peace", "nations", layers=[0, 1]),
        lr.eval(model, text="The peace of nations."),
    )]
    assert kinds == ["boundaries", "ablate", "show", "distance", "eval"], kinds
    assert lr.generate(model, "The", 3, seed=1).startswith("The")
    with lr.ablated(model, lr.freeze(1.0)):
        lr.generate(model, "The", 3)
    assert lr.ablation_hooks(lr.freeze(), layers=0)
"""
# In a process of its own: what tests check of annotations would speak first.
WRONG = """
import numpy as np
from pathlib import Path
for analysis, given, said in (
    (lr.eval, {"text": ["a text", Path("a.txt")]}, "in a list"),
    (lr.eval, {"text": b"a text"}, "got 97 in a list"),
    (lr.eval, {"text": 3}, "got 3"),
    (lr.eval, {"data": Path("a.txt")}, "the name of a corpus is wanted"),
    (lr.eval, {"max_bytes": 0}, "at least 1"),
    (lr.eval, {"max_bytes": 0.5}, "a whole number"),
    (lr.eval, {"seed": -1}, "a seed is"),
    (lr.show, {"text": ["abc"]}, "one text is wanted"),
    (lr.show, {"text": "abc", "start": 0.5}, "a whole number"),
    (lr.show, {"text": "abc", "attention": 0.1, "at": 1}, "LAYER.HEAD"),
    (lr.show, {"text": "abc", "layers": 0.5}, "layers are whole numbers"),
    (lr.show, {"text": "abc", "layers": "all"}, "layers are whole numbers"),
    (lr.distance, {"text": "ab cd", "a": (1, 2, 3), "b": 0}, "a place is"),
    (lr.distance, {"text": "ab cd", "a": 0.5, "b": 0}, "are whole numbers"),
):
    try:
        analysis(model, **given)
    except lr.LRopeError as error:
        assert said in str(error), error
    else:
        raise AssertionError(given)
for wrong, said in (
    (lambda: lr.register_signal(lambda captured: captured.entropy), "a signal has a name"),
    (lambda: lr.register_signal("mine", kind="side"), "unknown kind of signal"),
    (lambda: lr.generate(model, "a", 0.5), "a whole number"),
    (lambda: lr.generate(model, "a", 3, seed=0.5), "a seed is"),
    (lambda: lr.generate(model, "a", 3, temperature=float("nan")), "temperature must be"),
    (lambda: lr.load(model), "a run folder is wanted"),
    (lambda: lr.train(3), "a TrainConfig is wanted"),
    (lambda: lr.load_result(3), "the folder of a result is wanted"),
):
    try:
        wrong()
    except lr.LRopeError as error:
        assert said in str(error), error
    else:
        raise AssertionError(said)
assert set(lr.show(model, "abc", layers=np.int64(1)).tables["characters"]["layer"]) == {1}
"""


def test_after_every_import_names_are_themselves_analyses_run_twice_and_nonsense_is_told_in_words(
    run_copy: Path, tmp_path: Path
) -> None:
    """In one fresh process with the newest run, since each start costs seconds."""
    assert run_copy.parent == tmp_path / "runs"
    words = [sys.executable, "-c", EVERYTHING + ANALYSES + WRONG]
    done = subprocess.run(words, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_are_listed_and_others_refused() -> None:
    assert {"load", "boundaries", "register_signal", "eval"} <= set(dir(lr))
    with pytest.raises(AttributeError, match="no attribute 'boundary'"):
        lr.boundary  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_read_is_said_once(run_copy: Path) -> None:
    model = lr.load(run_copy)
    with pytest.raises(lr.LRopeError, match="text and data both"):
        lr.boundaries(model, text="a text", data="code")
    with pytest.raises(lr.LRopeError, match="is the name of a file"):
        lr.boundaries(model, text=str(run_copy / "run.json"))
    with pytest.raises(lr.LRopeError, match="was not loaded from a run"):
        lr.boundaries(lr.LRopeTransformer(model.cfg), text="a text")


def test_a_selection_for_another_model_is_checked_against_this_one(run_copy: Path) -> None:
    from dataclasses import replace

    from lrope_interp.data.corpora import training_documents

    model = lr.load(run_copy)
    selection = lr.select_corpus(model, max_bytes=2_000)
    seen = training_documents(read_manifest(run_copy))[0]
    with pytest.raises(lr.LRopeError, match="was in the training text"):
        lr.boundaries(model, data=replace(selection, test=(*selection.test, seen)))
    assert selection.training
    with pytest.raises(lr.LRopeError, match="made for a model with other training text"):
        lr.ablate(model, data=replace(selection, training=selection.training[1:]))
    scored = lr.eval(model, data=selection)
    assert scored.provenance["data"] == selection.data
    assert scored.headline["nats_per_byte"] == lr.eval(model, selection.test).headline["nats_per_byte"]


def test_a_text_is_read_itself_and_of_a_corpus_what_the_command_reads(run_copy: Path) -> None:
    model = lr.load(run_copy)
    with pytest.raises(lr.LRopeError, match="needs English text with spaces"):
        lr.entities(model, text="fox" * 50)
    read = lr.select_corpus(model, max_bytes=200, spread=True)  # of fit text there are 800 bytes
    one, other = (lr.ablate(model, freeze="mean", **how) for how in ({"max_bytes": 200}, {"data": read}))
    assert one.tables["ablations"].equals(other.tables["ablations"])


def python_of(repository: Path) -> Iterator[tuple[str, str]]:
    """Yield the Python of the README, of every page and of every notebook."""
    for page in (repository / "README.md", *sorted((repository / "docs").rglob("*.md"))):
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            yield page.name, block
    for notebook in sorted((repository / "examples").glob("*.py")):
        yield notebook.name, notebook.read_text(encoding="utf-8")


def test_documents_need_nothing_but_the_front_door(repository: Path) -> None:
    said = [
        (where, name)
        for where, text in python_of(repository)
        for name in re.findall(r"(?:from|import) lrope_interp\.[\w.]+|from lrope_interp import.*", text)
    ]
    assert said == []
    names = {
        (where, name) for where, text in python_of(repository) for name in re.findall(r"\blr\.(\w+)", text)
    }
    assert len(names) > 30
    assert {(where, name) for where, name in names if name not in lr.__all__} == set()


def test_calls_in_documents_are_as_the_signatures_want_them(repository: Path) -> None:
    calls = [
        (where, node)
        for where, text in python_of(repository)
        for node in ast.walk(ast.parse(textwrap.dedent(text)))
        if isinstance(node, ast.Call) and re.fullmatch(r"lr\.\w+", ast.unparse(node.func))
    ]
    assert len(calls) > 40
    wrong = [(where, ast.unparse(call)) for where, call in calls if not fits(call)]
    assert wrong == []


def fits(call: ast.Call) -> bool:
    """Whether a public function takes the arguments of a call."""
    name, named = ast.unparse(call.func).removeprefix("lr."), {one.arg for one in call.keywords if one.arg}
    known = {one.name for one in fields(TrainConfig)} | set(inspect.signature(lr.train).parameters)
    try:
        inspect.signature(getattr(lr, name)).bind_partial(*call.args, **dict.fromkeys(named))
    except (TypeError, AttributeError):
        return False
    return name != "train" or named <= known


def test_a_call_that_does_not_fit_would_be_found() -> None:
    said = ("lr.boundaries(model, layer=0)", "lr.train(step=3)", "lr.load(1, 2)", "lr.nothing()")
    parsed = [ast.parse(one, mode="eval").body for one in (*said, "lr.boundaries(model, layers=0)")]
    assert [isinstance(one, ast.Call) and fits(one) for one in parsed] == [False] * 4 + [True]


def test_every_command_has_its_lines_of_python(repository: Path) -> None:
    pages = {page.stem: page.read_text("utf-8") for page in (repository / "docs/commands").glob("*.md")}
    del pages["index"]
    assert [
        name for name, page in pages.items() if "```python\nimport lrope_interp as lr\n" not in page
    ] == []


def test_every_public_name_stands_once_in_the_reference(repository: Path) -> None:
    pages = "\n".join(page.read_text("utf-8") for page in (repository / "docs/reference").glob("*.md"))
    entries = re.findall(r"^::: lrope_interp\.(\S+)$", pages, re.MULTILINE)
    assert sorted(name for name in entries if "." not in name) == sorted(set(lr.__all__) - {"__version__"})
    assert len(set(entries)) == len(entries)
