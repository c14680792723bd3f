"""A small BPE, trained once."""

from __future__ import annotations

import pytest

from lrope_interp.tokenizers.bpe import BPETokenizer, train_bpe

TEXTS = [
    "The peace of nations, and the treaty of peace.",
    "中国人民银行发布新闻，中国新闻。",
    "naïve über café",
] * 9


@pytest.fixture(scope="session")
def bpe() -> BPETokenizer:
    return train_bpe(TEXTS, 300)
