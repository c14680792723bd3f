"""Every command on small runs of its own, with fixed seeds: are all tables what they were before?

    python -m benchmarks.regression make FOLDER [--only NAME,...]
    python -m benchmarks.regression compare BEFORE AFTER [--tolerance TABLE.COLUMN=1e-9 ...]

`make` trains what it needs (eight runs of at most 60 steps), then runs each command in this process on
one thread, and keeps its result folder and what it printed. With ``--only`` the runs that are there
already are used again. `compare` wants every table, headline, warning and log line the same, bit for bit;
a tolerance is absolute, for one column (``TABLE.*`` for all of a table), and has to be argued where it is
used. What is measured in seconds or bytes of memory is left out, and so are the pages.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "100"}

SMALL = "--preset tiny --steps 60 --batch-size 4 --quiet"
SHORT = "--preset tiny --steps 20 --batch-size 4 --quiet"
RUNS = {
    "base": f"{SMALL} --data chinese",
    "text": f"{SHORT} --data file:text.txt",
    "other": f"{SHORT} --data file:text.txt --seed 1",
    "fixed": f"{SHORT} --data file:text.txt --increments fixed",
    "heads": f"{SHORT} --data file:text.txt --increments shared --per-head --tokenizer bpe:300",
    "despaced": f"{SHORT} --data file:text.txt --despaced --schedule wsd --lr 0.002",
    "code": f"{SHORT} --data code",
    "frozen": f"{SHORT} --data file:text.txt --increments frozen:runs/text --grad-accumulation 2",
}
SENTENCE = "The fox jumps over the green tree, and 人民日报今天在北京 said so."
ANALYSES = {
    "boundaries": "boundaries --model text --max-bytes 4000 --match runs/other --fixed-model runs/fixed "
    "--suite full",
    "boundaries-layer": "boundaries --model base --layer 0 --max-bytes 2000 --labels words --seed 3",
    "boundaries-bpe": "boundaries --model heads --align last --suite full",
    "boundaries-code": "boundaries --model code --layer 0 --max-bytes 2000 --labels lines --suite full",
    "boundaries-gold": "boundaries --model text --gold gold.txt --max-bytes 4000 --layer 1",
    "boundaries-text": "boundaries --model base --text text.txt --max-bytes 2000 --layer 2",
    "boundaries-despaced": "boundaries --model despaced --max-bytes 5000 --suite full",
    "ablate": "ablate --model base --max-bytes 4000",
    "ablate-full": "ablate --model heads --suite full --heads --max-bytes 3000",
    "ablate-where": "ablate --model base --freeze mean --where words --layer 1 --max-bytes 4000",
    "ablate-lexical": "ablate --model base --freeze lexical --layer each --text text.txt --max-bytes 3000",
    "probe": "probe --model base --max-bytes 12000 --fixed-model runs/fixed",
    "probe-full": "probe --model base --suite full --concept entities --layer 1 --max-bytes 6000 "
    "--features increments,positions,resid",
    "probe-spans": "probe --model heads --spans spans.jsonl",
    "probe-code": "probe --model code --concept code --layer 0 --max-bytes 10000 --suite full",
    "entities": "study entities --model base --max-bytes 60000",
    "entities-pairs": "study entities --model heads --text text.txt --pairs pairs.txt",
    "distance": ["distance", "--model", "base", SENTENCE],
    "distance-pair": ["distance", "--model", "heads", SENTENCE, "--from", "fox", "--to", "tree"],
    "definitions": "study definitions --model code --max-pairs 60 --max-bytes 200000",
    "show": ["show", "--model", "base", SENTENCE],
    "show-attention": ["show", "--model", "heads", SENTENCE, "--attention", "1.0", "--at", "20"],
    "show-gold": "show --model base --gold gold.txt --length 80",
    "eval": "eval --model base --max-bytes 20000",
    "eval-text": "eval --model heads --text text.txt --max-bytes 9000",
    "generate": ["generate", "--model", "base", "The ", "--max-new-tokens", "30", "--json"],
    "generate-frozen": "generate --model base The --freeze mean --layer 0 --max-new-tokens 20 --json",
    "replicate": "study replicate --arms fixed,per-layer --steps 4 --seeds 2 --data file:text.txt",
    "context": "study context --preset tiny --contexts 64,128 --repeats 1",
}
TIMED = {  # columns and tables that no machine repeats
    "context": ("rounds.*", "costs.*", "memory.*", "path.*", "targets.*", "*.seconds"),
    "replicate": ("*.seconds", "*.hours", "*.finished", "*.created"),
}
WORDS = "fox dog bird tree water green small quick jumps sings over near the said Anna Berg Otto Lind"
NAMES = {"Anna", "Berg", "Otto", "Lind", "北京", "中国"}
HAN = "人民日报 北京 今天 中国 经济 发展 改革 工人 农民 学生 老师 的 在 了"


def main() -> None:
    """Make or compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("folder", type=Path)
    making.add_argument("--only", default="", help="names of analyses, with commas; patterns as for files")
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--tolerance", action="append", default=[], metavar="TABLE.COLUMN=X")
    asked = parser.parse_args()
    if asked.command == "make":
        make(asked.folder, [name for name in asked.only.split(",") if name])
        return
    tolerances = {name: float(size) for name, _, size in (one.partition("=") for one in asked.tolerance)}
    changes = list(differences(asked.before, asked.after, tolerances))
    for change in changes:
        print(change)
    print(f"{len(changes)} differences")
    sys.exit(bool(changes))


