"""How many rows a device holds, and what to do where that was too many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

__all__ = [
    "cache_bytes",
    "coming_cache_bytes",
    "fitting_rows",
    "free_bytes",
    "in_parts",
    "is_out_of_memory",
]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Beside the caches there are logits and a layer's working tensors, and rows that have ended leave
# a cache by copying it, layer by layer.
_USABLE = 0.8
_CGROUP = Path("/sys/fs/cgroup")


def in_parts(
    items: Sequence[Item],
    run: Callable[[Sequence[Item]], list[Result]],
    *,
    most: int | None = None,
) -> list[Result]:
    """Return `run(items)`, in parts of at most `most`; halve a part that memory does not hold.

    Raises:
        torch.OutOfMemoryError: or the CPU allocator's RuntimeError: one item alone does not fit.
    """
    if most is not None and len(items) > max(1, most):
        starts = range(0, len(items), max(1, most))
        return [one for at in starts for one in in_parts(items[at : at + max(1, most)], run)]
    try:
        return run(items)
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(items) < 2:
            raise
    # Out of the handler: the traceback held on to the tensors that were too large.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = (len(items) + 1) // 2
    return [*in_parts(items[:half], run), *in_parts(items[half:], run)]


def cache_bytes(cache: Any, tokens: int) -> int:
    """Count the bytes that `tokens` tokens of one row take in a cache like this one."""
    layers = cache.layers
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    rows, _, length = layers[0].keys.shape[:3]
    return int(held * tokens // (rows * length))


def coming_cache_bytes(config: Any, tokens: int, dtype: torch.dtype) -> int:
    """Count the bytes that `tokens` tokens of one row will take, by a language model's config."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * tokens * dtype.itemsize)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device, or the CPU's allocator, had not enough memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def fitting_rows(row_bytes: int, free: int | None) -> int | None:
    """Return how many rows go into `free` bytes, at least 1; None where that is unknown."""
    return None if free is None else max(1, int(free * _USABLE) // max(1, row_bytes))


def free_bytes(device: torch.device) -> int | None:
    """Return the bytes that a device can still give; None where it does not say.

    On CUDA what the driver has free and what torch holds unused; on a CPU under Linux what the
    system has available, within the control group's limit.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + int(unused)
    if device.type != "cpu":
        return None
    limits = [number for number in (_available(), _within_group()) if number is not None]
    return min(limits, default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kib = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kib[0] * 1024 if kib else None


def _within_group() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        facts = (_CGROUP / "memory.stat").read_text().split()
    except OSError:
        return None
    if limit == "max":
        return None
    # Cached pages of files count as used but are given up on demand.
    cached = int(facts[facts.index("inactive_file") + 1]) if "inactive_file" in facts else 0
    return max(0, int(limit) - used + cached)
