"""HookedTransformer's methods: flags, names, directions, biases, scores, folding; copies and moves."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

import jaxtyping
import pytest
import torch
from transformer_lens import ActivationCache, patching
from transformer_lens.model_protocol import (
    TrainableTransformerLensModel,
    TransformerLensModel,
    TransformerLensModelWithWeights,
)

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.hooks import SilentHookError

MODES = [(mode, per_head) for mode in ("per_layer", "shared", "fixed") for per_head in (False, True)]


def some_tokens(n_pos: int = 14, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 257, (batch, n_pos), generator=torch.Generator().manual_seed(3))


def test_the_three_protocols_of_transformer_lens_hold(make_model):
    model = make_model()
    for protocol in (TransformerLensModel, TrainableTransformerLensModel, TransformerLensModelWithWeights):
        assert isinstance(model, protocol)


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("use_attn_result", ["attn.hook_result"]),
        ("use_split_qkv_input", ["hook_q_input", "hook_k_input", "hook_v_input", "attn.hook_q_input"]),
        ("use_hook_mlp_in", ["hook_mlp_in"]),
        ("use_attn_in", ["hook_attn_in", "attn.hook_attn_in"]),
    ],
)
def test_a_hook_whose_flag_is_off_is_refused_with_the_method_to_call(make_model, flag, names):
    model, tokens = make_model(), some_tokens()
    fired = []
    for name in names:
        hook = (f"blocks.1.{name}", lambda x, hook: fired.append(hook.name))
        getattr(model, f"set_{flag}")(False)
        for kind in (LRopeError, AssertionError):
            with pytest.raises(kind, match=rf"set_{flag}\(True\)"):
                model.add_hook(*hook)
            with pytest.raises(kind, match=rf"set_{flag}\(True\)"):
                model.run_with_hooks(tokens, fwd_hooks=[hook])
            with pytest.raises(kind, match=rf"set_{flag}\(True\)"):
                model.run_with_cache(tokens, names_filter=hook[0])
        getattr(model, f"set_{flag}")(True)
        model.run_with_hooks(tokens, fwd_hooks=[hook])
        assert len(fired) == 1, name
        fired.clear()


def test_forking_the_inputs_of_attention_fires_its_norm_once(make_model):
    model = make_model()
    plain = model(some_tokens())
    count: list[int] = []
    for fork in ("split_qkv_input", "attn_in"):
        count.clear()
        getattr(model, f"set_use_{fork}")(True)
        logits = model.run_with_hooks(
            some_tokens(), fwd_hooks=[("blocks.0.ln1.hook_scale", lambda x, hook: count.append(1))]
        )
        getattr(model, f"set_use_{fork}")(False)
        assert len(count) == 1
        torch.testing.assert_close(logits, plain, atol=1e-4, rtol=1e-4)


def test_a_fork_reaches_one_head_and_no_other_reader(make_model):
    model = make_model()
    model.set_use_split_qkv_input(True)

    def edit(x, hook):
        x[:, :, 1] = 0
        return x

    _, plain = model.run_with_cache(some_tokens())
    with model.hooks([("blocks.1.attn.hook_q_input", edit)]):
        _, edited = model.run_with_cache(some_tokens())
    changed = (edited["q", 1] - plain["q", 1]).abs().amax((0, 1, 3))
    assert changed[0] == 0 < changed[1]
    for name in ("k", "v", "increments", "resid_pre"):
        assert torch.equal(edited[name, 1], plain[name, 1]), name


def test_an_sdpa_model_refuses_hooks_on_scores_and_patterns_that_it_never_makes(make_model):
    model = make_model(attn_impl="sdpa")
    with pytest.raises(LRopeError, match='attn_impl = "auto"'):
        model.add_hook("blocks.0.attn.hook_pattern", lambda x, hook: x)
    assert "blocks.0.attn.hook_pattern" not in model.run_with_cache(some_tokens())[1]


def test_bridge_spellings_reach_the_same_points_and_are_cached_once(make_model):
    model, tokens = make_model(), some_tokens()
    _, cache = model.run_with_cache(tokens)
    assert isinstance(cache, ActivationCache)
    assert len(cache) == 53 and "blocks.0.hook_out" not in list(cache.keys())
    for bridge, name in {
        "blocks.0.hook_in": "blocks.0.hook_resid_pre",
        "blocks.1.hook_out": "blocks.1.hook_resid_post",
        "blocks.1.ln2.hook_in": "blocks.1.hook_resid_mid",
        "blocks.0.attn.hook_out": "blocks.0.hook_attn_out",
        "blocks.0.attn.q.hook_out": "blocks.0.attn.hook_q",
        "blocks.0.attn.o.hook_in": "blocks.0.attn.hook_z",
        "blocks.0.mlp.gate.hook_out": "blocks.0.mlp.hook_pre",
        "blocks.0.mlp.out.hook_in": "blocks.0.mlp.hook_post",
        "blocks.0.mlp.hook_out": "blocks.0.hook_mlp_out",
        "embed.hook_out": "hook_embed",
        "hook_unembed": "unembed.hook_out",
    }.items():
        assert cache[bridge] is cache[name]
        assert cache.apply_slice_to_batch_dim(0)[bridge].shape == cache[name][0].shape
        one = model.run_with_cache(tokens, names_filter=[bridge], return_cache_object=False)[1]
        assert list(one) == [name]
        torch.testing.assert_close(one[bridge], cache[name], atol=1e-4, rtol=1e-4)
        zeroed = [
            model.run_with_hooks(tokens, fwd_hooks=[(either, lambda x, hook: 0 * x)])
            for either in (bridge, name, lambda point, bridge=bridge: point == bridge)
        ]
        assert torch.equal(zeroed[0], zeroed[1]) and torch.equal(zeroed[0], zeroed[2])
        assert (zeroed[0] - model(tokens)).abs().max() > 1e-3
    _, gradients = model.run_with_cache(tokens, return_type="loss", incl_bwd=True)
    assert gradients["blocks.0.hook_out_grad"] is gradients["blocks.0.hook_resid_post_grad"]
    mlp = model.run_with_cache(tokens, names_filter=lambda name: "mlp." in name)[1]
    assert "blocks.0.hook_mlp_out" not in list(mlp.keys()), "a predicate means HookedTransformer's names"


def test_an_unknown_name_is_a_key_error_too_and_lasting_hooks_come_off(make_model):
    model = make_model()
    plain = model(some_tokens())
    with pytest.raises(KeyError, match="Did you mean"):
        model.add_perma_hook("blocks.0.hook_resid_prex", lambda x, hook: x)
    model.add_perma_hook("blocks.0.hook_out", lambda x, hook: 0 * x)
    assert list(model.list_hooks("blocks.0.hook_out")) == ["blocks.0.hook_resid_post"]
    model.reset_hooks()
    assert not torch.equal(model(some_tokens()), plain)
    model.reset_hooks(including_permanent=True)
    assert torch.equal(model(some_tokens()), plain) and not model.is_watched


def test_directions_biases_labels_and_parameters(make_model):
    model = make_model(use_biases=True, tie_embeddings=False)
    assert torch.equal(model.tokens_to_residual_directions("a"), model.W_U[:, 97])
    assert torch.equal(model.tokens_to_residual_directions(97), model.W_U[:, 97])
    tokens = some_tokens()
    assert torch.equal(model.tokens_to_residual_directions(tokens)[1, 2], model.W_U[:, tokens[1, 2]])
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
    for mode in ("Q", "K", "V"):
        scores = model.all_composition_scores(mode)
        assert scores.shape == (2, 2, 2, 2)
        assert not scores[1].any() and not scores[0, :, 0].any()
        ov = model.W_V[0, 1] @ model.W_O[0, 1]
        qk = model.W_Q[1, 0] @ model.W_K[1, 0].T
        right = {"Q": qk, "K": qk.T, "V": model.W_V[1, 0] @ model.W_O[1, 0]}[mode]
        torch.testing.assert_close(scores[0, 1, 1, 0], (ov @ right).norm() / ov.norm() / right.norm())
    with pytest.raises(LRopeError, match="composition mode"):
        model.all_composition_scores("X")


def test_input_to_embed_starts_layer_zero_in_every_mode(make_model):
    for mode, per_head in MODES:
        model = make_model(increments=mode, per_head=per_head)
        residual, tokens, shortformer, mask = model.input_to_embed("some text")
        assert shortformer is None and mask is None
        torch.testing.assert_close(
            model(residual, start_at_layer=0), model("some text"), atol=1e-5, rtol=1e-5
        )
        loss = model(residual, start_at_layer=0, tokens=tokens, return_type="loss")
        torch.testing.assert_close(loss, model("some text", return_type="loss"), atol=1e-5, rtol=1e-5)


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
    with pytest.raises(LRopeError, match="residual stream"):
        model(tokens, start_at_layer=1)


def test_every_form_of_input_and_of_output(make_model):
    model = make_model()
    row = model.to_tokens("abc")
    for same in ("abc", ["abc"], row, row[0]):
        assert torch.equal(model(same), model(row))
    both = model(row, return_type="both")
    assert torch.equal(both.logits, both[0]) and both.loss.shape == ()
    losses = model(row, return_type="loss", loss_per_token=True)
    expected = -model(row).log_softmax(-1)[0, :-1].gather(-1, row[0, 1:, None])[:, 0]
    torch.testing.assert_close(losses[0], expected)
    torch.testing.assert_close(both.loss, losses.mean())
    assert model(row, return_type=None) is None
    assert model("abc", prepend_bos=False).shape == (1, 3, 257)
    _, cache = model.run_with_cache(row[0], remove_batch_dim=True)
    assert cache["increments", 0].shape == (4,)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
@pytest.mark.parametrize("tied", [True, False])
def test_folding_the_gains_changes_no_log_probability_and_no_increment(
    make_model, tmp_path, mode, per_head, tied
):
    model = make_model(increments=mode, per_head=per_head, tie_embeddings=tied, use_biases=not tied)
    logits, cache = model.run_with_cache(some_tokens())
    names = [name for name, _ in model.named_parameters()]
    folded = copy.deepcopy(model).fold_ln_()
    assert folded.cfg.normalization_type == "RMSPre" and not folded.cfg.tie_embeddings
    folded.save_pretrained(tmp_path)
    loaded = LRopeTransformer.from_pretrained(tmp_path)
    for other in (folded, loaded, loaded.fold_ln_()):
        new, after = other.run_with_cache(some_tokens())
        torch.testing.assert_close(new.log_softmax(-1), logits.log_softmax(-1), atol=1e-5, rtol=1e-5)
        for layer in range(2):
            torch.testing.assert_close(
                after["increments", layer], cache["increments", layer], atol=1e-5, rtol=0
            )
    assert not any(name.endswith(("ln1.w", "ln2.w", "ln_final.w")) for name, _ in folded.named_parameters())
    assert [name for name, _ in model.named_parameters()] == names, "the original is as it was"


def test_after_folding_direct_logit_attribution_adds_up_to_the_logits(make_model):
    model = make_model().fold_ln_()
    tokens = some_tokens(batch=1)
    model.set_use_attn_result(True)
    logits, cache = model.run_with_cache(tokens)
    stack, labels = cache.get_full_resid_decomposition(expand_neurons=True, apply_ln=True, return_labels=True)
    assert len(labels) == len(stack) == 1 + 2 * (2 + 32) + 1
    total = torch.einsum("c b p m, b p m -> b p", stack, model.tokens_to_residual_directions(tokens))
    torch.testing.assert_close(total, logits.gather(-1, tokens[..., None])[..., 0], atol=1e-5, rtol=1e-5)
    heads = cache.stack_head_results(layer=2)
    assert heads.shape == (4, 1, 14, 16)
    torch.testing.assert_close(heads[2:].sum(0) + model.b_O[1], cache["attn_out", 1], atol=1e-5, rtol=1e-5)


def _logits_in_another_process(pickled: bytes, tokens: list, queue) -> None:
    torch.set_num_threads(1)
    queue.put(pickle.loads(pickled)(torch.tensor(tokens)).tolist())


def test_copies_and_pickles_are_the_same_model_and_share_nothing(make_model):
    for mode, per_head in MODES:
        model = make_model(increments=mode, per_head=per_head)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(some_tokens()), model(some_tokens()))
            assert other.hook_dict["blocks.0.hook_out"] is other.blocks[0].hook_resid_post
            assert other.blocks[1].cfg is other.cfg is not model.cfg
            assert torch.equal(other.W_U, other.W_E.T), "still tied"
            torch.nn.init.zeros_(other.embed.W_E)
            assert not other.W_U.any() and model.W_E.any()
            assert len(other.run_with_cache(some_tokens())[1]) == len(model.run_with_cache(some_tokens())[1])


@pytest.mark.slow
def test_a_model_travels_to_another_process(make_model):
    model, context = make_model(), multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (pickle.dumps(model), some_tokens().tolist(), queue)
    process = context.Process(target=_logits_in_another_process, args=arguments)
    process.start()
    assert torch.allclose(torch.tensor(queue.get(timeout=300)), model(some_tokens()))
    process.join()


@pytest.mark.parametrize("change", ["to", "bfloat16", "double", "half"])
def test_a_change_of_dtype_spares_the_heads_and_is_written_into_the_configuration(make_model, change):
    model = make_model()
    wanted = {
        "to": torch.bfloat16,
        "bfloat16": torch.bfloat16,
        "double": torch.float64,
        "half": torch.float16,
    }
    model.to(torch.bfloat16) if change == "to" else getattr(model, change)()
    assert model.cfg.dtype == model.W_E.dtype == wanted[change]
    assert {parameter.dtype for _, parameter in model.increment_parameters()} == {torch.float32}
    logits, cache = model.run_with_cache(some_tokens())
    assert logits.dtype == wanted[change] and cache["increments", 1].dtype == torch.float32
    assert cache["positions", 1].dtype == torch.float64


def test_a_move_of_device_is_written_into_the_configuration(make_model):
    model = make_model()
    assert model.to("meta").cfg.device == "meta"
    assert make_model().cpu().cfg.device == "cpu"


def test_patching_by_increments_works_untouched(make_model):
    model = make_model()
    clean, corrupted = some_tokens(batch=1), some_tokens(batch=2)[1:]
    _, cache = model.run_with_cache(clean)
    grid = patching.generic_activation_patch(
        model,
        corrupted,
        cache,
        lambda logits: logits[0, -1, 5],
        patching.layer_pos_patch_setter,
        "increments",
        index_axis_names=("layer", "pos"),
    )
    assert grid.shape == (2, 14) and grid[:, 0].std() < 1e-4 < grid.std()


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(LRopeError, match="Did you mean 'RMS"):
        LRopeConfig(2, 16, 2, normalization_type="RMSpre")


def test_a_cache_contains_what_it_answers_to(make_model):
    _, cache = make_model().run_with_cache(some_tokens())
    for key in (
        "blocks.0.hook_resid_post",
        "blocks.0.hook_out",
        "embed",
        "pattern1",
        ("increments", 0),
        ("positions", -1),
        ("scale", 1, "ln2"),
    ):
        assert key in cache and isinstance(cache[key], torch.Tensor), key
    for key in ("blocks.0.hook_result", "blocks.7.hook_out", ("increments", 2), ("result", 0), "resid", 0):
        assert key not in cache, key
    assert ("increments", 0) in cache.apply_slice_to_batch_dim(0)


def test_no_point_asked_for_by_name_is_left_out_of_a_cache_silently(make_model):
    model, live, silent = make_model(), "blocks.0.hook_resid_pre", "blocks.0.attn.hook_result"
    with pytest.raises(SilentHookError, match=rf"{silent} would not fire.*set_use_attn_result\(True\)"):
        model.run_with_cache(some_tokens(), names_filter=[live, silent])
    with pytest.raises(SilentHookError, match=silent):
        model.add_caching_hooks([live, silent])
    by_predicate = model.run_with_cache(some_tokens(), names_filter=lambda name: name in (live, silent))[1]
    assert list(by_predicate.keys()) == [live]
    model.set_use_attn_result(True)
    assert len(model.run_with_cache(some_tokens(), names_filter=[live, silent])[1]) == 2


def test_tokens_of_several_rows_have_no_one_list_of_strings_and_no_one_position(make_model):
    model, row = make_model(), torch.tensor([[97, 98, 97]])
    assert model.to_str_tokens(row) == model.to_str_tokens(row[0]) == ["a", "b", "a"]
    assert model.get_token_position("a", row, mode="last") == 2
    rows = torch.cat([row, row])
    with pytest.raises(LRopeError, match="one row"):
        model.to_str_tokens(rows)
    with pytest.raises(LRopeError, match="one row"):
        model.get_token_position("a", rows)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.uint16])
def test_token_ids_may_be_integers_of_any_kind(make_model, dtype):
    model, tokens = make_model(), some_tokens() % 256
    wanted = model(tokens, return_type="both")
    both = model(tokens.to(dtype), return_type="both")
    assert torch.equal(both.logits, wanted.logits) and both.loss == wanted.loss
    assert model.loss_fn(wanted.logits, tokens.to(dtype)) == wanted.loss
    resid = model(tokens.to(dtype), stop_at_layer=1)
    assert model(resid, start_at_layer=1, tokens=tokens.to(dtype), return_type="loss") == wanted.loss


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model("abc", stop_at_layer=3), r"stop_at_layer must lie in -2\.\.2; got 3"),
        (lambda model: model("abc", stop_at_layer=-3), r"stop_at_layer must lie in -2\.\.2; got -3"),
        (lambda model: model(torch.zeros(1, 4, 16), start_at_layer=3), "start_at_layer must lie"),
        (lambda model: model("abc", return_type="los", stop_at_layer=1), "return_type"),
        (lambda model: model(torch.zeros(1, 4, 16), start_at_layer=1), "give tokens= with start_at_layer"),
        (lambda model: model("x" * 33), r"n_ctx=32 cannot hold 34 tokens.*from_pretrained"),
        (lambda model: model(torch.tensor([[1, 300]])), r"token ids must lie in 0\.\.256"),
        (lambda model: model(torch.randn(1, 4, 16)), "for a residual give start_at_layer"),
        (lambda model: model([]), "list of texts"),
        (lambda model: model([97, 98]), r"torch\.tensor\(ids\)"),
        (lambda model: model.generate([], verbose=False), "list of texts"),
        (lambda model: model("", prepend_bos=False), "leave prepend_bos on"),
        (lambda model: model(torch.zeros(0, 4, dtype=torch.long)), "not empty"),
        (lambda model: model(torch.ones(1, 4, dtype=torch.bool)), "token ids"),
        (
            lambda model: model(torch.zeros(2, 4, 16), start_at_layer=1, tokens=some_tokens(5)),
            r"those of the residual, \[2, 4\]; got \[2, 5\]",
        ),
        (
            lambda model: model.loss_fn(torch.zeros(2, 7, 257), torch.zeros(3, 5).long()),
            r"\[2, 7\]; got \[3, 5\]",
        ),
    ],
)
def test_impossible_requests_are_refused_in_words(make_model, monkeypatch, call, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the user has no type checker
    with pytest.raises(LRopeError, match=message):
        call(make_model(increments="shared"))


@pytest.mark.parametrize("mode", ["per_layer", "shared"])
def test_assigned_weights_leave_the_increment_heads_in_float32(make_model, mode):
    model, other = make_model(increments=mode), make_model(increments=mode, seed=1)
    state = {name: value.bfloat16() for name, value in other.state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert model.cfg.dtype == model.W_E.dtype == torch.bfloat16
    for name, parameter in model.increment_parameters():
        assert parameter.dtype == torch.float32 and parameter.requires_grad
        assert torch.equal(parameter, state[name].float()), name
    logits, cache = model.run_with_cache(some_tokens())
    assert logits.dtype == torch.bfloat16 and cache["increments", 1].dtype == torch.float32


def test_tokens_can_be_read_and_written_where_a_flag_asks_for_it(make_model):
    model, tokens, others = make_model(), some_tokens(), some_tokens() // 2
    with pytest.raises(SilentHookError, match="set_use_hook_tokens"):
        model.add_hook("hook_tokens", lambda x, hook: None)
    model.set_use_hook_tokens(True)
    given = tokens.clone()

    def swap(x, hook):
        x[:] = others

    swapped = model.run_with_hooks(given, return_type="both", fwd_hooks=[("hook_tokens", swap)])
    wanted = model(others, return_type="both")
    assert torch.equal(swapped.logits, wanted.logits)
    assert torch.equal(swapped.loss, wanted.loss)
    assert torch.equal(given, tokens)
    assert torch.equal(model.run_with_cache(tokens)[1]["hook_tokens"], tokens)
    for spoilt in (lambda x, hook: x + 300, lambda x, hook: x[:, 1:], lambda x, hook: x.float()):
        with pytest.raises(LRopeError):
            model.run_with_hooks(tokens, fwd_hooks=[("hook_tokens", spoilt)])


@pytest.mark.parametrize("is_tied", [True, False])
def test_processed_weights_give_the_same_log_probabilities_and_centred_logits(make_model, is_tied):
    model = make_model(tie_embeddings=is_tied, use_biases=not is_tied)
    plain = model(some_tokens()).log_softmax(-1)
    logits = model.process_weights_(center_unembed=True)(some_tokens())
    assert model.cfg.normalization_type == "RMSPre"
    torch.testing.assert_close(logits.log_softmax(-1), plain, atol=1e-4, rtol=1e-4)
    assert logits.mean(-1).abs().max() < 1e-4
    with pytest.raises(LRopeError, match="center_writing_weights"):
        model.process_weights_(center_writing_weights=True)
    for block in model.blocks:
        if not is_tied:
            block.attn.b_V.data.normal_(generator=torch.Generator().manual_seed(1))
    plain = model(some_tokens())
    torch.testing.assert_close(
        model.process_weights_(fold_value_biases=True)(some_tokens()), plain, atol=1e-4, rtol=1e-4
    )
    assert all(not block.attn.b_V.any() for block in model.blocks)
