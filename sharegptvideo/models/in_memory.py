"""A model in training answers questions, and training goes on as if nothing had happened.

What training has done to the model is set aside while it answers: its mode, a `forward` of the
trainer's own, and the state of the random generators. No weight is copied.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sharegptvideo.models.registry import local_class

if TYPE_CHECKING:
    from sharegptvideo.models.local import LocalModel

__all__ = ["answering"]


@contextlib.contextmanager
def answering(model: Any, path: str) -> Iterator[LocalModel]:
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
            yield local_class(model.config.model_type)(path, model=model)
        finally:
            for module, mode in modes:
                module.training = mode
            if forward is not None:
                model.forward = forward
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # the caches of answers are of other sizes than a step's


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
