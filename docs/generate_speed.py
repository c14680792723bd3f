"""Write the table of docs/evidence/speed.md from saved results: `python docs/generate_speed.py`."""

from __future__ import annotations

from pathlib import Path

import marked_tables

from lrope_interp.reports.kit.wording import number
from lrope_interp.results import load_result

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "evidence" / "speed.md"
RESULT = TOP / "results" / "training-speed"
PEERS = {"hf_llama": "Hugging Face Llama", "litgpt": "litgpt", "x_transformers": "x-transformers"}
COLUMNS = {
    (shape, dtype): f"`{shape}`, {dtype}" for shape in ("paper", "tiny") for dtype in ("bfloat16", "float32")
}


def peers_table() -> str:
    """Return tokens a second over those of each library, with the lowest and the highest run."""
    peers = load_result(RESULT).tables["peers"].set_index(["arm", "peer", "shape", "dtype"])
    rows = []
    for arm in ("fixed", "per_layer"):
        for peer, name in PEERS.items():
            found = [peers.loc[(arm, peer, *key)] for key in COLUMNS]
            cells = [
                f"{number(row['ratio'])} ({number(row['lowest_run'])}–{number(row['highest_run'])})"
                for row in found
            ]
            rows.append([f"{arm.replace('_', ' ')} / {name}", *cells])
    return marked_tables.table(["tokens per second", *COLUMNS.values()], rows)


def tables() -> dict[str, str]:
    """Return the table of the page by its name."""
    return {"peers": peers_table()}


def filled(page: str) -> str:
    """Return the page with its table as the results have them."""
    return marked_tables.filled(page, tables())


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
