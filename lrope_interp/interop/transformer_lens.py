"""TransformerLens' analysis tools, adapted to a model whose positions are learned.

The only file outside `models` that imports transformer_lens; `tools.analysis` changes between its
minor versions, so the change stops here. Most tools need no adapter: docs/transformer-lens.md says
which, and what they give.

Two do. *Path patching* knows four readers of the residual stream (q, k, v and the MLP). Here the
increment head is a fifth, and what it reads moves every later position: a path that was meant to
be closed stays open through it. `held_increments` closes it around any tool, and the wrappers
below are the library's tools inside it. *Direct logit attribution* projects on the unembedding
alone, and is silently wrong while the final norm's gain is not folded into it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import ActivationCache, patching
from transformer_lens.hook_points import HookPoint
from transformer_lens.tools.analysis import attribution_patching
from transformer_lens.tools.analysis.direct_logit_attribution import DirectLogitAttribution
from transformer_lens.tools.analysis.direct_logit_attribution import (
    direct_logit_attribution as library_direct_logit_attribution,
)
from transformer_lens.tools.analysis.sparse_probing import (
    SparseProbeConvergenceError as SparseProbeConvergenceError,
)
from transformer_lens.tools.analysis.sparse_probing import SparseProbeSweep as SparseProbeSweep
from transformer_lens.tools.analysis.sparse_probing import sweep_sparse_probe as sweep_sparse_probe

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer

Metric = Callable[[Tensor], Tensor]
Edge = tuple[attribution_patching.Node, attribution_patching.Node]

_SENDER = re.compile(
    r"^(?:(?P<embed>embed)|L(?P<layer>\d+)H(?P<head>\d+)|(?P<block>\d+)_(?P<part>attn|mlp)_out)$"
)
_READERS = ("hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in", "hook_increments_in")


@contextmanager
def held_increments(
    model: LRopeTransformer,
    tokens: Int[Tensor, "batch pos"],
    additions: Mapping[str, Float[Tensor, "batch pos d_model"]] | None = None,
) -> Iterator[None]:
    """Hold what every increment head reads at its value on `tokens`, whatever else is patched.

    Inside, positions do not depend on the input: every run has the increments of `tokens`. Any
    tool of the library may run here; a `fixed` model has no head and is left as it is.

    Args:
        model: Whose increment heads are held.
        tokens: The run that the increments are taken from; one row is used for every row.
        additions: Added to what is held, by hook name: the paths that are to stay open.

    Raises:
        LRopeError: Inputs of another shape than `tokens`, or a run that never reached a held head.
    """
    additions = {} if additions is None else additions
    names = [name for name in model.hook_dict if name.endswith("hook_increments_in")]
    unknown = sorted(set(additions) - set(names))
    if unknown:
        raise LRopeError(f"additions go to hook_increments_in; this model has no {', '.join(unknown)}")
    values = _record(model, tokens, names)
    values = {name: value + additions.get(name, 0) for name, value in values.items()}
    runs: set[str] = set()
    hold = partial(_held, values=values, runs=runs)
    with model.hooks(fwd_hooks=[(name, hold) for name in names]):
        yield
    if runs and runs != set(names):
        raise LRopeError(f"held increments never fired at {', '.join(sorted(set(names) - runs))}")


def path_patch(
    model: LRopeTransformer,
    tokens: Int[Tensor, "batch pos"],
    source_tokens: Int[Tensor, "*source"],
    sender: str,
    receivers: Mapping[str, int | None],
) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits on `tokens` when `receivers` alone see what `sender` writes on `source_tokens`.

    Exact, not linearised: the sender's change is added to each receiver's own copy of the residual
    stream. All other readers, and every increment head that is not a receiver, see `tokens`; what
    the receivers then write reaches q, k, v, the MLPs and the logits as usual, but no position.
    With no receiver nothing changes, to the bit.

    Args:
        model: In eval mode.
        tokens: The run that is patched.
        source_tokens: The run that the sender's write is taken from, of the same shape.
        sender: "embed", "L0H1", "0_attn_out" or "0_mlp_out": the labels of `decompose_resid` and
            `stack_head_results`.
        receivers: By hook name, the head that receives, or None for all of them:
            ``{"blocks.1.hook_v_input": 0, "blocks.2.hook_increments_in": None}``.

    Raises:
        LRopeError: A sender or receiver that does not exist, or a receiver before the sender.
    """
    if tokens.shape != source_tokens.shape:
        raise LRopeError(
            f"both runs need one shape; got {list(tokens.shape)} and {list(source_tokens.shape)}"
        )
    layer, written_at, sending_head = _parsed(model, sender)
    for name, head in receivers.items():
        _check_receiver(model, sender, layer, written_at, name, head)
    writes = [_record(model, run, [written_at])[written_at] for run in (source_tokens, tokens)]
    if sending_head is not None:
        W_O = model.blocks[layer].attn.W_O[sending_head].detach()
        writes = [z[:, :, sending_head] @ W_O for z in writes]
    change = writes[0] - writes[1]
    additions = {name: change for name in receivers if name.endswith("hook_increments_in")}
    hooks: list[Any] = [
        (name, partial(_add, change=change, head=head))
        for name, head in receivers.items()
        if name not in additions
    ]
    with torch.no_grad(), _forked_readers(model), held_increments(model, tokens, additions):
        return model.run_with_hooks(tokens, fwd_hooks=hooks)


