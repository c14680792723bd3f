"""Numbers that decide results when nobody says otherwise: constants, and the defaults of options.

A change here changes what people get, so it is made on purpose: ``python tests/test_defaults.py`` writes
the list anew.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import lrope_interp
from lrope_interp.cli import app
from lrope_interp.models import LRopeConfig
from lrope_interp.probes.boundaries import beyond
from lrope_interp.probes.statistics import bootstrap, equivalence, nulls
from lrope_interp.probes.statistics import ranking as statistics
from lrope_interp.training.config import PRESETS, TrainConfig

GOLDEN = Path(__file__).with_name("golden_defaults.txt")
ANALYSES = ("boundaries", "ablate", "probe", "show", "distance", "generate", "eval", "train")
PROBES = Path(beyond.__file__).parents[1]


def constants() -> Iterator[str]:
    """Yield the public constants of the analyses that are numbers, or hold some."""
    for path in sorted(PROBES.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name, inside = node.targets[0].id, list(ast.walk(node.value))
                is_plain = not any(isinstance(one, ast.Call | ast.Name | ast.Attribute) for one in inside)
                has_number = any(
                    isinstance(one, ast.Constant) and isinstance(one.value, int | float) for one in inside
                )
                if name.isupper() and not name.startswith("_") and is_plain and has_number:
                    yield f"{name} = {eval(ast.unparse(node.value))!r}"


def options() -> Iterator[str]:
    """Yield the defaults of every object of options, of the presets, and of functions on arrays."""
    found = [LRopeConfig, TrainConfig, *(getattr(lrope_interp, name) for name in ANALYSES)]
    for module in (beyond, bootstrap, equivalence, nulls, statistics):
        own = (one for one in vars(module).values() if getattr(one, "__module__", "") == module.__name__)
        found += [one for one in own if callable(one) and not one.__name__.startswith("_")]
    for one in found:
        for parameter in inspect.signature(one).parameters.values():
            if parameter.default is not inspect.Parameter.empty:
                yield f"{one.__name__}({parameter.name}={parameter.default!r})"
    for name, preset in PRESETS.items():
        yield from (f"{name}: {option}={value!r}" for option, value in preset.items())


def command_line() -> Iterator[str]:
    """Yield the default of every option of every command that has one."""
    root: Any = typer.main.get_command(app)
    inner = {**root.commands, **root.commands["study"].commands, **root.commands["list"].commands}
    for name, command in inner.items():
        for one in command.params:
            if one.default is not None and one.default is not False:
                yield f"{name} {one.opts[0]} {one.default}"


def listed() -> str:
    """Return every default, a line each."""
    return "".join(f"{line}\n" for part in (constants, options, command_line) for line in sorted(part()))


def test_constants_and_defaults_are_the_golden_list() -> None:
    assert listed() == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.write_text(listed(), encoding="utf-8")
