"""RMSNorm, rotary positions and SwiGLU of a language model's layers, compiled to a kernel each.

Eager PyTorch has half a dozen kernels for each of them, and every one reads and writes all
activations. What is compiled has no products of weights in it: linear layers stay calls of their
own, with their adapters, hooks and shards.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache, partial
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any, Literal, NamedTuple

import torch

from sharegptvideo.errors import UserError
from sharegptvideo.training.precision import first_fault, output_and_gradients
from sharegptvideo.training.sharing.attention import HeadShape

__all__ = ["BACKEND", "Backend", "Fused", "FusedChoice", "fuse_layers"]

Backend = str | Callable[..., Any]
BACKEND: Backend = "inductor"
"""What compiles; another one is for tests."""

FusedChoice = bool | Literal["auto"]
"""As recipes say it: `auto` is on a GPU, where they are right there."""


class Fused(NamedTuple):
    """Which of `norm`, `rotary` and `swiglu` are compiled; a line that says why others are not."""

    parts: tuple[str, ...]
    reason: str | None


class Precision(NamedTuple):
    """What a training computes in: the type of hidden states, and whether autocast makes bf16."""

    states: torch.dtype
    autocast: bool

    @property
    def products(self) -> torch.dtype:
        """Return the type of what linear layers give."""
        return torch.bfloat16 if self.autocast else self.states


def fuse_layers(
    models: Sequence[Any], wanted: FusedChoice, device: torch.device, *, autocast: bool
) -> Fused:
    """Let the layers of models of one architecture compute by compiled functions in training.

    Each is computed once beside the model's own on small tensors, with gradients, before it is
    relied on; what fails there is left as it is. So are answers between steps (inference mode),
    and a position by itself: those run as before.

    Args:
        device: that the training runs on.
        autocast: whether it computes in bfloat16 by autocast.

    Raises:
        UserError: `wanted` is true, and one of them fails.
    """
    if wanted is False or (wanted == "auto" and device.type != "cuda"):
        return Fused((), None)
    precision = Precision(models[0].dtype, autocast)
    parts: list[str] = []
    faults: dict[str, list[str]] = {}
    for name, places in _PARTS.items():
        all_places = [place for model in models for place in places(model, BACKEND)]
        kinds = {place.kind: place for place in all_places}
        checks = (place.fault(device, precision) for place in kinds.values())
        fault = next(filter(None, checks), None) if kinds else "is none that is known here"
        if fault:
            faults.setdefault(fault, []).append(name)
            continue
        parts.append(name)
        for place in all_places:
            place.module.forward = MethodType(place.forward, place.module)
    lines = [f"{', '.join(names)}: {fault}" for fault, names in faults.items()]
    if lines and wanted is True:
        raise UserError(f"optimisation.fused: {'; '.join(lines)}; set optimisation.fused=auto")
    return Fused((*parts,), f"not fused: {'; '.join(lines)}" if lines else None)


class _Place(NamedTuple):
    """A module, what computes in place of its class's `forward`, and how that is checked.

    `kind` is the same for places that one check serves.
    """

    module: Any
    forward: Callable[..., Any]
    kind: Hashable
    fault: Callable[[torch.device, Precision], str | None]


def _as_before(states: torch.Tensor) -> bool:
    return states.numel() == states.shape[-1] or torch.is_inference_mode_enabled()


@lru_cache(maxsize=8)
def _compiled(function: Callable[..., Any], backend: Backend) -> Any:
    return torch.compile(function, backend=backend)


def _rows(states: torch.Tensor) -> torch.Tensor:
    """Return hidden states as rows, for which what is compiled serves any number of them."""
    rows = states.reshape(-1, states.shape[-1])
    torch._dynamo.maybe_mark_dynamic(rows, 0)
    return rows


# RMSNorm


def _norms(model: Any, backend: Backend) -> Iterator[_Place]:
    forward = partial(_norm_forward, backend=backend)
    for module in model.get_decoder().modules():
        kind = type(module)
        if kind.__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            size, epsilon = module.weight.numel(), module.variance_epsilon
            fault = partial(_norm_fault, kind.forward, forward, size, epsilon)
            yield _Place(module, forward, (kind, size, epsilon), fault)


def _norm_forward(self: Any, hidden_states: torch.Tensor, *, backend: Backend) -> torch.Tensor:
    if _as_before(hidden_states):
        return type(self).forward(self, hidden_states)  # type: ignore[no-any-return]  # of transformers
    normed: torch.Tensor = _compiled(_norm, backend)(
        _rows(hidden_states), self.weight, self.variance_epsilon
    )
    return normed.view(hidden_states.shape)


def _norm(states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    wide = states.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(states.dtype)


def _norm_fault(
    plain: Any, fused: Any, size: int, epsilon: float, device: torch.device, precision: Precision
) -> str | None:
    shape = (1, _TOKENS, size)
    states, weight, weights = _drawn(precision.states, shape, (size,), shape)

    def computed(forward: Any, kind: torch.dtype) -> dict[str, torch.Tensor]:
        inputs = {
            "states": states.to(device, kind).requires_grad_(),
            "weight": torch.nn.Parameter(weight.to(device, kind)),
        }
        norm = SimpleNamespace(weight=inputs["weight"], variance_epsilon=epsilon)
        with _autocast(device, precision):
            output = forward(norm, inputs["states"])
        return output_and_gradients(output, inputs, weights.to(device))

    return first_fault(partial(computed, fused), partial(computed, plain), precision.states)


# Rotary positions

_ROTARY = "apply_rotary_pos_emb"  # of every model's own module in transformers


def _rotaries(model: Any, backend: Backend) -> Iterator[_Place]:
    shape = HeadShape.of(model.config)
    for layer in model.get_decoder().layers:
        plain = type(layer.self_attn).forward
        if _ROTARY in plain.__code__.co_names:
            rotate = _rotate(plain.__globals__[_ROTARY], backend)
            forward = _with_global(plain, rotate)
            fault = partial(_rotary_fault, plain.__globals__[_ROTARY], rotate, shape)
            yield _Place(layer.self_attn, forward, plain, fault)


@lru_cache(maxsize=8)
def _rotate(plain: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    def rotate(
        query: torch.Tensor,
        key: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        heads = (query, key, cos, sin)
        if _as_before(cos):
            return plain(*heads, *args, **kwargs)
        for tensor in heads:  # rows×heads×T×size, and rows×T×size
            torch._dynamo.maybe_mark_dynamic(tensor, (0, tensor.dim() - 2))
        return _compiled(plain, backend)(*heads, *args, **kwargs)

    return rotate


@lru_cache(maxsize=8)
def _with_global(forward: FunctionType, rotate: Callable[..., Any]) -> FunctionType:
    """Return an attention's `forward` that calls `rotate`; others of its module do not."""
    names = {**forward.__globals__, _ROTARY: rotate}
    again = FunctionType(
        forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__
    )
    again.__kwdefaults__ = forward.__kwdefaults__
    return again


