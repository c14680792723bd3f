"""Whatever stands in a file that is read back, reading it ends at once, and in words."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from lrope_interp.commands.output import number
from lrope_interp.data import Reading, assert_held_out, read_manifest
from lrope_interp.errors import LRopeError
from lrope_interp.files import MOST_DEPTH, ModelShape, ResultFile, RunFile, check, parsed, read_json, read_log
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.results import Result, load_result, save_result
from lrope_interp.runs import list_runs, newest_finished_run, read_run
from lrope_interp.tokenizers import load_tokenizer
from lrope_interp.training.checkpoints import newest_checkpoint, save_checkpoint
from lrope_interp.training.config import Recording, train_config
from lrope_interp.training.steps import build_optimiser

RUN = {
    "format": 1,
    "status": "finished",
    "started": "2026-01-02T03:04:05+00:00",
    "finished": "2026-01-02T03:05:05+00:00",
    "preset": "tiny",
    "data": "english",
    "increments": "per_layer",
    "per_head": False,
    "tokenizer": {"name": "bytes", "vocab_size": 257, "fingerprint": "x", "tokens_per_byte": 1.0},
    "seed": 0,
    "n_steps": 6,
    "n_parameters": 5,
    "threads": 1,
    "versions": {"python": "3.11"},
    "summary": {"step": 6, "validation_nats_per_byte": 2.0, "seconds": 1.0},
    "recording": {"log_to": [], "checkpoint_minutes": 10.0},
}
MANIFEST = {
    "format": 1,
    "name": "english",
    "despaced": False,
    "sources": [{"part": "speeches", "version": "1"}],
    "splits": {"train": {"n_documents": 1, "n_bytes": 3, "sha256": ["0" * 64]}},
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., LRopeTransformer]) -> Path:
    """A folder that has a good one of every file."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    model = make_model()
    config = train_config("tiny", **{name: getattr(model.cfg, name) for name in ("n_layers", "d_model")})
    model.save_pretrained(folder, {"training": config.to_dict()})
    model.own_tokenizer().save(folder)
    (folder / "run.json").write_text(json.dumps(RUN))
    (folder / "data.json").write_text(json.dumps(MANIFEST))
    (folder / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 1.0}\n{"step": 2}\n')
    optimiser = build_optimiser(model, config)
    state = {"n_bytes": 3, "losses": [1.0], "latest": {"loss": 1.0}, "seconds": 1.0}
    save_checkpoint(folder, 4, model, optimiser, state)
    table = pd.DataFrame({"name": ["a"], "value": [0.5], "n": pd.Series([1], dtype="Int64"), "is_it": [True]})
    result = Result("eval", {"model": "m", "config": {}, "data": {}, "seed": 0}, {"x": 1.0}, {"t": table})
    save_result(result, folder / "eval")
    return folder


def read_run_as_commands_do(folder: Path) -> None:
    run = read_run(folder)
    Recording().over(run.info.get("recording", {}))
    assert run.started.tzinfo is not None
    number(float(run.summary.get("validation_nats_per_byte") or 0))
    assert (run.info.get("tokenizer") or {}).get("name", "bytes") is not None


def read_manifest_as_commands_do(folder: Path) -> None:
    manifest = read_manifest(folder)
    Reading.of(manifest)
    assert_held_out(manifest, [])
    assert all(source.get("version", "") != 0 for source in manifest.get("sources", []))


def read_checkpoint(folder: Path) -> None:
    torn: list[str] = []
    found = newest_checkpoint(folder, torn.append)
    if torn:
        raise LRopeError(torn[0])
    assert found is not None
    model = LRopeTransformer.from_pretrained(found.folder)
    found.load(model, build_optimiser(model, train_config("tiny")))


