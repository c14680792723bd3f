"""A paired experiment: arms times seeds, trained one after the other in one folder, resumably.

Runs of one seed read the same batches and start from the same weights wherever they have weights in
common: a batch is a function of (seed, step), an initial weight of (seed, parameter name).

Every run is an ordinary run folder, ``<folder>/runs/<arm>-s<seed>``. Seeds are the outer loop, so that
whole pairs are there early. Nothing but the run folders says how far the experiment is: a finished run
is not trained again, an unfinished one is gone on with, a missing one is started.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import groupby, product
from pathlib import Path
from typing import Any

from lrope_interp.data import Corpus, Document, assert_held_out, read_manifest
from lrope_interp.data.cache import source_code
from lrope_interp.data.documents import in_lists
from lrope_interp.errors import LRopeError, unknown
from lrope_interp.files import ScoreFile, read_json
from lrope_interp.folders import (
    ARM_RUN,
    MANIFEST_FILE,
    REPLICATE,
    Reservation,
    held,
    is_locked,
    numbered,
    reserved,
    resumed_folder,
    write_json_atomically,
)
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.results import file_sha256
from lrope_interp.runs import Run, read_run
from lrope_interp.tokenizers import load_tokenizer
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.events import Event
from lrope_interp.training.loop import train
from lrope_interp.training.metrics import METRICS_FILE, nats_per_byte, read_lines, validation_windows
from lrope_interp.training.preparation import assert_same_data, stored_config

RUNS_FOLDER, SCORES_FOLDER = "runs", "scores"
_OURS = {RUNS_FOLDER, SCORES_FOLDER, "result.json", "report.html"}
SPLIT = "dev"
DTYPE = "float32"
_CHUNK = 1_000_000  # bytes of text that are cut into windows at a time
_COMPARED = ("device", "dtype", "threads", "processes")
DEFAULT_ARMS = ("fixed", "fixed_wide", "shared", "per_layer")
ARMS: Mapping[str, Mapping[str, Any]] = {
    "fixed": {"increments": "fixed"},
    "fixed_wide": {"increments": "fixed"},
    "shared": {"increments": "shared"},
    "per_layer": {"increments": "per_layer"},
    "shared_per_head": {"increments": "shared", "per_head": True},
    "per_layer_per_head": {"increments": "per_layer", "per_head": True},
}
"""What each arm changes in the config that all of them share."""
WIDENED, WIDENED_TO = "fixed_wide", "per_layer"
"""The arm with more MLP units, and the one whose number of parameters it comes nearest to."""


def parse_arms(text: str) -> tuple[str, ...]:
    """Return the arms of a list like ``fixed,per-layer``; "per-layer" and "per_layer" are the same.

    Raises:
        LRopeError: An arm is unknown or named twice.
    """
    names = [word.strip().replace("-", "_") for word in text.split(",")]
    for name in names:
        check_arm(name)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LRopeError(f"the arm {spoken(twice[0])} is named twice in {text!r}: name each arm once")
    return tuple(names)


def check_arm(name: str) -> str:
    """Return the name of an arm as folders have it, or refuse it."""
    name = name.replace("-", "_")
    if name not in ARMS:
        raise unknown("arm", spoken(name), map(spoken, ARMS))
    return name


def check_reference(reference: str, arms: Sequence[str]) -> str:
    """Return the reference, which must be one of at least two arms."""
    reference = check_arm(reference)
    if reference not in arms:
        raise LRopeError(
            f"the reference {spoken(reference)} is not among the arms {', '.join(map(spoken, arms))}: add it "
            "to --arms, or name one of them by --reference"
        )
    if len(arms) < 2:
        raise LRopeError(f"{spoken(reference)} alone has nothing to be compared with: name two arms or more")
    return reference


def spoken(name: str) -> str:
    """Return an arm's name as the command line spells it."""
    return name.replace("_", "-")


def arm_config(arm: str, base: TrainConfig, seed: int) -> TrainConfig:
    """Return `base` as `arm` trains it with `seed`."""
    arm = check_arm(arm)
    changed = {"per_head": False, **ARMS[arm], "widened": extra_units(base) if arm == WIDENED else 0}
    return replace(base, **changed, seed=seed)


