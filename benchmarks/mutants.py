"""Break the package at random places, one at a time: does a test fail?

    python -m benchmarks.mutants [--n 100] [--seed 0] [--only lrope_interp/models] [--tests tests]
                                 [--mark "not slow"] [--tree .] [--out build/mutants] [--budget 300]

A statement is drawn, then one of its mutants: a comparison or an arithmetic operator swapped, a bound off
by one, a number or a truth value changed, a condition negated, a statement dropped. Annotations, messages,
assertions and plain texts are left alone. The tests run once under coverage; of a mutant only those run that
reach its line, the fastest first, until one fails, in a copy of the tree that lies under ``--out``. What a
shared fixture or a cached sample reaches counts for every test that uses it; what runs at import, for the
tests that reach the rest of the file or a line that mentions the name. ``--budget`` is what the tests of one
mutant may take together, in seconds. A mutant whose tests do not end counts as caught, and is said apart.
Every mutant is a line of ``mutants.jsonl``, so a second call goes on where the first one ended; another
``--tree`` needs another ``--out``. The survivors are in ``survivors.json``.
"""

from __future__ import annotations

import argparse
import ast
import copy
import functools
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = "lrope_interp"
HEAVY = (
    *("torch", "pandas", "scipy.stats", "sklearn.linear_model", "statsmodels.api", "plotly.graph_objects"),
    *("transformer_lens", "datasets", "typer", "pydantic", "pytest"),
)  # imported once; every mutant is tried in a fork that has them
FIRST = 30  # tests; most mutants are caught by them, and they need few test files
QUIETLY = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
SWAPPED: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}
MESSAGES = re.compile(r"(Error|Warning|warn|warning|echo|secho|print|info|debug|fail|say)$")
WORDS = {"help", "title", "rich_help_panel", "epilog", "stacklevel"}


@dataclass(frozen=True)
class Mutant:
    """One change: bytes `start` to `stop` become `after`, in a statement on the lines `first` to `last`."""

    file: str
    line: int
    operator: str
    before: str
    after: str
    start: int
    stop: int
    first: int
    last: int
    is_at_import: bool
    names: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name this mutant within one tree."""
        return f"{self.file}:{self.start}-{self.stop} {self.after}"


# --- where a file can be broken ------------------------------------------------------------------


class Sites(ast.NodeVisitor):
    """Collects the mutants of one file, by statement."""

    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source = file, source
        self.starts = [0, *(found.end() for found in re.finditer(rb"\n", source))]
        self.found: dict[tuple[int, int], list[Mutant]] = defaultdict(list)
        self.statement: tuple[int, int] = (1, 1)
        self.names: tuple[str, ...] = ()
        self.depth = 0  # of functions
        self.visit(ast.parse(source))

    def visit(self, node: ast.AST) -> None:
        """Note the mutants of a node, then of what it holds."""
        if isinstance(node, ast.stmt):
            self._enter(node)
        if self._is_left_alone(node):
            return
        for operator, target, after in changes(node):
            self._add(operator, target, after)
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "type_params") or (
                field == "exc" and isinstance(node, ast.Raise)
            ):
                continue
            self.depth += is_function and field == "body"
            here = self.statement, self.names
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)
                    self.statement, self.names = here
            self.depth -= is_function and field == "body"

    def _enter(self, node: ast.stmt) -> None:
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        body = getattr(node, "body", None)
        last = max(first, body[0].lineno - 1) if body else node.end_lineno or first
        self.statement = (first, last)
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        names = [one.id for one in targets if isinstance(one, ast.Name)]
        names += [node.name] if hasattr(node, "name") else []
        self.names = (*self.names, *names)  # of a method: that of its class too

    def _is_left_alone(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr):
            return True
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
            return True
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("__"):
            return True
        if isinstance(node, ast.keyword) and node.arg in WORDS:
            return True
        return isinstance(node, ast.Call) and is_message(node)

    def _add(self, operator: str, target: ast.AST, after: str) -> None:
        start = self.starts[target.lineno - 1] + target.col_offset  # type: ignore[attr-defined]
        stop = self.starts[target.end_lineno - 1] + target.end_col_offset  # type: ignore[attr-defined]
        mutant = Mutant(
            file=self.file,
            line=target.lineno,  # type: ignore[attr-defined]
            operator=operator,
            before=self.source[start:stop].decode(),
            after=after,
            start=start,
            stop=stop,
            first=self.statement[0],
            last=self.statement[1],
            is_at_import=self.depth == 0,
            names=self.names,
        )
        self.found[self.statement].append(mutant)


def is_message(node: ast.Call) -> bool:
    """Does this call only say something?"""
    return bool(MESSAGES.search(ast.unparse(node.func)))


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST, str]]:
    """Yield (operator, what is replaced, by what) for the mutants of `node` itself."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in SWAPPED[type(operator)]:
                changed = copy.deepcopy(node)
                changed.ops[place] = other()
                yield "comparison swapped", node, f"({ast.unparse(changed)})"
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPPED:
        is_type = isinstance(node, ast.BinOp) and "None" in (ast.unparse(node.left), ast.unparse(node.right))
        for other in () if is_type else SWAPPED[type(node.op)]:
            changed = copy.deepcopy(node)
            changed.op = other()
            kind = "boolean changed" if isinstance(node, ast.BoolOp) else "arithmetic swapped"
            text = ast.unparse(changed)
            yield kind, node, text if isinstance(node, ast.AugAssign) else f"({text})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        kind = "boolean changed" if isinstance(node.op, ast.Not) else "arithmetic swapped"
        yield kind, node, f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Subscript):
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for one in inside:
            bounds = (one.lower, one.upper) if isinstance(one, ast.Slice) else (one,)
            for bound in bounds:
                counts = isinstance(one, ast.Slice) and not isinstance(bound, ast.Constant | None)
                if counts or (isinstance(bound, ast.BinOp) and isinstance(bound.op, ast.Add | ast.Sub)):
                    yield "index off by one", bound, f"({ast.unparse(bound)} + 1)"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        changed = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value * 2
        yield "constant changed", node, repr(changed if changed != value else 1.0)
    tests = [node.test] if isinstance(node, ast.If | ast.IfExp | ast.While) else getattr(node, "ifs", [])
    for test in tests:
        yield "condition negated", test, f"(not ({ast.unparse(test)}))"
    if isinstance(node, ast.stmt) and can_drop(node):
        yield "statement dropped", node, "pass"


