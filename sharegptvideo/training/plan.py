"""`train run --dry-run`: what a recipe would do, what it would take, and what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._text import byte_size, magnitude, percent, rough_duration
from sharegptvideo.errors import UserError
from sharegptvideo.training.checks import lacking_packages, nearest_folder, not_made_yet
from sharegptvideo.training.dataset_stats import Survey, published, survey
from sharegptvideo.training.estimate import (
    UTILISATION,
    Gpus,
    Memory,
    ModelShape,
    Plan,
    disk_bytes,
    local_gpus,
    memory_of,
    plan_of,
    shape_of,
)
from sharegptvideo.training.families import Family, bare_family, open_family
from sharegptvideo.training.recipes import DpoRecipe, Recipe, load_steps, maker_of, recipe_names

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = [
    "DryRun",
    "clip_positions",
    "dry_run",
    "dry_run_figures",
    "dry_run_lines",
    "dry_run_steps",
]

_LIGHT = ("*.json", "*.model", "*.txt", "*.jinja")  # of a checkpoint, all but its weights
_VIDEO_LLAVA = "LanguageBind/Video-LLaVA-7B-hf"


@dataclass(slots=True)
class DryRun:
    """What `dry_run` found.

    Attributes:
        data: None where nothing is known of it; likewise `shape`, `plan`.
        memory: bytes a GPU, a line each way; `hours` and `plain_hours` on `gpus`, the second with
            every row by itself and the reference model in every step.
        features: what keeping a frozen tower's features on disk takes, and whether it pays.
        disk, disk_free: bytes that the run writes, and that the output's disk has.
        problems: what would stop the run here, a line each. missing: what it lacks but could go
            without, or what the first run would fetch. assumed: what the figures rest on.
    """

    recipe: Recipe
    gpus: Gpus | None
    utilisation: float
    data: Survey | None = None
    shape: ModelShape | None = None
    plan: Plan | None = None
    memory: list[Memory] = field(default_factory=list)
    hours: float | None = None
    plain_hours: float | None = None
    features: str | None = None
    disk: int | None = None
    disk_free: int = 0
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


def dry_run_steps(
    recipes: Sequence[Recipe],
    gpus: Gpus | None = None,
    *,
    utilisation: float = UTILISATION,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[DryRun]:
    """`dry_run` for each; a step starts from the model that the one before will have made."""
    made: dict[str, str] = {}
    found = []
    for recipe in recipes:
        found.append(dry_run(recipe, gpus, utilisation=utilisation, made=made, progress=progress))
        made[recipe.output] = recipe.model
    return found


def dry_run(
    recipe: Recipe,
    gpus: Gpus | None = None,
    *,
    utilisation: float = UTILISATION,
    made: Mapping[str, str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> DryRun:
    """Find out what a training would take. Loads no weights, decodes no clips, writes nothing.

    Args:
        gpus: to plan for; None for this machine's.
        utilisation: share of the GPUs' peak that is reached.
        made: output → starting model of trainings that will have run by then.
        progress: `progress(done, 0, what)` while rows are read.
    """
    here = local_gpus()
    found = DryRun(recipe, gpus or here, utilisation)
    family, shape, video_tokens = _model(recipe, made or {}, found)
    found.shape = shape
    try:
        found.data = survey(recipe, family, video_tokens, progress)
    except UserError as error:
        found.problems.append(f"data: {error}")
        found.data = published(recipe, video_tokens)
    if found.data:
        found.problems += found.data.problems
        found.assumed += found.data.assumed
    if family and found.data and found.data.clips:
        _features(found, family, found.data)
    _take(found)
    _machine(found, here)
    return found


def _features(found: DryRun, family: Family, data: Survey) -> None:
    from sharegptvideo.training.precompute.features import check_features, clip_bytes, visits, worth

    recipe, config = found.recipe, family.model.config
    size = clip_bytes(config, recipe.frames, bf16=recipe.optimisation.bf16)
    devices = found.gpus.count if found.gpus else 1
    seen = visits(recipe, data.rows, data.rows_a_clip, devices)
    found.features = worth(recipe, seen, data.clips, size)
    if recipe.features.enabled:
        try:
            check_features(recipe, config)
        except UserError as error:
            found.problems.append(str(error))


def _take(found: DryRun) -> None:
    """Steps, memory, hours and disk, where model and data are known."""
    recipe, shape, data = found.recipe, found.shape, found.data
    folder = nearest_folder(Path(recipe.output))
    found.disk_free = shutil.disk_usage(folder).free
    if shape is None or data is None or not data.rows:
        return
    devices = found.gpus.count if found.gpus else 1
    found.plan = plan_of(recipe, shape, data, devices)
    found.memory = memory_of(recipe, shape, data, devices)
    found.disk = disk_bytes(recipe, shape, found.plan.steps)
    if found.disk > found.disk_free:
        found.problems.append(
            f"output {recipe.output}: checkpoints and model take {byte_size(found.disk)} at "
            f"their largest, {byte_size(found.disk_free)} are free; free some space or give "
            "another output"
        )
    if found.gpus:
        found.hours = found.plan.hours(found.gpus, found.utilisation)
        found.plain_hours = found.plan.hours(found.gpus, found.utilisation, plain=True)
        found.assumed.append(
            f"{percent(found.utilisation, 0)} of {found.gpus.gpu.teraflops:g} TFLOP/s a GPU in "
            f"bf16 ({found.gpus.gpu.source}); --utilisation changes it"
        )
        if not recipe.optimisation.bf16:
            found.assumed.append("hours are for bf16; this recipe computes in float32, far slower")


def _machine(found: DryRun, here: Gpus | None) -> None:
    """Packages and GPUs: what the recipe asks for, and what is here or is planned for."""
    recipe, gpus = found.recipe, found.gpus
    found.problems += lacking_packages(recipe)
    if gpus is None:
        found.missing.append("no GPU here; --gpus 8xH100 plans for others")
        return
    if here is None or (here.gpu.name, here.count) != (gpus.gpu.name, gpus.count):
        found.missing.append(f"{gpus} not here; this machine has {here or 'no GPU'}")
    if recipe.optimisation.bf16 and not gpus.gpu.bf16:
        found.problems.append(
            f"{gpus.gpu.name} has no bf16; set optimisation.bf16=false (float32 takes twice the "
            "memory)"
        )
    if found.memory and min(way.total for way in found.memory) > gpus.gpu.memory:
        found.missing.append(
            f"memory: no way of spreading it fits {gpus}; more GPUs, a smaller "
            "per_device_batch_size with more gradient_accumulation, or lora"
        )


def _model(
    recipe: Recipe, made: Mapping[str, str], found: DryRun
) -> tuple[Family | None, ModelShape | None, float]:
    """The family without weights (None: not here), its shape, positions of a clip."""
    from sharegptvideo.models import checkpoint_folder, outline

    origin = _origin(recipe, made, found)
    try:
        folder = checkpoint_folder(origin, _LIGHT)
        if not Path(origin).is_dir() and not any(folder.glob("*.safetensors")):
            found.missing.append(f"model {origin}: its weights are fetched by the first run")
    except UserError as error:
        if origin == recipe.model:
            command = maker_of(origin)
            found.problems.append(not_made_yet(origin, command) if command else str(error))
        if origin != _VIDEO_LLAVA:
            return None, None, 0.0
        found.assumed.append(f"{origin} cannot be reached: its published sizes")
        model: Any = outline(_published_config(), dtype=_dtype(recipe))
        return (
            None,
            shape_of(recipe, bare_family(model)),
            clip_positions(model.config, recipe.frames),
        )
    placed = recipe.model_copy(update={"model": str(folder)})
    try:
        family = open_family(placed, weights=False)
    except UserError as error:
        found.problems.append(str(error).replace(str(folder), origin))
    else:
        return family, shape_of(recipe, family), clip_positions(family.model.config, recipe.frames)
    try:
        model = outline(str(folder), dtype=_dtype(recipe))
        return (
            None,
            shape_of(recipe, bare_family(model)),
            clip_positions(model.config, recipe.frames),
        )
    except (UserError, KeyError, AttributeError, ValueError):
        return None, None, 0.0  # an architecture that nothing here trains: said above


def _sizes(recipe: Recipe, model: Any) -> tuple[ModelShape, float]:
    positions = clip_positions(model.config, recipe.frames)
    return shape_of(recipe, bare_family(model)), positions


def _origin(recipe: Recipe, made: Mapping[str, str], found: DryRun) -> str:
    """The model that a recipe starts from, or where another training has yet to make it, that's."""
    shipped = {
        step.output: (step.model, name) for name in recipe_names() for step in load_steps(name)
    }
    path = recipe.model
    while not Path(path).is_dir():
        if path in made:
            path = made[path]
        elif path in shipped:
            before, name = shipped[path]
            if path == recipe.model:
                found.problems.append(not_made_yet(path, f"sharegptvideo train run {name}"))
            path = before
        else:
            break
    if path != recipe.model:
        found.assumed.append(f"sizes of {path}, which {recipe.model} will have started from")
    return path


