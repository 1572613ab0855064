"""Recipes: what a training is made of, as YAML that refuses what it does not know."""

from __future__ import annotations

import abc
import difflib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.schema import CONFIGS
from sharegptvideo.storage import dumps, parse_yaml, sha256_text

__all__ = [
    "DataSource",
    "DpoRecipe",
    "Evaluation",
    "FeatureCache",
    "Freeze",
    "Hub",
    "Lora",
    "Optimisation",
    "Preference",
    "Recipe",
    "SftRecipe",
    "Sharing",
    "load_recipe",
    "recipe_hash",
    "recipe_names",
    "recipe_text",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class DataSource(_Strict):
    """Which rows to train on.

    `name` is a config of `list_datasets()`; `source` and `media` are those of `load_dataset`. A
    row without a clip stops the training, or with `missing_media: skip` is listed and left out.
    `stream` reads rows from Parquet as they are needed instead of preparing all at the start.
    `workers` processes a device decode clips, each `prefetch` batches ahead; 0: in this process.
    """

    name: str
    source: str | None = None
    media: str | None = None
    split: str = "train"
    limit: int | None = Field(default=None, ge=1)
    missing_media: Literal["error", "skip"] = "error"
    stream: bool = False
    workers: int = Field(default=0, ge=0)
    prefetch: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name not in CONFIGS:
            raise ValueError(str(unknown_name("dataset", self.name, CONFIGS)))
        splits = CONFIGS[self.name].splits
        for split in self.split.split("+"):
            if split.strip() not in splits:
                raise ValueError(str(unknown_name(f"split of {self.name}", split, splits)))
        return self


class Sharing(_Strict):
    """A clip's tokens once for all the answers about it in a batch; `training/README.md`.

    `video: false` runs every row by itself, as TRL does. `attention` is how a shared clip is
    attended to: `split` everywhere, `flex` on GPUs with a compiler, `dense` to compare with.
    `pack_tokens` fills each row of a batch with whole clips up to so many tokens (`sft`,
    `pretrain`): `per_device_batch_size` then counts such packs.
    """

    video: bool = True
    attention: Literal["split", "flex", "dense"] = "split"
    pack_tokens: int | None = Field(default=None, ge=1)


class Lora(_Strict):
    """Low-rank adapters in place of the language model's own weights.

    `targets` are names of linear layers of the language model. `merge` writes a whole model at
    the end, with the adapters in it; else the adapters alone are saved.
    """

    rank: int = Field(default=64, ge=1)
    alpha: float = Field(default=128, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    merge: bool = True


class FeatureCache(_Strict):
    """Features of a frozen vision tower, kept on disk and read in place of clips.

    `folder` defaults to one in the package's cache. What it will take is told before it is filled.
    """

    enabled: bool = False
    folder: str | None = None


class Evaluation(_Strict):
    """Answer and score a fixed sample every `every` steps, as `eval run` and `eval judge` do.

    `tasks` and `judge` are names of theirs; `source` and `media` as in `load_dataset`; `samples`
    questions of each task.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    judge: str = "answer-match"
    base_url: str | None = None
    every: int = Field(ge=1)
    samples: int = Field(default=100, ge=1)
    source: str | None = None
    media: str | None = None
    max_new_tokens: int = Field(default=64, ge=1)


class Hub(_Strict):
    """Where the finished model is pushed to, with its card."""

    repo: str
    private: bool = True


class Freeze(_Strict):
    """Parts that keep their weights. The image tower always does: no images are trained on."""

    vision_tower: bool = False
    projector: bool = False
    language_model: bool = False


class Optimisation(_Strict):
    """AdamW and its schedule; either `epochs` or `max_steps` says how long.

    `adamw_8bit` keeps the optimiser's state in 8 bits (bitsandbytes, a GPU).
    """

    learning_rate: float = Field(gt=0)
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    epochs: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    per_device_batch_size: int = Field(ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    max_length: int = Field(default=2048, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, ge=0)
    bf16: bool = False
    gradient_checkpointing: bool = False
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give either epochs or max_steps")
        return self


class _Recipe(_Strict, abc.ABC):
    model: str
    data: DataSource
    output: str
    frames: int = Field(default=8, ge=1)
    freeze: Freeze = Freeze()
    lora: Lora | None = None
    sharing: Sharing = Sharing()
    features: FeatureCache = FeatureCache()
    optimisation: Optimisation
    eval: Evaluation | None = None
    seed: int = Field(default=0, ge=0)
    save_every: int = Field(default=500, ge=1)
    log_every: int = Field(default=10, ge=1)
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    push_to_hub: Hub | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        fitting = [name for name, config in CONFIGS.items() if self._fits(set(config.columns))]
        if self.data.name not in fitting:
            raise ValueError(
                f"data.name {self.data.name} has no rows for this stage (have: "
                f"{', '.join(fitting)})"
            )
        return self

    @classmethod
    @abc.abstractmethod
    def _fits(cls, columns: set[str]) -> bool:
        """Whether a config of these columns has the rows that this stage trains on."""


class SftRecipe(_Recipe):
    """Next-token training on answers: captions (`pretrain`) or question–answer rows (`sft`)."""

    stage: Literal["pretrain", "sft"]

    @classmethod
    def _fits(cls, columns: set[str]) -> bool:
        answers = ({"messages"}, {"prompt", "caption"}, {"question", "answer"})
        # A preference row has a prompt and a caption too, but that is no answer to it.
        return any(need <= columns for need in answers) and "chosen" not in columns


class Preference(_Strict):
    """The DPO loss: `beta` is the strength of the pull towards the reference model.

    `reference`: `precomputed` takes its log-probabilities from a cache that is filled before the
    first step, kept in `reference_cache` (default: beside the data); `model` runs the reference
    model in every step. A pair of equal answers stops the training, or is listed and left out.
    """

    beta: float = Field(default=0.1, gt=0)
    loss_type: Literal["sigmoid", "hinge", "ipo", "sigmoid_norm", "apo_zero", "apo_down"] = (
        "sigmoid"
    )
    reference: Literal["precomputed", "model"] = "precomputed"
    reference_cache: str | None = None
    equal_pairs: Literal["error", "skip"] = "error"


class DpoRecipe(_Recipe):
    """Direct preference optimisation; the reference model is the starting checkpoint."""

    stage: Literal["dpo"]

    @classmethod
    def _fits(cls, columns: set[str]) -> bool:
        return {"prompt", "chosen", "rejected"} <= columns

    dpo: Preference = Preference()


Recipe = SftRecipe | DpoRecipe
_STAGES: dict[str, type[SftRecipe] | type[DpoRecipe]] = {
    "pretrain": SftRecipe,
    "sft": SftRecipe,
    "dpo": DpoRecipe,
}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, as `train run` takes them."""
    root = resources.files("sharegptvideo.training.recipes")
    names = []
    for group in root.iterdir():
        if group.is_dir():
            names += [
                f"{group.name}/{file.name.removesuffix('.yaml')}"
                for file in group.iterdir()
                if file.name.endswith(".yaml")
            ]
    return sorted(names)


def recipe_text(name_or_file: str) -> str:
    """The YAML of a file, or of a recipe that comes with the package.

    Raises:
        UserError: neither; the nearest names are given.
    """
    file = Path(name_or_file)
    if file.suffix in {".yaml", ".yml"} or file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UserError(f"recipe {file}: cannot be read ({cause})") from error
    if name_or_file not in recipe_names():
        raise unknown_name("recipe", name_or_file, recipe_names())
    root = resources.files("sharegptvideo.training.recipes")
    return root.joinpath(*f"{name_or_file}.yaml".split("/")).read_text(encoding="utf-8")


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, apply `dotted.key=value` overrides (values as YAML) and check all of it.

    Raises:
        UserError: not YAML, or one message with every unknown key (and its nearest names), bad
            value and missing field.
    """
    where = f"recipe {name_or_file}"
    content = parse_yaml(where, recipe_text(name_or_file))
    if not isinstance(content, dict):
        raise UserError(f"{where}: a recipe is a mapping of keys to values")
    for override in overrides:
        _override(content, override)
    stage = str(content.get("stage"))
    if stage not in _STAGES:
        raise unknown_name(f"stage in {where}:", stage, _STAGES)
    try:
        return _STAGES[stage].model_validate(content)
    except ValidationError as error:
        problems = list(_problems(error, _STAGES[stage]))
        raise UserError(f"{where}: {'; '.join(problems)}") from error


def recipe_hash(recipe: Recipe) -> str:
    """SHA-256 of the resolved recipe, the output folder left out."""
    return sha256_text(dumps(recipe.model_dump(mode="json", exclude={"output"})))


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f"override {override!r}: write it as key=value, with dots between levels")
    value = parse_yaml(f"override {override!r}", text)
    *parents, last = key.split(".")
    place: Any = content
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise UserError(f"override {override!r}: {parent} has no keys below it")
    place[last] = value


def _problems(error: ValidationError, root: type[BaseModel]) -> Iterator[str]:
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            options = list(_fields_at(root, location[:-1]))
            near = difflib.get_close_matches(location[-1], options, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(options)}"
            yield f"unknown key {key} ({hint})"
        elif problem["type"] == "missing":
            yield f"{key} is missing"
        else:
            cause = problem["msg"].removeprefix("Value error, ")
            value = problem["input"]
            got = "" if isinstance(value, dict) else f", not {value!r}"
            yield f"{key}: {cause}{got}" if key else cause


def _fields_at(root: type[BaseModel], path: list[str]) -> Iterator[str]:
    model = root
    for part in path:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return
        model = annotation
    yield from model.model_fields
