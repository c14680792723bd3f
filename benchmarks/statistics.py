"""What the statistics of one label cost: `python -m benchmarks.statistics [UNITS]`.

One million gaps, six layers, 2,000 resamples of four metrics, 1,000 circular shifts and 1,000
flips of the same-byte test, both with the largest of the family. The target is 20 s on 2 cores.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from lrope_interp.probes.statistics.bootstrap import Bootstrap, Ranked, Units
from lrope_interp.probes.statistics.estimates import Estimate, Scoring
from lrope_interp.probes.statistics.nulls import SameByte, Shifts, family_wise
from lrope_interp.probes.statistics.ranking import Curve, Ranking

N_GAPS = 1_000_000
N_LAYERS = 6
N_UNITS = 250


@dataclass(frozen=True)
class Clock:
    """Seconds by part."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the seconds of what is inside to a part."""
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started


def measure(n_units: int = N_UNITS, n_gaps: int = N_GAPS, n_layers: int = N_LAYERS) -> dict[str, float]:
    """Return the seconds that each part takes for one label and all layers."""
    rng, clock = np.random.default_rng(0), Clock()
    document = np.arange(n_gaps) // -(-n_gaps // n_units)
    is_boundary, byte = rng.random(n_gaps) < 0.2, rng.integers(0, 90, n_gaps)
    layers = [(rng.normal(size=n_gaps) + 0.3 * is_boundary).astype(np.float32) for _ in range(n_layers)]
    with clock.part("set up once: units, weights, offsets, signs"):
        units, boot = Units.of(document), Bootstrap()
        boot.weights(units.count)
        turned, same = Shifts.of(document).turn(is_boundary), SameByte.of(byte, units)
    found, shifted, alike = [], [], []
    for values in layers:
        with clock.part("sort and count"):
            ranking = Ranking.of(values)
            curve, ranked = Curve.of(ranking, is_boundary), Ranked(ranking, units)
            found.append(curve.roc_auc())
            is_called = values >= curve.best_threshold()
            assert ranked.gaps.size
        for name in ("roc_auc", "average_precision"):
            with clock.part(f"resample {name}"):
                _ = Estimate(0.5, getattr(boot, name)(ranked, is_boundary), units.count).interval
        with clock.part("resample F1 and MCC"):
            calls = Scoring(units, boot).calls(is_called, is_boundary)
            _ = calls["f1"].interval, calls["mcc"].interval
        with clock.part("circular shifts"):
            shifted.append(turned.null_auc(ranking))
        with clock.part("same byte"):
            alike.append(same.draw(ranking, is_boundary))
    with clock.part("largest of the family"):
        family_wise(np.array(found), np.stack(shifted))
        family_wise(np.array([one for one, _ in alike]), np.stack([null for _, null in alike]))
    return clock.seconds


def main() -> None:
    """Print seconds by part and in total."""
    n_units = int(sys.argv[1]) if len(sys.argv) > 1 else N_UNITS
    seconds = measure(n_units)
    for name, value in seconds.items():
        print(f"{value:7.2f} s  {name}")
    print(
        f"{sum(seconds.values()):7.2f} s  in total: {N_GAPS:,} gaps, {N_LAYERS} layers, {n_units} documents"
    )


if __name__ == "__main__":
    main()
