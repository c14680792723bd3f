"""`lrope-interp eval`: nats and bits per byte of any text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, close, shares
from lrope_interp.commands.output import Output, number
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.data import Document
    from lrope_interp.results import Result


@shares(
    *("eval", "model", "data", "text", "out", "overwrite", "seed", "device", "batch_size"),
    *("encoding_errors", "text_column", "as_json", "quiet"),
)
def evaluate(
    asked: Analysis,
    max_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="Most bytes a language. Default: 200000; a --text up to 8 MB as a whole."),
    ] = None,
) -> None:
    """Score text in nats and bits per byte."""
    model = asked.load_model()
    from lrope_interp.probes.evaluation.evaluation import evaluate as score
    from lrope_interp.reports.evaluation.page import render_evaluation

    def make() -> Result:
        documents, data = _documents(asked, max_bytes)
        with asked.output.progress() as on_progress:
            how = {"seed": asked.seed, "batch_size": asked.batch_size, "on_progress": on_progress}
            return score(model, documents, data=data, **how)

    result, folder = asked.write(model, make, render_evaluation)
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
    asked.output.table(f"{result.headline['bits_per_byte']:.4f} bits per byte", header, rows)
    close(result, folder, asked.output)


def _documents(asked: Analysis, max_bytes: int | None) -> tuple[tuple[Document, ...], Mapping[str, Any]]:
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

    asked.check_source()
    manifest = read_manifest(asked.run.folder)
    if asked.text is not None:
        whole = text_documents(
            asked.text,
            encoding_errors=asked.encoding_errors,
            is_despaced=Reading.of(manifest).despaced,
        )
        try:
            assert_held_out(manifest, whole)
        except LRopeError as error:
            asked.output.warn(str(error))
        documents = _at_most(whole, max_bytes, asked.output)
        return documents, describe(f"text:{asked.text.name}", documents, "all")
    how = {"encoding_errors": asked.encoding_errors, "text_column": asked.text_column}
    corpus = load_corpus_for(manifest, asked.data, **how).held_out_from(manifest)
    documents = evaluation_documents(corpus, "test", max_bytes or options.MAX_BYTES)
    assert_held_out(manifest, documents)
    return documents, describe(corpus.name, documents)


def _at_most(whole: Sequence[Document], max_bytes: int | None, out: Output) -> tuple[Document, ...]:
    """Return the units of a text, or of one that is larger than what is asked for a sample."""
    from lrope_interp.data.documents import sizes_of
    from lrope_interp.data.held_out import sample_documents
    from lrope_interp.data.sources.files import LARGEST_WHOLE_FILE

    n_bytes = sum(sizes_of(whole))
    if n_bytes <= (LARGEST_WHOLE_FILE if max_bytes is None else max_bytes):
        return tuple(whole)
    documents = sample_documents(whole, max_bytes or options.MAX_BYTES)
    n_taken = sum(sizes_of(documents))
    out.warn(f"{n_taken:,} of {n_bytes:,} bytes are scored, chosen by hash; --max-bytes N chooses how many")
    return documents


def _interval(line: Any) -> str:
    low, high = number(line.ci_low, 4), number(line.ci_high, 4)
    return "-" if "-" in (low, high) else f"[{low}, {high}]"
