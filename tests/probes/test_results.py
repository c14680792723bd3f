"""Results on disk: the same numbers back, the format on disk, and clear refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lrope_interp.errors import LRopeError
from lrope_interp.results import Result, file_sha256, load_result, provenance, save_result, stamp

AWKWARD = [
    "\r",
    "\n",
    "\r\n",
    '"',
    ",",
    "\x00",
    "NA",
    "nan",
    "",
    " ",
    "中",
    "\u2028",
    "\ufeff",
    "<b>",
    "=1+1",
]


def example() -> Result:
    n = len(AWKWARD)
    floats = np.random.default_rng(0).normal(size=n) * 10.0 ** np.arange(-7, n - 7)
    floats[3] = math.nan
    table = pd.DataFrame(
        {
            "text": pd.Series(AWKWARD, dtype="str"),
            "value": floats,
            "single": floats.astype(np.float32),
            "layer": pd.Series([None, *range(n - 1)], dtype="Int64"),
            "n": np.arange(n),
            "is_word": np.arange(n) % 2 == 0,
            "is_known": pd.Series([None, True] + [False] * (n - 2), dtype="boolean"),
        }
    )
    return Result(
        kind="example",
        provenance=provenance(
            config={"n_layers": 2}, data={"name": "d", "sha256": "0", "n_bytes": np.int64(3)}, seed=1
        ),
        headline={"auc": 0.1 + 0.2, "missing": math.nan, "none": None, "numpy": np.float64(1.5)},
        tables={"awkward": table, "empty": table.iloc[:0]},
        warnings=("little text",),
        gaps=pd.DataFrame({"t": np.arange(3, dtype=np.int32), "x": np.float32([0.1, 0.2, 0.3])}),
    )


def test_a_result_comes_back_as_it_was(tmp_path: Path) -> None:
    result = example()
    save_result(result, tmp_path / "out")
    again = load_result(tmp_path / "out")
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name], check_exact=True)
    assert again.gaps is not None
    pd.testing.assert_frame_equal(result.gaps, again.gaps, check_exact=True)
    assert again.headline == {"auc": 0.1 + 0.2, "missing": None, "none": None, "numpy": 1.5}
    assert again.provenance == result.provenance
    assert (again.kind, again.warnings, again.created) == (result.kind, result.warnings, result.created)


def test_the_file_is_that_of_the_design(tmp_path: Path) -> None:
    save_result(example(), tmp_path)
    payload = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert {"format", "kind", "created", "provenance", "headline", "tables", "warnings"} <= set(payload)
    assert payload["format"] == 1
    assert payload["headline"]["missing"] is None
    assert payload["tables"] == {"awkward": "awkward.csv", "empty": "empty.csv"}
    keys = {"model", "model_sha256", "config", "data", "seed", "versions", "command"}
    assert set(payload["provenance"]) == keys
    assert {"python", "torch", "numpy", "transformer-lens"} <= set(payload["provenance"]["versions"])
    assert {path.name for path in tmp_path.iterdir()} == {
        *("result.json", "awkward.csv", "empty.csv", "gaps.parquet")
    }
    assert "NaN" not in (tmp_path / "result.json").read_text(encoding="utf-8")
    plain = pd.read_csv(tmp_path / "awkward.csv")
    np.testing.assert_array_equal(plain["value"], example().tables["awkward"]["value"])
    assert plain["n"].tolist() == list(range(len(AWKWARD)))


def test_a_stamp_names_the_weights_and_the_command(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    digest = file_sha256(tmp_path / "model.safetensors")
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    stamped = stamp(example(), command="lrope-interp boundaries", model="run", model_sha256=digest)
    assert stamped.provenance["command"] == "lrope-interp boundaries"
    assert (stamped.provenance["model"], stamped.provenance["model_sha256"]) == ("run", digest)
    assert stamped.provenance["config"] == example().provenance["config"]
    with pytest.raises(LRopeError, match="cannot read"):
        file_sha256(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no result"),
        ("[]", "names no format"),
        ('{"format": 99}', "format 99; this version reads up to 1"),
        ('{"format": 1, "kind": "x"}', "lacks created"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "result.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(LRopeError, match=said):
        load_result(tmp_path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    save_result(example(), tmp_path)
    (tmp_path / "awkward.csv").unlink()
    with pytest.raises(LRopeError, match=r"awkward.csv cannot be read"):
        load_result(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(LRopeError, match="cannot write the result"):
        save_result(example(), tmp_path / "file" / "out")
