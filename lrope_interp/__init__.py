"""lrope-interp: read transformers that learn how far apart their tokens are.

    import lrope_interp as lr

    model = lr.load()  # the newest run; or a folder
    lr.boundaries(model, text=Path("novel.txt"), layers=0)

Importing the package loads neither torch nor plotly: public names are resolved on first use
(PEP 562), so that the command line answers at once.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrope_interp.data import Document as Document
    from lrope_interp.data.corpora import corpus_status as corpus_status
    from lrope_interp.data.corpora import list_corpora as list_corpora
    from lrope_interp.data.spans.typed import Spans as Spans
    from lrope_interp.errors import LRopeError as LRopeError
    from lrope_interp.interop.transformer_lens import circuit_faithfulness as circuit_faithfulness
    from lrope_interp.interop.transformer_lens import direct_logit_attribution as direct_logit_attribution
    from lrope_interp.interop.transformer_lens import direct_path_patch as direct_path_patch
    from lrope_interp.interop.transformer_lens import edge_attribution as edge_attribution
    from lrope_interp.interop.transformer_lens import held_increments as held_increments
    from lrope_interp.interop.transformer_lens import increment_attribution as increment_attribution
    from lrope_interp.interop.transformer_lens import path_patch as path_patch
    from lrope_interp.models import LRopeConfig as LRopeConfig
    from lrope_interp.models import LRopeTransformer as LRopeTransformer
    from lrope_interp.models.transformer import generate as generate
    from lrope_interp.models.transformer import load as load
    from lrope_interp.probes.ablations.ablations import ablate as ablate
    from lrope_interp.probes.ablations.attach import ablated as ablated
    from lrope_interp.probes.ablations.attach import ablation_hooks as ablation_hooks
    from lrope_interp.probes.ablations.interventions import at as at
    from lrope_interp.probes.ablations.interventions import circular_shift as circular_shift
    from lrope_interp.probes.ablations.interventions import freeze as freeze
    from lrope_interp.probes.ablations.interventions import layer_mean as layer_mean
    from lrope_interp.probes.ablations.interventions import lexical_mean as lexical_mean
    from lrope_interp.probes.ablations.interventions import local_edit as local_edit
    from lrope_interp.probes.ablations.interventions import restore as restore
    from lrope_interp.probes.ablations.interventions import same_byte_resample as same_byte_resample
    from lrope_interp.probes.ablations.interventions import scale as scale
    from lrope_interp.probes.ablations.interventions import shuffle as shuffle
    from lrope_interp.probes.ablations.interventions import then as then
    from lrope_interp.probes.ablations.places import gap_mask as gap_mask
    from lrope_interp.probes.boundaries.boundaries import boundaries as boundaries
    from lrope_interp.probes.capture.increment_statistics import fit_increments as fit_increments
    from lrope_interp.probes.capture.selection import Selection as Selection
    from lrope_interp.probes.capture.selection import select_corpus as select_corpus
    from lrope_interp.probes.capture.selection import select_gold as select_gold
    from lrope_interp.probes.capture.selection import select_text as select_text
    from lrope_interp.probes.capture.signals import register as register_signal  # noqa: F401
    from lrope_interp.probes.concepts.concepts import probe as probe
    from lrope_interp.probes.concepts.erasing import erase as erase
    from lrope_interp.probes.concepts.erasing import fit_eraser as fit_eraser
    from lrope_interp.probes.distances.distances import distance as distance
    from lrope_interp.probes.evaluation.evaluation import evaluate as eval  # noqa: F401
    from lrope_interp.probes.spacing.spacing import show as show
    from lrope_interp.probes.studies.definitions.definitions import definition_uses as definitions  # noqa: F401
    from lrope_interp.probes.studies.entities.entities import entities as entities
    from lrope_interp.reports.comparison import compare as compare
    from lrope_interp.results import Result as Result
    from lrope_interp.results import load_result as load_result
    from lrope_interp.results import save_result as save_result
    from lrope_interp.runs import list_runs as list_runs
    from lrope_interp.tokenizers import ByteTokenizer as ByteTokenizer
    from lrope_interp.training.loop import train as train

__version__ = "0.1.0"
# Source that is edited after this is not the code that this process runs: nothing it computes is kept.
IMPORTED_AT = time.time_ns()

# Where public names are defined; "name=other" where one has another name there.
_PUBLIC = {
    "data": "Document",
    "data.corpora": "corpus_status list_corpora",
    "data.spans.typed": "Spans",
    "errors": "LRopeError",
    "interop.transformer_lens": "circuit_faithfulness direct_logit_attribution direct_path_patch "
    "edge_attribution held_increments increment_attribution path_patch",
    "models": "LRopeConfig LRopeTransformer",
    "models.transformer": "generate load",
    "probes.ablations.ablations": "ablate",
    "probes.ablations.attach": "ablated ablation_hooks",
    "probes.ablations.interventions": "at circular_shift freeze layer_mean lexical_mean local_edit restore "
    "same_byte_resample scale shuffle then",
    "probes.ablations.places": "gap_mask",
    "probes.boundaries.boundaries": "boundaries",
    "probes.capture.increment_statistics": "fit_increments",
    "probes.capture.selection": "Selection select_corpus select_gold select_text",
    "probes.capture.signals": "register_signal=register",
    "probes.concepts.concepts": "probe",
    "probes.concepts.erasing": "erase fit_eraser",
    "probes.distances.distances": "distance",
    "probes.evaluation.evaluation": "eval=evaluate",
    "probes.spacing.spacing": "show",
    "probes.studies.definitions.definitions": "definitions=definition_uses",
    "probes.studies.entities.entities": "entities",
    "reports.comparison": "compare",
    "results": "Result load_result save_result",
    "runs": "list_runs",
    "tokenizers": "ByteTokenizer",
    "training.loop": "train",
}
_WHERE = {
    name.partition("=")[0]: (f"lrope_interp.{module}", name.rpartition("=")[2])
    for module, names in _PUBLIC.items()
    for name in names.split()
}
__all__ = ["__version__", *_WHERE]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name the first time it is asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module 'lrope_interp' has no attribute {name!r}")
    module, own_name = _WHERE[name]
    return getattr(importlib.import_module(module), own_name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
