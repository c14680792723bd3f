"""Are increments inside names of another size? The published test, and stricter ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64
from scipy.stats import wilcoxon

from lrope_interp.data import Document
from lrope_interp.data.held_out import sample_documents
from lrope_interp.data.texts import AnyText
from lrope_interp.errors import LRopeError, plural
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.frozen import increments_name
from lrope_interp.probes.capture.capture import BATCH_SIZE, Progress, staged
from lrope_interp.probes.capture.increment_statistics import fit_increments
from lrope_interp.probes.capture.selection import Selection, select
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Scoring
from lrope_interp.probes.studies.entities.matched import (
    MATCHED,
    balance,
    chinese_matches,
    difference_rows,
    english_matches,
)
from lrope_interp.probes.studies.entities.pairs import PAIRS, TESTED_BYTES, EntityPair, n_first_words
from lrope_interp.probes.studies.entities.regression import (
    FIRST_WORDS,
    INNER_SPACE,
    PER_BYTE,
    RESPONSES,
    english_response,
    facts_of,
    regression_rows,
)
from lrope_interp.probes.studies.entities.signals import (
    INCREMENTS,
    EntitySignal,
    Row,
    mean_inside,
    per_byte,
    read_short,
    read_signals,
    summed,
)
from lrope_interp.probes.studies.entities.text import (
    ENGLISH,
    TextCounts,
    chinese_words,
    select_names,
    word_pairs,
)
from lrope_interp.results import Result, provenance, table

COMMON = 5
"""How often a name must stand in training text for the model to be expected to know it."""

WATCHED = ("log_first", "entropy")
UNBALANCED = 0.25
INNER = "inner"
SMALLER, LARGER = "smaller", "larger"
NOT_SHOWN, CONTROL, CONSTANT, NOT_MEASURED = "not shown", "control finds it too", "constant", "not measured"
ALONE, CARRIERS = "alone", "carriers"
SENTENCES = (
    "They spoke of {}.",
    "He mentioned {} twice.",
    "We read about {} again.",
    "It said {} on the page.",
    "Then came {} and others.",
)
_TEXTS = ("{}", *SENTENCES)
_TIE = 1e-5
_FIT_BYTES = 100_000
_PLACE = ("signal", "layer", "head", "seed")
_BOUNDS = ("ci_low", "ci_high")
_DIFFERENCES = ("response", "design", *_PLACE, "difference", *_BOUNDS, "n", "caliper", "verdict")
_COLUMNS = {
    "reversed": (
        *("context", "measure", *_PLACE, "share", *_BOUNDS, "p", "n", "share_first_words", "p_first_words"),
        *("n_first_words", "difference", "verdict"),
    ),
    "regression": (
        *("response", "model", *_PLACE, "coefficient", "se", "p", *_BOUNDS, "n", "n_names", "n_kinds"),
        *("n_documents", "n_others_capitalised", "r2", "verdict"),
    ),
    "matched": _DIFFERENCES,
    "balance": ("language", "covariate", "before", "after", "n_names", "n_others", "n_matched"),
    "chinese": _DIFFERENCES,
    "pairs": ("first", "second", "kind", "training_count", "is_common", "test_count", "matched_with"),
}
# Of each test: what tells its rows apart beside layer and head, the column that is judged, and its null.
_JUDGED = {
    "reversed": (("context", "measure"), "share", 0.5),
    "regression": (("response", "model"), "coefficient", 0.0),
    "matched": (("response", "design"), "difference", 0.0),
    "chinese": (("response", "design"), "difference", 0.0),
}


def entities(
    model: LRopeTransformer,
    text: AnyText | None = None,
    data: str | Selection | None = None,
    *,
    pairs: Sequence[EntityPair] = PAIRS,
    max_bytes: int = TESTED_BYTES,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Result:
    """Test whether increments inside names differ from those inside other stretches of text.

    An increment at the space of `New York` has not seen `York`: what it can show there is that the model
    expects one. No test here shows that the model knows what a name is.

    Args:
        model: A model that learned its increments.
        text: Your own text, read whole; see `select_text`.
        data: Name of a corpus, of which the passages with a name are tested, by default the model's own; or
            a selection: means come from `fit`, frequencies from `training`, everything else from `test`.
        pairs: English names. Those under 5 times in training text are left out of the reversed-order test.
        max_bytes: The most bytes of each language in each split.
        seed: Of the resamples; the random controls have seeds 0, 1 and 2 always.
        batch_size: Windows at a time; it changes no number beyond rounding.
        on_progress: Told the stage, what is done of it and all of it.

    Returns:
        A result of kind "entities" with the tables `reversed`, `regression`, `matched`, `balance`, `chinese`
        and `pairs`; those of a language that the text does not have are empty.

    Raises:
        LRopeError: A model whose increments are fixed, or a text that is neither English nor tagged Chinese.
    """
    if model.cfg.increments == "fixed":
        raise LRopeError(
            f"this model has no increments that it learned ({increments_name(model)}), so names cannot "
            "differ from anything by its doing; give a run trained with increments per-layer or shared"
        )
    if text is not None or isinstance(data, Selection):
        selection = select(model, text, data, max_bytes=max_bytes)
    else:
        selection = select_names(model, data, pairs, max_bytes=max_bytes)
    has_english = any(one.language in ENGLISH and " " in one.text for one in selection.test)
    has_names = any(one.language == "zh" and one.words and one.tags for one in selection.test)
    if not (has_english or has_names):
        languages = ", ".join(sorted({one.language for one in selection.test})) or "none"
        raise LRopeError(
            "entities needs English text with spaces, or Chinese text whose words have tags (People's "
            f"Daily); this text has neither (languages: {languages}). Give a run trained on such text, or "
            "another corpus"
        )
    fit = sample_documents(selection.fit, _FIT_BYTES)
    fitted = fit_increments(model, fit, batch_size=batch_size, on_progress=staged(on_progress, "fit"))
    captured, signals = read_signals(
        model, selection.test, fitted, fit, predictions=True, batch_size=batch_size, on_progress=on_progress
    )
    bootstrap = Bootstrap(seed)
    training = selection.training or (*selection.fit, *selection.dev)
    is_scored = ~np.concatenate([np.zeros(0, dtype=bool), *selection.shared["test"]])
    rows: dict[str, list[Row]] = {name: [] for name in _COLUMNS}

    english = word_pairs(captured, is_scored, {pair.text for pair in pairs})
    if len(english):
        counts = TextCounts.of_words(training)
        facts = facts_of(english, counts)
        rows["regression"] = regression_rows(english, captured, facts, signals)
        matches = english_matches(english, captured, facts)
        rows["balance"] += [{"language": "en"} | row for row in balance(matches)]
        for name in (*RESPONSES, PER_BYTE):
            response = {name: partial(english_response, english, captured, name=name)}
            rows["matched"] += difference_rows(english, signals, response, matches, bootstrap)
        known = tuple(pair for pair in pairs if counts.pairs[pair.text] >= COMMON) or tuple(pairs)
        lines, short = read_short(
            model, both_orders(known), fitted, fit, batch_size=batch_size, on_progress=on_progress
        )
        rows["reversed"] = reversed_rows(known, lines.offsets, short, counts.pairs, bootstrap)
        others = zip(matches.name, matches.other, strict=True)
        matched_with = {english.texts[name]: english.texts[other] for name, other in others}
        occurring = np.bincount(english.kind, minlength=len(english.texts)).tolist()
        in_test = dict(zip(english.texts, occurring, strict=True))
        rows["pairs"] = [
            asdict(pair)
            | {
                "training_count": counts.pairs[pair.text],
                "is_common": counts.pairs[pair.text] >= COMMON,
                "test_count": in_test.get(pair.text, 0),
                "matched_with": matched_with.get(pair.text, ""),
            }
            for pair in pairs
        ]

    chinese = chinese_words(captured, is_scored)
    if len(chinese):
        strings = {part for text in chinese.texts for part in (text, text[:2])}
        counts = TextCounts.of_strings(training, strings)
        matches = chinese_matches(chinese, captured, counts)
        rows["balance"] += [{"language": "zh"} | row for row in balance(matches)]
        # Inside a word: at the first bytes of its second to last characters.
        inside = partial(mean_inside, units=chinese, is_start=captured.is_token_start)
        responses = {INNER: inside, PER_BYTE: partial(per_byte, units=chinese)}
        rows["chinese"] += difference_rows(chinese, signals, responses, matches, bootstrap)

    for name, (keys, value, null) in _JUDGED.items():
        rows[name] = with_verdicts(rows[name], (*keys, "layer", "head"), value, null)
    tables = {name: table(rows[name], columns) for name, columns in _COLUMNS.items()}
    measured = {"n_bytes": fitted.n_bytes, "n_documents": fitted.n_documents}
    scored = dict(selection.data)
    return Result(
        kind="entities",
        provenance=provenance(config=model.cfg.to_dict(), data=scored, seed=seed) | {"fit": measured},
        headline=_headline(tables, n_first_words(pairs) if len(english) else 0),
        tables=tables,
        warnings=tuple([*selection.warnings, *_warnings(tables, bool(selection.training))]),
    )


def both_orders(pairs: Sequence[EntityPair]) -> tuple[Document, ...]:
    """Write every name in both orders, alone and in sentences, as documents of a line each.

    They come sentence by sentence (the first is the name alone), name by name, real order first.
    """
    texts = [
        text.format(order)
        for text in _TEXTS
        for pair in pairs
        for order in (pair.text, f"{pair.second} {pair.first}")
    ]
    return tuple(Document(f"{at}", text, "made up", "en") for at, text in enumerate(texts))


def measured_bytes(
    pairs: Sequence[EntityPair], offsets: Int64[np.ndarray, " documents_and_one"]
) -> dict[str, tuple[Int64[np.ndarray, " documents"], Int64[np.ndarray, " documents"]]]:
    """Return where the bytes that a measure adds up begin and end in each document of `both_orders`.

    `pair` is both words and the space; `inner` the space and the first byte of the second word; `first_word`
    the word that stands first in the real order, wherever it stands.
    """
    first, second = np.array([[len(word.encode()) for word in (one.first, one.second)] for one in pairs]).T
    nothing, whole = 0 * first, first + second + 1
    spans = {  # start and past in the real order, and in the other
        "pair": ((nothing, nothing), (whole, whole)),
        "inner": ((first, second), (first + 2, second + 2)),
        "first_word": ((nothing, second + 1), (first, whole)),
    }
    before = np.array([len(text.split("{}")[0]) for text in _TEXTS])[:, None, None]
    at = offsets[:-1].reshape(-1, len(pairs), 2) + before
    return {
        measure: ((at + np.stack(start, 1)).reshape(-1), (at + np.stack(past, 1)).reshape(-1))
        for measure, (start, past) in spans.items()
    }


def reversed_rows(
    pairs: Sequence[EntityPair],
    offsets: Int64[np.ndarray, " documents_and_one"],
    signals: Sequence[EntitySignal],
    counts: Mapping[str, int],
    bootstrap: Bootstrap,
) -> list[Row]:
    """Make the published test again: does a name take less room in its own order than reversed?

    Its weaknesses come along. A model is causal: the first word of `A B` is read without its partner and that
    of `B A` is another word, so what the two orders differ in is mostly which word stands first and how
    expected each is, and any frequent sequence would do as well as a name. Names that share a first word are
    no independent evidence. The tests beside it hold these equal.

    Returns:
        A row a signal, layer, head, measure and context: the share of names that are smaller, and p.

    Args:
        pairs: The names.
        offsets: Where each document of `both_orders` begins in what was read, and the end.
        signals: Increments and controls over them.
        counts: How often each stands in training text; of the names that share their first word the most
            frequent one alone enters `p_first_words`.
        bootstrap: Draws first words again.
    """
    words, index = np.unique([pair.first for pair in pairs], return_inverse=True)
    scoring = Scoring(Units.of(index), bootstrap)
    order = sorted(range(len(pairs)), key=lambda at: (-counts.get(pairs[at].text, 0), pairs[at].text))
    most_frequent = sorted({pairs[at].first: at for at in reversed(order)}.values())
    spans = measured_bytes(pairs, offsets)
    rows: list[Row] = []
    for place, values in signals:
        for measure, (start, past) in spans.items():
            sums = summed(values, start, past).reshape(-1, len(pairs), 2)
            each = sums[..., 0] - sums[..., 1]
            for context, found in ((ALONE, each[0]), (CARRIERS, each[1:].mean(axis=0))):
                apart = np.where(np.abs(found) < _TIE, 0.0, found)
                is_smaller = (apart < 0).astype(np.float64)
                alone = apart[most_frequent]
                share = scoring.mean(is_smaller)
                scores = share.row() | {
                    "share": share.value,
                    "p": one_sided(apart),
                    "n": len(apart),
                    "share_first_words": float((alone < 0).mean()),
                    "p_first_words": one_sided(alone),
                    "n_first_words": len(words),
                    "difference": float(apart.mean()),
                }
                rows.append(place | {"context": context, "measure": measure} | scores)
    return rows


def one_sided(apart: Float[np.ndarray, " n"]) -> float:
    """Return the p of Wilcoxon's signed-rank test that differences lie below 0; 1 where all are 0.

    Exact up to 50 differences without ties, else by the normal approximation.
    """
    apart = apart[apart != 0]
    if not len(apart):
        return 1.0
    is_exact = len(apart) <= 50 and len(np.unique(np.abs(apart))) == len(apart)
    found: Any = wilcoxon(apart, alternative="less", method="exact" if is_exact else "asymptotic")
    return float(found.pvalue)


def with_verdicts(rows: Sequence[Row], keys: Sequence[str], value: str, null: float = 0.0) -> list[Row]:
    """Return rows with a verdict for the increments, and "" for the controls.

    The verdict of a row: "smaller" or "larger" where the 95 % interval leaves `null` out and no control gets
    as far as the interval; "control finds it too" where one does; "not shown" where the interval holds
    `null`; "constant" where nothing varies, as in layer 0 at a space; "not measured" without an interval.
    No verdict is corrected for the number of layers.

    Args:
        rows: Of one table, with `ci_low` and `ci_high`.
        keys: Columns that say which controls belong to which increments, layer and head among them.
        value: Name of the column that is judged.
        null: What it is without an effect.
    """
    controls: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["signal"] != INCREMENTS and not _is_constant(row, value):
            controls.setdefault(tuple(row[key] for key in keys), []).append(float(row[value]))
    judged = []
    for row in rows:
        low, high = float(row["ci_low"]), float(row["ci_high"])
        rivals = controls.get(tuple(row[key] for key in keys), [])
        if row["signal"] != INCREMENTS:
            verdict = ""
        elif _is_constant(row, value):
            verdict = CONSTANT
        elif math.isnan(low) or math.isnan(high):
            verdict = NOT_MEASURED
        elif low <= null <= high:
            verdict = NOT_SHOWN
        elif any(one >= low if low > null else one <= high for one in rivals):
            verdict = CONTROL
        else:  # a share above a half is one of names that are smaller
            verdict = LARGER if (low > null) != (value == "share") else SMALLER
        judged.append(row | {"verdict": verdict})
    return judged


def _is_constant(row: Row, value: str) -> bool:
    """Whether nothing varied: a difference of exactly 0, with an interval of no width where there is one."""
    if value == "share":
        return bool(row["difference"] == 0.0 and row["share"] == 0.0)
    bounds = (float(row["ci_low"]), float(row["ci_high"]))
    return bool(row[value] == 0.0) and all(math.isnan(one) or one == 0.0 for one in bounds)


def _increments(rows: pd.DataFrame, **where: str) -> Any:
    """Return the rows of the model's own increments that agree with every given column."""
    kept = rows["signal"] == INCREMENTS
    for name, value in where.items():
        kept &= rows[name] == value
    return rows[kept]


