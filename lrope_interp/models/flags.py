"""Hook points that cost something and therefore fire only when a flag asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformer_lens.hook_points import HookPoint

from lrope_interp.errors import LRopeError

_FLAG_OF_HOOK = {
    "hook_result": "use_attn_result",
    "hook_q_input": "use_split_qkv_input",
    "hook_k_input": "use_split_qkv_input",
    "hook_v_input": "use_split_qkv_input",
    "hook_mlp_in": "use_hook_mlp_in",
    "hook_attn_in": "use_attn_in",
    "hook_tokens": "use_hook_tokens",
}
_EAGER_HOOKS = ("hook_attn_scores", "hook_pattern")


class SilentHookError(LRopeError, AssertionError):
    """A hook on a point whose flag is off; also an AssertionError, as in HookedTransformer."""


class HookFlags:
    """Mixed into the model: the five `set_use_*` and the check that no hook stays silent."""

    cfg: Any

    def set_use_attn_result(self, use_attn_result: bool) -> None:
        """Choose whether `attn.hook_result` fires: each head's output, [batch, pos, head, d_model]."""
        self.cfg.use_attn_result = use_attn_result

    def set_use_split_qkv_input(self, use_split_qkv_input: bool) -> None:
        """Choose whether `hook_q_input/k_input/v_input` fire: each head's own copy of `resid_pre`."""
        self.cfg.use_split_qkv_input = use_split_qkv_input

    def set_use_hook_mlp_in(self, use_hook_mlp_in: bool) -> None:
        """Choose whether `hook_mlp_in` fires: the MLP's own copy of `resid_mid`."""
        self.cfg.use_hook_mlp_in = use_hook_mlp_in

    def set_use_attn_in(self, use_attn_in: bool) -> None:
        """Choose whether `hook_attn_in` fires: each head's copy of `resid_pre`, for q, k and v at once."""
        self.cfg.use_attn_in = use_attn_in

    def set_use_hook_tokens(self, use_hook_tokens: bool) -> None:
        """Choose whether `hook_tokens` fires: the ids that are embedded, and that the loss predicts."""
        self.cfg.use_hook_tokens = use_hook_tokens

    def check_hooks_to_add(
        self,
        hook_point: HookPoint,
        hook_point_name: str,
        hook: Callable,
        dir: str = "fwd",
        is_permanent: bool = False,
        prepend: bool = False,
    ) -> None:
        """Refuse a hook that would never fire.

        Raises:
            LRopeError: The point's flag is off; the message names the method that sets it.
        """
        del hook_point, hook, dir, is_permanent, prepend
        remedy = self.remedy(hook_point_name)
        if remedy is not None:
            raise SilentHookError(
                f"Cannot add hook {hook_point_name}: as the model is set it would never fire. {remedy} first."
            )

    def remedy(self, hook_name: str) -> str | None:
        """Return what makes a hook point fire that is silent now; None if it fires."""
        leaf = hook_name.rsplit(".", 1)[-1]
        flag = _FLAG_OF_HOOK.get(leaf)
        if flag is not None and not getattr(self.cfg, flag):
            return f"Call model.set_{flag}(True)"
        if leaf in _EAGER_HOOKS and self.cfg.attn_impl == "sdpa":
            return 'Set model.cfg.attn_impl = "auto"'
        return None
