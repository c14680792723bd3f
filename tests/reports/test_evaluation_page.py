"""The page of eval: the loss of a text by language and by document."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
from pages import text_of
from study_samples import evaluation_result

from lrope_interp.reports import render
from lrope_interp.reports.evaluation import plot_documents, verdicts
from lrope_interp.results import Result


def two_languages() -> Result:
    sizes = {"ci_low": [0.9, 0.8, np.nan], "ci_high": [1.5, 1.4, np.nan], "n_bytes": [99, 90, 9]}
    languages = {"language": ["all", "en", "zh"], "nats_per_byte": [1.25, 1.1, 2.5], **sizes}
    documents = {"document": ["a", "b"], "language": ["en", "zh"], "nats_per_byte": [1.1, 2.5]}
    made = {
        "languages": pd.DataFrame(languages | {"n_documents": [2, 1, 1]}),
        "documents": pd.DataFrame(documents | {"bits_per_byte": [1.6, 3.6], "n_bytes": [90, 9]}),
    }
    return dataclasses.replace(evaluation_result(), tables=made)


def test_a_language_has_its_loss_and_its_interval_where_there_is_one() -> None:
    found = verdicts(two_languages())
    assert found.frame["what"].tolist() == ["all text", "English", "Chinese"]
    assert [row.cells[1] for row in found.rows] == [
        "1.2500 [0.9000, 1.5000]",
        "1.1000 [0.8000, 1.4000]",
        "2.5000",
    ]
    assert found.headline.startswith("The model predicts this text with 1.2500 nats per byte (1.8000 bits)")
    assert not found.has("verdict") and "does not show whether learned increments help" in found.caption


def test_documents_are_drawn_as_they_are_and_listed_hardest_first() -> None:
    result = two_languages()
    english, chinese = plot_documents(result).data
    assert (english.name, *english.x, *english.y) == ("English", 90, 1.1)
    assert (chinese.name, *chinese.x, *chinese.y) == ("Chinese", 9, 2.5)
    text = text_of(render(result))
    assert text.index('<th scope="row" class="left">b</th>') < text.index(
        '<th scope="row" class="left">a</th>'
    )
    assert "<figure>" not in render(evaluation_result()), "one dot is no figure"
