"""Does every statistic find what was planted, and nothing where nothing was?

    python -m benchmarks.trust [--runs 1000] [--checks beyond,coverage,...] [--out results/trust]

Runs of seeds 0 to n - 1, one line each, appended to OUT/CHECK.jsonl; those that are there already are
not done again, so that the same command goes on after an interruption. OUT/summary.csv has one row a
figure, over all runs that are there.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planted import FORMS, plant
from lrope_interp.probes.boundaries.beyond import BeyondTest
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units

Line = dict[str, Any]
SIGNALS = ("shaped", "noisy", "extra")
_PROGRESS_SECONDS = 30


@dataclass(frozen=True)
class Figure:
    """One row of the summary: a share or a p, and the range that it should lie in."""

    check: str
    figure: str
    value: float
    wanted_low: float
    wanted_high: float
    is_met: bool
    runs: int

    @classmethod
    def of(cls, name: str, value: float, wanted: tuple[float, float], runs: int) -> Figure:
        """Judge `value`; `name` is "CHECK: what was counted"."""
        check, figure = name.split(": ")
        return cls(check, figure, round(value, 6), *wanted, wanted[0] <= value <= wanted[1], runs)


def beyond(seed: int) -> Line:
    """One run: is a function of entropy, or an independent extra, declared beyond surprisal?"""
    form = FORMS[seed % len(FORMS)]
    fit, test = plant(2 * seed, form), plant(2 * seed + 1, form, n_documents=100)
    tests = BeyondTest(fit.sample, test.sample, Units.of(test.sample.document), Bootstrap(), seed)
    line: Line = {"form": form}
    for name in SIGNALS:
        for row in tests.of_signal(getattr(fit, name), getattr(test, name)):
            line[f"{name} {row['baseline']}"] = bool(row["is_beyond"])
    return line


def coverage(seed: int) -> Line:
    """One run: does the interval of ROC-AUC hold the true one?"""
    from benchmarks import trust_statistics

    low, high = trust_statistics.auc_interval(seed, Bootstrap())
    return {"is_covered": bool(low <= trust_statistics.true_auc() <= high)}


def shift_null(seed: int) -> Line:
    """One run: p under the circular shift, without and with an effect."""
    from benchmarks.trust_statistics import shift_p

    return {"null": shift_p(seed, 0.0), "planted": shift_p(seed, 0.2)}


def same_byte_null(seed: int) -> Line:
    """One run: p of the same-byte test, without and with an effect."""
    from benchmarks.trust_statistics import same_byte_p

    return {"null": same_byte_p(seed, 0.0), "planted": same_byte_p(seed, 0.3)}


def summarise_beyond(lines: list[Line]) -> Iterator[Figure]:
    """Shares found, of all runs and by the form of f."""
    for key in (name for name in lines[0] if name not in ("form", "seed")):
        signal, baseline = key.split()
        wanted = (0.95, 1.0) if signal == "extra" else (0.0, 0.07)
        for form in ("any form", *FORMS):
            found = [line[key] for line in lines if form in ("any form", line["form"])]
            if found:
                name = f"beyond: {signal} found beyond {baseline}, {form}"
                yield Figure.of(name, float(np.mean(found)), wanted, len(found))


def summarise_coverage(lines: list[Line]) -> Iterator[Figure]:
    """Share of intervals that hold the truth."""
    share = float(np.mean([line["is_covered"] for line in lines]))
    yield Figure.of("coverage: intervals that hold the true ROC-AUC", share, (0.93, 0.97), len(lines))


def summarise_null(check: str, lines: list[Line]) -> Iterator[Figure]:
    """Kolmogorov-Smirnov p of the null, and power."""
    from benchmarks.trust_statistics import NullTrust

    trust = NullTrust.of(*(np.array([line[key] for line in lines]) for key in ("null", "planted")))
    yield Figure.of(f"{check}: KS p of null p values", trust.ks_p, (0.001, 1.0), len(lines))
    yield Figure.of(f"{check}: null p of at most 0.05", trust.rejected, (0.0, 0.07), len(lines))
    yield Figure.of(f"{check}: planted effects with p of at most 0.05", trust.found, (0.95, 1.0), len(lines))


CHECKS: dict[str, tuple[Callable[[int], Line], Callable[[list[Line]], Iterator[Figure]]]] = {
    "beyond": (beyond, summarise_beyond),
    "coverage": (coverage, summarise_coverage),
    "shift_null": (shift_null, lambda lines: summarise_null("shift_null", lines)),
    "same_byte_null": (same_byte_null, lambda lines: summarise_null("same_byte_null", lines)),
}


def read(path: Path) -> dict[int, Line]:
    """Return the runs that are there by seed, without a last line that was cut off."""
    if not path.exists():
        return {}
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return {line["seed"]: line for line in map(json.loads, whole.splitlines())}


def run_check(name: str, n_runs: int, folder: Path) -> list[Line]:
    """Do the runs that are missing, and return all of the first `n_runs` seeds."""
    path, run = folder / f"{name}.jsonl", CHECKS[name][0]
    done = read(path)
    begin = said = time.monotonic()
    missing = [seed for seed in range(n_runs) if seed not in done]
    with path.open("a") as file:
        for k, seed in enumerate(missing, 1):
            done[seed] = {"seed": seed, **run(seed)}
            file.write(json.dumps(done[seed]) + "\n")
            file.flush()
            now = time.monotonic()
            if now - said > _PROGRESS_SECONDS or k == len(missing):
                said, left = now, (now - begin) / k * (len(missing) - k)
                print(f"{name}: {n_runs - len(missing) + k} of {n_runs} runs, {left:.0f} s left", flush=True)
    return [done[seed] for seed in range(n_runs)]


def write_summary(figures: list[Figure], path: Path) -> None:
    """Write and print one row a figure."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([one.name for one in fields(Figure)])
        writer.writerows(astuple(one) for one in figures)
    for one in figures:
        wanted = f"wanted {one.wanted_low:g} to {one.wanted_high:g}"
        verdict = "ok    " if one.is_met else "MISSED"
        print(f"{verdict} {one.check}: {one.figure}: {one.value:.4f} ({wanted}; {one.runs} runs)")


def main(words: list[str] | None = None) -> int:
    """Run the checks asked for; 1 where a figure of any of them missed its range."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--checks", default=",".join(CHECKS))
    parser.add_argument("--out", type=Path, default=Path("results/trust"))
    asked = parser.parse_args(words)
    names = asked.checks.split(",")
    if unknown := set(names) - set(CHECKS):
        parser.error(f"unknown checks {sorted(unknown)}; choose from {', '.join(CHECKS)}")
    if asked.runs < 1:
        parser.error(f"--runs must be at least 1, not {asked.runs}")
    asked.out.mkdir(parents=True, exist_ok=True)
    figures = []
    for name in names:
        figures += CHECKS[name][1](run_check(name, asked.runs, asked.out))
    write_summary(figures, asked.out / "summary.csv")
    return 0 if all(one.is_met for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