def can_drop(node: ast.stmt) -> bool:
    """Would `pass` in its place be a program that runs and does something else?"""
    if isinstance(node, ast.Expr):
        says = isinstance(node.value, ast.Call) and is_message(node.value)
        return not says and not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):  # `x = f(x)` too; the first binding of a name cannot go
        read = {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}
        bound = [one for one in node.targets if isinstance(one, ast.Name)]
        return all(
            isinstance(one, ast.Attribute | ast.Subscript) or one in bound for one in node.targets
        ) and (all(one.id in read for one in bound))
    is_bare = isinstance(node, ast.Return) and node.value is None
    return is_bare or isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break)


def draw(tree: Path, only: str, seed: int, n: int) -> list[Mutant]:
    """Return the first `n` of all statements in a random order, each with one of its mutants."""
    statements: list[list[Mutant]] = []
    for path in sorted((tree / PACKAGE).rglob("*.py")):
        name = path.relative_to(tree).as_posix()
        if name == only or f"{name}/".startswith(f"{only.rstrip('/')}/"):
            statements += Sites(name, path.read_bytes()).found.values()
    chance = random.Random(seed)
    chance.shuffle(statements)
    return [chance.choice(mutants) for mutants in statements[:n]]


# --- inside pytest -------------------------------------------------------------------------------


