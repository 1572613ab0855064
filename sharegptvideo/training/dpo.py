"""Direct preference optimisation on clips, from the pairs that the pipeline makes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharegptvideo.training.recipes import DpoRecipe
from sharegptvideo.training.run_dir import TrainingDir, TrainResult

if TYPE_CHECKING:
    from sharegptvideo._concurrency import Progress
    from sharegptvideo.training.recipes import Preference

__all__ = ["loss_arguments", "run_dpo"]


def run_dpo(
    recipe: DpoRecipe,
    *,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train on preference pairs and leave a whole model in `recipe.output`.

    The reference model is the starting checkpoint: its log-probabilities are computed before the
    first step, or it is loaded a second time (`dpo.reference: model`). Resuming and
    the arguments are as in `run_sft`.

    Raises:
        UserError: the data, the model or the output folder will not do; says why.
        Interrupted: Ctrl-C or SIGTERM stopped it, as in `run_sft`.
    """
    from trl.trainer.dpo_config import DPOConfig

    from sharegptvideo.models import load_model
    from sharegptvideo.training.callbacks import attach_callbacks
    from sharegptvideo.training.checks import check_room, full_disk_in_training
    from sharegptvideo.training.collators import ClipCache, PreferenceCollator
    from sharegptvideo.training.families import open_family
    from sharegptvideo.training.lora import adapters
    from sharegptvideo.training.mix import visuals_of
    from sharegptvideo.training.outputs import finish_run, pushed, save_model
    from sharegptvideo.training.precompute.clips import ClipKeeper
    from sharegptvideo.training.precompute.features import use_features
    from sharegptvideo.training.precompute.reference import use_reference
    from sharegptvideo.training.rows import training_rows
    from sharegptvideo.training.trainers import (
        VideoDPOTrainer,
        on_this_device,
        quiet_and_quick,
        train,
        trainer_arguments,
    )
    from sharegptvideo.training.workers import worker_faults

    run = TrainingDir(recipe, report, progress)
    if run.finished:
        return pushed(run, run.result())
    start = time.monotonic()

    with (
        quiet_and_quick(),
        full_disk_in_training(run.path),
        ClipKeeper(recipe.data, run.note) as keeper,
        worker_faults(recipe.data),
    ):
        # Model and data
        family = open_family(recipe)
        dataset, data_report = training_rows(recipe, family, run.rows)
        run.start(data_report)
        family.freeze(recipe.freeze)
        check_room(recipe, family, data_report.used)
        lengths = None if recipe.data.stream else dataset["length"]
        recipe = on_this_device(recipe, run, family, lengths)

        # Trainer
        precomputed = recipe.dpo.reference == "precomputed"
        reference = None
        if not precomputed and recipe.lora is None:  # TRL finds architectures of transformers only
            reference = load_model(recipe.start, dtype=family.weights_dtype(recipe))
        trainer = VideoDPOTrainer(
            model=family.model,
            ref_model=reference,
            args=DPOConfig(
                **trainer_arguments(recipe, run.checkpoints),
                beta=recipe.dpo.beta,
                **loss_arguments(recipe.dpo),
                precompute_ref_log_probs=precomputed,
            ),
            data_collator=PreferenceCollator(
                ClipCache(keeper.reader(family.reader, dataset)),
                recipe.optimisation.length_limit,
                share=recipe.sharing.video,
            ),
            train_dataset=dataset,
            processing_class=family.tokenizer,
            peft_config=adapters(recipe.lora, family.model),
        )
        run.attends(*trainer.share(family, run.sharing, recipe.data.order))
        run.fuses(*trainer.fuse(recipe.optimisation.fused))
        if not recipe.data.stream:
            use_features(trainer, recipe, visuals_of(dataset), run.note, progress)
        if precomputed:
            use_reference(trainer, recipe, run.model_sha256, progress)

        # Train
        stop = attach_callbacks(trainer, run, progress)
        resumed_from = train(trainer, run, stop)

        # Save
        save_model(trainer, recipe.start, recipe.lora, run.staged)
        finish_run(trainer.state, run, seconds=time.monotonic() - start)
        return pushed(run, run.result(resumed_from=resumed_from, already_done=False))


def loss_arguments(dpo: Preference) -> dict[str, Any]:
    """Return TRL's names and weights of the parts of the loss."""
    if not dpo.sft_weight:
        return {"loss_type": [dpo.loss_type]}
    return {"loss_type": [dpo.loss_type, "sft"], "loss_weights": [1.0, dpo.sft_weight]}
