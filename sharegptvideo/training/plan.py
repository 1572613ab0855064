"""`train run --dry-run`: what a recipe would do, what it would take, and what is missing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._text import byte_size, magnitude, percent, rough_duration, rounded
from sharegptvideo.errors import UserError
from sharegptvideo.models.convert import (
    PAPER_PARTS,
    ModelParts,
    assemble_checkpoint,
    assembled_folder,
)
from sharegptvideo.training.checks import lacking_packages, nearest_folder, not_made_yet
from sharegptvideo.training.dataset_stats import (
    DatasetStats,
    Positions,
    dataset_stats,
    on_visuals,
    published_stats,
)
from sharegptvideo.training.estimate import (
    SHARDED,
    WHOLE_COPY,
    Memory,
    ModelShape,
    Rate,
    Workload,
    disk_bytes,
    local_gpus,
    memory_of,
    micro_batch_of,
    planned,
    rates_of,
    recomputed_layers,
    shape_of,
    workload_of,
)
from sharegptvideo.training.families import Family, bare_family, open_family
from sharegptvideo.training.families.base import VisualKind
from sharegptvideo.training.gpus import Gpus
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

_GIB = 1 << 30
_LIGHT = ("*.json", "*.model", "*.txt", "*.jinja")  # of a checkpoint, all but its weights
_UNKNOWN = Positions(0.0, 0.0)


@dataclass(slots=True)
class DryRun:
    """The outcome of `dry_run`.

    Attributes:
        data: None where nothing is known of it; likewise `shape`, `plan`.
        memory: bytes a GPU, a line each way; `hours` and `plain_hours` on `gpus`, the fewest and
            the most, the second with
            every row by itself and the reference model in every step.
        features: what keeping a frozen tower's features on disk takes, and whether it pays.
        kept_clips: what `data.keep_clips` takes.
        disk, disk_free: bytes that the run writes, and that the output's disk has.
        problems: what would stop the run here, a line each. missing: what it lacks but could go
            without, or what the first run would fetch. assumed: what the figures rest on.
    """

    recipe: Recipe
    gpus: Gpus | None
    utilisation: float | None
    data: DatasetStats | None = None
    shape: ModelShape | None = None
    plan: Workload | None = None
    memory: list[Memory] = field(default_factory=list)
    hours: tuple[float, float] | None = None
    plain_hours: tuple[float, float] | None = None
    features: str | None = None
    kept_clips: str | None = None
    disk: int | None = None
    disk_free: int = 0
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


def dry_run_steps(
    recipes: Sequence[Recipe],
    gpus: Gpus | None = None,
    *,
    utilisation: float | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[DryRun]:
    """Return `dry_run` of each; a step starts from the model that the one before will have made."""
    made: dict[str, str | ModelParts] = {}
    outcomes = []
    for recipe in recipes:
        outcomes.append(
            dry_run(recipe, gpus, utilisation=utilisation, made=made, progress=progress)
        )
        made[recipe.output] = recipe.model
    return outcomes


def dry_run(
    recipe: Recipe,
    gpus: Gpus | None = None,
    *,
    utilisation: float | None = None,
    made: Mapping[str, str | ModelParts] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> DryRun:
    """Find out what a training would take. Loads no weights, decodes nothing, writes nothing.

    Args:
        gpus: to plan for; None for this machine's.
        utilisation: share of the GPUs' peak that is reached, recomputation counted; None takes
            what was measured.
        made: output → starting model of trainings that will have run by then.
        progress: `progress(done, 0, what)` while rows are read.
    """
    here = local_gpus()
    outcome = DryRun(recipe, gpus or here, utilisation)
    family, shape, positions = _model(recipe, made or {}, outcome)
    outcome.shape = shape
    try:
        outcome.data = dataset_stats(recipe, family, positions, progress)
    except UserError as error:
        outcome.problems.append(f"data: {error}")
        outcome.data = published_stats(recipe, positions)
    if outcome.data:
        outcome.problems += outcome.data.problems
        outcome.assumed += outcome.data.assumed
    if family and outcome.data and outcome.data.rows:
        _features(outcome, family, outcome.data)
        _kept_clips(outcome, outcome.data)
    _resources(outcome)
    _machine(outcome, here)
    return outcome


def _features(outcome: DryRun, family: Family, data: DatasetStats) -> None:
    from sharegptvideo.training.precompute.features import check_features, kept_bytes, visits, worth

    recipe, config = outcome.recipe, family.model.config
    sizes = kept_bytes(config, recipe.frames, bf16=recipe.optimisation.bf16)
    devices = outcome.gpus.count if outcome.gpus else 1
    seen = visits(recipe, data.rows, data.rows_a_visual, devices)
    outcome.features = worth(recipe, seen, {"video": data.clips, "image": data.images}, sizes)
    if recipe.features.enabled:
        try:
            check_features(recipe, config)
        except UserError as error:
            outcome.problems.append(str(error))


def _kept_clips(outcome: DryRun, data: DatasetStats) -> None:
    from sharegptvideo.training.precompute.clips import kept_problem, kept_size

    how = outcome.recipe.data.keep_clips
    if how == "none" or not (data.kept.video or data.kept.image):
        return
    counts: dict[VisualKind, tuple[int, float]] = {
        "video": (data.clips, data.kept.video),
        "image": (data.images, data.kept.image),
    }
    where = "in shared memory" if how == "memory" else "on disk"
    outcome.kept_clips = f"decoded once and kept {where}: {kept_size(counts)}"
    if problem := kept_problem(outcome.recipe.data, counts):
        outcome.problems.append(problem)


def _resources(outcome: DryRun) -> None:
    """Work out steps, memory, hours and disk, where model and data are known."""
    recipe, shape, data = outcome.recipe, outcome.shape, outcome.data
    folder = nearest_folder(Path(recipe.output))
    outcome.disk_free = shutil.disk_usage(folder).free
    if shape is None or data is None or not data.rows:
        return
    devices = outcome.gpus.count if outcome.gpus else 1
    if recipe.optimisation.gradient_checkpointing == "auto":
        # With all states spread where there are several: the way that leaves the most room.
        way = SHARDED if devices > 1 else WHOLE_COPY
        memory = outcome.gpus.gpu.memory if outcome.gpus else None
        batch = micro_batch_of(recipe, data)
        recipe = planned(recipe, shape, batch, memory, devices=devices, way=way)
        layers = recomputed_layers(recipe.optimisation, shape)
        spread = f" with {way}" if devices > 1 else ""
        outcome.assumed.append(
            f"gradient_checkpointing auto: {layers} of {shape.layers} layers{spread} for batches "
            "of mean length; the run goes by its longest row"
        )
    outcome.plan = workload_of(recipe, shape, data, devices)
    outcome.memory = memory_of(recipe, shape, data, devices)
    outcome.disk = disk_bytes(recipe, shape, outcome.plan.steps)
    if outcome.disk > outcome.disk_free:
        outcome.problems.append(
            f"output {recipe.output}: checkpoints and model take {byte_size(outcome.disk)} at "
            f"their largest, {byte_size(outcome.disk_free)} are free; free some space or give "
            "another output"
        )
    if outcome.gpus:
        _hours(outcome, outcome.plan, outcome.gpus, rates_of(recipe, shape, outcome.gpus.gpu))
        if not recipe.optimisation.bf16:
            outcome.assumed.append(
                "hours are for bf16; this recipe computes in float32, far slower"
            )


def _hours(outcome: DryRun, plan: Workload, gpus: Gpus, known: tuple[list[Rate], bool]) -> None:
    peak = f"of {gpus.gpu.teraflops:g} TFLOP/s a GPU in bf16 ({gpus.gpu.source})"
    if outcome.utilisation is not None:
        alike, plain = (plan.hours(gpus, outcome.utilisation, plain=way) for way in (False, True))
        outcome.hours, outcome.plain_hours = (alike, alike), (plain, plain)
        outcome.assumed.append(f"{percent(outcome.utilisation, 0)} {peak}, by --utilisation")
        return
    rates, measured = known
    outcome.hours = plan.measured_hours(gpus, rates)
    outcome.plain_hours = plan.measured_hours(gpus, rates, plain=True)
    low, high = min(rate.low for rate in rates), max(rate.high for rate in rates)
    share = percent(low, 0) if low == high else f"{percent(low, 0)} to {percent(high, 0)}"
    where = " and ".join(dict.fromkeys(f"{rate.gpu} at 7B ({rate.source})" for rate in rates))
    how = "measured on" if measured else f"not measured on {gpus.gpu.name} at this size: as on"
    outcome.assumed.append(f"{share} {peak}, {how} {where}; --utilisation changes it")


def _machine(outcome: DryRun, here: Gpus | None) -> None:
    """Note packages and GPUs that the recipe asks for and that are not here."""
    recipe, gpus = outcome.recipe, outcome.gpus
    outcome.problems += lacking_packages(recipe)
    if gpus is None:
        outcome.missing.append("no GPU here; --gpus 8xH100 plans for others")
        return
    if here is None or (here.gpu.name, here.count) != (gpus.gpu.name, gpus.count):
        outcome.missing.append(f"{gpus} not here; this machine has {here or 'no GPU'}")
    if recipe.optimisation.bf16 and not gpus.gpu.bf16:
        outcome.problems.append(
            f"{gpus.gpu.name} has no bf16; set optimisation.bf16=false (float32 takes twice the "
            "memory)"
        )
    if outcome.memory and min(way.total for way in outcome.memory) > gpus.gpu.memory:
        outcome.missing.append(
            f"memory: no way of spreading it fits {gpus}; more GPUs, a smaller "
            "per_device_batch_size with more gradient_accumulation, or lora"
        )


def _model(
    recipe: Recipe, made: Mapping[str, str | ModelParts], outcome: DryRun
) -> tuple[Family | None, ModelShape | None, Positions]:
    """Return the family without weights (None: not here), its shape, positions of a clip, image."""
    origin = _origin(recipe, made, outcome)
    with tempfile.TemporaryDirectory() as room:
        try:
            folder = _light_folder(origin, Path(room) / "model", outcome)
        except UserError as error:
            if origin == recipe.model:
                command = maker_of(recipe.start)
                line = not_made_yet(recipe.start, command) if command else str(error)
                outcome.problems.append(line)
            if origin != PAPER_PARTS:
                return None, None, _UNKNOWN
            outcome.assumed.append("the paper's parts cannot be reached: their published sizes")
            shape, positions = _sizes(recipe, _published_config())
            return None, shape, positions
        placed = recipe.model_copy(update={"model": str(folder)})
        try:
            family = open_family(placed, weights=False)
        except UserError as error:
            outcome.problems.append(str(error).replace(str(folder), str(origin)))
        else:
            return family, shape_of(recipe, family), _positions(family.model.config, recipe.frames)
        try:
            shape, positions = _sizes(recipe, str(folder))
        except (UserError, KeyError, AttributeError, ValueError):
            return None, None, _UNKNOWN  # an architecture that nothing here trains: noted above
        return None, shape, positions


def _light_folder(origin: str | ModelParts, room: Path, outcome: DryRun) -> Path:
    """Return a folder with all that a model has but, maybe, its weights.

    Args:
        room: a folder to make where the model is yet in parts.
    """
    from sharegptvideo.models import checkpoint_folder

    if isinstance(origin, str):
        folder = checkpoint_folder(origin, _LIGHT)
        if not Path(origin).is_dir() and not any(folder.glob("*.safetensors")):
            outcome.missing.append(f"model {origin}: its weights are fetched by the first run")
        return folder
    kept = assembled_folder(origin)
    if kept.is_dir():
        return kept
    assemble_checkpoint(origin, room, weights=False)
    outcome.missing.append(f"model: its parts are fetched and assembled in {kept} by the first run")
    return room


def _sizes(recipe: Recipe, origin: str | PretrainedConfig) -> tuple[ModelShape, Positions]:
    """Return the shape and positions of a model, by its folder or its configuration."""
    from sharegptvideo.models import outline

    model = outline(origin, dtype=Family.weights_dtype(recipe))
    return shape_of(recipe, bare_family(model)), _positions(model.config, recipe.frames)


def _origin(
    recipe: Recipe, made: Mapping[str, str | ModelParts], outcome: DryRun
) -> str | ModelParts:
    """Return the model that a recipe starts from, or that model's where it is yet to be made."""
    shipped = {
        step.output: (step.model, name) for name in recipe_names() for step in load_steps(name)
    }
    path = recipe.model
    while isinstance(path, str) and not Path(path).is_dir():
        if path in made:
            path = made[path]
        elif path in shipped:
            before, name = shipped[path]
            if path == recipe.model:
                outcome.problems.append(not_made_yet(path, f"sharegptvideo train run {name}"))
            path = before
        else:
            break
    if path != recipe.model:
        outcome.assumed.append(f"sizes of {path}, which {recipe.model} will have started from")
    return path