def extra_units(base: TrainConfig) -> int:
    """Return the MLP units a layer whose weights come nearest to those of the per-layer heads.

    Raises:
        LRopeError: The heads weigh less than half a unit a layer, so that nothing would be added.
    """
    heads = n_extra_parameters(WIDENED_TO, base)
    units = round(heads / _unit_parameters(base))
    if not units:
        raise LRopeError(
            f"the per-layer heads of this shape have {heads} parameters, less than one MLP unit a layer, so "
            "fixed-wide would be fixed: leave it out of --arms"
        )
    return units


def _unit_parameters(base: TrainConfig) -> int:
    return 3 * base.d_model * base.n_layers  # a unit of the gated MLP has three weights a dimension


@cache
def n_extra_parameters(arm: str, base: TrainConfig) -> int:
    """Return how many parameters `arm` has beyond those of fixed RoPE, counted on a model of that shape."""
    arm = check_arm(arm)
    if arm == WIDENED:
        return _unit_parameters(base) * extra_units(base)
    shape: Any = {name: getattr(base, name) for name in ("n_layers", "d_model", "n_heads", "d_head")}
    cfg = LRopeConfig(**shape, **ARMS[arm], d_mlp=1, d_vocab=2, n_ctx=2, seed=0, device="cpu")
    return sum(weight.numel() for _, weight in LRopeTransformer(cfg).increment_parameters())


@dataclass(frozen=True)
class PlannedRun:
    """One run of the experiment, trained or not.

    Attributes:
        arm: Name of the arm, as in `ARMS`.
        seed: Of the weights and the data order.
        config: What is asked for.
        folder: Its run folder.
    """

    arm: str
    seed: int
    config: TrainConfig
    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def trained(self) -> Run | None:
        """Return the run if it is finished."""
        run = read_run(self.folder, allow_unfinished=True) if self.is_begun else None
        return run if run is not None and run.is_finished else None

    @property
    def is_begun(self) -> bool:
        """Whether there is anything in its place."""
        return self.folder.is_file() or (self.folder.is_dir() and any(self.folder.iterdir()))


@dataclass(frozen=True)
class Replication:
    """What is asked for.

    Attributes:
        folder: Holds the runs and, in the end, the result.
        arms: Names of `ARMS`.
        n_seeds: Seeds 0 to n_seeds - 1.
        base: The config that all runs share; its increments, width and seed are the arms'.
    """

    folder: Path
    arms: tuple[str, ...]
    n_seeds: int
    base: TrainConfig

    def runs(self) -> tuple[PlannedRun, ...]:
        """Return every run, seed by seed."""
        folder, pairs = self.folder / RUNS_FOLDER, product(range(self.n_seeds), self.arms)
        return tuple(
            PlannedRun(arm, seed, arm_config(arm, self.base, seed), folder / f"{arm}-s{seed}")
            for seed, arm in pairs
        )


OnRunEvent = Callable[[PlannedRun, Event], None]


def at_default_place(asked: Replication) -> Replication:
    """Return `asked` in its folder, or in ``-2``, ``-3`` ... beside it.

    The first is taken that is not there yet, or whose runs are all as asked for.
    """
    for folder in numbered(asked.folder):
        place = replace(asked, folder=folder)
        with suppress(LRopeError):
            check(as_begun(place))
            return place
    raise AssertionError


def as_begun(asked: Replication) -> Replication:
    """Return `asked` in the folder in which it goes on: in `NAME.new`, if that is to replace the other."""
    return replace(asked, folder=resumed_folder(asked.folder))


def check(
    replication: Replication,
    manifest: Mapping[str, Any] | None = None,
    *,
    is_replaced: bool = False,
) -> None:
    """Refuse a folder of something else, and runs that are not what is asked for.

    Args:
        replication: What is asked for.
        manifest: What `data.json` of every run must hold, where the text was read already.
        is_replaced: The runs that are there will be removed, so what they hold is of no account.

    Raises:
        LRopeError: The message shows what differs. Nothing has been written.
    """
    _assert_ours(replication.folder)
    for planned in replication.runs():
        if planned.is_begun and not is_replaced:
            read_run(planned.folder, allow_unfinished=True)
            asked, stored = planned.config, stored_config(planned.folder, None)
            # A run could be given another length when it is resumed, but pairs are of one length.
            if asked.n_steps != stored.n_steps and not asked.max_epochs:
                raise LRopeError(
                    f"the run {planned.folder} was started with other options: n_steps was "
                    f"{stored.n_steps}, now {asked.n_steps}"
                )
            stored_config(planned.folder, asked)
            if manifest is not None:
                assert_same_data(planned.folder, manifest)


