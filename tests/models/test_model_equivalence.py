"""The model against independent implementations of it, and its fused, step-by-step and compiled runs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import reference

from lrope_interp.models import LRopeConfig, LRopeTransformer

MODES = [(mode, per_head) for mode in ("per_layer", "shared", "fixed") for per_head in (False, True)]


def some_tokens(n_pos: int = 12, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 257, (batch, n_pos), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_logits_and_increments_equal_the_slow_reference(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    tokens = some_tokens()
    logits, cache = model.run_with_cache(tokens)
    for row in range(len(tokens)):
        expected, increments = reference.logits_of(tokens[row].tolist(), model.state_dict(), model.cfg)
        torch.testing.assert_close(logits[row].double(), expected, atol=1e-4, rtol=1e-4)
        for layer, steps in enumerate(increments):
            ours = cache["increments", layer][row].double()
            expanded = steps if per_head else steps[:, 0]
            torch.testing.assert_close(ours, expanded.expand(ours.shape), atol=1e-5, rtol=1e-5)


def gradients(model, run) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = run(some_tokens(), return_type="loss")
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return found | {"loss": loss.detach(), "logits": run(some_tokens()).detach()}


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_fused_and_step_by_step_attention_agree_on_logits_and_gradients(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head, attn_impl="sdpa")
    fused = gradients(model, model)
    model.cfg.attn_impl = "eager"
    for name, eager in gradients(model, model).items():
        torch.testing.assert_close(eager, fused[name], atol=1e-4, rtol=1e-4, msg=name)
        if "increments" in name:
            assert fused[name].abs().max() > 0, f"{name} must be trained"


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")


@pytest.mark.slow  # test_hook_points compiles too, and compares the logits
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo asks for it at a graph break
@pytest.mark.parametrize(
    ("mode", "per_head", "backend"),
    [
        ("per_layer", True, "aot_eager"),
        ("shared", False, "aot_eager"),
        ("fixed", False, "aot_eager"),
        pytest.param("per_layer", False, "inductor", marks=needs_compiler),
    ],
)
def test_a_compiled_wrapper_agrees_on_logits_and_gradients(make_model, monkeypatch, mode, per_head, backend):
    torch.compiler.reset()
    monkeypatch.setattr(
        jaxtyping.config, "jaxtyping_disable", True
    )  # dynamo cannot trace the checks of shapes
    model = make_model(increments=mode, per_head=per_head)
    plain = gradients(model, model)
    for name, compiled in gradients(model, torch.compile(model, backend=backend)).items():
        torch.testing.assert_close(compiled, plain[name], atol=1e-4, rtol=1e-4, msg=name)
    torch.compiler.reset()


@pytest.mark.parametrize("mode", ["per_layer", "shared"])
def test_second_derivatives_exist_in_eager_mode(make_model, mode):
    model = make_model(increments=mode, attn_impl="eager")
    loss = model(some_tokens(6), return_type="loss")
    (first,) = torch.autograd.grad(loss, [model.blocks[1].attn.W_Q], create_graph=True)
    second = torch.autograd.grad(first.pow(2).sum(), list(model.parameters()), allow_unused=True)
    assert all(g is not None and torch.isfinite(g).all() for g in second)
    assert second[0].abs().max() > 0


@pytest.mark.parametrize("mode", ["per_layer", "shared"])
def test_freezing_every_layer_to_one_is_the_fixed_model_and_hugging_face_llama(make_model, mode):
    model = make_model(increments=mode)
    tokens = some_tokens(n_pos=20)
    frozen = model.run_with_hooks(
        tokens,
        fwd_hooks=[(lambda name: name.endswith("hook_increments"), lambda x, hook: torch.ones_like(x))],
    )
    assert (frozen - model(tokens)).abs().max() > 1e-2, "the randomised heads must matter"
    fixed = LRopeTransformer(LRopeConfig.from_dict(model.cfg.to_dict() | {"increments": "fixed"})).eval()
    fixed.load_state_dict({k: v for k, v in model.state_dict().items() if k in fixed.state_dict()})
    torch.testing.assert_close(frozen, fixed(tokens), atol=1e-4, rtol=1e-4)
    assert (fixed.ln_final.w - 1).abs().max() > 0.05, "gains of 1 would hide a forgotten gain"
    with torch.no_grad():
        torch.testing.assert_close(frozen, fixed.to_hf_llama()(tokens).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["per_layer", "shared"])
@pytest.mark.parametrize("per_head", [False, True])
def test_at_initialisation_learned_increments_are_ordinary_rope_bit_for_bit(mode, per_head):
    def build(increments: str) -> LRopeTransformer:
        return LRopeTransformer(
            LRopeConfig(3, 32, 4, n_ctx=64, increments=increments, per_head=per_head, seed=5)
        ).eval()

    tokens = some_tokens(n_pos=64)
    assert torch.equal(build(mode)(tokens), build("fixed")(tokens))


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_start_and_stop_at_every_layer_compose(make_model, mode, per_head):
    model, tokens = make_model(increments=mode, per_head=per_head, n_layers=3), some_tokens()
    logits, cache = model.run_with_cache(tokens)
    for start in range(4):
        resid = model(tokens, stop_at_layer=start)
        entering = cache["resid_pre", start] if start < 3 else cache["resid_post", 2]
        torch.testing.assert_close(resid, entering, atol=1e-5, rtol=1e-5)
        for stop in range(start, 4):
            middle = model(resid, start_at_layer=start, stop_at_layer=stop, tokens=tokens)
            end = model(middle, start_at_layer=stop, tokens=tokens)
            torch.testing.assert_close(end, logits, atol=1e-5, rtol=1e-5)
    negative = model(model(tokens, stop_at_layer=-1), start_at_layer=-1, tokens=tokens, return_type="loss")
    torch.testing.assert_close(negative, model(tokens, return_type="loss"), atol=1e-5, rtol=1e-5)
