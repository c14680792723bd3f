"""Path patching: the library's tools leak through the increment heads, and the adapter closes the leak."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor
from transformer_lens import patching
from transformer_lens.tools.analysis.attribution_patching import (
    EdgeAttributionConfig,
    Node,
    attribution_patch,
    cache_activation_and_gradient,
    faithfulness,
)

from lrope_interp.errors import LRopeError
from lrope_interp.interop.transformer_lens import (
    circuit_faithfulness,
    direct_path_patch,
    edge_attribution,
    held_increments,
    increment_attribution,
    path_patch,
)

DOWNSTREAM = ["blocks.1.hook_positions", "blocks.1.attn.hook_z"]
LEARNED = [("per_layer", False), ("per_layer", True), ("shared", False)]


@contextmanager
def recorded(model, names: list[str]) -> Iterator[list[dict[str, Tensor]]]:
    """Keep what passes some hooks, one dict a run; the first name starts a new one."""
    runs: list[dict[str, Tensor]] = []

    def keep(value: Tensor, hook) -> None:
        if hook.name == names[0]:
            runs.append({})
        runs[-1][hook.name] = value.detach().clone()

    with model.hooks(fwd_hooks=[(name, keep) for name in names]):
        yield runs


@pytest.fixture
def leaky(make_model):
    """Three layers whose increments differ between tokens, as a trained model's do."""
    return make_model(n_layers=3)


# --- the leak, with the library's own tool ------------------------------------------------------


def last_step(model, corrupt: Tensor, metric) -> list[tuple[Node, Node]]:
    """The edges from heads and MLPs to the logits: all that feeds those is cut, so they carry nothing."""
    edges = every_edge(model, corrupt, metric)
    return [edge for edge in edges if edge[1].kind == "logits" and edge[0].kind != "embed"]


def every_edge(model, corrupt: Tensor, metric) -> list[tuple[Node, Node]]:
    """All edges of the library's graph."""
    return list(edge_attribution(model, corrupt, corrupt, metric).edge_scores)


def test_through_cut_edges_the_librarys_path_patching_still_lets_the_clean_prompt_through(
    leaky, clean, corrupt, metric
):
    circuit = last_step(leaky, corrupt, metric)
    with recorded(leaky, DOWNSTREAM) as runs:
        result = faithfulness(leaky, clean, corrupt, metric, circuit)
    corrupt_run, clean_run, cut_run = runs[0], runs[2], runs[3]
    z = "blocks.1.attn.hook_z"
    leak = (cut_run[z] - corrupt_run[z]).norm() / (clean_run[z] - corrupt_run[z]).norm()
    # A downstream z sees the clean prompt although all four readers are cut, and so does the metric.
    assert leak.item() == pytest.approx(0.076, abs=1e-3), "docs/transformer-lens.md quotes this figure"
    assert result.recovered == pytest.approx(0.038, abs=1e-3), "and this one"


@pytest.mark.parametrize(("mode", "per_head"), [*LEARNED, ("fixed", False)])
def test_with_held_increments_cut_edges_recover_nothing_and_the_full_circuit_everything(
    make_model, clean, corrupt, metric, mode, per_head
):
    model = make_model(n_layers=3, increments=mode, per_head=per_head)
    circuit = last_step(model, corrupt, metric)
    with recorded(model, DOWNSTREAM) as runs:
        cut = circuit_faithfulness(model, clean, corrupt, metric, circuit)
    corrupt_run, clean_run, cut_run = runs[-5], runs[-3], runs[-2]
    positions, z = DOWNSTREAM
    assert torch.equal(cut_run[positions], corrupt_run[positions]), "positions ignore the clean prompt"
    assert torch.equal(clean_run[positions], corrupt_run[positions])
    torch.testing.assert_close(cut_run[z], corrupt_run[z], atol=1e-5, rtol=1e-5)
    assert abs(cut.recovered) < 1e-4
    if mode == "fixed":  # where nothing leaks, the library's own is exact
        assert faithfulness(model, clean, corrupt, metric, circuit) == cut
    full = circuit_faithfulness(model, clean, corrupt, metric, every_edge(model, corrupt, metric))
    assert full.recovered == pytest.approx(1, abs=1e-4)
    assert full.circuit_size == full.total_edges


# --- edge attribution ---------------------------------------------------------------------------