def _headline(tables: Mapping[str, pd.DataFrame], n_words: int) -> dict[str, float | None]:
    """Return how many names there are, and in how many layers (or heads) each test shows something."""
    pairs: Any = tables["pairs"]
    reversed_order = _increments(tables["reversed"], context=ALONE, measure="pair")
    regression = _increments(tables["regression"], response=INNER_SPACE, model=FIRST_WORDS)
    english = _increments(tables["matched"], response=INNER_SPACE, design=MATCHED)
    chinese = _increments(tables["chinese"], response=INNER, design=MATCHED)
    places = [own for own in map(_increments, (tables["matched"], tables["chinese"])) if len(own)]

    def n_judged(own: Any, *verdicts: str) -> float | None:
        return float(own["verdict"].isin(verdicts).sum()) if len(own) else None

    return {
        "n_pairs": float(len(pairs)),
        "n_first_words": float(n_words),
        "coverage": float(pairs["is_common"].astype(float).mean()) if len(pairs) else None,
        "test_occurrences": float(pairs["test_count"].sum()),
        "n_places": float(len(places[0][["layer", "head"]].drop_duplicates())) if places else 0.0,
        "reversed_smaller": n_judged(reversed_order, SMALLER),
        "regression_shown": n_judged(regression, SMALLER, LARGER),
        "matched_shown": n_judged(english, SMALLER, LARGER),
        "chinese_shown": n_judged(chinese, SMALLER, LARGER),
        "reversed_p_below_0.05": float((reversed_order["p"] < 0.05).sum()) if len(reversed_order) else None,
    }


