"""Write the list in docs/hooks.md from the model itself: `python docs/generate_hooks.py`.

Tiny models of every mode are run with caching, and what fired is listed. The sizes of all axes
differ, so that a shape can be read back as letters.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import groupby, product
from pathlib import Path

import torch

from lrope_interp.models import LRopeConfig, LRopeTransformer

PAGE = Path(__file__).with_name("hooks.md")
BEGIN, END = "<!-- hooks:begin -->", "<!-- hooks:end -->"
AXES = {2: "b", 3: "p", 5: "h", 4: "d", 20: "m", 7: "f", 11: "V", 1: "1"}
MODES = ("per_layer", "shared", "fixed")
FLAGS = (None, "use_split_qkv_input", "use_attn_in", "use_attn_result", "use_hook_mlp_in", "use_hook_tokens")
OURS = ("hook_increments_in", "hook_increments_pre", "hook_increments", "hook_positions")
NOTES = {
    "hook_tokens": "the ids that are embedded, and that the loss predicts",
    "hook_increments_in": "what the increment head reads",
    "hook_increments_pre": "before the sigmoid",
    "hook_increments": "the gap *before* each token; write here to ablate",
    "hook_positions": "their running sum, what RoPE rotates by",
    "hook_attn_scores": "a hook here switches to eager attention; masked scores are -inf",
    "hook_pattern": "a hook here switches to eager attention; masked scores are -inf",
    "hook_normalized": "before the gain",
    "hook_result": "each head's write, before `b_O`",
    "hook_post": "with `b_in`, as in HookedTransformer",
}


@dataclass
class HookRow:
    """One hook point: where, with what, and when it fires."""

    name: str
    shapes: list[str] = field(default_factory=list)
    dtype: str = ""
    modes: list[str] = field(default_factory=list)
    flag: str | None = None

    def parts(self) -> list[str]:
        """Return name, shape and note."""
        leaf = self.name.rsplit(".", 1)[-1]
        name = f"**`{self.name}`**" if leaf in OURS else f"`{self.name}`"
        notes = [NOTES[leaf]] if leaf in NOTES else []
        if set(self.modes) != set(MODES):
            notes.append(f"{' and '.join(f'`{mode}`' for mode in self.modes)} mode")
        if self.flag:
            notes.append(f"behind `set_{self.flag}(True)`")
        if self.dtype != "float32":
            notes.append(self.dtype)
        return [name, _both(self.shapes), "; ".join(notes)]


def _both(shapes: list[str]) -> str:
    """Join the shapes without and with `per_head`: an axis that comes and goes is in brackets."""
    shared, per_head = min(shapes, key=len), max(shapes, key=len)
    return shared if shared == per_head else f"{shared},(h)"


def _letters(shape: torch.Size) -> str:
    letters = [AXES[size] for size in shape]
    return ",".join([*letters[:-2], "q", "k"] if letters[-2:] == ["p", "p"] else letters)


def _fired(mode: str, per_head: bool, flag: str | None) -> dict[str, torch.Tensor]:
    """Run one tiny model and return what passed its hook points, layer 0 standing for all."""
    sizes = {"n_layers": 1, "d_model": 20, "n_heads": 5, "d_head": 4, "d_mlp": 7, "d_vocab": 11, "n_ctx": 3}
    cfg = LRopeConfig(**sizes, increments=mode, per_head=per_head, seed=0, device="cpu")
    model = LRopeTransformer(cfg).eval()
    if flag:
        getattr(model, f"set_{flag}")(True)
    _, cache = model.run_with_cache(torch.zeros(2, 3, dtype=torch.long))
    return {name.replace("blocks.0.", "blocks.l."): value for name, value in cache.items()}


def hook_rows() -> list[HookRow]:
    """Return every hook point that fires in some mode or behind some flag, in firing order."""
    rows: dict[str, HookRow] = {}
    order: list[str] = []
    for flag, mode, per_head in product(FLAGS, MODES, (False, True)):
        previous = None
        for name, value in _fired(mode, per_head, flag).items():
            if name not in rows:
                rows[name] = HookRow(name, flag=flag)
                order.insert(0 if previous is None else order.index(previous) + 1, name)
            row, previous = rows[name], name
            if row.flag == flag:
                row.shapes.append(_letters(value.shape))
                row.dtype = str(value.dtype).removeprefix("torch.")
                row.modes += [] if mode in row.modes else [mode]
    return [rows[name] for name in order]


def hook_list() -> str:
    """Return the list in Markdown: neighbours of one shape and with one note share an item."""
    lines = []
    for (shape, note), rows in groupby((row.parts() for row in hook_rows()), key=lambda parts: parts[1:]):
        lines.append(f"* {', '.join(name for name, *_ in rows)} {shape}" + (f": {note}" if note else ""))
    return "\n".join(lines)


def committed_list() -> str:
    """Return what stands between the two markers in docs/hooks.md."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


def write() -> None:
    """Put the generated list between the markers."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{hook_list()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())
