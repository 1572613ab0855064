"""A model in training answers questions, and training goes on as if nothing had happened.

What training has done to the model is set aside while it answers: its mode, a `forward` of the
trainer's own, and the state of the random generators. No weight is copied.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharegptvideo.models.general import GeneralVideoModel
    from sharegptvideo.models.generation import VideoLanguageModel

__all__ = ["answering"]


@contextlib.contextmanager
def answering(model: Any, path: str) -> Iterator[VideoLanguageModel | GeneralVideoModel]:
    """Give `model` the form in which a loaded checkpoint answers, for as long as the block lasts.

    Args:
        model: a transformers model, adapters within its layers included.
        path: folder or Hub id of the checkpoint that it began as, for what prepares its inputs.

    Raises:
        UserError: what prepares the inputs cannot be loaded.
    """
    import torch

    modes = [(module, module.training) for module in model.modules()]
    forward = model.__dict__.pop("forward", None)  # the trainer's, which gives no logits
    with _same_randomness():
        model.eval()
        try:
            yield _answerer(model, path)
        finally:
            for module, mode in modes:
                module.training = mode
            if forward is not None:
                model.forward = forward
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # the caches of answers are of other sizes than a step's


def _answerer(model: Any, path: str) -> VideoLanguageModel | GeneralVideoModel:
    if model.config.model_type == "video_llava":
        from sharegptvideo.models.checkpoints import load_tokenizer
        from sharegptvideo.models.generation import VideoLanguageModel
        from sharegptvideo.models.pixels import VideoPixels

        return VideoLanguageModel(model, load_tokenizer(path), VideoPixels.from_pretrained(path))
    from sharegptvideo.models.general import GeneralVideoModel
    from sharegptvideo.models.processors import load_processor

    return GeneralVideoModel(model, load_processor(path))


@contextlib.contextmanager
def _same_randomness() -> Iterator[None]:
    """Leave Python's, numpy's and torch's generators as they were."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