def direct_path_patch(
    model: LRopeTransformer,
    tokens: Int[Tensor, "batch pos"],
    source_tokens: Int[Tensor, "batch pos"],
    metric: Metric,
    source: tuple[int, int],
    component: Literal["q", "k", "v"] = "q",
) -> Float[Tensor, "n_layers n_heads"]:
    """Return TransformerLens' `get_act_patch_direct_path` with all positions held at `tokens`.

    The library patches one head's write into one later head's q, k or v input. What that head
    then writes would move the increments, and so all positions, of the layers after it; here it
    does not.

    Args:
        model: In eval mode.
        tokens: The run that is patched ("corrupted" in the library).
        source_tokens: The run that the head's write is taken from ("clean").
        metric: From logits to one number.
        source: Layer and head that send.
        component: Input of the later heads that receives.

    Returns:
        The metric, [layer, head]; rows up to the source's layer are 0 and mean nothing.
    """
    layer, head = source
    names = [f"blocks.{layer}.attn.hook_z"]
    caches = [ActivationCache(_record(model, run, names), model) for run in (source_tokens, tokens)]
    with torch.no_grad(), held_increments(model, tokens):
        return patching.get_act_patch_direct_path(
            model, tokens, caches[0], caches[1], metric, layer, head, component, verbose=False
        )


def edge_attribution(
    model: LRopeTransformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "batch pos"],
    metric: Metric,
) -> attribution_patching.AttributionResult:
    """Return TransformerLens' edge attribution (EAP) with positions held at each corrupt prompt.

    The library promises that a writer's edges sum to its node score. With learned increments they
    do not, because the edges into the increment heads are missing; held, they do again. The
    scores then say nothing about paths through positions: for those, `path_patch`.

    Args:
        model: In eval mode.
        clean: Prompts whose activations are patched in.
        corrupt: Prompts that are run, row by row the partners of `clean`.
        metric: From the logits of one prompt to one number.

    Returns:
        Scores averaged over the pairs.
    """
    config = attribution_patching.EdgeAttributionConfig(granularity="edge")
    results = []
    for clean_row, corrupt_row in zip(clean.split(1), corrupt.split(1), strict=True):
        with held_increments(model, corrupt_row):
            results.append(
                attribution_patching.attribution_patch(model, clean_row, corrupt_row, metric, config)
            )
    return attribution_patching.AttributionResult(
        _mean([result.node_scores for result in results]), _mean([result.edge_scores for result in results])
    )


