"""What a training ran with: versions of packages, this package's own source, the machine."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

__all__ = ["environment", "source_hash", "versions"]

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
_OWN = ("sharegptvideo", "sharegptvideo.training")
_BELOW = {"eval", "training", "datasets_cards"}  # packages of their own, wherever they lie


def versions() -> dict[str, str]:
    """Installed versions of what can change weights; what is not installed is left out."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def source_hash() -> str:
    """SHA-256 of this package's Python files that train; a version number does not tell edits."""
    digest = hashlib.sha256()
    for package in _OWN:
        root = Path(str(files(package)))
        for file in sorted(root.rglob("*.py")):
            name = file.relative_to(root)
            if package == "sharegptvideo" and name.parts[0] in _BELOW:
                continue
            digest.update(f"{package}/{name.as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


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