def test_what_the_librarys_edges_miss_is_exactly_the_edges_into_the_increment_heads(
    leaky, clean, corrupt, metric
):
    edges = attribution_patch(leaky, clean, corrupt, metric, EdgeAttributionConfig("edge"))
    nodes = attribution_patch(leaky, clean, corrupt, metric, EdgeAttributionConfig("node"))
    heads = [f"blocks.{layer}.hook_increments_in" for layer in range(3)]
    names = ["hook_embed", "blocks.0.hook_mlp_out", *heads]
    run = {
        prompt: cache_activation_and_gradient(leaky, tokens, metric, names_filter=names)
        for prompt, tokens in (("clean", clean), ("corrupt", corrupt))
    }
    largest = 0.0
    for node, score in nodes.node_scores.items():
        if node.hook_name not in names:
            continue
        first = 0 if node.kind == "embed" else 1
        change = run["clean"].activations[node.hook_name] - run["corrupt"].activations[node.hook_name]
        gradient = sum(run["corrupt"].gradients[name] for name in heads[first:])
        missing = float((change * gradient)[0, node.position].sum())
        largest = max(largest, abs(missing))
        assert score - edges.node_scores[node] == pytest.approx(missing, abs=1e-4)
    assert largest > 0.01, "and it is not nothing"


@pytest.mark.parametrize(("mode", "per_head"), [*LEARNED, ("fixed", False)])
def test_with_held_increments_a_writers_edges_sum_to_its_node_score(
    make_model, clean, corrupt, metric, mode, per_head
):
    model = make_model(increments=mode, per_head=per_head)
    edges = edge_attribution(model, clean, corrupt, metric)
    with held_increments(model, corrupt):
        nodes = attribution_patch(model, clean, corrupt, metric)
    assert edges.node_scores.keys() == nodes.node_scores.keys()
    for node, score in nodes.node_scores.items():
        assert edges.node_scores[node] == pytest.approx(score, abs=1e-4)


def test_edge_attribution_averages_pairs_each_held_at_its_own_prompt(make_model, metric):
    model = make_model()
    generator = torch.Generator().manual_seed(0)
    clean, corrupt = (torch.randint(0, 256, (2, 5), generator=generator) for _ in range(2))
    both = edge_attribution(model, clean, corrupt, metric).edge_scores
    single = [
        edge_attribution(model, clean[i : i + 1], corrupt[i : i + 1], metric).edge_scores for i in (0, 1)
    ]
    for edge, score in both.items():
        assert score == pytest.approx((single[0][edge] + single[1][edge]) / 2, abs=1e-6)


# --- direct paths -------------------------------------------------------------------------------


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_a_direct_path_moves_no_position_when_increments_are_held(leaky, clean, corrupt, component):
    names = [f"blocks.{layer}.hook_positions" for layer in range(3)]
    _, plain = leaky.run_with_cache(corrupt)
    caches = [leaky.run_with_cache(tokens)[1] for tokens in (clean, corrupt)]
    with torch.no_grad(), recorded(leaky, names) as free:
        patching.get_act_patch_direct_path(
            leaky, corrupt, *caches, lambda logits: logits.sum(), 0, 1, component, verbose=False
        )
    into_layer_1 = free[0]
    assert torch.allclose(into_layer_1[names[1]], plain[names[1]], atol=1e-5), "the edge itself is exact"
    assert (into_layer_1[names[2]] - plain[names[2]]).abs().max() > 1e-3, "and then leaks into layer 2"
    with recorded(leaky, names) as held:
        grid = direct_path_patch(leaky, corrupt, clean, lambda logits: logits.sum(), (0, 1), component)
    patched_runs = [run for run in held if len(run) == 3][-4:]
    for run, name in itertools.product(patched_runs, names):
        assert torch.equal(run[name], patched_runs[0][name]), "whatever is patched"
        torch.testing.assert_close(run[name], plain[name], atol=1e-5, rtol=1e-5)
    assert grid.shape == (3, 2) and grid[1:].abs().min() > 0


# --- our own path patching ----------------------------------------------------------------------


@pytest.fixture
def forked(leaky):
    """The readers' own copies are on and attention is of one kind, so that runs compare to the bit."""
    leaky.cfg.attn_impl = "eager"
    leaky.set_use_split_qkv_input(True)
    leaky.set_use_hook_mlp_in(True)
    return leaky


@pytest.mark.parametrize("sender", ["embed", "L0H1", "0_attn_out", "0_mlp_out", "L1H0"])
def test_without_receivers_nothing_changes_to_the_bit(forked, clean, corrupt, sender):
    with torch.no_grad():
        assert torch.equal(path_patch(forked, corrupt, clean, sender, {}), forked(corrupt))


