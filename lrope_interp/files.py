"""Files that are read back: opened safely, parsed within limits, checked for their form.

A folder may come from a stranger, from a copy that was cut short, or from an editor. Whatever a file
holds, reading it ends in what was asked for or in one `LRopeError`: never in a traceback, a wait on a pipe,
or memory that the file does not hold.
"""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from lrope_interp.errors import LRopeError


class NewerFormatError(LRopeError):
    """A file was written by a newer version, and is no less whole for that."""


SMALL = 16_000_000
"""The most bytes of a file that says little: a configuration, a state, a result."""
LARGE = 2**31
"""The most bytes of a file that grows with the data: hashes of documents, a vocabulary, a log."""
MOST_DEPTH = 50
_MOST_DIGITS = 20  # of 64 bits


def opened_file(path: Path | str, *, missing: str | None = None) -> BinaryIO:
    """Open a regular file to read its bytes; a folder, pipe or device in its place is refused at once.

    Args:
        path: The file.
        missing: What to say where there is none.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise LRopeError(missing or f"{path} cannot be read: there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise LRopeError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise LRopeError(f"{path} cannot be read: it is {kind}, and a file is wanted there")
    return os.fdopen(handle, "rb")


def read_json(
    path: Path | str,
    form: type[Form],
    *,
    newest: int | None = None,
    missing: str | None = None,
    most_bytes: int = SMALL,
) -> dict[str, Any]:
    """Read a JSON object of ours, checked for its form; what the form does not name is left as it is.

    Args:
        path: The file.
        form: What it must hold.
        newest: The newest format that this version reads; None where the file names none.
        missing: What to say where there is no file.
        most_bytes: Of the file.

    Raises:
        LRopeError: No file, none of ours, one of a newer format, or a damaged one.
    """
    with opened_file(path, missing=missing) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes > most_bytes:
            raise LRopeError(
                f"{path} cannot be read: it has {n_bytes:,} bytes, and at most {most_bytes:,} belong there"
            )
        try:
            payload = parsed(file.read(most_bytes))
        except OSError as error:
            raise LRopeError(f"{path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise LRopeError(f"{path} cannot be read: not valid JSON ({error})") from None
    if newest is not None:
        check_format(payload, newest, str(path))
    elif not isinstance(payload, dict):
        raise LRopeError(f"{path} was not written by lrope-interp: it is not a JSON object")
    check(form, payload, f"{path} is damaged")
    return payload


def check_format(payload: Any, newest: int, name: str) -> None:
    """Refuse what names no format, or a newer one than this version reads."""
    found = payload.get("format") if isinstance(payload, dict) else None
    if type(found) is not int or found < 1:
        raise LRopeError(f"{name} was not written by lrope-interp: it names no format")
    if found > newest:
        raise NewerFormatError(
            f"{name} has format {found}; this version reads up to {newest}. Upgrade lrope-interp."
        )


def parsed(raw: bytes) -> Any:
    """Parse JSON more strictly than `json.loads`.

    Raises:
        ValueError: Bytes that are not UTF-8 or begin with a byte order mark, a key that occurs twice, a
            number that is not finite or has more than 64 bits, half a surrogate pair, too many brackets.
    """
    if raw.startswith(b"\xef\xbb\xbf"):
        raise ValueError("it begins with a byte order mark: save it as UTF-8 without one")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise ValueError("too many brackets within brackets") from None
    layer: list[Any] = [[value]]
    for _ in range(MOST_DEPTH + 1):
        inside = (item for one in layer for item in (one.values() if isinstance(one, dict) else one))
        layer = [item for item in inside if isinstance(item, dict | list)]
    if layer:
        raise ValueError(f"more than {MOST_DEPTH} brackets within brackets")
    if b"\\u" in raw:  # text has a UTF-8 form unless an escape says otherwise
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half a surrogate pair, which is no character") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {reprlib.repr(twice)} occurs twice")
    return found


def _finite(written: str) -> float:
    number = float(written)  # also of NaN and Infinity, which JSON does not have
    if not math.isfinite(number):
        raise ValueError(f"the number {written[:20]} is not finite")
    return number


def _whole(written: str) -> int:
    if len(written) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(written):,} digits")
    return int(written)


def read_log(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each line of a run's log with where it ends, in bytes, up to the first that is not whole.

    A run may still be training, or have been killed: a missing file is an empty log.
    """
    if not path.is_file():
        return
    end = 0
    with opened_file(path) as file:
        for raw in file:
            try:
                line = parsed(raw)
                check(LogLine, line, "")
            except ValueError:  # an LRopeError is one
                return
            if not raw.endswith(b"\n"):
                return
            end += len(raw)
            yield end, line


