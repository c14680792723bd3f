"""Keep glibc from handing every tensor's memory back to the system and faulting it in again.

glibc maps blocks above 128 KiB (growing to 32 MiB) afresh and returns free memory at the heap's
top; a training step then spends much of its time in page faults. The command line raises both
thresholds before torch allocates. Importing the package never does: the setting belongs to the
whole process.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024  # glibc refuses more
_NEVER_TRIM = 2**31 - 1


def set_malloc_thresholds() -> bool:
    """Raise both thresholds as far as glibc lets them; do nothing where there is no glibc.

    Returns:
        Whether both were set.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    has_mmap = mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) == 1
    return mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM) == 1 and has_mmap