def test_only_the_receiver_sees_the_sender(forked, clean, corrupt):
    """Into one head's v: its q, k, pattern and every position are the unpatched run's to the bit."""
    names = [
        "blocks.1.hook_positions",
        "blocks.1.attn.hook_q",
        "blocks.1.attn.hook_k",
        "blocks.1.attn.hook_pattern",
        "blocks.1.attn.hook_v",
        "blocks.1.attn.hook_z",
        "blocks.2.hook_positions",
    ]
    with torch.no_grad(), recorded(forked, names) as runs:
        forked(corrupt)
        path_patch(forked, corrupt, clean, "L0H1", {"blocks.1.hook_v_input": 0})
    plain, patched = runs[0], runs[-1]
    for name in (*names[:4], names[6]):
        assert torch.equal(patched[name], plain[name]), name
    for name in names[4:6]:
        assert torch.equal(patched[name][:, :, 1], plain[name][:, :, 1]), "the other head"
        assert (patched[name][:, :, 0] - plain[name][:, :, 0]).abs().max() > 1e-3


def test_without_the_fifth_hold_the_same_path_moves_the_pattern(forked, clean, corrupt):
    """The usual recipe: the sender runs on the source, the four known readers are frozen."""
    _, source = forked.run_with_cache(clean)
    _, plain = forked.run_with_cache(corrupt)
    frozen = [
        f"blocks.{layer}.hook_{x}" for layer in range(3) for x in ("q_input", "k_input", "v_input", "mlp_in")
    ]

    def send(z: Tensor, hook) -> Tensor:
        z = z.clone()
        z[:, :, 1] = source[hook.name][:, :, 1]
        return z

    hooks = [(name, lambda x, hook: plain[hook.name].clone()) for name in frozen]
    names = ["blocks.1.hook_positions", "blocks.1.attn.hook_pattern", "blocks.1.attn.hook_z"]
    with torch.no_grad(), recorded(forked, names) as runs:
        forked(corrupt)
        forked.run_with_hooks(corrupt, fwd_hooks=[("blocks.0.attn.hook_z", send), *hooks])
        with held_increments(forked, corrupt):
            forked.run_with_hooks(corrupt, fwd_hooks=[("blocks.0.attn.hook_z", send), *hooks])
    for name in names:
        leak = (runs[1][name] - runs[0][name]).norm() / runs[0][name].norm()
        assert leak > 1e-3, f"{name}: four frozen readers are not enough"
        assert torch.equal(runs[-1][name], runs[0][name]), f"{name}: exactly closed"


@pytest.mark.parametrize("per_head", [False, True])
def test_the_increment_head_can_be_the_receiver(make_model, clean, corrupt, per_head):
    model = make_model(n_layers=3, per_head=per_head)
    names = ["blocks.1.hook_increments", "blocks.1.attn.hook_q", "blocks.2.hook_increments"]
    with torch.no_grad():
        caches = [model.run_with_cache(tokens)[1] for tokens in (clean, corrupt)]
        change = caches[0]["mlp_out", 0] - caches[1]["mlp_out", 0]
        head = model.blocks[1].increments
        expected = head.squash(head(caches[1]["increments_in", 1] + change))
        with recorded(model, names) as runs:
            path_patch(model, corrupt, clean, "0_mlp_out", {"blocks.1.hook_increments_in": None})
    torch.testing.assert_close(runs[-1][names[0]], expected, atol=1e-5, rtol=1e-5)
    for name in names[1:]:
        torch.testing.assert_close(runs[-1][name], caches[1][name], atol=1e-5, rtol=1e-5)
    assert (expected - caches[1][names[0]]).abs().max() > 1e-2


def test_every_path_of_the_embedding_together_is_the_other_prompt_in_a_one_layer_model(
    make_model, clean, corrupt
):
    model = make_model(n_layers=1)
    readers = [
        f"hook_{x}" for x in ("q_input", "k_input", "v_input", "mlp_in", "increments_in", "resid_post")
    ]
    patched = path_patch(model, corrupt, clean, "embed", {f"blocks.0.{name}": None for name in readers})
    with torch.no_grad():
        torch.testing.assert_close(patched, model(clean), atol=1e-5, rtol=1e-5)
        without = dict.fromkeys(f"blocks.0.{name}" for name in readers if name != "hook_increments_in")
        assert (path_patch(model, corrupt, clean, "embed", without) - model(clean)).abs().max() > 1e-2


def test_the_shared_head_receives_from_the_embedding_alone(make_model, clean, corrupt):
    model = make_model(increments="shared")
    receiver: dict[str, int | None] = {"shared_increments.hook_increments_in": None}
    with recorded(model, ["blocks.0.hook_increments"]) as runs:
        path_patch(model, corrupt, clean, "embed", receiver)
        model(clean)
    torch.testing.assert_close(runs[-2], runs[-1], atol=1e-5, rtol=1e-5)
    with pytest.raises(LRopeError, match="embedding alone, never L0H0"):
        path_patch(model, corrupt, clean, "L0H0", receiver)


