"""TRL's trainers for clips: their arguments, the little that is changed, and a run of them."""

from __future__ import annotations

import contextlib
import os
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from trl.trainer import dpo_trainer, utils
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_trainer import SFTTrainer

from sharegptvideo.errors import Interrupted
from sharegptvideo.models import quiet_transformers
from sharegptvideo.training.callbacks import PROJECT, StopAfterStep
from sharegptvideo.training.estimate import (
    KEPT_CHECKPOINTS,
    SHARDED,
    WHOLE_COPY,
    ZERO2,
    MicroBatch,
    planned,
    recomputed_layers,
    shape_of,
)
from sharegptvideo.training.fused import Fused, FusedChoice, fuse_layers
from sharegptvideo.training.launch import prepare_shards, processes
from sharegptvideo.training.lora import has_adapters, load_adapters
from sharegptvideo.training.mix import visuals_of
from sharegptvideo.training.run_dir import TrainingDir, checkpoint_step
from sharegptvideo.training.sampling import EpochSampler, row_order
from sharegptvideo.training.sharing.attention import HeadShape, choose_attention
from sharegptvideo.training.sharing.forward import share_clips
from sharegptvideo.training.streaming import StreamedRows
from sharegptvideo.training.workers import (
    CheckedCollator,
    CheckedRows,
    batches_of,
    loader_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from datasets import Dataset

    from sharegptvideo.training.families import Family
    from sharegptvideo.training.recipes import Recipe, RowOrder, Sharing
    from sharegptvideo.training.sharing.attention import Attention

__all__ = [
    "VideoDPOTrainer",
    "VideoSFTTrainer",
    "on_this_device",
    "quiet_and_quick",
    "recompute_first",
    "spare_frozen_towers",
    "train",
    "trainer_arguments",
]


_R = TypeVar("_R", bound="Recipe")


def on_this_device(
    recipe: _R, run: TrainingDir, family: Family, lengths: Sequence[int] | None
) -> _R:
    """Return a recipe with the layers that `gradient_checkpointing: auto` comes to here.

    The model gets to know how many, and the run folder; what `auto` comes to is reported.

    Args:
        lengths: of the rows, in positions; None where they are yet to be read.
    """
    shape, visual = shape_of(recipe, family), family.reader.video_tokens
    longest = recipe.sharing.pack_tokens or max(
        lengths or [recipe.optimisation.length_limit.positions(visual)]
    )
    gpu = torch.cuda.is_available()
    changed = planned(
        recipe,
        shape,
        MicroBatch.longest(recipe, longest, visual),
        torch.cuda.get_device_properties(0).total_memory if gpu else None,
        devices=processes().count,
        way=_way(),
    )
    layers = recomputed_layers(changed.optimisation, shape)
    if 0 < layers < shape.layers:
        recompute_first(family.model, layers)
    if processes().is_first:
        run.keep(recomputed_layers=layers)
        if changed is not recipe:
            run.report(f"gradient checkpointing: {layers} of {shape.layers} layers")
    return changed


def _way() -> str:
    """Return how the launcher spreads states over GPUs."""
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        return SHARDED
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        return SHARDED if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3" else ZERO2
    return WHOLE_COPY


def recompute_first(model: Any, layers: int) -> None:
    """Let a model's gradient checkpointing be of its language model's first `layers` alone.

    Each time that it is switched on: TRL does so again after each reference pass.
    """
    switch_on = model.activation_checkpointing_enable

    def enable(*args: Any, **kwargs: Any) -> None:
        switch_on(*args, **kwargs)
        for layer in model.get_decoder().layers[layers:]:
            layer.gradient_checkpointing = False

    model.activation_checkpointing_enable = enable


def spare_frozen_towers(model: Any) -> None:
    """Let a model's gradient checkpointing keep frozen towers out of the backward pass.

    transformers lets the inputs of every part ask for gradients, those of towers too, whose layers
    are then computed again and gone through for gradients that nothing takes. In checkpoints that
    are not reentrant, a tower that learns needs no such inputs.
    """
    model.enable_input_require_grads = model.get_decoder().enable_input_require_grads


def trainer_arguments(recipe: Recipe, checkpoints: Path) -> dict[str, Any]:
    """Return the arguments that SFTConfig and DPOConfig share."""
    o = recipe.optimisation
    return {
        "output_dir": str(checkpoints),
        "learning_rate": o.learning_rate,
        "lr_scheduler_type": o.scheduler,
        "warmup_steps": o.warmup_ratio,  # below 1 it is a share of all steps
        "num_train_epochs": o.epochs or 1.0,
        "max_steps": o.max_steps or -1,
        "per_device_train_batch_size": o.per_device_batch_size,
        "gradient_accumulation_steps": o.gradient_accumulation,
        "weight_decay": o.weight_decay,
        "adam_beta2": o.adam_beta2,
        "max_grad_norm": o.max_grad_norm,
        "use_cpu": not torch.cuda.is_available(),  # said, or bf16 is refused there
        "bf16": o.bf16,
        "optim": "adamw_torch_fused" if o.optimizer == "adamw" else o.optimizer,
        "gradient_checkpointing": o.gradient_checkpointing is not False,
        # Every adapter learns in every step; looking for others costs a walk over the graph.
        "ddp_find_unused_parameters": False if recipe.lora else None,
        "seed": recipe.seed,
        "logging_steps": recipe.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # a loss that is not a number must show
        "save_strategy": "steps",
        "save_steps": recipe.save_every,
        "save_total_limit": KEPT_CHECKPOINTS,
        "remove_unused_columns": False,  # the collators read columns that no model takes
        "dataloader_pin_memory": torch.cuda.is_available(),
        "max_length": None,  # the collators cut
        **loader_arguments(recipe.data),
        "report_to": [],  # `attach_callbacks` adds them
        "run_name": Path(recipe.output).name,
        "project": PROJECT,
        "disable_tqdm": True,
        "log_level": "error",
    }


class _Common:
    """What the two trainers do otherwise than TRL's, without touching how they train."""

    model: Any
    ref_model: Any
    train_dataset: Any
    args: Any
    accelerator: Any
    state: Any
    is_fsdp_enabled: bool
    data_collator: Any
    _sampler: EpochSampler
    _train_batch_size: int
    family: Family
    sharing: Sharing
    order: RowOrder

    def __init__(self, *args: Any, train_dataset: Any, **kwargs: Any) -> None:
        # TRL reads a table's columns; of streamed rows it gets the first one.
        shown = train_dataset.first() if isinstance(train_dataset, StreamedRows) else train_dataset
        super().__init__(*args, train_dataset=shown, **kwargs)  # type: ignore[call-arg]  # of TRL
        if shown is not train_dataset:
            self.train_dataset = train_dataset

    def share(
        self, family: Family, sharing: Sharing, order: RowOrder = "by_length"
    ) -> tuple[Attention, str | None]:
        """Let policy and reference take our collators' batches. Call it before training.

        Returns:
            how shared clips are attended to, and why so where it is not what `auto` stands for.

        Raises:
            UserError: `sharing.attention` is one that does not work on this device.
        """
        self.family, self.sharing, self.order = family, sharing, order
        config = family.model.config
        dtype = torch.bfloat16 if self.args.bf16 else family.model.dtype
        way, reason = choose_attention(
            sharing.attention, HeadShape.of(config), self.accelerator.device, dtype
        )
        for base in self._bases():
            spare_frozen_towers(base)
            share_clips(
                base,
                way,
                encode_clips=partial(family.encode_clips, base),
                positions=partial(family.positions, base),
            )
            if self.is_fsdp_enabled:
                prepare_shards(self.accelerator, base)
        return way, reason

    def fuse(self, wanted: FusedChoice) -> Fused:
        """Let policy and reference compute by compiled functions; see `fuse_layers`."""
        models, device = self._bases(), self.accelerator.device
        return fuse_layers(models, wanted, device, autocast=self.args.bf16)

    def _bases(self) -> list[Any]:
        """Return policy and reference, if it is a model of its own, without what peft adds."""
        models = [self.model, getattr(self, "ref_model", None)]
        return [
            model.get_base_model() if hasattr(model, "get_base_model") else model
            for model in models
            if model is not None
        ]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Read a checkpoint's weights as its family does; shards of them as they were written."""
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]  # of Trainer
            return
        model = self.model if model is None else model
        if has_adapters(model):
            load_adapters(resume_from_checkpoint, model)
        else:
            self.family.load_weights(resume_from_checkpoint, model)

    def _run_epoch(self, *args: Any, epoch: int, **kwargs: Any) -> None:
        """Train an epoch, unless all steps are done: `Trainer` would do one step more.

        The sampler gets its epoch here: after a resume's skipping, and where several processes
        share the batches, transformers does not reach it.
        """
        if self.state.global_step >= self.state.max_steps:
            return
        self._sampler.set_epoch(epoch)
        super()._run_epoch(*args, epoch=epoch, **kwargs)  # type: ignore[misc]  # of Trainer

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:  # noqa: ARG002 - transformers' signature
        """Return 0: nothing reads the count, and it takes a walk over all parameters each step."""
        return 0

    def get_train_dataloader(self) -> Any:
        """Batches made here, or ahead by workers whose errors come out as one line."""
        if self.args.dataloader_num_workers == 0:
            return super().get_train_dataloader()  # type: ignore[misc]  # of Trainer
        rows, collate = self.train_dataset, self.data_collator
        # Together the workers keep as many clips as this process would.
        collate.clips.limit //= self.args.dataloader_num_workers
        self.train_dataset, self.data_collator = CheckedRows(rows), CheckedCollator(collate)
        try:
            return super().get_train_dataloader()  # type: ignore[misc]  # of Trainer
        finally:
            self.train_dataset, self.data_collator = rows, collate

    def get_batch_samples(self, epoch_iterator: Any, *args: Any) -> Any:
        """Return the batches of a step."""
        return super().get_batch_samples(batches_of(epoch_iterator), *args)  # type: ignore[misc]  # of Trainer

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:  # noqa: ARG002 - transformers' signature
        """Rows as `data.order` says, in an order that a resume finds again."""
        rows = self.train_dataset
        if isinstance(rows, CheckedRows):
            rows = rows.rows
        if isinstance(rows, StreamedRows):
            self._sampler = rows.sampler(self._train_batch_size, self.args.seed)
            return self._sampler
        # Packs hold several clips. Pairs about one clip stay apart: a batch would be of few clips.
        visuals = visuals_of(rows) if "ids" in rows.column_names else []
        kinds = ["text" if one is None else one.kind for one in visuals]
        self._sampler = row_order(
            self.order,
            rows["length"],
            self._train_batch_size,
            self.args.seed,
            clips=visuals if visuals and self.sharing.video else None,
            kinds=kinds if len(set(kinds)) > 1 else None,
            processes=self.accelerator.num_processes,
        )
        return self._sampler

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No card beside a checkpoint that is thrown away."""

    def _send_telemetry(self) -> None:
        """Training here reports to no one."""


class VideoSFTTrainer(_Common, SFTTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's SFTTrainer on batches of `SftCollator`."""


