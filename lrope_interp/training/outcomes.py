"""What the runs of a paired experiment came to: loss on the full validation set, and learning curves.

Validation during training reads 100 kB, an equal share a language, in the dtype of training. For the
verdict every run is scored once more, in float32, on every document of the dev split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrope_interp.data import Corpus, Document, assert_held_out, read_manifest
from lrope_interp.data.cache import source_code
from lrope_interp.errors import LRopeError
from lrope_interp.files import ScoreFile, read_json
from lrope_interp.folders import write_json_atomically
from lrope_interp.models import LRopeTransformer
from lrope_interp.results import file_sha256
from lrope_interp.runs import Run
from lrope_interp.tokenizers import load_tokenizer
from lrope_interp.training.metrics import METRICS_FILE, read_lines
from lrope_interp.training.replication import SCORES_FOLDER, PlannedRun
from lrope_interp.training.validation import nats_per_byte, validation_windows

SPLIT = "dev"
DTYPE = "float32"
_CHUNK = 1_000_000  # bytes of text that are cut into windows at a time
_COMPARED = ("device", "dtype", "threads", "processes")


@dataclass(frozen=True)
class Score:
    """The loss of one model on the full validation set.

    Attributes:
        model_sha256: Digest of the weights that were scored.
        nats: Sum of -ln p over the bytes of each language.
        n_bytes: Bytes of each language.
    """

    model_sha256: str
    nats: Mapping[str, float]
    n_bytes: Mapping[str, int]

    @property
    def nats_per_byte(self) -> float:
        """All nats over all bytes."""
        return math.fsum(self.nats.values()) / sum(self.n_bytes.values())


def full_validation(corpus: Corpus) -> tuple[Document, ...]:
    """Return every document of the dev split, in the order of their hashes, by language."""
    documents = corpus.documents(SPLIT)
    if not any(document.n_bytes for document in documents):
        raise LRopeError("the corpus has no held-out text to validate on; give more text")
    return tuple(sorted(documents, key=lambda document: (document.language, document.sha256)))


def score(
    planned: PlannedRun,
    run: Run,
    documents: Sequence[Document],
    *,
    device: str,
    between_chunks: Callable[[], None] = lambda: None,
) -> Score:
    """Score a finished run in float32, or read what was scored before.

    The score is kept in the experiment's folder. It counts only for the same model and documents, and the
    same source of the code that scores; the device changes no more than rounding.

    Args:
        planned: Which run of the experiment.
        run: The same, finished.
        documents: Held-out text, checked against what the run was trained on.
        device: Where to compute.
        between_chunks: Called now and then; what it raises ends the scoring.
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
    known = _read_score(path, key)
    if known is not None:
        return known
    assert_held_out(read_manifest(run.folder), documents)
    nats, n_bytes = _nats_by_language(run, documents, device, between_chunks)
    if file_sha256(run.folder / "model.safetensors") != key["model_sha256"]:
        raise LRopeError(f"the run {run.folder} was replaced while it was scored: give the command again")
    path.parent.mkdir(exist_ok=True)
    write_json_atomically(path, {**key, "nats": nats, "n_bytes": n_bytes})
    return Score(key["model_sha256"], nats, n_bytes)


def _read_score(path: Path, key: Mapping[str, Any]) -> Score | None:
    """Return a score that was kept for exactly these weights and documents."""
    with suppress(LRopeError):
        found = read_json(path, ScoreFile)
        if all(found.get(name) == value for name, value in key.items()):
            return Score(found["model_sha256"], dict(found["nats"]), dict(found["n_bytes"]))
    return None


def _nats_by_language(
    run: Run, documents: Sequence[Document], device: str, between_chunks: Callable[[], None]
) -> tuple[dict[str, float], dict[str, int]]:
    model = LRopeTransformer.from_pretrained(run.folder, device=device)
    tokenizer = load_tokenizer(run.folder)
    nats: dict[str, float] = {}
    n_bytes: dict[str, int] = {}
    for language, chunk in _chunks(documents):
        windows = validation_windows(chunk, tokenizer, model.cfg.n_ctx)
        loss = nats_per_byte(model, windows, dtype=DTYPE, between_batches=between_chunks)
        nats[language] = nats.get(language, 0.0) + loss * windows.n_bytes
        n_bytes[language] = n_bytes.get(language, 0) + windows.n_bytes
    return nats, n_bytes


def _chunks(documents: Sequence[Document]) -> list[tuple[str, list[Document]]]:
    """Cut documents into lists of one language and about a megabyte."""
    chunks: list[tuple[str, list[Document]]] = []
    size = 0
    for document in documents:
        if not document.n_bytes:
            continue
        if not chunks or chunks[-1][0] != document.language or size >= _CHUNK:
            chunks.append((document.language, []))
            size = 0
        chunks[-1][1].append(document)
        size += document.n_bytes
    return chunks


def run_row(planned: PlannedRun, run: Run, scored: Score) -> dict[str, Any]:
    """Return the row of `runs.csv`."""
    return {
        "arm": planned.arm,
        "seed": planned.seed,
        "nats_per_byte": scored.nats_per_byte,
        "n_parameters": run.n_parameters,
        "n_steps": run.summary["step"],
        "bytes_read": run.summary["bytes"],
        "train_loss": run.summary["train_loss"],
        "validation_nats_per_byte": run.summary["validation_nats_per_byte"],
        "model_sha256": scored.model_sha256,
    }


def language_rows(planned: PlannedRun, scored: Score) -> list[dict[str, Any]]:
    """Return the rows of `languages.csv`."""
    return [
        {
            "arm": planned.arm,
            "seed": planned.seed,
            "language": language,
            "nats_per_byte": nats / scored.n_bytes[language],
            "n_bytes": scored.n_bytes[language],
        }
        for language, nats in scored.nats.items()
    ]


def curve_rows(planned: PlannedRun, run: Run) -> list[dict[str, Any]]:
    """Return the rows of `curves.csv`: what the run logged, in nats (train: a token; validation: a byte)."""
    return [
        {
            "arm": planned.arm,
            "seed": planned.seed,
            "step": line["step"],
            "split": line["split"],
            "loss": line["nats_per_byte" if line["split"] == "validation" else "loss"],
        }
        for line in read_lines(run.folder / METRICS_FILE)
    ]


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
