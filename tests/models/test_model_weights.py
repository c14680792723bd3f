"""Weights: their names, sums and scores, folding, dtypes, copies, and their way to other libraries."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

import pytest
import torch

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeConfig, LRopeTransformer

MODES = [("per_layer", False), ("per_layer", True), ("shared", False), ("fixed", True)]
TOKENS = torch.randint(0, 257, (2, 14), generator=torch.Generator().manual_seed(3))
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def test_directions_biases_labels_and_parameters(make_model):
    model = make_model(use_biases=True, tie_embeddings=False)
    for a in ("a", 97, torch.tensor(97)):
        assert torch.equal(model.tokens_to_residual_directions(a), model.W_U[:, 97])
    assert torch.equal(model.tokens_to_residual_directions(TOKENS)[1, 2], model.W_U[:, TOKENS[1, 2]])
    first = model.b_O[0] + model.b_out[0]
    torch.testing.assert_close(model.accumulated_bias(1), first)
    torch.testing.assert_close(model.accumulated_bias(1, mlp_input=True), first + model.b_O[1])
    torch.testing.assert_close(model.accumulated_bias(2, include_mlp_biases=False), model.b_O.sum(0))
    with pytest.raises(LRopeError, match="beyond"):
        model.accumulated_bias(2, mlp_input=True)
    assert model.all_head_labels == ["L0H0", "L0H1", "L1H0", "L1H1"] == model.all_head_labels()
    tied = make_model().tl_parameters()
    assert torch.equal(tied["unembed.W_U"], tied["embed.W_E"].T) and not tied["blocks.0.attn.b_Q"].any()
    assert make_model(use_biases=True).b_in.shape == make_model().b_in.shape == (2, 32)


def test_composition_scores_by_hand(make_model):
    model = make_model()
    ov = model.W_V[0, 1] @ model.W_O[0, 1]
    qk = model.W_Q[1, 0] @ model.W_K[1, 0].T
    for mode, right in (("Q", qk), ("K", qk.T), ("V", model.W_V[1, 0] @ model.W_O[1, 0])):
        scores = model.all_composition_scores(mode)
        assert scores.shape == (2, 2, 2, 2)
        assert not scores[1].any() and not scores[0, :, 0].any()
        torch.testing.assert_close(scores[0, 1, 1, 0], (ov @ right).norm() / ov.norm() / right.norm())
    with pytest.raises(LRopeError, match="composition mode"):
        model.all_composition_scores("X")


def test_the_parameter_counts_of_the_reference_shape():
    def count(**kwargs):
        return LRopeTransformer(LRopeConfig(6, 256, 8, 32, 1024, **kwargs)).n_params_total

    fixed = count(increments="fixed")
    assert fixed == 6_360_576
    assert count(increments="shared") - fixed == 16_769
    assert count(increments="per_layer") - fixed == 6 * 16_769


def test_same_seed_gives_the_shared_weights_of_every_arm():
    arms = [LRopeTransformer(LRopeConfig(2, 32, 2, seed=7, increments=mode)) for mode in ("fixed", "shared")]
    for name, weight in arms[0].named_parameters():
        assert torch.equal(weight, dict(arms[1].named_parameters())[name]), name
    into_residual, other = arms[0].W_O.std(), arms[0].W_Q.std()
    assert abs(other - 0.02) < 1e-3 and abs(into_residual - 0.01) < 1e-3, "divided by sqrt(2 n_layers)"
    assert not torch.equal(LRopeTransformer(LRopeConfig(2, 32, 2, seed=8)).W_E, arms[0].W_E)


@pytest.mark.parametrize(("mode", "tied"), [("per_layer", True), ("shared", False), ("fixed", True)])
def test_folding_the_gains_changes_no_log_probability_and_no_increment(make_model, tmp_path, mode, tied):
    model = make_model(increments=mode, tie_embeddings=tied, use_biases=not tied)
    logits, cache = model.run_with_cache(TOKENS)
    names = [name for name, _ in model.named_parameters()]
    folded = copy.deepcopy(model).fold_ln_()
    assert folded.cfg.normalization_type == "RMSPre" and not folded.cfg.tie_embeddings
    folded.save_pretrained(tmp_path)
    loaded = LRopeTransformer.from_pretrained(tmp_path)
    for other in (folded, loaded, loaded.fold_ln_()):
        new, after = other.run_with_cache(TOKENS)
        torch.testing.assert_close(new.log_softmax(-1), logits.log_softmax(-1), **CLOSE)
        stacks = after.stack_activation("increments"), cache.stack_activation("increments")
        torch.testing.assert_close(*stacks, atol=1e-5, rtol=0)
    assert not any(name.endswith(("ln1.w", "ln2.w", "ln_final.w")) for name, _ in folded.named_parameters())
    assert [name for name, _ in model.named_parameters()] == names, "the original is as it was"


@pytest.mark.parametrize("is_tied", [True, False])
def test_processed_weights_give_the_same_log_probabilities_and_centred_logits(make_model, is_tied):
    model = make_model(tie_embeddings=is_tied, use_biases=not is_tied)
    plain = model(TOKENS).log_softmax(-1)
    logits = model.process_weights_(center_unembed=True)(TOKENS)
    assert model.cfg.normalization_type == "RMSPre"
    torch.testing.assert_close(logits.log_softmax(-1), plain, atol=1e-4, rtol=1e-4)
    assert logits.mean(-1).abs().max() < 1e-4
    for refused in ("center_writing_weights", "refactor_factored_attn_matrices"):
        with pytest.raises(LRopeError, match=refused):
            model.process_weights_(**{refused: True})
    for block in model.blocks:
        if not is_tied:
            block.attn.b_V.data.normal_(generator=torch.Generator().manual_seed(1))
    plain = model(TOKENS)
    folded = model.process_weights_(fold_value_biases=True)(TOKENS)
    torch.testing.assert_close(folded, plain, atol=1e-4, rtol=1e-4)
    assert all(not block.attn.b_V.any() for block in model.blocks)


def _logits_in_another_process(pickled: bytes, tokens: list, queue) -> None:
    torch.set_num_threads(1)
    queue.put(pickle.loads(pickled)(torch.tensor(tokens)).tolist())


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_copies_and_pickles_are_the_same_model_and_share_nothing(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    model.run_with_hooks(TOKENS, fwd_hooks=[("blocks.0.hook_increments", lambda old, hook: old)])
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(TOKENS), model(TOKENS))
        assert other.hook_dict["blocks.0.hook_out"] is other.blocks[0].hook_resid_post
        assert other.blocks[1].cfg is other.cfg is not model.cfg
        assert torch.equal(other.W_U, other.W_E.T), "still tied"
        torch.nn.init.zeros_(other.embed.W_E)
        assert not other.W_U.any() and model.W_E.any()
        assert len(other.run_with_cache(TOKENS)[1]) == len(model.run_with_cache(TOKENS)[1])


@pytest.mark.slow
def test_a_model_travels_to_another_process(make_model):
    model, context = make_model(), multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (pickle.dumps(model), TOKENS.tolist(), queue)
    process = context.Process(target=_logits_in_another_process, args=arguments)
    process.start()
    assert torch.allclose(torch.tensor(queue.get(timeout=300)), model(TOKENS))
    process.join()


@pytest.mark.parametrize("mode", ["per_layer", "shared"])
@pytest.mark.parametrize("how", ["to", "double", "half", "assigned"])
def test_a_change_of_dtype_spares_the_heads_and_is_written_into_the_configuration(make_model, mode, how):
    model, wanted = make_model(increments=mode), {"double": torch.float64, "half": torch.float16}
    dtype = wanted.get(how, torch.bfloat16)
    if how == "assigned":
        other = make_model(increments=mode, seed=1)
        state = {name: value.bfloat16() for name, value in other.state_dict().items()}
        model.load_state_dict(state, assign=True)
        for name, parameter in model.increment_parameters():
            assert parameter.requires_grad and torch.equal(parameter, state[name].float()), name
    else:
        model.to(dtype) if how == "to" else getattr(model, how)()
    assert model.cfg.dtype == model.W_E.dtype == dtype
    assert {parameter.dtype for _, parameter in model.increment_parameters()} == {torch.float32}
    logits, cache = model.run_with_cache(TOKENS)
    assert logits.dtype == dtype and cache["increments", 1].dtype == torch.float32
    assert cache["positions", 1].dtype == torch.float64
    assert model.to("meta").cfg.device == "meta"


def hooked_transformer_state_dict(model: LRopeTransformer) -> dict[str, torch.Tensor]:
    """What HookedTransformer 3.9 saves for this shape: its parameters, and its buffers."""
    cfg, state = model.cfg, {}
    for name, parameter in model.named_parameters():
        if "increments" not in name:
            state[name] = parameter.detach().clone()
    for layer in range(cfg.n_layers):
        prefix = f"blocks.{layer}.attn."
        state[prefix + "mask"] = torch.ones(cfg.n_ctx, cfg.n_ctx, dtype=torch.bool).tril()
        state[prefix + "IGNORE"] = torch.tensor(-torch.inf)
        state[prefix + "rotary_sin"] = state[prefix + "rotary_cos"] = torch.zeros(cfg.n_ctx, cfg.d_head)
    return state


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_a_hooked_transformers_state_dict_loads_with_only_the_heads_missing(make_model, mode, per_head):
    source = make_model(increments="fixed", use_biases=True, tie_embeddings=False, seed=5)
    model = make_model(increments=mode, per_head=per_head, use_biases=True, tie_embeddings=False)
    result = model.load_state_dict(hooked_transformer_state_dict(source), strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys == [name for name, _ in model.increment_parameters()]
    frozen = [(lambda name: name.endswith("hook_increments"), lambda x, hook: torch.ones_like(x))]
    expected, cache = source.run_with_cache(TOKENS)
    with model.hooks(frozen):
        logits, ours = model.run_with_cache(TOKENS)
    torch.testing.assert_close(logits, expected, **CLOSE)
    for name in cache:
        if not name.endswith(("increments", "positions")):
            torch.testing.assert_close(ours[name], cache[name], **CLOSE)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        model.load_state_dict(model.state_dict() | {"W_X": torch.zeros(1)})


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("folded", [True, False])
def test_a_fixed_model_exports_to_hugging_face_llama_with_equal_logits(make_model, biases, folded):
    model = make_model(increments="fixed", use_biases=biases, tie_embeddings=not biases, act_fn="gelu_new")
    if biases:
        with pytest.raises(LRopeError, match="b_U"):
            model.to_hf_llama()
        torch.nn.init.zeros_(model.unembed.b_U)
    model = model.fold_ln_() if folded else model
    before = torch.random.get_rng_state()
    llama = model.to_hf_llama()
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.no_grad():
        torch.testing.assert_close(llama(TOKENS).logits, model(TOKENS), atol=1e-4, rtol=1e-4)
    assert not llama.training
    with pytest.raises(LRopeError, match="only a model with increments='fixed'"):
        make_model().to_hf_llama()
