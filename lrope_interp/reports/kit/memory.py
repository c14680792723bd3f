"""Frames that several parts of a page ask for are made once for each result."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any

from lrope_interp.reports.kit.frames import Frame
from lrope_interp.results import Result

FrameOf = Callable[..., Frame]


def made_once(function: FrameOf) -> FrameOf:
    """Remember what a function of a result and some words returns, for as long as the result lives.

    A result is frozen, so its frames do not change; each caller gets a copy of its own.
    """
    kept: dict[int, dict[tuple[Any, ...], Any]] = {}

    @wraps(function)
    def remembering(result: Result, *words: str, **named: str) -> Frame:
        if id(result) not in kept:
            kept[id(result)] = {}
            weakref.finalize(result, kept.pop, id(result), None)
        frames = kept[id(result)]
        asked = (words, tuple(sorted(named.items())))
        if asked not in frames:
            frames[asked] = function(result, *words, **named)
        return frames[asked].copy()

    return remembering
