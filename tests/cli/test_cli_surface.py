"""What the command line promises before any command runs; odd names and closed streams."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from cli_words import Cli

from lrope_interp import __version__
from lrope_interp.cli import app, main
from lrope_interp.commands import options
from lrope_interp.errors import visible

HEAVY = ("torch", "transformer_lens", "pandas", "sklearn", "plotly", "scipy", "numpy")
IMPORTED = f"import sys\nprint(*sorted(set({HEAVY!r}) & sys.modules.keys()))"


def surface() -> dict[str, list[str]]:
    """Return every command with its arguments and options."""
    root: Any = typer.main.get_command(app)
    return {name: [_parameter(one) for one in command.params] for name, command in _commands(root)}


def _commands(root: Any, name: str = "lrope-interp") -> Iterator[tuple[str, Any]]:
    if name == "lrope-interp" or not hasattr(root, "commands"):
        yield name, root
    for inner in sorted(getattr(root, "commands", ())):
        yield from _commands(root.commands[inner], f"{name} {inner}".removeprefix("lrope-interp "))


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return parameter.metavar
    choices = "|".join(_choices(parameter.type_descriptor.annotation))
    takes = "" if parameter.is_flag else f" {parameter.metavar or choices or 'N'}"
    return f"{'/'.join(parameter.opts)}{takes}"


def _choices(annotation: Any) -> tuple[str, ...]:
    """Return the values of a `Literal`, also of one that may be None."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next(filter(None, map(_choices, get_args(annotation))), ())


