"""Recipes: what a training is made of, as YAML that refuses what it does not know.

They come with the package or are a user's own, with `key=value` changes. A recipe is one training,
or with `steps` several in a row:

    steps:
      captions: {data: {files: video_caption_300k.jsonl}}
      answers: {data: {files: video_240k_caption_15k.jsonl}}

Each step is the recipe with its own keys changed, writes to OUTPUT/NAME, and starts from the model
of the step before.
"""

from __future__ import annotations

import abc
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from sharegptvideo._io import dumps, parse_yaml, read_text, sha256_text
from sharegptvideo._shipped import shipped
from sharegptvideo._strict import StrictModel, key_problems
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.eval import SampleEvaluation
from sharegptvideo.models.convert import ModelParts, assembled_folder

__all__ = [
    "NOT_HASHED",
    "STAGES",
    "DataSource",
    "DpoRecipe",
    "FeatureCache",
    "Freeze",
    "Hub",
    "LengthLimit",
    "Lora",
    "Optimisation",
    "Part",
    "Preference",
    "Recipe",
    "RowOrder",
    "SftRecipe",
    "Sharing",
    "load_recipe",
    "load_steps",
    "maker_of",
    "recipe_hash",
    "recipe_names",
    "recipe_text",
    "renamed",
]


_FILES = r"^[^/\\]+$"


RowOrder = Literal["by_length", "random", "plain"]


class Part(StrictModel):
    """Rows of one config, `files` of it as in `DataSource`, in a mixture.

    `weight` says how often each row is there: 1 once, 2 twice, 0.5 one in two, chosen by the
    recipe's seed, the same ones on every machine and in every epoch.
    """

    name: str
    files: str | None = Field(default=None, pattern=_FILES)
    weight: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name not in CONFIGS:
            raise ValueError(str(unknown_name("dataset", self.name, CONFIGS)))
        return self

    def __str__(self) -> str:
        often = "" if self.weight == 1 else f"{self.weight:g} × "
        return f"{often}{self.name}{f' ({self.files})' if self.files else ''}"