class Recorder:
    """Keeps apart what each test, shared fixture and cached sample executes, and how long it takes."""

    def __init__(self, tree: Path, measured: Any) -> None:
        self.tree, self.measured = tree, measured
        self.stack, self.since = ["import"], time.perf_counter()
        self.seconds: Counter[str] = Counter()
        self.uses: dict[str, set[str]] = defaultdict(set)
        self.passed: set[str] = set()
        self.failed: set[str] = set()

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Count what happens now for `name`, and for whoever uses it."""
        self.uses[self.stack[-1]].add(name)
        self._switch([*self.stack, name])
        try:
            yield
        finally:
            self._switch(self.stack[:-1])

    def _switch(self, stack: list[str]) -> None:
        now = time.perf_counter()
        self.seconds[self.stack[-1]] += now - self.since
        self.stack, self.since = stack, now
        self.measured.switch_context(stack[-1])
        os.environ["MUTANTS_CONTEXT"] = stack[-1]  # for the processes that a test starts

    def cache(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return `functools.cache` under which every caller counts as one who reached the function."""

        def cache(function: Callable[..., Any]) -> Callable[..., Any]:
            cached: Any = original(function)
            code = getattr(function, "__code__", None)
            if code is None or not code.co_filename.startswith(str(self.tree)):
                return cached

            @functools.wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                with self.within(f"cache {function.__module__}.{function.__qualname__}"):
                    return cached(*args, **kwargs)

            call.cache_clear, call.cache_info = cached.cache_clear, cached.cache_info  # type: ignore[attr-defined]
            return call

        return cache

    def plugin(self) -> Any:
        """Return the hooks."""
        import pytest

        execute = pytest.FixtureDef.execute

        def label(fixture: Any, request: Any) -> str:
            place = f"{fixture.baseid}::{fixture.argname}"
            return f"fixture {place}[{getattr(request, 'param_index', 0)}]"

        def noting(fixture: Any, request: Any) -> Any:
            if fixture.scope != "function":
                self.uses[self.stack[-1]].add(label(fixture, request))
            return execute(fixture, request)

        pytest.FixtureDef.execute = noting

        class Hooks:
            @pytest.hookimpl(wrapper=True)
            def pytest_runtest_protocol(hooks, item: Any) -> Any:
                for kind in Path(os.environ["LROPE_INTERP_CACHE"]).glob("*"):
                    if (
                        kind.is_dir() and kind.name != "texts"
                    ):  # shared runs need their text; what was computed from it goes,
                        shutil.rmtree(kind)  # or the next test would only read it, and seem not to reach it
                with self.within(item.nodeid):
                    return (yield)

            @pytest.hookimpl(wrapper=True)
            def pytest_fixture_setup(hooks, fixturedef: Any, request: Any) -> Any:
                if fixturedef.scope == "function":
                    return (yield)
                with self.within(label(fixturedef, request)):
                    return (yield)

            def pytest_runtest_logreport(hooks, report: Any) -> None:
                if report.failed:
                    self.failed.add(report.nodeid)
                elif report.when == "call" and report.passed:
                    self.passed.add(report.nodeid)

        return Hooks()

    def tests(self) -> dict[str, dict[str, Any]]:
        """Return every test that passed: seconds alone in a process, and all contexts it stands in."""

        def reached(name: str, seen: set[str]) -> set[str]:
            for other in self.uses[name] - seen:
                seen.add(other)
                reached(other, seen)
            return seen

        found = {}
        for name in sorted(self.passed - self.failed):
            contexts = reached(name, {name})
            total = sum(self.seconds[one] for one in contexts)
            found[name] = {"seconds": round(total, 3), "contexts": sorted(contexts)}
        return found


def record(place: Path, words: list[str]) -> int:
    """Run the tests under coverage; this process is a fork that stands in the copy of the tree."""
    import coverage
    import pytest

    settings = str(place / "coverage.ini")
    measured = coverage.Coverage(config_file=settings)
    os.environ["COVERAGE_PROCESS_START"] = settings  # what tests start is measured by sitecustomize
    recorder = Recorder(Path.cwd(), measured)
    functools.cache = recorder.cache(functools.cache)  # before the package and the tests import it
    measured.start()
    measured.switch_context("import")
    code = int(pytest.main([*QUIETLY, *words], plugins=[recorder.plugin()]))
    measured.stop()
    measured.save()
    for name in sorted(recorder.failed):
        print(f"fails without a mutant, so it is left out: {name}")
    (place / "tests.json").write_text(json.dumps(recorder.tests()), encoding="utf-8")
    return code


def run_chosen(chosen: list[str]) -> int:
    """Run these tests in this order until one fails; this process too is a fork in the copy."""
    import pytest

    order = {name: place for place, name in enumerate(chosen)}

    class Hooks:
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            kept = [one for one in items if one.nodeid in order]
            items[:] = sorted(kept, key=lambda one: order[one.nodeid])

    sys.dont_write_bytecode = True  # a mutant is as long and as new as the next one
    files = list(dict.fromkeys(name.partition("::")[0] for name in chosen))
    words = [*QUIETLY, "-x", "--hypothesis-seed=0", "--tb=no", *files]
    return int(pytest.main(words, plugins=[Hooks()]))