def _published_config() -> PretrainedConfig:
    """Video-LLaVA-7B's: transformers' defaults, and a vocabulary with room for new tokens."""
    from transformers import LlamaConfig, VideoLlavaConfig

    return VideoLlavaConfig(text_config=LlamaConfig(vocab_size=32_064))


def _dtype(recipe: Recipe) -> Any:
    return Family.weights_dtype(recipe)


def clip_positions(config: Any, frames: int) -> float:
    """Positions of a clip; for Qwen-VL, whose clips differ, those of the release's frame size."""
    from sharegptvideo.models import video_token_count

    vision = config.vision_config
    if config.model_type == "video_llava":
        return float(video_token_count(config, frames))
    if hasattr(vision, "depth"):
        side = vision.patch_size * vision.spatial_merge_size
        return float(frames / vision.temporal_patch_size * round(336 / side) * round(252 / side))
    half = -(-(vision.image_size // vision.patch_size) // 2)
    return float(frames * half**2 + 1)


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
        yield from _data_lines(found.data)
    if found.shape:
        yield "model", _model_line(found.shape)
    if found.plan:
        yield from _plan_lines(found, found.plan)
    for number, way in enumerate(found.memory):
        yield "memory" if not number else "", _memory_line(found, way)
    if found.memory:
        yield "", _activations_line(found.memory[0])
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


def _data_lines(data: Survey) -> Iterator[tuple[str, str]]:
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


def _model_line(shape: ModelShape) -> str:
    share = shape.trainable / shape.parameters
    adapters = " as adapters" if shape.adapters else ""
    return (
        f"{shape.kind}, {magnitude(shape.parameters)} parameters, {magnitude(shape.trainable)} "
        f"of them learn{adapters} ({percent(share)})"
    )


def _plan_lines(found: DryRun, plan: Plan) -> Iterator[tuple[str, str]]:
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


def _memory_line(found: DryRun, way: Memory) -> str:
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


def _activations_line(way: Memory) -> str:
    return (
        f"activations {_gib(way.checkpointed)} GiB with gradient checkpointing, "
        f"{_gib(way.kept)} without"
    )


def _gib(memory: int) -> str:
    return f"{memory / _GIB:.3g}"
