"""What a training will take: tokens, operations, memory, hours, disk. Arithmetic, nothing is run.

Sources of the formulas: 2 operations a weight and token forward, twice that backward (Kaplan et
al. 2020, section 2.1); attention's own, 4 × heads × context; once more forward where activations
are computed again (Chen et al. 2016). Memory of sharded states: Rajbhandari et al. 2020, figure 1.
Activations of a layer: `activation_bytes`, and of all with some of them computed again:
`MicroBatch`. GPUs' figures are their makers'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch

from sharegptvideo.training.dataset_stats import DatasetStats, KindStats, Lengths
from sharegptvideo.training.families import Family
from sharegptvideo.training.gpus import GPUS, Gpu, Gpus
from sharegptvideo.training.recipes import DpoRecipe, Optimisation, Recipe
from sharegptvideo.training.sharing.forward import scored_parts

__all__ = [
    "ADAMW_BYTES",
    "KEPT_CHECKPOINTS",
    "MEASURED_RATES",
    "SHARDED",
    "USABLE",
    "WHOLE_COPY",
    "ZERO2",
    "Memory",
    "MicroBatch",
    "ModelShape",
    "Rate",
    "Workload",
    "activation_bytes",
    "activation_room",
    "disk_bytes",
    "layers_to_recompute",
    "local_gpus",
    "memory_of",
    "micro_batch_of",
    "planned",
    "projected_hours",
    "rates_of",
    "recomputed_layers",
    "shape_of",
    "steps_of",
    "work_of",
    "workload_of",
]


def local_gpus() -> Gpus | None:
    """Return this machine's GPUs, where there are any of one kind that the table knows."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return None
    full = torch.cuda.get_device_name(0).upper().replace(" ", "-")
    memory = torch.cuda.get_device_properties(0).total_memory
    fitting = [gpu for gpu in GPUS.values() if gpu.name.upper().partition("-")[0] in full]
    if "PCIE" in full:
        fitting = [gpu for gpu in fitting if "PCIe" in gpu.name] or fitting
    # Of several that the name fits (A10 and A100, 40 and 80 GB), that of the nearest memory.
    longest = max((len(gpu.name.partition("-")[0]) for gpu in fitting), default=0)
    fitting = [gpu for gpu in fitting if len(gpu.name.partition("-")[0]) == longest]
    if not fitting:
        return None
    return Gpus(count, min(fitting, key=lambda gpu: abs(gpu.memory - memory)))


