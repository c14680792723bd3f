"""Byte-level BPE through Hugging Face `tokenizers`, with spans of bytes and a check of every text.

A token of a byte-level vocabulary is spelled in an alphabet of 256 characters, one a byte, so that
it says itself how many bytes it stands for. (The offsets of the library count characters, and give
both halves of a character that two tokens share the whole of it.)
"""

from __future__ import annotations

import copy
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Int64
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from lrope_interp.errors import LRopeError
from lrope_interp.tokenizers.byte_level import (
    MOST_TOKENS,
    Ids,
    Tokenizer,
    utf8,
)

_EOS_NAMES = ("<eos>", "<|endoftext|>", "<|end_of_text|>", "</s>", "[EOS]", "<|im_end|>")
_SAMPLE = (
    "A sample\u2014na\u00efve, \u4e2d\u6587\uff0c\uff21\uff22 e\u0301\u212b \U0001f642\U00020000.\r\n\r\n\t"
    "\x00\x7f\u2581 \ufb01 \u00a0\u3000  <eos> </s> <|endoftext|> 'S ITS 1234567  \ufeff\u200d\x85end \n  "
)
# The pre-tokenizer UnicodeScripts drops the white space before the first letter.
_EDGES = (" a ", "\n\n\u4e2d\n", "  1", "\t-", "\u3000\u304b\u3000", " ", ".")
_LOSSLESS = ("NFC", "ByteLevel")
_DROPS_SPACE = ("Whitespace", "WhitespaceSplit", "CharDelimiterSplit", "BertPreTokenizer", "Metaspace")
_WANTED = (
    "A lossless byte-level tokenizer is wanted, as of GPT-2: a ByteLevel pre-tokenizer without prefix space, "
    "all 256 byte tokens, and no normalizer but NFC. Take such a file, or bpe:N"
)
MIN_FREQUENCY = 2


