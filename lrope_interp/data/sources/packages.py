"""Data files of installed packages, read by path: the packages themselves are never imported."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from lrope_interp.errors import LRopeError


def is_installed(package: str) -> bool:
    """Return whether a distribution is installed, without importing it."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def package_version(package: str) -> str:
    """Return the version of an installed distribution."""
    return distribution(package).version


def package_path(package: str, path: str) -> Path:
    """Return where a file or folder of an installed package lies.

    Args:
        package: Name of the distribution.
        path: Path inside the installation, with forward slashes.
    """
    found = Path(str(distribution(package).locate_file(path)))
    if not found.exists():
        raise LRopeError(
            f"{package} {package_version(package)} is installed but has no {path}; "
            f"reinstall it (pip install --force-reinstall {package}) or use `--data code`"
        )
    return found