@torch.inference_mode(False)
def increment_attribution(
    model: LRopeTransformer,
    clean: Int[Tensor, "batch pos"],
    corrupt: Int[Tensor, "corrupt_batch corrupt_pos"],
    metric: Metric,
    n_steps: int = 16,
) -> Float[Tensor, "layer pos *head"]:
    """Return what patching each increment by itself would change, from slopes on the way of each patch.

    One slope at the corrupt prompt, which is attribution patching, misleads at full size: an increment
    turns every later position, and the metric bends long before the patch is done. A path that moves all
    increments of a layer together (integrated gradients) misleads too. Here each increment walks its own
    way, the others at rest, so that the sum of its slopes is the exact patch. It costs `n_steps` forward
    and backward passes of each patch, where the exact one (`patching.generic_activation_patch`) costs one
    forward pass: for numbers alone patch exactly.

    Args:
        model: In eval mode.
        clean: The prompt whose increments are patched in.
        corrupt: The prompt that is run.
        metric: From the logits of one prompt to one number.
        n_steps: Places on each way, midpoints; twice as many show whether they are enough.

    Returns:
        Change of the metric by layer and place, and head where increments are per head.

    Raises:
        LRopeError: Prompts that are not one row each and equally long, or no step.
    """
    if clean.shape != corrupt.shape or len(clean) != 1 or n_steps < 1:
        raise LRopeError(
            f"wanted two prompts of shape [1, pos] and a step or more; got {list(clean.shape)}, "
            f"{list(corrupt.shape)} and n_steps={n_steps}"
        )
    names = [f"blocks.{layer}.hook_increments" for layer in range(model.cfg.n_layers)]
    ends, starts = _record(model, clean, names), _record(model, corrupt, names)
    scores = []
    for name, start in starts.items():
        change = (ends[name] - start).flatten()
        ways = torch.diag(change).view(len(change), *start.shape[1:])  # in each row one increment moves
        slopes = torch.zeros_like(change)
        for step in range(n_steps):
            with torch.enable_grad():
                moved = (start + (step + 0.5) / n_steps * ways).requires_grad_()
                hooks = [(name, lambda increments, hook, moved=moved: moved)]  # noqa: ARG005
                logits = model.run_with_hooks(corrupt.expand(len(ways), -1), fwd_hooks=hooks)
                values = [metric(row) for row in logits.split(1)]
                if not all(isinstance(value, Tensor) and value.numel() == 1 for value in values):
                    raise LRopeError("the metric must make one number of logits, a tensor with a gradient")
                (slope,) = torch.autograd.grad(torch.stack(values).sum(), moved)
            slopes += slope.flatten(1).diagonal() / n_steps
        scores.append((slopes * change).view(start.shape[1:]))
    return torch.stack(scores)


def circuit_faithfulness(
    model: LRopeTransformer,
    clean: Int[Tensor, "1 pos"],
    corrupt: Int[Tensor, "1 pos"],
    metric: Metric,
    circuit: Sequence[Edge] | Sequence[tuple[attribution_patching.Node, attribution_patching.Node, float]],
) -> attribution_patching.FaithfulnessResult:
    """Return TransformerLens' `faithfulness` with positions held at the corrupt prompt.

    An empty circuit then recovers 0 and the full one 1. Unheld, the clean prompt's increments
    reach every layer although all edges are cut, and an empty circuit "recovers" something.

    Args:
        model: In eval mode.
        clean: The prompt whose behaviour is to be recovered.
        corrupt: The prompt that cut edges are replaced from.
        metric: From logits to one number.
        circuit: The edges to keep, for instance ``edge_attribution(...).top_edges(k)``.

    Returns:
        Shares of the gap between both prompts *at the corrupt prompt's positions*.
    """
    with held_increments(model, corrupt):
        return attribution_patching.faithfulness(model, clean, corrupt, metric, circuit)


def direct_logit_attribution(
    model: LRopeTransformer,
    input: str | Int[Tensor, "batch pos"],
    answer_tokens: str | int | Tensor,
    incorrect_tokens: str | int | Tensor | None = None,
    unit: Literal["component", "layer", "head"] = "component",
    pos: int | None = -1,
) -> DirectLogitAttribution:
    """Return TransformerLens' direct logit attribution, on folded weights whatever `model` is.

    An unfolded model is copied and the copy folded: its log-probabilities and increments are the
    same, and the attributions of all components sum to the logit (less `b_U`). On unfolded
    weights the library's function raises no error and does not sum to anything.

    Args:
        model: Folded or not; it is not changed. Fold it once (`fold_ln_`) to save the copies.
        input: A prompt.
        answer_tokens: The token, or one a row, whose logit is taken apart.
        incorrect_tokens: If given, the logit *difference* to these is taken apart.
        unit: "component" (embedding, attentions, MLPs), "head", or "layer" (cumulative).
        pos: Position that predicts; None for all.
    """
    folded = model if model.cfg.normalization_type == "RMSPre" else copy.deepcopy(model)
    if folded is not model:
        folded.fold_ln_()
    with torch.no_grad():
        return library_direct_logit_attribution(
            folded, input, answer_tokens, incorrect_tokens, unit=unit, pos=pos
        )