def heavy_imports(code: str) -> str:
    """Return which heavy packages a fresh interpreter has loaded after running `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{IMPORTED}"], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


HELP = "from lrope_interp.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"


def test_commands_and_options_are_the_golden_list(repository: Path) -> None:
    found = "".join(
        f"{name}\n{''.join(f'  {one}{chr(10)}' for one in parameters)}"
        for name, parameters in surface().items()
    )
    assert found == (repository / "tests" / "cli" / "golden.txt").read_text()


def test_help_loads_nothing_heavy() -> None:
    assert heavy_imports(HELP) == ""


def test_a_heavy_import_would_be_found() -> None:
    assert heavy_imports(f"import numpy\n{HELP}") == "numpy"


def test_help_takes_under_half_a_second_of_processor_time() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "lrope_interp", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


def test_version_is_the_package_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lrope_interp", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"lrope-interp {__version__}\n"


def commands_in(text: str) -> list[list[str]]:
    """Return the `lrope-interp ...` lines of the code blocks of a page, or of a Makefile, as words."""
    text = re.sub(
        r"^\t@?(?:echo && )?\$\(LROPE\)(.*)$", r"```bash\nlrope-interp\1\n```", text, flags=re.MULTILINE
    )
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("lrope-interp ")]


def pages() -> list[Path]:
    top = Path(__file__).resolve().parents[2]
    return [top / "README.md", top / "Makefile", *sorted((top / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_that_a_page_shows_exist(page: Path) -> None:
    known = surface()
    for words in commands_in(page.read_text(encoding="utf-8")):
        spoken = [word for word in words[1:] if not word.startswith("-")]
        name = " ".join(spoken[: 2 if spoken[0] in {"study", "list"} else 1]) if spoken else "lrope-interp"
        assert name in known, f"{page.name}: {shlex.join(words)}"
        has = {option for one in known[name] for option in one.split()[0].split("/")} | {"--help"}
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= has, f"{page.name}: {shlex.join(words)}"


def test_the_readme_shows_commands_and_its_make_targets_exist(repository: Path) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), flags=re.MULTILINE))
    assert (
        {"demo", "test"} <= set(re.findall(r"(?:^|`)make ([a-z-]+)", readme, flags=re.MULTILINE)) <= targets
    )
    assert len(commands_in(readme)) >= 3
    demo = commands_in((repository / "Makefile").read_text(encoding="utf-8"))
    assert [words[1] for words in demo] == ["show", "boundaries", "train", "boundaries", "list"]
    assert ["--model", "reference"] == demo[0][-2:] == demo[1][-2:]  # whatever runs there are by then


def test_every_option_stands_on_its_page_or_among_the_shared(repository: Path) -> None:
    """And the pages say truly which of the shared ones their command has."""
    folder = repository / "docs" / "commands"
    shared = options_in((folder / "index.md").read_text(encoding="utf-8"))
    told = re.compile(r"\[shared options\]\(index\.md#shared-options\)( but)?([^.]*)\.", re.DOTALL)
    for name, parameters in list(surface().items())[1:]:
        page = (folder / f"{name.split()[-1]}.md").read_text(encoding="utf-8")
        has = {one.split()[0] for one in parameters if one.startswith("--")}
        own = options_in(page)
        if found := told.search(page):
            named = set(re.findall(r"`(--[a-z-]+)", found[2]))
            of_shared = shared - named if found[1] else named or shared
            assert own | of_shared == has, name
        else:
            assert has <= set(re.findall(r"`(--[a-z-]+)`", page)), name


def options_in(page: str) -> set[str]:
    """Return the options that the lists of a page explain."""
    items = re.findall(r"^\* (`.*?): ", page, re.MULTILINE)
    return {option for item in items for option in re.findall(r"`(--[a-z-]+)", item)}


@pytest.mark.parametrize("old", options.MOVED)
def test_an_old_name_ends_with_the_new_command_line(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([old, "--out", "a b"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == f"Error: this is now: lrope-interp {options.MOVED[old]} --out 'a b'\n"
    assert options.MOVED[old] in surface()


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert commands_in("```bash\nlrope-interp frobnicate --x\n```\n") == [
        ["lrope-interp", "frobnicate", "--x"]
    ]


ODD = "a\x1b[31m\nb\x9b1m\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, na\u00efve \u4e2d\u6587 \U0001f642", "plain, na\u00efve \u4e2d\u6587 \U0001f642"),
        (ODD, r"a\x1b[31m\nb\x9b1m\u202e"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800\r\t\x7f", r"\ud800\r\t\x7f"),
    ],
)
def test_what_would_steer_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def _is_clean(written: str) -> bool:
    return not any(character in written for character in "\x1b\x9b\u202e")


def test_names_and_texts_do_not_steer_the_terminal(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd" / ODD
    shutil.copytree(run_copy, odd)
    info = json.loads((odd / "run.json").read_text())
    (odd / "run.json").write_text(json.dumps(info | {"data": ODD, "increments": ODD}))
    (tmp_path / f"{ODD}.txt").write_text(f"A text {ODD} with more.")
    for words in (
        ("list", "runs", tmp_path / "odd"),
        ("list", "runs", tmp_path / ODD),
        ("show", ODD, "--model", odd),
        ("eval", "--text", tmp_path / f"{ODD}.txt", "--model", odd),
        ("generate", ODD, "--model", odd, "--max-new-tokens", 3),
        ("boundaries", "--data", ODD, "--model", odd),
        (f"--{ODD}",),
        ("eval", ODD),
        ("show", "--x", f"--layer-{ODD}"),
        ("train", f"--{ODD}=3"),
    ):
        answer = cli(*words)
        assert _is_clean(answer.out + answer.err), words
        assert answer.out or answer.err
    assert len(cli("list", "runs", tmp_path / ODD).err.splitlines()) == 1
    listed = cli("list", "runs", tmp_path / "odd", "--json").out
    assert _is_clean(listed) and json.loads(listed)["runs"][0]["folder"] == str(odd)


@pytest.mark.parametrize(
    "words",
    [
        ("show", "--text", "caf\udce9.txt"),
        ("eval", "--text", "x.txt", "--out", "caf\udce9"),
        ("train", "--data", "file:caf\udce9.txt"),
        ("list", "runs", "caf\udce9"),
        ("show", "caf\udce9"),
    ],
    ids=lambda words: words[0],
)
def test_a_word_that_is_not_utf8_is_refused_before_any_work(
    cli: Cli, words: tuple[str, ...], tmp_path: Path
) -> None:
    answer = cli(*words)
    assert (answer.code, answer.out) == (2, "")
    assert "not UTF-8" in answer.err and r"caf\xe9" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_folder_is_not_utf8_is_left_out_of_the_list(cli: Cli, run_copy: Path) -> None:
    shutil.copytree(run_copy, os.fsdecode(os.fsencode(run_copy.parent) + b"/caf\xe9"))
    answer = cli("list", "runs")
    assert answer.code == 0
    assert r"caf\xe9: not UTF-8" in answer.err
    assert run_copy.name in answer.out


@pytest.mark.parametrize("redirection", [">&-", "2>&- >&-", "| true"])
def test_closed_streams_end_without_a_traceback(redirection: str) -> None:
    command = f"{sys.executable} -m lrope_interp list corpora {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    assert (done.stdout, done.stderr) == ("", "")
