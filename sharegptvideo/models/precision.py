"""The dtype of attention: one for queries, keys and values."""

from __future__ import annotations

import torch

__all__ = ["in_one_dtype"]


def in_one_dtype(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cast queries and keys to the dtype of the values, or all three to autocast's where it is on.

    Rotary positions leave queries and keys of a float32 model in float32 under autocast, while
    values come out of their linear layer in bfloat16. Autocast evens that out only in the
    functions that it knows: not in a call with a `causal_lower_right` mask, nor in one of a kernel
    by its own name. As in autocast, float64 stays.
    """
    place, dtype = value.device.type, value.dtype
    if (
        dtype != torch.float64
        and torch.amp.is_autocast_available(place)
        and torch.is_autocast_enabled(place)
    ):
        dtype = torch.get_autocast_dtype(place)
    return query.to(dtype), key.to(dtype), value.to(dtype)