@pytest.mark.parametrize(
    ("sender", "receivers", "said"),
    [
        ("L0H7", {}, "layers 0..2, heads 0..1"),
        ("head 3", {}, r"give embed, L<layer>H<head>"),
        ("L0H1", {"blocks.1.hook_resid_pre": None}, "no receiver 'blocks.1.hook_resid_pre'"),
        ("L1H0", {"blocks.1.hook_q_input": 0}, "runs forward only"),
        ("L2H0", {"blocks.1.hook_increments_in": None}, "runs forward only"),
        ("1_mlp_out", {"blocks.1.hook_mlp_in": None}, "runs forward only"),
        ("embed", {"blocks.1.hook_v_input": 2}, r"takes a head 0\.\.1, or None for all; got 2"),
        ("embed", {"blocks.1.hook_increments_in": 0}, "takes None: no head axis; got 0"),
    ],
)
def test_paths_that_do_not_exist_are_refused(leaky, clean, corrupt, sender, receivers, said):
    with pytest.raises(LRopeError, match=said):
        path_patch(leaky, corrupt, clean, sender, {**receivers, "blocks.2.hook_mlp_in": None})


def test_runs_of_other_shapes_are_refused(leaky, clean, corrupt):
    with pytest.raises(LRopeError, match="one shape"):
        path_patch(leaky, corrupt, clean[:, :3], "embed", {})
    with pytest.raises(LRopeError, match="hold one row"), held_increments(leaky, corrupt):
        leaky(clean[:, :3])
    with pytest.raises(LRopeError, match="never fired at"), held_increments(leaky, corrupt):
        leaky(clean, stop_at_layer=1)


def test_no_flag_and_no_hook_stays_behind(leaky, clean, corrupt, metric):
    with torch.no_grad():
        before = leaky(clean)
        path_patch(leaky, corrupt, clean, "embed", {"blocks.1.hook_q_input": 0})
        circuit_faithfulness(leaky, clean, corrupt, metric, [])
        with pytest.raises(LRopeError), held_increments(leaky, corrupt):
            leaky(clean[:, :2])
        assert torch.equal(leaky(clean), before)
    assert not (leaky.cfg.use_split_qkv_input or leaky.cfg.use_hook_mlp_in or leaky.cfg.use_attn_result)


@pytest.mark.parametrize("per_head", [False, True])
def test_slopes_along_each_patchs_own_way_are_the_exact_patch_where_one_slope_misleads(make_model, per_head):
    model = make_model(n_layers=2, per_head=per_head)
    clean, corrupt = model.to_tokens("The cat sat"), model.to_tokens("A dog lay i")

    def metric(logits):
        return logits[0, -1, 109] - logits[0, -1, 115]

    _, ends = model.run_with_cache(clean)
    _, starts = model.run_with_cache(corrupt)
    wanted, slopes = torch.zeros(2, *starts["increments", 0].shape[1:]), []
    for layer in range(2):
        name = f"blocks.{layer}.hook_increments"
        for place in np.ndindex(*wanted.shape[1:]):

            def patch(x, hook, place=(0, *place), end=ends[name]):
                x[place] = end[place]

            with torch.no_grad():
                patched = metric(model.run_with_hooks(corrupt, fwd_hooks=[(name, patch)]))
                wanted[(layer, *place)] = patched - metric(model(corrupt))
        start = starts[name].clone().requires_grad_()
        loss = metric(model.run_with_hooks(corrupt, fwd_hooks=[(name, lambda x, hook, to=start: to)]))
        slopes.append((torch.autograd.grad(loss, start)[0] * (ends[name] - starts[name]))[0])
    found = increment_attribution(model, clean, corrupt, metric)
    assert float((found - wanted).abs().max()) < 0.01 * float(wanted.abs().max())
    linear = torch.corrcoef(torch.stack([torch.stack(slopes).flatten(), wanted.flatten()]))[0, 1]
    assert float(linear) < 0.9
    with torch.inference_mode():
        assert torch.equal(increment_attribution(model, clean, corrupt, metric), found)
    with pytest.raises(LRopeError, match="one number of logits"):
        increment_attribution(model, clean, corrupt, lambda logits: metric(logits).item())
    with pytest.raises(LRopeError, match="two prompts"):
        increment_attribution(model, clean, corrupt[:, 1:], metric)