_TOWERS = ("video_tower", "vision_tower", "visual")
_PROJECTORS = ("multi_modal_projector",)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a model in training.

    Attributes:
        parameters: all; trainable: those that learn, `adapters` of them LoRA's beside the model.
        bytes_a_weight: of the model's own weights as they are loaded.
        layers, hidden, heads: of the language model; heads: query heads × their size.
        keys: key and value heads × their size; mlp: the width between an MLP's layers.
        text: weights of the language model's layers that every token is multiplied with.
        head: of the output layer; vocabulary: its rows.
        scored: of `text`, weights of the last layer that only scored positions are multiplied with
            where clips are shared; scored_adapters: of `adapters`.
        closing: of `text`, weights of products that end a layer, which nothing in it needs: where
            a layer is computed again, that stops before them.
        tower, projector: weights of what clips go through.
        tower_layers, tower_width: of the vision tower.
        tower_positions: its positions for one of the language model's; tower_span: how many
            positions of it see each other (a frame's).
        language_learns, tower_learns: whether gradients of their own weights are computed.
    """

    kind: str
    parameters: int
    trainable: int
    adapters: int
    bytes_a_weight: int
    layers: int
    hidden: int
    heads: int
    keys: int
    mlp: int
    text: int
    scored: int
    scored_adapters: int
    closing: int
    head: int
    vocabulary: int
    tower: int
    projector: int
    tower_layers: int
    tower_width: int
    tower_positions: float
    tower_span: float
    language_learns: bool
    tower_learns: bool


def shape_of(recipe: Recipe, family: Family) -> ModelShape:
    """Freeze a model, which may be on the meta device, as the recipe says, and return its sizes."""
    model: Any = family.model
    family.freeze(recipe.freeze)
    inner, config = model.model, model.config
    text: Any = config.get_text_config()
    language = inner.language_model
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    towers = [part for name, part in inner.named_children() if name in _TOWERS]
    projectors = [part for name, part in inner.named_children() if name in _PROJECTORS]
    adapters = _adapters(recipe, language)
    scored = torch.nn.ModuleDict(scored_parts(language))
    own = sum(w.numel() for w in model.parameters() if w.requires_grad)
    parameters = sum(w.numel() for w in model.parameters())
    layers, width, positions, span = _tower_sizes(config, recipe.frames)
    return ModelShape(
        kind=str(config.model_type),
        parameters=parameters + adapters,
        trainable=adapters or own,
        adapters=adapters,
        bytes_a_weight=family.weights_dtype(recipe).itemsize,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        heads=heads * size,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * size,
        mlp=text.intermediate_size,
        text=_linear(language),
        scored=_linear(scored),
        scored_adapters=_adapters(recipe, scored),
        closing=_closing(recipe, language),
        head=_linear(model.get_output_embeddings()),
        vocabulary=text.vocab_size,
        tower=sum(w.numel() for part in towers for w in part.parameters()),
        projector=sum(w.numel() for part in projectors for w in part.parameters()),
        tower_layers=layers,
        tower_width=width,
        tower_positions=positions,
        tower_span=span,
        language_learns=not adapters and any(w.requires_grad for w in language.parameters()),
        tower_learns=not adapters
        and any(w.requires_grad for part in towers for w in part.parameters()),
    )


def _linear(module: Any) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, torch.nn.Linear))


def _closing(recipe: Recipe, language: Any) -> int:
    """Weights of the layers' last products: with adapters beside them they are not the last."""
    name = "down_proj"
    if recipe.lora is not None and name in recipe.lora.targets:
        return 0
    parts = (getattr(layer.mlp, name, None) for layer in getattr(language, "layers", ()))
    return sum(part.weight.numel() for part in parts if isinstance(part, torch.nn.Linear))


def _adapters(recipe: Recipe, parts: Any) -> int:
    """LoRA's weights: rank × (inputs + outputs) of each target (Hu et al. 2021, section 4)."""
    if recipe.lora is None:
        return 0
    return sum(
        recipe.lora.rank * (module.in_features + module.out_features)
        for name, module in parts.named_modules()
        if isinstance(module, torch.nn.Linear) and name.rpartition(".")[2] in recipe.lora.targets
    )


def _tower_sizes(config: Any, frames: int) -> tuple[int, int, float, float]:
    """Layers, width, positions for one of the language model's, positions that see each other."""
    vision = config.vision_config
    if hasattr(vision, "depth"):  # Qwen-VL: `merge`² patches make a position; frames see alone
        merge = vision.spatial_merge_size
        return vision.depth, vision.hidden_size, float(merge**2), 0.0
    patches = (vision.image_size // vision.patch_size) ** 2
    if config.model_type == "video_llava":
        return vision.num_hidden_layers, vision.hidden_size, 1.0, patches + 1.0
    if config.model_type == "llava_hound":  # a frame's positions, and the clip's frames over time
        video = config.video_config
        over_time = video.num_frames if video.add_time_attn else 0
        ratio = (patches + 1.0) / patches  # the tower has a class token, the language model none
        return video.num_hidden_layers, video.hidden_size, ratio, patches + 1.0 + over_time
    pooled = (-(-int(patches**0.5) // 2)) ** 2  # LLaVA-OneVision halves both sides of a frame
    ratio = patches * frames / (pooled * frames + 1)
    return vision.num_hidden_layers, vision.hidden_size, ratio, float(patches)


@dataclass(frozen=True, slots=True)
class Rate:
    """The share of a GPU's peak that steps reached when they were measured.

    Attributes:
        work: `dpo`, `sft` (all stages of supervised training), or `lora` (either with adapters).
        gpu: its name in `GPUS`; parameters: of the model.
        recomputes: whether layers were computed again in the backward pass.
        low, high: of what was measured, once or several times.
        all_operations: whether recomputation counts as work done, or what a step needs alone.
        source: what was measured, and by what.
    """

    work: str
    gpu: str
    parameters: float
    recomputes: bool
    low: float
    high: float
    all_operations: bool
    source: str


_BENCH = "bench_gpu.py, bf16, random weights"
_EARLIER = "an earlier commit, bf16, random weights"
MEASURED_RATES = (
    Rate("dpo", "H200", 6.7e9, True, 0.26, 0.4, False, f"{_BENCH}, 1 to 4 pairs a step"),
    Rate("dpo", "H200", 6.7e9, False, 0.35, 0.51, False, f"{_BENCH}, 1 to 4 pairs a step"),
    Rate("sft", "H200", 6.7e9, True, 0.29, 0.4, False, f"{_BENCH}, 1 to 4 clips a step"),
    Rate("sft", "H200", 6.7e9, False, 0.32, 0.32, False, f"{_BENCH}, one clip a step"),
    # How it was counted is not recorded; of the two ways, the one that gives more hours.
    Rate("lora", "H200", 7.4e9, True, 0.15, 0.21, True, f"bench_recipes.py, {_EARLIER}"),
)
"""What has been measured. `bench_gpu.py` and `bench_recipes.py` print rows for it, as `rate`."""


def work_of(stage: str, *, lora: bool) -> str:
    """Return the kind of work, as `Rate` has it, that a recipe's stage is."""
    return "lora" if lora else "dpo" if stage == "dpo" else "sft"


def rates_of(recipe: Recipe, shape: ModelShape, gpu: Gpu) -> tuple[list[Rate], bool]:
    """Return the measured rates for a training, and whether they are of its GPU and size.

    Those nearest to it: with all or no layers computed again, if so and measured; of this GPU
    and within a quarter of this size where there are such, else of others.
    """
    work = work_of(recipe.stage, lora=bool(shape.adapters))
    rates = [rate for rate in MEASURED_RATES if rate.work == work]
    layers = recomputed_layers(recipe.optimisation, shape)
    if layers in (0, shape.layers):
        rates = [rate for rate in rates if rate.recomputes is (layers > 0)] or rates
    own = [
        rate
        for rate in rates
        if rate.gpu == gpu.name and 0.75 < shape.parameters / rate.parameters < 1.25
    ]
    return own or rates, bool(own)


KEPT_CHECKPOINTS = 2
"""Checkpoints that a run keeps: the last whole one stays while the next is written."""

ADAMW_BYTES = {"adamw": 8, "adamw_8bit": 2}
"""Bytes of optimiser state a weight: two moments."""

_OVERHEAD = 1 << 30  # CUDA's context and workspaces; about what an empty process with kernels holds


WHOLE_COPY, ZERO2, SHARDED = "a whole copy", "ZeRO-2", "FSDP2 or ZeRO-3"
"""Ways of spreading a training over GPUs."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each GPU for one way of spreading a training over GPUs.

    `activations` are those of what the recipe says, as `total` has them; `checkpointed` and `kept`
    with all layers computed again and with none.
    """

    way: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    checkpointed: int
    kept: int
    total: int


@dataclass(frozen=True, slots=True)
class Workload:
    """Steps and operations of a training.

    `recomputed_flops` are those of `flops` that layers do again in the backward pass.
    `tokens_shared` and `tokens_plain`: language-model tokens a step on all devices, a clip's once
    or for each row; `flops` of the whole training, `reference_flops` of them before its steps.
    """

    devices: int
    rows_a_step: int
    steps: int
    tokens_shared: int
    tokens_plain: int
    flops: float
    plain_flops: float
    reference_flops: float
    recomputed_flops: float
    plain_recomputed_flops: float

    def hours(self, gpus: Gpus, utilisation: float, *, plain: bool = False) -> float:
        """Return hours on GPUs; `plain`: every row by itself, the reference model in every step.

        Args:
            utilisation: share of their peak, recomputation counted.
        """
        flops = self.plain_flops if plain else self.flops
        return flops / (gpus.count * gpus.gpu.teraflops * 1e12 * utilisation) / 3600

    def measured_hours(
        self, gpus: Gpus, rates: Sequence[Rate], *, plain: bool = False
    ) -> tuple[float, float]:
        """Return the fewest and the most hours by measured rates; `plain` as in `hours`."""
        flops = self.plain_flops if plain else self.flops
        again = self.plain_recomputed_flops if plain else self.recomputed_flops
        hours = [
            self.hours(gpus, share, plain=plain)
            * (1.0 if rate.all_operations else (flops - again) / flops)
            for rate in rates
            for share in (rate.low, rate.high)
        ]
        return min(hours), max(hours)


def projected_hours(rows: float, epochs: float, per_second: float, gpus: int = 8) -> float:
    """Return hours for `rows` (pairs, answers) × `epochs` at a measured rate of one GPU.

    Data-parallel GPUs are taken to add up; their exchange of gradients is not counted.
    """
    return rows * epochs / (per_second * gpus) / 3600


def steps_of(optimisation: Optimisation, rows: int, devices: int) -> int:
    """Return optimiser steps, counted as transformers 5.23 does; packs count as rows."""
    o = optimisation
    if o.max_steps is not None:
        return o.max_steps
    batches = math.ceil(rows / (o.per_device_batch_size * devices))
    updates = max(math.ceil(batches / o.gradient_accumulation), 1)
    return math.ceil((o.epochs or 1.0) * updates)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """One shared sequence: a clip or image, and all that a batch says about it.

    `spans`: (tokens, what they see before them) for each part; `rows` of the data in it;
    `answers`, the positions that are scored; `unscored`, those that the last layer leaves out.
    """

    spans: tuple[tuple[float, float], ...]
    rows: float
    answers: float
    shared: bool

    @property
    def unscored(self) -> float:
        return self.tokens - self.answers if self.shared else 0.0

    @property
    def tokens(self) -> float:
        return sum(length for length, _ in self.spans)

    @property
    def seen(self) -> float:
        """Positions attended to, summed over tokens; causal within a part."""
        return sum(length * (before + length / 2) for length, before in self.spans)


def _sequence(recipe: Recipe, lengths: Lengths, kind: KindStats, *, shared: bool) -> _Sequence:
    """Return the mean sequence of rows of a kind, laid out as `training.sharing` does, or alone."""
    clip = kind.tokens
    if isinstance(recipe, DpoRecipe):
        prefix = clip + lengths.prompt
        spans = ((prefix, 0.0), *((answer, prefix) for answer in lengths.answers))
        if not shared:
            spans = tuple((prefix + answer, 0.0) for answer in lengths.answers)
        return _Sequence(spans, 1.0, sum(lengths.answers), shared)
    rows = kind.rows_a_visual if shared else 1.0
    if shared and not recipe.sharing.pack_tokens:
        rows = min(rows, float(recipe.optimisation.per_device_batch_size))
    spans = ((clip, 0.0), (lengths.text * rows, clip)) if shared else ((clip + lengths.text, 0.0),)
    return _Sequence(spans, rows, sum(lengths.answers) * rows, shared)


def workload_of(
    recipe: Recipe, shape: ModelShape, data: DatasetStats, devices: int = 1
) -> Workload:
    """Count steps, tokens and operations; an image counts as a clip of one frame."""
    o, kinds = recipe.optimisation, data.kinds
    owns = [_sequence(recipe, data.lengths, kind, shared=recipe.sharing.video) for kind in kinds]
    plains = [_sequence(recipe, data.lengths, kind, shared=False) for kind in kinds]
    unit = 1.0  # rows that a member of a batch brings
    if recipe.sharing.pack_tokens:
        count = sum(kind.rows / own.rows for kind, own in zip(kinds, owns, strict=True))
        tokens = sum(
            kind.rows / own.rows * own.tokens for kind, own in zip(kinds, owns, strict=True)
        )
        unit = max(recipe.sharing.pack_tokens // (tokens / count), 1) * data.rows / count
    steps = steps_of(o, math.ceil(data.rows / unit), devices)
    a_step = o.per_device_batch_size * o.gradient_accumulation * devices * unit
    # An epoch's last step may be short: rows seen are counted, not steps × rows.
    all_seen = steps * a_step if o.max_steps else data.rows * (o.epochs or 1.0)

    base = replace(shape, adapters=0, scored_adapters=0)  # a reference is the model without them
    share_again = recomputed_layers(o, shape) / max(shape.layers, 1)
    flops = reference = plain_flops = tokens_shared = tokens_plain = again = plain_again = 0.0
    for kind, own, plain in zip(kinds, owns, plains, strict=True):
        share = kind.rows / data.rows
        seen = all_seen * share
        visits = seen / own.rows
        forward, backward = _language_flops(shape, own, share_again)
        tower = _tower_flops(shape, kind.tokens)
        encoded = kind.visuals if recipe.features.enabled else visits
        flops += visits * (forward + backward)
        again += visits * _recomputed_flops(shape, own, share_again)
        flops += tower * (3 * visits if shape.tower_learns else encoded)
        if isinstance(recipe, DpoRecipe):
            before, _ = _language_flops(base, own, 0.0)
            if recipe.dpo.reference == "precomputed":
                reference += kind.rows * (before + (0.0 if recipe.features.enabled else tower))
            else:
                flops += seen * before

        # Policy and reference each run both answers by themselves, the clip's pixels with them.
        forward, backward = _language_flops(shape, plain, share_again)
        models, sides = (2, 2) if isinstance(recipe, DpoRecipe) else (1, 1)
        before = _language_flops(base, plain, 0.0)[0] if models == 2 else 0.0
        towers = sides * (models + (2 if shape.tower_learns else 0))
        plain_flops += seen * (forward + before + backward + tower * towers)
        plain_again += seen * _recomputed_flops(shape, plain, share_again)
        tokens_shared += a_step * share / own.rows * own.tokens
        tokens_plain += a_step * share / plain.rows * plain.tokens
    return Workload(
        devices=devices,
        rows_a_step=round(a_step),
        steps=steps,
        tokens_shared=round(tokens_shared),
        tokens_plain=round(tokens_plain),
        flops=flops + reference,
        plain_flops=plain_flops,
        reference_flops=reference,
        recomputed_flops=again,
        plain_recomputed_flops=plain_again,
    )


def recomputed_layers(optimisation: Optimisation, shape: ModelShape) -> int:
    """Return how many layers a recipe computes again; all for an `auto` that is yet to be set."""
    wanted = optimisation.gradient_checkpointing
    if isinstance(wanted, bool) or wanted == "auto":
        return shape.layers if wanted else 0
    return min(wanted, shape.layers)


def _language_flops(shape: ModelShape, sequence: _Sequence, again: float) -> tuple[float, float]:
    """Operations forward and backward of one sequence; `again`: the share of layers run twice."""
    left_out = 2.0 * (shape.scored + shape.scored_adapters) * sequence.unscored
    linear = 2.0 * (shape.text + shape.adapters) * sequence.tokens - left_out
    attention = 4.0 * shape.layers * shape.heads * sequence.seen
    head = 2.0 * shape.head * sequence.answers
    forward = linear + attention + head
    # Through the layers back to what learns; twice where their own weights learn too. Attention
    # has no weights: its backward pass is twice its forward pass in any case.
    weights = 2.0 if shape.language_learns else 1.0
    backward = weights * (linear + head) + 2.0 * attention
    if shape.adapters:
        backward += 2.0 * shape.adapters * sequence.tokens
        backward -= 2.0 * shape.scored_adapters * sequence.unscored
    return forward, backward + _recomputed_flops(shape, sequence, again)


def _recomputed_flops(shape: ModelShape, sequence: _Sequence, again: float) -> float:
    """Operations of the second forward pass of that share of the layers, in the backward pass."""
    linear = 2.0 * (shape.text + shape.adapters - shape.closing) * sequence.tokens
    linear += 4.0 * shape.layers * shape.heads * sequence.seen
    last = 2.0 * (shape.scored + shape.scored_adapters) * sequence.unscored if again == 1 else 0.0
    return again * linear - last


def _tower_flops(shape: ModelShape, tokens: float) -> float:
    """Operations of a clip or image of `tokens` positions, forward, through tower and projector."""
    positions = tokens * shape.tower_positions
    linear = 2.0 * (shape.tower * positions + shape.projector * tokens)
    return linear + 4.0 * shape.tower_layers * shape.tower_width * positions * shape.tower_span


def activation_bytes(shape: ModelShape, *, mixed: bool) -> int:
    """Return bytes that one layer of a Llama-like model keeps a token for the backward pass.

    In bf16, with h the width, q and k those of queries and keys, m that of the MLP: two norms
    keep their float32 input (4h each), its normalised form (2h each) and their output (2h each);
    attention q (2q), keys and values (4k) and its output (2q); the MLP four tensors (8m). `mixed`
    (float32 weights under autocast) keeps norms in float32 beside the bf16 that layers take (10h).
    """
    own = 16 * shape.hidden + 4 * shape.heads + 4 * shape.keys + 8 * shape.mlp
    return own + (10 * shape.hidden if mixed else 0)


def memory_of(
    recipe: Recipe, shape: ModelShape, data: DatasetStats, devices: int = 1
) -> list[Memory]:
    """Return bytes on each of `devices` GPUs, for each way of spreading a training over them."""
    batch = micro_batch_of(recipe, data)
    bf16 = recipe.optimisation.bf16
    kept = batch.activations(shape, 0, bf16=bf16)
    checkpointed = batch.activations(shape, shape.layers, bf16=bf16)
    chosen = batch.activations(shape, recomputed_layers(recipe.optimisation, shape), bf16=bf16)
    return [
        Memory(way, w, g, a, chosen, checkpointed, kept, w + g + a + chosen + _OVERHEAD)
        for way, w, g, a in _states(recipe, shape, devices)
    ]


def _states(recipe: Recipe, shape: ModelShape, devices: int) -> list[tuple[str, int, int, int]]:
    """Ways of spreading; bytes a GPU of weights, gradients and optimiser in each."""
    learn = shape.trainable
    own = shape.parameters - shape.adapters
    adamw = ADAMW_BYTES[recipe.optimisation.optimizer]
    bf16 = recipe.optimisation.bf16
    copies = 2 if isinstance(recipe, DpoRecipe) and _second_model(recipe) else 1
    # Autocast keeps a bf16 copy of what learns in float32 until the backward pass is over.
    cast = 2 * learn if bf16 and not shape.adapters else 0
    weights = own * shape.bytes_a_weight * copies + 4 * shape.adapters + cast
    buckets = 4 * learn if devices > 1 else 0  # DistributedDataParallel sends gradients in these
    ways = [(WHOLE_COPY, weights, 4 * learn + buckets, adamw * learn)]
    if devices > 1:
        size, master = (2, 4) if bf16 else (4, 0)  # DeepSpeed's bf16 keeps a float32 master copy
        ways += [
            (
                ZERO2,
                size * own * copies + 4 * shape.adapters,
                size * learn // devices,
                (adamw + master) * learn // devices,
            ),
            (
                SHARDED,
                (own * shape.bytes_a_weight * copies + 4 * shape.adapters) // devices
                + 4 * (own // max(shape.layers, 1)),
                4 * learn // devices,
                adamw * learn // devices,
            ),
        ]
    return ways


def _second_model(recipe: DpoRecipe) -> bool:
    """Whether the reference is a model of its own; with adapters it is the policy without them."""
    return recipe.dpo.reference == "model" and recipe.lora is None


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Positions that a device computes at once.

    Attributes:
        tokens: in the language model's layers, a shared clip's once.
        rows_tokens: of the same rows laid out by themselves, as results go back to for the loss.
    """

    tokens: float
    rows_tokens: float

    @classmethod
    def longest(cls, recipe: Recipe, longest: int, visual: int) -> MicroBatch:
        """Return one that no batch of a recipe is larger than.

        Args:
            longest: positions of the longest row; of a pair with the longer of its answers.
            visual: positions of its clip or image, which the answers of a pair share.
        """
        count = recipe.optimisation.per_device_batch_size
        if recipe.sharing.pack_tokens:
            return cls(float(count * longest), float(count * longest))
        sides = 2 if isinstance(recipe, DpoRecipe) else 1
        rows = float(count * longest * sides)
        shared = count * (longest * sides - visual * (sides - 1))
        return cls(float(shared) if recipe.sharing.video else rows, rows)

    def activations(self, shape: ModelShape, recomputed: int, *, bf16: bool) -> int:
        """Return bytes kept for the backward pass with so many layers computed again in it.

        Such a layer keeps its input alone. They are the first ones: when the backward pass comes
        to them, what the others kept is freed, so one layer's own takes that place.
        """
        mixed = shape.bytes_a_weight == 4
        residual = 4 if mixed else 2
        a_layer = activation_bytes(shape, mixed=mixed) * (1 if bf16 else 2)
        inputs = recomputed * shape.hidden * residual
        whole = max(shape.layers - recomputed, min(shape.layers, 1)) * a_layer
        # Results go back to rows of their own for the loss.
        spread = self.rows_tokens * shape.hidden * residual
        return int(self.tokens * (inputs + whole) + spread)


def micro_batch_of(recipe: Recipe, data: DatasetStats) -> MicroBatch:
    """Return the mean micro-batch of the longest kind of rows: a batch is of one kind."""

    def most(*, shared: bool) -> float:
        sequences = (_sequence(recipe, data.lengths, kind, shared=shared) for kind in data.kinds)
        return max(one.tokens / one.rows for one in sequences)

    count = recipe.optimisation.per_device_batch_size
    tokens = count * most(shared=recipe.sharing.video)
    if recipe.sharing.pack_tokens:
        tokens = float(count * recipe.sharing.pack_tokens)
    return MicroBatch(tokens, count * most(shared=False))


USABLE = 0.9
"""Share of a GPU's memory that a plan fills: the rest is fragments, and batches above the mean."""


def activation_room(
    recipe: Recipe,
    shape: ModelShape,
    memory: int,
    *,
    devices: int = 1,
    way: str = WHOLE_COPY,
) -> int:
    """Return bytes that a GPU of `memory` bytes has left for activations; below 0: too small.

    Args:
        way: of spreading states over GPUs: `WHOLE_COPY`, `ZERO2` or `SHARDED`.
    """
    states = {name: sum(sizes) for name, *sizes in _states(recipe, shape, devices)}
    return int(USABLE * memory) - states.get(way, states[WHOLE_COPY]) - _OVERHEAD


def layers_to_recompute(shape: ModelShape, batch: MicroBatch, room: int, *, bf16: bool) -> int:
    """Return the fewest of the language model's layers to compute again in the backward pass.

    Args:
        room: bytes for activations, as `activation_room` returns it.
        bf16: whether layers compute in bfloat16.

    Returns:
        0 where all activations fit; all layers where nothing fits. They are to be the first ones.
    """
    for layers in range(shape.layers):
        if batch.activations(shape, layers, bf16=bf16) <= room:
            return layers
    return shape.layers


_R = TypeVar("_R", bound=Recipe)


def planned(
    recipe: _R,
    shape: ModelShape,
    batch: MicroBatch,
    memory: int | None,
    *,
    devices: int = 1,
    way: str = WHOLE_COPY,
) -> _R:
    """Return a recipe with the number of layers that its `gradient_checkpointing: auto` comes to.

    Args:
        batch: the largest that is to fit.
        memory: bytes of a GPU; None: on a CPU, where none is computed again.
        way: of spreading states over GPUs, as for `activation_room`.
    """
    if recipe.optimisation.gradient_checkpointing != "auto":
        return recipe
    layers: int | bool = False
    if memory is not None:
        room = activation_room(recipe, shape, memory, devices=devices, way=way)
        layers = layers_to_recompute(shape, batch, room, bf16=recipe.optimisation.bf16) or False
    changed = recipe.optimisation.model_copy(update={"gradient_checkpointing": layers})
    return cast("_R", recipe.model_copy(update={"optimisation": changed}))


def disk_bytes(recipe: Recipe, shape: ModelShape, steps: int) -> int:
    """Return bytes that a run writes at its largest: checkpoints with optimiser, and the model."""
    whole = (shape.parameters - shape.adapters) * shape.bytes_a_weight
    weights = 4 * shape.adapters if shape.adapters else whole
    adamw = ADAMW_BYTES[recipe.optimisation.optimizer]
    checkpoint = weights + adamw * shape.trainable
    kept = min(math.ceil(steps / recipe.save_every), KEPT_CHECKPOINTS)
    more = min(math.ceil(steps / recipe.save_every), KEPT_CHECKPOINTS + 1)
    final = weights + (whole if shape.adapters and recipe.lora and recipe.lora.merge else 0)
    return max(kept * checkpoint + final, more * checkpoint)
