"""What the tests of the command line call things, and how they run a command."""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lrope_interp.results import Result, load_result

WORDS = (
    *("fox", "dog", "bird", "tree", "water", "green", "small", "quick"),
    *("jumps", "sings", "over", "near", "the"),
)
HAN = "人民日报北京今天中国经济发展改革工人农民学生老师"
SHAPE = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32, "n_ctx": 32}
SMALL = ("--max-bytes", "1500", "--quiet")

# One run of each command, in a folder that has these files; the result's folder is named by the last word.
COMMANDS = {
    "boundaries": "--layer 0 --max-bytes 3000",
    "ablate": "--max-bytes 1500",
    "probe": "--spans spans.jsonl --layer 1",
    "study entities": "--pairs names.txt --max-bytes 1500",
    "eval": "",
    "show": "--gold gold.txt --start 0 --length 15",
    "distance": "'the fox sees the dog' --from 4:7 --to dog",
}


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON alone."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class Analysed:
    """A command that ran once: read its folder, do not change it."""

    words: str
    said: Answer
    folder: Path

    @property
    def result(self) -> Result:
        """What it saved."""
        return load_result(self.folder)


Cli = Callable[..., Answer]
Train = Callable[..., Path]
WhileComputing = Callable[[Callable[[], object]], None]


def run_command(*words: object) -> Answer:
    """Run a command in this process and folder."""
    from lrope_interp.cli import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["lrope-interp", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    return Answer(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def assert_refused(answer: Answer, said: str = "") -> None:
    """One line of error, the last that is said, and code 2."""
    assert (answer.code, answer.out) == (2, "")
    assert "Traceback" not in answer.err
    (line,) = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert answer.err.splitlines()[-1] == line
    assert said in line and len(line) > len("Error: ") + 10


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, with what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def some_text(n_paragraphs: int = 120, seed: int = 0) -> str:
    """English and Chinese paragraphs in turn, all different."""
    draw = random.Random(seed)
    paragraphs = []
    for number in range(n_paragraphs):
        if number % 2:
            paragraphs.append("".join(draw.choice(HAN) for _ in range(60)) + "。")
        else:
            words = [draw.choice(WORDS) for _ in range(40)]
            paragraphs.append(f"{' '.join(words[:20]).capitalize()}, {' '.join(words[20:])}.")
    return "\n\n".join(paragraphs) + "\n"


def rows_of_text(column: str = "body", n: int = 400) -> str:
    """A JSON object a line, each with a text of its own."""
    texts = [" ".join(WORDS[(k * j + j) % len(WORDS)] for j in range(1, 30)) + f" {k}." for k in range(n)]
    return "".join(json.dumps({"id": k, column: text}) + "\n" for k, text in enumerate(texts))


def spans_of_colours(n: int = 66, n_words: int = 9, **changed: Any) -> str:
    """`n` texts of things with their colours; `changed` goes into the first span of the third line."""
    things = ("ruby", "coal", "rose", "snow", "milk", "soot", "blood", "ink")
    red = {"ruby", "rose", "blood"}
    lines = []
    for number in range(n):
        words = [things[(number * 7 + at * at) % len(things)] for at in range(n_words)]
        text, spans = f"{number} 😀 " + " ".join(words), []
        at = text.index(words[0])
        for word in words:
            spans.append({"start": at, "end": at + len(word), "type": "red" if word in red else "no red"})
            at += len(word) + 1
        if number == 2:
            spans[0] |= changed
        lines.append(json.dumps({"text": text, "spans": spans}, ensure_ascii=False) + "\n")
    return "".join(lines)


def trees(n: int = 200) -> str:
    """Chinese sentences as CoNLL-U."""
    draw, out = random.Random(4), []
    for number in range(n):
        words = draw.choices(("中国", "人民", "今天", "报道", "新", "经济", "，"), k=8)
        out.append(f"# sent_id = {number}\n# text = {''.join(words)}")
        out += [f"{at}\t{word}" + "\t_" * 7 + "\tSpaceAfter=No" for at, word in enumerate(words, start=1)]
        out.append("")
    return "\n".join([*out, ""])