def _published_config() -> PretrainedConfig:
    """Return that of what the paper's parts make: Vicuna-7B with two tokens more, two CLIP-L."""
    from transformers import LlamaConfig

    from sharegptvideo.models.llava_hound import LlavaHoundConfig

    kind: Any = LlavaHoundConfig  # its constructor takes all of a config's fields
    config: PretrainedConfig = kind(text_config=LlamaConfig(vocab_size=32_002))
    return config


def _positions(config: Any, frames: int) -> Positions:
    from sharegptvideo.models.prompts import image_token_count

    takes_images = config.model_type in ("video_llava", "llava_hound")
    return Positions(
        clip_positions(config, frames), float(image_token_count(config)) if takes_images else 0.0
    )


def clip_positions(config: Any, frames: int) -> float:
    """Return positions of a clip; for Qwen-VL, whose clips differ, of the release's frame size."""
    from sharegptvideo.models import video_token_count

    vision = config.vision_config
    if config.model_type in ("video_llava", "llava_hound"):
        return float(video_token_count(config, frames))
    if hasattr(vision, "depth"):
        side = vision.patch_size * vision.spatial_merge_size
        return float(frames / vision.temporal_patch_size * round(336 / side) * round(252 / side))
    half = -(-(vision.image_size // vision.patch_size) // 2)
    return float(frames * half**2 + 1)


def dry_run_figures(outcome: DryRun) -> dict[str, Any]:
    """Return all of it as plain JSON values; bytes, hours, counts."""
    figures = asdict(outcome)
    figures["recipe"] = outcome.recipe.model_dump(mode="json")
    figures["gpus"] = str(outcome.gpus) if outcome.gpus else None
    return {"output": outcome.recipe.output, **figures}


def dry_run_lines(outcome: DryRun) -> Iterator[str]:
    """Return the lines to print, `what  finding` each."""
    for what, text in _facts(outcome):
        yield f"{what:<10}{text}"
    for what, texts in (
        ("assumed", outcome.assumed),
        ("missing", outcome.missing),
        ("STOPS", outcome.problems),
    ):
        for number, text in enumerate(texts):
            yield f"{what if not number else '':<10}{text}"


def _facts(outcome: DryRun) -> Iterator[tuple[str, str]]:
    recipe = outcome.recipe
    yield "recipe", f"{recipe.stage} of {recipe.model} into {recipe.output}"
    if outcome.data:
        yield from _data_lines(outcome.data)
    if outcome.shape:
        yield "model", _model_line(outcome.shape)
    if outcome.plan:
        yield from _plan_lines(outcome, outcome.plan)
    for number, way in enumerate(outcome.memory):
        yield "memory" if not number else "", _memory_line(outcome, way)
    if outcome.memory:
        yield "", _activations_line(outcome.memory[0])
    if outcome.hours is not None and outcome.plain_hours is not None:
        twice = " and the reference model in every step" if isinstance(recipe, DpoRecipe) else ""
        yield (
            "hours",
            f"{_duration(outcome.hours)} on {outcome.gpus}; "
            f"{_duration(outcome.plain_hours)} with every row by itself{twice}",
        )
    if outcome.features:
        yield "features", outcome.features
    if outcome.kept_clips:
        yield "clips", outcome.kept_clips
    if outcome.disk is not None:
        yield "disk", f"{byte_size(outcome.disk)} at the most, {byte_size(outcome.disk_free)} free"


def _duration(hours: tuple[float, float]) -> str:
    few, many = (rough_duration(3600 * one) for one in hours)
    return few if few == many else f"{few} to {many}"


def _data_lines(data: DatasetStats) -> Iterator[tuple[str, str]]:
    lost = f", {data.missing:,} without a clip or image" if data.missing else ""
    lost += f", {data.equal:,} pairs of equal answers" if data.equal else ""
    lost += f", {data.cut:,} cut to max_length" if data.cut else ""
    text = f", {data.text_rows:,} of text alone" if data.text_rows else ""
    yield "data", f"{data.rows:,} rows{on_visuals(data.clips, data.images)}{text}{lost}"
    for part in data.parts if len(data.parts) > 1 else ():
        yield "", f"{part.part}: {part.rows:,} rows{on_visuals(part.clips, part.images)}"
    if data.rows:
        answers = " and ".join(rounded(length, 0) for length in data.lengths.answers)
        visuals = (
            (data.clips, data.video_tokens, "a clip"),
            (data.images, data.image_tokens, "an image"),
        )
        clip = "".join(
            f"{rounded(tokens, 0)} tokens {what}, "
            for count, tokens, what in visuals
            if count and tokens
        )
        yield (
            "",
            f"{clip}{rounded(data.lengths.prompt, 0)} a prompt, {answers} an answer, on average",
        )


def _model_line(shape: ModelShape) -> str:
    share = shape.trainable / shape.parameters
    adapters = " as adapters" if shape.adapters else ""
    return (
        f"{shape.kind}, {magnitude(shape.parameters)} parameters, {magnitude(shape.trainable)} "
        f"of them learn{adapters} ({percent(share)})"
    )


def _plan_lines(outcome: DryRun, plan: Workload) -> Iterator[tuple[str, str]]:
    o = outcome.recipe.optimisation
    yield (
        "steps",
        f"{plan.steps:,} of {plan.rows_a_step:,} rows ({o.per_device_batch_size} a device × "
        f"{o.gradient_accumulation} × {plan.devices})",
    )
    ratio = plan.tokens_plain / max(plan.tokens_shared, 1)
    yield (
        "tokens",
        f"{plan.tokens_shared:,} a step; {plan.tokens_plain:,} with a clip's once a row "
        f"({rounded(ratio)} times)",
    )
    if outcome.recipe.sharing.video:
        yield "attention", _attention_line(outcome)
    yield "compute", f"{plan.flops:.3g} operations; {plan.plain_flops:.3g} row by row"


def _attention_line(outcome: DryRun) -> str:
    way = outcome.recipe.sharing.attention
    if way != "auto":
        return way
    return "flex, or split if that fails on the GPU" if outcome.gpus else "split; flex on a GPU"


def _memory_line(outcome: DryRun, way: Memory) -> str:
    parts = (
        f"{_gib(way.weights)} weights + {_gib(way.gradients)} gradients + "
        f"{_gib(way.optimizer)} optimiser + "
        f"{_gib(way.activations)} activations"
    )
    fits = ""
    if outcome.gpus:
        room = outcome.gpus.gpu.memory
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
