"""A stricter test of English names: a regression that asks what being a name adds to everything else.

Errors are clustered by document and by pair of words (Cameron, Gelbach and Miller 2011): a name that occurs
forty times is not forty pieces of evidence, nor is a document that is full of names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64
from scipy.stats import t as student
from statsmodels.regression.linear_model import OLS

from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.statistics.curves import Spline
from lrope_interp.probes.studies.entities.signals import (
    EntitySignal,
    Row,
    at_place,
    per_byte,
    summed,
)
from lrope_interp.probes.studies.entities.text import EntityUnits, TextCounts

INNER_SPACE, SECOND_WORD, PER_BYTE = "inner_space", "second_word", "per_byte"
RESPONSES = (INNER_SPACE, SECOND_WORD)
RAW, CONTROLS, FIRST_WORDS = "raw", "controls", "first_words"
LEAST_NAMES = 20
"""Occurrences of names below which nothing is estimated."""

LEAST_CLUSTERS = 5
N_KNOTS = 6
_NOTHING = 1e-9


def facts_of(units: EntityUnits, counts: TextCounts) -> dict[str, Float[np.ndarray, " kinds"]]:
    """Return what each different pair of words has of its own: frequencies, lengths in letters, capitals."""
    first, second = zip(*(text.split(" ") for text in units.texts), strict=True)
    capitals = [np.array([word[0].isupper() for word in words], dtype=float) for words in (first, second)]
    pairs = zip(first, units.texts, strict=True)
    return {
        "log_count": np.array([counts.log_count(text) for text in units.texts]),
        "log_p": np.array([counts.log_p(word, text) for word, text in pairs]),
        "log_first": np.array([counts.log_single(word) for word in first]),
        "length_first": np.array([len(word) for word in first], dtype=float),
        "length_second": np.array([len(word) for word in second], dtype=float),
        "capital_first": capitals[0],
        "capital_second": capitals[1],
        "capital_both": capitals[0] * capitals[1],
    }


def english_response(
    units: EntityUnits, captured: Captured, values: Float32[np.ndarray, " n_bytes"], name: str
) -> Float[np.ndarray, " n"]:
    """Return a response of each pair of words; NaN where a token hides it."""
    if name == PER_BYTE:
        return per_byte(values, units)
    return at_place(values, units.inner[:, RESPONSES.index(name)], captured.is_token_start)


def entropy_before_second(units: EntityUnits, captured: Captured) -> Float[np.ndarray, " n"]:
    """Return how uncertain the model was before the second word of each pair, in nats."""
    return captured.entropy[units.inner[:, 1]].astype(np.float64)


def regression_rows(
    units: EntityUnits,
    captured: Captured,
    facts: Mapping[str, Float[np.ndarray, " kinds"]],
    signals: Sequence[EntitySignal],
) -> list[Row]:
    """Return what being a name adds, by response, model, signal, layer and head.

    `raw` holds nothing equal; `controls` holds equal, as smooth curves, log P(second | first), the frequency
    of the first word, the model's entropy before the second word and its log probability in context, and
    besides lengths and capitals; `first_words` also gives every first word a mean of its own, and reads only
    those that stand in a name and in something else. `n_others_capitalised` is how many others have two
    capitals: they may be names that the list does not have.
    """
    own = {name: values[units.kind] for name, values in facts.items()}
    # The second word's log probability as the model reads it; with the space where one token holds both.
    start = units.inner[:, 1 if captured.has_byte_tokens else 0]
    log_p_context = -summed(captured.surprisal, start, units.past)
    bent = curves(own["log_p"], own["log_first"], entropy_before_second(units, captured), log_p_context)
    straight = [own[f"length_{word}"] for word in ("first", "second")]
    straight += [own[f"capital_{word}"] for word in ("first", "second", "both")]
    columns = np.concatenate([bent, np.stack(straight, axis=1)], axis=1)
    nothing = np.zeros((len(units), 0))
    groups = np.stack([units.document, units.kind], axis=1)
    first = [text.split(" ")[0] for text in units.texts]
    word = np.unique(first, return_inverse=True)[1][units.kind]
    within = has_both(word, units.is_name)
    is_capitalised_other = (own["capital_both"] > 0) & ~units.is_name
    rows: list[Row] = []
    for response in RESPONSES:
        known = ~np.isnan(english_response(units, captured, signals[0][1], response))
        designs = {
            model: (kept, Design.of(units.is_name[kept], held[kept], groups[kept], fixed))
            for model, kept, held, fixed in (
                (RAW, known, nothing, None),
                (CONTROLS, known, columns, None),
                (FIRST_WORDS, known & within, columns, word[known & within]),
            )
        }
        for place, numbers in signals:
            values = english_response(units, captured, numbers, response)
            for model, (kept, design) in designs.items():
                found = place | {"response": response, "model": model} | design.estimate(values[kept])
                rows.append(found | {"n_others_capitalised": int((is_capitalised_other & kept).sum())})
    return rows


@dataclass(frozen=True)
class Design:
    """Everything about a regression but the response, which many signals have in common.

    Attributes:
        is_name: Of each row.
        rest: What of `is_name` the other columns do not explain.
        basis: Orthonormal columns that span the others.
        groups: Document and pair of words of each row, numbered from 0.
        word: First word of each row, or None where they have no means of their own.
    """

    is_name: Bool[np.ndarray, " n"]
    rest: Float[np.ndarray, " n"]
    basis: Float[np.ndarray, "n columns"]
    groups: Int[np.ndarray, "n 2"]
    word: Int64[np.ndarray, " n"] | None

    @classmethod
    def of(
        cls,
        is_name: Bool[np.ndarray, " n"],
        columns: Float[np.ndarray, "n columns"],
        groups: Int[np.ndarray, "n 2"],
        word: Int64[np.ndarray, " n"] | None = None,
    ) -> Design:
        """Prepare a regression.

        Args:
            is_name: The question.
            columns: What is held equal; columns that others explain are no harm.
            groups: Document and pair of words.
            word: First word of each row, which then gets a mean of its own (a fixed effect): everything is
                taken as a difference from it.
        """
        constant = np.ones((len(columns), 1)) if word is None else np.zeros((len(columns), 0))
        basis = _orthonormal(np.concatenate([constant, _centred(columns, word)], axis=1))
        name = _centred(is_name.astype(np.float64)[:, None], word)[:, 0]
        codes = [np.unique(column, return_inverse=True)[1] for column in groups.T]
        return cls(is_name, name - basis @ (basis.T @ name), basis, np.stack(codes, axis=1), word)

    def estimate(self, response: Float[np.ndarray, " n"]) -> Row:
        """Fit one response by ordinary least squares.

        The other columns are taken out of response and question first (Frisch, Waugh and Lovell), which
        gives the same coefficient and residuals as fitting all columns at once.

        Returns:
            `coefficient`, what being a name adds in means of the layer, NaN where it cannot be had; `se`,
            its two-way clustered error; `ci_low` and `ci_high` (95 %, Student's t with the smaller number of
            clusters less one); `p`, two-sided; `n` pairs of words, of which `n_names` names, `n_kinds`
            different ones, in `n_documents`; `r2`, the share of the variance that all columns explain,
            within first words where those have means of their own.
        """
        n_documents, n_kinds = (self.groups.max(axis=0, initial=-1) + 1).tolist()
        n, n_names, n_clusters = len(response), int(self.is_name.sum()), min(n_documents, n_kinds)
        names = ("coefficient", "se", "ci_low", "ci_high", "p", "r2")
        found: Row = dict.fromkeys(names, np.nan)
        found |= {"n": n, "n_names": n_names, "n_kinds": n_kinds, "n_documents": n_documents}
        is_left = float(self.rest @ self.rest) > _NOTHING * max(len(self.rest), 1)
        if n_names < LEAST_NAMES or n_clusters < LEAST_CLUSTERS or not is_left:
            return found
        own = _centred(response[:, None], self.word)[:, 0]
        spread = own - (own.mean() if self.word is None else 0.0)
        if np.abs(spread).max() < 1e-6:  # layer 0 at a space: nothing to explain
            return found | {"coefficient": 0.0, "se": 0.0, "ci_low": 0.0, "ci_high": 0.0}
        own = own - self.basis @ (self.basis.T @ own)
        n_means = 0 if self.word is None else len(np.unique(self.word))
        value, error = _clustered(own, self.rest, self.groups, self.basis.shape[1] + 1 + n_means)
        reach = float(student.ppf(0.975, n_clusters - 1)) * error
        p = 2 * float(student.sf(abs(value) / error, n_clusters - 1)) if error > 0 else np.nan
        left = own - value * self.rest
        r2 = 1 - float(left @ left) / float(spread @ spread)
        return found | dict(zip(names, (value, error, value - reach, value + reach, p, r2), strict=True))


def _clustered(
    response: Float[np.ndarray, " n"],
    column: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, "n 2"],
    n_columns: int,
) -> tuple[float, float]:
    """Return coefficient and two-way clustered error of one column.

    Where the two-way variance comes out below that of a single clustering, as it may in small samples, the
    larger of the single ones stands in.
    """
    fitted = OLS(response, column[:, None])
    both, *alone = (
        fitted.fit(cov_type="cluster", cov_kwds={"groups": one})
        for one in (groups, groups[:, 0], groups[:, 1])
    )
    n = len(response)
    variance = max(float(np.asarray(one.cov_params())[0, 0]) for one in (both, *alone))
    return float(both.params[0]), float(np.sqrt(variance * (n - 1) / max(n - n_columns, 1)))


def curves(*numbers: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n columns"]:
    """Return columns for smooth curves of numbers: entered straight, a curve would pass for an effect."""
    parts = [Spline.of(one, N_KNOTS).columns(one) for one in numbers]
    return np.concatenate(parts, axis=1) if parts else np.zeros((0, 0))


def has_both(word: Int64[np.ndarray, " n"], is_name: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether the first word of each row stands in a name and in something else: others tell nothing."""
    n_names = np.bincount(word, weights=is_name)
    n = np.bincount(word)
    return ((n_names > 0) & (n_names < n))[word]


def _centred(
    columns: Float[np.ndarray, "n columns"], word: Int64[np.ndarray, " n"] | None
) -> Float[np.ndarray, "n columns"]:
    """Take the mean of each first word away."""
    if word is None or not columns.size:
        return columns
    _, number = np.unique(word, return_inverse=True)
    sums = np.zeros((int(number.max()) + 1, columns.shape[1]))
    np.add.at(sums, number, columns)
    return columns - (sums / np.bincount(number)[:, None])[number]


def _orthonormal(columns: Float[np.ndarray, "n columns"]) -> Float[np.ndarray, "n rank"]:
    """Return orthonormal columns with the same span."""
    scale = np.sqrt((columns**2).mean(axis=0)) if len(columns) else np.zeros(columns.shape[1])
    kept = columns[:, scale > _NOTHING] / scale[scale > _NOTHING]
    if not kept.size:
        return kept
    left, size, _ = np.linalg.svd(kept, full_matrices=False)
    return left[:, size > 1e-8 * size[0]]