class VideoDPOTrainer(_Common, DPOTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's DPOTrainer on batches of `PreferenceCollator`, which have each clip once."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:  # noqa: ARG002 - TRL's signature
        """Rows come tokenised; TRL only skips this itself for columns named `images`."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:  # noqa: ARG002 - TRL's signature
        """`use_reference` does it, once the model takes our batches, and keeps the values."""
        return dataset


@contextlib.contextmanager
def quiet_and_quick() -> Iterator[None]:
    """Silence advice that is not for our users; score answer positions only, on every device.

    Without Triton, TRL's fused head scores every position, clip and prompt included, so that
    devices with a compiler see constant shapes. Nothing here compiles it, and a step on a CPU takes
    a third longer. And TRL hashes all weights for a cache of reference log-probabilities that is
    not used here.
    """
    trl_utils: Any = utils
    trl_dpo: Any = dpo_trainer
    old, old_hash = trl_utils._use_triton, trl_dpo.hash_module
    trl_utils._use_triton = lambda _device: True
    trl_dpo.hash_module = lambda _module: ""
    try:
        with warnings.catch_warnings(), quiet_transformers():
            # TRL 1.16 still says gradient_checkpointing where transformers 5.23 renamed it.
            for message in (".*gradient_checkpointing", ".*activation_checkpointing"):
                warnings.filterwarnings("ignore", message, FutureWarning)
            yield
    finally:
        trl_utils._use_triton, trl_dpo.hash_module = old, old_hash


def train(trainer: Any, run: TrainingDir, stop: StopAfterStep) -> int | None:
    """Train from the last whole checkpoint on, and return its step; None from the beginning.

    Args:
        stop: as `attach_callbacks` returned it.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP in the training; its checkpoint is written.
    """
    checkpoint = run.last_checkpoint()
    step = checkpoint_step(checkpoint) if checkpoint else None
    if step is not None:
        run.report(f"resuming from step {step}")
    with stop.signal.caught():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        try:
            stop.finish(trainer.state.global_step, trainer.state.max_steps)
        except Interrupted:
            # Loader workers end with their loader; at exit torch would give each five seconds.
            trainer.callback_handler.train_dataloader = None
            trainer.accelerator.free_memory()
            raise
    return step