class DataSource(StrictModel):
    """Which rows to train on.

    `name` is a config of `list_datasets()`; `data_dir` and `media` are those of `load_dataset`.
    `files` takes, of a config of several files in the release, those of that name (`*` and `?`
    stand for any text and letter). `mix` names several configs, in place of `name` and `files`;
    all else here holds for each of them, and `limit` is of each. A row without its clip or image
    stops the training, or with `missing_media: skip` is listed and left out.
    `order` is random in every epoch: `by_length` puts rows of like length into one batch, `random`
    does not. Both keep the rows of a clip together where its tokens are shared (`sft`,
    `pretrain`); `plain` draws row by row.
    `stream` reads rows from Parquet as they are needed instead of preparing all at the start.
    `keep_clips` keeps decoded clips and images in shared memory or on disk, for all epochs and
    processes; how much that takes is said first.
    `workers` processes a device decode clips, each `prefetch` batches ahead; 0: in this process.
    """

    name: str | None = None
    mix: tuple[Part, ...] | None = None
    data_dir: str | None = None
    files: str | None = Field(default=None, pattern=_FILES)
    media: str | None = None
    split: str = "train"
    limit: int | None = Field(default=None, ge=1)
    missing_media: Literal["error", "skip"] = "error"
    order: RowOrder = "by_length"
    stream: bool = False
    keep_clips: Literal["none", "memory", "disk"] = "none"
    workers: int = Field(default=0, ge=0)
    prefetch: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if (self.name is None) == (self.mix is None):
            raise ValueError("give either name or mix, and null for the other")
        if self.mix == ():
            raise ValueError("mix has no parts")
        if self.mix and self.files is not None:
            raise ValueError("files goes into the part of mix that it is about")
        for part in self.parts:
            splits = CONFIGS[part.name].splits
            for split in self.split.split("+"):
                if split.strip() not in splits:
                    raise ValueError(str(unknown_name(f"split of {part.name}", split, splits)))
        return self

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the mixture; one where `name` is given."""
        return self.mix or (Part(name=str(self.name), files=self.files),)

    def __str__(self) -> str:
        return " + ".join(map(str, self.mix)) if self.mix else str(self.name)


class Sharing(StrictModel):
    """A clip's tokens once for all the answers about it in a batch; `training/INTERNALS.md`.

    `video: false` runs every row by itself, as TRL does. `attention` is how a shared clip is
    attended to: `auto` is `flex` on GPUs, where it runs and is right there, and `split` elsewhere;
    `dense` is to compare with.
    `pack_tokens` fills each row of a batch with whole clips up to so many tokens (`sft`,
    `pretrain`): `per_device_batch_size` then counts such packs.
    """

    video: bool = True
    attention: Literal["auto", "split", "flex", "dense"] = "auto"
    pack_tokens: int | None = Field(default=None, ge=1)


class Lora(StrictModel):
    """Low-rank adapters in place of the language model's own weights; nothing else learns.

    `targets` are names of linear layers of the language model; `alpha`/`rank` scales what they
    add. `merge` writes a whole model at the end, with the adapters in it; else the adapters alone
    are saved (`merge_adapters` makes a model of them later).
    """

    rank: int = Field(default=64, ge=1)
    alpha: float = Field(default=128, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    merge: bool = True


class FeatureCache(StrictModel):
    """Features of a frozen vision tower, kept on disk and read in place of clips.

    `folder` defaults to one in the package's cache. Its size is reported before it is filled.
    """

    enabled: bool = False
    folder: str | None = None


class Hub(StrictModel):
    """Where the finished model is pushed to, with its card; `tensorboard`: its event files too."""

    repo: str
    private: bool = True
    tensorboard: bool = False


class Freeze(StrictModel):
    """Parts that keep their weights; the image tower always does, as in the paper."""

    vision_tower: bool = False
    projector: bool = False
    language_model: bool = False


@dataclass(frozen=True, slots=True)
class LengthLimit:
    """How long a row may be: `tokens`, a clip counted with all its positions or as one."""

    tokens: int
    counts_clip: bool = True

    def positions(self, clip: int) -> int:
        """Return how many positions a row may take whose clip takes `clip` of them."""
        return self.tokens if self.counts_clip else self.tokens + max(clip - 1, 0)


class Optimisation(StrictModel):
    """AdamW and its schedule; either `epochs` or `max_steps` says how long.

    A row has up to `max_length` tokens: `max_length_counts` says whether all positions of its clip
    count (`all`) or the clip as one (`text`).
    `gradient_checkpointing` computes layers again in the backward pass, to the same results: all
    (`true`), the language model's first so many (a number), or as many as a GPU's memory asks for
    (`auto`; none on a CPU).
    `adamw_8bit` keeps the optimiser's state in 8 bits (bitsandbytes, a GPU).
    `fused` compiles the layers' RMSNorm, rotary positions and SwiGLU: `auto` on GPUs, where they
    run and are right there; `true` on a CPU as well, which needs a C++ compiler.
    """

    learning_rate: float = Field(gt=0, le=10)
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    epochs: float | None = Field(default=None, gt=0, le=1_000_000)
    max_steps: int | None = Field(default=None, ge=1)
    per_device_batch_size: int = Field(ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    max_length: int = Field(default=2048, ge=1)
    max_length_counts: Literal["all", "text"] = "all"
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, ge=0)
    bf16: bool = False
    gradient_checkpointing: bool | Literal["auto"] | Annotated[int, Field(ge=1)] = False
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    fused: Literal["auto", True, False] = "auto"

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is None and self.max_steps is None:
            raise ValueError("give either epochs or max_steps, as optimisation.epochs=1")
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError(
                f"give either epochs or max_steps; epochs is {self.epochs:g} and max_steps"
                f" {self.max_steps}, so add optimisation.epochs=null or"
                " optimisation.max_steps=null"
            )
        return self

    @property
    def length_limit(self) -> LengthLimit:
        """How long a row may be."""
        return LengthLimit(self.max_length, self.max_length_counts == "all")


_TAG = "<{}>"  # in the places of errors that pydantic gives; no key of a recipe looks so


def _form_of_model(value: Any) -> str:
    return _TAG.format("parts" if isinstance(value, dict | ModelParts) else "name")


_Model = Annotated[
    Annotated[str, Tag(_TAG.format("name"))] | Annotated[ModelParts, Tag(_TAG.format("parts"))],
    Discriminator(_form_of_model),
]


class _Recipe(StrictModel, abc.ABC):
    """What all stages have.

    `model` is a folder, a Hub id, or the parts that the paper starts from, `{language, image_tower,
    video_tower, projector}`, of which the first run assembles a checkpoint in the package's cache.
    `system` takes the place of the system sentence in the chat template of Video-LLaVA and
    LLaVA-Hound, and is saved with the model, so that it is asked as it was trained; an empty text
    for none, null for the template of the starting model.
    """

    model: _Model
    data: DataSource
    output: str
    frames: int = Field(default=8, ge=1)
    system: str | None = None
    freeze: Freeze = Freeze()
    lora: Lora | None = None
    sharing: Sharing = Sharing()
    features: FeatureCache = FeatureCache()
    optimisation: Optimisation
    eval: SampleEvaluation | None = None
    seed: int = Field(default=0, ge=0)
    save_every: int = Field(default=500, ge=1)
    log_every: int = Field(default=10, ge=1)
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    push_to_hub: Hub | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        fitting = [name for name, config in CONFIGS.items() if self._fits(set(config.columns))]
        if wrong := [part.name for part in self.data.parts if part.name not in fitting]:
            key = "data.mix:" if self.data.mix else "data.name"
            raise ValueError(
                f"{key} {wrong[0]} has no rows for this stage (have: {', '.join(fitting)})"
            )
        parts = self.freeze
        if parts.vision_tower and parts.projector and parts.language_model and not self.lora:
            raise ValueError("freeze: nothing is left to learn; free a part, or give lora")
        if self.lora and not (parts.vision_tower and parts.projector):
            raise ValueError(
                "lora trains adapters of the language model alone; "
                "set freeze.vision_tower=true and freeze.projector=true"
            )
        if self.sharing.pack_tokens and not self.sharing.video:
            raise ValueError("sharing.pack_tokens needs sharing.video, which lays the packs out")
        if self.features.enabled and self.data.keep_clips != "none":
            raise ValueError(
                "data.keep_clips: features.enabled reads each clip once and keeps what the tower "
                "gives for it; set data.keep_clips=none"
            )
        if self.lora and not self.lora.merge and isinstance(self.model, ModelParts):
            raise ValueError(
                "lora.merge=false leaves adapters, whose base has to stay where it is; assemble "
                "the parts with `model convert --assemble --to DIR` and give model=DIR"
            )
        return self

    @property
    def start(self) -> str:
        """Folder or Hub id of the starting model; of parts the folder with what they make."""
        parts = self.model
        return parts if isinstance(parts, str) else str(assembled_folder(parts))

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


class Preference(StrictModel):
    """The DPO loss: `beta` is the strength of the pull towards the reference model.

    `sft_weight` adds that many times the cross-entropy of the chosen answers, a mean over their
    tokens; it keeps them from becoming less likely together with the rejected ones.
    `reference`: `precomputed` takes its log-probabilities from a cache that is filled before the
    first step, kept in `reference_cache` (default: beside the data); `model` runs the reference
    model in every step. A pair of equal answers stops the training, or is listed and left out.
    """

    beta: float = Field(default=0.1, gt=0)
    loss_type: Literal["sigmoid", "hinge", "ipo", "sigmoid_norm", "apo_zero", "apo_down"] = (
        "sigmoid"
    )
    sft_weight: float = Field(default=0.0, ge=0)
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

    @model_validator(mode="after")
    def _no_packs(self) -> Self:
        if self.sharing.pack_tokens:
            raise ValueError("sharing.pack_tokens is for pretrain and sft; dpo has no packs")
        if self.lora and self.lora.dropout:
            raise ValueError("lora.dropout is for pretrain and sft; dpo switches dropout off")
        return self


Recipe = SftRecipe | DpoRecipe
STAGES: dict[str, type[SftRecipe] | type[DpoRecipe]] = {
    "pretrain": SftRecipe,
    "sft": SftRecipe,
    "dpo": DpoRecipe,
}
"""The kind of recipe of each stage."""


NOT_HASHED = frozenset({"output", "report_to", "push_to_hub"})
"""Fields that say where results go; they may change when a training is continued."""


def recipe_hash(recipe: Recipe) -> str:
    """SHA-256 of the resolved recipe, without where its results go."""
    content = recipe.model_dump(mode="json", exclude={*NOT_HASHED})
    del content["data"]["keep_clips"]  # the same clips either way
    del content["optimisation"]["fused"]  # how it is computed, as far as a device can
    for section in _WITH_DATA:
        if content[section]:
            # Under the key's old name and place, so that trainings that were begun by it go on.
            content[section] = {
                _OLD_KEY if key == _DATA_DIR else key: value
                for key, value in content[section].items()
            }
    if content["sharing"]["attention"] == "auto":
        content["sharing"]["attention"] = "split"  # likewise: it was the default
    return sha256_text(dumps(content))


_WITH_DATA, _OLD_KEY, _DATA_DIR = ("data", "eval"), "source", "data_dir"


def renamed(where: str, content: dict[str, Any], *, warn: bool = True) -> dict[str, Any]:
    """Return a recipe's content with `data.source` and `eval.source` under their name of today.

    Raises:
        UserError: a section has both names.
    """
    new = dict(content)
    for section in _WITH_DATA:
        keys = content.get(section)
        if not isinstance(keys, dict) or _OLD_KEY not in keys:
            continue
        if _DATA_DIR in keys:
            raise UserError(
                f"{where}: {section}.{_OLD_KEY} is the old name of {section}.{_DATA_DIR}; "
                f"leave {section}.{_OLD_KEY} out"
            )
        new[section] = {_DATA_DIR if key == _OLD_KEY else key: v for key, v in keys.items()}
        if warn:
            warnings.warn(
                f"{where}: {section}.{_OLD_KEY} is now {section}.{_DATA_DIR}; read as that",
                FutureWarning,
                stacklevel=2,
            )
    return new


_FOLDER = "training/recipes"
_STEPS = "steps"
_DEMO_MODELS = ("demo-out", "models")  # of `sharegptvideo demo` without --out


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, as `train run` takes them."""
    files = shipped(_FOLDER).glob("*/*.yaml")
    return sorted(f"{file.parent.name}/{file.stem}" for file in files)


