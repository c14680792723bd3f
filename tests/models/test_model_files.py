"""Saving, loading, configuration, dtypes, control models."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.controls import randomised_control

TOKENS = torch.arange(3, 15).view(2, 6) * 7
READ_BY_TOOLS = (
    "n_layers n_heads d_model d_head d_mlp d_vocab d_vocab_out n_ctx n_key_value_heads device dtype act_fn "
    "eps normalization_type final_rms attn_only gated_mlp default_prepend_bos rotary_dim rotary_base "
    "model_name positional_embedding_type parallel_attn_mlp use_attn_result use_split_qkv_input "
    "use_hook_mlp_in use_attn_in"
)


@pytest.mark.parametrize(("mode", "tied"), [("per_layer", True), ("shared", False), ("fixed", True)])
def test_a_saved_model_loads_bit_for_bit_in_eval_mode(make_model, tmp_path, mode, tied):
    model = make_model(increments=mode, tie_embeddings=tied, use_biases=not tied, per_head=True)
    model.save_pretrained(tmp_path / "saved", {"training": {"note": 1}})
    loaded = LRopeTransformer.from_pretrained(tmp_path / "saved")
    tokens = torch.arange(20)[None]
    assert torch.equal(model(tokens), loaded(tokens))
    assert not loaded.training
    assert loaded.cfg.to_dict() == model.cfg.to_dict()
    assert json.loads((tmp_path / "saved/config.json").read_text())["training"] == {"note": 1}
    long = LRopeTransformer.from_pretrained(tmp_path / "saved", n_ctx=100)
    assert long("x" * 90).shape == (1, 91, 257), "the limit needs no new weight"


def test_folders_that_are_no_model_say_why(make_model, tmp_path):
    with pytest.raises(LRopeError, match="no folder"):
        LRopeTransformer.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(LRopeError, match=r"no config\.json"):
        LRopeTransformer.from_pretrained(tmp_path)
    make_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"format": 99}, "format 99"),
        ({"model": config["model"] | {"n_layer": 3}}, "Did you mean 'n_layers'"),
        ({"model": config["model"] | {"n_layers": 3}}, "does not fit"),
        ({"model": config["model"] | {"d_mlp": 8}}, "shape"),
        ({"model": {"n_layers": 2}}, "lacks model.d_model"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(LRopeError, match=message):
            LRopeTransformer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(LRopeError, match="not valid JSON"):
        LRopeTransformer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_head": 7}, "even"),
        ({"max_increment": 1.0}, "above 1"),
        ({"n_layers": 0}, "at least 1"),
        ({"n_layers": 10**9}, "n_layers must be at most"),
        ({"eps": math.nan}, "eps"),
        ({"eps": -1e-5}, "eps must be at least 0"),
        ({"n_ctx": 0}, "n_ctx must be at least 1"),
        ({"max_increment": math.inf}, "max_increment"),
        ({"rope_base": 1.0}, "rope_base"),
        ({"seed": 10**30}, "seed"),
        ({"increments": "per_layers"}, "Did you mean 'per_layer'"),
        ({"attn_impl": "flash"}, "attn_impl"),
        ({"act_fn": "swish"}, "act_fn"),
        ({"dtype": "float8"}, "dtype"),
        ({"normalization_type": "RMSpre"}, "Did you mean 'RMS"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(LRopeError, match=message):
        LRopeConfig(**({"n_layers": 2, "d_model": 16, "n_heads": 2} | change))


def test_the_configuration_holds_what_transformer_lens_tools_read():
    cfg = LRopeConfig(2, 16, 2, rope_base=500.5)
    for name in READ_BY_TOOLS.split():
        assert hasattr(cfg, name), name
    assert cfg.rotary_base == 500.5
    assert LRopeConfig.from_dict(cfg.to_dict()).to_dict() == cfg.to_dict()


@pytest.mark.parametrize(("mode", "per_head"), [("per_layer", True), ("shared", False)])
@pytest.mark.parametrize("trunk", ["untrained", "trained"])
def test_control_models_move_as_much_as_the_trained_one_and_are_not_it(make_model, mode, per_head, trunk):
    model = make_model(increments=mode, per_head=per_head)
    tokens = torch.randint(0, 256, (8, 32), generator=torch.Generator().manual_seed(0))
    hook = "shared_increments.hook_increments_pre" if mode == "shared" else "blocks.1.hook_increments_pre"
    spreads, values = [], []
    for other in (model, *(randomised_control(model, tokens, seed, trunk) for seed in (0, 1))):
        _, cache = other.run_with_cache(tokens, names_filter=hook)
        read = cache[hook][:, 1:]
        spreads.append(torch.stack([read.std(dim=(0, 1)), read.mean(dim=(0, 1))]))
        values.append(read.reshape(-1))
    torch.testing.assert_close(spreads[1], spreads[0], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(spreads[2], spreads[0], atol=1e-3, rtol=1e-3)
    assert torch.corrcoef(torch.stack(values)).triu(1).abs().max() < 0.95
    same = randomised_control(model, tokens, 0, trunk)
    assert torch.equal(same.W_E, model.W_E) == (trunk == "trained")


def test_a_model_at_initialisation_has_no_spread_to_match_and_a_fixed_one_no_head(make_model):
    tokens = torch.arange(30)[None]
    with pytest.raises(LRopeError, match="constant"):
        randomised_control(LRopeTransformer(LRopeConfig(2, 16, 2, seed=0)), tokens, 0)
    with pytest.raises(LRopeError, match="fixed"):
        randomised_control(make_model(increments="fixed"), tokens, 0)


@pytest.mark.parametrize(("mode", "use_biases"), [("per_layer", False), ("shared", True)])
def test_a_model_is_loaded_in_another_dtype_and_folded(make_model, tmp_path, mode, use_biases):
    model = make_model(increments=mode, use_biases=use_biases)
    model.save_pretrained(tmp_path)
    tokens = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(0))
    wanted = model(tokens).log_softmax(-1)
    folded = LRopeTransformer.from_pretrained(tmp_path, fold_ln=True)
    assert folded.cfg.normalization_type == "RMSPre" and not folded.cfg.tie_embeddings
    torch.testing.assert_close(folded(tokens).log_softmax(-1), wanted, atol=1e-4, rtol=1e-4)
    for dtype in ("float64", torch.bfloat16, torch.float16):
        loaded = LRopeTransformer.from_pretrained(tmp_path, dtype=dtype, fold_ln=True)
        name = str(dtype).removeprefix("torch.")
        assert loaded.W_E.dtype == loaded.cfg.dtype == getattr(torch, name)
        by_hand = copy.deepcopy(folded).to(getattr(torch, name))
        for (parameter, weights), other in zip(loaded.named_parameters(), by_hand.parameters(), strict=True):
            assert torch.equal(weights, other) and weights.dtype == other.dtype, parameter
            assert weights.dtype == torch.float32 or "increments" not in parameter
    assert torch.equal(LRopeTransformer.from_pretrained(tmp_path, dtype="float32")(tokens), model(tokens))
    assert LRopeTransformer.from_pretrained(tmp_path).cfg.normalization_type == "RMS"
    for dtype in ("float8", torch.int8):
        with pytest.raises(LRopeError, match="unknown dtype"):
            LRopeTransformer.from_pretrained(tmp_path, dtype=dtype)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def everything(model: LRopeTransformer) -> dict[str, torch.Tensor]:
    """Weights, what passes every hook, the loss, and the gradients of a training step."""
    _, cache = model.eval().run_with_cache(TOKENS, return_cache_object=False)
    loss = model.train()(TOKENS, return_type="loss")
    loss.backward()
    weights = dict(model.named_parameters())
    gradients = {f"{name} gradient": one.grad for name, one in weights.items() if one.grad is not None}
    return weights | gradients | dict(cache) | {"loss": loss}


@pytest.mark.parametrize(
    ("mode", "dtype"), [("per_layer", torch.bfloat16), ("shared", torch.float64), ("fixed", torch.bfloat16)]
)
def test_torchs_default_dtype_changes_neither_a_new_model_nor_a_loaded_one(tmp_path, make_model, mode, dtype):
    cfg = {"increments": mode, "n_layers": 2, "d_model": 16, "n_heads": 2, "use_biases": True, "seed": 3}
    make_model(increments=mode).save_pretrained(tmp_path)
    makers = [
        lambda: LRopeTransformer(LRopeConfig(**cfg)),
        lambda: LRopeTransformer.from_pretrained(tmp_path),
    ]
    if mode != "fixed":
        makers.append(lambda: randomised_control(makers[1](), TOKENS, seed=1))
    for make in makers:
        usual = everything(make())
        with default_dtype(dtype):
            unusual = everything(make())
        assert {name: one.dtype for name, one in unusual.items()} == {
            name: one.dtype for name, one in usual.items()
        }
        assert [name for name in usual if not torch.equal(usual[name], unusual[name])] == []


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
def test_a_float64_model_is_one_up_to_its_loss_and_its_increments_stay_float32(make_model, mode):
    model = make_model(increments=mode).double()
    logits, cache = model.run_with_cache(TOKENS)
    loss = model(TOKENS, return_type="loss")
    by_hand = F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
    assert loss.dtype == logits.dtype == torch.float64
    torch.testing.assert_close(loss, by_hand, atol=1e-14, rtol=1e-14)
    assert model(TOKENS, return_type="both", loss_per_token=True).loss.dtype == torch.float64
    assert cache["increments", 1].dtype == torch.float32
    single = make_model(increments=mode)
    torch.testing.assert_close(loss.float(), single(TOKENS, return_type="loss"), atol=1e-4, rtol=1e-4)
    assert model.bfloat16()(TOKENS, return_type="loss").dtype == torch.float32