_Form = TypeVar("_Form", bound=BaseModel)
_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "an object",
    "model_type": "an object",
    "list_type": "a list",
    "finite_number": "finite",
    "greater_than": "above {gt:.10g}",
    "greater_than_equal": "at least {ge:.10g}",
    "less_than_equal": "at most {le:.10g}",
    "string_too_short": "at least {min_length} character(s) long",
    "string_too_long": "at most {max_length} characters long",
    "string_pattern_mismatch": "of the form {pattern}",
    "literal_error": "{expected}",
    "value_error": "{error}",
}


def check(form: type[_Form], values: Any, what: str) -> _Form:
    """Return `values` in the form; an `LRopeError` that begins with `what` where they have another."""
    try:
        return form.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = [str(part) for part in first["loc"] if not isinstance(part, str) or part.isidentifier()]
        where = ".".join(path) or "the whole"
        if first["type"] == "missing":
            raise LRopeError(f"{what}: it lacks {where}") from None
        words = _WANTED.get(first["type"])
        wanted = words.format(**first.get("ctx") or {}) if words else first["msg"]
        got = reprlib.repr(first["input"])
        raise LRopeError(f"{what}: {where} must be {wanted}; got {got}") from None


class Form(BaseModel):
    """What a file must hold. Types are strict: 1 is no boolean, true no number, 2.0 no whole number."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())


def _moment(written: str) -> str:
    try:
        has_zone = datetime.fromisoformat(written).utcoffset() is not None
    except ValueError:
        has_zone = False
    if not has_zone:
        raise ValueError("a time with its zone")
    return written


def _table_file(name: str) -> str:
    """A table lies beside its `result.json`: its name says nothing of any other folder."""
    if not re.fullmatch(r"[^/\\\0.][^/\\\0]{0,200}\.csv", name):
        raise ValueError("the name of a .csv file in the same folder")
    return name


Count = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[str, AfterValidator(_moment)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Width = Annotated[int, Field(ge=1, le=2**20)]


class ModelShape(Form):
    """The configuration of a model, as `config.json` has it under "model" and `LRopeConfig` takes it."""

    n_layers: Annotated[int, Field(ge=1, le=10_000)]
    d_model: Width
    n_heads: Width
    d_head: Width | None = None
    d_mlp: Width | None = None
    d_vocab: Annotated[int, Field(ge=1, le=2**24)] = 257
    n_ctx: Annotated[int, Field(ge=1, le=2**40)] = 512
    increments: str = "per_layer"
    per_head: bool = False
    max_increment: Annotated[float, Field(gt=1, le=1e6)] = 10.0
    rope_base: Annotated[float, Field(gt=1, le=1e15)] = 10000.0
    eps: Annotated[float, Field(ge=0, le=1)] = 1e-5
    act_fn: str = "silu"
    use_biases: bool = False
    tie_embeddings: bool = True
    attn_impl: str = "auto"
    seed: Seed | None = None
    model_name: str = "lrope"
    normalization_type: str = "RMS"


class ModelFile(Form):
    """`config.json`."""

    model: ModelShape
    training: dict[str, Any] = {}
    frozen: str | None = None
    stored_as: Literal["float16", "bfloat16"] | None = None


class _Summary(Form):
    step: Count | None = None
    bytes: Count | None = None
    validation_bytes: Count | None = None
    validation_nats_per_byte: float | None = None
    validation_bits_per_byte: float | None = None
    train_loss: float | None = None
    seconds: float | None = None
    bytes_per_second: float | None = None


class _TokenizerSaid(Form):
    name: str = "bytes"
    vocab_size: Count = 257
    tokens_per_byte: Annotated[float, Field(gt=0, le=1e6)] = 1.0


class _RecordingSaid(Form):
    log_to: list[str] = []
    checkpoint_minutes: float = 10.0


class RunFile(Form):
    """`run.json`."""

    status: Literal["running", "finished"]
    started: Moment
    finished: Moment | None = None
    preset: str = ""
    data: str = ""
    increments: str = ""
    frozen_from: str = ""
    per_head: bool = False
    tokenizer: _TokenizerSaid | None = None
    seed: Seed | None = None
    n_steps: Count = 0
    device: str = ""
    dtype: str = ""
    n_parameters: Count = 0
    epochs: dict[str, float] = {}
    threads: Count | None = None
    processes: Count | None = None
    versions: dict[str, str] = {}
    command: str = ""
    summary: _Summary | None = None
    recording: _RecordingSaid = _RecordingSaid()
    steps_changed: list[dict[str, Any]] = []


class _Split(Form):
    n_documents: Count = 0
    n_bytes: Count = 0
    sha256: list[Sha256]


class _Splits(Form):
    train: _Split
    fit: _Split = _Split(sha256=[])
    dev: _Split = _Split(sha256=[])
    test: _Split = _Split(sha256=[])


class _Source(Form):
    part: str = ""
    version: str | None = None


class ManifestFile(Form):
    """`data.json`: what a model was trained on."""

    name: Annotated[str, StringConstraints(min_length=1)]
    encoding_errors: Literal["strict", "replace"] = "strict"
    text_column: Annotated[str, StringConstraints(min_length=1)] = "text"
    max_train_bytes: Count = 0
    despaced: bool = False
    sources: list[_Source] = []
    splits: _Splits


class SampleRow(Form):
    """A row of `sample.jsonl`: a piece of a held-out document, whose sha256 is `cut_from`."""

    name: str
    text: Annotated[str, StringConstraints(min_length=1)]
    part: str
    language: str
    cut_from: Sha256


class TokenizerFile(Form):
    """`tokenizer.json` of a run."""

    type: str
    vocab_size: Count | None = None
    eos_id: Count | None = None
    fingerprint: str | None = None
    tokenizer: dict[str, Any] | None = None


class LoopState(Form):
    """What the training loop goes on from, besides weights and moments."""

    n_bytes: Count
    losses: list[float]
    latest: dict[str, float]
    seconds: Annotated[float, Field(ge=0)]


class StateFile(Form):
    """`state.json` of a checkpoint."""

    step: Count
    state: dict[str, Any]
    sha256: dict[str, Sha256]


class ScoreFile(Form):
    """The score of one run of an experiment."""

    model_sha256: Sha256
    documents_sha256: Sha256
    nats: Annotated[dict[str, float], Field(min_length=1)]
    n_bytes: dict[str, Annotated[int, Field(ge=1, lt=2**63)]]


class _Increments(Form):
    layer: Count
    head: Count | None = None
    mean: float
    sd: float


class LogLine(Form):
    """A line of `metrics.jsonl` or `timing.jsonl`."""

    step: Count
    split: str = "train"
    loss: float | None = None
    nats_per_byte: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    bytes: Count | None = None
    seconds: float | None = None
    bytes_per_second: float | None = None
    increments: list[_Increments] | None = None


class _Provenance(Form):
    model: str = ""
    model_sha256: str = ""
    config: dict[str, Any] = {}
    data: dict[str, Any] = {}
    seed: int | None = None
    versions: dict[str, str] = {}
    command: str = ""


class ResultFile(Form):
    """`result.json`."""

    kind: str
    created: str
    provenance: _Provenance
    headline: dict[str, float | None]
    tables: dict[str, Annotated[str, AfterValidator(_table_file)]]
    warnings: list[str]
    dtypes: dict[str, dict[str, str]] = {}