def _assert_ours(folder: Path) -> None:
    if folder.is_file():
        raise LRopeError(f"{folder} is a file; a folder is wanted: give another folder")
    found, runs = _names(folder), _names(folder / RUNS_FOLDER)
    foreign = [name for name in found if name not in _OURS and not name.endswith((".csv", ".part"))]
    foreign += [f"{RUNS_FOLDER}/{name}" for name in runs if not ARM_RUN.fullmatch(name)]
    if foreign or (found and RUNS_FOLDER not in found):
        holds = f"holds {foreign[0]}" if foreign else f"has no {RUNS_FOLDER}/"
        raise LRopeError(f"{folder} {holds}, so it is no folder of `replicate`: give another folder")


def _names(folder: Path) -> list[str]:
    """Return what a folder holds, in order; hidden names are what a killed process left."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if not name.startswith("."))


@contextmanager
def opened(replication: Replication, *, overwrite: bool = False) -> Iterator[Reservation]:
    """Hold the experiment's folder, which is made if it is missing; a second process is refused.

    A folder that was made here and stayed empty is removed again.

    Args:
        replication: What is asked for; `check` it first.
        overwrite: Begin again from nothing. The runs and results that are there stay until the new ones are
            whole: those are made beside, in `NAME.new`.

    Yields:
        The reservation: train in its `folder`, and settle it when the result is written.
    """
    folder = replication.folder
    with ExitStack() as stack:
        if not overwrite and folder.is_dir():
            yield stack.enter_context(held(folder, REPLICATE))
            return
        place = stack.enter_context(reserved(folder, REPLICATE, overwrite=overwrite))
        if place.is_beside:
            for run in (place.target / RUNS_FOLDER).glob("*"):
                if run.is_dir() and is_locked(run):
                    raise LRopeError(f"another process is training in {run}: wait until it ends")
        else:
            place.settle()
        try:
            yield place
        finally:
            if [path.name for path in place.target.iterdir()] == [MANIFEST_FILE]:
                shutil.rmtree(place.target)


def train_missing(replication: Replication, on_event: OnRunEvent) -> tuple[Run, ...]:
    """Train what is not trained yet, seed by seed, and return every run.

    Args:
        replication: What is asked for; hold its folder by `opened`.
        on_event: Told of every event of every run that is trained.

    Raises:
        LRopeError: As `train`; what is finished stays finished.
        KeyboardInterrupt: The run at hand has a checkpoint; the same call goes on from it.
    """
    runs = []
    for planned in replication.runs():
        tell, run = partial(on_event, planned), planned.trained()
        if run is None and planned.is_begun:
            run = train(None, planned.folder, on_event=tell, resume=True, data=planned.config.data)
        runs.append(run or train(planned.config, planned.folder, on_event=tell))
    return tuple(runs)


def full_validation(corpus: Corpus) -> tuple[Document, ...]:
    """Return every document of the dev split, in the order of their hashes, by language."""
    documents = corpus.documents(SPLIT)
    if not any(document.n_bytes for document in documents):
        raise LRopeError("the corpus has no held-out text to validate on; give more text")
    return tuple(sorted(documents, key=lambda document: (document.language, document.sha256)))


def score(planned: PlannedRun, run: Run, documents: Sequence[Document], *, device: str) -> dict[str, Any]:
    """Score a finished run in float32, or read what was scored before.

    Validation during training reads 100 kB, an equal share a language, in the dtype of training. For the
    verdict every run is scored once more, in float32, on every document of the dev split. The score is kept
    in the experiment's folder. It counts only for the same model and documents, and the same source of the
    code that scores; the device changes no more than rounding.

    Args:
        planned: Which run of the experiment.
        run: The same, finished.
        documents: Held-out text, checked against what the run was trained on.
        device: Where to compute.

    Returns:
        `nats`, the sum of -ln p over the bytes of each language; `n_bytes` of each; `model_sha256` of the
        weights that were scored; and what else the score depends on.
    """
    texts = (f"{document.sha256} {document.language}" for document in documents)
    key = {
        "source_code": source_code("data", "models", "tokenizers", "training"),
        "model_sha256": file_sha256(run.folder / "model.safetensors"),
        "config_sha256": file_sha256(run.folder / "config.json"),
        "tokenizer": load_tokenizer(run.folder).fingerprint,
        "documents_sha256": hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest(),
        "dtype": DTYPE,
    }
    path = planned.folder.parent.parent / SCORES_FOLDER / f"{planned.name}.json"
    with suppress(LRopeError):
        found = read_json(path, ScoreFile)
        if all(found.get(name) == value for name, value in key.items()):
            return found
    assert_held_out(read_manifest(run.folder), documents)
    nats, n_bytes = _nats_by_language(run, documents, device)
    if file_sha256(run.folder / "model.safetensors") != key["model_sha256"]:
        raise LRopeError(f"the run {run.folder} was replaced while it was scored: give the command again")
    path.parent.mkdir(exist_ok=True)
    scored = {**key, "nats": nats, "n_bytes": n_bytes}
    write_json_atomically(path, scored)
    return scored


def _nats_by_language(
    run: Run, documents: Sequence[Document], device: str
) -> tuple[dict[str, float], dict[str, int]]:
    model = LRopeTransformer.from_pretrained(run.folder, device=device)
    tokenizer = load_tokenizer(run.folder)
    nats: dict[str, float] = {}
    n_bytes: dict[str, int] = {}
    own = (document for document in documents if document.n_bytes)
    for language, found in groupby(own, key=lambda document: document.language):
        for chunk in in_lists(found, _CHUNK):
            windows = validation_windows(chunk, tokenizer, model.cfg.n_ctx)
            loss = nats_per_byte(model, windows, dtype=DTYPE)
            nats[language] = nats.get(language, 0.0) + loss * windows.n_bytes
            n_bytes[language] = n_bytes.get(language, 0) + windows.n_bytes
    return nats, n_bytes


def rows_of(planned: PlannedRun, run: Run, scored: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of one run in `runs.csv`, `languages.csv` and `curves.csv`.

    Args:
        planned: Which run of the experiment.
        run: The same, finished.
        scored: What `score` says of it.

    Returns:
        Rows by table. The curves are what the run logged, in nats: of training a token, of validation a byte.
    """
    which, nats, n_bytes = {"arm": planned.arm, "seed": planned.seed}, scored["nats"], scored["n_bytes"]
    outcome = {
        "nats_per_byte": math.fsum(nats.values()) / sum(n_bytes.values()),
        "n_parameters": run.n_parameters,
        "n_steps": run.summary["step"],
        "bytes_read": run.summary["bytes"],
        "train_loss": run.summary["train_loss"],
        "validation_nats_per_byte": run.summary["validation_nats_per_byte"],
        "model_sha256": scored["model_sha256"],
    }
    languages = [
        {"language": one, "nats_per_byte": nats[one] / n_bytes[one], "n_bytes": n_bytes[one]} for one in nats
    ]
    curves = [
        {
            "step": line["step"],
            "split": line["split"],
            "loss": line["nats_per_byte" if line["split"] == "validation" else "loss"],
        }
        for line in read_lines(run.folder / METRICS_FILE)
    ]
    tables = {"runs": [outcome], "languages": languages, "curves": curves}
    return {name: [which | row for row in rows] for name, rows in tables.items()}


def differing_conditions(runs: Sequence[Run]) -> list[str]:
    """Say under which conditions the runs were not all trained alike; a pair wants them alike."""
    seen: dict[str, set[str]] = {}
    for run in runs:
        known = {name: run.info[name] for name in _COMPARED if name in run.info}
        versions = {f"version of {name}": value for name, value in (run.info.get("versions") or {}).items()}
        for name, value in (known | versions).items():
            seen.setdefault(name, set()).add(str(value))
    return [
        f"not all runs were trained with the same {name}: {', '.join(sorted(found))}"
        for name, found in seen.items()
        if len(found) > 1
    ]