def _warnings(tables: Mapping[str, pd.DataFrame], has_training: bool) -> list[str]:
    """Say what was left out, and how little some tests rest on."""
    found = []
    pairs: Any = tables["pairs"]
    if pairs.empty:
        found.append("the text has no English words with spaces between: no English test was made")
    elif (share := float(pairs["is_common"].astype(float).mean())) < 0.5:
        found.append(
            f"only {share:.0%} of the {len(pairs)} names stand in the training text at least {COMMON} times: "
            "a model that never read a name cannot treat it as one; give --pairs with names of that text"
        )
    regression = _increments(tables["regression"], model=FIRST_WORDS, response=INNER_SPACE)
    if len(regression):
        line = regression.iloc[0]
        n_others, capitals = int(line["n"] - line["n_names"]), int(line["n_others_capitalised"])
        if pd.isna(line["coefficient"]):
            found.append(
                f"the regression within first words has {plural(int(line['n_names']), 'name')} in "
                f"{plural(int(line['n_documents']), 'document')}, too few to estimate anything; "
                "give more text (--max-bytes)"
            )
        elif n_others and capitals:
            found.append(
                f"{capitals} of the {n_others} pairs of words that the regression holds against names with "
                "the same first word have two capitals and may be names that the list lacks: differences "
                "come out too small rather than too large"
            )
    if tables["chinese"].empty:
        found.append("the text has no Chinese words with tags (People's Daily has): no Chinese test was made")
    if not has_training:
        found.append(
            "the training text could not be read: frequencies are counted in the fit and dev documents"
        )
    for name, language in (("matched", "English"), ("chinese", "Chinese")):
        own = _increments(tables[name], design=MATCHED)
        if len(own) and own["ci_low"].isna().all():
            found.append(f"{language}: fewer than 5 names could be matched, so there is no interval")
    rows: Any = tables["balance"]
    rows = rows[~rows["covariate"].isin(WATCHED) & (rows["after"].abs() > UNBALANCED)]
    found += [
        f"matched names still differ from their matches by {line.after:.2f} standard deviations in "
        f"{line.covariate} ({'English' if line.language == 'en' else 'Chinese'}); a curve takes that out, if "
        "its shape is right"
        for line in rows.itertuples(index=False)
    ]
    return found