def _rotary_fault(
    plain: Any, fused: Any, shape: HeadShape, device: torch.device, precision: Precision
) -> str | None:
    heads = shape.heads + shape.key_heads
    size, of_angles = (1, _TOKENS, heads, shape.size), (1, _TOKENS, shape.size)
    drawn, weights = _drawn(precision.products, size, size)
    cosines, sines = _drawn(precision.states, of_angles, of_angles)

    def computed(rotate: Any, kind: torch.dtype) -> dict[str, torch.Tensor]:
        # Under autocast angles are of the states' type, and what is turned is not.
        angles = precision.states if kind == precision.products else kind
        both = drawn.to(device, kind)
        query, key = (
            part.contiguous().transpose(1, 2).requires_grad_()
            for part in (both[:, :, : shape.heads], both[:, :, shape.heads :])
        )
        with _autocast(device, precision):
            turned = rotate(query, key, cosines.to(device, angles), sines.to(device, angles))
        output = torch.cat(turned, dim=1)
        inputs = {"queries": query, "keys": key}
        return output_and_gradients(output, inputs, weights.to(device).transpose(1, 2))

    return first_fault(partial(computed, fused), partial(computed, plain), precision.products)


# SwiGLU


def _gates(model: Any, backend: Backend) -> Iterator[_Place]:
    forward = partial(_gate_forward, backend=backend)
    for layer in model.get_decoder().layers:
        mlp = layer.mlp
        if all(hasattr(mlp, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
            size = mlp.gate_proj.out_features
            fault = partial(_gate_fault, type(mlp).forward, forward, size, mlp.act_fn)
            yield _Place(mlp, forward, (type(mlp), size), fault)


def _gate_forward(self: Any, x: torch.Tensor, *, backend: Backend) -> torch.Tensor:
    if _as_before(x):
        return type(self).forward(self, x)  # type: ignore[no-any-return]  # of transformers
    gate, up = self.gate_proj(x), self.up_proj(x)
    gated: torch.Tensor = _compiled(_gate, backend)(self.act_fn, _rows(gate), _rows(up))
    return self.down_proj(gated.view(gate.shape))  # type: ignore[no-any-return]


def _gate(activation: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    gated: torch.Tensor = activation(gate) * up
    return gated


def _gate_fault(
    plain: Any, fused: Any, size: int, activation: Any, device: torch.device, precision: Precision
) -> str | None:
    """Check by a class's own `forward`, whose linear layers give what is drawn."""
    drawn, weights = _drawn(precision.products, (2, 1, _TOKENS, size), (1, _TOKENS, size))
    mlp = SimpleNamespace(
        gate_proj=lambda both: both[0].clone(),  # tensors of their own, as layers give them
        up_proj=lambda both: both[1].clone(),
        down_proj=lambda gated: gated,
        act_fn=activation,
    )

    def computed(forward: Any, kind: torch.dtype) -> dict[str, torch.Tensor]:
        both = drawn.to(device, kind).requires_grad_()
        with _autocast(device, precision):
            output = forward(mlp, both)
        return output_and_gradients(output, {"gate and up": both}, weights.to(device))

    return first_fault(partial(computed, fused), partial(computed, plain), precision.products)


_PARTS: dict[str, Callable[[Any, Backend], Iterator[_Place]]] = {
    "norm": _norms,
    "rotary": _rotaries,
    "swiglu": _gates,
}

_TOKENS = 60  # of what is drawn for a check


def _drawn(dtype: torch.dtype, *sizes: tuple[int, ...]) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=draw).to(dtype) for size in sizes]


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context of a training's forward pass, for which what is compiled is made."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision.autocast)
