"""Run folders on the Hugging Face hub: what is pushed is what `train` leaves; nothing else is pulled.

`huggingface_hub` has a mixin for models; everything it does (a config of its own making, a card of its own,
pickles read as a last resort) would be overridden, so its client is called directly.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from lrope_interp.errors import LRopeError

CARD_FILE = "README.md"
SAMPLE_FILE = "sample.jsonl"
_BESIDE = ("run.json", "data.json", "tokenizer.json", "metrics.jsonl", SAMPLE_FILE, CARD_FILE)
_MODEL = ("config.json", "model.safetensors", "increments.safetensors", "increments/*")
_CARD = """---
library_name: lrope-interp
tags: [interpretability, rotary-position-embeddings]
---

# {name}

A small decoder that learns how far each token advances its rotary position:
`lrope_interp.load("{name}")`. It says nothing about large models.

| | |
|---|---|
{rows}

`run.json` says how it was trained; `data.json` has the sha256 of every document that it was trained on.
"""


def unreachable() -> str | None:
    """Say at once why the hub cannot be asked, which its client tries for a minute; None where it may."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "the Hugging Face hub is switched off by HF_HUB_OFFLINE"
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return None
    host = urlsplit(constants.ENDPOINT).hostname or "huggingface.co"
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return f"the Hugging Face hub ({host}) cannot be reached from here"
    return None


def pulled(name: str) -> Path:
    """Return where a run folder of the hub lies in its client's cache; it is downloaded if need be.

    Args:
        name: OWNER/NAME.

    Raises:
        LRopeError: The hub cannot be reached and the cache has no copy, or it has no such model of ours.
    """
    import huggingface_hub

    problem, ours = unreachable(), [*_BESIDE, *_MODEL]
    try:
        found = huggingface_hub.snapshot_download(
            name, allow_patterns=ours, local_files_only=problem is not None
        )
    except Exception as error:  # of the network, of the hub, of its client
        why = problem or f"the Hugging Face hub did not give it ({_first_line(error)})"
        raise LRopeError(
            f"there is no folder {name}, and {why}; `lrope-interp list runs` lists the runs that there are. "
            "Where there is no network, a model of the hub that was loaded before is found again"
        ) from None
    if not Path(found, _MODEL[0]).is_file():
        raise LRopeError(f"{name} on the Hugging Face hub has no {_MODEL[0]}: it is no model of lrope-interp")
    return Path(found)


def pushed(
    name: str,
    run_folder: Path,
    info: Mapping[str, Any],
    save: Callable[[Path], None],
    *,
    private: bool | None,
    token: str | None,
) -> str:
    """Upload a run folder: a model, the files beside it, and a card where it has none.

    Args:
        name: OWNER/NAME; made if it is not there.
        run_folder: What lies beside the model: `run.json`, `data.json`, the tokenizer.
        info: The content of `run.json`.
        save: Writes configuration and weights into a folder.
        private: Whether a repository that is made is private; None takes the owner's setting.
        token: None takes the one of `hf auth login`.

    Raises:
        LRopeError: The hub cannot be reached, or refuses.
    """
    import huggingface_hub

    if problem := unreachable():
        raise LRopeError(f"{name} cannot be pushed: {problem}")
    with TemporaryDirectory() as temporary:
        place = Path(temporary, "run")
        save(place)
        for beside in _BESIDE:
            if (run_folder / beside).is_file():
                shutil.copyfile(run_folder / beside, place / beside)
        if not (place / CARD_FILE).exists():
            told = {key: info.get(key) for key in ("increments", "data", "n_steps", "seed", "n_parameters")}
            rows = (f"| {key} | {value} |" for key, value in (told | dict(info.get("summary") or {})).items())
            (place / CARD_FILE).write_text(_CARD.format(name=name, rows="\n".join(rows)), encoding="utf-8")
        try:
            api = huggingface_hub.HfApi(token=token)
            made = api.create_repo(name, private=private, exist_ok=True)
            message = "Push a run of lrope-interp"
            return str(api.upload_folder(repo_id=made.repo_id, folder_path=place, commit_message=message))
        except Exception as error:
            raise LRopeError(f"{name} cannot be pushed: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
