"""lrope-interp: read transformers that learn how far apart their tokens are.

Importing the package loads neither torch nor plotly: public names are resolved on first use
(PEP 562), so that the command line answers at once.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
# Source that is edited after this is not the code that this process runs: nothing it computes is kept.
IMPORTED_AT = time.time_ns()

_PUBLIC = {
    "LRopeConfig": "lrope_interp.models",
    "LRopeTransformer": "lrope_interp.models",
    "LRopeError": "lrope_interp.errors",
    "Result": "lrope_interp.results",
    "load_result": "lrope_interp.results",
    "ByteTokenizer": "lrope_interp.tokenizers",
    "ablate": "lrope_interp.probes.ablations.attach",
    "ablated": "lrope_interp.probes.ablations.attach",
}

if TYPE_CHECKING:
    from lrope_interp.errors import LRopeError as LRopeError
    from lrope_interp.models import LRopeConfig as LRopeConfig
    from lrope_interp.models import LRopeTransformer as LRopeTransformer
    from lrope_interp.probes.ablations.attach import ablate as ablate
    from lrope_interp.probes.ablations.attach import ablated as ablated
    from lrope_interp.results import Result as Result
    from lrope_interp.results import load_result as load_result
    from lrope_interp.tokenizers import ByteTokenizer as ByteTokenizer

__all__ = [
    "ByteTokenizer",
    "LRopeConfig",
    "LRopeError",
    "LRopeTransformer",
    "Result",
    "__version__",
    "ablate",
    "ablated",
    "load_result",
]


def __getattr__(name: str) -> Any:
    """Import a public name the first time it is asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lrope_interp' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
