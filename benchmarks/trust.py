"""Does every statistic find what was planted, and nothing where nothing was?

    python -m benchmarks.trust [--runs 1000] [--checks beyond,coverage,...] [--out results/trust]

Runs of seeds 0 to n - 1, one line each, appended to OUT/CHECK.jsonl; those that are there already are
not done again, so that the same command goes on after an interruption. OUT/summary.csv has one row a
figure, over all runs that are there. `beyond`, which grows trees, has 100 runs at most.
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

import numpy as np
from scipy import stats

from benchmarks import trust_statistics
from benchmarks.planted import ENTROPY_FORMS, FORMS, plant
from benchmarks.trust_statistics import Line
from lrope_interp.probes.boundaries.beyond import LEVEL, BeyondTest
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.strata import WithinBins

SIGNALS = ("shaped", "noisy", "extra")
RARE, FOUND, COVERS, ALWAYS = (0.0, 0.07), (0.95, 1.0), (0.93, 0.97), (1.0, 1.0)
WANTED = {
    "extra": FOUND,
    "reversed": FOUND,
    "shaped": RARE,
    "noisy": RARE,
    "the interval holds the truth": COVERS,
    "the interval of one new head holds it": COVERS,
    "no interval": ALWAYS,
    "all bands hold": COVERS,
    "picked on test, it would": (0.0, 0.93),
    "a label without an effect is declared": (0.04, 0.06),
    "the label with one is": FOUND,
    "called as good": RARE,
    "power found less power told": (-0.05, 0.05),
    "one look": RARE,
    "four declared looks": RARE,
    "four looks, not declared, would": (0.07, 1.0),
}
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
    def of(cls, check: str, figure: str, value: float, wanted: tuple[float, float], runs: int) -> Figure:
        """Judge `value`."""
        return cls(check, figure, round(value, 6), *wanted, wanted[0] <= value <= wanted[1], runs)


@dataclass(frozen=True)
class Check:
    """What is tried.

    Attributes:
        run: Does one run of a seed.
        summarise: Makes figures of all runs, given the name of the check.
        most_runs: Runs at most, where each is dear.
    """

    run: Callable[[int], Line]
    summarise: Callable[[str, list[Line]], Iterator[Figure]]
    most_runs: int = 1_000_000


def beyond(seed: int) -> Line:
    """One run: is a function of entropy and surprisal, or an independent extra, declared beyond them?"""
    form = FORMS[seed % len(FORMS)]
    fit, test = plant(2 * seed, form), plant(2 * seed + 1, form, n_documents=100)
    tests = BeyondTest(fit.sample, test.sample, Units.of(test.sample.document), Bootstrap(), seed)
    line: Line = {"form": form}
    for name in SIGNALS:
        for row in tests.of_signal(getattr(fit, name), getattr(test, name)):
            line[f"{name} {row['baseline']}"] = bool(row["is_beyond"])
    return line


def bins(seed: int) -> Line:
    """One run: is a relation that reverses within bins found by ranks, and a function of entropy not?"""
    form = ENTROPY_FORMS[seed % len(ENTROPY_FORMS)]
    splits = plant(2 * seed, form), plant(2 * seed + 1, form, n_documents=100)
    fit, test = (
        WithinBins(
            one.sample.curves["entropy"],
            one.sample.curves["surprisal"],
            one.sample.is_boundary,
            Units.of(one.sample.document),
            seed,
        )
        for one in splits
    )
    line: Line = {"form": form}
    for name in ("reversed", "noisy"):
        before, after = (getattr(one, name) for one in splits)
        line[name] = test.p(fit.sign(fit.left_of(before)) * test.left_of(after)) < LEVEL
    return line


def by_form(check: str, lines: list[Line]) -> Iterator[Figure]:
    """Shares found, of all runs and by the form of f."""
    for key in (name for name in lines[0] if name not in ("form", "seed")):
        signal, *baseline = key.split()
        for form in ("any form", *FORMS) if check == "bins" else ("any form", "joint"):
            found = [line[key] for line in lines if form in ("any form", line["form"])]
            if found:
                name = " ".join([signal, "found", *(f"beyond {one}" for one in baseline)])
                yield Figure.of(check, f"{name}, {form}", float(np.mean(found)), WANTED[signal], len(found))


def shares(check: str, lines: list[Line]) -> Iterator[Figure]:
    """How often what runs say is true."""
    for key in (name for name in lines[0] if name != "seed"):
        value = float(np.mean([line[key] for line in lines]))
        yield Figure.of(check, key, value, WANTED[key.split(": ")[-1]], len(lines))


def nulls(check: str, lines: list[Line]) -> Iterator[Figure]:
    """Kolmogorov-Smirnov p of the null, and power."""
    null, planted = (np.array([line[key] for line in lines]) for key in ("null", "planted"))
    uniform = float(stats.kstest(null, "uniform").pvalue)
    yield Figure.of(check, "KS p of null p values", uniform, (0.001, 1.0), len(lines))
    yield Figure.of(check, "null p of at most 0.05", float(np.mean(null <= 0.05)), RARE, len(lines))
    found = float(np.mean(planted <= 0.05))
    yield Figure.of(check, "planted effects with p of at most 0.05", found, FOUND, len(lines))


CHECKS: dict[str, Check] = {
    "bins": Check(bins, by_form),
    "coverage": Check(trust_statistics.coverage, shares),
    "seeds": Check(trust_statistics.seeds, shares),
    "layers": Check(trust_statistics.layers, shares),
    "labels": Check(trust_statistics.labels, shares),
    "margin": Check(trust_statistics.margin, shares),
    "looks": Check(trust_statistics.looks, shares),
    "shift_null": Check(trust_statistics.shift_null, nulls),
    "short_null_0.6": Check(trust_statistics.short_null(0.6), nulls),
    "short_null_0.9": Check(trust_statistics.short_null(0.9), nulls),
    "same_byte_null": Check(trust_statistics.same_byte_null, nulls),
    "beyond": Check(beyond, by_form, most_runs=100),
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


def run_check(name: str, n_runs: int, folder: Path) -> list[Figure]:
    """Do the runs that are missing, and return the figures of all of the first `n_runs` seeds."""
    path, check = folder / f"{name}.jsonl", CHECKS[name]
    done, n_runs = read(path), min(n_runs, check.most_runs)
    begin = said = time.monotonic()
    missing = [seed for seed in range(n_runs) if seed not in done]
    with path.open("a") as file:
        for k, seed in enumerate(missing, 1):
            done[seed] = {"seed": seed, **check.run(seed)}
            file.write(json.dumps(done[seed]) + "\n")
            file.flush()
            now = time.monotonic()
            if now - said > _PROGRESS_SECONDS or k == len(missing):
                said, left = now, (now - begin) / k * (len(missing) - k)
                print(f"{name}: {n_runs - len(missing) + k} of {n_runs} runs, {left:.0f} s left", flush=True)
    return [*check.summarise(name, [done[seed] for seed in range(n_runs)])]


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
        figures += run_check(name, asked.runs, asked.out)
    write_summary(figures, asked.out / "summary.csv")
    return 0 if all(one.is_met for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
