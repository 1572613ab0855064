"""What is wrong with a way of computing on a device, beside the plain one: both are run there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

__all__ = ["first_fault", "output_and_gradients"]

_Results = dict[str, torch.Tensor]
_Run = Callable[[torch.dtype], _Results]

_LONGEST_CAUSE = 200


def output_and_gradients(
    output: torch.Tensor, inputs: Mapping[str, torch.Tensor], weights: torch.Tensor
) -> _Results:
    """Return an output, and the gradient of its sum by `weights` for each of its inputs."""
    gradients = torch.autograd.grad(output, list(inputs.values()), weights.to(output.dtype))
    named = zip((f"gradient of {name}" for name in inputs), gradients, strict=True)
    return {"output": output.detach(), **dict(named)}


def first_fault(tried: _Run, plain: _Run, dtype: torch.dtype) -> str | None:
    """Return what is wrong with `tried`; None where it is right.

    Right is: each result, of the same inputs, is within twice the distance of `plain` in `dtype`
    from `plain` in the next wider one, or within 1e-5, and of the type that `plain` gives it.

    Args:
        tried: from a dtype to results by name (`output_and_gradients`); it may fail.
        plain: likewise, of the computation that is right by definition.
        dtype: that a training computes in.
    """
    wider = torch.float64 if dtype == torch.float32 else torch.float32
    try:
        exact, near, results = plain(wider), plain(dtype), tried(dtype)
    except Exception as error:  # noqa: BLE001 - a compiler may fail by any of them
        # torch may begin with "backend='inductor' raised:", the cause below it.
        lines = [line for line in str(error).strip().splitlines() if not line.endswith("raised:")]
        cause = (lines or [type(error).__name__])[0]
        return f"does not run here ({cause[:_LONGEST_CAUSE]})"
    for name, right in exact.items():
        one, other = results[name], near[name]
        if one.dtype != other.dtype:
            return f"gives another type here ({name}: {one.dtype}, not {other.dtype})"
        allowed = max(2 * _distance(other, right), 1e-5)
        if not (off := _distance(one, right)) <= allowed:  # also where it is not a number
            return f"gives wrong numbers here ({name}: {off:.1e} off, {allowed:.1e} is allowed)"
    return None


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.to(other.dtype) - other).norm() / other.norm())
