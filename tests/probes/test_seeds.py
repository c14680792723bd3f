"""The seed of an analysis arrives in everything that draws, and changes nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, cast

import pandas as pd
import pytest
from ablation_runs import spread_out
from concept_samples import random_by_type, spans_by, words
from probe_samples import english, select
from test_definition_use import source

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.ablations import ablate
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.evaluation.evaluation import evaluate
from lrope_interp.probes.studies.entities.pairs import EntityPair
from lrope_interp.results import Result

Make = Callable[..., LRopeTransformer]
DRAWN = ["ci_low", "ci_high"]


@pytest.fixture(scope="module")
def model(make_model: Make) -> LRopeTransformer:
    return spread_out(make_model(n_layers=1, seed=1))


@pytest.fixture(scope="module")
def many() -> Selection:
    """Twenty short documents, the fewest that have an interval."""
    return select(lambda number: [english(number, 6)], n=20)


def differing(one: pd.DataFrame, other: pd.DataFrame) -> set[str]:
    """Return the columns in which two tables differ."""
    assert len(one) == len(other)
    return {name for name in one if not one[name].equals(other[name])}


def test_the_seed_of_an_evaluation_draws_its_interval(model: LRopeTransformer, many: Selection) -> None:
    one, again, other = (evaluate(model, many.test, seed=seed) for seed in (0, 0, 1))
    assert differing(one.tables["languages"], again.tables["languages"]) == set()
    assert differing(one.tables["languages"], other.tables["languages"]) == set(DRAWN)


def test_the_seed_of_ablations_draws_replacements_and_intervals(
    model: LRopeTransformer, many: Selection
) -> None:
    results = [ablate(model, data=many, suite="full", seed=seed) for seed in (0, 1)]
    one, other = (cast(Any, result.tables["ablations"]) for result in results)
    is_drawn = one["intervention"].isin(["resample", "shuffle", "shift", "beyond_random"])
    is_drawn |= one["where"].str.startswith("random:")
    is_whole = (one["metric"] == "nats_per_byte") & (one["byte_class"] == "all")
    assert differing(one[~is_drawn], other[~is_drawn]) == set(DRAWN)
    assert (one["value"] != other["value"])[is_drawn & is_whole].all()


# An analysis, and what of it draws: each must be given the seed.
DRAWING = {
    "boundaries": ("lrope_interp.probes.boundaries.boundaries", ["Bootstrap"]),
    "ablate": ("lrope_interp.probes.ablations.ablations", ["Places", "run_arms", "Bootstrap"]),
    "entities": ("lrope_interp.probes.studies.entities.entities", ["Bootstrap"]),
    "definition_uses": (
        "lrope_interp.probes.studies.definitions.definitions",
        ["find_pairs", "effect_rows", "distance_rows"],
    ),
    "probe": ("lrope_interp.probes.concepts.concepts", ["sample_spans", "Bootstrap", "run_probes"]),
}


class Enough(Exception):
    """Everything that draws was called."""


@pytest.mark.parametrize("name", DRAWING)
def test_whatever_draws_is_given_the_seed(
    name: str, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, drawing = DRAWING[name]
    module, given = import_module(home), {}

    def watched(one: str, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def called(*arguments: Any, **named: Any) -> Any:
            given.setdefault(one, set()).add(signature.bind(*arguments, **named).arguments.get("seed"))
            if set(given) == set(drawing):
                raise Enough
            return original(*arguments, **named)

        return called

    for one in drawing:
        monkeypatch.setattr(module, one, watched(one, getattr(module, one)))
    with pytest.raises(Enough):
        run(name, getattr(module, name), spread_out(make_model(n_layers=1, n_ctx=128)))
    assert given == {one: {7} for one in drawing}


def run(name: str, analysis: Callable[..., Result], model: LRopeTransformer) -> None:
    """Run an analysis on as little text as it takes, with the seed 7."""
    few = select(lambda number: [english(number, 30)], n=3)
    if name == "boundaries":
        analysis(model, data=few, labels=["whitespace"], seed=7)
    elif name == "ablate":
        analysis(model, data=few, freeze="1", seed=7)
    elif name == "entities":
        analysis(
            model,
            data=few,
            pairs=[EntityPair("the", "peace", "place"), EntityPair("of", "nations", "place")],
            seed=7,
        )
    elif name == "definition_uses":
        code = select(lambda number: [source(number, 3)], n=3)
        analysis(model, code, most_pairs=20, seed=7)
    else:
        splits = {
            split: [words(1_000 * k + n, 7, 30) for n in range(6)]
            for k, split in enumerate(("fit", "dev", "test"))
        }

        def colours(documents: Sequence[Document]) -> Spans:
            return spans_by(tuple(documents), lambda _, text: random_by_type(text), ("blue", "red"))

        analysis(model, data=Selection.of("made up", splits), layers=(0,), seed=7, spans=colours)
