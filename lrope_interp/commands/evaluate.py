"""`lrope-interp eval`: nats and bits per byte of any text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lrope_interp.commands import analyses as analysis
from lrope_interp.commands import options
from lrope_interp.commands.output import Output, number
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.data import Document
    from lrope_interp.results import Result


def run(place: analysis.Place, source: analysis.Source, how: analysis.Computing, out: Output) -> None:
    """Score the test split of a corpus, or a whole text, and print it by language."""
    model = analysis.load_model(place.run, how.device)
    from lrope_interp.probes.evaluation.evaluation import evaluate
    from lrope_interp.reports.evaluation.page import render_evaluation

    def make() -> Result:
        documents, data = _documents(place, source, out)
        with out.progress() as on_progress:
            return evaluate(
                model,
                documents,
                data=data,
                seed=how.seed,
                batch_size=how.batch_size,
                on_progress=on_progress,
            )

    result, folder = analysis.write(place, model, make, render_evaluation)
    languages: Any = result.tables["languages"]
    rows = [
        [
            str(line.language),
            number(line.nats_per_byte, 4),
            _interval(line),
            f"{line.n_bytes:,}",
            f"{line.n_documents:,}",
        ]
        for line in languages.itertuples(index=False)
    ]
    header = ["text", "nats/byte", "95 % interval", "bytes", "documents"]
    out.table(f"{result.headline['bits_per_byte']:.4f} bits per byte", header, rows)
    analysis.close(result, folder, out)


def _documents(
    place: analysis.Place, source: analysis.Source, out: Output
) -> tuple[tuple[Document, ...], Mapping[str, Any]]:
    """Return what is scored and its provenance: held-out text of a corpus, or a file as a whole."""
    from lrope_interp.data import (
        Reading,
        assert_held_out,
        evaluation_documents,
        load_corpus_for,
        read_manifest,
    )
    from lrope_interp.data.texts import text_documents
    from lrope_interp.probes.capture.selection import describe

    source.check()
    manifest = read_manifest(place.run.folder)
    if source.text is not None:
        whole = text_documents(
            source.text,
            encoding_errors=source.encoding_errors,
            is_despaced=Reading.of(manifest).despaced,
        )
        try:
            assert_held_out(manifest, whole)
        except LRopeError as error:
            out.warn(str(error))
        documents = _at_most(whole, source, out)
        return documents, describe(f"text:{source.text.name}", documents, "all")
    how = {"encoding_errors": source.encoding_errors, "text_column": source.text_column}
    corpus = load_corpus_for(manifest, source.data, **how).held_out_from(manifest)
    documents = evaluation_documents(corpus, "test", source.max_bytes or options.MAX_BYTES)
    assert_held_out(manifest, documents)
    return documents, describe(corpus.name, documents)


def _at_most(whole: Sequence[Document], source: analysis.Source, out: Output) -> tuple[Document, ...]:
    """Return the units of a text, or of one that is larger than what is asked for a sample."""
    from lrope_interp.data.columns import sizes_of
    from lrope_interp.data.selection import sample_documents
    from lrope_interp.data.sources.files import LARGEST_WHOLE_FILE

    n_bytes = sum(sizes_of(whole))
    if n_bytes <= (LARGEST_WHOLE_FILE if source.max_bytes is None else source.max_bytes):
        return tuple(whole)
    documents = sample_documents(whole, source.max_bytes or options.MAX_BYTES)
    n_taken = sum(sizes_of(documents))
    out.warn(f"{n_taken:,} of {n_bytes:,} bytes are scored, chosen by hash; --max-bytes N chooses how many")
    return documents


def _interval(line: Any) -> str:
    low, high = number(line.ci_low, 4), number(line.ci_high, 4)
    return "-" if "-" in (low, high) else f"[{low}, {high}]"
