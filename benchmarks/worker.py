"""One arm in a process of its own: takes a training step when told to, and says how long it took.

Started by `benchmarks.training`; reads a line, answers with a line of JSON. Whatever else the
libraries print goes to stderr. It must run where only the arm's own library is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings

import torch
import torch.nn.functional as F

from benchmarks.arms import SHAPES, Arm, Shape, build
from benchmarks.roof import Roof


class Steps:
    """Training steps of one arm: loss in float32, gradients clipped to norm 1, fused AdamW."""

    def __init__(self, arm: Arm, shape: Shape, device: str, dtype: str) -> None:
        self.arm, self.shape, self.device, self.dtype = arm, shape, device, dtype
        self.optimiser = torch.optim.AdamW(arm.groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
        self.generator = torch.Generator().manual_seed(0)

    def step(self) -> float:
        """Take one step and return its seconds."""
        size = (self.shape.batch_size, self.shape.n_ctx + 1)
        tokens = torch.randint(0, 256, size, generator=self.generator).to(self.device)
        self._wait()
        started = time.perf_counter()
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.dtype == "bfloat16"):
            logits = self.arm.logits(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.arm.module.parameters(), 1.0)
        self.optimiser.step()
        self.loss = float(loss.detach())
        self._wait()
        return time.perf_counter() - started

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def peak_megabytes(device: str) -> float | None:
    """Return the process's largest resident memory, or the accelerator's largest allocation."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["VmHWM"].split()[0]) / 1024
    except (OSError, KeyError):
        return None


def main() -> None:
    """Build the arm, answer every line with a step, end with the input."""
    parser = argparse.ArgumentParser()
    for name in ("arm", "shape", "dtype", "device"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    if asked.threads:
        torch.set_num_threads(asked.threads)
    shape, n_parameters = SHAPES[asked.shape], 0
    if asked.arm == "roof":
        steps = Roof(shape, asked.device, getattr(torch, asked.dtype))
    else:
        arm = build(asked.arm, shape, asked.device)
        n_parameters = sum(parameter.numel() for parameter in arm.module.parameters())
        steps = Steps(arm, shape, asked.device, asked.dtype)
    ready = {"n_parameters": n_parameters, "threads": torch.get_num_threads(), "torch": torch.__version__}
    answers.write(json.dumps(ready) + "\n")
    for _ in sys.stdin:
        seconds = steps.step()
        answer = {"seconds": seconds, "loss": getattr(steps, "loss", None)}
        answers.write(json.dumps(answer | {"peak_mb": peak_megabytes(asked.device)}) + "\n")


if __name__ == "__main__":
    main()