def _record(model: LRopeTransformer, tokens: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Run once and return what passed the named hooks."""
    found: dict[str, Tensor] = {}

    def store(value: Tensor, hook: HookPoint) -> None:
        found[str(hook.name)] = value.detach().clone()

    if names:
        with torch.no_grad():
            model.run_with_hooks(tokens, return_type=None, fwd_hooks=[(name, store) for name in names])
    return found


def _held(value: Tensor, hook: HookPoint, values: Mapping[str, Tensor], runs: set[str]) -> Tensor:
    """Replace what a head reads by what is held for it."""
    held = values[str(hook.name)]
    if held.shape[0] not in (1, value.shape[0]) or held.shape[1:] != value.shape[1:]:
        raise LRopeError(
            f"increments are held for an input of shape {list(held.shape[:2])}; "
            f"got {list(value.shape[:2])}: hold one row, or the same batch of equally long rows"
        )
    runs.add(str(hook.name))
    return held.expand_as(value).clone()


def _add(value: Tensor, hook: HookPoint, change: Tensor, head: int | None) -> Tensor:  # noqa: ARG001
    """Add the sender's change to one reader's copy of the residual stream."""
    if value.ndim == 3:
        return value + change
    patched = value.clone()
    patched[:, :, slice(None) if head is None else head] += change[:, :, None] if head is None else change
    return patched


def _parsed(model: LRopeTransformer, sender: str) -> tuple[int, str, int | None]:
    """Return a sender's layer (-1 of the embedding), the hook at which it writes, and its head."""
    match, cfg = _SENDER.match(sender), model.cfg
    if match:
        layer, head = int(match["layer"] or match["block"] or 0), int(match["head"] or 0)
        if layer < cfg.n_layers and head < cfg.n_heads:
            if match["embed"]:
                return -1, "hook_embed", None
            if match["part"]:
                return layer, f"blocks.{layer}.hook_{match['part']}_out", None
            return layer, f"blocks.{layer}.attn.hook_z", head
    raise LRopeError(
        f"no sender {sender!r}: give embed, L<layer>H<head>, <layer>_attn_out or <layer>_mlp_out, "
        f"layers 0..{cfg.n_layers - 1}, heads 0..{cfg.n_heads - 1}"
    )


def _check_receiver(
    model: LRopeTransformer, sender: str, sent: int, written_at: str, name: str, head: int | None
) -> None:
    """Refuse a receiver that does not exist or that the sender cannot reach, and a head that is none."""
    last, heads = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post", model.cfg.n_heads
    known = [known for known in model.hook_dict if known.endswith(_READERS) or known == last]
    if name not in known:
        raise LRopeError(f"no receiver {name!r}: give one of {', '.join(known)}")
    if name.startswith("shared_increments"):
        if sent >= 0:
            raise LRopeError(f"the shared increment head reads the embedding alone, never {sender}")
    elif name != last:
        layer = int(name.split(".")[1])
        is_between = name.endswith("hook_mlp_in") and not written_at.endswith("mlp_out")
        if sent > layer or (sent == layer and not is_between):
            raise LRopeError(f"{sender} writes after {name} has read; a path runs forward only")
    has_heads = name.endswith(_READERS[:3])
    if head is not None and not (has_heads and 0 <= head < heads):
        wanted = f"a head 0..{heads - 1}, or None for all" if has_heads else "None: no head axis"
        raise LRopeError(f"{name} takes {wanted}; got {head}")


@contextmanager
def _forked_readers(model: LRopeTransformer) -> Iterator[None]:
    """Give q, k, v and the MLP their own copies of the residual stream, and restore the flags."""
    wanted = {"use_attn_in": False, "use_split_qkv_input": True, "use_hook_mlp_in": True}
    before = {flag: getattr(model.cfg, flag) for flag in wanted}
    try:
        vars(model.cfg).update(wanted)
        yield
    finally:
        vars(model.cfg).update(before)


def _mean(scores: Sequence[Mapping[Any, float]]) -> dict[Any, float]:
    """Average scores with the same keys."""
    return {key: sum(score[key] for score in scores) / len(scores) for key in scores[0]}
