"""Direct preference optimisation on clips, from the pairs that the pipeline makes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sharegptvideo.training.outputs import pushed
from sharegptvideo.training.recipes import DpoRecipe
from sharegptvideo.training.run_dir import RunFolder, TrainResult

if TYPE_CHECKING:
    from sharegptvideo.training.evaluating import Evaluator
    from sharegptvideo.training.recipes import Preference

__all__ = ["loss_arguments", "run_dpo"]


def loss_arguments(dpo: Preference) -> dict[str, Any]:
    """Return TRL's names and weights of the parts of the loss."""
    if not dpo.sft_weight:
        return {"loss_type": [dpo.loss_type]}
    return {"loss_type": [dpo.loss_type, "sft"], "loss_weights": [1.0, dpo.sft_weight]}


def run_dpo(
    recipe: DpoRecipe,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    tell: Callable[[str], None] | None = None,
    evaluator: Evaluator | None = None,
) -> TrainResult:
    """Train on preference pairs and leave a whole model in `recipe.output`.

    The reference model is the starting checkpoint: its log-probabilities are computed before the
    first step, or TRL loads it a second time (`dpo.reference: model`). Resuming and
    the arguments are as in `run_sft`.

    Raises:
        UserError: the data, the model or the output folder will not do; says why.
        Interrupted: Ctrl-C or SIGTERM stopped it, as in `run_sft`.
    """
    from trl.trainer.dpo_config import DPOConfig

    from sharegptvideo.training.checks import check_room, full_disk_in_training
    from sharegptvideo.training.collators import ClipCache, PreferenceCollator
    from sharegptvideo.training.families import open_family
    from sharegptvideo.training.lora import adapters
    from sharegptvideo.training.precompute.features import use_features
    from sharegptvideo.training.precompute.reference import use_reference
    from sharegptvideo.training.rows import training_rows
    from sharegptvideo.training.trainers import (
        VideoDPOTrainer,
        attach,
        complete,
        quiet_and_quick,
        trainer_arguments,
    )

    run = RunFolder(recipe, tell)
    if run.finished:
        return pushed(run, run.result())
    precomputed = recipe.dpo.reference == "precomputed"
    start, length = time.monotonic(), recipe.optimisation.max_length

    with quiet_and_quick(), full_disk_in_training(run.path):
        family = open_family(recipe)
        dataset, report = training_rows(recipe, family, run)
        run.start(report)

        family.freeze(recipe.freeze)
        check_room(recipe, family, report.used)
        trainer = VideoDPOTrainer(
            model=family.model,
            args=DPOConfig(
                **trainer_arguments(recipe, run),
                beta=recipe.dpo.beta,
                **loss_arguments(recipe.dpo),
                precompute_ref_log_probs=precomputed,
            ),
            data_collator=PreferenceCollator(
                ClipCache(family.reader), length, share=recipe.sharing.video
            ),
            train_dataset=dataset,
            processing_class=family.tokenizer,
            peft_config=adapters(recipe, family.model),
        )
        trainer.share(family, recipe.sharing)
        if not recipe.data.stream:
            use_features(trainer, recipe, run, dataset["video_path"], progress)
        if precomputed:
            use_reference(trainer, recipe, run, progress)
        stop = attach(trainer, run, progress, evaluator)
        return complete(trainer, run, stop, start)
