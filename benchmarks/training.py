"""`make bench`: training speed of our arms beside three libraries, in one run, interleaved.

Every arm lives in a process of its own, so that peak memory is its own and litgpt can live in an
environment of its own. The processes take turns, one step each, in an order drawn anew each round;
while one works the others wait for a line of input. All get the same malloc settings and threads.
One run is fresh processes, two steps of warm-up and at least seven rounds; there are at least three
runs. A ratio is taken within a round, so that a slow moment of the machine touches both sides.

    python -m benchmarks.training --shapes tiny,paper --dtypes bfloat16,float32 --out results/training-speed
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import pandas as pd

from benchmarks.arms import OURS, SHAPES
from benchmarks.report import render
from benchmarks.roof import attention_flops, linear_flops
from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.render import write_page
from lrope_interp.results import Result, save_result, versions

ROOT = Path(__file__).parent.parent
LITGPT_PYTHON = ROOT / "benchmarks" / ".venv-litgpt" / "bin" / "python"
PEERS = ("hf_llama", "x_transformers", "litgpt")
ARMS = (*OURS, *PEERS, "roof")
WARM_UP = 2
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


@dataclass(frozen=True)
class Setting:
    """One table: a shape in a dtype on a device."""

    shape: str
    dtype: str
    device: str
    threads: int


class Worker:
    """A process that takes a step when told to."""

    def __init__(self, arm: str, setting: Setting) -> None:
        python = str(LITGPT_PYTHON) if arm == "litgpt" else sys.executable
        words = ["--arm", arm, "--shape", setting.shape, "--dtype", setting.dtype]
        words += ["--device", setting.device, "--threads", str(setting.threads)]
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", *words],
            cwd=ROOT,
            env={**os.environ, **_MALLOC, "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    @cached_property
    def ready(self) -> dict[str, Any]:
        """What the process says when its arm is built."""
        return self._answer()

    def step(self) -> dict[str, Any]:
        """Take one step and return what the process says of it."""
        stdin = self._pipe(self.process.stdin)
        stdin.write("step\n")
        stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._pipe(self.process.stdout).readline()
        if not line:
            raise LRopeError(f"the worker ended with status {self.process.wait()}")
        return json.loads(line)

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@contextmanager
def workers(arms: Sequence[str], setting: Setting) -> Iterator[dict[str, Worker]]:
    """Start one process an arm; an arm whose library is missing is left out."""
    with ExitStack() as stack:
        found = {}
        for arm in arms:
            if arm == "litgpt" and not LITGPT_PYTHON.exists():
                continue
            worker = Worker(arm, setting)
            stack.callback(worker.process.wait)
            stack.callback(worker.process.terminate)
            found[arm] = worker
        for worker in found.values():
            assert worker.ready
        yield found


def measure(arms: Sequence[str], setting: Setting, n_runs: int, n_rounds: int) -> Frame:
    """Return one row a step: run, round, arm, seconds, peak_mb, n_parameters."""
    rows = []
    for run in range(n_runs):
        order = random.Random(run)
        with workers(arms, setting) as started:
            for number in range(-WARM_UP, n_rounds):
                for arm in order.sample(list(started), len(started)):
                    time.sleep(0.02)  # the threads of the arm before have stopped spinning
                    answer = started[arm].step()
                    if number >= 0:
                        rows.append({"run": run, "round": number, "arm": arm, **answer, **started[arm].ready})
        _tell(f"{setting.shape} {setting.dtype} {setting.device}: run {run + 1} of {n_runs} done")
    return pd.DataFrame(rows).assign(shape=setting.shape, dtype=setting.dtype, device=setting.device)


def summarise(steps: Frame) -> Frame:
    """Return one row an arm: median seconds, quartiles, tokens a second, ratios within rounds, roof share."""
    keys = ["shape", "dtype", "device"]
    rows = []
    for setting, table in steps.groupby(keys):
        shape = SHAPES[str(table["shape"].iloc[0])]
        seconds = table.pivot_table(index=["run", "round"], columns="arm", values="seconds")
        roof_rate = linear_flops(shape) / float(seconds["roof"].median())
        flops = linear_flops(shape) + attention_flops(shape)
        for arm in [arm for arm in ARMS if arm in seconds and arm != "roof"]:
            own = table[table["arm"] == arm]
            low, middle, high = (float(seconds[arm].quantile(q)) for q in (0.25, 0.5, 0.75))
            row = dict(zip(keys, setting, strict=True)) | {
                "arm": arm,
                "n_parameters": int(own["n_parameters"].iloc[0]),
                "seconds": middle,
                "seconds_q1": low,
                "seconds_q3": high,
                "tokens_per_second": shape.n_tokens / middle,
                "time_to_fixed": float((seconds[arm] / seconds["fixed"]).median()),
                "speed_to_hf_llama": float((seconds["hf_llama"] / seconds[arm]).median()),
                "share_of_roof": flops / middle / roof_rate,
                "peak_mb": float(own["peak_mb"].max()),
                "n_steps": len(own),
                "n_runs": int(own["run"].nunique()),
            }
            rows.append(row | {"roof_gflops": roof_rate / 1e9})
    return pd.DataFrame(rows)


def peers_passed(steps: Frame) -> Frame:
    """Return, for each of our arms and each peer, tokens a second as a multiple of the peer's."""
    rows = []
    for (shape, dtype, device), table in steps.groupby(["shape", "dtype", "device"]):
        seconds = table.pivot_table(index=["run", "round"], columns="arm", values="seconds")
        for arm, peer in itertools.product(OURS, PEERS):
            if peer in seconds and arm in seconds:
                ratios = seconds[peer] / seconds[arm]
                by_run = ratios.groupby("run").median()
                rows.append(
                    {"shape": shape, "dtype": dtype, "device": device, "arm": arm, "peer": peer}
                    | {"ratio": float(ratios.median()), "q1": float(ratios.quantile(0.25))}
                    | {"q3": float(ratios.quantile(0.75))}
                    | {"lowest_run": float(by_run.min()), "highest_run": float(by_run.max())}
                )
    return pd.DataFrame(rows)


