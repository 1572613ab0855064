"""What a step costs beside its seconds: operations it needs, launches, where its time goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sharegptvideo.training.estimate import Rate, local_gpus
from sharegptvideo.training.sharing.forward import scored_parts

__all__ = ["mfu", "operations", "profiled", "rate_row", "step_spans"]

_TOP = 10
_LAUNCHES = ("LaunchKernel", "GraphLaunch")  # cudaLaunchKernel, cuLaunchKernelEx, cudaGraphLaunch

Span = tuple[int, int]


class _Count(TorchDispatchMode):
    """Count the calls of aten's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def profiled(
    step: Callable[[], object], device: torch.device, *, top_ten: bool = True
) -> dict[str, Any]:
    """Run a step once under torch's profiler.

    On CUDA `launches` are calls of the driver that start a kernel or a graph, `kernels` what ran on
    the device and `kernel_seconds` its time; on a CPU `launches` are calls of aten's operations, by
    a dispatch mode. `top_ten` are the names with the most time of their own, with their share.
    """
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    cuda = device.type == "cuda"
    figures: dict[str, Any] = {}
    if not cuda:
        with _Count() as count:
            step()
        figures["launches"] = count.calls
        if not top_ten:
            return figures
    # On a GPU the host's operations are left out: recording them would take longer than they do.
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    with profile(activities=[activity], acc_events=True) as found:
        step()
        if cuda:
            torch.cuda.synchronize(device)
    averages = found.key_averages()
    if cuda:
        own = [each for each in averages if each.device_type == DeviceType.CUDA]
        host = [each for each in averages if each.device_type != DeviceType.CUDA]
        spent = {each.key: (each.self_device_time_total, each.count) for each in own}
        figures["launches"] = sum(
            each.count for each in host if any(word in each.key for word in _LAUNCHES)
        )
        figures["kernels"] = sum(calls for _, calls in spent.values())
        figures["kernel_seconds"] = round(sum(time for time, _ in spent.values()) / 1e6, 4)
    else:
        spent = {each.key: (each.self_cpu_time_total, each.count) for each in averages}
    if top_ten:
        total = sum(time for time, _ in spent.values())
        most = sorted(spent.items(), key=lambda item: -item[1][0])[:_TOP]
        figures["top_ten"] = [
            {"name": name[:80], "share": round(time / max(total, 1e-9), 3), "calls": calls}
            for name, (time, calls) in most
        ]
    return figures


def step_spans(batch: dict[str, Any], *, shared: bool) -> tuple[list[Span], int, int]:
    """Of a collator's batch: (tokens, those before them that they see) by part, scored, clips.

    Args:
        shared: each clip once, as the layout says; else every row by itself.
    """
    layout = batch["shared_layout"]
    scored = len(layout.scored)
    if shared:
        spans = [(group.prefix, 0) for group in layout.groups]
        spans += [(end, group.prefix) for group in layout.groups for end in group.ends]
        return spans, scored, len(next(iter(batch["clips"].values())))
    lengths = [int(length) for length in batch["attention_mask"].sum(-1)]
    return [(length, 0) for length in lengths], scored, len(lengths)


def operations(
    model: Any,
    spans: Sequence[Span],
    scored: int,
    clips: int,
    *,
    more_forwards: int = 0,
    shared: bool = False,
) -> dict[str, float]:
    """Operations that a training step of the language model needs, nothing computed again.

    A multiplication and addition are two. Backward through the language model takes twice its
    forward pass; towers and projector run forward alone.

    Args:
        model: a `llava_hound` or Video-LLaVA.
        spans: as `step_spans` gives them; causal within a part.
        scored: positions whose next token is scored.
        clips: how many go through the tower.
        more_forwards: passes of another such model without backward: a reference.
        shared: whether parts of the last layer run at scored positions alone, as where clips are
            shared.

    Returns:
        `linear`: of products with weights; `attention`: between positions, which torch's counter
        leaves out on a CPU.
    """
    inner, config = model.model, model.config
    text = config.text_config
    tokens = sum(length for length, _ in spans)
    seen = sum(length * (before + length / 2) for length, before in spans)
    language = _weights(inner.language_model) * tokens + model.lm_head.weight.numel() * scored
    if shared:
        parts = scored_parts(inner.language_model).values()
        language -= sum(map(_weights, parts)) * (tokens - scored)
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    attention = 4.0 * text.num_hidden_layers * text.num_attention_heads * size * seen

    vision = getattr(config, "video_config", None) or config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    frames = clips * 8
    positions = frames * (patches + 1)
    over_time = 8 if getattr(vision, "add_time_attn", False) else 0
    tower_attention = 4.0 * vision.num_hidden_layers * vision.hidden_size * positions
    tower_attention *= patches + 1 + over_time
    tower = _weights(inner.video_tower) * positions
    tower += _weights(inner.multi_modal_projector) * frames * patches
    passes = 3 + more_forwards
    return {
        "linear": 2.0 * (passes * language + (1 + more_forwards) * tower),
        "attention": passes * attention + (1 + more_forwards) * tower_attention,
    }


def _weights(module: Any) -> int:
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, kinds))


def mfu(needed: dict[str, float], seconds: float) -> dict[str, Any]:
    """Operations a second, and their share of the GPU's peak in bf16 where that is known."""
    total = sum(needed.values())
    gpus = local_gpus()
    return {
        "teraflops_a_step": float(f"{total / 1e12:.5g}"),
        "gpu": None if gpus is None else gpus.gpu.name,
        "mfu": None if gpus is None else round(total / seconds / gpus.gpu.teraflops / 1e12, 4),
    }


def rate_row(rate: Rate) -> str:
    """A rate as a row of `MEASURED_RATES`, to be pasted there."""
    return (
        f'Rate("{rate.work}", "{rate.gpu}", {rate.parameters / 1e9:.2g}e9, {rate.recomputes}, '
        f'{rate.low:.2g}, {rate.high:.2g}, {rate.all_operations}, "{rate.source}"),'
    )