def maker_of(model: str) -> str | None:
    """Return the command that makes the folder `model` as shipped recipes name it, or None."""
    if Path(model).parts[:2] == _DEMO_MODELS:
        return "sharegptvideo demo"
    for name in recipe_names():
        if any(step.output == model for step in load_steps(name)):
            return f"sharegptvideo train run {name}"
    return None


def recipe_text(name_or_file: str) -> str:
    """Return the YAML of a file, or of a recipe that comes with the package.

    Raises:
        UserError: neither; the nearest names are given.
    """
    file = Path(name_or_file)
    if file.suffix in {".yaml", ".yml"} or file.is_file():
        return read_text(file, "name a recipe of `train ls`, or a file with one")
    if name_or_file not in recipe_names():
        raise unknown_name("recipe", name_or_file, recipe_names())
    return (shipped(_FOLDER) / f"{name_or_file}.yaml").read_text(encoding="utf-8")


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe of one training, apply overrides and check all of it; see `load_steps`.

    Raises:
        UserError: as `load_steps`; or the recipe has several steps.
    """
    recipes = load_steps(name_or_file, overrides)
    if len(recipes) > 1:
        names = ", ".join(Path(recipe.output).name for recipe in recipes)
        raise UserError(
            f"recipe {name_or_file}: has {len(recipes)} steps ({names}); load_steps reads them"
        )
    return recipes[0]


def load_steps(name_or_file: str, overrides: Sequence[str] = ()) -> list[Recipe]:
    """Read a recipe, apply `dotted.key=value` overrides (values as YAML) and check all of it.

    Returns:
        the trainings it is made of, in order: one, or one for each of its `steps`.

    Raises:
        UserError: not YAML, or one message with every unknown key (and its nearest names), bad
            value and missing field.
    """
    where = f"recipe {name_or_file}"
    content = parse_yaml(where, recipe_text(name_or_file))
    if not isinstance(content, dict):
        raise UserError(f"{where}: a recipe is a mapping of keys to values")
    content = renamed(where, content)
    for override in overrides:
        _override(content, override)
    if _STEPS not in content:
        return [_checked(where, content)]
    steps = content.pop(_STEPS)
    if not isinstance(steps, dict) or not steps:
        raise UserError(f"{where}: steps is a mapping of names to the keys that each changes")
    return list(_step_by_step(where, content, steps))


def _step_by_step(where: str, base: dict[str, Any], steps: dict[Any, Any]) -> Iterator[Recipe]:
    output = base.get("output")
    for name, changes in steps.items():
        here = f"{where}, step {name}"
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*", str(name)):
            raise UserError(f"{here}: a step's name is a folder's: letters, digits, _ and -")
        if not isinstance(changes, dict | None):
            raise UserError(f"{here}: a mapping of the keys that this step changes")
        if "output" in (changes or {}):
            raise UserError(f"{here}: output is {output}/{name}; change output above the steps")
        content = _merged(base, renamed(here, changes or {}))
        if isinstance(output, str):
            content["output"] = str(Path(output) / str(name))
        recipe = _checked(here, content)
        base = {**base, "model": recipe.output}
        yield recipe


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in changes.items():
        old = both.get(key)
        both[key] = (
            _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return both


def _checked(where: str, content: dict[str, Any]) -> Recipe:
    if "stage" not in content:
        raise UserError(f"{where}: stage is missing (one of {', '.join(STAGES)})")
    stage = str(content["stage"])
    if stage not in STAGES:
        raise unknown_name(f"stage in {where}:", stage, STAGES)
    try:
        return STAGES[stage].model_validate(content)
    except ValidationError as error:
        problems = list(key_problems(error, STAGES[stage]))
        raise UserError(f"{where}: {'; '.join(problems)}") from error


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        hint = "; options such as --dry-run start with two dashes" if key[:1] == "-" else ""
        raise UserError(
            f"override {override!r}: write it as key=value, with dots between levels{hint}"
        )
    value = parse_yaml(f"override {override!r}", text)
    *parents, last = key.split(".")
    where = f"override {override!r}"
    if parents:
        ((last, value),) = renamed(where, {parents[-1]: {last: value}})[parents[-1]].items()
    else:
        value = renamed(where, {last: value})[last]
    place: Any = content
    for parent in parents:
        if isinstance(place, list):
            place = place[_number(place, parent, override)]
        else:
            if place.get(parent) is None:
                place[parent] = {}  # absent, or null: a section is opened by its first key
            place = place[parent]
        if not isinstance(place, dict | list):
            raise UserError(f"override {override!r}: {parent} has no keys below it")
    place[_number(place, last, override) if isinstance(place, list) else last] = value


def _number(entries: list[Any], text: str, override: str) -> int:
    if not text.isdecimal() or int(text) >= len(entries):
        raise UserError(
            f"override {override!r}: {text} is no entry of the list; they are numbered "
            f"0 to {len(entries) - 1}"
        )
    return int(text)