def make(folder: Path, only: Sequence[str]) -> None:
    """Train what is missing and run the analyses, each into `folder`/results/NAME."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    os.environ["LROPE_INTERP_CACHE"] = str(Path("cache").absolute())
    shutil.rmtree("cache", ignore_errors=True)  # what was remembered would hide what is computed now
    write_texts()
    for name, options in RUNS.items():
        if not Path("runs", name, "report.html").exists():
            timed(f"train {name}", ["train", "--out", f"runs/{name}", *options.split()])
        if "file:" in options:  # a run folder alone does not decide which file is opened
            named = json.loads(Path("runs", name, "run.json").read_text(encoding="utf-8"))["data"]
            words = f"--data {named} --max-bytes 300 --overwrite --out results/read-{name}".split()
            timed(f"read {name}", ["eval", "--model", f"runs/{name}", *words])
    for name, words in ANALYSES.items():
        if only and not any(fnmatch(name, pattern) for pattern in only):
            continue
        command = [*words] if isinstance(words, list) else words.split()
        if "--model" in command:
            where = command.index("--model") + 1
            command[where] = f"runs/{command[where]}"
        place = Path("results", name)
        shutil.rmtree(place, ignore_errors=True)
        is_result = command[0] not in {"generate"}
        printed = timed(name, [*command, *(["--out", str(place)] if is_result else [])])
        Path("printed").mkdir(exist_ok=True)
        Path("printed", f"{name}.txt").write_text(printed, encoding="utf-8")


def timed(name: str, words: Sequence[str]) -> str:
    """Run a command in this process, say how long it took, and return what it printed."""
    import torch

    from lrope_interp.cli import main as command_line

    torch.set_num_threads(1)
    sys.argv = ["lrope-interp", *words]
    out, err, start = io.StringIO(), io.StringIO(), time.perf_counter()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_line()
        except SystemExit as ended:
            code = ended.code
    print(f"{time.perf_counter() - start:6.1f} s  {name}", flush=True)
    if code:
        raise SystemExit(f"{name} ended with {code}: {' '.join(words)}\n{err.getvalue()}")
    return out.getvalue()


def write_texts() -> None:
    """Write a text of English and Chinese paragraphs, a gold segmentation, spans and pairs."""
    draw, apart = random.Random(0), random.Random(1)
    paragraphs, gold, spans = [], [], []
    for number in range(400):  # the runs read this text: their weights hang on its draws
        words = [draw.choice(HAN.split() if number % 2 else WORDS.split()) for _ in range(40)]
        joint = "" if number % 2 else " "
        paragraphs.append(joint.join(words) + ("。" if number % 2 else "."))
        gold.append("  ".join([*apart.sample(HAN.split(), 8), "。"]))
        starts = [sum(len(word) + len(joint) for word in words[:n]) for n in range(40)]
        marked = [
            {
                "start": start,
                "end": start + len(word),
                "type": "name" if word in NAMES else "other",
            }
            for start, word in zip(starts, words, strict=True)
            if draw.random() < 0.3 or word in NAMES
        ]
        spans.append(json.dumps({"text": paragraphs[-1], "spans": marked}, ensure_ascii=False))
    for name, lines in {"text.txt": "\n\n".join(paragraphs), "gold.txt": "\n".join(gold)}.items():
        Path(name).write_text(f"{lines}\n", encoding="utf-8")
    Path("spans.jsonl").write_text("".join(f"{line}\n" for line in spans), encoding="utf-8")
    Path("pairs.txt").write_text("Anna Berg\nOtto Lind\n", encoding="utf-8")


def differences(before: Path, after: Path, tolerances: Mapping[str, float]) -> Iterator[str]:
    """Name everything in which two folders of `make` differ."""
    for name in RUNS:
        for file in ("metrics.jsonl", "model.safetensors"):
            if _digest(before / "runs" / name / file) != _digest(after / "runs" / name / file):
                yield f"train {name}: {file} differs"
    made = sorted(path.name for path in (after / "results").iterdir() if not path.name.startswith("."))
    for name in made:
        yield from _of_results(name, before / "results" / name, after / "results" / name, tolerances)
    for path in sorted((after / "printed").glob("generate*")):
        if path.read_text() != (before / "printed" / path.name).read_text():
            yield f"{path.stem}: another text"
    if missing := set(ANALYSES) - {path.stem for path in (after / "printed").iterdir()}:
        print(f"not compared, since not made: {', '.join(sorted(missing))}")


def _of_results(name: str, before: Path, after: Path, tolerances: Mapping[str, float]) -> Iterator[str]:
    from lrope_interp.results import load_result

    old, new = load_result(before), load_result(after)
    skipped = TIMED.get(name, ())
    tables = {"gaps": (old.gaps, new.gaps)} | {
        table: (old.tables.get(table), new.tables.get(table)) for table in {**old.tables, **new.tables}
    }
    for table, (one, other) in tables.items():
        if any(fnmatch(f"{table}.*", pattern) and pattern.startswith(table) for pattern in skipped):
            continue
        if one is None or other is None:
            if one is not other:
                yield f"{name}: table {table} is only {'after' if one is None else 'before'}"
            continue
        if list(one.columns) != list(other.columns) or len(one) != len(other):
            yield f"{name}: {table} has another shape: {_shape(one)} -> {_shape(other)}"
            continue
        for column in one.columns:
            if any(fnmatch(f"{table}.{column}", pattern) for pattern in skipped):
                continue
            size = max((v for k, v in tolerances.items() if fnmatch(f"{table}.{column}", k)), default=0.0)
            worst = _farthest(one[column].tolist(), other[column].tolist())
            if worst > size:
                yield f"{name}: {table}.{column} differs by {worst:g}"
    if not any(pattern.startswith("*") for pattern in skipped):
        size = tolerances.get("headline", 0.0)
        if {*old.headline} != {*new.headline} or _farthest(
            [*old.headline.values()], [*new.headline.values()]
        ) > size:
            yield f"{name}: headline differs"
    if old.warnings != new.warnings:
        changed = set(old.warnings) ^ set(new.warnings)
        yield f"{name}: warnings differ: {sorted(changed)[:2]}"


def _shape(frame: Any) -> str:
    return f"{len(frame)} rows of {', '.join(map(str, frame.columns))}"


def _farthest(before: Sequence[Any], after: Sequence[Any]) -> float:
    """Return the largest difference; infinite where something that is no number differs."""
    worst = 0.0
    for one, other in zip(before, after, strict=True):
        if _is_missing(one) or _is_missing(other):
            worst = max(worst, 0.0 if _is_missing(one) and _is_missing(other) else math.inf)
        elif isinstance(one, (int, float)) and isinstance(other, (int, float)):
            worst = max(worst, abs(one - other))
        elif one != other:
            worst = math.inf
    return worst


def _is_missing(value: Any) -> bool:
    return value is None or str(value) == "<NA>" or value != value


def _digest(path: Path) -> str:
    text = path.read_bytes()
    if path.suffix == ".jsonl":
        text = re.sub(rb'"(time|created)": "[^"]*"', b"", text)
    return hashlib.sha256(text).hexdigest()


if __name__ == "__main__":
    main()
