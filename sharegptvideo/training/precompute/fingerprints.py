"""Fingerprints of clips, pairs and checkpoints: the keys of what is kept between runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo._io import dumps, os_errors, sha256_file
from sharegptvideo.media import MediaError
from sharegptvideo.models import checkpoint_folder

if TYPE_CHECKING:
    import torch

__all__ = ["clip_fingerprint", "digest", "module_fingerprint", "settings_fingerprint"]

_SETTINGS = (
    "config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)


def digest(*parts: object) -> str:
    """Return 32 hex digits that name what `parts`, which are JSON, say."""
    return hashlib.sha256(dumps(parts).encode()).hexdigest()[:32]


def clip_fingerprint(path: str) -> str:
    """Return a fingerprint of the name, size and time of a clip's file, or a folder's frames.

    The folders above it do not count: data that are moved keep what was computed for them. The
    bytes do not either: reading all clips again would cost what a cache is to save.

    Raises:
        MediaError: nothing there.
    """
    with os_errors(path, action="read", raises=MediaError, exit_code=1):
        if not os.path.isdir(path):  # noqa: PTH112 - os alone: called for every clip
            return digest(_facts(os.path.basename(path), os.stat(path)))  # noqa: PTH116, PTH119
        with os.scandir(path) as entries:
            facts = sorted(_facts(entry.name, entry.stat()) for entry in entries)
    return digest(Path(path).name, *facts)


def _facts(name: str, stat: os.stat_result) -> tuple[str, int, int]:
    return name, stat.st_size, stat.st_mtime_ns


def settings_fingerprint(model: str) -> str:
    """Return a fingerprint of a checkpoint's configuration: architecture, treatment of frames.

    Args:
        model: a folder, or a Hub id.
    """
    folder = checkpoint_folder(model)
    files = [(name, folder / name) for name in _SETTINGS]
    return digest(*((name, sha256_file(file)) for name, file in files if file.is_file()))


def module_fingerprint(module: torch.nn.Module) -> str:
    """Return a fingerprint of the names, types and values of a module's weights and buffers."""
    return digest(*(_weight(name, value) for name, value in sorted(_saved(module))))


def _saved(module: torch.nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    state: dict[str, torch.Tensor] = module.state_dict()
    return state.items()


def _weight(name: str, value: torch.Tensor) -> tuple[str, str, str]:
    import torch

    # As bytes: NumPy has no bfloat16.
    content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return name, str(value.dtype), hashlib.sha256(content.data).hexdigest()