def result_of(steps: Frame, command: str) -> Result:
    """Return the saved form: the summary, the ratios to each peer, and every step."""
    summary = summarise(steps)
    provenance = {
        "model": "", "model_sha256": "", "config": {}, "data": {"name": "random bytes"}, "seed": 0,
        "versions": versions() | {"threads": str(int(steps["threads"].max()))}, "command": command,
        "machine": platform.processor() or platform.machine(),
    }  # fmt: skip
    headline: dict[str, float | None] = {
        f"{row['arm']} tokens/s, {row['shape']} {row['dtype']} {row['device']}": row["tokens_per_second"]
        for row in summary.to_dict("records")
        if row["arm"] in ("fixed", "per_layer")
    }
    missing = [peer for peer in PEERS if peer not in set(steps["arm"])]
    notes = tuple(f"{peer} is not installed and was not measured" for peer in missing)
    columns = ["shape", "dtype", "device", "run", "round", "arm", "seconds", "peak_mb"]
    tables = {"summary": summary, "peers": peers_passed(steps), "steps": steps[columns]}
    return Result("training-speed", provenance, headline, tables, notes)


def main() -> None:
    """Measure what the options ask for, save it, and print the table."""
    parser = argparse.ArgumentParser(description="Training speed beside other libraries.")
    parser.add_argument("--shapes", default="tiny,paper")
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--devices", default="", help="default: cpu, and cuda where there is one")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="default: what torch takes")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "training-speed")
    asked = parser.parse_args()
    settings = itertools.product(asked.shapes.split(","), asked.dtypes.split(","), _devices(asked.devices))
    needed = ("roof", "fixed", "hf_llama")  # what the others are held against
    arms = [*asked.arms.split(","), *(arm for arm in needed if arm not in asked.arms.split(","))]
    steps = pd.concat(
        measure(arms, Setting(*setting, asked.threads), asked.runs, asked.rounds) for setting in settings
    )
    result = result_of(steps, f"make bench ARGS='{' '.join(sys.argv[1:])}'".replace(" ARGS=''", ""))
    save_result(result, asked.out)
    page = write_page(render(result), asked.out / "report.html")
    _tell(result.tables["summary"].round(3).to_string(index=False))
    _tell(result.tables["peers"].round(3).to_string(index=False))
    _tell(f"report  {page}")


def _devices(asked: str) -> list[str]:
    if asked:
        return asked.split(",")
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