# --- outside -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Laboratory:
    """The copy of a tree under `place`, and which of its tests reach what."""

    place: Path
    tree: Path
    budget: float

    @property
    def copy(self) -> Path:
        """Where the tests run."""
        return self.place / "tree"

    def lay(self) -> str:
        """Make the copy equal to the tree, and return the hash of what it holds."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.tree,
            check=True,
            capture_output=True,
        )
        digest = hashlib.sha256()
        for name in sorted(filter(None, listed.stdout.decode().split("\0"))):
            source, target = self.tree / name, self.copy / name
            if source.is_file():
                content = source.read_bytes()
                digest.update(f"{name}\0{len(content)}\0".encode() + content)
                if not target.exists() or target.read_bytes() != content:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, target)
        return digest.hexdigest()

    def fork(self, task: Callable[[], int], seconds: float | None = None) -> tuple[int | None, str]:
        """Run a task in the copy, in a fork that has the heavy imports; None where it did not end in time."""
        said, scratch = self.place / "said.txt", self.place / "tmp"
        scratch.mkdir(exist_ok=True)
        child = os.fork()
        if child == 0:
            os.setsid()
            os.chdir(self.copy)
            for stream in (1, 2):
                os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            here = {"", str(Path.cwd()), str(Path(__file__).parent), str(Path(__file__).parents[1])}
            sys.path[:] = [str(self.copy), *(one for one in sys.path if one not in here)]
            sys.modules.pop("benchmarks", None)
            os.environ["PYTHONPATH"] = os.pathsep.join([str(self.copy), str(self.place / "start")])
            os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
            code = 70
            try:
                code = task()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        end = time.monotonic() + (seconds or float("inf"))
        done, status = 0, 0
        while not done and time.monotonic() < end:
            time.sleep(0.05)
            done, status = os.waitpid(child, os.WNOHANG)
        if not done:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
        shutil.rmtree(scratch, ignore_errors=True)
        told = said.read_text(encoding="utf-8", errors="replace")
        return (os.waitstatus_to_exitcode(status) if done else None), told

    def measure(self, tests: str, mark: str) -> None:
        """Run all tests once under coverage, unless that was done."""
        if (self.place / "tests.json").exists():
            return
        for old in self.place.glob(".coverage*"):
            old.unlink()
        (self.place / "coverage.ini").write_text(
            f"[run]\ndata_file = {self.place}/.coverage\nparallel = true\ncontext = ${{MUTANTS_CONTEXT}}\n"
            f"include = {self.copy}/{PACKAGE}/*\ndisable_warnings = no-data-collected\n",
            encoding="utf-8",
        )
        (self.place / "start").mkdir(exist_ok=True)
        starter = "import coverage\ncoverage.process_startup()\n"
        (self.place / "start" / "sitecustomize.py").write_text(starter, encoding="utf-8")
        begin, words = time.monotonic(), [*tests.split(), *(["-m", mark] if mark else [])]
        code, told = self.fork(lambda: record(self.place, words))
        print("\n".join(told.splitlines()[-20:]))
        if code not in (0, 1):
            raise SystemExit(f"the tests could not be measured: {code}")
        import coverage

        measured = coverage.Coverage(config_file=str(self.place / "coverage.ini"))
        measured.combine([str(self.place)])
        measured.save()
        print(f"measured in {time.monotonic() - begin:.0f} s", flush=True)

    def tests_of(self, mutant: Mutant, known: dict[str, Any], data: Any) -> list[str]:
        """Return the tests that reach the mutant, the fastest first, as many as the budget allows."""

        def contexts(file: str, wanted: Callable[[int], bool]) -> set[str]:
            by_line = data.contexts_by_lineno(str(self.copy / file))
            return {name for line, names in by_line.items() if wanted(line) for name in names}

        if mutant.is_at_import:
            reached = contexts(mutant.file, lambda _: True)
            mentioned = re.compile(rf"\b({'|'.join(map(re.escape, mutant.names))})\b")
            for path in sorted((self.copy / PACKAGE).rglob("*.py")) if mutant.names else []:
                lines = path.read_text(encoding="utf-8").splitlines()
                hits = {number for number, line in enumerate(lines, 1) if mentioned.search(line)}
                if hits:
                    reached |= contexts(path.relative_to(self.copy).as_posix(), hits.__contains__)
        else:
            reached = contexts(mutant.file, range(mutant.first, mutant.last + 1).__contains__)
        chosen = [name for name, test in known.items() if not reached.isdisjoint(test["contexts"])]
        chosen.sort(key=lambda name: known[name]["seconds"])
        spent, affordable = 0.0, []
        for name in chosen:
            spent += known[name]["seconds"]
            if affordable and spent > self.budget:
                break
            affordable.append(name)
        return affordable

    def try_out(self, mutant: Mutant, known: dict[str, Any], data: Any) -> dict[str, Any]:
        """Break the copy, run the tests, and mend it."""
        begin, tests = time.monotonic(), self.tests_of(mutant, known, data)
        outcome, by = ("survived" if tests else "not reached"), ""
        path = self.copy / mutant.file
        source = path.read_bytes()
        try:
            path.write_bytes(source[: mutant.start] + mutant.after.encode() + source[mutant.stop :])
            for part in filter(None, (tests[:FIRST], tests[FIRST:])):
                expected = sum(known[name]["seconds"] for name in part)
                code, said = self.fork(partial(run_chosen, part), seconds=120 + 5 * expected)
                if code == 5:
                    raise SystemExit(f"pytest found none of the tests of {mutant.key}:\n{said}")
                if code != 0:
                    outcome = "timed out" if code is None else "caught"
                    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", said, re.MULTILINE)
                    by = failed[1] if failed else said[-200:]
                    break
        finally:
            path.write_bytes(source)
        seconds = round(time.monotonic() - begin, 1)
        return asdict(mutant) | {
            "key": mutant.key,
            "outcome": outcome,
            "by": by,
            "tests": len(tests),
            "seconds": seconds,
        }


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share of `k` in `n`."""
    if n == 0:
        return 0.0, 1.0
    centre, spread = k / n + z * z / (2 * n), z * ((k / n * (1 - k / n) + z * z / (4 * n)) / n) ** 0.5
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def report(lines: list[dict[str, Any]], place: Path) -> None:
    """Print outcomes by folder, and write the survivors."""
    print(f"{'folder':44}{'n':>5}{'caught':>8}{'timeout':>9}{'survived':>10}{'unreached':>11}   share, 95 %")
    folders = sorted({str(Path(one["file"]).parent) for one in lines})
    for folder in [*folders, "all"]:
        count = Counter(one["outcome"] for one in lines if folder in ("all", str(Path(one["file"]).parent)))
        n, caught = count.total(), count["caught"] + count["timed out"]
        low, high = wilson(caught, n)
        print(
            f"{folder:44}{n:5}{caught:8}{count['timed out']:9}{count['survived']:10}{count['not reached']:11}"
            f"   {caught / max(n, 1):.2f} [{low:.2f}, {high:.2f}]"
        )
    survivors = [
        {
            "where": f"{one['file']}:{one['line']}",
            "operator": one["operator"],
            "change": f"{one['before']} -> {one['after']}",
            "outcome": one["outcome"],
            "tests": one["tests"],
        }
        for one in lines
        if one["outcome"] in ("survived", "not reached")
    ]
    (place / "survivors.json").write_text(
        json.dumps(survivors, indent=1, ensure_ascii=False), encoding="utf-8"
    )


