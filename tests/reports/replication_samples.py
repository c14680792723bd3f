"""A paired experiment made by hand: losses with a spread that pairs share, and curves that end in them."""

from __future__ import annotations

import numpy as np

from lrope_interp.probes.studies.replication.replication import Comparison, replicate_result
from lrope_interp.results import Result

ARMS = {"fixed": 0.0, "fixed_wide": -0.0003, "shared": -0.0012, "per_layer": -0.0110}
SPREAD = {"fixed": 0.0, "fixed_wide": 0.0008, "shared": 0.0040, "per_layer": 0.0030}
PARAMETERS = {
    "fixed": 1_607_424,
    "fixed_wide": 1_632_768,
    "shared": 1_611_713,
    "per_layer": 1_633_158,
}
STEPS = [100, 200, 300, 400, 500, 600]
CONFIG = {"preset": "tiny", "n_layers": 6, "n_heads": 4, "d_model": 128}
DATA = {"name": "bilingual", "split": "dev", "n_documents": 22, "n_bytes": 408_279, "sha256": "cd" * 32}


def replication_rows(n_seeds: int = 5) -> dict[str, list[dict[str, object]]]:
    draw = np.random.default_rng(1)
    rows: dict[str, list[dict[str, object]]] = {"runs": [], "languages": [], "curves": []}
    for seed in range(n_seeds):
        shared = draw.normal(1.83, 0.006)
        for arm, effect in ARMS.items():
            loss = shared + effect + draw.normal(0, 1) * SPREAD[arm]
            rows["runs"].append(
                {
                    "arm": arm,
                    "seed": seed,
                    "nats_per_byte": loss,
                    "n_parameters": PARAMETERS[arm],
                    "n_steps": 600,
                    "bytes_read": 2_457_000,
                    "train_loss": loss - 0.04,
                    "validation_nats_per_byte": loss + 0.01,
                    "model_sha256": f"{seed:064x}",
                }
            )
            rows["languages"] += [
                {"arm": arm, "seed": seed, "language": "en", "nats_per_byte": loss - 0.1, "n_bytes": 332_697},
                {"arm": arm, "seed": seed, "language": "zh", "nats_per_byte": loss + 0.3, "n_bytes": 75_582},
            ]
            rows["curves"] += [
                {
                    "arm": arm,
                    "seed": seed,
                    "step": step,
                    "split": split,
                    "loss": loss + 1.2 * np.exp(-step / 150) + draw.normal(0, 0.002) * (step < 600),
                }
                for step in STEPS
                for split in ("train", "validation")
            ]
    return rows


def replication_result(n_seeds: int = 5, margin: float = 0.003, reference: str = "fixed") -> Result:
    return replicate_result(
        replication_rows(n_seeds),
        Comparison(reference, margin),
        config=CONFIG,
        data=DATA,
        warnings=["not all runs were trained with the same threads: 1, 2"],
    )
