"""A dry run as text and as figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from sharegptvideo._text import byte_size, magnitude, percent, rough_duration
from sharegptvideo.training.dataset_stats import Survey
from sharegptvideo.training.dry_run import DryRun
from sharegptvideo.training.estimate import Memory, Plan
from sharegptvideo.training.recipe import DpoRecipe
from sharegptvideo.training.shapes import ModelShape

__all__ = ["dry_run_figures", "dry_run_lines"]

_GIB = 1 << 30


def dry_run_figures(found: DryRun) -> dict[str, Any]:
    """All of it as plain JSON values; bytes, hours, counts."""
    figures = asdict(found)
    figures["recipe"] = found.recipe.model_dump(mode="json")
    figures["gpus"] = str(found.gpus) if found.gpus else None
    return {"output": found.recipe.output, **figures}


def dry_run_lines(found: DryRun) -> Iterator[str]:
    """The lines to print, `what  finding` each."""
    for what, text in _facts(found):
        yield f"{what:<10}{text}"
    for what, texts in (
        ("assumed", found.assumed),
        ("missing", found.missing),
        ("STOPS", found.problems),
    ):
        for number, text in enumerate(texts):
            yield f"{what if not number else '':<10}{text}"


def _facts(found: DryRun) -> Iterator[tuple[str, str]]:
    recipe = found.recipe
    yield "recipe", f"{recipe.stage} of {recipe.model} into {recipe.output}"
    if found.data:
        yield from _data(found.data)
    if found.shape:
        yield "model", _model(found.shape)
    if found.plan:
        yield from _plan(found, found.plan)
    for number, way in enumerate(found.memory):
        yield "memory" if not number else "", _memory(found, way)
    if found.memory:
        yield "", _activations(found.memory[0])
    if found.hours is not None and found.plain_hours is not None:
        twice = " and the reference model in every step" if isinstance(recipe, DpoRecipe) else ""
        yield (
            "hours",
            f"{rough_duration(3600 * found.hours)} on {found.gpus}; "
            f"{rough_duration(3600 * found.plain_hours)} with every row by itself{twice}",
        )
    if found.features:
        yield "features", found.features
    if found.disk is not None:
        yield "disk", f"{byte_size(found.disk)} at the most, {byte_size(found.disk_free)} free"


def _data(data: Survey) -> Iterator[tuple[str, str]]:
    lost = f", {data.missing:,} without a clip" if data.missing else ""
    lost += f", {data.equal:,} pairs of equal answers" if data.equal else ""
    lost += f", {data.cut:,} cut to max_length" if data.cut else ""
    yield "data", f"{data.rows:,} rows on {data.clips:,} clips{lost}"
    if data.rows:
        answers = " and ".join(f"{length:.0f}" for length in data.lengths.answers)
        clip = f"{data.video_tokens:,.0f} tokens a clip, " if data.video_tokens else ""
        yield (
            "",
            f"{clip}{data.lengths.prompt:.0f} a prompt, {answers} an answer, on average",
        )


def _model(shape: ModelShape) -> str:
    share = shape.trainable / shape.parameters
    adapters = " as adapters" if shape.adapters else ""
    return (
        f"{shape.kind}, {magnitude(shape.parameters)} parameters, {magnitude(shape.trainable)} "
        f"of them learn{adapters} ({percent(share)})"
    )


def _plan(found: DryRun, plan: Plan) -> Iterator[tuple[str, str]]:
    o = found.recipe.optimisation
    yield (
        "steps",
        f"{plan.steps:,} of {plan.rows_a_step:,} rows ({o.per_device_batch_size} a device × "
        f"{o.gradient_accumulation} × {plan.devices})",
    )
    ratio = plan.tokens_plain / max(plan.tokens_shared, 1)
    yield (
        "tokens",
        f"{plan.tokens_shared:,} a step; {plan.tokens_plain:,} with a clip's once a row "
        f"({ratio:.2f} times)",
    )
    yield "compute", f"{plan.flops:.3g} operations; {plan.plain_flops:.3g} row by row"


def _memory(found: DryRun, way: Memory) -> str:
    chosen = found.recipe.optimisation.gradient_checkpointing
    parts = (
        f"{_gib(way.weights)} weights + {_gib(way.gradients)} gradients + "
        f"{_gib(way.optimizer)} optimiser + "
        f"{_gib(way.checkpointed if chosen else way.kept)} activations"
    )
    fits = ""
    if found.gpus:
        room = found.gpus.gpu.memory
        verdict = "fits" if way.total < 0.9 * room else "tight" if way.total < room else "TOO MUCH"
        fits = f": {verdict} for {_gib(room)}"
    return f"{_gib(way.total)} GiB a GPU, {way.way}{fits} ({parts})"


def _activations(way: Memory) -> str:
    return (
        f"activations {_gib(way.checkpointed)} GiB with gradient checkpointing, "
        f"{_gib(way.kept)} without"
    )


def _gib(memory: int) -> str:
    return f"{memory / _GIB:.3g}"
