"""Kill a training with -9 at random moments, resume it, and compare it with one that was never killed.

    python benchmarks/kills.py [--kills 25] [--seed 0] [--steps 60] [--every 2]

The command line trains the tiny preset on a text that is made up here, with a checkpoint every few
steps. The first kill of a run comes as it starts; each other one at a random time from the start,
from the first new checkpoint, or from the moment at which the writing of another one begins. A run
that ends before all kills are spent is compared, and the next one begins. Only the table stays.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOMENTS = {"start-up": 0.2, "training": 0.4, "write": 0.4}  # shares of the kills
LONGEST_DELAY = {"start-up": 10.0, "training": 2.0, "write": 0.05}  # seconds
RATIONED = {"OMP_NUM_THREADS": "1"}
WORDS = ("the", "gap", "before", "every", "word", "is", "learned", "and", "位置", "moves", "on", "中文")


@dataclass(frozen=True)
class Kill:
    """One kill: where the run was then, and whether a checkpoint was half-written."""

    run: int
    moment: str
    step: int
    is_within_write: bool


@dataclass(frozen=True)
class Attempt:
    """What is trained and where; the command is the same for all runs."""

    folder: Path
    text: Path
    options: tuple[str, ...]

    def start(self) -> subprocess.Popen[bytes]:
        """Start training, or go on with it where the run folder is there."""
        words = [sys.executable, "-m", "lrope_interp", "train", "--quiet", "--out", str(self.folder)]
        is_there = (self.folder / "run.json").exists()
        words += ["--resume"] if is_there else ["--data", f"file:{self.text}", *self.options]
        env = os.environ | RATIONED
        return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def newest_step(self) -> int:
        """Return the step of the newest checkpoint, 0 where there is none."""
        names = (path.name for path in (self.folder / "checkpoints").glob("step-*"))
        return max((int(name.removeprefix("step-")) for name in names), default=0)

    def half_written(self) -> set[str]:
        """Return the names of the checkpoints that a killed process did not finish."""
        return {path.name for path in (self.folder / "checkpoints").glob(".step-*")}

    def outcome(self) -> tuple[str, str]:
        """Return the SHA-256 of the final weights and of the metrics."""
        names = ("model.safetensors", "metrics.jsonl")
        weights, metrics = (hashlib.sha256((self.folder / name).read_bytes()).hexdigest() for name in names)
        return weights, metrics


def kills_of_a_run(attempt: Attempt, number: int, left: int, draw: random.Random) -> Iterator[Kill]:
    """Train until the run is finished, killing at most `left` times; raise where it cannot go on."""
    moment = "start-up"
    while True:
        halves, process = attempt.half_written(), attempt.start()
        if left:
            _wait(attempt, process, moment, draw.random() * LONGEST_DELAY[moment])
        if not left or process.poll() is not None:
            break
        process.kill()
        process.communicate()
        left -= 1
        where = moment if attempt.folder.exists() else "before the run folder"
        yield Kill(number, where, attempt.newest_step(), bool(attempt.half_written() - halves))
        (moment,) = draw.choices(list(MOMENTS), list(MOMENTS.values()))
    _, said = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(said.decode(errors="replace"))


def _wait(attempt: Attempt, process: subprocess.Popen[bytes], moment: str, delay: float) -> None:
    """Wait for a random time, counted from what `MOMENTS` names."""
    before = attempt.newest_step()
    while moment != "start-up" and process.poll() is None and attempt.newest_step() <= before:
        time.sleep(0.005)
    while moment == "write" and process.poll() is None and not attempt.half_written():
        time.sleep(0.001)
    end = time.monotonic() + delay
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)


def made_up_text(path: Path) -> Path:
    """Write some 100 kB of random sentences."""
    draw = random.Random(0)
    paragraphs = (" ".join(draw.choices(WORDS, k=90)) for _ in range(200))
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return path


def main() -> None:
    """Print one line a kill, and the sums."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("kills", 25), ("seed", 0), ("steps", 60), ("every", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    steps = ("--steps", str(asked.steps), "--batch-size", "4", "--checkpoint-every", str(asked.every))
    draw, kills, lost, different = random.Random(asked.seed), list[Kill](), 0, 0
    with tempfile.TemporaryDirectory() as place:
        text = made_up_text(Path(place) / "text.txt")
        whole = Attempt(Path(place) / "whole", text, (*steps, "--device", "cpu"))
        list(kills_of_a_run(whole, 0, 0, draw))
        number = 0
        while len(kills) < asked.kills:
            number += 1
            attempt = Attempt(Path(place) / f"killed-{number}", text, whole.options)
            try:
                for kill in kills_of_a_run(attempt, number, asked.kills - len(kills), draw):
                    kills.append(kill)
                    where = "within a write" if kill.is_within_write else ""
                    print(
                        f"{len(kills):3} run {number} {kill.moment:22} step {kill.step:5} {where}", flush=True
                    )
            except RuntimeError as error:
                lost += 1
                print(f"lost: {error}", flush=True)
                continue
            different += attempt.outcome() != whole.outcome()
    within = sum(kill.is_within_write for kill in kills)
    print(f"runs {number}  kills {len(kills)}  within a write {within}  lost {lost}  different {different}")
    sys.exit(lost + different > 0)


if __name__ == "__main__":
    main()
