"""A folder of things that are made once: written aside, renamed when whole, checked when opened.

An entry is a folder named after the sha256 of what it was made from: its inputs, and the source of the
code that makes it, so that no change of either brings back what was made before. Its `entry.json` holds
that identity and the size and sha256 of every other file, so that one that was torn or altered is found
and made again. Deleting an entry, or all of them, costs no more than the time to make them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import lrope_interp
from lrope_interp.errors import LRopeError
from lrope_interp.folders import sha256_of, sync_file, sync_folder, write_json_atomically
from lrope_interp.runs import timestamp

try:
    import fcntl
except ImportError:  # without locks two processes may do the same work twice, and still harm nothing
    fcntl = None

CACHE_VARIABLE = "LROPE_INTERP_CACHE"
CACHE_FORMAT = 1
ENTRY_FILE = "entry.json"

Build = Callable[[Path], Mapping[str, Any]]


def folder_digest(folder: Traversable) -> str:
    """Return the sha256 of every file of a folder of code, in a zip too; caches and hidden files aside."""
    if not folder.is_dir():  # the source cannot be seen, as in a frozen executable, which nobody edits
        return lrope_interp.__version__
    digest = hashlib.sha256()
    for one in sorted(folder.iterdir(), key=lambda one: one.name):
        if not one.name.startswith((".", "__pycache__")):
            content = folder_digest(one) if one.is_dir() else hashlib.sha256(one.read_bytes()).hexdigest()
            digest.update(f"{one.name} {content}\n".encode())
    return digest.hexdigest()


# Read when this module is imported: a process that lives on while its files are edited still runs the old
# code, and must not keep what that computes under the name of the new.
_DIGESTS = {
    room: folder_digest(files(lrope_interp) / room)
    for room in ("data", "models", "probes", "tokenizers", "training")
}


def source_code(*rooms: str) -> dict[str, str]:
    """Return digests of the source of some folders of the package, for the key of what they compute."""
    return {room: _DIGESTS[room] for room in rooms}


def is_edited() -> bool:
    """Whether source of the package was written since this process began to import it.

    What such a process computes is neither the old code's nor surely the new code's. The time is that of
    the change of the file itself, which no editor can set back.
    """
    folders = [Path(lrope_interp.__file__).parent]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as found:
            for one in found:
                if one.is_dir():
                    folders += [] if one.name == "__pycache__" else [Path(one.path)]
                elif one.name.endswith(".py") and one.stat().st_ctime_ns > lrope_interp.IMPORTED_AT:
                    return True
    return False


def cache_folder() -> Path:
    """Return where entries lie: $LROPE_INTERP_CACHE, or lrope-interp under $XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lrope-interp"


def cached(
    kind: str, identity: Mapping[str, Any], build: Build, rooms: Sequence[str] = ("data", "tokenizers")
) -> tuple[Path, Mapping[str, Any]]:
    """Return the entry made from `identity`; it is built where it is missing or damaged.

    Two processes that want the same entry at once get the same one: the second waits.

    Args:
        kind: The folder of the cache ("texts", "tokens").
        identity: What decides the content, as JSON.
        build: Fills an empty folder, and returns what `entry.json` shall say besides.
        rooms: The folders of the package in which `build` computes; any change there makes another entry,
            which replaces this one.

    Returns:
        The folder, every byte of which was checked, and its `entry.json`.

    Raises:
        LRopeError: The cache cannot be written, or what `build` raises; nothing is left then.
    """
    identity = {"cache_format": CACHE_FORMAT, "source_code": source_code(*rooms), **identity}
    said = json.dumps(identity, sort_keys=True, ensure_ascii=False).encode("utf-8", errors="surrogatepass")
    folder = cache_folder() / kind / hashlib.sha256(said).hexdigest()[:32]
    entry = _sound_entry(folder, identity)
    if entry is not None:
        return folder, entry
    with _writing(folder):
        entry = _sound_entry(folder, identity)
        if entry is None:
            entry = _built(folder, identity, build)
            _drop_superseded(kind, identity)
    return folder, entry


def cached_entries(kind: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield the entries of a kind and what they say, newest first; their files are not checked."""
    folders = [path for path in (cache_folder() / kind).glob("*") if not path.name.startswith(".")]
    found = [(folder, entry) for folder in folders if (entry := _read_entry(folder)) is not None]
    yield from sorted(found, key=lambda pair: str(pair[1].get("created")), reverse=True)


def _drop_superseded(kind: str, identity: Mapping[str, Any]) -> None:
    """Remove what other code made of the same, which nobody asks for any more."""
    for folder, entry in list(cached_entries(kind)):
        other = entry.get("identity", {})
        if other != identity and {**other, "source_code": None} == {**identity, "source_code": None}:
            shutil.rmtree(folder, ignore_errors=True)


def _sound_entry(folder: Path, identity: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return `entry.json` if the entry is whole, None if there is none, and warn of a damaged one."""
    if not folder.is_dir():
        return None
    entry = _read_entry(folder)
    problem = f"its {ENTRY_FILE} cannot be read" if entry is None else _problem(folder, entry, identity)
    if problem is None:
        return entry
    warnings.warn(f"the cache entry {folder} is damaged ({problem}); it is made again", stacklevel=3)
    return None


def _read_entry(folder: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads((folder / ENTRY_FILE).read_text(encoding="utf-8"))
        return entry if isinstance(entry["files"], dict) and isinstance(entry["identity"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _problem(folder: Path, entry: Mapping[str, Any], identity: Mapping[str, Any]) -> str | None:
    """Say what is wrong with an entry; sizes first, because they cost nothing."""
    if entry.get("identity") != json.loads(json.dumps(identity)):
        return f"{ENTRY_FILE} belongs to another source"
    try:
        for name, said in entry["files"].items():
            if (folder / name).stat().st_size != said["n_bytes"]:
                return f"{name} has another size"
        for name, said in entry["files"].items():
            if sha256_of(folder / name) != said["sha256"]:
                return f"{name} has another checksum"
    except (OSError, KeyError, TypeError) as error:
        return f"{error}"
    return None


def _built(folder: Path, identity: Mapping[str, Any], build: Build) -> Mapping[str, Any]:
    """Fill a folder aside and rename it; who has open what stood in its place keeps reading it."""
    for left_over in folder.parent.glob(
        f".{folder.name}-*"
    ):  # of a process that was killed: we hold the lock
        shutil.rmtree(left_over, ignore_errors=True)
    partial, aside = (folder.with_name(f".{folder.name}-{secrets.token_hex(4)}") for _ in range(2))
    partial.mkdir()
    try:
        said = dict(build(partial))
        files = {}
        for path in sorted(partial.iterdir()):
            sync_file(path)
            files[path.name] = {"n_bytes": path.stat().st_size, "sha256": sha256_of(path)}
        entry = {
            "format": CACHE_FORMAT,
            "created": timestamp(),
            "version": lrope_interp.__version__,
            "identity": identity,
            "files": files,
            **said,
        }
        write_json_atomically(partial / ENTRY_FILE, entry)
        if os.path.lexists(folder):
            folder.rename(aside)
        partial.rename(folder)
        sync_folder(folder.parent)
    finally:
        for left_over in (partial, aside):
            shutil.rmtree(left_over, ignore_errors=True)
    return entry


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Hold a lock of this entry's own, which dies with the process; say so where the disk refuses."""
    handle = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise LRopeError(
            f"the cache of encoded text in {folder.parent} cannot be written: {error.strerror or error}. "
            f"Make room there, or set {CACHE_VARIABLE} to a folder with room"
        ) from error
    finally:
        if handle is not None:
            os.close(handle)
