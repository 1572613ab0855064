"""A GPU's calls on the CPU: tensors that say they are on one, its kernels, its graphs.

Kernels have the demands and the paddings of the real ones. A graph records what runs while it is
captured; replayed, it runs the same operations on the same tensors, whatever Python has changed
since: that is what a real one does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "CPU",
    "GPU",
    "Graph",
    "SaysCuda",
    "efficient_backward",
    "efficient_kernel",
    "flash_backward",
    "flash_kernel",
    "with_graphs",
]

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


class SaysCuda(TorchFunctionMode):
    """Tensors of the CPU that say that they are on a GPU; what is made there is made here."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func == torch.Tensor.device.__get__:  # type: ignore[attr-defined]  # a descriptor
            return GPU
        here = {name: self._here(value) for name, value in (kwargs or {}).items()}
        return func(*map(self._here, args), **here)

    def _here(self, value: Any) -> Any:
        named = isinstance(value, torch.device | str)
        return CPU if named and value in (GPU, str(GPU)) else value


def flash_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float = 0.0,
    is_causal: bool = False,
    return_debug_mask: bool = False,
    scale: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor, None]:
    """What CUDA's kernel computes, of half precision alone, for fewer key heads than queries.

    Causal is at the lower right.
    """
    assert {x.dtype for x in (query, key, value)} <= {torch.bfloat16, torch.float16}
    assert len({x.dtype for x in (query, key, value)}) == 1
    assert not dropout
    assert not return_debug_mask
    size = query.shape[2], key.shape[2]
    mask = torch.ones(size, dtype=torch.bool).tril(size[1] - size[0] if is_causal else size[1])
    times = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(times, 1).transpose(2, 3)
    scores = (scores.float() * scale).masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1).to(query.dtype)
    return weights @ value.repeat_interleave(times, 1), scores.logsumexp(-1), None


def efficient_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    compute_log_sumexp: bool,
    *,
    is_causal: bool = False,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, None, None]:
    """What CUDA's kernel computes; the sums padded to a multiple of 32, with numbers of no use.

    A bias is of the queries' dtype, whole in shape, and its rows begin at multiples of 8.
    Causal is at the upper left.
    """
    assert compute_log_sumexp
    assert query.shape[:2] == key.shape[:2] == value.shape[:2]
    assert query.dtype == key.dtype == value.dtype
    scores = (query.float() @ key.float().transpose(2, 3)) * scale
    if bias is not None:
        assert bias.dtype == query.dtype
        assert bias.shape == scores.shape
        if bias.stride(-1) != 1 or any(step % 8 for step in bias.stride()[:-1]):
            raise RuntimeError("attn_bias is not correctly aligned. Think of it")
        assert bias.storage_offset() % 8 == 0
        # In base 2: what is added is multiplied as well, and may not go over the largest number.
        scores = (scores * 1.4427 + bias.float() * 1.4427) / 1.4427
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[2:]).triu(1).bool(), -torch.inf)
    length = -(-query.shape[2] // 32) * 32
    sums = torch.full((*query.shape[:2], length), 7.0)
    sums[..., : query.shape[2]] = scores.logsumexp(-1)
    return (scores.softmax(-1) @ value.float()).to(query.dtype), sums, None, None


def flash_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *given: Any,
    scale: float,
) -> list[torch.Tensor]:
    """What CUDA's kernel computes, for fewer key heads than queries as well."""
    out, sums, *unset, queries, keys, dropout, causal, _, _ = given
    assert unset == [None, None]  # ends of sequences, where batches have several
    assert (queries, keys) == (query.shape[2], key.shape[2])
    assert not dropout
    assert not causal or queries == keys
    assert sums.is_contiguous()
    return _backward(grad, query, key, value, out, sums, causal, scale)


def efficient_backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *given: Any,
    scale: float,
) -> list[torch.Tensor | None]:
    """What CUDA's kernel computes, from sums that are padded as they came."""
    bias, out, sums, _, _, dropout, wanted, causal = given
    assert bias is None
    assert not dropout
    assert wanted == [True, True, True, False]
    assert query.shape[1] == key.shape[1]
    assert sums.shape[-1] == -(-query.shape[2] // 32) * 32
    assert sums.is_contiguous()
    sums = sums[..., : query.shape[2]]
    return [*_backward(grad, query, key, value, out, sums, causal, scale), None]


def _backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    sums: torch.Tensor,
    causal: bool,
    scale: float,
) -> list[torch.Tensor]:
    """By the derivative of a softmax, whose weights follow from the sums that are given."""
    times = query.shape[1] // key.shape[1]
    q, k, v = (x.float() for x in (query, key, value))
    k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    scores = q @ k.transpose(2, 3) * scale
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[2:]).triu(1).bool(), -torch.inf)
    weights = (scores - sums.unsqueeze(-1)).exp()
    each = (grad.float() * out.float()).sum(-1, keepdim=True)
    to_scores = weights * (grad.float() @ v.transpose(2, 3) - each) * scale
    to_key = (to_scores.transpose(2, 3) @ q).unflatten(1, (-1, times)).sum(2)
    to_value = (weights.transpose(2, 3) @ grad.float()).unflatten(1, (-1, times)).sum(2)
    return [x.to(query.dtype) for x in (to_scores @ k, to_key, to_value)]


_WAIT = {"_local_scalar_dense.default", "equal.default", "nonzero.default"}
"""What makes the CPU wait for the device, which a capture does not allow."""


class _Recorder(TorchDispatchMode):
    def __init__(self, calls: list[Any]) -> None:
        super().__init__()
        self._calls = calls

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if str(func).partition(".")[2] in _WAIT:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        found = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, found))
        return found


class Graph:
    """What `torch.cuda.CUDAGraph` is: operations and the tensors that they go from and to."""

    made: list[Graph]

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.replays = 0
        Graph.made.append(self)

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, before in self.calls:
            after = func(*args, **kwargs)
            pairs = zip(before, after, strict=True) if type(before) is tuple else [(before, after)]
            for old, new in pairs:
                same = not isinstance(old, torch.Tensor) or old.data_ptr() == new.data_ptr()
                if not same:  # a view, or what was written in place, lies where it lay
                    old.copy_(new)


def with_graphs(monkeypatch: pytest.MonkeyPatch, fails: str | None = None) -> list[Graph]:
    """Let torch capture graphs on the CPU, or fail with this message; returns those made."""
    Graph.made = []

    @contextlib.contextmanager
    def graph(made: Graph, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        with _Recorder(made.calls):
            yield
            if fails:
                raise RuntimeError(fails)

    stream = SimpleNamespace(wait_stream=lambda _other: None)
    for name, value in {
        "CUDAGraph": Graph,
        "graph": graph,
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _stream: contextlib.nullcontext(),
        "device": lambda _device: contextlib.nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return Graph.made
