"""Saving, loading, configuration, text methods, control models."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.controls import randomised_control

READ_BY_TOOLS = [
    "n_layers",
    "n_heads",
    "d_model",
    "d_head",
    "d_mlp",
    "d_vocab",
    "d_vocab_out",
    "n_ctx",
    "n_key_value_heads",
    "device",
    "dtype",
    "normalization_type",
    "final_rms",
    "attn_only",
    "gated_mlp",
    "act_fn",
    "eps",
    "default_prepend_bos",
    "rotary_dim",
    "rotary_base",
    "positional_embedding_type",
    "model_name",
    "parallel_attn_mlp",
    "use_attn_result",
    "use_split_qkv_input",
    "use_hook_mlp_in",
    "use_attn_in",
]


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_loads_bit_for_bit_in_eval_mode(make_model, tmp_path, mode, tied):
    model = make_model(increments=mode, tie_embeddings=tied, use_biases=not tied, per_head=True)
    model.save_pretrained(tmp_path / "saved", {"training": {"note": 1}})
    loaded = LRopeTransformer.from_pretrained(tmp_path / "saved")
    tokens = torch.arange(20)[None]
    assert torch.equal(model(tokens), loaded(tokens))
    assert not loaded.training
    assert loaded.cfg.to_dict() == model.cfg.to_dict()
    assert json.loads((tmp_path / "saved/config.json").read_text())["training"] == {"note": 1}


def test_the_limit_on_the_length_can_be_raised_without_new_weights(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    long = LRopeTransformer.from_pretrained(tmp_path, n_ctx=100)
    assert long("x" * 90).shape == (1, 91, 257)


def test_a_pickle_is_never_loaded(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(LRopeError, match=r"pytorch_model\.bin, which is a pickle"):
        LRopeTransformer.from_pretrained(tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(LRopeError, match="pickles are never loaded"):
        LRopeTransformer.from_pretrained(tmp_path)


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
        ({"increments": "per_layers"}, "Did you mean 'per_layer'"),
        ({"attn_impl": "flash"}, "attn_impl"),
        ({"act_fn": "swish"}, "act_fn"),
        ({"dtype": "float8"}, "dtype"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(LRopeError, match=message):
        LRopeConfig(**({"n_layers": 2, "d_model": 16, "n_heads": 2} | change))


def test_the_configuration_holds_what_transformer_lens_tools_read():
    cfg = LRopeConfig(2, 16, 2, rope_base=500.5)
    for name in READ_BY_TOOLS:
        assert hasattr(cfg, name), name
    assert cfg.rotary_base == 500.5
    assert LRopeConfig.from_dict(cfg.to_dict()).to_dict() == cfg.to_dict()


def test_text_methods(make_model):
    model = make_model()
    assert model.to_tokens("ab").tolist() == [[256, 97, 98]]
    assert model.to_tokens(["ab", "c"]).tolist() == [[256, 97, 98], [256, 99, 256]]
    assert model.to_tokens(["ab", "c"], padding_side="left", prepend_bos=False).tolist() == [
        [97, 98],
        [256, 99],
    ]
    assert model.to_str_tokens("a中\n") == ["<eos>", "a", "中·1/3", "中·2/3", "中·3/3", "\\n"]
    assert model.to_string(model.to_tokens("naïve 中")) == ["naïve 中"]
    assert model.to_string([0x41, 0xE4, 256]) == "A\ufffd"
    assert model.to_single_token("a") == 97
    assert model.get_token_position("b", "abcb", mode="last") == 4
    with pytest.raises(LRopeError, match="3 tokens"):
        model.to_single_token("中")
    with pytest.raises(LRopeError, match="no tokenizer"):
        make_model(d_vocab=50)("text")


@pytest.mark.parametrize("mode", ["per_layer", "shared"])
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("trunk", ["untrained", "trained"])
def test_control_models_move_as_much_as_the_trained_one_and_are_not_it(make_model, mode, per_head, trunk):
    model = make_model(increments=mode, per_head=per_head)
    tokens = torch.randint(0, 256, (8, 32), generator=torch.Generator().manual_seed(0))
    hook = "shared_increments.hook_increments_pre" if mode == "shared" else "blocks.1.hook_increments_pre"
    spreads, values = [], []
    for other in (model, *(randomised_control(model, tokens, seed, trunk) for seed in (0, 1))):
        _, cache = other.run_with_cache(tokens, names_filter=hook)
        spreads.append(cache[hook][:, 1:].std(dim=(0, 1)))
        values.append(cache[hook][:, 1:].reshape(-1))
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


def test_weight_decay_spares_norms_biases_and_the_last_layer_of_the_heads(make_model):
    model = make_model(use_biases=True)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spared, heads = set(), set()
    groups = model.parameter_groups(weight_decay=0.1, lr=1.0, head_lr_multiplier=3.0)
    for group in groups:
        for parameter in group["params"]:
            name = names.pop(id(parameter))
            spared |= {name} if group["weight_decay"] == 0 else set()
            heads |= {name} if group["lr"] == 3.0 else set()
    assert not names, "every parameter is in exactly one group"
    assert {
        "blocks.0.increments.W_out",
        "blocks.0.increments.b_out",
        "ln_final.w",
        "blocks.1.attn.b_Q",
    } <= spared
    assert "blocks.0.increments.W_in" not in spared and "embed.W_E" not in spared
    assert heads == {name for name, _ in model.increment_parameters()}


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
@pytest.mark.parametrize("use_biases", [False, True])
def test_a_model_is_loaded_in_another_dtype_and_folded(make_model, tmp_path, mode, use_biases):
    model = make_model(increments=mode, use_biases=use_biases)
    model.save_pretrained(tmp_path)
    tokens = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(0))
    wanted = model(tokens).log_softmax(-1)
    folded = LRopeTransformer.from_pretrained(tmp_path, fold_ln=True)
    assert folded.cfg.normalization_type == "RMSPre" and not folded.cfg.tie_embeddings
    torch.testing.assert_close(folded(tokens).log_softmax(-1), wanted, atol=1e-4, rtol=1e-4)
    for dtype in (torch.float64, "float64", "bfloat16", torch.bfloat16, torch.float16):
        loaded = LRopeTransformer.from_pretrained(tmp_path, dtype=dtype, fold_ln=True)
        name = str(dtype).removeprefix("torch.")
        assert loaded.W_E.dtype == loaded.cfg.dtype == getattr(torch, name)
        by_hand = copy.deepcopy(folded).to(getattr(torch, name))
        for (parameter, weights), other in zip(loaded.named_parameters(), by_hand.parameters(), strict=True):
            assert torch.equal(weights, other) and weights.dtype == other.dtype, parameter
            assert weights.dtype == torch.float32 or "increments" not in parameter
    assert torch.equal(LRopeTransformer.from_pretrained(tmp_path, dtype="float32")(tokens), model(tokens))
    assert LRopeTransformer.from_pretrained(tmp_path).cfg.normalization_type == "RMS"
    for dtype in ("float8", torch.int8, torch.complex64):
        with pytest.raises(LRopeError, match="unknown dtype"):
            LRopeTransformer.from_pretrained(tmp_path, dtype=dtype)