def main() -> None:
    """Draw, try, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=PACKAGE, metavar="FOLDER", help="a folder or file of the package")
    parser.add_argument("--tests", default="tests", help="what is run under coverage")
    parser.add_argument("--mark", default="not slow", help="which of them, as for pytest -m")
    parser.add_argument("--tree", type=Path, default=Path(), help="the checkout")
    parser.add_argument("--out", type=Path, default=Path("build/mutants"))
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of tests for one mutant")
    asked = parser.parse_args()
    place = asked.out.absolute()
    place.mkdir(parents=True, exist_ok=True)
    laboratory = Laboratory(place, asked.tree.absolute(), asked.budget)
    made_from = {"tree": laboratory.lay(), "tests": asked.tests, "mark": asked.mark}
    noted = place / "made_from.json"
    if noted.exists() and json.loads(noted.read_text(encoding="utf-8")) != made_from:
        parser.error(f"{asked.out} holds mutants of another tree or other tests; name another --out")
    noted.write_text(json.dumps(made_from), encoding="utf-8")
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    for name in HEAVY:
        import_module(name)
    mutants = draw(laboratory.copy, asked.only, asked.seed, asked.n)
    laboratory.measure(asked.tests, asked.mark)

    import coverage

    data = coverage.CoverageData(str(place / ".coverage"))
    data.read()
    known = json.loads((place / "tests.json").read_text(encoding="utf-8"))
    path = place / "mutants.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # a last line that was cut off is tried again
    path.write_text(whole, encoding="utf-8")
    done = {one["key"]: one for one in map(json.loads, whole.splitlines())}
    with path.open("a", encoding="utf-8") as file:
        for number, mutant in enumerate(mutants, 1):
            if mutant.key not in done:
                tried = done[mutant.key] = laboratory.try_out(mutant, known, data)
                file.write(json.dumps(tried) + "\n")
                file.flush()
                what = f"{mutant.file}:{mutant.line} {mutant.before} -> {mutant.after}"
                print(f"{number:4} {tried['outcome']:11} {tried['seconds']:6.1f} s  {what}", flush=True)
    report([done[mutant.key] for mutant in mutants], place)


if __name__ == "__main__":
    main()