class BPETokenizer(Tokenizer):
    """A Hugging Face tokenizer whose tokens stand for bytes, and one id for EOS.

    Args:
        definition: The content of a Hugging Face ``tokenizer.json``. Its truncation, padding, BPE
            dropout and template of special tokens are not used. Where it has no EOS, one more id
            is added for it.
        source: What to call it in messages.

    Raises:
        LRopeError: Not a tokenizer, more than 1,000,000 tokens, or one that changes text. One that composes
            characters (NFC) is taken, and refuses text that is not composed when it meets it.
    """

    name = "bpe"

    def __init__(self, definition: Mapping[str, Any], source: str = "the tokenizer") -> None:
        self.definition, self._source = dict(definition), source
        self.name_or_path = source
        self._hf = _loaded(self.definition, source)
        self._pieces = _pieces(self._hf, source)
        eos = _eos(self._hf)
        self.eos_id = len(self._pieces) if eos is None else eos
        if eos is None:
            self._pieces.append("<eos>")
        self.vocab_size = len(self._pieces)
        said = json.dumps({"eos_id": self.eos_id, "tokenizer": self.definition}, sort_keys=True)
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()
        self._raw = [piece if isinstance(piece, bytes) else b"" for piece in self._pieces]
        self._lengths = np.array([len(raw) for raw in self._raw], dtype=np.int64)
        self._check_definition()
        sample = _SAMPLE + "".join(map(chr, range(0x250)))
        for text in (sample, *_EDGES):
            self.encode(unicodedata.normalize("NFC", text) if self._composes else text)

    def __deepcopy__(self, memo: dict[int, Any]) -> BPETokenizer:
        """Return a tokenizer with a `padding_side` of its own; all else never changes, and is shared."""
        return copy.copy(self)

    def encode(self, text: str, add_special_tokens: bool = False) -> Int64[np.ndarray, " n_tokens"]:  # noqa: ARG002
        """Return the ids of `text`; what looks like a special token in it is text.

        Raises:
            LRopeError: A lone surrogate, or a text that this tokenizer would change.
        """
        return self._checked(utf8(text), self._hf.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[Int64[np.ndarray, " _"]]:
        """Return the ids of several texts, as `encode` does, on all cores."""
        raws = [utf8(text) for text in texts]
        encodings = self._hf.encode_batch_fast(list(texts), add_special_tokens=False)
        return [self._checked(raw, one.ids) for raw, one in zip(raws, encodings, strict=True)]

    def to_bytes(self, ids: Ids) -> bytes:
        """Return the bytes of `ids`; special tokens and ids beyond the vocabulary have none."""
        if isinstance(ids, np.ndarray):
            values = ids[(ids >= 0) & (ids < self.vocab_size)].tolist()
        else:
            values = [i for i in map(int, ids) if 0 <= i < self.vocab_size]
        return b"".join(map(self._raw.__getitem__, values))

    def token_bytes(self, ids: Int[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Return how many bytes each id stands for; 0 for EOS."""
        return self._lengths[ids]

    def piece(self, token: int) -> bytes | str:
        """Return the bytes of a token; a special one, and an id beyond the vocabulary, has a name instead."""
        return self._pieces[token] if 0 <= token < self.vocab_size else f"<{token}>"

    @property
    def _composes(self) -> bool:
        return any(
            one.get("type") == "NFC" for one in _parts(self.definition.get("normalizer"), "normalizers")
        )

    def _check_definition(self) -> None:
        """Refuse what changes some text, be it text that no sample shows: a file that strips, for one.

        Such a tokenizer would train and then fail in an analysis, at the first text that it changes.
        """
        normalizers = _parts(self.definition.get("normalizer"), "normalizers")
        cutters = _parts(self.definition.get("pre_tokenizer"), "pretokenizers")
        added = self.definition.get("added_tokens") or []
        wrong = [
            f"the normalizer {one.get('type')}" for one in normalizers if one.get("type") not in _LOSSLESS
        ]
        wrong += [
            f"the pre-tokenizer {one.get('type')}"
            for one in cutters
            if one.get("type") in _DROPS_SPACE or one.get("behavior") == "Removed"
        ]
        wrong += [
            f"the added token {one['content']!r}, which takes the white space beside it"
            for one in added
            if not one.get("special") and (one.get("lstrip") or one.get("rstrip"))
        ]
        if self.definition.get("model", {}).get("type") == "BPE":
            found = {piece for piece in self._pieces if isinstance(piece, bytes) and len(piece) == 1}
            missing = [value for value in range(256) if bytes([value]) not in found]
            wrong += [f"a vocabulary without the byte 0x{missing[0]:02x}"] if missing else []
        if wrong:
            raise LRopeError(f"{self._source} does not keep text as it is: it has {wrong[0]}. {_WANTED}")

    def _checked(self, raw: bytes, ids: list[int]) -> Int64[np.ndarray, " n_tokens"]:
        """Return the ids, if they stand for exactly these bytes."""
        if b"".join(map(self._raw.__getitem__, ids)) != raw:
            raise self._lossy(raw, ids)
        return np.array(ids, dtype=np.int64)

    def _lossy(self, raw: bytes, ids: list[int]) -> LRopeError:
        """Say where encoding lost something, and what to use instead."""
        got = self.to_bytes(ids)
        at = next(
            (i for i, (a, b) in enumerate(zip(raw, got, strict=False)) if a != b), min(len(raw), len(got))
        )
        context = raw[max(0, at - 20) : at + 20].decode("utf-8", errors="replace")
        if self._composes and not unicodedata.is_normalized("NFC", raw.decode("utf-8")):
            return LRopeError(
                f"{self._source} composes characters (NFC), and this text has some that are not (near "
                f"{context!r}). Write the text in NFC first (Python: unicodedata.normalize('NFC', text)), or "
                "take a tokenizer without a normalizer, or bpe:N"
            )
        return LRopeError(f"{self._source} does not keep text as it is (near {context!r}). {_WANTED}")


def train_bpe(texts: Iterable[str], n_vocab: int) -> BPETokenizer:
    """Train a byte-level BPE with GPT-2's pre-tokenizer; the same texts give the same tokenizer.

    Args:
        texts: What to count pairs in, and nothing that is held out. Pairs that occur once are not merged.
        n_vocab: Tokens in all: 256 bytes, the merges, and EOS as the last id.

    Raises:
        LRopeError: Text with too few pairs for `n_vocab`.
    """
    tokenizer = HuggingFaceTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab - 1,
        min_frequency=MIN_FREQUENCY,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    n_found = tokenizer.get_vocab_size() + 1
    if n_found < n_vocab:
        raise LRopeError(
            f"the training text has pairs enough for {n_found:,} tokens, not {n_vocab:,}; ask for "
            f"bpe:{n_found} or less, for bytes, or give more text"
        )
    return BPETokenizer(json.loads(tokenizer.to_str()), f"bpe:{n_vocab}")


def _loaded(definition: Mapping[str, Any], source: str) -> HuggingFaceTokenizer:
    """Hand the definition to the library, less what would make ids depend on more than the text."""
    try:
        tokenizer = HuggingFaceTokenizer.from_str(json.dumps(definition))
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # the library raises nothing narrower, and its panics are no Exception
        said = " ".join(str(error).split())
        raise LRopeError(f"{source} is not a Hugging Face tokenizer: {said[:300]}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None
    tokenizer.encode_special_tokens = True
    return tokenizer


def _parts(part: Any, nested: str) -> list[dict[str, Any]]:
    """Return the normalizers or pre-tokenizers that a part of a definition is made of."""
    if not isinstance(part, dict):
        return []
    return [one for each in part[nested] for one in _parts(each, nested)] if nested in part else [part]


def _pieces(tokenizer: HuggingFaceTokenizer, source: str) -> list[bytes | str]:
    """Return what each id stands for: its bytes, or as a string the name of a token without bytes."""
    byte_of = _byte_of()
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    n_ids = max(vocabulary.values(), default=-1) + 1
    if n_ids > MOST_TOKENS:  # before a list of that length is made
        raise LRopeError(f"{source} has ids up to {n_ids - 1:,}; at most {MOST_TOKENS:,} tokens can be had")
    pieces: list[bytes | str] = [f"<{i}>" for i in range(n_ids)]
    for token, i in vocabulary.items():
        pieces[i] = bytes(byte_of[c] for c in token) if all(c in byte_of for c in token) else token
    for i, added in tokenizer.get_added_tokens_decoder().items():
        pieces[i] = added.content if added.special else added.content.encode()
    return pieces


def _byte_of() -> dict[str, int]:
    """Return the byte that each character of GPT-2's alphabet stands for.

    Printable Latin-1 stands for itself; the other bytes, in order, are U+0100 and on.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spelled = {character: ord(character) for character in alphabet if ord(character) < 0x100}
    others = [value for value in range(0x100) if chr(value) not in spelled]
    return spelled | dict(zip(alphabet[len(spelled) :], others, strict=True))


def _eos(tokenizer: HuggingFaceTokenizer) -> int | None:
    """Return the id of the special token that ends a text, by its name."""
    special = {one.content: i for i, one in tokenizer.get_added_tokens_decoder().items() if one.special}
    return next((special[name] for name in _EOS_NAMES if name in special), None)
