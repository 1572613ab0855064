"""Open a model by the name that users type, or one in memory: one table, one of architectures."""

from __future__ import annotations

import contextlib
import difflib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.models.base import Model
from sharegptvideo.models.settings import AnswerSettings

if TYPE_CHECKING:
    from sharegptvideo.endpoint import EndpointOptions
    from sharegptvideo.models.local import LocalModel
    from sharegptvideo.models.served import Send

__all__ = ["KINDS", "SENDS", "answering", "local_class", "open_model"]


@dataclass(frozen=True, slots=True)
class _Options:
    base_url: str | None
    endpoint: EndpointOptions | None
    devices: Sequence[str] | None
    batch_size: int | None
    send: Send
    settings: AnswerSettings


def open_model(
    spec: str,
    *,
    base_url: str | None = None,
    options: EndpointOptions | None = None,
    devices: Sequence[str] | None = None,
    batch_size: int | None = None,
    send: Send = "auto",
    settings: AnswerSettings | None = None,
) -> Model:
    """Open the model that `spec` (`KIND:NAME`) names; no weights are loaded yet.

    | spec | answers come from |
    | --- | --- |
    | `hf:PATH_OR_ID` | a video model of transformers, local or on the Hub |
    | `openai:NAME` | a model that an OpenAI-compatible endpoint serves |
    | `predictions:FILE` | a JSONL file with id and prediction, or logs of lmms-eval |
    | `python:module:function` | a function of a list of frames and a question |

    Args:
        spec: see the table.
        base_url: endpoint of an `openai:` model; default `OPENAI_BASE_URL`.
        options: how fast, for how much money and with which cache it is asked.
        devices: for `hf:` models, torch devices to share the work between, as `cuda:0`, or
            `all` for every CUDA device; default: one, CUDA where there is it.
        batch_size: how many answers an `hf:` model decodes at once; see `LocalModel`.
        send: how an `openai:` model is sent frames: as one "video", as "pictures", or "auto": as a
            video where a trial shows that the server takes it.
        settings: what is asked for otherwise than the model has it; frames and generation are
            checked here, and go with each request.

    Raises:
        UserError: unknown kind (with the nearest ones), settings that the model cannot obey, or
            the kind's own cause.
    """
    kind, colon, name = spec.partition(":")
    if not colon and Path(spec).exists():
        kind = "hf" if Path(spec).is_dir() else "predictions"
        raise UserError(f"model {spec!r}: no kind before it; write {kind}:{spec}")
    if not colon and not difflib.get_close_matches(spec, KINDS, 1, 0.7):
        served = "" if "/" in spec else f", or openai:{spec} for a served model"
        raise UserError(f"model {spec!r}: no kind before it; write hf:{spec}{served}")
    if kind not in KINDS:
        raise unknown_name("kind of model", kind, KINDS)
    if not colon or not name:
        raise UserError(f"model {spec!r}: nothing after the kind; write {kind}:NAME")
    if devices is not None and kind != "hf":
        raise UserError(f"model {spec}: devices are for hf: models; leave --devices out")
    if send not in SENDS:
        raise unknown_name("form of frames (--send)", send, SENDS)
    if send != "auto" and kind != "openai":
        raise UserError(f"model {spec}: frames are sent to served models only; leave --send out")
    settings = settings or AnswerSettings()
    model = KINDS[kind](name, _Options(base_url, options, devices, batch_size, send, settings))
    settings.check_obeyed(model)
    return model


def local_class(model_type: str) -> type[LocalModel]:
    """Return the class that runs checkpoints of an architecture, as transformers calls it."""
    if model_type in ("video_llava", "llava_hound"):
        from sharegptvideo.models.video_llava import VideoLlavaModel

        return VideoLlavaModel
    from sharegptvideo.models.processor import ProcessorModel

    return ProcessorModel


@contextlib.contextmanager
def answering(model: Any, path: str) -> Iterator[LocalModel]:
    """Open a model that is in training, for as long as the block lasts.

    What training has done to it is set aside meanwhile: its mode, a `forward` of the trainer's
    own, and the state of the random generators. No weight is copied.

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


def _open_local(name: str, options: _Options) -> Model:
    from sharegptvideo.models.checkpoints import model_type

    local = local_class(model_type(name))
    if options.devices is None:
        return local(name, batch_size=options.batch_size, settings=options.settings)
    from sharegptvideo.models.parallel import ParallelModel, device_names

    devices = device_names(options.devices)
    model = local(name, device=devices[0], batch_size=options.batch_size, settings=options.settings)
    if len(devices) == 1:
        return model
    return ParallelModel(model, name, devices=devices, batch_size=options.batch_size)


def _open_served(name: str, options: _Options) -> Model:
    from sharegptvideo.models.served import ServedModel

    return ServedModel(
        name,
        base_url=options.base_url,
        options=options.endpoint,
        send=options.send,
        settings=options.settings,
    )


def _open_predictions(name: str, _: _Options) -> Model:
    from sharegptvideo.models.predictions import PredictionsModel

    return PredictionsModel(name)


def _open_python(name: str, _: _Options) -> Model:
    from sharegptvideo.models.python import PythonModel

    return PythonModel(name)


KINDS: dict[str, Callable[[str, _Options], Model]] = {
    "hf": _open_local,
    "openai": _open_served,
    "predictions": _open_predictions,
    "python": _open_python,
}
"""What stands before the colon, and what opens it."""

SENDS: tuple[Send, ...] = ("auto", "video", "pictures")
