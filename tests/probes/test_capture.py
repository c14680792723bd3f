"""Capture against one plain forward pass a byte; the gap convention; what must change nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from probe_samples import chinese, english

from lrope_interp.data import Document, scoring_windows
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.boundaries.tables import stride_frame, stride_note
from lrope_interp.probes.capture.capture import capture, capture_pattern, capture_unhurried
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.evaluation.evaluation import evaluate

MakeModel = Callable[..., LRopeTransformer]
NUMBERS = ("increments", "entropy", "entropy_next", "surprisal")


def text(value: str, name: str = "d") -> Document:
    return Document(name, value, "made up", "en")


def by_hand(model: LRopeTransformer, document: Document, t: int) -> dict[str, np.ndarray]:
    """Read byte t from the one window that scores it, cut right after the byte and never padded."""
    sequence = [256, *document.encoded]
    window = next(
        w for w in scoring_windows(len(sequence), model.cfg.n_ctx) if w.first_scored <= t + 1 < w.stop
    )
    tokens = torch.tensor([sequence[window.start : t + 2]])
    seen: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor, hook: object) -> None:
        seen[hook.layer()] = tensor[0, -1]  # pyright: ignore[reportAttributeAccessIssue]

    names = [(f"blocks.{layer}.hook_increments", keep) for layer in range(model.cfg.n_layers)]
    with torch.no_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=names)[0]
    log_p = F.log_softmax(logits.float(), dim=-1)
    entropies = -(log_p.exp() * log_p).sum(-1)
    return {
        "increments": torch.stack([seen[layer].reshape(-1) for layer in sorted(seen)]).numpy(),
        "entropy": entropies[-2].numpy(),
        "entropy_next": entropies[-1].numpy(),
        "surprisal": -log_p[-2, sequence[t + 1]].numpy(),
    }


@pytest.mark.parametrize(
    "config", [{}, {"increments": "shared"}, {"per_head": True}, {"increments": "fixed"}]
)
def test_every_byte_is_read_as_a_plain_forward_pass_reads_it(make_model: MakeModel, config: dict) -> None:
    model = make_model(**config)
    document = text("Fellow-citizens of the Senate: 中文, and a tail that outlasts two windows of 32 bytes.")
    captured = capture(model, [document], batch_size=3)
    assert captured.increments.shape == (2, 2 if config.get("per_head") else 1, document.n_bytes)
    for t in range(document.n_bytes):
        for name, wanted in by_hand(model, document, t).items():
            got = getattr(captured, name)[..., t]
            np.testing.assert_allclose(got, wanted, atol=1e-5, err_msg=f"{name} at byte {t}")


def assert_same(one: Captured, other: Captured, document: int, at: int) -> None:
    for name in NUMBERS:
        first, second = getattr(one, name), getattr(other, name)
        np.testing.assert_allclose(
            first[..., one.span(document)], second[..., other.span(at)], atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("batch_size", [1, 2, 7, 1000])
def test_batch_size_and_order_and_company_change_nothing(
    tiny_model: LRopeTransformer, batch_size: int
) -> None:
    documents = [english(0), text("x"), chinese(0), text("ab" * 40), english(1)]
    one = capture(tiny_model, documents)
    other = capture(tiny_model, documents[::-1], batch_size=batch_size)
    for number, document in enumerate(documents):
        assert_same(one, other, number, len(documents) - 1 - number)
        assert_same(one, capture(tiny_model, [document]), number, 0)


def test_an_increment_has_seen_its_byte_and_an_entropy_has_not(tiny_model: LRopeTransformer) -> None:
    before, after = text("where is the gap"), text("where iz the gap")
    t = 7
    one, other = capture(tiny_model, [before]), capture(tiny_model, [after])
    differs = {
        name: getattr(one, name)[..., : t + 2] != getattr(other, name)[..., : t + 2] for name in NUMBERS
    }
    assert not differs["entropy"][: t + 1].any(), "entropy[t] is of the prediction of byte t"
    assert differs["entropy"][t + 1]
    assert differs["entropy_next"][t], "entropy_next[t] is right after byte t"
    assert not differs["entropy_next"][:t].any()
    assert differs["increments"][:, :, t].all(), "increments[t] is the step taken on arriving at byte t"
    assert not differs["increments"][:, :, :t].any()
    assert differs["surprisal"][t]
    assert not differs["surprisal"][:t].any()


def test_a_planted_increment_is_found_at_its_byte(tiny_model: LRopeTransformer) -> None:
    """A hook that writes the token id as the increment must come back as the bytes themselves."""
    stack: list[torch.Tensor] = []

    def plant(_: torch.Tensor, hook: object) -> torch.Tensor:
        return stack[-1].float()

    def remember(_module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        stack.append(args[0] if args else kwargs["input"])

    handle = tiny_model.register_forward_pre_hook(remember, with_kwargs=True)
    tiny_model.add_hook("blocks.1.hook_increments", plant)
    try:
        documents = [english(3), chinese(3)]
        captured = capture(tiny_model, documents, layers=[1])
    finally:
        handle.remove()
        tiny_model.reset_hooks()
    assert np.array_equal(captured.increments[0, 0], captured.byte)
    assert captured.byte.tobytes() == b"".join(document.encoded for document in documents)


def test_less_is_computed_where_less_is_asked_for(make_model: MakeModel) -> None:
    model = make_model(n_layers=3)
    ran: list[int] = []
    for layer, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    whole = capture(model, [english(5)], batch_size=1000)
    assert ran == [0, 1, 2]
    ran.clear()
    first = capture(model, [english(5)], layers=[1], predictions=False, batch_size=1000)
    assert ran == [0], "layer 1 ends at its increments"
    assert all(not point.has_hooks() for point in model.hook_dict.values())
    assert first.layers == (1,)
    assert len(first.entropy) == len(first.surprisal) == 0
    np.testing.assert_allclose(first.increments[0], whole.increments[1], atol=1e-6)
    ran.clear()
    none = capture(model, [english(5)], layers=[], batch_size=1000)
    assert none.increments.shape[0] == 0
    np.testing.assert_allclose(none.surprisal, whole.surprisal, atol=1e-6)


def test_layers_are_sorted_and_must_exist(tiny_model: LRopeTransformer) -> None:
    assert capture(tiny_model, [text("ab")], layers=[1, 0, 1]).layers == (0, 1)
    with pytest.raises(LRopeError, match="layers 0 to 1, not 2"):
        capture(tiny_model, [text("ab")], layers=[2])
    with pytest.raises(LRopeError, match="not -1"):
        capture(tiny_model, [text("ab")], layers=[-1])


def test_documents_keep_their_places(tiny_model: LRopeTransformer) -> None:
    documents = [text("abc"), text(""), text("de")]
    captured = capture(tiny_model, documents)
    assert captured.document.tolist() == [0, 0, 0, 2, 2]
    assert captured.t.tolist() == [0, 1, 2, 0, 1]
    assert captured.n_bytes == 5
    assert capture(tiny_model, []).n_bytes == 0


def test_the_model_is_left_as_it_was(tiny_model: LRopeTransformer) -> None:
    calls: list[tuple[str, int, int]] = []
    capture(tiny_model, [english(1)], batch_size=2, on_progress=lambda *said: calls.append(said))
    assert all(not point.has_hooks() for point in tiny_model.hook_dict.values())
    assert calls[-1][0] == "capture"
    assert calls[-1][1] == calls[-1][2] == len(scoring_windows(english(1).n_bytes + 1, 32))
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


def test_no_more_than_a_batch_is_held_at_once(tiny_model: LRopeTransformer) -> None:
    shapes: list[torch.Size] = []
    handle = tiny_model.blocks[0].register_forward_hook(lambda _module, _args, out: shapes.append(out.shape))
    captured = capture(tiny_model, [english(number) for number in range(4)], batch_size=3)
    handle.remove()
    assert len(shapes) > 3
    assert max(shape[0] for shape in shapes) == 3
    lengths = [shape[1] for shape in shapes]
    assert lengths == sorted(lengths, reverse=True), "the longest come first, so that batches pad few"
    assert lengths[0] == 32 > lengths[-1]
    arrays = [value for value in vars(captured).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) < captured.n_bytes * (1 + 2 + 8 + 4 * (2 + 3)) + 200


def test_a_pattern_row_is_that_of_the_scoring_window(tiny_model: LRopeTransformer) -> None:
    document = english(0)
    for byte in (0, 30, 31, 60, document.n_bytes - 1):
        start, weights = capture_pattern(tiny_model, document, layer=1, head=1, byte=byte)
        tokens = torch.tensor([[256, *document.encoded][start : byte + 2]])
        with torch.no_grad():
            _, cache = tiny_model.run_with_cache(tokens)
        np.testing.assert_allclose(weights, cache["pattern", 1][0, 1, -1].numpy(), atol=1e-5)
        assert weights.sum() == pytest.approx(1, abs=1e-5)
        assert start + len(weights) == byte + 2


def test_at_stride_one_every_byte_has_all_the_context_that_fits(tiny_model: LRopeTransformer) -> None:
    document = english(0)
    got = capture_unhurried(tiny_model, document, slice(3, 90), layers=[0, 1], batch_size=16)
    sequence = [256, *document.encoded]
    for t in (3, 30, 31, 89):
        with torch.no_grad():
            _, cache = tiny_model.run_with_cache(torch.tensor([sequence[max(0, t + 2 - 32) : t + 2]]))
        wanted = [float(cache["increments", layer][0, -1]) for layer in (0, 1)]
        np.testing.assert_allclose(got[:, 0, t - 3], wanted, atol=1e-5)


def test_the_stride_moves_deeper_layers_only(tiny_model: LRopeTransformer) -> None:
    captured = capture(tiny_model, [text("short"), english(0)])
    frame = stride_frame(tiny_model, captured, 64).set_index("layer")
    assert frame.loc[0, "shift"] == pytest.approx(0, abs=1e-5)
    assert 1e-4 < frame.loc[1, "shift"] < 1
    assert "(layer 1, " in stride_note(frame.reset_index(), 32)[0]
    constant = frame.reset_index().replace({"shift": {frame.loc[0, "shift"]: np.nan}})
    assert stride_note(constant, 32) == stride_note(frame.reset_index(), 32)
    bytes_only = capture(tiny_model, [english(0)], layers=[0])
    assert stride_frame(tiny_model, bytes_only, 64).empty
    short = stride_frame(tiny_model, capture(tiny_model, [text("short")]), 64)
    assert short.empty
    assert stride_note(short, 32) == []


def test_evaluating_gives_nats_per_byte_with_an_interval(tiny_model: LRopeTransformer) -> None:
    documents = [english(number, n_words=12) for number in range(60)] + [chinese(0)]
    result = evaluate(tiny_model, documents, batch_size=64)
    captured = capture(tiny_model, documents)
    assert result.kind == "eval"
    assert result.headline["nats_per_byte"] == pytest.approx(captured.surprisal.mean(), abs=1e-5)
    assert result.headline["bits_per_byte"] == pytest.approx(captured.surprisal.mean() / np.log(2), abs=1e-5)
    table = result.tables["documents"]
    assert table["nats"].sum() == pytest.approx(captured.surprisal.sum(), rel=1e-5)
    assert table["n_bytes"].sum() == captured.n_bytes
    languages = result.tables["languages"].set_index("language")
    assert languages.loc["all", "ci_low"] < result.headline["nats_per_byte"] < languages.loc["all", "ci_high"]
    assert np.isnan(languages.loc["zh", "ci_low"]), "one document gives no interval"
    assert evaluate(tiny_model, documents[::-1], batch_size=50).headline == pytest.approx(
        result.headline, abs=1e-5
    )
    with pytest.raises(LRopeError, match="no text to score"):
        evaluate(tiny_model, [text("")])
