"""Recipes: what a training is made of, as YAML that refuses what it does not know."""

from __future__ import annotations

import abc
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sharegptvideo._io import dumps, sha256_text
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.errors import unknown_name

__all__ = [
    "NOT_HASHED",
    "STAGES",
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
    "recipe_hash",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class DataSource(_Strict):
    """Which rows to train on.

    `name` is a config of `list_datasets()`; `source` and `media` are those of `load_dataset`.
    `files` takes, of a config of several files in the release, those of that name (`*` and `?`
    stand for any text and letter). A row without a clip stops the training, or with
    `missing_media: skip` is listed and left out.
    `stream` reads rows from Parquet as they are needed instead of preparing all at the start.
    `workers` processes a device decode clips, each `prefetch` batches ahead; 0: in this process.
    """

    name: str
    source: str | None = None
    files: str | None = Field(default=None, pattern=r"^[^/\\]+$")
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


class FeatureCache(_Strict):
    """Features of a frozen vision tower, kept on disk and read in place of clips.

    `folder` defaults to one in the package's cache. What it will take is told before it is filled.
    """

    enabled: bool = False
    folder: str | None = None


class Evaluation(_Strict):
    """Answer and score a fixed sample before the first step, every `every` steps and at the end.

    `tasks`, `judge` (with `base_url`, its endpoint) and `task_path`, a folder with tasks of one's
    own, are as in `eval run`; `source` and `media` are its --data-dir and --media. Of each task
    `samples` questions are drawn by `seed`, the same ones every time and in every training.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    judge: str = "answer-match"
    base_url: str | None = None
    every: int = Field(ge=1)
    samples: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)
    source: str | None = None
    media: str | None = None
    task_path: str | None = None
    max_new_tokens: int = Field(default=64, ge=1)
    batch_size: int = Field(default=16, ge=1)


class Hub(_Strict):
    """Where the finished model is pushed to, with its card; `tensorboard`: its event files too."""

    repo: str
    private: bool = True
    tensorboard: bool = False


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
    sft_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False)
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
    return sha256_text(dumps(recipe.model_dump(mode="json", exclude=set(NOT_HASHED))))
