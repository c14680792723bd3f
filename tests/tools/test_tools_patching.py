"""`transformer_lens.patching`, unmodified: every grid against one hook written by hand a cell."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformer_lens import patching

N_POS = 6
LAYERS, HEADS, POSITIONS = range(2), range(2), range(N_POS)
ALL = slice(None)

# Function of the library: hook it patches, axes of its grid, index into the activation of a cell.
GRIDS: dict[str, tuple[str, tuple[range, ...], Callable[..., tuple]]] = {}
for name in ("resid_pre", "resid_mid", "attn_out", "mlp_out"):
    GRIDS[name] = (f"hook_{name}", (POSITIONS,), lambda pos: (ALL, pos))
for name, hook in (("out", "attn.hook_z"), *((x, f"attn.hook_{x}") for x in "qkv")):
    GRIDS[f"attn_head_{name}_by_pos"] = (hook, (POSITIONS, HEADS), lambda pos, head: (ALL, pos, head))
    GRIDS[f"attn_head_{name}_all_pos"] = (hook, (HEADS,), lambda head: (ALL, ALL, head))
for name, axes in (("all_pos", ()), ("by_pos", (POSITIONS,)), ("dest_src_pos", (POSITIONS, POSITIONS))):
    GRIDS[f"attn_head_pattern_{name}"] = ("attn.hook_pattern", (HEADS, *axes), lambda *cell: (ALL, *cell))


def patched_by_hand(model, tokens, cache, metric, hook: str, axes, index) -> Tensor:
    """Set one cell a run, without the library."""
    values = []
    for layer, *cell in itertools.product(LAYERS, *axes):
        name, where = f"blocks.{layer}.{hook}", index(*cell)

        def write(value: Tensor, hook, where=where) -> Tensor:
            value = value.clone()
            value[where] = cache[hook.name][where]
            return value

        values.append(metric(model.run_with_hooks(tokens, fwd_hooks=[(name, write)])))
    return torch.stack(values).reshape(len(LAYERS), *(len(axis) for axis in axes))


def test_no_grid_of_the_library_is_left_out():
    every = ("attn_head_all_pos_every", "attn_head_by_pos_every", "block_every")
    ours = {f"get_act_patch_{name}" for name in (*GRIDS, *every, "direct_path", "direct_path_all_sources")}
    assert ours == {name for name in dir(patching) if name.startswith("get_act_patch")}


@pytest.mark.parametrize("function", GRIDS)
def test_every_patching_grid_equals_hooks_written_by_hand(make_model, clean, corrupt, metric, function):
    model = make_model()
    _, cache = model.run_with_cache(clean)
    with torch.no_grad():
        grid = getattr(patching, f"get_act_patch_{function}")(model, corrupt, cache, metric)
        expected = patched_by_hand(model, corrupt, cache, metric, *GRIDS[function])
        plain = metric(model(corrupt))
    torch.testing.assert_close(grid, expected, atol=1e-5, rtol=1e-5)
    assert (grid - plain).abs().max() > 1e-3, "patching must do something"


@pytest.mark.parametrize(
    ("mode", "per_head"), [("per_layer", False), ("per_layer", True), ("shared", False), ("fixed", False)]
)
def test_increments_patch_by_layer_and_position(make_model, clean, corrupt, metric, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    _, cache = model.run_with_cache(clean)
    with torch.no_grad():
        grid, frame = patching.generic_activation_patch(
            model,
            corrupt,
            cache,
            metric,
            patching.layer_pos_patch_setter,
            activation_name="increments",
            index_axis_names=("layer", "pos"),
            return_index_df=True,
        )
        expected = patched_by_hand(
            model, corrupt, cache, metric, "hook_increments", (POSITIONS,), lambda pos: (ALL, pos)
        )
        change = (grid - metric(model(corrupt))).abs()
    torch.testing.assert_close(grid, expected, atol=1e-5, rtol=1e-5)
    assert len(frame) == 2 * N_POS
    assert change[:, 0].max() < 1e-4, "the first increment shifts everything: no effect"
    assert (change.max() == 0) if mode == "fixed" else (change[:, 1:].max() > 1e-3)


def test_the_three_collections_stack_the_single_grids(make_model, clean, corrupt, metric):
    model = make_model()
    _, cache = model.run_with_cache(clean)
    with torch.no_grad():
        blocks = patching.get_act_patch_block_every(model, corrupt, cache, metric)
        heads = patching.get_act_patch_attn_head_all_pos_every(model, corrupt, cache, metric)
        by_pos = patching.get_act_patch_attn_head_by_pos_every(model, corrupt, cache, metric)
        assert torch.equal(blocks[0], patching.get_act_patch_resid_pre(model, corrupt, cache, metric))
        assert torch.equal(
            heads[4], patching.get_act_patch_attn_head_pattern_all_pos(model, corrupt, cache, metric)
        )
        assert torch.equal(
            by_pos[2], patching.get_act_patch_attn_head_k_by_pos(model, corrupt, cache, metric)
        )


def test_a_result_keeps_every_example_and_its_baseline(make_model, metric):
    model = make_model()
    generator = torch.Generator().manual_seed(0)
    clean, corrupt = (torch.randint(0, 256, (3, N_POS), generator=generator) for _ in range(2))
    _, cache = model.run_with_cache(clean)

    def each(logits: Tensor) -> Tensor:
        return logits[:, -1, 101] - logits[:, -1, 32]

    with torch.no_grad():
        result = patching.get_act_patch_attn_out(model, corrupt, cache, each, reduce="none", baseline=True)
        mean = patching.get_act_patch_attn_out(model, corrupt, cache, metric)
        plain = each(model(corrupt))
    torch.testing.assert_close(result.mean(), mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(result.effect().mean(-1), mean - plain.mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_direct_paths_patch_one_heads_input_exactly(make_model, clean, corrupt, metric, component):
    model = make_model(n_layers=3)
    caches = [model.run_with_cache(tokens)[1] for tokens in (clean, corrupt)]
    write = [cache["z", 0][:, :, 1] @ model.blocks[0].attn.W_O[1] for cache in caches]
    change = (write[0] - write[1]).detach()
    with torch.no_grad():
        grid = patching.get_act_patch_direct_path(
            model, corrupt, *caches, metric, 0, 1, component, verbose=False
        )
        everywhere = patching.get_act_patch_direct_path_all_sources(
            model, corrupt, *caches, metric, component, verbose=False
        )
    assert torch.equal(everywhere[0, 1], grid)
    assert not model.cfg.use_split_qkv_input, "the caller's flags come back"
    model.set_use_split_qkv_input(True)
    with torch.no_grad():
        for layer, head in itertools.product((1, 2), HEADS):

            def add(value: Tensor, hook, head=head) -> Tensor:
                value = value.clone()
                value[:, :, head] += change
                return value

            name = f"blocks.{layer}.hook_{component}_input"
            expected = metric(model.run_with_hooks(corrupt, fwd_hooks=[(name, add)]))
            torch.testing.assert_close(grid[layer, head], expected, atol=1e-5, rtol=1e-5)
    assert grid[0].abs().max() == 0
