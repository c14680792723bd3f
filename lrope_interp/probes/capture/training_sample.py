"""What the model's increments are on a sample of the text that it was trained on.

Tables of mean increments by byte n-gram would be handicapped if they came from the fit documents
alone, since the model has seen fifty times as much. Counting increments needs a forward pass, though,
so that a sample of the training text has to do; tables that count text alone use all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lrope_interp.data import Document
from lrope_interp.data.held_out import sample_documents
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.cache import model_identity, remembered
from lrope_interp.probes.capture.capture import Captured, Progress, capture, with_increments

SAMPLE_BYTES = 300_000


def capture_training_sample(
    model: LRopeTransformer,
    training: Sequence[Document],
    layers: Sequence[int],
    *,
    batch_size: int,
    on_progress: Progress | None = None,
) -> Captured:
    """Capture increments on at most 300,000 bytes a language of training text; remembered between runs.

    Args:
        model: The model.
        training: What it was trained on.
        layers: Which layers.
        batch_size: Windows at a time.
        on_progress: Told about the forward passes.
    """
    documents = sample_documents(training, SAMPLE_BYTES)
    hashes = [one.sha256 for one in documents]
    identity = {"what": "training sample", "documents": hashes, "layers": list(layers)}
    increments = remembered(
        model_identity(model) | identity,
        lambda: (
            capture(
                model,
                documents,
                layers=layers,
                predictions=False,
                batch_size=batch_size,
                on_progress=on_progress,
            ).increments
        ),
    )
    return with_increments(model, documents, tuple(layers), increments)
