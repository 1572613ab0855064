"""What a training ran with: versions of packages, this package's training, the machine."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["TRAINING_VERSION", "environment", "versions"]

TRAINING_VERSION = 1
"""Raise it when tests/golden/training.json changes: the same recipe then gives other weights."""

_PACKAGES = (
    "sharegptvideo",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
    "av",
    "decord2",
    "deepspeed",
    "bitsandbytes",
)


def versions() -> dict[str, str]:
    """Installed versions of what can change weights; what is not installed is left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def environment(processes: int) -> dict[str, Any]:
    """Python, system, devices and what else decides whether a run can be repeated to the bit."""
    import torch

    cuda = torch.cuda.is_available()
    found = torch.cuda.device_count() if cuda else 0
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(0) if cuda else "cpu",
        "devices": found or 1,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        "processes": processes,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
