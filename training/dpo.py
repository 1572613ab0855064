"""Direct preference optimisation on clips, from the pairs that the pipeline makes."""

from __future__ import annotations

import time
from collections.abc import Callable

from sharegptvideo.modeling import (
    VideoPixels,
    load_model,
    load_tokenizer,
    video_token_count,
)
from sharegptvideo.training.recipe import DpoRecipe
from sharegptvideo.training.running import RunFolder, TrainResult

__all__ = ["run_dpo"]


def run_dpo(
    recipe: DpoRecipe, *, progress: Callable[[int, int, str], None] | None = None
) -> TrainResult:
    """Train on preference pairs and leave a whole model in `recipe.output`.

    The reference model is the starting checkpoint, loaded a second time by TRL. Resuming is as
    in `run_sft`.

    Raises:
        UserError: the data, the model or the output folder will not do; says why.
    """
    from trl.trainer.dpo_config import DPOConfig

    from sharegptvideo.training.collators import ClipCache, PreferenceCollator, Prompting
    from sharegptvideo.training.examples import preference_dataset
    from sharegptvideo.training.trainers import (
        VideoDPOTrainer,
        attach,
        complete,
        freeze,
        quiet_and_quick,
        trainer_arguments,
    )

    run = RunFolder(recipe)
    if run.finished:
        return run.result()
    start, length = time.monotonic(), recipe.optimisation.max_length

    with quiet_and_quick():
        model = load_model(recipe.model, dtype="float32")
        tokenizer = load_tokenizer(recipe.model)
        video_tokens = video_token_count(model.config, recipe.frames)

        dataset, report = preference_dataset(
            recipe.data, tokenizer, video_tokens=video_tokens, max_length=length
        )
        run.start(report)

        clips = ClipCache(VideoPixels.from_pretrained(recipe.model), recipe.frames)
        prompting = Prompting(
            tokenizer.pad_token_id, model.config.video_token_id, video_tokens, length
        )
        freeze(model, recipe.freeze)
        trainer = VideoDPOTrainer(
            model=model,
            args=DPOConfig(
                **trainer_arguments(recipe, run),
                beta=recipe.dpo.beta,
                loss_type=[recipe.dpo.loss_type],
            ),
            data_collator=PreferenceCollator(clips, prompting),
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        attach(trainer, run, progress)
        return complete(trainer, run, start)
