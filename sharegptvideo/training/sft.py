"""Supervised training on clips and images: captions (`pretrain`), then conversations (`sft`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sharegptvideo.training.recipes import SftRecipe
from sharegptvideo.training.run_dir import TrainingDir, TrainResult

if TYPE_CHECKING:
    from sharegptvideo._concurrency import Progress

__all__ = ["run_sft"]


def run_sft(
    recipe: SftRecipe,
    *,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train on the answers of the recipe's rows and leave a whole model in `recipe.output`.

    Ctrl-C or SIGTERM stops it after the step it is in (of an evaluation: at once) with a
    checkpoint, a second one without. Run again, it goes on from the last checkpoint and ends with
    the same weights to the bit (on one CPU); run again after the end, it does nothing.

    Args:
        progress: called as `progress(done, total, what)`.
        report: gets warnings and other notes, a line each, as they come up.

    Raises:
        UserError: the data, the model or the output folder will not do; says why.
        Interrupted: a signal stopped it, as above; a KeyboardInterrupt. Before the first step is
            prepared, and outside the main thread, signals do what they do elsewhere.
    """
    from trl.trainer.sft_config import SFTConfig

    from sharegptvideo.training.callbacks import attach_callbacks
    from sharegptvideo.training.checks import check_room, full_disk_in_training
    from sharegptvideo.training.collators import ClipCache, SftCollator
    from sharegptvideo.training.families import open_family
    from sharegptvideo.training.launch import processes
    from sharegptvideo.training.lora import adapters
    from sharegptvideo.training.mix import visuals_of
    from sharegptvideo.training.outputs import finish_run, pushed, save_model
    from sharegptvideo.training.packing import packed
    from sharegptvideo.training.precompute.clips import ClipKeeper
    from sharegptvideo.training.precompute.features import use_features
    from sharegptvideo.training.rows import training_rows
    from sharegptvideo.training.trainers import (
        VideoSFTTrainer,
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
        visuals = [] if recipe.data.stream else visuals_of(dataset)
        trainer = VideoSFTTrainer(
            model=family.model,
            args=SFTConfig(
                **trainer_arguments(recipe, run.checkpoints),
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            data_collator=SftCollator(
                ClipCache(keeper.reader(family.reader, dataset)),
                recipe.optimisation.length_limit,
                share=recipe.sharing.video,
                always={one.kind for one in visuals if one} if processes().count > 1 else (),
            ),
            train_dataset=packed(dataset, recipe, family.reader.positions),
            processing_class=family.tokenizer,
            peft_config=adapters(recipe.lora, family.model),
        )
        run.attends(*trainer.share(family, run.sharing, recipe.data.order))
        run.fuses(*trainer.fuse(recipe.optimisation.fused))
        if not recipe.data.stream:
            use_features(trainer, recipe, visuals, run.note, progress)

        # Train
        stop = attach_callbacks(trainer, run, progress)
        resumed_from = train(trainer, run, stop)

        # Save
        save_model(trainer, recipe.start, recipe.lora, run.staged)
        finish_run(trainer.state, run, seconds=time.monotonic() - start)
        return pushed(run, run.result(resumed_from=resumed_from, already_done=False))
