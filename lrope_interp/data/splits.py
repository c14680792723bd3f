"""Which document is trained on and which is held out: decided by its sha256 alone.

A document is held out when its hash falls in the top share of all hashes, and the held-out part
is split 40/20/40 into fit, dev and test by where in that share it falls. So a split does not
depend on the order of documents, and adding a document moves no other one (but for corpora so
small that a split would be empty).
"""

from __future__ import annotations

from collections.abc import Iterable

from lrope_interp.errors import LRopeError

SPLITS = ("train", "fit", "dev", "test")
HELD_OUT = ("fit", "dev", "test")
_FIT_BELOW, _DEV_BELOW = 0.4, 0.6


def hash_fraction(sha256: str) -> float:
    """Map a hexadecimal sha256 to [0, 1]: its first 16 digits over 2**64."""
    return int(sha256[:16], 16) / 2**64


def hash_splits(hashes: Iterable[str], held_out_share: float) -> dict[str, str]:
    """Assign every hash to train, fit, dev or test.

    Args:
        hashes: sha256 of the documents; duplicates count once.
        held_out_share: The share that is held out; 1 holds out everything.

    Returns:
        The split of each hash. No split that the share asks for is empty as long as there are
        enough documents to give it one: then the highest hashes are held out.
    """
    distinct = sorted(set(hashes))
    wanted = HELD_OUT if held_out_share >= 1 else SPLITS
    splits = {sha256: _split(hash_fraction(sha256), held_out_share) for sha256 in distinct}
    if len(distinct) >= len(wanted) and not set(wanted) <= set(splits.values()):
        return _fill_by_rank(distinct, splits, is_all_held_out=held_out_share >= 1)
    return splits


def require_documents(n_documents: int, name: str) -> None:
    """Refuse a corpus that cannot give train, fit, dev and test a document each."""
    if n_documents < len(SPLITS):
        raise LRopeError(
            f"{name} gives {n_documents} different document(s), and at least {len(SPLITS)} are needed "
            "(one each for train, fit, dev and test). A folder gives one document a file, a table one a "
            "row; a text file gives one for every 2,000 bytes of paragraphs, so that about 8,000 bytes are "
            "the least and 1 MB or more makes sense. Separate paragraphs by blank lines or line ends."
        )


def _split(fraction: float, held_out_share: float) -> str:
    """Return the split of a document whose hash falls at `fraction`."""
    start = 1 - held_out_share
    if fraction < start:
        return "train"
    within = (fraction - start) / held_out_share
    return "fit" if within < _FIT_BELOW else "dev" if within < _DEV_BELOW else "test"


def _fill_by_rank(distinct: list[str], splits: dict[str, str], *, is_all_held_out: bool) -> dict[str, str]:
    """Hold out the highest hashes and cut them 40/20/40 by rank, at least one document each."""
    n_held_out = max(len(HELD_OUT), sum(split != "train" for split in splits.values()))
    n_held_out = len(distinct) if is_all_held_out else min(n_held_out, len(distinct) - 1)
    n_dev = max(1, round((_DEV_BELOW - _FIT_BELOW) * n_held_out))
    n_test = max(1, round((1 - _DEV_BELOW) * n_held_out))
    n_fit = n_held_out - n_dev - n_test
    n_train = len(distinct) - n_held_out
    names = ["train"] * n_train + ["fit"] * n_fit + ["dev"] * n_dev + ["test"] * n_test
    return dict(zip(distinct, names, strict=True))