READERS: dict[str, Callable[[Path], object]] = {
    "run.json": read_run_as_commands_do,
    "config.json": LRopeTransformer.from_pretrained,
    "data.json": read_manifest_as_commands_do,
    "tokenizer.json": load_tokenizer,
    "eval/result.json": lambda folder: load_result(folder / "eval"),
    "checkpoints/step-00000004/state.json": read_checkpoint,
}


VALUES: list[Any] = [
    *(None, True, -1, 0, 2.5, 1e308, 10**18, 10**19, "", "x", "../x", "\0", "\ud800", [], {}, [[]], [None]),
    {"a": 1},
]


def places(value: Any, depth: int = 0) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every key and item, but of long lists only the first."""
    keys = value if isinstance(value, dict) else range(min(len(value), 1)) if isinstance(value, list) else ()
    for key in keys:
        yield (key,)
        if depth < 3:
            yield from ((key, *rest) for rest in places(value[key], depth + 1))


def changed(payload: Any) -> Iterator[Any]:
    """Yield copies of a payload with one place of another type or size, missing, or extra."""
    for path in places(payload):
        for value in [*VALUES, KeyError]:
            copied = copy.deepcopy(payload)
            parent = copied
            for key in path[:-1]:
                parent = parent[key]
            if value is KeyError:
                del parent[path[-1]]
            else:
                parent[path[-1]] = value
            yield copied
    yield {**payload, "one_more": {"deep": [1]}}


@pytest.mark.parametrize("name", READERS)
def test_one_value_of_another_kind_ends_in_words(name: str, sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    payloads = list(changed(json.loads((folder / name).read_text())))
    n_refused = 0
    for payload in random.Random(0).sample(payloads, 30):
        (folder / name).write_text(json.dumps(payload))
        try:
            READERS[name](folder)
        except LRopeError:
            n_refused += 1
    assert n_refused > 5


RAW = {
    "empty": b"",
    "no object": b"[1, 2]",
    "null": b"null",
    "cut short": b'{"format": 1, "sta',
    "twice": b'{"format": 1, "format": 1}',
    "NaN": b'{"format": NaN}',
    "beyond floats": b'{"format": 1e999}',
    "byte order mark": b'\xef\xbb\xbf{"format": 1}',
    "UTF-16": '{"format": 1}'.encode("utf-16"),
    "Latin-1": b'{"format": "\xe9"}',
    "NUL": b"\0" * 64,
    "deep": b"[" * 100_000,
    "deep and whole": b'{"format": ' + b"[" * 900 + b"]" * 900 + b"}",
    "huge integer": b'{"format": 1' + b"0" * 5_000 + b"}",
    "integer of 65 bits": b'{"format": 36893488147419103232}',
    "half a pair": b'{"format": 1, "name": "\\ud800"}',
    "newer": b'{"format": 2}',
    "boolean format": b'{"format": true}',
    "fractional format": b'{"format": 1.0}',
    "negative format": b'{"format": -1}',
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_of_ours_is_refused(name: str, sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    for raw in RAW.values():
        (folder / name).write_bytes(raw)
        with pytest.raises(LRopeError, match=Path(name).name):
            READERS[name](folder)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused_at_once(
    make: Callable[[Path], None], sound: Path, tmp_path: Path
) -> None:
    weights = {"model.safetensors": LRopeTransformer.from_pretrained}
    table = {"eval/t.csv": READERS["eval/result.json"], "eval/gaps.parquet": READERS["eval/result.json"]}
    for name, read in (READERS | weights | table).items():
        folder = tmp_path / name.replace("/", "-")
        shutil.copytree(sound, folder)
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        with pytest.raises(LRopeError, match=Path(name).name):
            read(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_layers": 1_000_000_000}, "n_layers must be at most"),
        ({"n_layers": 10_000}, "weights of 2 layers"),
        ({"n_layers": 2.0}, "n_layers must be a whole number; got 2.0"),
        ({"d_vocab": 10_000_000}, "shape"),
        ({"n_heads": 0, "d_head": None}, "n_heads must be at least 1"),
        ({"increments": 5}, "increments must be text"),
        ({"eps": None}, "eps must be a number"),
        ({"seed": 10**19}, "seed must be at most"),
        ({"dtype": "float64"}, "F32, the configuration says float64"),
        ({"use_biases": "yes"}, "use_biases must be true or false"),
    ],
)
def test_a_configuration_is_not_believed_before_the_weights_are_looked_at(
    change: dict[str, Any], said: str, sound: Path, tmp_path: Path
) -> None:
    shutil.copytree(sound, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    payload = json.loads(path.read_text())
    path.write_text(json.dumps({**payload, "model": payload["model"] | change}))
    with pytest.raises(LRopeError, match=said):
        LRopeTransformer.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize(
    ("convert", "said"),
    [
        (torch.Tensor.long, "type I64"),
        (torch.Tensor.half, "type F16"),
        (lambda tensor: tensor * float("nan"), "not finite"),
        (lambda tensor: tensor[:0], "shape"),
    ],
)
def test_weights_that_are_no_finite_numbers_of_the_right_type_are_refused(
    convert: Callable[[torch.Tensor], torch.Tensor], said: str, sound: Path, tmp_path: Path
) -> None:
    shutil.copytree(sound, tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    weights = load_file(path)
    weights["blocks.1.mlp.W_in"] = convert(weights["blocks.1.mlp.W_in"]).contiguous()
    save_file(weights, path)
    with pytest.raises(LRopeError, match=said):
        LRopeTransformer.from_pretrained(tmp_path / "run")


def test_a_broken_header_of_weights_is_refused(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "run")
    for raw in (b"", b"\0" * 7, b"\xff" * 8, b"\x02\0\0\0\0\0\0\0{}", b"8" * 100):
        (tmp_path / "run" / "model.safetensors").write_bytes(raw)
        with pytest.raises(LRopeError, match=r"model\.safetensors"):
            LRopeTransformer.from_pretrained(tmp_path / "run")


def test_increments_that_hold_themselves_are_refused(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    LRopeTransformer(LRopeConfig(2, 16, 2, increments="fixed", seed=0)).save_pretrained(folder)
    payload = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(payload | {"frozen": "contextual"}))
    (folder / "increments").symlink_to(folder)
    with pytest.raises(LRopeError, match="did not learn its increments"):
        LRopeTransformer.from_pretrained(folder)


def test_one_bad_run_breaks_neither_the_list_nor_the_search_for_the_newest(
    sound: Path, tmp_path: Path
) -> None:
    for name in ("a", "b", "c", "d", "e"):
        shutil.copytree(sound, tmp_path / name)
    (tmp_path / "b" / "run.json").write_text(
        json.dumps({**RUN, "summary": {"validation_nats_per_byte": "x"}})
    )
    (tmp_path / "c" / "run.json").unlink()
    os.mkfifo(tmp_path / "c" / "run.json")
    (tmp_path / "d" / "run.json").write_bytes(b"[" * 10_000)
    (tmp_path / "e" / "data.json").unlink()
    told: list[str] = []
    assert [run.folder.name for run in list_runs(tmp_path, told.append)] == ["a"]
    assert [Path(one.split()[2]).parent.name for one in told[:3]] == ["b", "c", "d"]
    assert len(told) == 4
    assert newest_finished_run(tmp_path).folder.name == "a"


def test_a_result_names_no_table_outside_its_folder_and_none_of_another_form(
    sound: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sound / "eval", tmp_path / "eval"))
    for table in (
        "",
        "name,n\na,1,2\n",
        "name,name\na,b\n",
        "value\nx\n",
        "n\n9" + "9" * 30,
        "is_it\nmaybe\n",
    ):
        (folder / "t.csv").write_text(table)
        with pytest.raises(LRopeError, match=r"t\.csv cannot be read as a table"):
            load_result(folder)
    payload = json.loads((folder / "result.json").read_text())
    for name in ("../secret.csv", "/etc/passwd", "a/b.csv", ".csv", "t.csv/", "t"):
        (folder / "result.json").write_text(json.dumps({**payload, "tables": {"t": name}}))
        with pytest.raises(LRopeError, match=r"a \.csv file in the same folder"):
            load_result(folder)


def test_a_log_is_read_up_to_the_first_line_that_is_not_whole(tmp_path: Path) -> None:
    good, deep = b'{"step": 1, "split": "train", "loss": 1.0}\n', b"[" * 9_000 + b"\n"
    for bad in (b'{"step": "2"}\n', b"{}\n", b'{"step": 2}', b'{"step": 2, "loss": NaN}\n', deep):
        more = b"" if not bad.endswith(b"\n") else good
        (tmp_path / "log").write_bytes(good + bad + more)
        assert list(read_log(tmp_path / "log")) == [(len(good), json.loads(good))]
    assert list(read_log(tmp_path / "none")) == []


def test_as_many_brackets_as_allowed_are_read() -> None:
    assert parsed(b"[" * MOST_DEPTH + b"]" * MOST_DEPTH)
    with pytest.raises(ValueError, match="brackets"):
        parsed(b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1))


def test_results_that_were_kept_still_load(repository: Path) -> None:
    for path in repository.glob("results/*/result.json"):
        assert read_json(path, ResultFile, newest=1)["tables"]
    for name in ("reference-spacing-en", "replicate-tiny", "tiny-boundaries"):
        assert load_result(repository / "results" / name).tables


def test_a_model_configuration_keeps_plain_numbers_and_refuses_what_is_no_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the user has no type checker
    given: Any = {"n_layers": np.int64(1), "d_model": np.int32(16), "n_heads": 2, "eps": np.float32(0.5)}
    values = LRopeConfig(**given, per_head=np.bool_(1)).to_dict()  # pyright: ignore[reportArgumentType]
    assert LRopeConfig.from_dict(json.loads(json.dumps(values))).to_dict() == values
    for device in ("x", 3, ["cpu"]):
        with pytest.raises(LRopeError, match="the name of a torch device is wanted"):
            LRopeConfig(1, 16, 2, device=device)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("form", "name", "least", "most"),
    [
        (ModelShape, "n_layers", 1, 10_000),
        (ModelShape, "d_model", 1, 2**20),
        (ModelShape, "d_vocab", 1, 2**24),
        (ModelShape, "n_ctx", 1, 2**40),
        (ModelShape, "seed", -(2**63), 2**63 - 1),
        (ModelShape, "eps", 0.0, 1.0),
        (RunFile, "n_steps", 0, 2**63 - 1),
        (RunFile, "seed", -(2**63), 2**63 - 1),
    ],
)
def test_numbers_in_files_have_a_range_and_its_ends_are_in_it(
    form: Any, name: str, least: float, most: float
) -> None:
    good = RUN if form is RunFile else {"n_layers": 1, "d_model": 16, "n_heads": 2}
    step = 1 if isinstance(most, int) else 1e-9
    for value in (least, most):
        assert getattr(check(form, good | {name: value}, "it"), name) == value
    for value in (least - step, most + step):
        with pytest.raises(LRopeError, match=f"it: {name} must be"):
            check(form, good | {name: value}, "it")


def test_weights_larger_than_the_memory_are_refused_in_words(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(sound, folder)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**41], "data_offsets": [0, 2**43]}}).encode()
    weights = folder / "model.safetensors"
    weights.write_bytes(len(header).to_bytes(8, "little") + header)
    try:
        os.truncate(weights, 8 + len(header) + 2**43)
    except OSError:
        pytest.skip("this file system has no such file")
    with pytest.raises(LRopeError, match=r"model\.safetensors"):
        LRopeTransformer.from_pretrained(folder)
