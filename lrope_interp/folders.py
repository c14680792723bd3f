"""Folders that are reserved before work begins, appear whole, and replace nothing that is not ours.

A new folder is filled beside its place (within, where an empty folder is already), in `.NAME.partial`. That
is its reservation too: whoever fills it holds a lock on it, and the system lifts the lock however the process
ends. A partial folder without a living owner was left by a process that was killed, and the next command
removes it. What replaces a run takes long and can be resumed: it is filled in `NAME.new`, which stays. Only
the standard library is needed here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from lrope_interp.errors import LRopeError

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes on one folder are then not noticed
    fcntl = None

MANIFEST_FILE = ".lrope-interp.json"
MANIFEST_FORMAT = 1
RUN, REPLICATE = "run", "replicate"  # what can be resumed; any other kind is the command whose result it is
_TORN_MANIFEST = re.compile(rf"\.{re.escape(MANIFEST_FILE)}\.[0-9a-f]{{8}}")
# Results that were written before an analysis, its command and its kind had one name.
FORMER_KINDS = {
    "ablations": "ablate",
    "bench": "context",
    "concepts": "probe",
    "distances": "distance",
    "spacing": "show",
}
_CANNOT_WRITE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTEMPTY, errno.EEXIST,
    errno.ENOTDIR, errno.ENAMETOOLONG, errno.EFBIG, errno.EIO,
}  # fmt: skip
_MODEL = r"((increments/)*((config|tokenizer)\.json|(model|increments)\.safetensors))"
_WHOLE = (  # what is written under another name first
    r"((run|config|data|tokenizer|result)\.json|(model|increments)\.safetensors|report\.html|\.lrope-interp\.json)"
)
_TORN = rf"\.{_WHOLE}\.(tmp|[0-9a-f]{{8}})"  # which is left by a process that was killed
_LEFT = re.compile(r"\.(.+)(\.partial|\.[0-9a-f]{8}\.old)")  # names of folders that are filled, or step aside
_SAY_WHOLE = ("result.json", "run.json")
ARM_RUN = re.compile(r"(fixed|fixed_wide|(shared|per_layer)(_per_head)?)-s[0-9]+")
# What may lie in a folder besides what its manifest lists; a folder that is empty ends in "/".
_KNOWN = {
    RUN: re.compile(
        rf"{_MODEL}|(run|data)\.json|(metrics|timing)\.jsonl|report\.html|{_TORN}"
        rf"|checkpoints/(step-[0-9]{{8}}/({_MODEL}|optimiser\.safetensors|state\.json)?)?"
        r"|checkpoints/\.step-[0-9]{8}\.[0-9a-f]{8}/.*"
        r"|tensorboard/(.*/)?(events\.out\.tfevents\..*|hparams\.yml)?"
        r"|wandb/((offline-)?run-.*|latest-run|debug.*\.log|settings)?"
    ),
    REPLICATE: re.compile(
        rf"runs/|scores/({ARM_RUN.pattern}\.json|\.{ARM_RUN.pattern}\.json\.[0-9a-f]{{8}})?|{_TORN}"
    ),
}


class Reservation:
    """A place that nobody else can take until `reserved` or `held` ends.

    Attributes:
        target: Where the folder goes.
        folder: Where it is filled; the same as `target` once it is settled.
    """

    def __init__(self, target: Path, folder: Path, kind: str, old: os.stat_result | None) -> None:
        self.target, self.folder, self.kind = target, folder, kind
        self._old = old  # of the folder that is replaced

    @property
    def is_beside(self) -> bool:
        """Whether what is filled can be resumed, and lies beside the folder that it is to replace."""
        return self.folder == _new(self.target)

    def settle(self) -> Path:
        """Put the folder in its place, and return that.

        If the place was taken meanwhile, or the old folder cannot be moved away (it is a mount point, or
        somebody else's), an analysis goes to the next free number: what was computed is not lost.

        Raises:
            LRopeError: The folder that is to be replaced may not be any more; what replaces it stays beside.
        """
        if self.folder == self.target:
            return self.target
        if self.kind not in (RUN, REPLICATE):
            record(self.folder, self.kind, _content(self.folder))
        sync_tree(self.folder)
        try:
            self._refuse_what_came_meanwhile()
            self._fill() if self.folder.parent == self.target else self._move()
        except (LRopeError, OSError) as error:
            if self.is_beside:
                raise LRopeError(
                    f"{error}. What was to replace it is whole and stays in {self.folder}: mend that, and "
                    "resume it"
                ) from None
            self.target = next(path for path in numbered(self.target) if not os.path.lexists(path))
            self._old = None
            self._move()
        self.folder = self.target
        said = folder_manifest(self.folder)
        if said.pop("replaces", None) is not None:  # it does not any more
            write_json_atomically(self.folder / MANIFEST_FILE, said)
        return self.target

    def _refuse_what_came_meanwhile(self) -> None:
        if not os.path.lexists(self.target):
            self._old = None
            return
        if self._old is None or not os.path.samestat(self._old, os.stat(self.target)):
            raise LRopeError(f"{self.target} was made by somebody else meanwhile")
        if self.folder.parent == self.target:
            came = {path.name for path in self.target.iterdir()} - {self.folder.name}
        else:
            _refuse_to_replace(self.target, self.target, self.kind, overwrite=True)
            told = folder_manifest(self.folder).get("replaces", {})
            now = _told_apart(self.target) if self.is_beside else {}
            came = {name for name, digest in now.items() if told.get(name, "") != digest}
        if came:
            raise LRopeError(
                f"{self.target} holds {min(came)}, which was not there, or was another, when this began"
            )

    def _move(self) -> None:
        """Move the new folder to its place; an old one steps aside first, and is removed last."""
        aside = self.target.with_name(f".{self.target.name}.{secrets.token_hex(4)}.old")
        try:
            if self._old is not None:
                self.target.rename(aside)  # if everything ends here, `recover` puts it back
            self.folder.rename(self.target)
            sync_folder(self.target.parent)
            _discard(aside)
        except BaseException:
            if self._old is not None and not os.path.lexists(self.target):
                aside.rename(self.target)
            elif not os.path.lexists(self.folder):  # interrupted after the swap
                _discard(aside)
            raise

    def _fill(self) -> None:
        """Move everything into a folder that was empty: somebody may stand in it, and see it fill."""
        names = sorted(
            (path.name for path in self.folder.iterdir()), key=lambda name: (name in _SAY_WHOLE, name)
        )
        try:
            for name in names:
                (self.folder / name).rename(self.target / name)
        except BaseException:
            for name in names:
                with suppress(OSError):
                    (self.target / name).rename(self.folder / name)
            raise
        sync_folder(self.target)
        self.folder.rmdir()

    def discard(self) -> None:
        """Remove what was filled, unless it is in its place or can be resumed."""
        if self.folder != self.target and not _is_begun(self.folder):
            _discard(self.folder)


def _discard(folder: Path) -> None:
    with suppress(OSError):
        _remove(folder)


def _remove(folder: Path) -> None:
    _empty(folder)
    folder.rmdir()


def _empty(folder: Path) -> None:
    """Remove all that is in a folder; last what says that it is ours: a process may be killed meanwhile."""
    last = (MANIFEST_FILE, *_SAY_WHOLE, "runs")
    for path in sorted(folder.iterdir(), key=lambda path: path.name in last):
        if path.is_dir() and not path.is_symlink():
            _remove(path)
        else:
            path.unlink()


@contextmanager
def reserved(
    path: Path | str,
    kind: str,
    *,
    overwrite: bool = False,
    is_numbered: bool = False,
) -> Iterator[Reservation]:
    """Reserve a place for a new folder, before anything is computed for it.

    Args:
        path: The folder to make. It may exist if it is empty.
        kind: `RUN`, `REPLICATE`, or the command whose result it holds.
        overwrite: Replace a folder of the same kind in which every file is ours. What replaces a run or an
            experiment is filled in `NAME.new`, and stays there once it can be resumed.
        is_numbered: Take the first of `path`, `path-2`, `path-3` ... that is free.

    Yields:
        The reservation: fill its `folder`, and `settle` it. If it is not settled, what was filled is removed,
        and so are the parents made for it.

    Raises:
        LRopeError: `path` is in the way, another process fills it, or it cannot be written.
    """
    wanted = Path(os.path.realpath(path))
    if _LEFT.fullmatch(wanted.name):
        raise LRopeError(f"{path} is named as folders are that a later command removes: give another folder")
    missing = [parent for parent in wanted.parents if not parent.exists()]
    try:
        with ExitStack() as stack:
            recover(wanted.parent)
            yield _first_free(stack, wanted, path, kind, overwrite, is_numbered)
    except OSError as error:
        name = str(error.filename or wanted)
        ours = (str(wanted), str(wanted.parent / f".{wanted.name}"))
        if error.errno not in _CANNOT_WRITE or not (name.startswith(ours) or str(wanted).startswith(name)):
            raise  # of another file: the text that is read, for example
        where = f" ({error.filename})" if error.filename else ""
        raise LRopeError(
            f"cannot write the folder {path}: {error.strerror or error}{where}; give another folder"
        ) from error
    finally:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()


@contextmanager
def held(folder: Path | str, kind: str) -> Iterator[Reservation]:
    """Hold a folder that is resumed; one that is to replace another does so when it is settled.

    Raises:
        LRopeError: Another process holds it.
    """
    folder = Path(os.path.realpath(folder))
    target, old = folder, None
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        if folder.name.endswith(".new") and "replaces" in folder_manifest(folder):
            target = folder.with_name(folder.name.removesuffix(".new"))
            if target.is_dir():
                stack.enter_context(locked(target))
                old = target.stat()
        yield Reservation(target, folder, kind, old)


def resumed_folder(folder: Path | str) -> Path:
    """Return `NAME.new` if it was begun to replace this folder, else the folder itself."""
    new = _new(Path(folder))
    return new if _is_begun(new) else Path(folder)


def _is_begun(new: Path) -> bool:
    """Whether a folder is to replace another, and has come to where it can be resumed."""
    said = folder_manifest(new)
    first = "run.json" if said.get("kind") == RUN else "runs"
    return "replaces" in said and (new / first).exists()


def recover(parent: Path) -> None:
    """Tidy up after processes that were killed; nothing of a living one, or of a stranger, is touched."""
    left: list[Path] = []
    with suppress(OSError, LRopeError):
        left += [path for pattern in (".?*.old", ".?*.partial", "*.new") for path in parent.glob(pattern)]
        if fcntl is not None and _torn_files(parent) and kind_of(parent) is not None:
            with locked(parent):
                remove_torn_files(parent)
    for path in left:
        with suppress(OSError, LRopeError):
            handle = None if path.is_symlink() else _lock(path)
            if handle is not None:  # else nothing tells whether its owner lives
                try:
                    _tidy(path)
                finally:
                    os.close(handle)


def _tidy(path: Path) -> None:
    """Put back a folder that stepped aside, or remove what nobody fills any more."""
    said, name, names = folder_manifest(path), _LEFT.fullmatch(path.name), os.listdir(path)
    if path.suffix == ".old":
        kind = kind_of(path)
        for root, _, _ in os.walk(path, topdown=False) if kind is not None else ():
            with suppress(OSError):  # a folder in it of which only the name was left
                os.rmdir(root)
        if name is None or (names and (kind is None or first_foreign(path, kind) is not None)):
            return
        place = path.with_name(name[1])
        if names and not os.path.lexists(place):
            path.rename(place)
            return
    elif path.name == f".{path.parent.name}.partial" and folder_manifest(path.parent):
        pass  # it was killed while it filled the folder from within, whose manifest goes first
    elif (names or path.suffix == ".partial") and all(_TORN_MANIFEST.fullmatch(one) for one in names):
        pass  # it was killed before it had said what it is
    elif not said or (path.suffix == ".new" and ("replaces" not in said or _is_begun(path))):
        return
    _remove(path)


def as_given(asked: Path | str, folder: Path) -> Path:
    """Return the name of a reserved folder in the words in which it was asked for, where they name it."""
    ways = (Path(asked), Path(asked).parent / folder.name)
    return next((way for way in ways if os.path.realpath(way) == str(folder)), folder)


def numbered(base: Path) -> Iterator[Path]:
    """Yield `base`, `base-2`, `base-3` ... without end."""
    return (base if k == 1 else base.with_name(f"{base.name}-{k}") for k in count(1))


class _TakenError(LRopeError):
    """Somebody else is filling a folder for this place."""


def _first_free(
    stack: ExitStack, wanted: Path, shown: Path | str, kind: str, overwrite: bool, is_numbered: bool
) -> Reservation:
    for target in numbered(wanted):
        if is_numbered and os.path.lexists(target):
            continue
        with ExitStack() as attempt, suppress(*((_TakenError,) if is_numbered else ())):
            found = _reserve(attempt, target, shown, kind, overwrite)
            if is_numbered and os.path.lexists(target):  # whoever had it before us settled just now
                continue
            stack.push(attempt.pop_all())
            return found
    raise AssertionError


def _reserve(stack: ExitStack, target: Path, shown: Path | str, kind: str, overwrite: bool) -> Reservation:
    old, before = None, dict[str, str | None]()
    if target.exists():
        if not target.is_dir():
            raise LRopeError(f"{shown} is a file; a folder is wanted: give another folder")
        stack.enter_context(locked(target))
        _refuse_to_replace(target, shown, kind, overwrite)
        old, before = target.stat(), _told_apart(target)
    # An empty folder is filled from within: it may be a mount point, or its parent not ours to write.
    place = target if before or old is None else target / target.name
    is_beside = bool(before) and kind in (RUN, REPLICATE)
    folder = _new(target) if is_beside else place.with_name(f".{place.name}.partial")
    _claim(stack, folder, shown)
    reservation = Reservation(target, folder, kind, old)
    stack.callback(reservation.discard)
    more = {"replaces": before} if is_beside else {}
    write_json_atomically(
        folder / MANIFEST_FILE, {"format": MANIFEST_FORMAT, "kind": kind, "files": {}, **more}
    )
    return reservation


def _claim(stack: ExitStack, folder: Path, shown: Path | str) -> None:
    """Make the folder that is filled, or take over what a killed process left, and lock it."""
    taken = _TakenError(
        f"another process is writing {shown}, or {folder} is in the way; wait until it ends, or give another "
        "folder"
    )
    while True:
        folder.parent.mkdir(parents=True, exist_ok=True)
        is_made = False
        with suppress(FileExistsError):
            folder.mkdir()
            is_made = True
        try:
            handle = _lock(folder)
        except FileNotFoundError:  # it was settled or removed just now
            continue
        except (OSError, LRopeError):
            raise taken from None
        if handle is not None:
            stack.callback(os.close, handle)
        if is_made:
            return
        said = folder_manifest(folder)
        is_left = bool(said) and (folder.name.endswith(".partial") or "replaces" in said)
        if handle is None or not (is_left or not any(folder.iterdir())):
            raise taken
        _empty(folder)
        return


def _new(target: Path) -> Path:
    return target.with_name(f"{target.name}.new")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive flock on `folder`; refuse if another process trains there.

    The lock is on the folder itself, so it stays valid while the folder is renamed, and the
    system lifts it however the process ends.
    """
    handle = _lock(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def is_locked(folder: Path) -> bool:
    """Return whether a process trains in `folder`, or fills it, right now."""
    try:
        with locked(folder):
            return False
    except LRopeError:
        return True


def _lock(folder: Path) -> int | None:
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise LRopeError(
            f"another process is training in {folder}, or replaces it; wait until it ends, or give another "
            "folder"
        ) from None
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    if not (folder.exists() and os.path.samestat(os.fstat(handle), folder.stat())):
        os.close(handle)  # its last holder moved or removed it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    return handle


def _refuse_to_replace(target: Path, shown: Path | str, kind: str, overwrite: bool) -> None:
    """Refuse a folder that is not empty, unless it may be replaced and every file in it is ours."""
    recover(target)
    if not any(target.iterdir()):
        return
    found = kind_of(target)
    if found is None:
        first = min(path.name for path in target.iterdir())
        raise LRopeError(
            f"{shown} is not empty (it holds {first}) and not of lrope-interp, so it is not ours to replace, "
            "not even by overwriting: give another folder"
        )
    if found != kind:
        what = {RUN: "a run", REPLICATE: "the runs of `replicate`"}.get(found, f"a result of `{found}`")
        by = "train" if kind == RUN else kind
        raise LRopeError(f"{shown} holds {what}, which `{by}` does not replace: give another folder")
    if not overwrite:
        raise LRopeError(f"{shown} is not empty: give another folder, or overwrite to replace it")
    with suppress(FileNotFoundError):  # of a working folder that was removed
        if target in (Path.cwd(), *Path.cwd().parents):
            raise LRopeError(f"{shown} is where you stand: replace it from outside, or give another folder")
    foreign = first_foreign(target, kind)
    if foreign is not None and ".partial/" in foreign and is_locked(target / foreign.partition("/")[0]):
        raise LRopeError(
            f"another process is writing into {shown}; wait until it ends, or give another folder"
        )
    if foreign is not None:
        raise LRopeError(
            f"{shown} holds {foreign}, which lrope-interp did not write, or not as it is now, so the folder "
            "is not ours to replace, not even by overwriting: move that away, or give another folder"
        )


def kind_of(folder: Path) -> str | None:
    """Return what a folder of ours is: `RUN`, `REPLICATE` or a command; None for any other folder.

    Its manifest says it. A folder that is older than manifests is known by the content of `run.json` or
    `result.json`, or because it holds runs of arms.
    """
    manifest = folder_manifest(folder)
    if manifest:
        return FORMER_KINDS.get(manifest["kind"], manifest["kind"])
    run, result = _read_object(folder / "run.json"), _read_object(folder / "result.json")
    if isinstance(run.get("format"), int) and {"status", "started"} <= run.keys():
        return RUN
    if isinstance(result.get("format"), int) and {"kind", "tables", "provenance"} <= result.keys():
        return FORMER_KINDS.get(str(result["kind"]), str(result["kind"]))
    return REPLICATE if _runs_of_arms(folder) else None


def first_foreign(folder: Path, kind: str) -> str | None:
    """Return the first file in a folder that is not as we wrote it; None if all of them are ours.

    Args:
        folder: A folder of ours.
        kind: What it is, from `kind_of`.
    """
    manifest, listed = folder_manifest(folder), dict[str, str | None]()
    if kind == REPLICATE or (not manifest and kind != RUN):  # the result names its tables
        tables = _read_object(folder / "result.json").get("tables")
        listed |= dict.fromkeys(("result.json", "result.json.part", "report.html", "gaps.parquet"))
        listed |= dict.fromkeys(f"{name}.csv" for name in (tables if isinstance(tables, dict) else ()))
    if kind != RUN or _read_object(folder / "run.json").get("status") == "finished":
        listed |= manifest.get("files", {})
    within = _runs_of_arms(folder) if kind == REPLICATE else results_in(folder) if kind == RUN else {}
    for name in _content(folder, within):
        path, known = folder / name, _KNOWN.get(kind)
        if path.is_symlink():
            if not name.startswith("wandb/"):
                return name
        elif not path.is_file() and not path.is_dir():  # a pipe, a socket
            return name
        if name in listed:
            if listed[name] is not None and listed[name] != sha256_of(path):
                return name
        elif name != MANIFEST_FILE and not (known and known.fullmatch(name)):
            return name
    for name, inner in within.items():
        foreign = first_foreign(folder / name, inner)
        if foreign is not None:
            return f"{name}/{foreign}"
    return None


def _told_apart(folder: Path) -> dict[str, str | None]:
    """Return what a folder holds, with digests of its files and of the results in it."""
    ours = {path: path / "result.json" if path.is_dir() else path for path in folder.iterdir()}
    return {path.name: sha256_of(one) if one.is_file() else None for path, one in ours.items()}


def _runs_of_arms(folder: Path) -> dict[str, str]:
    """Return the runs of an experiment by name; none, if anything else lies among them."""
    runs = folder / "runs"
    names = sorted(path.name for path in runs.iterdir()) if runs.is_dir() and not runs.is_symlink() else []
    return {f"runs/{name}": RUN for name in names} if all(map(ARM_RUN.fullmatch, names)) else {}


def results_in(run_folder: Path) -> dict[str, str]:
    """Return the analyses inside a run, and what each of them is."""
    found = {
        path.name: kind_of(path)
        for path in sorted(run_folder.iterdir())
        if path.is_dir() and not path.is_symlink() and not path.name.startswith(".")
    }
    return {name: kind for name, kind in found.items() if kind not in (None, RUN, REPLICATE)}


def _content(folder: Path, without: Collection[str] = ()) -> list[str]:
    """Return every file, link and empty folder (which ends in "/") by its name inside `folder`."""
    found: list[str] = []
    for root, folders, files in os.walk(folder, onerror=_raise):
        inside = Path(root).relative_to(folder)
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if (inside / name).as_posix() not in without)
        found += [(inside / name).as_posix() for name in (*files, *links)]
        if not folders and not files and inside != Path():
            found.append(f"{inside.as_posix()}/")
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def record(folder: Path, kind: str, names: Iterable[str]) -> None:
    """Put into the manifest what the folder is, and the sha256 of files that will not change any more."""
    before = folder_manifest(folder)
    listed = {name: sha256_of(folder / name) for name in names if (folder / name).is_file()}
    listed = {**before.get("files", {}), **listed}
    listed.pop(MANIFEST_FILE, None)
    said = {**before, "format": MANIFEST_FORMAT, "kind": kind, "files": listed}
    write_json_atomically(folder / MANIFEST_FILE, said)


def folder_manifest(folder: Path) -> dict[str, Any]:
    """Return what the manifest of a folder says; nothing, if it has none of ours."""
    found = _read_object(folder / MANIFEST_FILE)
    is_ours = found.get("format") == MANIFEST_FORMAT and isinstance(found.get("kind"), str)
    maps = (found.get("files"), found.get("replaces", {}))
    return found if is_ours and all(isinstance(one, dict) for one in maps) else {}


def _read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object from a file; an empty one, if there is no such thing."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        return found if isinstance(found, dict) else {}
    return {}


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json_atomically(path: Path | str, payload: Mapping[str, Any]) -> None:
    """Write `payload` as JSON so that a reader sees the old file or the new one, never a part."""
    text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text_atomically(Path(path), text)


def write_text_atomically(path: Path, text: str, errors: str = "strict") -> None:
    """Write a text aside, wait until the disk has it, and rename it; an error names the file."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with naming(path):
        try:
            with partial.open("w", encoding="utf-8", errors=errors, newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def remove_torn_files(folder: Path) -> None:
    """Remove files that a killed process was writing; only who holds the folder may."""
    for path in _torn_files(folder):
        path.unlink(missing_ok=True)


def _torn_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob(".*") if re.fullmatch(_TORN, path.name) and path.is_file()]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system that names no file, as of a full disk, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def sync_file(path: Path) -> None:
    """Wait until the disk has a file."""
    with naming(path), path.open("rb") as file:
        os.fsync(file.fileno())


def sync_tree(folder: Path) -> None:
    """Wait until the disk has a folder and everything in it."""
    for root, _, files in os.walk(folder, topdown=False):
        for name in files:
            if (Path(root) / name).is_file():
                sync_file(Path(root) / name)
        sync_folder(Path(root))


def sync_folder(folder: Path) -> None:
    """Make the renames in `folder` durable, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
